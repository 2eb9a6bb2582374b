"""A redis-server of a test's own, asked in its own words (RESP 2).

    server = Redis(folder)                      # a unix socket in the folder
    server.do("XADD", "s", "*", "a", "1")       # raises what the server says is wrong
    server.kill(); server.again()               # SIGKILL; with the same arguments
    server.close()
"""
import contextlib
import os
import shutil
import signal
import socket
import subprocess

from helper import wait_for

PROGRAM = shutil.which("redis-server")


class RedisError(Exception):
    """An error that a server has answered with."""


class Client:
    """One connection: do() sends a command and gives its answer, texts as bytes."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")

    def send(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.sock.sendall(b"*%d\r\n" % len(words)
                          + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def read(self):
        line = self.file.readline()
        if not line:
            raise OSError("the server has gone")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"$":
            return self.file.read(size + 2)[:-2]
        return [self.read() for _ in range(size)]

    def do(self, *words):
        self.send(*words)
        answer = self.read()
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def close(self):
        self.file.close()
        self.sock.close()


class Redis:
    """A server; more: further arguments."""

    def __init__(self, folder, *more, name="redis"):
        self.folder = folder / name
        self.folder.mkdir()
        self.path = self.folder / "sock"
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.url = "unix://%s" % self.path
        self.tcp = "redis://127.0.0.1:%d" % self.port
        self.words = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1",
                      "--unixsocket", str(self.path), "--dir", str(self.folder), "--save",
                      "", "--daemonize", "no", *more]
        self.child = self.client = None
        self.again()

    def _answers(self):
        assert self.child.poll() is None, (self.folder / "log").read_text()
        try:
            self.client = Client(self.path)
            self.client.do("PING")
        except (OSError, RedisError) as error:
            return "NOAUTH" in str(error)
        return True

    def again(self):
        """Starts it, once it is gone."""
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(self.words, stdout=log, stderr=log)
        wait_for(self._answers, "redis-server answers")

    def do(self, *words):
        """Asks it."""
        return self.client.do(*words)

    def entries(self, stream, page=5000):
        """All entries: [(id, {field: value})]."""
        found, at = [], b"-"
        while True:
            some = self.do("XRANGE", stream, at, "+", "COUNT", page)
            for number, words in some:
                found.append((number, dict(zip(words[::2], words[1::2]))))
            if len(some) < page:
                return found
            at = b"(" + some[-1][0]

    def values(self, stream, field=b"data"):
        """The values of one field."""
        return [fields[field] for _, fields in self.entries(stream)]

    def pending(self, stream, group):
        """How many entries are pending in the group."""
        return self.do("XPENDING", stream, group)[0]

    def signal(self, number):
        self.child.send_signal(number)

    def pause(self):
        self.signal(signal.SIGSTOP)
        wait_for(lambda: "T" in stat_of(self.child.pid), "it is stopped")

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.child.kill()
        self.child.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def close(self):
        if self.client:
            self.client.close()
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def stat_of(pid):
    """The state letter of a process."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def add_all(server, stream, values, field="data"):
    """Adds an entry for each value, pipelined."""
    values = list(values)
    for start in range(0, len(values), 500):
        some = values[start:start + 500]
        for value in some:
            server.client.send("XADD", stream, "*", field, value)
        for _ in some:
            answer = server.client.read()
            assert not isinstance(answer, RedisError), answer
