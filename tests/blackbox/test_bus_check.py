"""What `weir check` says about buses and groups: every option's range, every combination
that cannot be, who reads what."""
import re

import pytest
from helper import count_rows, objects

# option, type, default, least, most; None: no bound. A bound that is not part of the range
# is named as the reference has it.
BUS = """
shards             int    auto      1        1024
vnodes             int    256       1        65536
ring_records       int    262144    1        1073741824
ring_bytes         size   64MB      1MB      64GB
sample.one_in      int    required  1        1000000
batch.min_records  int    64        1        1000000
batch.max_records  int    10000     1        1000000
batch.max_bytes    size   1MB       4KB      8MB
batch.in_flight    int    4         1        64
batch.max_delay    time   10ms      1ms      1h
batch.window       time   100ms     1ms      1h
retry.attempts     int    forever   1        1000000
retry.timeout      time   30s       1ms      1h
retry.first        time   100ms     1ms      1h
retry.max          time   30s       1ms      1h
flush_timeout      time   30s       1ms      1h
drain_timeout      time   30s       1ms      1h
scale.min          int    1         1        1024
scale.max          int    none      1        1024
scale.fill         number 0.7       above_0  1
scale.idle_fill    number 0.1       0        1
scale.wait         time   50ms      1ms      1h
scale.window       time   1s        1ms      1h
scale.cooldown     time   5s        1ms      1h
scale.idle_delay   time   30s       1ms      1h
disk.map           size   1GB       1MB      16TB
disk.map_max       size   1TB       1MB      16TB
disk.commit_bytes  size   8MB       64KB     256MB
disk.compact_at    number 0.5       above_0  below_1
disk.keep.age      time   all       1ms      -
disk.keep.bytes    size   all       1B       -
disk.keep.records  int    all       1        -
redis.timeout      time   5s        1ms      1h
redis.window       int    1000      1        65536
redis.keep.records int    all       1        -
jetstream.timeout  time   5s        1ms      1h
jetstream.window   int    1000      1        65536
jetstream.replicas int    1         1        5
jetstream.dedup    time   1h        100ms    1h
jetstream.keep.age time   all       100ms    -
jetstream.keep.bytes   size  all    1B       -
jetstream.keep.records int   all    1        -
"""
GROUP = """
ack_timeout        time   none      1ms      1h
retry.first        time   100ms     1ms      1h
retry.max          time   5s        1ms      1h
member_timeout     time   10s       1ms      1h
max_deliver        int    5         1        1000000
window             int    10000     1        1000000
"""
UNITS = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6,
         "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
STEM = {"time": "us", "size": "B"}  # the unit in which bounds are crossed


def rows(text):
    """The rows of such a table, as lists of words."""
    return [line.split() for line in text.split("\n") if line]


def amount(bound):
    """A bound as a number of the smallest unit."""
    digits, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", bound).groups()
    return int(digits) * UNITS[unit] if unit else float(digits)


def written(kind, value):
    """A number of the smallest unit as Lua has it."""
    return '"%d%s"' % (value, STEM[kind]) if kind in STEM else repr(value)


def outside(kind, least, most):
    """Values just outside the bounds."""
    if kind == "number":
        yield {"above_0": "0", "0": "-1e-9"}[least]
        yield {"1": "1.000001", "below_1": "1"}[most]
        yield from ("0/0", "1/0", "-1/0")
        return
    yield written(kind, int(amount(least)) - 1)
    if most != "-":
        yield written(kind, int(amount(most)) + 1)
    if kind == "int":
        yield from ("1.5", "0/0", "1/0", "-1/0")


def inside(kind, least, most):
    """The bounds themselves, and what is next to those that are none."""
    if kind == "number":
        return [{"above_0": "1e-9", "0": "0"}[least], {"1": "1", "below_1": "0.999999"}[most]]
    bounds = [least] if most == "-" else [least, most]
    return [written(kind, int(amount(bound))) for bound in bounds]


# What each store needs, around the options that are tried.
STORES = {"disk": "%s", "redis": 'url = "redis://localhost", %s',
          "jetstream": 'url = "nats://localhost", %s'}


