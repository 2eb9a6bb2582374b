"""source.zmq and sink.zmq with real peers (pyzmq): each type of socket, frames, gaps,
replies, pressure, bad input, the end."""
import json
import os
import stat
import struct

import msgpack
import pytest
import zmq
from helper import SANITIZED, count_rows, objects, rows, wait_for

MB = 1 << 20


class Peers:
    """Sockets of a test, closed behind it. at(name) is an ipc endpoint in its folder."""

    def __init__(self, bench):
        self.bench, self.context = bench, zmq.Context()
        self.sockets = []  # one that nobody holds would be closed

    def at(self, name):
        """An endpoint; a topology of the same folder calls it by the same text."""
        return "ipc://%s" % self.bench.path(name)

    def open(self, kind, name, bind=False, **options):
        """A socket of that kind, connected to (or bound at) an endpoint."""
        sock = self.context.socket(kind)
        sock.linger = 0
        sock.rcvtimeo = sock.sndtimeo = 60000 if SANITIZED else 20000
        for option, value in options.items():
            setattr(sock, option, value)
        where = name if "://" in name else self.at(name)
        (sock.bind if bind else sock.connect)(where)
        self.sockets.append(sock)
        return sock

    def close(self):
        """Ends all of them."""
        self.context.destroy(linger=0)


@pytest.fixture(name="peers")
def fresh_peers(bench):
    """Peers with a context of their own."""
    peers = Peers(bench)
    yield peers
    peers.close()


def source(peers, kind, options="", end="listen", name="in"):
    """A source.zmq at ipc NAME."""
    return 'source.zmq "in" { type = %s, %s = "%s", %s }\n' % (kind, end, peers.at(name),
                                                               options)


OUT = 'sink.file "out" { from = "%s", path = "out.ndjson", fsync = never }\n'
TELL = """process "p" { from = "in", each = function (r)
  local m = meta (r)
  local headers = {}
  for name, value in pairs (m.headers or {}) do headers[name] = value end
  return { key = m.key, headers = headers, raw = raw (r), source = m.source, peer = m.peer }
end }
""" + OUT % "p"


def start(bench, text, *words):
    """A topology that is ready."""
    live = bench.start(text, *words)
    live.wait_ready()
    return live


def wait_rows(bench, count, name="out.ndjson"):
    """The lines of a file, once there are so many."""
    wait_for(lambda: count_rows(bench.path(name)) >= count, "%d rows" % count)
    return rows(bench.path(name))


# --- what comes in ----------------------------------------------------------------------

def test_pull_takes_each_message_as_a_record(bench, peers):
    live = start(bench, source(peers, "pull") + OUT % "in")
    push = peers.open(zmq.PUSH, "in")
    sent = [json.dumps({"n": n}).encode() for n in range(5000)]
    for payload in sent:
        push.send(payload)
    assert wait_rows(bench, 5000) == sent
    run = live.stop()
    assert run.node("in")["in"] == run.node("in")["done"] == 5000


def test_two_frames_are_key_and_payload(bench, peers):
    live = start(bench, source(peers, "pull") + TELL)
    push = peers.open(zmq.PUSH, "in")
    push.send_multipart([b"k1", b'{"a":1}'])
    push.send_multipart([b"", b'{"a":2}'])
    push.send(b'{"a":3}')
    wait_rows(bench, 3)
    live.stop()
    assert [(r.get("key"), r["raw"]) for r in objects(bench.path("out.ndjson"))] == \
        [("k1", '{"a":1}'), ("", '{"a":2}'), (None, '{"a":3}')]
    assert objects(bench.path("out.ndjson"))[0]["source"] == "in"


def test_a_source_connects_to_several_peers(bench, peers):
    one, two = (peers.open(zmq.PUSH, name, bind=True) for name in ("one", "two"))
    live = start(bench, 'source.zmq "in" { type = pull, connect = { "%s", "%s" } }\n'
                 % (peers.at("one"), peers.at("two")) + OUT % "in")
    one.send(b'{"from":1}')
    two.send(b'{"from":2}')
    assert sorted(wait_rows(bench, 2)) == [b'{"from":1}', b'{"from":2}']
    live.stop()


