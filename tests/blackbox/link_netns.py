"""Two weirs in network namespaces, and a bad wire between them (tests and soak)."""
from helper import PATIENCE, SANITIZED, wait_for
from link_rounds import judge, pause
from link_speed import FULL, speed, wait_speed
from linked import Cargo, committed, make_pair, receiver, rows_equal, sender, size_of
from tunnel import ADDRESSES, Tunnel

RATE = 6000000  # bytes a second of the wire
PORT = 4711     # the namespaces are ours alone
HEARTBEAT = "500ms"
WINDOW = 2 << 20
IDLE = 0.02     # share of a processor that may be used while nothing can be done


class Site:
    """A sender in one namespace, a receiver in the other, with their wire."""

    def __init__(self, folder, luck, count, window="32MB", **wire):
        self.benches = make_pair(folder)
        self.cargo = Cargo(self.benches[0], luck, count)
        self.out = self.benches[1].path("out.ndjson")
        self.texts = (sender(PORT, host=ADDRESSES[1], heartbeat=HEARTBEAT, window=window,
                             timeout="5s"),
                      receiver(PORT, host=ADDRESSES[1], heartbeat=HEARTBEAT,
                               window=window))
        self.lives = [None, None]
        self.tunnel = Tunnel(luck.random())
        for bench, prefix in zip(self.benches, self.tunnel.prefixes):
            bench.prefix = prefix
        try:
            self.tunnel.set(**wire)
            for i in (1, 0):
                self.start(i)
                self.lives[i].wait_ready()
        except BaseException:
            self.close()
            raise

    def start(self, i):
        """Starts the sender (0) or the receiver (1)."""
        self.lives[i] = self.benches[i].start(self.texts[i])

    def finish(self, seconds):
        """Waits until everything is there, and ends both cleanly."""
        wait_for(lambda: not self.lives[0].running(), "the sender's end", seconds)
        run = self.lives[0].wait()
        assert committed(self.benches[0]) == self.cargo.size
        self.lives[1].stop()
        return run

    def close(self):
        """Ends everything, also what failed half-way."""
        for bench in self.benches:
            bench.close()
        self.tunnel.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()


def delayed(folder, luck, seconds):
    """50 ms each way; gives the share of the wire's rate that was reached."""
    with Site(folder, luck, int(seconds * 13000 + 14000), delay=0.05, rate=RATE) as site:
        wait_for(lambda: size_of(site.out) > RATE, "a second's worth", PATIENCE)
        reached = speed(site.out, seconds) / RATE
        site.finish(120)
        assert rows_equal(site.out, site.cargo)
        return reached


def lossy(folder, luck, count):
    """1 % of the packets are lost; gives MB/s."""
    with Site(folder, luck, count, delay=0.005, rate=RATE, loss=0.01) as site:
        run = site.finish(120)
        assert rows_equal(site.out, site.cargo)
        return site.cargo.size / run.seconds / 1e6


def parted(folder, luck, seconds):
    """A partition of so many seconds; gives what both used of a processor meanwhile, how
    much their memory grew, and after how many seconds they were at full speed."""
    with Site(folder, luck, 28000, window="%dB" % WINDOW, delay=0.002, rate=RATE) as site:
        wait_for(lambda: size_of(site.out) > RATE // 2, "half a second's worth", PATIENCE)
        before = speed(site.out, 0.5)
        site.tunnel.set(parted=1)
        site.lives[0].wait_log("link is down")
        used = [live.cpu_seconds() for live in site.lives]
        held = [live.vm("VmRSS") for live in site.lives]
        pause(seconds)
        shares = [(live.cpu_seconds() - begin) / seconds
                  for live, begin in zip(site.lives, used)]
        grown = [live.vm("VmRSS") - begin for live, begin in zip(site.lives, held)]
        site.tunnel.set(parted=0)
        healed = pause(0)
        full = wait_speed(site.out, FULL * before, PATIENCE)
        site.finish(120)
        assert rows_equal(site.out, site.cargo)
        assert SANITIZED or max(shares) < IDLE, shares
        assert max(grown) < 4 << 20, grown
        return shares, grown, full - healed


def half_open(folder, luck, who):
    """The sender (0) or the receiver (1) is killed while the wire is parted, and so the
    other hears nothing of it; gives the number of records that came twice."""
    with Site(folder, luck, 15000, window="%dB" % WINDOW, delay=0.002, rate=RATE) as site:
        wait_for(lambda: size_of(site.out) > RATE // 2, "half a second's worth", PATIENCE)
        site.tunnel.set(parted=1)
        site.lives[who].kill()
        position = committed(site.benches[0])
        site.start(who)
        site.lives[who].wait_ready()
        if who == 1:
            site.lives[0].wait_log("link is down")
        site.tunnel.set(parted=0)
        site.finish(120)
        return judge(site.cargo, site.out, [(position, position + WINDOW + (64 << 10))],
                     True)
