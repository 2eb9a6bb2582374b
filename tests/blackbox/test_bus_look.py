"""Looking at a bus by its name, whatever its store is, with real servers of Redis and NATS:
cat, recv, bus ls, pos, why, metrics."""
import json
import re
import signal
import time

import pytest
from bus_client import Bus
from helper import PATIENCE, WEIR, Live, count_rows, wait_for
from helper import objects as lines
from servers import Nats, Redis
from test_monitor import address_of, get

TOPOLOGY = """
settings { name = "t" }
source.file "in" { path = "in.ndjson", framing = ndjson }
bus "events" { from = "in", shards = 2, key = "k", %s store = %s }
%s
"""

STORES = ["disk", "redis", "jetstream"]
SERVERS = {"redis": lambda folder: Redis(folder, appendonly=True, appendfsync="everysec"),
           "jetstream": Nats}


class Stored:
    """A running bus "events" on a store. server: of the store; None: it is on disk."""

    def __init__(self, bench, kind, keep="all", options="", more=""):
        self.bench, self.kind = bench, kind
        self.server = None
        words = "disk { keep = %s }" % keep
        if kind in SERVERS:
            self.server = SERVERS[kind](bench.path(kind))
            words = '%s { url = "%s", timeout = "1s", keep = %s }' % (
                kind, self.server.url(), keep)
        self.text = TOPOLOGY % (options, words, more)
        self.count = 0
        self.live = None

    def begin(self, count):
        """Starts it, and has it store so many records, of 37 keys."""
        self.bench.write("in.ndjson", "")
        self.live = self.bench.start(self.text)
        self.live.wait_ready()
        return self.append(count)

    def again(self):
        """Stops and starts it."""
        self.live.stop()
        self.live = self.bench.start(self.text)
        self.live.wait_ready()

    def append(self, count):
        """Has it store so many more."""
        self.write(count)
        self.wait_stored(self.count)
        return self

    def write(self, count):
        """Gives it so many more records."""
        first, self.count = self.count, self.count + count
        self.bench.append("in.ndjson", "".join(
            json.dumps({"n": n, "k": "k%d" % (n % 37)}) + "\n"
            for n in range(first, self.count)))

    def wait_stored(self, count):
        """All are stored."""
        def stored():
            return sum(row["stored"] for row in self.tell().get("stored", [])) == count
        wait_for(stored, "%d records are stored" % count)

    def tell(self):
        """What the control endpoint tells of it."""
        run = self.bench.weir("ctl", "stats", "t/events", "--json")
        assert run.code == 0, run.err
        return json.loads(run.out)["nodes"][0]["bus"]

    def client(self):
        """A client of its endpoint."""
        return Bus("ipc://%s" % self.bench.path("run/t.events.bus"))

    def close(self):
        """Ends it and its server."""
        if self.live:
            self.live.kill()
        if self.server:
            self.server.close()


@pytest.fixture(name="make")
def maker(bench):
    """make (kind, ..): a Stored that ends with the test."""
    made = []

    def make(kind, **options):
        made.append(Stored(bench, kind, **options))
        return made[-1]
    yield make
    for store in made:
        store.close()


def weir(bench, *words, code=0):
    """Runs a command, which has to end so."""
    run = bench.weir(*words)
    assert run.code == code, (run.code, run.out, run.err)
    return run


def objects(run):
    """The lines of its stdout."""
    return [json.loads(line) for line in run.out.splitlines()]


def numbers(run):
    """The n of the payloads it shows, sorted."""
    return sorted(row["n"] for row in objects(run))


def cursor(run):
    """Where it says that one can go on."""
    return re.search(r"what follows: --from (w1\S+)$", run.err, re.M).group(1)


