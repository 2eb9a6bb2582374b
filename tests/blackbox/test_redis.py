"""source.redis and sink.redis with a real redis-server: what goes in and out, and every way
in which server, records and weir itself can fail."""
import json
import re
import time

import msgpack
import pytest
from helper import ROOT, chance, count_rows, objects, rows, wait_for
from ports import free_port
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


# --- the source: what it brings ---------------------------------------------------------

TELL = """process "p" { from = "in", each = function (r)
  local m = meta (r)
  local headers = {}
  for name, value in pairs (m.headers or {}) do headers[name] = value end
  return { key = m.key, ts = m.ts, headers = headers, raw = raw (r), source = m.source }
end }
sink.file "out" { from = "p", path = "out.ndjson", fsync = never }
"""


def test_a_named_field_is_the_payload(bench, redis):
    redis.add("s", ['{"n": %d}' % n for n in range(5000)])
    live = start(bench, source(redis) + OUT)
    assert wait_rows(bench, 5000) == [b'{"n": %d}' % n for n in range(5000)]
    wait_for(lambda: redis.pending("s", "t/in") == 0, "all is acknowledged")
    redis.call("XADD", "s", "*", "data", '{"n": 5000}', "more", "x")
    wait_rows(bench, 5001)
    run = live.stop()
    assert run.node("in")["done"] == 5001 and redis.pending("s", "t/in") == 0


def test_other_entries_are_documents_of_their_fields(bench, redis):
    redis.call("XADD", "s", "7-1", "a", "1", "größe", "ä", "empty", "")
    live = start(bench, source(redis, 'stream = "s"') + OUT)
    row, = wait_rows(bench, 1)
    assert json.loads(row) == {"a": "1", "größe": "ä", "empty": ""}
    live.stop()


def test_entries_of_a_bus_are_the_records_that_they_are(bench, redis):
    def add(*record, i="0123456789abcdef:1:0:9"):
        redis.call("XADD", "s", "*", "i", i, "r", msgpack.packb(record, use_bin_type=True))
    add(1700000000001, "k1", '{"a":1}', {"tenant": "acme", "redis_id": "old"})
    add(None, None, {"b": [1, 2]}, None)
    add(5, 7, b"raw \xff", {})
    live = start(bench, source(redis, 'stream = "s"') + """process "p" { from = "in",
      each = function (r)
        local m, headers = meta (r), {}
        for name, value in pairs (m.headers) do headers[name] = value end
        return { key = m.key, ts = m.ts, headers = headers, size = raw (r) and #raw (r), b = r.b }
      end }
    sink.file "out" { from = "p", path = "out.ndjson", fsync = never }""")
    wait_rows(bench, 3)
    live.stop()
    one, two, three = objects(bench.path("out.ndjson"))
    ids = [number.decode() for number, _ in redis.entries("s")]
    assert one["key"] == "k1" and one["ts"] == 1700000000001
    assert one["headers"] == {"tenant": "acme", "redis_stream": "s", "redis_id": ids[0],
                              "weir_id": "0123456789abcdef:1:0:9"}
    assert two["b"] == [1, 2] and "key" not in two
    assert three["key"] == 7 and three["size"] == 5 and three["ts"] == 5


def test_id_and_stream_can_be_asked_for(bench, redis):
    redis.call("XADD", "a", "5-1", "data", "1")
    redis.call("XADD", "b", "6-1", "data", "2")
    redis.call("XADD", "b", "6-2", "data", "3")
    live = start(bench, source(redis, '''stream = { "a", "b" }, field = "data",
      where = "$headers.redis_stream == 'b' and $headers.redis_id != '6-1'"''') + TELL)
    wait_rows(bench, 1)
    wait_for(lambda: redis.pending("a", "t/in") + redis.pending("b", "t/in") == 0, "acked")
    run = live.stop()
    row, = objects(bench.path("out.ndjson"))
    assert row["headers"] == {"redis_stream": "b", "redis_id": "6-2"} and row["raw"] == "3"
    assert run.node("in")["filtered"] == 2


