"""Real servers for tests, each in a folder and on a loopback port of its own.

    with servers.Redis(bench.path("redis"), appendonly=True) as redis:
        redis.call("XADD", "orders", "*", "data", "1")   # b"1700000000000-0"
        redis.kill(); redis.start()                      # same port, same data
        redis.pause(); redis.resume()                    # SIGSTOP, SIGCONT
    with servers.Nats(bench.path("nats")) as nats:
        nats.make("S", ["s.>"])
        nats.publish("s.a", b"1", {"Nats-Msg-Id": "1"})
        [message.data for message in nats.messages("S")]

They are started when they are made, and skip the test where the program is not installed.
They die with the thread that started them. call() and its like connect by themselves, also
after a restart; client() gives a connection of one's own. Nothing sleeps to let things
happen: what waits has a deadline.
"""
import base64
import collections
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from helper import PATIENCE, wait_for
from ports import free_port


class Error(Exception):
    """What the server answers instead of a result. code: of JetStream's API, or of a
    status without a message; else 0."""

    def __init__(self, text, code=0):
        super().__init__(text)
        self.text, self.code = text, code


def program(name):
    """Its path; skips the test without it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not found:
        pytest.skip("%s is not installed" % name)
    return found


class Certificates:
    """ca, and for server and client each a certificate and a key: paths of PEM files. The
    server's name is localhost and 127.0.0.1."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca, self.ca_key = self.folder / "ca.pem", self.folder / "ca.key"
        self._openssl("req", "-x509", "-subj", "/CN=test ca", "-days", "2", *self.NEW,
                      "-keyout", self.ca_key, "-out", self.ca)
        self.server, self.server_key = self._signed("server")
        self.client, self.client_key = self._signed("client")

    NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    @staticmethod
    def _openssl(*words):
        subprocess.run([program("openssl"), *map(str, words)], check=True,
                       capture_output=True, timeout=PATIENCE)

    def _signed(self, name):
        made, key = self.folder / (name + ".pem"), self.folder / (name + ".key")
        request, more = self.folder / (name + ".csr"), self.folder / (name + ".ext")
        more.write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\n")
        self._openssl("req", "-subj", "/CN=" + name, *self.NEW, "-keyout", key,
                      "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey",
                      self.ca_key, "-CAcreateserial", "-days", "2", "-extfile", more,
                      "-out", made)
        return made, key

    def context(self):
        """For Python's own clients, with the client's certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.client, self.client_key)
        return context


class Server:
    """A process that is started, paused, killed and started again on the same port with
    the same data. Its log is the file `log` in the folder."""

    NAME = None  # of the program

    def __init__(self, folder, tls=False):
        self.program = program(self.NAME)
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificates = Certificates(self.folder / "tls") if tls else None
        self.port, self.child = None, None
        self._lock, self._own = threading.Lock(), None

    def command(self):
        """The arguments behind the program's name; may write files for them."""
        raise NotImplementedError

    def client(self):
        """A new connection."""
        raise NotImplementedError

    def answers(self):
        """Whether it serves."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _launch(self):
        # setpriv sets PR_SET_PDEATHSIG in the child and becomes the program.
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "KILL", self.program,
                 *map(str, self.command())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)

    def _serves(self):
        if not self.running():
            return "ended"
        with contextlib.suppress(OSError, Error):
            if self.answers():
                return "serves"
        return None

    def start(self, seconds=PATIENCE):
        """Starts it, and waits until it answers. Its port is chosen at the first time."""
        assert not self.running(), "it runs"
        fixed = self.port is not None
        for _ in range(5):
            if not fixed:
                self.port = free_port()
            self._launch()
            try:
                state = wait_for(self._serves, self.NAME + " answers", seconds)
            except AssertionError as error:
                self.kill()
                raise AssertionError("%s\n%s" % (error, self.log())) from None
            if state == "serves":
                return self
            if fixed or "in use" not in self.log():  # else somebody else took the port
                break
        raise AssertionError("%s has ended:\n%s" % (self.NAME, self.log()))

    def log(self):
        """The end of what it has logged."""
        return (self.folder / "log").read_text("utf-8", "replace")[-4000:]

    @property
    def pid(self):
        """Of the process."""
        return self.child.pid

    def running(self):
        """Whether there is a process, paused or not."""
        return self.child is not None and self.child.poll() is None

    def _end(self, number):
        if self.running():
            self.child.send_signal(number)
            self.child.send_signal(signal.SIGCONT)
            self.child.wait(PATIENCE)
        self.forget()

    def kill(self):
        """kill -9, and waits; its data stays."""
        self._end(signal.SIGKILL)

    def stop(self):
        """SIGTERM, and waits."""
        self._end(signal.SIGTERM)

    def restart(self):
        """kill -9, and starts it on the same port with the same data."""
        self.kill()
        return self.start()

    def pause(self):
        """SIGSTOP; it has stopped when this returns."""
        self.child.send_signal(signal.SIGSTOP)

        def stopped():
            with open("/proc/%d/stat" % self.pid, encoding="ascii") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "T"
        wait_for(stopped, self.NAME + " has stopped")

    def resume(self):
        """SIGCONT."""
        self.child.send_signal(signal.SIGCONT)

    def close(self):
        """Ends it however it is; its folder is the test's."""
        self.kill()

    def forget(self):
        """Closes the connection that call() and its like use."""
        with self._lock:
            if self._own:
                self._own.close()
            self._own = None

    def _ask(self, function):
        """function of a connection that is kept; a broken one is not."""
        with self._lock:
            if not self._own:
                self._own = self.client()
            try:
                return function(self._own)
            except (OSError, EOFError):
                self._own.close()
                self._own = None
                raise


