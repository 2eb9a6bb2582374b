"""Broken topologies: `weir check` tells everything that is wrong, and where.

Each case is a topology and the lines that must be told: number, and texts in it. The
lines are told completely: one that is not expected is a failure, too.
"""
import json
import re

import pytest

# A good pair of nodes in the first two lines, for cases about a third one.
PAIR = 'source.generate "g" { count = 1 }\nsink.null "n" { from = "g" }\n'
TAIL = '\nsink.null "m" { from = "p" }'


def process(options):
    """The pair, a process with these options from line 3 on, and a reader."""
    return PAIR + 'process "p" { from = "g",\n' + options + "}" + TAIL


def source(options):
    """The pair, a source with these options from line 4 on, and a reader."""
    return PAIR + 'source.file "p" {\n' + options + "}" + TAIL


LATER = "it comes with a later one"

CASES = {
    # unknown words and options, with the nearest name and the option's own line
    "an unknown option": (source('path = "x",\n pth = "y"'),
                          [(5, 'source.file "p": unknown option \'pth\'',
                            "did you mean 'path'?")]),
    "a required option": (source("at_end = stop"),
                          [(3, 'source.file "p"', "'path' is required")]),
    "an unknown option far from all": (process("frobnicate = 1"),
                                       [(4, "unknown option 'frobnicate'")]),
    "an unknown nested option": (source('path = "x",\n rate = {\n records = 1,\n burts ='
                                        ' "1s" }'),
                                 [(7, "'rate.burts'", "did you mean 'rate.burst'?")]),
    "an unknown option of a word": (source('path = "x",\n framing = lines {\n  mux = "1MB"'
                                           ' }'), [(6, "'lines.mux'", "'lines.max'")]),
    "options of a word that has none": (source('path = "x", framing = ndjson {max = 1}'),
                                        [(4, "'ndjson.max'")]),
    "an unknown option of settings": (PAIR + 'settings { nam = "x" }',
                                      [(3, "settings: unknown option 'nam'", "'name'")]),
    "an unknown source": (PAIR + 'source.fil "a" { path = "x" }',
                          [(3, "unknown word 'source.fil'", "'source.file'")]),
    "an unknown word": (PAIR + 'proces "a" { from = "g" }',
                        [(3, "unknown name 'proces'", "did you mean 'process'?")]),
    "a value without a name": (PAIR + 'settings { "x" }',
                               [(3, "settings", "write name = value")]),
    "an unknown field of a rule": (process('inbound = { {were = "x", action = drop} }'),
                                   [(4, "'inbound'", "`where` and `action`")]),
    # duplicates
    "an option given twice": ('source.generate "g" {\n count = 1,\n count = 2 }\n'
                              'sink.null "n" { from = "g" }',
                              [(3, 'source.generate "g": option \'count\' is given twice',
                                "first at line 2")]),
    "a nested option given twice": (source('path = "x", rate = {\n records = 1,\n'
                                           ' records = 2 }'),
                                    [(6, "'rate.records' is given twice", "line 5")]),
    "a name given twice": (PAIR + 'source.generate "g" { count = 1 }',
                           [(3, 'source.generate "g"', "taken by the node at t.lua:1")]),
    "settings given twice": (PAIR + 'settings { name = "a" }\nsettings { name = "b" }',
                             [(4, "settings: is given twice", "line 3")]),
    "an input given twice": (PAIR + 'sink.null "m" { from = {"g", "g"} }',
                             [(3, "reads twice from 'g'")]),
    # the graph
    "a dangling input": (PAIR + 'sink.null "m" { from = "nobody" }',
                         [(3, 'sink.null "m"', "unknown node 'nobody'")]),
    "no input": (PAIR + 'sink.null "m" { }', [(3, "reads nothing", "from")]),
    "an empty list of inputs": (PAIR + 'sink.null "m" { from = {} }',
                                [(3, "reads nothing")]),
    "a source that reads": (PAIR + 'source.generate "h" { count = 1,\n from = "g" }\n'
                            'sink.null "m" { from = "h" }', [(4, "a source reads from")]),
    "reading from a sink": (PAIR + 'sink.null "m" { from = "n" }',
                            [(3, "reads from a sink", "'n'")]),
    "nobody reads": (PAIR + 'source.generate "h" { count = 1 }',
                     [(3, "nobody reads from 'h'")]),
    "a cycle": (PAIR + 'process "a" { from = "b" }\nprocess "b" { from = "a" }',
                [(3, 'process "a"', "cycle"), (4, 'process "b"', "cycle")]),
    "a cycle of one": (PAIR + 'process "a" { from = "a" }', [(3, "cycle")]),
    "an unread outlet": (PAIR + 'process "p" { from = "g", outlets = { a = "x > 1",'
                         ' b = otherwise } }\nsink.null "m" { from = "p.a" }',
                         [(3, "nobody reads from 'p.b'")]),
    "an unknown outlet": (PAIR + 'process "p" { from = "g", outlets = { a = "x" } }\n'
                          'sink.null "m" { from = {"p.a", "p.c"} }',
                          [(4, "unknown outlet 'p.c'")]),
    "an outlet that is not named": (PAIR + 'process "p" { from = "g", outlets = { a = "x" '
                                    '} }\nsink.null "m" { from = "p" }',
                                    [(4, "name the outlet"), (3, "nobody reads")]),
    "an outlet of a node without": (PAIR + 'sink.null "m" { from = "g.x" }',
                                    [(3, "unknown outlet 'g.x'")]),
    "two otherwise": (PAIR + 'process "p" { from = "g", outlets = {\n a = otherwise,\n'
                      ' b = otherwise } }\nsink.null "m" { from = {"p.a", "p.b"} }',
                      [(5, "only one outlet")]),
    "from a number": (PAIR + 'sink.null "m" {\n from = 3 }',
                      [(4, "expected the name"), (3, "reads nothing")]),
    "no node": ("-- nothing", [(0, "declares no node")]),
    "a bad name": (PAIR + 'sink.null "a b" { from = "g" }', [(3, "a name has")]),
    "an empty name": (PAIR + 'sink.null "" { from = "g" }', [(3, "a name has")]),
    "a name with a dot": (PAIR + 'sink.null "a.b" { from = "g" }', [(3, "a name has")]),
    # types and ranges
    "text for an integer": (process('workers = "two"'),
                            [(4, "'workers': expected int | auto, got text")]),
    "below the range": (process("workers = 0"), [(4, "'workers'", "1..256")]),
    "above the range": (process("workers = 257"), [(4, "'workers'", "1..256")]),
    "a fraction": (process("workers = 1.5"), [(4, "'workers'", "fraction")]),
    "text for a boolean": (process('ordered = "yes"'), [(4, "'ordered'", "bool")]),
    "text for a function": (process('each = "r"'), [(4, "'each'", "function")]),
    "a number for text": (PAIR + "settings { name = 5 }", [(3, "'name'", "text")]),
    "a function for text": (source("path = function () end"), [(4, "'path'")]),
    "a table for text": (process("key = { 'a' }"), [(4, "'key'", "table")]),
    "text for a table": (source('path = "x", rate = "5"'), [(4, "'rate'", "table")]),
    "an empty list": (source("path = {}"), [(4, "'path'", "empty")]),
    "a list of numbers": (source("path = { 3 }"), [(4, "'path'", "list of texts")]),
    "infinity": (source('path = "x", rate = { records = 1e400 }'),
                 [(4, "'rate.records'", "out of range")]),
    "NaN": (source('path = "x", rate = { records = 0/0 }'),
            [(4, "'rate.records'", "out of range")]),
    "a bad field path": (process('key = "a..b"'), [(4, "'key'", "column 3")]),
    "a list of rules that is none": (process('inbound = { "x" }'), [(4, "'inbound'")]),
    "a rule without where": (process("inbound = { {action = drop} }"),
                             [(4, "'inbound'", "where")]),
    "a rule with another action": (process('inbound = { {where = "x", action = stop} }'),
                                   [(4, "'inbound'", "drop or dead")]),
    "an outlet that is no text": (PAIR + 'process "p" { from = "g", outlets = { a = 3 } }\n'
                                  'sink.null "m" { from = "p.a" }', [(3, "'outlets.a'")]),
    # times and sizes
    "a bare number for a time": (PAIR + "supervise { drain = 10 }",
                                 [(3, "'drain'", "time", "'10ms'")]),
    "a time without unit": (PAIR + 'supervise { drain = "10" }',
                            [(3, "'drain'", "needs a unit")]),
    "a time with a wrong unit": (PAIR + 'supervise { drain = "10 parsecs" }',
                                 [(3, "'drain'", "'10 parsecs' is no time")]),
    "a bare number for a size": (process("memory_limit = 64"),
                                 [(4, "'memory_limit'", "size", "'64MB'")]),
    "a size without unit": (process('memory_limit = "64"'),
                            [(4, "'memory_limit'", "needs a unit")]),
    "a negative size": (process('memory_limit = "-64MB"'), [(4, "'memory_limit'")]),
    "a size that overflows": (process('memory_limit = "99999999999TB"'),
                              [(4, "'memory_limit'")]),
    # words
    "a word as text": (process('on_error = "dead"'),
                       [(4, "'on_error'", "write dead without quotes")]),
    "the wrong word": (process("on_error = lines"),
                       [(4, "'on_error': expected drop | dead | stop", "word lines")]),
    "text for a word": (process('on_error = "die"'),
                        [(4, "'on_error': expected drop | dead | stop")]),
    "a word where none is": (process("workers = forever"), [(4, "'workers'", "forever")]),
    # what comes later
    "a store": (PAIR + 'store "b" { }', [(3, 'store "b"', LATER)]),
    "a source of later": (PAIR + 'source.http "h" { listen = "x" }',
                          [(3, 'source.http "h"', LATER)]),
    "a sink of later": (PAIR + 'sink.http "h" { from = "g" }',
                        [(3, 'sink.http "h"', LATER)]),
    "governor": (PAIR + "governor { }", [(3, "governor", LATER)]),
    "batch": (process("batch = function () end"), [(4, "'batch'", LATER)]),
    "tick": (process('every = "1s", tick = function () end'),
             [(4, "'every'", LATER), (4, "'tick'", LATER)]),
    # words without a table
    "the last node without table": ('sink.null "n" { from = "g" }\n'
                                    'local later = source.generate "g"',
                                    [(2, 'source.generate "g": the table of options is '
                                      "missing"), (1, "unknown node 'g'")]),
    "a node with a number": (PAIR + 'source.generate "h" (3)',
                             [(3, "expected a table of options, got number")]),
    "a node without name": (PAIR + "source.generate { count = 1 }",
                            [(3, "source.generate needs a name")]),
    "settings with text": (PAIR + 'settings "x"', [(3, "settings takes a table")]),
    # Lua
    "a syntax error": (PAIR + 'sink.null "m" { from = = "g" }', [(3, "near '='")]),
    "an unclosed table": (PAIR + 'sink.null "m" {\n\n', [(5, "near <eof>")]),
    "an unclosed text": (PAIR + 'local x = "', [(3, "unfinished string")]),
    "an unknown global": (process("each = function (r)\n r.a = jsn.decode 'x'\n return r"
                                  " end"), [(5, "unknown name 'jsn'", "'json'")]),
    "an unknown function": (PAIR + "local x = clff ('x')",
                            [(3, "unknown name 'clff'", "'clf'")]),
    "an error at the top level": (PAIR + "error 'no'", [(3, "no")]),
    "an error in an expression": (PAIR + "local x = nil + 1", [(3, "arithmetic")]),
    "an endless loop": (PAIR + "while true do end", [(3, "instruction limit")]),
    "endless memory": (PAIR + "local t = {} while true do t = {t} end",
                       [(3, "memory limit")]),
    "bytecode": (b"\x1bLua\x54\x00", [(0, "binary")]),
    "NUL": (PAIR + "\0", [(3, "")]),
    "a module that is not there": (PAIR + "require 'nothere'",
                                   [(3, "no module 'nothere'")]),
    "a module outside": (PAIR + "require '../x'", [(3, "module")]),
    # expressions (B49, B50)
    "x = 1": (process('where = "x = 1"'), [(4, "'where': column 3", "write '=='")]),
    "x ~= 1": (process('where = "x ~= 1"'), [(4, "'where': column 3", "write '!='")]),
    "a word for an operator": (process("where = \"x startswith 'a'\""),
                               [(4, "column 3", "did you mean 'prefix'?")]),
    "an unclosed parenthesis": (process('where = "(x == 1"'), [(4, "')' is missing")]),
    "a bad regex": (process("where = \"x ~ '('\""), [(4, "'where'", "parenthesis")]),
    "65 levels": (process('where = "%sx%s"' % ("(" * 65, ")" * 65)), [(4, "'where'")]),
    "4097 bytes": (process('where = "x == \'%s\'"' % ("x" * 4097)), [(4, "'where'")]),
    "$shard": (process('where = "$shard == 1"'), [(4, "$shard", "store")]),
    "an unknown $name": (process('where = "$kye == 1"'), [(4, "'$key'")]),
    "an outlet's expression": (PAIR + 'process "p" { from = "g", outlets = {\n a = "x = 1"'
                               ' } }\nsink.null "m" { from = "p.a" }',
                               [(4, "'outlets.a': column 3")]),
    "a rule's expression": (process('inbound = {\n {where = "x", action = drop},\n'
                                    ' {where = "x =", action = drop} }'),
                            [(6, "'inbound.2.where': column 3")]),
}

