"""Weir's link protocol, version 1, in Python: docs/wire.md as a program.

    producer = Producer("tcp://127.0.0.1:9000", node="shop")
    producer.send(['{"id":1}', '{"id":2}'])       # waits for credit, not for safety
    producer.flush()                              # now both are safe

    with Consumer("tcp://127.0.0.1:9001") as consumer:
        for block in consumer:
            write(block.records)
            consumer.ack(block)                   # now they are ours

Both work in the thread that calls them and do nothing between calls: whoever has
nothing to send or to take for a second calls poll(). Needs pyzmq and msgpack.
"""
import collections
import os
import random
import time

import msgpack
import zmq
import zmq.auth
import zmq.auth.thread
from zmq.utils.monitor import recv_monitor_message

VERSION = 1
(HELLO, WELCOME, BLOCK, CREDIT, ACK, BARRIER, CLOSE, NACK, NEED, TOKEN) = range(1, 11)
FLUSH, MARKER = 1, 2

MESSAGE_MAX = 16 << 20          # bytes of one frame
BLOCK_BYTES = 64 << 10          # of the body of one block, unless a record is larger
FIRST_WAIT, MOST_WAIT, REFUSED_WAIT = 0.1, 0.5, 10  # seconds before the next attempt
CONNECT = 5                     # seconds for connecting and being welcomed


class Malformed(Exception):
    """The other side sent what this protocol does not have."""


class Refused(Exception):
    """The other side ended the link, and says that trying again is of no use."""

    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code, self.text = code, text


# --- Messages -----------------------------------------------------------------

# Fields of each type, between the type and the stage.
FIELDS = {
    HELLO: (int, str, str, int, dict), WELCOME: (int, int, int, int),
    BLOCK: (int, int, None, dict), CREDIT: (int, int), ACK: (int,),
    BARRIER: (int, int, int, int), CLOSE: (str, str, bool), NACK: (int, str, str, bool),
    NEED: (int,), TOKEN: (int, int, int),
}


def pack(kind, *fields, stage=0):
    """Frame 0: the type, its fields, the stage."""
    return msgpack.packb([kind, *fields, stage], use_bin_type=True)


def fits(value, kind):
    """Whether a field is of its type: True is no number, and no number is negative."""
    if kind is int:
        return type(value) is int and value >= 0
    return kind is None or type(value) is kind


def unpack(frame):
    """(type, fields) of frame 0; Malformed."""
    try:
        kind, *fields, stage = msgpack.unpackb(frame, strict_map_key=False)
        kinds = FIELDS[kind]
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise Malformed("a message is none of this protocol") from error
    if stage != 0 or len(fields) != len(kinds) or not all(map(fits, fields, kinds)):
        raise Malformed("a message of type %d has other fields" % kind)
    return kind, fields


def cost(runs, body):
    """What a block takes of the credit, the same for both sides."""
    texts = sum(len(text.encode()) for run in runs for text in run[1:] if text)
    return 32 + 16 * len(runs) + texts + len(body) + 512


def encode(record):
    """One record: [timestamp in ms, key, payload, headers]. The payload's type says what
    it is: str is JSON text, bytes are bytes, a dict is a document of MessagePack. Bytes
    of a text that are not UTF-8 are surrogates in a str (PEP 383)."""
    if not isinstance(record, (list, tuple)):
        record = (None, None, record, None)
    return msgpack.packb(list(record), use_bin_type=True, unicode_errors="surrogateescape")


def decode(body, count):
    """The records of a body, as many as its header says."""
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=MESSAGE_MAX,
                                unicode_errors="surrogateescape")
    unpacker.feed(body)
    try:
        records = list(unpacker)
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed("a body is not MessagePack") from error
    if len(records) != count or unpacker.tell() != len(body) or not all(map(is_record, records)):
        raise Malformed("a body is not what its header says")
    return records


def is_record(value):
    """[timestamp or nil, anything, str | bin | map, map or nil]"""
    return (isinstance(value, list) and len(value) == 4
            and (value[0] is None or type(value[0]) is int)
            and isinstance(value[2], (str, bytes, dict))
            and (value[3] is None or isinstance(value[3], dict)))


# --- Connections --------------------------------------------------------------

