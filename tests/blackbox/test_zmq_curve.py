"""source.zmq and sink.zmq by CURVE: names, roles, strangers, revocation."""
import json

import pytest
import zmq
from helper import count_rows, objects, rows, wait_for
from test_zmq import OUT, TELL, Peers, start, wait_rows

SECURE = 'security { keys = "keys" }\n'
IN = SECURE + 'source.zmq "in" { type = %s, listen = "%s" }\n'
FREE = "tcp://127.0.0.1:*"


class Realm(Peers):
    """The node's keys, and peers with certificates of their own."""

    def __init__(self, bench):
        super().__init__(bench)
        self.keys = {}
        done = bench.weir("keys", "init", "node", "--keys", "keys")
        assert done.code == 0, done.err
        text = bench.path("keys/self.pub").read_text(encoding="utf-8")
        self.node_key = text.split('public-key = "')[1].split('"')[0].encode()

    def allow(self, name, roles):
        """Makes keys for a peer and trusts them."""
        self.keys[name] = zmq.curve_keypair()
        self.bench.write(name + ".pub", 'metadata\n    name = "%s"\ncurve\n    public-key = "%s"\n'
                         % (name, self.keys[name][0].decode()))
        done = self.bench.weir("keys", "allow", name + ".pub", "--keys", "keys", "--role", roles)
        assert done.code == 0, done.err

    def revoke(self, name):
        """Trusts it no more."""
        done = self.bench.weir("keys", "revoke", name, "--keys", "keys")
        assert done.code == 0, done.err

    def client(self, kind, endpoint, name=None, **options):
        """A socket that speaks to the node, with the keys of that name or new ones."""
        public, secret = self.keys.get(name) or zmq.curve_keypair()
        return self.open(kind, endpoint, curve_serverkey=self.node_key,
                         curve_publickey=public, curve_secretkey=secret, **options)

    def server(self, kind, name):
        """A socket that waits for the node; gives its endpoint, too."""
        public, secret = self.keys[name]
        sock = self.open(kind, "tcp://127.0.0.1:0", bind=True, curve_server=True,
                         curve_publickey=public, curve_secretkey=secret)
        return sock, sock.last_endpoint.decode()


@pytest.fixture(name="realm")
def fresh_realm(bench):
    """A node with keys."""
    realm = Realm(bench)
    yield realm
    realm.close()


def where(live):
    """The endpoint that a topology listens at."""
    live.wait_log("listening endpoint=")
    return live.text().split("listening endpoint=")[1].split()[0]


def test_a_peer_is_known_by_its_certificate(bench, realm):
    realm.allow("web", "produce")
    realm.allow("db", "produce")
    live = start(bench, IN % ("pull", FREE) + TELL)
    web, db = (realm.client(zmq.PUSH, where(live), name) for name in ("web", "db"))
    count = 2000            # of each, in turn: more changes than a block may have runs
    for _ in range(count):
        web.send(b'{"from":"web"}')
        db.send(b'{"from":"db"}')
    wait_rows(bench, 2 * count)
    live.stop()
    got = objects(bench.path("out.ndjson"))
    assert len(got) == 2 * count
    assert all(json.loads(r["raw"])["from"] == r["peer"] for r in got)


def test_strangers_and_wrong_roles_are_refused(bench, realm):
    realm.allow("web", "produce")
    realm.allow("reader", "consume")
    live = start(bench, IN % ("pull", FREE) + OUT % "in")
    at = where(live)
    refused = [realm.client(zmq.PUSH, at), realm.client(zmq.PUSH, at, "reader"),
               realm.open(zmq.PUSH, at)]
    for push in refused:
        push.send(b'{"bad":1}')
    live.wait_log("refused", count=2)
    realm.client(zmq.PUSH, at, "web").send(b'{"good":1}')
    assert wait_rows(bench, 1) == [b'{"good":1}']
    assert live.stop().node("in")["in"] == 1


