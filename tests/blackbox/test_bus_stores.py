"""One topology on each store: the same comes out, be it on disk, in Redis or in JetStream."""
import collections

import pytest
import stores
from helper import ACCESS, SANITIZED, chance, count_rows, objects

# Only the store differs.
ACCESS_LOG = """
source.file "access" { path = "access.ndjson", at_end = stop }
bus "events" { from = "access", key = "ip", shards = 4, store = %s }
process "size" { from = "events", workers = 2, key = "ip",
  each = function (r) r.kib = (r.bytes or 0) // 1024 return r end,
  outlets = { errors = "status >= 400", rest = otherwise } }
process "paths" { from = group "archive" { of = "events" }, where = "method == 'GET'",
  each = function (r) return { ip = r.ip, ts = r.ts, path = r.path, at = meta (r).shard } end }
sink.file "bad" { from = "size.errors", path = "bad.ndjson", fsync = never }
sink.file "good" { from = "size.rest", path = "good.ndjson", fsync = never }
sink.file "seen" { from = "paths", path = "seen.ndjson", fsync = never }
"""


def access_log(bench):
    """The real one, else one that looks like it."""
    if ACCESS.exists():
        return bench.write("access.ndjson", ACCESS.read_bytes())
    luck = chance("access")
    return bench.write("access.ndjson", [
        {"ts": 1431857103000 + 10 * n, "ip": "10.0.%d.%d" % (n % 7, luck.randrange(200)),
         "method": luck.choice(("GET", "GET", "POST")), "path": "/%d" % n,
         "status": luck.choice((200, 200, 304, 404, 500)),
         "bytes": luck.choice((None, 0, 1023, luck.randrange(10**6)))} for n in range(10000)])


def by_address(records):
    """{ip: its records in order}."""
    found = collections.defaultdict(list)
    for record in records:
        found[record["ip"]].append(record)
    return found


@pytest.mark.parametrize("kind", stores.KINDS)
def test_the_same_comes_out_of_each_store(bench, kind):
    given = objects(access_log(bench))
    with stores.place(kind, bench) as place:
        done = bench.run(ACCESS_LOG % place.store(), seconds=60)
    sized = [{**r, "kib": (r["bytes"] or 0) // 1024} for r in given]
    for name, expected in (("bad", [r for r in sized if r["status"] >= 400]),
                           ("good", [r for r in sized if r["status"] < 400])):
        assert by_address(objects(bench.path(name + ".ndjson"))) == by_address(expected)
    seen = objects(bench.path("seen.ndjson"))
    places = {(r["ip"], r.pop("at")) for r in seen}
    assert len(places) == len({ip for ip, _ in places})  # each address in one shard
    assert {shard for _, shard in places} == {0, 1, 2, 3}
    assert by_address(seen) == by_address(
        {"ip": r["ip"], "ts": r["ts"], "path": r["path"]} for r in given
        if r["method"] == "GET")
    assert done.node("events")["done"] == len(given)


# --- Scaling ----------------------------------------------------------------------------

RECORDS = 20000 if SANITIZED else 60000

SCALED = """
supervise { intensity = 1 }
source.file "in" { path = "in.ndjson", at_end = %s, rate = { records = %d } }
bus "events" { from = "in", key = "k", shards = 2, scale = { min = 1, max = 6, window = "1h" },
  store = %s }
process "p" { from = "events", each = function (r) r.seen = r.n * 2 return r end }
sink.file "out" { from = "p", path = "out.ndjson", fsync = never }
"""
LATE = """
sink.file "late" { from = "events", path = "late.ndjson", fsync = never }
"""


def scale_by_chance(bench, live, luck, until):
    """Changes of the number of shards, one behind the other, while it runs; how many."""
    while live.running() and not until():
        bench.weir("ctl", "scale", "t/events", "--to", str(luck.randint(1, 6)))
    return live.text().count("scaling bus=events")


@pytest.mark.parametrize("kind", stores.KINDS)
def test_scaling_under_load_keeps_each_record_once_in_order(bench, kind):
    """Live, and by a group that comes later and starts at the start."""
    luck = chance("scale " + kind)
    lines = stores.numbered(luck, RECORDS)
    bench.write("in.ndjson", lines)
    with stores.place(kind, bench) as place:
        text = SCALED % ("follow", RECORDS // 5, place.store())
        live = bench.start(text)
        live.wait_ready()
        out = bench.path("out.ndjson")
        assert scale_by_chance(bench, live, luck, lambda: count_rows(out) >= RECORDS) > 10
        live.stop()
        stores.assert_once_in_order(out, lines)
        bench.run(SCALED % ("stop", RECORDS // 5, place.store()) + LATE, seconds=60)
        stores.assert_once_in_order(bench.path("late.ndjson"), lines)
        stores.assert_once_in_order(out, lines)


@pytest.mark.parametrize("kind", stores.KINDS)
def test_scaling_and_kills_keep_the_order_of_each_key(bench, kind):
    """Moves that are cut by kill -9: nothing is lost, and what is stored is in order, for a
    group that was there and for one that reads it all later."""
    luck = chance("scale and kill " + kind)
    lines = stores.numbered(luck, RECORDS)
    bench.write("in.ndjson", lines)
    with stores.place(kind, bench) as place:
        for _ in range(6):
            live = bench.start(SCALED % ("stop", RECORDS // 3, place.store()))
            live.wait_ready()
            goal = count_rows(bench.path("out.ndjson")) + luck.randrange(RECORDS // 8)
            scale_by_chance(bench, live, luck,
                            lambda: count_rows(bench.path("out.ndjson")) >= goal)
            live.kill()
        bench.run(SCALED % ("stop", RECORDS, place.store()) + LATE, seconds=60)
    for name in ("out", "late"):
        stores.assert_in_order(bench.path(name + ".ndjson"), lines)


OTHERS = [("disk", "redis"), ("redis", "jetstream"), ("jetstream", "disk")]


@pytest.mark.parametrize("first, then", OTHERS)
def test_a_state_is_that_of_one_kind_of_store(bench, first, then):
    """What groups have read in one would pass over records in another."""
    text = """
source.file "in" { path = "in.ndjson", at_end = stop }
bus "events" { from = "in", key = "n", shards = 2, store = %s }
sink.file "out" { from = "events", path = "out.ndjson", fsync = never }
"""
    bench.write("in.ndjson", [{"n": n} for n in range(100)])
    with stores.place(first, bench) as one, stores.place(then, bench) as other:
        bench.run(text % one.store())
        bench.append("in.ndjson", "".join('{"n":%d}\n' % n for n in range(100, 300)))
        told = bench.run(text % other.store(), code=1).err
        assert "in a %s store" % first in told and "in a %s store" % then in told, told
        assert count_rows(bench.path("out.ndjson")) == 100
        bench.run(text % one.store())
        bench.append("in.ndjson", "".join('{"n":%d}\n' % n for n in range(300, 400)))
        (bench.state / "bus" / "events").rename(bench.path("old"))
        bench.run(text % other.store())
    assert sorted(r["n"] for r in objects(bench.path("out.ndjson"))) == list(range(400))
