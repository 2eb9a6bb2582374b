"""A round of kills of a weir with a durable bus, at moments by chance.

    source.file --> bus, shards by chance, on disk --> reader --> sink.file

What a kill may cost is known from outside. The source's committed position says what the
bus has acknowledged: all before it must be in the store, whole, under an id that is used
once. What lies behind it and was stored all the same is stored again, and nothing else.
What the sink had written and the group had not committed is written again.
"""
import collections
import json
import random
import time

from crash import Input, committed
from helper import Bench, rows

RECORDS = 6000
KILLS = 3  # in a round, at most

TOPOLOGY = """
source.file "in" { path = "in.ndjson", at_end = stop,
  rate = { records = %d, burst = "20ms" } }
bus "events" { from = "in", key = "k", shards = %d, batch = { max_delay = "%s" },
  store = disk { keep = all, map = "1MB", commit_bytes = "%s" } }
process "p" { from = "events", each = function (r) r.seen = r.n * 2 return r end }
sink.file "out" { from = "p", path = "out.ndjson", fsync = %s }
settings { block = "%s" }
"""


class Stored:
    """What `weir cat` and `weir bus verify` find in the store that nobody writes."""

    def __init__(self, bench, store=None):
        store = store or bench.state / "bus" / "events"
        self.by_id, self.lines = {}, collections.Counter()
        self.keys = collections.defaultdict(list)
        if not (store / "CURRENT").exists():
            return
        assert bench.weir("bus", "verify", store).code == 0
        found = bench.weir("cat", store, "--json", "--limit", "1000000", seconds=60)
        assert found.code == 0, found.err
        for line in found.out.splitlines():
            record = json.loads(line)
            assert record["id"] not in self.by_id, "an id is used twice"
            self.by_id[record["id"]] = record["payload"]["n"]
            self.lines[record["payload"]["n"]] += 1
            self.keys[record["payload"]["k"]].append(record["payload"]["n"])

    def twice(self):
        """How many records are stored more than once, counting each time more."""
        return sum(self.lines.values()) - len(self.lines)


def judge_order(keys):
    """A key's records come in the order of the input; after each rewind they begin anew
    further back, and never leave a gap."""
    for key, numbers in keys.items():
        seen = -1
        for number in numbers:
            if number > seen:
                seen = number
        first = list(dict.fromkeys(numbers))
        assert first == sorted(first), "key %s is out of order" % key


def round_of_kills(folder, seed):
    """One round; gives the numbers of records stored twice, that could have been, written
    twice, and of kills."""
    luck = random.Random(seed)
    bench = Bench(folder)
    given = Input(bench, luck, RECORDS)
    numbers = {offset: n for n, offset in enumerate(sorted(given.offsets.values()))}
    text = TOPOLOGY % (luck.choice((8000, 20000, 60000)), luck.choice((1, 2, 5)),
                       luck.choice(("1ms", "10ms", "100ms")),
                       luck.choice(("64KB", "8MB")), luck.choice(("always", "never")),
                       luck.choice(("4KB", "16KB", "64KB")))
    before, unacknowledged, kills, position = Stored(bench), 0, 0, 0
    try:
        while kills < KILLS:
            live = bench.start(text, "--quiet")
            moment = time.monotonic() + luck.random() ** 2 * 0.5
            while live.running() and time.monotonic() < moment:
                time.sleep(0.001)  # nothing is awaited: the moment is the chance
            ended = not live.running()
            live.kill()
            kills += not ended
            assert committed(bench) >= position, "the position went back"
            position = committed(bench)
            after = Stored(bench)
            for name, number in before.by_id.items():
                assert after.by_id.get(name) == number, "a stored record has changed"
            safe = {numbers[offset] for offset in given.offsets.values()
                    if offset < position}
            assert safe <= set(after.lines), "acknowledged and not stored"
            unacknowledged += len(set(after.lines) - safe)
            before = after
            if ended:
                break
        bench.run(text, "--quiet", seconds=60)
        stored = Stored(bench)
        assert set(stored.lines) == set(range(len(given.offsets))), "some are lost"
        assert stored.twice() <= unacknowledged, "stored again without need"
        judge_order(stored.keys)
        got = collections.Counter(rows(bench.path("out.ndjson")))
        assert set(got) == set(given.offsets), "%d did not come out" % (
            len(given.offsets) - len(got))
        return stored.twice(), unacknowledged, sum(got.values()) - len(got), kills
    finally:
        bench.close()


