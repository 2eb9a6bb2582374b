"""Buses on servers that are away, hang, are killed, or are not what they were: nothing that
was acknowledged is lost or told twice, and what cannot be mended is told."""
import json
import shutil
import time

import pytest
import stores
from helper import PATIENCE, SANITIZED, chance, count_rows, wait_for

RECORDS = 20000
MB = 1 << 20
RECORD_PAGES = 8 * MB  # what groups read ahead, and the server's answers

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


def numbers(bench):
    """Those that have come out, from whole lines."""
    lines = bench.path("out.ndjson").read_bytes().split(b"\n")[:-1]
    return [json.loads(line)["n"] for line in lines]


def told_of_bus(bench):
    """What `weir audit` tells of it."""
    told = bench.weir("audit", "--json", "t")
    assert told.code == 0, told.out + told.err
    return json.loads(told.out)["buses"][0]


def stored(bench):
    """How many records are."""
    return told_of_bus(bench)["safe"]


def stuck(bench, seconds=0.5):
    """What is told of the bus when it has taken nothing for so long."""
    last, since = told_of_bus(bench), time.monotonic()
    while time.monotonic() < since + seconds:
        now = told_of_bus(bench)
        if now["offered"] != last["offered"]:
            last, since = now, time.monotonic()
    return last


def trimmed_unread(bench, text):
    """A group reads 1000 records, and is away while 30000 more are stored; what is there of
    them is read, what is not is shed and told. The lines of `pos ls`, and how many."""
    lines = given(bench, "trimmed", 1000)
    live = started(bench, text)
    wait_for(lambda: came(bench) == len(lines), "the first part")
    live.stop()
    more = ['{"n":%d,"k":"a"}' % n for n in range(1000, 31000)]
    bench.append("in.ndjson", "".join(line + "\n" for line in more))
    away = started(bench, text.replace('sink.file "out"', '--'))
    wait_for(lambda: stored(bench) == len(more), "all are stored")
    away.stop()
    live = started(bench, text)
    wait_for(lambda: came(bench) > 1000 and numbers(bench)[-1] == 30999, "the last one")
    wait_for(lambda: "records are shed group=out shard=0" in away.text() + live.text(),
             "that is told, by whichever of the two has noticed")
    told = bench.weir("pos", "ls", "t")
    live.stop()
    got = numbers(bench)
    assert got[1000:] == list(range(got[1000], 31000))
    assert got[1000] > 1000 and "shed %d" % (got[1000] - 1000) in told.out, told.out


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


# --- Lost between two runs --------------------------------------------------------------

