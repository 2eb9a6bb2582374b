"""source.jetstream and sink.jetstream against a real nats-server, through `weir run`."""
import base64
import json
import subprocess
import time

import msgpack
import pytest
from helper import Bench, chance, count_rows, objects, rows, wait_for
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


# --- source.jetstream: records ----------------------------------------------------------

def test_messages_become_records(bench, nats):
    nats.make("S", ["s.>"])
    nats.publish("s.a", b'{"n":1}', {"Tenant": "acme"})
    nats.publish("s.b.c", b' {"n" : 2} ')
    live = bench.start(source(nats, tell=True))
    wait_settled(nats)
    live.stop()
    got = objects(bench.path("out.ndjson"))
    assert got[0]["raw"] == '{"n":1}' and got[0]["source"] == "in"
    assert got[0]["headers"]["Tenant"] == "acme"
    assert got[0]["headers"]["subject"] == "s.a" and got[0]["headers"]["sequence"] == 1
    assert got[0]["ts"] > 1600000000000
    assert got[1]["raw"] == ' {"n" : 2} '
    assert got[1]["headers"] == {"subject": "s.b.c", "sequence": 2}


def test_payloads_are_kept_byte_for_byte(bench, nats):
    nats.make("S", ["s.>"])
    payloads = [b"plain text", b"\x00\xff\xfe", b"", b"{", b' {"a" : 1}']
    for payload in payloads:
        nats.publish("s.a", payload)
    live = bench.start(source(nats).replace('path = "out.ndjson"',
                                            'path = "out.ndjson", framing = blob'))
    wait_settled(nats)
    live.stop()
    assert bench.path("out.ndjson").read_bytes() == b"".join(payloads)


def test_where_sees_subject_and_sequence(bench, nats):
    nats.make("S", ["s.>"])
    for n in range(10):
        nats.publish("s.%s" % "ab"[n % 2], b'{"n":%d}' % n)
    live = bench.start(source(
        nats, "where = \"$headers.subject == 's.b' and $headers.sequence > 4\""))
    wait_settled(nats)
    live.stop()
    assert written(bench) == [5, 7, 9]


def test_records_of_a_bus_are_records(bench, nats):
    nats.make("S", ["s.>"])
    record = [1700000000000, "k", '{"n":7}', {"h": 1, "subject": "x"}]
    ours = {"Nats-Msg-Id": "00000000000000ab:1:0:5", "Nats-Expected-Last-Sequence": "0"}
    nats.publish("s.0", msgpack.packb(record), ours)
    nats.publish("s.0", msgpack.packb([None, None, {"n": 8}, None]),
                 {"Nats-Msg-Id": "00000000000000ab:1:0:6"})
    nats.publish("s.0", msgpack.packb(record), {"Nats-Msg-Id": "not ours"})
    nats.publish("s.0", msgpack.packb(record)[:-1], {"Nats-Msg-Id": "00000000000000ab:1:0:7"})
    live = bench.start(source(nats, tell=True))
    wait_settled(nats)
    live.stop(code=3)
    got = objects(bench.path("out.ndjson"))
    assert got[0] == {"raw": '{"n":7}', "ts": 1700000000000, "key": "k", "source": "in",
                      "headers": {"h": 1, "subject": "s.0", "sequence": 1}}
    assert base64.b64decode(got[1]["raw"]) == msgpack.packb({"n": 8}) and got[1]["ts"] > 1700000000000
    assert len(got) == 2
    assert [dead["reason"] for dead in bench.dead()] == ["parse", "parse"]


def test_framing_cuts_a_message_into_records(bench, nats):
    nats.make("S", ["s.>"])
    for part in range(50):
        nats.publish("s.x", b"".join(b'{"n":%d}\n' % n for n in range(part * 40, part * 40 + 40)))
    live = bench.start(source(nats, "framing = ndjson"))
    wait_settled(nats)
    live.stop()
    assert written(bench) == list(range(2000))


