"""$shard, $offset and meta (r).id: where a bus with a store has a record is known to the
nodes that read from it, and to nobody else."""
import json

import pytest
import zmq
from helper import objects
from links import BLOCK, Raw, open_socket, pack, unpack
from weir_link import ACK, WELCOME

RECORDS = 2000
KEYS = 37
HEAD = """
source.file "in" { path = "in.ndjson", at_end = stop }
bus "events" { from = "in", key = "k", shards = 3, store = disk { keep = all } }
"""
NOTE = """each = function (r)
  local m = meta (r)
  return { n = r.n, id = m.id or "none", shard = m.shard or "none",
           offset = m.offset or "none" }
end"""


@pytest.fixture(name="full")
def bench_with_input(bench):
    """A bench with in.ndjson."""
    bench.write("in.ndjson", [{"n": n, "k": "key-%d" % (n % KEYS)} for n in range(RECORDS)])
    return bench


def stored(bench):
    """{n: (shard, offset, id)}, as the store has them."""
    shown = bench.weir("cat", "weir-t/bus/events", "--json")
    assert shown.code == 0, shown.err
    records = [json.loads(line) for line in shown.out.splitlines()]
    places = {one["payload"]["n"]: (one["shard"], one["offset"], one["id"])
              for one in records}
    assert len(places) == len(records) == RECORDS
    return places


def numbers(bench, name):
    """The records' numbers, in order."""
    return sorted(one["n"] for one in objects(bench.path(name)))


def test_expressions_know_shard_and_offset(full):
    full.run(HEAD + """
sink.file "zero" { from = "events", where = "$shard == 0", path = "zero.ndjson" }
process "few" { from = "events", workers = 2, where = "$offset > 100 and $offset <= 300" }
sink.file "some" { from = "few", path = "few.ndjson" }
process "both" { from = "events", workers = 2,
  inbound = { { where = "$offset > 50", action = drop } }, each = function (r) return r end,
  outbound = { { where = "$offset == 1", action = drop } },
  outlets = { a = "$shard == 1", b = otherwise } }
sink.file "one" { from = "both.a", path = "one.ndjson" }
sink.file "rest" { from = "both.b", path = "rest.ndjson" }
""")
    places = stored(full).items()
    assert numbers(full, "zero.ndjson") == [n for n, at in places if at[0] == 0] != []
    assert numbers(full, "few.ndjson") == [n for n, at in sorted(places)
                                           if 100 < at[1] <= 300] != []
    head = [(n, at) for n, at in sorted(places) if 1 < at[1] <= 50]
    assert numbers(full, "one.ndjson") == [n for n, at in head if at[0] == 1] != []
    assert numbers(full, "rest.ndjson") == [n for n, at in head if at[0] != 1] != []


@pytest.mark.parametrize("workers", [1, 2])
def test_functions_know_what_the_store_shows(full, workers):
    full.run(HEAD + """
process "note" { from = "events", workers = %d, %s }
sink.file "out" { from = "note", path = "out.ndjson" }
""" % (workers, NOTE))
    seen = {one["n"]: (one["shard"], one["offset"], one["id"])
            for one in objects(full.path("out.ndjson"))}
    assert seen == stored(full)


def test_after_a_restart_places_are_the_same_or_follow(full):
    topology = HEAD + """
process "note" { from = "events", %s }
sink.file "out" { from = "note", path = "out.ndjson" }
""" % NOTE
    full.run(topology)
    full.append("in.ndjson", b'{"n":5000,"k":"key-1"}\n')
    full.run(topology)
    last = objects(full.path("out.ndjson"))[-1]
    before = [one for one in objects(full.path("out.ndjson"))[:-1]
              if one["shard"] == last["shard"]]
    assert last["n"] == 5000
    assert last["offset"] == max(one["offset"] for one in before) + 1
    nonce, epoch, shard, sequence = last["id"].split(":")
    assert (nonce, epoch, shard, sequence) == (before[0]["id"].split(":")[0], "2",
                                               str(last["shard"]), "1")


