"""The control endpoint of a running weir, spoken to by a client of our own that knows
no more than docs/control.md."""
import json
import os
import stat

import pytest
import zmq

import helper
from helper import wait_for

SLOW = """
source.generate "in" { rate = { records = 2000 } }
process "p" { from = "in", outlets = { errors = "status >= 500", rest = otherwise } }
sink.null "bad" { from = "p.errors" }
sink.null "good" { from = "p.rest" }
"""
FULL = SLOW.replace(" { rate = { records = 2000 } }", " {}")


class Client:
    """A DEALER at the socket of a running weir."""

    def __init__(self, bench, name="t", kind=zmq.DEALER, rcvhwm=1000):
        self.socket = zmq.Context.instance().socket(kind)
        self.socket.linger = 0
        self.socket.rcvhwm = rcvhwm
        self.socket.rcvtimeo = 1000 * helper.PATIENCE
        self.socket.connect("ipc://%s/run/%s.sock" % (bench.folder, name))
        self.number = 0

    def send(self, *frames):
        self.socket.send_multipart([f if isinstance(f, bytes) else f.encode()
                                    for f in frames])

    def recv(self):
        """(id, code, body)."""
        frames = self.socket.recv_multipart()
        assert len(frames) == 4 and frames[0] == b"WEIR1", frames
        return frames[1].decode(), frames[2].decode(), json.loads(frames[3])

    def begin(self, command, *args):
        """Sends a command; gives its id."""
        self.number += 1
        self.send("WEIR1", str(self.number), command, *map(str, args))
        return str(self.number)

    def ask(self, command, *args):
        """(code, body) of a command with one reply."""
        number = self.begin(command, *args)
        got, code, body = self.recv()
        assert got == number
        return code, body

    def ok(self, command, *args):
        """The body of a command that must succeed."""
        code, body = self.ask(command, *args)
        assert code == "ok", body
        return body

    def error(self, command, *args):
        """(code, sentence) of a command that must fail."""
        code, body = self.ask(command, *args)
        assert code != "ok" and list(body) == ["error"], body
        return code, body["error"]

    def stream(self, command, *args):
        """The bodies of all `more`, and that of the last reply."""
        number, bodies = self.begin(command, *args), []
        while True:
            got, code, body = self.recv()
            assert got == number
            if code != "more":
                assert code == "ok", body
                return bodies, body
            bodies.append(body)

    def close(self):
        self.socket.close()


@pytest.fixture(name="connect")
def clients():
    """Makes clients, and closes them."""
    made = []

    def make(*args, **more):
        made.append(Client(*args, **more))
        return made[-1]
    yield make
    for client in made:
        client.close()


def start(bench, text=SLOW, *words):
    live = bench.start(text, *words)
    live.wait_ready()
    return live


def test_what_runs_is_told(bench, connect):
    live, client = start(bench), connect(bench)
    assert client.ok("version")["pid"] == live.pid
    told = client.ok("list")
    assert [node["name"] for node in told["nodes"]] == ["in", "p", "bad", "good"]
    assert {node["state"] for node in told["nodes"]} == {"running"}
    assert {"from": "p", "outlet": "p.errors", "to": "bad"} in told["links"]
    wait_for(lambda: client.ok("stats", "good")["nodes"][0]["done"] > 0, "records")
    assert len(client.ok("stats", "good")["nodes"]) == 1
    assert client.ok("stats")["ledger"]["limit"] > 0
    health = client.ok("health")
    assert health["status"] == "ok" and health["ready"] is True, health
    assert "weir_in_total{" in client.ok("metrics")["text"]
    assert client.ok("refusals") == {"refusals": []}
    live.stop()


def test_wrong_commands_get_a_sentence(bench, connect):
    live, client = start(bench), connect(bench)
    assert client.error("lst") == ("not-found", "there is no command 'lst'")
    assert client.error("stats", "x") == ("not-found", "there is no node 'x'")
    assert client.error("pause") == ("invalid", "the arguments of pause are: NODE")
    assert client.error("list", "x") == ("invalid", "the arguments of list are: none")
    assert client.error("tap", "p.x", 1, 1)[0] == "not-found"
    assert client.error("tap", "good.x", 1, 1)[0] == "not-found"
    for count, seconds in ((0, 1), (1, 0), (-1, 1), ("x", 1), (1, 3601), (10**20, 1)):
        assert client.error("tap", "p", count, seconds)[0] == "invalid"
    live.stop()


