"""A round in which Weir, the server of its bus and the connections between them fail at
moments by chance: killed, stopped, cut, reset, half closed.

    source.file --> bus, shards by chance --wire--> server --wire--> reader --> sink.file

What may happen is known from outside. The source's committed position says what the bus has
acknowledged: all of it must be on the server, once, under an id that is used once. A record
may be stored again, under another id, only when Weir was killed while it was not
acknowledged; how often that was is counted. The group writes each record at least once, the
first times in the order of its key.
"""
import collections
import random
import signal
import time

import stores
from bus_crash import judge_order
from crash import Input, committed, whole_lines
from helper import Bench
from linked import Wire

RECORDS = 4000

TOPOLOGY = """
supervise { intensity = 1 }
source.file "in" { path = "in.ndjson", at_end = stop,
  rate = { records = %d, burst = "20ms" } }
bus "events" { from = "in", key = "k", shards = %d, scale = { min = 1, max = 5, window = "1h" },
  batch = { max_delay = "%s" }, retry = { first = "20ms", max = "200ms" }, ring_bytes = "1MB",
  store = %s }
process "p" { from = "events", each = function (r) r.seen = r.n * 2 return r end }
sink.file "out" { from = "p", path = "out.ndjson", fsync = never }
settings { block = "%s" }
"""


class Round:
    """One round's processes, and what has happened to them."""

    EVENTS = ("kill", "kill", "server", "server", "pause", "pause", "stop", "both", "scale")

    def __init__(self, folder, kind, seed):
        self.luck = random.Random(seed)
        self.bench = Bench(folder)
        self.given = Input(self.bench, self.luck, RECORDS)
        self.counts = collections.Counter()
        self.positions = []  # of the source, at each kill
        self.calm = False
        self.fates = random.Random(self.luck.random())
        self.cut_share = self.luck.choice((0, 0.5, 0.9))
        self.rate = self.luck.choice((2000, 5000, 20000))
        self.place = stores.Redis(self.bench) if kind == "redis" else \
            stores.Jetstream(self.bench)
        self.wire = Wire(self.place.server.port, self.fate)
        self.text = TOPOLOGY % (
            self.rate, self.luck.choice((1, 2, 4)), self.luck.choice(("1ms", "10ms", "50ms")),
            self.store(kind), self.luck.choice(("4KB", "16KB", "64KB")))
        self.live = None

    def fate(self):
        """Of a connection, by chance: how long it lasts and how it ends."""
        if self.calm or self.fates.random() >= self.cut_share:
            return None
        return (int(self.fates.random() ** 2 * 400000),
                self.fates.choice(("rst", "fin", "stall", "hole", "half")),
                self.fates.random() * 0.6)

    def store(self, kind):
        """What stands behind `store =`; the wire lies before the server."""
        url = self.place.url().replace(str(self.place.server.port), str(self.wire.port))
        more = 'timeout = "%s", window = %d' % (self.luck.choice(("200ms", "500ms", "5s")),
                                                self.luck.choice((1, 30, 1000)))
        if kind == "jetstream":
            more += ', dedup = "%s"' % self.luck.choice(("100ms", "1h"))
        return '%s { url = "%s", %s }' % (kind, url, more)

    def start(self):
        """Weir."""
        self.live = self.bench.start(self.text, "--quiet")

    def moment(self, most):
        """Nothing is awaited: the moment is the chance."""
        until = time.monotonic() + self.luck.random() ** 2 * most
        while time.monotonic() < until:
            time.sleep(0.001)

    def ended(self):
        """Whether it has read everything; it ends in no other way."""
        if self.live.running():
            return False
        self.live.wait(code=0)
        return True

    def kill(self):
        """Weir, and starts it again."""
        if self.ended():
            return
        self.live.kill()
        assert "stopped" not in self.live.text() and "restart" not in self.live.text(), \
            self.live.text()
        self.counts["kills"] += 1
        position = committed(self.bench)
        assert position >= max(self.positions, default=0), "the position went back"
        self.positions.append(position)

    def event(self):
        """One of them."""
        what = self.luck.choice(self.EVENTS)
        self.counts[what] += 1
        server = self.place.server
        if what in ("server", "both"):
            server.kill()
        if what in ("kill", "both"):
            self.kill()
            self.start()
        if what in ("server", "both"):
            self.moment(0.8)
            server.start()
        elif what == "pause":
            server.pause()
            self.moment(1.5)
            server.resume()
        elif what == "stop":
            self.live.signal(signal.SIGSTOP)
            self.moment(0.5)
            self.live.signal(signal.SIGCONT)
        elif what == "scale":
            to = self.luck.randint(1, 5)
            self.bench.weir("ctl", "scale", "t/events", "--to", str(to), "--timeout", "500ms")

    def run(self):
        """Events until all is read, or there were enough of them; then all is well."""
        self.start()
        for _ in range(self.luck.randint(3, 7)):
            self.moment(0.5)
            self.event()
            if not self.live.running():
                break
        if self.luck.random() < 0.5:
            self.kill()
        elif not self.ended():
            self.calm = True
            self.live.wait(60)
        self.calm = True
        self.bench.run(self.text, "--quiet", seconds=60)
        self.judge()
        self.counts["cuts"] = sum(self.wire.cuts.values())

    def judge(self):
        """What is on the server, and what came out."""
        records = self.place.records()
        assert all(record.id for record in records)
        names = collections.Counter(record.id for record in records)
        assert len(names) == len(records), "an id is used twice: %s" % names.most_common(3)
        offsets = sorted(self.given.offsets.values())
        times = collections.Counter(record.payload["n"] for record in records)
        lost = set(range(RECORDS)) - set(times)
        assert not lost and len(times) == RECORDS, "%d are lost: %s" % (len(lost),
                                                                       sorted(lost)[:5])
        for number, count in times.items():
            chances = sum(position <= offsets[number] for position in self.positions)
            assert count <= 1 + chances, "record %d is stored %d times without need" % (
                number, count)
        self.counts["twice"] = len(records) - RECORDS
        if not self.counts["scale"]:
            judge_order(stores.by_key(record.payload for record in records))
        judge_order(stores.by_key(self.bench.path("out.ndjson")))
        got = collections.Counter(whole_lines(self.bench.path("out.ndjson")))
        assert set(got) == set(self.given.offsets), "%d did not come out" % (
            len(self.given.offsets) - len(got))
        self.counts["again"] = sum(got.values()) - len(got)

    def close(self):
        """Ends all of it."""
        self.bench.close()
        self.wire.close()
        self.place.close()


def round_of_failures(folder, kind, seed):
    """One round; gives the counts."""
    one = Round(folder, kind, seed)
    try:
        one.run()
    finally:
        one.close()
    return one.counts


def told(counts):
    """The counts as a sentence."""
    return ("%(kills)d kills, %(servers)d of the server, %(pause)d pauses of it, %(stop)d stops,"
            " %(cuts)d cuts, %(scale)d scalings: nothing lost, no id used twice; %(twice)d "
            "records that were not acknowledged stored twice, %(again)d written twice"
            % {"servers": counts["server"] + counts["both"],
               **{key: counts[key] for key in ("kills", "pause", "stop", "cuts", "scale",
                                               "twice", "again")}})