# --- cat ------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", STORES)
def test_cat_shows_all_and_goes_on_at_its_cursor(bench, make, kind):
    make(kind).begin(100)
    first = weir(bench, "cat", "t/events", "--limit", "30")
    assert len(objects(first)) == 30 and "30 records shown" in first.err
    rest = weir(bench, "cat", "t/events", "--from", cursor(first))
    assert sorted(numbers(first) + numbers(rest)) == list(range(100))
    assert weir(bench, "cat", "t/events", "--from", cursor(rest)).out == ""
    some = weir(bench, "cat", "t/events", "--where", "n >= 90 and $shard < 9")
    assert numbers(some) == list(range(90, 100))


@pytest.mark.parametrize("kind", STORES)
def test_cat_begins_at_the_end_at_a_time_and_at_no_other_bus(bench, make, kind):
    store = make(kind).begin(40)
    at_end = weir(bench, "cat", "t/events", "--from", "end")
    assert at_end.out == "" and "0 records shown" in at_end.err
    store.append(10)
    assert numbers(weir(bench, "cat", "t/events", "--from", cursor(at_end))) == \
        list(range(40, 50))
    for position in ("1h", "2020-01-01", "2020-01-01T12:00:00Z"):
        assert numbers(weir(bench, "cat", "t/events", "--from", position)) == list(range(50))
    assert weir(bench, "cat", "t/events", "--from", "2100-01-01T00:00:00Z").out == ""
    for words, told in ((["--from", "yesterday"], "--from: 'yesterday' is no position"),
                        (["--from", "w1lAHPzdebNcYuoLwBkpMABDcAkwEzAD4_7Uw"],
                         "--from: bad_cursor"),
                        (["--where", "n = 1"], "--where, column 3"),
                        (["--limit", "0"], "--limit: expected a number"),
                        (["--server", "x"], "--server: only with --control")):
        assert told in weir(bench, "cat", "t/events", *words, code=2).err


@pytest.mark.parametrize("kind", STORES)
def test_offsets_are_numbers_or_epochs_with_sequences(bench, make, kind):
    store = make(kind).begin(50)
    store.again()
    store.append(50)
    for words in (["cat"], ["recv"]):
        rows = objects(weir(bench, *words, "t/events", "--json"))
        assert len(rows) == 100
        for row in rows:
            _, epoch, shard, sequence = row["id"].split(":")
            assert int(shard) == row["shard"]
            if kind == "redis":
                assert row["offset"] == epoch + "-" + sequence
            else:
                assert isinstance(row["offset"], int)
        places = [(row["shard"], row["offset"]) for row in rows]
        assert len(set(places)) == len(places)
        assert {row["id"].split(":")[1] for row in rows} == {"1", "2"}


@pytest.mark.parametrize("kind", STORES)
def test_offset_in_where_is_the_number_within_the_epoch(bench, make, kind):
    make(kind).begin(60)
    rows = objects(weir(bench, "cat", "t/events", "--json", "--where", "$offset > 10"))
    every = objects(weir(bench, "cat", "t/events", "--json"))

    def number(row):
        return int(str(row["offset"]).rpartition("-")[2])
    assert rows and {row["id"] for row in rows} == \
        {row["id"] for row in every if number(row) > 10}


@pytest.mark.parametrize("kind", STORES)
def test_cat_follows_waits_in_the_bus_and_ends_at_once(bench, make, kind):
    store = make(kind).begin(3)
    with open(bench.path("out"), "wb") as file:
        cat = Live(bench, [WEIR, "cat", "--follow", "t/events"], file)
    for _ in range(4):
        wait_for(lambda: count_rows(bench.path("out")) == store.count, "all of them")
        store.write(2)
    wait_for(lambda: count_rows(bench.path("out")) == store.count, "all of them")
    before, deadline = cat.cpu_seconds(), time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert cat.running()
    assert cat.cpu_seconds() - before < 0.1
    begun = time.monotonic()
    cat.signal(signal.SIGINT)
    assert cat.child.wait(PATIENCE) == 0 and time.monotonic() - begun < 2
    cat.wait_log("11 records shown; what follows: --from w1")


