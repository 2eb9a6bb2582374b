"""A client in Python, written from docs/wire.md alone, and weir: each as sender and as
receiver, over ipc, tcp and CURVE."""
import json
import time

import pytest


from helper import chance, objects, wait_for
from links import (SECURITY, Consumer, Keys, Producer, Raw, endpoint_of, into_file,
                   numbers, pump, weir_link)
from ports import free_port
from weir_link import ACK, HELLO, NACK, NEED, TOKEN, pack


def ids(payloads):
    """The ids of JSON texts."""
    return [json.loads(payload)["id"] for payload in payloads]


def written(bench):
    """The ids in out.ndjson."""
    return [record["id"] for record in objects(bench.path("out.ndjson"))]


def chain(inlet, outlet, more=""):
    """A topology between two clients."""
    return ('source.link "in" { listen = "%s"%s }\n'
            'sink.link "up" { from = "in", connect = "%s"%s }\n'
            % (inlet, more, outlet, more))


class Taker:
    """A consumer that keeps what it takes, and acknowledges it while `acks`."""

    def __init__(self, endpoint, acks=True, **more):
        self.consumer = Consumer(endpoint, **more)
        self.acks, self.blocks = acks, []

    def poll(self, timeout=0):
        """As for Consumer."""
        self.consumer.poll(timeout)
        while self.consumer.ready:
            self.blocks.append(self.consumer.ready.popleft())
        for block in self.blocks if self.acks else ():
            self.consumer.ack(block)

    def ids(self):
        """Of all records so far."""
        return ids(r[2] for block in self.blocks for r in block.records)

    def held(self):
        """What its peers have sent and it has not acknowledged, in credit."""
        return sum(peer.held for peer in self.consumer.peers.values())

    def close(self):
        """Ends it."""
        self.consumer.close()


@pytest.fixture(name="links")
def closing(bench):
    """Closes what a test has opened, before the bench ends."""
    opened = []
    yield lambda part: opened.append(part) or part
    bench.close()
    for part in opened:
        part.close()


# --- Plain --------------------------------------------------------------------

@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_records_go_through_unaltered_in_order(bench, links, transport):
    inlet, more = endpoint_of(bench, transport, "in")
    outlet, _ = endpoint_of(bench, transport, "up")
    records = [(None, None, '{"id":0}', None),
               (None, None, '{"caf\udce9":1}', None),      # a byte that is not UTF-8
               (-5, b"\x00key", b"raw \xff", {"h": [1, None, 2.5]}),
               (1767225600000, 2**64 - 1, {"id": 2, "deep": {"a": [True, b"b"]}}, None)]
    records += [(None, "k", text, None) for text in numbers(3, 20000)]
    taker = links(Taker(outlet))
    live = bench.start(chain(inlet, outlet, more))
    producer = links(Producer(inlet, node="py"))
    producer.send(records)
    pump(producer, taker, until=lambda: not producer.kept)
    got = [record for block in taker.blocks for record in block.records]
    assert got == [list(record) for record in records]
    assert {run[1] for block in taker.blocks for run in block.runs} == {"in"}
    assert live.stop().node("in")["in"] == len(records)


def test_credit_is_kept_both_ways(bench, links):
    """A consumer that does not acknowledge holds back the sender, through weir."""
    inlet, _ = endpoint_of(bench, "ipc", "in")
    outlet, _ = endpoint_of(bench, "ipc", "up")
    taker = links(Taker(outlet, acks=False, window=200 << 10))
    live = bench.start('settings { window = "1MB" }\n' + chain(inlet, outlet))
    producer = links(Producer(inlet, node="py", window=64 << 20))
    producer.send(numbers(0, 100, 300) * 300)
    pump(producer, taker, until=lambda: producer.needed and taker.held() > 100 << 10)
    deadline = time.monotonic() + 0.5
    pump(producer, taker, until=lambda: time.monotonic() > deadline)
    assert taker.held() <= 200 << 10                  # the consumer's window
    sent = sum(item.cost for item in list(producer.kept)[:producer.unsent])
    assert 1 << 20 < sent <= (2 << 20) + (400 << 10)  # and those inside weir
    assert producer.safe == 0
    taker.acks = True
    pump(producer, taker, until=lambda: not producer.kept)
    assert len(taker.ids()) == 30000
    assert taker.consumer.duplicates == 0 and producer.connects == 1
    live.stop()


