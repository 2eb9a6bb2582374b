"""`weir keys`: files and their modes, what is refused, and what the doctor finds, also of
servers that pyzmq plays."""
import contextlib
import json
import os
import socket
import stat
import threading

import pytest
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from helper import WEIR, Live, count_rows, wait_for
from ports import free_port


class Keys:
    """A folder of keys in the test's folder."""

    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        self.folder = bench.path("keys-" + name)

    def do(self, *words, code=0):
        """The Run of a command, which must end with that code; None: with any."""
        run = self.bench.weir("keys", *words, "--keys", self.folder)
        assert code in (None, run.code), run.out + run.err
        assert "Sanitizer" not in run.err, run.err
        return run

    def path(self, name):
        """A path in the folder."""
        return self.folder / name

    def mode(self, name):
        """The mode of a file."""
        return stat.S_IMODE(self.path(name).stat().st_mode)

    def pair(self):
        """Public and secret key, as pyzmq reads them."""
        return zmq.auth.load_certificate(self.path("self.key"))

    def trust(self, other, roles="none", *more):
        """Allows another one's self.pub."""
        return self.do("allow", other.path("self.pub"), "--role", roles, *more)

    def doctor(self, *words, code):
        """What the doctor says."""
        return self.do("doctor", *words, code=code).out


@pytest.fixture(name="make")
def maker(bench):
    """Makes nodes by name."""
    def make(name):
        keys = Keys(bench, name)
        keys.do("init", name)
        return keys
    return make


# --- Files ------------------------------------------------------------------------------

def test_init_makes_files_for_the_owner_alone(make):
    old = os.umask(0)
    try:
        a = make("a")
    finally:
        os.umask(old)
    assert a.mode("") == 0o700 and a.mode("peers") == 0o700
    assert a.mode("self.key") == 0o600 and a.mode("self.pub") == 0o644
    public, secret = a.pair()
    assert len(public) == 40 and zmq.curve_public(secret) == public
    assert secret.decode() not in a.path("self.pub").read_text()
    assert sorted(p.name for p in a.folder.iterdir()) == ["peers", "self.key", "self.pub"]


def test_init_overwrites_nothing(make):
    a = make("a")
    before = a.path("self.key").read_bytes()
    for name in ("a", "b"):
        assert "already" in a.do("init", name, code=1).err
    a.path("self.pub").unlink()
    assert "already" in a.do("init", "b", code=1).err
    assert a.path("self.key").read_bytes() == before
    assert "missing" in a.doctor(code=1)
    a.do("init", "a")
    assert a.path("self.key").read_bytes() == before
    assert zmq.auth.load_certificate(a.path("self.pub"))[0] == a.pair()[0]
    assert "nothing is wrong" in a.doctor(code=0)


@pytest.mark.parametrize("words, text", [
    (["init", "a b"], "a name has 1 to 63"),
    (["init", "../a"], "a name has 1 to 63"),
    (["init", "a" * 64], "a name has 1 to 63"),
    (["init"], "NAME is missing"),
    (["init", "a", "b"], "too much"),
    (["inti", "a"], "did you mean 'keys init'"),
    (["revoke", "../../etc"], "a name has 1 to 63"),
])
def test_misuse_is_told(bench, words, text):
    run = bench.weir("keys", *words)
    assert run.code == 2 and text in run.err


def test_a_group_lists_its_commands(bench):
    for words, code in ((["keys"], 2), (["keys", "--help"], 0), (["help"], 0)):
        run = bench.weir(*words)
        text = run.out + run.err
        assert run.code == code
        for name in ("init", "show", "allow", "revoke", "doctor"):
            assert "keys " + name in text, text
    assert "[ENDPOINT]" in bench.weir("keys", "doctor", "--help").out


def test_show_tells_who_is_trusted(make):
    a, b, c = make("a"), make("b"), make("c")
    a.trust(b, "produce,consume", "--expires", "2099-01-31")
    a.trust(c)
    text = a.do("show").out
    assert str(a.path("self.pub")) in text and a.pair()[0].decode() in text
    own = json.loads(a.do("show", "--json").out)
    assert own["name"] == "a" and own["file"] == str(a.path("self.pub"))
    first, second = own["peers"]
    assert first["name"] == "b" and first["roles"] == ["produce", "consume"]
    assert first["expires"] == "2099-01-31" and first["valid"]
    assert first["public_key"] == b.pair()[0].decode()
    assert first["short"] == json.loads(b.do("show", "--json").out)["short"]
    assert second["roles"] == [] and second["expires"] is None