def test_cat_follow_ends_at_its_limit(bench, make):
    store = make("redis").begin(2)
    with open(bench.path("out"), "wb") as file:
        cat = Live(bench, [WEIR, "cat", "--follow", "--limit", "5", "t/events"], file)
    wait_for(lambda: count_rows(bench.path("out")) == 2, "the first two")
    store.write(20)
    assert cat.child.wait(PATIENCE) == 0
    assert count_rows(bench.path("out")) == 5


def test_cat_tells_where_to_go_on_when_its_bus_ends(bench, make):
    store = make("redis").begin(3)
    with open(bench.path("out"), "wb") as file:
        cat = Live(bench, [WEIR, "cat", "--follow", "t/events"], file)
    wait_for(lambda: count_rows(bench.path("out")) == 3, "three records")
    store.live.stop()
    assert cat.child.wait(PATIENCE) == 1
    cat.wait_log("t/events: the bus ends")
    cat.wait_log("3 records shown; what follows: --from w1")


def test_cat_tells_what_redis_has_trimmed(bench, make):
    store = make("redis", keep="{ records = 100 }", options="batch = { min_records = 50, max_records = 50 },")
    store.begin(3000)
    first = weir(bench, "cat", "t/events", "--limit", "1")
    store.append(3000)
    run = weir(bench, "cat", "t/events", "--from", cursor(first))
    told = re.findall(r"^weir: shard (\d): offsets 1-(\d+) to 1-(\d+) were trimmed$", run.err,
                      re.M)
    rows = objects(weir(bench, "cat", "t/events", "--json"))
    assert {int(shard) for shard, _, _ in told} == {0, 1}
    for shard, _, last in told:
        oldest = min(int(row["offset"].split("-")[1]) for row in rows
                     if row["shard"] == int(shard))
        assert int(last) == oldest - 1


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_cat_names_the_shards_that_cannot_be_read(bench, make, kind):
    store = make(kind).begin(20)
    first = weir(bench, "cat", "t/events", "--limit", "5")
    store.server.kill()
    run = weir(bench, "cat", "t/events", "--from", cursor(first), code=1)
    where = "127.0.0.1:%d" % store.server.port
    for shard in (0, 1):
        assert re.search("^weir: shard %d (cannot be read|does not answer): .*" % shard,
                         run.err, re.M), run.err
    assert where in run.err
    store.server.start()

    def rest():
        again = bench.weir("cat", "t/events", "--from", cursor(run))
        return again.code == 0 and len(again.out.splitlines()) == 15
    wait_for(rest, "the rest can be read")


def test_cat_of_an_endpoint(bench, make):
    make("redis", options='listen = "tcp://127.0.0.1:*", plaintext = true,').begin(30)
    at = bench.weir("ctl", "stats", "t/events", "--json")
    tcp = json.loads(at.out)["nodes"][0]["endpoint"]
    ipc = "ipc://%s" % bench.path("run/t.events.bus")
    assert numbers(weir(bench, "cat", ipc)) == list(range(30))
    assert numbers(weir(bench, "cat", tcp, "--plaintext", "--limit", "100")) == list(range(30))
    assert "--server, or say --plaintext" in weir(bench, "cat", tcp, code=2).err
    assert "--plaintext: only of an endpoint" in \
        weir(bench, "cat", "t/events", "--plaintext", code=2).err
    run = weir(bench, "cat", "ipc://%s" % bench.path("nobody"), "--timeout", "100ms", code=1)
    assert "no answer" in run.err


@pytest.mark.parametrize("kind", ["disk", "redis"])
def test_a_bus_elsewhere(bench, make, kind):
    """Both sides in one place, but over tcp, with CURVE; the store is not reached."""
    for name in ("hub", "ops"):
        bench.weir("keys", "init", name, "--keys", name)
    bench.weir("keys", "allow", "ops/self.pub", "--keys", "hub", "--role", "control,consume")
    bench.weir("keys", "allow", "hub/self.pub", "--keys", "ops", "--role", "none")
    store = make(kind, options='listen = "tcp://127.0.0.1:*",', more="""
        security { keys = "hub", control = "tcp://127.0.0.1:*" }""").begin(50)
    at = re.search(r"control endpoint=(tcp://\S+)", store.live.text()).group(1)
    bus = store.tell()
    tcp = re.search(r"listening endpoint=(tcp://\S+)", store.live.text()).group(1)
    there = ["--server", "hub", "--keys", "ops"]
    nowhere = {"WEIR_RUN": str(bench.path("elsewhere"))}
    for words in (["cat", "t/events", "--control", at], ["cat", tcp]):
        run = bench.weir(*words, *there, env=nowhere)
        assert run.code == 0 and numbers(run) == list(range(50)), run.err
    run = bench.weir("bus", "ls", "t/events", "--control", at, *there, "--json", env=nowhere)
    told = json.loads(run.out)
    assert [s["records"] for s in told["shards"]] == [s["present"] for s in bus["stored"]]


