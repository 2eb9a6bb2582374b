#!/usr/bin/env python3
"""Sends orders to a weir: produce.py ENDPOINT COUNT. They are safe when it ends."""
import json
import sys
import time

from weir_link import Producer


def main():
    """Each order is JSON text with a key, a time and a header."""
    producer = Producer(sys.argv[1], node="shop")
    orders = ((int(time.time() * 1000), "customer-%d" % (i % 7),
               json.dumps({"id": i, "count": i % 9 + 1, "price": i * 37 % 1000}),
               {"shop": "north" if i % 2 else "south"})
              for i in range(int(sys.argv[2])))
    producer.send(orders)
    producer.flush()
    print("produce.py: %d blocks are safe" % producer.safe)
    producer.close()


if __name__ == "__main__":
    main()