def test_entries_of_any_shape_harm_nothing(bench, redis):
    random = chance("shapes")
    odd = bytes(range(256))
    good = 0
    redis.call("XADD", "s", "*", "a", odd)                      # a document with bytes
    redis.call("XADD", "s", "*", b"\xff\xfe", "x")              # a name that is no text
    redis.call("XADD", "s", "*", "a", "1", "a", "2")            # a field twice
    redis.call("XADD", "s", "*", "i", "x", "r", "no record")    # not as a bus writes it
    redis.call("XADD", "s", "*", "i", odd, "r", msgpack.packb([1, None, "1", None]))
    redis.call("XADD", "s", "*", "", "")
    redis.call("XADD", "s", "*", *sum(([b"f%d" % n, b"v"] for n in range(20000)), []))
    redis.call("XADD", "s", "*", "big", b"x" * (9 * MB))        # above record_max
    for _ in range(300):
        words = [bytes(random.randrange(256) for _ in range(random.randrange(12)))
                 for _ in range(2 * random.randrange(1, 5))]
        redis.call("XADD", "s", "*", *words)
    good = redis.call("XLEN", "s")
    live = start(bench, source(redis, 'stream = "s"') + 'sink.null "out" { from = "in" }')
    wait_for(lambda: all_read(redis, "s"), "all is acknowledged")
    run = live.stop(code=3)
    node = run.node("in")
    assert node["in"] == good and node["done"] + node["dead"] == good and node["dead"] >= 3
    errors = {d["error"] for d in bench.dead()}
    assert "the name of a field is not UTF-8" in errors
    assert "the entry has a field twice" in errors
    assert any("above record_max" in error for error in errors)
    assert all(d["headers"]["redis_stream"] == "s" for d in bench.dead())


def test_an_entry_without_the_named_field_is_a_dead_letter(bench, redis):
    redis.call("XADD", "s", "1-1", "other", "x")
    redis.call("XADD", "s", "1-2", "data", "1")
    live = start(bench, source(redis) + OUT)
    wait_rows(bench, 1)
    wait_for(lambda: redis.pending("s", "t/in") == 0, "acknowledged")
    live.stop(code=3)
    dead, = bench.dead()
    assert "has not the field" in dead["error"] and dead["headers"]["redis_id"] == "1-1"
    assert "other=x" in json.dumps(dead)


def test_a_new_group_begins_where_start_says(bench, redis):
    for n in range(10):
        redis.call("XADD", "s", "%d-0" % (n + 1), "data", n)
    for word, expected in (("", 10), (', start = start', 10), (', start = "end"', 0),
                           (', start = "7-0"', 3)):
        live = start(bench, source(redis, 'stream = "s", field = "data", group = "g"' + word) + OUT)
        wait_for(lambda: redis.call("XINFO", "GROUPS", "s"), "the group is there")
        redis.call("XADD", "s", "*", "data", "99")
        assert wait_rows(bench, expected + 1)[-1] == b"99"
        live.stop()
        assert count_rows(bench.path("out.ndjson")) == expected + 1
        redis.call("XGROUP", "DESTROY", "s", "g")
        bench.path("out.ndjson").unlink()
        last = redis.call("XREVRANGE", "s", "+", "-", "COUNT", 1)[0][0]
        redis.call("XDEL", "s", last)


def test_a_stream_that_is_not_there_is_made(bench, redis):
    live = start(bench, source(redis, 'stream = { "s", "z" }, field = "data"') + OUT)
    wait_for(lambda: redis.call("EXISTS", "s", "z") == 2, "they are made")
    redis.call("XADD", "z", "*", "data", "1")
    wait_rows(bench, 1)
    live.stop()
    assert redis.call("XINFO", "GROUPS", "s")[0][1] == b"t/in"


# --- the source: at least once ----------------------------------------------------------

