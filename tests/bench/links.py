"""The rows about links: against libzmq, many against few, peers that are idle, and how
soon a peer that returns is at full speed again. Used by run.py."""
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

import zmq

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python-client"))
from weir_link import HELLO, VERSION, Curve, open_socket, pack  # noqa: E402

LINK = str(ROOT / "build/release/tests/bench/bench_link")


def link(kind, mode, blocks, links=1):
    """MB/s, CPU us a block of both processes, and of the receiver."""
    done = subprocess.run([LINK, kind, mode, str(blocks), str(links)], check=True,
                          capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def many_against_few(rounds):
    """CPU of the receiving process per block, 1,000 links against 10: the medians."""
    few, many = [], []
    for _ in range(rounds):
        few.append(link("weir", "plain", 40000, 10))
        many.append(link("weir", "plain", 40000, 1000))
    return [[statistics.median(column) for column in zip(*rows)] for rows in (few, many)]


def make_keys(folder, name, roles=None, others=()):
    """A folder of keys as `weir keys` makes it."""
    weir = os.environ.get("WEIR", str(ROOT / "build/release/bin/weir"))
    subprocess.run([weir, "keys", "init", "--keys", folder, name], check=True,
                   capture_output=True)
    for other in others:
        subprocess.run([weir, "keys", "allow", "--keys", folder, "--role", roles, other],
                       check=True, capture_output=True)


def process(pid):
    """CPU seconds and resident KB of a process."""
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    status = pathlib.Path("/proc/%d/status" % pid).read_text()
    return cpu, int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def until_ready(weir):
    """Reads the log up to the line `ready`."""
    for line in weir.stderr:
        if " ready " in line:
            return
    raise RuntimeError("it never became ready")


def idle_peers(folder, weir, count):
    """CPU share in % and KB of memory for each of `count` CURVE peers that have said HELLO
    and then nothing."""
    subprocess.run(["rm", "-rf", folder], check=True)
    os.makedirs(folder)
    server, client = os.path.join(folder, "server"), os.path.join(folder, "client")
    make_keys(client, "client")
    make_keys(server, "server", "produce", [os.path.join(client, "self.pub")])
    path = os.path.join(folder, "t.lua")
    pathlib.Path(path).write_text(
        'security { keys = "%s" }\nsource.link "in" { listen = "ipc://%s/never" }\n'
        'source.link "peers" { listen = "tcp://127.0.0.1:27447" }\n'
        'sink.null "out" { from = {"in", "peers"} }\n' % (server, folder))
    child = subprocess.Popen([weir, "run", "--quiet", path], stderr=subprocess.PIPE,
                             text=True)
    until_ready(child)
    before = process(child.pid)[1]
    context = zmq.Context()
    context.max_sockets = 2 * count + 64
    curve = Curve(os.path.join(client, "self.key"), os.path.join(server, "self.pub"))
    peers = []
    for number in range(count):
        peer = open_socket(context, zmq.DEALER)
        curve.secure(peer, listens=False)
        peer.connect("tcp://127.0.0.1:27447")
        peer.send(pack(HELLO, VERSION, "client", "out", number + 1, {}))
        peers.append(peer)
    for peer in peers:
        peer.recv_multipart()  # WELCOME
    cpu, rss = process(child.pid)
    begun = time.monotonic()
    time.sleep(10)  # the measuring interval itself
    share = (process(child.pid)[0] - cpu) / (time.monotonic() - begun) * 100
    child.terminate()
    child.wait(30)
    context.destroy(0)
    return share, (rss - before) / count
