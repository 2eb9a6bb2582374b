"""`weir check --online`: each node's server is asked whether it is there."""
import json
import socket
import time

import pytest

import helper
import servers
from ports import free_port

SOURCE = 'source.generate "g" { count = 1 }\n'


def online(bench, text, *words, code):
    """The Run of the check; nothing of a sanitizer in it."""
    run = bench.check(text, "--online", *words)
    assert run.code == code, (run.code, run.out, run.err)
    assert "Sanitizer" not in run.err, run.err
    return run


def link(options, name="out"):
    """A sink.link in the second line."""
    return SOURCE + 'sink.link "%s" { from = "g", %s }\n' % (name, options)


@pytest.fixture(name="hub")
def running_hub(bench, tmp_path_factory):
    """Starts a source.link with these options elsewhere; gives its endpoint."""
    there = helper.Bench(tmp_path_factory.mktemp("hub"))

    def start(options, more=""):
        live = there.start('source.link "in" { %s }\nsink.null "n" { from = "in" }\n'
                           'settings { name = "hub" }\n%s' % (options, more))
        live.wait_ready()
        nodes = json.loads(there.weir("ctl", "list", "hub", "--json").out)["nodes"]
        return next(node["endpoint"] for node in nodes if node["name"] == "in")

    start.bench = there
    yield start
    there.close()


def test_a_topology_without_servers(bench):
    run = online(bench, SOURCE + 'sink.null "n" { from = "g" }\n', code=0)
    assert run.out == ("t.lua: 2 nodes, 1 link, no errors\n"
                       "t.lua: no node speaks with a server\n") and run.err == ""
    assert json.loads(online(bench, None, "--json", code=0).out) == []


def test_mistakes_come_first(bench):
    run = online(bench, link('connect = "ipc:///nowhere", pth = 1'), code=2)
    assert "unknown option 'pth'" in run.err and "nobody" not in run.err
    errors = json.loads(online(bench, None, "--json", code=2).out)
    assert len(errors) == 1 and "ok" not in errors[0]


def test_nobody_is_asked_without_the_flag(bench):
    run = bench.check(link('connect = "ipc:///nowhere"'))
    assert run.code == 0 and "nobody" not in run.out + run.err


def test_one_line_a_server(bench, hub):
    there = hub('listen = "ipc://in.sock"')
    there = "ipc://%s" % hub.bench.path("in.sock")
    away = "ipc://%s" % bench.path("away.sock")
    text = link('connect = "%s"' % there) + link('connect = "%s"' % away, "far")[len(SOURCE):]
    run = online(bench, text, code=1)
    assert run.out.splitlines()[1:] == ['t.lua:2: sink.link "out": %s: it listens' % there]
    assert run.err == ('t.lua:3: sink.link "far": %s: nobody answers there '
                       '(No such file or directory)\n' % away)
    rows = json.loads(online(bench, None, "--json", code=1).out)
    assert rows[0] == {"where": "t.lua:2", "node": "out", "actor": "sink.link", "ok": True,
                       "text": there + ": it listens"}
    assert rows[1]["node"] == "far" and rows[1]["ok"] is False
    assert online(bench, link('connect = "%s"' % there), code=0).err == ""


def test_plaintext(bench, hub):
    there = hub('listen = "tcp://127.0.0.1:*", plaintext = true')
    run = online(bench, link('connect = "%s", plaintext = true' % there), code=0)
    assert there + ": it listens, in plaintext" in run.out
    run = online(bench, SOURCE + 'sink.zmq "z" { from = "g", type = push, plaintext = true,\n'
                 '  connect = { "%s", "tcp://127.0.0.1:%d" } }\n'
                 % (there, free_port()), code=1)
    assert "nobody listens there" in run.err
    with socket.socket() as listener:  # of another protocol
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        run = online(bench, link('connect = "tcp://127.0.0.1:%d", plaintext = true'
                                 % listener.getsockname()[1]), code=1)
        assert "it takes connections and says nothing" in run.err


def keys(bench, name, folder="keys"):
    """Makes keys in that folder."""
    assert bench.weir("keys", "init", name, "--keys", folder).code == 0
    return bench.path(folder)


def allow(bench, other, role):
    """Trusts the owner of the other folder."""
    run = bench.weir("keys", "allow", other / "self.pub", "--role", role, "--keys", "keys")
    assert run.code == 0, run.err


