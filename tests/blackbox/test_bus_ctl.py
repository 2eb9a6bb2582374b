"""A running bus can be seen and steered: its numbers balance at any instant, shards come
and go by command, flushes are answered, groups are moved and forgotten."""
import json
import re
import threading
import time

import pytest

from helper import SANITIZED, chance, wait_for
from test_cli_why import why
from test_control import clients  # noqa: F401 pylint: disable=unused-import

MEMORY = """
supervise { drain = "200ms" }
source.generate "gen" { count = %s, rate = { records = %d } }
bus "events" { from = "gen", shards = 2, scale = { min = 1, max = 4 } }
sink.null "out" { from = "events" }
"""

# One megabyte is full soon, and stays so.
WEDGED = """
supervise { drain = "200ms" }
source.generate "gen" { count = forever }
bus "events" { from = "gen", shards = 2, scale = { min = 1, max = 4 },
               store = disk { keep = all, map = "1MB", map_max = "1MB" } }
"""

HELD = """
supervise { drain = "200ms" }
source.generate "gen" { count = forever }
bus "events" { from = "gen", shards = 2,
               store = disk { keep = { bytes = "200KB" } } }
sink.null "out" { from = "events" }
"""

STORED = """
source.generate "gen" { count = 5000 }
bus "events" { from = "gen", shards = 2, store = disk { keep = all } }
sink.null "out" { from = "events" }
sink.null "other" { from = group "second" { of = "events" } }
source.generate "stays" { count = forever, rate = { records = 10 } }
sink.null "too" { from = "stays" }
"""


def start(bench, text):
    """A weir that runs."""
    live = bench.start(text)
    live.wait_ready()
    return live


def bus(client, name="events"):
    """All that is told of a bus."""
    return client.ok("bus", name)["buses"][0]


def settled(client):
    """What is told of the bus once nothing is under way any more."""
    def look():
        told = bus(client)
        return told if told["offered"] and not told["resident"] else None
    return wait_for(look, "nothing resident")


def wrong(told):
    """The equations that do not hold."""
    found = []
    for one in [told, *told["shards"]]:
        rejected = sum(one[why_not] for why_not in
                       ("full", "sampled", "too_large", "invalid", "closed"))
        if one["offered"] != one["accepted"] + rejected:
            found.append(one)
        if one["accepted"] != sum(one[fate] for fate in
                                  ("safe", "evicted", "dead", "resident")):
            found.append(one)
        if one["resident"] != one["in_ring"] + one["open"] + one["under_way"]:
            found.append(one)
    for one in told.get("stored", []):
        if one["stored"] != one["present"] + one["trimmed"]:
            found.append(one)
    for group in told["groups"]:
        for one in [group, *group["shards"]]:
            if one["last"] != one["start"] + one["done"] + one["shed"] + one["lag"]:
                found.append(one)
    return found


def scale(client, want):
    """Scales; waits for a change that is still under way."""
    def ask():
        code, body = client.ask("scale", "events", want)
        assert code in ("ok", "full"), body
        return body if code == "ok" else None
    return wait_for(ask, "scale %s" % want)


# --- Shards -------------------------------------------------------------------------


def test_shards_are_added_and_drained_by_command(bench, connect):
    live = start(bench, MEMORY % ("forever", 1000))
    client = connect(bench)
    run = bench.weir("ctl", "scale", "t/events", "--by", "+2")
    assert (run.code, run.out) == (0, "t/events: adds 2, 3: 4 shards are active\n")
    for words in (["--by", "+1"], ["--to", "5"], ["--to", "0"]):
        run = bench.weir("ctl", "scale", "t/events", *words)
        assert run.code == 2 and "scale.min = 1 and scale.max = 4" in run.err, run.err
        assert bus(client)["active"] == 4
    done = scale(client, "2")
    assert done == {"node": "events", "active": 2, "added": [], "drained": [3, 2]}
    wait_for(lambda: [s["state"] for s in bus(client)["shards"]] ==
             ["active", "active", "retired", "retired"], "two retired")
    assert sum(shard["vnodes"] for shard in bus(client)["shards"][:2]) == 256
    run = bench.weir("ctl", "scale", "t/events", "--by", "-1", "--json")
    assert json.loads(run.out)["active"] == 1
    run = bench.weir("ctl", "scale", "t/events", "--to", "1")
    assert run.out == "t/events: 1 shard is active\n"
    live.stop()