@pytest.mark.parametrize("text, expected", CASES.values(), ids=CASES.keys())
def test_every_mistake_is_told_with_its_line(bench, text, expected):
    bench.write("t.lua", text)
    run = bench.weir("check", "t.lua")
    assert run.code == 2 and run.out == "", (run.code, run.out, run.err)
    lines = run.err.splitlines()
    assert len(lines) == len(expected), lines
    for line, *texts in expected:
        start = "t.lua:%d: " % line if line else "t.lua: "
        assert any(told.startswith(start) and all(part in told for part in texts)
                   for told in lines), (start, texts, lines)
    again = bench.weir("run", "t.lua")
    assert again.code == 2 and again.err == run.err
    assert not bench.state.exists(), "nothing is started, and nothing made"


# What each node needs beside the option that is looked at.
NEEDS = {
    "source.file": 'path = "x"', "process": "each = function (r) return r end",
    "sink.file": 'path = "x"', "source.link": 'listen = "ipc://x"',
    "sink.link": 'connect = "ipc://x"', "source.bus": 'bus = "a/b"',
    "source.zmq": 'type = pull, connect = "ipc://x"',
    "sink.zmq": 'type = push, connect = "ipc://x"',
    "source.redis": 'url = "redis://127.0.0.1", stream = "x"',
    "sink.redis": 'url = "redis://127.0.0.1", stream = "x"',
    "source.jetstream": 'url = "nats://127.0.0.1", stream = "x"',
    "sink.jetstream": 'url = "nats://127.0.0.1", subject = "x"',
}
STORES = {"disk": "keep = all", "redis": 'url = "redis://127.0.0.1"',
          "jetstream": 'url = "nats://127.0.0.1"'}


