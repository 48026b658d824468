"""Scores soft labels with Triton Inference Server: what softloss is measured against.

The model is Python, as PyTriton serves it: tensors by Triton's own gRPC protocol, dynamic batching on, and softmax
cross entropy with its gradient in NumPy, in as few passes as NumPy takes. Inputs `x` and `t` are float32
[rows, CLASSES], outputs `loss` float64 [1] (summed) and `gradient` float32.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

CLASSES = 64


@batch
def score(x: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
    """Softmax cross entropy with soft labels, and its gradient, of items [batch, rows, CLASSES]."""
    shifted = x - x.max(-1, keepdims=True)
    gradient = np.exp(shifted)
    total = gradient.sum(-1, keepdims=True)
    shifted -= np.log(total)
    loss = -np.einsum("brc,brc->b", t, shifted, dtype=np.float64)
    gradient *= t.sum(-1, keepdims=True) / total
    gradient -= t
    return {"loss": loss[:, None], "gradient": gradient}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> None:
    logging.disable(logging.WARNING)
    grpc_port = free_port()
    config = TritonConfig(http_port=free_port(), grpc_port=grpc_port, allow_metrics=False)
    tensor = {"dtype": np.float32, "shape": (-1, CLASSES)}
    with Triton(config=config) as triton:
        triton.bind(
            model_name="soft_cross_entropy",
            infer_func=score,
            inputs=[Tensor(name="x", **tensor), Tensor(name="t", **tensor)],
            outputs=[
                Tensor(name="loss", dtype=np.float64, shape=(1,)),
                Tensor(name="gradient", **tensor),
            ],
            config=ModelConfig(
                max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=100)
            ),
        )
        triton.run()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # which stops Triton, too
        print(f"listening 127.0.0.1:{grpc_port}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