def nested(option, value):
    """Options of a bus in which this one has that value."""
    first, *rest = option.split(".")
    inner = "%s = %s" % (rest[-1] if rest else first, value)
    if first == "sample":
        return "overflow = sample { %s }" % inner
    if first in STORES:
        return "store = %s { %s }" % (first, STORES[first] % (
            "keep = { records = 1, %s }" % inner
            if len(rest) > 1 and rest[-1] != "records" else
            "keep = { %s }" % inner if len(rest) > 1 else "keep = all, %s" % inner))
    return "%s = { %s }" % (first, inner) if rest else inner


def bus_with(option, value, number):
    """A line with a bus in which only that option is special."""
    return ('bus "b%d" { from = "g", %s }' % (number, nested(option, value)),
            "bus \"b%d\": option '%s':" % (number, option))


def group_with(option, value, number):
    """A line with a node that reads as such a group."""
    first, *rest = option.split(".")
    inner = "%s = { %s = %s }" % (first, rest[0], value) if rest else "%s = %s" % (first,
                                                                                   value)
    return ('sink.null "n%d" { from = group "x%d" { of = "events", %s } }'
            % (number, number, inner),
            "sink.null \"n%d\": option 'group.%s':" % (number, option))


BEGIN = ['source.generate "g" { count = 1 }',
         'bus "events" { from = "g", store = disk { keep = all } }']


def told_of(bench, lines):
    """{number of the line: what is told of it}."""
    run = bench.check("\n".join(BEGIN + lines))
    told = {}
    for line in run.err.splitlines():
        number, text = re.fullmatch(r"t\.lua:(\d+): (.*)", line).groups()
        told.setdefault(int(number), []).append(text)
    return told


def refusals(cases, write):
    """(lines, {number of the line: how its complaint begins}) for (option, value) pairs."""
    lines, starts = [], {}
    for number, (option, value) in enumerate(cases):
        line, start = write(option, value, number)
        lines.append(line)
        starts[len(BEGIN) + len(lines)] = start
    return lines, starts


def assert_refused(bench, cases, write):
    """Each is refused by its name, on its line, and for nothing else."""
    lines, starts = refusals(cases, write)
    told = told_of(bench, lines)
    assert len(starts) == len(cases) > 5
    for number, start in starts.items():
        about = [text for text in told.get(number, []) if "nobody reads" not in text]
        line = lines[number - len(BEGIN) - 1]
        assert len(about) == 1 and about[0].startswith(start), (line, about)


TABLES = [pytest.param(BUS, bus_with, id="bus"), pytest.param(GROUP, group_with, id="group")]


@pytest.mark.parametrize("table, write", TABLES)
def test_each_option_just_outside_its_range_is_refused_by_name(bench, table, write):
    assert_refused(bench, [(name, value) for name, kind, _, least, most in rows(table)
                           for value in outside(kind, least, most)], write)


@pytest.mark.parametrize("table, write", TABLES)
def test_a_bare_number_for_a_time_or_a_size_is_refused_by_name(bench, table, write):
    assert_refused(bench, [(name, value) for name, kind, *_ in rows(table) if kind in STEM
                           for value in ("5", '"5"', "0/0")], write)


@pytest.mark.parametrize("table, write", TABLES)
def test_the_bounds_themselves_are_taken(bench, table, write):
    lines, _ = refusals([(name, value) for name, kind, _, least, most in rows(table)
                         for value in inside(kind, least, most)], write)
    wrong = [text for texts in told_of(bench, lines).values() for text in texts
             if "out of range" in text or "expected" in text]
    assert not wrong, wrong


@pytest.mark.parametrize("table, heading", [(BUS, "bus"), (GROUP, "group")])
def test_the_reference_has_the_ranges_and_defaults(bench, table, heading):
    text = bench.weir("reference").out
    section = text[text.index("### %s\n" % heading):]
    shown = dict(re.findall(r"^`([\w.]+)` \| (.*)$", section.split("\n### ")[0], re.M))
    for name, kind, default, least, most in rows(table):
        cells = [cell.strip() for cell in shown[name].replace("\\|", "/").split("|")]
        bounds = "%s..%s" % (least, "" if most == "-" else most)
        assert cells[0].split(" /")[0] == kind, (name, cells)
        assert cells[1:3] == [default, bounds.replace("_", " ")], (name, cells)


