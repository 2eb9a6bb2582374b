"""Two network namespaces with a wire between them that delays, loses, limits and parts.

The wire is a process of its own, `python3 tunnel.py NAMESPACE NAMESPACE SEED`, with a TUN
device in each namespace: whole IP packets pass through it, so that TCP meets what it
would meet outside. Unlike tc netem it needs no kernel module beyond tun. It takes
commands from its standard input, one a line, and ends with it:

    delay SECONDS      each way
    loss SHARE         of the packets of each way
    rate BYTES         a second and way; 0: no limit
    parted 0|1         whether nothing passes
"""
import collections
import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

import pytest

ADDRESSES = ("10.207.0.1", "10.207.0.2")
MTU = 1500
QUEUE = 1 << 20  # bytes that wait for the rate, before packets are dropped

TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454ca, 1, 0x1000, 0x40000000


class _Way:
    """One direction: the packets that are on their way, with the time when they come."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.packets, self.free = collections.deque(), 0.0

    def take(self, wire, now):
        """Reads what there is."""
        for _ in range(64):
            try:
                packet = os.read(self.source, 65536)
            except BlockingIOError:
                return
            if wire.parted or wire.luck.random() < wire.loss:
                continue
            if wire.rate:
                if (self.free - now) * wire.rate > QUEUE:
                    continue
                self.free = max(self.free, now) + len(packet) / wire.rate
            self.packets.append((max(self.free, now) + wire.delay, packet))

    def give(self, now):
        """Writes what has come."""
        while self.packets and self.packets[0][0] <= now:
            packet = self.packets.popleft()[1]
            try:
                os.write(self.target, packet)
            except OSError:
                pass  # its queue is full, or it is not up yet: the packet is lost


class _Forwarder:
    """The process between the namespaces."""

    def __init__(self, names, seed):
        self.luck = random.Random(seed)
        self.delay = self.loss = self.rate = self.parted = 0
        ends = [self._device(name) for name in names]
        self.ways = [_Way(ends[0], ends[1]), _Way(ends[1], ends[0])]

    @staticmethod
    def _device(name):
        """A TUN device in the namespace; its descriptor."""
        with open("/run/netns/" + name, encoding="ascii") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns " + name)
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN | IFF_NO_PI))
        return fd

    def run(self):
        """Until standard input ends."""
        print("ready", flush=True)
        while True:
            due = [way.packets[0][0] for way in self.ways if way.packets]
            wait = max(0, min(due) - time.monotonic()) if due else None
            ready = select.select([way.source for way in self.ways] + [0], [], [], wait)[0]
            if 0 in ready:
                line = sys.stdin.buffer.raw.readline()
                if not line:
                    return
                name, value = line.decode().split()
                setattr(self, name, float(value))
                print("ok", flush=True)
            now = time.monotonic()
            for way in self.ways:
                if way.source in ready:
                    way.take(self, now)
                if self.parted:
                    way.packets.clear()
                way.give(now)


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "ip %s: %s" % (" ".join(words), done.stderr)


class Tunnel:
    """The namespaces and the wire. `prefixes` run a program in the first or the second."""

    def __init__(self, seed):
        if os.geteuid():
            pytest.skip("network namespaces need root")
        if not os.path.exists("/dev/net/tun"):
            pytest.skip("the wire needs /dev/net/tun")
        self.names = ["weir-%s-%d" % (side, os.getpid()) for side in "ab"]
        self.prefixes = [["ip", "netns", "exec", name] for name in self.names]
        self.child = None
        try:
            for name in self.names:
                done = subprocess.run(["ip", "netns", "add", name], capture_output=True,
                                      text=True, check=False)
                if done.returncode:
                    pytest.skip("no network namespaces here: " + done.stderr.strip())
            self.child = subprocess.Popen([sys.executable, __file__, *self.names, str(seed)],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self.child.stdout.readline() == b"ready\n"
            for name, address in zip(self.names, ADDRESSES):
                _ip("-n", name, "addr", "add", address + "/24", "dev", "wire")
                _ip("-n", name, "link", "set", "wire", "mtu", str(MTU), "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def set(self, **values):
        """delay, loss, rate, parted; returns when they hold."""
        for name, value in values.items():
            self.child.stdin.write(("%s %s\n" % (name, value)).encode())
            self.child.stdin.flush()
            assert self.child.stdout.readline() == b"ok\n"

    def close(self):
        """Ends the wire, removes the namespaces."""
        if self.child:
            self.child.communicate(timeout=10)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


if __name__ == "__main__":
    _Forwarder(sys.argv[1:3], sys.argv[3]).run()