def revoked_while_sending(bench, realm, kind, make):
    """Two peers send; one is revoked, the other goes on."""
    realm.allow("web", "produce")
    realm.allow("db", "produce")
    live = start(bench, IN % (kind, FREE) + TELL)
    at = where(live)
    web, db = make(at, "web"), make(at, "db")
    monitor = web.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    web.send(b'{"n":1}')
    db.send(b'{"n":1}')
    wait_rows(bench, 2)
    realm.revoke("web")
    live.wait_log("listening again")
    assert monitor.poll(20000), "the live connection of the revoked peer goes on"
    web.disable_monitor()
    web.send(b'{"n":2}')
    db.send(b'{"n":2}')
    wait_for(lambda: count_rows(bench.path("out.ndjson")) >= 3, "the other peer's record")
    db.send(b'{"n":3}')
    wait_rows(bench, 4)
    live.stop()
    got = [(r["peer"], r["raw"]) for r in objects(bench.path("out.ndjson"))]
    assert [raw for peer, raw in got if peer == "db"] == ['{"n":1}', '{"n":2}', '{"n":3}']
    assert [raw for peer, raw in got if peer == "web"] == ['{"n":1}']


def test_revocation_ends_the_connection_of_a_pusher(bench, realm):
    revoked_while_sending(bench, realm, "pull",
                          lambda at, name: realm.client(zmq.PUSH, at, name))


def test_revocation_ends_the_connection_of_a_dealer(bench, realm):
    revoked_while_sending(bench, realm, "router",
                          lambda at, name: realm.client(zmq.DEALER, at, name,
                                                        identity=name.encode()))


def test_revocation_ends_what_a_reader_gets(bench, realm):
    realm.allow("web", "consume")
    realm.allow("db", "consume")
    live = start(bench, SECURE + 'source.zmq "in" { type = pull, listen = "%s" }\n'
                 'sink.zmq "out" { from = "in", type = push, listen = "%s" }'
                 % (realm.at("in"), FREE))
    at = where(live)
    push, pull = realm.open(zmq.PUSH, "in"), realm.client(zmq.PULL, at, "web")
    push.send(b'{"n":1}')
    assert pull.recv() == b'{"n":1}'
    realm.revoke("web")
    live.wait_log("listening again")
    push.send(b'{"n":2}')
    other = realm.client(zmq.PULL, at, "db")
    assert other.recv() == b'{"n":2}'
    assert pull.poll(0) == 0
    live.stop()


def test_a_source_connects_to_whom_it_trusts_only(bench, realm):
    realm.allow("hub", "none")
    good, at = realm.server(zmq.PUSH, "hub")
    realm.keys["hub"] = zmq.curve_keypair()
    bad, elsewhere = realm.server(zmq.PUSH, "hub")
    live = start(bench, SECURE + 'source.zmq "in" { type = pull, connect = { "%s", "%s" }, '
                 'server = "hub" }\n' % (at, elsewhere) + OUT % "in")
    good.send(b'{"good":1}')
    assert wait_rows(bench, 1) == [b'{"good":1}']
    assert bad.poll(100, zmq.POLLOUT) == 0, "the wrong key was taken"
    live.stop()
    assert rows(bench.path("out.ndjson")) == [b'{"good":1}']


def test_two_weirs_talk_by_curve(bench, realm):
    realm.allow("x", "produce")
    node = bench.path("keys/self.pub")
    assert bench.weir("keys", "allow", node, "--keys", "keys", "--role",
                      "produce").code == 0
    live = start(bench, IN % ("router", FREE) + OUT % "in")
    bench.write("sender.lua", SECURE + 'settings { state = "s" }\n'
                'source.file "f" { path = "in.ndjson", at_end = stop }\n'
                'sink.zmq "to" { from = "f", type = dealer, reply = safe, connect = "%s", '
                'server = "node" }' % where(live))
    bench.write("in.ndjson", [{"n": n} for n in range(3000)])
    sender = bench.weir("run", "sender.lua")
    assert sender.code == 0, sender.err
    assert [json.loads(line)["n"] for line in rows(bench.path("out.ndjson"))] == \
        list(range(3000))
    run = live.stop()
    assert run.node("in")["done"] == 3000 and run.node("in")["malformed"] == 0


def test_a_req_is_known_each_time_that_it_wakes_the_source(bench, realm):
    realm.allow("web", "produce")
    live = start(bench, IN % ("router", FREE) + TELL)
    req = realm.client(zmq.REQ, where(live), "web")
    for n in range(30):
        req.send(b'{"n":%d}' % n)
        assert req.recv() == b""
    assert {r["peer"] for r in objects(bench.path("out.ndjson"))} == {"web"}
    assert live.stop().node("in")["malformed"] == 0


def test_curve_without_keys_is_an_error(bench):
    run = bench.weir("run", bench.topology(
        'source.zmq "in" { type = pull, listen = "tcp://127.0.0.1:*" }\n' + OUT % "in"))
    assert run.code == 1 and "in: " in run.err and "keys" in run.err
