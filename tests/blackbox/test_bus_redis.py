"""Buses on Redis: what only this server does."""
import json
import re

import pytest
import servers
import stores
from helper import chance, wait_for
from ports import free_port
from test_bus_secrecy import PASSWORD, hidden
from test_bus_servers import (TOPOLOGY, all_came, came, given, started, stored_once, stuck,
                              trimmed_unread)


def test_a_server_that_loses_what_it_acknowledged_is_damage(bench):
    given(bench, "forgetful")
    with stores.place("redis", bench, appendonly=False) as place:
        live = started(bench, TOPOLOGY % (5000, place.store()))
        wait_for(lambda: came(bench) > 2000, "some records")
        place.server.restart()
        done = live.wait(code=1)
        assert "damage" in done.err, done.err


def test_a_full_server_takes_all_once_it_has_room(bench):
    lines = stores.numbered(chance("full"), 20000, filler=200)
    bench.write("in.ndjson", lines)
    with stores.place("redis", bench, maxmemory="4mb") as place:
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        live.wait_log("store does not take it.*OOM")
        wait_for(lambda: "OOM" in bench.weir("why", "t").out, "the cause")
        before = stuck(bench)
        assert 0 < before["safe"] < len(lines) and before["dead"] == 0
        place.server.call("CONFIG", "SET", "maxmemory", "100mb")
        all_came(bench, lines)
        live.stop()
        stored_once(place, lines)


def test_a_replica_is_waited_for_until_it_takes_writes(bench):
    lines = given(bench, "replica", 5000)
    with servers.Redis(bench.path("redis") / "master") as master, \
            stores.place("redis", bench) as place:
        place.server.call("REPLICAOF", "127.0.0.1", master.port)
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        live.wait_log("store does not take it.*READONLY")
        assert came(bench) == 0
        place.server.call("REPLICAOF", "NO", "ONE")
        all_came(bench, lines)
        live.stop()
        stored_once(place, lines)


def test_a_look_tells_what_keeps_a_server_from_being_a_store(bench):
    def told(url, code=1):
        run = bench.check('source.file "in" { path = "in.ndjson" }\n'
                          'bus "b" { from = "in", store = redis { url = "%s" } }' % url,
                          "--online", "--timeout", "2s")
        assert run.code == code, run.out + run.err
        return run.out + run.err
    with stores.place("redis", bench) as place:
        redis = place.server
        assert redis.url() + ": 0 shards" in told(redis.url(), 0)
        redis.call("ACL", "SETUSER", "low", "on", ">" + PASSWORD, "~*", "+ping")
        assert re.search(r"redis://low:\*\*\*@127.0.0.1:\d+: NOPERM.*'scan'",
                         told(redis.url("low", PASSWORD)))
        redis.call("REPLICAOF", "127.0.0.1", free_port())
        assert redis.url() + ": it is a replica" in told(redis.url())
        redis.pause()
        assert redis.url() + ": no answer in 2000 ms" in told(redis.url())
        redis.resume()


@pytest.mark.parametrize("user, rule, text", [
    (None, None, "WRONGPASS|invalid"),
    ("low", "low on >%s ~* +@read +ping" % PASSWORD, "NOPERM|permission"),
], ids=["password", "permission"])
def test_who_is_not_let_in_is_told_clearly_and_the_password_nowhere(bench, user, rule, text):
    given(bench, "access", 100)
    with stores.place("redis", bench, password="other", users=[rule] if rule else []) as place:
        store = 'redis { url = "%s" }' % place.server.url(user, PASSWORD)
        live = bench.start(TOPOLOGY % (1000, store))
        done = live.wait(code=1)
        assert re.search(text, done.err), done.err
        assert rule or "***" in done.err
        hidden(bench, done.err, json.dumps(done.report))


def test_what_is_trimmed_before_it_is_read_is_shed_and_told(bench):
    with stores.place("redis", bench) as place:
        store = place.store("keep = { records = 1000 }")
        trimmed_unread(bench, TOPOLOGY.replace("shards = 4", "shards = 1") % (10**6, store))
        assert 1000 <= len(place.records()) < 2000
