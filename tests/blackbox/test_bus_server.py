"""A bus read by other processes over its endpoint: pages, groups, hostile clients, CURVE."""
import json
import re
import signal
import subprocess
import sys
import time

import msgpack
import pytest
import zmq
from bus_client import Bus, Refused
from helper import HERE, PATIENCE, SANITIZED, WEIR, Live, chance, count_rows, objects, wait_for

BUS = """
source.file "in" { path = "in.ndjson", framing = ndjson }
bus "events" { from = "in", shards = 4, key = "k", store = disk { keep = all } %s }
"""


def lines(first, last):
    """Records numbered so, of 37 keys."""
    return "".join(json.dumps({"n": n, "k": "k%d" % (n % 37)}) + "\n"
                   for n in range(first, last))


def number(record):
    """The n of a record."""
    return json.loads(record.payload)["n"]


def endpoint(bench):
    """Where the bus listens for local processes."""
    return "ipc://%s" % bench.path("run/t.events.bus")


def stored(bus):
    """How many records the bus has."""
    shards = bus.ask("groups")["groups"]
    return sum(row["last"][0] for row in shards if row["group"] == "count")


def begin(bench, count, options="", more=""):
    """A running bus that has stored so many records, and a client that counts them."""
    bench.write("in.ndjson", lines(0, count))
    live = bench.start(BUS % options + more)
    live.wait_ready()
    bus = Bus(endpoint(bench))
    wait_for(lambda: len(list(bus.pages(limit=10000, timeout_ms=1))) == count,
             "%d records are stored" % count)
    return live, bus


def drain(bus, ack=True):
    """What a member gets until nothing comes."""
    records = []
    while True:
        got = bus.fetch(limit=50, timeout_ms=200)
        if not got:
            return records
        records += got
        if ack:
            bus.ack(got[-1], up_to=True)


# --- polls ---------------------------------------------------------------------------

def test_who_is_there(bench):
    live, bus = begin(bench, 10)
    hello = bus.ask("hello")
    assert hello["version"] == 1 and hello["bus"] == "events" and hello["vnodes"] == 256
    assert hello["nonce"] and "member_timeout_ms" not in hello
    rep = Bus(endpoint(bench), zmq.REQ)
    assert rep.ask("hello") == hello
    live.stop()
    assert not bench.path("run/t.events.bus").exists()


def test_pages_give_each_record_once(bench):
    live, bus = begin(bench, 1000)
    assert {r.shard for r in bus.pages()} == {0, 1, 2, 3}
    for where, expected in ((None, range(1000)), ("n >= 500 and n < 700", range(500, 700))):
        fields = {"where": where} if where else {}
        seen = [number(r) for r in bus.pages(limit=7, timeout_ms=1, **fields)]
        assert sorted(seen) == list(expected)
    records, got = bus.poll(limit=10000, order="time", shards=[1, 3, 1])
    assert {r.shard for r in records} == {1, 3}
    assert [r.ts for r in records] == sorted(r.ts for r in records)
    assert len({r.place for r in records}) == len(records)
    assert got["examined"] == len(records) and not got["gaps"] and not got["failed"]
    records, got = bus.poll(bytes=100)
    assert 1 <= len(records) <= 8 and got["more"]
    live.stop()


def test_a_cursor_is_good_after_a_restart(bench):
    live, bus = begin(bench, 300)
    records, got = bus.poll(limit=100)
    live.stop()
    bus.close()
    live = bench.start(None)
    live.wait_ready()
    bus = Bus(endpoint(bench))
    seen = [number(r) for r in records]
    seen += [number(r) for r in bus.pages(cursor=got["cursor"])]
    assert sorted(seen) == list(range(300))
    live.stop()


def test_a_poll_waits_and_holds_up_nobody(bench):
    live, bus = begin(bench, 100)
    _, got = bus.poll(limit=1000)
    waiting = bus.send("poll", cursor=got["cursor"], timeout_ms=60000)
    other = Bus(endpoint(bench))
    began = time.monotonic()
    for _ in range(20):
        assert len(other.poll(limit=1000)[0]) == 100
        assert bus.ask("hello")["bus"] == "events"
    assert time.monotonic() - began < 5
    bench.append("in.ndjson", lines(100, 101))
    code, page = bus.reply(waiting)
    assert code == "ok" and len(page["records"]) == 1
    began = time.monotonic()
    assert bus.poll(cursor=page["cursor"], timeout_ms=300)[0] == []
    assert 0.25 < time.monotonic() - began < 5
    waiting = bus.send("poll", **{"from": "end"}, timeout_ms=60000)
    bus.ask("hello")
    live.signal(signal.SIGTERM)
    assert bus.reply(waiting)[0] == "closed"
    live.wait()