def test_of_a_weir_that_does_not_run_the_folder_is_named(bench, make):
    store = make("disk").begin(5)
    store.live.stop()
    for words in (["cat"], ["bus", "ls"]):
        run = weir(bench, *words, "t/events", code=2)
        assert "no weir named 't' runs here" in run.err
        assert run.err.endswith("; name the folder of its disk store: weir-t/bus/events\n")
        weir(bench, *words, "weir-t/bus/events")
        run = weir(bench, *words, "t/other", code=2)
        assert "such as weir-t/bus/other" in run.err


# --- bus ls ---------------------------------------------------------------------------

@pytest.mark.parametrize("kind", STORES)
def test_ls_lists_shards_and_groups_of_a_running_bus(bench, make, kind):
    store = make(kind).begin(60)
    weir(bench, "recv", "t/events", "--group", "g", "--limit", "7")
    told = {}

    def dated():
        """JetStream is asked for times once a second."""
        told.update(json.loads(weir(bench, "bus", "ls", "t/events", "--json").out))
        return all(0 < s["oldest_ms"] <= s["newest_ms"] for s in told["shards"])
    wait_for(dated, "it knows how old records are")
    bus = store.tell()
    assert told["nonce"] == bus["nonce"] and told["epoch"] == 1 and told["gaps"] == []
    assert [(s["shard"], s["state"], s["last"], s["records"], s["trimmed"])
            for s in told["shards"]] == \
        [(s["shard"], "active", s["safe"], s["safe"], 0) for s in bus["shards"]]
    groups = [g for g in told["groups"] if g["group"] == "g"]
    assert sum(g["commit"] for g in groups) == 7 and sum(g["lag"] for g in groups) == 53
    text = weir(bench, "bus", "ls", "t/events").out
    for shard in told["shards"]:
        assert re.search(r"^%d +active +%d +%d +%d " % (
            shard["shard"], shard["first"], shard["last"], shard["records"]), text, re.M)
    assert re.search(r"^g +0 +%d +%d +0$" % (groups[0]["commit"], groups[0]["lag"]), text, re.M)


def test_ls_by_name_says_of_a_disk_store_what_its_folder_says(bench, make):
    make("disk", keep="{ records = 100 }",
         options="batch = { min_records = 50, max_records = 50 },").begin(3000)
    named = json.loads(weir(bench, "bus", "ls", "t/events", "--json").out)
    folder = json.loads(weir(bench, "bus", "ls", "weir-t/bus/events", "--json").out)
    assert named == folder and named["gaps"] and named["shards"][0]["trimmed"] > 0


def test_ls_counts_entries_in_redis_and_tells_what_is_trimmed(bench, make):
    store = make("redis", keep="{ records = 100 }", options="batch = { min_records = 50, max_records = 50 },")
    store.begin(3000)

    def told():
        return json.loads(weir(bench, "bus", "ls", "t/events", "--json").out)["shards"]

    def counted():
        return all(shard["records"] == store.server.call(
            "XLEN", "weir:events:%d" % shard["shard"]) for shard in told())
    wait_for(counted, "it knows what was trimmed")
    for shard in told():
        assert shard["first"] == shard["trimmed"] + 1 > 1
        assert shard["last"] == shard["trimmed"] + shard["records"]


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_ls_does_not_need_the_server(bench, make, kind):
    store = make(kind).begin(30)
    store.server.kill()
    told = json.loads(weir(bench, "bus", "ls", "t/events", "--json").out)
    assert sum(shard["records"] for shard in told["shards"]) == 30


