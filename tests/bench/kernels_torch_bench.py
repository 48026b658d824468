#!/usr/bin/env python3
"""Cross entropies beside torch's, eager: loss and gradient of large float32 tensors, one thread.

usage: kernels_torch_bench.py KERNELS.json [SUBSTRING]

First both must give the same loss and gradient; then they run in turns, A B A B …. The rows are added
to the report of kernels_bench, in place of those of an earlier run.
"""

from __future__ import annotations

import ctypes
import json
import pathlib
import statistics
import sys
import time

import numpy as np
import softloss
import torch
import torch.nn.functional as F

ELEMENTS = 1 << 24
PAIRS = 9
SUFFIX = ": against torch"
# Name as in kernels_bench: shape without the batch, what is wanted at least, and what would be better.
CASES = {
    "softmax C=2": ((2,), 20, 35),
    "softmax C=10": ((10,), 5, 8),
    "softmax C=21": ((21,), 5, 8),
    "softmax C=64": ((64,), 3.5, 5),
    "softmax C=1000": ((1000,), 3.5, 5),
    "softmax C=32768": ((32768,), 3.5, 5),
    "softmax C=128256": ((128256,), 3.5, 5),
    "softmax NCHW 21x512x512": ((21, 512, 512), 3.5, 5),
    "sigmoid": ((), 4, 7),
}


def seconds(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(name: str) -> dict:
    inner, at_least, aim = CASES[name]
    shape = (max(1, ELEMENTS // int(np.prod(inner))), *inner)
    generator = torch.Generator().manual_seed(3)
    x = (4 * torch.randn(shape, generator=generator)).requires_grad_()
    t = torch.randn(shape, generator=generator)
    softmax = name.startswith("softmax")
    t = t.softmax(1) if softmax else t.sigmoid()
    logits = x.detach()
    engine = softloss.Engine("cpu", threads=1)
    loss = "softmax_cross_entropy" if softmax else "sigmoid_cross_entropy"
    theirs_of = F.cross_entropy if softmax else F.binary_cross_entropy_with_logits
    gradient = torch.empty_like(logits)

    def ours() -> float:
        return engine.score(logits, t, loss=loss, reduction="sum", out=gradient).loss

    def theirs() -> float:
        x.grad = None
        value = theirs_of(x, t, reduction="sum")
        value.backward()
        return value.item()

    np.testing.assert_allclose(ours(), theirs(), rtol=1e-3)  # torch sums in float32
    torch.testing.assert_close(gradient, x.grad, rtol=1e-4, atol=1e-5)  # its rounding
    times = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
    ratios = [b / a for a, b in times]
    quartiles = statistics.quantiles(ratios, n=4)
    elements = float(np.prod(shape))
    value, baseline = (elements / 1e9 / statistics.median(t[i] for t in times) for i in (0, 1))
    row = {
        "case": name + SUFFIX,
        "value": value,
        "unit": "Gelem/s",
        "baseline": baseline,
        "ratio": statistics.median(ratios),
        "spread": quartiles[2] - quartiles[0],
        "at_least": at_least,
        "aim": aim,
    }
    missed = "  missed" if row["ratio"] < at_least else ""
    print(
        f"{row['case']:42} {value:8.4f} {baseline:8.4f} Gelem/s {row['ratio']:7.2f}"
        f"  >= {at_least}{missed}",
        flush=True,
    )
    return row


def main(path: str, substring: str = "") -> int:
    # As in the C++ benchmarks: both sides keep their memory.
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    torch.set_num_threads(1)
    rows = [measure(name) for name in CASES if substring in name]
    report = json.loads(pathlib.Path(path).read_text())
    new = {row["case"] for row in rows}
    report["rows"] = [row for row in report["rows"] if row["case"] not in new] + rows
    pathlib.Path(path).write_text(json.dumps(report, indent=1) + "\n")
    missed = sum(row["ratio"] < row["at_least"] for row in rows)
    print(f"{len(rows)} cases, {missed} below their bar; added to {path}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