def test_wrong_ways_to_scale(bench, connect):
    live = start(bench, MEMORY % ("forever", 100))
    client = connect(bench)
    for words, said in ((["t/events"], "Say --to N, or --by"),
                        (["t/events", "--to", "x"], "is no number of shards"),
                        (["t/events", "--by", "+"], "neither"),
                        (["t/events", "--to", "1", "--by", "+1"], "Say --to N, or --by"),
                        (["t", "--to", "1"], "which bus?"),
                        (["t/out", "--to", "1"], "out is no bus, but a sink.null")):
        run = bench.weir("ctl", "scale", *words)
        assert run.code == 2 and said in run.err, (words, run.err)
    assert client.error("scale", "events", "two")[0] == "invalid"
    assert client.error("scale", "events")[0] == "invalid"
    assert client.error("bus", "gen")[0] == "invalid"
    assert client.error("bus", "none")[0] == "not-found"
    assert bus(client)["active"] == 2
    live.stop()


class Observer(threading.Thread):
    """Looks now and then and adds up what has come since its own last look."""

    def __init__(self, client, period):
        super().__init__()
        self.client, self.period, self.stop = client, period, threading.Event()
        self.last, self.sums, self.fell = {}, {}, []

    def look(self):
        for shard in bus(self.client)["shards"]:
            for name in ("offered", "accepted", "safe", "batches"):
                key = (shard["shard"], name)
                more = shard[name] - self.last.get(key, 0)
                if more < 0:
                    self.fell.append(key)
                self.last[key] = shard[name]
                self.sums[name] = self.sums.get(name, 0) + more

    def run(self):
        while not self.stop.wait(self.period):
            self.look()
        self.look()


def test_observers_do_not_disturb_each_other(bench, connect):
    live = start(bench, MEMORY % (20000, 20000) + """
        source.generate "stays" { count = forever, rate = { records = 10 } }
        sink.null "too" { from = "stays" }""")
    client = connect(bench)
    observers = [Observer(connect(bench), period) for period in (0.003, 0.11)]
    for observer in observers:
        observer.start()
    for want in ("4", "1", "3", "1"):
        scale(client, want)
    wait_for(lambda: bus(client)["offered"] == 20000, "all records")
    wait_for(lambda: [s["state"] for s in bus(client)["shards"]].count("retired") >= 5,
             "shards retired")
    told = settled(client)
    for observer in observers:
        observer.stop.set()
        observer.join()
        assert observer.fell == []
        assert observer.sums == {name: told[name] for name in observer.sums}
    assert told["safe"] == told["accepted"] == 20000
    live.stop()


def test_a_store_that_is_full_holds_up_no_command(bench, connect):
    live = start(bench, WEDGED)
    client = connect(bench)
    wait_for(lambda: all("full" in shard.get("error", "")
                         for shard in bus(client)["shards"]), "both shards to wait")
    began = time.monotonic()
    done = scale(client, "1")
    assert done["drained"] == [1] and time.monotonic() - began < 1
    assert [shard["state"] for shard in bus(client)["shards"]] == ["active", "draining"]
    assert client.ask("scale", "events", "2")[0] == "full"
    assert [shard["state"] for shard in bus(client)["shards"]] == ["active", "draining"]
    live.stop(code=1)


# --- Sums ---------------------------------------------------------------------------

OVERFLOWS = {
    "block": "block", "drop_newest": "drop_newest", "drop_oldest": "drop_oldest",
    "sample": "sample { one_in = 3 }", "fail": "fail",
}

