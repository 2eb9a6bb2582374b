"""The disk of a durable bus is full for a while, under load: what a store that is away is.

    source.file --> bus, 4 shards, store on a disk of 1 MB --> reader --> sink.file

Nothing can be stored until the disk grows; then every record must be there, once.
"""
import json
import time

from bus_crash import Stored, judge_order
from helper import SANITIZED, grow, rows

MB = 1 << 20
SIZE = 200       # bytes of a record, at least
RECORDS = 60000  # more than disk, rings and window have room for
RINGS = 4 * MB
WINDOW = MB

TOPOLOGY = """
source.file "in" { path = "in.ndjson", at_end = stop }
bus "events" { from = "in", key = "k", shards = 4, ring_bytes = "1MB",
  retry = { first = "20ms", max = "500ms" },
  store = disk { path = "disk/events", keep = all, map = "1MB" } }
sink.file "out" { from = "events", path = "out.ndjson", fsync = never }
settings { window = "1MB" }
"""


def look(bench):
    """What became of the records so far; the sums are right and nothing is shed."""
    told = bench.weir("audit", "--json", "t")
    assert told.code == 0, told.out + told.err
    bus = json.loads(told.out)["buses"][0]
    assert bus["offered"] == bus["accepted"] == bus["safe"] + bus["resident"], bus
    return bus


def store_away(bench, disk, luck, seconds):
    """One absence; gives the greatest resident set during it."""
    lines = ['{"n":%d,"k":"key-%d","filler":"%s"}' % (n, luck.randrange(1000), "x" * SIZE)
             for n in range(RECORDS)]
    bench.write("in.ndjson", lines)
    live, most = bench.start(TOPOLOGY), 0
    live.wait_ready()
    live.wait_log("store does not take it.*No space left", count=4)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told = look(bench)
        assert told["safe"] * SIZE < MB and told["resident"] * SIZE <= RINGS
        most = max(most, live.vm("VmRSS"))
        time.sleep(0.1)  # the rhythm of the looks
    assert live.running()
    assert SANITIZED or most < 20 * MB + 1.1 * (RINGS + WINDOW + MB), most / MB
    grow(disk)
    done = live.wait(seconds=60)
    assert done.node("events")["done"] == RECORDS == done.node("out")["done"]
    stored = Stored(bench, disk / "events")
    assert set(stored.lines) == set(range(RECORDS)) and stored.twice() == 0
    judge_order(stored.keys)
    assert sorted(rows(bench.path("out.ndjson"))) == sorted(line.encode() for line in lines)
    return most
