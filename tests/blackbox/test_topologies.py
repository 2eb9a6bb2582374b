"""Topologies as a user writes them: what comes out is judged by check_access.py, which
knows nothing of Weir. Every run is audited by the helper."""
import collections
import json
import re

import check_access
import crash
import hard_values
import pytest
from helper import objects, rows, wait_for

IN = 'source.file "in" { path = "in.ndjson", at_end = stop }\n'
PASS = IN + 'process "p" { from = "in", each = function (r) %s end }\n' \
            'sink.file "out" { from = "p", path = "out.ndjson" }'


def each(bench, body, records, code=0, options="", **more):
    """What a function makes of records, as JSON documents."""
    bench.write("in.ndjson", records)
    bench.run(IN + 'process "p" { from = "in", %s each = function (r)\n%s\nend }\n'
              'sink.file "out" { from = "p", path = "out.ndjson" }' % (options, body),
              code=code, **more)
    return objects(bench.path("out.ndjson"))


# --- the real log ---------------------------------------------------------------------

def test_the_real_log_comes_through_two_workers(bench, access):
    done = bench.run("""
source.file "access" { path = "%s", at_end = stop }
process     "parse"  {
  from = "access", workers = 2, key = "ip",
  each = function (r)
    r.kib = (r.bytes or 0) // 1024
    return r
  end,
}
sink.file "good" { from = "parse", path = "good.ndjson" }""" % access)
    out = bench.path("good.ndjson")
    assert check_access.check_access(access, [out], extra=["kib"]) == []
    assert all(r["kib"] == (r["bytes"] or 0) // 1024 for r in objects(out))
    assert done.node("access")["in"] == done.node("good")["done"] == 9999


def test_the_real_log_is_split_by_outlets(bench, access):
    bench.run("""
source.file "access" { path = "%s", at_end = stop }
process     "parse"  {
  from = "access", workers = 2, key = "ip", each = function (r) return r end,
  outlets = { errors = "status >= 400", rest = otherwise },
}
sink.file "bad"  { from = "parse.errors", path = "bad.ndjson" }
sink.file "good" { from = "parse.rest", path = "good.ndjson" }""" % access)
    bad, good = bench.path("bad.ndjson"), bench.path("good.ndjson")
    assert check_access.check_access(access, [bad, good]) == []
    assert all(r["status"] >= 400 for r in objects(bad))
    assert all(r["status"] < 400 for r in objects(good))


def test_the_real_log_unchanged_is_the_same_file(bench, access):
    bench.run("""
source.file "access" { path = "%s", at_end = stop }
sink.file "out" { from = "access", path = "out.ndjson" }""" % access)
    assert bench.path("out.ndjson").read_bytes() == access.read_bytes()


def test_the_real_log_keeps_all_order_when_ordered(bench, access):
    bench.run("""
source.file "access" { path = "%s", at_end = stop }
process "p" { from = "access", workers = 2, ordered = true, each = function (r) return r end }
sink.file "out" { from = "p", path = "out.ndjson" }""" % access)
    assert bench.path("out.ndjson").read_bytes() == access.read_bytes()


def test_the_real_log_as_lines_is_parsed_by_clf(bench, access):
    text = []
    for r in objects(access):
        quote = lambda s: "-" if s is None else s.replace("\\", "\\\\").replace('"', '\\"')
        text.append('%s - %s [17/May/2015:10:05:03 +0000] "%s %s HTTP/1.1" %d %s "%s" "%s"'
                    % (r["ip"], r["user"] or "-", r["method"], quote(r["path"]),
                       r["status"], "-" if r["bytes"] is None else r["bytes"],
                       quote(r["referrer"]), quote(r["agent"])))
    bench.write("access.log", text)
    bench.run("""
source.file "access" { path = "access.log", framing = lines, at_end = stop }
process "parse" { from = "access", workers = 2, each = function (r)
  local f, why = clf (raw (r))
  if not f then return dead (why) end
  return f
end }
sink.file "out" { from = "parse", path = "out.ndjson" }""")
    got = objects(bench.path("out.ndjson"))
    key = lambda r: (r["ip"], r["status"], r.get("bytes"), r.get("path"))
    assert collections.Counter(map(key, got)) == \
        collections.Counter(map(key, objects(access)))
    assert {r["ts"] for r in got} == {1431857103000}


def test_a_count_in_python_agrees_with_where(bench, access):
    bench.run("""
source.file "access" { path = "%s", at_end = stop }
sink.file "a" { from = "access", path = "a", where = "status in (404, 500)" }
sink.file "b" { from = "access", path = "b", where = [[path ~ '^/blog/.*\\\\.html$']] }
sink.file "c" { from = "access", path = "c", where = "bytes > 100000 and user == null" }
sink.file "d" { from = "access", path = "d", where = "not agent contains 'bot'" }
""" % access)
    want = [[], [], [], []]
    for r in objects(access):
        path, agent = r["path"], r["agent"]
        want[0] += [r] if r["status"] in (404, 500) else []
        want[1] += [r] if re.search(r"^/blog/.*\.html$", path) else []
        want[2] += [r] if (r["bytes"] or 0) > 100000 and r["user"] is None else []
        want[3] += [r] if agent is None or "bot" not in agent else []
    for name, records in zip("abcd", want):
        assert objects(bench.path(name)) == records, name


# --- values ---------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [1, 2])
def test_hard_values_come_out_byte_for_byte(bench, workers):
    hard_values.write(bench.path("in.ndjson"))
    bench.run(IN + """
process "whole"  { from = "in" }
process "looks"  { from = "in", workers = %d, ordered = true, each = function (r)
  local x = r.value
  return r
end }
process "filter" { from = "in", where = "has id" }
sink.file "a" { from = "whole", path = "a" }
sink.file "b" { from = "looks", path = "b" }
sink.file "c" { from = "filter", path = "c" }""" % workers)
    whole = bench.path("in.ndjson").read_bytes()
    trimmed = b"".join(line.strip() + b"\n" for line in whole.split(b"\n")[:-1])
    for name in "abc":
        assert bench.path(name).read_bytes() == trimmed, name


def test_a_write_changes_one_field_and_no_other_byte(bench):
    hard_values.write(bench.path("in.ndjson"))
    bench.run(PASS % "r.kind = 'K' return r")
    before, after = rows(bench.path("in.ndjson")), rows(bench.path("out.ndjson"))
    assert len(before) == len(after)
    for old, new in zip(before, after):
        kind = json.loads(old)["kind"].encode()
        at = old.index(b'"' + kind + b'"', old.index(b'"kind"') + 6)
        assert new == old[:at] + b'"K"' + old[at + len(kind) + 2:], (old, new)


def test_a_new_field_leaves_all_others_byte_for_byte(bench):
    hard_values.write(bench.path("in.ndjson"))
    bench.run(PASS % "r.new = 1 return r")
    assert check_access.check_by_key(bench.path("in.ndjson"), [bench.path("out.ndjson")],
                                     extra=["new"], ordered=True, text=True) == []
    for old, new in zip(rows(bench.path("in.ndjson")), rows(bench.path("out.ndjson"))):
        inside = old.rstrip()[:-1].rstrip()
        assert new.startswith(inside), (old, new)
        assert new[len(inside):].replace(b" ", b"") == b',"new":1}', (old, new)


def test_values_that_lua_reads_and_writes_again_are_the_same(bench):
    hard_values.write(bench.path("in.ndjson"))
    bench.run(PASS % "r.copy = r.value return r")
    for record in (check_access.parse(line.decode()) for line in
                   rows(bench.path("out.ndjson"))):
        if "copy" in record:
            assert check_access.same(record["value"], record["copy"]), record
        else:
            assert record["value"] is None


def test_large_integers_stay_exact_in_lua(bench):
    big = [2**64 - 1, 2**63, 2**63 - 1, -2**63, 2**53 + 1]
    got = each(bench, "return {text = tostring (r.n), n = r.n, one = r.n > 1}",
               [{"n": n} for n in big])
    assert [r["n"] for r in got] == big and [r["text"] for r in got] == list(map(str, big))
    assert [r["one"] for r in got] == [True, True, True, False, True]


def test_null_false_and_empty_stay_distinct(bench):
    record = {"null": None, "no": False, "list": [], "map": {}, "text": ""}
    got = each(bench, "return r, {a = r.null == nil, b = r.no == false, n = null,"
                      " l = array {}, m = map {}, e = {}}", [record])
    assert got == [record, {"a": True, "b": True, "n": None, "l": [], "m": {}, "e": {}}]


def test_pairs_walks_the_fields_in_their_order(bench):
    got = each(bench, "local k = {} for n, v in pairs (r) do k[#k + 1] = n .. '=' .."
                      " tostring (v) end return {k = k}", ['{"z":1,"a":null,"m":"x"}'])
    assert got == [{"k": ["z=1", "a=null", "m=x"]}]


def test_nested_values_are_writable(bench):
    got = each(bench, "r.a.b.c = r.list[2] r.list[1] = 'new' r.a.gone = nil"
                      " r.a.empty = null return r",
               [{"a": {"b": {"c": 1}, "gone": 2, "stays": 3}, "list": [10, 20]}])
    assert got == [{"a": {"b": {"c": 20}, "stays": 3, "empty": None}, "list": ["new", 20]}]


# --- results --------------------------------------------------------------------------

def test_several_results_are_several_records(bench):
    got = each(bench, "return r, {n = r.n * 10}, record ({n = r.n * 100})",
               [{"n": 1}, {"n": 2}])
    assert [r["n"] for r in got] == [1, 10, 100, 2, 20, 200]


def test_e15_nil_and_drop_drop_and_nothing_is_an_error(bench):
    got = each(bench, """
if r.n == 1 then return nil end
if r.n == 2 then return drop end
if r.n == 3 then return end
if r.n == 4 then return nil, r, drop end
if r.n == 5 then emit (r) return end
return r""", [{"n": n} for n in range(1, 7)], code=3)
    assert [r["n"] for r in got] == [4, 5, 6]
    letters = bench.dead()
    assert [x["payload"]["n"] for x in letters] == [3]
    assert letters[0]["reason"] == "function" and "returned nothing" in letters[0]["error"]
    report = bench.report()["nodes"][1]
    assert (report["dropped"], report["dead"], report["done"]) == (2, 1, 3)


def test_dead_says_why(bench):
    got = each(bench, "if r.n == 1 then return dead 'no match' end return r",
               [{"n": 1}, {"n": 2}], code=3)
    assert [r["n"] for r in got] == [2]
    letter, = bench.dead()
    assert (letter["reason"], letter["error"], letter["node"], letter["source"]) == \
        ("function", "no match", "p", "in")
    assert letter["payload"] == {"n": 1}


def test_emit_and_return_come_in_order(bench):
    got = each(bench, "emit {n = 1} emit (r) emit {n = 3} return {n = 4}, {n = 5}",
               [{"n": 2}])
    assert [r["n"] for r in got] == [1, 2, 3, 4, 5]


def test_key_timestamp_and_headers_are_writable(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(4)])
    bench.run(IN + """
process "a" { from = "in", each = function (r)
  local m = meta (r)
  m.key, m.ts, m.headers.tenant = "k" .. r.n, 1000 + r.n, "acme"
  return r, record ({n = r.n + 10}, {key = 7, ts = 5, headers = {tenant = "other"}})
end }
process "b" { from = "a", where = "$headers.tenant == 'acme' and $key != 'k3'",
  each = function (r)
    local m = meta (r)
    return {n = r.n, key = m.key, ts = m.ts, tenant = m.headers.tenant, source = m.source}
  end }
process "c" { from = "a", where = "$key == 7 and $ts == 5" }
sink.file "bs" { from = "b", path = "b" }
sink.file "cs" { from = "c", path = "c" }""")
    assert objects(bench.path("b")) == [
        {"n": n, "key": "k%d" % n, "ts": 1000 + n, "tenant": "acme", "source": "in"}
        for n in range(3)]
    assert [r["n"] for r in objects(bench.path("c"))] == [10, 11, 12, 13]


