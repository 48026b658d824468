"""A client and a server: same results as in process, errors, futures, asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import json
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
import softloss
from formulas import assert_matches, sigmoid_cross_entropy, softmax_cross_entropy

SOFTMAX = {"loss": "softmax_cross_entropy"}


def assert_same_bits(a: softloss.Result, b: softloss.Result) -> None:
    assert a.numerics_id == b.numerics_id
    for field in (
        "loss",
        "loss_sum",
        "denominator",
        "gradient_scale",
        "gradient_l2_norm",
        "valid_count",
        "conditions",
    ):
        assert getattr(a, field) == getattr(b, field), field
    for field in ("gradient", "row_loss"):
        left, right = getattr(a, field), getattr(b, field)
        assert (left is None) == (right is None)
        if left is not None:
            assert left.dtype == right.dtype
            assert left.tobytes() == right.tobytes(), field


@pytest.mark.parametrize(
    "shape, options",
    [
        ((), {}),
        ((1000,), {"row_loss": True}),
        ((64, 10), SOFTMAX),
        ((4, 21, 65, 33), {**SOFTMAX, "row_loss": True}),
        ((4, 65, 33, 21), {**SOFTMAX, "class_axis": -1, "row_loss": True}),
        # Many chunks.
        ((3, 19, 256, 256), SOFTMAX),
        ((1500, 1000), {**SOFTMAX, "row_loss": True}),
        ((8, 512, 512), {"gradient": "float16", "row_loss": True}),
        ((0, 5), SOFTMAX),
        ((30, 7), {**SOFTMAX, "gradient": None}),
        ((4, 512, 512), {"gradient": None}),
    ],
)
def test_server_and_engine_give_equal_bits(client, engine, rng, shape, options):
    x = np.asarray(rng.normal(size=shape) * 3, np.float32)
    t = np.asarray(rng.random(shape), np.float32)
    remote, local = client.score(x, t, **options), engine.score(x, t, **options)
    assert_same_bits(remote, local)
    if x.size:
        if "loss" in options:
            axis = options.get("class_axis", 1)
            truth = softmax_cross_entropy(x, t, axis=axis)
        else:
            truth = sigmoid_cross_entropy(x, t)
        assert_matches(remote, truth, prediction="float32")


@pytest.mark.parametrize("prediction", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("label", ["float32", "float16", "bfloat16", "float64", "uint8", "ids"])
def test_every_dtype_over_the_wire(client, engine, rng, prediction, label):
    import ml_dtypes

    as_dtype = {"bfloat16": ml_dtypes.bfloat16}
    x = rng.normal(size=(50, 9, 4)).astype(as_dtype.get(prediction, prediction))
    if label == "ids":
        t = rng.integers(0, 9, size=(50, 4))
    elif label == "uint8":
        t = rng.integers(0, 256, size=x.shape, dtype=np.uint8)
    else:
        t = rng.random(x.shape).astype(as_dtype.get(label, label))
    for gradient in ("float32", "float16", "bfloat16", "float64", None):
        options = {**SOFTMAX, "gradient": gradient}
        assert_same_bits(client.score(x, t, **options), engine.score(x, t, **options))


def test_masks_weights_and_parameters_over_the_wire(client, engine, rng):
    x = rng.normal(size=(6, 5, 40, 30)).astype(np.float32)
    t = rng.random(x.shape).astype(np.float32)
    rows = (6, 40, 30)
    options = {
        **SOFTMAX,
        "mask": rng.random(rows) < 0.5,
        "row_weight": rng.random(rows),
        "class_weight": [1, 2, 3, 4, 5],
        "label_smoothing": 0.1,
        "normalizer": "weighted",
        "label_check": "renormalize",
    }
    assert_same_bits(client.score(x, t, **options), engine.score(x, t, **options))


def test_tcp_and_unix_sockets(server, rng):
    x, t = rng.random((2, 100, 10)).astype(np.float32)
    results = []
    for address in server.addresses:
        with softloss.Client(address) as client:
            results.append(client.score(x, t, **SOFTMAX))
    assert len(results) == 2
    assert_same_bits(*results)


def test_several_channels(server, engine, rng):
    x = rng.normal(size=(40, 30, 10)).astype(np.float32)
    t = rng.random(x.shape).astype(np.float32)
    with softloss.Client(server.address, channels=3) as client:
        futures = [client.submit(x[i], t[i], **SOFTMAX) for i in range(40)]
        for i, future in enumerate(futures):
            assert_same_bits(future.result(60), engine.score(x[i], t[i], **SOFTMAX))


def test_timings(client, rng):
    x = rng.random((2000, 100)).astype(np.float32)
    timings = client.score(x, x, **SOFTMAX).timings
    assert timings.compute > 0
    assert timings.total > 0
    # Stages are summed over chunks, which may overlap; none is longer than the test.
    assert all(0 <= stage < 60 for stage in timings)


def test_errors_come_back_typed_and_the_connection_lives_on(client):
    x = np.zeros((4, 3), np.float32)
    for bad, options, field in [
        (np.int64([0, 1, 2, 3]), SOFTMAX, "label"),
        (x, {**SOFTMAX, "class_weight": [1, 2]}, "class_weight"),
        (x + 2, {**SOFTMAX, "label_check": "strict"}, "label"),
    ]:
        with pytest.raises(softloss.InvalidArgumentError) as caught:
            client.score(x, bad, **options)
        assert caught.value.field == field
        assert str(caught.value).startswith(field)
        assert not caught.value.retryable
        future = client.submit(x, bad, **options)
        assert isinstance(future.exception(60), softloss.InvalidArgumentError)
    assert client.score(x, x + np.float32(1 / 3), **SOFTMAX).loss == pytest.approx(np.log(3))


def test_timeout(client, rng):
    x = rng.random((4000, 1000)).astype(np.float32)
    with pytest.raises(softloss.DeadlineExceededError) as caught:
        client.score(x, x, timeout=1e-6, **SOFTMAX)
    assert isinstance(caught.value, TimeoutError)
    assert client.score(x[:5], x[:5], **SOFTMAX).valid_count == 5


def test_nobody_listens(run_dir):
    with pytest.raises(softloss.SoftlossError) as caught:
        softloss.Client(f"unix:{run_dir}/nobody.sock", connect_timeout=0.2)
    assert caught.value.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert caught.value.retryable


def test_closed(server):
    client = softloss.Client(server.address)
    assert "closed" not in repr(client)
    client.close()
    client.close()
    assert client.closed
    assert "closed" in repr(client)
    with pytest.raises(softloss.FailedPreconditionError, match="closed"):
        client.score([0.0], [0.5])
    with pytest.raises(softloss.FailedPreconditionError, match="closed"):
        client.submit([0.0], [0.5])


def test_closing_cancels_what_is_unanswered(server, rng):
    x = rng.random((2000, 1000)).astype(np.float32)
    client = softloss.Client(server.address)
    futures = [client.submit(x, x, **SOFTMAX) for _ in range(20)]
    client.close()
    outcomes = [future.exception(60) for future in futures]
    assert isinstance(outcomes[-1], softloss.CancelledError)
    assert all(e is None or isinstance(e, softloss.CancelledError) for e in outcomes)


def test_futures(client, engine, rng):
    x = rng.random((10, 4)).astype(np.float32)
    called = threading.Event()
    seen = []
    future = client.submit(x, x, **SOFTMAX)
    future.add_done_callback(lambda f: (seen.append(f), called.set()))
    assert not future.cancel()
    assert_same_bits(future.result(timeout=60), engine.score(x, x, **SOFTMAX))
    assert called.wait(60)
    assert seen == [future]
    assert future.done()
    assert future.exception() is None
    done, rest = concurrent.futures.wait([client.submit(x, x) for _ in range(10)], timeout=60)
    assert (len(done), len(rest)) == (10, 0)


def test_a_failing_callback_hurts_nobody(client):
    x = np.zeros(3, np.float32)
    futures = []
    for _ in range(5):
        future = client.submit(x, x)
        future.add_done_callback(lambda _: 1 / 0)
        futures.append(future)
    assert [f.result(60).valid_count for f in futures] == [3] * 5


def test_asyncio(client, engine, rng):
    x = rng.random((50, 20, 4)).astype(np.float32)

    async def score_all():
        return await asyncio.gather(*(client.score_async(a, a, **SOFTMAX) for a in x))

    for a, result in zip(x, asyncio.run(score_all()), strict=True):
        assert_same_bits(result, engine.score(a, a, **SOFTMAX))

    async def refuse():
        with pytest.raises(softloss.InvalidArgumentError):
            await client.score_async(x[0], x[0] + 3, label_check="strict")

    asyncio.run(refuse())


def test_threads_share_a_client(client, engine, rng):
    x = rng.normal(size=(64, 100, 8)).astype(np.float32)
    t = rng.random(x.shape).astype(np.float32)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: client.score(x[i], t[i], **SOFTMAX), range(64)))
    for i, result in enumerate(results):
        assert_same_bits(result, engine.score(x[i], t[i], **SOFTMAX))


def test_ctrl_c_ends_the_wait(server):
    """A scoring call hears SIGINT though nobody answers it."""
    script = """