def test_what_is_no_record_is_a_dead_letter_and_acknowledged(bench, nats):
    nats.make("S", ["s.>"])
    nats.publish("s.x", b'{"n":0}')
    nats.publish("s.x", b"\x81\xa1a")  # half a MessagePack map
    nats.publish("s.x", b"\x81\xc1\xc1")
    nats.publish("s.x", b'{"n":1}')
    live = bench.start("settings { record_max = \"64KB\" }\n" + source(nats))
    nats.publish("s.x", b'"' + b"x" * 100000 + b'"')
    nats.publish("s.x", b'{"n":2}')
    wait_settled(nats)
    live.stop(code=3)
    assert written(bench) == [0, 1, 2]
    assert [dead["reason"] for dead in bench.dead()] == ["parse", "parse", "oversize"]


def test_foreign_messages_of_any_shape_do_no_harm(bench, nats):
    luck = chance("jetstream shapes")
    nats.make("S", ["s.>"])
    messages = []
    for n in range(600):
        payload = bytes(luck.randrange(256) for _ in range(luck.randrange(60)))
        headers = {"H%d" % k: bytes(luck.choice(b"abc\xc3\xbc\xff :;=") for _ in range(9)).strip()
                   for k in range(luck.randrange(4))}
        if luck.random() < 0.3:
            headers["Nats-Msg-Id"] = "%016x:%d:0:%d" % (luck.randrange(1, 2**64), n, n)
            payload = msgpack.packb([n, None, payload, None])[:luck.randrange(1, 99)]
        messages.append(("s.x", payload, headers))
    nats.publish_all(messages)
    live = bench.start(source(nats, 'framing = blob').replace(
        'path = "out.ndjson"', 'path = "out.bin", framing = blob'))
    wait_settled(nats)
    run = live.stop(code=3)
    assert run.node("in")["in"] == 600
    assert run.node("in")["done"] + run.node("in")["dead"] == 600


# --- source.jetstream: consumers --------------------------------------------------------

@pytest.mark.parametrize("start, first", [("start", 0), ("'end'", None), ("'31'", 30)])
def test_where_a_new_consumer_begins(bench, nats, start, first):
    nats.make("S", ["s.>"])
    fill(nats, 100)
    live = bench.start(source(nats, "start = " + start))
    wait_for(lambda: nats.consumer("S", "t+in"), "the consumer")
    fill(nats, 20, 100)
    wait_for(lambda: written(bench)[-1:] == [119], "the last one")
    wait_settled(nats)
    live.stop()
    assert written(bench) == list(range(100 if first is None else first, 120))


def test_a_new_consumer_begins_at_a_time(bench, nats):
    nats.make("S", ["s.>"])
    fill(nats, 10)
    time = nats.api("STREAM.MSG.GET.S", {"seq": 10})["message"]["time"]
    wait_for(lambda: nats.publish("s.x", b'{"n":10}')
             and nats.api("STREAM.MSG.GET.S", {"last_by_subj": "s.x"})["message"]["time"][:22]
             > time[:22], "the clock goes on")
    last = nats.api("STREAM.MSG.GET.S", {"last_by_subj": "s.x"})["message"]
    live = bench.start(source(nats, "start = '%sZ'" % last["time"][:23]))
    wait_settled(nats)
    live.stop()
    assert set(written(bench)) == {10} and len(written(bench)) < 11


def test_subjects_filter(bench, nats):
    nats.make("S", ["s.>"])
    fill(nats, 10, 0, "s.a.x")
    fill(nats, 10, 10, "s.b.x")
    live = bench.start(source(nats, 'subjects = "s.b.*", durable = "mine"'))
    wait_for(lambda: len(written(bench)) >= 10, "10 records")
    wait_settled(nats, "mine")
    live.stop()
    assert written(bench) == list(range(10, 20))


