"""Files that are followed: growth, rotation, truncation, new names, SIGHUP."""
import os
import signal
import time

import pytest
from helper import PATIENCE, SANITIZED, objects, wait_for

FOLLOW = 'source.file "in" { path = %s }\nsink.file "out" { from = "in", path = "out" }\n'


def lines(*numbers):
    """NDJSON of these numbers."""
    return "".join('{"n":%d}\n' % n for n in numbers)


def numbers(bench, name="out"):
    """The numbers in the output."""
    return [r["n"] for r in objects(bench.path(name))]


def reach(bench, expected, what, name="out"):
    """Waits until the output is this, in this order."""
    wait_for(lambda: len(numbers(bench, name)) >= len(expected), what)
    assert numbers(bench, name) == expected, what


def test_growth_is_seen_soon(bench):
    bench.write("log", lines(0))
    live = bench.start(FOLLOW % '"log"')
    reach(bench, [0], "the first line")
    worst = 0.0
    for n in range(1, 30):
        since = time.monotonic()
        bench.append("log", lines(n))
        reach(bench, list(range(n + 1)), "line %d" % n)
        worst = max(worst, time.monotonic() - since)
    assert worst < (5 if SANITIZED else 1)
    assert live.stop().node("out")["done"] == 30


def test_a_name_that_is_no_utf8_is_a_name(bench):
    name = os.fsencode(bench.path("caf")) + b"\xe9.log"
    with open(name, "w", encoding="utf-8") as file:
        file.write(lines(0, 1))
    live = bench.start(FOLLOW % '"caf*.log"')
    reach(bench, [0, 1], "what it holds")
    live.stop()


def test_a_line_comes_when_it_is_whole(bench):
    bench.write("log", lines(0) + '{"n"')
    live = bench.start(FOLLOW % '"log"')
    reach(bench, [0], "the first line")
    for part in (":", "1", "}"):
        bench.append("log", part)
    bench.append("log", "\n" + lines(2) + '{"n":')
    reach(bench, [0, 1, 2], "the second line")
    live.stop()
    assert numbers(bench) == [0, 1, 2], "half a line is not for a file that is followed"
    bench.append("log", "3}\n")
    live = bench.start(None)
    reach(bench, [0, 1, 2, 3], "the rest of the half line")
    live.stop()


def test_a_restart_goes_on_where_it_was(bench):
    bench.write("log", lines(*range(1000)))
    live = bench.start(FOLLOW % '"log"')
    reach(bench, list(range(1000)), "all")
    live.stop()
    bench.append("log", lines(1000, 1001))
    live = bench.start(None)
    reach(bench, list(range(1002)), "what came in between")
    assert live.stop().node("in")["in"] == 2


def test_rotation_by_renaming(bench):
    """As logrotate does it: the writer is late, and goes on in the old file."""
    bench.write("log", lines(0, 1))
    live = bench.start(FOLLOW % '"log"')
    reach(bench, [0, 1], "the old file")
    os.rename(bench.path("log"), bench.path("log.1"))
    bench.append("log.1", lines(2))
    bench.write("log", lines(10, 11))
    bench.append("log.1", lines(3))
    reach(bench, [0, 1, 2, 3, 10, 11], "the new file, behind the rest of the old one")
    bench.append("log", lines(12))
    reach(bench, [0, 1, 2, 3, 10, 11, 12], "growth of the new file")
    done = live.stop()
    assert done.node("in")["in"] == 7
    live = bench.start(None)
    live.wait_ready()
    bench.append("log", lines(13))
    reach(bench, [0, 1, 2, 3, 10, 11, 12, 13], "after a restart")
    live.stop()


def test_rotation_while_weir_is_down(bench):
    bench.write("log", lines(0, 1))
    text = FOLLOW % '{ "log*" }'
    live = bench.start(text)
    reach(bench, [0, 1], "the old file")
    live.stop()
    bench.append("log", lines(2))
    os.rename(bench.path("log"), bench.path("log.1"))
    bench.write("log", lines(10))
    live = bench.start(text)
    wait_for(lambda: len(numbers(bench)) == 4, "both files")
    assert sorted(numbers(bench)) == [0, 1, 2, 10]
    live.stop()


def test_rotation_within_a_pattern_reads_nothing_twice(bench):
    bench.write("log", lines(0, 1))
    live = bench.start(FOLLOW % '"log*"')
    reach(bench, [0, 1], "the first")
    for turn in range(1, 3):
        for n in range(turn - 1, 0, -1):
            os.rename(bench.path("log.%d" % n), bench.path("log.%d" % (n + 1)))
        os.rename(bench.path("log"), bench.path("log.1"))
        bench.write("log", lines(turn * 10))
        wait_for(lambda: turn * 10 in numbers(bench), "turn %d" % turn, 3 * PATIENCE)
    done = live.stop()
    assert sorted(numbers(bench)) == [0, 1, 10, 20]
    assert done.node("in")["in"] == 4


