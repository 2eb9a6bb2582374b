"""Metrics, health and readiness over HTTP, and what the service manager is told."""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

import helper
from helper import wait_for
from ports import free_port

ROOT = pathlib.Path(__file__).parents[2]
FOLLOW = """
source.file "in" { path = "in.ndjson" }
process "p" { from = "in", where = "n != 3", each = function (r)
  if r.n == 4 then return drop end
  if r.n == 5 then return dead "five" end
  return r
end }
sink.file "out" { from = "p", path = "out.ndjson"%s }
monitor { listen = "127.0.0.1:0" }
%s
"""
PLAIN = FOLLOW % ("", "")
CONNECTIONS = 32


class Page:
    """An answer: status, headers, text."""

    def __init__(self, status, headers, body):
        self.status, self.headers = status, headers
        self.text = body.decode("utf-8")

    def json(self):
        """The body as JSON."""
        return json.loads(self.text)

    def samples(self):
        """{'name{labels}': number} of metrics."""
        lines = [line for line in self.text.splitlines() if not line.startswith("#")]
        return {name: float(number) for name, number in
                (line.rsplit(" ", 1) for line in lines)}


def get(address, path="/metrics", method="GET", body=None, context=None):
    """The Page, whatever its status."""
    request = urllib.request.Request(address + path, data=body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=helper.PATIENCE,
                                    context=context) as answer:
            return Page(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Page(error.code, error.headers, error.read())


def served(address, path="/metrics"):
    """The Page, or None when nobody serves it."""
    try:
        return get(address, path)
    except OSError:
        return None


def address_of(live):
    """Where the monitor of a running weir listens."""
    live.wait_log("monitor listening at=")
    return re.search(r"monitor listening at=(\S+)", live.text()).group(1)


def settled(address, records):
    """The samples, once so many records have come to a decision."""
    def look():
        samples = get(address).samples()
        name = 'weir_done_total{node="in",actor="source.file"}'
        return samples if samples[name] == records else None
    return wait_for(look, "%d records are done" % records)


def started(bench, text=PLAIN, records=6, env=None):
    """A running weir that has done all its records, and its address."""
    bench.write("in.ndjson", [{"n": n} for n in range(records)])
    live = bench.start(text, env=env)
    address = address_of(live)
    live.wait_ready()
    settled(address, records)
    return live, address


def connect(address):
    """A bare connection to the monitor."""
    url = urllib.parse.urlsplit(address)
    return socket.create_connection((url.hostname, url.port), helper.PATIENCE)


def is_open(connection):
    """Whether the other side has not closed it."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False


# --- Metrics -----------------------------------------------------------------------------

def test_metrics_are_those_of_the_final_report(bench):
    live, address = started(bench, records=1000)
    samples = get(address).samples()
    report = live.stop(code=3).report
    compared = 0
    for node in report["nodes"]:
        labels = '{node="%s",actor="%s"}' % (node["name"], node["actor"])
        for name in node.keys() - {"name", "actor", "state"}:
            metric = "weir_%s%s" % (name, "" if name == "resident" else "_total")
            assert samples[metric + labels] == node[name], (metric, labels)
            compared += 1
    assert compared > 60
    assert samples['weir_filtered_total{node="p",actor="process"}'] == 1
    assert samples['weir_dropped_total{node="p",actor="process"}'] == 1
    assert samples['weir_dead_total{node="p",actor="process"}'] == 1
    assert samples['weir_lag{node="in",actor="source.file"}'] == 0
    assert samples['weir_info{version="%s",name="t"}' % version(bench)] == 1


def version(bench):
    """The version that the binary says it is."""
    return bench.weir("version").out.split()[1]


def test_metrics_tell_of_the_process(bench):
    before = time.time()
    live, address = started(bench)
    samples = get(address).samples()
    assert abs(samples["process_resident_memory_bytes"] - live.vm("VmRSS")) < 8 << 20
    assert before - 2 < samples["process_start_time_seconds"] < time.time() + 2
    descriptors = len(os.listdir("/proc/%d/fd" % live.pid))
    assert abs(samples["process_open_fds"] - descriptors) < 5
    assert samples["process_cpu_seconds_total"] > 0
    assert samples["weir_ledger_limit_bytes"] > samples["weir_ledger_peak_bytes"] > 0


def test_each_metric_is_in_the_reference(bench):
    _, address = started(bench)
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    names = re.findall(r"^# TYPE (\S+)", get(address).text, re.M)
    assert len(names) > 40 and len(set(names)) == len(names)
    assert not [name for name in names if "\n`%s` | " % name not in reference]


def test_promtool_finds_nothing_to_complain_about(bench):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("no promtool: it comes with the package prometheus")
    _, address = started(bench)
    done = subprocess.run([promtool, "check", "metrics"], input=get(address).text,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr + done.stdout, done.stderr


@pytest.fixture(name="prometheus")
def started_prometheus(bench):
    """Starts a Prometheus that scrapes an address, and gives its own."""
    program = shutil.which("prometheus")
    if not program:
        pytest.skip("no prometheus: `make deps` installs it")
    children = []

    def start(address):
        port = free_port()
        bench.write("prometheus.yml", json.dumps({
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [{"job_name": "weir", "static_configs": [
                {"targets": [address.partition("//")[2]]}]}]}))
        with open(bench.path("prometheus.log"), "wb") as log:
            children.append(subprocess.Popen(
                [program, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                 "--web.listen-address=127.0.0.1:%d" % port],
                cwd=bench.folder, stdout=log, stderr=log))
        return "http://127.0.0.1:%d" % port

    yield start
    for child in children:
        child.terminate()
        child.wait(helper.PATIENCE)


def test_prometheus_scrapes_it(bench, prometheus):
    _, address = started(bench, records=1000)
    own = prometheus(address)

    def look(query):
        page = served(own, "/api/v1/query?query=" + urllib.parse.quote(query))
        if not page or page.status != 200:
            return None
        return page.json()["data"]["result"]

    found = wait_for(lambda: look("weir_in_total > 0"), "Prometheus has scraped", 60)
    values = {row["metric"]["node"]: float(row["value"][1]) for row in found}
    assert values == {"in": 1000, "p": 1000, "out": 997}
    assert look("up")[0]["value"][1] == "1"


# --- Health ------------------------------------------------------------------------------

def limited(bench, text):
    """A running weir that cannot write files above 64 KiB, until `unlimited`."""
    bench.write("in.ndjson", [{"n": n, "pad": "x" * 1000} for n in range(6, 106)])
    bench.topology(text)
    live = helper.Live(bench, [
        "bash", "-c", 'trap "" XFSZ; ulimit -Sf 64; exec "$@"', "bash", helper.WEIR, "run",
        "t.lua"])
    address = address_of(live)
    live.wait_ready()
    return live, address


def unlimited(live):
    """Files may grow again."""
    everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(live.pid, resource.RLIMIT_FSIZE, everything)


def until(address, path, status):
    """The Page, once it is served with that status."""
    def look():
        page = served(address, path)
        return page if page and page.status == status else None
    return wait_for(look, "%s answers %d" % (path, status))


def health_of(page, name):
    """Health and reasons of a node."""
    node = next(node for node in page.json()["nodes"] if node["name"] == name)
    return node["health"], " ".join(node["reasons"])


def test_health_is_ok_while_all_goes_well(bench):
    _, address = started(bench)
    for path in ("/health", "/ready"):
        page = get(address, path)
        assert page.status == 200 and page.headers["Content-Type"] == "application/json"
        told = page.json()
        assert (told["status"], told["ready"], told["name"]) == ("ok", True, "t")
        assert [node["name"] for node in told["nodes"]] == ["in", "p", "out"]
    samples = get(address).samples()
    assert samples["weir_ready"] == samples["weir_healthy"] == 1


def test_a_sink_that_cannot_write_degrades_and_recovers(bench):
    retry = ', retry = { first = "10ms", max = "50ms" }'
    live, address = limited(bench, FOLLOW % (retry, ""))
    page = until(address, "/health", 503)
    state, reasons = health_of(page, "out")
    assert page.json()["status"] == state == "degraded"
    assert "out.ndjson: File too large" in reasons
    assert health_of(page, "in") == ("ok", "")
    assert get(address, "/ready").status == 200
    samples = get(address).samples()
    assert samples['weir_health{node="out",actor="sink.file"}'] == 1
    assert samples["weir_healthy"] == 0 and samples["weir_ready"] == 1
    wait_for(lambda: get(address).samples()[
        'weir_waiting_seconds{node="out",actor="sink.file",kind="write"}'] > 0.05,
        "the wait grows")
    unlimited(live)
    until(address, "/health", 200)
    settled(address, 100)
    live.stop()


def test_a_sink_that_gives_up_fails_and_starts_again(bench):
    retry = ', retry = { attempts = 1 }'
    live, address = limited(bench, FOLLOW % (retry, "supervise { intensity = 100 }"))
    page = until(address, "/ready", 503)
    state, reasons = health_of(page, "out")
    assert page.json()["status"] == state == "failed" and not page.json()["ready"]
    assert "File too large" in reasons
    assert served(address, "/health").status == 503
    entered = 'weir_in_total{node="in",actor="source.file"}'
    before = get(address).samples()[entered]
    unlimited(live)
    until(address, "/ready", 200)
    samples = settled(address, 100)
    labels = '{node="in",actor="source.file"}'
    assert samples["weir_restarts_total" + labels] >= 1
    assert samples[entered] >= before  # a counter never falls
    assert samples[entered] == 100 + samples["weir_recalled_total" + labels]
    assert samples["weir_recalled_total" + labels] > 0
    live.stop()


def test_a_drain_is_not_ready_and_still_told(bench):
    live, address = started(bench, FOLLOW % ("", 'supervise { stop_delay = "1s" }'))
    live.signal(signal.SIGTERM)
    page = until(address, "/ready", 503)
    assert page.json()["phase"] == "draining" and page.json()["status"] == "ok"
    assert get(address, "/health").status == 200
    assert get(address).samples()["weir_ready"] == 0
    live.wait(code=3)
    assert served(address) is None


# --- Requests ----------------------------------------------------------------------------

def test_only_what_there_is_is_served(bench):
    _, address = started(bench)
    assert "/metrics" in get(address, "/").text
    assert get(address).headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for path in ("/nope", "/metrics/", "/../etc/passwd", "/%2e%2e/x", "//"):
        assert get(address, path).status == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"):
        page = get(address, "/metrics", method)
        assert page.status == 405 and page.headers["Allow"] == "GET, HEAD", method
    assert get(address, "/metrics", "POST", b"x" * 100).status == 405
    assert get(address, "/metrics", "GET", b"x").status == 413
    head = get(address, "/metrics", "HEAD")
    assert head.status == 200 and not head.text
    assert int(head.headers["Content-Length"]) > 1000


GARBAGE = [
    b"\0" * 1000,
    b"\r\n" * 5000,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",  # without Host
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
    b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,  # a TLS hello
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


def send_all(address, data):
    """Sends it as far as the other side takes it, and hangs up."""
    try:
        with connect(address) as connection:
            connection.sendall(data)
    except OSError:
        pass


def test_garbage_costs_no_memory_and_disturbs_nobody(bench):
    live, address = started(bench)
    chance = helper.chance("garbage")
    before = live.vm("VmRSS")
    for data in GARBAGE + [chance.randbytes(chance.randrange(1, 50000)) for _ in range(50)]:
        send_all(address, data)
    for _ in range(20):
        send_all(address, GARBAGE[chance.randrange(len(GARBAGE))])
    wait_for(lambda: served(address), "there is room", 5)
    bench.append("in.ndjson", '{"n":6}\n')
    settled(address, 7)
    if not helper.SANITIZED:
        assert live.vm("VmRSS") - before < 8 << 20
    assert " error " not in live.text()
    live.stop(code=3)


def test_a_hundred_connections_leave_the_rest_alone(bench):
    live, address = started(bench)
    crowd = [connect(address) for _ in range(100)]
    try:
        wait_for(lambda: sum(map(is_open, crowd)) == CONNECTIONS, "the rest is refused")
        bench.append("in.ndjson", '{"n":6}\n')
        wait_for(lambda: helper.count_rows(bench.path("out.ndjson")) == 4, "records flow")
    finally:
        for connection in crowd:
            connection.close()
    wait_for(lambda: served(address), "there is room again")
    live.stop(code=3)


def test_slow_clients_are_cut_and_make_room(bench):
    live, address = started(bench)
    begun = time.monotonic()
    slow = [connect(address) for _ in range(CONNECTIONS)]
    wait_for(lambda: served(address) is None, "it is full")
    sent = 0

    def drip():
        nonlocal sent
        if time.monotonic() - begun > sent:  # a byte a second is no silence
            sent += 1
            for connection in slow:
                try:
                    connection.send(b"G")
                except OSError:
                    pass
        return served(address)

    wait_for(drip, "the slow ones are cut", 20)
    assert 9 < time.monotonic() - begun < 20
    wait_for(lambda: not any(map(is_open, slow)), "all of them are cut")
    for connection in slow:
        connection.close()
    live.stop(code=3)


# --- Where it listens --------------------------------------------------------------------

def listening(options):
    """A topology whose monitor has these options on its own line, the third."""
    return 'source.generate "g" {}\nsink.null "n" { from = "g" }\nmonitor { %s }\n' % options


@pytest.mark.parametrize("options, told", [
    ('listen = "0.0.0.0:0"', "option 'listen': '0.0.0.0:0' is not loopback: give tls"),
    ('listen = "[::]:0"', "option 'listen': '[::]:0' is not loopback: give tls"),
    ('listen = "nowhere"', "option 'listen': 'nowhere' is no address such as"),
    ('listen = "127.0.0.1:70000"', "option 'listen': '127.0.0.1:70000' is no address"),
    ('tls = { cert = "c" }', "option 'tls.cert': tls takes cert and key, both"),
    ('lisen = "127.0.0.1:0"', "unknown option 'lisen' (did you mean 'listen'?)"),
    ('plaintext = "yes"', "option 'plaintext': expected bool"),
])
def test_a_bad_address_is_refused_with_its_line(bench, options, told):
    lines = bench.refused(listening(options))
    assert len(lines) == 1 and lines[0].startswith("t.lua:3: monitor: " + told), lines


def test_it_stands_once(bench):
    lines = bench.refused(listening("") + "monitor {}\n")
    assert lines == ["t.lua:4: monitor: is given twice (first at line 3)"]


def test_what_is_safe_passes_the_check(bench):
    for options in ("", 'listen = "[::1]:0"', 'listen = "0.0.0.0:0", plaintext = true',
                    'listen = "0.0.0.0:0", tls = { cert = "c", key = "k" }'):
        assert bench.check(listening(options)).code == 0, options


def test_plaintext_for_the_network_is_warned_about(bench):
    live = bench.start(listening('listen = "0.0.0.0:0", plaintext = true'))
    live.wait_log("warn  monitor is readable by the network, without TLS")
    port = address_of(live).rpartition(":")[2]
    assert get("http://127.0.0.1:" + port, "/ready").status in (200, 503)


def test_ipv6(bench):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    live = bench.start(listening('listen = "[::1]:0"'))
    live.wait_ready()
    address = address_of(live)
    assert address.startswith("http://[::1]:") and get(address).status == 200


def test_an_address_in_use_starts_nothing(bench):
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = "127.0.0.1:%d" % server.getsockname()[1]
        run = bench.run(listening('listen = "%s"' % taken), code=1)
    assert "monitor at %s: cannot listen: Address already in use" % taken in run.err
    assert "ready name=" not in run.err


@pytest.fixture(name="certificate")
def made_certificate(bench):
    """cert.pem and key.pem in the folder, for 127.0.0.1."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=weir",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out",
         "cert.pem"], cwd=bench.folder, check=True, capture_output=True)
    os.chmod(bench.path("key.pem"), 0o600)
    return ssl.create_default_context(cafile=bench.path("cert.pem"))


