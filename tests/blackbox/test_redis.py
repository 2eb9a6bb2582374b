"""sink.redis with a real redis-server: what goes out, and every way in which server, records
and weir itself can fail."""
import json
import re
import time

import pytest
from helper import ROOT, chance, count_rows, rows, wait_for
from servers import Error, Redis

MB = 1 << 20
FAST = 'timeout = "500ms", retry = { first = "10ms", max = "100ms" }'


@pytest.fixture(name="start_redis")
def servers_of_a_test(tmp_path):
    """Starts servers, which end with the test."""
    started = []

    def start(name="redis", **options):
        started.append(Redis(tmp_path / name, **options))
        return started[-1]
    yield start
    for server in started:
        server.close()


@pytest.fixture(name="redis")
def server_of_a_test(start_redis):
    """One that keeps nothing on disk."""
    return start_redis()


def sink(server, options, source="in"):
    """A sink.redis; options may name its url."""
    url = "" if "url =" in options else 'url = "unix://%s",' % server.path
    return 'sink.redis "out" { from = "%s", %s %s }\n' % (source, url, options)


def source(server, options='stream = "s", field = "data"', name="in"):
    """A source.redis that tries again soon."""
    url = "" if "url =" in options else 'url = "unix://%s",' % server.path
    fast = "" if "timeout =" in options else FAST
    return 'source.redis "%s" { %s %s, %s }\n' % (name, url, options, fast)


FILE = 'source.file "in" { path = "in.ndjson", at_end = stop }\n'
TAIL = 'source.file "in" { path = "in.ndjson" }\n'
OUT = 'sink.file "out" { from = "in", path = "out.ndjson", fsync = never }\n'
BUS = ('source.file "f" { path = "in.ndjson" }\n'
       'bus "in" { from = "f", shards = 1, store = disk { keep = all } }\n')


def numbers(count, **more):
    """Numbered records."""
    return [{"n": n, **more} for n in range(count)]


def start(bench, text):
    """A topology that is ready."""
    live = bench.start(text)
    live.wait_ready()
    return live


def read_numbers(values):
    """The numbers of JSON payloads."""
    return [json.loads(value)["n"] for value in values]


def stored(server, stream="s"):
    """The numbers that a stream has."""
    return read_numbers(server.values(stream))


def wait_length(server, stream, count, seconds=60):
    """Until a stream has so many entries."""
    wait_for(lambda: server.call("XLEN", stream) >= count, "%d entries" % count, seconds)


def wait_rows(bench, count, seconds=60):
    """Until out.ndjson has so many lines; these."""
    wait_for(lambda: count_rows(bench.path("out.ndjson")) >= count, "%d rows" % count, seconds)
    return rows(bench.path("out.ndjson"))


def all_read(server, stream):
    """Whether its one group has been given everything, and has acknowledged it."""
    groups = server.call("XINFO", "GROUPS", stream)
    of = dict(zip(groups[0][::2], groups[0][1::2])) if groups else {}
    return of and of[b"lag"] == 0 and of[b"pending"] == 0


def wait_why(bench, words, seconds=20):
    """Until `weir why` says it."""
    wait_for(lambda: words in bench.weir("why").out, "why: " + words, seconds)


# --- the sink: what it stores -----------------------------------------------------------

def test_each_record_is_an_entry_with_its_payload_in_order(bench, redis):
    bench.write("in.ndjson", numbers(5000))
    run = bench.run(FILE + sink(redis, 'stream = "s"'))
    assert redis.values("s") == [b'{"n": %d}' % n for n in range(5000)]
    assert run.node("out")["done"] == 5000
    assert redis.call("KEYS", "*") == [b"s"]  # records without an id leave nothing else