def test_allow_copies_no_more_than_the_key(make):
    a, b = make("a"), make("b")
    a.trust(b, "produce")
    a.trust(b, "consume", "--expires", "2099-01-31T12:00:00Z")
    assert a.mode("peers/b.pub") == 0o644
    text = a.path("peers/b.pub").read_text()
    assert '"consume"' in text and '"2099-01-31T12:00:00Z"' in text
    assert "secret-key" not in text and "produce" not in text


def test_allow_takes_certificates_of_others(make, bench):
    a = make("a")
    zmq.auth.create_certificates(bench.folder, "theirs")
    theirs = bench.path("theirs.key")
    assert "has no name" in a.do("allow", theirs, "--role", "produce", code=2).err
    a.do("allow", theirs, "--role", "produce", "--as", "py")
    assert zmq.auth.load_certificate(a.path("peers/py.pub")) \
        == zmq.auth.load_certificate(theirs)


def test_allow_refuses_what_would_be_unsafe(make, bench):
    a, b, c = make("a"), make("b"), make("c")

    def refused(text, file, *words, code=1):
        assert text in a.do("allow", file, *words, code=code).err
        assert not list(a.path("peers").glob("x*"))

    public = b.path("self.pub")
    refused("holds a secret", b.path("self.key"), "--role", "none", "--as", "x")
    refused("which ones?", public, code=2)
    refused("no such role", public, "--role", "produce,root", code=2)
    refused("expected a time", public, "--role", "none", "--expires", "soon", code=2)
    refused("is over", public, "--role", "none", "--expires", "2020-01-01", code=2)
    refused("not found", bench.path("none"), "--role", "none")
    refused("no certificate", bench.write("junk", "junk\n"), "--role", "none")
    a.trust(b)
    refused("known as 'b'", public, "--role", "none", "--as", "x")
    refused("another key", c.path("self.pub"), "--role", "none", "--as", "b")
    assert zmq.auth.load_certificate(a.path("peers/b.pub"))[0] == b.pair()[0]


def test_revoke_removes_a_peer(make):
    a, b = make("a"), make("web-1")
    a.trust(b)
    assert "did you mean 'web-1'" in a.do("revoke", "web_1", code=1).err
    a.do("revoke", "web-1")
    assert not a.path("peers/web-1.pub").exists()
    assert "no peer 'web-1'" in a.do("revoke", "web-1", code=1).err


# --- The doctor at home -----------------------------------------------------------------

def test_doctor_without_keys(bench):
    none = Keys(bench, "none")
    assert "weir keys init" in none.doctor(code=1)


def test_doctor_finds_what_is_wrong_in_the_folder(make):
    a, b, c, d = make("a"), make("b"), make("c"), make("d")
    a.trust(b, "produce")
    assert "nothing is wrong" in a.doctor(code=0)
    a.trust(c)
    text = a.doctor(code=0)
    assert "'c' has no role" in text

    os.chmod(a.path("self.key"), 0o644)
    assert "chmod 600" in a.doctor(code=1)
    os.chmod(a.path("self.key"), 0o600)

    os.chmod(a.path("peers"), 0o777)
    assert "decide who is trusted: chmod 700" in a.doctor(code=1)
    os.chmod(a.path("peers"), 0o700)

    a.path("peers/e.pub").write_bytes(d.path("self.pub").read_bytes())
    assert "certificate of 'd'" in a.doctor(code=1)
    a.path("peers/e.pub").write_text("metadata\n  name = e\n")
    assert "line 2: indentation" in a.doctor(code=1)
    a.path("peers/e.pub").unlink()

    text = a.path("peers/b.pub").read_text()
    a.path("peers/b.pub").write_text(
        text.replace("curve", '    expires = "2020-01-01"\ncurve'))
    assert "over at 2020-01-01" in a.doctor(code=1)
    a.path("peers/b.pub").write_text(text)

    a.path("self.pub").write_bytes(d.path("self.pub").read_bytes())
    assert "not of self.key" in a.doctor(code=1)
    found = json.loads(a.doctor("--json", code=1))
    assert [f["where"] for f in found] == [str(a.path("self.pub"))]
    a.path("self.pub").write_bytes(a.path("self.key").read_bytes())
    os.chmod(a.path("self.pub"), 0o600)
    assert "holds the secret" in a.doctor(code=1)


