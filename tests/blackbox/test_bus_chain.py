"""Buses: one that reads from another and refuses a record for good; folders."""
import json

from helper import wait_for

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
    letter, = wait_for(bench.dead, "a dead letter")
    assert "too_large" in json.dumps(letter) and "x" * 600000 in json.dumps(letter)
    wait_for(lambda: "21              0              0" in
             bench.weir("bus", "ls", bench.path("weir-t/bus/a")).out, "the commit")
    live.stop(code=3)


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
