"""Weir inside other people's C programs: what is theirs stays theirs, nothing is lost."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from helper import PATIENCE, ROOT, SANITIZED, WEIR, Live, count_rows, rows, wait_for

HERE = pathlib.Path(__file__).parent
EXAMPLE = ROOT / "examples" / "embed-c"
LIBRARY = ROOT / "build" / "release" / "lib" / "libweir.a"
LIBRARIES = ["-lczmq", "-lzmq", "-lsodium", "-lpcre2-8", "-lxxhash", "-lmicrohttpd", "-llmdb", "-lhiredis", "-lnats", "-lm",
             "-pthread"]
RECEIVER = """
source.link "in" { listen = "ipc://in.sock" }
sink.file "out" { from = "in", path = "out.ndjson" }
"""

pytestmark = [
    pytest.mark.skipif(SANITIZED, reason="hosts are built against the release library"),
    pytest.mark.skipif(not LIBRARY.exists(), reason="the release library is not built"),
]


def build(program, *sources, flags=("-Wshadow",)):
    """A host program from C files."""
    subprocess.run(["gcc", "-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", *flags,
                    "-Werror", "-g", "-I%s" % ROOT, *map(str, sources), "-o", str(program),
                    str(LIBRARY), *LIBRARIES], check=True, timeout=120)
    return program


@pytest.fixture(name="host", scope="module")
def host_program(tmp_path_factory):
    """The program of embed_host.c."""
    return build(tmp_path_factory.mktemp("host") / "embed_host", HERE / "embed_host.c")


@pytest.fixture(name="example", scope="module")
def example_program(tmp_path_factory):
    """The program of examples/embed-c."""
    return build(tmp_path_factory.mktemp("example") / "embed-c", *EXAMPLE.glob("*.c"))


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

def numbers(text):
    """Those of the readings, a JSON document a line."""
    return sorted(json.loads(line)["n"] for line in text.splitlines())


class Example:
    """Runs of the example with one state folder; what its group takes goes into one file."""

    def __init__(self, bench, program):
        self.bench, self.program = bench, program

    def start(self, count, take, wrap=lambda *command: list(command)):
        """A run of it."""
        with open(self.bench.path("taken"), "ab") as out:
            return Live(self.bench, wrap(str(self.program), "state", str(count), str(take)),
                        out)

    def end(self, live, number=signal.SIGINT):
        """What it tells when the signal has ended it: appended, unsafe, stored, taken."""
        live.signal(number)
        assert live.child.wait(4 * PATIENCE) == 0, live.text()
        told = re.search(r"interrupted: (\d+) readings appended, (\d+) not safe, "
                         r"(\d+) stored, (\d+) taken\n", live.text())
        return [int(number) for number in told.groups()]

    def taken(self):
        """The numbers of the readings that the group has taken in all runs."""
        return numbers(self.bench.path("taken").read_bytes())

    def stored(self):
        """Those in the store, when none runs."""
        return numbers(self.bench.weir("cat", "state/bus/readings").out)


@pytest.fixture(name="runs")
def example_runs(bench, example):
    """Runs of the example in a folder of their own."""
    return Example(bench, example)


@needs_valgrind
def test_example_ends_by_its_own_handler_and_the_next_run_goes_on(bench, runs):
    live = runs.start(10**9, 10**9, valgrind)
    wait_for(lambda: count_rows(bench.path("taken")) >= 20, "readings that were taken",
             4 * PATIENCE)
    appended, unsafe, stored, taken = runs.end(live)
    assert appended == stored == len(runs.stored()) and unsafe == 0
    assert len(runs.taken()) == taken
    rest = runs.start(0, stored - taken)
    assert rest.child.wait(PATIENCE) == 0, rest.text()
    assert runs.taken() == runs.stored()


def test_example_that_was_killed_loses_nothing_that_is_stored(bench, runs):
    live = runs.start(10**9, 2000)
    wait_for(lambda: count_rows(bench.path("taken")) == 2000, "readings that were taken")
    live.kill()
    stored = runs.stored()
    rest = runs.start(0, 10**9)
    wait_for(lambda: count_rows(bench.path("taken")) >= len(stored), "what was left")
    assert runs.end(rest)[:3] == [0, 0, 0]
    assert len(stored) > 2000 and set(runs.taken()) == set(stored)


def test_example_tells_why_its_bus_does_not_open(bench, runs):
    bench.write("state", "not a folder")
    live = runs.start(1, 1)
    assert live.child.wait(PATIENCE) == 1
    live.wait_log("embed-c: state/.*Not a directory")


def test_example_is_short_and_runs_twice_from_a_fresh_state(example, tmp_path):
    assert (EXAMPLE / "main.c").read_text(encoding="utf-8").count("\n") < 100
    for _ in range(2):
        out = said(EXAMPLE / "run.sh", cwd=tmp_path)
        assert "What happened" in out
    assert example.exists()


def test_example_notices_output_that_is_not_expected(example, tmp_path):
    shutil.copy(EXAMPLE.parent / "fresh.sh", tmp_path)
    shutil.copytree(EXAMPLE, tmp_path / "embed-c")
    with open(tmp_path / "embed-c" / "expected" / "readings.ndjson", "a",
              encoding="utf-8") as file:
        file.write("{}\n")
    done = subprocess.run([tmp_path / "embed-c" / "run.sh"], capture_output=True, text=True,
                          env={**os.environ, "WEIR": WEIR, "EMBED": str(example)},
                          check=False, timeout=4 * PATIENCE)
    assert done.returncode == 1
    assert "differs from expected/readings.ndjson" in done.stderr


# --- A bus that others read ------------------------------------------------------------

def test_bus_of_a_host_that_listens_is_read_by_a_topology(bench, host):
    live = Live(bench, [str(host), "serve", "ipc://bus.sock", "10000"], stdin=subprocess.PIPE)
    reader = bench.start("""
        source.bus "in" { connect = "ipc://bus.sock" }
        sink.file "out" { from = "in", path = "out.ndjson" }
        """)
    wait_for(lambda: count_rows(bench.path("out.ndjson")) == 10000, "the host's records")
    reader.stop()
    live.child.stdin.close()
    assert live.child.wait(PATIENCE) == 0, live.text()
    read = {json.loads(row)["n"] for row in rows(bench.path("out.ndjson"))}
    assert read == set(range(1, 10001))


# --- The page --------------------------------------------------------------------------

def test_listings_of_the_page_run(tmp_path):
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    listings = re.findall(r"^```c\n(.*?)^```$", page, re.M | re.S)
    assert len(listings) >= 8
    for i, listing in enumerate(listings):
        if not listing.startswith("static "):
            listings[i] = "static void listing_%d(void)\n{\n%s}\n" % (i, listing)
    text = "\n".join(listings).replace("/var/lib/billing", "state")
    (tmp_path / "listings.h").write_text(text, encoding="utf-8")
    program = build(tmp_path / "docs", HERE / "embed_docs.c",
                    flags=("-I%s" % tmp_path, "-Wno-unused-function", "-Wno-unused-variable",
                           "-Wno-unused-but-set-variable"))
    assert said(program, cwd=tmp_path) == "as the page says\n"


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
