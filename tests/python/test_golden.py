"""Values that other frameworks computed (tests/compat/frameworks.py wrote them)."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import softloss

ENTRIES = json.loads((pathlib.Path(__file__).parent / "golden_frameworks.json").read_text())


def compare(engine, entry):
    logits, labels = np.asarray(entry["logits"]), np.asarray(entry["labels"])
    result = engine.score(logits, labels, gradient="float64", row_loss=True, **entry["options"])
    expected, rtol = entry["expected"], entry["tolerance"]
    assert expected
    if "loss" in expected:
        assert result.loss == pytest.approx(expected["loss"], rel=rtol)
    if "row_loss" in expected:
        np.testing.assert_allclose(result.row_loss, expected["row_loss"], rtol=rtol)
    if "gradient" in expected:
        np.testing.assert_allclose(result.gradient, expected["gradient"], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e['source']} {e['options']}")
def test_as_others_have_it(backend, entry):
    compare(softloss.Engine(backend), entry)


def test_the_gradient_of_labels_of_any_sum_is_that_of_the_loss():
    """TensorFlow's fused gradient is p - t whatever the labels sum to; the derivative is S·p - t."""
    (entry,) = (
        e for e in ENTRIES if "tensorflow" in e["source"] and "gradient" not in e["expected"]
    )
    x, t = np.asarray(entry["logits"]), np.asarray(entry["labels"])
    assert abs(t.sum(1) - 1).min() > 0.1
    engine, step = softloss.Engine("cpu"), 1e-6
    options = {**entry["options"], "gradient": "float64", "reduction": "sum"}
    gradient = engine.score(x, t, **options).gradient
    moved = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        moved[i] = step
        both = [engine.score(x + sign * moved, t, **options).loss for sign in (1, -1)]
        assert gradient[i] == pytest.approx((both[0] - both[1]) / (2 * step), abs=1e-6)
        moved[i] = 0