@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
@kinds
def test_what_comes_after_the_server_has_lost_all_is_read(bench, kind, away):
    """Also when the server comes only after the start."""
    lines = stores.numbered(chance("lost"), 2000)
    bench.write("in.ndjson", lines[:1000])
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        all_came(bench, lines[:1000])
        live.stop()
        place.remove_all()
        if away:
            place.server.kill()
        bench.append("in.ndjson", "".join(line + "\n" for line in lines[1000:]))
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        if away:
            place.server.start()
        all_came(bench, lines)
        live.stop()


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
def test_a_server_that_is_absent_when_vnodes_were_on_their_way_is_waited_for(bench, kind):
    lines = given(bench, "moves")
    with stores.place(kind, bench) as place:
        text = (TOPOLOGY % (RECORDS, place.store())).replace(
            "shards = 4,", 'shards = 4, scale = { min = 1, max = 8, window = "1h" },')
        live = started(bench, text)
        wait_for(lambda: came(bench) > RECORDS // 8, "some records")
        place.server.pause()
        run = bench.weir("ctl", "scale", "t/events", "--to", "6")
        assert run.code == 0, run.err
        live.kill()
        place.server.kill()
        live = started(bench, text)
        place.server.start()
        wait_for(lambda: set(numbers(bench)) == set(range(RECORDS)), "all records")
        live.stop()
        stores.assert_in_order(bench.path("out.ndjson"), lines)


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


@kinds
def test_a_run_does_not_end_while_its_server_hangs_with_records_unread(bench, kind):
    """Its sources have ended, and nothing moves."""
    lines = given(bench, "unread", 50000)
    with stores.place(kind, bench) as place:
        text = (TOPOLOGY % (10**6, place.store())).replace(
            'path = "in.ndjson"', 'path = "in.ndjson", at_end = stop').replace(
                'from = "events"', 'from = group "g" { of = "events", window = 100 }').replace(
                    'path = "plain.ndjson"', 'path = "in.ndjson", at_end = stop')
        live = started(bench, text)
        wait_for(lambda: stored(bench) == len(lines), "all is stored")
        assert came(bench) < len(lines)
        place.server.pause()
        assert stuck(bench, 2) and live.running() and came(bench) < len(lines)
        place.server.resume()
        live.wait(60)
        stores.assert_once_in_order(bench.path("out.ndjson"), lines)


@kinds
def test_memory_is_bounded_while_a_server_is_away(bench, kind):
    """A fast source: its records wait in the rings, and it waits for them."""
    lines = stores.numbered(chance("memory"), 50000, filler=900)
    bench.write("in.ndjson", lines)
    with stores.place(kind, bench) as place:
        live = started(bench, 'settings { window = "1MB" }' +
                       TOPOLOGY % (10**6, place.store("timeout = '500ms'")))
        wait_for(lambda: came(bench) > 1000, "some records")
        place.server.kill()
        resident = stuck(bench)
        most = max(live.vm("VmRSS") for _ in range(50) if not time.sleep(0.02))
        assert resident["resident"] * 900 < 5 * MB
        assert SANITIZED or most < 20 * MB + 1.1 * (4 + 2) * MB + RECORD_PAGES, most / MB
        place.server.start()
        all_came(bench, lines, 60)
        live.stop()
        stored_once(place, lines)


@kinds
def test_what_is_not_safe_at_the_end_of_a_drain_is_told_and_read_again(bench, kind):
    lines = given(bench, "drain", 3000)
    with stores.place(kind, bench) as place:
        text = TOPOLOGY % (10**6, place.store("timeout = '500ms'"))
        live = started(bench, text)
        all_came(bench, lines)
        place.server.kill()
        lines += ['{"n":%d,"k":"key-%d"}' % (n, n % 10) for n in range(3000, 4000)]
        bench.append("in.ndjson", "".join(line + "\n" for line in lines[3000:]))
        assert stuck(bench)["resident"] == 1000
        flush = bench.weir("ctl", "flush", "t/events", "--timeout", "300ms")
        assert flush.code == 1 and "127.0.0.1:%d" % place.server.port in flush.err + flush.out
        done = live.stop(code=1)
        assert done.seconds < 60 and "not safe" in done.err, done.err
        place.server.start()
        live = started(bench, text)
        all_came(bench, lines)
        assert bench.weir("ctl", "flush", "t/events").code == 0
        live.stop()
        stored_once(place, lines)


@kinds
def test_batches_that_are_given_up_are_dead_letters_and_the_rest_goes_on(bench, kind):
    given(bench, "given up", 1000)
    with stores.place(kind, bench) as place:
        text = (TOPOLOGY % (10**6, place.store("timeout = '500ms'"))).replace(
            "retry = {", "retry = { attempts = 3,")
        live = started(bench, text)
        wait_for(lambda: came(bench) == 1000, "the first part")
        place.server.kill()
        bench.append("in.ndjson", "".join('{"n":%d,"k":"key-%d"}\n' % (n, n % 10)
                                          for n in range(1000, 1500)))
        wait_for(lambda: count_rows(bench.state / "dead.ndjson") == 500, "dead letters")
        place.server.start()
        wait_for(lambda: bench.append("in.ndjson", '{"n":1500,"k":"key-1"}\n') or
                 came(bench) > 1000, "new records")
        done = live.stop(code=3)
        assert done.node("events")["dead"] == len(bench.dead()) >= 500
        records = place.records()
        assert len({record.id for record in records}) == len(records)
        dead = {letter["payload"]["n"] if isinstance(letter["payload"], dict) else
                json.loads(letter["payload"])["n"] for letter in bench.dead()}
        assert not dead & {record.payload["n"] for record in records} - {1500}


@kinds
@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest"])
def test_what_finds_full_rings_while_a_server_is_away_is_shed_and_counted(bench, kind,
                                                                         overflow):
    lines = stores.numbered(chance("overflow"), 60000, filler=200)
    bench.write("in.ndjson", lines)
    with stores.place(kind, bench) as place:
        text = (TOPOLOGY % (10**6, place.store("timeout = '500ms'"))).replace(
            "ring_bytes =", "overflow = %s, ring_bytes =" % overflow)
        place.server.kill()
        live = started(bench, text)
        wait_for(lambda: stuck(bench)["offered"] == len(lines), "all of it was offered")
        place.server.start()
        wait_for(lambda: stuck(bench)["resident"] == 0, "what was kept is stored")
        bus = stuck(bench)
        wait_for(lambda: came(bench) == bus["safe"], "and read")
        live.stop()
        assert bus["safe"] + bus["full"] + bus["evicted"] == len(lines)
        assert 0 < bus["safe"] < len(lines) and bus["dead"] == 0
        assert len(place.records()) == bus["safe"]


# --- Others on the server ---------------------------------------------------------------

@kinds
def test_another_writer_stops_the_path_with_a_clear_text(bench, kind):
    lines = given(bench, "intruder")
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (RECORDS // 3, place.store()))
        wait_for(lambda: came(bench) > RECORDS // 8, "some records")
        place.intrude(2)
        done = live.wait(code=1)
        assert "other_writer" in done.err and "shard 2" in done.err, done.err
        assert "panic" not in done.err
        # Nothing behind it is acknowledged: it is read again, and all is there in the end.
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        wait_for(lambda: set(numbers(bench)) == set(range(RECORDS)), "all records")
        stores.assert_in_order(bench.path("out.ndjson"), lines)
        live.stop()


@kinds
def test_a_stream_that_is_removed_is_damage(bench, kind):
    given(bench, "removed")
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (RECORDS // 3, place.store()))
        wait_for(lambda: came(bench) > RECORDS // 8, "some records")
        place.remove(1)
        done = live.wait(code=1)
        assert "damage" in done.err and "shard 1" in done.err, done.err


@kinds
def test_a_server_that_has_lost_everything_is_damage(bench, kind):
    given(bench, "all removed")
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (RECORDS // 3, place.store()))
        wait_for(lambda: came(bench) > RECORDS // 8, "some records")
        place.remove_all()
        done = live.wait(code=1)
        assert "damage" in done.err, done.err


@kinds
def test_a_shard_whose_place_is_taken_stops_its_path_and_no_other(bench, kind):
    """What the other shards have is stored and read until then."""
    bench.write("plain.ndjson", given(bench, "taken")[:100])
    with stores.place(kind, bench) as place:
        place.spoil(2)
        live = started(bench, TOPOLOGY % (RECORDS, place.store()))
        wait_for(lambda: count_rows(bench.path("copy.ndjson")) == 100, "the other path")
        done = live.wait(code=1)
        assert "shard 2" in done.err and place.stream(2) in done.err, done.err
        assert all(place.read(shard) for shard in (0, 1, 3))
        assert came(bench)
        place.mend(2)
        live = started(bench, TOPOLOGY % (RECORDS, place.store()))
        wait_for(lambda: set(numbers(bench)) == set(range(RECORDS)), "all records")
        live.stop()


# --- The state folder -------------------------------------------------------------------

@kinds
def test_a_bus_that_has_lost_its_state_goes_on_under_a_new_nonce(bench, kind):
    lines = given(bench, "state lost", 2000)
    with stores.place(kind, bench) as place:
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        all_came(bench, lines)
        live.stop()
        shutil.rmtree(bench.state)
        bench.path("out.ndjson").unlink()
        more = ['{"n":%d,"k":"key-%d"}' % (n, n % 1000) for n in range(2000, 4000)]
        bench.write("in.ndjson", more)
        live = started(bench, TOPOLOGY % (10**6, place.store()))
        wait_for(lambda: came(bench) >= len(more), "the new records")
        live.stop()
        assert sorted(numbers(bench)) == list(range(2000, 4000))  # and no old one
        records = place.records()
        nonces = {record.id.split(":")[0] for record in records}
        assert len(nonces) == 2 and len({r.id for r in records}) == len(records) == 4000


@kinds
def test_a_state_of_long_ago_goes_on_with_a_higher_epoch(bench, kind):
    lines = given(bench, "state restored", 3000)
    with stores.place(kind, bench) as place:
        text = TOPOLOGY % (10**6, place.store())
        bench.write("in.ndjson", lines[:1000])
        live = started(bench, text)
        wait_for(lambda: came(bench) >= 1000, "the first part")
        live.stop()
        shutil.copytree(bench.state, bench.path("backup"))
        for _ in range(3):
            started(bench, text).stop()
        bench.append("in.ndjson", "".join(line + "\n" for line in lines[1000:2000]))
        live = started(bench, text)
        wait_for(lambda: came(bench) >= 2000, "the second part")
        live.stop()
        shutil.rmtree(bench.state)
        shutil.copytree(bench.path("backup"), bench.state)
        place.server.pause()  # so that nobody can say what the epoch is
        bench.append("in.ndjson", "".join(line + "\n" for line in lines[2000:]))
        live = started(bench, text)
        place.server.resume()
        wait_for(lambda: set(numbers(bench)) == set(range(3000)), "all of it")
        done = live.stop()
        assert done.report["restarts"] <= 1
        stores.assert_in_order(bench.path("out.ndjson"), lines)
        records = place.records()
        assert len({record.id for record in records}) == len(records)
        assert {record.payload["n"] for record in records} == set(range(3000))