@pytest.mark.parametrize("field", ["source", "peer"])
def test_the_origin_cannot_be_forged(bench, field):
    each(bench, "meta (r).%s = 'forged' return r" % field, [{"n": 1}], code=3)
    assert bench.dead()[0]["reason"] == "function"


def test_keep_outlives_the_call_and_the_record_does_not(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(3)])
    bench.run("local last, kept\n" + IN + """
process "p" { from = "in", each = function (r)
  local before = kept and kept.n
  local good = last and pcall (function () return last.n end)
  last, kept = r, keep (r)
  return {n = r.n, before = before, good = good}
end }
sink.file "out" { from = "p", path = "out.ndjson" }""")
    got = objects(bench.path("out.ndjson"))
    assert [r.get("before") for r in got] == [None, 0, 1]
    assert [bool(r.get("good")) for r in got] == [False, False, False]


def test_raw_is_the_payload_as_it_came(bench):
    got = each(bench, "return {raw = raw (r)}", ['{"a" : 1.0}', '{ "b":[ ] }'])
    assert [r["raw"] for r in got] == ['{"a" : 1.0}', '{ "b":[ ] }']


def test_text_has_no_fields(bench):
    bench.write("in.log", ["plain", ""])
    bench.run("""
source.file "in" { path = "in.log", framing = lines, at_end = stop }
process "p" { from = "in", each = function (r)
  if raw (r) == "" then r.x = 1 end
  return {raw = raw (r), missing = r.x == nil}
end }
sink.file "out" { from = "p", path = "out.ndjson" }""", code=3)
    assert objects(bench.path("out.ndjson")) == [{"raw": "plain", "missing": True}]
    assert bench.dead()[0]["reason"] == "function" and bench.dead()[0]["text"] == ""


