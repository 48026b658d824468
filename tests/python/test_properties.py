"""What holds for all inputs."""

from __future__ import annotations

import numpy as np
import softloss
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

ENGINE = softloss.Engine()
LOGITS = st.floats(-100, 100, width=32)


def arrays(shape, elements=LOGITS):
    return hnp.arrays(np.float32, shape, elements=elements)


@st.composite
def cases(draw, min_classes=1):
    """Logits [rows, classes] and labels of rows that sum to 1."""
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(min_classes, 12))
    x = draw(arrays((rows, classes)))
    t = draw(arrays((rows, classes), st.floats(0, 1, width=32)))
    mass = t.sum(1, keepdims=True)
    return x, np.where(mass > 0, t / np.where(mass > 0, mass, 1), np.float32(1 / classes))


def score(x, t, **options):
    return ENGINE.score(x, t, loss="softmax_cross_entropy", row_loss=True, **options)


@given(cases())
@settings(deadline=None)
def test_cross_entropy_is_at_least_the_entropy(case):
    x, t = case
    result = score(x, t)
    entropy = -(t * np.log(np.where(t > 0, t, 1), dtype=np.float64)).sum(1)
    assert (result.row_loss >= entropy - 1e-6 * (1 + np.abs(x).max(1) * 2)).all()


@given(cases())
@settings(deadline=None)
def test_gradient_rows_sum_to_nothing(case):
    np.testing.assert_allclose(score(*case).gradient.sum(1, dtype=np.float64), 0, atol=2e-5)


@given(cases(), st.integers(-1000, 1000))
@settings(deadline=None)
def test_a_shift_of_all_logits_changes_nothing(case, shift):
    x = np.round(case[0] * 16) / 16  # so that adding the shift is exact
    moved = score(x + np.float32(shift), case[1])
    kept = score(x, case[1])
    np.testing.assert_allclose(moved.gradient, kept.gradient, atol=8e-7)
    np.testing.assert_allclose(moved.row_loss, kept.row_loss, rtol=2e-6, atol=1e-6)


@given(cases(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_rows_do_not_depend_on_their_neighbours(case, random):
    x, t = case
    order = list(range(len(x)))
    random.shuffle(order)
    kept, moved = score(x, t), score(x[order], t[order])
    assert moved.row_loss.tobytes() == kept.row_loss[order].tobytes()
    assert moved.gradient.tobytes() == kept.gradient[order].tobytes()


@given(cases(min_classes=2))
@settings(deadline=None)
def test_layouts_agree(case):
    x, t = case
    last = score(x, t)
    first = score(np.ascontiguousarray(x.T), np.ascontiguousarray(t.T), class_axis=0)
    np.testing.assert_allclose(first.row_loss, last.row_loss, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(first.gradient.T, last.gradient, atol=1e-6)


@given(
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=6).flatmap(
        lambda shape: st.tuples(arrays(shape), arrays(shape, st.floats(0, 1, width=32)))
    )
)
@settings(deadline=None)
def test_sigmoid_is_a_two_class_softmax(case):
    x, t = case
    binary = ENGINE.score(x, t, row_loss=True)
    pairs = score(
        np.stack([np.zeros_like(x), x], -1).astype(np.float64),
        np.stack([1 - t.astype(np.float64), t.astype(np.float64)], -1),
        class_axis=-1,
        gradient="float64",
    )
    np.testing.assert_allclose(binary.row_loss, pairs.row_loss, rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(binary.gradient, pairs.gradient[..., 1], rtol=2e-6, atol=4e-7)
    assert binary.loss_sum >= 0


@given(cases(), st.sampled_from(["float16", "bfloat16"]))
@settings(deadline=None)
def test_gradients_of_any_dtype_are_one_gradient_rounded(case, dtype):
    wide = score(*case)
    narrow = score(*case, gradient=dtype)
    assert narrow.loss == wide.loss
    np.testing.assert_array_equal(narrow.gradient, wide.gradient.astype(narrow.gradient.dtype))
