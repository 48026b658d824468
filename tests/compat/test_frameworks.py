"""The family beside Optax, TensorFlow, Keras, ONNX and TRL, and the values kept of them."""

import json

import frameworks
import numpy as np
import pytest
import softloss

ENTRIES = frameworks.entries()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e['source']} {e['options']}")
def test_the_same_value(entry):
    logits, labels = np.asarray(entry["logits"]), np.asarray(entry["labels"])
    result = softloss.Engine("cpu").score(
        logits, labels, gradient="float64", row_loss=True, **entry["options"]
    )
    expected, rtol = entry["expected"], entry["tolerance"]
    if "loss" in expected:
        assert result.loss == pytest.approx(expected["loss"], rel=rtol)
    if "row_loss" in expected:
        np.testing.assert_allclose(result.row_loss, expected["row_loss"], rtol=rtol)
    if "gradient" in expected:
        np.testing.assert_allclose(result.gradient, expected["gradient"], rtol=rtol, atol=rtol)


def test_the_kept_values_are_these():
    kept = json.loads(frameworks.GOLDEN.read_text())
    assert [e["source"] for e in kept] == [e["source"] for e in ENTRIES]
    for old, new in zip(kept, ENTRIES, strict=True):
        assert old["options"] == new["options"]
        for name, value in new["expected"].items():
            np.testing.assert_allclose(old["expected"][name], value, rtol=1e-9, atol=1e-12)


def test_tensorflow_s_fused_gradient_is_not_the_loss_s():
    """Where labels sum to S, the derivative is S·p - t: TensorFlow gives p - t, softloss does not."""
    import tensorflow as tf

    x, t = frameworks.problem()
    with tf.GradientTape() as tape:
        v = tf.Variable(x)
        values = tf.nn.softmax_cross_entropy_with_logits(2.5 * t, v)
    theirs = tape.gradient(values, v).numpy()
    ours = softloss.Engine("cpu").score(
        x, 2.5 * t, loss="softmax_cross_entropy", gradient="float64", reduction="sum"
    )
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(ours.gradient, 2.5 * p - 2.5 * t, atol=1e-13)
    np.testing.assert_allclose(theirs, p - 2.5 * t, atol=1e-13)
