"""Weir inside other people's C programs: what is theirs stays theirs, nothing is lost."""
import json
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from helper import PATIENCE, ROOT, SANITIZED, Live, rows, wait_for

HERE = pathlib.Path(__file__).parent
LIBRARY = ROOT / "build" / "release" / "lib" / "libweir.a"
LIBRARIES = ["-lczmq", "-lzmq", "-lsodium", "-lpcre2-8", "-lxxhash", "-lmicrohttpd", "-llmdb", "-lnats", "-lm",
             "-pthread"]
RECEIVER = """
source.link "in" { listen = "ipc://in.sock" }
sink.file "out" { from = "in", path = "out.ndjson" }
"""

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="hosts are built against the release library"),
    pytest.mark.skipif(not LIBRARY.exists(), reason="the release library is not built"),
]


def build(source, program):
    """A host program from one C file."""
    subprocess.run(["gcc", "-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Wshadow",
                    "-Werror", "-g", "-I%s" % ROOT, str(source), "-o", str(program),
                    str(LIBRARY), *LIBRARIES], check=True, timeout=120)
    return program


@pytest.fixture(name="host", scope="module")
def host_program(tmp_path_factory):
    """The program of embed_host.c."""
    return build(HERE / "embed_host.c", tmp_path_factory.mktemp("host") / "embed_host")


@pytest.fixture(name="example", scope="module")
def example_program(tmp_path_factory):
    """The program of examples/embed-c."""
    return build(ROOT / "examples" / "embed-c" / "main.c",
                 tmp_path_factory.mktemp("example") / "embed-c")


def valgrind(*command):
    """The command under valgrind: errors and definite leaks become exit code 99."""
    return ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite", "--error-exitcode=99", *map(str, command)]


needs_valgrind = pytest.mark.skipif(not shutil.which("valgrind"),
                                    reason="valgrind is not installed")


def said(*command, cwd):
    """What a host prints on stdout; it must succeed."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True,
                          text=True, check=False, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- What is the host's own ------------------------------------------------------------

@pytest.mark.parametrize("handler", ["own", "late"])
def test_handler_and_stdout_of_a_host_stay_its_own(host, tmp_path, handler):
    assert said(host, handler, cwd=tmp_path) == ""


def test_host_that_leaves_signals_and_log_to_czmq_keeps_them(host, tmp_path):
    assert re.fullmatch(r"I: .* the log of the host\n", said(host, "czmq", cwd=tmp_path))


@needs_valgrind
def test_two_instances_in_one_process_know_nothing_of_each_other(host, tmp_path):
    assert said(*valgrind(host, "two", tmp_path), cwd=tmp_path) == ""


# --- The example -----------------------------------------------------------------------

@needs_valgrind
def test_example_runs_under_valgrind_with_its_own_handler_and_zauth(bench, example):
    live = bench.start(RECEIVER)
    live.wait_ready()
    child = Live(bench, valgrind(example, "ipc://in.sock"), out=subprocess.PIPE)
    wait_for(lambda: len(rows(bench.path("out.ndjson"))) >= 20, "readings in the file",
             4 * PATIENCE)
    child.signal(signal.SIGINT)
    out, _ = child.child.stdout.read(), child.child.wait(2 * PATIENCE)
    assert child.child.returncode == 0, child.text()
    told = re.fullmatch(rb"interrupted: (\d+) readings appended, 0 not safe\n", out)
    assert told, (out, child.text())
    live.stop()
    numbers = [json.loads(row)["reading"] for row in rows(bench.path("out.ndjson"))]
    assert numbers == list(range(1, int(told.group(1)) + 1))


def test_example_tells_what_is_not_safe_when_nobody_listens(bench, example):
    child = Live(bench, [str(example), "ipc://nobody.sock"], out=subprocess.PIPE)
    child.wait_log("link is down")
    child.signal(signal.SIGINT)
    out, code = child.child.stdout.read(), child.child.wait(PATIENCE)
    told = re.fullmatch(rb"interrupted: (\d+) readings appended, (\d+) not safe\n", out)
    assert told and told.group(1) == told.group(2), out
    assert code == (0 if told.group(1) == b"0" else 1)


def test_example_is_short_and_runs(example, tmp_path):
    source = (ROOT / "examples" / "embed-c" / "main.c").read_text(encoding="utf-8")
    assert source.count("\n") < 100
    out = said(ROOT / "examples" / "embed-c" / "run.sh", cwd=tmp_path)
    assert "1000 readings appended, 0 not safe" in out
    assert "every record is accounted for" in out
    assert example.exists()


# --- Nothing is lost -------------------------------------------------------------------

def test_kill_9_of_the_receiver_loses_nothing(bench, host):
    count = 600_000
    live = bench.start(RECEIVER)
    live.wait_ready()
    sender = Live(bench, [str(host), "send", "ipc://in.sock", str(count)],
                  out=subprocess.PIPE)
    assert sender.child.stdout.readline() == b"half\n"
    live.kill()
    live = bench.start(None)
    out = sender.child.stdout.read()
    assert sender.child.wait(2 * PATIENCE) == 0, sender.text()
    assert out == b"safe up to %d\n" % count
    assert "link is up" in sender.text(), "it was done before the receiver died"
    live.stop()
    numbers = {json.loads(row)["n"] for row in rows(bench.path("out.ndjson"))}
    assert numbers == set(range(1, count + 1))
