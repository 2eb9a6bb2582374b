"""Weirs that ship to each other over tcp + CURVE: their keys, their folders, and a wire
between them that can be cut."""
import os
import pathlib
import selectors
import socket
import struct
import threading
import time

import zmq
from crash import positions
from helper import Bench

CERT = 'metadata\n    name = "%s"\n    roles = "%s"\ncurve\n    public-key = "%s"\n'
HEARTBEAT = 0.1  # seconds; a peer is lost behind three of them


def make_keys(folder, *names):
    """A folder of keys for each name, FOLDER/NAME/keys; everybody knows everybody and
    may send to everybody."""
    pairs = {name: [key.decode() for key in zmq.curve_keypair()] for name in names}
    for name, (public, secret) in pairs.items():
        keys = pathlib.Path(folder) / name / "keys"
        (keys / "peers").mkdir(parents=True, mode=0o700)
        own = CERT % (name, "", public)
        with open(os.open(keys / "self.key", os.O_CREAT | os.O_WRONLY, 0o600), "w",
                  encoding="ascii") as file:
            file.write(own + '    secret-key = "%s"\n' % secret)
        (keys / "self.pub").write_text(own)
        for other, (key, _) in pairs.items():
            (keys / "peers" / (other + ".pub")).write_text(CERT % (other, "produce", key))


SENDER = """
source.file "in" { path = "in.ndjson", at_end = %(end)s%(rate)s }
sink.link "up" { from = "in", connect = "tcp://%(host)s:%(port)d", server = "%(server)s",
  heartbeat = "%(heartbeat)s", timeout = "%(timeout)s" }
settings { window = "%(window)s", block = "%(block)s" }
security { keys = "keys" }
"""

RECEIVER = """
source.link "l" { listen = "tcp://%(host)s:%(port)d", heartbeat = "%(heartbeat)s" }
%(process)ssink.file "out" { from = "%(from)s", path = "out.ndjson", fsync = %(fsync)s }
settings { window = "%(window)s" }
security { keys = "keys" }
"""


def sender(port, rate=None, **more):
    """The text of a weir that ships a file to the node b."""
    limit = ', rate = { records = %d, burst = "20ms" }' % rate if rate else ""
    words = {"host": "127.0.0.1", "end": "stop", "server": "b", "window": "32MB",
             "block": "64KB", "heartbeat": "%dms" % (HEARTBEAT * 1000), "timeout": "1s"}
    return SENDER % {**words, "port": port, "rate": limit, **more}


def receiver(port, workers=0, **more):
    """The text of a weir that writes what comes; workers: of a process on the way."""
    process = 'process "p" { from = "l", workers = %d, each = function (r) return r end }\n'
    words = {"host": "127.0.0.1", "window": "32MB", "fsync": "never",
             "heartbeat": "%dms" % (HEARTBEAT * 1000),
             "process": process % workers if workers else "",
             "from": "p" if workers else "l"}
    return RECEIVER % {**words, "port": port, **more}


def make_pair(folder):
    """The folders a (that sends) and b (that receives) with their keys."""
    make_keys(folder, "a", "b")
    return Bench(pathlib.Path(folder) / "a"), Bench(pathlib.Path(folder) / "b")


def committed(bench, node="in"):
    """How far the one file of a source is safe."""
    return max(positions(bench.state / (node + ".positions")).values(), default=0)


class Cargo:
    """Records of all sizes with numbers that are theirs alone, as lines of in.ndjson."""

    def __init__(self, bench, luck, count, prefix="", sizes=(0, 10, 50, 300, 2000)):
        self.bench, self.luck, self.prefix, self.sizes = bench, luck, prefix, sizes
        self.lines, self.offsets, self.size = [], {}, 0
        self.more(count)

    def more(self, count):
        """So many more, at the end of the file."""
        new = [b'{"n":"%s%d","filler":"%s"}' % (self.prefix.encode(), n,
                                                b"x" * self.luck.choice(self.sizes))
               for n in range(len(self.lines), len(self.lines) + count)]
        for line in new:
            self.offsets[line] = self.size
            self.size += len(line) + 1
        self.lines += new
        self.bench.append("in.ndjson", b"".join(line + b"\n" for line in new))


def size_of(path):
    """Bytes of a file; 0 without it."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def rows_equal(path, cargo):
    """Whether a file holds exactly the cargo, byte for byte and in order."""
    return path.read_bytes() == b"".join(line + b"\n" for line in cargo.lines)


# --- A wire that can be cut ----------------------------------------------------------


class _Way:
    """One direction of a connection: what was read here and is not written there."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.waiting, self.ended = b"", False


class Wire:
    """Forwards connections from a port to another, and cuts each as `fate` says:
    fate() gives None, or (bytes that pass first, how, seconds). How: `rst`, `fin`;
    `stall`: nothing passes for the seconds, and it goes on; `hole`: nothing passes for
    the seconds, then rst; `half`: rst for who connected, the other end hears nothing
    for the seconds."""

    MOST = 1 << 18  # bytes that wait in one direction

    def __init__(self, target, fate=lambda: None):
        self.target, self.fate = target, fate
        self.cuts, self.connections, self.open = {}, 0, set()
        self._end = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while not self._end:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                self._reset(near)
                continue
            self.connections += 1
            thread = threading.Thread(target=self._carry, args=(near, far), daemon=True)
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _pause(self, seconds):
        deadline = time.monotonic() + seconds
        while not self._end and time.monotonic() < deadline:
            time.sleep(0.01)  # nothing is awaited: the wire is dead for that long

    def _cut(self, near, far, how, seconds):
        """True: the connection goes on."""
        self.cuts[how] = self.cuts.get(how, 0) + 1
        if how in ("stall", "hole"):
            self._pause(seconds)
        if how == "stall":
            return True
        if how == "fin":
            near.close()
            far.close()
        elif how == "half":
            self._reset(near)
            self._pause(seconds)
            self._reset(far)
        else:
            self._reset(near)
            self._reset(far)
        return False

    def _carry(self, near, far):
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fate, passed = self.fate(), 0
        ways = (_Way(near, far), _Way(far, near))
        try:
            while not self._end and not all(way.ended for way in ways):
                passed += self._turn(ways, fate[0] - passed if fate else self.MOST)
                if fate and passed >= fate[0]:
                    if not self._cut(near, far, *fate[1:]):
                        return
                    fate, passed = self.fate(), 0
        except OSError:
            pass
        near.close()
        far.close()

    def _turn(self, ways, most):
        """Waits, and passes on what there is, at most so many bytes."""
        passed = 0
        with selectors.DefaultSelector() as ready:
            wanted = {}
            for way in ways:
                if way.waiting:
                    wanted[way.target] = wanted.get(way.target, 0) | selectors.EVENT_WRITE
                if not way.ended and len(way.waiting) < self.MOST:
                    wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
            for sock, events in wanted.items():
                ready.register(sock, events)
            ready.select(0.1)
        for way in ways:
            if not way.ended and len(way.waiting) < self.MOST:
                try:
                    data = way.source.recv(65536)
                    way.ended = not data
                    way.waiting += data
                except BlockingIOError:
                    pass
            if way.waiting and passed < most:
                try:
                    sent = way.target.send(way.waiting[:most - passed])
                    way.waiting = way.waiting[sent:]
                    passed += sent
                except BlockingIOError:
                    pass
            if way.ended and not way.waiting:
                way.target.shutdown(socket.SHUT_WR)
        return passed

    def close(self):
        """Ends everything."""
        self._end = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join(10)
