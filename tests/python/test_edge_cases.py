"""The edge-case table of the losses, through the package."""

from __future__ import annotations

import math

import numpy as np
import pytest

INF, NAN = math.inf, math.nan


def softmax(engine, x, t, **options):
    return engine.score(
        np.float32(x), np.float32(t), loss="softmax_cross_entropy", class_axis=-1, **options
    )


def test_confident_and_right_is_not_zero(any_engine):
    result = any_engine.score(np.float32([20.0]), np.float32([1.0]))
    assert result.loss == pytest.approx(2.061153620314381e-09, rel=1e-6, abs=0)
    assert result.gradient[0] == pytest.approx(-2.061153618190204e-09, abs=4e-7)


@pytest.mark.parametrize(
    "x, t, loss, gradient",
    [
        (INF, 1, 0, 0),
        (-INF, 0, 0, 0),
        (INF, 0, INF, 1),
        (-INF, 1, INF, -1),
        (INF, 0.25, INF, 0.75),
        (-INF, 0.25, INF, -0.25),
        (1e9, 0.5, 5e8, 0.5),
        (-1e9, 0.5, 5e8, -0.5),
        (0, 0.25, math.log(2), 0.25),
        (NAN, 0.5, NAN, NAN),
        (0, NAN, NAN, NAN),
    ],
)
def test_sigmoid_elements(any_engine, x, t, loss, gradient):
    result = any_engine.score(np.float32([x]), np.float32([t]), row_loss=True)
    np.testing.assert_allclose(result.row_loss, [loss], rtol=1e-6)
    np.testing.assert_allclose(result.gradient, [gradient], rtol=1e-6, atol=4e-7)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-6)
    assert result.conditions.nonfinite_predictions == int(not math.isfinite(x))
    assert result.conditions.nonfinite_labels == int(not math.isfinite(t))
    assert result.conditions.nonfinite_losses == int(not math.isfinite(loss))


@pytest.mark.parametrize(
    "x, t, loss, gradient",
    [
        # A class at -inf that carries no mass is as good as absent.
        ([0, 0, -INF], [0.5, 0.5, 0], math.log(2), [0, 0, 0]),
        ([0, 0, -INF], [0.25, 0.25, 0.5], INF, [0.25, 0.25, -0.5]),
        ([-INF, -INF], [0.5, 0.5], NAN, [NAN, NAN]),
        ([INF, 0], [0.5, 0.5], NAN, [NAN, NAN]),
        ([NAN, 0], [0.5, 0.5], NAN, [NAN, NAN]),
        ([0, 0], [NAN, 0.5], NAN, [NAN, NAN]),
        # S ≠ 1: as written.
        ([0, 0], [1, 1], 2 * math.log(2), [0, 0]),
        ([0, 0], [0.5, 0.25], 0.75 * math.log(2), [-0.125, 0.125]),
        ([0, 0], [0, 0], 0, [0, 0]),
        (
            [1, 2],
            [1.5, -0.5],
            1.5 * 1.3132616875 - 0.5 * 0.3132616875,
            [-1.2310585786, 1.2310585786],
        ),
        ([1e9, -1e9], [0.5, 0.5], 1e9, [0.5, -0.5]),
        ([1e9, 1e9], [0.25, 0.75], math.log(2), [0.25, -0.25]),
        ([5], [1], 0, [0]),
    ],
)
def test_softmax_rows(any_engine, x, t, loss, gradient):
    result = softmax(any_engine, [x], [t], row_loss=True)
    np.testing.assert_allclose(result.row_loss, [loss], rtol=1e-6)
    np.testing.assert_allclose(result.gradient, [gradient], rtol=1e-6, atol=8e-7)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-6)


def test_a_bad_row_stays_alone(any_engine):
    x = np.zeros((1000, 3), np.float32)
    t = np.full((1000, 3), 1 / 3, np.float32)
    x[700, 1] = NAN
    result = softmax(any_engine, x, t, row_loss=True)
    assert np.isnan(result.loss)
    assert np.isnan(result.row_loss).nonzero()[0].tolist() == [700]
    assert np.unique(np.isnan(result.gradient).nonzero()[0]).tolist() == [700]
    assert result.conditions.nonfinite_predictions == 1
    assert result.conditions.nonfinite_losses == 1


