"""kill -9, SIGTERM and a stuck sink: nothing is lost, and what comes twice is bounded."""
import os
import signal

import pytest
from crash import Input, committed, judge_new_lines, round_of_kills, whole_lines
from helper import SANITIZED, chance, grow, rows, wait_for

ROUNDS = 10

LOAD = """
source.file "in" { path = "in.ndjson", at_end = %s }
process "p" { from = "in", workers = 2, key = "k", each = function (r)
  r.seen = r.n * 2
  return r
end }
sink.file "out" { from = "p", path = "%s", retry = { first = "20ms", max = "50ms" } }
supervise { drain = "%s" }
"""


@pytest.mark.parametrize("number", range(ROUNDS))
def test_kill_9_loses_nothing(tmp_path, number):
    luck = chance("crash %d" % number)
    twice, unacknowledged, kills = round_of_kills(tmp_path, luck.random())
    print("%d kills, %d of %d unacknowledged records came twice"
          % (kills, twice, unacknowledged))


@pytest.mark.parametrize("number", range(3))
def test_sigterm_under_load_makes_everything_safe(bench, number):
    luck = chance("sigterm %d" % number)
    given = Input(bench, luck, 40000)
    text = LOAD % ("stop", "out.ndjson", "10s")
    live = bench.start(text)
    size = luck.randrange(1, 4 << 20)
    wait_for(lambda: not live.running() or (bench.path("out.ndjson").exists() and
             bench.path("out.ndjson").stat().st_size > size), "output")
    live.signal(signal.SIGTERM)
    done = live.wait(code=0)
    assert done.report["ending"] == "clean" and done.report["outstanding"] == 0
    first = rows(bench.path("out.ndjson"))
    assert len(first) == len(set(first)) == done.node("in")["done"]
    assert len(first) == len(given.offsets) - given.behind(committed(bench))
    bench.run(text)
    got = rows(bench.path("out.ndjson"))
    assert len(got) == len(given.offsets) and set(got) == set(given.offsets)
    assert got[:len(first)] == first


def test_sigint_is_as_good(bench):
    bench.write("in.ndjson", [{"n": n, "k": 1} for n in range(1000)])
    live = bench.start(LOAD % ("follow", "out.ndjson", "10s"))
    wait_for(lambda: len(whole_lines(bench.path("out.ndjson"))) == 1000, "all records")
    live.signal(signal.SIGINT)
    assert live.wait(code=0).node("out")["done"] == 1000


def test_a_second_signal_ends_at_once(bench):
    live = bench.start('source.generate "g" { rate = { records = 100 } }\n'
                       'sink.null "n" { from = "g" }\nsupervise { stop_delay = "60s" }')
    live.wait_ready()
    live.signal(signal.SIGTERM)
    wait_for(lambda: not pending(live.pid, signal.SIGTERM), "the signal is taken")
    live.signal(signal.SIGTERM)
    done = live.wait(3, code=1)
    assert done.report["ending"] == "at once" and "second signal" in done.err


def pending(pid, number):
    """Whether a signal waits to be taken."""
    with open("/proc/%d/status" % pid, encoding="ascii") as file:
        for line in file:
            if line.startswith("ShdPnd:"):
                return int(line.split()[1], 16) >> (number - 1) & 1
    return False


def test_a_stuck_sink_ends_within_the_deadline_and_loses_nothing(bench, small_disk):
    given = Input(bench, chance("stuck"), 8000)
    text = LOAD % ("follow", "disk/out.ndjson", "700ms")
    live = bench.start(text)
    live.wait_log("cannot write, trying again")
    live.signal(signal.SIGTERM)
    done = live.wait(0.7 + (10 if SANITIZED else 3), code=1)
    assert done.report["ending"] == "deadline" and "not safe" in done.err
    assert done.report["outstanding"] > 0
    out = small_disk / "out.ndjson"
    first = rows(out)
    safe = committed(bench)
    assert judge_new_lines(given, [], first, 0) == 0
    assert len(first) >= len(given.offsets) - given.behind(safe)
    grow(small_disk)
    live = bench.start(text)
    wait_for(lambda: committed(bench) == bench.path("in.ndjson").stat().st_size, "the end")
    live.stop()
    got = rows(out)
    assert set(got) == set(given.offsets)
    twice = judge_new_lines(given, first, got, safe)  # of a block that was written in part
    assert len(got) == len(given.offsets) + twice