def test_it_goes_on_where_it_was(bench, nats):
    nats.make("S", ["s.>"])
    fill(nats, 1000)
    live = bench.start(source(nats))
    wait_written(bench, 1000)
    live.stop()
    info = nats.consumer("S", "t+in")  # a stop waits for the last acknowledgement
    assert info["ack_floor"]["stream_seq"] == 1000 and info["num_ack_pending"] == 0
    fill(nats, 100, 1000)
    live = bench.start(None)
    wait_written(bench, 1100)
    live.stop()
    assert written(bench) == list(range(1100))


@pytest.mark.parametrize("config, text", [
    ({"ack_policy": "none"}, "ack_policy is"),
    ({"ack_policy": "explicit", "deliver_subject": "push.here"}, "push consumer"),
    ({"ack_policy": "explicit", "filter_subject": "s.other"}, "its filter is"),
    ({"ack_policy": "explicit", "headers_only": True}, "headers only"),
])
def test_a_consumer_that_will_not_do_is_fatal(bench, nats, config, text):
    nats.make("S", ["s.>"])
    nats.api("CONSUMER.DURABLE.CREATE.S.mine",
             {"stream_name": "S", "config": {"durable_name": "mine", **config}})
    run = bench.run("supervise { intensity = 0 }\n" + source(nats, 'durable = "mine"'),
                    code=None)
    assert run.code and "the consumer mine of S cannot be used" in run.err and text in run.err


@pytest.mark.parametrize("bound", [{"max_batch": 10}, {"max_waiting": 1}, {"max_bytes": 1000},
                                   {"max_expires": 10**8}], ids=lambda bound: next(iter(bound)))
def test_a_consumer_is_asked_within_its_bounds(bench, nats, bound):
    """Where the bytes of a request are spent to the last, nats-server 2.9 does not say so."""
    nats.make("S", ["s.>"])
    nats.api("CONSUMER.DURABLE.CREATE.S.mine", {"stream_name": "S", "config": {
        "durable_name": "mine", "ack_policy": "explicit", **bound}})
    fill(nats, 3000)
    live = bench.start(source(nats, 'durable = "mine", timeout = "120s"'))
    wait_written(bench, 3000)
    wait_settled(nats, "mine")
    live.stop()
    assert written(bench) == list(range(3000)) and "consumer is away" not in live.text()


def test_a_consumer_whose_places_others_have_is_asked_now_and_then(bench, nats):
    nats.make("S", ["s.>"])
    nats.api("CONSUMER.DURABLE.CREATE.S.mine", {"stream_name": "S", "config": {
        "durable_name": "mine", "ack_policy": "explicit", "max_waiting": 1}})
    other = nats.client()
    other.flush("SUB other 7")
    other.publish("$JS.API.CONSUMER.MSG.NEXT.S.mine", json.dumps({"batch": 1,
                  "expires": 2 * 10**9}), reply="other")
    other.flush()
    live = bench.start(source(nats, 'durable = "mine", retry = { max = "200ms" }'))
    live.wait_log("consumer is away.*Exceeded MaxWaiting")
    other.receive(7)  # its request has ended
    fill(nats, 100)
    wait_written(bench, 100)
    live.stop()
    other.close()
    assert live.text().count("consumer is away") == 1


def test_two_topologies_share_a_durable(bench, nats):
    nats.make("S", ["s.>"])
    bench.path("far").mkdir()
    far = Bench(bench.path("far"))
    far.state = far.folder / "weir-far"
    text = source(nats, 'durable = "both", window = 100')
    one = bench.start(text)
    two = far.start('settings { name = "far" }\n' + text)
    one.wait_ready()
    two.wait_ready()
    wait_for(lambda: nats.consumer("S", "both")
             and nats.consumer("S", "both")["num_waiting"] >= 2, "both ask")
    fill(nats, 5000)
    wait_for(lambda: len(written(bench)) + len(written(far)) >= 5000, "all of them")
    wait_settled(nats, "both")
    one.stop()
    two.stop()
    far.close()
    assert sorted(written(bench) + written(far)) == list(range(5000))
    assert written(bench) and written(far)


