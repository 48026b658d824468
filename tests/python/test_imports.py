"""The package lives beside torch and grpcio, whichever comes first."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import importlib, sys
for name in {order!r}:
    importlib.import_module(name)
import numpy as np
import softloss
import torch

x = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
t = torch.tensor([[0.2, 0.3, 0.5]])
loss = torch.nn.functional.cross_entropy(x, t)
loss.backward()
options = dict(loss="softmax_cross_entropy")

def check(result):
    assert abs(result.loss - loss.item()) < 1e-6, (result, loss)
    np.testing.assert_allclose(result.scaled_gradient(), x.grad.numpy(), atol=1e-6)

check(softloss.Engine().score(x, t, **options))
if len(sys.argv) > 1:
    with softloss.Client(sys.argv[1]) as client:
        check(client.score(x, t, **options))
        check(client.submit(x, t, **options).result(30))
        if "grpc" in sys.modules:
            # The other gRPC of the process works too.
            import grpc
            with grpc.insecure_channel(sys.argv[1]) as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
        check(client.score(x, t, **options))
print("fine")
"""

ORDERS = [
    ("softloss", "torch"),
    ("torch", "softloss"),
    ("softloss", "grpc"),
    ("grpc", "softloss"),
    ("softloss", "grpc", "torch"),
    ("torch", "grpc", "softloss"),
    ("google.protobuf.message", "grpc", "softloss"),
]


def run(order, *arguments):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(order=order), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_import_order(server, order):
    done = run(order, server.address)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_nothing_heavy_is_imported():
    code = "import softloss, sys; print([m for m in ('torch', 'grpc', 'jax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