class Stream:
    """A socket that is read by lines and sizes."""

    def __init__(self, port, seconds):
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def secure(self, context):
        """Goes on in TLS."""
        self.file.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")

    def send(self, data):
        """All of it."""
        self.socket.sendall(data)

    def line(self):
        """The next line without its end."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server has closed the connection")
        return line[:-2]

    def take(self, size):
        """So many bytes, and the end of line behind them."""
        data = self.file.read(size + 2)
        if len(data) < size + 2:
            raise EOFError("the server has closed the connection")
        return data[:-2]

    def close(self):
        """May be called twice."""
        with contextlib.suppress(OSError):
            self.file.close()
            self.socket.close()


# --- Redis ------------------------------------------------------------------------------

def as_bytes(value):
    """Bytes as they are, text and numbers as text."""
    return value if isinstance(value, (bytes, bytearray)) else str(value).encode()


class RedisClient(Stream):
    """A connection that speaks RESP2. Results are bytes, int, None or lists of these; an
    error raises Error, but within a list it is an Error itself."""

    def __init__(self, port, context=None, user=None, password=None, seconds=PATIENCE):
        super().__init__(port, seconds)
        if context:
            self.secure(context)
        if password is not None:
            self.call("AUTH", *([user] if user else []), password)

    def ask(self, *words):
        """Sends a command only: answer() gives the result later."""
        parts = [as_bytes(word) for word in words]
        self.send(b"*%d\r\n" % len(parts) +
                  b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def answer(self):
        """The next result."""
        found = self._value()
        if isinstance(found, Error):
            raise found
        return found

    def call(self, *words):
        """The result of a command."""
        self.ask(*words)
        return self.answer()

    def _value(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Error(rest.decode("utf-8", "replace"))
        number = int(rest)
        if kind == b":":
            return number
        if number < 0:
            return None
        return self.take(number) if kind == b"$" else [self._value() for _ in range(number)]


class Redis(Server):
    """A redis-server.

    appendonly: it has a log of all writes, synced as `appendfsync` says ("always",
    "everysec", "no"); what it held is there again after kill(). maxmemory: "10mb", with
    the policy. password: of the default user. users: ACL rules, "alice on >pw ~* +@all";
    the tests' own connection stays the default user's. tls: the port speaks TLS, with
    .certificates; client certificates are taken, and not wanted. settings: more
    configuration, name to value. It has a unix socket at .path, too."""

    NAME = "redis-server"

    def __init__(self, folder, appendonly=False, appendfsync="always", maxmemory=None,
                 policy="noeviction", password=None, users=(), tls=False, settings=None):
        super().__init__(folder, tls)
        self.path = self.folder / "sock"
        self.password, self.users = password, list(users)
        self.settings = {"appendonly": "yes" if appendonly else "no",
                         "appendfsync": appendfsync, "save": "",
                         "maxmemory-policy": policy, **(settings or {})}
        if maxmemory:
            self.settings["maxmemory"] = maxmemory
        self.start()

    def url(self, user=None, password=None, database=None):
        """With the default user's password unless told otherwise."""
        password = self.password if password is None else password
        return "%s://%s127.0.0.1:%d%s" % (
            "rediss" if self.certificates else "redis",
            "%s:%s@" % (user or "", password) if password is not None else "",
            self.port, "" if database is None else "/%d" % database)

    def command(self):
        rows = {"port": 0 if self.certificates else self.port, "bind": "127.0.0.1",
                "unixsocket": self.path, "dir": self.folder, "daemonize": "no",
                **self.settings}
        if self.certificates:
            made = self.certificates
            rows.update({"tls-port": self.port, "tls-ca-cert-file": made.ca,
                         "tls-cert-file": made.server, "tls-key-file": made.server_key,
                         "tls-auth-clients": "optional"})
        if self.password is not None:
            rows["requirepass"] = self.password
        lines = ['%s "%s"' % row for row in rows.items()]
        lines += ["user " + user for user in self.users]
        path = self.folder / "conf"
        path.write_text("\n".join(lines) + "\n")
        return [path]

    def client(self, user=None, password=None, seconds=PATIENCE):
        return RedisClient(self.port, self.certificates and self.certificates.context(),
                           user, self.password if password is None else password, seconds)

    def answers(self):
        return self.call("PING") == b"PONG"  # else an error: it loads

    def call(self, *words):
        """The result of a command."""
        return self._ask(lambda client: client.call(*words))

    def pipeline(self, commands):
        """The results of many commands, which are sent together; an Error for an error."""
        def run(client):
            for words in commands:
                client.ask(*words)
            return [client._value() for _ in commands]
        return self._ask(run)

    def entries(self, stream, first="-", last="+"):
        """The entries of a stream in order: (id, fields) as bytes and a dict."""
        found, page = [], 1000
        while True:
            rows = self.call("XRANGE", stream, first, last, "COUNT", page)
            found += [(row[0], dict(zip(row[1][::2], row[1][1::2]))) for row in rows]
            if len(rows) < page:
                return found
            first = b"(" + rows[-1][0]

    def values(self, stream, field=b"data"):
        """Of each entry this field's."""
        return [fields[field] for _, fields in self.entries(stream)]

    def add(self, stream, values, field="data", part=500):
        """Adds an entry for each value."""
        commands = [("XADD", stream, "*", field, value) for value in values]
        for start in range(0, len(commands), part):
            for answer in self.pipeline(commands[start:start + part]):
                assert not isinstance(answer, Error), answer

    def pending(self, stream, group):
        """How many entries are pending in the group."""
        return self.call("XPENDING", stream, group)[0]


