"""sink.jetstream, and what it shares with source.jetstream, against a real nats-server,
through `weir run`."""
import json

import pytest
from helper import chance, wait_for
from servers import Nats

SINK = """source.file "in" { path = "in.ndjson"%s }
sink.jetstream "out" { from = "in", url = "%s", %s }
"""
SOURCE = """source.jetstream "in" { url = "%s", stream = "S"%s }
%ssink.file "out" { from = "%s", path = "out.ndjson", fsync = never }
"""
TELL = """process "p" { from = "in", each = function (r)
  local m = meta (r)
  local headers = {}
  for name, value in pairs (m.headers or {}) do headers[name] = value end
  return { raw = raw (r), headers = headers, ts = m.ts, key = m.key, source = m.source }
end }
"""
BUS = """source.file "in" { path = "in.ndjson" }
bus "b" { from = "in", shards = 2, key = "n", store = disk { keep = all } }
sink.jetstream "out" { from = "b", url = "%s", %s }
"""


@pytest.fixture(name="nats")
def fresh_server(bench):
    """A server that ends with the test."""
    with Nats(bench.path("nats")) as nats:
        yield nats


def sink(server, options, end=", at_end = stop"):
    """A topology that publishes in.ndjson."""
    return SINK % (end, server.url(), options)


def source(server, options="", tell=False):
    """A topology that reads the stream S."""
    return SOURCE % (server.url(), options and ", " + options, TELL if tell else "",
                     "p" if tell else "in")


def lines(count, start=0, **more):
    """Records {n}."""
    return [{"n": n, **more} for n in range(start, start + count)]


def numbers(messages):
    """The n of each message's payload."""
    return [json.loads(message.data)["n"] for message in messages]


def written(bench, name="out.ndjson"):
    """The n of each whole line."""
    data = bench.path(name)
    data = data.read_bytes().rpartition(b"\n")[0] if data.exists() else b""
    return [json.loads(line)["n"] for line in data.split(b"\n") if line]


def wait_written(bench, count, seconds=60):
    """All from 0 to count have come."""
    wait_for(lambda: set(written(bench)) >= set(range(count)), "%d records" % count, seconds)


def fill(nats, count, start=0, subject="s.x"):
    """Messages with the payloads {n}, and ids, so that none is there twice."""
    nats.publish_all([(subject, json.dumps({"n": n}).encode(), {"Nats-Msg-Id": str(n)})
                      for n in range(start, start + count)])


def wait_settled(nats, name="t+in", stream="S"):
    """The consumer has nothing left."""
    def settled():
        info = nats.consumer(stream, name)
        return info and info["num_pending"] == 0 and info["num_ack_pending"] == 0
    wait_for(settled, "everything is acknowledged")


# --- sink.jetstream: messages -----------------------------------------------------------

def test_records_become_messages(bench, nats):
    bench.write("in.ndjson", [{"n": 1, "region": "eu", "tenant": "a b"},
                              {"n": 2, "region": "us", "tenant": "c"}])
    bench.run(sink(nats, 'subject = "orders.{region}", stream = "ORDERS", id = "id-{n}", '
                         'headers = { Tenant = "{tenant}", Fix = "x" }'))
    first, second = nats.messages("ORDERS")
    assert first.subject == "orders.eu" and second.subject == "orders.us"
    assert first.headers == {"Nats-Msg-Id": "id-1", "Tenant": "a b", "Fix": "x",
                                "Nats-Expected-Stream": "ORDERS"}
    assert first.data == b'{"n": 1, "region": "eu", "tenant": "a b"}'
    config = nats.api("STREAM.INFO.ORDERS")["config"]
    assert config["subjects"] == ["orders.*"] and config["storage"] == "file"
    assert config["num_replicas"] == 1 and config["duplicate_window"] == 120 * 10**9


def test_options_of_a_stream_that_is_made(bench, nats):
    bench.write("in.ndjson", [{"a": "x", "b": "y"}])
    bench.run(sink(nats, 'subject = "o.eu-{a}-{b}.{b}.z", stream = "O", dedup = "5s"'))
    config = nats.api("STREAM.INFO.O")["config"]
    assert config["subjects"] == ["o.*.*.z"] and config["duplicate_window"] == 5 * 10**9
    assert nats.messages("O")[0].subject == "o.eu-x-y.y.z"