TLS = listening('listen = "127.0.0.1:0", tls = { cert = "cert.pem", key = "key.pem" }')


def test_tls(bench, certificate):
    live = bench.start(TLS)
    live.wait_ready()
    address = address_of(live)
    assert address.startswith("https://")
    assert get(address, context=certificate).samples()["weir_ready"] == 1
    with pytest.raises(OSError):
        get(address)  # a stranger to the certificate
    assert served(address.replace("https", "http")) is None
    for data in GARBAGE:
        send_all(address, data)
    assert get(address, context=certificate).status == 200
    live.stop()


def test_a_key_that_others_may_read_is_refused(bench, certificate):
    del certificate
    os.chmod(bench.path("key.pem"), 0o640)
    run = bench.run(TLS, code=1)
    assert "others may read this secret: chmod 600 key.pem" in run.err


def test_files_that_are_no_certificates_are_refused(bench, certificate):
    del certificate
    bench.path("cert.pem").unlink()
    assert "cannot read cert.pem: No such file" in bench.run(TLS, code=1).err
    bench.write("cert.pem", "nonsense\n")
    assert "cannot serve HTTP" in bench.run(TLS, code=1).err


# --- The service manager -----------------------------------------------------------------

@pytest.fixture(name="manager", params=["path", "abstract"])
def service_manager(bench, request):
    """A socket as $NOTIFY_SOCKET, and the variable."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = os.path.relpath(bench.path("n"))
    listener.settimeout(helper.PATIENCE)
    if request.param == "path":
        cwd = os.getcwd()
        os.chdir(bench.folder)  # a socket's path has 107 bytes at most
        listener.bind("n")
        os.chdir(cwd)
        name = str(bench.path("n"))
        if len(name) > 107:
            pytest.skip("the test's folder has too long a path")
    else:
        name = "@weir-test-%d" % os.getpid()
        listener.bind("\0" + name[1:])
    with listener:
        yield listener, {"NOTIFY_SOCKET": name}


def test_the_service_manager_hears_of_each_step(bench, manager):
    listener, env = manager
    live, _ = started(bench, env={**env, "WATCHDOG_USEC": "100000"})
    assert listener.recv(4096) == b"READY=1\nSTATUS=running"
    beats = [listener.recv(4096) for _ in range(6)]
    assert beats == [b"WATCHDOG=1"] * 6
    assert time.monotonic() - live.started > 0.25  # half of 100 ms lies between two
    live.signal(signal.SIGTERM)
    messages = []
    while b"STOPPING=1\nSTATUS=draining" not in messages:
        messages.append(listener.recv(4096))
    assert set(messages[:-1]) <= {b"WATCHDOG=1"}
    live.wait(code=3)


def test_without_a_watchdog_there_are_no_beats(bench, manager):
    listener, env = manager
    live, _ = started(bench, env={**env, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    live.stop(code=3)
    listener.setblocking(False)
    heard = []
    with pytest.raises(BlockingIOError):
        while True:
            heard.append(listener.recv(4096))
    assert heard[0] == b"READY=1\nSTATUS=running" and b"WATCHDOG=1" not in heard
    assert heard[1] == b"STOPPING=1\nSTATUS=draining"


def test_a_socket_that_is_not_there_does_no_harm(bench):
    bench.write("in.ndjson", [{"n": 1}])
    for value in ("/no/such/socket", "nonsense", ""):
        run = bench.run(PLAIN, "--until-idle", env={"NOTIFY_SOCKET": value})
        assert run.node("out")["done"] <= 1


def test_the_unit_is_one_that_systemd_takes(bench):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("no systemd-analyze")
    unit = (ROOT / "packaging" / "weir@.service").read_text(encoding="utf-8")
    unit = unit.replace("ExecStart=@PREFIX@/bin/weir", "ExecStart=%s" % helper.WEIR)
    bench.write("weir@.service", unit.replace("@PREFIX@", "/usr/local"))
    done = subprocess.run([analyze, "verify", "--man=no", "./weir@.service"],
                          cwd=bench.folder, capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze does not work here")
    assert done.returncode == 0 and not done.stderr, done.stderr
