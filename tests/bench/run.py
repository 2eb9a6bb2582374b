#!/usr/bin/python3
"""Measures Weir against the limits of the same machine, side by side in one run.

Each row is a ratio: the median of paired runs, ours and the limit's in turn. Prints a
table in Markdown; exits 1 when a row misses what it must reach (WEIR_BENCH_STRICT=1).
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import buses
import links
import scaling

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/bench"
WEIR = os.environ.get("WEIR", str(ROOT / "build/release/bin/weir"))
PCALL = ["lua5.4", str(ROOT / "tests/bench/pcall.lua")]
PCALL_C = [str(ROOT / "build/release/tests/bench/bench_pcall")]
APPEND = [str(ROOT / "build/release/tests/bench/bench_append")]
FAILING = [str(ROOT / "build/release/tests/bench/bench_failing")]
DISK = [str(ROOT / "build/release/tests/bench/bench_disk"), str(BUILD)]
OPEN = [str(ROOT / "build/release/tests/bench/bench_open"), str(BUILD), "2000000"]
CURSOR = [str(ROOT / "build/release/tests/bench/bench_cursor"), str(BUILD), "10", "400"]
ACK = [str(ROOT / "build/release/tests/bench/bench_ack"), str(BUILD)]
REDIS = [str(ROOT / "build/release/tests/bench/bench_redis")]
REDIS_SINK = [str(ROOT / "build/release/tests/bench/bench_redis_sink")]
JETSTREAM = [str(ROOT / "build/release/tests/bench/bench_jetstream")]
JETSTREAM_SINK = [*JETSTREAM, "-", "200000", "sink"]
REAL = ROOT.parent / "shared/data/access.ndjson"
ROUNDS = int(os.environ.get("ROUNDS", "5"))

ROW4 = """
source.file "in" { path = "%s", at_end = stop }
process "p" { from = "in" }
sink.null "out" { from = "p" }
"""

ROW5 = """
source.file "in" { path = "%s", at_end = stop }
process "p" {
  from = "in",
  each = function (r)                       -- reads 4 fields, writes 2
    if r.method == "TRACE" then return drop end
    r.kib = (r.bytes or 0) // 1024
    r.failed = r.status >= 500 and r.path or null
    return r
  end,
}
sink.null "out" { from = "p" }
"""


def topology(name, text):
    """Writes a topology with a fresh state folder and returns its path."""
    folder = BUILD / name
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    folder.mkdir(parents=True)
    path = folder / "topology.lua"
    path.write_text('settings { name = "%s" }\n%s' % (name, text))
    return path


def seconds(command, **options):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, **options)
    return time.monotonic() - start


def run_weir(name, text):
    return seconds([WEIR, "run", "--quiet", str(topology(name, text))])


def repeated(path, size):
    """The real access log, repeated up to a size."""
    target = BUILD / "access.ndjson"
    if not target.exists():
        text = path.read_bytes()
        with target.open("wb") as out:
            for _ in range(size // len(text)):
                out.write(text)
    return target


def generated(count):
    """Generated requests of about 180 bytes."""
    target = BUILD / ("generated-%d.ndjson" % count)
    if not target.exists():
        run_weir("generate", 'source.generate "g" { count = %d }\n'
                 'sink.file "f" { from = "g", path = "%s", fsync = never }'
                 % (count, target))
    return target


def lines(path):
    return int(subprocess.run(["wc", "-l", str(path)], check=True,
                              capture_output=True).stdout.split()[0])


def paired(ours, limit):
    """Median of ours / limit (both rates) over alternating rounds, after a warm-up."""
    ours(), limit()
    pairs = [(ours(), limit()) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in pairs)
    return ratio, statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def number(command):
    """The number that a command prints."""
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


def row_passthrough(log):
    size = log.stat().st_size
    return paired(lambda: size / run_weir("row4", ROW4 % log) / 1e6,
                  lambda: size / seconds(["sh", "-c", "cat '%s' | wc -l" % log]) / 1e6)


def row_lua(log):
    count = lines(log)
    return paired(lambda: count / run_weir("row5", ROW5 % log),
                  lambda: number(PCALL))


def row_example(count):
    """The access-log example on generated records: records a second."""
    data = generated(count)
    example = ROOT / "examples/access-log/topology.lua"
    folder = BUILD / "example"

    def once():
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        folder.mkdir(parents=True)
        (folder / "topology.lua").write_text(example.read_text())
        (folder / "input.ndjson").symlink_to(data)
        return count / seconds([WEIR, "run", "--quiet", "topology.lua"], cwd=folder)
    once()
    return statistics.median(once() for _ in range(ROUNDS))


def row_of(program):
    """The median ratio of the program's own rounds, and its line for that round."""
    told = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    *rounds, ratio = told.splitlines()
    return float(ratio), next(line for line in rounds if line.endswith(": " + ratio))