def test_an_entry_is_acknowledged_when_it_is_safe(bench, redis, start_redis):
    other = start_redis(name="other")
    redis.add("s", range(5000))
    other.pause()
    live = start(bench, source(redis, 'stream = "s", field = "data", window = 1000')
                 + sink(other, 'stream = "t", ' + FAST))
    wait_for(lambda: redis.pending("s", "t/in") >= 900, "the window is full")
    wait_why(bench, "no answer in 500 ms")
    assert 900 <= redis.pending("s", "t/in") <= 1000
    other.resume()
    wait_for(lambda: redis.pending("s", "t/in") == 0 and len(set(other.values("t"))) == 5000,
             "all is safe")
    live.stop()


def test_nothing_is_lost_when_weir_is_killed_and_by_id_nothing_doubled(bench, redis):
    total, random = 40000, chance("kill weir")
    redis.add("s", ['{"n": %d}' % n for n in range(total)])
    text = source(redis, 'stream = "s", field = "data", window = 2000') \
        + sink(redis, 'stream = "t", id = "{$headers.redis_id}", window = 300')
    for _ in range(4):
        before = redis.call("XLEN", "t")
        live = start(bench, text)
        wait_length(redis, "t", before + random.randrange(500, 3000))
        live.kill()
    live = start(bench, text)
    wait_length(redis, "t", total)
    wait_for(lambda: redis.pending("s", "t/in") == 0, "all is acknowledged")
    live.stop()
    assert sorted(stored(redis, "t")) == list(range(total))


def test_nothing_is_lost_when_the_server_is_killed(bench, start_redis):
    redis = start_redis(appendonly=True)
    total, random = 20000, chance("kill redis")
    redis.add("s", ['{"n": %d}' % n for n in range(total)])
    live = start(bench, source(redis, 'stream = "s", field = "data", window = 500') + OUT)
    for _ in range(4):
        before = count_rows(bench.path("out.ndjson"))
        wait_rows(bench, min(total, before + random.randrange(300, 2000)))
        redis.kill()
        redis.start()
    wait_rows(bench, total)
    wait_for(lambda: redis.pending("s", "t/in") == 0, "all is acknowledged")
    live.stop()
    assert read_numbers(rows(bench.path("out.ndjson"))) == list(range(total))


def test_connections_that_are_cut_double_nothing(bench, redis):
    total = 30000
    redis.add("s", ['{"n": %d}' % n for n in range(total)])
    live = start(bench, source(redis, 'stream = "s", field = "data", window = 300') + OUT)
    cuts = 0
    while count_rows(bench.path("out.ndjson")) < total:
        cuts += redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        wait_for(lambda before=count_rows(bench.path("out.ndjson")):
                 count_rows(bench.path("out.ndjson")) > before or before == total, "it goes on")
    wait_for(lambda: redis.pending("s", "t/in") == 0, "all is acknowledged")
    live.stop()
    assert sorted(read_numbers(rows(bench.path("out.ndjson")))) == list(range(total))
    assert cuts > 5


def test_a_paused_server_is_waited_for_by_a_source(bench, redis):
    redis.add("s", range(100))
    live = start(bench, source(redis) + OUT)
    wait_rows(bench, 100)
    redis.pause()
    wait_why(bench, "no answer in 500 ms")
    redis.resume()
    redis.call("XADD", "s", "*", "data", "100")
    assert wait_rows(bench, 101)[-1] == b"100"
    wait_for(lambda: "no answer" not in bench.weir("why").out, "why is quiet")
    live.stop()


def test_a_restart_takes_its_own_pending_entries_first(bench, redis):
    redis.add("s", range(20))
    redis.call("XGROUP", "CREATE", "s", "g", "0")
    redis.call("XREADGROUP", "GROUP", "g", "me", "COUNT", 5, "STREAMS", "s", ">")
    redis.call("XREADGROUP", "GROUP", "g", "other", "COUNT", 5, "STREAMS", "s", ">")
    live = start(bench, source(redis, 'stream = "s", field = "data", group = "g", consumer = "me"')
                 + OUT)
    assert wait_rows(bench, 15) == [b"%d" % n for n in [*range(5), *range(10, 20)]]
    live.stop()
    assert redis.pending("s", "g") == 5  # the other's are let alone


