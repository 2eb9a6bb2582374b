"""source.bus: a topology that reads the bus of another one."""
import json

import pytest
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
    wait_numbers(far, 5000)
    wait_for(lambda: lag(bus, "far/in") == 0, "all is committed")
    reader.stop()
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
    live, _ = begin(bench, 1)
    run = far.run(FAR % ("supervise { intensity = 0 }",
                         'connect = "%s", bus = "orders"' % endpoint(bench)), code=1)
    assert "this is the bus 'events', not 'orders'" in run.err
    live.stop()
    assert BUS
