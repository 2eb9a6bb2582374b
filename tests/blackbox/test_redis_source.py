"""source.redis with a real redis-server: what comes in, and every way in which it can fail."""
import json
import time

import msgpack
from helper import chance, count_rows, objects, rows, wait_for
from test_redis import server_of_a_test  # noqa: F401 pylint: disable=unused-import
from test_redis import servers_of_a_test  # noqa: F401 pylint: disable=unused-import
from test_redis import (FAST, MB, OUT, all_read, read_numbers, sink, source, start, stored,
                        wait_length, wait_rows, wait_why)


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