def test_a_req_socket_works_as_well(bench):
    live = start(bench)
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.linger, socket.rcvtimeo = 0, 1000 * helper.PATIENCE
    socket.connect("ipc://%s/run/t.sock" % bench.folder)
    for _ in range(3):
        socket.send_multipart([b"WEIR1", b"", b"version"])
        assert socket.recv_multipart()[:3] == [b"WEIR1", b"", b"ok"]
    socket.close()
    live.stop()


def test_the_sums_are_zero_while_it_runs(bench, connect):
    live, client = start(bench, FULL), connect(bench)
    wait_for(lambda: client.ok("audit")["nodes"][0]["in"] > 10000, "records")
    for _ in range(50):
        report = client.ok("audit")
        assert report["ending"] == "running"
        assert helper.audit(report) == []
        sent = sum(node["out"] for node in report["nodes"])
        taken = sum(node["in"] for node in report["nodes"] if node["name"] != "in")
        assert sent <= taken
    live.stop(code=None)


def test_drain_is_a_clean_end(bench, connect):
    live, client = start(bench), connect(bench)
    assert client.ok("drain") == {"draining": True}
    run = live.wait()
    assert run.report["ending"] == "clean"
    assert "control command=drain peer=local" in run.err
    assert os.listdir(bench.path("run")) == []


def test_stop_is_an_end_at_once(bench, connect):
    live, client = start(bench, FULL), connect(bench)
    client.ok("stop")
    assert live.wait(code=1).report["ending"] == "at once"
    assert os.listdir(bench.path("run")) == []


def test_the_socket_is_for_its_owner_alone(bench):
    live = start(bench)
    for name, mode in (("", 0o700), ("t.sock", 0o600), ("t.lock", 0o600)):
        found = os.lstat(bench.path("run") / name)
        assert stat.S_IMODE(found.st_mode) == mode, name
    live.stop()


def test_without_a_safe_folder_it_runs_uncontrolled(bench):
    bench.path("run").mkdir(mode=0o755)
    live = start(bench)
    live.wait_log(r"no local control endpoint at=.*chmod 700")
    live.stop()
    deep = bench.path("x" * 120)
    live = bench.start(SLOW, env={"WEIR_RUN": str(deep)})
    live.wait_log("no local control endpoint .*107 are allowed: set WEIR_RUN")
    live.stop()


def test_a_name_is_not_taken_from_a_running_weir(bench, connect):
    live = start(bench)
    bench.write("u.lua", 'settings { name = "t", state = "other" }\n' + SLOW)
    second = helper.Live(bench, [helper.WEIR, "run", "u.lua"])
    second.wait_ready()
    second.wait_log("a weir named 't' runs already, process %d: set settings.name"
                    % live.pid)
    second.signal(15)
    second.child.wait(helper.PATIENCE)
    assert connect(bench).ok("version")["pid"] == live.pid
    live.stop()


def test_what_a_killed_weir_left_is_taken_over(bench, connect):
    live = start(bench)
    live.kill()
    assert sorted(os.listdir(bench.path("run"))) == ["t.lock", "t.sock"]
    live = start(bench)
    assert connect(bench).ok("version")["pid"] == live.pid
    live.stop()
    assert os.listdir(bench.path("run")) == []


def test_nonsense_is_refused_and_logged_once(bench, connect):
    live, client = start(bench), connect(bench)
    chance = helper.chance("nonsense")
    for frames in ([b"hello"], [b"WEIR2", b"1", b"list"], [b"WEIR1"], [b"WEIR1", b"1"],
                   [b"WEIR1", b"x" * 65, b"list"], [b"WEIR1", b"1", b"li\0st"],
                   [b"WEIR1", b"1", b"\xff"], [b"", b"", b"WEIR1"],
                   [b"WEIR1", b"1", b"list"] + [b"a"] * 17,
                   [b"WEIR1", b"1", b"list"] + [b"a"] * 5000):
        client.send(*frames)
        got = client.socket.recv_multipart()
        got = got[1:] if got[0] == b"" else got
        assert got[0] == b"WEIR1" and got[2] in (b"protocol", b"malformed", b"too-big"), got
        assert json.loads(got[3])["error"]
    for _ in range(500):
        client.send(*[chance.randbytes(chance.choice((0, 1, 5, 300)))
                      for _ in range(chance.randrange(1, 25))])
        client.socket.recv_multipart()
    client.send(b"WEIR1", b"1", b"list", b"x" * 65537)  # ends this connection
    other = connect(bench)
    assert other.ok("version")["pid"] == live.pid
    assert other.ok("stats")["control_refused"] > 500
    assert live.text().count("control request refused") == 1
    live.stop()