def options_of_nodes(bench):
    """(node, option without dots), as the reference has them."""
    node = None
    for line in bench.weir("reference").out.splitlines():
        if line.startswith("##"):
            node = line[4:] if re.match(r"### (source|sink|process|bus)\b", line) else None
        option = node and re.match(r"`([a-z_.]+)` \| ", line)
        if option:
            yield node, option[1]


def with_value(node, option, value):
    """The table of a node whose options are those it needs, but for this one."""
    word, _, rest = option.partition(".")
    needs = dict(part.split(" = ", 1) for part in
                 re.split(r", (?=[a-z]+ = )", NEEDS.get(node, "")) if part)
    while rest and word not in STORES:
        word, _, more = rest.partition(".")
        value, rest = "{ %s = %s }" % (word, value), more
        word = option.partition(".")[0]
    if rest:
        store = dict([STORES[word].split(" = ", 1)])
        store[rest.partition(".")[0]] = value
        word, value = "store", "%s { %s }" % (word, ", ".join(
            "%s = %s" % item for item in store.items()))
    needs[word] = value
    if node.startswith(("sink", "process", "bus")):
        needs.setdefault("from", '"g"')
    return "{ %s }" % ", ".join("%s = %s" % item for item in needs.items())


@pytest.mark.parametrize("value", ["{}", '{ "x" }', "{ {} }", "{ a = 1 }", "7", '""',
                                   "true", "function () end", "drop"])
