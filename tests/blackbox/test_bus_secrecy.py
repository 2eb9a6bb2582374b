"""Buses on servers: a password is in nothing that Weir says or writes."""
import json

import pytest
import stores
from test_bus_servers import TOPOLOGY, all_came, given, started

PASSWORD = "f4rm-geheim"


def hidden(bench, *texts, but=()):
    """The password is in none of these texts, nor in a file that Weir has written."""
    for text in texts:
        assert PASSWORD not in text, text
    for path in bench.folder.rglob("*"):
        if path.is_file() and path.name != "t.lua" and "redis" not in path.parts and \
                "nats" not in path.parts and path.name not in but:
            assert PASSWORD.encode() not in path.read_bytes(), path


def asked(bench):
    """What all commands tell of a weir that runs."""
    told = []
    for words in (["why", "t"], ["why", "t", "--json"], ["ctl", "stats", "t", "--json"],
                  ["ctl", "stats", "t"], ["audit", "t"], ["audit", "t", "--json"],
                  ["ctl", "list", "t"], ["top", "t", "--once"], ["pos", "ls", "t"],
                  ["ctl", "flush", "t/events", "--timeout", "100ms"]):
        run = bench.weir(*words)
        told += [run.out, run.err]
    return told


# What the server asks for; another url that is refused, and why.
LOGINS = {
    "redis, password": ("redis", {"password": PASSWORD}, ("redis://", "rediss://"), "TLS"),
    "jetstream, password": ("jetstream", {"users": [{"user": "test", "password": PASSWORD}]},
                            ("127.0.0.1", "192.0.2.1"), "plaintext"),
    "jetstream, token": ("jetstream", {"token": PASSWORD}, ("127.0.0.1", "192.0.2.1"),
                         "plaintext"),
}


@pytest.mark.parametrize("kind, login, change, text", LOGINS.values(), ids=LOGINS.keys())
def test_a_password_is_nowhere_while_it_runs(bench, kind, login, change, text):
    lines = given(bench, "hidden", 1000)
    with stores.place(kind, bench, **login) as place:
        live = started(bench, TOPOLOGY % (10**6, place.store("timeout = '300ms'")))
        all_came(bench, lines)
        told = asked(bench)
        place.server.kill()
        lines.append('{"n":1000,"k":"last"}')
        bench.append("in.ndjson", lines[-1] + "\n")
        live.wait_log("store does not take it")
        told += asked(bench)
        place.server.start()
        all_came(bench, lines)
        done = live.stop()
        hidden(bench, *told, done.err, json.dumps(done.report))
        bad = bench.check(TOPOLOGY % (1, place.store().replace(*change)))
        assert bad.code == 2 and text in bad.err
        hidden(bench, bad.out, bad.err)