class Curve:
    """Keys for tcp: our own certificate (with its secret, a file as `weir keys` or
    zmq.auth make it), and those of the others: of the server when we connect, a folder
    of NAME.pub when we listen."""

    def __init__(self, own, server=None, peers=None):
        self.public, self.secret = zmq.auth.load_certificate(own)
        self.server = server and zmq.auth.load_certificate(server)[0]
        self.peers = peers

    def allowed(self):
        """Names by key of those who may connect."""
        files = [name for name in os.listdir(self.peers) if name.endswith(".pub")]
        return {zmq.auth.load_certificate(os.path.join(self.peers, name))[0]: name[:-4]
                for name in files}

    def secure(self, socket, listens):
        """Sets a socket's keys."""
        socket.curve_publickey, socket.curve_secretkey = self.public, self.secret
        if listens:
            socket.curve_server = True
            socket.zap_domain = b"weir"
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        else:
            socket.curve_serverkey = self.server


def open_socket(context, kind, heartbeat_ms=1000):
    """A socket with the options that docs/wire.md asks for."""
    socket = context.socket(kind)
    socket.linger = 0 if kind == zmq.DEALER else 1000
    socket.reconnect_ivl = -1       # an attempt is a new socket, and a new HELLO
    socket.sndhwm = socket.rcvhwm = 8192
    socket.maxmsgsize = MESSAGE_MAX
    socket.heartbeat_ivl, socket.heartbeat_timeout = heartbeat_ms, 3 * heartbeat_ms
    socket.handshake_ivl = 3000
    return socket


# --- Producer -----------------------------------------------------------------

Kept = collections.namedtuple("Kept", "sequence head body cost")


