"""Sparse labels: the tail rules against torch, in process, by the wire, and bad ones."""

from __future__ import annotations

import numpy as np
import pytest
import softloss
import torch
import torch.nn.functional as F

ROWS, CLASSES, K = 17, 40, 5
TAILS = ("renormalize", "uniform", "bucket", "zero")


def draw(rng, dtype=np.float64):
    """Logits, and each row's K likeliest classes of a teacher, who knows what is left over."""
    x = rng.normal(size=(ROWS, CLASSES)).astype(dtype)
    teacher = F.softmax(torch.from_numpy(2 * rng.normal(size=(ROWS, CLASSES))), 1)
    values, ids = teacher.topk(K, 1)
    return x, ids.numpy(), values.numpy().astype(dtype)


def losses(x, ids, values, tail, kl):
    """A row's cross entropy or KL divergence, written with torch."""
    log_p = F.log_softmax(x, 1)
    if tail == "bucket":
        others = torch.ones_like(x).scatter_(1, ids, 0).bool()
        log_rest = log_p.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
        log_p = torch.cat([log_p.gather(1, ids), log_rest], 1)
        t = torch.cat([values, 1 - values.sum(1, keepdim=True)], 1)
    elif tail == "renormalize":
        t = torch.zeros_like(x).scatter_(1, ids, values / values.sum(1, keepdim=True))
    elif tail == "uniform":
        rest = (1 - values.sum(1, keepdim=True)) / (CLASSES - K)
        t = rest.expand(ROWS, CLASSES).scatter(1, ids, values)
    else:
        t = torch.zeros_like(x).scatter_(1, ids, values)
    return F.kl_div(log_p, t, reduction="none").sum(1) if kl else -(t * log_p).sum(1)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "kl_divergence"])
def test_torch(rng, backend, tail, loss):
    x, ids, values = draw(rng)
    logits = torch.from_numpy(x).requires_grad_()
    want = losses(
        logits, torch.from_numpy(ids), torch.from_numpy(values), tail, loss == "kl_divergence"
    )
    want.sum().backward()
    with softloss.Engine(backend) as engine:
        got = engine.score(
            x,
            softloss.SparseLabel(ids, values, tail),
            loss=loss,
            reduction="sum",
            gradient="float64",
            row_loss=True,
        )
    np.testing.assert_allclose(got.row_loss, want.detach().numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got.gradient, logits.grad.numpy(), rtol=1e-10, atol=1e-13)


def test_a_bucket_keeps_a_divergence_a_divergence(rng):
    """Least, and 0, where the prediction is the teacher; without the tail it is neither."""
    teacher = rng.normal(size=(1, CLASSES))
    p = F.softmax(torch.from_numpy(teacher), 1)
    values, ids = p.topk(K, 1)
    with softloss.Engine() as engine:
        for tail, least in (("bucket", 0.0), ("zero", -np.inf)):
            label = softloss.SparseLabel(ids, values, tail)
            at = engine.score(teacher, label, loss="kl_divergence", gradient="float64")
            flat = np.abs(at.gradient).max() < 1e-12
            assert flat == (tail == "bucket")
            assert at.loss == pytest.approx(least, abs=1e-12) or tail == "zero"


def test_dtypes_and_axes(rng):
    """Values of any dtype, ids of both, the class axis anywhere: as the dense label."""
    x, ids, values = draw(rng, np.float32)
    dense = np.zeros((ROWS, CLASSES), np.float32)
    np.put_along_axis(dense, ids, values.astype(np.float16).astype(np.float32), 1)
    with softloss.Engine() as engine:
        want = engine.score(x, dense, loss="brier")
        label = softloss.SparseLabel(ids.astype(np.int32), values.astype(np.float16), "zero")
        got = engine.score(x, label, loss="brier")
        assert got.loss == want.loss
        np.testing.assert_array_equal(got.gradient, want.gradient)
        # [2, C, 17]: the ids of an image's pixels are [2, 17, k].
        images = np.stack([x.T, x.T[:, ::-1]])
        both = softloss.SparseLabel(
            np.stack([ids, ids[::-1]]),
            np.stack([values, values[::-1]]).astype(np.float16),
            "zero",
        )
        tiled = engine.score(images, both, loss="brier", class_axis=1)
    np.testing.assert_allclose(tiled.gradient[0], want.gradient.T, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(tiled.gradient[1], want.gradient.T[:, ::-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("tail", TAILS)
def test_a_server_gives_the_same_bits(rng, client, tail):
    """In several chunks, and where the logits do not travel."""
    rows = 9000
    x = rng.normal(size=(rows, CLASSES)).astype(np.float32)
    ids = np.argsort(rng.random((rows, CLASSES)), 1)[:, :K].astype(np.int32)
    values = rng.random((rows, K), np.float32) / K
    label = softloss.SparseLabel(ids, values, tail)
    with softloss.Engine("cpu") as engine:
        want = engine.score(x, label, loss="softmax_cross_entropy")
    got = client.score(x, label, loss="softmax_cross_entropy")
    assert got.loss == want.loss
    np.testing.assert_array_equal(got.gradient, want.gradient)
    assert tail in client.capabilities().tail_rules


def test_bad_labels_are_refused(rng):
    x, ids, values = draw(rng, np.float32)
    cases = [
        (ids[:, :4], values, "zero", "label_ids.shape: must be the values' shape"),
        (ids[:3], values[:3], "zero", "label.shape: must be the rows' shape and then k"),
        (ids, values, "guess", "label.tail: must be one of renormalize, uniform, bucket, zero"),
        (ids + CLASSES, values, "zero", "label_ids: class ids must be in"),
        (np.zeros_like(ids), values, "zero", "label_ids: a row's classes must differ; row 0"),
    ]
    with softloss.Engine() as engine:
        for bad_ids, bad_values, tail, message in cases:
            with pytest.raises(softloss.InvalidArgumentError, match=message):
                engine.score(
                    x,
                    softloss.SparseLabel(bad_ids, bad_values, tail),
                    loss="softmax_cross_entropy",
                )
        with pytest.raises(TypeError, match="label_ids: dtype must be one of int32, int64"):
            engine.score(
                x,
                softloss.SparseLabel(ids.astype(np.float32), values, "zero"),
                loss="softmax_cross_entropy",
            )
        with pytest.raises(softloss.InvalidArgumentError, match="label.tail: must be ZERO"):
            engine.score(x, softloss.SparseLabel(ids, values, "uniform"), class_axis=1)