def test_sub_takes_the_topics_it_has_asked_for(bench, peers):
    pub = peers.open(zmq.XPUB, "pub", bind=True)
    live = start(bench, source(peers, "sub", 'topics = { "cpu.", "mem." }', "connect", "pub")
                 + TELL)
    assert {pub.recv(), pub.recv()} == {b"\1cpu.", b"\1mem."}
    for topic in (b"cpu.1", b"disk.1", b"mem.7"):
        pub.send_multipart([topic, b'{"v":1}'])
    wait_rows(bench, 2)
    live.stop()
    got = objects(bench.path("out.ndjson"))
    assert [r["headers"] for r in got] == [{"topic": "cpu.1"}, {"topic": "mem.7"}]
    assert [r["key"] for r in got] == ["cpu.1", "mem.7"]


def test_frames_are_mapped_by_name(bench, peers):
    live = start(bench, source(
        peers, "pull", 'frames = { "topic", "key", "headers", "skip", "payload" }') + TELL)
    push = peers.open(zmq.PUSH, "in")
    push.send_multipart([b"t", b"k", b'{"a":[1,null]}', b"?", b'{"n":1}'])
    push.send_multipart([b"t", b"k", msgpack.packb({"b": True}), b"?",
                         msgpack.packb({"n": 2})])
    push.send_multipart([b"t", b"k", b"", b"?", b'{"n":3}'])
    wait_rows(bench, 3)
    live.stop()
    got = objects(bench.path("out.ndjson"))
    assert [r["headers"] for r in got] == [{"a": [1, None], "topic": "t"},
                                           {"b": True, "topic": "t"}, {"topic": "t"}]
    assert {r["key"] for r in got} == {"k"}


def test_framing_cuts_a_payload_into_records(bench, peers):
    live = start(bench, source(peers, "pull", "framing = ndjson") + TELL)
    push = peers.open(zmq.PUSH, "in")
    push.send_multipart([b"k", b'{"n":1}\n\n{"n":2}\n{"n":3}'])
    push.send_multipart([b"k", b"\n\n"])
    push.send_multipart([b"q", b'{"n":4}'])
    wait_rows(bench, 4)
    run = live.stop()
    assert [(r["key"], r["raw"]) for r in objects(bench.path("out.ndjson"))] == \
        [("k", '{"n":1}'), ("k", '{"n":2}'), ("k", '{"n":3}'), ("q", '{"n":4}')]
    assert run.node("in")["in"] == 4


# --- gaps -------------------------------------------------------------------------------

def test_gaps_of_a_sequence_frame_are_counted_by_topic(bench, peers):
    pub = peers.open(zmq.XPUB, "pub", bind=True)
    live = start(bench, source(peers, "sub", 'frames = { "topic", "sequence", "payload" }',
                               "connect", "pub") + OUT % "in")
    pub.recv()
    for topic, number in [(b"a", 1), (b"a", 2), (b"b", 50), (b"a", 6), (b"b", 51), (b"a", 1)]:
        pub.send_multipart([topic, struct.pack(">Q", number), b"{}"])
    wait_rows(bench, 6)
    live.wait_log("gap .*missing=3")
    assert live.stop().node("in")["gaps"] == 3


def test_gaps_of_a_field_are_counted_by_sender(bench, peers):
    live = start(bench, source(peers, "router", 'sequence = "head.seq"') + OUT % "in")
    one, two = peers.open(zmq.DEALER, "in"), peers.open(zmq.DEALER, "in")
    for n in (1, 2, 5):
        one.send(b'{"head":{"seq":%d}}' % n)
        two.send(b'{"head":{"seq":%d}}' % (7 * n))
        two.send(msgpack.packb({"head": {"seq": 7 * n + 1}}))
    one.send(b'{"head":{}}')
    one.send(b"no json")
    wait_for(lambda: len(bench.dead()) + count_rows(bench.path("out.ndjson")) >= 11, "records")
    assert live.stop(code=None).node("in")["gaps"] == 2 + 5 + 19


# --- replies ----------------------------------------------------------------------------

def relay(peers, options=""):
    """REQ -> Weir -> REP, acknowledged from end to end."""
    return source(peers, "router") + \
        'sink.zmq "out" { from = "in", type = dealer, reply = safe, connect = "%s", %s }' \
        % (peers.at("out"), options)