# Options of a bus, and the option that is at fault.
WRONG = {
    "a target above the most": ("batch = { min_records = 65, max_records = 64 }",
                                "batch.min_records", "batch.max_records"),
    "the least target above the most": ("batch = { max_records = 63 }",
                                        "batch.min_records", ""),
    "a first wait above the longest": ('retry = { first = "31s" }', "retry.first",
                                       "retry.max"),
    "a first map above the largest": ('store = disk { keep = all, map = "2GB", '
                                      'map_max = "1GB" }', "disk.map", "disk.map_max"),
    "fewer shards than the fewest": ("shards = 2, scale = { min = 3 }", "scale.min",
                                     "shards"),
    "more shards than the most": ("shards = 3, scale = { max = 2 }", "scale.max", "shards"),
    "more shards than vnodes": ("shards = 3, vnodes = 2", "shards", "vnodes"),
    "the most shards above vnodes": ("shards = 1, vnodes = 2, scale = { max = 3 }",
                                     "scale.max", "vnodes"),
    "an idle fill that is the fill": ("scale = { fill = 0.1, idle_fill = 0.1 }",
                                      "scale.idle_fill", "scale.fill"),
    "a table without bounds": ("store = disk { keep = { hold = true } }", "disk.keep",
                               "at least one"),
    "bounds that are none": ("store = disk { keep = { age = all } }", "disk.keep",
                             "at least one"),
    "keep that is a number": ("store = disk { keep = 3 }", "disk.keep", "table | all"),
    "hold with no store": ("keep = { hold = true }", "keep", "unknown"),
    "the disk's options without disk": ("disk = { keep = all }", "disk",
                                        "store = disk { .. }"),
    "one_in without sample": ("sample = { one_in = 3 }", "sample",
                              "overflow = sample { .. }"),
    "redis without a url": ("store = redis { keep = all }", "redis.url", "required"),
    "jetstream without a url": ("store = jetstream { keep = all }", "jetstream.url",
                                "required"),
    "a url that is none": ('store = redis { url = "x" }', "redis.url", "redis://"),
    "another url that is none": ('store = jetstream { url = "x" }', "jetstream.url",
                                 "nats://"),
    "a server elsewhere": ('store = redis { url = "redis://192.0.2.1" }', "redis.url",
                           "plaintext"),
    "another one elsewhere": ('store = jetstream { url = "nats://192.0.2.1" }',
                              "jetstream.url", "plaintext"),
    "one of several elsewhere": ('store = jetstream { url = '
                                 '"nats://localhost,nats://192.0.2.1" }',
                                 "jetstream.url", "plaintext"),
    "keep.hold with redis": ('store = redis { url = "redis://localhost", '
                             'keep = { records = 1, hold = true } }', "redis.keep.hold",
                             "unknown"),
    "keep.hold with jetstream": ('store = jetstream { url = "nats://localhost", '
                                 'keep = { records = 1, hold = true } }',
                                 "jetstream.keep.hold", "unknown"),
    "keep.age with redis": ('store = redis { url = "redis://localhost", '
                            'keep = { age = "1h", records = 1 } }', "redis.keep.age",
                            "unknown option 'redis.keep.age' (did you mean 'redis.keep'?)"),
    "the last of many options": ('plaintxt = true', "plaintxt", "did you mean 'plaintext'?"),
    "keep.bytes with redis": ('store = redis { url = "redis://localhost", '
                              'keep = { bytes = "1GB", records = 1 } }', "redis.keep.bytes",
                             "unknown"),
    "redis keeps by a table without bounds": (
        'store = redis { url = "redis://localhost", keep = { } }', "redis.keep",
        "is all, or { records = N }"),
    "jetstream keeps by a table without bounds": (
        'store = jetstream { url = "nats://localhost", keep = { age = all } }',
        "jetstream.keep", "at least one"),
    "redis's options without redis": ('redis = { url = "redis://localhost" }', "redis",
                                      "store = redis { .. }"),
    "a near name of redis's": ('store = redis { url = "redis://localhost", windw = 3 }',
                               "redis.windw", "did you mean 'redis.window'?"),
    "tls with redis": ('store = redis { url = "rediss://localhost" }', "redis.url",
                       "TLS"),
    "a prefix that no stream can have": ('store = jetstream { url = "nats://localhost", '
                                         'prefix = "a.b" }', "jetstream.prefix",
                                         "letters"),
    "more replicas than a cluster has": ('store = jetstream { url = "nats://localhost", '
                                         'replicas = 6 }', "jetstream.replicas", "1..5"),
    "a word in quotes": ('overflow = "drop_oldest"', "overflow", "without quotes"),
    "a word of another option": ("overflow = disk", "overflow", "sample"),
    "a key that is no path": ('key = "a..b"', "key", "column 3"),
    "a near name": ("shads = 3", "shads", "did you mean 'shards'?"),
    "a near name in a table": ("batch = { max_record = 3 }", "batch.max_record",
                               "did you mean 'batch.max_records'?"),
    "a near name of a table": ("bacth = { max_records = 3 }", "bacth",
                               "did you mean 'batch'?"),
    "a near name of a word's table": ("store = disk { keep = all, mapmax = '1GB' }",
                                      "disk.mapmax", "did you mean 'disk.map_max'?"),
    "a near name below it": ("store = disk { keep = { ages = '1h', records = 1 } }",
                             "disk.keep.ages", "did you mean 'disk.keep.age'?"),
}


