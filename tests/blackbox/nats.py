"""A nats-server of a test's own, and a client that speaks its text protocol.

    server = Server(folder)
    nats = server.client()
    nats.make("ORDERS", ["orders.*"])
    nats.publish("orders.eu", b"x", {"Nats-Msg-Id": "1"})
    nats.messages("ORDERS")           # all of them
"""
import base64
import json
import os
import shutil
import signal
import socket
import subprocess

from helper import PATIENCE, wait_for

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


def free_port():
    """A port of the loopback that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """With JetStream, in a folder of its own. settings: text of its configuration."""

    def __init__(self, folder, settings=""):
        self.folder, self.port = folder, free_port()
        self.child, self.clients = None, []
        folder.mkdir(exist_ok=True)
        self.configure(settings)
        self.start()

    def configure(self, settings):
        """For the next start."""
        (self.folder / "conf").write_text(
            'listen: "127.0.0.1:%d"\njetstream { store_dir: "%s/js" }\n'
            'logfile: "%s/log"\n%s\n' % (self.port, self.folder, self.folder, settings))

    def start(self):
        """Until it greets."""
        self.child = subprocess.Popen([PROGRAM, "-c", str(self.folder / "conf")],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.greets, "nats-server greets")

    def greets(self):
        """Whether it answers."""
        assert self.child.poll() is None, (self.folder / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
                return sock.recv(4) == b"INFO"
        except OSError:
            return False

    def url(self, credentials=""):
        """For topologies."""
        return "nats://%s127.0.0.1:%d" % (credentials and credentials + "@", self.port)

    def client(self, **connect):
        """A connection; it ends with the server."""
        client = Client(self.port, connect)
        self.clients.append(client)
        return client

    def signal(self, number):
        """To this one process."""
        self.child.send_signal(number)

    def pause(self):
        """SIGSTOP, once that holds."""
        self.signal(signal.SIGSTOP)
        stat = "/proc/%d/stat" % self.child.pid
        wait_for(lambda: open(stat, encoding="ascii").read().rsplit(")", 1)[1].split()[0]
                 == "T", "it stands still")

    def resume(self):
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL; what it has stored stays."""
        self.child.kill()
        self.child.wait()
        for client in self.clients:
            client.close()
        self.clients = []

    def close(self):
        """Kills it, however it is."""
        if self.child.poll() is None:
            self.kill()


class Client:
    """Requests one after the other; several at once by ask_all."""

    def __init__(self, port, connect):
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        options = {"verbose": False, "pedantic": False, "headers": True,
                   "no_responders": True, **connect}
        self.inbox, self.last = "_INBOX.%s" % os.urandom(6).hex(), 0
        self.sock.sendall(b"CONNECT %s\r\nSUB %s.* 1\r\n"
                          % (json.dumps(options).encode(), self.inbox.encode()))

    def close(self):
        """Ends it."""
        self.file.close()
        self.sock.close()

    @staticmethod
    def frame(subject, reply, payload, headers):
        """One PUB or HPUB."""
        head = b""
        if headers:
            head = b"NATS/1.0\r\n" + b"".join(
                b"%s: %s\r\n" % (name.encode(), value if isinstance(value, bytes)
                                 else value.encode())
                for name, value in headers.items()) + b"\r\n"
        where = " ".join(part for part in (subject, reply) if part).encode()
        if headers:
            return b"HPUB %s %d %d\r\n%s%s\r\n" % (where, len(head),
                                                   len(head) + len(payload), head, payload)
        return b"PUB %s %d\r\n%s\r\n" % (where, len(payload), payload)

    def receive(self):
        """The next message: its reply's number (or subject), head and payload."""
        while True:
            line = self.file.readline().split()
            assert line, "the server has closed the connection"
            if line[0] == b"PING":
                self.sock.sendall(b"PONG\r\n")
            assert line[0] != b"-ERR", line
            if line[0] in (b"MSG", b"HMSG"):
                break
        size = int(line[-1])
        head = int(line[-2]) if line[0] == b"HMSG" else 0
        data = self.file.read(size + 2)[:-2]
        return line[1].decode(), data[:head], data[head:]

    def ask_all(self, requests):
        """[(subject, payload, headers)] at once; their answers [(head, payload)]."""
        first = self.last + 1
        out = []
        for subject, payload, headers in requests:
            self.last += 1
            out.append(self.frame(subject, "%s.%d" % (self.inbox, self.last), payload,
                                  headers))
        self.sock.sendall(b"".join(out))
        got = {}
        while len(got) < len(out):
            subject, head, payload = self.receive()
            got[int(subject.rsplit(".", 1)[1])] = (head, payload)
        return [got[n] for n in range(first, self.last + 1)]

    def api(self, what, body=None, error=False):
        """A question of JetStream's; error: it may be one."""
        payload = json.dumps(body).encode() if body is not None else b""
        _, answer = self.ask_all([("$JS.API." + what, payload, None)])[0]
        answer = json.loads(answer)
        assert error or "error" not in answer, answer
        return answer

    def make(self, stream, subjects, **config):
        """A stream."""
        self.api("STREAM.CREATE." + stream,
                 {"name": stream, "subjects": subjects, "storage": "file", **config})

    def change(self, stream, **config):
        """Its configuration."""
        now = self.api("STREAM.INFO." + stream)["config"]
        self.api("STREAM.UPDATE." + stream, {**now, **config})

    def publish(self, subject, payload, headers=None):
        """One message, acknowledged."""
        return self.publish_all([(subject, payload, headers)])[0]

    def publish_all(self, messages, part=500):
        """Many; their acknowledgements."""
        acks = []
        for at in range(0, len(messages), part):
            acks += [json.loads(payload)
                     for _, payload in self.ask_all(messages[at:at + part])]
        assert all("error" not in ack for ack in acks), acks
        return acks

    def state(self, stream):
        """Of a stream; None without it."""
        return self.api("STREAM.INFO." + stream, error=True).get("state")

    def count(self, stream):
        """Messages of a stream."""
        state = self.state(stream)
        return state["messages"] if state else 0

    def consumer(self, stream, name):
        """What the server tells of it; None without it."""
        info = self.api("CONSUMER.INFO.%s.%s" % (stream, name), error=True)
        return None if "error" in info else info

    def messages(self, stream, part=500):
        """All: dictionaries of subject, seq, headers and data."""
        state, found = self.state(stream), []
        numbers = range(state["first_seq"], state["last_seq"] + 1)
        for at in range(0, len(numbers), part):
            for _, answer in self.ask_all(
                    [("$JS.API.STREAM.MSG.GET." + stream, b'{"seq":%d}' % n, None)
                     for n in numbers[at:at + part]]):
                answer = json.loads(answer)
                if "message" in answer:
                    found.append(read_message(answer["message"]))
        return found

    def wait_count(self, stream, count, seconds=PATIENCE):
        """Until the stream has so many messages."""
        wait_for(lambda: self.count(stream) >= count, "%d messages in %s" % (count, stream),
                 seconds)


def read_message(message):
    """As Client.messages gives it."""
    head = base64.b64decode(message.get("hdrs", "")).split(b"\r\n")[1:]
    headers = dict(line.split(b": ", 1) for line in head if line)
    return {"subject": message["subject"], "seq": message["seq"],
            "headers": {name.decode(): value.decode() for name, value in headers.items()},
            "data": base64.b64decode(message.get("data", ""))}