def test_stream_and_fields_are_made_from_the_record(bench, redis):
    bench.write("in.ndjson", [{"region": "eu", "id": 7, "price": 1.5, "tags": ["a", {"b": None}],
                               "note": "grün \"x\""}, {"region": "us", "id": 8, "price": 2,
                                                        "tags": {}, "note": ""}])
    bench.run(FILE + sink(redis, '''stream = "orders:{region}", fields = {
      id = "{region}-{id}", price = "{price}", tags = "{tags}", note = "{note}", kind = "order",
      source = "{$source}", raw = "{$raw}" }'''))
    (_, one), = redis.entries("orders:eu")
    assert one == {b"id": b"eu-7", b"price": b"1.5", b"tags": b'["a", {"b": null}]',
                   b"note": 'grün "x"'.encode(), b"kind": b"order", b"source": b"in",
                   b"raw": rows(bench.path("in.ndjson"))[0]}
    (_, two), = redis.entries("orders:us")
    assert (two[b"price"], two[b"tags"], two[b"note"]) == (b"2", b"{}", b"")


def test_key_headers_and_time_can_be_told(bench, redis):
    bench.write("in.ndjson", [{"a": 1}])
    bench.run(FILE + 'process "p" { from = "in", each = function (r) return record (r, '
              '{ key = "k1", ts = 1700000000000, headers = { tenant = "acme" } }) end }\n'
              + sink(redis, 'stream = "s", fields = { k = "{$key}", t = "{$ts}", '
                     'h = "{$headers.tenant}", d = "{$raw}" }', "p"))
    assert redis.entries("s")[0][1] == {b"k": b"k1", b"t": b"1700000000000", b"h": b"acme",
                                        b"d": b'{"a": 1}'}


def test_what_makes_no_entry_becomes_a_dead_letter_or_is_dropped_or_stops(bench, redis):
    bench.write("in.ndjson", [{"to": "a", "n": 0}, {"n": 1}, {"to": {}, "n": 2}, {"to": "", "n": 3},
                              {"to": "a", "n": 4}])
    text = FILE + sink(redis, 'stream = "{to}", fields = { data = "{$raw}" }, on_error = %s')
    run = bench.run(text % "dead", code=3)
    assert stored(redis, "a") == [0, 4]
    assert [d["payload"]["n"] for d in bench.dead()] == [1, 2, 3]
    assert [d["error"] for d in bench.dead()][:2] == [
        "the record has no {to}", "{to} is neither text, integer nor boolean"]
    assert run.node("out")["dead"] == 3
    bench.path("weir-t").rename(bench.path("weir-old"))
    run = bench.run(text % "drop")
    assert run.node("out")["skipped"] == 3
    bench.path("weir-t").rename(bench.path("weir-older"))
    run = bench.run(text % "stop", code=None)
    assert run.code == 1 and "the record has no {to}" in run.err


def test_maxlen_bounds_a_stream(bench, redis):
    bench.write("in.ndjson", numbers(20000))
    for more in ("", ', id = "{n}"'):
        bench.run(FILE + sink(redis, 'stream = "s", maxlen = 1000' + more))
        assert 1000 <= redis.call("XLEN", "s") < 1300
        assert stored(redis)[-1] == 19999
        redis.call("FLUSHALL")
        bench.path("weir-t/in.positions").unlink(missing_ok=True)


def test_a_record_of_8mb_and_many_fields(bench, redis):
    big = "x" * (7 * MB)
    bench.write("in.ndjson", [{"n": 0}, {"n": 1, "x": big}, {"n": 2}])
    bench.run(FILE + sink(redis, 'stream = "s"'))
    assert stored(redis) == [0, 1, 2]
    assert len(redis.values("s")[1]) > 7 * MB


def test_many_streams_each_in_order(bench, redis):
    random = chance("streams")
    records = [{"n": n, "k": random.randrange(3000)} for n in range(20000)]
    bench.write("in.ndjson", records)
    bench.run(FILE + sink(redis, 'stream = "k:{k}"'))
    for k in random.sample(range(3000), 100):
        expected = [r["n"] for r in records if r["k"] == k]
        assert stored(redis, "k:%d" % k) == expected


# --- the sink: never twice --------------------------------------------------------------

def again(bench):
    """Forgets how far the file was read."""
    for path in bench.state.glob("*"):
        if path.name != "report.json":
            path.unlink() if path.is_file() else None


def test_records_with_an_id_are_not_doubled_by_a_replay(bench, redis):
    bench.write("in.ndjson", numbers(3000) + numbers(10))
    text = FILE + sink(redis, 'stream = "s", id = "{n}"')
    bench.run(text)
    assert stored(redis) == list(range(3000))
    again(bench)
    run = bench.run(text)
    assert run.node("out")["done"] == 3010
    assert stored(redis) == list(range(3000))
    assert redis.call("ZCARD", "{s}:weir-ids") == 3000


