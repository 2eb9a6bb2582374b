"""Ports of the loopback for tests that need a number beforehand.

The kernel gives none of them to those who do not choose. Else a server that is away for a
while could lose its port to some connection, and who tries to connect to it could be
connected with itself. Each process of the tests has a block of them of its own.
"""
import functools
import itertools
import pathlib
import socket

FIRST, END, SIZE = 10000, 20000, 200  # of all blocks; of one. Unit tests use 20000 and up
GIVEN = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")


def bound(port):
    """A socket that has this port at all addresses, to be closed; None: somebody uses it."""
    taken = socket.socket()
    try:
        taken.bind(("", port))
        return taken
    except OSError:
        taken.close()
        return None


@functools.lru_cache(maxsize=None)
def block():
    """An endless iterator of the ports of this process, and the socket that says that they
    are its: it has the first one of them as long as the process lives."""
    end = min(END, int(GIVEN.read_text(encoding="ascii").split()[0]))
    for first in range(FIRST, end - SIZE + 1, SIZE):
        claim = bound(first)
        if claim:
            return itertools.cycle(range(first + 1, first + SIZE)), claim
    raise AssertionError("no block of %d ports is free below %d" % (SIZE, end))


def free_port():
    """One that nobody uses. It comes again only after all others of the block."""
    for port in itertools.islice(block()[0], SIZE):
        free = bound(port)
        if free:
            free.close()
            return port
    raise AssertionError("all %d ports of a test's process are in use" % SIZE)
