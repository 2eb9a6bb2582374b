"""The log as settings ask for it."""
import json

import pytest

FLOW = """
settings { log = { %s } }
source.generate "g" { count = 1 }
process "p" { from = "g", each = function (r)
  for _, level in ipairs { "debug", "info", "warn", "error" } do
    weir.log (level, level .. " line")
  end
  return r
end }
sink.null "n" { from = "p" }
"""

LEVELS = ["debug", "info", "warn", "error"]


@pytest.mark.parametrize("level", LEVELS)
def test_only_lines_from_the_level_on_are_logged(bench, level):
    run = bench.run(FLOW % ('level = "%s"' % level))
    told = [word for word in LEVELS if word + " line" in run.err]
    assert told == LEVELS[LEVELS.index(level):]


def test_json_lines_bear_time_level_and_node(bench):
    run = bench.run(FLOW % "format = json")
    lines = [json.loads(line) for line in run.err.splitlines()]
    ours = [line for line in lines if line["event"] == "warn line"]
    assert [(line["level"], line["actor"]) for line in ours] == [("warn", "p")]
    assert ours[0]["time"].endswith("Z")


@pytest.mark.parametrize("form", ["text", "json"])
def test_dead_letters_are_told_once_with_the_first_ones_error(bench, form):
    bench.write("in.ndjson", [{"n": n} for n in range(3)])
    run = bench.run('settings { log = { format = %s } }\n' % form +
                    'source.file "in" { path = "in.ndjson", at_end = stop }\n'
                    'process "p" { from = "in", each = function (r)\n'
                    '  return dead (\'no "\' .. r.n .. \'"\') end }\n'
                    'sink.null "out" { from = "p" }\n', code=3)
    [line] = [line for line in run.err.splitlines() if "dead letters count=" in line]
    told = line if form == "text" else json.loads(line)["event"]
    assert "dead.ndjson" in told and told.endswith(' error="no \\"0\\""'), told