def test_a_tap_shows_what_passes(bench, connect):
    live, client = start(bench), connect(bench)
    lines, end = client.stream("tap", "p.errors", 5, helper.PATIENCE)
    assert len(lines) == end["records"] == 5
    for line in lines:
        assert line["outlet"] == "p.errors" and line["source"] == "in"
        assert line["payload"]["status"] >= 500
    lines, end = client.stream("tap", "good", 2, helper.PATIENCE)
    assert [line["outlet"] for line in lines] == ["good", "good"]
    lines, end = client.stream("tap", "in", 100000, 1)
    assert 1 <= len(lines) == end["records"] <= 130 and end["skipped"] > 0
    live.stop()


def test_taps_end_by_untap_and_with_their_client(bench, connect):
    live, client, other = start(bench), connect(bench), connect(bench)
    for _ in range(3):
        client.begin("tap", "p", 100000, 3600)
    ids = {client.recv()[0] for _ in range(100)}
    assert ids == {"1", "2", "3"}
    assert other.ok("untap") == {"ended": 0}
    client.begin("untap")
    codes = []
    while "4" not in [number for number, _ in codes]:
        number, code, _ = client.recv()
        codes += [(number, code)] if code != "more" else []
    assert sorted(codes) == [("1", "ok"), ("2", "ok"), ("3", "ok"), ("4", "ok")]
    for _ in range(32):
        client.begin("tap", "p", 100000, 3600)
    client.begin("version")
    wait_for(lambda: client.recv()[0] == "37", "all are open")
    code, text = other.error("tap", "p", 1, 1)
    assert code == "full" and "32 streams" in text
    client.close()
    wait_for(lambda: other.ask("tap", "in", 1, 1)[0] != "full", "the streams end")
    live.stop()


def test_a_client_that_never_reads_costs_nobody_anything(bench, connect):
    live, other = start(bench), connect(bench)
    deaf = connect(bench, rcvhwm=1)
    for _ in range(20):
        deaf.begin("tap", "p", 1000000, 3600)
    for _ in range(3000):
        deaf.begin("stats")
    before = other.ok("stats")["nodes"][0]["done"]
    wait_for(lambda: other.ok("stats")["nodes"][0]["done"] > before + 1000, "it flows")
    assert live.vm("VmRSS") < 200 << 20
    live.stop()


def test_why_names_the_rate_limit(bench, connect):
    live, client = start(bench), connect(bench)
    told = wait_for(lambda: [path for path in client.ok("why")["paths"]
                             if path["verdict"] == "held"], "it is held")
    assert told[0]["path"] == ["in", "p", "bad"] and told[0]["node"] == "in"
    assert told[0]["why"].startswith("in keeps to its own rate limit, for ")
    assert len(client.ok("why", "good")["paths"]) == 1
    live.stop()


def test_a_paused_node_is_named_and_goes_on(bench, connect):
    live, client = start(bench, FULL), connect(bench)
    assert client.ok("pause", "good") == {"node": "good", "state": "paused"}
    done = client.ok("stats", "good")["nodes"][0]["done"]
    path = wait_for(lambda: [p for p in client.ok("why", "good")["paths"]
                             if p["node"] == "good"], "why names it")[0]
    assert path["why"].startswith("good is paused by a command, for ")
    client.ok("resume", "good")
    wait_for(lambda: client.ok("stats", "good")["nodes"][0]["done"] > done, "it goes on")
    live.stop(code=None)


def test_a_full_disk_is_named(bench, connect, small_disk):
    live = start(bench, """
source.generate "in" {}
sink.file "out" { from = "in", path = "disk/out.ndjson" }
""")
    client = connect(bench)
    path = wait_for(lambda: [p for p in client.ok("why")["paths"]
                             if p["node"] == "out" and "No space left" in p["why"]],
                    "why names the disk")[0]
    assert path["verdict"] in ("held", "failed")
    live.signal(15)
    live.wait(code=None)


def test_an_idle_source_is_no_trouble(bench, connect):
    bench.write("in.ndjson", [{"n": 1}])
    live = start(bench, """
source.file "in" { path = "in.ndjson" }
sink.null "out" { from = "in" }
""")
    client = connect(bench)
    path = wait_for(lambda: [p for p in client.ok("why")["paths"]
                             if p["verdict"] == "idle"], "it is idle")[0]
    assert path["why"] == "nothing to do: in has nothing to read"
    live.stop()


