"""weir bus and weir cat: what a bus has stored, whole and damaged, still and written."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from helper import PATIENCE, ROOT, SANITIZED, WEIR, Live, wait_for

HERE = pathlib.Path(__file__).parent
LIBRARY = pathlib.Path(WEIR).resolve().parents[1] / "lib" / "libweir.a"
LIBRARIES = ["-lczmq", "-lzmq", "-lsodium", "-lpcre2-8", "-lxxhash", "-lmicrohttpd",
             "-llmdb", "-lhiredis", "-lnats", "-lm", "-pthread"]


@pytest.fixture(name="program", scope="module")
def writer_program(tmp_path_factory):
    """The program of bus_store.c."""
    program = tmp_path_factory.mktemp("bus_store") / "bus_store"
    sanitizer = ["-fsanitize=address,undefined"] if SANITIZED else []
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow",
                    "-Werror", "-g", *sanitizer, "-I%s" % ROOT, str(HERE / "bus_store.c"),
                    "-o", str(program), str(LIBRARY), *LIBRARIES], check=True, timeout=120)
    return program


class Store:
    """A store that is written; closed, it stands still."""

    def __init__(self, program, path):
        self.path = pathlib.Path(path)
        self.child = subprocess.Popen([program, path], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def do(self, *lines):
        """Has each line done."""
        for line in lines:
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
            assert self.child.stdout.readline() == "done\n", line

    def put(self, shard, values, key="-"):
        """One batch of records."""
        self.do(*("record %d %s %s" % (shard, key, json.dumps(value)) for value in values),
                "write")

    def close(self):
        """Ends the writer."""
        self.child.stdin.close()
        assert self.child.wait(PATIENCE) == 0

    def data(self):
        """The file of the environment in use."""
        return self.path / (self.path / "CURRENT").read_text().strip() / "data.mdb"

    def flip(self, text):
        """Changes one byte of a text, in pages that are no longer used, too."""
        data = self.data().read_bytes()
        assert text in data
        self.data().write_bytes(data.replace(text, bytes([text[0] ^ 1]) + text[1:]))


@pytest.fixture(name="store")
def written_store(program, bench):
    """An empty store in the folder `store`."""
    store = Store(program, str(bench.path("store")))
    yield store
    store.child.kill()
    store.child.wait()
    store.child.stdin.close()
    store.child.stdout.close()


def batches(store, shards=2, count=5, records=3):
    """Batches of records that say where they are; the writer ends."""
    for shard in range(shards):
        for i in range(count):
            store.put(shard, [{"shard": shard, "offset": i * records + j + 1,
                               "text": "s%d-o%d." % (shard, i * records + j + 1)}
                              for j in range(records)])
    store.close()


def weir(bench, *words, code=0, env=None):
    """Runs a command, which has to end so."""
    run = bench.weir(*words, env=env)
    assert run.code == code, (run.code, run.out, run.err)
    assert "Sanitizer" not in run.err, run.err
    return run


def objects(run):
    """The lines of its stdout."""
    return [json.loads(line) for line in run.out.splitlines()]


def cursor(run):
    """Where it says that one can go on."""
    return re.search(r"what follows: --from (w1\S+)$", run.err, re.M).group(1)


def content(folder):
    """{name: bytes} of the files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


# --- bus ls -------------------------------------------------------------------------


def test_ls_tells_shards_states_and_groups(bench, store):
    store.do("shards 2")
    store.put(0, [{"a": 1}, {"a": 2}])
    store.put(0, [{"a": 3}])
    store.put(1, [{"a": 4}])
    store.do("group bill 0 2", "group bill 1 0")
    told = json.loads(weir(bench, "bus", "ls", "--json", "store").out)  # while it is open
    assert [(s["shard"], s["state"], s["first"], s["last"], s["records"], s["trimmed"])
            for s in told["shards"]] == [(0, "active", 1, 3, 3, 0), (1, "draining", 1, 1, 1, 0)]
    assert all(0 < s["bytes"] < 100 and s["oldest_ms"] <= s["newest_ms"]
               for s in told["shards"])
    assert told["groups"] == [
        {"group": "bill", "shard": 0, "commit": 2, "lag": 1, "shed": 0},
        {"group": "bill", "shard": 1, "commit": 0, "lag": 1, "shed": 0}]
    assert told["gaps"] == [] and re.fullmatch("[0-9a-f]{16}", told["nonce"])
    text = weir(bench, "bus", "ls", "store").out
    assert re.search(r"^0 +active +1 +3 +3 ", text, re.M)
    assert re.search(r"^bill +0 +2 +1 +0$", text, re.M)