# --- graph ----------------------------------------------------------------------------

def test_fan_out_gives_every_reader_all(bench):
    records = [{"n": n} for n in range(5000)]
    bench.write("in.ndjson", records)
    done = bench.run(IN + "".join('sink.file "s%d" { from = "in", path = "s%d" }\n' % (n, n)
                                  for n in range(4)))
    for n in range(4):
        assert objects(bench.path("s%d" % n)) == records
    assert done.node("in")["out"] == 20000


def test_e1_two_of_each_for_three_readers(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(5)])
    done = bench.run(IN + 'process "p" { from = "in", each = function (r) return r, r end }'
                     + "".join('\nsink.file "s%d" { from = "p", path = "s%d" }' % (n, n)
                               for n in range(3)))
    for n in range(3):
        assert [r["n"] for r in objects(bench.path("s%d" % n))] == \
            [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert done.node("s%d" % n)["done"] == 10
    assert done.node("in")["done"] == 5 and done.node("p")["done"] == 5


def test_fan_in_takes_from_all(bench):
    for name in "abc":
        bench.write(name, [{"from": name, "n": n} for n in range(1000)])
    bench.run("".join('source.file "%s" { path = "%s", at_end = stop }\n' % (n, n)
                      for n in "abc") +
              'process "p" { from = {"a", "b"}, each = function (r) return r end }\n'
              'sink.file "out" { from = {"p", "c"}, path = "out" }')
    got = objects(bench.path("out"))
    for name in "abc":
        assert [r["n"] for r in got if r["from"] == name] == list(range(1000))
    assert len(got) == 3000


def test_several_files_and_patterns_are_one_source(bench):
    for n in range(5):
        bench.write("logs/%d.log" % n, [{"file": n, "n": i} for i in range(100)])
    bench.write("other.txt", [{"file": 9, "n": 0}])
    bench.run('source.file "in" { path = { "logs/*.log", "other.txt" }, at_end = stop }\n'
              'sink.file "out" { from = "in", path = "out" }')
    got = collections.Counter(r["file"] for r in objects(bench.path("out")))
    assert got == {0: 100, 1: 100, 2: 100, 3: 100, 4: 100, 9: 1}


def test_e32_outlets(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(10)])
    done = bench.run(IN + """
process "p" { from = "in", outlets = { small = "n < 4", even = "n in (0, 2, 4)" },
  outbound = { {where = "n == 9", action = dead}, {where = "n >= 8", action = drop} } }
sink.file "s" { from = "p.small", path = "small" }
sink.file "e" { from = "p.even", path = "even" }
sink.file "t" { from = {"p.small", "p.even"}, path = "both" }""", code=3)
    assert [r["n"] for r in objects(bench.path("small"))] == [0, 1, 2, 3]
    assert [r["n"] for r in objects(bench.path("even"))] == [0, 2, 4]
    assert sorted(r["n"] for r in objects(bench.path("both"))) == [0, 0, 1, 2, 2, 3, 4]
    reasons = {x["payload"]["n"]: x["reason"] for x in bench.dead()}
    assert reasons == {5: "unrouted", 6: "unrouted", 7: "unrouted", 9: "filter"}
    assert done.node("p")["filtered"] == 1 and done.node("p")["dead"] == 4


