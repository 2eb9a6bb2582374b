"""Where a bus keeps its records, for tests that run the same on each: a folder, a
redis-server or a nats-server of the test's own.

    with stores.place("redis", bench) as place:
        live = bench.start(TEXT % place.store("timeout = '1s'"))
        place.server.kill()
        place.records()     # by a client of our own
"""
import collections
import contextlib
import json
import pathlib
import re

import msgpack
import servers
from helper import objects, rows

KINDS = ["disk", "redis", "jetstream"]
SERVERS = KINDS[1:]

Record = collections.namedtuple("Record", "shard id payload")


def document(data):
    """The payload of a stored record, from JSON."""
    return json.loads(msgpack.unpackb(data, strict_map_key=False)[2])


class Disk:
    """A store without a server."""
    server = None

    @staticmethod
    def store(*more):
        """What stands behind `store =`."""
        return "disk { %s }" % ", ".join(["keep = all", *more])

    def close(self):
        """Nothing is open."""


class Server:
    """What both servers have."""

    def __init__(self, server, prefix, bus):
        self.server, self.prefix, self.bus = server, prefix, bus

    def url(self):
        """With what the server wants to know."""
        return self.server.url()

    def store(self, *more):
        """What stands behind `store =`."""
        return '%s { %s }' % (self.KIND, ", ".join(['url = "%s"' % self.url(), *more]))

    def records(self):
        """All that is stored, shard by shard in order."""
        return [record for shard in self.shards() for record in self.read(shard)]

    def close(self):
        """Ends the server."""
        self.server.close()


class Redis(Server):
    """Streams weir:BUS:SHARD. What the server has acknowledged it has after a kill."""
    KIND = "redis"

    def __init__(self, bench, bus="events", **options):
        super().__init__(
            servers.Redis(bench.path("redis"), **{"appendonly": True, **options}), "weir", bus)

    def stream(self, shard):
        """Its key."""
        return "%s:%s:%d" % (self.prefix, self.bus, shard)

    def shards(self):
        """That have a stream."""
        keys = self.server.call("KEYS", "%s:%s:*" % (self.prefix, self.bus))
        return sorted(int(key.rsplit(b":", 1)[1]) for key in keys)

    def read(self, shard):
        """The records of a shard; what is not ours has no id."""
        found = []
        for _, fields in self.server.entries(self.stream(shard)):
            ours = b"i" in fields and b"r" in fields
            found.append(Record(shard, fields[b"i"].decode() if ours else None,
                                document(fields[b"r"]) if ours else None))
        return found

    def intrude(self, shard):
        """Another writer's entry, behind what is there."""
        info = self.server.call("XINFO", "STREAM", self.stream(shard))
        last = dict(zip(info[::2], info[1::2]))[b"last-generated-id"].split(b"-")
        self.server.call("XADD", self.stream(shard), last[0] + b"-*", "x", "y")

    def remove(self, shard):
        """The stream is gone."""
        self.server.call("DEL", self.stream(shard))

    def remove_all(self):
        """All streams are gone."""
        self.server.call("FLUSHALL")

    def spoil(self, shard):
        """The place of a stream is taken by something else."""
        self.server.call("SET", self.stream(shard), "taken")

    def mend(self, shard):
        """It is free again."""
        self.remove(shard)


class Jetstream(Server):
    """Streams weir_BUS_SHARD."""
    KIND = "jetstream"

    def __init__(self, bench, bus="events", **options):
        super().__init__(servers.Nats(bench.path("nats"), **options), "weir", bus)

    def stream(self, shard):
        """Its name."""
        return "%s_%s_%d" % (self.prefix, self.bus, shard)

    def subject(self, shard):
        """Of the stream's messages."""
        return "%s.%s.%d" % (self.prefix, self.bus, shard)

    def shards(self):
        """That have a stream."""
        names = self.server.api("STREAM.NAMES")["streams"] or []
        matches = [re.fullmatch(r"%s_%s_(\d+)" % (self.prefix, self.bus), name)
                   for name in names]
        return sorted(int(match.group(1)) for match in matches if match)

    def read(self, shard):
        """The records of a shard; what is not ours has no id."""
        found = []
        for message in self.server.messages(self.stream(shard)):
            name = message.headers.get("Nats-Msg-Id")
            found.append(Record(shard, name, document(message.data) if name else None))
        return found

    def intrude(self, shard):
        """Another writer's message, behind what is there."""
        self.server.publish(self.subject(shard), b"y")

    def remove(self, shard):
        """The stream is gone."""
        self.server.api("STREAM.DELETE." + self.stream(shard))

    def remove_all(self):
        """All streams are gone."""
        for shard in self.shards():
            self.remove(shard)

    def spoil(self, shard):
        """The place of a stream is taken by something else."""
        self.server.api("STREAM.CREATE." + self.stream(shard), {
            "name": self.stream(shard), "subjects": ["other.%d" % shard],
            "storage": "memory"})

    def mend(self, shard):
        """It is free again."""
        self.remove(shard)


@contextlib.contextmanager
def place(kind, bench, **options):
    """One of them, and its end."""
    made = {"disk": Disk, "redis": Redis, "jetstream": Jetstream}[kind]
    here = made() if made is Disk else made(bench, **options)
    try:
        yield here
    finally:
        bench.close()
        here.close()


# --- What came out ----------------------------------------------------------------------

def by_key(path, key="k", value="n"):
    """{key: the numbers of its records in their order} of a file of JSON lines."""
    found = collections.defaultdict(list)
    for record in objects(path) if isinstance(path, (str, pathlib.Path)) else path:
        found[record[key]].append(record[value])
    return dict(found)


def numbers_by_key(lines):
    """The same of lines that were given."""
    return by_key([json.loads(line) for line in lines])


def numbered(luck, count, keys=1000, filler=0):
    """Lines with a number each, of keys by chance."""
    return ['{"n":%d,"k":"key-%d"%s}' % (n, luck.randrange(keys),
                                         ',"x":"%s"' % ("x" * filler) if filler else "")
            for n in range(count)]


def first_come(numbers):
    """Without those that come again."""
    return list(dict.fromkeys(numbers))


def assert_once_in_order(path, lines):
    """Each record of these lines once, those of a key in their order."""
    assert len(rows(path)) == len(lines)
    assert by_key(path) == numbers_by_key(lines)


def assert_in_order(path, lines):
    """Each record at least once; the first times of a key's in their order."""
    got = {key: first_come(numbers) for key, numbers in by_key(path).items()}
    assert got == numbers_by_key(lines)