def test_nothing_is_acknowledged_before_it_is_safe(bench, links):
    inlet, _ = endpoint_of(bench, "ipc", "in")
    outlet, _ = endpoint_of(bench, "ipc", "up")
    taker = links(Taker(outlet, acks=False))
    live = bench.start(chain(inlet, outlet))
    producer = links(Producer(inlet, node="py"))
    for i in range(5):
        producer.send(numbers(10 * i, 10))
    token = producer.token()
    pump(producer, taker, until=lambda: len(taker.ids()) == 50)
    deadline = time.monotonic() + 0.3
    pump(producer, taker, until=lambda: time.monotonic() > deadline)
    assert producer.safe == 0
    block = next(b for b in taker.blocks if 25 in ids(r[2] for r in b.records))
    for before in taker.blocks:
        if before.sequence <= block.sequence:
            taker.consumer.ack(before)
    pump(producer, taker, until=lambda: producer.safe >= 3)
    assert producer.safe < token
    taker.acks = True
    pump(producer, taker, until=lambda: producer.safe == token)
    live.stop()


def test_a_connection_that_ends_loses_and_doubles_nothing(bench, links):
    """The sender drops its connection again and again, under load."""
    random = chance("cuts")
    inlet, more = endpoint_of(bench, "tcp", "in")
    live = bench.start(into_file(inlet, more))
    producer = links(Producer(inlet, node="py"))
    total = 0
    for cut in range(1, 21):
        for _ in range(random.randrange(1, 20)):
            producer.send(numbers(total, 50, random.randrange(200)))
            total += 50
        pump(producer, until=lambda: producer.welcome and producer.connects >= cut)
        if random.randrange(2):
            producer.poll(random.random() / 50)
        producer.lose(0.001)
    pump(producer, until=lambda: not producer.kept)
    assert producer.connects >= 20
    assert written(bench) == list(range(total))
    live.stop()


def test_what_was_sent_again_is_dropped_and_counted(bench, links):
    inlet, _ = endpoint_of(bench, "ipc", "in")
    outlet, _ = endpoint_of(bench, "ipc", "up")
    taker = links(Taker(outlet, acks=False))
    live = bench.start(chain(inlet, outlet))
    producer = links(Producer(inlet, node="py"))
    for i in range(8):
        producer.send(numbers(i, 1))
    pump(producer, taker, until=lambda: len(taker.ids()) == 8)
    producer.lose(0.001)
    for i in range(8, 10):
        producer.send(numbers(i, 1))
    pump(producer, taker, until=lambda: producer.connects == 2 and len(taker.ids()) == 10)
    assert producer.safe == 0 and taker.ids() == list(range(10))
    taker.acks = True
    pump(producer, taker, until=lambda: not producer.kept)
    assert live.stop().node("in")["in"] == 10


def test_weir_sends_again_after_its_connection_ends(bench, links):
    """The consumer ends the connection but not its sessions: nothing doubles."""
    outlet, more = endpoint_of(bench, "tcp", "up")
    taker = links(Taker(outlet, acks=False))
    bench.write("in.ndjson", numbers(0, 3000, 100))
    live = bench.start('source.file "in" { path = "in.ndjson", at_end = stop }\n'
                       'sink.link "up" { from = "in", connect = "%s"%s }\n' % (outlet, more))
    pump(taker, until=lambda: taker.blocks)
    peer, = taker.consumer.peers.values()
    for _ in range(3):
        taker.consumer.end(peer.id, "AGAIN", "for a test", True)
        pump(taker, until=lambda: taker.consumer.connections)
    taker.acks = True
    pump(taker, until=lambda: len(taker.ids()) >= 3000)
    pump(taker, until=lambda: not live.running())
    assert taker.ids() == list(range(3000))
    assert 0 < taker.consumer.duplicates <= live.wait().node("up")["replayed"]


def test_who_does_not_know_the_session_expects_its_base(bench, links):
    """A consumer that starts again gets what was not acknowledged, from there on."""
    outlet, _ = endpoint_of(bench, "ipc", "up")
    taker = links(Taker(outlet, acks=False))
    bench.write("in.ndjson", numbers(0, 3000, 100))
    live = bench.start('settings { block = "16KB" }\n'
                       'source.file "in" { path = "in.ndjson", at_end = stop }\n'
                       'sink.link "up" { from = "in", connect = "%s" }\n' % outlet)
    pump(taker, until=lambda: len(taker.blocks) >= 6)
    kept = taker.blocks[:3]
    for block in kept:
        taker.consumer.ack(block)
    first = ids(r[2] for block in kept for r in block.records)
    taker.close()
    taker = links(Taker(outlet))
    pump(taker, until=lambda: not live.running())
    assert taker.blocks[0].sequence == 4
    assert first + taker.ids() == list(range(3000))
    live.wait()


def test_a_block_above_the_credit_asks_for_it(bench, links):
    inlet, _ = endpoint_of(bench, "ipc", "in")
    outlet, _ = endpoint_of(bench, "ipc", "up")
    taker = links(Taker(outlet, window=64 << 10))
    live = bench.start(chain(inlet, outlet))
    producer = links(Producer(inlet, node="py", window=64 << 20))
    sizes = [10, 3 << 20, 10, 7 << 20, 1 << 20, 10]
    for i, size in enumerate(sizes):
        producer.send(numbers(i, 1, size))
    pump(producer, taker, until=lambda: not producer.kept)
    assert taker.ids() == list(range(6))
    live.stop()


