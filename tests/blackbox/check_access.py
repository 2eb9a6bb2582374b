#!/usr/bin/env python3
"""Judges what a topology made of its input, knowing nothing of Weir.

The input and the outputs are NDJSON. Integers are compared as integers of any size,
floats as doubles bit by bit (so 1E5 is 100000.0, but 0.0 is not -0.0 and 1 is not
1.0), strings, null and booleans as they are; the order of an object's keys does not
matter, two equal keys in one object are a difference.

Every function that compares returns a list of differences, one sentence each; the
empty list means that all is well.

    check_access.py [--extra FIELD]... [--ignore FIELD]... [--unordered]
                    [--by FIELD] [--text] INPUT OUTPUT...

prints the counts and the differences and ends with 1 when there are any. Several
outputs together must hold each record of the input once. With --by id the records
are matched by that field instead of ip and content.
"""
import argparse
import collections
import json
import struct
import sys

SHOWN = 20  # differences of one kind that are spelled out


class Float(str):
    """The text of a float, so that no digit is lost and no string equals it."""

    def bits(self):
        """The double's bits."""
        return struct.pack(">d", float(self))


class Twice(ValueError):
    """An object with two equal keys."""


def _object(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise Twice("key %r twice" % next(k for k in keys if keys.count(k) > 1))
    return found


def _no_constant(text):
    raise ValueError("%s is no JSON" % text)


def parse(line):
    """The value of a JSON text; floats are Float, integers int."""
    return json.loads(line, parse_float=Float, parse_int=int,
                      parse_constant=_no_constant, object_pairs_hook=_object)


def same(a, b, text=False):
    """Whether two parsed values are equal. text: floats by their text."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Float):
        return str(a) == str(b) if text else a.bits() == b.bits()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], text) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y, text) for x, y in zip(a, b))
    return a == b


def canon(value, text=False):
    """A hashable form; two are equal exactly when the values are the same."""
    if isinstance(value, Float):
        return ("float", str(value) if text else value.bits())
    if isinstance(value, dict):
        return ("object", tuple((k, canon(value[k], text)) for k in sorted(value)))
    if isinstance(value, list):
        return ("list", tuple(canon(item, text) for item in value))
    return (type(value).__name__, value)


def show(value):
    """A short text for a difference."""
    if isinstance(value, Float):
        return "float " + value
    found = json.dumps(value, ensure_ascii=True)
    return found if len(found) <= 160 else found[:157] + "..."


def differ(expected, got, path="", text=False):
    """Where two values differ, as sentences."""
    if isinstance(expected, dict) and isinstance(got, dict):
        found = []
        for key in expected:
            below = "%s.%s" % (path, key) if path else key
            if key in got:
                found += differ(expected[key], got[key], below, text)
            else:
                found.append("%s is missing" % below)
        return found + ["%s%s is too much" % (path + "." if path else "", key)
                        for key in got if key not in expected]
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        return [line for i, pair in enumerate(zip(expected, got))
                for line in differ(*pair, "%s[%d]" % (path, i), text)]
    if same(expected, got, text):
        return []
    return ["%s: expected %s, got %s" % (path or "value", show(expected), show(got))]


def read(path):
    """The records of a file, and what is wrong with its lines. Lines end with \\n only,
    and the last one does, too."""
    records, wrong = [], []
    with open(path, "rb") as file:
        data = file.read()
    if data and not data.endswith(b"\n"):
        wrong.append("%s: the last line has no end" % path)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            record = parse(line.decode("utf-8"))
            if not isinstance(record, dict):
                raise ValueError("no object")
            records.append(record)
        except (ValueError, RecursionError) as error:
            wrong.append("%s:%d: %s" % (path, number, error))
    return records, wrong


def _read_all(paths):
    files, wrong = [], []
    for path in paths:
        records, complaints = read(path)
        files.append((str(path), records))
        wrong += complaints
    return files, wrong


def _strip(record, fields):
    return {k: v for k, v in record.items() if k not in fields} if fields else record


def _bounded(found, what):
    more = len(found) - SHOWN
    return found[:SHOWN] + (["%s: %d more" % (what, more)] if more > 0 else [])


def counts(records, field):
    """How many records have each value of a field."""
    return collections.Counter(canon(record.get(field)) for record in records)


def _name(canonical):
    return str(canonical[1])


def compare_counts(expected, got, field):
    """Differences in the number of records by a field's values."""
    want, have = counts(expected, field), counts(got, field)
    return _bounded(["%s %s: expected %d records, got %d"
                     % (field, _name(value), want[value], have[value])
                     for value in sorted(want.keys() | have.keys(), key=repr)
                     if want[value] != have[value]], "counts by " + field)


def _by(records, field):
    found = collections.defaultdict(list)
    for record in records:
        found[canon(record.get(field))].append(record)
    return found


def compare_order(expected, got, field="ip", where="", text=False):
    """Whether the records of each value of a field come in the input's order. got may
    lack records (they went elsewhere)."""
    want, found = _by(expected, field), []
    for value, records in _by(got, field).items():
        rest = iter([canon(record, text) for record in want.get(value, [])])
        for number, record in enumerate(records, 1):
            sought = canon(record, text)
            if not any(sought == other for other in rest):
                found.append("%s%s %s: record %d of %d is out of order: %s"
                             % (where, field, _name(value), number, len(records),
                                show(record)))
                break
    return _bounded(found, where + "order by " + field)


IDENTITY = ("ts", "ip", "method", "path", "agent", "referrer")


def compare_records(expected, got, text=False, identity=IDENTITY):
    """Whether got has each expected record exactly once, in any order. A record that
    differs is held against the one that resembles it, field by field."""
    balance = collections.Counter(canon(record, text) for record in expected)
    balance.subtract(canon(record, text) for record in got)
    missing, strange = [], []
    for records, sign, into in ((expected, 1, missing), (got, -1, strange)):
        left = {form: sign * n for form, n in balance.items() if sign * n > 0}
        for record in records if left else []:
            form = canon(record, text)
            if left.get(form, 0) > 0:
                left[form] -= 1
                into.append(record)
    found = []
    for keys in (identity, identity[:2], identity[:1]):
        for record in _paired(missing, strange, keys):
            found += ["record %s: %s" % (show({k: record[0].get(k) for k in keys}), line)
                      for line in differ(*record, "", text)]
    return (_bounded(found, "fields")
            + _bounded(["missing: " + show(record) for record in missing], "missing")
            + _bounded(["too much: " + show(record) for record in strange], "too much"))


def _paired(missing, strange, keys):
    """Takes pairs that agree in the keys out of both lists."""
    def key(record):
        return canon([record.get(k) for k in keys])

    waiting = collections.defaultdict(collections.deque)
    for record in strange:
        waiting[key(record)].append(record)
    pairs, alone = [], []
    for record in missing:
        if waiting[key(record)]:
            pairs.append((record, waiting[key(record)].popleft()))
        else:
            alone.append(record)
    missing[:] = alone
    taken = {id(pair[1]) for pair in pairs}
    strange[:] = [record for record in strange if id(record) not in taken]
    return pairs


def check_access(source, outputs, extra=(), ignore=(), ordered=True, text=False,
                 select=None, order_by="ip"):
    """Compares the access log with what came out, all files together.

    extra: fields that the topology adds, not compared (but every record must have
    them); ignore: fields not compared on either side; ordered: the records of each
    ip must keep their order within each output; select: the records of the input
    that are expected (a function of the record)."""
    expected, wrong = read(source)
    if select:
        expected = [record for record in expected if select(record)]
    files, complaints = _read_all(outputs)
    wrong += complaints
    got = [record for _, records in files for record in records]
    for field in extra:
        lacking = sum(field not in record for record in got)
        if lacking:
            wrong.append("%d records have no field %s" % (lacking, field))
    wrong += compare_counts(expected, got, "status") + compare_counts(expected, got, "ip")
    hidden = set(extra) | set(ignore)
    expected = [_strip(record, set(ignore)) for record in expected]
    files = [(path, [_strip(record, hidden) for record in records])
             for path, records in files]
    got = [record for _, records in files for record in records]
    different = compare_records(expected, got, text)
    wrong += different
    if ordered:
        # a record that differs is none of the input's: its order cannot be judged
        known = {canon(record, text) for record in expected}
        for path, records in files:
            known_records = [record for record in records if canon(record, text) in known]
            wrong += compare_order(expected, known_records, order_by, path + ": ", text)
    return wrong


def check_by_key(source, outputs, key="id", extra=(), ignore=(), ordered=False,
                 text=False):
    """Compares records that a field identifies, such as those of hard_values.py."""
    expected, wrong = read(source)
    files, complaints = _read_all(outputs)
    wrong += complaints
    want = {canon(record.get(key)): record for record in expected}
    if len(want) != len(expected):
        wrong.append("%s: %s is not unique" % (source, key))
    place = {form: number for number, form in enumerate(want)}
    seen, found, hidden = collections.Counter(), [], set(extra) | set(ignore)
    for path, records in files:
        last = -1
        for record in records:
            form = canon(record.get(key))
            seen[form] += 1
            if form not in want:
                found.append("%s: too much: %s" % (path, show(record)))
                continue
            if ordered and place[form] < last:
                found.append("%s: %s %s is out of order" % (path, key, _name(form)))
            last = max(last, place[form])
            found += ["%s: %s %s has no field %s" % (path, key, _name(form), field)
                      for field in extra if field not in record]
            found += ["%s %s: %s" % (key, _name(form), line)
                      for line in differ(_strip(want[form], set(ignore)),
                                         _strip(record, hidden), "", text)]
    found += ["%s %s comes %d times" % (key, _name(form), seen[form])
              for form in want if seen[form] != 1]
    return wrong + _bounded(found, "by " + key)


def _print_counts(source, outputs):
    for title, paths in (("input", [source]), ("output", outputs)):
        records = [r for path in paths for r in read(path)[0]]
        status = counts(records, "status")
        print("%s: %d records, %d ips; by status: %s"
              % (title, len(records), len(counts(records, "ip")),
                 ", ".join("%s %d" % (_name(s), status[s])
                           for s in sorted(status, key=repr))))


def main():
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("source", metavar="INPUT")
    options.add_argument("outputs", metavar="OUTPUT", nargs="+")
    options.add_argument("--extra", action="append", default=[], metavar="FIELD",
                         help="added by the topology, not compared")
    options.add_argument("--ignore", action="append", default=[], metavar="FIELD",
                         help="not compared")
    options.add_argument("--unordered", action="store_true",
                         help="any order will do")
    options.add_argument("--by", metavar="FIELD", help="match records by this field")
    options.add_argument("--text", action="store_true",
                         help="floats must have the same text")
    given = options.parse_args()
    if given.by:
        wrong = check_by_key(given.source, given.outputs, given.by, given.extra,
                             given.ignore, not given.unordered, given.text)
    else:
        _print_counts(given.source, given.outputs)
        wrong = check_access(given.source, given.outputs, given.extra, given.ignore,
                             not given.unordered, given.text)
    for line in wrong:
        print(line)
    print("%d differences" % len(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