class Producer:
    """An outlet: sends blocks to the inlet that listens at the endpoint, keeps them until
    they are acknowledged, and sends them again after a connection is lost.

    node: our name, with CURVE the one in our certificate. session: None for a new one; a
    program that has kept what was not acknowledged may go on with its old session, and
    then says by base what it still keeps. window: most bytes that are kept."""

    def __init__(self, endpoint, node, outlet="out", curve=None, window=4 << 20,
                 session=None, base=1, context=None):
        self.endpoint, self.node, self.outlet = endpoint, node, outlet
        self.curve, self.window = curve, window
        self.session = session or random.getrandbits(64) or 1
        self.context = context or zmq.Context.instance()
        self.kept = collections.deque()     # Kept, in order, not acknowledged
        self.unsent = 0                     # index of the first that waits for credit
        self.next = base                    # sequence of the next block or token
        self.safe = self.acked = base - 1   # given up; acknowledged
        self.settled = set()                # refused for good: nobody waits for them
        self.credit = self.kept_bytes = self.tokens = 0
        self.needed = False                 # NEED is said for the first unsent block
        self.barrier = 0                    # WELCOME's: we send none of our own
        self.refused = []                   # (sequence, code, text, body): final NACKs
        self.attempts = self.connects = 0
        self.socket = self.monitor = None
        self.welcome, self.due, self.wait = False, 0, FIRST_WAIT

    def send(self, records, timeout=30):
        """Queues records as blocks of about 64 KB, and waits while the window is full."""
        body, count = b"", 0
        for record in records:
            body += encode(record)
            count += 1
            if len(body) >= BLOCK_BYTES:
                self.send_body(body, count, timeout)
                body, count = b"", 0
        if count:
            self.send_body(body, count, timeout)
        return self.next - 1

    def send_body(self, body, count, timeout=30, runs=None):
        """Queues one block of `count` encoded records."""
        if len(body) > MESSAGE_MAX:
            raise ValueError("a block of %d bytes is larger than any inlet takes" % len(body))
        self.poll()
        self.wait_for(lambda: self.kept_bytes < self.window, timeout)
        runs = runs or [[count, None, None, None]]
        self.keep(pack(BLOCK, self.next, count, None, {"o": runs}), body, cost(runs, body))
        self.kept_bytes += self.kept[-1].cost
        self.pump()
        return self.next - 1

    def token(self, kind=FLUSH, argument=0, timeout=30):
        """Queues a token: its acknowledgement says that all before it is safe."""
        self.wait_for(lambda: self.tokens < 16, timeout)
        self.tokens += 1
        self.keep(pack(TOKEN, self.next, kind, argument), None, 0)
        self.pump()
        return self.next - 1

    def flush(self, timeout=30):
        """Waits until everything is safe."""
        self.wait_for(lambda: not self.kept, timeout)

    def close(self):
        """Says goodbye. What is not acknowledged is lost unless flush() came before."""
        if self.welcome and self.transmit(pack(CLOSE, "ENDING", "the producer has ended", True)):
            self.socket.linger = 1000
        self.disconnect()

    def poll(self, timeout=0):
        """Connects, reads what has come, sends what may go. Seconds."""
        now = time.monotonic()
        if not self.socket and now >= self.due:
            self.connect()
        poller = zmq.Poller()
        if self.socket:
            poller.register(self.socket, zmq.POLLIN)
            poller.register(self.monitor, zmq.POLLIN)
        limit = timeout if self.welcome else min(timeout, max(self.due - now, 0) + 0.001)
        ready = dict(poller.poll(limit * 1000)) if self.socket else time.sleep(limit) or {}
        if self.socket in ready:
            self.read()
        if self.monitor and self.monitor in ready:
            self.watch()
        if self.socket and not self.welcome and time.monotonic() >= self.due:
            self.lose()

    # - inside -

    def keep(self, head, body, price):
        self.kept.append(Kept(self.next, head, body, price))
        self.next += 1

    def wait_for(self, condition, timeout):
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() >= deadline:
                raise TimeoutError("the inlet at %s does not answer" % self.endpoint)
            self.poll(0.1)

    def transmit(self, *frames):
        """Sends one message. False: the connection has gone, as the monitor will tell."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
            return True
        except zmq.ZMQError:
            return False

    def connect(self):
        self.attempts += 1
        self.socket = open_socket(self.context, zmq.DEALER)
        if self.curve:
            self.curve.secure(self.socket, listens=False)
        self.monitor = self.socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        self.due = time.monotonic() + CONNECT
        self.socket.connect(self.endpoint)

    def disconnect(self):
        if self.socket:
            self.socket.disable_monitor()
            self.socket.close()
        self.socket = self.monitor = None
        self.welcome, self.credit, self.needed, self.unsent = False, 0, False, 0

    def lose(self, wait=None):
        self.disconnect()
        self.due = time.monotonic() + (wait or self.wait * random.uniform(0.8, 1.2))
        self.wait = min(2 * self.wait, MOST_WAIT)

    def watch(self):
        event = recv_monitor_message(self.monitor)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.transmit(pack(HELLO, VERSION, self.node, self.outlet, self.session,
                               {"base": self.safe + 1}))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.lose(REFUSED_WAIT)
            raise Refused("AUTH", "the inlet at %s does not allow our key" % self.endpoint)
        else:
            self.lose()

    def read(self):
        handlers = {WELCOME: self.on_welcome, CREDIT: self.on_credit, ACK: self.acknowledge,
                    NACK: self.on_nack, CLOSE: self.on_close}
        while self.socket and self.socket.poll(0):
            kind, fields = unpack(self.socket.recv_multipart()[0])
            if kind not in handlers:
                raise Malformed("an outlet does not take type %d" % kind)
            if self.welcome or kind in (WELCOME, CLOSE):
                handlers[kind](*fields)

    def on_welcome(self, version, credit, safe, barrier):
        if version != VERSION:
            raise Malformed("the inlet speaks version %d" % version)
        self.welcome, self.credit, self.barrier = True, credit, barrier
        self.wait = FIRST_WAIT
        self.connects += 1
        self.unsent = 0                     # everything that is still kept goes again
        self.acknowledge(safe)
        self.pump()

    def on_credit(self, credit, barrier):
        if barrier >= self.barrier:         # an older one was void when it was sent
            self.credit += credit
            self.pump()

    def acknowledge(self, sequence):
        if sequence >= self.next:
            raise Malformed("what was never sent is acknowledged")
        self.acked = max(self.acked, sequence)
        while self.kept and (self.kept[0].sequence <= self.acked
                             or self.kept[0].sequence in self.settled):
            first = self.kept.popleft()
            self.settled.discard(first.sequence)
            self.safe = first.sequence
            self.kept_bytes -= first.cost
            self.tokens -= first.body is None
            self.unsent = max(self.unsent - 1, 0)

    def on_nack(self, sequence, code, text, retryable):
        if retryable:
            self.lose()
            return
        for kept in self.kept:
            if kept.sequence == sequence and sequence not in self.settled:
                self.refused.append((sequence, code, text, kept.body))
                self.settled.add(sequence)
        self.acknowledge(self.acked)

    def on_close(self, code, text, retryable):
        self.lose(None if retryable else REFUSED_WAIT)
        if not retryable:
            raise Refused(code, text)

    def pump(self):
        while self.welcome and self.unsent < len(self.kept):
            item = self.kept[self.unsent]
            if item.cost > self.credit:
                self.needed = self.needed or self.transmit(pack(NEED, item.cost))
                return
            if not self.transmit(*filter(None, (item.head, item.body))):
                return
            self.credit -= item.cost
            self.needed = False
            self.unsent += 1


# --- Consumer -----------------------------------------------------------------

Block = collections.namedtuple("Block", "peer sequence records runs cost")


class Peer:
    """An outlet that sends to us, known by its session."""

    def __init__(self, session, node, outlet, base):
        self.session, self.node, self.outlet = session, node, outlet
        self.id = None              # routing id of its connection
        self.received = base - 1    # last sequence taken in order
        self.safe = 0               # last sequence that is safe
        self.barrier = 0            # last barrier seen
        self.credit = self.held = 0 # granted and unspent; taken and not acknowledged
        self.need = 0
        self.discarding = False     # after a NACK, until the next HELLO
        self.marks = {}             # what is not acknowledged, by sequence: a Block, or
                                    # None when it only waits for those before it


class Consumer:
    """An inlet: listens at the endpoint and takes blocks from any number of outlets. It
    has at most `window` bytes of each that are not acknowledged, and asks for no more."""

    def __init__(self, endpoint, curve=None, window=4 << 20, context=None):
        self.context = context or zmq.Context.instance()
        self.window, self.curve, self.auth = window, curve, None
        self.peers, self.connections = {}, {}   # by session, by routing id
        self.ended = collections.deque(maxlen=64)   # routing ids whose rest is dropped
        self.ready = collections.deque()
        self.duplicates = 0
        self.socket = open_socket(self.context, zmq.ROUTER)
        self.socket.router_mandatory = 1
        if curve:
            self.authenticate()
            curve.secure(self.socket, listens=True)
        self.socket.bind(endpoint)
        self.endpoint = self.socket.last_endpoint.decode().rstrip("\0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        while True:
            yield self.receive(None)

    def receive(self, timeout=1):
        """The next block, None after so many seconds without one; None: no limit."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.ready:
            left = 1 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            self.poll(min(left, 1))
        return self.ready.popleft()

    def ack(self, block):
        """The block is safe. Its sender hears of it when all before it are safe, too."""
        if block.peer.marks.get(block.sequence):
            block.peer.marks[block.sequence] = None
            block.peer.held -= block.cost
            self.advance(block.peer)

    def nack(self, block, code, text):
        """Refuses one block for good; its sender decides what becomes of it."""
        self.send(block.peer, NACK, block.sequence, code, text, False)
        self.ack(block)

    def poll(self, timeout=0):
        """Reads what has come. Seconds."""
        while self.socket.poll(timeout * 1000):
            frames = self.socket.recv_multipart(copy=False)
            user = frames[-1].get("User-Id") if self.curve else None
            self.read([frame.bytes for frame in frames], user)
            timeout = 0

    def close(self):
        """Tells everybody, and ends."""
        for peer in list(self.connections.values()):
            self.end(peer.id, "ENDING", "this inlet has ended", True)
        self.socket.close()
        if self.auth:
            self.auth.stop()

    # - inside -

    def authenticate(self):
        """Who has a certificate in the folder is let in, under its name."""
        self.auth = zmq.auth.thread.ThreadAuthenticator(self.context)
        self.auth.start()
        self.auth.configure_curve_callback(domain="weir", credentials_provider=self)

    def callback(self, domain, key):
        """For the authenticator, in its thread."""
        return key in self.curve.allowed()

    def name_of(self, user):
        """The name in the certificate with that key."""
        return self.curve.allowed().get(user.encode())

    def send(self, peer, kind, *fields):
        try:
            self.socket.send_multipart([peer.id, pack(kind, *fields)], zmq.NOBLOCK)
        except zmq.ZMQError:                # it has gone, or does not read
            self.connections.pop(peer.id, None)

    def end(self, routing_id, code, text, retryable=False):
        try:
            frame = pack(CLOSE, code, text, retryable)
            self.socket.send_multipart([routing_id, frame], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass
        self.connections.pop(routing_id, None)
        self.ended.append(routing_id)

    def read(self, frames, user):
        routing_id, frames = frames[0], frames[1:]
        handlers = {BLOCK: self.on_block, BARRIER: self.on_barrier, TOKEN: self.on_token,
                    NEED: self.on_need, CLOSE: self.on_close}
        peer = self.connections.get(routing_id)
        try:
            kind, fields = unpack(frames[0] if frames else b"")
            if len(frames) != 1 + (kind == BLOCK):
                raise Malformed("only a block has a body")
            if routing_id in self.ended and kind != HELLO:
                return
            if kind == HELLO and self.curve and fields[1] != self.name_of(user):
                self.end(routing_id, "IDENTITY", "the certificate names another node")
            elif kind == HELLO:
                self.on_hello(routing_id, *fields)
            elif not peer:
                self.end(routing_id, "HELLO", "say HELLO first")
            elif kind not in handlers:
                self.end(routing_id, "TYPE", "an inlet does not take this message")
            else:
                handlers[kind](peer, *fields, *frames[1:])
        except Malformed as error:
            self.end(routing_id, "MALFORMED", str(error))

    def on_hello(self, routing_id, version, node, outlet, session, options):
        base = options.get("base", 1)
        if version != VERSION:
            self.end(routing_id, "VERSION", "this inlet speaks version 1")
        elif not session or not fits(base, int) or not base:
            self.end(routing_id, "HELLO", "session and base must not be 0")
        else:
            peer = self.peers.setdefault(session, Peer(session, node, outlet, base))
            if peer.id != routing_id and peer.id in self.connections:
                self.end(peer.id, "REPLACED", "the session goes on over another connection")
            self.connections[routing_id] = peer
            peer.id, peer.need, peer.discarding = routing_id, 0, False
            peer.credit = max(self.window - peer.held, 0)
            self.send(peer, WELCOME, VERSION, peer.credit, peer.safe, peer.barrier)

    def is_next(self, peer, sequence):
        """Drops what is here already, and what stands behind a gap."""
        if peer.discarding:
            return False
        if sequence <= peer.received:
            self.duplicates += 1
            return False
        if sequence > peer.received + 1:
            peer.discarding = True
            self.send(peer, NACK, peer.received + 1, "GAP", "a sequence is missing", True)
            return False
        peer.received = sequence
        return True

    def on_block(self, peer, sequence, count, _vnodes, headers, body):
        runs = headers.get("o", [[count, None, None, None]])
        price = cost(runs, body)
        if price > peer.credit:
            self.end(peer.id, "OVERRUN", "more was sent than was granted")
            return
        records = decode(body, count)
        peer.credit -= price
        if self.is_next(peer, sequence):
            peer.held += price
            block = Block(peer, sequence, records, runs, price)
            peer.marks[sequence] = block
            self.ready.append(block)
        else:
            self.grant(peer)

    def on_barrier(self, peer, barrier, _epoch, _flags, last):
        if barrier > peer.barrier and last != peer.received:
            self.is_next(peer, peer.received + 2)       # a gap
            return
        peer.barrier = max(barrier, peer.barrier)
        peer.credit = 0                                 # its sender has given it up
        self.grant(peer)

    def on_token(self, peer, sequence, _kind, _argument):
        if self.is_next(peer, sequence):
            peer.marks[sequence] = None
            self.advance(peer)

    def on_need(self, peer, size):
        peer.need = size
        self.grant(peer)

    def on_close(self, peer, _code, _text, _retryable):
        self.connections.pop(peer.id, None)

    def advance(self, peer):
        """Tokens are safe when everything before them is. Acknowledges, and grants."""
        while peer.marks:
            first = next(iter(peer.marks))
            if peer.marks[first] is not None:
                break
            peer.safe = first
            del peer.marks[first]
        if self.connections.get(peer.id) is peer:
            self.send(peer, ACK, peer.safe)
            self.grant(peer)

    def grant(self, peer):
        """What is free of the window; a large block is let in alone."""
        more = self.window - peer.held - peer.credit
        if peer.need > self.window and not peer.held:
            more = peer.need - peer.credit
        if more > 0 and (more >= self.window // 4 or peer.credit + more >= peer.need > 0):
            peer.credit += more
            peer.need = 0
            self.send(peer, CREDIT, more, peer.barrier)
