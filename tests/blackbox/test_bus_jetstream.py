"""Buses on JetStream: what only this server does."""
import json
import os
import re

import pytest
import stores
from helper import chance, objects, wait_for
from test_bus_secrecy import PASSWORD, hidden
from test_bus_servers import (TOPOLOGY, all_came, given, started, stored_once, stuck,
                              trimmed_unread)

USERS = [{"user": "test", "password": "other"}]


def test_a_full_server_takes_all_once_it_has_room(bench):
    lines = stores.numbered(chance("full"), 20000, filler=200)
    bench.write("in.ndjson", lines)
    with stores.place("jetstream", bench, jetstream={"max_file_store": 2000000}) as place:
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        live.wait_log("store does not take it.*(resource|storage|insufficient)")
        before = stuck(bench)
        assert 0 < before["safe"] < len(lines) and before["dead"] == 0
        place.server.jetstream["max_file_store"] = 100000000
        place.server.restart()
        all_came(bench, lines)
        live.stop()
        stored_once(place, lines)


@pytest.mark.parametrize("user, permissions, text", [
    (None, None, "Authorization"),
    ("low", {"publish": "$JS.API.INFO", "subscribe": "_INBOX.>"}, "[Pp]ermission"),
], ids=["password", "permission"])
def test_who_is_not_let_in_is_told_clearly_and_the_password_nowhere(bench, user, permissions,
                                                                    text):
    given(bench, "access", 100)
    users = USERS + ([{"user": user, "password": PASSWORD, "permissions": permissions}]
                     if user else [])
    with stores.place("jetstream", bench, users=users) as place:
        store = 'jetstream { url = "%s" }' % place.server.url(user or "test", PASSWORD)
        live = bench.start(TOPOLOGY % (1000, store))
        done = live.wait(code=1)
        assert re.search(text, done.err), done.err
        hidden(bench, done.err, json.dumps(done.report))


@pytest.mark.parametrize("keep", ["records = 1000", "bytes = '400KB'"],
                         ids=["records", "bytes"])
def test_what_is_trimmed_before_it_is_read_is_shed_and_told(bench, keep):
    with stores.place("jetstream", bench) as place:
        store = place.store("keep = { %s }" % keep)
        trimmed_unread(bench, TOPOLOGY.replace("shards = 4", "shards = 1") % (10**6, store))
        assert 0 < len(place.records()) < 4000


def test_a_record_that_the_server_never_takes_is_a_dead_letter(bench):
    lines = given(bench, "large", 300)
    big = '{"n":-1,"k":"key-1","x":"%s"}' % ("x" * 100000)
    bench.write("in.ndjson", lines[:100] + [big] + lines[100:])
    with stores.place("jetstream", bench, settings="max_payload: 65536") as place:
        text = TOPOLOGY % (10**6, place.store())
        live = started(bench, text)
        all_came(bench, lines)
        letter, = wait_for(lambda: objects(bench.state / "dead.ndjson"), "a dead letter")
        assert "65536" in letter["error"], letter
        live.stop(code=3)
        stored_once(place, lines)


def test_a_topology_over_tls(bench):
    lines = given(bench, "tls", 5000)
    users = [{"user": "test", "password": PASSWORD}]
    with stores.place("jetstream", bench, tls=True, users=users) as place:
        env = {"SSL_CERT_FILE": str(place.server.certificates.ca)}
        live = bench.start(TOPOLOGY % (10**6, place.store()), env={**os.environ, **env})
        live.wait_ready()
        all_came(bench, lines)
        live.wait_log("jetstream connected.*tls")
        done = live.stop()
        stored_once(place, lines)
        hidden(bench, done.err)
        # Without that certificate nobody is trusted.
        done = bench.start(TOPOLOGY % (10**6, place.store())).wait(code=1)
        assert "certificate" in done.err.lower() or "tls" in done.err.lower(), done.err
