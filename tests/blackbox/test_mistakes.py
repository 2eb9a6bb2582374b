"""Mistakes that people make when they set up links: each side says what is wrong."""
import re

import pytest

from helper import WEIR, Live
from links import into_file
from ports import free_port


@pytest.fixture(name="keys")
def folders(bench):
    """The folders of web and store, who trust each other."""
    def keys(*words):
        told = bench.weir("keys", *words)
        assert told.code == 0, told.err
        return told
    for name in "web", "store", "false":
        keys("init", "--keys", name, name if name != "false" else "store")
    keys("allow", "--keys", "store", "web/self.pub", "--role", "produce")
    keys("allow", "--keys", "web", "store/self.pub", "--role", "none")
    return keys


def listen(bench, more=""):
    """A weir with the keys of `store` that listens, and where."""
    endpoint = "tcp://127.0.0.1:%d" % free_port()
    path = bench.write("store.lua", 'security { keys = "store" }\n'
                       + into_file(endpoint, more))
    live = Live(bench, [WEIR, "run", str(path)])
    live.wait_ready()
    return endpoint, live


def send(bench, endpoint, more):
    """A weir with the keys of `web` that connects there."""
    bench.write("in.ndjson", '{"id":1}\n')
    path = bench.write("web.lua", 'security { keys = "web" }\n'
                       'source.file "in" { path = "in.ndjson" }\n'
                       'sink.link "out" { from = "in", connect = "%s", %s }\n'
                       % (endpoint, more))
    return Live(bench, [WEIR, "run", str(path)])


def end(*lives):
    """At once: their records have no way out."""
    for live in lives:
        live.kill()


def downs(live):
    """The causes that were logged."""
    return set(re.findall(r'link is down .*cause="(.*)"', live.text()))


def test_plaintext_meets_curve(bench, keys):
    endpoint, store = listen(bench)
    web = send(bench, endpoint, "plaintext = true")
    web.wait_log("plaintext endpoint=tcp://.*: not encrypted")
    web.wait_log("the handshake failed: it speaks CURVE, or no ZeroMQ at all")
    store.wait_log('in: handshake failed address=127.0.0.1 cause="it does not speak CURVE"')
    assert len(downs(web)) == 1
    end(web, store)


def test_curve_meets_plaintext(bench, keys):
    endpoint, store = listen(bench, ", plaintext = true")
    store.wait_log("plaintext endpoint=tcp://.*: not encrypted")
    web = send(bench, endpoint, 'server = "store"')
    web.wait_log("it speaks no CURVE, or has not the key of 'store'")
    store.wait_log('handshake failed address=127.0.0.1 cause="it speaks CURVE, we do not"')
    assert len(downs(web)) == 1
    end(web, store)


def test_another_key_of_the_server(bench, keys):
    endpoint, store = listen(bench)
    bench.path("web/peers/store.pub").write_bytes(
        bench.path("false/self.pub").read_bytes())
    web = send(bench, endpoint, 'server = "store"')
    web.wait_log("has not the key of 'store' .weir keys doctor tells.")
    store.wait_log('handshake failed address=127.0.0.1 cause="it has another key of ours')
    assert store.text().count("handshake failed") == 1
    end(web, store)


def test_nobody_listens(bench, keys):
    web = send(bench, "tcp://127.0.0.1:%d" % free_port(), 'server = "store"')
    web.wait_log('link is down .*cause="nobody answers there"')
    end(web)


def test_ones_own_certificate_is_allowed_with_a_word(bench, keys):
    told = keys("allow", "--keys", "web", "web/self.pub", "--role", "produce")
    assert "this is our own certificate" in told.err and "'web' is trusted" in told.out
    assert keys("allow", "--keys", "web", "store/self.pub", "--role", "none").err == ""


def test_a_weir_that_is_not_found_tells_where_was_looked(bench):
    run = bench.path("run-of-nobody")
    for words in (["why"], ["why", "web"], ["audit"]):
        told = bench.weir(*words, env={"WEIR_RUN": str(run)})
        assert told.code == 2 and "looked in %s" % run in told.err


def test_a_run_folder_that_cannot_be_looked_into(bench):
    none = bench.write("run-file", "")  # as a folder of somebody else is, also to root
    for words in (["ctl", "list"], ["why"], ["why", "web"]):
        told = bench.weir(*words, env={"WEIR_RUN": str(none)})
        assert told.code == 1 and "ask as the user whose weir it is" in told.err


@pytest.mark.parametrize("node, text", [
    ('source.link "in" { listen = "inproc://x" }', "'listen': inproc leads nowhere"),
    ('sink.link "out" { from = "gen", connect = "inproc://x" }',
     "'connect': inproc leads nowhere"),
    ('sink.link "out" { from = "gen", connect = "tcp://*:7000", plaintext = true }',
     "'connect': expected tcp://HOST:PORT"),
])
def test_an_endpoint_that_leads_nowhere_is_found_by_the_check(bench, node, text):
    told = bench.check('source.generate "gen" {}\nsink.null "null" { from = "gen" }\n'
                       + node + '\nsink.null "drain" { from = "in" }' * ("source" in node))
    assert told.code == 2 and text in told.err


def test_an_address_of_another_host_is_told(bench):
    told = bench.run(into_file("tcp://192.0.2.1:7000", ", plaintext = true"), code=1)
    assert "in: cannot listen: this host has no such address; * means all" in told.err