def test_a_block_that_is_refused_for_good_is_a_dead_letter(bench, links):
    outlet, _ = endpoint_of(bench, "ipc", "up")
    taker = links(Taker(outlet, acks=False))
    bench.write("in.ndjson", numbers(0, 400, 100))
    live = bench.start('settings { block = "16KB" }\n'
                       'source.file "in" { path = "in.ndjson", at_end = stop }\n'
                       'sink.link "up" { from = "in", connect = "%s" }\n' % outlet)
    pump(taker, until=lambda: len(taker.ids()) == 400)
    bad = taker.blocks[1]
    taker.consumer.nack(bad, "TASTE", "we do not like it")
    taker.acks = True
    pump(taker, until=lambda: not live.running())
    run = live.wait(code=3)
    assert run.node("up")["dead"] == len(bad.records)
    assert ([letter["payload"]["id"] for letter in bench.dead()]
            == ids(record[2] for record in bad.records))
    assert all("TASTE: we do not like it" in letter["error"] for letter in bench.dead())


# --- Refusals -----------------------------------------------------------------

@pytest.fixture(name="listening")
def source_link(bench, links):
    """(bench, live, a function that connects) of a source.link over ipc."""
    inlet, _ = endpoint_of(bench, "ipc", "in")
    live = bench.start(into_file(inlet))
    live.wait_ready()
    return bench, live, lambda: links(Raw(inlet))


def test_a_gap_is_answered_with_a_nack(listening):
    bench, live, connect = listening
    raw = connect()
    raw.hello()
    raw.block(1, numbers(1, 1)).block(3, numbers(3, 1)).block(2, numbers(2, 1))
    assert raw.hear_until(NACK) == [2, "GAP", "a sequence is missing", True]
    raw.hello(base=1)
    raw.block(2, numbers(2, 1)).block(3, numbers(3, 1))
    while raw.hear_until(ACK) != [3]:
        pass
    live.stop()
    assert written(bench) == [1, 2, 3]


def test_a_token_is_answered_in_order(listening):
    bench, live, connect = listening
    raw = connect()
    raw.hello()
    for sequence in range(1, 16):
        raw.say(pack(TOKEN, sequence, 1 + sequence % 2, 0))
    raw.block(16, numbers(16, 1)).say(pack(TOKEN, 17, 99, 1))
    while raw.hear_until(ACK) != [17]:
        pass
    live.stop()
    assert written(bench) == [16]


@pytest.mark.parametrize("first, code", [
    (pack(HELLO, 2, "n", "o", 1, {}), "VERSION"),
    (pack(HELLO, 0, "n", "o", 1, {}), "VERSION"),
    (pack(HELLO, 1, "n", "o", 0, {}), "HELLO"),
    (pack(HELLO, 1, "n", "o", 1, {"base": 0}), "HELLO"),
    (pack(HELLO, 1, "n" * 64, "o", 1, {}), "MALFORMED"),
    (pack(NEED, 1), "HELLO"),
    (pack(ACK, 1), "HELLO"),
])
def test_who_does_not_say_hello_rightly_is_refused(listening, first, code):
    _, live, connect = listening
    raw = connect()
    assert raw.say(first).closed_with() == code
    live.wait_log("link closed .*code=%s" % code)
    live.stop()


def test_unknown_options_and_headers_are_passed_over(listening):
    bench, live, connect = listening
    raw = connect()
    assert raw.hello(base=5, compression=["lz4", {"level": 3}], x=None)[0] == 1
    raw.block(5, numbers(5, 1), headers={"z": {"a": [1]}, "o": [[1, "s", None, "l"]]})
    assert raw.hear_until(ACK) == [5]
    live.stop()
    assert written(bench) == [5]


def test_a_session_that_comes_again_takes_over(listening):
    bench, live, connect = listening
    old, new = connect(), connect()
    old.hello(session=9)
    old.block(1, numbers(1, 1))
    assert old.hear_until(ACK) == [1]
    assert new.hello(session=9)[2] == 1
    assert old.closed_with() == "REPLACED"
    new.block(2, numbers(2, 1))
    assert new.hear_until(ACK) == [2]
    live.stop()
    assert written(bench) == [1, 2]


# --- CURVE --------------------------------------------------------------------