def test_progress_keeps_what_is_stuck_downstream(bench, nats):
    """A FIFO that nobody reads holds all for four times ack_wait."""
    nats.make("S", ["s.>"])
    fill(nats, 200)
    bench.write("out.ndjson", b"")
    live = bench.start("""settings { window = "1MB" }
source.jetstream "in" { url = "%s", stream = "S", ack_wait = "1s" }
process "slow" { from = "in", each = function (r) return r end }
sink.stdout "out" { from = "slow" }
""" % nats.url(), out=subprocess.PIPE)
    wait_for(lambda: nats.consumer("S", "t+in"), "the consumer")
    pad = "x" * 5000
    nats.publish_all([("s.x", json.dumps({"n": n, "pad": pad}).encode(), {"Nats-Msg-Id": str(n)})
                      for n in range(200, 600)])
    wait_for(lambda: nats.consumer("S", "t+in")["num_ack_pending"] > 100, "stuck")
    before = live.child.pid
    end = time.monotonic() + 4
    while time.monotonic() < end:
        info = nats.consumer("S", "t+in")
        assert info["num_redelivered"] == 0, info
        time.sleep(0.05)
    assert info["num_ack_pending"] > 0 and before
    got = []
    while len(got) < 600:
        got.append(json.loads(live.child.stdout.readline())["n"])
    assert got == list(range(600))
    wait_settled(nats)
    assert nats.consumer("S", "t+in")["num_redelivered"] == 0
    live.stop()


def test_what_is_given_back_at_the_end_comes_again_at_once(bench, nats):
    """The path stops at a record; what was under way does not wait for ack_wait."""
    nats.make("S", ["s.>"])
    fill(nats, 50)
    text = source(nats, 'ack_wait = "300s"')
    bad = text.replace('sink.file "out" { from = "in"', """process "p" { from = "in",
  on_error = stop, each = function (r) if r.n == 20 then error "no" end return r end }
sink.file "out" { from = "p\"""")
    run = bench.run("supervise { intensity = 0 }\n" + bad, code=None)
    assert run.code
    live = bench.start(text)
    wait_written(bench, 50)
    wait_settled(nats)
    live.stop()


def test_max_deliver_ends_what_makes_the_path_fail(bench, nats):
    nats.make("S", ["s.>"])
    fill(nats, 30)
    text = 'supervise { intensity = 50 }\n' + source(
        nats, 'max_deliver = 3, window = 1, retry = { first = "10ms" }').replace(
            'sink.file "out" { from = "in"', """process "p" { from = "in",
  on_error = stop, each = function (r) if r.n == 20 then error "no" end return r end }
sink.file "out" { from = "p\"""")
    live = bench.start(text)
    wait_for(lambda: set(written(bench)) == set(range(30)) - {20}, "all others", 60)
    wait_settled(nats)
    live.stop(code=None)
    dead, = bench.dead()
    assert dead["reason"] == "max_deliver" and dead["payload"]["n"] == 20
    assert "3 times" in dead["error"]


# --- source.jetstream: failures ---------------------------------------------------------

def test_a_stream_that_is_not_there_is_waited_for(bench, nats):
    live = bench.start(source(nats, 'retry = { max = "200ms" }'))
    live.wait_ready()
    why(bench, "there is no such stream")
    nats.make("S", ["s.>"])
    fill(nats, 100)
    wait_written(bench, 100)
    live.stop()


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
def test_a_consumer_that_is_deleted_is_made_again_where_it_was(bench, nats, retention):
    nats.make("S", ["s.>"], retention=retention)
    fill(nats, 3000)
    live = bench.start(source(nats, 'retry = { max = "200ms" }'))
    wait_for(lambda: len(written(bench)) > 500, "some")
    nats.api("CONSUMER.DELETE.S.t+in")
    fill(nats, 1000, 3000)
    wait_written(bench, 4000)
    wait_settled(nats)
    nats.api("CONSUMER.DELETE.S.t+in")
    wait_for(lambda: nats.consumer("S", "t+in"), "a new one")
    fill(nats, 100, 4000)
    wait_written(bench, 4100)
    live.stop()
    assert written(bench) == list(range(4100))