def test_no_value_of_an_option_ends_the_check(bench, value):
    """All mistakes are told, whatever stands there."""
    nodes = ['%s "n%d" %s' % (node, n, with_value(node, option, value))
             for n, (node, option) in enumerate(options_of_nodes(bench))]
    assert len(nodes) > 200
    bench.write("t.lua", PAIR + "\n".join(nodes) + "\n")
    run = bench.weir("check", "t.lua")
    assert run.code == 2, (run.code, run.err[-300:])


def test_a_wrong_value_is_told_once(bench):
    lines = bench.refused('source.stdin "in" {}\n'
                          'sink.redis "a" { from = "in", url = { "x" }, stream = "x" }\n'
                          'bus "b" { from = "in", store = redis { url = 7 } }\n')
    assert [line.split(": ")[2] for line in lines] == ["option 'url'",
                                                       "option 'redis.url'"], lines


def test_a_node_without_table_is_told(bench):
    lines = bench.refused('source.generate "g" { count = 1 }\nsink.null "m"\n')
    assert lines == ['t.lua:2: sink.null "m": the table of options is missing: '
                     'sink.null "m" { .. }'] + lines[1:], lines


def test_all_errors_are_told_at_once(bench):
    lines = bench.refused("""
source.file "a" {
  pth = "x",
  path = "x",
  framing = "lines",
  rate = {
    records = "many",
    bytes = 5,
  },
}
proces "gone" { from = "a" }
process "p" {
  from = "b",
  workers = 0,
  where = "x = 1",
  on_error = "die",
  each = function (r)
    return jsn.encode (r)
  end,
  workers = 300,
}
source.fil "f" { }
store "later" { }
sink.file "s" {
  from = "p",
  fsync = 5,
}
supervise { drain = 10 }
""")
    got = {int(line.split(":")[1]) for line in lines}
    assert got >= {3, 5, 7, 8, 11, 12, 15, 16, 18, 20, 22, 23, 24, 26, 28}, lines
    assert all(line.startswith("t.lua:") for line in lines)
    assert len(lines) == len(set(lines)), lines