def test_names_with_quotes_and_backslashes(bench, nats):
    bench.write("in.ndjson", lines(3))
    bench.run(sink(nats, r'''subject = 'o"\\b.{n}', stream = 'S"x' '''))
    assert [message.subject for message in nats.messages('S"x')] == \
        ['o"\\b.%d' % n for n in range(3)]


def test_payloads(bench, nats):
    bench.write("in.ndjson", [{"n": 1, "f": 1.5, "l": [1, {"a": None}]}])
    bench.run("""source.file "in" { path = "in.ndjson", at_end = stop }
process "p" { from = "in", each = function (r) r.more = true return r end }
sink.jetstream "doc" { from = "p", url = "%s", subject = "doc", stream = "DOC" }
sink.jetstream "text" { from = "p", url = "%s", subject = "text", stream = "TEXT",
  payload = "n={n} f={f} l={l} {{}" }
""" % (nats.url(), nats.url()))
    assert json.loads(nats.messages("DOC")[0].data) == \
        {"n": 1, "f": 1.5, "l": [1, {"a": None}], "more": True}
    assert nats.messages("TEXT")[0].data == b'n=1 f=1.5 l=[1, {"a": null}] {}'


@pytest.mark.parametrize("value", ["a.b", "a b", "*", ">", "", "x\ny", None, [1]])
def test_what_is_no_token_of_a_subject_is_a_dead_letter(bench, nats, value):
    bench.write("in.ndjson", [{"n": 0, "region": "eu"}, {"n": 1, "region": value},
                              {"n": 2, "region": "us"}])
    run = bench.run(sink(nats, 'subject = "o.{region}", stream = "O"'), code=3)
    assert numbers(nats.messages("O")) == [0, 2]
    dead, = bench.dead()
    assert dead["payload"]["n"] == 1 and dead["reason"] == "sink"
    assert run.node("out")["done"] == 2 and run.node("out")["dead"] == 1


def test_policies_for_what_cannot_be_stored(bench, nats):
    bench.write("in.ndjson", [{"n": 0, "region": "eu"}, {"n": 1}, {"n": 2, "region": "us"}])
    run = bench.run(sink(nats, 'subject = "o.{region}", stream = "O", on_error = drop'))
    assert run.node("out")["skipped"] == 1 and not bench.path("weir-t/dead.ndjson").exists()
    bench.path("weir-t").rename(bench.path("old"))
    run = bench.run("supervise { intensity = 0 }\n" + sink(
        nats, 'subject = "o.{region}", stream = "O", on_error = stop'), code=None)
    assert run.code and "the record has no {region}" in run.err


def test_what_is_above_max_payload_is_refused_with_size_and_limit(bench):
    with Nats(bench.path("nats"), settings="max_payload: 2000") as nats:
        bench.write("in.ndjson", [{"n": 0}, {"n": 1, "x": "y" * 3000}, {"n": 2}])
        run = bench.run(sink(nats, 'subject = "o", stream = "O"'), code=3)
        assert numbers(nats.messages("O")) == [0, 2]
        dead, = bench.dead()
        assert "3017 bytes" in dead["error"] and "2000 bytes" in dead["error"], dead["error"]
        assert run.node("out")["dead"] == 1


def test_what_is_above_the_streams_max_msg_size_is_refused(bench, nats):
    nats.make("O", ["o"], max_msg_size=500)
    bench.write("in.ndjson", [{"n": 0}, {"n": 1, "x": "y" * 800}, {"n": 2}])
    bench.run(sink(nats, 'subject = "o"'), code=3)
    assert numbers(nats.messages("O")) == [0, 2]
    assert "maximum allowed" in bench.dead()[0]["error"]


def test_a_subject_of_another_stream_is_fatal(bench, nats):
    nats.make("A", ["a"])
    nats.make("O", ["o"])
    bench.write("in.ndjson", lines(3))
    run = bench.run("supervise { intensity = 0 }\n" +
                    sink(nats, 'subject = "a", stream = "O"'), code=None)
    assert run.code and "not that of the stream O" in run.err


