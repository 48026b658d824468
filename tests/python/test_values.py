"""Losses and gradients against float64 closed forms, in every dtype and layout."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
import softloss
from formulas import along, assert_matches, sigmoid_cross_entropy, softmax_cross_entropy

BFLOAT16 = ml_dtypes.bfloat16
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": BFLOAT16, "float64": np.float64}

# shape, class axis
LAYOUTS = [
    ((7,), 0),
    ((1, 1), 1),
    ((300, 2), 1),
    ((37, 10), 1),
    ((5, 1000), 1),
    ((2, 20000), 1),
    ((3, 21, 50), 1),
    ((3, 50, 21), 2),
    ((2, 19, 33, 17), 1),
    ((2, 33, 17, 19), -1),
    ((4, 3, 5, 6), 0),
]


def draw(rng, shape, dtype, axis=None, width=4.0):
    """Logits as the dtype holds them, and labels that sum to 1 along `axis`, if there is one."""
    x = (rng.normal(size=shape) * width).astype(dtype)
    t = rng.random(shape)
    if axis is not None:
        t /= t.sum(axis, keepdims=True)
    return x, t


@pytest.mark.parametrize("shape, axis", LAYOUTS)
@pytest.mark.parametrize("prediction", DTYPES)
def test_softmax_layouts(any_engine, rng, shape, axis, prediction):
    x, t = draw(rng, shape, DTYPES[prediction], axis)
    t = t.astype(np.float32)
    result = any_engine.score(
        x, t, loss="softmax_cross_entropy", class_axis=axis, row_loss=True, gradient=prediction
    )
    truth = softmax_cross_entropy(x, t, axis=axis)
    assert_matches(result, truth, prediction=prediction)
    assert result.gradient.shape == shape
    assert result.gradient.dtype == DTYPES[prediction]
    assert result.row_loss.shape == truth.loss.shape
    assert result.valid_count == truth.loss.size


@pytest.mark.parametrize("shape", [(), (1,), (1000,), (37, 10), (3, 5, 7), (2, 3, 33, 17)])
@pytest.mark.parametrize("prediction", DTYPES)
def test_sigmoid_layouts(any_engine, rng, shape, prediction):
    x, t = draw(rng, shape, DTYPES[prediction])
    x, t = np.asarray(x, DTYPES[prediction]), np.asarray(t, np.float32)
    result = any_engine.score(x, t, row_loss=True, gradient="float64")
    truth = sigmoid_cross_entropy(x, t)
    assert_matches(result, truth, prediction=prediction)
    assert result.row_loss.shape == shape
    assert result.valid_count == x.size


@pytest.mark.parametrize(
    "prediction, label, gradient",
    list(itertools.product(DTYPES, [*DTYPES, "uint8"], DTYPES)),
)
@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "softmax_cross_entropy"])
def test_every_dtype(engine, rng, loss, prediction, label, gradient):
    x, t = draw(rng, (65, 12), DTYPES[prediction], 1)
    if label == "uint8":
        labels = np.round(t * 255).astype(np.uint8)
        t = labels / 255
    else:
        labels = t.astype(DTYPES[label])
        t = labels.astype(np.float64)
    result = engine.score(x, labels, loss=loss, gradient=gradient, row_loss=True)
    if loss == "softmax_cross_entropy":
        truth = softmax_cross_entropy(x, t, axis=1)
    else:
        truth = sigmoid_cross_entropy(x, t)
    assert_matches(result, truth, prediction=prediction)
    assert result.gradient.dtype == DTYPES[gradient]
    assert result.row_loss.dtype == (np.float64 if prediction == "float64" else np.float32)


def test_uint8_row_sum(any_engine, rng):
    x = rng.normal(size=(40, 100)).astype(np.float32)
    labels = rng.integers(0, 7, size=(40, 100), dtype=np.uint8)
    result = any_engine.score(x, labels, loss="softmax_cross_entropy", label_scale="row_sum")
    t = labels / labels.sum(1, keepdims=True, dtype=np.float64)
    assert_matches(result, softmax_cross_entropy(x, t, axis=1), prediction="float32")
    assert result.conditions.unnormalized_labels == 0


@pytest.mark.parametrize("ids", [np.int32, np.int64])
@pytest.mark.parametrize("shape, axis", [((50, 10), 1), ((2, 19, 9, 8), 1), ((2, 9, 8, 19), -1)])
def test_class_ids_are_one_hot_labels(any_engine, rng, shape, axis, ids):
    x = rng.normal(size=shape).astype(np.float32)
    classes = shape[axis]
    labels = rng.integers(0, classes, size=np.delete(shape, axis)).astype(ids)
    one_hot = np.moveaxis(np.eye(classes, dtype=np.float32)[labels], -1, axis)
    by_id = any_engine.score(x, labels, loss="softmax_cross_entropy", class_axis=axis)
    assert_matches(by_id, softmax_cross_entropy(x, one_hot, axis=axis), prediction="float32")


@pytest.mark.parametrize("axis, shape", [(1, (30, 6)), (1, (3, 6, 4, 5)), (-1, (3, 4, 5, 6))])
def test_smoothing_weights_and_masks(any_engine, rng, axis, shape):
    x, t = draw(rng, shape, np.float32, axis)
    t = t.astype(np.float32)
    rows = tuple(np.delete(shape, axis))
    mask = rng.random(rows) < 0.7
    weight = rng.random(rows).astype(np.float32) * 3
    class_weight = rng.random(6).astype(np.float32) + 0.5
    result = any_engine.score(
        x,
        t,
        loss="softmax_cross_entropy",
        class_axis=axis,
        mask=mask,
        row_weight=weight,
        class_weight=class_weight,
        label_smoothing=0.125,
    )
    truth = softmax_cross_entropy(x, t, axis=axis, smoothing=0.125, class_weight=class_weight)
    assert_matches(
        result, truth, prediction="float32", row_weight=weight * mask, count=int(mask.sum())
    )
    assert result.valid_count == mask.sum()
    assert not np.moveaxis(result.gradient, axis, -1)[~mask].any()


def test_sigmoid_weights_with_a_class_axis(any_engine, rng):
    x, t = draw(rng, (4, 3, 5, 6), np.float32)
    t = t.astype(np.float32)
    pos, weight = np.float32([0.5, 2, 4]), np.float32([1, 3, 0.25])
    result = any_engine.score(
        x, t, class_axis=1, pos_weight=pos, class_weight=weight, label_smoothing=0.25
    )
    truth = sigmoid_cross_entropy(
        x,
        t,
        smoothing=0.25,
        pos_weight=along(1, 4, pos),
        class_weight=along(1, 4, weight),
    )
    assert_matches(result, truth, prediction="float32")


def test_normalizers(any_engine, rng):
    x, t = draw(rng, (8, 5, 3, 3), np.float32, 1)
    t = t.astype(np.float32)
    mask = np.ones((8, 3, 3), bool)
    mask[0] = False
    weight = rng.random((8, 3, 3)).astype(np.float32)
    class_weight = np.float32([1, 2, 3, 4, 5])
    mass = (t.astype(np.float64) * along(1, 4, class_weight)).sum(1)
    denominators = {
        "none": 1,
        "full": 72,
        "valid": 63,
        "batch": 8,
        "weighted": (weight * mass * mask).sum(dtype=np.float64),
    }
    for normalizer, denominator in denominators.items():
        result = any_engine.score(
            x,
            t,
            loss="softmax_cross_entropy",
            normalizer=normalizer,
            mask=mask,
            row_weight=weight,
            class_weight=class_weight,
            label_smoothing=0.1,
        )
        assert result.denominator == pytest.approx(denominator, rel=1e-6)
        assert result.loss == result.loss_sum / result.denominator
        assert result.gradient_scale == 1 / result.denominator


def test_reductions(any_engine, rng):
    x, t = draw(rng, (50, 4), np.float32, 1)
    options = {"loss": "softmax_cross_entropy"}
    mean = any_engine.score(x, t, reduction="mean", **options)
    total = any_engine.score(x, t, reduction="sum", **options)
    none = any_engine.score(x, t, reduction="none", **options)
    assert mean.loss_sum == total.loss_sum == none.loss_sum == total.loss == none.loss
    assert (mean.denominator, mean.gradient_scale) == (50, 1 / 50)
    assert total.gradient_scale == none.gradient_scale == 1
    np.testing.assert_array_equal(mean.gradient, total.gradient)
    assert mean.row_loss is None
    assert none.row_loss.shape == (50,)
    assert none.row_loss.sum(dtype=np.float64) == pytest.approx(none.loss, rel=1e-6)


def test_scaled_gradient_multiplies_once(engine, rng):
    x, t = draw(rng, (128, 16), np.float32, 1)
    for gradient in DTYPES:
        result = engine.score(x, t, loss="softmax_cross_entropy", gradient=gradient)
        kept = result.gradient.copy()
        scaled = result.scaled_gradient()
        assert scaled.dtype == result.gradient.dtype
        np.testing.assert_array_equal(result.gradient, kept)
        wide = result.scaled_gradient(out=np.empty(x.shape, np.float64))
        np.testing.assert_allclose(wide, kept.astype(np.float64) / 128, rtol=1e-7)
        same = result.scaled_gradient(out=result.gradient)
        assert same is result.gradient
        np.testing.assert_array_equal(same, scaled)


def test_threads_do_not_change_bits(rng):
    x, t = draw(rng, (3000, 100), np.float32, 1)
    results = [
        softloss.Engine(threads=n).score(x, t, loss="softmax_cross_entropy") for n in (1, 2, 5)
    ]
    for result in results[1:]:
        assert result.loss == results[0].loss
        assert result.gradient.tobytes() == results[0].gradient.tobytes()
