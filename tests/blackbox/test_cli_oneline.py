"""weir pipe, send and recv: topologies of one line."""
import json
import os
import pathlib
import re
import signal
import subprocess

from helper import WEIR, Live, objects, rows, wait_for

LINES = [{"status": 200, "bytes": 2048}, {"status": 503, "bytes": 4096}, {"status": "x"}]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES).encode()


def no_folders_left(bench):
    """What lies in the folder for temporary things."""
    return sorted(path.name for path in bench.path("tmp").glob("weir-*"))


def weir(bench, *words, stdin=b"", code=0):
    """Runs a command with a folder for temporary things of its own."""
    bench.path("tmp").mkdir(exist_ok=True)
    run = bench.weir(*words, stdin=stdin, env={"TMPDIR": str(bench.path("tmp"))})
    assert run.code == code, (run.code, run.out, run.err)
    return run


def live(bench, *words, out=subprocess.DEVNULL, stdin=subprocess.DEVNULL):
    """Starts a command, the same way."""
    bench.path("tmp").mkdir(exist_ok=True)
    env = bench.environment({"TMPDIR": str(bench.path("tmp"))})
    return Live(bench, [WEIR, *map(str, words)], out, stdin, env)


def receiver(bench, *words, name="r"):
    """A `weir recv` that listens, and the endpoint and file of what it writes."""
    out = bench.path(name + ".out")
    with open(out, "wb") as file:
        recv = live(bench, "recv", "ipc://%s" % bench.path(name + ".ipc"), *words, out=file)
    recv.wait_log("listening on")
    return recv, "ipc://%s" % bench.path(name + ".ipc"), out


# --- pipe ---------------------------------------------------------------------------


def test_pipe_filters_and_maps(bench):
    run = weir(bench, "pipe", "--where", "status >= 500", "--each",
               "r.kib = r.bytes // 1024 return r", stdin=TEXT)
    assert [json.loads(line) for line in run.out.splitlines()] == \
        [{"status": 503, "bytes": 4096, "kib": 4}]
    assert run.err == "" and no_folders_left(bench) == []


def test_pipe_without_anything_copies(bench):
    assert weir(bench, "pipe", stdin=TEXT).out.encode() == TEXT
    assert weir(bench, "pipe", "--framing", "lines", stdin="größe ✓\n".encode()).out == \
        "größe ✓\n"


def test_pipe_unicode_and_quotes_in_lua(bench):
    run = weir(bench, "pipe", "--each", "r['ß'] = \"'→'\" return r -- Ende",
               stdin=b'{"a":1}\n')
    assert json.loads(run.out) == {"a": 1, "ß": "'→'"}