def test_ids_of_a_bus_make_each_record_one_message(bench, nats):
    bench.write("in.ndjson", lines(500))
    live = bench.start(BUS % (nats.url(), 'subject = "o", stream = "O"'))
    nats.wait_count("O", 500)
    messages = nats.messages("O")
    ids = [message.headers["Nats-Msg-Id"] for message in messages]
    assert len(set(ids)) == 500 and all(len(text.split(":")) == 4 for text in ids)
    live.stop()
    bench.weir("pos", "set", "--help")
    assert sorted(numbers(messages)) == list(range(500))


# --- sink.jetstream: failures -----------------------------------------------------------

def why(bench, pattern):
    """Waits until `weir why` says so."""
    seen = []

    def told():
        run = bench.weir("why", "t")
        seen[:] = [run.out]
        return pattern in run.out
    try:
        wait_for(told, pattern)
    except AssertionError as error:
        raise AssertionError("%s: %s" % (error, seen)) from None


def test_a_server_that_is_away_is_waited_for(bench, nats):
    nats.kill()
    bench.write("in.ndjson", lines(1000))
    live = bench.start(sink(nats, 'subject = "o", stream = "O"', end=""))
    live.wait_ready()
    why(bench, "Connection refused")
    nats.start()
    nats.wait_count("O", 1000)
    assert numbers(nats.messages("O")) == list(range(1000))
    live.stop()


def test_a_server_that_comes_back_is_no_trouble_though_there_is_nothing_to_send(bench,
                                                                               nats):
    bench.write("in.ndjson", lines(10))
    live = bench.start(sink(nats, 'subject = "o", stream = "O"', end=""))
    nats.wait_count("O", 10)
    why(bench, "nothing to do")
    nats.kill()
    why(bench, "Connection refused")
    nats.start()
    why(bench, "nothing to do")
    live.stop()


def test_without_jetstream_a_sink_that_has_nothing_to_do_waits(bench):
    with Nats(bench.path("nats"), jetstream=False) as nats:
        bench.write("in.ndjson", "")
        live = bench.start(sink(nats, 'subject = "o", stream = "O", retry = { max = "200ms" }',
                                end=""))
        why(bench, "O: no JetStream answers there")
        nats.jetstream = {}
        nats.restart()
        wait_for(lambda: "O" in (nats.api("STREAM.NAMES")["streams"] or []), "it is made")
        wait_for(lambda: bench.weir("why").code == 0, "it is over")
        bench.append("in.ndjson", "".join(json.dumps(row) + "\n" for row in lines(10)))
        nats.wait_count("O", 10)
        live.stop()


def test_a_missing_stream_is_waited_for_in_order(bench, nats):
    bench.write("in.ndjson", lines(2000))
    live = bench.start(sink(nats, 'subject = "o.{n}"', end=""))
    live.wait_ready()
    why(bench, "no stream has the subject o.0")
    nats.make("O", ["o.*"])
    nats.wait_count("O", 2000)
    assert numbers(nats.messages("O")) == list(range(2000))
    live.stop()


def test_a_stream_that_is_deleted_is_made_again(bench, nats):
    bench.write("in.ndjson", lines(100))
    live = bench.start(sink(nats, 'subject = "o", stream = "O"', end=""))
    nats.wait_count("O", 100)
    nats.api("STREAM.DELETE.O")
    bench.append("in.ndjson", "".join(json.dumps(row) + "\n" for row in lines(2000, 100)))
    nats.wait_count("O", 2000)
    assert numbers(nats.messages("O")) == list(range(100, 2100))
    live.stop()


@pytest.mark.parametrize("bound, text, more", [
    ({"max_bytes": 20000}, "maximum bytes exceeded", {"max_bytes": 10**7}),
    ({"max_msgs": 400}, "maximum messages exceeded", {"max_msgs": 10000}),
])
def test_a_full_stream_is_waited_for(bench, nats, bound, text, more):
    """nats-server 2.9 itself drops the first few messages at max_bytes."""
    nats.make("O", ["o"], discard="new", **bound)
    bench.write("in.ndjson", lines(3000))
    live = bench.start(sink(nats, 'subject = "o"', end=""))
    live.wait_ready()
    why(bench, text)
    state = nats.stream("O")["state"]
    assert 0 < state["last_seq"] < 3000
    assert numbers(nats.messages("O")) == list(range(state["first_seq"] - 1, state["last_seq"]))
    nats.change("O", **more)
    wait_for(lambda: nats.stream("O")["state"]["last_seq"] == 3000, "all are stored")
    assert numbers(nats.messages("O")) == list(range(state["first_seq"] - 1, 3000))
    live.stop()
    assert not bench.path("weir-t/dead.ndjson").exists()