def test_curve(bench, hub):
    ours, theirs = keys(bench, "web"), keys(hub.bench, "store")
    text = link('connect = "%s", server = "store"') + 'security { keys = "keys" }\n'
    there = hub('listen = "tcp://127.0.0.1:*"', 'security { keys = "keys" }\n')
    run = online(bench, text % there, code=1)
    assert "store.pub" in run.err
    allow(bench, theirs, "none")
    run = online(bench, text % there, code=1)
    assert "it refuses our key" in run.err
    allow(hub.bench, ours, "produce")
    helper.wait_for(lambda: bench.check(text % there, "--online").code == 0,
                    "the key is taken")
    run = online(bench, text % there, code=0)
    assert "%s: 'store' takes our key" % there in run.out
    plain = link('connect = "%s", plaintext = true' % there)
    assert "it speaks CURVE" in online(bench, plain, code=1).err
    secret = (ours / "self.key").read_text()
    assert not [line for line in secret.split('"') if len(line) == 40 and line in run.out]


def test_the_timeout_holds(bench):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        text = link('connect = "tcp://127.0.0.1:%d", plaintext = true'
                    % listener.getsockname()[1])
        started = time.monotonic()
        run = online(bench, text, "--timeout", "200ms", code=1)
        assert time.monotonic() - started < (10 if helper.SANITIZED else 2.5)
        assert run.err == 't.lua:2: sink.link "out": no answer within 0.2 s\n'


@pytest.mark.parametrize("value, words", [("5", "unit"), ("x", "time"), ("0s", "1ms to 1h"),
                                          ("2h", "1ms to 1h")])
def test_a_bad_timeout_is_misuse(bench, value, words):
    run = bench.check(SOURCE, "--online", "--timeout", value)
    assert run.code == 2 and run.err.startswith("weir: --timeout: ") and words in run.err


def test_secrets_are_not_told(bench):
    bench.write("weir-secrets/pw", "hunter22").chmod(0o600)
    text = SOURCE + ('sink.link "out" { from = "g",\n'
                     '  connect = "ipc:///no-" .. secret "pw" .. ".sock" }\n')
    run = online(bench, text, code=1)
    assert "ipc:///no-***.sock: nobody answers" in run.err
    told = online(bench, None, "--json", code=1).out
    assert "hunter22" not in run.err + told and "***" in told


# --- Buses on servers -----------------------------------------------------------------

BUS = ('bus "b" { from = "g", shards = 1, store = %s }\n'
       'sink.file "f" { from = "b", path = "out.ndjson" }\n')


@pytest.mark.parametrize("make, store, url", [
    (servers.Redis, 'redis { url = "%s", timeout = "500ms" }', "redis://:***@127.0.0.1:%d"),
    (servers.Nats, 'jetstream { url = "%s", timeout = "500ms" }', "nats://bob:***@127.0.0.1:%d"),
], ids=["redis", "jetstream"])
def test_a_bus_asks_the_server_of_its_store(bench, make, store, url):
    login = {"password": "sesame"} if make is servers.Redis else {
        "users": [{"user": "bob", "password": "sesame"}]}
    with make(bench.path("server"), **login) as server:
        url %= server.port
        text = 'source.generate "g" { count = 30 }\n' + BUS % (
            store % url.replace("***", "sesame"))
        run = online(bench, text, code=0)
        assert 't.lua:2: bus "b": %s: 0 shards with 0 records\n' % url in run.out
        assert bench.run(text, "--until-idle").code == 0
        run = online(bench, text, code=0)
        assert "%s: 1 shard with 30 records\n" % url in run.out and run.err == ""
        wrong = online(bench, text.replace("sesame", "mustard"), code=1)
        assert 't.lua:2: bus "b": ' in wrong.err and "mustard" not in wrong.err, wrong.err
        server.pause()
        started = time.monotonic()
        late = online(bench, text, code=1)
        assert time.monotonic() - started < 3 and "no answer" in late.err, late.err
        server.resume()
        server.kill()
        gone = online(bench, text, code=1)
        assert "efused" in gone.err and "sesame" not in gone.err, gone.err
        assert server.port and len(gone.err.splitlines()) == 1, gone.err


def test_a_bus_on_disk_asks_nobody(bench):
    run = online(bench, SOURCE + BUS % "disk { keep = all }", code=0)
    assert "no node speaks with a server" in run.out


