"""Against torch in float64: losses, and gradients by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits


def compare(result, loss, logits, *, rtol=1e-12, atol=1e-15):
    (gradient,) = torch.autograd.grad(loss, logits)
    assert result.loss == pytest.approx(loss.item(), rel=rtol)
    np.testing.assert_allclose(result.scaled_gradient(), gradient.numpy(), rtol=rtol, atol=atol)


def logits_of(rng, shape, width=3):
    return torch.from_numpy(rng.normal(size=shape) * width).requires_grad_()


def probabilities(rng, shape):
    return torch.from_numpy(rng.random(shape) * 4).softmax(1)


def float32_weights(rng, size):
    """Weights are parameters, which travel as float32."""
    return torch.from_numpy(rng.random(size) * 4).float().double()


@pytest.mark.parametrize("shape", [(17, 10), (4, 6, 9), (2, 5, 7, 8)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_probabilities(any_engine, rng, shape, reduction, smoothing, weighted):
    x, t = logits_of(rng, shape), probabilities(rng, shape)
    weight = float32_weights(rng, shape[1]) if weighted else None
    result = any_engine.score(
        x,
        t,
        loss="softmax_cross_entropy",
        gradient="float64",
        reduction=reduction,
        class_weight=weight,
        label_smoothing=smoothing,
    )
    smoothing = float(np.float32(smoothing))
    loss = F.cross_entropy(x, t, weight=weight, reduction=reduction, label_smoothing=smoothing)
    compare(result, loss, x)


@pytest.mark.parametrize("shape", [(40, 10), (2, 5, 7, 8)])
def test_cross_entropy_of_class_ids(any_engine, rng, shape):
    x = logits_of(rng, shape)
    ids = torch.from_numpy(rng.integers(0, shape[1], size=(shape[0], *shape[2:])))
    ids.view(-1)[::7] = -100
    weight = float32_weights(rng, shape[1])
    # torch divides by the weights of the labels: our "weighted".
    result = any_engine.score(
        x,
        ids,
        loss="softmax_cross_entropy",
        gradient="float64",
        class_weight=weight,
        ignore_index=-100,
        normalizer="weighted",
    )
    compare(result, F.cross_entropy(x, ids, weight=weight), x)


@pytest.mark.parametrize("shape, axis", [((50,), None), ((20, 6), 1), ((2, 3, 8, 8), 1)])
def test_binary_cross_entropy_with_logits(any_engine, rng, shape, axis):
    x = logits_of(rng, shape)
    t = torch.from_numpy(rng.random(shape))
    result = any_engine.score(x, t, gradient="float64")
    compare(result, F.binary_cross_entropy_with_logits(x, t), x)
    if axis is None:
        pos = torch.tensor(2.5).double()
        result = any_engine.score(x, t, gradient="float64", pos_weight=2.5)
    else:
        pos = float32_weights(rng, shape[axis])
        pos = pos.reshape([-1] + [1] * (len(shape) - axis - 1))
        result = any_engine.score(
            x, t, gradient="float64", pos_weight=pos.flatten(), class_axis=axis
        )
    compare(result, F.binary_cross_entropy_with_logits(x, t, pos_weight=pos), x)


def test_element_weights(any_engine, rng):
    x = logits_of(rng, (30, 4))
    t = torch.from_numpy(rng.random((30, 4)))
    weight = torch.from_numpy(rng.random((30, 4)).astype(np.float32)).double()
    result = any_engine.score(x, t, gradient="float64", row_weight=weight, normalizer="full")
    compare(result, F.binary_cross_entropy_with_logits(x, t, weight=weight), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_digits(any_engine, dtype):
    """Real images: a linear model of scikit-learn's digits, with labels softened by neighbours."""
    digits = load_digits()
    x = torch.from_numpy(digits.data / 16).double()
    one_hot = F.one_hot(torch.from_numpy(digits.target)).double()
    nearest = torch.cdist(x, x).topk(8, largest=False).indices
    soft = one_hot[nearest].mean(1)
    centred = x - x.mean(0)
    model = torch.linalg.lstsq(centred, one_hot - 0.1).solution
    logits = (centred @ model * 10).to(dtype).double().requires_grad_()
    result = any_engine.score(
        logits.to(dtype), soft.float(), loss="softmax_cross_entropy", gradient="float32"
    )
    soft = soft.float().double()
    compare(result, F.cross_entropy(logits, soft), logits, rtol=1e-6, atol=4e-7 / len(x))
    assert result.conditions.clean
    assert result.valid_count == 1797
