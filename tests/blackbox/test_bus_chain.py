"""Buses: one that reads from another and refuses a record for good; folders."""
import json

from helper import audit, count_rows, objects, wait_for
import pytest

CHAIN = """
source.file "in" { path = "in.ndjson" }
bus "a" { from = "in", shards = 1, store = disk { keep = all } }
bus "b" { from = group "g" { of = "a", max_deliver = 2 }, shards = 1, ring_bytes = "1MB",
  store = disk { keep = all } }
"""


def test_a_record_that_cannot_be_taken_is_a_dead_letter_and_all_else_is_committed(bench):
    lines = ['{"n":%d}' % n for n in range(20)] + ['{"big":"%s"}' % ("x" * 600000)]
    bench.write("in.ndjson", "\n".join(lines) + "\n")
    live = bench.start(CHAIN)
    wait_for(lambda: count_rows(bench.state / "dead.ndjson"), "a whole dead letter")
    letter, = bench.dead()
    assert "too_large" in json.dumps(letter) and "x" * 600000 in json.dumps(letter)
    wait_for(lambda: "21              0              0" in
             bench.weir("bus", "ls", bench.path("weir-t/bus/a")).out, "the commit")
    live.stop(code=3)


def lines_around(*large):
    """Records 0 to 99, and these among them."""
    lines = ['{"n":%d}' % n for n in range(100)]
    for i, line in enumerate(large):
        lines.insert(30 * (i + 1), line)
    return "\n".join(lines) + "\n"


def check_all_but_the_large_arrive(bench, done, sizes, sender):
    assert done.code == 3
    assert sorted(r["n"] for r in objects(bench.path("out.ndjson"))) == list(range(100))
    letters = bench.dead()
    assert [letter["reason"] for letter in letters] == ["too_large"] * len(sizes)
    assert {letter["node"] for letter in letters} == {sender}
    for letter, size in zip(letters, sizes):
        assert "%d bytes is larger" % size in letter["error"]
        assert "524288 bytes" in letter["error"]
    assert done.node(sender)["dead"] == len(sizes)
    bus = done.node("b")["bus"]
    assert bus["too_large"] == len(sizes) and bus["accepted"] == bus["safe"] == 100
    assert not audit(done.report)


@pytest.mark.parametrize("key", ["", 'key = "n",'])
def test_a_source_loses_nothing_by_a_record_that_is_too_large_for_its_bus(bench, key):
    large = ['{"n":-1,"big":"%s"}' % ("x" * size) for size in (600000, 3000000)]
    bench.write("in.ndjson", lines_around(*large))
    text = """
        source.file "in" { path = "in.ndjson", at_end = stop }
        bus "b" { from = "in", %s shards = 2, ring_bytes = "1MB" }
        sink.file "out" { from = "b", path = "out.ndjson" }
        """ % key
    done = bench.run(text, code=3)
    sizes = [len(line) + 9 for line in large]  # encoded
    check_all_but_the_large_arrive(bench, done, sizes, "in")
    again = bench.run(text)  # all of it was safe
    assert again.node("in")["in"] == 0


def test_a_record_that_its_key_makes_too_large_costs_no_other(bench):
    """Blocks are as large as the bus takes, so that others would be in its block."""
    large = '{"n":-1,"k":"%s"}' % ("x" * 300000)
    bench.write("in.ndjson", lines_around(large))
    done = bench.run("""
        settings { block = "512KB" }
        source.file "in" { path = "in.ndjson", at_end = stop }
        process "p" { from = "in", each = function (r) return r end }
        bus "b" { from = "p", key = "k", shards = 1, ring_bytes = "1MB" }
        sink.file "out" { from = "b", path = "out.ndjson" }
        """, code=3)
    check_all_but_the_large_arrive(bench, done, [len(large) + 300000 + 13], "p")