@pytest.mark.parametrize("options, fault, text", WRONG.values(), ids=WRONG.keys())
def test_each_combination_is_refused_by_name(bench, options, fault, text):
    told = bench.refused("\n".join(BEGIN + [
        'bus "b" { from = "g", %s }' % options, 'sink.null "n" { from = "b" }']))
    assert len([line for line in told if "option 'group" not in line]) == 1, told
    assert told[0].startswith("t.lua:3: bus \"b\": ") and "'%s'" % fault in told[0], told
    assert text in told[0], told


@pytest.mark.parametrize("options, told", [
    ("store = disk", (4, "option 'disk.keep' is required")),
    ("store = disk { }", (4, "option 'disk.keep' is required")),
    ("overflow = sample", (4, "option 'sample.one_in' is required")),
])
def test_what_a_word_needs_is_told_on_its_line(bench, options, told):
    lines = bench.refused('source.generate "g" { count = 1 }\nbus "b" {\n from = "g",\n %s }\n'
                          'sink.null "n" { from = "b" }' % options)
    assert len(lines) == 1 and lines[0].startswith("t.lua:%d: bus \"b\": %s" % told), lines


def test_nested_options_are_told_on_their_own_lines(bench):
    lines = bench.refused("""source.generate "g" { count = 1 }
bus "b" {
  from = "g",
  batch = {
    min_records = 0,
  },
  store = disk {
    map = "2TB",
    keep = {
      age = 5,
      records = 0,
    },
  },
  overflow = sample {
    one_in = 0,
  },
}
sink.null "n" {
  from = { group "x" {
    of = "b",
    window = 0,
  } },
}
""")
    got = {int(line.split(":")[1]): line for line in lines}
    assert sorted(got) == [5, 8, 10, 11, 15, 21], lines
    for line, option in {5: "batch.min_records", 8: "disk.map", 10: "disk.keep.age",
                         11: "disk.keep.records", 15: "sample.one_in",
                         21: "group.window"}.items():
        assert "option '%s':" % option in got[line], got[line]


# --- Who reads what -----------------------------------------------------------------

MORE = BEGIN + ['bus "memory" { from = "g" }', 'sink.null "m" { from = "memory" }']