# --- NATS -------------------------------------------------------------------------------

Message = collections.namedtuple("Message", "subject data headers reply status")
Stored = collections.namedtuple("Stored", "seq subject data headers time")


def read_headers(block):
    """(status, dict) of a block of headers; status 0: none."""
    lines = block.decode("utf-8", "replace").split("\r\n")
    first = lines[0].split(" ", 2)
    rows = (line.split(":", 1) for line in lines[1:] if ":" in line)
    return (int(first[1]) if len(first) > 1 and first[1][:3].isdigit() else 0,
            {name.strip(): value.strip() for name, value in rows})


class NatsClient(Stream):
    """A connection that speaks the text protocol, with an inbox for replies."""

    def __init__(self, port, context=None, login=None, seconds=PATIENCE):
        super().__init__(port, seconds)
        self.info = json.loads(self.line().split(b" ", 1)[1])
        if context:
            self.secure(context)
        self.inbox = "_INBOX.%s" % os.urandom(9).hex()
        self.seconds, self.number = seconds, 0
        self.early = collections.defaultdict(collections.deque)  # by sid
        self.sids = 1
        connect = "CONNECT " + json.dumps({
            "verbose": False, "pedantic": False, "headers": True, "no_responders": True,
            "lang": "python-tests", "version": "0", **(login or {})})
        self.flush(connect, "SUB %s.* 1" % self.inbox)

    def _say(self, *lines):
        self.send(b"".join(line.encode() + b"\r\n" for line in lines))

    def flush(self, *lines):
        """Sends these lines. What was sent has been seen by the server; raises its error,
        if it had one."""
        self._say(*lines, "PING")  # at once: it may close after the first
        while self._step() != "PONG":
            pass

    def subscribe(self, subject):
        """A sid for receive()."""
        self.sids += 1
        self.flush("SUB %s %d" % (subject, self.sids))
        return self.sids

    def publish(self, subject, data=b"", headers=None, reply=""):
        """Sends a message; nothing says that it has arrived (flush() does)."""
        data, reply = as_bytes(data), reply + " " if reply else ""
        if headers:
            block = b"NATS/1.0\r\n" + b"".join(
                b"%s: %s\r\n" % (as_bytes(name), as_bytes(value))
                for name, value in headers.items()) + b"\r\n"
            self.send(b"HPUB %s %s%d %d\r\n" % (subject.encode(), reply.encode(),
                                                len(block), len(block) + len(data)) +
                      block + data + b"\r\n")
        else:
            self.send(b"PUB %s %s%d\r\n" % (subject.encode(), reply.encode(), len(data)) +
                      data + b"\r\n")

    def request(self, subject, data=b"", headers=None):
        """The reply. Raises Error when nobody serves that subject."""
        return self.request_all([(subject, data, headers)])[0]

    def request_all(self, requests):
        """The replies to many (subject, data, headers), which are sent together."""
        found = {}  # subject that was asked, reply; by inbox
        for subject, data, headers in requests:
            self.number += 1
            inbox = "%s.%d" % (self.inbox, self.number)
            found[inbox] = subject, None
            self.publish(subject, data, headers, inbox)
        missing = len(found)
        while missing:
            reply = self.receive(1)
            if reply.subject in found:  # else one of requests that were given up
                found[reply.subject] = found[reply.subject][0], reply
                missing -= 1
        for subject, reply in found.values():
            if reply.status == 503:
                raise Error("nobody answers %s" % subject, 503)
        return [reply for _, reply in found.values()]

    def receive(self, sid):
        """The next message of a subscription; socket.timeout when none comes."""
        while not self.early[sid]:
            self._step()
        return self.early[sid].popleft()

    def _step(self):
        """Takes one message of the protocol and gives its word."""
        words = self.line().decode().split(" ")
        word = words[0].upper()
        if word == "PING":
            self._say("PONG")
        elif word == "-ERR":
            raise Error(" ".join(words[1:]).strip("'"))
        elif word in ("MSG", "HMSG"):
            self._keep(word, words[1:])
        return word

    def _keep(self, word, words):
        sizes = int(words[-1]), int(words[-2]) if word == "HMSG" else 0
        rest = words[2:-1 if word == "MSG" else -2]
        body = self.take(sizes[0])
        status, headers = read_headers(body[:sizes[1]]) if sizes[1] else (0, {})
        self.early[int(words[1])].append(Message(
            words[0], body[sizes[1]:], headers, rest[0] if rest else "", status))