def test_a_req_is_answered_when_its_record_is_safe_and_not_before(bench, peers):
    rep = peers.open(zmq.REP, "out", bind=True)
    live = start(bench, relay(peers))
    req = peers.open(zmq.REQ, "in")
    for n in range(5):
        req.send(b'{"n":%d}' % n)
        assert rep.recv() == b'{"n":%d}' % n
        assert req.poll(50) == 0
        rep.send(b"fine")
        assert req.recv() == b""
    run = live.stop()
    assert run.node("in")["done"] == run.node("out")["done"] == 5


def test_a_dealer_gets_its_own_envelopes_back_in_order(bench, peers):
    live = start(bench, source(peers, "router") + OUT % "in")
    dealer, other = peers.open(zmq.DEALER, "in"), peers.open(zmq.DEALER, "in")
    for n in range(300):
        dealer.send_multipart([b"%d" % n, b"more", b"", b'{"n":%d}' % n])
        other.send(b'{"other":%d}' % n)
    assert [dealer.recv_multipart() for _ in range(300)] == \
        [[b"%d" % n, b"more", b"", b""] for n in range(300)]
    wait_rows(bench, 600)
    live.stop()
    assert other.poll(0) == 0, "without an envelope nothing is answered"


def test_a_dead_letter_is_safe_and_answered(bench, peers):
    live = start(bench, source(peers, "router", 'frames = { "headers", "payload" }')
                 + OUT % "in")
    req = peers.open(zmq.REQ, "in")
    req.send_multipart([b"[1]", b"{}"])
    assert req.recv() == b""
    assert [d["reason"] for d in bench.dead()] == ["parse"]
    live.stop(code=3)


def test_reply_none_answers_nobody(bench, peers):
    live = start(bench, source(peers, "router", "reply = none") + OUT % "in")
    dealer = peers.open(zmq.DEALER, "in")
    dealer.send_multipart([b"", b"{}"])
    wait_rows(bench, 1)
    live.stop()
    assert dealer.poll(0) == 0


def test_a_framed_message_is_answered_behind_its_last_record(bench, peers):
    rep = peers.open(zmq.REP, "out", bind=True)
    live = start(bench, relay(peers).replace("router,", "router, framing = ndjson,"))
    req = peers.open(zmq.REQ, "in")
    req.send(b'{"n":1}\n{"n":2}\n')
    assert rep.recv() == b'{"n":1}'
    rep.send(b"")
    assert rep.recv() == b'{"n":2}'
    assert req.poll(50) == 0
    rep.send(b"")
    assert req.recv() == b""
    req.send(b"\n\n")
    assert req.recv() == b"", "a message without a record is answered, too"
    live.stop()


def test_what_is_not_answered_is_sent_again(bench, peers):
    live = start(bench, relay(peers, 'timeout = "200ms"'))
    router = peers.open(zmq.ROUTER, "out", bind=True)
    push = peers.open(zmq.DEALER, "in")
    for n in range(20):
        push.send(b'{"n":%d}' % n)
    first = [router.recv_multipart() for _ in range(20)]
    router.close()  # without an answer
    router = peers.open(zmq.ROUTER, "out", bind=True)
    seen, answered = set(), set()
    while len(answered) < 20:
        peer, number, empty, payload = router.recv_multipart()
        assert empty == b""
        seen.add(payload)
        answered.add(number)
        router.send_multipart([peer, number, b"", b"ok"])
    assert seen == {frames[3] for frames in first}
    run = live.stop()
    assert run.node("out")["done"] == 20 and run.node("out")["retries"] >= 20


def test_answers_that_are_none_of_ours_are_passed_over(bench, peers):
    router = peers.open(zmq.ROUTER, "out", bind=True)
    live = start(bench, relay(peers))
    req = peers.open(zmq.REQ, "in")
    req.send(b"{}")
    peer, number, _, _ = router.recv_multipart()
    for wrong in ([b""], [b"x"], [number], [number, b"x"],
                  [struct.pack(">Q", 99), b"", b""], [struct.pack(">Q", 0), b""],
                  [b"\xff" * 8, b""], [b"a"] * 40):
        router.send_multipart([peer] + wrong)
    assert req.poll(100) == 0
    router.send_multipart([peer, number, b"", b"a", b"b"])
    router.send_multipart([peer, number, b"", b"again"])
    assert req.recv() == b""
    assert live.stop().node("out")["done"] == 1