def test_what_an_abandoned_consumer_had_is_claimed(bench, redis):
    redis.add("s", range(3000))
    redis.call("XGROUP", "CREATE", "s", "g", "0")
    redis.call("XREADGROUP", "GROUP", "g", "gone", "COUNT", 2500, "STREAMS", "s", ">")
    live = start(bench, source(redis, 'stream = "s", field = "data", group = "g", '
                               'claim_after = "400ms"') + OUT)
    assert sorted(map(int, wait_rows(bench, 3000))) == list(range(3000))
    wait_for(lambda: redis.pending("s", "g") == 0, "all is acknowledged")
    redis.call("XADD", "s", "*", "data", "3000")
    wait_rows(bench, 3001)
    live.stop()
    assert count_rows(bench.path("out.ndjson")) == 3001


def test_pending_entries_that_were_deleted_are_acknowledged_and_counted(bench, redis):
    redis.add("s", range(20))
    redis.call("XGROUP", "CREATE", "s", "g", "0")
    for who in ("me", "other"):
        redis.call("XREADGROUP", "GROUP", "g", who, "COUNT", 5, "STREAMS", "s", ">")
    ids = [number for number, _ in redis.entries("s")]
    redis.call("XDEL", "s", ids[1], ids[3], ids[7])
    live = start(bench, source(redis, 'stream = "s", field = "data", group = "g", consumer = "me", '
                               'claim_after = "100ms"') + OUT)
    assert sorted(map(int, wait_rows(bench, 17))) == [n for n in range(20) if n not in (1, 3, 7)]
    wait_for(lambda: redis.pending("s", "g") == 0, "all is acknowledged")
    run = live.stop()
    assert run.node("in")["gaps"] == 3
    assert "entries were deleted" in run.err


def test_a_group_that_is_gone_is_made_anew_and_nothing_is_left_out(bench, redis):
    redis.add("s", range(100))
    live = start(bench, source(redis) + OUT)
    wait_rows(bench, 100)
    wait_for(lambda: redis.pending("s", "t/in") == 0, "acknowledged")
    redis.pipeline([("MULTI",), ("XGROUP", "DESTROY", "s", "t/in"),
                    ("XADD", "s", "*", "data", "100"), ("EXEC",)])
    assert wait_rows(bench, 101)[-1] == b"100"
    live.wait_log("group is gone")
    redis.call("DEL", "s")
    redis.call("XADD", "s", "1-1", "data", "101")
    assert wait_rows(bench, 102)[-1] == b"101"
    live.stop()
    assert count_rows(bench.path("out.ndjson")) == 102


def test_a_group_that_begins_at_the_end_is_made_anew_where_that_was(bench, redis):
    redis.add("s", range(100))
    live = start(bench, source(redis, 'stream = "s", field = "data", start = "end"') + OUT)
    wait_for(lambda: redis.call("XINFO", "GROUPS", "s"), "the group")
    wait_for(lambda: connection(redis, b"xreadgroup"), "it reads")
    redis.pipeline([("MULTI",), ("XGROUP", "DESTROY", "s", "t/in"),
                    ("XADD", "s", "*", "data", "100"), ("EXEC",)])
    assert wait_rows(bench, 1) == [b"100"]
    live.stop()


def connection(redis, command, but=None):
    """Of the connection whose last command it was the id, except this one; None without."""
    for line in redis.call("CLIENT", "LIST").splitlines():
        words = dict(word.split(b"=", 1) for word in line.split())
        if words[b"cmd"] == command and words[b"id"] != but:
            return words[b"id"]
    return None


