"""What the black-box tests share: a folder for each test, and the program in it.

    def test_x(bench):
        bench.write("in.ndjson", [...])
        run = bench.run(TOPOLOGY)             # to its end; the code must be 0
        live = bench.start(TOPOLOGY)          # goes on while the test looks
        live.wait_ready(); ...; live.stop()

Nothing sleeps to let things happen: wait_for() polls a condition until a deadline.
Every run that ends by itself is audited: the counts of each node must balance.
Processes are ended by their own id, also when a test fails.
"""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
WEIR = os.environ.get("WEIR", str(ROOT / "bin" / "weir"))
DATA = pathlib.Path(os.environ.get("DATA", ROOT / ".." / "shared" / "data"))
ACCESS = DATA / "access.ndjson"
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
SANITIZED = bool(os.environ.get("SANITIZED"))
PATIENCE = 60 if SANITIZED else 20  # seconds that anything may take unless said

FATES = ("done", "dropped", "filtered", "dead", "skipped", "shed", "resident")


def chance(name):
    """A generator of its own for each use, all by the one seed that is printed."""
    print("SEED=%d (%s)" % (SEED, name))
    return random.Random("%d %s" % (SEED, name))


def wait_for(condition, what, seconds=PATIENCE):
    """The first true value of the condition; fails behind the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "waited %g s in vain: %s" % (seconds, what)
        time.sleep(0.003)


def rows(path):
    """The lines of a file without their ends, as bytes; [] without the file."""
    try:
        data = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return []
    assert not data or data.endswith(b"\n"), "%s: the last line has no end" % path
    return data.split(b"\n")[:-1]


def count_rows(path):
    """How many whole lines there are: a file that is being written may end in one."""
    try:
        return pathlib.Path(path).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def objects(path):
    """The JSON documents of a file, one a line."""
    return [json.loads(line) for line in rows(path)]


def audit(report):
    """What is wrong with the sums of a report, judged by ourselves."""
    wrong = []
    for node in report["nodes"]:
        left = node["in"] - sum(node[fate] for fate in FATES)
        if left:
            wrong.append("%s: %d records are unaccounted for" % (node["name"], left))
    if report["ending"] == "clean":
        resident = sum(node["resident"] for node in report["nodes"])
        if resident:
            wrong.append("%d records are resident after a clean end" % resident)
        if report["ledger_used"]:
            wrong.append("the ledger holds %d bytes" % report["ledger_used"])
    if report["ending"] == "clean" and not report["restarts"]:
        sent = sum(node["out"] for node in report["nodes"]
                   if not node["actor"].startswith("sink."))
        taken = sum(node["in"] for node in report["nodes"]
                    if not node["actor"].startswith(("source.", "reader")))
        if sent != taken:
            wrong.append("%d records sent, %d received" % (sent, taken))
    if report["ledger_errors"]:
        wrong.append("%d errors in the ledger" % report["ledger_errors"])
    return wrong


@contextlib.contextmanager
def small_disk(bench):
    """A file system of 1 MB at `disk` in the bench's folder; None where one may not
    mount."""
    folder = bench.path("disk")
    folder.mkdir()
    if os.geteuid() or os.system("mount -t tmpfs -o size=1m none %s 2>/dev/null" % folder):
        yield None
        return
    try:
        yield folder
    finally:
        bench.close()
        os.system("umount -l %s" % folder)


def grow(folder):
    """Room for 64 MB in a small disk."""
    assert os.system("mount -o remount,size=64m %s" % folder) == 0


class Run:
    """A run that has ended: code, out and err as text, report (None without one),
    seconds that it took."""

    def __init__(self, code, out, err, seconds, report):
        self.code, self.out, self.err = code, out, err
        self.seconds, self.report = seconds, report

    def node(self, name):
        """The counts of a node."""
        return next(node for node in self.report["nodes"] if node["name"] == name)

    def lines(self):
        """The lines of err, for `check`."""
        return self.err.splitlines()


class Live:
    """A running weir. out: where its standard output goes; as for Popen."""

    def __init__(self, bench, command, out=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                 env=None):
        self.bench = bench
        self.started = time.monotonic()
        self.child = subprocess.Popen(command, cwd=bench.folder, stdin=stdin, stdout=out,
                                      stderr=subprocess.PIPE,
                                      env=env or bench.environment(None))
        self.pid = self.child.pid
        self.log, self._changed = [], threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        bench.children.append(self)

    def _read(self):
        for line in self.child.stderr:
            with self._changed:
                self.log.append((time.monotonic(), line.decode("utf-8", "replace")))
                self._changed.notify_all()

    def text(self):
        """What was logged so far."""
        with self._changed:
            return "".join(line for _, line in self.log)

    def wait_log(self, pattern, seconds=PATIENCE, count=1):
        """The time at which the count-th line that matches was logged."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                found = [at for at, line in self.log if re.search(pattern, line)]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                assert left > 0 and (self._reader.is_alive() or len(found) >= count), \
                    "no line %r in the log:\n%s" % (pattern, "".join(l for _, l in self.log))
                self._changed.wait(min(left, 0.1))

    def wait_ready(self, seconds=PATIENCE):
        """Seconds from the start to the line `ready`."""
        return self.wait_log(r"\bready\b", seconds) - self.started

    def running(self):
        """Whether it still runs."""
        return self.child.poll() is None

    def signal(self, number):
        """Sends a signal to this one process."""
        self.child.send_signal(number)

    def kill(self):
        """kill -9; what it wrote stays."""
        if self.running():
            self.child.kill()
        self.child.wait(PATIENCE)
        self._reader.join(PATIENCE)

    def wait(self, seconds=PATIENCE, code=0):
        """The Run, once it has ended; code None: any will do."""
        try:
            got = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("it did not end in %g s:\n%s"
                                 % (seconds, self.text())) from None
        self._reader.join(PATIENCE)
        return self.bench.judge(got, "", self.text(), time.monotonic() - self.started,
                                code)

    def stop(self, seconds=PATIENCE, code=0):
        """SIGTERM, and the Run."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds, code)

    def vm(self, field):
        """A line of /proc/PID/status in bytes: VmRSS, VmHWM."""
        with open("/proc/%d/status" % self.pid, encoding="ascii") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    def cpu_seconds(self):
        """User and system time so far."""
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    """One test's folder. The topology is t.lua and its state lies in weir-t unless a
    test says otherwise."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "weir-t"
        self.children = []
        self.prefix = []  # words before the program's name, for start()

    def path(self, name):
        """A path in the folder."""
        return self.folder / name

    def write(self, name, content):
        """Writes text, bytes, or a list of lines (text, bytes, or values for JSON)."""
        if isinstance(content, (list, tuple)):
            parts = [line if isinstance(line, bytes) else
                     (line if isinstance(line, str) else json.dumps(line)).encode()
                     for line in content]
            content = b"".join(part + b"\n" for part in parts)
        elif isinstance(content, str):
            content = content.encode()
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def append(self, name, content):
        """Appends bytes or text in one write."""
        with open(self.folder / name, "ab", buffering=0) as file:
            file.write(content if isinstance(content, bytes) else content.encode())

    def report(self):
        """The last run's report; None without one."""
        try:
            return json.loads((self.state / "report.json").read_text())
        except FileNotFoundError:
            return None

    def dead(self):
        """The dead letters so far."""
        return objects(self.state / "dead.ndjson")

    def weir(self, *words, stdin=b"", seconds=PATIENCE, env=None):
        """Runs `weir words ..`; a Run without report and without audit."""
        started = time.monotonic()
        done = subprocess.run([WEIR, *map(str, words)], cwd=self.folder, input=stdin,
                              capture_output=True, timeout=seconds, check=False,
                              env=self.environment(env))
        return Run(done.returncode, done.stdout.decode("utf-8", "replace"),
                   done.stderr.decode("utf-8", "replace"), time.monotonic() - started,
                   None)

    def environment(self, more):
        """The tests' own environment, a run folder of its own, and more."""
        return {**os.environ, "WEIR_RUN": str(self.folder / "run"), **(more or {})}

    def topology(self, text):
        """Writes t.lua unless text is None."""
        if text is not None:
            self.write("t.lua", text)
        return "t.lua"

    def check(self, text, *words):
        """`weir check` of a topology."""
        return self.weir("check", *words, self.topology(text))

    def refused(self, text, *words):
        """The lines of `weir check`, which must refuse the topology."""
        run = self.check(text, *words)
        assert run.code == 2, (run.code, run.out, run.err)
        return run.err.splitlines()

    def run(self, text, *words, stdin=b"", code=0, seconds=PATIENCE, env=None):
        """Runs a topology to its end, with audit. text None: t.lua as it is."""
        if self.state.exists():
            (self.state / "report.json").unlink(missing_ok=True)
        run = self.weir("run", *words, self.topology(text), stdin=stdin, seconds=seconds,
                        env=env)
        return self.judge(run.code, run.out, run.err, run.seconds, code)

    def judge(self, got, out, err, seconds, code):
        """The Run of a process that has ended, after its audit."""
        run = Run(got, out, err, seconds, None if got < 0 else self.report())
        assert code is None or got == code, "code %d instead of %d:\n%s" % (got, code, err)
        assert "Sanitizer" not in err, err
        if run.report and got in (0, 1, 3):
            wrong = audit(run.report)
            assert not wrong, "\n".join(wrong) + "\n" + json.dumps(run.report, indent=1)
            told = self.weir("audit", "--json", self.state)
            assert told.code == 0 and json.loads(told.out)["balanced"], told.out
        return run

    def start(self, text, *words, out=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
              env=None):
        """Starts a topology; a Live."""
        if self.state.exists():
            (self.state / "report.json").unlink(missing_ok=True)
        command = [*self.prefix, WEIR, "run", *map(str, words), self.topology(text)]
        return Live(self, command, out, stdin, self.environment(env))

    def close(self):
        """Ends what still runs."""
        for child in self.children:
            child.kill()
