"""Arrays that need not travel: `Client.allocate`."""

from __future__ import annotations

import gc
import pathlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import softloss
from servers import Server


@pytest.fixture
def own(binary: pathlib.Path, run_dir: pathlib.Path) -> Iterator[Server]:
    """A server of this test's own, whose metrics count it alone."""
    server = Server(binary, [f"unix:{run_dir}/s"], "--metrics_listen=127.0.0.1:0")
    yield server
    server.stop()


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url) as reply:
        lines = reply.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def wait_for(server: Server, name: str, value: float) -> None:
    deadline = time.monotonic() + 30
    while metric(server, name) != value:
        assert time.monotonic() < deadline, f"{name} is {metric(server, name)}, not {value}"


def tensors(
    client: softloss.Client, shape: tuple[int, ...], dtype: str = "float32"
) -> tuple[npt.NDArray, npt.NDArray]:
    rng = np.random.default_rng(3)
    logits = client.allocate(shape, dtype)
    logits[...] = rng.normal(size=shape)
    labels = client.allocate(shape)
    labels[...] = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
    return logits, labels


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_results_are_the_wires(client: softloss.Client, dtype: str) -> None:
    x, t = tensors(client, (300, 64), dtype)
    options = {"loss": "softmax_cross_entropy", "gradient": dtype}
    shared = client.score(x, t, **options)
    wire = client.score(x.copy(), t.copy(), **options)
    assert (shared.transport, wire.transport) == ("shared_memory", "wire")
    assert shared.loss == wire.loss
    assert shared.gradient.dtype == wire.gradient.dtype == x.dtype
    assert shared.gradient.shape == x.shape
    assert shared.gradient.tobytes() == wire.gradient.tobytes()
    assert shared.scaled_gradient().tobytes() == wire.scaled_gradient().tobytes()


def test_results_are_the_engines(client: softloss.Client, engine: softloss.Engine) -> None:
    x, t = tensors(client, (1000, 10))
    here = engine.score(x, t, loss="kl_divergence", row_loss=True)
    there = client.score(x, t, loss="kl_divergence", row_loss=True)
    assert (here.transport, there.transport) == ("in_process", "shared_memory")
    assert there.loss == here.loss
    assert np.array_equal(there.gradient, here.gradient)
    assert np.array_equal(there.row_loss, here.row_loss)


def test_classes_need_not_be_last(client: softloss.Client) -> None:
    x = client.allocate((4, 21, 32, 32))
    x[...] = np.random.default_rng(1).normal(size=x.shape)
    ids = client.allocate((4, 32, 32), "int32")
    ids[...] = np.random.default_rng(2).integers(0, 21, ids.shape)
    shared = client.score(x, ids, loss="softmax_cross_entropy")
    wire = client.score(x.copy(), ids.copy(), loss="softmax_cross_entropy")
    assert (shared.transport, wire.transport) == ("shared_memory", "wire")
    assert shared.loss == wire.loss
    assert np.array_equal(shared.gradient, wire.gradient)


def test_arrays_are_zeros_of_any_type_and_shape(client: softloss.Client) -> None:
    for dtype in ("float32", "bfloat16", ml_dtypes.bfloat16, np.uint8, np.int64, np.dtype("f2")):
        array = client.allocate((3, 5), dtype)
        assert array.shape == (3, 5)
        assert array.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
        assert not array.any()
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.ctypes.data % 4096 == 0
    assert client.allocate(7).shape == (7,)
    assert client.allocate(()).shape == ()
    assert client.allocate((0, 3)).size == 0
    with pytest.raises(ValueError, match="shape: dimensions must not be negative"):
        client.allocate((-1, 3))
    with pytest.raises(softloss.ResourceExhaustedError, match="no shared memory of"):
        client.allocate(1 << 55)


def test_views_without_gaps_count_and_others_travel(client: softloss.Client) -> None:
    x, t = tensors(client, (400, 10))
    whole = client.score(x, t, loss="softmax_cross_entropy", reduction="sum")
    halves = [
        client.score(x[rows], t[rows], loss="softmax_cross_entropy", reduction="sum")
        for rows in (slice(0, 200), slice(200, 400))
    ]
    assert [half.transport for half in halves] == ["shared_memory"] * 2
    assert np.array_equal(np.concatenate([half.gradient for half in halves]), whole.gradient)
    assert client.score(x.reshape(40, 10, 10), t.reshape(40, 10, 10)).transport == "shared_memory"
    assert client.score(x[::2], t[::2]).transport == "wire"
    assert client.score(x, t.copy()).transport == "wire"
    assert client.score(x, t, out=np.empty_like(x)).transport == "wire"
    out = client.allocate(x.shape)
    result = client.score(x, t, out=out, loss="softmax_cross_entropy")
    assert result.transport == "shared_memory"
    assert result.gradient is out
    assert np.array_equal(out, whole.gradient)
    assert client.score(x, t, gradient=None).transport == "shared_memory"
    assert client.score(x[:0], t[:0]).transport == "wire"