def test_ls_of_a_store_whose_state_is_elsewhere(bench, store):
    batches(store, count=1)
    (store.path / "identity").unlink()
    (store.path / "groups.mdb").unlink()
    told = json.loads(weir(bench, "bus", "ls", "--json", "store").out)
    assert "nonce" not in told and "state" not in told["shards"][0]
    assert "keeps its state elsewhere" in weir(bench, "bus", "ls", "store").out


# --- bus verify and repair ----------------------------------------------------------


def test_one_flipped_byte_is_named_and_costs_its_block(bench, store):
    batches(store)
    assert weir(bench, "bus", "verify", "store").out == "store: no damage\n"
    assert json.loads(weir(bench, "bus", "verify", "--json", "store").out) == {"damage": []}
    store.flip(b"s1-o8.")
    before = content(store.path)
    run = weir(bench, "bus", "verify", "store", code=1)
    assert run.out.startswith("shard 1, offsets 7 to 9: its checksum is ")
    assert "damaged in 1 place" in run.err
    damage = json.loads(weir(bench, "bus", "verify", "--json", "store", code=1).out)["damage"]
    assert [(d["shard"], d["first"], d["last"]) for d in damage] == [(1, 7, 9)]
    run = weir(bench, "bus", "repair", "store", "new")
    assert run.out == "new: 27 records copied, 3 lost\n"
    assert content(store.path) == before
    weir(bench, "bus", "verify", "new")
    told = json.loads(weir(bench, "bus", "ls", "--json", "new").out)
    assert told["gaps"] == [{"shard": 1, "first": 7, "last": 9, "kind": "damaged"}]
    run = weir(bench, "cat", "--json", "new", code=1)
    assert "shard 1: offsets 7 to 9 are damaged" in run.err
    got = {(r["shard"], r["offset"]) for r in objects(run)}
    assert got == {(s, o) for s in (0, 1) for o in range(1, 16)} - {(1, 7), (1, 8), (1, 9)}
    assert all(r["payload"]["offset"] == r["offset"] for r in objects(run))


def test_a_repaired_store_is_the_same_bus_and_can_be_written(bench, store, program):
    batches(store)
    store.flip(b"s0-o2.")
    old = weir(bench, "bus", "ls", "--json", "store")
    weir(bench, "bus", "repair", "store", "new")
    again = Store(program, str(bench.path("new")))
    again.put(0, [{"more": True}])
    again.close()
    told = json.loads(weir(bench, "bus", "ls", "--json", "new").out)
    assert told["nonce"] == json.loads(old.out)["nonce"]
    assert told["shards"][0]["last"] == 16
    weir(bench, "bus", "verify", "new")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_file_is_damage(bench, store, share):
    batches(store)
    data = store.data().read_bytes()
    used = len(data.rstrip(b"\0"))
    store.data().write_bytes(data[:int(used * share)])
    run = bench.weir("bus", "verify", "store")
    if run.code == 0:  # only free pages were cut off, which may never have been written
        assert share == 0.9 and len(objects(weir(bench, "cat", "--json", "store"))) == 30
        return
    assert run.code == 1 and run.out, "nothing was told"
    for words in (["bus", "ls", "store"], ["cat", "store"], ["bus", "trim", "--records", "1",
                                                            "store"]):
        run = weir(bench, *words, code=1)
        assert run.err.startswith("weir: ") and run.err.count("\n") == 1


def test_garbage_is_damage(bench, store):
    batches(store)
    store.data().write_bytes(b"garbage" * 3000)
    run = weir(bench, "bus", "verify", "store", code=1)
    assert "data.mdb cannot be opened" in run.out
    run = weir(bench, "bus", "repair", "store", "new")
    assert run.out == "new: 0 records copied, 0 lost\n"


def test_no_page_of_garbage_crashes_a_command(bench, store):
    batches(store, shards=3, count=6, records=10)
    good = store.data().read_bytes()
    pages = len(good.rstrip(b"\0")) // 4096
    codes = set()
    for page in range(2, pages):
        noise = bytes((i * 7 + page * 31) & 255 for i in range(4096))
        store.data().write_bytes(good[:page * 4096] + noise + good[(page + 1) * 4096:])
        for words in (["bus", "ls"], ["cat"], ["bus", "verify"]):
            run = bench.weir(*words, "store")
            codes.add(run.code)
            assert run.code == 0 or (run.code == 1 and "weir: " in run.err), (page, words)
    assert codes == {0, 1}