def test_a_sink_that_nobody_reads_is_named(bench, connect):
    ours, theirs = os.pipe()
    live = bench.start("""
source.generate "in" {}
sink.stdout "out" { from = "in" }
""", "--quiet", out=theirs)
    os.close(theirs)
    live.wait_ready()
    client = connect(bench)
    path = wait_for(lambda: [p for p in client.ok("why")["paths"]
                             if p["node"] == "out" and "does not return" in p["why"]],
                    "why names the sink")[0]
    assert path["verdict"] == "held" and path["since_ms"] >= 1000
    # It is stuck in a call, and yet everything answers.
    code, text = client.error("pause", "out")
    assert code == "timeout" and "has not answered yet" in text
    assert client.ok("list")["nodes"][1]["state"] == "paused"
    client.ok("stop")
    os.close(ours)
    live.wait(code=None)


def write_cert(path, name, keys, roles="none", secret=False):
    """A certificate as files hold it."""
    text = 'metadata\n    name = "%s"\n    roles = "%s"\ncurve\n    public-key = "%s"\n' \
        % (name, roles, keys[0].decode())
    if secret:
        text += '    secret-key = "%s"\n' % keys[1].decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600 if secret else 0o644)
    new.rename(path)


def test_a_paused_node_goes_on_when_all_drain(bench, connect):
    bench.write("in.ndjson", [{"n": n} for n in range(100)])
    live = start(bench, 'source.file "in" { path = "in.ndjson" }\n'
                 'process "p" { from = "in" }\nsink.file "out" { from = "p", path = "out" }')
    client = connect(bench)
    wait_for(lambda: helper.count_rows(bench.path("out")) == 100, "the first records")
    client.ok("pause", "out")
    bench.append("in.ndjson", '{"n":100}\n' * 100)
    wait_for(lambda: client.ok("stats", "in")["nodes"][0]["in"] == 200, "the others")
    live.stop(seconds=8)
    assert helper.count_rows(bench.path("out")) == 200


def test_by_tcp_only_the_role_control_commands(bench):
    server, admin, producer = (zmq.curve_keypair() for _ in range(3))
    write_cert(bench.path("keys/self.key"), "hub", server, secret=True)
    write_cert(bench.path("keys/self.pub"), "hub", server)
    write_cert(bench.path("keys/peers/admin.pub"), "admin", admin, "control")
    write_cert(bench.path("keys/peers/maker.pub"), "maker", producer, "produce")
    live = start(bench, 'security { keys = "keys", control = "tcp://127.0.0.1:*" }\n' + SLOW)
    endpoint = live.text().split("control endpoint=tcp://")[1].split()[0]

    def dial(keys):
        socket = zmq.Context.instance().socket(zmq.DEALER)
        socket.linger, socket.rcvtimeo = 0, 1000 * helper.PATIENCE
        socket.curve_serverkey = server[0]
        socket.curve_publickey, socket.curve_secretkey = keys
        socket.connect("tcp://" + endpoint)
        return socket

    def ask(socket, *frames):
        socket.send_multipart([b"WEIR1", b"1", *frames])
        return socket.recv_multipart()[2:]

    good, bad, plain = dial(admin), dial(producer), zmq.Context.instance().socket(zmq.DEALER)
    plain.linger = 0
    plain.connect("tcp://" + endpoint)
    assert ask(good, b"resume", b"good")[0] == b"ok"
    live.wait_log("control command=resume node=good peer=admin result=ok")
    for socket in (bad, plain):
        socket.rcvtimeo = socket.sndtimeo = 500
        with pytest.raises(zmq.Again):
            ask(socket, b"version")
    refusals = wait_for(lambda: json.loads(ask(good, b"refusals")[1])["refusals"],
                        "the refusal is told")
    assert any(r["name"] == "maker" and r["role"] == "control" for r in refusals), refusals

    # Whoever loses the role loses what is open, too.
    ask(good, b"version")
    write_cert(bench.path("keys/peers/admin.pub"), "admin", admin, "produce")
    good.rcvtimeo = good.sndtimeo = 500  # there may be nobody to send to any more

    def is_refused():
        try:
            return ask(good, b"version")[0] == b"refused"
        except zmq.Again:
            return True
    wait_for(is_refused, "the role is gone")
    for socket in (good, bad, plain):
        socket.close()
    live.stop()
