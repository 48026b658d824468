#!/usr/bin/env python3
"""torch's loss and gradient, eager and compiled, beside what cuda_kernels_bench measured.

usage: cuda_torch_bench.py KERNELS.json OUTPUT.json

Takes the cases of KERNELS.json that torch has a composition for, at the same sizes, and writes how
many times faster softloss's kernel was. Times are medians of CUDA events after warming up.
"""

import datetime
import functools
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

PREDICTION_BYTES = 1 << 30
REPEATS = 11
BUDGET_S = 150


def median_ms(function) -> float:
    for _ in range(3):
        function()
    times = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def problem(case: str):
    """The case's inputs and loss, or None if torch has no counterpart."""
    words = case.split()
    if "u8-labels" in words:
        return None
    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[words[1]]
    elements = PREDICTION_BYTES // dtype.itemsize
    classes = int(words[-1][2:]) if words[-1].startswith("C=") else 1
    if words[0] == "sigmoid":
        shape = (elements,)
    elif "tile" in words:
        shape = (max(1, elements // classes // (512 * 512)), classes, 512, 512)
    else:
        shape = (elements // classes, classes)
    x = torch.randn(shape, device="cuda", dtype=dtype).requires_grad_()
    t = torch.rand(shape, device="cuda", dtype=dtype)
    if words[0] == "sigmoid":
        return x, t, lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction="sum")
    t /= t.sum(1, keepdim=True)
    return x, t, lambda a, b: F.cross_entropy(a, b, reduction="sum")


def forward_backward(loss, x, t) -> None:
    x.grad = None
    loss(x, t).backward()


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        kernels = json.load(file)
    host = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    rows = []
    deadline = time.monotonic() + BUDGET_S
    print(f"{host}\n{'case':32} {'softloss':>9} {'eager':>9} {'compiled':>9}  ms   times faster")
    for kernel in kernels["rows"]:
        if time.monotonic() > deadline:
            print("time is up: the cases that are left were not compared")
            break
        if (made := problem(kernel["case"])) is None:
            continue
        x, t, loss = made
        elements = x.numel()
        ours = 3 * elements * x.element_size() / (kernel["value"] * 1e9) * 1e3
        line = {}
        for name, function in (("eager", loss), ("compiled", torch.compile(loss, dynamic=False))):
            try:
                line[name] = median_ms(functools.partial(forward_backward, function, x, t))
            except Exception as error:  # whatever torch raises is this case's answer
                print(f"{kernel['case']}: {name}: {type(error).__name__}: {str(error)[:200]}")
        print(
            f"{kernel['case']:32} {ours:9.3f} {line.get('eager', float('nan')):9.3f} "
            f"{line.get('compiled', float('nan')):9.3f}       "
            + " ".join(f"{name} {ms / ours:.2f}" for name, ms in line.items()),
            flush=True,
        )
        for name, bar in (("eager", 4.0), ("compiled", 1.5)):
            if name in line:
                rows.append(
                    {
                        "case": f"{kernel['case']} against torch {name}",
                        "value": ours,
                        "unit": "ms",
                        "baseline": line[name],
                        "ratio": line[name] / ours,
                        "spread": 0,
                        "at_least": bar,
                    }
                )
        del x, t, made  # before the next case asks for as much
        torch.cuda.empty_cache()
        torch._dynamo.reset()
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump({"name": "cuda_torch", "host": host, "date": date, "rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