def test_doctor_tells_who_was_refused_here(make):
    a, b = make("a"), make("b")
    refusal = {"time_ms": 1800000000000, "count": 7, "address": "10.0.0.7",
               "key": b.pair()[0].decode(), "name": "", "role": "produce",
               "cause": "nobody in peers/ has its key"}
    a.path("refused.json").write_text(json.dumps({"version": 1, "refused": [refusal]}))
    text = a.doctor(code=1)
    for part in ("10.0.0.7", refusal["key"], "7 times", "2027-01-15T08:00:00Z",
                 refusal["cause"], "--role produce"):
        assert part in text, text
    a.trust(b, "consume")
    text = a.doctor(code=1)
    assert "10.0.0.7 (b" in text and "a stranger" not in text
    assert "it has not the role produce; its roles: consume" in text
    assert "peers/b.pub --role produce" in text
    a.trust(b, "produce")
    assert "10.0.0.7" not in a.doctor(code=0)
    a.path("refused.json").write_text("junk")
    assert "malformed" in a.doctor(code=1)


# --- The doctor and the other side ------------------------------------------------------

@contextlib.contextmanager
def curve_server(keys, allowed, kind=zmq.ROUTER):
    """A CURVE server of pyzmq with that key, which lets in who is in that folder."""
    context = zmq.Context()
    auth = ThreadAuthenticator(context)
    auth.start()
    auth.configure_curve(domain="*", location=str(allowed))
    server = context.socket(kind)
    server.curve_publickey, server.curve_secretkey = keys.pair()
    server.curve_server, server.linger = True, 0
    port = server.bind_to_random_port("tcp://127.0.0.1")
    try:
        yield "tcp://127.0.0.1:%d" % port
    finally:
        server.close()
        auth.stop()
        context.term()