class Nats(Server):
    """A nats-server with JetStream.

    jetstream: limits, {"max_file_store": "10MB"}; False: without. users: dicts of `user`,
    `password` and what else one of them may have (`permissions`); the first is the tests'
    own. token: instead of users. tls: connections must go on in TLS, with .certificates;
    "verify": and must show a certificate. settings: more text of the configuration."""

    NAME = "nats-server"

    def __init__(self, folder, jetstream=None, users=(), token=None, tls=False,
                 settings=""):
        super().__init__(folder, tls)
        self.users, self.token, self.tls = list(users), token, tls
        self.jetstream = {} if jetstream is None or jetstream is True else jetstream
        self.settings = settings
        self.start()

    def url(self, user=None, password=None):
        """With the first user's password, or the token, unless told otherwise."""
        login = ""
        if user is not None:
            login = "%s:%s@" % (user, password)
        elif self.users:
            login = "%s:%s@" % (self.users[0]["user"], self.users[0]["password"])
        elif self.token:
            login = self.token + "@"
        return "%s://%s127.0.0.1:%d" % ("tls" if self.certificates else "nats", login,
                                        self.port)

    def command(self):
        text = ["listen: \"127.0.0.1:%d\"" % self.port]
        if self.jetstream is not False:
            rows = {"store_dir": str(self.folder / "js"), **self.jetstream}
            text.append("jetstream: %s" % json.dumps(rows))
        if self.users:
            text.append("authorization: %s" % json.dumps({"users": self.users}))
        elif self.token:
            text.append("authorization: %s" % json.dumps({"token": self.token}))
        if self.certificates:
            made = self.certificates
            text.append("tls: %s" % json.dumps({
                "cert_file": str(made.server), "key_file": str(made.server_key),
                "ca_file": str(made.ca), "verify": self.tls == "verify"}))
        path = self.folder / "conf"
        path.write_text("\n".join(text) + "\n" + self.settings + "\n")
        return ["-c", path]

    def client(self, user=None, password=None, token=None, seconds=PATIENCE):
        login = {}
        if user is not None:
            login = {"user": user, "pass": password}
        elif token or self.token:
            login = {"auth_token": token or self.token}
        elif self.users:
            login = {"user": self.users[0]["user"], "pass": self.users[0]["password"]}
        return NatsClient(self.port, self.certificates and self.certificates.context(),
                          login, seconds)

    def answers(self):
        with contextlib.closing(self.client()) as client:
            client.flush()
            if self.jetstream is False:
                return True
            return "error" not in json.loads(client.request("$JS.API.INFO").data)

    def publish(self, subject, data=b"", headers=None):
        """Publishes to a stream and waits for its acknowledgement, which it gives."""
        return self.publish_all([(subject, data, headers)])[0]

    def publish_all(self, messages, part=500):
        """The same for many (subject, data, headers), some at a time."""
        return [result(reply) for start in range(0, len(messages), part)
                for reply in self._request_all(messages[start:start + part])]

    def _request_all(self, requests):
        return self._ask(lambda client: client.request_all(requests))

    def api(self, name, body=None):
        """What $JS.API.name answers; raises Error with its code (404, 10058, ..)."""
        data = b"" if body is None else json.dumps(body)
        return result(self._request_all([("$JS.API." + name, data, None)])[0])

    def _info(self, name):
        """None: there is no such stream or consumer."""
        try:
            return self.api(name)
        except Error as error:
            if error.code not in (10059, 10014):
                raise
            return None

    def make(self, stream, subjects, **config):
        """A stream, on disk unless told otherwise."""
        self.api("STREAM.CREATE." + stream,
                 {"name": stream, "subjects": subjects, "storage": "file", **config})

    def change(self, stream, **config):
        """Its configuration."""
        self.api("STREAM.UPDATE." + stream, {**self.stream(stream)["config"], **config})

    def stream(self, name):
        """STREAM.INFO: config, state."""
        return self.api("STREAM.INFO." + name)

    def consumer(self, stream, name):
        """CONSUMER.INFO; None without it."""
        return self._info("CONSUMER.INFO.%s.%s" % (stream, name))

    def count(self, stream):
        """Its messages; 0 without it."""
        info = self._info("STREAM.INFO." + stream)
        return info["state"]["messages"] if info else 0

    def wait_count(self, stream, count, seconds=PATIENCE):
        """Until it has so many."""
        wait_for(lambda: self.count(stream) >= count, "%d messages in %s" % (count, stream),
                 seconds)

    def messages(self, name, first=None, last=None, part=500):
        """What the stream holds, in order; without what was deleted from its midst."""
        state = self.stream(name)["state"]
        first, last = first or state["first_seq"], last or state["last_seq"]
        found = []
        for start in range(first, last + 1, part):
            found += self._request_all(
                [("$JS.API.STREAM.MSG.GET." + name, json.dumps({"seq": seq}), None)
                 for seq in range(start, min(start + part, last + 1))])
        rows = [json.loads(reply.data) for reply in found]
        return [stored(row["message"]) for row in rows if "message" in row]


def result(reply):
    """What JetStream has answered; raises Error."""
    answer = json.loads(reply.data)
    if "error" in answer:
        error = answer["error"]
        raise Error(error.get("description", ""), error.get("err_code", error.get("code", 0)))
    return answer


def stored(row):
    """A Stored of what STREAM.MSG.GET gives."""
    def decode(name):
        return base64.b64decode(row.get(name, ""))
    return Stored(row["seq"], row["subject"], decode("data"),
                  read_headers(decode("hdrs"))[1], row["time"])