LOADED = """
supervise { drain = "500ms", intensity = 1000 }
source.generate "gen" { count = forever }
bus "events" { from = "gen", shards = 2, ring_records = 3000, overflow = %s,
               scale = { min = 1, max = 4 }%s }
process "slow" { from = "events", each = function (r)
  local n = 0
  for i = 1, 300 do n = n + i end
  return r
end }
sink.null "out" { from = "slow" }
"""
STORES = {
    "memory": "",
    "disk": ', store = disk { keep = { bytes = "300KB" } }',
    "full": ', store = disk { keep = all, map = "1MB", map_max = "1MB" }',
}
LOOKS = 60 if SANITIZED else 150


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_the_sums_hold_at_any_instant(bench, connect, overflow, store):
    luck = chance("sums")
    live = start(bench, LOADED % (OVERFLOWS[overflow], STORES[store]))
    client, looks, wanted = connect(bench), 0, 2
    wait_for(lambda: bus(client)["offered"] > 5000, "records")
    while looks < LOOKS:
        report = client.ok("audit")
        told = next(node["bus"] for node in report["nodes"] if node["name"] == "events")
        assert wrong(told) == []
        looks += 1
        if looks % 10 == 0:
            wanted = luck.randint(1, 4)
            code, body = client.ask("scale", "events", str(wanted))
            assert code in ("ok", "full"), body
        time.sleep(0.01)  # the period of the audits
    audit = bench.weir("audit", "--json", "t")
    assert audit.code == 0 and json.loads(audit.out)["balanced"], audit.out + audit.err
    assert json.loads(audit.out)["buses"][0]["offered_imbalance"] == 0
    assert "offered" in bench.weir("audit", "t").out
    run = live.stop(code=None)
    told = next(node["bus"] for node in run.report["nodes"] if node["name"] == "events")
    assert wrong(told) == []
    shed = told["full"] + told["sampled"] + told["evicted"]
    assert (shed == 0) == (overflow == "block"), told


RESTARTS = """
supervise { intensity = 1000, drain = "200ms" }
source.generate "gen" { count = forever }
bus "events" { from = "gen", shards = 2, ring_records = 500 }
process "bad" { from = "events", on_error = stop, each = function (r)
  if r.id > 3000 then error "no more" end
  return r
end }
sink.null "out" { from = "bad" }
"""


def test_restarts_unsettle_no_sum(bench, connect):
    live = start(bench, RESTARTS)
    client, last = connect(bench), {}
    while bus(client)["recalled"] == 0 or client.ok("stats")["restarts"] < 3:
        told = bus(client)
        assert wrong(told) == []
        for shard in told["shards"]:
            for name in ("offered", "accepted"):
                shard[name] += shard["recalled"]
            for name in ("offered", "accepted", "safe", "batches", "recalled"):
                key = (shard["shard"], name)
                assert shard[name] >= last.get(key, 0), key
                last[key] = shard[name]
        assert live.running()
    assert sum(last[shard, "safe"] for shard in (0, 1)) > 0
    live.stop(code=None)


def test_an_imbalance_is_told_and_changes_the_exit_code(bench):
    live = start(bench, STORED)
    wait_for(lambda: len(groups(bench)) == 2 and
             all(row["commit"] == 5000 for row in groups(bench).values()), "all read")
    run = live.stop()
    report = run.report
    told = next(node["bus"] for node in report["nodes"] if node["name"] == "events")
    assert wrong(told) == [] and told["safe"] == 5000 == told["stored"][0]["stored"] + \
        told["stored"][1]["stored"]
    path = bench.state / "report.json"
    for change, said in (
            (lambda b: b.update(safe=b["safe"] - 1), r"accepted 5000 = .* DIFFERS BY 1\n"),
            (lambda b: b["shards"][0].update(offered=b["shards"][0]["offered"] + 2),
             r"shard 0: offered .* DIFFERS BY 2\n"),
            (lambda b: b["stored"][1].update(present=0),
             r"shard 1: stored .* DIFFERS BY \d+\n"),
            (lambda b: b["groups"][0]["shards"][0].update(lag=7),
             r"shard 0: last .* DIFFERS BY -7\n")):
        broken = json.loads(json.dumps(report))
        change(next(node["bus"] for node in broken["nodes"] if node["name"] == "events"))
        path.write_text(json.dumps(broken), encoding="utf-8")
        audit = bench.weir("audit", bench.state)
        assert audit.code == 1 and re.search(said, audit.out), audit.out
        assert "THE SUMS ARE NOT ZERO" in audit.out
        assert not json.loads(bench.weir("audit", "--json", bench.state).out)["balanced"]
    path.write_text(json.dumps(report), encoding="utf-8")
    assert bench.weir("audit", bench.state).code == 0


