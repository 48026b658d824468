"""The Python client's throughput, for transport_bench: it answers lines with seconds.

usage: python_client_load.py ADDRESS. Each line is the bytes of an item's prediction and label, how many items
are in flight, and how many there are in all.
"""

from __future__ import annotations

import collections
import sys
import time

import numpy as np
import softloss

CLASSES = 64


def main(address: str) -> None:
    rng = np.random.default_rng(1)
    with softloss.Client(address) as client:
        print("ready", flush=True)
        for line in sys.stdin:
            size, in_flight, items = map(int, line.split())
            shape = (size // 8 // CLASSES, CLASSES)
            x = rng.normal(size=shape).astype(np.float32)
            t = rng.random(shape).astype(np.float32)
            t /= t.sum(1, keepdims=True)
            under_way: collections.deque[softloss.Future] = collections.deque()
            start = time.perf_counter()
            for _ in range(items):
                if len(under_way) == in_flight:
                    under_way.popleft().result()
                under_way.append(client.submit(x, t, loss="softmax_cross_entropy"))
            while under_way:
                under_way.popleft().result()
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
