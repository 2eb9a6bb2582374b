"""Peers that break the protocol, on purpose or not: weir lives, its memory is bounded, a
well-behaved sender at the same time is not disturbed, the refusal is logged once."""
import collections
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
import zmq

from helper import SANITIZED, chance, objects, wait_for
from links import SECURITY, Keys, Producer, Raw, into_file, numbers, weir_link
from ports import free_port
from weir_link import (ACK, BARRIER, BLOCK, CREDIT, HELLO, NACK, NEED, TOKEN, VERSION,
                       WELCOME, encode, open_socket, pack)

MB = 1 << 20


class Victim:
    """A weir that listens, and a well-behaved sender that looks in between."""

    def __init__(self, bench, secure=False, more=""):
        self.bench, self.sent = bench, 0
        self.port = free_port()
        self.endpoint = "tcp://127.0.0.1:%d" % self.port
        self.curve = None
        if secure:
            hub, shop = Keys(bench, "hub"), Keys(bench, "good")
            hub.allow(shop)
            self.curve = shop.curve(hub)
            text = SECURITY % hub.folder + into_file(self.endpoint)
        else:
            text = into_file(self.endpoint, ", plaintext = true" + more)
        self.live = bench.start(text)
        self.live.wait_ready()
        self.producer = Producer(self.endpoint, "good", curve=self.curve)
        self.send()
        self.rss, self.files = self.live.vm("VmRSS"), self.open_files()

    def open_files(self):
        """How many descriptors weir has."""
        return len(os.listdir("/proc/%d/fd" % self.live.pid))

    def send(self, count=200, seconds=5):
        """The good sender's next records, which must be safe within the time."""
        self.producer.send(numbers(self.sent, count), seconds)
        self.sent += count
        self.producer.flush(seconds)

    def newcomer(self, seconds=5):
        """Another good sender gets in, and its record through."""
        other = Producer(self.endpoint, "good", curve=self.curve)
        other.send(['{"id":-1}'])
        other.flush(seconds)
        other.close()

    def end(self, refusal=None, most_mb=32, times=1):
        """Checks everything, and ends it. refusal: what was logged, `times` times."""
        self.newcomer()
        self.send()
        assert self.producer.connects == 1
        grown = self.live.vm("VmHWM") - self.rss
        assert SANITIZED or grown < most_mb * MB, "%d MB more" % (grown / MB)
        if refusal:
            found = re.findall(r"link closed peer=127\.0\.0\.1 .*%s.*" % refusal, self.live.text())
            assert len(found) == times, self.live.text()
        self.producer.close()
        self.live.stop()
        got = [record["id"] for record in objects(self.bench.path("out.ndjson"))]
        assert [i for i in got if 0 <= i < 10**9] == list(range(self.sent))


@pytest.fixture(name="victim")
def plaintext_victim(bench):
    """Without CURVE: everybody gets as far as HELLO."""
    return Victim(bench)


@pytest.fixture(name="raws")
def many_raws(victim):
    """Makes connections, and closes them."""
    opened = []

    def connect(hello=True, **more):
        raw = Raw(victim.endpoint, **more)
        opened.append(raw)
        if hello:
            assert raw.hello(session=10**6 + len(opened))[0] == VERSION
        return raw
    yield connect
    for raw in opened:
        raw.close()


# --- Messages -----------------------------------------------------------------

GOOD = [pack(HELLO, 1, "raw", "out", 77, {"base": 1}),
        pack(BLOCK, 1, 1, None, {"o": [[1, "a", "b", "c"]]}),
        pack(BARRIER, 1, 1, 0, 0), pack(NEED, 1000), pack(TOKEN, 1, 1, 0)]