def test_attempts_end_in_a_stop(bench, nats):
    bench.write("in.ndjson", lines(10))
    run = bench.run("supervise { intensity = 0 }\n" + sink(
        nats, 'subject = "o", retry = { first = "10ms", max = "20ms", attempts = 3 }'),
        code=None)
    assert run.code and "attempts=3" in run.err and "no stream has the subject o" in run.err


def test_kill_and_pause_of_the_server_lose_and_double_nothing(bench, nats):
    luck = chance("jetstream sink")
    bench.write("in.ndjson", [])
    live = bench.start(sink(nats, 'subject = "o", stream = "O", id = "{n}", '
                                  'timeout = "1s", retry = { max = "200ms" }', end=""))
    for part in range(6):
        rest = "".join(json.dumps(row) + "\n" for row in lines(5000, 5000 * part))
        bench.append("in.ndjson", rest)
        wait_for(lambda: nats.count("O") > 5000 * part + luck.randrange(2000), "some")
        if part % 2:
            nats.kill()
            nats.start()
        else:
            nats.pause()
            live.wait_log("jetstream connection lost", count=part + 1)
            nats.resume()
    nats.wait_count("O", 30000, 60)
    assert numbers(nats.messages("O")) == list(range(30000))
    live.stop()


def test_kill_9_of_weir_loses_nothing_and_doubles_nothing(bench, nats):
    luck = chance("jetstream kill")
    bench.write("in.ndjson", lines(40000))
    text = BUS % (nats.url(), 'subject = "o", stream = "O"')
    # What the bus has stored and the source not yet heard of has two ids: so it has all.
    assert bench.run("\n".join(text.split("\n")[:2]), "--until-idle").code == 0
    for part in range(4):
        live = bench.start(text)
        wait_for(lambda: nats.count("O") > 8000 * part + luck.randrange(4000), "some")
        live.kill()
    live = bench.start(text)
    nats.wait_count("O", 40000, 60)
    live.stop()
    found = numbers(nats.messages("O"))
    assert len(found) == 40000 and set(found) == set(range(40000))


# --- credentials, TLS -------------------------------------------------------------------

def users(*subjects):
    """One who may publish these, behind the tests' own."""
    return [{"user": "tests", "password": "own"},
            {"user": "u", "password": "Xy!7zw",
             "permissions": {"publish": {"allow": subjects}, "subscribe": "_INBOX.>"}}]


def test_a_wrong_password_is_fatal_and_never_shown(bench):
    with Nats(bench.path("nats"), users=users(">")) as nats:
        bench.write("in.ndjson", lines(3))
        for text in (SINK % ("", nats.url("u", "wr0ng"), 'subject = "o", stream = "O"'),
                     SOURCE % (nats.url("u", "wr0ng"), "", "", "in")):
            run = bench.run("supervise { intensity = 1 }\n" + text, code=None)
            assert run.code and "authorization" in run.err.lower(), run.err
            assert "wr0ng" not in run.err + run.out and "u:***@" in run.err
            assert "wr0ng" not in (bench.state / "report.json").read_text()
        check = bench.weir("check", "t.lua")
        assert "wr0ng" not in check.out + check.err


NKEY = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


@pytest.mark.parametrize("server, text", [
    ({"tls": "verify"}, "it wants to see a certificate, and Weir has none"),
    ({"users": [{"user": "test", "password": "other"}, {"nkey": NKEY}]},
     "it may want an NKey or credentials, and Weir has none"),
], ids=["certificate", "nkey"])
def test_what_weir_cannot_show_is_told(bench, server, text):
    with Nats(bench.path("nats"), **server) as nats:
        trust = {"SSL_CERT_FILE": str(nats.certificates.ca)} if nats.certificates else {}
        run = bench.run("supervise { intensity = 0 }\n" +
                        SOURCE % (nats.url("u", "wr0ng"), "", "", "in"), code=None, env=trust)
        assert run.code == 1 and text in run.err, run.err