@pytest.mark.parametrize("words", [["ls"], ["verify"], ["trim", "--records", "5"]])
def test_what_is_no_store_is_said(bench, words):
    run = weir(bench, "bus", *words, "nowhere", code=2)
    assert "nowhere" in run.err
    bench.path("empty").mkdir()
    run = weir(bench, "bus", *words, "empty", code=2)
    assert "no store of a bus is here" in run.err
    assert list(bench.path("empty").iterdir()) == []


def test_a_store_that_is_written_is_left_alone(bench, store):
    store.put(0, [{"a": 1}])
    who = "process %d uses this store: end it first" % store.child.pid
    for words in (["verify", "store"], ["repair", "store", "new"],
                  ["trim", "--records", "5", "store"]):
        run = bench.weir("bus", *words)
        assert run.code in (1, 2) and who in run.err, run.err
    assert bench.weir("bus", "verify", "store").code == 2  # 1 would mean damage
    assert not bench.path("new").exists()


def test_repair_writes_over_nothing(bench, store):
    batches(store, count=1)
    bench.write("new/file", "mine")
    run = weir(bench, "bus", "repair", "store", "new", code=1)
    assert "new: something is there" in run.err
    run = weir(bench, "bus", "repair", "store", code=2)
    assert "FOLDER NEW is missing" in run.err


# --- bus trim -----------------------------------------------------------------------


def test_trim_keeps_a_bound(bench, store):
    batches(store)
    assert weir(bench, "bus", "trim", "--records", "4", "store").out == \
        "store: 18 records trimmed\n"  # of each shard two blocks of 3 are left
    assert weir(bench, "bus", "trim", "--age", "1h", "store").out == \
        "store: 0 records trimmed\n"
    told = json.loads(weir(bench, "bus", "ls", "--json", "store").out)
    assert [(s["first"], s["records"], s["trimmed"]) for s in told["shards"]] == \
        [(10, 6, 9), (10, 6, 9)]
    run = weir(bench, "cat", "store")
    assert len(objects(run)) == 12 and "shard 0: offsets 1 to 9 were trimmed" in run.err
    assert weir(bench, "bus", "trim", "--bytes", "1B", "store").out == \
        "store: 6 records trimmed\n"
    weir(bench, "bus", "verify", "store")


@pytest.mark.parametrize("flags, told", [
    ([], "say what to keep: --age, --bytes or --records"),
    (["--age", "7"], "--age: "),
    (["--bytes", "7"], "--bytes: "),
    (["--records", "many"], "--records: expected a number of records"),
    (["--records", "0"], "--records: expected a number of records"),
])
def test_trim_wants_bounds_with_units(bench, store, flags, told):
    batches(store, count=1)
    assert told in weir(bench, "bus", "trim", *flags, "store", code=2).err


# --- cat ----------------------------------------------------------------------------


def test_cat_shows_payloads_and_goes_on_at_its_cursor(bench, store):
    batches(store)
    first = weir(bench, "cat", "--limit", "7", "store")
    assert len(objects(first)) == 7 and "7 records shown" in first.err
    rest = weir(bench, "cat", "--from", cursor(first), "store")
    seen = objects(first) + objects(rest)
    assert sorted((r["shard"], r["offset"]) for r in seen) == \
        [(s, o) for s in (0, 1) for o in range(1, 16)]
    for shard in (0, 1):
        assert [r["offset"] for r in seen if r["shard"] == shard] == list(range(1, 16))
    assert objects(weir(bench, "cat", "--from", cursor(rest), "store")) == []


def test_cat_json_shows_whole_records(bench, store):
    store.do('record 0 k1 {"a": 1, "b": [true]}', "text 1 a line", "header 2 tenant=acme",
             "write")
    store.close()
    nonce = json.loads(weir(bench, "bus", "ls", "--json", "store").out)["nonce"]
    one, two, three = sorted(objects(weir(bench, "cat", "--json", "store")),
                             key=lambda r: r["shard"])
    assert list(one) == ["shard", "offset", "id", "ts", "key", "headers", "payload"]
    assert one["id"] == nonce + ":1:0:1" and one["offset"] == 1 and one["key"] == "k1"
    assert one["payload"] == {"a": 1, "b": [True]} and one["headers"] is None
    assert abs(one["ts"] / 1000 - time.time()) < 600
    assert two["key"] is None and two["text"] == "a line"
    assert three["headers"] == {"tenant": "acme"}
    assert weir(bench, "cat", "store").out.splitlines() == \
        ['{"a": 1, "b": [true]}', "a line", "{}"]


