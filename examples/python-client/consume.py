#!/usr/bin/env python3
"""Takes records from a weir: consume.py ENDPOINT FILE, until it is terminated. What is
acknowledged is on disk."""
import os
import signal
import sys

from weir_link import Consumer


def main():
    """Writes a payload a line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Consumer(sys.argv[1]) as consumer, open(sys.argv[2], "ab") as file:
        for block in consumer:
            for _time, _key, payload, _headers in block.records:
                file.write(payload.encode(errors="surrogateescape") + b"\n")
            file.flush()
            os.fsync(file.fileno())
            consumer.ack(block)


if __name__ == "__main__":
    main()
