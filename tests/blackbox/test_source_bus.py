"""source.bus: a topology that reads the bus of another one."""
import json
import shutil

import msgpack
import pytest
import zmq
from bus_client import Bus
from helper import Bench, objects, wait_for
from test_bus_server import BUS, begin, endpoint, lines
from test_zmq_curve import Realm

FAR = """settings { name = "far" }
%s
source.bus "in" { %s }
sink.file "out" { from = "in", path = "out.ndjson" }
"""


@pytest.fixture(name="far")
def other_bench(bench):
    """A second topology's folder, whose runs find those of the first."""
    bench.path("far").mkdir()
    other = Bench(bench.path("far"))
    other.state = other.folder / "weir-far"
    run = str(bench.path("run"))
    other.environment = lambda more: {**Bench.environment(other, more), "WEIR_RUN": run}
    yield other
    other.close()


def numbers(far):
    """The n that have come, each once."""
    data = far.path("out.ndjson")
    got = data.read_bytes().rpartition(b"\n")[0] if data.exists() else b""
    return {json.loads(line)["n"] for line in got.splitlines()}


def wait_numbers(far, count):
    """All from 0 to count have come."""
    wait_for(lambda: numbers(far) >= set(range(count)), "%d records have come" % count)


def lag(bus, group):
    """Records that the group has not committed; None without such a group."""
    rows = [row for row in bus.ask("groups")["groups"] if row["group"] == group]
    return sum(row["lag"] for row in rows) if rows else None


def test_it_brings_each_record_once_and_acknowledges(bench, far):
    live, bus = begin(bench, 2000)
    reader = far.start(FAR % ("", 'bus = "t/events"'))
    wait_numbers(far, 2000)
    wait_for(lambda: lag(bus, "far/in") == 0, "all is committed")
    reader.stop()
    assert len(objects(far.path("out.ndjson"))) == 2000
    bench.append("in.ndjson", lines(2000, 2100))
    reader = far.start(None)
    wait_numbers(far, 2100)
    wait_for(lambda: lag(bus, "far/in") == 0, "all is committed")
    reader.stop()
    assert len(objects(far.path("out.ndjson"))) == 2100  # it goes on, and repeats nothing
    live.stop()


def test_it_waits_for_the_other_side_and_survives_its_kill(bench, far):
    reader = far.start(FAR % ("", 'bus = "t/events", where = "n < 450", group = "g"'))
    reader.wait_ready()
    live, bus = begin(bench, 300)
    wait_numbers(far, 300)
    live.kill()
    bus.close()
    bench.append("in.ndjson", lines(300, 500))
    live = bench.start(None)
    wait_numbers(far, 450)
    bus = Bus(endpoint(bench))
    wait_for(lambda: lag(bus, "g") == 0, "what is left out is committed, too")
    assert max(numbers(far)) == 449
    reader.stop()
    live.stop()


def test_a_killed_reader_loses_nothing(bench, far):
    live, bus = begin(bench, 5000)
    topology = FAR % ("", 'bus = "t/events", member_timeout = "1s"')
    reader = far.start(topology)
    wait_for(lambda: numbers(far), "some come")
    reader.kill()
    reader = far.start(None)
    reader.wait_ready()
    wait_numbers(far, 5000)
    wait_for(lambda: lag(bus, "far/in") == 0, "all is committed")
    reader.stop()
    live.stop()


NOTE = """settings { name = "far" }
source.bus "in" { bus = "t/events"%s }
process "note" { from = "in", workers = 2, %s each = function (r)
  local m = meta (r)
  return { n = r.n, id = m.id or "none", shard = m.shard or "none",
           offset = m.offset or "none", source = m.source }
end }
sink.file "out" { from = "note", path = "out.ndjson" }
%s
"""


def places(bench):
    """{n: (shard, offset, id)}, as the store of the bus has them."""
    shown = bench.weir("cat", "weir-t/bus/events", "--json")
    assert shown.code == 0, shown.err
    return {one["payload"]["n"]: (one["shard"], one["offset"], one["id"])
            for one in map(json.loads, shown.out.splitlines())}


def seen(far, name="out.ndjson"):
    """{n: (shard, offset, id)}, as the reader has noted them."""
    return {one["n"]: (one["shard"], one["offset"], one["id"])
            for one in objects(far.path(name))}


def test_records_come_with_their_places(bench, far):
    live, bus = begin(bench, 3000)
    reader = far.start(NOTE % (', where = "n < 2900"',
                               'where = "$offset > 5 and $shard != 2",', ""))
    expected = {n: at for n, at in places(bench).items()
                if n < 2900 and at[1] > 5 and at[0] != 2}
    assert expected
    wait_for(lambda: set(numbers(far)) == set(expected), "all have come")
    wait_for(lambda: lag(bus, "far/in") == 0, "all is committed")
    reader.stop()
    assert seen(far) == expected
    assert {one["source"] for one in objects(far.path("out.ndjson"))} == {"in"}
    live.stop()