def test_e29_the_first_rule_that_matches_acts(bench):
    records = ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":', "plain"]
    bench.write("in.ndjson", records)
    bench.run(IN + """
process "p" { from = "in",
  inbound = { {where = "n == 1", action = drop}, {where = "n <= 2", action = dead} } }
sink.file "out" { from = "p", path = "out" }
sink.file "unknown" { from = "in", path = "unknown", where = "n != 1", on_unknown = drop }
sink.file "raw" { from = "in", path = "raw", where = "$raw != 'x'" }""", code=3)
    assert rows(bench.path("out")) == [b'{"n":3}']
    reasons = sorted((x["node"], x["reason"]) for x in bench.dead())
    assert reasons == [("p", "filter"), ("p", "parse"), ("p", "parse")]
    assert rows(bench.path("unknown")) == [b'{"n":2}', b'{"n":3}']
    assert rows(bench.path("raw")) == [r.encode() for r in records]


def test_e29_on_text_a_field_is_missing_and_not_unknown(bench):
    bench.write("in.log", ["{", "x"])
    bench.run("""
source.file "in" { path = "in.log", framing = lines, at_end = stop }
sink.file "a" { from = "in", path = "a", where = "x != 1" }
sink.file "b" { from = "in", path = "b", where = "not x == 1" }
sink.file "c" { from = "in", path = "c", where = "$raw == 'x'" }""")
    assert (rows(bench.path("a")), rows(bench.path("b")), rows(bench.path("c"))) == \
        ([], [b"{", b"x"], [b"x"])


