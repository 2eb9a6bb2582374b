"""The checkers find what they are there to find."""
import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_access  # noqa: E402
import hard_values  # noqa: E402

ACCESS = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data" / "access.ndjson"


def put(path, lines):
    """Writes lines and returns the path."""
    text = "".join(line + "\n" for line in lines)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def lines_of(path):
    """The lines of a file; strings may hold other line ends than \\n."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def log(ts, ip="1.1.1.1", status=200, **more):
    """The text of one request."""
    return json.dumps({"ts": ts, "ip": ip, "status": status, "path": "/", **more})


@pytest.fixture(name="source")
def source_file(tmp_path):
    """A log of three requests from one ip and one from another."""
    return put(tmp_path / "in", [log(1), log(2, "2.2.2.2", 404), log(3), log(4, size=0.5)])


def judge(tmp_path, source, lines, **how):
    """The differences when these lines come out."""
    return check_access.check_access(source, [put(tmp_path / "out", lines)], **how)


def test_the_same_records_have_no_differences(tmp_path, source):
    lines = lines_of(source)
    assert judge(tmp_path, source, lines) == []
    assert judge(tmp_path, source, [lines[1], lines[0], lines[2], lines[3]]) == []
    assert judge(tmp_path, source, [json.dumps(dict(reversed(json.loads(line).items())))
                                    for line in lines]) == []


@pytest.mark.parametrize("change, said", [
    (lambda s: s[:3], "missing"),
    (lambda s: s + [s[0]], "too much"),
    (lambda s: [s[2], s[1], s[0], s[3]], "out of order"),
    (lambda s: s[:3] + [s[3].replace("0.5", "0.25")], "size: expected float 0.5"),
    (lambda s: s[:3] + [s[3].replace("0.5", '"0.5"')], "size: expected float 0.5"),
    (lambda s: [s[0].replace("200", "200.0")] + s[1:], "status: expected 200"),
    (lambda s: [s[0].replace('"/"', "null")] + s[1:], 'path: expected "/", got null'),
    (lambda s: [s[0].replace('"path"', '"path": "/", "path"')] + s[1:], "'path' twice"),
    (lambda s: [s[0].replace("}", ', "new": 1}')] + s[1:], "new is too much"),
    (lambda s: [s[0].replace("1.1.1.1", "1.1.1.2")] + s[1:], "ip 1.1.1.2: expected 0"),
    (lambda s: [s[0].replace("200", "NaN")] + s[1:], "NaN is no JSON"),
    (lambda s: [s[0][:-1]] + s[1:], "out:1:"),
    (lambda s: ["[]"] + s, "no object"),
])
def test_each_change_is_a_difference(tmp_path, source, change, said):
    lines = lines_of(source)
    assert said in "\n".join(judge(tmp_path, source, change(lines)))


def test_a_cut_last_line_is_a_difference(tmp_path, source):
    out = tmp_path / "out"
    out.write_bytes(source.read_bytes()[:-1])
    assert "no end" in "\n".join(check_access.check_access(source, [out]))


def test_outputs_together_hold_the_input(tmp_path, source):
    lines = lines_of(source)
    good = put(tmp_path / "good", [lines[0], lines[2], lines[3]])
    bad = put(tmp_path / "bad", [lines[1]])
    assert check_access.check_access(source, [good, bad]) == []
    assert check_access.check_access(source, [good, bad, bad])
    assert check_access.check_access(source, [good],
                                     select=lambda r: r["status"] < 400) == []


def test_extra_fields_must_be_there_and_ignored_ones_need_not(tmp_path, source):
    lines = lines_of(source)
    more = [line[:-1] + ', "kib": 1}' for line in lines]
    assert judge(tmp_path, source, more, extra=["kib"]) == []
    assert judge(tmp_path, source, lines, extra=["kib"])
    gone = [line.replace('"path": "/", ', "").replace(', "path": "/"', "")
            for line in lines]
    assert judge(tmp_path, source, gone, ignore=["path"]) == []
    assert judge(tmp_path, source, gone)


def test_order_is_judged_only_where_it_is_asked_for(tmp_path, source):
    lines = lines_of(source)
    assert judge(tmp_path, source, lines[::-1], ordered=False) == []


@pytest.mark.parametrize("one, other, equal", [
    ("1E5", "100000.0", True), ("0.0", "-0.0", False), ("1", "1.0", False),
    ("0.1", "0.1000000000000000055511151231257827", True), ("true", "1", False),
    ("9007199254740993", "9007199254740992", False), ("null", "{}", False),
    ("9007199254740993.0", "9007199254740992.0", True), ("[]", "{}", False),
    ("18446744073709551615", "18446744073709551615", True), ('"1.5"', "1.5", False),
    (r'"\ud83d\ude00"', '"😀"', True), ("[1,2]", "[2,1]", False),
    ('{"a":1,"b":2}', '{"b":2,"a":1}', True), ("[]", "[null]", False),
])
def test_values_are_compared_exactly(one, other, equal):
    one, other = check_access.parse(one), check_access.parse(other)
    assert check_access.same(one, other) is equal
    assert (check_access.canon(one) == check_access.canon(other)) is equal
    assert (check_access.differ(one, other) == []) is equal


def test_the_text_of_floats_can_be_asked_for():
    one, other = check_access.parse("1E5"), check_access.parse("100000.0")
    assert not check_access.same(one, other, text=True)


def test_hard_values_are_what_they_promise(tmp_path):
    path = tmp_path / "hard"
    assert hard_values.write(path) == hard_values.COUNT
    assert lines_of(path) == hard_values.lines()
    records, wrong = check_access.read(path)
    assert wrong == []
    assert [record["id"] for record in records] == list(range(hard_values.COUNT))
    texts = path.read_text(encoding="utf-8")
    for must in ("18446744073709551615", "-9223372036854775808", "9007199254740993",
                 "-0.0", "1E+5", r"\u0000", r"\/", r"\ud83d\ude00", "😀", r"\"", "[]",
                 "{}"):
        assert must in texts
    assert check_access.check_by_key(path, [path], ordered=True, text=True) == []


def test_hard_values_that_went_through_doubles_are_found(tmp_path):
    path = tmp_path / "hard"
    hard_values.write(path)
    lines = [json.dumps(json.loads(line, parse_int=lambda text: int(float(text))))
             for line in lines_of(path)]
    wrong = check_access.check_by_key(path, [put(tmp_path / "out", lines)])
    assert any("9007199254740993" in line for line in wrong)


def test_the_real_log_agrees_with_itself():
    if not ACCESS.exists():
        pytest.skip("no %s" % ACCESS)
    assert check_access.check_access(ACCESS, [ACCESS]) == []
