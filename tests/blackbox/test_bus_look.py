"""Looking at a bus by its name, whatever its store is, with real servers of Redis and NATS:
cat, recv, bus ls, pos, why, metrics."""
import json
import re
import signal
import time

import pytest
from bus_client import Bus
from helper import PATIENCE, WEIR, Live, count_rows, wait_for
from servers import Nats, Redis

TOPOLOGY = """
settings { name = "t" }
source.file "in" { path = "in.ndjson", framing = ndjson }
bus "events" { from = "in", shards = 2, key = "k", %s store = %s }
%s
"""

STORES = ["disk", "redis", "jetstream"]
SERVERS = {"redis": Redis, "jetstream": Nats}


class Stored:
    """A running bus "events" on a store. server: of the store; None: it is on disk."""

    def __init__(self, bench, kind, keep="all", options="", more=""):
        self.bench, self.kind = bench, kind
        self.server = None
        words = "disk { keep = %s }" % keep
        if kind in SERVERS:
            self.server = SERVERS[kind](bench.path(kind))
            words = '%s { url = "%s", timeout = "1s", keep = %s }' % (
                kind, self.server.url(), keep)
        self.text = TOPOLOGY % (options, words, more)
        self.count = 0
        self.live = None

    def begin(self, count):
        """Starts it, and has it store so many records."""
        self.bench.write("in.ndjson", "")
        self.live = self.bench.start(self.text)
        self.live.wait_ready()
        return self.append(count)

    def append(self, count):
        """Has it store so many more."""
        self.write(count)
        self.wait_stored(self.count)
        return self

    def write(self, count):
        """Gives it so many more records."""
        first, self.count = self.count, self.count + count
        self.bench.append("in.ndjson", "".join(
            json.dumps({"n": n, "k": "k%d" % (n % 37)}) + "\n"
            for n in range(first, self.count)))

    def wait_stored(self, count):
        """All are stored."""
        wait_for(lambda: self.tell()["safe"] == count, "%d records are stored" % count)

    def tell(self):
        """What the control endpoint tells of it."""
        run = self.bench.weir("ctl", "stats", "t/events", "--json")
        assert run.code == 0, run.err
        return json.loads(run.out)["nodes"][0]["bus"]

    def client(self):
        """A client of its endpoint."""
        return Bus("ipc://%s" % self.bench.path("run/t.events.bus"))

    def close(self):
        """Ends it and its server."""
        if self.live:
            self.live.kill()
        if self.server:
            self.server.close()


@pytest.fixture(name="make")
def maker(bench):
    """make (kind, ..): a Stored that ends with the test."""
    made = []

    def make(kind, **options):
        made.append(Stored(bench, kind, **options))
        return made[-1]
    yield make
    for store in made:
        store.close()


def weir(bench, *words, code=0):
    """Runs a command, which has to end so."""
    run = bench.weir(*words)
    assert run.code == code, (run.code, run.out, run.err)
    return run


def objects(run):
    """The lines of its stdout."""
    return [json.loads(line) for line in run.out.splitlines()]


def numbers(run):
    """The n of the payloads it shows, sorted."""
    return sorted(row["n"] for row in objects(run))


def cursor(run):
    """Where it says that one can go on."""
    return re.search(r"what follows: --from (w1\S+)$", run.err, re.M).group(1)


# --- cat ------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", STORES)
def test_cat_shows_all_and_goes_on_at_its_cursor(bench, make, kind):
    make(kind).begin(100)
    first = weir(bench, "cat", "t/events", "--limit", "30")
    assert len(objects(first)) == 30 and "30 records shown" in first.err
    rest = weir(bench, "cat", "t/events", "--from", cursor(first))
    assert sorted(numbers(first) + numbers(rest)) == list(range(100))
    assert weir(bench, "cat", "t/events", "--from", cursor(rest)).out == ""
    some = weir(bench, "cat", "t/events", "--where", "n >= 90 and $shard < 9")
    assert numbers(some) == list(range(90, 100))
