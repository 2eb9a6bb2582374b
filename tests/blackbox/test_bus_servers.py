"""Buses on servers that are away, hang, are killed, or are not what they were: nothing that
was acknowledged is lost or told twice, and what cannot be mended is told."""
import json
import os
import shutil
import time

import pytest
import stores
from helper import PATIENCE, chance, count_rows, wait_for

RECORDS = 20000

TOPOLOGY = """
supervise { intensity = 2, drain = "2s" }
source.file "in" { path = "in.ndjson", rate = { records = %d } }
bus "events" { from = "in", key = "k", shards = 4, ring_bytes = "1MB",
  retry = { first = "20ms", max = "200ms", timeout = "5s" }, store = %s }
sink.file "out" { from = "events", path = "out.ndjson", fsync = never }
source.file "plain" { path = "plain.ndjson" }
sink.file "copy" { from = "plain", path = "copy.ndjson", fsync = never }
"""

kinds = pytest.mark.parametrize("kind", stores.SERVERS)


def given(bench, name, count=RECORDS):
    """Lines in the input, which are given back."""
    lines = stores.numbered(chance(name), count)
    bench.write("in.ndjson", lines)
    return lines


def started(bench, text):
    """A weir that is ready, whatever its servers are."""
    live = bench.start(text)
    assert live.wait_ready() < 5
    return live


def came(bench):
    """How many lines have come out."""
    return count_rows(bench.path("out.ndjson"))


def all_came(bench, lines, seconds=PATIENCE):
    """Waits until all of them have come, each once, in order."""
    wait_for(lambda: came(bench) >= len(lines), "all records", seconds)
    stores.assert_once_in_order(bench.path("out.ndjson"), lines)


def stored_once(place, lines):
    """Each record is on the server once, in order; no id is there twice."""
    records = place.records()
    assert len({record.id for record in records}) == len(records) == len(lines)
    assert stores.by_key(record.payload for record in records) == \
        stores.numbers_by_key(lines)


# --- Away -------------------------------------------------------------------------------

@kinds
def test_a_server_that_is_absent_at_the_start_is_waited_for(bench, kind):
    lines = given(bench, "absent")
    bench.write("plain.ndjson", lines[:100])
    with stores.place(kind, bench) as place:
        place.server.kill()
        live = started(bench, TOPOLOGY % (100000, place.store("timeout = '500ms'")))
        wait_for(lambda: count_rows(bench.path("copy.ndjson")) == 100, "the other path")
        live.wait_log("store does not take it|no connection|refused|away")
        assert came(bench) == 0
        place.server.start()
        all_came(bench, lines)
        live.stop()
        stored_once(place, lines)


@kinds
def test_a_server_that_hangs_at_the_start_is_waited_for(bench, kind):
    lines = given(bench, "hangs")
    bench.write("plain.ndjson", lines[:100])
    with stores.place(kind, bench) as place:
        place.server.pause()
        live = started(bench, TOPOLOGY % (100000, place.store("timeout = '500ms'")))
        wait_for(lambda: count_rows(bench.path("copy.ndjson")) == 100, "the other path")
        place.server.resume()
        all_came(bench, lines)
        live.stop()
        stored_once(place, lines)


@kinds
def test_a_server_that_is_killed_under_load_loses_nothing(bench, kind):
    lines = given(bench, "killed")
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (RECORDS // 3, place.store()))
        for part in range(1, 5):
            wait_for(lambda: came(bench) >= part * RECORDS // 6, "a part")
            place.server.restart()
        all_came(bench, lines)
        done = live.stop()
        assert not done.report["restarts"]
        stored_once(place, lines)


@kinds
def test_a_server_that_hangs_for_longer_than_the_timeout_loses_nothing(bench, kind):
    lines = given(bench, "paused")
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (RECORDS // 3, place.store("timeout = '200ms'")))
        for part in range(1, 4):
            wait_for(lambda: came(bench) >= part * RECORDS // 6, "a part")
            place.server.pause()
            live.wait_log("store does not take it", count=part)
            place.server.resume()
        all_came(bench, lines)
        done = live.stop()
        assert not done.report["restarts"]
        stored_once(place, lines)