NONE_OF_OURS = [
    b"", b"\x00", b"\xc1", b"\x90", b"\x91\x01", b"hello", b"\x93\x05\x01", b"\x93\x0b\x01\x00",
    b"\xdd\xff\xff\xff\xff\x01", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\x96\x03\x01\x01\xc0\xdf\xff\xff\xff\xff\x00", b"\x91" * 60000,
    b"\x96\x03\x01\x01\xc0\x81\xa1x" + b"\x91" * 200 + b"\x00",
    b"\x96\x03\x01\x01\xc0\x81\xa1o\xdd\x7f\xff\xff\xff\x00",
    pack(NEED, -1), pack(NEED, 1.5), pack(NEED, "1"), pack(TOKEN, 1, 1 << 33, 0),
    pack(BLOCK, 1, 0, None, {}), pack(BLOCK, 1, 1 << 33, None, {}), pack(BLOCK, 1, 1, None, []),
    pack(BLOCK, 1, 1, None, {"o": [[2, None, None, None]]}),
    pack(BLOCK, 1, 1, None, {"o": [[1, None, None]]}),
    pack(BLOCK, 300, 300, None, {"o": [[1, None, None, None]] * 300}),
    pack(BLOCK, 1, 1, None, {"o": [[1, "x" * 1025, None, None]]}),
    pack(BLOCK, 1, 1, None, {"fill": "x" * 70000}),
    pack(NEED, 1, 2), pack(HELLO, 1, "raw", "out", 77, {}, 1), pack(NEED, 1) + b"\x00",
]


def test_what_is_none_of_ours_ends_the_connection(victim, raws):
    random = chance("noise")
    noise = [b"\xc1" + random.randbytes(random.randrange(2000)) for _ in range(20)]
    for frame in NONE_OF_OURS + noise:
        assert raws(hello=False).say(frame).closed_with() == "MALFORMED", frame[:20]
        assert raws().say(frame).closed_with() == "MALFORMED", frame[:20]
    victim.end("code=MALFORMED")


def test_wrong_numbers_of_frames_end_the_connection(victim, raws):
    body = encode("{}")
    for frames in ([GOOD[1]], [GOOD[1], body, b""], [GOOD[3], b""], [b"", GOOD[3]],
                   [GOOD[4]] * 50):
        assert raws().say(*frames).closed_with() == "MALFORMED"
    victim.end("code=MALFORMED")


def test_altered_messages_do_no_harm(victim):
    """Bytes of good messages are changed, cut and doubled; what comes of it is open."""
    random = chance("alterations")
    raw = Raw(victim.endpoint)
    for i in range(3000):
        frames = [random.choice(GOOD)] + ([encode('{"id":-9}')] if random.randrange(3) == 0 else [])
        data = bytearray(frames[0])
        for _ in range(random.randrange(1, 3)):
            at = random.randrange(len(data))
            data[at:at + random.randrange(3)] = random.randbytes(random.randrange(3))
            data = data or bytearray(b"\x00")
        if i % 20 == 0:
            raw.socket.linger = 100
            raw.close()
            raw = Raw(victim.endpoint, patience=0.2)
            raw.say(GOOD[0])
        try:
            raw.socket.send_multipart([bytes(data)] + frames[1:], zmq.NOBLOCK)
        except zmq.Again:           # it was ended already
            pass
    raw.close()
    log = victim.live.text()
    for code in set(re.findall(r"code=([A-Z_]+)", log)):
        assert len(re.findall("link closed peer=127.0.0.1 .*code=%s " % code, log)) == 1
    victim.end()


def test_bodies_that_are_not_what_their_header_says(victim, raws):
    one = encode('{"id":1}')
    for count, body in ((2, one), (1, one + one), (1, one[:-1]), (1, one + b"\xc0"), (1, b""),
                        (1, b"\x93\xc0\xc0\xa0"), (1, b"\x94\xc0\xc0\x01\xc0"),
                        (1, b"\x94\xc0\xa1\xff\xa0\xc0"), (1, b"\x94\xa0\xc0\xa0\xc0"),
                        (1, b"\x94\xc0\xc0\x81\xa1a" + b"\x91" * 100 + b"\xc0\xc0"),
                        (1, b"\xdd\xff\xff\xff\xff"), (1000000, one), (1, os.urandom(5000))):
        raw = raws().say(pack(BLOCK, 1, count, None, {}), body)
        assert raw.closed_with() == "MALFORMED", (count, body[:20])
    victim.end("code=MALFORMED")


