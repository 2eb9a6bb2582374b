"""Rounds of kills, stops and cuts of a link between two weirs (tests and soak).

What a kill may cost is known from outside. The sender's committed position lies in its
state file, and what it has under way behind that is bounded by its window: these
records may come once more for each kill at which they were under way, and no others.
A process that is only stopped, or a connection that is cut, costs nothing.
"""
import collections
import random
import signal
import time

from helper import rows, wait_for
from linked import Cargo, HEARTBEAT, Wire, committed, make_pair, receiver, \
    sender, size_of
from ports import free_port

RECORDS = 6000
EVENTS = 3  # in a round, at most
WINDOW, BLOCK = 256 << 10, 16 << 10


class Pair:
    """A sender and a receiver that are killed, stopped and started again."""

    def __init__(self, folder, luck):
        self.luck = luck
        self.benches = make_pair(folder)
        self.cargo = Cargo(self.benches[0], luck, RECORDS)
        self.workers = luck.choice((0, 0, 1, 2))
        port = free_port()
        self.texts = (sender(port, luck.choice((4000, 8000, 16000)),
                             window="%dB" % WINDOW, block="%dB" % BLOCK),
                      receiver(port, self.workers, window="%dB" % WINDOW,
                               fsync=luck.choice(("never", '"20ms"', '"200ms"'))))
        self.lives = [None, None]
        self.under_way = []  # of each kill: the first and last offset that it may double
        self.kills, self.stops, self.long_stops = 0, 0, 0

    def start(self, i):
        """Starts the sender (0) or the receiver (1)."""
        self.lives[i] = self.benches[i].start(self.texts[i], "--quiet")

    def close(self):
        """Ends both."""
        for bench in self.benches:
            bench.close()

    def sending(self):
        """Whether the sender has not come to its end."""
        return self.lives[0].running()

    def kill(self, i):
        """kill -9; notes what it may cost."""
        self.kills += 1
        self.lives[i].kill()
        position = committed(self.benches[0])
        self.under_way.append((position, position + WINDOW + BLOCK))

    def event(self):
        """Kills or stops one of them or both at the same time, and mends it."""
        deeds = {}
        while not deeds:
            deeds = {i: deed for i in (0, 1)
                     for deed in [self.luck.choice(("kill", "stop", None))] if deed}
        for i, deed in deeds.items():
            if deed == "kill":
                self.kill(i)
            else:
                self.stops += 1
                self.lives[i].signal(signal.SIGSTOP)
        long = self.luck.random() < 0.4
        self.long_stops += long and "stop" in deeds.values()
        pause(self.luck.random() * HEARTBEAT * (10 if long else 1) + 4 * HEARTBEAT * long)
        for i in self.luck.sample(sorted(deeds), len(deeds)):
            if deeds[i] == "kill":
                self.start(i)
            else:
                self.lives[i].signal(signal.SIGCONT)

    def judge(self):
        """Everything is here, and what came twice is explained; gives the number."""
        out = self.benches[1].path("out.ndjson")
        return judge(self.cargo, out, self.under_way, self.workers < 2)

    def unacknowledged(self):
        """How many records were under way at a kill, over all kills."""
        return sum(first <= offset < end for offset in self.cargo.offsets.values()
                   for first, end in self.under_way)


def judge(cargo, out, under_way, ordered):
    """Every record, unaltered, and at most once more for each kill at which it was under
    way: the list of first and last offsets that a kill may double. Gives the number of
    those that came twice."""
    got = rows(out)
    counts = collections.Counter(got)
    altered = set(counts) - set(cargo.offsets)
    assert not altered, "altered: %r" % sorted(altered)[0][:200]
    lost = len(cargo.offsets) - len(counts)
    assert not lost, "%d records are lost" % lost
    for line, count in counts.items():
        offset = cargo.offsets[line]
        could = sum(first <= offset < end for first, end in under_way)
        assert count <= 1 + could, "%d times, %d explained: %r" % (count, could, line)
    if ordered:
        judge_order(cargo, [cargo.offsets[line] for line in got],
                    [first for first, _ in under_way])
    return len(got) - len(counts)


def judge_order(cargo, offsets, firsts):
    """It goes forward without a gap, and back only for a kill, to a place that was not
    committed then."""
    following = dict(zip(cargo.offsets.values(), list(cargo.offsets.values())[1:]))
    assert offsets[0] == 0
    for before, back in zip(offsets, offsets[1:]):
        if following.get(before) == back:
            continue
        fits = [first for first in firsts if first <= back]
        assert fits, "from %d to %d, which no kill explains" % (before, back)
        firsts.remove(fits[-1])


def pause(seconds):
    """Nothing is awaited: the moment is the chance. Gives the time behind it."""
    time.sleep(seconds)
    return time.monotonic()


def round_of_kills(folder, seed):
    """One round; a Pair that has been judged, and the number of records that came
    twice."""
    luck = random.Random(seed)
    pair = Pair(folder, luck)
    try:
        for i in luck.sample((0, 1), 2):
            pair.start(i)
        for _ in range(EVENTS):
            moment = time.monotonic() + 0.05 + luck.random() ** 2 * 0.5
            while pair.sending() and time.monotonic() < moment:
                pause(0.001)
            if not pair.sending():
                break
            pair.event()
        pair.lives[0].wait(60)
        assert committed(pair.benches[0]) == pair.cargo.size
        pair.lives[1].stop(60)
        return pair, pair.judge()
    finally:
        pair.close()


def cuts_under_load(folder, luck, cuts):
    """A connection that is cut so many times while records flow: each of them arrives
    exactly once and in order. Gives the wire, the sender's Run, seconds."""
    def fate():
        if done() >= cuts:
            return None
        size = luck.choice((luck.randrange(1, 500), luck.randrange(500, 20000),
                            luck.randrange(1 << 20), luck.randrange(1 << 20)))
        how = luck.choice(("rst", "rst", "fin", "fin", "stall", "hole", "half"))
        return size, how, luck.random() * 5 * HEARTBEAT

    a, b = make_pair(folder)
    cargo = Cargo(a, luck, 2000)
    port, out = free_port(), b.path("out.ndjson")
    wire = Wire(port, fate)

    def done():
        return sum(wire.cuts.values())

    def all_cut_and_here():
        if done() < cuts and cargo.size - size_of(out) < 1 << 20:
            cargo.more(2000)  # there is always something under way
        return done() >= cuts and size_of(out) >= cargo.size

    try:
        started = time.monotonic()
        live = b.start(receiver(port, luck.choice((0, 1)), window="1MB"))
        live.wait_ready()
        sending = a.start(sender(wire.port, window="1MB", block="16KB", end="follow"))
        wait_for(all_cut_and_here, "everything, behind all cuts", 60 + 2 * cuts)
        took = time.monotonic() - started
        first, second = sending.stop(), live.stop()
        assert rows(out) == cargo.lines
        for run in (first, second):
            assert "OVERRUN" not in run.err and "MALFORMED" not in run.err, run.err
        return wire, first, took
    finally:
        wire.close()
        a.close()
        b.close()
