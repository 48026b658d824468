"""Scores soft labels with grpc.aio and torch: what softloss is measured against.

As one would write it who wants it fast and keeps it short: raw bytes in and out (no protobuf, no pickle),
tensors over the received bytes, the gradient in closed form without autograd, one thread of torch a
core left by gRPC. A message is rows and classes (u32 each), float32 logits [rows, classes] and float32
labels of the same shape; the answer is the loss (f64, summed) and the float32 gradient.
"""

from __future__ import annotations

import asyncio
import struct
import warnings
from collections.abc import AsyncIterator

import grpc
import torch

HEAD = struct.Struct("<II")
LOSS = struct.Struct("<d")


def score(message: bytes) -> bytes:
    """Softmax cross entropy with soft labels, and its gradient."""
    rows, classes = HEAD.unpack_from(message)
    count = rows * classes
    x = torch.frombuffer(message, dtype=torch.float32, count=count, offset=HEAD.size)
    t = torch.frombuffer(message, dtype=torch.float32, offset=HEAD.size + 4 * count)
    x, t = x.view(rows, classes), t.view(rows, classes)
    log_p = torch.log_softmax(x, 1)
    loss = -torch.dot(t.view(-1), log_p.view(-1))
    gradient = log_p.exp_().mul_(t.sum(1, keepdim=True)).sub_(t)
    return LOSS.pack(loss.item()) + gradient.numpy().tobytes()


async def stream(
    messages: AsyncIterator[bytes], _: grpc.aio.ServicerContext
) -> AsyncIterator[bytes]:
    async for message in messages:
        yield score(message)


async def main() -> None:
    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handler = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("peer.Scorer", {"Stream": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