def test_more_than_was_granted_ends_the_connection(victim, raws):
    """A hundred megabytes are sent whatever the credit; they are not kept."""
    raw = raws(patience=1)
    body = encode(b"x" * MB)
    for sequence in range(1, 100):
        try:
            raw.say(pack(BLOCK, sequence, 1, None, {}), body)
        except zmq.Again:
            break
    victim.live.wait_log("code=OVERRUN")    # whether CLOSE gets through all that is open
    victim.end("code=OVERRUN", most_mb=64)


def test_more_tokens_than_there_may_be(bench):
    """Nothing behind this weir is ever safe, since its reader is away."""
    inlet, away = "ipc://%s" % bench.path("in"), "ipc://%s" % bench.path("away")
    live = bench.start('supervise { drain = "100ms" }\nsource.link "in" { listen = "%s" }\n'
                       'sink.link "up" { from = "in", connect = "%s" }\n' % (inlet, away))
    live.wait_ready()
    raw = Raw(inlet)
    raw.hello()
    raw.block(1, numbers(1, 1))
    for sequence in range(2, 19):
        raw.say(pack(TOKEN, sequence, 1, 0))
    assert raw.closed_with() == "OVERRUN"
    raw.close()
    live.wait_log("code=OVERRUN text=\"more than 16 tokens")
    live.stop(code=None)


def test_a_block_that_nobody_could_take(victim, raws):
    assert raws().say(pack(NEED, 100 * MB)).closed_with() == "TOO_LARGE"
    assert raws().say(pack(NEED, 2**64 - 1)).closed_with() == "TOO_LARGE"
    victim.end("code=TOO_LARGE")


def test_sequences_in_any_order_come_out_in_order(victim, raws):
    """Blocks are doubled, skipped and swapped; after each NACK the sender begins again."""
    random = chance("order")
    raw, last, total = raws(hello=False), 0, 200
    raw.socket.rcvtimeo = 20
    raw.say(pack(HELLO, 1, "raw", "out", 5, {}))
    while last < total:
        run = list(range(last + 1, min(last + 30, total) + 1))
        run.insert(random.randrange(len(run) + 1), random.randrange(1, total + 1))
        swap = random.randrange(len(run))
        run[swap], run[-1] = run[-1], run[swap]
        for sequence in run + run[:3]:
            raw.block(sequence, numbers(10**9 + sequence, 1))
        try:
            while True:
                kind, fields = raw.hear()
                assert kind in (WELCOME, ACK, NACK, CREDIT)
                if kind in (ACK, WELCOME):
                    last = max(last, fields[0 if kind == ACK else 2])
                if kind == NACK:
                    raw.say(pack(HELLO, 1, "raw", "out", 5, {}))
        except zmq.Again:
            pass
    victim.end()
    got = [r["id"] - 10**9 for r in objects(victim.bench.path("out.ndjson"))]
    assert [i for i in got if i > 0] == list(range(1, total + 1))


# --- Sessions -----------------------------------------------------------------

def test_thousands_of_sessions_over_one_connection(victim, raws):
    """Those that nobody uses make room, and what they were granted comes back."""
    raw = raws(hello=False)
    for session in range(1, 6001):
        raw.say(pack(HELLO, 1, "raw", "out", session, {"base": 2}))
    for _ in range(6000):
        kind, fields = raw.hear()
        assert kind == WELCOME and fields[2] == 0
    fresh = raws(hello=False)
    credit, size = fresh.hello(session=9999)[1], 60000
    assert credit == 256 << 10                      # as much as ever
    for sequence in range(1, 21):
        record = '{"id":%d,"fill":"%s"}' % (10**9 + sequence, "x" * size)
        fresh.block(sequence, [record])
        credit -= len(encode(record)) + 560
        while fresh.socket.poll(0) or credit < size + 1000:
            kind, fields = fresh.hear()
            credit += fields[0] if kind == CREDIT else 0
    wait_for(lambda: fresh.socket.poll(0), "the last ones are answered")
    while fresh.socket.poll(100):
        kind, fields = fresh.hear()
        credit += fields[0] if kind == CREDIT else 0
    assert credit > 300 << 10                       # and it grows
    victim.end(most_mb=32)