def process_times(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle():
    """Ready time in ms, CPU share and resident MB of a topology with nothing to do."""
    folder = BUILD / "idle"
    path = topology("idle", 'source.file "in" { path = "%s/none*.ndjson" }\n'
                    'process "p" { from = "in", workers = 2, each = function (r) return r end }\n'
                    'sink.file "out" { from = "p", path = "%s/out.ndjson" }' % (folder, folder))
    start = time.monotonic()
    weir = subprocess.Popen([WEIR, "run", "--quiet", str(path)], stderr=subprocess.PIPE,
                            text=True)
    for line in weir.stderr:
        if " ready " in line:
            break
    ready = (time.monotonic() - start) * 1000
    time.sleep(1)      # the measuring interval begins after the start-up
    before, begun = process_times(weir.pid), time.monotonic()
    time.sleep(10)     # the measuring interval itself
    cpu = (process_times(weir.pid) - before) / (time.monotonic() - begun) * 100
    status = pathlib.Path("/proc/%d/status" % weir.pid).read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
    weir.terminate()
    weir.wait(30)
    return ready, cpu, rss


def send_to_run(log):
    """`weir send` of a file to `weir run` with sink.null, plaintext: MB/s of its bytes."""
    endpoint = "tcp://127.0.0.1:27448"
    path = topology("taker", 'source.link "in" { listen = "%s", plaintext = true }\n'
                    'sink.null "out" { from = "in" }' % endpoint)
    taker = subprocess.Popen([WEIR, "run", "--quiet", str(path)], stderr=subprocess.PIPE,
                             text=True)
    links.until_ready(taker)
    with open(log, "rb") as data:
        took = seconds([WEIR, "send", "--plaintext", endpoint], stdin=data)
    taker.terminate()
    taker.wait(30)
    return log.stat().st_size / took / 1e6


class Table:
    """The rows, printed as they come."""

    def __init__(self):
        self.rows, self.good = [], True
        print("| what | measured | must be | met | detail |\n|---|---|---|---|---|")

    def row(self, what, value, limit, passed, detail=""):
        """One row; a single one that misses makes the whole miss."""
        self.good &= passed
        self.rows.append("| %s | %s | %s | %s | %s |"
                         % (what, value, limit, "yes" if passed else "NO", detail))
        print(self.rows[-1], flush=True)


def rows_of_files(table):
    """Reading, Lua, and both with a sink."""
    if REAL.exists():
        log = repeated(REAL, 400_000_000)
        ratio, ours, limit = row_passthrough(log)
        table.row("NDJSON file through a process without Lua to sink.null, against "
                  "`cat file \\| wc -l`", "%.2f" % ratio, "1.5", ratio >= 1.5,
                  "%.0f MB/s against %.0f MB/s" % (ours, limit))
        ratio, ours, limit = row_lua(log)
        in_c = number(PCALL_C)
        table.row("Lua `each`, 4 fields read, 2 written, one worker, against empty pcalls "
                  "of Lua 5.4", "%.4f" % ratio, "0.025, aim 0.04", ratio >= 0.025,
                  "%.0f records/s against %.1f M pcall (f) a second in Lua; from C, "
                  "lua_pcall in a loop makes %.1f M: %.4f"
                  % (ours, limit / 1e6, in_c / 1e6, ours / in_c))
    else:
        print("skipped: %s is not there" % REAL)
    rate = row_example(2_000_000)
    table.row("access-log example, 2,000,000 records of about 160 bytes, two workers",
              "%.0f records/s" % rate, "600,000, aim 1,000,000", rate >= 600_000)


def rows_of_links(table):
    """Links between processes, and peers that do nothing."""
    for what, mode, blocks in (("link over tcp, one stream", "plain", 40000),
                               ("link over tcp + CURVE", "curve", 10000)):
        ratio, ours, limit = paired(lambda: links.link("weir", mode, blocks)[0],
                                    lambda: links.link("raw", mode, blocks)[0])
        table.row(what + ", blocks of 64 KiB, against PUSH/PULL with the same frames",
                  "%.2f" % ratio, "0.85", ratio >= 0.85,
                  "%.0f against %.0f MB/s" % (ours, limit))
    log = generated(4_000_000)
    ratio, ours, limit = paired(lambda: send_to_run(log),
                                lambda: links.link("raw", "plain", 40000)[0])
    table.row("`weir send` to `weir run` with sink.null, loopback, plaintext, against "
              "PUSH/PULL with 64 KiB frames", "%.2f" % ratio, "0.6", ratio >= 0.6,
              "%.0f against %.0f MB/s" % (ours, limit))
    few, many = links.many_against_few(3)
    ratio = many[2] / few[2]
    table.row("CPU of the receiver a block, 1,000 links against 10", "%.2f" % ratio, "1.5",
              ratio <= 1.5, "%.0f against %.0f us; senders with a thread for each link "
              "included: %.0f against %.0f us" % (many[2], few[2], many[1], few[1]))
    share, kilobytes = links.idle_peers(str(BUILD / "peers"), WEIR, 500)
    table.row("500 idle CURVE peers", "%.2f %% CPU, %.0f KB each" % (share, kilobytes),
              "2 %, 100 KB", share < 2 and kilobytes < 100, "over 10 s")


def row_durable(log):
    """A file into a durable bus, until all of it is safe: MB/s, against the disk's."""
    size = log.stat().st_size
    return paired(lambda: size / run_weir("durable", buses.DURABLE % log) / 1e6,
                  lambda: buses.synced_writes(BUILD, size))


def row_shards(log):
    """CPU of a record with 64 shards against one; both in us."""
    count = lines(log)

    def once(shards):
        path = topology("shards-%d" % shards, buses.SHARDED % (log, shards))
        return buses.cpu_seconds([WEIR, "run", "--quiet", str(path)]) / count * 1e6
    return paired(lambda: once(64), lambda: once(1))


def rows_of_the_bus(table):
    """Appends of a C program, and buses in topologies."""
    log = generated(2_000_000)
    ratio, ours, limit = row_durable(log)
    table.row("durable bus: a file until all of it is safe, against write and fdatasync of "
              "8 MB chunks", "%.2f" % ratio, "0.7", ratio >= 0.7,
              "%.0f against %.0f MB/s" % (ours, limit))
    ratio, many, one = row_shards(log)
    table.row("CPU of a keyed record, 64 shards against 1", "%.2f" % ratio, "2, aim 1.2",
              ratio <= 2, "%.2f against %.2f us" % (many, one))
    ratio, detail = row_of(APPEND)
    table.row("append from C into a bus, 100-byte records, one producer thread, until all "
              "are safe, against zmq_send and zmq_recv over inproc", "%.2f" % ratio, "4",
              ratio >= 4, detail)
    ratio, detail = row_of(DISK)
    table.row("durable bus, group commit, fsync on, 8 MB a transaction, against write and "
              "fdatasync of 8 MB into a preallocated file", "%.2f" % ratio, "0.7",
              ratio >= 0.7, detail)
    ratio, detail = row_of(ACK)
    table.row("append until safe, p99, durable bus at half of its full load (2 shards, "
              "batch.max_delay 1ms, linger 0.5 ms), against 2 syncs of "
              "as many bytes as a transaction has (p99 of the same run) + 2 ms",
              "%.2f" % ratio, "1", ratio <= 1, detail)
    ratio, detail = row_of(OPEN)
    table.row("opening a disk store of 2,000,000 blocks, against one of 8,000, 8 shards",
              "%.2f" % ratio, "5", ratio <= 5, detail)
    row_cursor(table)


def row_cursor(table):
    """Needs a store of 10 GB, which is removed afterwards unless WEIR_BENCH_KEEP is set."""
    free = shutil.disk_usage(BUILD).free / (1 << 30)
    kept = (BUILD / "bench_cursor.store/CURRENT").exists()
    if free < 12 and not kept:
        print("skipped: first record from a random cursor: %.0f GB free, 12 GB wanted" % free)
        return
    ms, detail = row_of(CURSOR)
    table.row("first record from a random cursor of a 10 GB store, p99, not cached (the "
              "file's pages are dropped before; one of 2 shards, batches of 1 MB)",
              "%.2f ms" % ms,
              "5 ms", ms < 5, detail)


def rows_of_stores(table):
    """Stores on servers, which the programs start themselves."""
    ratio, detail = row_of(REDIS)
    table.row("Redis store, batches of 1,000 records of 200 bytes, against a bare client that "
              "pipelines the same", "%.2f" % ratio, "0.8", ratio >= 0.8, detail)
    ratio, detail = row_of(REDIS_SINK)
    table.row("sink.redis, payloads of 200 bytes without ids, against a bare client that "
              "pipelines 1,000 of the same", "%.2f" % ratio, "0.8", ratio >= 0.8, detail)
    ratio, detail = row_of([*REDIS_SINK, "places"])
    table.row("the same with ids of a bus, which the server remembers", "%.2f" % ratio, "-",
              True, detail)
    ratio, detail = row_of([*REDIS_SINK, "texts"])
    table.row("the same with ids by a template, which the server remembers", "%.2f" % ratio,
              "-", True, detail)
    ratio, detail = row_of(JETSTREAM)
    table.row("JetStream store, batches of 1,000 records of 200 bytes, against a bare client "
              "that pipelines the same", "%.2f" % ratio, "0.8", ratio >= 0.8, detail)
    ratio, detail = row_of(JETSTREAM_SINK)
    table.row("sink.jetstream, records of 200 bytes, against a bare client that pipelines the "
              "same", "%.2f" % ratio, "0.8", ratio >= 0.8, detail)


def rows_of_idleness(table):
    """Topologies with nothing to do."""
    ready, cpu, rss = idle()
    table.row("ready", "%.0f ms" % ready, "100 ms", ready < 100, "from exec to the ready line")
    table.row("idle CPU", "%.2f %%" % cpu, "1 %", cpu < 1, "over 10 s")
    table.row("idle resident set", "%.1f MB" % rss, "20 MB", rss < 20)
    for store in scaling.STORES:
        ready = scaling.ready_ms(BUILD / "idle-shards", store)
        cpu, waits, rss = scaling.idle_shards(BUILD / "idle-shards", store)
        table.row("ready with a bus of 64 shards %s" % store,
                  "%d ms" % statistics.median(ready), "100 ms",
                  statistics.median(ready) < 100,
                  "as the ready line tells; the best of 9 starts %d ms" % min(ready))
        table.row("64 idle shards %s" % store, "%.2f %% CPU" % cpu, "1 %", cpu < 1,
                  "over 10 s, %.0f waits a second; %.1f MB resident" % (waits, rss))


def row_dips(table):
    """What a scaling under full load costs while it goes on."""
    seen = scaling.dips(BUILD / "dips")
    median = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
    table.row("throughput below 80 % after a scaling from 1 to 8 shards under full load",
              "%.2f s" % median["below"], "1 s", median["below"] < 1,
              "the deepest 100 ms at %.0f %%, %.0f %% in the third second; without a change "
              "the deepest at %.0f %% of %.0f records/s; others had %.2f processors"
              % (100 * median["lowest"], 100 * median["end"], 100 * median["quiet"],
                 median["rate"], median["others"]))


def rows_of_shards(table):
    """Shards that come and go, or fail, beside others."""
    for store in scaling.STORES:
        up, down, most = scaling.moves(BUILD / "moves", store)
        table.row("vnodes move between empty shards %s, from the command to moved" % store,
                  "%.1f ms" % max(up, down), "100 ms", max(up, down) < 100,
                  "1 to 8 shards: %.1f ms, 8 to 1: %.1f ms; the longest of 30 %.1f ms"
                  % (up, down, most))
    row_dips(table)
    ratio, detail = row_of(FAILING)
    table.row("rate of three shards while the store of the fourth fails, against the rate "
              "before", "%.2f" % ratio, "0.95", ratio >= 0.95, detail)


GROUPS = {"files": rows_of_files, "links": rows_of_links, "bus": rows_of_the_bus,
          "shards": rows_of_shards, "stores": rows_of_stores, "idle": rows_of_idleness}


def main():
    """run.py [GROUP ..]: all, or those groups of rows."""
    BUILD.mkdir(parents=True, exist_ok=True)
    table = Table()
    for name in sys.argv[1:] or GROUPS:
        GROUPS[name](table)
    (BUILD / "result.json").write_text(json.dumps(table.rows))
    return 0 if table.good or not os.environ.get("WEIR_BENCH_STRICT") else 1


if __name__ == "__main__":
    sys.exit(main())