def test_what_is_at_the_place_of_a_buss_shard_is_told(bench):
    """Else only a start would tell."""
    with servers.Redis(bench.path("redis")) as redis, servers.Nats(bench.path("nats")) as nats:
        redis.call("SET", "weir:b:0", "taken")
        nats.make("weir_b_0", ["other.>"])
        run = online(bench, SOURCE + BUS % ('redis { url = "%s" }' % redis.url()), code=1)
        assert "'weir:b:0' is no stream but a string" in run.err, run.err
        run = online(bench, SOURCE + BUS % ('jetstream { url = "%s" }' % nats.url()), code=1)
        assert ("the stream weir_b_0 is not this bus's: its subject is not weir.b.0 alone"
                in run.err), run.err


def test_what_is_no_redis_server_or_does_not_answer_is_told(bench):
    with servers.Redis(bench.path("redis")) as redis, servers.Nats(bench.path("nats")) as nats:
        text = SOURCE + ('sink.redis "r" { from = "g", url = "redis://127.0.0.1:%d", '
                         'stream = "s" }\n')
        assert "no Redis server" in online(bench, text % nats.port, code=1).err
        redis.pause()
        run = online(bench, text % redis.port, "--timeout", "300ms", code=1)
        assert "no answer in 300 ms" in run.err, run.err
        redis.resume()


def test_an_address_is_told_once(bench):
    url = "nats://127.0.0.1:%d" % free_port()
    run = online(bench, SOURCE + 'sink.jetstream "j" { from = "g", url = "%s", '
                 'subject = "x" }\n' % url, code=1)
    assert run.err == 't.lua:2: sink.jetstream "j": %s: Connection refused\n' % url
    [told] = json.loads(online(bench, None, "--json", code=1).out)
    assert told["text"] == "%s: Connection refused" % url


# --- JetStream --------------------------------------------------------------------------

def lets_in(bench, *publish):
    """A server whose user `low` may do no more than this; the first may all."""
    return servers.Nats(bench.path("nats"), users=[
        {"user": "all", "password": "sesame"},
        {"user": "low", "password": "sesame",
         "permissions": {"publish": list(publish), "subscribe": "_INBOX.>"}}])


def test_a_sink_asks_no_more_than_it_needs_to_run(bench):
    with lets_in(bench, "o", "$JS.API.STREAM.INFO.S", "$JS.API.STREAM.CREATE.S") as nats:
        text = SOURCE + 'sink.jetstream "out" { from = "g", url = "%s", subject = "o"%s }\n'
        run = online(bench, text % (nats.url("low", "sesame"), ', stream = "S"'), code=0)
        assert "JetStream is there, the stream S would be made" in run.out
        run = online(bench, text % (nats.url("low", "sesame"), ""), code=0)
        assert "it lets us in, but not look at its JetStream" in run.out
        assert bench.run(text % (nats.url("low", "sesame"), ', stream = "S"'),
                         "--until-idle").code == 0


def test_a_source_asks_no_more_than_it_needs_to_run(bench):
    may = ["$JS.API.CONSUMER.%s.S.d" % what for what in ("INFO", "MSG.NEXT", "DURABLE.CREATE")]
    with lets_in(bench, "$JS.ACK.S.d.>", *may) as nats:
        text = ('source.jetstream "in" { url = "%s", stream = "S", durable = "d" }\n'
                'sink.null "out" { from = "in" }\n' % nats.url("low", "sesame"))
        assert "stream S, consumer d: " in online(bench, text, code=1).err  # there is no such stream
        nats.make("S", ["s"])
        assert "the consumer d would be made" in online(bench, text, code=0).out
        assert bench.run(text, "--until-idle").code == 0
        assert "the consumer d is there" in online(bench, text, code=0).out


def test_a_bus_names_its_server(bench):
    with servers.Nats(bench.path("nats"), jetstream=False) as nats:
        run = online(bench, SOURCE + BUS % 'jetstream { url = "%s" }' % nats.url(), code=1)
        assert run.err == ('t.lua:2: bus "b": %s: cannot list its streams: no JetStream '
                           'answers there\n' % nats.url())


def test_a_bus_looks_at_the_streams_that_are_there(bench):
    with servers.Nats(bench.path("nats")) as nats:
        nats.make("weir_b_0", ["weir.b.0"])
        text = SOURCE + BUS % 'jetstream { url = "%s" }' % nats.url()
        assert online(bench, text, code=0).err == ""
        nats.make("weir_b_7", ["weir.b.7"], retention="interest")
        run = online(bench, text, code=1)
        assert run.err == ('t.lua:2: bus "b": %s: the stream weir_b_7 is not this bus\'s: its '
                           'retention is "interest", not "limits"\n' % nats.url())