# --- Flush --------------------------------------------------------------------------


def test_a_flush_is_answered_when_all_is_safe(bench, connect):
    live = start(bench, """
        source.generate "gen" { count = 50 }
        bus "events" { from = "gen", shards = 1, batch = { max_delay = "1h" },
                       store = disk { keep = all } }
        source.generate "stays" { count = forever, rate = { records = 10 } }
        sink.null "too" { from = "stays" }
        """)
    client = connect(bench)
    wait_for(lambda: bus(client)["resident"] == 50, "50 records in the open batch")
    assert bus(client)["safe"] == 0
    run = bench.weir("ctl", "flush", "t/events")
    assert run.code == 0 and "t/events: all that it was sent is safe" in run.out, run.err
    told = bus(client)
    assert told["safe"] == 50 and told["resident"] == 0
    assert json.loads(bench.weir("ctl", "flush", "t/events", "--json").out)["ms"] >= 0
    assert client.error("flush", "gen")[0] == "invalid"
    assert client.error("flush", "events", "0ms")[0] == "invalid"
    assert client.error("flush", "events", "5")[0] == "invalid"
    live.stop()


def test_a_flush_that_is_late_names_the_shards(bench, connect):
    live = start(bench, WEDGED)
    client = connect(bench)
    wait_for(lambda: client.ok("health")["status"] == "degraded", "a full store")
    began = time.monotonic()
    code, body = client.ask("flush", "events", "200ms")
    assert 0.2 <= time.monotonic() - began < 1 and code == "timeout", body
    assert re.match(r"flush_timeout: not all is safe after [2-9]\d\d ms: shards? \d",
                    body["error"]), body
    told = {shard["shard"]: shard for shard in bus(client)["shards"]}
    assert body["shards"]
    for shard in body["shards"]:
        assert 0 < shard["unsafe"] <= told[shard["shard"]]["resident"]
        assert shard["oldest_ms"] >= 200 and "map_max" in shard["error"], shard
    run = bench.weir("ctl", "flush", "t/events", "--timeout", "100ms")
    assert run.code == 1 and "t: flush_timeout" in run.err
    assert re.search(r"^  shard \d: \d+ records, the oldest for .*: .*map_max", run.err,
                     re.M), run.err
    run = bench.weir("ctl", "flush", "t/events", "--timeout", "100ms", "--json")
    assert run.code == 1 and json.loads(run.out)["shards"]
    live.stop(code=1)


def test_flushes_wait_beside_each_other_and_end_with_the_weir(bench, connect):
    live = start(bench, WEDGED)
    client, other = connect(bench), connect(bench)
    wait_for(lambda: client.ok("health")["status"] == "degraded", "a full store")
    slow = client.begin("flush", "events", "1h")
    assert other.ask("flush", "events", "50ms")[0] == "timeout"
    assert other.ok("version")["name"] == "t"
    other.ok("stop")
    got, code, body = client.recv()
    assert got == slow and code == "ended" and "ask again" in body["error"]
    live.wait(code=None)


# --- Groups -------------------------------------------------------------------------


def groups(bench):
    """{group: row} of `weir pos ls`."""
    run = bench.weir("pos", "ls", "t", "--json")
    assert run.code == 0, run.err
    return {row["group"]: row for row in json.loads(run.out)}