INPUTS = {
    "a group of nothing": ('group "x" { of = "event" }',
                           "option 'group.of': 'event' is unknown (did you mean 'events'?)"),
    "a group of a node": ('group "x" { of = "g" }', "option 'group.of': 'g' is no bus"),
    "a group of a bus without store": ('group "x" { of = "memory" }',
                                       "option 'group.of': 'memory' has no store"),
    "a group without a bus": ('group "x" { }', "option 'group.of' is required"),
    "a number for the bus": ('group "x" { of = 3 }', "option 'group.of': expected text"),
    "an unknown option": ('group "x" { of = "events", strat = "end" }',
                          "unknown option 'group.strat' (did you mean 'group.start'?)"),
    "from in a group": ('group "x" { of = "events", from = "g" }',
                        "unknown option 'group.from'"),
    "a bad start": ('group "x" { of = "events", start = "yesterday" }',
                    "option 'group.start': 'yesterday' is not start"),
    "a day that is none": ('group "x" { of = "events", start = "2026-02-30T00:00:00Z" }',
                           "option 'group.start'"),
    "a time without zone": ('group "x" { of = "events", start = "2026-01-31T08:00:00" }',
                            "option 'group.start'"),
    "a first wait above the longest": (
        'group "x" { of = "events", retry = { first = "6s" } }',
        "option 'group.retry.first': is more than retry.max"),
    "a bad name": ('group "x y" { of = "events" }', "a group's name has"),
    "a bus twice": ('{ "events", "events" }', "it reads twice from 'events'"),
    "a bus by name and by group": ('{ "events", group "x" { of = "events" } }',
                                   "it reads twice from 'events'"),
    "an outlet of a bus": ('"events.x"', "unknown outlet 'events.x'"),
}


@pytest.mark.parametrize("source, text", INPUTS.values(), ids=INPUTS.keys())
def test_each_wrong_input_is_told(bench, source, text):
    told = bench.refused("\n".join(MORE + ['sink.null "n" { from = %s }' % source]))
    assert len(told) == 1 and told[0].startswith('t.lua:5: sink.null "n": '), told
    assert text in told[0], told


def test_a_group_without_a_table_is_told(bench):
    told = bench.refused("\n".join(BEGIN + ['sink.null "n" { from = group "x" }']))
    assert 't.lua:3: group "x": the table of options is missing: group "x" { .. }' in told


@pytest.mark.parametrize("start", ["start", '"start"', '"end"', '"2026-01-31T08:00:00Z"',
                                   '"2026-01-31T08:00:00.250+02:00"'])
def test_each_start_is_taken(bench, start):
    run = bench.check("\n".join(MORE + [
        'sink.null "n" { from = group "x" { of = "events", start = %s } }' % start]))
    assert run.code == 0, run.err


def test_groups_of_one_name_have_the_same_options(bench):
    lines = [
        'sink.null "a" { from = group "x" { of = "events", window = 5 } }',
        'sink.null "b" { from = group "x" { of = "events", window = 5 } }',
        'bus "other" { from = "g", store = disk { keep = all } }',
        'sink.null "c" { from = group "x" { of = "other" } }',
    ]
    assert bench.check("\n".join(BEGIN + lines)).code == 0
    told = bench.refused("\n".join(BEGIN + lines + [
        'sink.null "d" { from = group "x" { of = "events", window = 6 } }',
        'sink.null "x" { from = "events" }']))
    assert told == [
        't.lua:%d: sink.null "%s": the group \'x\' of \'events\' has other options at '
        "t.lua:3" % at for at in ((7, "d"), (8, "x"))], told


def test_a_group_may_stand_in_a_local(bench):
    told = bench.refused("\n".join(BEGIN + [
        'local billing = group "billing" {', '  of = "events",', "  window = 0,", "}",
        'sink.null "n" { from = billing }']))
    assert told == ["t.lua:5: sink.null \"n\": option 'group.window': out of range "
                    "1..1000000"], told


def test_a_bus_without_store_needs_readers_and_others_none(bench):
    assert bench.check("\n".join(BEGIN)).code == 0
    told = bench.refused("\n".join(BEGIN + ['bus "m" { from = "g" }']))
    assert told == ["t.lua:3: bus \"m\": nobody reads from 'm'"], told


