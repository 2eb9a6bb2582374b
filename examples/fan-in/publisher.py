"""Publishes 1000 measurements, as a program that knows nothing of Weir does:

    publisher.py ENDPOINT KIND

Each message is topic, number, JSON. Number 500 is left out, as if it had been lost; topics
that nobody asks for are published, too.
"""
import json
import sys

import zmq

endpoint, kind = sys.argv[1:]
context = zmq.Context()
pub = context.socket(zmq.XPUB)  # a PUB that tells of its subscribers
pub.sndhwm = 0
pub.bind(endpoint)
while pub.recv() != b"\1" + kind.encode() + b".":
    pass
for number in range(1, 1001):
    if number == 500:
        continue
    value = {"n": number, "value": number * 7 % 100}
    pub.send_multipart([kind.encode() + b".load", b"%d" % number, json.dumps(value).encode()])
    pub.send_multipart([b"debug." + kind.encode(), b"%d" % number, b"{}"])
pub.close()
context.term()