def test_a_field_that_is_no_key_is_not_written_into_the_record(bench):
    bench.write("in.ndjson", "".join('{"k":%s}\n' % k for k in (
        '"a"', "7", "true", "[1]", '{"b":1}', "1.5", "null")))
    bench.run("""
        source.file "in" { path = "in.ndjson", at_end = stop }
        bus "b" { from = "in", key = "k", store = disk { keep = all } }
        """)
    shown = bench.weir("cat", bench.path("weir-t/bus/b"), "--json").out
    keys = {json.dumps(r["payload"]["k"]): r["key"] for r in map(json.loads, shown.splitlines())}
    assert keys == {'"a"': "a", "7": 7, "true": True,
                    "[1]": None, '{"b": 1}': None, "1.5": None, "null": None}


def test_state_and_store_may_lie_in_one_folder_that_both_name(bench):
    bench.write("in.ndjson", '{"n":1}\n')
    for _ in range(2):
        done = bench.run("""
            source.file "in" { path = "in.ndjson", at_end = stop }
            bus "a" { from = "in", state = "here", store = disk { keep = all, path = "here" } }
            """)
    assert done.code == 0
    assert bench.weir("bus", "verify", bench.path("here")).code == 0


ENDING = """
source.file "in" { path = "in.ndjson", at_end = stop }
bus "a" { from = "in", shards = 1, store = disk { keep = all } }
bus "b" { from = group "g" { of = "a"%s }, shards = 1, ring_bytes = "1MB",
  store = disk { keep = all } }
"""


def test_a_dead_letter_of_a_group_counts_as_one_of_the_node_that_read_it(bench):
    lines = ['{"n":%d}' % n for n in range(20)] + ['{"big":"%s"}' % ("x" * 600000)]
    bench.write("in.ndjson", "\n".join(lines) + "\n")
    run = bench.run(ENDING % "", code=3)  # it waits for all five attempts
    assert "1 dead letter in" in run.err
    reader = run.node("a>b")
    assert (reader["in"], reader["done"], reader["dead"]) == (21, 20, 1)
    group, = run.node("a")["bus"]["groups"]
    assert (group["dead"], group["done"], group["lag"]) == (1, 21, 0)
    assert [run.node(name)["given_up"] for name in ("a", "b", "a>b")] == [0, 0, 0]
    audit = bench.weir("audit", "t.lua")
    assert audit.code == 0, audit.out
    assert "done 21; 1 dead letters since the start" in audit.out
    told = json.loads(bench.weir("audit", "t.lua", "--json").out)
    assert told["dead"] == 1 and told["buses"][0]["groups"][0]["dead"] == 1


@pytest.mark.parametrize("store", ["", "store = disk { keep = all },"],
                         ids=["memory", "disk"])
def test_a_bus_in_memory_feeds_another_while_both_are_scaled(bench, store):
    """Each of its shards finds its way into the other bus; keys keep their order."""
    keys, each = 50, 2000
    bench.write("in.ndjson", "".join('{"k":%d,"n":%d}\n' % (k, n)
                                     for n in range(each) for k in range(keys)))
    live = bench.start("""
        source.file "in" { path = "in.ndjson" }
        bus "a" { from = "in", key = "k", shards = 1, scale = { max = 4, cooldown = "1h" } }
        bus "b" { from = "a", shards = 2, %s scale = { max = 4, cooldown = "1h" } }
        sink.file "out" { from = "b", path = "out.ndjson" }
        """ % store)
    for a, b in (4, 1), (2, 4), (1, 3):
        for bus, shards in ("a", a), ("b", b):
            wait_for(lambda bus=bus, shards=shards: bench.weir(
                "ctl", "scale", "t/" + bus, "--to", str(shards)).code == 0, "a scaling")
    wait_for(lambda: count_rows(bench.path("out.ndjson")) == keys * each, "all records")
    done = live.stop()
    seen = {}
    for r in objects(bench.path("out.ndjson")):
        seen.setdefault(r["k"], []).append(r["n"])
    assert seen == {k: list(range(each)) for k in range(keys)}
    assert not audit(done.report)
