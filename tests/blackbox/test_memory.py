"""Memory and time: bounded behind a slow sink, small and quiet when idle."""
import json
import os
import subprocess
import time

import pytest
from helper import SANITIZED, wait_for

MB = 1 << 20
PAIR = 'source.generate "g" { rate = { records = 1 } }\nsink.null "n" { from = "g" }\n'

sizes = pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory and time are its own")


@sizes
def test_behind_a_slow_reader_memory_is_bounded_and_nothing_is_lost(bench):
    """80 MB of records, windows of 1 MB on two links, and a reader that takes 256 KB and
    then nothing for a while."""
    count = 400000
    window = MB
    near, far = os.pipe()
    live = bench.start("""
source.generate "g" { count = %d }
process "p" { from = "g", each = function (r) return r end }
sink.stdout "out" { from = "p" }
settings { window = "1MB" }""" % count, out=far)
    os.close(far)
    live.wait_ready()
    head, peak = b"", 0
    while len(head) < 256 * 1024:
        head += os.read(near, 16384)
        peak = max(peak, live.vm("VmRSS"))
    paused = wait_for(lambda: quiet(live), "the source pauses")
    assert live.running() and paused
    peak = max(peak, live.vm("VmHWM"))
    assert peak < 2 * 2 * window + 40 * MB, "%.1f MB" % (peak / MB)
    lines = head.split(b"\n")
    rest = lines.pop()
    assert [json.loads(line)["id"] for line in lines] == list(range(len(lines)))
    with os.fdopen(near, "rb") as file:
        total = len(lines)
        for line in file:
            if rest:
                line, rest = rest + line, b""
            assert line.startswith(b'{"id":%d,' % total)
            total += 1
            if total % 50000 == 0:
                peak = max(peak, live.vm("VmHWM"))
    done = live.wait()
    assert total == count == done.node("out")["done"]
    assert peak < 2 * 2 * window + 40 * MB, "%.1f MB" % (peak / MB)


def quiet(live, seconds=0.2):
    """True when it uses no CPU for a while."""
    before, since = live.cpu_seconds(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.01)  # this is the while
        if live.cpu_seconds() > before:
            return False
    return True


def test_a_reader_that_goes_away_is_a_failure(bench):
    near, far = os.pipe()
    live = bench.start('source.generate "g" { }\nsink.stdout "out" { from = "g" }\n'
                       "supervise { intensity = 0 }", out=far)
    os.close(far)
    os.read(near, 100)
    os.close(near)
    done = live.wait(code=1)
    assert "stdout" in done.err and "Broken pipe" in done.err


def test_a_reader_that_hangs_does_not_hold_up_the_end(bench):
    near, far = os.pipe()
    live = bench.start('source.generate "g" { }\nsink.stdout "out" { from = "g" }\n'
                       'supervise { drain = "500ms" }', out=far)
    os.close(far)
    live.wait_ready()
    wait_for(lambda: quiet(live), "the source pauses")
    done = live.stop(0.5 + (20 if SANITIZED else 5), code=1)
    assert "records were read and not safe" in done.err
    os.close(near)


@sizes
def test_idle_it_is_small_and_quiet(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(100)])
    live = bench.start("""
source.file "in" { path = "in.ndjson" }
process "p" { from = "in", workers = 2, each = function (r) return r end }
sink.file "out" { from = "p", path = "out" }""")
    live.wait_ready()
    wait_for(lambda: bench.path("out").stat().st_size == bench.path("in.ndjson").stat().st_size,
             "all is written")
    wait_for(lambda: quiet(live), "it comes to rest")
    cpu, since = live.cpu_seconds(), time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.05)  # two idle seconds are the test
    share = (live.cpu_seconds() - cpu) / (time.monotonic() - since)
    assert share < 0.01, "%.1f %% of a CPU" % (100 * share)
    assert live.vm("VmRSS") < 20 * MB, "%.1f MB" % (live.vm("VmRSS") / MB)
    live.stop()


@sizes
def test_it_is_ready_in_100_ms(bench):
    best = 10.0
    for _ in range(5):  # the machine may be busy; the program must be able to
        live = bench.start(PAIR)
        best = min(best, live.wait_ready())
        live.stop()
    assert best < 0.1, "%.0f ms" % (1000 * best)


@sizes
def test_memory_under_load_is_flat(bench):
    """The resident set after 2,000,000 records is that after 500,000."""
    live = bench.start("""
source.generate "g" { count = 2000000 }
process "p" { from = "g", workers = 2, each = function (r)
  r.kib = r.bytes // 1024
  return r
end }
sink.null "n" { from = "p" }
settings { window = "1MB" }""", out=subprocess.DEVNULL)
    live.wait_ready()
    peaks = []
    while live.running():
        try:
            peaks.append(live.vm("VmRSS"))
        except FileNotFoundError:
            break
        time.sleep(0.02)  # the sampling rate
    live.wait(60)
    half = len(peaks) // 2
    early, late = max(peaks[:half]), max(peaks[half:])
    assert late < early + 8 * MB, (early / MB, late / MB)
    assert late < 2 * 2 * MB + 40 * MB, late / MB
