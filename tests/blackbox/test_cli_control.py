"""The commands that speak to running weirs: ctl, tap, top, audit, pos."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from helper import WEIR, Live, objects, rows, wait_for

GENERATE = """
source.generate "gen" { count = forever, rate = { records = 500 } }
process "even" { from = "gen", where = "id >= 0",
                 outlets = { big = "id >= 100", small = otherwise } }
sink.null "a" { from = "even.big" }
sink.null "b" { from = "even.small" }
"""


def launch(bench, name, text):
    """A running weir of that name."""
    bench.write(name + ".lua", text)
    live = Live(bench, [WEIR, "run", name + ".lua"])
    live.wait_ready()
    return live


def ctl(bench, *words, code=0):
    """Runs a command; its output."""
    run = bench.weir(*words)
    assert run.code == code, (words, run.code, run.out, run.err)
    return run


def complaint(bench, *words, code=2):
    """The one line of a command that must fail."""
    run = ctl(bench, *words, code=code)
    assert run.out == "" and run.err.count("\n") == 1, run.err
    return run.err


def end(live, code=0):
    """Ends a weir whose report is not in the usual place."""
    live.signal(signal.SIGTERM)
    assert live.child.wait(20) == code


# --- Who is meant -------------------------------------------------------------------


def test_nothing_runs(bench):
    for words in (["why"], ["top"], ["tap", "x/y"], ["ctl", "stats"], ["ctl", "drain"]):
        assert re.search("no weir (runs|named)", complaint(bench, *words)), words
    assert ctl(bench, "ctl", "list").out == "no weir runs here\n"
    assert json.loads(ctl(bench, "ctl", "list", "--json").out) == []


def test_one_runs_and_needs_no_name(bench):
    live = launch(bench, "web", GENERATE)
    assert "web" in ctl(bench, "ctl", "list").out
    for words in ([], ["web"], ["web/even"], ["/even"], ["even"]):
        assert "even" in ctl(bench, "ctl", "stats", *words).out
    assert "b   " not in ctl(bench, "ctl", "stats", "even").out
    told = complaint(bench, "ctl", "stats", "web/evne")
    assert "web: it has no node 'evne' (did you mean 'even'?); its nodes are: gen" in told
    assert "expected NAME[/NODE[.OUTLET]]" in complaint(bench, "ctl", "stats", "web/a/b")
    assert "name no outlet" in complaint(bench, "ctl", "pause", "web/even.big")
    assert "name no node" in complaint(bench, "ctl", "drain", "web/even")
    assert "which node? Write web/NODE" in complaint(bench, "ctl", "pause", "web")
    assert "NAME/NODE is missing" in complaint(bench, "ctl", "pause")
    assert "did you mean 'ctl stats'" in complaint(bench, "ctl", "stat")
    end(live)


def test_two_run_and_must_be_named(bench):
    live = [launch(bench, name, GENERATE) for name in ("web", "größe")]
    assert "say which weir is meant, these run: größe, web" in complaint(bench, "why")
    told = complaint(bench, "why", "wbe")
    assert "did you mean 'web'?); these do: größe, web" in told
    assert len(json.loads(ctl(bench, "ctl", "list", "--json").out)) == 2
    assert "even" in ctl(bench, "ctl", "list", "größe").out
    for one in live:
        end(one)


def test_what_a_killed_one_left_is_not_listed(bench):
    live = launch(bench, "web", GENERATE)
    live.kill()
    assert bench.path("run/web.sock").exists()
    assert ctl(bench, "ctl", "list").out == "no weir runs here\n"
    end(launch(bench, "web", GENERATE))


def test_one_that_is_stopped_does_not_answer(bench):
    live = launch(bench, "web", GENERATE)
    live.signal(signal.SIGSTOP)
    told = complaint(bench, "why", "--timeout", "200ms", code=1)
    assert told == ("weir: web: no answer within 200ms: process %d is stopped by a signal; "
                    "`kill -CONT %d` lets it go on\n" % (live.pid, live.pid))
    assert "--timeout" in complaint(bench, "why", "--timeout", "5")
    live.signal(signal.SIGCONT)
    ctl(bench, "ctl", "stats")
    end(live)


# --- Steering -----------------------------------------------------------------------


def stats(bench, node):
    """The numbers of one node."""
    body = json.loads(ctl(bench, "ctl", "stats", "web/" + node, "--json").out)
    return body["nodes"][0]


def test_pause_and_resume(bench):
    live = launch(bench, "web", GENERATE)
    wait_for(lambda: stats(bench, "gen")["in"] > 10, "records")
    assert ctl(bench, "ctl", "pause", "gen").out == "web/gen is paused\n"
    assert stats(bench, "gen")["state"] == "paused"
    before = wait_for(lambda: (stats(bench, "gen")["resident"] == 0
                               and stats(bench, "gen")["in"]), "quiet")
    assert stats(bench, "gen")["in"] == before
    assert "gen waits for paused" in ctl(bench, "ctl", "stats").out
    assert ctl(bench, "ctl", "resume", "gen").out == "web/gen goes on\n"
    wait_for(lambda: stats(bench, "gen")["in"] > before, "more records")
    end(live)


def test_drain_and_stop(bench):
    live = launch(bench, "web", GENERATE)
    assert ctl(bench, "ctl", "drain").out == "web drains, and then ends\n"
    assert live.child.wait(20) == 0
    live = launch(bench, "web", GENERATE)
    assert json.loads(ctl(bench, "ctl", "stop", "--json").out) == {"stopping": True}
    assert live.child.wait(20) == 1
    assert "stopped by a command" in live.text()


def test_audit_of_a_running_weir(bench):
    live = launch(bench, "web", GENERATE)
    for words in (["audit", "web"], ["audit", "web", "--json"]):
        for _ in range(5):
            ctl(bench, *words)
    assert "running" in ctl(bench, "audit", "web").out
    assert "running" in ctl(bench, "audit").out
    assert "no weir named 'wbe'" in complaint(bench, "audit", "wbe")
    assert "name no node" in complaint(bench, "audit", "web/gen")
    end(live)
    assert "clean" in ctl(bench, "audit", "web.lua").out


def test_control_over_tcp(bench):
    for name in ("hub", "ops"):
        ctl(bench, "keys", "init", name, "--keys", name)
    ctl(bench, "keys", "allow", "ops/self.pub", "--keys", "hub", "--role", "control")
    ctl(bench, "keys", "allow", "hub/self.pub", "--keys", "ops", "--role", "none")
    live = launch(bench, "web", 'security { keys = "hub", control = "tcp://127.0.0.1:*" }\n'
                  + GENERATE)
    at = re.search(r"endpoint=(tcp://\S+)", live.text()).group(1)
    there = ["--control", at, "--server", "hub", "--keys", "ops"]
    assert "even" in ctl(bench, "ctl", "stats", "web/even", *there).out
    assert "even" in ctl(bench, "ctl", "stats", "even", *there).out
    assert "no weir named 'mail'" in complaint(bench, "ctl", "stats", "mail/even", *there)
    assert "Name it by --server" in complaint(bench, "why", "--control", at)
    ctl(bench, "keys", "revoke", "ops", "--keys", "hub")
    ask = ["why", *there, "--timeout", "300ms"]
    told = wait_for(lambda: "no answer" in bench.weir(*ask).err
                    and complaint(bench, *ask, code=1), "the refusal")
    assert "no answer within 300ms: nobody listens there, it is no control " in told
    assert "weir keys doctor" in told
    end(live)


# --- tap ----------------------------------------------------------------------------


def test_tap_shows_records(bench):
    live = launch(bench, "web", GENERATE)
    run = ctl(bench, "tap", "web/gen", "--limit", "5")
    assert len([json.loads(line)["id"] for line in run.out.splitlines()]) == 5
    assert "5 records shown" in run.err
    run = ctl(bench, "tap", "web/even.big", "--json", "--limit", "3")
    for line in run.out.splitlines():
        record = json.loads(line)
        assert record["outlet"] == "even.big" and record["payload"]["id"] >= 100
        assert record["source"] == "gen"
    run = ctl(bench, "tap", "web/even.big", "--for", "300ms")
    assert run.out and run.seconds < 10
    assert "no outlet 'x'" in complaint(bench, "tap", "web/even.x")
    assert "which node?" in complaint(bench, "tap", "web")
    assert "--limit" in complaint(bench, "tap", "web/gen", "--limit", "0")
    assert "--for" in complaint(bench, "tap", "web/gen", "--for", "3")
    end(live)


BUSES = """
source.generate "gen" { count = forever, rate = { records = 1000 } }
bus "live" { from = "gen", key = "id", shards = 3 }
bus "kept" { from = "gen", key = "id", shards = 3, store = disk { keep = all } }
bus "full" { from = "gen", shards = 1, ring_records = 5, overflow = drop_newest,
  batch = { max_delay = "50ms", min_records = 10, max_records = 10 },
  store = disk { keep = all } }