def test_a_stream_that_is_made_anew_is_read_from_its_start(bench, nats):
    nats.make("S", ["s.>"])
    fill(nats, 500)
    live = bench.start(source(nats, 'retry = { max = "200ms" }'))
    wait_written(bench, 500)
    wait_settled(nats)
    nats.api("STREAM.DELETE.S")
    live.wait_log("consumer is away")
    nats.make("S", ["s.>"])
    fill(nats, 700, 500)
    wait_written(bench, 1200)
    live.stop()
    assert written(bench) == list(range(1200))


def test_kill_and_pause_of_the_server_lose_nothing(bench, nats):
    luck = chance("jetstream source")
    nats.make("S", ["s.>"])
    live = bench.start(source(nats, 'timeout = "1s", ack_wait = "2s", '
                                    'retry = { max = "200ms" }'))
    for part in range(6):
        fill(nats, 3000, 3000 * part)
        wait_for(lambda: len(written(bench)) > 3000 * part + luck.randrange(1500), "some")
        if part % 2:
            nats.kill()
            nats.start()
        else:
            nats.pause()
            live.wait_log("jetstream connection lost", count=part + 1)
            nats.resume()
    wait_written(bench, 18000)
    wait_settled(nats)
    live.stop()
    found = written(bench)
    assert len(found) == 18000, "%d twice" % (len(found) - 18000)


def test_kill_9_of_weir_loses_nothing(bench, nats):
    luck = chance("jetstream source kill")
    nats.make("S", ["s.>"])
    fill(nats, 10000)
    text = source(nats, 'ack_wait = "1s"', tell=True)
    for part in range(4):
        live = bench.start(text)
        wait_for(lambda: count_rows(bench.path("out.ndjson")) >
                 2000 * part + luck.randrange(1500), "some")
        live.kill()
    live = bench.start(text)
    wait_settled(nats)
    live.stop()
    got = objects(bench.path("out.ndjson"))
    assert {row["headers"]["sequence"] for row in got} == set(range(1, 10001))


def test_from_end_to_end_each_record_once(bench, nats):
    """bus -> stream -> file, with kills of all three."""
    bench.write("in.ndjson", lines(20000))
    bench.path("far").mkdir()
    far = Bench(bench.path("far"))
    far.state = far.folder / "weir-far"
    near = BUS % (nats.url(), 'subject = "s", stream = "S", timeout = "1s"')
    end = 'settings { name = "far" }\n' + source(nats, 'ack_wait = "2s", timeout = "1s"',
                                               tell=True)
    for _ in range(3):
        one, two = bench.start(near), far.start(end)
        before = count_rows(far.path("out.ndjson"))
        wait_for(lambda: count_rows(far.path("out.ndjson")) > before + 1000, "some")
        one.kill()
        nats.kill()
        two.kill()
        nats.start()
    one, two = bench.start(near), far.start(end)
    nats.wait_count("S", 20000, 60)
    wait_settled(nats, "far+in")
    two.stop()
    one.stop()
    far.close()
    ids = {}
    for row in objects(far.path("out.ndjson")):
        ids.setdefault(row["headers"]["Nats-Msg-Id"], json.loads(row["raw"])["n"])
    assert sorted(ids.values()) == list(range(20000))


def test_a_second_reader_of_what_it_reads(bench, nats):
    """Records reach two sinks; a message is acknowledged when both have it."""
    nats.make("S", ["s.>"])
    fill(nats, 1000)
    live = bench.start(source(nats) + 'sink.file "two" { from = "in", path = "two.ndjson" }\n')
    wait_settled(nats)
    live.stop()
    assert len(rows(bench.path("two.ndjson"))) == len(rows(bench.path("out.ndjson"))) == 1000