def test_torch_and_dlpack_share_the_memory(client: softloss.Client) -> None:
    torch = pytest.importorskip("torch")
    x, t = tensors(client, (100, 10))
    logits, labels = torch.from_numpy(x), torch.from_dlpack(t)
    assert logits.data_ptr() == x.ctypes.data
    logits.mul_(2)
    result = client.score(logits, labels, loss="softmax_cross_entropy")
    assert result.transport == "shared_memory"
    x_torch = torch.from_numpy(x.copy()).requires_grad_()
    loss = torch.nn.functional.cross_entropy(x_torch, torch.from_numpy(t.copy()))
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    gradient = torch.from_numpy(result.scaled_gradient())
    torch.testing.assert_close(gradient, x_torch.grad, rtol=0, atol=1e-7)


# Nothing but the array that was asked for is kept by hand.
def test_memory_lives_as_long_as_it_is_used(own: Server) -> None:
    client = softloss.Client(own.address)
    x, t = tensors(client, (1000, 64))
    future = client.submit(x, t, loss="softmax_cross_entropy")
    expected = client.score(x.copy(), t.copy(), loss="softmax_cross_entropy").gradient
    del x, t
    gradient = future.result().gradient
    rows = gradient[500:]
    del future, gradient
    gc.collect()
    client.close()
    assert np.array_equal(rows, expected[500:])


def test_freed_arrays_are_freed_on_the_server(own: Server) -> None:
    with softloss.Client(own.address) as client:
        arrays = [client.allocate(1024) for _ in range(3)]
        assert metric(own, "softloss_shared_memory_regions") == 3
        assert metric(own, "softloss_shared_memory_bytes") == 3 * 4096
        view = arrays[0][10:]
        arrays.clear()
        assert metric(own, "softloss_shared_memory_regions") == 1
        del view
        assert metric(own, "softloss_shared_memory_regions") == 0
        # Nothing of a request is left either, but the pool's gradient.
        x, t = tensors(client, (1000, 10))
        for _ in range(20):
            client.score(x, t)
        del x, t
        assert metric(own, "softloss_shared_memory_items_total") == 20
        assert metric(own, "softloss_shared_memory_regions") == 1
    wait_for(own, "softloss_shared_memory_sessions", 0)
    assert metric(own, "softloss_shared_memory_bytes") == 0


def test_a_restarted_server_gets_the_arrays_again(
    binary: pathlib.Path, run_dir: pathlib.Path
) -> None:
    address = f"unix:{run_dir}/s"
    first = Server(binary, [address], "--metrics_listen=off")
    client = softloss.Client(address, timeout=60, max_attempts=1000)
    x, t = tensors(client, (1000, 64))
    before = client.score(x, t)
    first.kill()
    future = client.submit(x, t)
    second = Server(binary, [address], "--metrics_listen=off")
    after = future.result()
    assert after.transport == "shared_memory"
    assert np.array_equal(after.gradient, before.gradient)
    second.stop()
    future = client.submit(x, t)
    third = Server(binary, [address], "--metrics_listen=off", "--shared_memory_socket=off")
    wire = future.result()
    assert wire.transport == "wire"
    assert np.array_equal(wire.gradient, before.gradient)
    assert not client.capabilities().shared_memory
    client.close()
    third.stop()


def test_what_a_server_does_not_take_is_said_and_travels(
    binary: pathlib.Path, run_dir: pathlib.Path
) -> None:
    server = Server(
        binary,
        [f"unix:{run_dir}/s"],
        "--metrics_listen=off",
        "--shared_memory_session_bytes=64KiB",
    )
    with softloss.Client(server.address) as client:
        assert client.capabilities().shared_memory
        with pytest.warns(RuntimeWarning, match="shared_memory_session_bytes .* is 65536"):
            x = client.allocate((1000, 64))
        assert client.score(x, x).transport == "wire"
    server.stop()


CHILD = """
import sys, numpy as np, softloss
client = softloss.Client(sys.argv[1])
x, t = client.allocate((65536, 64)), client.allocate((65536, 64))
t[...] = 1 / 64
for _ in range(8):
    last = client.submit(x, t, loss="softmax_cross_entropy")
assert client.score(x, t).transport == "shared_memory"
print("scoring", flush=True)
while True:
    futures = [client.submit(x, t, loss="softmax_cross_entropy") for _ in range(8)]
    [f.result() for f in futures]
"""


def test_a_client_that_is_killed_while_it_scores_leaves_nothing(own: Server) -> None:
    with softloss.Client(own.address, timeout=60) as client:
        x, t = tensors(client, (100, 10))
        expected = client.score(x, t, loss="softmax_cross_entropy").loss
        for _ in range(3):
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, own.address], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            assert child.stdout.readline() == "scoring\n"
            assert metric(own, "softloss_shared_memory_sessions") == 2
            child.kill()
            child.wait()
            child.stdout.close()
            wait_for(own, "softloss_shared_memory_sessions", 1)
            # What was being scored is let go of when it is done; this client has three arrays.
            wait_for(own, "softloss_shared_memory_regions", 3)
            assert client.score(x, t, loss="softmax_cross_entropy").loss == expected
    assert own.process.poll() is None