def test_b49_comparisons(bench):
    bench.write("in.ndjson", ['{"x":1}', '{"x":1.0}', '{"x":"1"}', '{"x":null}', "{}"])
    bench.run(IN + "".join('sink.file "%s" { from = "in", path = "%s", where = "%s" }\n'
                           % (name, name, where) for name, where in (
                               ("a", "x == 1.0"), ("b", "x != 1"), ("c", "not x == 1"),
                               ("d", "'1' != x"), ("e", "x == null"), ("f", "has x"))))
    n = {name: [list(r.values())[0] if r else "missing" for r in objects(bench.path(name))]
         for name in "abcdef"}
    assert n == {"a": [1, 1.0], "b": ["1", None], "c": ["1", None, "missing"],
                 "d": [1, 1.0, None], "e": [None], "f": [1, 1.0, "1", None]}


def test_b50_a_regex_that_explodes_is_unknown_and_quick(bench):
    bench.write("in.ndjson", [{"x": "a" * (1 << 20) + "b"}, {"x": "aaa"}])
    done = bench.run(IN + """
sink.file "out" { from = "in", path = "out", where = "x ~ '(a+)+$'" }""", code=3)
    assert [len(r["x"]) for r in objects(bench.path("out"))] == [3]
    assert "bound" in bench.dead()[0]["error"] and done.seconds < 5


def test_b51_otherwise_decides_about_the_rest(bench):
    bench.write("in.ndjson", [{"n": 1}, {"n": 2}])
    done = bench.run(IN + """
sink.file "a" { from = "in", path = "a", where = "n == 1" }
sink.file "b" { from = "in", path = "b", where = "n == 1", otherwise = dead }""", code=3)
    assert done.node("a")["filtered"] == 1 and done.node("b")["dead"] == 1
    letter, = bench.dead()
    assert (letter["node"], letter["reason"], letter["payload"]) == ("b", "filter", {"n": 2})
    assert done.node("in")["done"] == 2 and done.node("in")["commits"] >= 1


def test_e15_wholly_filtered_input_is_acknowledged(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(20000)])
    done = bench.run(IN + """
process "p" { from = "in", where = "n < 0", each = function (r) error 'never' end }
sink.file "out" { from = "p", path = "out" }""")
    assert done.node("p")["filtered"] == 20000 and done.node("out")["in"] == 0
    assert rows(bench.path("out")) == []
    assert bench.run(None).node("in")["in"] == 0, "it was not committed"


def test_e7_parse_errors(bench):
    for policy, code, letters in (("dead", 3, 1), ("drop", 0, 0)):
        bench.write("in.ndjson", [b'{"n":1}', b'{"n":', b'{"n":2}'])
        bench.run(IN + """
process "p" { from = "in", parse = eager, parse_error = %s }
sink.file "out" { from = "p", path = "%s" }
settings { name = "%s" }""" % (policy, policy, policy), code=code)
        assert rows(bench.path(policy)) == [b'{"n":1}', b'{"n":2}']
        state = bench.path("weir-" + policy)
        assert len(objects(state / "dead.ndjson")) == letters
        report = json.loads((state / "report.json").read_text())
        assert report["nodes"][0]["done"] == 3 and report["nodes"][0]["commits"] >= 1


def test_e7_parse_error_stop_acknowledges_nothing(bench):
    bench.write("in.ndjson", [b'{"n":1}', b'{"n":', b'{"n":2}'])
    done = bench.run(IN + """
process "p" { from = "in", parse = eager, parse_error = stop }
sink.file "out" { from = "p", path = "out" }
supervise { intensity = 0 }""", code=1)
    assert done.node("in")["done"] == 0 and done.node("in")["commits"] == 0


def test_e5_what_nobody_reads_is_not_parsed(bench):
    bench.run("""
source.generate "in" { count = 1000000 }
process "p" { from = "in", each = function (r) return r end }
sink.null "out" { from = "p" }""", seconds=60)
    report = {node["name"]: node for node in bench.report()["nodes"]}
    assert report["out"]["done"] == 1000000
    assert sum(node["parses"] for node in report.values()) == 0


