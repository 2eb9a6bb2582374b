"""The examples run, and their expected output is what Python makes of their input."""
import datetime
import json
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WEIR = os.environ.get("WEIR", str(ROOT / "bin" / "weir"))


def lines_of(path):
    """The lines of a file without their ends."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def run(example, folder=EXAMPLES):
    """What run.sh prints on both streams, and its exit code."""
    done = subprocess.run([folder / example / "run.sh"], capture_output=True, text=True,
                          check=False, timeout=60, env={**os.environ, "WEIR": WEIR})
    return done.stdout + done.stderr, done.returncode


def cleaned(request):
    """What the access-log example makes of a request."""
    path, mark, query = request["path"].partition("?")
    made = {name: value for name, value in request.items() if value is not None}
    made["path"] = path
    if mark:
        made["query"] = query
    seconds, ms = divmod(request["ts"], 1000)
    day = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    made["time"] = day.strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % ms
    made["kib"] = (request["bytes"] or 0) // 1024
    made["bot"] = bool(re.search("(?i)bot|crawler|spider", request["agent"] or ""))
    return made


def access_log():
    """Good and bad requests, as independent code cleans and splits them."""
    good, errors = [], []
    for line in lines_of(EXAMPLES / "access-log" / "input.ndjson"):
        try:
            request = json.loads(line)
        except ValueError:
            continue
        if request["ip"] and not request["path"].startswith("/health"):
            (errors if request["status"] >= 500 else good).append(cleaned(request))
    return {"good": good, "errors": errors}


def in_order(records):
    """Records by their id."""
    return sorted(records, key=lambda record: record["id"])


@pytest.mark.parametrize("name", ["good", "errors"])
def test_expected_output_of_the_access_log_is_what_python_makes(name):
    lines = lines_of(EXAMPLES / "access-log" / "expected" / (name + ".ndjson"))
    assert in_order(map(json.loads, lines)) == in_order(access_log()[name])


def test_expected_output_of_the_nginx_lines_is_what_python_makes():
    shape = re.compile(r'(\S+) - (\S+) \[([^]]+)\] "([^"]*)" (\d+) (\d+) "([^"]*)" "([^"]*)"$')
    made = []
    for line in lines_of(EXAMPLES / "nginx-lines" / "access.log"):
        match = shape.match(line)
        if not match:
            continue
        ip, user, time, request, status, size, referrer, agent = match.groups()
        parts = request.split(" ")
        stamp = datetime.datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z").timestamp()
        fields = {"ip": ip, "user": user, "referrer": referrer, "agent": agent,
                  "ts": int(stamp) * 1000, "status": int(status), "bytes": int(size)}
        if len(parts) == 3:
            fields.update(zip(("method", "path", "protocol"), parts))
        else:
            fields["request"] = request
        fields = {name: value.replace(r"\x22", '"') if isinstance(value, str) else value
                  for name, value in fields.items() if value != "-"}
        made.append(fields)
    assert len(made) == 39
    got = lines_of(EXAMPLES / "nginx-lines" / "expected" / "access.ndjson")
    assert [json.loads(line) for line in got] == made


@pytest.mark.parametrize("kind", ["cpu", "mem"])
def test_expected_output_of_the_fan_in_is_what_was_published(kind):
    got = lines_of(EXAMPLES / "fan-in" / "expected" / (kind + ".ndjson"))
    assert [json.loads(line) for line in got] == [
        {"n": n, "value": n * 7 % 100, "topic": kind + ".load"}
        for n in range(1, 1001) if n != 500]


def test_expected_output_of_the_python_client_is_what_python_makes():
    orders = [{"id": i, "count": i % 9 + 1, "price": i * 37 % 1000} for i in range(2000)]
    for order in orders:
        order["total"] = order["count"] * order["price"]
        order["shop"] = "north" if order["id"] % 2 else "south"
    large = [order for order in orders if order["total"] >= 5000]
    for name, made in (("all", orders), ("large", large)):
        got = lines_of(EXAMPLES / "python-client" / "expected" / (name + ".ndjson"))
        assert in_order(map(json.loads, got)) == made


@pytest.mark.parametrize("example", ["redis", "jetstream"])
def test_expected_output_of_orders_on_a_server_is_what_python_makes(example):
    bills = []
    for line in lines_of(EXAMPLES / example / "input.ndjson"):
        order = json.loads(line)
        bills.append({"id": order["id"], "customer": order["customer"],
                      "region": order["region"], "total": order["count"] * order["price"]})
    got = lines_of(EXAMPLES / example / "expected" / "bills.ndjson")
    assert in_order(map(json.loads, got)) == bills and len(bills) == 1000
    large = [bill for bill in bills if bill["total"] >= 5000]
    if example == "redis":
        assert sorted(lines_of(EXAMPLES / example / "expected" / "large.txt")) == sorted(
            "%s customer %s order %d total %d" % (
                bill["region"], bill["customer"], bill["id"], bill["total"])
            for bill in large)
    else:
        got = lines_of(EXAMPLES / example / "expected" / "heard.ndjson")
        assert in_order(map(json.loads, got)) == [b for b in large if b["region"] != "us"]


def test_expected_output_of_the_two_nodes_is_what_python_makes():
    lines = lines_of(EXAMPLES / "two-nodes" / "input.ndjson")
    made = []
    for line in lines + lines[:10]:
        request = json.loads(line)
        del request["agent"]
        if not request["path"].startswith("/health"):
            made.append({**request, "collector": "collector"})
    got = lines_of(EXAMPLES / "two-nodes" / "expected" / "requests.ndjson")
    assert [json.loads(line) for line in got] == made


def test_expected_output_of_the_orders_is_what_python_makes():
    bills, large = [], []
    for shop, first in (("north", 0), ("south", 100000)):
        for n in range(2000):
            order = {"id": first + n, "count": n % 9 + 1, "price": n * 37 % 1000}
            bills.append({"customer": "%s-%d" % (shop, n % 7), "id": first + n,
                          "total": order["count"] * order["price"]})
            if order["count"] >= 9:
                large.append(order)
    for name, made in (("bills", bills), ("large", large)):
        got = lines_of(EXAMPLES / "orders" / "expected" / (name + ".ndjson"))
        assert in_order(map(json.loads, got)) == made


def test_expected_output_of_the_c_program_is_what_python_makes():
    got = lines_of(EXAMPLES / "embed-c" / "expected" / "readings.ndjson")
    assert [json.loads(line) for line in got] == [
        {"gauge": n % 10, "n": n} for n in range(1, 2001)]


@pytest.mark.parametrize("example", ["access-log", "nginx-lines", "redis", "jetstream",
                                     "python-client", "fan-in", "two-nodes", "orders"])
def test_example_runs_twice_from_a_fresh_state(example):
    for _ in range(2):
        out, code = run(example)
        assert code == 0, out
        assert "every record is accounted for" in out
        assert "What happened" in out


@pytest.mark.parametrize("example, file", [("access-log", "good.ndjson"),
                                           ("nginx-lines", "access.ndjson"),
                                           ("python-client", "large.ndjson"),
                                           ("fan-in", "mem.ndjson"),
                                           ("two-nodes", "requests.ndjson")])
def test_example_notices_output_that_is_not_expected(example, file, tmp_path):
    subprocess.run(["cp", "-r", EXAMPLES / "fresh.sh", EXAMPLES / example, tmp_path],
                   check=True)
    expected = tmp_path / example / "expected" / file
    expected.write_text(expected.read_text(encoding="utf-8").replace("\":", "\" :", 1),
                        encoding="utf-8")
    out, code = run(example, tmp_path)
    assert code == 1
    assert "differs from expected/" + file in out


def test_access_log_keeps_the_order_of_each_ip(tmp_path):
    subprocess.run(["cp", "-r", EXAMPLES / "access-log", tmp_path], check=True)
    folder = tmp_path / "access-log"
    done = subprocess.run([WEIR, "run", "topology.lua"], cwd=folder, check=False, timeout=60,
                          capture_output=True)
    assert done.returncode == 3, done.stderr
    by_ip = {}
    for line in lines_of(folder / "good.ndjson"):
        record = json.loads(line)
        by_ip.setdefault(record["ip"], []).append(record["id"])
    assert len(by_ip) > 5
    assert all(ids == sorted(ids) for ids in by_ip.values())


def test_reference_is_what_weir_prints():
    printed = subprocess.run([WEIR, "reference"], capture_output=True, text=True, check=True,
                             timeout=20).stdout
    kept = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert kept == printed, "docs/reference.md is old: run 'make docs'"