@pytest.mark.parametrize("how", ["mask", "row_weight"])
def test_rows_that_do_not_count_may_hold_anything(any_engine, how):
    x = np.float32([[1, 2], [NAN, INF], [0, 0]])
    t = np.float32([[0.5, 0.5], [NAN, -INF], [0.5, 0.5]])
    options = {how: np.array([1, 0, 1], np.uint8 if how == "mask" else np.float32)}
    result = softmax(any_engine, x, t, row_loss=True, **options)
    alone = softmax(any_engine, x[[0, 2]], t[[0, 2]])
    assert result.loss_sum == alone.loss_sum
    assert result.row_loss[1] == 0
    assert not result.gradient[1].any()


def test_everything_masked(any_engine):
    result = softmax(any_engine, [[1, NAN]], [[0.5, 0.5]], mask=[False])
    assert (result.loss, result.loss_sum, result.valid_count) == (0, 0, 0)
    assert result.conditions.empty
    assert not result.gradient.any()


def test_no_rows(any_engine):
    result = softmax(any_engine, np.zeros((0, 3)), np.zeros((0, 3)), row_loss=True)
    assert (result.loss, result.valid_count) == (0, 0)
    assert result.conditions.empty
    assert result.gradient.shape == (0, 3)
    assert result.row_loss.shape == (0,)


def test_ignore_value_of_elements(any_engine):
    x, t = np.float32([0, 3, 0]), np.float32([0.5, -1, 0.5])
    result = any_engine.score(x, t, ignore_value=-1, row_loss=True)
    assert result.valid_count == 2
    assert result.loss == pytest.approx(math.log(2), rel=1e-6)
    assert result.row_loss[1] == result.gradient[1] == 0
    kept = any_engine.score(x, t)
    assert kept.conditions.out_of_range_labels == 1
    # A value of 0 drops labels of exactly 0, and no others near it.
    result = any_engine.score(np.float32([0, 0]), np.float32([0, 0.4]), ignore_value=0)
    assert result.valid_count == 1


def test_ignore_value_nan(any_engine):
    result = softmax(any_engine, [[0, 0], [1, 2]], [[NAN, NAN], [1, 0]], ignore_value=NAN)
    assert result.valid_count == 1
    assert result.loss == pytest.approx(1.3132616875182228, rel=1e-6)
    assert result.conditions.nonfinite_labels == 0


def test_ignore_index(any_engine):
    result = any_engine.score(
        np.float32([[0, 0], [1, 2], [3, 0]]),
        np.int64([1, -100, 0]),
        loss="softmax_cross_entropy",
        ignore_index=-100,
    )
    assert result.valid_count == 2
    assert not result.gradient[1].any()
    assert result.loss == pytest.approx((math.log(2) + math.log1p(math.exp(-3))) / 2, rel=1e-6)


def test_label_checks(any_engine):
    x, t = [[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5], [0.2, 0.2]]
    report = softmax(any_engine, x, t)
    assert report.conditions.unnormalized_labels == 1
    renormalized = softmax(any_engine, x, t, label_check="renormalize")
    expected = softmax(any_engine, x, [[0.5, 0.5], [0.5, 0.5]])
    assert renormalized.loss == pytest.approx(expected.loss, rel=1e-6)
    assert renormalized.conditions.unnormalized_labels == 1
    with pytest.raises(ValueError, match="label"):
        softmax(any_engine, x, t, label_check="strict")


def test_half_precision_gradients_do_not_underflow_under_a_mean(engine):
    # 8 × 1024 × 1024 pixels: p - t of 1e-3 over 8 Mi is far below float16's smallest number.
    x = np.zeros((8, 1024, 1024), np.float16)
    t = np.full(x.shape, 0.501, np.float16)
    result = engine.score(x, t, gradient="float16")
    assert result.gradient_scale == 2.0**-23
    assert (result.gradient == np.float16(0.5 - np.float64(t[0, 0, 0]))).all()
    assert result.scaled_gradient(out=np.empty(x.shape, np.float32)).all()