def test_e20_each_key_keeps_its_order(bench):
    bench.write("in.ndjson", [{"k": n * 7919 % 100, "n": n} for n in range(100000)])
    bench.run(IN + """
process "p" { from = "in", workers = 4, key = "k", each = function (r) return r end }
process "q" { from = "in", workers = 4, ordered = true, each = function (r) return r end }
sink.file "ps" { from = "p", path = "p" }
sink.file "qs" { from = "q", path = "q" }""", seconds=60)
    last, count = collections.defaultdict(lambda: -1), 0
    for r in objects(bench.path("p")):
        assert last[r["k"]] < r["n"]
        last[r["k"]] = r["n"]
        count += 1
    assert count == 100000 and len(last) == 100
    assert bench.path("q").read_bytes() == bench.path("in.ndjson").read_bytes()


def test_a_key_of_an_earlier_node_counts(bench):
    bench.write("in.ndjson", [{"k": n % 10, "n": n} for n in range(20000)])
    bench.run(IN + """
process "a" { from = "in", each = function (r) meta (r).key = "k" .. r.k return r end }
process "b" { from = "a", workers = 3, each = function (r) return r end }
sink.file "out" { from = "b", path = "out" }""")
    got = objects(bench.path("out"))
    assert len(got) == 20000
    for k in range(10):
        of_k = [r["n"] for r in got if r["k"] == k]
        assert of_k == sorted(of_k)


def test_e18_crlf_and_blank_lines(bench):
    bench.write("in.ndjson", b'{"n":1}\r\n\r\n  \n {"n":2} \r\n\n{"n":"]"}')
    bench.run(IN + 'sink.file "out" { from = "in", path = "out" }')
    assert rows(bench.path("out")) == [b'{"n":1}', b'{"n":2}', b'{"n":"]"}']


@pytest.mark.parametrize("text, good, at", [
    (b'[1, "]", {"a":[1,2]}, []]', [b"1", b'"]"', b'{"a":[1,2]}', b"[]"], None),
    (b" [ ] ", [], None), (b"[1,]", [b"1"], "byte 3"), (b"[,1]", [], "byte 1"),
    (b"[1", [], "byte 2"), (b"[1]x", [b"1"], "byte 3"), (b"{}", [], "byte 0"),
])
def test_e18_arrays(bench, text, good, at):
    bench.write("in.json", text)
    bench.run('source.file "in" { path = "in.json", framing = array, at_end = stop }\n'
              'sink.file "out" { from = "in", path = "out" }', code=3 if at else 0)
    assert rows(bench.path("out")) == good
    letters = bench.dead()
    assert [x["reason"] for x in letters] == (["parse"] if at else [])
    if at:
        assert at in letters[0]["error"], letters


def test_e18_lines_are_joined(bench):
    trace = "2015-05-17 boom\n  at a\n  at b\n  at c\n  at d\n"
    bench.write("in.log", "before\n" + trace + "2015-05-18 last\n  at z\n")
    bench.run("""
source.file "in" { path = "in.log", framing = lines { begin = "^[0-9]{4}-" }, at_end = stop }
process "p" { from = "in", each = function (r) return {raw = raw (r)} end }
sink.file "out" { from = "p", path = "out" }""")
    assert [r["raw"] for r in objects(bench.path("out"))] == \
        ["before", trace.rstrip("\n"), "2015-05-18 last\n  at z"]


def test_blob_is_one_record(bench):
    bench.write("in.txt", b"one\ntwo\n\x00three")
    bench.run('source.file "in" { path = "in.txt", framing = blob, format = text,'
              ' at_end = stop }\nsink.file "out" { from = "in", path = "out",'
              ' framing = blob }')
    assert bench.path("out").read_bytes() == b"one\ntwo\n\x00three"


def test_e2_behind_a_stop_of_a_sink_nothing_is_committed(bench):
    """The first block holds a record that the sink refuses: it is two lines."""
    bench.write("in.log", ["a1", " b"] + ["a" + "x" * 500] * 2000)
    text = """
source.file "in" { path = "in.log", framing = lines { begin = "^a" }, at_end = stop }
process "p" { from = "in", each = function (r) return r end }
sink.file "out" { from = "p", path = "out", on_error = %s }
sink.file "other" { from = "in", path = "other", framing = blob }
supervise { intensity = 0 }"""
    done = bench.run(text % "stop", code=1)
    assert "line break" in done.err
    for name in ("in", "p", "out"):
        assert done.node(name)["done"] == 0, name
    assert crash.committed(bench) == 0
    bench.run(text % "dead", code=3)
    assert len(rows(bench.path("out"))) == 2000
    assert [x["reason"] for x in bench.dead()] == ["sink"]