def test_nothing_reads_itself_through_a_store(bench):
    told = bench.refused('source.generate "g" { count = 1 }\n'
                         'bus "b" { from = {"g", "p"}, store = disk { keep = all } }\n'
                         'process "p" { from = "b" }')
    assert len(told) == 3 and all("cycle" in line for line in told), told


EXAMPLE = """
settings    { name = "web", state = "data" }
source.file "access" { path = "/var/log/nginx/*.log", framing = lines }
bus         "events" { from = "access", shards = 4, key = "ip", store = disk { keep = { age = "7d" } } }
process     "parse"  {
  from = "events", workers = 2, where = "not $raw ~ 'healthz'",
  each = function (r)
    local f = clf (raw (r))
    if not f then return dead "no match" end
    f.kib = (f.bytes or 0) // 1024
    return f
  end,
  outlets = { errors = "status >= 500", rest = otherwise },
}
sink.file   "bad"    { from = "parse.errors", path = "errors.ndjson" }
sink.file   "good"   { from = "parse.rest",   path = "{host}/%Y-%m-%d.ndjson" }
bus "sampled" {
  from = "access", key = "ip", batch = { max_delay = "5ms" }, overflow = sample { one_in = 10 },
  store = disk { keep = { age = "7d", bytes = "100GB" } },
}
sink.null "billing" { from = { "parse.rest", group "invoices" { of = "sampled", start = "end" } } }
"""


def test_the_examples_pass_and_are_drawn(bench):
    run = bench.check(EXAMPLE)
    assert run.code == 0 and run.err == "", run.err
    assert "7 nodes, 7 links" in run.out, run.out
    graph = bench.weir("graph", "t.lua").out
    assert " -> events (bus)\n     -> parse (process)\n" in graph, graph
    assert " -> sampled (bus)\n     -> billing (sink.null)" in graph, graph
    dot = bench.weir("graph", "--dot", "t.lua").out
    assert '"events" -> "parse" [style=dashed];' in dot and ">parse" not in dot, dot
    assert not bench.path("data").exists(), "a check makes nothing"


def test_words_of_a_bus_are_words_in_the_functions_too(bench):
    """The file is loaded once more in each worker."""
    run = bench.run('source.generate "g" { count = 1000 }\n'
                    'local reads = group "x" { of = "b" }\n'
                    'bus "b" { from = "g", overflow = sample { one_in = 2 },\n'
                    "  store = disk { keep = all } }\n"
                    'process "p" { from = "g", each = function (r)\n'
                    '  local fail, block = 1, 2\n  return { sum = fail + block }\nend }\n'
                    'sink.file "s" { from = "p", path = "out.ndjson" }')
    assert [row["sum"] for row in objects(bench.path("out.ndjson"))] == [3] * 1000, run.err


def test_readers_by_name_and_by_group_get_all(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(5000)])
    bench.run("""
source.file "in" { path = "in.ndjson", at_end = stop }
bus "b" { from = "in", shards = 3, store = disk { keep = all } }
sink.file "all" { from = "b", path = "all.ndjson" }
local shared = group "shared" { of = "b", start = start }
sink.file "one" { from = shared, path = "shared.ndjson" }
sink.file "late" { from = { "in", group "late" { of = "b", start = "end" } }, path = "late.ndjson" }
""", "--until-idle")
    for name in ("all", "shared"):
        got = sorted(row["n"] for row in objects(bench.path(name + ".ndjson")))
        assert got == list(range(5000)), name
    assert count_rows(bench.path("late.ndjson")) >= 5000


def test_other_vnodes_than_in_the_state_are_refused_by_name(bench):
    text = ('source.generate "g" { count = 1 }\n'
            'bus "b" { from = "g", shards = 1, vnodes = %d, store = disk { keep = all } }')
    bench.run(text % 8)
    run = bench.weir("run", bench.topology(text % 9))
    assert run.code == 1 and "vnodes" in run.err and "8" in run.err, run.err
