"""A round of kills: Weir is killed at moments by chance until it has read everything.

What a kill may cost is known from outside: the source's committed position lies in its
state file (runtime/positions.c draws it). Records that the sink has written, and that
lie behind that position, were not acknowledged when the kill came; these come twice,
and no others.
"""
import collections
import random
import struct
import time

from helper import Bench, rows

RECORDS = 6000
KILLS = 3  # in a round, at most

TOPOLOGY = """
source.file "in" { path = "in.ndjson", at_end = stop,
  rate = { records = %d, burst = "20ms" } }
process "p" { from = "in", workers = 2, key = "k", each = function (r)
  r.seen = r.n * 2
  return r
end }
sink.file "out" { from = "p", path = "out.ndjson", fsync = %s }
settings { block = "%s" }
"""


def positions(path):
    """The committed offsets of a state file by the name of the file that was read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    found = {}
    for slot in range((len(data) - 4096) // 8192 * 8):
        best = (0, None)
        for copy in (0, 1):
            at = 4096 + slot // 8 * 8192 + copy * 4096 + slot % 8 * 512
            generation, state = struct.unpack_from("<QI", data, at + 8)
            offset, size = struct.unpack_from("<QB", data, at + 48)
            name = data[at + 57:at + 57 + size].decode()
            if generation > best[0] and state == 1:
                best = (generation, (name, offset))
        if best[1]:
            found[best[1][0]] = best[1][1]
    return found


class Input:
    """Records of all sizes: the line that must come out, and where it lies in the input."""

    def __init__(self, bench, luck, count=RECORDS):
        lines, self.offsets, offset = [], {}, 0
        for n in range(count):
            filler = "x" * luck.choice((0, 10, 50, 300, 2000))
            line = '{"n":%d,"k":%d,"filler":"%s"}' % (n, luck.randrange(50), filler)
            self.offsets[('%s,"seen":%d}' % (line[:-1], 2 * n)).encode()] = offset
            lines.append(line)
            offset += len(line) + 1
        bench.write("in.ndjson", lines)

    def behind(self, position):
        """How many records lie at or behind a position."""
        return sum(offset >= position for offset in self.offsets.values())


def whole_lines(path):
    """The lines of a file that a crash may have left with half a line at its end."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return data[:data.rfind(b"\n") + 1].split(b"\n")[:-1]


def committed(bench):
    """The committed position of the source `in`, which reads one file."""
    return max(positions(bench.state / "in.positions").values(), default=0)


def judge_new_lines(given, before, after, position):
    """What one run has added: whole, of the input, and behind what was committed when
    it began. Returns how many of them had been written before."""
    assert after[:len(before)] == before, "lines that were whole have changed"
    new = after[len(before):]
    for line in new:
        assert line in given.offsets, "altered: %r" % line[:200]
        assert given.offsets[line] >= position, "read again though it was safe"
    return len(set(new) & set(before))


def round_of_kills(folder, seed):
    """One round; gives the numbers of records that came twice, that could have, and of
    kills."""
    luck = random.Random(seed)
    bench = Bench(folder)
    out = bench.path("out.ndjson")
    given = Input(bench, luck)
    text = TOPOLOGY % (luck.choice((8000, 20000, 60000)),
                       luck.choice(("always", "always", "never", '"20ms"')),
                       luck.choice(("4KB", "16KB", "64KB")))
    twice, unacknowledged, kills, position = 0, 0, 0, 0
    try:
        while kills < KILLS:
            before = whole_lines(out)
            live = bench.start(text, "--quiet")
            moment = time.monotonic() + luck.random() ** 2 * 0.4
            while live.running() and time.monotonic() < moment:
                time.sleep(0.001)  # nothing is awaited: the moment is the chance
            ended = not live.running()
            live.kill()
            kills += not ended
            after = whole_lines(out)
            twice += judge_new_lines(given, before, after, position)
            assert committed(bench) >= position, "the position went back"
            position = committed(bench)
            unsafe = {line for line in after if given.offsets[line] >= position}
            assert len(set(after)) - len(unsafe) == len(given.offsets) - \
                given.behind(position), "a record is committed and not written"
            unacknowledged += len(unsafe)
            if ended:
                break
            if positions(bench.state / "out.tail") and luck.random() < 0.5:
                bench.append("out.ndjson", b'{"n":17,"k":3,"fil')  # as a torn write does
        before = whole_lines(out)
        last = bench.run(text, "--quiet", seconds=60)
        assert last.node("in")["in"] == given.behind(position)
        twice += judge_new_lines(given, before, rows(out), position)
        got = collections.Counter(rows(out))
        assert set(got) == set(given.offsets), "%d are lost" % (len(given.offsets) - len(got))
        assert sum(got.values()) - len(got) == twice <= unacknowledged
        return twice, unacknowledged, kills
    finally:
        bench.close()