@pytest.mark.parametrize("middle", [
    "",
    'process "again" { from = "events" }',
    'process "again" { from = "events", each = function (r) return r end }',
    'process "again" { from = "events", where = "n >= 0", ordered = true, workers = 2 }',
    'bus "again" { from = "events", shards = 1 }',
    'bus "again" { from = "events", shards = 2, key = "k" }',
], ids=["memory", "process", "function", "ordered", "memory behind a store", "keyed"])
@pytest.mark.parametrize("keyed", [True, False], ids=["keys", "no keys"])
def test_elsewhere_there_is_none(full, middle, keyed):
    head = HEAD if middle else HEAD.replace("store = disk { keep = all } ", "")
    head = head if keyed else head.replace('key = "k", ', "")
    full.run(head + middle + """
process "note" { from = "%s", %s }
sink.file "out" { from = "note", path = "out.ndjson" }
""" % ("again" if middle else "events", NOTE))
    seen = objects(full.path("out.ndjson"))
    assert len(seen) == RECORDS
    assert {(one["id"], one["shard"], one["offset"]) for one in seen} == {("none",) * 3}


def test_places_are_only_read(full):
    run = full.run(HEAD + """
process "p" { from = "events", where = "$offset == 1 and $shard == 0", on_error = dead,
  each = function (r) meta (r).offset = 7 return r end }
sink.null "out" { from = "p" }
""", code=3)
    assert run.node("p")["dead"] == 1
    assert "meta (r).offset cannot be written" in full.dead()[0]["error"]


def test_several_inputs_may_have_places_or_not(full):
    full.write("other.ndjson", [{"n": -1}])
    full.run(HEAD + """
source.file "other" { path = "other.ndjson", at_end = stop }
sink.file "out" { from = { "events", "other" }, where = "$offset < 10 or not has $shard",
  path = "out.ndjson" }
""")
    assert numbers(full, "out.ndjson") == sorted(
        [-1] + [n for n, at in stored(full).items() if at[1] < 10])


REFUSED = {
    "a source": ('source.file "x" { path = "in.ndjson", where = "$shard == 0" }\n'
                 'sink.null "n" { from = "x" }', 4, "source.file \"x\": option 'where'"),
    "in memory": ('bus "m" { from = "in" }\n'
                  'sink.null "n" { from = "m",\n where = "has $offset" }', 6,
                  "sink.null \"n\": option 'where'"),
    "a process": ('process "p" { from = "events" }\n'
                  'sink.null "n" { from = "p", where = "$offset == 1" }', 5,
                  "sink.null \"n\": option 'where'"),
    "a rule": ('process "p" { from = "in", inbound = {\n'
               ' { where = "$shard == 1", action = drop } } }\n'
               'sink.null "n" { from = "p" }', 5, "option 'inbound.1.where'"),
    "an outlet": ('process "p" { from = "in", outlets = {\n a = "$shard == 1" } }\n'
                  'sink.null "n" { from = "p.a" }', 5, "option 'outlets.a'"),
}


@pytest.mark.parametrize("text, line, title", REFUSED.values(), ids=REFUSED.keys())
def test_expressions_elsewhere_are_refused(bench, text, line, title):
    told, = bench.refused(HEAD.lstrip() + "\n" + text)
    assert told.startswith("t.lua:%d: " % line) and title in told, told
    assert told.endswith("$shard and $offset exist only behind a bus with a store, and "
                         "this node reads from none"), told


def test_places_do_not_leave_the_process(full):
    router = open_socket(zmq.Context.instance(), zmq.ROUTER)
    router.rcvtimeo = 10000
    router.bind("ipc://%s" % full.path("up"))
    live = full.start(HEAD + 'sink.link "up" { from = "events", connect = "ipc://up" }\n')
    peer, _ = router.recv_multipart()
    router.send_multipart([peer, pack(WELCOME, 1, 1 << 20, 0, 0)])
    seen = 0
    while seen < RECORDS:
        frame = router.recv_multipart()[1]
        kind, fields = unpack(frame)
        assert kind == BLOCK and set(fields[3]) == {"o"}, fields
        seen += fields[1]
        router.send_multipart([peer, pack(ACK, fields[0])])
    assert live.wait().node("up")["done"] == RECORDS
    router.close()


def test_what_another_process_says_of_places_is_passed_over(bench):
    live = bench.start("""
source.link "in" { listen = "ipc://in" }
process "note" { from = "in", %s }
sink.file "out" { from = "note", path = "out.ndjson" }
""" % NOTE)
    live.wait_ready()
    raw = Raw("ipc://%s" % bench.path("in"))
    raw.hello()
    raw.block(1, ['{"n":1}'], headers={"o": [[1, None, None, None]],
                                        "p": [[7, 1, 0, 1, 1]]})
    raw.block(2, ['{"n":2}'], headers={"p": "whatever"})
    while raw.hear_until(ACK)[0] < 2:
        continue
    raw.close()
    live.stop()
    assert [(one["n"], one["id"]) for one in objects(bench.path("out.ndjson"))] == [
        (1, "none"), (2, "none")]