# --- what goes out ----------------------------------------------------------------------

def test_push_sends_each_record_as_a_message(bench, peers):
    bench.write("in.ndjson", [{"n": n} for n in range(3000)])
    pull = peers.open(zmq.PULL, "out", bind=True, rcvhwm=0)
    run = bench.run('source.file "in" { path = "in.ndjson", at_end = stop }\n'
                    'sink.zmq "out" { from = "in", type = push, connect = "%s" }'
                    % peers.at("out"))
    assert [json.loads(pull.recv())["n"] for _ in range(3000)] == list(range(3000))
    assert run.node("out")["done"] == 3000


def test_pub_sends_a_topic_made_of_fields(bench, peers):
    live = start(bench, source(peers, "pull") +
                 'sink.zmq "out" { from = "in", type = pub, listen = "%s", '
                 'topic = "logs.{host}.{level}" }' % peers.at("out"))
    sub, push = peers.open(zmq.SUB, "out"), peers.open(zmq.PUSH, "in")
    sub.subscribe(b"logs.web")

    def arrives():
        push.send(b'{"host":"web","level":0}')
        return sub.poll(20)
    wait_for(arrives, "the subscription to reach the publisher")
    push.send(b'{"host":"db","level":1}')
    push.send(b'{"host":"web2","level":2}')
    push.send(b'{"host":[]}')
    got = [sub.recv_multipart()]
    while got[-1][0] != b"logs.web2.2":
        got.append(sub.recv_multipart())
    assert {topic for topic, _ in got} == {b"logs.web.0", b"logs.web2.2"}
    wait_for(lambda: count_rows(bench.state / "dead.ndjson"), "the dead letter")
    assert "neither text, integer nor boolean" in bench.dead()[0]["error"]
    assert live.stop(code=3).node("out")["dead"] == 1


def test_a_message_goes_through_two_weirs_as_it_was(bench, peers):
    frames = 'frames = { "key", "topic", "headers", "sequence", "payload" }'
    live = start(bench, source(peers, "pull", 'frames = { "topic", "key", "headers", "payload" }')
                 + 'sink.zmq "to" { from = "in", type = push, listen = "%s", %s }\n'
                   'source.zmq "again" { type = pull, connect = "%s", %s }\n'
                 % (peers.at("mid"), frames, peers.at("mid"), frames)
                 + TELL.replace('"in"', '"again"'))
    push = peers.open(zmq.PUSH, "in")
    push.send_multipart([b"t1", b"k1", b'{"h":1}', b'{"n":1}'])
    push.send_multipart([b"t2", b"k2", b"", b'{"n":2}'])
    wait_rows(bench, 2)
    run = live.stop()
    got = objects(bench.path("out.ndjson"))
    assert [r["key"] for r in got] == ["k1", "k2"]
    assert [r["headers"] for r in got] == [{"h": 1, "topic": "t1"}, {"topic": "t2"}]
    assert [r["raw"] for r in got] == ['{"n":1}', '{"n":2}']
    assert run.node("again")["gaps"] == 0


# --- pressure ---------------------------------------------------------------------------

def test_a_sink_without_a_peer_makes_the_pusher_wait(bench, peers):
    live = start(bench, 'settings { window = "1MB", block = "16KB" }\n'
                 + source(peers, "pull", "hwm = 50") +
                 'sink.zmq "out" { from = "in", type = push, listen = "%s", hwm = 50 }'
                 % peers.at("out"))
    push = peers.open(zmq.PUSH, "in", sndhwm=10, sndbuf=10000)
    before, sent, payload = live.vm("VmRSS"), 0, b'"' + b"x" * 10000 + b'"'
    while push.poll(500, zmq.POLLOUT):
        push.send(payload)
        sent += 1
        assert sent < 20000, "nothing holds the sender back"
    assert sent * 10000 > 1 * MB
    assert live.vm("VmRSS") - before < 24 * MB
    pull = peers.open(zmq.PULL, "out")
    assert all(pull.recv() == payload for _ in range(sent))
    run = live.stop()
    assert run.node("out")["done"] == sent