def test_e3_an_ack_comes_only_after_the_send_is_safe(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(50000)])
    live = bench.start('source.file "in" { path = "in.ndjson",'
                       ' rate = { records = 20000, burst = "10ms" } }\n'
                       'sink.file "out" { from = "in", path = "out", fsync = "1h" }')
    wait_for(lambda: bench.path("out").exists() and bench.path("out").stat().st_size > 50000,
             "output")
    assert crash.committed(bench) == 0
    done = live.stop()
    assert done.node("in")["done"] == done.node("out")["done"] > 0
    assert crash.committed(bench) == bench.path("out").stat().st_size


# --- the file -------------------------------------------------------------------------

def test_require_reads_the_topologys_modules(bench):
    bench.write("clean.lua", "return { kib = function (n) return (n or 0) // 1024 end }")
    bench.write("lib/deep.lua", "return function (r) r.deep = true return r end")
    bench.write("in.ndjson", [{"bytes": 5000}])
    bench.run('local clean, deep = require "clean", require "lib.deep"\n' +
              PASS % "r.kib = clean.kib (r.bytes) return deep (r)")
    assert objects(bench.path("out.ndjson")) == [{"bytes": 5000, "kib": 4, "deep": True}]


def test_env_and_param_are_read_at_the_top(bench):
    text = ('local who = param "who" or "nobody"\nlocal home = env "WEIR_TEST_HOME"\n' +
            PASS % "r.who, r.home, r.unset = who, home, env ~= nil and 1 return r")
    bench.write("in.ndjson", [{"n": 1}])
    bench.run(text, "--set", "who=ann=x", env={"WEIR_TEST_HOME": "/h"})
    bench.append("in.ndjson", '{"n":2}\n')
    bench.run(None)
    got = objects(bench.path("out.ndjson"))
    assert got[0] == {"n": 1, "who": "ann=x", "home": "/h", "unset": 1}
    assert got[1] == {"n": 2, "who": "nobody", "unset": 1}


def test_env_inside_a_function_is_an_error(bench):
    each(bench, "return {x = env 'HOME'}", [{"n": 1}], code=3)
    assert "top level" in bench.dead()[0]["error"]


def test_the_log_of_a_function_comes_with_its_node(bench):
    bench.write("in.ndjson", [{"n": 1}])
    done = bench.run(PASS % "weir.log ('warn', 'seen ' .. r.n) return r")
    assert any("warn" in line and "p: seen 1" in line for line in done.lines()), done.err


def test_logs_can_be_json_lines(bench):
    bench.write("in.ndjson", [{"n": 1}])
    done = bench.run("settings { log = { format = json } }\n" +
                     PASS % "weir.log ('a \"quoted\" \\n text') return r")
    events = [json.loads(line) for line in done.lines() if line.startswith("{")]
    assert any(e["event"].split() == ["a", '"quoted"', "text"] and e["actor"] == "p" for e in events)
    assert any(e["event"].startswith("ready") for e in events)


def test_settings_place_state_and_name(bench):
    bench.write("in.ndjson", [{"n": 1}])
    bench.run('settings { name = "other", state = "deep/er" }\n' + PASS % "return r")
    report = json.loads(bench.path("deep/er/report.json").read_text())
    assert report["name"] == "other" and not bench.state.exists()
    told = bench.weir("audit", "t.lua")
    assert told.code == 0 and "the sums are zero" in told.out
    assert bench.weir("audit", "deep/er").out == told.out


# --- the command line -----------------------------------------------------------------

def test_exit_codes(bench):
    bench.write("in.ndjson", [{"n": 1}])
    assert bench.run(PASS % "return r", code=0).err.count("\n") <= 3
    bench.append("in.ndjson", '{"n":2}\n')
    dead = bench.run(PASS % "return dead 'x'", code=3)
    assert "1 dead letter in" in dead.err
    bench.append("in.ndjson", '{"n":3}\n')
    failed = bench.run("supervise { intensity = 0 }\n" +
                       (PASS % "error 'why'").replace("each =", "on_error = stop, each ="),
                       code=1)
    assert "why" in failed.err
    assert bench.run("nonsense", code=2).report is None


