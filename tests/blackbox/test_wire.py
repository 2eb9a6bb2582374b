"""The bytes that docs/wire.md shows are what weir sends and takes."""
import pathlib
import re
import sys

import msgpack
import pytest
import zmq

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "python-client"))
from weir_link import ACK, BLOCK, CLOSE, FIELDS, HELLO, WELCOME, cost, decode, open_socket, \
    pack, unpack  # noqa: E402

PAGE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")


def conversation(name):
    """[(direction, [frame, ..]), ..] of the fenced blocks of that name, in order."""
    said = []
    for block in re.findall(r"^```%s\n(.*?)^```$" % name, PAGE, re.M | re.S):
        for line in block.splitlines():
            data = bytes.fromhex(line[1:])
            if line[0] == " ":
                said[-1][1].append(data)
            else:
                said.append((line[0], [data]))
    return said


def dealer(endpoint):
    """A DEALER that waits at most 10 s for an answer."""
    socket = open_socket(zmq.Context.instance(), zmq.DEALER)
    socket.rcvtimeo = 10000
    socket.connect(endpoint)
    return socket


def test_a_source_link_says_what_the_page_shows(bench):
    live = bench.start('source.link "in" { listen = "ipc://in" }\n'
                       'sink.file "out" { from = "in", path = "out", framing = blob }\n')
    live.wait_ready()
    socket = dealer("ipc://%s" % bench.path("in"))
    said = conversation("hex")
    assert len(said) == 16
    for direction, frames in said:
        if direction == "<":
            assert socket.recv_multipart() == frames
        else:
            socket.send_multipart(frames)
    assert live.stop().node("in")["in"] == 2
    assert bench.path("out").read_bytes() == b'{"id":1}hi'


def test_a_sink_link_says_what_the_page_shows(bench):
    hello, welcome, block, ack = (frames for _, frames in conversation("hex sink"))
    router = open_socket(zmq.Context.instance(), zmq.ROUTER)
    router.rcvtimeo = 10000
    router.bind("ipc://%s" % bench.path("up"))
    bench.write("in.ndjson", ['{"id":1}'])
    live = bench.start('source.file "in" { path = "in.ndjson", at_end = stop }\n'
                       'sink.link "up" { from = "in", connect = "ipc://up" }\n')
    peer, frame = router.recv_multipart()
    kind, fields = unpack(frame)
    fields[3] = 1
    assert [pack(kind, *fields)] == hello
    router.send_multipart([peer] + welcome)
    assert router.recv_multipart() == [peer] + block
    router.send_multipart([peer] + ack)
    assert live.wait().node("up")["done"] == 1


def test_the_page_shows_every_type_and_its_elements():
    shown = {}
    for _, frames in conversation("hex") + conversation("hex sink"):
        value = msgpack.unpackb(frames[0])
        if frames[0] != b"\x93\x01\x02\xc0":        # the HELLO of another version
            shown[value[0]] = len(value)
    assert shown == {kind: len(fields) + 2 for kind, fields in FIELDS.items()}
    for kind, elements in shown.items():
        assert "= %%x9%x %%x%02x " % (elements, kind) in PAGE


def test_the_page_computes_the_cost_as_the_client_does():
    frames = next(f for d, f in conversation("hex") if f[0][1] == BLOCK)
    _, fields = unpack(frames[0])
    decode(frames[1], fields[1])
    total = cost(fields[3]["o"], frames[1])
    assert "It costs 544 + 16 + %d = %d." % (len(frames[1]), total) in PAGE


def codes():
    """[(code, retryable), ..] of the tables of the page."""
    return re.findall(r"^\| `([A-Z_]+)` \|(?: \w+ \|)? (yes|no) \|", PAGE, re.M)


def test_the_page_lists_every_code_that_the_runtime_sends():
    text = "".join((ROOT / "runtime" / name).read_text(encoding="utf-8")
                   for name in ("inlet.c", "actor_inlet.c"))
    sent = set(re.findall(r'"([A-Z_]{3,})"', text)) - {"DEAF"}
    assert sent == {code for code, _ in codes()}


@pytest.mark.parametrize("kind", [CLOSE, ACK, HELLO, WELCOME])
def test_the_client_reads_what_it_writes(kind):
    fields = {CLOSE: ["X", "why", True], ACK: [1 << 63], HELLO: [1, "n", "o", 1, {}],
              WELCOME: [1, 0, 0, 0]}[kind]
    assert unpack(pack(kind, *fields)) == (kind, fields)