def test_cat_where(bench, store):
    batches(store)
    run = weir(bench, "cat", "--where", "offset > 12 and $shard == 1", "store")
    assert [r["offset"] for r in objects(run)] == [13, 14, 15]
    run = weir(bench, "cat", "--where", "offset = 1", "store", code=2)
    assert run.err.startswith("weir: --where, column 8: ")


def test_cat_from_the_end_and_from_a_time(bench, store):
    batches(store)
    at_end = weir(bench, "cat", "--from", "end", "store")
    assert at_end.out == "" and "0 records shown" in at_end.err
    assert weir(bench, "cat", "--from", cursor(at_end), "store").out == ""
    assert len(objects(weir(bench, "cat", "--from", "1h", "store"))) == 30
    assert len(objects(weir(bench, "cat", "--from", "2020-01-01", "store"))) == 30
    assert weir(bench, "cat", "--from", "2100-01-01T00:00:00Z", "store").out == ""


@pytest.mark.parametrize("words, told", [
    (["--from", "yesterday"], "--from: 'yesterday' is no position"),
    (["--from", "2026-02-31"], "--from: '2026-02-31' is no position"),
    (["--from", "w1AAAA"], "--from: bad_cursor"),
    (["--limit", "0"], "--limit: expected a number"),
    (["--limit", "-1"], "--limit: expected a number"),
    (["--where", "("], "--where, column "),
])
def test_cat_refuses_what_makes_no_sense(bench, store, words, told):
    batches(store, count=1)
    assert told in weir(bench, "cat", *words, "store", code=2).err


def test_cat_of_another_bus_refuses_the_cursor(bench, store, program):
    batches(store, count=1)
    other = Store(program, str(bench.path("other")))
    batches(other, count=1)
    run = weir(bench, "cat", "other")
    run = weir(bench, "cat", "--from", cursor(run), "store", code=2)
    assert "--from: bad_cursor" in run.err


def test_cat_of_nothing(bench):
    assert "nowhere: there is no such folder" in \
        weir(bench, "cat", "./nowhere", code=2).err.replace("./", "")
    bench.path("empty").mkdir()
    assert "no store of a bus is here" in weir(bench, "cat", "empty", code=2).err
    bench.write("file", "")
    assert "it is no folder" in weir(bench, "cat", "file", code=2).err
    assert "no weir named 'web' runs here" in weir(bench, "cat", "web/events", code=2).err


def test_cat_of_a_node_that_is_no_bus(bench):
    bench.topology('source.generate "g" {}\nsink.null "n" { from = "g" }')
    live = Live(bench, [WEIR, "run", "--quiet", "t.lua"])
    live.wait_ready()
    run = weir(bench, "cat", "t/n", code=2)
    assert "t/n: it is no bus with a store" in run.err
    assert "which bus? Write t/BUS" in weir(bench, "cat", "t", code=2).err
    live.stop()


def test_cat_of_a_running_weir_finds_the_store(bench):
    bench.write("in", [{"n": n} for n in range(10)])
    bench.topology('source.file "in" { path = "in" }\n'
                   'bus "b" { from = "in", shards = 1, store = disk { keep = all } }\n'
                   'bus "m" { from = "in" }\nsink.null "n" { from = "m" }')
    live = Live(bench, [WEIR, "run", "--quiet", "t.lua"])
    live.wait_ready()
    wait_for(lambda: weir(bench, "cat", "t/b").out.count("\n") == 10, "ten records")
    assert weir(bench, "cat", "--limit", "2", "t/b").out == '{"n": 0}\n{"n": 1}\n'
    run = weir(bench, "cat", "t/m", code=2)
    assert "t/m: it is no bus with a store" in run.err
    live.stop()