def test_thousands_of_sessions_over_as_many_connections(victim):
    sockets = []
    for session in range(1, 1001):
        sockets.append(Raw(victim.endpoint))
        sockets[-1].say(pack(HELLO, 1, "raw-%d" % session, "out", session, {}))
        if len(sockets) == 100:
            for raw in sockets:
                assert raw.hear()[0] == WELCOME
                raw.close()
            sockets = []
    wait_for(lambda: victim.open_files() < victim.files + 10, "descriptors come back")
    victim.end(most_mb=32)


# --- Bytes below the protocol ---------------------------------------------------

GREETING = (b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31))
CURVE_GREETING = GREETING.replace(b"NULL ".strip().ljust(20, b"\0"), b"CURVE".ljust(20, b"\0"))
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"

GARBAGE = [b"", b"\0", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
           b"*1\r\n$4\r\nPING\r\n", GREETING[:1], GREETING[:11], GREETING[:40], GREETING,
           CURVE_GREETING, CURVE_GREETING + b"\x04\xc8\x05HELLO" + bytes(194),
           CURVE_GREETING + b"\x06" + b"\xff" * 8, GREETING + READY[:9],
           GREETING + b"\x06" + (1 << 40).to_bytes(8, "big"), b"\x01\x00", b"\xff" * 300]


def dial(victim, source="127.0.0.1"):
    """A TCP connection from that address."""
    plug = socket.socket()
    plug.settimeout(5)
    plug.bind((source, 0))
    plug.connect(("127.0.0.1", victim.port))
    return plug


def zmtp(victim):
    """A connection whose hands are shaken, without CURVE."""
    plug = dial(victim)
    plug.sendall(GREETING)
    got = b""
    while len(got) < 64 + 2:
        got += plug.recv(1000)
    plug.sendall(READY)
    return plug


def push(plug, data, times, seconds=0.3):
    """Sends as long as the other side lets us; how many bytes went."""
    sent = 0
    plug.settimeout(seconds)
    try:
        for _ in range(times):
            plug.sendall(data)
            sent += len(data)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize("secure", [False, True], ids=["plaintext", "curve"])
def test_garbage_on_the_port(bench, secure):
    victim = Victim(bench, secure)
    random = chance("garbage")
    plugs = []
    for i in range(200):
        plug = dial(victim)
        plugs.append(plug)
        data = GARBAGE[i] if i < len(GARBAGE) else random.choice(GARBAGE) + random.randbytes(
            random.randrange(3000))
        plug.sendall(data)
    victim.send()
    victim.newcomer()
    for plug in plugs:
        plug.close()
    wait_for(lambda: victim.open_files() <= victim.files + 2, "descriptors come back")
    victim.end(most_mb=48)


