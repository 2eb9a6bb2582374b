"""Vnodes move while records flow: every record comes once, in the order of its key."""
import json
import re

import pytest
from helper import SANITIZED, chance, rows, wait_for

RECORDS = 100000 if SANITIZED else 1000000
KEYS = 1000
SCALINGS = 20

TOPOLOGY = """
local calls = 0
source.file "in" { path = "in.ndjson", at_end = stop, rate = { records = %d } }
bus "events" { from = "in", key = "k", shards = 2, %s
  scale = { min = 1, max = 6, window = "50ms", cooldown = "50ms",
    want = function (m)
      calls = calls + 1
      return calls %% 2 == 0 and 2 or 3 + calls %% 4
    end } }
sink.file "out" { from = "events", path = "out.ndjson", fsync = never }
"""


@pytest.mark.parametrize("store", ["", 'store = disk { keep = all },'],
                         ids=["memory", "disk"])
def test_scalings_under_load_keep_each_key_in_order(bench, store):
    luck = chance("scale")
    lines = ['{"n":%d,"k":"key-%d"}' % (n, luck.randrange(KEYS)) for n in range(RECORDS)]
    bench.write("in.ndjson", "\n".join(lines) + "\n")
    live = bench.start(TOPOLOGY % (RECORDS // 4, store))
    wait_for(lambda: len(re.findall("scaling bus=events", live.text())) >= SCALINGS or
             not live.running(), "scalings", 60)
    done = live.wait(seconds=120)
    assert len(re.findall("scaling bus=events", done.err)) >= SCALINGS
    last, seen = {}, 0
    for line in rows(bench.path("out.ndjson")):
        record = json.loads(line)
        assert record["n"] > last.get(record["k"], -1), "key %s" % record["k"]
        last[record["k"]] = record["n"]
        seen += 1
    assert seen == RECORDS
    assert done.node("events")["done"] == RECORDS


IDLE = """
source.generate "in" { rate = { records = 1000 } }
bus "events" { from = "in", shards = 2, scale = { max = %d, window = "50ms",
  cooldown = "50ms", want = function (m) return %s end } }
sink.null "out" { from = "events" }
"""


def test_a_policy_that_fails_keeps_the_number_and_says_so(bench):
    live = bench.start(IDLE % (4, "m.nothing + 1"))
    live.wait_log("scaling policy failed bus=events cause=.*t.lua:4: ")
    wait_for(lambda: bench.weir("ctl", "stats", "t").code == 0, "an answer")
    done = live.stop()
    assert "scaling bus=" not in done.err
    assert len(re.findall("scaling policy failed", done.err)) == 1


def test_the_number_is_clamped(bench):
    live = bench.start(IDLE % (3, "1000"))
    live.wait_log("scaling bus=events shards=3")
    assert len(re.findall("scaling bus=", live.stop().err)) == 1


LEAK = """
local kept, calls = {}, 0
local function leak ()
  kept[#kept + 1] = ("x"):rep (4 << 20)
  calls = calls + 1
  return calls % 2 + 1
end
"""


def test_a_policy_that_passes_its_memory_limit_begins_anew(bench):
    live = bench.start(LEAK + IDLE % (4, "leak ()"))
    live.wait_log("scaling policy failed bus=events cause=.*memory limit")
    live.wait_log("scaling bus=events", count=12)  # one state is good for three
    live.stop()
