"""A client process of test_concurrency.py: many requests of random shapes, all checked.

usage: load.py ADDRESS SEED COUNT; prints one JSON line.
"""

from __future__ import annotations

import collections
import json
import sys

import numpy as np
import softloss


def requests(seed: int, count: int):
    """Draw `count` requests of random losses, shapes and dtypes."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        ndim = int(rng.integers(1, 5))
        shape = tuple(int(n) for n in rng.integers(1, [0, 3000, 60, 18, 10][ndim], size=ndim))
        x = (rng.normal(size=shape) * 4).astype(rng.choice(["float32", "float16", "float64"]))
        options = {
            "gradient": str(rng.choice(["float32", "float16", "bfloat16", "float64"])),
            "reduction": str(rng.choice(["mean", "sum"])),
        }
        t = rng.random(shape).astype(np.float32)
        if rng.random() < 0.6:
            axis = int(rng.integers(-ndim, ndim))
            options |= {"loss": "softmax_cross_entropy", "class_axis": axis}
            if rng.random() < 0.3:
                t = rng.integers(0, shape[axis], size=np.delete(shape, axis))
        yield x, t, options


def main(address: str, seed: int, count: int) -> None:
    engine = softloss.Engine(threads=1)
    answers: collections.Counter[int] = collections.Counter()
    order: list[int] = []
    with softloss.Client(address, channels=2, timeout=120) as client:
        wanted, futures = [], []
        for i, (x, t, options) in enumerate(requests(seed, count)):
            future = client.submit(x, t, row_loss=True, **options)
            future.add_done_callback(lambda _, i=i: (answers.update([i]), order.append(i)))
            futures.append(future)
            wanted.append((x, t, options))
        wrong = []
        for i, future in enumerate(futures):
            result = future.result(120)
            x, t, options = wanted[i]
            local = engine.score(x, t, row_loss=True, **options)
            equal = (
                result.loss == local.loss
                and result.numerics_id == local.numerics_id
                and result.gradient.tobytes() == local.gradient.tobytes()
                and result.row_loss.tobytes() == local.row_loss.tobytes()
                and result.conditions == local.conditions
            )
            if not equal:
                wrong.append((i, x.shape, options))
    print(
        json.dumps(
            {
                "answered": len(answers),
                "twice": [i for i, n in answers.items() if n != 1],
                "wrong": wrong,
                "out_of_order": order != sorted(order),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
