"""source.redis, sink.redis and a bus with a cluster of real redis-servers."""
import json

from helper import wait_for
from ports import free_port
from servers import Error
from test_redis import server_of_a_test  # noqa: F401 pylint: disable=unused-import
from test_redis import servers_of_a_test  # noqa: F401 pylint: disable=unused-import
from test_redis import (FAST, FILE, TAIL, numbers, read_numbers, sink, source, start,
                        stored, wait_rows)


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
