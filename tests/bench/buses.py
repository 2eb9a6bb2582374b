"""What the rows of the bus measure: whole topologies with a bus in the middle."""
import os
import pathlib
import resource
import subprocess
import time

CHUNK = 8 << 20

DURABLE = """
source.file "in" { path = "%s", at_end = stop }
bus "events" { from = "in", shards = 2,
  store = disk { keep = all }, batch = { in_flight = 16, max_delay = "100ms" } }
"""

SHARDED = """
source.file "in" { path = "%s", at_end = stop }
bus "events" { from = "in", key = "ip", shards = %d, vnodes = 1024 }
sink.null "out" { from = "events" }
"""


def synced_writes(folder, size):
    """MB/s of write and fdatasync of chunks into a preallocated file: what the disk allows."""
    path = pathlib.Path(folder) / "limit"
    chunk = memoryview(os.urandom(CHUNK))
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.posix_fallocate(file, 0, size)
    os.fsync(file)
    begun = time.monotonic()
    for _ in range(size // CHUNK):
        assert os.write(file, chunk) == CHUNK
        os.fdatasync(file)
    took = time.monotonic() - begun
    os.close(file)
    path.unlink()
    return size // CHUNK * CHUNK / took / 1e6


def cpu_seconds(command):
    """User and system time of a child."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
