"""More than two weirs: a chain with a middle that keeps nothing, and many senders to one
receiver, with kills (tests and soak)."""
import collections
import pathlib
import random
import shutil

from helper import Bench, rows, wait_for
from link_rounds import judge, pause
from linked import Cargo, committed, make_keys, receiver, sender
from ports import free_port

WINDOW, BLOCK = 256 << 10, 16 << 10
SENDERS = 20

MIDDLE = """
source.link "l" { listen = "tcp://127.0.0.1:%d", heartbeat = "100ms" }
sink.link "up" { from = "l", connect = "tcp://127.0.0.1:%d", server = "c",
  heartbeat = "100ms", timeout = "1s" }
settings { window = "%dB" }
security { keys = "keys" }
"""


class Chain:
    """a ships to b, and b to c; b has no state of its own."""

    def __init__(self, folder, luck, records):
        self.luck = luck
        make_keys(folder, *"abc")
        self.benches = {name: Bench(pathlib.Path(folder) / name) for name in "abc"}
        self.cargo = Cargo(self.benches["a"], luck, records)
        self.out = self.benches["c"].path("out.ndjson")
        ports = free_port(), free_port()
        self.texts = {
            "a": sender(ports[0], luck.choice((4000, 8000)), window="%dB" % WINDOW,
                        block="%dB" % BLOCK),
            "b": MIDDLE % (*ports, WINDOW),
            "c": receiver(ports[1], window="%dB" % WINDOW,
                          fsync=luck.choice(("never", '"50ms"')))}
        self.lives, self.under_way, self.kills = {}, [], 0

    def start(self, name):
        """Starts one of them."""
        self.lives[name] = self.benches[name].start(self.texts[name], "--quiet")

    def kill(self, name):
        """kill -9; of the middle also everything that it has on disk. What is committed
        by then lies at the end of the chain."""
        self.kills += 1
        self.lives[name].kill()
        position = committed(self.benches["a"])
        self.under_way.append((position, position + WINDOW + BLOCK))
        here = set(rows_so_far(self.out))
        missing = [line for line, offset in self.cargo.offsets.items()
                   if offset < position and line not in here]
        assert not missing, "%d records are committed and not at the end" % len(missing)
        if name == "b":
            shutil.rmtree(self.benches["b"].state, ignore_errors=True)

    def close(self):
        """Ends all."""
        for bench in self.benches.values():
            bench.close()


def rows_so_far(path):
    """The whole lines of a file that is being written."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def chain_of_kills(folder, seed, events=4):
    """One round; the Chain, and how many records came twice."""
    luck = random.Random(seed)
    chain = Chain(folder, luck, 6000)
    try:
        for name in luck.sample("abc", 3):
            chain.start(name)
            chain.lives[name].wait_log(r"\bready\b")
        for _ in range(events):
            pause(luck.random() * 0.4)
            if not chain.lives["a"].running():
                break
            victims = luck.choice(("b", "b", "b", "ab", "bc", "c", "abc"))
            for name in luck.sample(victims, len(victims)):
                chain.kill(name)
            pause(luck.random() * 0.2)
            for name in luck.sample(victims, len(victims)):
                chain.start(name)
        chain.lives["a"].wait(60)
        assert committed(chain.benches["a"]) == chain.cargo.size
        for name in "bc":
            chain.lives[name].stop(60)
        return chain, judge(chain.cargo, chain.out, chain.under_way, False)
    finally:
        chain.close()


class FanIn:
    """Many senders, each with records of its own, to one receiver."""

    def __init__(self, folder, luck, records):
        names = ["s%d" % n for n in range(SENDERS)]
        make_keys(folder, "b", *names)
        port = free_port()
        self.receiver = Bench(pathlib.Path(folder) / "b")
        self.text = receiver(port, window="1MB", heartbeat="1s")
        self.senders = [Bench(pathlib.Path(folder) / name) for name in names]
        self.cargos = [Cargo(bench, luck, records, name + ":")
                       for name, bench in zip(names, self.senders)]
        self.sending = sender(port, records // 3, window="%dB" % WINDOW,
                              block="%dB" % BLOCK, heartbeat="1s")
        self.live, self.lives = None, [None] * SENDERS
        self.under_way = [[] for _ in names]
        self.kills, self.most = 0, 0

    def start(self, n):
        """Starts the receiver (-1) or a sender."""
        if n < 0:
            self.live = self.receiver.start(self.text, "--quiet")
        else:
            self.lives[n] = self.senders[n].start(self.sending, "--quiet")

    def note(self, n):
        """What a kill may cost that sender."""
        position = committed(self.senders[n])
        self.under_way[n].append((position, position + WINDOW + BLOCK))

    def kill(self, n):
        """kill -9 of the receiver (-1) or of a sender."""
        self.kills += 1
        if n < 0:
            self.look()
            self.live.kill()
            for each in range(SENDERS):
                self.note(each)
        else:
            self.lives[n].kill()
            self.note(n)

    def look(self):
        """Notes the most memory that the receiver has had."""
        self.most = max(self.most, self.live.vm("VmHWM"))

    def judge(self):
        """Of each sender: everything, unaltered, doubles explained; gives their number."""
        got = collections.defaultdict(list)
        for line in rows(self.receiver.path("out.ndjson")):
            got[line.split(b'"', 4)[3].split(b":")[0].decode()].append(line)
        twice = 0
        for n, cargo in enumerate(self.cargos):
            part = self.senders[n].write("got", got["s%d" % n])
            twice += judge(cargo, part, self.under_way[n], False)
        return twice

    def close(self):
        """Ends all."""
        for bench in (self.receiver, *self.senders):
            bench.close()


def fan_in_of_kills(folder, luck, records, kills):
    """Gives the FanIn, and how many records came twice."""
    fan = FanIn(folder, luck, records)
    try:
        for n in range(-1, SENDERS):
            fan.start(n)
        fan.live.wait_log(r"\bready\b")
        for i in range(kills):
            pause(luck.random() * 0.3)
            n = -1 if i == kills // 2 else luck.randrange(SENDERS)
            if n >= 0 and not fan.lives[n].running():
                continue
            fan.kill(n)
            fan.start(n)
        wait_for(lambda: not any(live.running() for live in fan.lives), "all senders", 120)
        for live in fan.lives:
            live.wait()
        fan.look()
        fan.live.stop()
        return fan, fan.judge()
    finally:
        fan.close()
