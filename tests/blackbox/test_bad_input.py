"""Input that is broken, huge or changing under the reader: a clear error or a dead
letter, bounded memory, and the good records come through."""
import base64
import json
import os
import signal

import pytest
from crash import committed
from helper import PATIENCE, SANITIZED, count_rows, grow, objects, rows, wait_for

MB = 1 << 20
READ = """
source.file "in" { path = "in.ndjson", at_end = stop }
process "p" { from = "in", each = function (r) r.seen = r.n return r end }
sink.file "out" { from = "p", path = "out" }
sink.file "raw" { from = "in", path = "raw" }"""


def payload(letter):
    """The bytes of a dead letter's payload that is no JSON."""
    return base64.b64decode(letter["payload"]["base64"])


BROKEN = {
    "half a record": b'{"n":1,"m":',
    "half a text": b'{"n":"ab',
    "no UTF-8": b'{"n":"\xff\xfe"}',
    "half a rune": b'{"n":"\xe2\x82"}',
    "an overlong rune": b'{"n":"\xc0\x80"}',
    "a surrogate": b'{"n":"\xed\xa0\x80"}',
    "NUL": b'{"n":\x001}',
    "NUL in a text": b'{"n":"a\x00b"}',
    "NULs alone": b"\x00" * 100,
    "control characters": b'{"n":"\x01"}',
    "two documents": b'{"n":1}{"n":2}',
    "bytes behind": b'{"n":1} x',
    "no JSON": b"GET / HTTP/1.1",
    "NaN": b'{"n":NaN}',
    "a wrong number": b'{"n":01}',
    "a comma too much": b'{"n":1,}',
    "5000 deep": b'{"n":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "5000 open": b"[" * 5000,
    "65 deep": b'{"n":' + b"[" * 64 + b"]" * 64 + b"}",
    "a byte order mark inside": b'{\xef\xbb\xbf"n":1}',
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_is_a_dead_letter_and_passes_where_nobody_looks(bench, line):
    good = [b'{"n":1}', line, b'{"n":2}']
    bench.write("in.ndjson", good)
    done = bench.run(READ, code=3)
    assert [r["seen"] for r in objects(bench.path("out"))] == [1, 2]
    assert rows(bench.path("raw")) == good
    letter, = bench.dead()
    assert letter["reason"] == "parse" and letter["error"].startswith("byte "), letter
    assert payload(letter) == line and letter["label"].startswith("in.ndjson@")
    assert done.node("p")["parse_errors"] == 1


def test_e19_nesting_of_64_parses_and_braces_in_texts_do_not_count(bench):
    good = [b'{"n":' + b"[" * 63 + b"]" * 63 + b"}",
            b'{"n":"' + b"[{" * 5000 + b'"}']
    bench.write("in.ndjson", good)
    bench.run(READ)
    assert [r["n"] == r["seen"] for r in objects(bench.path("out"))] == [True, True]


def test_half_a_surrogate_pair_stays_what_it_is(bench):
    bench.write("in.ndjson", [rb'{"n":"a\ud800"}'])
    bench.run(READ)
    assert rows(bench.path("out")) == [rb'{"n":"a\ud800","seen":"a\ud800"}']


@pytest.mark.parametrize("line", [b"17", b'"text"', b"null", b"[1,2]", b"true"])
def test_json_that_is_no_object_is_no_disaster(bench, line):
    bench.write("in.ndjson", [b'{"n":1}', line, b'{"n":2}'])
    done = bench.run(READ, code=None)
    assert done.code in (0, 3)
    seen = [r["seen"] for r in map(json.loads, rows(bench.path("out")))
            if isinstance(r, dict) and "seen" in r]
    assert seen == [1, 2]


@pytest.mark.parametrize("data", [b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
                                  b"\x81\xa1n\xdb\xff\xff\xff\xff", b"\x81", b"\x80\x80",
                                  b"\x81\xa1n" + b"\x91" * 5000 + b"\x01", b"\xc1"])
def test_five_bytes_that_claim_gigabytes(bench, data):
    bench.write("in.bin", data)
    bench.run('source.file "in" { path = "in.bin", framing = blob, format = msgpack,'
              ' at_end = stop }\nsink.file "out" { from = "in", path = "out" }', code=3)
    assert bench.dead()[0]["reason"] == "parse" and rows(bench.path("out")) == []


def test_half_a_last_line_is_a_record_of_a_batch(bench):
    bench.write("in.ndjson", b'{"n":1}\n{"n":2}')
    bench.run(READ)
    assert rows(bench.path("raw")) == [b'{"n":1}', b'{"n":2}']


def test_empty_and_blank_files(bench):
    bench.write("empty.log", b"")
    bench.write("blank.log", b"\n\r\n  \n\n")
    bench.write("many.log", b"\n" * (2 * MB))
    bench.write("one.log", b'\n\n{"n":1}\n\n')
    done = bench.run('source.file "in" { path = "*.log", at_end = stop }\n'
                     'sink.file "out" { from = "in", path = "out" }')
    assert rows(bench.path("out")) == [b'{"n":1}'] and done.node("in")["in"] == 1


def test_lines_keep_carriage_returns_that_are_not_at_the_end(bench):
    bench.write("in.log", b"a\r\nb\rc\n\r\n\n\x00\xff\nlast")
    bench.run('source.file "in" { path = "in.log", framing = lines, at_end = stop }\n'
              'sink.file "out" { from = "in", path = "out" }')
    assert rows(bench.path("out")) == [b"a", b"b\rc", b"", b"", b"\x00\xff", b"last"]


def test_a_line_of_a_gigabyte(bench):
    with open(bench.path("in.ndjson"), "wb") as file:
        file.write(b'{"n":1}\n')
        file.seek(1 << 30, os.SEEK_CUR)
        file.write(b'\n{"n":2}\n')
    size = bench.path("in.ndjson").stat().st_size
    live = bench.start(READ.replace("at_end = stop", "at_end = follow"))
    live.wait_ready()
    wait_for(lambda: committed(bench) == size, "the end", 3 * PATIENCE)
    peak = live.vm("VmHWM")
    done = live.stop(code=3)
    assert SANITIZED or peak < 64 * MB, "%.1f MB" % (peak / MB)
    assert rows(bench.path("raw")) == [b'{"n":1}', b'{"n":2}']
    letter, = bench.dead()
    assert letter["reason"] == "oversize" and str(1 << 30) in letter["error"]
    assert done.node("in")["dead"] == 1


def test_a_record_above_record_max_is_a_dead_letter_with_its_beginning(bench):
    sizes = (1000, 1024, 1025, 100000, 5000000)
    bench.write("in.ndjson", [b'"' + b"x" * (n - 2) + b'"' for n in sizes])
    bench.run('settings { record_max = "1KB" }\n' + READ.split("process")[0]
              + 'sink.file "raw" { from = "in", path = "raw" }', code=3)
    assert [len(line) for line in rows(bench.path("raw"))] == [1000, 1024]
    letters = bench.dead()
    assert [x["reason"] for x in letters] == ["oversize"] * 3
    texts = [len(x.get("text", "")) or len(x["payload"]) for x in letters]
    assert texts[0] == 1025 and texts[2] <= 65536, texts


def test_a_million_small_records_with_bad_ones_among_them(bench):
    data = b"".join(b'{"n":%d\n' % n if n % 1000 == 7 else b'{"n":%d}\n' % n
                    for n in range(200000))
    bench.write("in.ndjson", data)
    done = bench.run("""
source.file "in" { path = "in.ndjson", at_end = stop }
process "p" { from = "in", workers = 2, key = "n", each = function (r)
  return r.n >= 0 and r or drop
end }
sink.file "out" { from = "p", path = "out" }""", code=3)
    assert len(rows(bench.path("out"))) == 199800
    assert len(bench.dead()) == done.node("p")["dead"] == 200


# --- files that are not as they should ----------------------------------------------

@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_told_and_the_others_are_read(bench):
    bench.write("a.log", b'{"n":1}\n').chmod(0)
    bench.write("b.log", b'{"n":2}\n')
    live = bench.start('source.file "in" { path = "*.log" }\n'
                       'sink.file "out" { from = "in", path = "out" }')
    live.wait_log("a.log.*Permission denied")
    wait_for(lambda: rows(bench.path("out")) == [b'{"n":2}'], "the other file")
    bench.path("a.log").chmod(0o600)
    wait_for(lambda: count_rows(bench.path("out")) == 2, "the file that may now be read")
    live.stop()


def test_a_missing_file_is_a_failure_of_a_batch_and_awaited_otherwise(bench):
    done = bench.run(READ, code=1)
    assert "in.ndjson" in done.err
    live = bench.start(READ.replace("at_end = stop", "at_end = follow"))
    live.wait_ready()
    bench.write("in.ndjson", [{"n": 1}])
    wait_for(lambda: count_rows(bench.path("out")) == 1, "the record")
    live.stop()


def test_a_file_that_grows_while_a_batch_reads_it(bench):
    lines = [b'{"n":%d}' % n for n in range(50000)]
    bench.write("in.ndjson", lines)
    live = bench.start('source.file "in" { path = "in.ndjson", at_end = stop,'
                       ' rate = { records = 100000, burst = "20ms" } }\n'
                       'sink.file "out" { from = "in", path = "out" }')
    live.wait_ready()
    more = [b'{"n":%d}' % n for n in range(50000, 50100)]
    bench.append("in.ndjson", b"\n".join(more) + b"\n")
    live.wait()
    got = rows(bench.path("out"))
    assert got[:50000] == lines and got[50000:] in ([], more)


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_a_file_that_goes_away_while_a_batch_reads_it(bench, how):
    bench.write("in.ndjson", [b'{"n":%d}' % n for n in range(20000)])
    live = bench.start('source.file "in" { path = "in.ndjson", at_end = stop,'
                       ' rate = { records = 20000, burst = "20ms" } }\n'
                       'sink.file "out" { from = "in", path = "out" }')
    wait_for(lambda: bench.path("out").exists() and bench.path("out").stat().st_size,
             "output")
    if how == "deleted":
        bench.path("in.ndjson").unlink()
    else:
        os.truncate(bench.path("in.ndjson"), 0)
    live.wait()
    got = [r["n"] for r in objects(bench.path("out"))]
    assert got == list(range(len(got))) and got
    assert how == "truncated" or len(got) == 20000


def test_a_file_replaced_by_a_shorter_one_with_other_content(bench):
    bench.write("in.ndjson", [{"n": n} for n in range(100)])
    bench.run(READ)
    bench.write("in.ndjson", [{"n": 1000}])
    bench.run(READ)
    assert [r["n"] for r in objects(bench.path("out"))] == list(range(100)) + [1000]


@pytest.mark.parametrize("damage", ["foreign", "zeros", "cut", "version"])
def test_a_damaged_state_file_is_told_and_left_alone(bench, damage):
    bench.write("in.ndjson", [{"n": 1}])
    bench.run(READ)
    path = bench.state / "in.positions"
    data = path.read_bytes()
    path.write_bytes({"foreign": b"mail from ann\n" * 400, "zeros": bytes(len(data)),
                      "cut": data[:100],
                      "version": data[:8] + b"\x09" + data[9:]}[damage])
    before = path.read_bytes()
    done = bench.run(None, code=None)
    assert done.code in (0, 1)
    if done.code == 1:
        assert "in.positions" in done.err and path.read_bytes() == before, done.err
    else:
        assert {r["n"] for r in objects(bench.path("out"))} == {1}


# --- a full disk ----------------------------------------------------------------------

def test_a_full_disk_holds_and_nothing_is_lost(bench, small_disk):
    lines = [b'{"n":%d,"f":"%s"}' % (n, b"x" * 100) for n in range(30000)]
    bench.write("in.ndjson", lines)
    live = bench.start('source.file "in" { path = "in.ndjson" }\n'
                       'sink.file "out" { from = "in", path = "disk/out",'
                       ' retry = { first = "20ms", max = "50ms" } }\n'
                       'source.generate "g" { count = 20000 }\n'
                       'sink.file "side" { from = "g", path = "side" }')
    live.wait_log("cannot write, trying again.*No space left", count=3)
    held = rows(small_disk / "out")
    assert held == lines[:len(held)] and len(held) < len(lines)
    wait_for(lambda: count_rows(bench.path("side")) == 20000, "the other path goes on")
    assert live.running()
    grow(small_disk)
    wait_for(lambda: count_rows(small_disk / "out") == len(lines), "the rest")
    done = live.stop()
    assert rows(small_disk / "out") == lines and done.node("out")["retries"] >= 3


@pytest.mark.parametrize("fsync", ["always", "never", '"20ms"'])
def test_what_a_full_disk_has_not_taken_is_not_acknowledged(bench, small_disk, fsync):
    lines = [b'{"n":%d,"f":"%s"}' % (n, b"x" * 100) for n in range(30000)]
    bench.write("in.ndjson", lines)
    text = ('source.file "in" { path = "in.ndjson", at_end = stop }\n'
            'sink.file "out" { from = "in", path = "disk/out", fsync = %s,'
            ' retry = { first = "20ms", max = "50ms" } }' % fsync)
    live = bench.start(text)
    live.wait_log("cannot write, trying again.*No space left", count=4)
    live.signal(signal.SIGHUP)
    live.wait_log("opening files anew")
    live.wait_log("cannot write, trying again.*No space left", count=6)
    live.kill()
    held = rows(small_disk / "out")
    assert held == lines[:len(held)]
    assert committed(bench) <= sum(len(line) + 1 for line in held)
    grow(small_disk)
    bench.run(text)
    assert set(rows(small_disk / "out")) == set(lines)


def test_a_full_disk_with_few_attempts_is_a_failure(bench, small_disk):
    lines = [b'{"n":%d,"f":"%s"}' % (n, b"x" * 100) for n in range(30000)]
    bench.write("in.ndjson", lines)
    text = ('source.file "in" { path = "in.ndjson", at_end = stop }\n'
            'sink.file "out" { from = "in", path = "disk/out",'
            ' retry = { first = "5ms", attempts = 2 } }\nsupervise { intensity = 1 }')
    done = bench.run(text, code=1)
    assert "No space left" in done.err and done.report["restarts"] == 1
    grow(small_disk)
    bench.run(text)
    got = rows(small_disk / "out")
    assert set(got) == set(lines) and len(got) == len(lines)


def test_a_full_disk_under_the_state_loses_nothing(bench, small_disk):
    """Dead letters cannot be written: nothing behind them may count as safe."""
    records = [{"n": n, "f": "x" * 500} for n in range(5000)]
    bench.write("in.ndjson", records)
    text = ('settings { state = "disk/state" }\nsupervise { intensity = 1 }\n'
            'source.file "in" { path = "in.ndjson", at_end = stop }\n'
            'process "p" { from = "in", each = function (r)'
            ' return r.n % 2 == 0 and dead "even" or r end }\n'
            'sink.file "out" { from = "p", path = "out" }')
    bench.state = small_disk / "state"
    done = bench.run(text, code=1)
    assert "No space left" in done.err
    grow(small_disk)
    bench.run(text, code=3)
    assert {r["n"] for r in objects(bench.path("out"))} == set(range(1, 5000, 2))
    assert {x["payload"]["n"] for x in bench.dead()} == set(range(0, 5000, 2))