def test_what_a_read_is_given_whose_connection_is_lost_unnoticed_comes(bench, redis):
    live = start(bench, source(redis, 'stream = "s", field = "data", timeout = "4s"') + OUT)
    for number in range(20):
        reads = wait_for(lambda: connection(redis, b"xreadgroup"), "it reads")
        consumer = redis.call("XINFO", "CONSUMERS", "s", "t/in")[0][1]
        lost = redis.client()  # stands for the end of the server
        lost.ask("XREADGROUP", "GROUP", "t/in", consumer, "BLOCK", 0, "STREAMS", "s", ">")
        mine = wait_for(lambda before=reads: connection(redis, b"xreadgroup", before), "so do I")
        since = time.monotonic()
        redis.call("CLIENT", "KILL", "ID", reads)
        wait_for(lambda me=mine: connection(redis, b"xreadgroup", me), "it reads again")
        redis.call("XADD", "s", "*", "data", number)
        assert lost.answer()[0][1][0][1] == [b"data", b"%d" % number]
        took = time.monotonic() - since
        lost.close()
        if took < 3:  # else it may have looked before
            break
    assert b"%d" % number in wait_rows(bench, number + 1)
    live.stop()


def test_it_is_told_when_nothing_can_be_acknowledged(bench, redis):
    redis.add("s", range(100))
    text = source(redis, 'stream = "s", field = "data"') + OUT + "supervise { intensity = 1 }"
    live = start(bench, text)
    wait_rows(bench, 100)
    wait_for(lambda: all_read(redis, "s"), "acknowledged")
    redis.call("CONFIG", "SET", "maxclients", 2)  # this one, and the one that reads
    redis.call("CLIENT", "KILL", "ID", connection(redis, b"xack"))
    wait_why(bench, "max number of clients")
    redis.add("s", range(100, 200))
    wait_rows(bench, 200)
    assert redis.pending("s", "t/in") > 0 and "max number" in bench.weir("why").out
    redis.call("CONFIG", "SET", "maxclients", 100)
    wait_for(lambda: all_read(redis, "s"), "acknowledged")
    wait_for(lambda: "max number" not in bench.weir("why").out, "why is quiet")
    redis.call("CONFIG", "SET", "requirepass", "other")
    redis.call("CLIENT", "KILL", "ID", connection(redis, b"xack"))
    assert "NOAUTH" in live.wait(code=1).err


def test_a_server_that_comes_back_without_its_data(bench, redis):
    redis.add("s", range(100))
    live = start(bench, source(redis) + OUT)
    wait_rows(bench, 100)
    redis.kill()
    redis.start()
    redis.add("s", range(100, 200))
    assert wait_rows(bench, 200)[100:] == [b"%d" % n for n in range(100, 200)]
    live.stop()


def test_two_topologies_share_a_group(bench, redis):
    total = 20000
    options = 'stream = "s", field = "data", group = "g"'
    lives = []
    for name in ("one", "two"):
        bench.write(name + ".lua", 'settings { name = "%s" }\n' % name + source(redis, options)
                    + sink(redis, 'stream = "%s"' % name))
        text = bench.path(name + ".lua").read_text()
        bench.state = bench.path("weir-" + name)
        lives.append(start(bench, text))
    redis.add("s", ['{"n": %d}' % n for n in range(total)])
    wait_for(lambda: redis.call("XLEN", "one") + redis.call("XLEN", "two") >= total, "all came")
    wait_for(lambda: redis.pending("s", "g") == 0, "all is acknowledged")
    for live in lives:
        live.kill()
    one, two = stored(redis, "one"), stored(redis, "two")
    assert sorted(one + two) == list(range(total)) and one and two


def test_a_key_of_another_type_stops_the_source(bench, redis):
    redis.call("SET", "s", "text")
    run = bench.run(source(redis) + OUT + "supervise { intensity = 1 }", code=None)
    assert run.code == 1 and "WRONGTYPE" in run.err and "s:" in run.err