def test_groups_are_listed_moved_and_forgotten(bench, connect):
    live = start(bench, STORED)
    client = connect(bench)
    wait_for(lambda: all(row["commit"] == 5000 for row in groups(bench).values()) and
             len(groups(bench)) == 2, "both groups at the end")
    assert groups(bench)["out"] == {"group": "out", "bus": "events", "commit": 5000,
                                    "last": 5000, "lag": 0, "shed": 0}
    assert re.search(r"^second +bus events +5000 of 5000 +lag 0, shed 0$",
                     bench.weir("pos", "ls", "t").out, re.M)
    taken = client.ok("stats", "out")["nodes"][0]["done"]
    run = bench.weir("pos", "set", "t/out", "--to", "start")
    assert (run.code, run.out) == (0, "t/out reads events from start on\n"), run.err
    wait_for(lambda: client.ok("stats", "out")["nodes"][0]["done"] == taken + 5000,
             "all once more")
    told = {group["group"]: group for group in bus(client)["groups"]}
    assert told["out"]["start"] == 0 and told["second"]["done"] == 5000
    for position in ("end", "2026-01-01T00:00:00Z"):
        assert bench.weir("pos", "set", "t/second", "--to", position).code == 0
    for words, said, code in (
            (["set", "t/out", "--to", "x"], "is not start, 'end', a cursor", 2),
            (["set", "t/out", "--to", "w1AAAA"], "bad_cursor", 2),
            (["set", "t/none", "--to", "end"], "there is no group 'none'", 2),
            (["set", "t", "--to", "end"], "there is no group 't'", 2),
            (["set", "t/", "--to", "end"], "which group?", 2),
            (["set", "t/out"], "NAME/NODE --to POSITION", 2),
            (["rm", "t/out"], "group 'out' has members", 1),
            (["rm", "t/none"], "there is no group 'none'", 2)):
        run = bench.weir("pos", *words)
        assert run.code == code and said in run.err, (words, run.code, run.err)
    live.stop()
    live = start(bench, STORED.replace('sink.null "out" { from = "events" }', ""))
    wait_for(lambda: "out" in groups(bench), "the group of a node that is gone")
    run = bench.weir("pos", "rm", "t/out")
    assert (run.code, run.out) == (0, "t/out is forgotten by events\n"), run.err
    assert list(groups(bench)) == ["second"]
    live.stop()


def test_a_group_that_does_not_read_is_told(bench, connect):
    live = start(bench, HELD)
    client = connect(bench)
    assert bench.weir("ctl", "pause", "t/out").code == 0
    def held():
        told = client.ok("health")
        node = next(n for n in told["nodes"] if n["name"] == "events")
        return told["status"] == "degraded" and re.search(
            r"the group out has not read (\d+) records of shard \d", "".join(node["reasons"]))
    assert int(wait_for(held, "a holder").group(1)) > 0
    assert bus(client)["retries"] == 0 and wrong(bus(client)) == []
    def blamed():
        path = json.loads(bench.weir("why", "--json").out)["paths"][0]
        return path["node"] == "out" and path["verdict"] == "held" and re.match(
            r"the store of events is full: the group out has not read \d+ records of "
            r"shard \d: out is paused by a command, for ", path["why"])
    wait_for(blamed, "the culprit")
    wait_for(lambda: bus(client)["disk"]["held_by"] == "out", "a holder")
    wait_for(lambda: 'weir_store_held{node="events",actor="bus"} 1' in
             client.ok("metrics")["text"], "the metric")
    assert bench.weir("ctl", "resume", "t/out").code == 0
    safe = bus(client)["safe"]
    wait_for(lambda: bus(client)["safe"] > safe + 10000, "it goes on")
    live.stop(code=None)


# --- Why and looks ------------------------------------------------------------------