# --- mistakes ------------------------------------------------------------------------

def refusal(bus, verb, **fields):
    """(code, text) of a reply that is not ok."""
    with pytest.raises(Refused) as error:
        bus.ask(verb, **fields)
    return error.value.code, error.value.text


def test_mistakes_are_told(bench):
    live, bus = begin(bench, 10)
    _, got = bus.poll()
    for i, letter in enumerate(got["cursor"]):
        wrong = got["cursor"][:i] + ("A" if letter != "A" else "B") + got["cursor"][i + 1:]
        assert refusal(bus, "poll", cursor=wrong)[0] == "bad_cursor"
    assert refusal(bus, "join", group="g", start="w1")[0] == "bad_cursor"
    assert refusal(bus, "poll", where="n = 1") == (
        "bad_where", "column 3: unknown operator '=': write '=='")
    assert refusal(bus, "join", group="g", where="(n")[0] == "bad_where"
    assert refusal(bus, "poll", limit=10001)[1] == "poll: field 'limit' is 0 to 10000"
    assert refusal(bus, "poll", limit="1")[0] == "bad_request"
    assert refusal(bus, "poll", limt=1)[1] == "poll: unknown field 'limt'"
    assert refusal(bus, "steal")[0] == "bad_request"
    assert refusal(bus, "join")[1] == "join: field 'group' is missing"
    for verb, fields in (("fetch", {}), ("ack", {"shard": 0, "a": 1}),
                         ("nack", {"shard": 0, "a": 1})):
        assert refusal(bus, verb, **fields)[0] == "not_joined"
    bus.ask("leave")
    bus.ask("join", group="g")
    assert refusal(bus, "ack", shard=0, a=99)[0] == "not_owner"
    assert refusal(bus, "ack", shard=77, a=1)[0] == "not_owner"
    waiting = [bus.send("poll", **{"from": "end"}, timeout_ms=60000) for _ in range(17)]
    assert bus.reply(waiting[16])[0] == "busy"
    live.stop()


def test_garbage_harms_nobody(bench):
    live, bus = begin(bench, 100)
    rng = chance("garbage")
    bad = Bus(endpoint(bench)).socket
    good = msgpack.packb([1, "poll", {"limit": 3, "where": "n > 1"}])
    replies = 0
    for _ in range(500):
        kind = rng.randrange(4)
        if kind == 0:
            frames = [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 9))]
        elif kind == 1:
            frames = [good[:rng.randrange(len(good))]]
        elif kind == 2:
            at = rng.randrange(len(good))
            frames = [good[:at] + rng.randbytes(1) + good[at + 1:]]
        else:
            frames = [rng.choice([b"\xdd\xff\xff\xff\xff",
                                  b"\x93" + b"\xdf\xff\xff\xff\xff" * 3])]
        bad.send_multipart(frames)
        replies += 1
    bad.send(bytes(100000))
    codes = set()
    for _ in range(replies + 1):
        number_, code, fields = msgpack.unpackb(bad.recv_multipart()[-1])
        assert code == "ok" or fields["text"]
        assert number_ is None or isinstance(number_, int)
        codes.add(code)
    assert "bad_request" in codes
    huge = Bus(endpoint(bench)).socket
    huge.send(bytes(2 << 20))  # its connection ends
    assert len(bus.poll(limit=1000)[0]) == 100
    assert live.running()
    live.stop()


def test_who_does_not_read_gets_no_more(bench):
    live, bus = begin(bench, 20000, "", "")
    before = live.vm("VmRSS")
    deaf = [Bus(endpoint(bench), rcvhwm=1) for _ in range(20)]
    for client in deaf:
        for _ in range(100):
            client.send("poll", limit=10000, timeout_ms=2000)
    for _ in range(20):
        assert len(bus.poll(limit=100)[0]) == 100
    assert live.vm("VmHWM") - before < (800 if SANITIZED else 200) << 20
    for client in deaf:
        client.close()
    live.stop()


# --- groups --------------------------------------------------------------------------