def test_large_entries_do_not_fill_the_memory(bench, redis):
    redis.add("s", ["x"] * 2000)
    for _ in range(60):
        redis.call("XADD", "s", "*", "data", b"y" * (4 * MB))
    live = start(bench, source(redis, 'stream = "s", field = "data", format = text, '
                               'timeout = "5s"')
                 + 'sink.null "out" { from = "in" }')
    wait_for(lambda: all_read(redis, "s"), "all is acknowledged", 60)
    most = live.vm("VmHWM")
    assert live.stop().node("in")["done"] == 2060
    print("%d MB" % (most / MB))
    assert most < 200 * MB


def test_an_idle_source_and_sink_take_no_time(bench, redis):
    live = start(bench, source(redis, 'stream = "s", timeout = "5s"')
                 + sink(redis, 'stream = "t", timeout = "5s"'))
    wait_for(lambda: redis.call("EXISTS", "s"), "it reads")
    before, began = live.cpu_seconds(), time.monotonic()
    wait_for(lambda: time.monotonic() - began > 3, "three seconds")
    assert live.cpu_seconds() - before < 0.06
    live.stop()


def test_a_stop_leaves_nothing_pending(bench, redis):
    redis.add("s", range(3000))
    live = start(bench, source(redis, 'stream = "s", field = "data", window = 100') + OUT)
    wait_rows(bench, 500)
    live.stop()
    assert redis.pending("s", "t/in") == 0
    live = start(bench, source(redis, 'stream = "s", field = "data"') + OUT)
    assert sorted(map(int, wait_rows(bench, 3000))) == list(range(3000))
    live.stop()
    assert count_rows(bench.path("out.ndjson")) == 3000


def test_a_stop_while_the_server_is_away_ends(bench, redis):
    redis.add("s", range(100))
    live = start(bench, source(redis) + OUT)
    wait_rows(bench, 100)
    redis.pause()
    live.stop()
    redis.resume()


# --- a cluster --------------------------------------------------------------------------

