"""A server that is killed midway."""

from __future__ import annotations

import numpy as np
import pytest
import softloss
from servers import Server

SOFTMAX = {"loss": "softmax_cross_entropy"}
COUNT = 60


@pytest.fixture
def batch(rng):
    x = rng.normal(size=(COUNT, 400, 100)).astype(np.float32)
    return x, rng.random(x.shape).astype(np.float32)


def start(binary, run_dir):
    # A killed server leaves its socket file behind; the next one takes its place.
    return Server(binary, [f"unix:{run_dir}/softloss.sock"], "--metrics_listen=off")


def submit_and_kill(server, client, batch):
    """Submit everything, of which some is answered and some is not, and kill the server."""
    x, t = batch
    futures = [client.submit(x[i], t[i], **SOFTMAX) for i in range(5)]
    futures[0].result(60)
    server.freeze()
    futures += [client.submit(x[i], t[i], **SOFTMAX) for i in range(5, COUNT)]
    assert not futures[-1].done()
    server.kill()
    return futures


def test_with_retry_the_answers_are_the_same(binary, run_dir, engine, batch):
    x, t = batch
    server = start(binary, run_dir)
    try:
        with softloss.Client(server.address, timeout=120, max_attempts=50) as client:
            futures = submit_and_kill(server, client, batch)
            server = start(binary, run_dir)
            results = [future.result(120) for future in futures]
            again = client.score(x[0], t[0], **SOFTMAX)
    finally:
        server.stop()
    for i, result in enumerate(results):
        local = engine.score(x[i], t[i], **SOFTMAX)
        assert result.loss == local.loss
        assert result.gradient.tobytes() == local.gradient.tobytes()
        assert result.numerics_id == local.numerics_id
    assert again.loss == results[0].loss
    assert max(result.attempts for result in results) > 1


def test_without_retry_the_error_is_retryable(binary, run_dir, engine, batch):
    x, t = batch
    server = start(binary, run_dir)
    try:
        with softloss.Client(server.address, timeout=120, retry=False) as client:
            futures = submit_and_kill(server, client, batch)
            errors = [e for f in futures if (e := f.exception(120)) is not None]
            assert len(errors) >= COUNT - 5
            for error in errors:
                assert isinstance(error, softloss.UnavailableError)
                assert error.retryable
            for i, future in enumerate(futures):
                if future.exception() is None:
                    assert future.result().loss == engine.score(x[i], t[i], **SOFTMAX).loss
    finally:
        server.stop()


def test_a_server_that_is_stopped_exits_cleanly(binary, run_dir, engine, batch):
    x, t = batch
    server = start(binary, run_dir)
    try:
        with softloss.Client(server.address, timeout=120, retry=False) as client:
            futures = [client.submit(x[i], t[i], **SOFTMAX) for i in range(COUNT)]
            losses = [f.result(120).loss for f in futures]
            # With the connection still open.
            assert server.stop() == 0
    finally:
        server.stop()
    assert losses == [engine.score(x[i], t[i], **SOFTMAX).loss for i in range(COUNT)]
