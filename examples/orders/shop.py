#!/usr/bin/env python3
"""A shop that sends orders to a weir: shop.py ENDPOINT NAME FIRST-ID COUNT. They are on
disk when it ends. weir_link.py is that of examples/python-client."""
import json
import sys

from weir_link import Producer


def main():
    """Each order is JSON text with the customer as its key."""
    endpoint, name, first, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    producer = Producer(endpoint, node=name)
    for n in range(count):
        order = {"id": first + n, "count": n % 9 + 1, "price": n * 37 % 1000}
        producer.send([(None, "%s-%d" % (name, n % 7), json.dumps(order), None)])
        if n % 100 == 99:
            producer.flush()
    producer.flush()
    print("shop.py: the %d orders of %s are on disk" % (count, name))
    producer.close()


if __name__ == "__main__":
    main()
