"""What the tests of links share: endpoints, sockets that say what a test wants, and
folders of keys."""
import pathlib
import sys
import time

import zmq

from helper import PATIENCE
from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python-client"))
import weir_link  # noqa: E402,F401 - for the tests that import from here
from weir_link import (BLOCK, CLOSE, HELLO, VERSION, Consumer, Curve,  # noqa: E402,F401
                       Producer, encode, open_socket, pack, unpack)

SECURITY = 'security { keys = "%s" }\n'


def endpoint_of(bench, transport, name):
    """An endpoint, and what a node must say to use it without CURVE."""
    if transport == "ipc":
        return "ipc://%s" % bench.path(name), ""
    return "tcp://127.0.0.1:%d" % free_port(), ", plaintext = true"


def into_file(endpoint, more=""):
    """A topology that writes what comes over a link to out.ndjson."""
    return ('source.link "in" { listen = "%s"%s }\n'
            'sink.file "out" { from = "in", path = "out.ndjson" }\n' % (endpoint, more))


def numbers(first, count, size=0):
    """JSON records with growing ids."""
    return ['{"id":%d,"fill":"%s"}' % (first + i, "x" * size) for i in range(count)]


def pump(*parts, until, seconds=PATIENCE, what="the link"):
    """Lets producers and consumers work until the condition holds."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited %g s in vain: %s" % (seconds, what)
        for part in parts:
            part.poll(0.002)


class Raw:
    """A DEALER that says whatever a test wants; it never waits longer than `patience`."""

    def __init__(self, endpoint, curve=None, patience=10, heartbeat_ms=1000):
        self.socket = open_socket(zmq.Context.instance(), zmq.DEALER, heartbeat_ms)
        self.socket.rcvtimeo = self.socket.sndtimeo = int(patience * 1000)
        if curve:
            curve.secure(self.socket, listens=False)
        self.socket.connect(endpoint)

    def say(self, *frames):
        """One message of frames as they are."""
        self.socket.send_multipart(frames)
        return self

    def hello(self, session=7, node="raw", version=VERSION, **options):
        """HELLO; WELCOME's fields, or those of CLOSE."""
        return self.say(pack(HELLO, version, node, "out", session, options)).hear()[1]

    def block(self, sequence, records, count=None, headers=None):
        """A BLOCK of these records."""
        body = b"".join(map(encode, records))
        count = len(records) if count is None else count
        return self.say(pack(BLOCK, sequence, count, None, headers or {}), body)

    def hear(self):
        """The next message: (type, fields)."""
        return unpack(self.socket.recv_multipart()[0])

    def hear_until(self, kind):
        """The fields of the next message of that type."""
        while True:
            got, fields = self.hear()
            if got == kind:
                return fields

    def closed_with(self):
        """The code of the CLOSE that comes."""
        return self.hear_until(CLOSE)[0]

    def close(self):
        """Ends it."""
        self.socket.close()


# --- Keys ---------------------------------------------------------------------

def certificate(name, public, secret=None, roles=None, expires=None):
    """The text of a file."""
    lines = ["metadata", '    name = "%s"' % name]
    lines += ['    roles = "%s"' % roles] if roles else []
    lines += ['    expires = "%s"' % expires] if expires else []
    lines += ["curve", '    public-key = "%s"' % public.decode()]
    lines += ['    secret-key = "%s"' % secret.decode()] if secret else []
    return "\n".join(lines) + "\n"


class Keys:
    """A node's folder of keys."""

    def __init__(self, bench, name):
        self.name, self.folder = name, bench.path("keys-" + name)
        self.public, self.secret = zmq.curve_keypair()
        (self.folder / "peers").mkdir(parents=True)
        self.folder.chmod(0o700)
        own = self.folder / "self.key"
        own.write_text(certificate(name, self.public, self.secret))
        own.chmod(0o600)

    def allow(self, other, roles="produce", expires=None, name=None):
        """Puts another's certificate into peers/."""
        path = self.folder / "peers" / ((name or other.name) + ".pub")
        path.with_suffix(".new").write_text(
            certificate(name or other.name, other.public, None, roles, expires))
        path.with_suffix(".new").rename(path)
        return path

    def curve(self, server=None):
        """The keys for the client in Python: to connect to that server, or to listen."""
        own = str(self.folder / "self.key")
        if server is None:
            return Curve(own, peers=str(self.folder / "peers"))
        return Curve(own, server=str(self.allow(server)))