def test_permissions_are_named(bench):
    with Nats(bench.path("nats"), users=users("$JS.API.>")) as nats:
        bench.write("in.ndjson", lines(3))
        run = bench.run("supervise { intensity = 0 }\n" +
                        SINK % ("", nats.url("u", "Xy%217zw"), 'subject = "o", stream = "O"'),
                        code=None)
        assert run.code and 'Permissions Violation for Publish to "o"' in run.err
        assert "Xy" not in run.err


def test_who_may_only_publish_publishes(bench):
    with Nats(bench.path("nats"), users=users("o")) as nats:
        bench.write("in.ndjson", lines(3))
        live = bench.start(SINK % ("", nats.url("u", "Xy%217zw"), 'subject = "o"'))
        live.wait_ready()
        why(bench, "no stream has the subject o")
        live.kill()


def test_tls(bench):
    with Nats(bench.path("nats"), tls=True) as nats:
        url = nats.url().replace("127.0.0.1", "localhost")
        bench.write("in.ndjson", lines(100))
        trust = {"SSL_CERT_FILE": str(nats.certificates.ca)}
        bench.run(SINK % (", at_end = stop", url, 'subject = "s", stream = "S"'), env=trust)
        live = bench.start(SOURCE % (url, "", "", "in"), env=bench.environment(trust))
        wait_written(bench, 100)
        live.stop()
        run = bench.run("supervise { intensity = 0 }\n" + SOURCE % (url, "", "", "in"),
                        code=None)
        assert run.code and "cert" in run.err  # nobody trusts it


def test_a_server_elsewhere_needs_tls(bench):
    for text in (SINK % ("", "nats://192.0.2.1", 'subject = "o"'),
                 SOURCE % ("nats://192.0.2.1", "", "", "in")):
        assert any("192.0.2.1 is not this host: it needs tls" in line
                   for line in bench.refused(text))
        assert bench.check(text.replace('192.0.2.1"', '192.0.2.1", plaintext = true')).code == 0


@pytest.mark.parametrize("options, text", [
    ('subject = "a b"', "subject"), ('subject = "a..b"', "empty"), ('subject = ""', "empty"),
    ('subject = "a.*"', "subject"), ('subject = "a.{"', "without '}'"),
    ('subject = "a", stream = "x.y"', "stream"), ('subject = "a", stream = "\\xff"', "UTF-8"),
    ('subject = "\\xff.{n}"', "UTF-8"),
    ('subject = "a", headers = { ["Nats-Msg-Id"] = "{n}" }', "option 'id'"),
    ('subject = "a", headers = { ["a b"] = "{n}" }', "no name of a header"),
    ('subject = "a", dedup = "1ms"', "dedup"), ('subject = "a", replicas = 6', "replicas"),
    ('subject = "a", window = 0', "window"),
    ('subject = "a", retry = { first = "2s", max = "1s" }', "retry.first"),
])
def test_options_of_the_sink_are_checked(bench, options, text):
    found = bench.refused(SINK % ("", "nats://127.0.0.1", options))
    assert any(text in line for line in found), found


@pytest.mark.parametrize("options, text", [
    ('subjects = "a..b"', "subjects"), ('subjects = "a.>.b"', "subjects"),
    ('durable = "a.b"', "durable"), ('start = "0"', "start"), ('start = "yesterday"', "start"),
    ('start = "w1cursor"', "start"), ('ack_wait = "1ms"', "ack_wait"),
    ('max_deliver = 0', "max_deliver"), ('window = 70000', "window"),
])
def test_options_of_the_source_are_checked(bench, options, text):
    found = bench.refused(SOURCE % ("nats://127.0.0.1", ", " + options, "", "in"))
    assert any("option '%s'" % text in line for line in found), found


def test_a_bad_url_is_told_without_its_secret(bench):
    found = "\n".join(bench.refused(SOURCE % ("nats://u:s3cret@h:99999", "", "", "in")))
    assert "option 'url'" in found and "s3cret" not in found