def test_each_other_record_has_its_place_too(bench, far):
    bench.write("in.ndjson", "".join('{"n":%d,"k":"k%d","odd":%d}\n' % (n, n % 37, n % 2)
                                     for n in range(3000)))
    live = bench.start(BUS.replace("shards = 4", "shards = 1") % "")
    reader = far.start(NOTE % (', where = "odd == 1"', "", ""))
    wait_for(lambda: len(numbers(far)) == 1500, "all have come")  # each is a run of its own
    reader.stop()
    assert seen(far) == {n: at for n, at in places(bench).items() if n % 2}
    live.stop()


def test_another_bus_at_the_same_place_has_other_ids(bench, far):
    live, _ = begin(bench, 10)
    reader = far.start(NOTE % (', member_timeout = "1s"', "", ""))
    wait_numbers(far, 10)
    nonce = seen(far)[0][2].split(":")[0]
    live.stop()
    shutil.rmtree(bench.path("weir-t"))
    bench.write("in.ndjson", lines(10, 20))
    live = bench.start(None)
    wait_numbers(far, 20)
    found = seen(far)
    assert found[15] == places(bench)[15]
    assert found[15][2].split(":")[0] != nonce == found[5][2].split(":")[0]
    reader.stop()
    live.stop()


def test_what_a_node_makes_of_it_has_no_place(bench, far):
    live, _ = begin(bench, 100)
    reader = far.start(NOTE.replace('from = "in"', 'from = "again"') % ("", "", """
bus "again" { from = "in", shards = 2, key = "k" }
bus "whole" { from = "in", shards = 2 }
process "other" { from = "whole", each = function (r)
  return { n = r.n, id = meta (r).id or "none" } end }
sink.file "too" { from = "other", path = "too.ndjson" }
"""))
    wait_numbers(far, 100)
    wait_for(lambda: len(objects(far.path("too.ndjson"))) == 100, "all have come")
    reader.stop()
    assert set(seen(far).values()) == {("none", "none", "none")}
    assert {one["id"] for one in objects(far.path("too.ndjson"))} == {"none"}
    live.stop()


def test_by_curve(bench, far):
    realm = Realm(bench)
    live, bus = begin(bench, 50, ', listen = "tcp://127.0.0.1:*"',
                      'security { keys = "keys" }\n')
    live.wait_log("listening endpoint=tcp")
    where = "tcp" + live.text().split("listening endpoint=tcp")[1].split()[0]
    for words in (("keys", "init", "far", "--keys", "keys"),
                  ("keys", "allow", bench.path("keys/self.pub"), "--role", "none",
                   "--keys", "keys")):
        assert far.weir(*words).code == 0
    done = bench.weir("keys", "allow", far.path("keys/self.pub"), "--role", "consume",
                      "--keys", "keys")
    assert done.code == 0, done.err
    reader = far.start(FAR % ('security { keys = "keys" }',
                              'connect = "%s", server = "node", bus = "events"' % where))
    wait_numbers(far, 50)
    reader.stop()
    realm.close()
    live.stop()


def test_mistakes(bench, far):
    for options, told in (("", "NAME/BUS"), ('bus = "events"', "NAME/BUS"),
                          ('connect = "nowhere"', "connect"),
                          ('bus = "t/events", where = "n = 1"', "where"),
                          ('bus = "t/events", start = "late"', "start")):
        assert told in far.refused(FAR % ("", options))[0]
    assert far.check(FAR % ("", 'bus = "t/events", where = "$shard == 1"')).code == 0
    told, = far.refused(FAR % ("", 'bus = "t/events"') +
                        'process "p" { from = "in" }\n'
                        'sink.null "n" { from = "p", where = "$shard == 1" }')
    assert "this node reads from none" in told
    live, _ = begin(bench, 1)
    run = far.run(FAR % ("supervise { intensity = 0 }",
                         'connect = "%s", bus = "orders"' % endpoint(bench)), code=1)
    assert "this is the bus 'events', not 'orders'" in run.err
    live.stop()
    assert BUS


def test_a_bus_that_gives_many_runs_at_once_is_taken_block_by_block(bench, far):
    """Another implementation of the protocol need not know the bounds of our blocks."""
    count, told = 700, []
    server = zmq.Context.instance().socket(zmq.ROUTER)
    server.linger = 0
    server.rcvtimeo = 20000
    server.bind("ipc://%s" % bench.path("fake"))
    rows = [[3, 2 * n, 0, 5, 2 * n, msgpack.packb([1, None, '{"n":%d}' % n, None])]
            for n in range(1, count + 1)]
    replies = {"hello": {"version": 1, "bus": "fake", "nonce": 0xabcd, "vnodes": 256},
               "join": {}, "ack": {}, "leave": {}}
    reader = far.start(NOTE.replace('bus = "t/events"', 'connect = "ipc://%s"'
                                    % bench.path("fake")) % ("", "", ""))
    while not told or told[-1] != 2 * count:
        peer, frame = server.recv_multipart()
        number, verb, fields = msgpack.unpackb(frame)
        if verb == "ack":
            told.append(fields["a"])
        if verb == "fetch":
            code, got = "ok", {"records": rows}
            rows = []
        else:
            code, got = "ok", replies[verb]
        server.send_multipart([peer, msgpack.packb([number, code, got])])
    reader.stop()
    server.close()
    assert seen(far) == {n: (3, 2 * n, "000000000000abcd:5:3:%d" % (2 * n))
                         for n in range(1, count + 1)}