@pytest.mark.parametrize("secure", [False, True], ids=["plaintext", "curve"])
def test_ten_thousand_connections_that_do_not_shake_hands(bench, secure):
    victim = Victim(bench, secure)
    plugs, most = collections.deque(), 0

    def flood():
        for i in range(10000):
            plugs.append(dial(victim, "127.0.%d.%d" % (i // 5000, 2 + i % 50)))
            if i % 3:
                plugs[-1].send(GREETING[:20 * (i % 3)])
            if len(plugs) > 2000:
                plugs.popleft().close()
    thread = threading.Thread(target=flood)
    thread.start()
    while thread.is_alive():
        victim.newcomer()
        victim.send(10)
        most = max(most, victim.open_files())
    assert len(plugs) == 2000 and most < victim.files + 1024 + 200
    victim.send()
    for plug in plugs:
        plug.close()
    wait_for(lambda: victim.open_files() <= victim.files + 2, "descriptors come back")
    told = re.findall("do not say HELLO are turned away", victim.live.text())
    assert len(told) == 1
    victim.end(most_mb=96)


def test_claims_of_huge_frames_cost_nothing(victim):
    plugs = [zmtp(victim) for _ in range(100)]
    for i, plug in enumerate(plugs):
        size = (1 << 62, 1 << 40, 17 * MB, 16 * MB)[i % 4]
        plug.sendall(b"\x02" + size.to_bytes(8, "big") + b"x" * 1000)
    victim.send()
    wait_for(lambda: victim.open_files() < victim.files + 30, "claims end connections")
    for plug in plugs:
        plug.close()
    victim.end(most_mb=48)


@pytest.mark.parametrize("secure", [False, True], ids=["plaintext", "curve"])
def test_large_messages_before_hello_are_not_kept(bench, secure):
    """Frames without an end, and messages without a last frame, from a stranger."""
    victim = Victim(bench, secure)
    sent = 0
    for i in range(16):
        plug = dial(victim) if secure or i % 2 else zmtp(victim)
        if secure or i % 2:     # the frame is to be a command of the handshake
            plug.sendall((CURVE_GREETING if secure else GREETING)
                         + b"\x06" + (15 * MB).to_bytes(8, "big"))
            sent += push(plug, b"x" * (64 << 10), 240)
        else:
            sent += push(plug, b"\x03" + (64 << 10).to_bytes(8, "big") + b"x" * (64 << 10), 1000)
        plug.close()
    assert sent < 16 * 40 * MB
    victim.end(most_mb=96)


# --- Peers that are slow, or still ---------------------------------------------

def test_a_sender_that_never_reads_is_ended(victim):
    """Each of its messages would be answered; answers do not gather without bound."""
    plug, hello = zmtp(victim), pack(HELLO, 1, "raw", "out", 5, {})
    push(plug, (b"\0" + bytes([len(hello)]) + hello) * 5000, 400, seconds=5)
    victim.live.wait_log("link closed peer=127.0.0.1 .*code=DEAF")
    plug.close()
    victim.end("code=DEAF")


def two_ways(up):
    """A weir with a link to `up`, and apart from it a way for good records."""
    good = free_port()
    text = ('supervise { drain = "200ms" }\nsettings { window = "1MB" }\n'
            'source.generate "gen" {}\n'
            'sink.link "up" { from = "gen", connect = "%s", plaintext = true }\n' % up)
    return good, text + into_file("tcp://127.0.0.1:%d" % good, ", plaintext = true")


class Inlet:
    """A ROUTER that does with weir's link what a test wants."""

    def __init__(self, heartbeat_ms=1000):
        self.socket = open_socket(zmq.Context.instance(), zmq.ROUTER, heartbeat_ms)
        self.socket.rcvtimeo = 10000
        self.socket.rcvhwm = 4
        self.socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self.socket.last_endpoint.decode().rstrip("\0")
        self.peer = None

    def welcome(self, *answers):
        """Takes a HELLO, and answers."""
        self.peer = self.socket.recv_multipart()[0]
        for answer in answers:
            self.socket.send_multipart([self.peer, answer])


@pytest.mark.parametrize("credit", [0, 1000, 2**64 - 1], ids=["nothing", "little", "all"])
def test_a_reader_that_never_grants_or_never_reads(bench, credit):
    inlet = Inlet()
    good, text = two_ways(inlet.endpoint)
    live = bench.start(text)
    inlet.welcome(pack(WELCOME, 1, credit, 0, 0))
    live.wait_ready()
    producer = Producer("tcp://127.0.0.1:%d" % good, "good")
    producer.send(numbers(0, 20000))
    producer.flush(5)
    assert live.running() and (SANITIZED or live.vm("VmHWM") < 64 * MB)
    producer.close()
    live.stop(code=None)
    inlet.socket.close(0)
    assert len(objects(bench.path("out.ndjson"))) == 20000


@pytest.mark.parametrize("answer", [
    b"", b"\xc1junk", pack(WELCOME, 2, 1000, 0, 0), pack(WELCOME, 1, 1000, 5, 0), pack(ACK, 1),
    pack(HELLO, 1, "n", "o", 1, {}), pack(BLOCK, 1, 1, None, {}), pack(NACK, 7, "X", "", False),
    b"\xc1" * 70000],
    ids=["empty", "junk", "version", "safe", "ack", "hello", "block", "nack", "large"])
def test_a_reader_that_breaks_the_protocol_is_left(bench, answer):
    inlet = Inlet()
    good, text = two_ways(inlet.endpoint)
    live = bench.start(text)
    inlet.welcome(answer)
    live.wait_log("up: link is down .*does not speak this protocol")
    producer = Producer("tcp://127.0.0.1:%d" % good, "good")
    producer.send(numbers(0, 100))
    producer.flush(5)
    producer.close()
    live.stop(code=None)
    inlet.socket.close(0)


def test_a_reader_that_floods_the_sender(bench):
    """With grants of one byte."""
    inlet = Inlet()
    good, text = two_ways(inlet.endpoint)
    live = bench.start(text)
    inlet.welcome(pack(WELCOME, 1, 0, 0, 0))
    live.wait_ready()
    before, grant = live.vm("VmRSS"), [inlet.peer, pack(CREDIT, 1, 0)]
    inlet.socket.sndtimeo = 2000
    for _ in range(200000):
        inlet.socket.send_multipart(grant)
    producer = Producer("tcp://127.0.0.1:%d" % good, "good")
    producer.send(numbers(0, 1000))
    producer.flush(5)
    producer.close()
    assert SANITIZED or live.vm("VmHWM") - before < 32 * MB
    live.stop(code=None)
    inlet.socket.close(0)


STOPPED = """
import sys
sys.path.insert(0, %r)
from weir_link import Consumer, Producer
if sys.argv[1] == "take":
    with Consumer(sys.argv[2]) as consumer, open(sys.argv[3], "a") as file:
        for block in consumer:
            file.writelines(record[2] + "\\n" for record in block.records)
            file.flush()
            consumer.ack(block)
producer, i = Producer(sys.argv[2], "stopped"), 0
while True:
    producer.send(['{"id":%%d}' %% (10**9 + i)])
    producer.poll(0.001)
    i += 1
"""


def child(bench, *words):
    """A Python process with the client."""
    code = STOPPED % str(weir_link.__file__.rsplit("/", 1)[0])
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=bench.folder)
    return process


def test_a_sender_that_is_stopped_disturbs_nobody(bench):
    victim = Victim(bench, more=', heartbeat = "100ms"')
    process = child(bench, "send", victim.endpoint)
    try:
        out = victim.bench.path("out.ndjson")
        wait_for(lambda: b"1000000100" in out.read_bytes(), "it sends")
        process.send_signal(signal.SIGSTOP)

        def left():
            victim.send(10)
            return victim.open_files() <= victim.files
        wait_for(left, "heartbeats that do not come end the connection")
        process.send_signal(signal.SIGCONT)
        seen = objects(out)[-1]["id"]
        wait_for(lambda: objects(out)[-1]["id"] > max(seen, 10**9), "it goes on")
    finally:
        process.kill()
        process.wait()
    victim.end()
    got = [r["id"] - 10**9 for r in objects(victim.bench.path("out.ndjson"))]
    got = [i for i in got if i >= 0]
    assert got == list(range(len(got)))


def test_a_reader_that_is_stopped_is_noticed_and_gets_everything(bench):
    up = "tcp://127.0.0.1:%d" % free_port()
    process = child(bench, "take", up, "taken")
    taken = bench.path("taken")
    try:
        live = bench.start(
            'source.generate "gen" { count = 200000 }\n'
            'sink.link "up" { from = "gen", connect = "%s", plaintext = true,\n'
              '  heartbeat = "100ms" }\n' % up)
        wait_for(lambda: taken.exists() and taken.stat().st_size > 0, "it takes")
        process.send_signal(signal.SIGSTOP)
        live.wait_log("up: link is down")
        process.send_signal(signal.SIGCONT)
        run = live.wait()
    finally:
        process.kill()
        process.wait()
    assert run.node("up")["done"] == 200000
    assert len(taken.read_bytes().splitlines()) == 200000