def test_without_dedup_a_replay_doubles(bench, redis):
    bench.write("in.ndjson", numbers(100))
    text = FILE + sink(redis, 'stream = "s", dedup = none')
    bench.run(text)
    again(bench)
    bench.run(text)
    assert sorted(stored(redis)) == sorted(2 * list(range(100)))


def test_ids_are_forgotten_after_the_time_of_dedup(bench, redis):
    bench.write("in.ndjson", numbers(10))
    text = FILE + sink(redis, 'stream = "s", id = "{n}", dedup = "200ms"')
    bench.run(text)
    wait_for(lambda: redis.call("EXISTS", "{s}:weir-ids") == 0, "the ids are gone")
    again(bench)
    bench.run(text)
    assert len(stored(redis)) == 20
    assert redis.call("ZCARD", "{s}:weir-ids") == 10


def test_ids_of_a_bus_take_a_bit_each_and_go_after_the_time_of_dedup(bench, redis):
    bench.write("in.ndjson", numbers(5000))
    bench.run(BUS + sink(redis, 'stream = "a{{tag}b"'), "--until-idle")
    keys = redis.call("KEYS", "a{tag}b:weir-ids:*:0:*")
    assert 0 < len(keys) <= 4
    assert sum(redis.call("BITCOUNT", key) for key in keys) == 5000
    bench.append("in.ndjson", '{"n": 0}\n' * 100)
    bench.run(BUS + sink(redis, 'stream = "s", dedup = "200ms"'), "--until-idle")
    assert redis.call("XLEN", "s") == 100
    wait_for(lambda: not redis.call("KEYS", "{s}*"), "the ids are gone")


def test_the_ids_lie_in_the_streams_own_slot(bench, redis):
    bench.write("in.ndjson", [{"s": name} for name in ("plain", "a{tag}b", "{}x")])
    bench.run(FILE + sink(redis, 'stream = "{s}", id = "1"'))
    assert sorted(redis.call("KEYS", "*weir-ids")) == \
        [b"a{tag}b:weir-ids", b"{plain}:weir-ids", b"{{}x}:weir-ids"]


def test_records_of_a_bus_are_not_doubled_when_weir_is_killed(bench, redis):
    total = 60000
    random = chance("kill weir")
    bench.write("in.ndjson", numbers(total))
    text = BUS + sink(redis, 'stream = "s", window = 500')
    # What the bus has stored and the source not yet heard of has two ids: so it has all.
    assert bench.run(BUS, "--until-idle").code == 0
    for _ in range(4):
        before = redis.call("XLEN", "s")
        live = start(bench, text)
        wait_length(redis, "s", before + random.randrange(500, 3000))
        live.kill()
    live = start(bench, text)
    wait_length(redis, "s", total)
    live.stop()
    assert stored(redis) == list(range(total))


def test_records_of_a_bus_are_not_doubled_when_the_server_is_killed(bench, start_redis):
    redis = start_redis(appendonly=True)
    total = 40000
    random = chance("kill redis")
    bench.write("in.ndjson", numbers(total))
    live = start(bench, BUS + sink(redis, 'stream = "s", window = 300, ' + FAST))
    for _ in range(4):
        before = redis.call("XLEN", "s")
        wait_length(redis, "s", min(total, before + random.randrange(500, 3000)))
        redis.kill()
        redis.start()
    wait_length(redis, "s", total)
    live.stop()
    assert stored(redis) == list(range(total))


def test_plain_records_are_not_lost_when_the_server_is_killed(bench, start_redis):
    redis = start_redis(appendonly=True)
    total = 20000
    bench.write("in.ndjson", numbers(total))
    live = start(bench, TAIL + sink(redis, 'stream = "s", window = 300, ' + FAST))
    for _ in range(3):
        before = redis.call("XLEN", "s")
        wait_length(redis, "s", before + 1000)
        redis.kill()
        redis.start()
    wait_for(lambda: len(set(stored(redis))) == total, "all are there")
    live.stop()
    found = stored(redis)
    assert len(found) - total <= 3 * 300  # what was on its way, at most
    assert sorted(set(found)) == list(range(total))