def test_pipe_many_workers_keep_a_key_in_order(bench):
    lines = [{"k": i % 7, "n": i} for i in range(20000)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    run = weir(bench, "pipe", "--workers", "4", "--key", "k", "--each", "return r",
               stdin=text)
    seen = [json.loads(line) for line in run.out.splitlines()]
    assert sorted(r["n"] for r in seen) == list(range(20000))
    for key in range(7):
        numbers = [r["n"] for r in seen if r["k"] == key]
        assert numbers == sorted(numbers)


def test_pipe_complaints_name_the_flag(bench):
    for words, expected in [
            (("--each", "retrun r"), "--each:1: "),
            (("--each", "r.a = 1\nreturn r +"), "--each:2: "),
            (("--each", "return foo (r)"), "--each:1: unknown name 'foo'"),
            (("--each", "return r end, where = function ()"), "--each:1: "),
            (("--where", "status >="), "--where: column 10"),
            (("--framing", "line"), "--framing: .*did you mean 'lines'"),
            (("--workers", "0"), "--workers: out of range"),
            (("--workers", "many"), "--workers: 'many' is no number"),
            (("--key", "a..b"), "--key: 'a..b' is no field path"),
            (("--eech", "return r"), r"unknown option '--eech' \(did you mean '--each'"),
    ]:
        run = weir(bench, "pipe", *words, stdin=TEXT, code=2)
        assert re.search(expected, run.err), (words, run.err)
        assert run.out == "" and no_folders_left(bench) == []


def test_pipe_keeps_and_names_dead_letters(bench):
    run = weir(bench, "pipe", "--each", "r.kib = r.bytes // 1024 return r", stdin=TEXT,
               code=3)
    assert len(run.out.splitlines()) == 2
    found = re.search(r"1 dead letter in (\S+)\n.*the first: --each:1: attempt", run.err)
    assert found, run.err
    dead = objects(pathlib.Path(found.group(1)))
    assert [letter["payload"] for letter in dead] == [LINES[2]]
    assert os.stat(pathlib.Path(found.group(1)).parent).st_mode & 0o077 == 0
    weir(bench, "pipe", "--on-error", "drop", "--each", "return r.bytes.x.y", stdin=TEXT)


def test_pipe_whose_reader_goes_away(bench):
    bench.path("tmp").mkdir()
    text = b"".join(b"%d\n" % n for n in range(300000))
    bench.write("in", text)
    read, write = os.pipe()
    with open(bench.path("in"), "rb") as stdin:
        pipe = live(bench, "pipe", "--framing", "lines", out=write, stdin=stdin)
    os.close(write)
    assert os.read(read, 2) == b"0\n"
    os.close(read)
    run = pipe.wait(code=1)
    assert "cannot write: Broken pipe" in run.err
    assert no_folders_left(bench) == []


def test_pipe_ends_by_sigint_with_all_that_it_read(bench):
    read, write = os.pipe()
    with open(bench.path("out"), "wb") as out:
        pipe = live(bench, "pipe", out=out, stdin=read)
    os.close(read)
    os.write(write, TEXT)
    wait_for(lambda: len(rows(bench.path("out"))) == 3, "the records")
    pipe.signal(signal.SIGINT)
    assert "interrupted: all that was read is safe" in pipe.wait(code=1).err
    assert rows(bench.path("out")) == TEXT.splitlines()
    os.close(write)


# --- send and recv ------------------------------------------------------------------


def test_send_and_recv(bench):
    recv, endpoint, out = receiver(bench, "--limit", 3)
    run = weir(bench, "send", endpoint, stdin=TEXT)
    assert run.err == "" or "link is down" in run.err
    recv.wait(code=0)
    assert rows(out) == TEXT.splitlines()
    assert no_folders_left(bench) == []


def test_recv_json_shows_whole_records(bench):
    recv, endpoint, out = receiver(bench, "--limit", 3, "--json")
    weir(bench, "send", endpoint, "--key", "status", stdin=TEXT)
    recv.wait(code=0)
    assert [(r["key"], r["payload"]) for r in objects(out)] == \
        [(line["status"], line) for line in LINES]


def test_send_key_by_a_path_that_is_not_always_there(bench):
    text = b'{"a":{"b":[1,"x"]}}\n{"a":1}\n{}\n'
    recv, endpoint, out = receiver(bench, "--limit", 3, "--json")
    weir(bench, "send", endpoint, "--key", "a.b[1]", stdin=text)
    recv.wait(code=0)
    assert [r["key"] for r in objects(out)] == ["x", None, None]


def test_recv_json_of_text_that_is_no_line(bench):
    recv, endpoint, out = receiver(bench, "--limit", 1)
    weir(bench, "send", endpoint, "--framing", "blob", "--format", "text",
         stdin="zwei\nZeilen ✓".encode())
    recv.wait(code=0)
    assert objects(out)[0]["text"] == "zwei\nZeilen ✓"


def test_recv_limit_acknowledges_no_more_than_it_wrote(bench):
    """The block that the limit cuts comes again, whole, to whoever listens next."""
    text = b"".join(b'{"n":%d}\n' % n for n in range(50))
    bench.write("in", text)
    recv, endpoint, out = receiver(bench, "--limit", 20)
    with open(bench.path("in"), "rb") as stdin:
        send = live(bench, "send", endpoint, stdin=stdin)
    recv.wait(code=0)
    assert rows(out) == text.splitlines()[:20]
    assert send.running()
    again, _, rest = receiver(bench, "--limit", 50)
    again.wait(code=0)
    send.wait(code=0)
    assert rows(rest) == text.splitlines()


def test_recv_for_a_time_ends_cleanly(bench):
    run = weir(bench, "recv", "ipc://%s" % bench.path("x"), "--for", "50ms")
    assert "listening on" in run.err


def test_recv_whose_reader_goes_away_acknowledges_nothing_more(bench):
    read, write = os.pipe()
    recv = live(bench, "recv", "ipc://%s" % bench.path("r.ipc"), out=write)
    os.close(write)
    recv.wait_log("listening")
    os.close(read)
    bench.write("in", TEXT)
    with open(bench.path("in"), "rb") as stdin:
        send = live(bench, "send", "ipc://%s" % bench.path("r.ipc"), stdin=stdin)
    assert "Broken pipe" in recv.wait(code=1).err
    assert send.running()
    again, _, out = receiver(bench, "--limit", 3)
    again.wait(code=0)
    send.wait(code=0)
    assert rows(out) == TEXT.splitlines()


def test_send_to_nobody_is_told_and_can_be_interrupted(bench):
    bench.write("in", TEXT)
    with open(bench.path("in"), "rb") as stdin:
        send = live(bench, "send", "ipc://%s" % bench.path("nobody"), stdin=stdin)
    send.wait_log("link is down .*nobody answers there")
    send.signal(signal.SIGINT)
    wait_for(lambda: not send.running() or send.signal(signal.SIGINT), "the end")
    run = send.wait(code=1)
    assert "3 records were read and not safe" in run.err or "interrupted" in run.err
    assert no_folders_left(bench) == []


def test_send_finds_a_running_weir_by_its_name(bench):
    weir_run = bench.start('source.link "in" { listen = "tcp://127.0.0.1:*", '
                           'plaintext = true }\n'
                           'sink.file "out" { from = "in", path = "out.ndjson" }')
    weir_run.wait_ready()
    weir(bench, "send", "t/in", "--plaintext", stdin=TEXT)
    assert rows(bench.path("out.ndjson")) == TEXT.splitlines()
    for target, expected in [
            ("t/inn", "it has no node 'inn' .did you mean 'in'.*in, out"),
            ("u/in", "no weir named 'u' runs here.*these do: t"),
            ("t", "which source.link"),
            ("t/out", "listens for nobody"),
            ("t/in", "say --plaintext"),
            ("tcp://nowhere", "expected tcp://HOST:PORT"),
    ]:
        words = [] if "say" in expected else ["--plaintext"]
        run = weir(bench, "send", target, *words, stdin=TEXT, code=2)
        assert re.search(expected, run.err), run.err
    weir_run.stop()


def test_send_files_goes_on_where_it_was(bench):
    bench.write("log/a.ndjson", LINES)
    for state in (0, 1):
        recv, endpoint, out = receiver(bench, "--limit", 3 - 2 * state, name="r%d" % state)
        run = weir(bench, "send", endpoint, "--file", "log/*.ndjson", "--state", "s")
        recv.wait(code=0)
        assert run.code == 0
        assert objects(out) == (LINES if state == 0 else [{"more": 1}])
        bench.append("log/a.ndjson", '{"more": 1}\n')
    run = weir(bench, "send", endpoint, "--file", "log/none.ndjson", code=2)
    assert "log/none.ndjson: No such file" in run.err
    run = weir(bench, "send", endpoint, "--state", "s", code=2)
    assert "--state: is for --file" in run.err


def test_send_and_recv_by_certificates(bench):
    for name in ("alice", "bob"):
        weir(bench, "keys", "init", name, "--keys", name)
    weir(bench, "keys", "allow", "alice/self.pub", "--keys", "bob", "--role", "produce")
    weir(bench, "keys", "allow", "bob/self.pub", "--keys", "alice", "--role", "none")
    with open(bench.path("out"), "wb") as file:
        recv = live(bench, "recv", "tcp://127.0.0.1:*", "--keys", "bob", "--json",
                    "--limit", 3, out=file)
    recv.wait_log("listening on")
    endpoint = re.search(r"listening on (\S+)", recv.text()).group(1)
    weir(bench, "send", endpoint, "--keys", "alice", "--server", "bob", stdin=TEXT)
    recv.wait(code=0)
    assert [r["peer"] for r in objects(bench.path("out"))] == ["alice"] * 3
    run = weir(bench, "send", endpoint, stdin=TEXT, code=2)
    assert "Name it by --server" in run.err
    run = weir(bench, "send", endpoint, "--server", "carol", "--keys", "alice",
               stdin=TEXT, code=1)
    assert "carol" in run.err
