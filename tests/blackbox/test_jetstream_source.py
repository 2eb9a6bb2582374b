"""source.jetstream against a real nats-server, through `weir run`."""
import base64
import json
import subprocess
import time

import msgpack
import pytest
from helper import Bench, chance, count_rows, objects, rows, wait_for
from servers import Error, Nats
from test_jetstream import fresh_server  # noqa: F401 pylint: disable=unused-import
from test_jetstream import (BUS, fill, lines, sink, source, wait_settled, wait_written, why,
                            written)


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
    sid = other.subscribe("other")
    other.publish("$JS.API.CONSUMER.MSG.NEXT.S.mine", json.dumps({"batch": 1,
                  "expires": 600 * 10**9}), reply="other")
    other.flush()
    live = bench.start(source(nats, 'durable = "mine", retry = { max = "200ms" }'))
    live.wait_log("consumer is away.*Exceeded MaxWaiting")
    fill(nats, 101)
    assert other.receive(sid).data == b'{"n": 0}'  # which ends its request
    wait_for(lambda: set(written(bench)) >= set(range(1, 101)), "the others")
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


def delete_consumer(nats):
    """nats-server 2.9 may write what it removes at that time; it is gone then, too."""
    try:
        nats.api("CONSUMER.DELETE.S.t+in")
    except Error as error:
        assert "directory not empty" in error.text, error


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
def test_a_consumer_that_is_deleted_is_made_again_where_it_was(bench, nats, retention):
    nats.make("S", ["s.>"], retention=retention)
    fill(nats, 3000)
    live = bench.start(source(nats, 'retry = { max = "200ms" }'))
    wait_for(lambda: len(written(bench)) > 500, "some")
    delete_consumer(nats)
    fill(nats, 1000, 3000)
    wait_written(bench, 4000)
    wait_settled(nats)
    delete_consumer(nats)
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
