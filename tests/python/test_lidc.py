"""Real per-pixel soft labels: lung nodules outlined by four readers."""

from __future__ import annotations

import numpy as np
import pytest
from formulas import assert_matches, sigmoid_cross_entropy, softmax_cross_entropy
from scipy.ndimage import gaussian_filter
from scipy.special import xlog1py, xlogy


@pytest.fixture(scope="session")
def pixels(reader_masks):
    """Soft labels of 150 slices in {0, .25, .5, .75, 1}, and logits: one reader's, blurred."""
    masks = reader_masks[::40][:150]
    labels = masks.mean(1, dtype=np.float32)
    assert set(np.unique(labels)) == {0, 0.25, 0.5, 0.75, 1}
    blurred = gaussian_filter(masks[:, 0].astype(np.float32), (0, 2, 2))
    return ((blurred - 0.5) * 16).astype(np.float32), labels


def test_pixels(any_engine, pixels):
    logits, labels = pixels
    result = any_engine.score(logits, labels, row_loss=True)
    assert_matches(result, sigmoid_cross_entropy(logits, labels), prediction="float32")
    assert result.valid_count == 150 * 64 * 64
    assert result.conditions.clean


def test_masks_as_bytes(any_engine, pixels):
    logits, labels = pixels
    quantised = np.round(labels * 255).astype(np.uint8)
    result = any_engine.score(logits, quantised)
    assert_matches(result, sigmoid_cross_entropy(logits, quantised / 255), prediction="float32")


def test_loss_is_least_where_the_readers_are(any_engine, reader_masks):
    """The mean label minimises the mean loss, so the loss there is the readers' entropy."""
    labels = reader_masks[:100].mean(1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(labels) - np.log1p(-labels)
    entropy = -xlogy(labels, labels) - xlog1py(1 - labels, -labels)
    result = any_engine.score(logits, labels, gradient="float64")
    assert result.loss == pytest.approx(entropy.mean(), rel=1e-12)
    assert np.abs(result.gradient).max() < 1e-15


def test_two_classes_in_both_layouts(any_engine, pixels):
    logits, labels = (a[:100] for a in pixels)
    x = np.stack([np.zeros_like(logits), logits], 1)
    t = np.stack([1 - labels, labels], 1)
    first = any_engine.score(x, t, loss="softmax_cross_entropy")
    last = any_engine.score(
        np.moveaxis(x, 1, -1), np.moveaxis(t, 1, -1), loss="softmax_cross_entropy", class_axis=-1
    )
    truth = softmax_cross_entropy(x, t, axis=1)
    assert_matches(first, truth, prediction="float32")
    assert last.loss == pytest.approx(first.loss, rel=1e-6)


def test_hard_readers_average_to_the_soft_label(any_engine, reader_masks):
    """Cross entropy is linear in the label: four readers' losses average to the mean label's."""
    masks = reader_masks[::200].astype(np.float64)
    logits = (gaussian_filter(masks[:, 1], (0, 1, 1)) - 0.5) * 8
    readers = [any_engine.score(logits, masks[:, r]).loss for r in range(4)]
    soft = any_engine.score(logits, masks.mean(1)).loss
    assert soft == pytest.approx(np.mean(readers), rel=1e-12)
