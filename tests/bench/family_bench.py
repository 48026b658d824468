#!/usr/bin/env python3
"""The family of losses beside the same written with torch: loss and gradient, float32, one thread.

usage: family_bench.py OUTPUT.json [SUBSTRING]

First both must give the same loss; then they run in turns, A B A B …. The rows are in the form of the
other benchmarks (bench_report.h).
"""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import pathlib
import statistics
import sys
import time

import numpy as np
import softloss
import torch
import torch.nn.functional as F

ELEMENTS = 1 << 22
PAIRS = 9
AT_LEAST, AIM = 4, 8


def jensen_shannon(x, t):
    log_p = F.log_softmax(x, 1)
    p = log_p.exp()
    log_m = (0.5 * (p + t)).log()
    both = F.kl_div(log_m, t, reduction="none")
    return 0.5 * (both + F.kl_div(log_m, log_p, log_target=True, reduction="none")).sum(1)


def focal(x, t):
    log_p = F.log_softmax(x, 1)
    return -(t * (1 - log_p.exp()) ** 2 * log_p).sum(1)


def quality_focal(x, t):
    bce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (x.sigmoid() - t).abs() ** 2 * bce


def symmetric(x, t):
    reverse = -(F.softmax(x, 1) * t.clamp(min=1e-4).log()).sum(1)
    return F.cross_entropy(x, t, reduction="none") + reverse


def generalized(x, t):
    return (t * (1 - F.softmax(x, 1) ** 0.7) / 0.7).sum(1)


def z_loss(x, t):
    return F.cross_entropy(x, t, reduction="none") + 1e-4 * torch.logsumexp(x, 1) ** 2


def poly1(x, t):
    return F.cross_entropy(x, t, reduction="none") + 2 * (t * (1 - F.softmax(x, 1))).sum(1)


def reverse_kl(x, t):
    log_p = F.log_softmax(x, 1)
    return (log_p.exp() * (log_p - t.log())).sum(1)


def distillation(x, t):
    return 16 * F.kl_div(F.log_softmax(x / 4, 1), t, reduction="none").sum(1)


def overlap(x, t):
    """Of each class of an image: Σs + Σt, and the L1 form of the intersection."""
    s = F.softmax(x, 1)
    size = (s + t).sum(2)
    return s, size, (size - (s - t).abs().sum(2)) / 2


def soft_dice(x, t):
    _, size, both = overlap(x, t)
    return 1 - (2 * both + 1e-5) / (size + 1e-5)


def tversky(x, t):
    s, _, both = overlap(x, t)
    excess, missed = s.sum(2) - both, t.sum(2) - both
    return 1 - (both + 1e-5) / (both + 0.25 * excess + 0.75 * missed + 1e-5)


# Losses of regions: images of classes.
IMAGES = {"soft_dice", "tversky"}

CASES = {
    "kl_divergence": (
        {},
        lambda x, t: F.kl_div(F.log_softmax(x, 1), t, reduction="none").sum(1),
    ),
    "reverse_kl_divergence": ({}, reverse_kl),
    "jensen_shannon_divergence": ({}, jensen_shannon),
    "distillation": ({"temperature": 4.0}, distillation),
    "brier": ({}, lambda x, t: ((F.softmax(x, 1) - t) ** 2).sum(1)),
    "expected_focal": ({}, focal),
    "poly1_cross_entropy": ({}, poly1),
    "generalized_cross_entropy": ({}, generalized),
    "symmetric_cross_entropy": ({}, symmetric),
    "softmax_cross_entropy": ({"z_loss": 1e-4}, z_loss),
    "binary_brier": ({}, lambda x, t: (x.sigmoid() - t) ** 2),
    "quality_focal": ({}, quality_focal),
    "soft_dice": ({"class_axis": 1}, soft_dice),
    "tversky": ({"class_axis": 1, "alpha": 0.25, "beta": 0.75}, tversky),
}


def seconds(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(loss: str, classes: int) -> dict:
    options, composition = CASES[loss]
    random = np.random.default_rng(3)
    shape = (ELEMENTS // classes, classes)
    if loss in IMAGES:
        shape = (4, classes, ELEMENTS // classes // 4)
    logits = (4 * random.normal(size=shape)).astype(np.float32)
    labels = torch.from_numpy(random.normal(size=shape).astype(np.float32)).softmax(1)
    x = torch.from_numpy(logits).requires_grad_()
    engine = softloss.Engine("cpu", threads=1)

    def ours() -> float:
        return engine.score(logits, labels, loss=loss, reduction="sum", **options).loss

    def theirs() -> float:
        x.grad = None
        value = composition(x, labels).sum()
        value.backward()
        return value.item()

    np.testing.assert_allclose(ours(), theirs(), rtol=1e-4)
    times = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
    ratios = [b / a for a, b in times]
    quartiles = statistics.quantiles(ratios, n=4)
    rate = [ELEMENTS / 1e9 / statistics.median(t[i] for t in times) for i in (0, 1)]
    name = f"{loss}{' with z-loss' if 'z_loss' in options else ''} C={classes}: torch"
    row = {
        "case": name,
        "value": rate[0],
        "unit": "Gelem/s",
        "baseline": rate[1],
        "ratio": statistics.median(ratios),
        "spread": quartiles[2] - quartiles[0],
        "at_least": AT_LEAST,
        "aim": AIM,
    }
    missed = "  missed" if row["ratio"] < AT_LEAST else ""
    print(
        f"{name:46} {rate[0]:8.4f} {rate[1]:8.4f} Gelem/s {row['ratio']:7.2f}{missed}", flush=True
    )
    return row


def main(output: str, substring: str = "") -> int:
    # As in the C++ benchmarks: both sides keep their memory.
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    torch.set_num_threads(1)
    rows = [measure(loss, c) for loss in CASES for c in (10, 1000) if substring in f"{loss} C={c}"]
    model = next(
        (
            line.split(": ", 1)[1]
            for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    text = {
        "name": "family",
        "host": f"{model}, {os.cpu_count()} cores",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rows": rows,
    }
    pathlib.Path(output).write_text(json.dumps(text, indent=1) + "\n")
    missed = sum(row["ratio"] < row["at_least"] for row in rows)
    print(f"{len(rows)} cases, {missed} below their bar; written to {output}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