@contextlib.contextmanager
def tcp_server(answer):
    """Takes connections and says these bytes to each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])
                    if answer:
                        kept[-1].sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "tcp://127.0.0.1:%d" % listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()
        thread.join(10)


def allowed_folder(bench, *nodes):
    """A folder as zmq.auth wants it."""
    folder = bench.path("allowed")
    folder.mkdir(exist_ok=True)
    for node in nodes:
        (folder / (node.name + ".key")).write_bytes(node.path("self.pub").read_bytes())
    return folder


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.PULL, zmq.PUB])
def test_doctor_says_that_it_works(bench, make, kind):
    a, b = make("a"), make("b")
    a.trust(b)
    with curve_server(b, allowed_folder(bench, a), kind) as endpoint:
        assert "it works: 'b' takes our key" in a.doctor(endpoint, code=0)
        assert "it works" in a.doctor(endpoint, "--server", "b", code=0)


def test_doctor_says_that_our_key_is_refused(bench, make):
    a, b = make("a"), make("b")
    a.trust(b)
    with curve_server(b, allowed_folder(bench)) as endpoint:
        text = a.doctor(endpoint, code=1)
    assert "it refuses our key" in text and "over there" in text


def test_doctor_says_that_their_key_is_another(bench, make):
    a, b, c = make("a"), make("b"), make("c")
    a.trust(b)
    with curve_server(c, allowed_folder(bench, a)) as endpoint:
        assert "its key is not the one" in a.doctor(endpoint, "--server", "b", code=1)


def test_doctor_without_a_certificate_of_the_server(bench, make):
    a, b = make("a"), make("b")
    with curve_server(b, allowed_folder(bench, a)) as endpoint:
        assert "--server NAME says" in a.doctor(endpoint, code=1)
        assert "no certificate of 'b'" in a.doctor(endpoint, "--server", "b", code=1)


def test_doctor_says_that_it_is_plaintext(make):
    a, b = make("a"), make("b")
    a.trust(b)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        text = a.doctor("tcp://127.0.0.1:%d" % port, code=1)
    assert "ZeroMQ without CURVE" in text and "(NULL)" in text


@pytest.mark.parametrize("answer, text", [
    (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" * 4, "another service's port"),
    (b"", "says nothing"),
])
def test_doctor_says_that_it_is_no_weir(make, answer, text):
    a, b = make("a"), make("b")
    a.trust(b)
    with tcp_server(answer) as endpoint:
        assert text in a.doctor(endpoint, code=1)


@pytest.mark.parametrize("endpoint, text", [
    ("tcp://127.0.0.1", "expected tcp://HOST:PORT"),
    ("ipc://x", "expected tcp://HOST:PORT"),
    ("tcp://no.such.host.invalid:5000", "no such host"),
])
def test_doctor_says_that_the_endpoint_is_none(make, endpoint, text):
    assert text in make("a").doctor(endpoint, code=1)


def test_doctor_says_that_nobody_listens(make):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "nobody listens" in make("a").doctor("tcp://127.0.0.1:%d" % port, code=1)


def test_no_secret_is_ever_printed(bench, make):
    a, b = make("a"), make("b")
    secret = a.pair()[1].decode()
    said = [a.trust(b), a.do("show"), a.do("show", "--json"), a.do("doctor")]
    said += [a.do("allow", a.path("self.key"), "--role", "none", code=1)]
    broken = a.path("self.key").read_text().replace('secret-key = "', 'secret-key = "x')
    a.path("self.key").write_text(broken)
    said += [a.do("doctor", code=1), a.do("show", code=1)]
    assert all(secret not in run.out + run.err for run in said)


# --- Two running weirs ------------------------------------------------------------------

STORE = """
settings { name = "store" }
security { keys = "keys-store" }
source.link "in" { listen = "tcp://127.0.0.1:%d" }
sink.file "out" { from = "in", path = "out.ndjson" }
"""
WEB = """
settings { name = "web" }
security { keys = "keys-web" }
source.file "lines" { path = "in.ndjson" }
sink.link "out" { from = "lines", connect = "tcp://127.0.0.1:%d", server = "store" }
"""


def start_weir(bench, name, text):
    """A Live of that topology."""
    live = Live(bench, [WEIR, "run", str(bench.write(name, text))])
    live.wait_ready()
    return live


def test_whom_we_do_not_know_any_more_we_send_nothing(bench, make):
    store, web, port = make("store"), make("web"), free_port()
    web.trust(store)
    store.trust(web, "produce")
    bench.write("in.ndjson", [{"n": n} for n in range(10)])
    start_weir(bench, "store.lua", STORE % port)
    giver = start_weir(bench, "web.lua", WEB % port)
    wait_for(lambda: count_rows(bench.path("out.ndjson")) == 10, "all records")
    web.do("revoke", "store")
    giver.wait_log("link is down .*the certificate of the other side is gone")


def test_trust_comes_and_goes_while_weirs_run(bench, make):
    store, web, port = make("store"), make("web"), free_port()
    web.trust(store)
    bench.write("in.ndjson", [{"n": n} for n in range(10)])
    taker = start_weir(bench, "store.lua", STORE % port)
    endpoint = "tcp://127.0.0.1:%d" % port

    assert "it refuses our key" in web.doctor(endpoint, code=1)
    taker.wait_log("peer refused address=127.0.0.1 .*role=produce")
    wait_for(lambda: "a stranger" in store.do("doctor", code=None).out, "the refusal's file")
    assert "weir keys allow its self.pub --role produce" in store.doctor(code=1)

    store.trust(web, "produce")
    wait_for(lambda: "it works" in web.do("doctor", endpoint, code=None).out, "trust")
    assert "stranger" not in store.doctor(code=0)
    giver = start_weir(bench, "web.lua", WEB % port)
    wait_for(lambda: count_rows(bench.path("out.ndjson")) == 10, "all records")

    store.path("refused.json").unlink()
    store.do("revoke", "web")
    wait_for(lambda: "a stranger" in store.do("doctor", code=None).out,
             "the end of the live connection, and the refusal of the next")
    secrets = [node.pair()[1].decode() for node in (store, web)]
    for live in (giver, taker):
        live.kill()
        assert not any(secret in live.text() for secret in secrets)