def test_a_dealer_asks_no_more_than_hwm_questions(bench, peers):
    router = peers.open(zmq.ROUTER, "out", bind=True)
    live = start(bench, relay(peers, "hwm = 5"))
    push = peers.open(zmq.DEALER, "in")
    for n in range(12):
        push.send(b'{"n":%d}' % n)
    asked = [router.recv_multipart() for _ in range(5)]
    assert router.poll(100) == 0
    for peer, number, _, _ in reversed(asked):
        router.send_multipart([peer, number, b"", b""])
    for n in range(5, 12):
        peer, number, _, payload = router.recv_multipart()
        assert payload == b'{"n":%d}' % n
        router.send_multipart([peer, number, b"", b""])
    wait_for(lambda: live.running(), "it to run")
    assert live.stop().node("out")["done"] == 12


# --- bad input --------------------------------------------------------------------------

BAD = [[b"a", b"b", b"c"], [b"[1]", b"{}"], [b"\x81", b"{}"], [b"{", b"{}"],
       [b"x"] * 500, [b""]]


def send_bad(peers):
    """Bad messages, then a good one."""
    push = peers.open(zmq.PUSH, "in")
    for frames in BAD:
        push.send_multipart(frames)
    push.send_multipart([b"{}", b'{"good":1}'])
    return push


def test_bad_messages_become_dead_letters(bench, peers):
    live = start(bench, source(peers, "pull", 'frames = { "headers", "payload" }') + OUT % "in")
    send_bad(peers)
    assert wait_rows(bench, 1) == [b'{"good":1}']
    run = live.stop(code=3)
    dead = bench.dead()
    assert [d["reason"] for d in dead] == ["parse"] * len(BAD)
    assert dead[0]["text"] == '["a","b","c"]'
    assert "not as many frames" in dead[0]["error"] and "headers" in dead[1]["error"]
    assert "more than 16 frames" in dead[4]["error"]
    assert run.node("in")["malformed"] == run.node("in")["dead"] == len(BAD)
    assert 1 <= live.text().count("malformed") <= 3, "told once a burst"


def test_bad_messages_may_be_dropped(bench, peers):
    live = start(bench, source(
        peers, "pull", 'frames = { "headers", "payload" }, parse_error = drop') + OUT % "in")
    send_bad(peers)
    assert wait_rows(bench, 1) == [b'{"good":1}']
    run = live.stop()
    assert run.node("in")["skipped"] == len(BAD) and bench.dead() == []


def test_a_path_that_stops_counts_what_it_gives_up(bench, peers):
    live = start(bench, source(peers, "pull", "format = msgpack, parse_error = stop")
                 + OUT % "in")
    push = peers.open(zmq.PUSH, "in")
    push.send(msgpack.packb({"n": 1}))
    wait_rows(bench, 1)  # it is written, and maybe not acknowledged yet
    push.send(b"no map")
    live.wait_log("given up node=in records=[12]")
    live.wait_log("listening", count=2)
    push.send(msgpack.packb({"n": 2}))
    wait_rows(bench, 2)
    node = live.stop().node("in")
    assert node["shed"] in (1, 2) and node["done"] + node["shed"] == 3


def test_oversize_payloads_become_dead_letters_and_larger_ones_cut_the_connection(bench, peers):
    live = start(bench, 'settings { record_max = "64KB" }\n' + source(peers, "pull") + OUT % "in")
    push, rude = peers.open(zmq.PUSH, "in"), peers.open(zmq.PUSH, "in")
    push.send(b"x" * 100000)
    wait_for(lambda: count_rows(bench.state / "dead.ndjson"), "the dead letter")
    rude.send(b"x" * (17 * MB))
    push.send(b'{"good":1}')
    assert wait_rows(bench, 1) == [b'{"good":1}']
    run = live.stop(code=3)
    assert [d["reason"] for d in bench.dead()] == ["oversize"]
    assert run.node("in")["in"] == 2