def test_ids_hold_while_connections_are_cut(bench, redis):
    total = 40000
    bench.write("in.ndjson", numbers(total))
    live = start(bench, TAIL + sink(redis, 'stream = "s", id = "{n}", window = 200, ' + FAST))
    cuts = 0
    while redis.call("XLEN", "s") < total:
        cuts += redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        if cuts % 5 == 0:
            redis.call("SCRIPT", "FLUSH")  # the script is loaded again
        wait_for(lambda before=redis.call("XLEN", "s"):
                 redis.call("XLEN", "s") > before or before == total, "it goes on")
    live.stop()
    assert stored(redis) == list(range(total))
    print("cuts", cuts)
    assert cuts > 5


def test_a_server_that_forgets_the_scripts_is_no_failure(bench, redis):
    bench.write("in.ndjson", numbers(100))
    live = start(bench, TAIL + sink(redis, 'stream = "s", id = "{n}", retry = { attempts = 1 }'))
    for count in (100, 101, 102):
        wait_length(redis, "s", count)
        redis.call("SCRIPT", "FLUSH")
        bench.append("in.ndjson", '{"n":%d}\n' % count)
    wait_length(redis, "s", 103)
    assert "redis" not in live.stop().err


@pytest.mark.parametrize("more", ["dedup = none", 'id = "{n}"'])
def test_an_entry_that_the_server_does_not_read_is_a_dead_letter_and_the_others_go_on(
        bench, redis, more):
    redis.call("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    bench.write("in.ndjson", [{"n": n, "x": "x" * (2 * MB if n == 3 else 10)} for n in range(9)])
    run = bench.run(FILE + sink(redis, 'stream = "s", %s, %s' % (more, FAST)), code=3)
    assert sorted(set(stored(redis))) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert run.node("out")["dead"] == 1
    assert "Protocol error" in bench.path("weir-t/dead.ndjson").read_text()


# --- the sink: a server that does not take ----------------------------------------------

def test_a_paused_server_is_waited_for(bench, redis):
    bench.write("in.ndjson", numbers(1000))
    live = start(bench, BUS + sink(redis, 'stream = "s", ' + FAST))
    wait_length(redis, "s", 1000)
    redis.pause()
    bench.append("in.ndjson", "".join('{"n": %d}\n' % n for n in range(1000, 3000)))
    wait_why(bench, "no answer in 500 ms")
    redis.resume()
    wait_length(redis, "s", 3000)
    wait_for(lambda: "no answer" not in bench.weir("why").out, "why is quiet")
    live.stop()
    assert stored(redis) == list(range(3000))


def test_a_server_that_is_away_at_the_start_is_waited_for(bench, start_redis):
    redis = start_redis()
    redis.kill()
    bench.write("in.ndjson", numbers(100))
    live = start(bench, TAIL + sink(redis, 'stream = "s", ' + FAST))
    wait_why(bench, "cannot connect")
    redis.start()
    wait_length(redis, "s", 100)
    assert live.stop().node("out")["retries"] > 0


def test_a_replica_is_waited_for_until_it_is_a_master(bench, start_redis):
    master = start_redis(name="master")
    replica = start_redis(name="replica")
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    wait_for(lambda: b"master_link_status:up" in replica.call("INFO", "replication"), "synced")
    bench.write("in.ndjson", numbers(500))
    for options in ('stream = "a"', 'stream = "b", id = "{n}"'):
        live = start(bench, TAIL + sink(replica, options + ", " + FAST))
        wait_why(bench, "READONLY")
        replica.call("REPLICAOF", "NO", "ONE")
        name = options[10:11]
        wait_length(replica, name, 500)
        live.stop()
        assert stored(replica, name) == list(range(500))
        replica.call("REPLICAOF", "127.0.0.1", master.port)
        again(bench)


@pytest.mark.parametrize("options", ["", ', id = "{n}"'])
def test_a_full_server_is_waited_for_and_order_is_kept(bench, redis, options):
    total = 30000
    redis.call("CONFIG", "SET", "maxmemory", redis_used(redis) + 3 * MB)
    bench.write("in.ndjson", numbers(total, pad="x" * 100))
    live = start(bench, TAIL + sink(redis, 'stream = "s"%s, %s' % (options, FAST)))
    wait_why(bench, "OOM")
    assert 0 < redis.call("XLEN", "s") < total
    limit = redis_used(redis)
    while redis.call("XLEN", "s") < total:  # room comes in small pieces
        limit += MB // 4
        redis.call("CONFIG", "SET", "maxmemory", limit)
    live.stop()
    assert stored(redis) == list(range(total))


def redis_used(server):
    """Bytes that it uses."""
    info = server.call("INFO", "memory").decode()
    return int(info.split("used_memory:")[1].split()[0])


def test_a_busy_server_is_waited_for(bench, redis):
    redis.call("CONFIG", "SET", "busy-reply-threshold", 50)
    busy = redis.client()
    busy.ask("EVAL", "while true do end", 0)
    bench.write("in.ndjson", numbers(100))
    live = start(bench, TAIL + sink(redis, 'stream = "s", ' + FAST))
    wait_why(bench, "BUSY")
    wait_for(lambda: kill_script(redis), "the script is killed")
    busy.close()
    wait_length(redis, "s", 100)
    live.stop()
    assert stored(redis) == list(range(100))


def kill_script(server):
    """True once there is none."""
    try:
        return not server.call("SCRIPT", "KILL")
    except Error as error:
        return "NOTBUSY" in str(error)


@pytest.mark.parametrize("options", ["", ', id = "{n}"'])
def test_a_key_of_another_type_refuses_its_records_alone(bench, redis, options):
    redis.call("SET", "t:1", "text")
    bench.write("in.ndjson", [{"n": n, "t": n % 3} for n in range(3000)])
    run = bench.run(FILE + sink(redis, 'stream = "t:{t}"' + options), code=3)
    assert stored(redis, "t:0") == list(range(0, 3000, 3))
    assert stored(redis, "t:2") == list(range(2, 3000, 3))
    dead = bench.dead()
    assert sorted(d["payload"]["n"] for d in dead) == list(range(1, 3000, 3))
    assert "WRONGTYPE" in dead[0]["error"]
    assert run.node("out")["dead"] == 1000


def test_a_key_of_another_type_can_stop_the_node(bench, redis):
    redis.call("SET", "s", "text")
    bench.write("in.ndjson", numbers(10))
    run = bench.run(FILE + sink(redis, 'stream = "s", on_error = stop')
                    + "supervise { intensity = 1 }", code=None)
    assert run.code == 1 and "WRONGTYPE" in run.err


def test_retry_attempts_stop_the_node(bench, start_redis):
    redis = start_redis()
    redis.kill()
    bench.write("in.ndjson", numbers(10))
    run = bench.run(FILE + "supervise { intensity = 1 }\n" + sink(redis, '''stream = "s",
      retry = { first = "1ms", max = "5ms", attempts = 3 }'''), code=None)
    assert run.code == 1 and "cannot connect" in run.err


SECRET = "hunter2-very-secret"


def test_a_wrong_password_stops_and_is_told_nowhere(bench, start_redis):
    redis = start_redis(password="right-and-proper")
    bench.write("in.ndjson", numbers(10))
    wrong = "unix://:%s@%s" % (SECRET, redis.path)
    for text in (FILE + sink(redis, 'stream = "s", url = "%s"' % wrong),
                 source(redis, 'stream = "s", url = "%s"' % wrong) + OUT):
        run = bench.run(text + "supervise { intensity = 1 }", code=None)
        assert run.code == 1
        assert "WRONGPASS" in run.err and ":***@" in run.err
        everything = run.out + run.err + json.dumps(run.report) + bench.check(None).err \
            + bench.weir("graph", "t.lua").out
        for path in bench.state.rglob("*"):
            everything += path.read_bytes().decode("latin1") if path.is_file() else ""
        assert SECRET not in everything
    none = bench.run(FILE + sink(redis, 'stream = "s"') + "supervise { intensity = 1 }", code=None)
    assert none.code == 1 and "NOAUTH" in none.err
    bench.run(FILE + sink(redis, 'stream = "s", url = "unix://:right-and-proper@%s"' % redis.path))
    assert stored(redis) == list(range(10))


def test_a_user_without_the_right_stops_and_without_the_key_refuses(bench, redis):
    redis.call("ACL", "SETUSER", "some", "on", ">pw", "~a*", "~{a*", "+@all")
    redis.call("ACL", "SETUSER", "none", "on", ">pw", "~*", "+ping")
    bench.write("in.ndjson", [{"n": n, "s": "ab"[n % 2]} for n in range(100)])
    url = "unix://%s:pw@%s"
    for more in ("", ', id = "{n}"'):
        again(bench)
        redis.call("DEL", "a")
        bench.run(FILE + sink(redis, 'stream = "{s}", url = "%s"%s'
                              % (url % ("some", redis.path), more)), code=3)
        assert stored(redis, "a") == list(range(0, 100, 2))
        assert "NOPERM" in bench.dead()[-1]["error"]
        again(bench)
        run = bench.run(FILE + "supervise { intensity = 1 }\n" + sink(
            redis, 'stream = "{s}", url = "%s"%s' % (url % ("none", redis.path), more)),
            code=None)
        assert run.code == 1 and "NOPERM" in run.err


NEEDED = "ping xadd multi exec evalsha script|load zmscore zadd zremrangebyscore pexpire time"


@pytest.mark.parametrize("options, rights", [
    (', id = "{n}"', "xadd evalsha script|load zmscore zadd zremrangebyscore pexpire time"),
    (", dedup = none", "xadd multi exec"),
], ids=["by script", "by transaction"])
def test_a_user_without_one_of_the_rights_stops_and_refuses_no_record(bench, redis, options,
                                                                      rights):
    bench.write("in.ndjson", numbers(20))
    text = FILE + "supervise { intensity = 1 }\n" + sink(
        redis, 'stream = "s", url = "unix://some:pw@%s"%s' % (redis.path, options))
    for right in rights.split():
        redis.call("FLUSHALL")
        redis.call("ACL", "SETUSER", "some", "reset", "on", ">pw", "~s", "~{s*",
                   *("+" + word for word in NEEDED.split() if word != right))
        again(bench)
        run = bench.run(text, code=None)
        assert re.search("out: stopped cause=.*(NOPERM|can't run this command)", run.err), right
        assert not bench.dead(), right


def docs_block(start):
    """A block of docs/redis.md that begins so."""
    text = (ROOT / "docs/redis.md").read_text()
    return next(b for b in text.split("```")[1::2] if b.startswith(start)).removeprefix(start)


def make_user(redis, number):
    """The user of that block of the docs with ACL; gives its url."""
    text = (ROOT / "docs/redis.md").read_text()
    block = [b for b in text.split("```")[1::2] if b.startswith("\nACL SETUSER ")][number]
    redis.call(*block.replace("\\\n", " ").split())
    return "unix://weir:password@%s" % redis.path


def test_a_bus_needs_no_more_than_the_user_of_the_docs_has(bench, redis):
    url = make_user(redis, 0)
    bench.write("in.ndjson", [{"n": n} for n in range(1000)])
    live = start(bench, FILE + 'bus "events" { from = "in", shards = 2, store = redis { '
                 'url = "%s", keep = { records = 100000 } } }\n'
                 'sink.file "out" { from = "events", path = "out.ndjson" }' % url)
    wait_rows(bench, 1000)
    assert "weir:events" not in live.stop().err
    assert not redis.call("ACL", "LOG")


def test_the_user_of_the_docs_may_do_all_that_is_needed(bench, redis):
    url = make_user(redis, 1)
    bench.write("in.ndjson", [{"n": n, "m": n % 2} for n in range(1000)])
    for more in (', id = "{n}"', ", dedup = none"):
        again(bench)
        bench.run(FILE + sink(redis, 'stream = "orders:{m}", url = "%s"%s' % (url, more)))
    bench.run(BUS + sink(redis, 'stream = "orders:{m}", url = "%s"' % url), "--until-idle")
    live = start(bench, source(redis, 'url = "%s", stream = { "orders:0", "orders:1" }, '
                               'field = "data", claim_after = "100ms"' % url) + OUT)
    wait_rows(bench, 3000)
    redis.call("XGROUP", "DESTROY", "orders:0", "t/in")
    live.wait_log("group is gone")
    redis.call("XADD", "orders:0", "*", "data", "1")
    wait_rows(bench, 3001)
    live.stop()


def test_the_topology_of_the_docs_runs(bench, redis):
    text = docs_block("lua\n").replace("redis://127.0.0.1:6379", redis.url())
    bench.state = bench.path("weir-shop")
    bench.write("orders.ndjson", [{"id": n, "region": ("eu", "us")[n % 2], "total": n / 4}
                                  for n in range(1000)])
    live = start(bench, text)
    wait_for(lambda: count_rows(bench.path("bills.ndjson")) == 1000, "all bills")
    live.stop()
    assert redis.entries("orders:eu")[1][1] == {
        b"id": b"2", b"total": b"0.5", b"json": b'{"id": 2, "region": "eu", "total": 0.5}'}


def test_memory_is_bounded_while_the_server_is_away(bench, start_redis):
    redis = start_redis()
    bench.write("in.ndjson", numbers(300000, pad="x" * 400))
    redis.kill()
    live = start(bench, TAIL + sink(redis, 'stream = "s", ' + FAST))
    wait_why(bench, "cannot connect")
    wait_for(lambda: "in" in bench.weir("why").out, "why")
    wait_steady(live)
    assert live.vm("VmHWM") < 160 * MB
    live.kill()


def wait_steady(live):
    """Until its memory has not grown for a while."""
    seen = [0, time.monotonic()]

    def steady():
        now = live.vm("VmRSS")
        if now > seen[0] + MB:
            seen[0], seen[1] = now, time.monotonic()
        return time.monotonic() - seen[1] > 1
    wait_for(steady, "memory is steady")


def test_mistakes_are_told_with_their_lines(bench):
    def lines(options, word="sink"):
        text = ('source.generate "in" { count = 1 }\nsink.redis "out" { from = "in",\n%s }'
                if word == "sink" else 'source.redis "in" {\n%s }\nsink.null "out" { from = "in" }')
        return "\n".join(bench.refused(text % options))
    assert 'no host' in lines('stream = "s", url = "redis://"')
    assert "no url of a redis server" in lines('stream = "s", url = "http://:%s@h"' % SECRET)
    assert SECRET not in lines('stream = "s", url = "http://:%s@h"' % SECRET)
    assert "plaintext" in lines('stream = "s", url = "redis://10.1.2.3"')
    assert "t.lua:3" in lines('stream = "s", url = "redis://10.1.2.3"')
    good = 'url = "redis://127.0.0.1"'
    assert "'stream' is missing" in lines(good) or "stream" in lines(good)
    assert "stream" in lines(good + ', stream = "{a"')
    assert "stream" in lines(good + ', stream = ""')
    assert "fields.a" in lines(good + ', stream = "s", fields = { a = "{$nothing}" }')
    assert "dedup" in lines(good + ', stream = "s", id = "{n}", dedup = none')
    assert "retry" in lines(good + ', stream = "s", retry = { first = "2s", max = "1s" }')
    assert "window" in lines(good + ', stream = "s", window = 0')
    assert "start" in lines(good + ', stream = "s", start = "soon"', "source")
    assert "twice" in lines(good + ', stream = { "s", "s" }', "source")
    many = ", ".join('"s%d"' % n for n in range(501))
    assert "at most 500" in lines(good + ", stream = { %s }" % many, "source")
    long = "n" * 256
    assert "255 bytes" in lines(good + ', stream = "s", group = "%s"' % long, "source")
    assert "255 bytes" in lines(good + ', stream = "s", consumer = "%s"' % long, "source")
    for text in ('"a\\0b"', '{ "a\\0b" }'):
        assert "t.lua:2" in lines(good + ", stream = " + text, "source")
        assert "zero byte" in lines(good + ", stream = " + text, "source")
    for wrong in ("5", "true", "{}", '{ "a" }', '"a\\0b"'):
        assert "'stream'" in lines(good + ", stream = " + wrong)
    assert "zero byte" in lines(good + ', stream = "a\\0b"')
    assert "zero byte" in lines(good + ', stream = "s", fields = { a = "b\\0" }')
    assert "plaintext" in lines('stream = "s", url = "redis://10.1.2.3"', "source")
