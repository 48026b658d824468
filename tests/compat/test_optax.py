"""Losses and gradients beside Optax's, differentiated by JAX in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import softloss

jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module")
def engine() -> softloss.Engine:
    return softloss.Engine()


def optax_losses(loss: str, logits: np.ndarray, labels: np.ndarray) -> jax.Array:
    """One a row, or for the sigmoid loss one an element, in float64."""
    x, t = jnp.asarray(logits, jnp.float64), jnp.asarray(labels, jnp.float64)
    if loss == "sigmoid_cross_entropy":
        return optax.sigmoid_binary_cross_entropy(x, t)
    return optax.softmax_cross_entropy(x, t)


def inputs(shape: tuple[int, ...], loss: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    logits = (scale * random.normal(size=shape)).astype(np.float32)
    labels = random.random(shape)
    if loss == "softmax_cross_entropy":
        labels /= labels.sum(-1, keepdims=True)
    return logits, labels.astype(np.float32)


@pytest.mark.parametrize("loss", ["sigmoid_cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("shape", [(7, 2), (33, 10), (5, 1000), (4, 6, 21)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_loss_and_gradient(
    engine: softloss.Engine, loss: str, shape: tuple[int, ...], scale: float
) -> None:
    logits, labels = inputs(shape, loss, scale)
    result = engine.score(logits, labels, loss=loss, class_axis=-1, row_loss=True)
    expected = optax_losses(loss, logits, labels)
    np.testing.assert_allclose(result.row_loss, expected, rtol=2e-6, atol=1e-6)
    assert result.loss == pytest.approx(float(expected.mean()), rel=1e-6)
    gradient = jax.grad(lambda x: optax_losses(loss, x, labels).sum())(
        jnp.asarray(logits, jnp.float64)
    )
    np.testing.assert_allclose(result.gradient, gradient, atol=8e-7)


def test_a_jax_array_goes_in(engine: softloss.Engine) -> None:
    logits, labels = inputs((16, 10), "softmax_cross_entropy", 1.0)
    options = {"loss": "softmax_cross_entropy", "class_axis": -1}
    from_numpy = engine.score(logits, labels, **options)
    from_jax = engine.score(jnp.asarray(logits), jnp.asarray(labels), **options)
    assert from_jax.loss == from_numpy.loss
    np.testing.assert_array_equal(from_jax.gradient, from_numpy.gradient)


def test_optax_safe_cross_entropy_at_minus_infinity(engine: softloss.Engine) -> None:
    logits = np.float32([[0.0, 0.0, -np.inf], [0.0, -np.inf, -np.inf]])
    labels = np.float32([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    result = engine.score(
        logits, labels, loss="softmax_cross_entropy", class_axis=-1, row_loss=True
    )
    expected = optax.safe_softmax_cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(result.row_loss, expected, rtol=1e-6)