def test_members_share_and_go_on_after_a_restart(bench):
    live, bus = begin(bench, 400)
    members = [Bus(endpoint(bench)) for _ in range(2)]
    for i, member in enumerate(members):
        member.ask("join", group="bills", member="m%d" % i, where="n < 300")
    assert members[0].ask("hello")["member_timeout_ms"] == 10000
    seen = [number(r) for member in members for r in drain(member)]
    assert sorted(seen) == list(range(300))
    look = bus.ask("groups")["groups"]
    owners = {row["shard"]: row["member"] for row in look if row["group"] == "bills"}
    assert sorted(owners.values()) == ["m0", "m0", "m1", "m1"]
    live.stop()
    bench.append("in.ndjson", lines(400, 410) + lines(0, 5))
    live = bench.start(None)
    live.wait_ready()
    bus = Bus(endpoint(bench))
    bus.ask("join", group="bills")
    seen = []
    wait_for(lambda: seen.extend(drain(bus)) or len(seen) == 15, "what is new")
    assert sorted(number(r) for r in seen) == [*range(5), *range(400, 410)]
    live.stop()


def test_what_is_not_acknowledged_comes_again(bench):
    live, bus = begin(bench, 40)
    bus.ask("join", group="g", ack_timeout_ms=300, max_deliver=2, retry_first_ms=1,
            retry_max_ms=1)
    first = bus.fetch(limit=1)[0]
    bus.ask("nack", shard=first.shard, a=first.a, b=first.b, delay_ms=0, why="not now")
    seen = {}
    deadline = time.monotonic() + PATIENCE
    while len(seen) < 40 and time.monotonic() < deadline:
        for record in bus.fetch(limit=1, timeout_ms=500):
            seen.setdefault(record.place, []).append(record)
            if record.place != first.place:
                bus.ack(record)
            else:
                bus.ask("nack", shard=record.shard, a=record.a, why="never")
    assert len(seen) == 40 and len(seen[first.place]) == 1  # the second delivery was the last
    dead = wait_for(bench.dead, "a dead letter")
    assert len(dead) == 1 and dead[0]["node"] == "g" and dead[0]["error"] == "never"
    assert sum(row["dead"] for row in bus.ask("groups")["groups"]) == 1
    assert "dead 1" in bench.weir("ctl", "stats", "t").out
    other = Bus(endpoint(bench))
    bus.ask("join", group="late", ack_timeout_ms=300)
    got = bus.fetch(limit=5)
    again = wait_for(lambda: [r for r in bus.fetch(limit=5, timeout_ms=500)
                              if r.place == got[0].place], "it comes again")
    assert again[0].payload == got[0].payload
    other.close()
    run = live.stop(code=3)  # nobody here has read it: it is the bus's
    assert (run.node("events")["given_up"], run.node("events")["dead"]) == (1, 0)
    audit = bench.weir("audit", "t.lua")
    assert audit.code == 0 and "1 dead letters since the start" in audit.out, audit.out
    assert json.loads(bench.weir("audit", "t.lua", "--json").out)["dead"] == 1


MEMBER = """
import sys
sys.path.insert(0, %r)
from bus_client import Bus
bus = Bus(sys.argv[1])
bus.ask("join", group="g", member_timeout_ms=1000)
got = bus.fetch(limit=1000)
while got:
    print(got[0].shard, flush=True)
    got = bus.fetch(limit=1000, timeout_ms=100)
bus.send("fetch", timeout_ms=3600000)
print("done", flush=True)
sys.stdin.read()
"""


