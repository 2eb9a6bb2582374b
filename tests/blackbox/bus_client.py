"""A client of a bus's endpoint, written from docs/wire.md alone."""
import msgpack
import zmq


class Refused(Exception):
    """A reply that is not ok."""

    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code, self.text = code, text


class Record:
    """One record: its place, its id's parts, and its payload."""

    def __init__(self, row):
        self.shard, self.a, self.b, self.epoch, self.sequence, encoded = row
        self.ts, self.key, self.payload, self.headers = msgpack.unpackb(encoded)
        self.place = self.shard, self.a, self.b


class Bus:
    """A connection. options: of the socket, such as curve_serverkey."""

    def __init__(self, endpoint, kind=zmq.DEALER, **options):
        self.socket = zmq.Context.instance().socket(kind)
        self.socket.linger = 0
        self.socket.maxmsgsize = 32 << 20
        self.socket.rcvtimeo = self.socket.sndtimeo = 20000
        for name, value in options.items():
            setattr(self.socket, name, value)
        self.socket.connect(endpoint)
        self.number = 0
        self.early = {}

    def send(self, verb, **fields):
        """Sends a request and gives its id."""
        self.number += 1
        self.socket.send(msgpack.packb([self.number, verb, fields]))
        return self.number

    def reply(self, number):
        """The (code, fields) of the request with this id."""
        while number not in self.early:
            got, code, fields = msgpack.unpackb(self.socket.recv())
            self.early[got] = code, fields
        return self.early.pop(number)

    def ask(self, verb, **fields):
        """The fields of the reply; Refused when it is not ok."""
        code, got = self.reply(self.send(verb, **fields))
        if code != "ok":
            raise Refused(code, got["text"])
        return got

    def poll(self, **fields):
        """(records, reply)."""
        got = self.ask("poll", **fields)
        return [Record(row) for row in got["records"]], got

    def pages(self, **fields):
        """All records, page by page, until there is no more."""
        records, got = self.poll(**fields)
        while got["more"]:
            yield from records
            fields.pop("from", None)
            fields["cursor"] = got["cursor"]
            records, got = self.poll(**fields)
        yield from records

    def fetch(self, **fields):
        """Records of one shard."""
        return [Record(row) for row in self.ask("fetch", **fields)["records"]]

    def ack(self, record, **fields):
        """Acknowledges a record."""
        self.ask("ack", shard=record.shard, a=record.a, b=record.b, **fields)

    def close(self):
        """Without a word."""
        self.socket.close()