def test_a_part_that_waits_to_start_again_is_not_idle(bench):
    bench.write("in.ndjson", [{"n": 1}])
    failed = bench.run("supervise { intensity = 3 }\n" +
                       (PASS % "error 'why'").replace("each =", "on_error = stop, each =")
                       .replace("at_end = stop", "at_end = follow"),
                       "--until-idle", code=1)
    assert failed.report["restarts"] == 3 and failed.report["ending"] == "failed"
    assert "draining" not in failed.err


def test_a_start_that_fails_is_1_and_says_why(bench):
    bench.write("in.ndjson", [{"n": 1}])
    done = bench.run(IN + 'sink.file "out" { from = "in", path = "no/such/folder/x" }',
                     code=1)
    assert "no/such/folder/x" in done.err and "out" in done.err


def test_two_runs_cannot_share_their_state(bench):
    live = bench.start('source.generate "g" { rate = { records = 10 } }\n'
                       'sink.null "n" { from = "g" }')
    live.wait_ready()
    other = bench.weir("run", "t.lua")
    assert other.code == 1 and "another weir" in other.err
    live.stop()


def test_for_ends_after_so_long(bench):
    done = bench.run('source.generate "g" { rate = { records = 1000, burst = "10ms" } }\n'
                     'sink.null "n" { from = "g" }', "--for", "300ms")
    assert 0.3 <= done.seconds < 5
    assert 50 < done.node("n")["done"]


def test_until_idle_ends_when_all_is_read(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(1000)])
    done = bench.run('source.file "in" { path = "in.ndjson" }\n'
                     'sink.file "out" { from = "in", path = "out" }', "--until-idle")
    assert len(rows(bench.path("out"))) == 1000 and done.seconds < 10


def test_json_prints_the_report(bench):
    bench.write("in.ndjson", [{"n": 1}])
    done = bench.run(PASS % "return r", "--json", "--quiet")
    assert json.loads(done.out) == bench.report()
    assert done.err.count("\n") <= 2, done.err


def test_audit_tells_a_lie(bench):
    bench.write("in.ndjson", [{"n": 1}])
    bench.run(PASS % "return r")
    report = bench.report()
    report["nodes"][1]["done"] -= 1
    (bench.state / "report.json").write_text(json.dumps(report))
    told = bench.weir("audit", "--json", bench.state)
    assert told.code == 1 and json.loads(told.out)["balanced"] is False
    assert "NOT ZERO" in bench.weir("audit", bench.state).out
    (bench.state / "report.json").write_text("[" * 5000)
    assert bench.weir("audit", bench.state).code == 2


def test_stdin_to_stdout(bench):
    text = ('source.stdin "in" { }\nprocess "p" { from = "in", where = "n > 1" }\n'
            'sink.stdout "out" { from = "p" }')
    done = bench.run(text, "--quiet", stdin=b'{"n":1}\n{"n":2}\n{"n":3}')
    assert done.out == '{"n":2}\n{"n":3}\n'
    assert bench.run(text, "--quiet", stdin=b"").out == ""


def test_generate_is_the_same_for_the_same_seed(bench):
    text = 'source.generate "g" { count = 500, seed = %d }\nsink.stdout "o" { from = "g" }'
    one, same, other = (bench.run(text % seed, "--quiet").out for seed in (7, 7, 8))
    assert one == same != other and one.count("\n") == 500
    assert [json.loads(line)["id"] for line in one.splitlines()] == list(range(500))


def test_a_second_run_goes_on_where_the_first_ended(bench):
    text = IN + 'sink.file "out" { from = "in", path = "out" }'
    bench.write("in.ndjson", [{"n": n} for n in range(100)])
    assert bench.run(text).node("in")["in"] == 100
    assert bench.run(text).node("in")["in"] == 0
    bench.append("in.ndjson", '{"n":100}\n')
    assert bench.run(text).node("in")["in"] == 1
    assert [r["n"] for r in objects(bench.path("out"))] == list(range(101))


def test_a_sink_begins_its_own_line_behind_foreign_text(bench):
    bench.write("out", b"foreign, without end")
    bench.write("in.ndjson", [{"n": 1}])
    bench.run(IN + 'sink.file "out" { from = "in", path = "out" }')
    assert rows(bench.path("out")) == [b"foreign, without end", b'{"n": 1}']


@pytest.mark.parametrize("fsync", ["always", "never", '"50ms"', '"1h"'])
def test_every_fsync_policy_delivers_and_ends(bench, fsync):
    bench.write("in.ndjson", [{"n": n} for n in range(2000)])
    done = bench.run(IN + 'sink.file "out" { from = "in", path = "out", fsync = %s }' % fsync)
    assert len(rows(bench.path("out"))) == 2000 and done.node("in")["done"] == 2000