def test_ls_of_what_is_no_bus(bench, make):
    make("redis", more='bus "m" { from = "in" }\nsink.null "n" { from = "m" }').begin(1)
    for name, told in (("t/m", "no bus with a store"), ("t/in", "no bus"),
                       ("t/eventz", "did you mean 'events'"), ("t", "Write t/BUS")):
        assert told in weir(bench, "bus", "ls", name, code=2).err
    assert "store = disk { .. }, redis { .. } or jetstream { .. }" in \
        weir(bench, "recv", "t/m", code=2).err


# --- recv and pos ---------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_recv_takes_part_and_goes_on(bench, make, kind):
    make(kind).begin(100)
    first = weir(bench, "recv", "t/events", "--group", "g", "--limit", "30")
    rest = weir(bench, "recv", "t/events", "--group", "g")
    assert sorted(numbers(first) + numbers(rest)) == list(range(100))
    some = weir(bench, "recv", "t/events", "--group", "h", "--where", "n < 5")
    assert numbers(some) == list(range(5))
    rows = json.loads(weir(bench, "pos", "ls", "t", "--json").out)
    assert {(row["group"], row["lag"]) for row in rows if "group" in row} == \
        {("g", 0), ("h", 0)}


@pytest.mark.parametrize("kind", STORES)
def test_a_group_is_set_to_start_end_time_and_cursor(bench, make, kind):
    make(kind).begin(50)
    weir(bench, "recv", "t/events", "--group", "g")
    half = cursor(weir(bench, "cat", "t/events", "--limit", "20"))

    def lag(to):
        weir(bench, "pos", "set", "t/g", "--to", to)
        rows = json.loads(weir(bench, "pos", "ls", "t", "--json").out)
        return next(row["lag"] for row in rows if row.get("group") == "g")
    assert lag("start") == 50 and lag("end") == 0 and lag(half) == 30
    assert lag("2100-01-01T00:00:00Z") == 0 and lag("2020-01-01") == 50
    assert lag("end") == 0 and lag("1h") == 50 and lag("2020-01-01T08:00:00.5+01:00") == 50
    assert lag(half) == 30
    assert len(objects(weir(bench, "recv", "t/events", "--group", "g"))) == 30
    assert "bad_cursor" in weir(bench, "pos", "set", "t/g", "--to", "w1AAAA", code=2).err


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
@pytest.mark.parametrize("how", ["kill", "pause"])
def test_recv_says_that_its_shards_cannot_be_read(bench, make, kind, how):
    store = make(kind).begin(20)
    weir(bench, "recv", "t/events", "--limit", "1")
    getattr(store.server, how)()
    run = weir(bench, "recv", "t/events", code=1)
    assert re.search(r"^weir: t/events: cannot read shard \d: \S*127.0.0.1:%d"
                     % store.server.port, run.err, re.M), run.err


# --- why, health and metrics ----------------------------------------------------------

def served(kind, bench):
    """(server, url, url as it may be told) of a server that wants a password."""
    if kind == "redis":
        server = Redis(bench.path("own"), password="topsecret", appendonly=True)
        return server, server.url(), server.url().replace("topsecret", "***")
    server = Nats(bench.path("own"), users=[{"user": "alice", "password": "topsecret"}])
    return server, server.url(), server.url().replace("topsecret", "***")