def test_errors_come_as_json(bench):
    run = bench.check(PAIR + 'sink.null "m" { from = "x\\"y" }', "--json")
    assert run.code == 2 and run.err == ""
    told = json.loads(run.out)
    assert told[0]["where"] == "t.lua:3" and 'x"y' in told[0]["text"]
    good = bench.check(PAIR, "--json")
    assert good.code == 0 and json.loads(good.out) == []


def test_what_is_good_is_said_so(bench):
    run = bench.check(PAIR)
    assert run.code == 0 and run.err == "" and "2 nodes, 1 link, " in run.out


def test_errors_name_the_file_as_it_was_given(bench):
    bench.write("sub/x.lua", PAIR + 'sink.null "m" { }')
    run = bench.weir("check", "sub/x.lua")
    assert run.code == 2 and run.err.startswith("sub/x.lua:3: ")
    run = bench.weir("check", bench.path("sub/x.lua"))
    assert run.err.startswith("%s:3: " % bench.path("sub/x.lua"))


@pytest.mark.parametrize("words, said", [
    (["rnu", "t.lua"], "did you mean 'run'?"), (["run"], "FILE is missing"),
    (["run", "a", "b"], "too much"), (["run", "--fro", "1s", "t.lua"], "'--for'"),
    (["run", "--for"], "needs a value"), (["run", "--for", "5", "t.lua"], "unit"),
    (["check", "--for", "5s", "t.lua"], "unknown option"),
    (["run", "nothere.lua"], "cannot read"), (["check", "."], "cannot read"),
    (["audit", "nothere"], "no weir named"), (["check", "--set", "x=1", "t.lua"], "--set x"),
])
def test_a_wrong_command_line_is_2(bench, words, said):
    bench.topology(PAIR)
    run = bench.weir(*words)
    assert run.code == 2 and said in run.err, (run.code, run.err)


def test_help_is_there_for_all_commands(bench):
    top = bench.weir("--help")
    assert top.code == 0
    for command in ("run", "check", "graph", "audit", "version"):
        assert command in top.out
        run = bench.weir(command, "--help")
        assert run.code == 0 and run.out.startswith("usage: weir " + command)
    assert bench.weir().code == 2


def test_a_graph_is_drawn(bench):
    text = ('source.generate "g" { count = 1 }\nprocess "p" { from = "g", outlets = '
            '{ bad = "status >= 500", rest = otherwise } }\n'
            'sink.null "a" { from = "p.bad" }\nsink.null "b" { from = {"p.rest", "p.bad"} }')
    bench.topology(text)
    plain = bench.weir("graph", "t.lua")
    assert plain.code == 0
    for part in ("g (source.generate)", "p (process)", "bad -> a", "rest -> b"):
        assert part in plain.out, plain.out
    dot = bench.weir("graph", "--dot", "t.lua")
    assert dot.out.startswith('digraph "t"') and '"p" -> "a" [label="bad"]' in dot.out
    broken = bench.weir("graph", "--dot", bench.write("x.lua", "x"))
    assert broken.code == 2 and broken.out == ""


def test_a_file_that_is_not_there_or_too_large_is_told(bench):
    with open(bench.path("big.lua"), "wb") as file:
        file.truncate(17 << 20)
    run = bench.weir("check", "big.lua")
    assert run.code == 2 and "16MB" in run.err


def test_deep_nesting_ends(bench):
    lines = bench.refused(PAIR + "local x = " + "{" * 5000 + "}" * 5000)
    assert len(lines) == 1 and lines[0].startswith("t.lua"), lines