def start_cluster(start_redis):
    """Two masters with half of the slots each, and a replica of the second.

    Each has an epoch of its own: servers that begin with the same one raise theirs when
    they meet, and two may do so to the same again. A replica with its master's epoch
    keeps that when it takes over, and nobody believes it."""
    nodes = []
    for i in range(3):
        with_bus = {"cluster-enabled": "yes", "cluster-node-timeout": 2000,
                    "cluster-port": free_port(), "repl-diskless-sync-delay": 0}
        nodes.append(start_redis("node%d" % i, appendonly=True, settings=with_bus))
        nodes[i].call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
    nodes[0].call("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    nodes[1].call("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    wait_for(lambda: all([meet(node, nodes) for node in nodes]), "met")
    nodes[2].call("CLUSTER", "REPLICATE", nodes[1].call("CLUSTER", "MYID"))
    wait_for(lambda: b"master_link_status:up" in nodes[2].call("INFO", "replication"), "synced", 60)
    wait_for(lambda: all(b"cluster_state:ok" in n.call("CLUSTER", "INFO") for n in nodes), "whole")
    return nodes


def meet(node, nodes):
    """Whether it knows all of them by their names; else it is told where the first is,
    again if need be: who does not answer in cluster-node-timeout is forgotten."""
    known = node.call("CLUSTER", "NODES")
    if all(other.call("CLUSTER", "MYID") in known for other in nodes):
        return True
    if nodes[0].call("CLUSTER", "MYID") not in known:
        node.call("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, bus_port(nodes[0]))
    return False


def bus_port(server):
    """Where its fellows find it."""
    return server.settings["cluster-port"]


def offset(server, name):
    """A number of INFO replication."""
    lines = server.call("INFO", "replication").split(b"\r\n")
    return next(int(line.split(b":")[1]) for line in lines if line.startswith(name + b":"))


def wait_copied(master, replica):
    """What a replica has not is lost with its master."""
    written = offset(master, b"master_repl_offset")
    wait_for(lambda: offset(replica, b"slave_repl_offset") >= written, "the replica has all")


def of_cluster(nodes, stream):
    """Its numbers, at whichever node it is."""
    for node in nodes:
        try:
            return stored(node, stream)
        except (Error, OSError):
            continue
    return []


def test_streams_of_a_cluster_are_written_and_read_where_they_are(bench, start_redis):
    nodes = start_cluster(start_redis)
    names = ["k:%d" % k for k in range(10)]
    records = [{"n": n, "k": n % 10} for n in range(20000)]
    bench.write("in.ndjson", records[:10000])
    url = 'url = "%s", ' % nodes[0].url()
    listed = "{ %s }" % ", ".join('"%s"' % name for name in names)
    live = start(bench, TAIL + sink(None, url + 'stream = "k:{k}", id = "{n}", window = 200, ' + FAST)
                 + 'source.redis "back" { %s stream = %s, field = "data", %s }\n'
                 % (url, listed, FAST)
                 + 'sink.file "file" { from = "back", path = "out.ndjson", fsync = never }\n'
                 + 'supervise { drain = "2s" }')
    wait_rows(bench, 10000)
    wait_copied(nodes[1], nodes[2])
    nodes[1].kill()
    bench.append("in.ndjson", "".join(json.dumps(r) + "\n" for r in records[10000:]))
    nodes[2].call("CLUSTER", "FAILOVER", "TAKEOVER")
    wait_for(lambda: len(set(read_numbers(rows_so_far(bench)))) == 20000, "all came", 60)
    live.stop()
    both = [sum(len(of_cluster([n], name)) > 0 for name in names) for n in (nodes[0], nodes[2])]
    assert min(both) > 0 and sum(both) == 10
    for k in range(10):
        found = of_cluster((nodes[0], nodes[2]), "k:%d" % k)
        assert sorted(set(found)) == list(range(k, 20000, 10))


def rows_so_far(bench):
    """The whole lines of out.ndjson, which is being written."""
    data = bench.path("out.ndjson").read_bytes()
    return data[:data.rfind(b"\n") + 1].split(b"\n")[:-1]


def test_a_bus_goes_on_with_the_server_that_follows_one_of_a_cluster(bench, start_redis):
    nodes = start_cluster(start_redis)
    lines = numbers(4000)
    bench.write("in.ndjson", lines[:2000])
    live = start(bench, TAIL + 'bus "b" { from = "in", key = "n", shards = 8, '
                 'retry = { first = "10ms", max = "200ms" }, '
                 'store = redis { url = "%s", timeout = "500ms" } }\n' % nodes[0].url()
                 + 'sink.file "out" { from = "b", path = "out.ndjson", fsync = never }')
    wait_rows(bench, 2000)
    wait_copied(nodes[1], nodes[2])
    nodes[1].kill()
    bench.append("in.ndjson", "".join(json.dumps(line) + "\n" for line in lines[2000:]))
    live.wait_log("redis connection down for=writes")
    nodes[2].call("CLUSTER", "FAILOVER", "TAKEOVER")
    found = wait_rows(bench, 4000)
    live.stop()
    assert sorted(read_numbers(found)) == list(range(4000))
    assert nodes[2].call("DBSIZE") > 0


def test_a_look_at_a_cluster_finds_the_server_of_each_stream(bench, start_redis):
    nodes = start_cluster(start_redis)
    for node in nodes:  # the last one is a replica
        url = 'url = "%s", ' % node.url()
        for k in range(4):
            run = bench.check(source(None, url + 'stream = "k%d", field = "data"' % k)
                              + sink(None, url + 'stream = "o%d"' % k), "--online")
            assert run.code == 0, run.err
            assert run.out.count("is not there yet") == 2, run.out
        run = bench.check(FILE + sink(None, url + 'stream = "{n}"')
                          + 'bus "b" { from = "in", store = redis { url = "%s" } }\n' % node.url(),
                          "--online")
        assert run.code == 0 and "0 shards" in run.out, run.out + run.err
