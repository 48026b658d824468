"""A training job whose loss and gradient come from a softloss server.

A teacher, an ensemble of networks trained on scikit-learn's handwritten digits, makes soft labels.
A small student learns them twice: once with loss and gradient from the server, once with torch's
own. Everything else is the same, down to the seeds.

usage: demo_training.py ADDRESS REPORT.json
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import softloss
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 30
BATCH = 64


class RemoteCrossEntropy(torch.autograd.Function):
    """Cross entropy with soft labels. The gradient arrives with the loss, so backward is local."""

    @staticmethod
    def forward(ctx, logits, labels, client, latencies):
        begin = time.perf_counter()
        result = client.score(logits, labels, loss="softmax_cross_entropy")
        latencies.append(time.perf_counter() - begin)
        ctx.save_for_backward(torch.from_numpy(result.gradient))
        ctx.scale = result.gradient_scale
        return torch.tensor(result.loss, dtype=torch.float64)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return gradient * (ctx.scale * upstream.item()), None, None, None


def network(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def teach(x: torch.Tensor, y: torch.Tensor, members: int = 5) -> list[nn.Module]:
    """Train the teacher's members on hard labels."""
    teacher = []
    for seed in range(members):
        model = network(256, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
        for _ in range(120):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y, label_smoothing=0.05).backward()
            optimizer.step()
        teacher.append(model)
    return teacher


def learn(x, soft, test_x, test_y, loss_of) -> dict:
    """Train a student; `loss_of(logits, labels)` is all that differs between two runs."""
    model = network(32, seed=100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    order = np.random.default_rng(7)
    steps, epochs = [], []
    for _ in range(EPOCHS):
        losses = []
        for rows in torch.from_numpy(order.permutation(len(x))).split(BATCH):
            optimizer.zero_grad()
            loss = loss_of(model(x[rows]), soft[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            accuracy = (model(test_x).argmax(1) == test_y).double().mean().item()
        steps += losses
        epochs.append({"loss": float(np.mean(losses)), "accuracy": accuracy})
    return {"steps": steps, "epochs": epochs}


def main(address: str, report: str) -> None:
    torch.set_num_threads(1)
    digits = load_digits()
    x = torch.from_numpy(digits.data / 16).float()
    y = torch.from_numpy(digits.target)
    shuffled = torch.from_numpy(np.random.default_rng(3).permutation(len(x)))
    train, test = shuffled[:1344], shuffled[1344:]

    teacher = teach(x[train], y[train])
    with torch.no_grad():
        soft = torch.stack([model(x) for model in teacher]).softmax(-1).mean(0)
    accuracy = (soft[test].argmax(1) == y[test]).double().mean().item()
    entropy = -(soft * soft.log()).sum(1).mean()
    print(
        f"  {len(train)} digits to learn from, {len(test)} to test on; soft labels by an ensemble"
    )
    print(f"  of {len(teacher)} networks, {accuracy:.1%} right, mean entropy {entropy:.3f} nats")

    latencies: list[float] = []
    with softloss.Client(address) as client:
        print(f"  {client!r}, {client.numerics_id}\n")

        def remote_loss(logits, labels):
            return RemoteCrossEntropy.apply(logits, labels, client, latencies)

        def local_loss(logits, labels):
            return F.cross_entropy(logits.double(), labels.double())

        begin = time.perf_counter()
        remote = learn(x[train], soft[train], x[test], y[test], remote_loss)
        remote_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        local = learn(x[train], soft[train], x[test], y[test], local_loss)
        local_seconds = time.perf_counter() - begin

        # The same batches once more, pipelined.
        batches = [(torch.randn(BATCH, 10), soft[i * 16 : i * 16 + BATCH]) for i in range(80)] * 50
        begin = time.perf_counter()
        futures = [client.submit(a, b, loss="softmax_cross_entropy") for a, b in batches]
        for future in futures:
            future.result()
        pipelined = len(batches) / (time.perf_counter() - begin)

    print("  epoch   loss from softloss   loss from torch      difference   test accuracy")
    for i, (a, b) in enumerate(zip(remote["epochs"], local["epochs"], strict=True)):
        if i < 3 or i % 5 == 4:
            print(
                f"  {i + 1:5d}   {a['loss']:18.12f}   {b['loss']:15.12f}"
                f"   {a['loss'] - b['loss']:13.1e}   {a['accuracy']:13.1%}"
            )
    apart = float(np.abs(np.subtract(remote["steps"], local["steps"])).max())
    ms = np.percentile(np.array(latencies) * 1e3, [50, 90, 99])
    print(f"\n  largest difference of any of {len(remote['steps'])} steps: {apart:.1e}")
    print(f"  the job took {remote_seconds:.2f} s; with torch alone, {local_seconds:.2f} s")
    print(
        f"  latency of a step's loss: p50 {ms[0]:.3f} ms, p90 {ms[1]:.3f} ms, p99 {ms[2]:.3f} ms;"
        f"\n  one at a time {1 / np.mean(latencies):,.0f} batches/s, "
        f"pipelined {pipelined:,.0f} batches/s"
    )
    with open(report, "w") as file:
        json.dump({"remote": remote, "local": local, "apart": apart}, file)
    if apart > 1e-6:
        sys.exit(f"the two runs are {apart:.1e} apart: more than 1e-6")


if __name__ == "__main__":
    main(*sys.argv[1:])
