"""How soon a link is at full speed again behind an interruption."""
import signal
import time

from helper import PATIENCE, wait_for
from linked import make_pair, receiver, size_of
from ports import free_port

SOURCE = """
source.generate "in" { rate = { records = 100000, burst = "20ms" } }
sink.link "up" { from = "in", connect = "tcp://127.0.0.1:%d", server = "b" }
settings { window = "8MB" }
security { keys = "keys" }
"""
SLICE = 0.1  # seconds over which a speed is measured
FULL = 0.8   # of the speed before


def speed(path, seconds=SLICE):
    """Bytes a second that a file grows by, over that time."""
    begin, size = time.monotonic(), size_of(path)
    time.sleep(seconds)  # this is what is measured, and awaits nothing
    return (size_of(path) - size) / (time.monotonic() - begin)


def wait_speed(path, least, seconds):
    """When the file first grew so fast for a slice: the slice's beginning."""
    deadline = time.monotonic() + seconds
    while True:
        begin = time.monotonic()
        if speed(path) >= least:
            return begin
        assert begin < deadline, "not at %.1f MB/s in %g s" % (least / 1e6, seconds)


def return_of_a_receiver(folder, how, away):
    """Ends the receiver by a signal, starts it again so many seconds later on the same
    port; gives MB/s before, seconds from its line `ready` to full speed, and to the
    first byte."""
    a, b = make_pair(folder)
    port, out = free_port(), b.path("out.ndjson")
    text = receiver(port, heartbeat="1s")
    try:
        live = b.start(text, "--quiet")
        a.start(SOURCE % port, "--quiet")
        wait_for(lambda: size_of(out) > 4 << 20, "records")
        before = speed(out, 1)
        if how == signal.SIGKILL:
            live.kill()
        else:
            live.stop()
        size = size_of(out)
        time.sleep(away)  # it is away for that long
        live = b.start(text)
        live.wait_ready()
        ready = live.wait_log(r"\bready\b")
        wait_for(lambda: size_of(out) > size, "the first record", PATIENCE)
        first = time.monotonic()
        full = wait_speed(out, FULL * before, PATIENCE)
        return before / 1e6, max(full - ready, 0), first - ready
    finally:
        a.close()
        b.close()