def test_cat_follows_what_is_written(bench, store):
    store.put(0, [{"n": 1}])
    out = bench.path("out")
    with open(out, "wb") as file:
        cat = Live(bench, [WEIR, "cat", "--follow", "store"], file)
    wait_for(lambda: out.read_text() == '{"n": 1}\n', "the first record")
    for n in range(2, 6):
        store.put(n % 2, [{"n": n}])
        wait_for(lambda: len(out.read_text().splitlines()) == n, "record %d" % n)
    reader = pathlib.Path("/proc/%d/task/%d/children" % (cat.pid, cat.pid))
    cat.pid = int(reader.read_text(encoding="ascii"))  # the one that works
    before = cat.cpu_seconds()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert cat.running()
    assert cat.cpu_seconds() - before < 0.1
    cat.signal(signal.SIGINT)
    assert cat.child.wait(PATIENCE) == 0
    cat.wait_log("5 records shown; what follows: --from w1")


def test_cat_follow_ends_at_its_limit(bench, store):
    with open(bench.path("out"), "wb") as file:
        store.put(0, [{"n": 1}])
        cat = Live(bench, [WEIR, "cat", "--follow", "--limit", "3", "store"], file)
        wait_for(lambda: bench.path("out").read_text() == '{"n": 1}\n', "the first record")
        store.put(1, [{"n": 2}, {"n": 3}, {"n": 4}])
        assert cat.child.wait(PATIENCE) == 0
    assert len(bench.path("out").read_text().splitlines()) == 3


def test_cat_ends_quietly_when_nobody_reads(bench, store):
    store.put(0, [{"n": n, "text": "x" * 1000} for n in range(1000)])
    store.close()
    cat = subprocess.Popen([WEIR, "cat", "store"], cwd=bench.folder, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=bench.environment(None))
    assert cat.stdout.readline().startswith(b'{"n": 0')
    cat.stdout.close()
    assert cat.stderr.read() == b"" and cat.wait(PATIENCE) == 0
    cat.stderr.close()


def test_cat_says_when_it_cannot_write(bench, store):
    batches(store, count=1)
    with open("/dev/full", "wb", buffering=0) as full:
        done = subprocess.run([WEIR, "cat", "store"], cwd=bench.folder, stdout=full,
                              stderr=subprocess.PIPE, env=os.environ, timeout=PATIENCE,
                              check=False)
    assert done.returncode == 1 and b"stdout: cannot write: No space left" in done.stderr


# --- weir run -----------------------------------------------------------------------

DURABLE = """
source.generate "in" { count = %d }
bus "b" { from = "in", shards = 2, batch = { min_records = 10, max_records = 20, max_delay = "1ms" },
  store = disk { path = "store", keep = all } }
sink.null "out" { from = "b" }
"""


def pages(path):
    """(page, the file with noise in its place) of each page but the two first."""
    good = path.read_bytes()
    for page in range(2, len(good.rstrip(b"\0")) // 4096 + 1):
        noise = bytes((i * 7 + page * 31) & 255 for i in range(4096))
        yield page, good[:page * 4096] + noise + good[(page + 1) * 4096:]


@pytest.mark.parametrize("name", ["data.mdb", "groups.mdb"])
def test_no_page_of_garbage_crashes_a_start(bench, name):
    made = bench.run(DURABLE % 200, "--until-idle")
    assert made.code == 0
    store, new = bench.path("store"), bench.path("new")
    bench.write("mended.lua", (DURABLE % 10).replace('"store"', '"new"'))
    whole = content(store)
    path = next(store.rglob(name))
    refused = 0
    for page, changed in pages(path):
        for file, good in whole.items():
            (store / file).write_bytes(good)
        path.write_bytes(changed)
        run = bench.weir("run", "--quiet", "--until-idle", "t.lua")
        refused += run.code != 0
        assert run.code in (0, 1), (page, run.code, run.err)
        assert run.code == 0 or name in run.err and "damaged" in run.err, (page, run.err)
        if run.code == 0:
            continue
        assert "weir bus repair" in run.err, (page, run.err)
        assert bench.weir("bus", "verify", "store").code == 1, page
        mended = weir(bench, "bus", "repair", "store", "new")
        assert ("groups.mdb was damaged" in mended.err) == (name == "groups.mdb"), mended.err
        weir(bench, "bus", "verify", "new")
        weir(bench, "run", "--quiet", "--until-idle", "mended.lua")
        shutil.rmtree(new)
    assert refused >= 2


def test_verify_looks_at_the_state_beside_a_store(bench, store):
    store.do("shards 2", "group bill 0 2")
    batches(store)
    weir(bench, "bus", "verify", "store")
    path = store.path / "groups.mdb"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"bill", b"bell"))
    run = weir(bench, "bus", "verify", "store", code=1)
    assert run.out.startswith("groups.mdb: the state file is damaged")