class Watched:
    """A bus that is read by a node, with metrics, on a server with a password."""

    def __init__(self, bench, kind):
        self.bench = bench
        self.server, url, self.shown = served(kind, bench)
        bench.write("in.ndjson", "")
        self.live = bench.start("""
settings { name = "t" }
monitor { listen = "127.0.0.1:0" }
source.file "in" { path = "in.ndjson", framing = ndjson }
bus "events" { from = "in", shards = 2, store = %s { url = "%s", timeout = "500ms" } }
sink.null "out" { from = "events" }
""" % (kind, url))
        self.live.wait_ready()

    def why(self):
        """What holds each path, by its first node: (code, {node: sentence})."""
        run = self.bench.weir("why", "t", "--json")
        assert "topsecret" not in run.out + run.err
        return run.code, {row["path"][0]: row["why"] for row in json.loads(run.out)["paths"]}

    def write(self, count):
        """So many records."""
        self.bench.append("in.ndjson", '{"a":1}\n' * count)

    def close(self):
        """Ends both."""
        self.live.kill()
        self.server.close()


@pytest.fixture(name="watched", params=["redis", "jetstream"])
def watched_bus(bench, request):
    """A Watched that has stored ten records."""
    watched = Watched(bench, request.param)
    watched.write(10)
    wait_for(lambda: watched.why()[0] == 0 and "nothing to do" in watched.why()[1]["in"],
             "it is idle")
    yield watched
    watched.close()


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_why_names_the_server_and_the_cause(bench, watched, how):
    where = "127.0.0.1:%d" % watched.server.port
    getattr(watched.server, how)()
    watched.write(5)
    causes = {}

    def told():
        code, causes["now"] = watched.why()
        return code == 1 and where in causes["now"]["in"]
    wait_for(told, "why names %s" % where)
    assert re.search(r"^events cannot store shard \d: .*, for \d+ (ms|s)$", causes["now"]["in"])
    top = weir(bench, "top", "t", "--once").out
    assert re.search(r"^events .*write store", top, re.M)
    audit = weir(bench, "audit", "t")
    assert "the sums are zero" in audit.out and "topsecret" not in audit.out + top
    if how == "kill":
        watched.server.start()
    else:
        watched.server.resume()
    wait_for(lambda: watched.why()[0] == 0, "it flows again")
    assert "topsecret" not in watched.live.text()
    watched.live.stop()


@pytest.mark.parametrize("kind", ["redis", "jetstream"])
def test_a_run_starts_without_the_server_and_is_not_idle_while_it_is_away(bench, make, kind):
    store = make(kind, more='sink.file "out" { from = "events", path = "out.ndjson" }')
    store.begin(50)
    wait_for(lambda: count_rows(bench.path("out.ndjson")) == 50, "fifty have come")
    before = store.live
    before.signal(signal.SIGSTOP)  # its reader is somewhere behind the fifty
    store.write(1)
    before.kill()
    store.server.kill()
    live = bench.start(None, "--until-idle")
    live.wait_ready()

    def told():
        run = bench.weir("why", "t", "--json")
        return run.code == 1 and [row["why"] for row in json.loads(run.out)["paths"]
                                  if row["path"][0] == "events>out" and re.search(
                                      r"^events>out cannot read events: shard \d: .*"
                                      r"127.0.0.1:%d: .*, for \d+ (ms|s)$" %
                                      store.server.port, row["why"])]
    wait_for(told, "why tells it")
    assert re.search(r"^events>out .*read events", weir(bench, "top", "t", "--once").out, re.M)
    deadline = time.monotonic() + 2  # far longer than what counts as idle
    while time.monotonic() < deadline:
        assert live.running(), live.text()
    store.server.start()
    live.wait()
    assert set(range(51)) <= {row["n"] for row in lines(bench.path("out.ndjson"))}


def metrics(live):
    """{'name{labels}': number} of the monitor."""
    return get(address_of(live)).samples()


def test_metrics_tell_whether_the_store_is_connected(watched):
    connected = 'weir_store_connected{node="events",actor="bus"}'
    made = 'weir_store_connections_total{node="events",actor="bus"}'
    first = metrics(watched.live)
    assert first[connected] == 1 and first[made] == 1
    watched.server.kill()
    wait_for(lambda: metrics(watched.live)[connected] == 0, "it is not connected")
    watched.server.start()
    wait_for(lambda: metrics(watched.live)[connected] == 1, "it is connected again")
    assert metrics(watched.live)[made] == 2
    watched.live.stop()