def test_truncation_begins_at_the_start(bench):
    """copytruncate: the same file, and shorter."""
    bench.write("log", lines(*range(100)))
    live = bench.start(FOLLOW % '"log"')
    reach(bench, list(range(100)), "all")
    os.truncate(bench.path("log"), 0)
    live.wait_log("truncated")
    bench.append("log", lines(200, 201))
    reach(bench, list(range(100)) + [200, 201], "after the truncation")
    live.stop()


def test_start_end_begins_behind_what_is_there(bench):
    bench.write("log", lines(0, 1))
    live = bench.start('source.file "in" { path = "*log", start = "end" }\n'
                       'sink.file "out" { from = "in", path = "out" }')
    live.wait_ready()
    bench.append("log", lines(2))
    reach(bench, [2], "what came later")
    bench.write("new.log", lines(10, 11))  # it was not there at the first start
    reach(bench, [2, 10, 11], "a new file")
    live.stop()
    bench.append("log", lines(3))
    live = bench.start(None)
    reach(bench, [2, 10, 11, 3], "what came while it was down")
    live.stop()


def test_new_files_of_a_pattern_are_found(bench):
    bench.path("logs").mkdir()
    live = bench.start(FOLLOW % '{ "logs/*.log", "late/*.log" }')
    live.wait_ready()
    expected = []
    for n in range(5):
        bench.write("logs/%d.log" % n, lines(n))
        expected.append(n)
        reach(bench, expected, "file %d" % n)
    bench.write("logs/no.txt", lines(99))
    bench.write("late/x.log", lines(5))  # the folder is new, too
    reach(bench, expected + [5], "a file in a new folder")
    live.stop()


def test_a_file_that_vanishes_is_read_to_its_end(bench):
    bench.write("log", lines(0))
    live = bench.start(FOLLOW % '"log"')
    reach(bench, [0], "the first line")
    with open(bench.path("log"), "ab", buffering=0) as file:
        os.unlink(bench.path("log"))
        file.write(lines(1).encode())
    reach(bench, [0, 1], "what was written behind its back")
    bench.write("log", lines(7))
    reach(bench, [0, 1, 7], "a new file of that name")
    live.stop()


def test_sighup_opens_the_output_anew(bench):
    bench.write("log", lines(0))
    live = bench.start(FOLLOW % '"log"')
    reach(bench, [0], "the first file")
    os.rename(bench.path("out"), bench.path("out.1"))
    bench.append("log", lines(1))
    reach(bench, [0, 1], "before the signal it stays in its file", "out.1")
    live.signal(signal.SIGHUP)
    wait_for(bench.path("out").exists, "the new file")
    bench.append("log", lines(2))
    reach(bench, [2], "the new file has what follows")
    assert numbers(bench, "out.1") == [0, 1]
    assert live.stop().node("out")["done"] == 3


def test_sighups_under_load_lose_nothing(bench):
    live = bench.start('source.generate "g" { count = 60000, rate = { records = 60000,'
                       ' burst = "20ms" } }\nsink.file "out" { from = "g", path = "out" }')
    live.wait_ready()
    for n in range(5):
        wait_for(lambda: bench.path("out").exists() and
                 bench.path("out").stat().st_size > 100000, "output")
        os.rename(bench.path("out"), bench.path("out.%d" % n))
        live.signal(signal.SIGHUP)
    live.wait()
    got = [r["id"] for name in ["out.%d" % n for n in range(5)] + ["out"]
           for r in objects(bench.path(name))]
    assert got == list(range(60000))


def test_a_multiline_record_comes_after_its_wait(bench):
    bench.write("log", "a1\n b\n")
    live = bench.start("""
source.file "in" { path = "log", framing = lines { begin = "^a", wait = "300ms" } }
process "p" { from = "in", each = function (r) return {t = raw (r)} end }
sink.file "out" { from = "p", path = "out" }""")
    wait_for(lambda: [r["t"] for r in objects(bench.path("out"))] == ["a1\n b"], "the wait")
    bench.append("log", "a2\na3\n")
    wait_for(lambda: len(objects(bench.path("out"))) == 3, "two more")
    assert [r["t"] for r in objects(bench.path("out"))][1:] == ["a2", "a3"]
    live.stop()


MAKE = {"a fifo": os.mkfifo, "a folder": os.mkdir, "a loop": lambda p: os.symlink(p, p)}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
def test_what_is_no_file_is_passed_over(bench, make):
    make(bench.path("x.log"))
    bench.write("y.log", lines(0))
    live = bench.start(FOLLOW % '"*.log"')
    reach(bench, [0], "the good file")
    live.stop()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_by_name(bench, make):
    make(bench.path("x.log"))
    done = bench.run(FOLLOW % '"x.log"', code=1)
    assert "x.log" in done.err and "regular file" in done.err
