"""What the documents show is what happens: every example of theirs is tried."""
import base64
import json
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
WEIR = os.environ.get("WEIR", str(ROOT / "bin" / "weir"))
PAGES = [ROOT / "README.md"] + sorted(DOCS.glob("*.md"))


def weir(folder, *words):
    """Exit code and both streams of `weir words ..` in a folder."""
    done = subprocess.run([WEIR, *words], cwd=folder, capture_output=True, text=True,
                          check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def blocks(page, language=""):
    """The fenced blocks of a page in that language."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for name, block in fenced if name == language]


def table(page, heading):
    """The rows below the table heading that begins so, as lists of cells."""
    lines = page.read_text(encoding="utf-8").split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(heading))
    rows = []
    for line in lines[start + 2:]:
        if "|" not in line:
            break
        rows.append([cell.strip().strip("*`") for cell in line.split(" | ")])
    return rows


def topologies():
    """Each whole topology that a page shows."""
    found = []
    for page in PAGES:
        for number, text in enumerate(blocks(page, "lua")):
            if re.search(r"^source\.\w+ ", text, re.M) and re.search(r"^sink\.", text, re.M):
                found.append(pytest.param(text, id="%s-%d" % (page.name, number)))
    return found


@pytest.mark.parametrize("text", topologies())
def test_each_topology_passes_the_check(text, tmp_path):
    (tmp_path / "t.lua").write_text(text, encoding="utf-8")
    code, out, err = weir(tmp_path, "check", "t.lua")
    assert code == 0, out + err


# --- sandbox.md -------------------------------------------------------------

SAME = """
local function same (a, b)
  if type (a) ~= "table" or type (b) ~= "table" then return rawequal (a, b) or a == b end
  for k, v in pairs (a) do if not same (v, b[k]) then return false end end
  for k in pairs (b) do if a[k] == nil then return false end end
  return true
end
local function see (line, want, ...)
  if not same (want, table.pack (...)) then
    local seen = {}
    for i = 1, select ("#", ...) do seen[i] = tostring ((select (i, ...))) end
    emit { line = line, seen = table.concat (seen, ", ") }
  end
end
"""


def shown():
    """(expression, result) for each line `expression --> result` of sandbox.md."""
    pairs = []
    for text in blocks(DOCS / "sandbox.md", "lua"):
        for line in text.split("\n"):
            match = re.match(r"(.+?)\s+--> (.+)$", line)
            if match and not line.startswith("local") and "..." not in line:
                pairs.append(match.groups())
    return pairs


def test_each_example_of_the_sandbox_is_true(tmp_path):
    calls = []
    for expression, result in shown():
        if expression.startswith("return "):
            expression, result = "json.encode (%s)" % expression[7:], "[[%s]]" % result
        calls.append("see ([==[%s]==], table.pack (%s), %s)" % (expression, result, expression))
    assert len(calls) > 15
    (tmp_path / "t.lua").write_text("""
        source.generate "g" { count = 1 }
        %s
        process "p" { from = "g", each = function (r)
          %s
          return r
        end }
        sink.stdout "out" { from = "p" }
        """ % (SAME, "\n".join(calls)), encoding="utf-8")
    code, out, err = weir(tmp_path, "run", "--quiet", "t.lua")
    dead = tmp_path / "weir-t" / "dead.ndjson"
    assert code == 0, err + (dead.read_text(encoding="utf-8") if dead.exists() else "")
    wrong = [line for line in out.split("\n") if '"seen"' in line]
    assert not wrong, "\n".join(wrong)


def test_what_the_sandbox_says_is_not_there_is_not_there(tmp_path):
    text = (DOCS / "sandbox.md").read_text(encoding="utf-8")
    names = re.findall(r"`([a-z.]+)`", re.search(r"^Not there: ([^_]*)", text, re.M).group(1))
    names = [name for name in names if name not in ("time", "weir.log")]
    assert "io" in names and "debug" in names
    (tmp_path / "t.lua").write_text("""
        source.generate "g" { count = 1 }
        process "p" { from = "g", each = function (r)
          return { there = array { %s } }
        end }
        sink.stdout "out" { from = "p" }
        """ % ", ".join("_G.%s ~= nil" % name for name in names), encoding="utf-8")
    code, out, err = weir(tmp_path, "run", "--quiet", "t.lua")
    assert code == 0, err
    there = json.loads(out)["there"]
    assert not any(there), [name for name, is_there in zip(names, there) if is_there]


# --- where.md ---------------------------------------------------------------

WHERE = DOCS / "where.md"


def judged(folder, records, expressions):
    """{expression: [verdict of each record]}; a record is a line of NDJSON. The format is
    said, since a broken line shows none by its first byte."""
    lines = ['source.file "in" { path = "in", at_end = stop, framing = lines, format = json }']
    (folder / "in").write_text("".join(record + "\n" for record in records),
                               encoding="utf-8")
    for i, expression in enumerate(expressions):
        lines.append('process "p%d" { from = "in", where = [==[%s]==], each = function (r) '
                     'return { raw = raw (r) } end }' % (i, expression))
        lines.append('sink.file "s%d" { from = "p%d", path = "out%d" }' % (i, i, i))
    (folder / "t.lua").write_text("\n".join(lines), encoding="utf-8")
    code, _, err = weir(folder, "run", "--quiet", "t.lua")
    assert code in (0, 3), err
    dead = folder / "weir-t" / "dead.ndjson"
    letters = [json.loads(line) for line in dead.open(encoding="utf-8")] if code else []
    verdicts = {}
    for i, expression in enumerate(expressions):
        kept = [json.loads(line)["raw"] for line in
                (folder / ("out%d" % i)).open(encoding="utf-8")]
        unknown = [json.dumps(letter.get("payload", letter.get("text")), sort_keys=True)
                   for letter in letters if letter["node"] == "p%d" % i]
        verdicts[expression] = [
            "true" if record in kept else
            "unknown" if any(same_payload(record, told) for told in unknown) else "false"
            for record in records]
    return verdicts


def same_payload(record, told):
    """Whether a dead letter's payload is that record."""
    value = json.loads(told)
    if isinstance(value, dict) and set(value) == {"base64"}:
        value = base64.b64decode(value["base64"]).decode()
    return value == record


def test_truth_table_of_missing_and_null(tmp_path):
    rows = table(WHERE, "expression | `{\"x\": 2}`")
    records = ['{"x": 2}', '{"x": null}', "{}"]
    assert len(rows) >= 4
    got = judged(tmp_path, records, [row[0] for row in rows])
    assert [[row[0], *got[row[0]]] for row in rows] == rows


def test_truth_table_of_the_unknown(tmp_path):
    rows = table(WHERE, "expression | a broken payload")
    got = judged(tmp_path, ['{"a": "timeout', '{"a": "time'], [row[0] for row in rows])
    assert [[row[0], *got[row[0]]] for row in rows] == rows


def mistakes():
    """Each wrong expression of the page, with what is said of it."""
    block = next(text for text in blocks(WHERE) if "column" in text)
    return [re.match(r"(.*?) {2,}(column .*)", line).groups() for line in block.splitlines()]


@pytest.mark.parametrize("expression, told", mistakes())
def test_mistake_is_told_as_the_page_says(expression, told, tmp_path):
    (tmp_path / "t.lua").write_text(
        'source.generate "g" { where = [==[%s]==] }\nsink.null "n" { from = "g" }'
        % expression, encoding="utf-8")
    code, _, err = weir(tmp_path, "check", "t.lua")
    assert code == 2
    assert err == "t.lua:1: source.generate \"g\": option 'where': %s\n" % told


def test_each_expression_of_the_first_look_compiles(tmp_path):
    block = next(text for text in blocks(WHERE) if "a number" in text)
    lines = [re.split(r" {3,}", line)[0] for line in block.splitlines()]
    assert len(lines) >= 8
    (tmp_path / "t.lua").write_text('source.generate "g" {}\n' + "".join(
        'sink.null "n%d" { from = "g", where = [==[%s]==] }\n' % (i, line)
        for i, line in enumerate(lines)), encoding="utf-8")
    code, _, err = weir(tmp_path, "check", "t.lua")
    assert code == 0, err