def test_a_killed_member_s_records_reach_the_other(bench):
    live, bus = begin(bench, 200)
    child = subprocess.Popen([sys.executable, "-c", MEMBER % str(HERE), endpoint(bench)],
                             stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    for line in child.stdout:
        if line == b"done\n":
            break
    bus.ask("join", group="g")  # gets half of the shards, and what was held there
    half = drain(bus)
    assert 0 < len(half) < 200
    child.kill()
    child.wait()
    killed = time.monotonic()
    rest = wait_for(lambda: bus.fetch(limit=1000, timeout_ms=50), "the rest")
    assert time.monotonic() - killed < 1 + (10 if PATIENCE > 20 else 2)
    bus.ack(rest[-1], up_to=True)
    rest += drain(bus)
    assert sorted(number(r) for r in half + rest) == list(range(200))
    assert len(half) + len(rest) == 200
    live.stop()


def test_what_a_lost_member_had_is_in_the_ledger(bench):
    live, bus = begin(bench, 5000)
    bus.ask("join", group="g", member_timeout_ms=3600000)
    had = drain(bus, ack=False)
    assert len(had) == 5000
    bus.close()

    def used():
        return json.loads(bench.weir("ctl", "stats", "t", "--json").out)["ledger"]["used"]
    assert used() >= sum(len(r.payload) for r in had)
    other = Bus(endpoint(bench))
    other.ask("join", group="g", member_timeout_ms=3600000)
    half = drain(other)  # of the shards that are its own now
    assert 0 < len(half) < 5000
    assert sum(len(r.payload) for r in had) > used() > 0
    live.stop()  # the sums say that nothing is left


def test_a_member_that_returns_takes_its_own_place(bench):
    live, bus = begin(bench, 50)
    bus.ask("join", group="g", member="me", member_timeout_ms=3600000)
    held = [r for r in drain(bus, ack=False)]
    bus.close()
    again = Bus(endpoint(bench))
    again.ask("join", group="g", member="me")
    assert sorted(r.place for r in drain(again)) == sorted(r.place for r in held)
    live.stop()


def test_a_node_and_a_client_share_a_group(bench):
    live, bus = begin(bench, 300, more='sink.file "out" { from = "events", path = "out" }\n')
    wait_for(lambda: sum(row["commit"][0] for row in bus.ask("groups")["groups"]) == 300,
             "the node has read all, and its group knows")
    bus.ask("join", group="out", member_timeout_ms=1000)
    bench.append("in.ndjson", lines(300, 500))
    mine = []
    deadline = time.monotonic() + PATIENCE
    while len(mine) + len(objects(bench.path("out"))) < 500:
        assert time.monotonic() < deadline
        mine += drain(bus)
    all_of = [number(r) for r in mine] + [row["n"] for row in objects(bench.path("out"))]
    assert mine and sorted(all_of) == list(range(500))
    time_out = bus.fetch(limit=1, timeout_ms=1)
    assert time_out == []
    live.stop()


# --- security ------------------------------------------------------------------------

def test_by_curve_it_takes_the_role(bench):
    from test_zmq_curve import Realm
    realm = Realm(bench)
    realm.allow("reader", "consume")
    realm.allow("writer", "produce")
    live, local = begin(bench, 50, ', listen = "tcp://127.0.0.1:*"',
                        'security { keys = "keys" }\n')
    live.wait_log("listening endpoint=tcp")
    where = live.text().split("listening endpoint=tcp")[1].split()[0]

    def client(name):
        public, secret = realm.keys.get(name) or zmq.curve_keypair()
        return Bus("tcp" + where, curve_serverkey=realm.node_key, curve_publickey=public,
                   curve_secretkey=secret, rcvtimeo=500, sndtimeo=500)
    reader = client("reader")
    reader.socket.rcvtimeo = 20000
    assert len(reader.poll()[0]) == 50
    reader.ask("join", group="far")
    for stranger in (client("writer"), client("nobody"),
                     Bus("tcp" + where, rcvtimeo=500, sndtimeo=500)):
        with pytest.raises(zmq.Again):
            stranger.ask("hello")
    realm.revoke("reader")

    def refused():
        try:
            reader.ask("hello")
        except (Refused, zmq.Again) as error:
            return error
        return None
    assert wait_for(refused, "the reader is refused").code == "refused"
    assert len(local.poll()[0]) == 50
    realm.close()
    live.stop()


def test_listen_needs_a_store_and_an_endpoint(bench):
    memory = 'source.file "in" { path = "x", framing = lines }\n' \
             'bus "b" { from = "in", listen = "tcp://*:1" }\n' \
             'sink.null "out" { from = "b" }\n'
    assert "option 'listen'" in bench.refused(memory)[0]
    assert "store" in bench.refused(memory)[0]
    assert "listen" in bench.refused(BUS % ', listen = "inproc://x"')[0]
    assert "listen" in bench.refused(BUS % ', listen = "tcp://x"')[0]


# --- weir recv -----------------------------------------------------------------------

def follower(bench, name):
    """A `weir recv --follow --json` that writes to a file."""
    with open(bench.path(name), "wb") as out:
        return Live(bench, [WEIR, "recv", "t/events", "--follow", "--json", "--group", "g"],
                    out=out)


def ids(text):
    """The ids of what recv --json wrote."""
    return [json.loads(line)["id"] for line in text.splitlines()]


def test_recv_takes_what_is_there_and_goes_on(bench):
    live, bus = begin(bench, 100)
    first = bench.weir("recv", "t/events", "--limit", "30", "--json")
    assert first.code == 0 and "30 records" in first.err
    rest = bench.weir("recv", "events", "--json")
    assert rest.code == 0 and len(set(ids(first.out) + ids(rest.out))) == 100
    assert len(rest.out.splitlines()) == 70
    assert bench.weir("recv", "t/events").out == ""
    few = bench.weir("recv", "t/events", "--group", "few", "--where", "n >= 90")
    assert sorted(json.loads(line)["n"] for line in few.out.splitlines()) == list(range(90, 100))
    look = {row["group"]: row for row in bus.ask("groups")["groups"]}
    assert look["recv"]["lag"] == 0 and look["few"]["held"] == 0 and not look["few"]["member"]
    live.stop()


def test_two_recv_share_a_group(bench):
    live, _ = begin(bench, 10)
    two = [follower(bench, name) for name in ("a", "b")]
    first = 10

    def seen():
        """Distinct: what one holds while the other joins or leaves may come to both."""
        return {i for name in ("a", "b") for i in ids(bench.path(name).read_bytes()
                                                      .rpartition(b"\n")[0])}

    def both():
        nonlocal first
        bench.append("in.ndjson", lines(first, first + 37))
        first += 37
        return all(count_rows(bench.path(name)) for name in ("a", "b"))
    wait_for(both, "both get records")
    wait_for(lambda: len(seen()) == first, "all have come")
    two[0].signal(signal.SIGINT)
    assert two[0].wait().code == 0
    bench.append("in.ndjson", lines(first, first + 40))
    wait_for(lambda: len(seen()) == first + 40, "all have come to the one that is left")
    two[1].stop()
    live.stop()


def test_a_killed_recv_repeats_and_loses_nothing(bench):
    live, _ = begin(bench, 3000)
    child = subprocess.Popen([WEIR, "recv", "t/events", "--group", "g", "--json"],
                             cwd=bench.folder, env=bench.environment(None),
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    some = [child.stdout.readline() for _ in range(chance("recv").randrange(1, 900))]
    child.kill()  # maybe in the middle of a page, of which the pipe holds a part
    child.wait()
    some += child.stdout.read().rpartition(b"\n")[0].splitlines(True)
    other = follower(bench, "out")

    def seen():
        got = bench.path("out").read_bytes().rpartition(b"\n")[0]
        return set(ids(b"".join(some))) | set(ids(got))
    wait_for(lambda: len(seen()) == 3000, "none is lost", 40)
    other.stop()
    live.stop()


def test_recv_takes_from_a_bus_elsewhere(bench):
    """Both sides in one place, but over tcp, with CURVE."""
    for name in ("hub", "ops"):
        bench.weir("keys", "init", name, "--keys", name)
    allow = ["keys", "allow", "ops/self.pub", "--keys", "hub", "--role"]
    bench.weir(*allow, "control,consume")
    bench.weir("keys", "allow", "hub/self.pub", "--keys", "ops", "--role", "none")
    live, _ = begin(bench, 100, ', listen = "tcp://*:*"', """
        security { keys = "hub", control = "tcp://127.0.0.1:*" }
        bus "local" { from = "in", store = disk { keep = all } }
        """)
    at = re.search(r"control endpoint=(tcp://\S+)", live.text()).group(1)
    there = ["--control", at, "--server", "hub", "--keys", "ops"]
    nowhere = {"WEIR_RUN": str(bench.path("elsewhere"))}
    first = bench.weir("recv", "t/events", *there, "--limit", "30", "--json", env=nowhere)
    assert first.code == 0 and "30 records" in first.err
    rest = bench.weir("recv", "events", *there, "--json", env=nowhere)
    assert len(set(ids(first.out) + ids(rest.out))) == 100
    told = bench.weir("recv", "t/local", *there, env=nowhere)
    assert told.code == 2 and "listens for nobody elsewhere" in told.err
    told = bench.weir("recv", "t/in", *there, env=nowhere)
    assert told.code == 2 and "no bus" in told.err
    bench.weir(*allow, "control")
    recv = ["recv", "t/events", *there, "--timeout", "1s"]
    told = wait_for(lambda: [run for run in [bench.weir(*recv, env=nowhere)] if run.code],
                    "the refusal")[0]
    assert told.code == 1 and "role consume" in told.err
    live.stop()


def test_recv_tells_what_is_wrong(bench):
    live, _ = begin(bench, 1)
    for words, told in ((["t/event"], "did you mean 'events'?"),
                        (["t/in"], "no bus with a store"),
                        (["t"], "which bus? Write t/BUS"),
                        (["t/events", "--where", "n = 1"], "--where: column 3"),
                        (["t/events", "--group", "a b"], "group"),
                        (["t/events", "--limit", "0"], "--limit"),
                        (["t/events", "--plaintext"], "--plaintext"),
                        (["t/events", "--keys", "k"], "--keys: only with --control"),
                        (["t/events", "--server", "t"], "--server: only with --control"),
                        (["tcp://127.0.0.1:1", "--control", "tcp://127.0.0.1:1"],
                         "--control: only of a bus"),
                        (["tcp://127.0.0.1:1", "--follow"], "--follow")):
        run = bench.weir("recv", *words)
        assert run.code in (1, 2) and told in run.err, (words, run.err)
    live.stop()
