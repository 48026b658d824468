"""The losses in float64 NumPy, written from their definitions: what results are compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Truth(NamedTuple):
    loss: np.ndarray  # a row (softmax) or an element (sigmoid)
    gradient: np.ndarray  # of the sum, in the prediction's shape
    magnitude: np.ndarray  # Σ|terms| of each loss: what its error is measured by
    scale: np.ndarray  # what a gradient's error is measured by, broadcastable


def along(axis: int, ndim: int, weights: object) -> np.ndarray:
    shape = [1] * ndim
    shape[axis] = -1
    return np.asarray(weights, np.float64).reshape(shape)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid_cross_entropy(
    x: np.ndarray,
    t: np.ndarray,
    *,
    smoothing: float = 0.0,
    pos_weight: object = 1.0,
    class_weight: object = 1.0,
) -> Truth:
    x = np.asarray(x, np.float64)
    t = (1 - smoothing) * np.asarray(t, np.float64) + smoothing / 2
    w, pi = np.asarray(class_weight, np.float64), np.asarray(pos_weight, np.float64)
    negative, positive = w * (1 - t) * softplus(x), w * pi * t * softplus(-x)
    # s - t without cancellation: for x > 0, 1 - s is what is small.
    small = np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))
    s, one_minus_s = np.where(x < 0, small, 1 - small), np.where(x < 0, 1 - small, small)
    gradient = w * ((1 - t) * s - pi * t * one_minus_s)
    return Truth(
        negative + positive,
        gradient,
        np.abs(negative) + np.abs(positive),
        w * np.maximum(1, pi) * (np.abs(t) + np.abs(1 - t)) * np.ones_like(x),
    )


def softmax_cross_entropy(
    x: np.ndarray,
    t: np.ndarray,
    *,
    axis: int,
    smoothing: float = 0.0,
    class_weight: object = None,
) -> Truth:
    x, t = np.asarray(x, np.float64), np.asarray(t, np.float64)
    t = (1 - smoothing) * t + smoothing / x.shape[axis]
    if class_weight is not None:
        t = t * along(axis, x.ndim, class_weight)
    shifted = x - x.max(axis, keepdims=True)
    exp = np.exp(shifted)
    total = exp.sum(axis, keepdims=True)
    log_total = np.log(total)
    mass = t.sum(axis, keepdims=True)
    loss = (t * -shifted).sum(axis) + (mass * log_total).squeeze(axis)
    magnitude = (np.abs(t) * -shifted).sum(axis) + (np.abs(mass) * log_total).squeeze(axis)
    scale = np.maximum(np.abs(mass), np.abs(t).max(axis, keepdims=True))
    return Truth(loss, mass * exp / total - t, magnitude, scale)


#: The relative rounding error of a gradient's dtype, and its smallest step.
ROUNDING = {
    "float64": (2.0**-53, 0.0),
    "float32": (2.0**-24, 2.0**-149),
    "float16": (2.0**-11, 2.0**-25),
    "bfloat16": (2.0**-8, 2.0**-133),
}


def assert_matches(result, truth: Truth, *, prediction: str, row_weight=1.0, count=None) -> None:
    """Compare a mean over all rows, its gradient and row losses with the truth.

    The bounds are the contract's: a loss is off by at most 1e-6 of the sum of its terms' sizes, a
    gradient by 4e-7 of its scale (1e-13 for float64 predictions), and by its dtype's rounding.
    """
    loss_bound, gradient_bound = (1e-13, 1e-13) if prediction == "float64" else (1e-6, 4e-7)
    count = truth.loss.size if count is None else count
    weight = np.broadcast_to(np.asarray(row_weight, np.float64), truth.loss.shape)
    expected = float((truth.loss * weight).sum())
    slack = loss_bound * float((truth.magnitude * weight).sum())
    assert abs(result.loss_sum - expected) <= slack, (result.loss_sum, expected, slack)
    assert abs(result.loss - expected / count) <= slack / count
    assert result.denominator == count
    assert result.gradient_scale == 1 / count
    if result.row_loss is not None:
        error = np.abs(result.row_loss.astype(np.float64) - truth.loss)
        assert (error <= loss_bound * truth.magnitude + 1e-36).all()
    if result.gradient is not None:
        if weight.ndim != truth.gradient.ndim:
            axis = next(
                i
                for i in range(truth.gradient.ndim)
                if truth.gradient.shape[:i] + truth.gradient.shape[i + 1 :] == weight.shape
            )
            weight = np.expand_dims(weight, axis)
        relative, step = ROUNDING[result.gradient.dtype.name]
        gradient = truth.gradient * weight
        error = np.abs(result.gradient.astype(np.float64) - gradient)
        bound = gradient_bound * truth.scale * weight + relative * np.abs(gradient) + step
        worst = np.unravel_index(np.argmax(error - bound), error.shape)
        assert (error <= bound).all(), (worst, gradient[worst], error[worst])
        norm = np.sqrt((gradient**2).sum())
        slack = np.sqrt(
            ((gradient_bound * truth.scale * weight * np.ones_like(gradient)) ** 2).sum()
        )
        assert abs(result.gradient_l2_norm - norm) <= 1e-12 * norm + slack
