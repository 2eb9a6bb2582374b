"""The rows about shards that are idle, that move, and that come under full load: whole
topologies, looked at from their control endpoint. Used by run.py."""
import bisect
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

import zmq

WEIR = os.environ.get("WEIR", str(pathlib.Path(__file__).resolve().parents[2] /
                                  "build/release/bin/weir"))
STORES = {"in memory": "", "on disk": ", store = disk { keep = { bytes = \"64MB\" } }"}

IDLE = """
source.file "in" { path = "none*.ndjson" }
bus "events" { from = "in", key = "k", shards = 64%s }
sink.null "out" { from = "events" }
"""

# The window of a policy that never looks: who scales is we alone.
EMPTY = """
source.file "in" { path = "none*.ndjson" }
bus "events" { from = "in", key = "k", shards = 1, scale = { max = 8, window = "1h" }%s }
sink.null "out" { from = "events" }
"""

LOADED = """
source.generate "in" { }
bus "events" { from = "in", key = "ip", shards = 1, scale = { max = 8, window = "1h" } }
sink.null "out" { from = "events" }
"""


class Weir:
    """A running topology and a client at its control endpoint."""

    def __init__(self, folder, text):
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        folder.mkdir(parents=True)
        (folder / "t.lua").write_text(text)
        self.child = subprocess.Popen([WEIR, "run", "t.lua"], cwd=folder,
                                      stderr=subprocess.PIPE, text=True,
                                      env={**os.environ, "WEIR_RUN": str(folder / "run")})
        for line in self.child.stderr:
            if " ready " in line:
                break
        self.ready_ms = int(re.search(r" ms=(\d+)", line)[1])
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger, self.socket.rcvtimeo = 0, 30000
        self.socket.connect("ipc://%s/run/t.sock" % folder)

    def ask(self, *words):
        """(code, body) of a command."""
        self.socket.send_multipart([b"WEIR1", b"1", *(str(w).encode() for w in words)])
        _, _, code, body = self.socket.recv_multipart()
        return code.decode(), json.loads(body)

    def done(self, node):
        """Records that a node has made safe, and when that was."""
        return time.monotonic(), self.ask("stats", node)[1]["nodes"][0]["done"]

    def cpu(self):
        """Seconds of user and system time so far."""
        fields = self._read("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def switches(self):
        """How often its threads have waited for something."""
        threads = os.listdir("/proc/%d/task" % self.child.pid)
        return sum(int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)",
                                 self._read("task/%s/status" % thread))[1])
                   for thread in threads)

    def resident_mb(self):
        """The resident set."""
        return int(re.search(r"VmRSS:\s+(\d+)", self._read("status"))[1]) / 1024

    def _read(self, name):
        return pathlib.Path("/proc/%d/%s" % (self.child.pid, name)).read_text()

    def close(self, drain=True):
        """Ends it; drain False: at once."""
        self.socket.close()
        (self.child.terminate if drain else self.child.kill)()
        self.child.wait(60)
        self.child.stderr.close()


def ready_ms(folder, store, rounds=9):
    """ms until 64 shards are ready, of so many starts."""
    took = []
    for _ in range(rounds):
        weir = Weir(folder, IDLE % STORES[store])
        took.append(weir.ready_ms)
        weir.close()
    return took


def idle_shards(folder, store, seconds=10):
    """64 shards with nothing to do: CPU share in %, waits a second, resident MB."""
    weir = Weir(folder, IDLE % STORES[store])
    time.sleep(1)        # the measuring interval begins after the start-up
    cpu, switches, begun = weir.cpu(), weir.switches(), time.monotonic()
    time.sleep(seconds)  # the measuring interval itself
    took = time.monotonic() - begun
    share, waits = (weir.cpu() - cpu) / took * 100, (weir.switches() - switches) / took
    resident = weir.resident_mb()
    weir.close()
    return share, waits, resident


def moved_ms(weir, shards):
    """From the command to the end of the move: until then any change is refused."""
    begun = time.monotonic()
    code, body = weir.ask("scale", "events", shards)
    assert code == "ok", body
    while weir.ask("scale", "events", shards)[0] == "full":
        pass  # the answer takes a turn of the loops that do the work
    return (time.monotonic() - begun) * 1000


def moves(folder, store, rounds=15):
    """ms of moves between empty shards: the medians from 1 to 8 shards and back, and the
    longest of all."""
    weir = Weir(folder, EMPTY % STORES[store])
    spans = [(moved_ms(weir, 8), moved_ms(weir, 1)) for _ in range(rounds)]
    weir.close()
    return (*(statistics.median(column) for column in zip(*spans)), max(map(max, spans)))


class Speed:
    """How many records have passed, at many instants."""

    def __init__(self):
        self.times, self.counts = [], []

    def watch(self, weir, seconds):
        """Looks every 10 ms for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            at, count = weir.done("out")
            self.times.append(at)
            self.counts.append(count)
            time.sleep(0.01)  # the rhythm of the looks

    def passed(self, at):
        """Records until an instant, between two looks in proportion."""
        i = min(max(bisect.bisect(self.times, at), 1), len(self.times) - 1)
        share = (at - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        return self.counts[i - 1] + (self.counts[i] - self.counts[i - 1]) * share

    def rates(self, begin, end, window=0.1, step=0.01):
        """Records a second in all windows between two instants."""
        count = int((end - begin - window) / step)
        edges = [begin + i * step for i in range(count)]
        return [(self.passed(at + window) - self.passed(at)) / window for at in edges]


def others_cpu(weir):
    """Seconds that all other processes have had on all processors."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return busy - weir.cpu() - time.process_time()


def one_dip(folder, before=2, after=3):
    """One scaling from 1 to 8 shards under full load: the median rate before it, the
    lowest rate of any 100 ms behind it as a share of that and as it was without a change,
    for how many seconds the rate was below 80 %, its share at the end, and the
    processors that others had meanwhile."""
    weir, speed = Weir(folder, LOADED), Speed()
    speed.watch(weir, 1)  # it warms up
    begun, others = time.monotonic(), others_cpu(weir)
    speed.watch(weir, before)
    changed = time.monotonic()
    assert weir.ask("scale", "events", 8)[0] == "ok"
    speed.watch(weir, after)
    ended, others = time.monotonic(), others_cpu(weir) - others
    weir.close(drain=False)
    well = speed.rates(begun, changed)
    usual = statistics.median(well)
    shares = [rate / usual for rate in speed.rates(changed, ended)]
    return {"rate": usual, "quiet": min(well) / usual, "lowest": min(shares),
            "below": sum(share < 0.8 for share in shares) * 0.01,
            "end": statistics.median(shares[-100:]), "others": others / (before + after)}


def dips(folder, rounds=5, tries=15):
    """So many scalings, each of a new weir, while others had less than a tenth of a
    processor; those of the least disturbed tries when there are not enough of them."""
    seen = []
    while len(seen) < tries and sum(one["others"] < 0.1 for one in seen) < rounds:
        seen.append(one_dip(folder))
    return sorted(seen, key=lambda one: one["others"])[:rounds]