def test_a_flood_of_large_bad_messages_keeps_memory_bounded(bench, peers):
    live = start(bench, source(peers, "pull", 'frames = { "key", "payload" }') + OUT % "in")
    push = peers.open(zmq.PUSH, "in", sndhwm=20)
    before = live.vm("VmRSS")
    for _ in range(600):
        push.send(b"x" * 60000)
    push.send_multipart([b"k", b"{}"])
    wait_rows(bench, 1)
    assert live.vm("VmHWM") - before < (600 if SANITIZED else 100) * MB
    assert live.stop(code=3).node("in")["dead"] == 600


def test_check_names_what_does_not_fit(bench):
    errors = bench.refused("""
source.zmq "a" { type = pull }
source.zmq "b" { type = pull, listen = "tcp://*:5", topics = "x" }
source.zmq "c" { type = sub, connect = "tcp://h:1" }
source.zmq "d" { type = router, listen = "ipc://d", sequence = "n", frames = { "sequence", "payload" } }
source.zmq "e" { type = pull, listen = "inproc://e" }
sink.zmq "f" { from = { "a", "b" }, type = push, listen = "ipc://f", frames = { "skip", "payload" } }
sink.zmq "g" { from = { "c", "d", "e" }, type = pub, listen = "ipc://g", topic = "{", reply = none }
sink.zmq "h" { from = "a", type = push, listen = "ipc://h", reply = safe }""")
    expected = ["'listen': give either", "'topics': only type = sub", "`server`, or say",
                "'sequence': `frames` names", "expected tcp:// or ipc://", "'frames': \"skip\"",
                "'topic': a '{' without", "'reply': only type = dealer"]
    assert len(errors) == len(expected)
    for number, (error, text) in enumerate(zip(errors, expected), 2):
        assert error.startswith("t.lua:%d: " % number) and text in error


def test_an_endpoint_that_is_taken_is_an_error(bench, peers):
    taken = peers.open(zmq.PULL, "tcp://127.0.0.1:0", bind=True).last_endpoint.decode()
    run = bench.weir("run", bench.topology(
        'source.zmq "in" { type = pull, listen = "%s", plaintext = true }\n' % taken
        + OUT % "in"))
    assert run.code == 1 and "in: cannot listen: Address already in use" in run.err


# --- the rest ---------------------------------------------------------------------------

def test_sigterm_takes_what_has_come_and_ends_clean(bench, peers):
    live = start(bench, source(peers, "pull") + OUT % "in")
    push = peers.open(zmq.PUSH, "in")
    for n in range(20000):
        push.send(b'{"n":%d}' % n)
    push.send(b'{"last":1}')
    wait_rows(bench, 1)
    wait_for(lambda: push.poll(0, zmq.POLLOUT), "room")
    run = live.stop()
    got = rows(bench.path("out.ndjson"))
    assert got == [b'{"n":%d}' % n for n in range(20000)][:len(got)] or got[-1] == b'{"last":1}'
    assert run.node("in")["in"] == len(got)


def test_until_idle_ends_when_nothing_comes(bench, peers):
    live = bench.start(source(peers, "pull") + OUT % "in", "--until-idle")
    push = peers.open(zmq.PUSH, "in")
    push.send(b"{}")
    run = live.wait()
    assert run.node("in")["done"] == 1


def test_tcp_in_plaintext_is_warned_about(bench, peers):
    live = start(bench, 'source.zmq "in" { type = pull, listen = "tcp://127.0.0.1:*", '
                        'plaintext = true }\n' + OUT % "in")
    live.wait_log("warn .*plaintext endpoint=tcp://127.0.0.1:")
    port = live.text().split("listening endpoint=")[1].split()[0]
    peers.open(zmq.PUSH, port).send(b"{}")
    wait_rows(bench, 1)
    live.stop()


def test_an_ipc_socket_is_for_its_owner(bench, peers):
    live = start(bench, source(peers, "pull") + OUT % "in")
    assert stat.S_IMODE(os.stat(bench.path("in")).st_mode) == 0o600
    live.stop()


def test_it_sleeps_when_nothing_comes(bench, peers):
    rep = peers.open(zmq.REP, "out", bind=True)
    live = start(bench, relay(peers))
    req = peers.open(zmq.REQ, "in")
    req.send(b"{}")
    rep.recv()
    rep.send(b"")
    req.recv()
    before = live.cpu_seconds()
    assert req.poll(700) == 0
    assert live.cpu_seconds() - before <= (0.3 if SANITIZED else 0.05)
    live.stop()