import os, signal, sys, threading
import numpy as np, softloss
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with it ignored
client = softloss.Client(sys.argv[1])
x = np.zeros((20000, 1000), np.float32)
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        client.score(x, x, loss="softmax_cross_entropy")
except KeyboardInterrupt:
    print("interrupted")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, server.address], capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.returncode) == ("interrupted\n", 0), run.stderr


def test_leaving_without_closing(server):
    """A process that ends with requests in flight ends cleanly."""
    script = """
import sys
import numpy as np, softloss
client = softloss.Client(sys.argv[1])
x = np.zeros((1000, 1000), np.float32)
futures = [client.submit(x, x, loss="softmax_cross_entropy") for _ in range(50)]
print("leaving")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, server.address], capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.stderr, run.returncode) == ("leaving\n", "", 0)


def test_capabilities(client, engine):
    can = client.capabilities()
    assert can.backend == "cpu"
    assert can.numerics_id == client.numerics_id == engine.numerics_id
    assert can.server_version == softloss.__version__
    assert set(can.losses) >= {"sigmoid_cross_entropy", "softmax_cross_entropy"}
    assert set(can.prediction_dtypes) == {"float32", "float16", "bfloat16", "float64"}
    assert set(can.label_dtypes) == {"float32", "float16", "bfloat16", "float64", "uint8"}
    assert set(can.class_id_dtypes) == {"int32", "int64"}
    assert can.max_chunk_bytes <= can.max_message_bytes


def test_capabilities_command(server):
    run = subprocess.run(
        [sys.executable, "-m", "softloss", "capabilities", server.address],
        capture_output=True,
        text=True,
        check=True,
    )
    with softloss.Client(server.address) as client:
        expected = json.loads(json.dumps(dataclasses.asdict(client.capabilities())))
    assert json.loads(run.stdout) == expected


def samples(server) -> dict[str, float]:
    """Scrape /metrics: sample -> value."""
    with urllib.request.urlopen(server.metrics_url, timeout=30) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain")
        lines = reply.read().decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


def total(values: dict[str, float], family: str, **labels: str) -> float:
    return sum(
        value
        for name, value in values.items()
        if name.partition("{")[0] == family
        and all(f'{key}="{label}"' in name for key, label in labels.items())
    )


def test_metrics_count_what_was_scored(server, client):
    before = samples(server)
    x = np.zeros((7, 3), np.float32)
    x[2, 1] = np.nan
    for _ in range(5):
        client.score(x, np.full_like(x, 1 / 3), **SOFTMAX)
    with pytest.raises(softloss.InvalidArgumentError):
        client.score(x, x, label_check="strict", **SOFTMAX)
    after = samples(server)

    def grown(family: str, **labels: str) -> float:
        return total(after, family, **labels) - total(before, family, **labels)

    assert grown("softloss_items_total") == 6
    assert grown("softloss_rows_total") >= 35
    assert grown("softloss_nonfinite_values_total") >= 5
    assert grown("softloss_item_latency_seconds_count") >= 5
    assert grown("softloss_received_bytes_total") > 6 * x.nbytes * 2
    assert grown("softloss_sent_bytes_total") > 5 * x.nbytes
    assert total(after, "softloss_inflight_items") == 0
    assert total(after, "softloss_ready") == 1
    assert total(after, "softloss_streams_active") >= 1
    # A NaN loss is counted, and poisons nothing.
    assert not any(np.isnan(value) for value in after.values())


def test_liveness_and_readiness(server):
    base = server.metrics_url.rsplit("/", 1)[0]
    for path in ("livez", "readyz"):
        with urllib.request.urlopen(f"{base}/{path}", timeout=30) as reply:
            assert reply.status == 200