@pytest.fixture(name="secure")
def curve_source(bench):
    """(endpoint, keys of weir, of the client) of a running source.link with CURVE, which
    writes each record's peer to out.ndjson."""
    server, client = Keys(bench, "hub"), Keys(bench, "shop")
    server.allow(client)
    inlet = "tcp://127.0.0.1:%d" % free_port()
    live = bench.start(SECURITY % server.folder + (
        'source.link "in" { listen = "%s" }\n'
        'process "mark" { from = "in", each = function (r)\n'
        '  r.peer, r.source = meta (r).peer, meta (r).source\n'
        '  return r end }\n'
        'sink.file "out" { from = "mark", path = "out.ndjson" }\n' % inlet))
    live.wait_ready()
    return inlet, server, client, live


def test_the_peer_is_the_name_in_the_certificate(bench, links, secure):
    inlet, server, client, live = secure
    producer = links(Producer(inlet, node="shop", curve=client.curve(server)))
    producer.send_body(weir_link.encode('{"id":1}'), 1, runs=[[1, "bank", "root", None]])
    producer.flush()
    live.stop()
    assert objects(bench.path("out.ndjson")) == [{"id": 1, "peer": "shop", "source": "in"}]


def test_another_name_than_the_certificate_has_is_refused(links, secure):
    inlet, server, client, live = secure
    raw = links(Raw(inlet, client.curve(server)))
    assert raw.hello(node="bank")[0] == "IDENTITY"
    live.wait_log("link closed peer=shop .*code=IDENTITY")
    live.stop()


def test_a_session_of_another_is_refused(bench, links, secure):
    inlet, server, client, live = secure
    other = Keys(bench, "thief")
    server.allow(other)
    assert links(Raw(inlet, client.curve(server))).hello(node="shop", session=5)[0] == 1
    thief = other.curve(server)

    def comes_in():
        producer = Producer(inlet, node="thief", curve=thief, session=5)
        try:
            producer.flush(timeout=5)
            pump(producer, until=lambda: producer.welcome)
        except weir_link.Refused as refusal:
            return refusal.code == "IDENTITY"
        finally:
            producer.close()
    wait_for(comes_in, "IDENTITY")
    live.stop()


def test_who_is_not_allowed_does_not_get_in(bench, links, secure):
    inlet, server, _, live = secure
    stranger = Keys(bench, "stranger")
    producer = links(Producer(inlet, node="stranger", curve=stranger.curve(server)))
    with pytest.raises(weir_link.Refused, match="does not allow our key"):
        pump(producer, until=lambda: producer.welcome)
    live.wait_log("127.0.0.1")
    plain = links(Producer(inlet, node="shop"))         # without any key
    deadline = time.monotonic() + 1
    pump(plain, until=lambda: time.monotonic() > deadline)
    assert plain.connects == 0
    live.stop()


def test_the_role_must_be_produce(bench, links, secure):
    inlet, server, _, live = secure
    reader = Keys(bench, "reader")
    server.allow(reader, roles="consume,peer,control")
    producer = links(Producer(inlet, node="reader", curve=reader.curve(server)))
    with pytest.raises(weir_link.Refused, match="does not allow our key"):
        pump(producer, until=lambda: producer.welcome)
    live.stop()


def test_revocation_ends_the_live_connection(bench, links, secure):
    inlet, server, client, live = secure
    producer = links(Producer(inlet, node="shop", curve=client.curve(server)))
    producer.send(numbers(1, 1))
    producer.flush()
    (server.folder / "peers" / "shop.pub").unlink()
    revoked = time.monotonic()
    with pytest.raises(weir_link.Refused, match="REVOKED"):
        pump(producer, until=lambda: False)
    assert time.monotonic() - revoked < 2
    producer.due = 0
    with pytest.raises(weir_link.Refused, match="does not allow our key"):
        pump(producer, until=lambda: producer.welcome)
    server.allow(client)
    producer.due = 0

    def works():
        try:
            producer.due = min(producer.due, time.monotonic())
            producer.poll(0.05)
        except weir_link.Refused:
            pass
        return producer.welcome
    wait_for(works, "allowed again")
    producer.send(numbers(2, 1))
    producer.flush()
    live.stop()
    assert [record["id"] for record in objects(bench.path("out.ndjson"))] == [1, 2]


def test_a_consumer_with_curve_knows_weir_by_its_certificate(bench, links):
    own, hub = Keys(bench, "reader"), Keys(bench, "hub")
    own.allow(hub)
    hub.allow(own, roles="none")
    outlet = "tcp://127.0.0.1:%d" % free_port()
    taker = links(Taker(outlet, curve=own.curve()))
    bench.write("in.ndjson", numbers(0, 5000, 100))
    live = bench.start(SECURITY % hub.folder + (
        'source.file "in" { path = "in.ndjson", at_end = stop }\n'
        'sink.link "up" { from = "in", connect = "%s", server = "reader" }\n' % outlet))
    pump(taker, until=lambda: not live.running())
    assert taker.ids() == list(range(5000))
    assert {peer.node for peer in taker.consumer.peers.values()} == {"hub"}
    live.wait()