sink.null "out" { from = "live" }
"""


@pytest.mark.parametrize("bus", ["live", "kept"])
def test_tap_of_a_bus_shows_what_its_readers_get(bench, bus):
    live = launch(bench, "web", BUSES)
    run = ctl(bench, "tap", "web/" + bus, "--json", "--limit", "30")
    records = [json.loads(line) for line in run.out.splitlines()]
    assert len({record["payload"]["id"] for record in records}) == 30
    for record in records:
        assert record["outlet"] == bus and record["source"] == "gen"
        assert record["key"] == record["payload"]["id"]
    end(live)


def test_tap_of_a_bus_shows_nothing_that_it_did_not_take(bench):
    live = launch(bench, "web", BUSES)
    shown = ctl(bench, "tap", "web/full", "--limit", "100").out.splitlines()
    stored = ctl(bench, "cat", "web/full").out.splitlines()
    stats = json.loads(ctl(bench, "ctl", "stats", "web/full", "--json").out)
    assert stats["nodes"][0]["bus"]["full"] > 0
    assert len(shown) == 100 and set(shown) <= set(stored)
    end(live)


def test_tap_ends_by_sigint_and_with_its_reader_and_its_weir(bench):
    live = launch(bench, "web", GENERATE)
    out = bench.path("taps")
    with open(out, "wb") as file:
        tap = Live(bench, [WEIR, "tap", "web/gen"], out=file)
    wait_for(lambda: out.read_bytes(), "a record")
    tap.signal(signal.SIGINT)
    assert tap.child.wait(20) == 0
    tap.wait_log("records shown")
    read, write = os.pipe()
    tap = Live(bench, [WEIR, "tap", "web/gen"], out=write)
    os.close(write)
    assert os.read(read, 1)
    os.close(read)
    assert tap.child.wait(20) == 0
    with open(out, "wb") as file:
        tap = Live(bench, [WEIR, "tap", "web/gen"], out=file)
    wait_for(lambda: out.read_bytes(), "a record")
    live.kill()
    assert tap.child.wait(20) == 0
    tap.wait_log("it has ended")


def test_tap_of_text(bench):
    bench.write("in", "größe ✓\n" * 3)
    live = launch(bench, "web", 'source.file "in" { path = "in", framing = lines, '
                  'rate = { records = 20 } }\nsink.null "out" { from = "in" }')
    bench.append("in", "größe ✓\n" * 100)
    assert ctl(bench, "tap", "in", "--limit", "1").out == "größe ✓\n"
    end(live)


# --- top ----------------------------------------------------------------------------


def test_top_once_and_plain(bench):
    live = launch(bench, "web", GENERATE)
    run = ctl(bench, "top", "--once")
    gen = next(line for line in run.out.splitlines() if line.startswith("gen"))
    assert run.out.count("records/s") == 1 and "\033" not in run.out
    assert 200 < float(gen.split()[2]) < 1000, gen
    out = bench.path("top.out")
    with open(out, "wb") as file:
        top = Live(bench, [WEIR, "top"], out=file)
    wait_for(lambda: out.read_text().count("records/s") >= 2, "two tables")
    top.signal(signal.SIGINT)
    assert top.child.wait(20) == 0
    end(live)


def test_top_on_a_terminal(bench):
    live = launch(bench, "web", GENERATE)
    master, slave = pty.openpty()
    with subprocess.Popen([WEIR, "top"], stdin=slave, stdout=slave, stderr=slave,
                          env={**bench.environment(None), "TERM": "xterm"}) as top:
        os.close(slave)
        seen, deadline = b"", time.monotonic() + 20
        while seen.count(b"records/s") < 2 and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
        assert seen.startswith(b"\033[?1049h") and seen.count(b"records/s") >= 2
        os.write(master, b"q")
        while select.select([master], [], [], 10)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        assert top.wait(20) == 0
    os.close(master)
    assert seen.rstrip().endswith(b"\033[?1049l")
    end(live)


def test_top_tells_that_it_has_ended(bench):
    live = launch(bench, "web", GENERATE)
    out = bench.path("top.out")
    with open(out, "wb") as file:
        top = Live(bench, [WEIR, "top", "--timeout", "300ms"], out=file)
    wait_for(lambda: "records/s" in out.read_text(), "a table")
    live.kill()
    assert top.child.wait(20) == 1
    top.wait_log("it has ended")


# --- pos ----------------------------------------------------------------------------

COPY = """
source.file "in" { path = "in.ndjson"%s }
sink.file "out" { from = "in", path = "out.ndjson" }
"""


def positions(bench, target):
    """What `pos ls` tells."""
    return json.loads(ctl(bench, "pos", "ls", target, "--json").out)


def test_positions_are_listed_set_and_removed(bench):
    lines = [{"n": n} for n in range(10)]
    bench.write("in.ndjson", lines)
    size = bench.path("in.ndjson").stat().st_size
    live = launch(bench, "t", COPY % "")
    wait_for(lambda: len(rows(bench.path("out.ndjson"))) == 10, "the records")
    wait_for(lambda: positions(bench, "t")[0]["offset"] == size, "the commit")
    for target in ("t", "t.lua", "weir-t"):
        assert positions(bench, target) == [
            {"node": "in", "file": "in.ndjson", "offset": size, "size": size}]
    for words in (["set", "weir-t", "in.ndjson", "0"], ["rm", "t.lua", "in.ndjson"]):
        told = complaint(bench, "pos", *words, code=1)
        assert "a weir runs with this state folder: stop it first" in told
    live.stop()
    assert "in.ndjson" in ctl(bench, "pos", "ls", "weir-t").out
    told = ctl(bench, "pos", "set", "weir-t", "in.ndjson", "63").out
    assert told == "in: in.ndjson is read from byte 63 on\n"
    bench.run(None, "--until-idle")
    assert objects(bench.path("out.ndjson"))[10:] == lines[7:]
    ctl(bench, "pos", "rm", "weir-t", "in.ndjson")
    assert positions(bench, "weir-t") == []
    bench.run(None, "--until-idle")
    assert objects(bench.path("out.ndjson"))[13:] == lines
    ctl(bench, "pos", "set", "weir-t", "in.ndjson", "start")
    assert positions(bench, "weir-t")[0]["offset"] == 0
    ctl(bench, "pos", "set", "weir-t", "in.ndjson", "end")
    bench.run(None, "--until-idle")
    assert len(rows(bench.path("out.ndjson"))) == 23


def test_positions_of_files_that_moved_or_do_not_fit(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(10)])
    bench.run(COPY % ", at_end = stop")
    bench.path("in.ndjson").rename(bench.path("old.ndjson"))
    assert "(moved or gone)" in ctl(bench, "pos", "ls", "weir-t").out
    for words, expected in [
            (["set", "weir-t", "old.ndjson", "99999"], "only 90 bytes"),
            (["set", "weir-t", "old.ndjson", "-1"], "unknown option '-1'"),
            (["set", "weir-t", "old.ndjson", "ende"], "expected bytes, start or end"),
            (["set", "weir-t", "none", "0"], "none: cannot read: No such file"),
            (["rm", "weir-t", "none"], "no position of this file"),
            (["rm", "weir-t", "old.ndjson", "--node", "x"], "these have: in"),
            (["ls", "."], "there are no positions"),
            (["ls", "./nowhere"], "cannot read"),
    ]:
        run = ctl(bench, "pos", *words, code=2)
        assert expected in run.err, (words, run.err)
    run = ctl(bench, "pos", "set", "weir-t", "old.ndjson", "3")
    assert "the byte before 3 ends no line" in run.err
    ctl(bench, "pos", "rm", "weir-t", "old.ndjson")


def test_positions_of_two_sources_need_a_name(bench):
    bench.write("a", [{"n": 1}])
    bench.run('source.file "a" { path = "a", at_end = stop }\n'
              'source.file "b" { path = "a", at_end = stop }\n'
              'sink.null "out" { from = { "a", "b" } }')
    told = complaint(bench, "pos", "rm", "weir-t", "a")
    assert "say which source.file is meant: " in told
    ctl(bench, "pos", "rm", "weir-t", "a", "--node", "b")
    assert [p["node"] for p in positions(bench, "weir-t")] == ["a"]