def test_why_names_a_full_store(bench):
    live = start(bench, WEDGED)
    why(bench, r"^gen -> events: events cannot store shard \d: .*map_max.*, for ", 1,
        verdict="held")
    live.stop(code=None)


def test_why_names_a_reader_that_does_not_read(bench):
    live = start(bench, """
        supervise { drain = "200ms" }
        settings { window = "1MB" }
        source.generate "gen" { count = forever }
        bus "events" { from = "gen", shards = 2, ring_bytes = "1MB" }
        sink.null "out" { from = "events" }
        """)
    assert bench.weir("ctl", "pause", "t/out").code == 0
    body = why(bench, r"^gen -> events -> out: out is paused by a command, for ", 1)
    assert body["paths"][0]["node"] == "out"
    assert bench.weir("ctl", "resume", "t/out").code == 0
    why(bench, "it flows", 0)
    live.stop()


def test_why_names_a_slow_reader(bench):
    live = start(bench, """
        supervise { drain = "200ms" }
        settings { window = "1MB" }
        source.generate "gen" { count = forever }
        bus "events" { from = "gen", shards = 2, ring_bytes = "1MB" }
        process "slow" { from = "events", each = function (r)
          for i = 1, 20000 do r.x = i end
          return r
        end }
        sink.null "out" { from = "slow" }
        """)
    body = why(bench, r"^gen -> events -> slow -> out: slow is slower than what comes: "
               r"events waits for its (credit|acknowledgements), for ", 1)
    assert {"slow"} >= {path["node"] for path in body["paths"]} - {"gen"}
    live.stop(code=None)


def test_each_number_is_a_metric(bench, connect):
    live = start(bench, STORED)
    client = connect(bench)
    told = wait_for(lambda: (lambda b: b if b["groups"] and
                             all(g["commit"] == 5000 for g in b["groups"]) else None)(
                                 bus(client)), "all read")
    text = client.ok("metrics")["text"]
    labels = 'node="events",actor="bus"'
    for shard in told["shards"]:
        one = '%s,shard="%d"' % (labels, shard["shard"])
        for name, value in (("offered_total", shard["offered"]),
                            ("accepted_total", shard["accepted"]),
                            ("safe_total", shard["safe"]), ("dead_total", 0),
                            ("evicted_total", 0), ("resident", 0), ("ring_records", 0),
                            ("ring_bytes", 0), ("retries_total", 0),
                            ("batches_total", shard["batches"])):
            assert "weir_shard_%s{%s} %d\n" % (name, one, value) in text, name
        for reason in ("full", "sampled", "too_large", "invalid", "closed"):
            assert 'weir_shard_rejected_total{%s,reason="%s"} 0\n' % (one, reason) in text
        for group in ("out", "second"):
            assert 'weir_group_lag{%s,group="%s"} 0\n' % (one, group) in text
            assert 'weir_group_commit{%s,group="%s"} %d\n' % (
                one, group, shard["safe"]) in text
            assert 'weir_group_dead_total{%s,group="%s"} 0\n' % (one, group) in text
    assert "weir_bus_shards{%s} 2\n" % labels in text
    assert "weir_store_held{%s} 0\n" % labels in text
    for stored in told["stored"]:
        assert 'weir_store_bytes{%s,shard="%d"} %d\n' % (
            labels, stored["shard"], stored["bytes"]) in text
    reference = bench.weir("reference").out
    for name in re.findall(r"^# TYPE (\S+)", text, re.M):
        assert "`%s`" % name in reference, name
    live.stop()


def test_stats_and_top_show_shards(bench, connect):
    live = start(bench, STORED)
    client = connect(bench)
    settled(client)
    out = bench.weir("ctl", "stats", "t").out
    assert re.search(r"^  shard 1 +active +\d+ +0 +0 +\d+ +0 +0%$", out, re.M), out
    assert re.search(r"^  group second +lag \d+, shed 0$", out, re.M), out
    assert "2 shards, 0% full" in bench.weir("top", "--once", "t").out
    assert bench.weir("ctl", "list", "t").code == 0
    live.stop()
