"""The options that all losses share, against torch in float64: temperature, z-loss, class masks and
weights, smoothing, renormalised labels, probabilities, and a class axis anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import softloss
import torch
from test_family import CASES, terms

ELEMENTWISE = ("binary_brier", "quality_focal", "sigmoid_cross_entropy")
REGIONS = ("soft_dice", "tversky")
CLASS_CASES = [(loss, o) for loss, o in CASES if loss not in (*ELEMENTWISE, *REGIONS)]
ONE_EACH = list(dict(CLASS_CASES).items())
PLAIN = ("softmax_cross_entropy", {})
KEPT = [0, 2, 3, 6, 8]


@pytest.fixture(scope="module")
def engine():
    return softloss.Engine("cpu")


def problem(rng, shape=(31, 9), axis=1):
    x = torch.from_numpy(2 * rng.normal(size=shape)).requires_grad_()
    t = torch.from_numpy(3 * rng.random(shape)).softmax(axis)
    return x, t


def class_terms(loss, x, t, o):
    """[rows, classes] in, the loss of each row out."""
    if loss == "softmax_cross_entropy":
        return -(t * (x / o.get("temperature", 1)).log_softmax(1)).sum(1)
    return terms(loss, x, t, o)


def compare(result, expected, x):
    np.testing.assert_allclose(result.row_loss, expected.detach().numpy(), rtol=1e-10, atol=1e-13)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(result.gradient, gradient.numpy(), rtol=1e-9, atol=1e-13)


def score(engine, x, t, loss, **options):
    return engine.score(
        x, t, loss=loss, gradient="float64", reduction="sum", row_loss=True, **options
    )


@pytest.mark.parametrize("temperature", [0.25, 1.0, 7.0])
@pytest.mark.parametrize("loss, options", [*ONE_EACH, PLAIN])
def test_temperature_and_z_loss(rng, engine, loss, options, temperature):
    x, t = problem(rng)
    options = {**options, "temperature": temperature}
    expected = class_terms(loss, x, t, options)
    expected = expected + 0.25 * torch.logsumexp(x / temperature, 1) ** 2
    compare(score(engine, x, t, loss, z_loss=0.25, **options), expected, x)


@pytest.mark.parametrize("loss, options", [*CLASS_CASES, PLAIN])
def test_masked_classes_do_not_exist(rng, engine, loss, options):
    x, t = problem(rng)
    mask = np.isin(np.arange(9), KEPT)
    dirty = x.detach().numpy().copy()
    dirty[:, ~mask] = np.nan
    expected = class_terms(loss, x[:, KEPT], t[:, KEPT], options)
    result = score(engine, dirty, t, loss, class_mask=mask, **options)
    compare(result, expected, x)
    assert (result.gradient[:, ~mask] == 0).all()


@pytest.mark.parametrize("loss, options", [*CLASS_CASES, PLAIN])
def test_smoothing_counts_the_classes_that_exist(rng, engine, loss, options):
    x, t = problem(rng)
    smoothed = 0.875 * t[:, KEPT] + 0.125 / len(KEPT)
    expected = class_terms(loss, x[:, KEPT], smoothed, options)
    mask = np.isin(np.arange(9), KEPT)
    compare(
        score(engine, x, t, loss, class_mask=mask, label_smoothing=0.125, **options), expected, x
    )


@pytest.mark.parametrize("loss, options", [*CLASS_CASES, PLAIN])
def test_renormalised_labels(rng, engine, loss, options):
    x, t = problem(rng)
    compare(
        score(engine, x, 0.5 * t, loss, label_check="renormalize", **options),
        class_terms(loss, x, t, options),
        x,
    )


@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize("loss, options", [*ONE_EACH, PLAIN])
def test_images(rng, engine, loss, options, axis):
    shape = [2, 5, 6, 4]
    x, t = problem(rng, tuple(shape), axis)
    rows = [v.movedim(axis, 3).reshape(-1, shape[axis]) for v in (x, t)]
    result = score(engine, x, t, loss, class_axis=axis, **options)
    expected = class_terms(loss, *rows, options)
    np.testing.assert_allclose(result.row_loss.ravel(), expected.detach().numpy(), rtol=1e-10)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(result.gradient, gradient.numpy(), rtol=1e-9, atol=1e-13)


def of_probabilities(loss, p, t, o):
    """The loss a row for probabilities that are given, as they are."""
    log_p = p.log()
    if loss in ("softmax_cross_entropy", "kl_divergence", "distillation"):
        entropy = 0 if loss == "softmax_cross_entropy" else t.log()
        return (t * (entropy - log_p)).sum(1)
    if loss == "reverse_kl_divergence":
        return (p * (log_p - t.log())).sum(1)
    if loss == "jensen_shannon_divergence":
        beta = o.get("beta", 0.5)
        log_m = (beta * t + (1 - beta) * p).log()
        return (beta * t * (t.log() - log_m) + (1 - beta) * p * (log_p - log_m)).sum(1)
    if loss == "brier":
        return ((p - t) ** 2).sum(1)
    if loss == "expected_focal":
        return -(t * (1 - p) ** o.get("gamma", 2) * log_p).sum(1)
    if loss == "poly1_cross_entropy":
        return (t * (o.get("epsilon", 2) * (1 - p) - log_p)).sum(1)
    if loss == "generalized_cross_entropy":
        q = float(np.float32(o.get("q", 0.7)))
        return (t * (1 - p**q) / q).sum(1)
    assert loss == "symmetric_cross_entropy"
    reverse = -(p * t.clamp(min=float(np.float32(1e-4))).log()).sum(1)
    return o.get("alpha", 1) * -(t * log_p).sum(1) + o.get("beta", 1) * reverse


@pytest.mark.parametrize("loss, options", [*CLASS_CASES, PLAIN])
def test_probabilities(rng, engine, loss, options):
    if "temperature" in options:
        pytest.skip("temperatures are of logits")
    x, t = problem(rng)
    p = x.detach().softmax(1).requires_grad_()
    result = score(engine, p, t, loss, prediction_kind="probabilities", **options)
    compare(result, of_probabilities(loss, p, t, options), p)


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_probabilities_of_elements(rng, engine, loss):
    s = torch.from_numpy(rng.random((13, 5))).requires_grad_()
    t = torch.from_numpy(rng.random((13, 5)))
    smoothed = 0.875 * t + 0.0625
    bce = torch.nn.functional.binary_cross_entropy(s, smoothed, reduction="none")
    expected = {
        "sigmoid_cross_entropy": bce,
        "binary_brier": (s - smoothed) ** 2,
        "quality_focal": (s - smoothed).abs() ** 2 * bce,
    }[loss]
    options = {"prediction_kind": "probabilities", "label_smoothing": 0.125}
    result = engine.score(
        s, t, loss=loss, gradient="float64", reduction="sum", row_loss=True, **options
    )
    np.testing.assert_allclose(result.row_loss, expected.detach().numpy(), rtol=1e-10)
    (gradient,) = torch.autograd.grad(expected.sum(), s)
    np.testing.assert_allclose(result.gradient, gradient.numpy(), rtol=1e-9, atol=1e-13)


def test_class_weights_multiply_a_class_s_term(rng, engine):
    x, t = problem(rng)
    weight = torch.linspace(0, 2, 9).double()
    p = x.softmax(1)
    expected = (weight * (p - t) ** 2).sum(1)
    compare(score(engine, x, t, "brier", class_weight=weight.numpy()), expected, x)


def test_certain_answers_have_small_losses_not_none(engine):
    """Almost certain and right: Jensen-Shannon and focal losses are tiny, but not 0 nor negative."""
    x = np.float32([[20, 0, 0, 0]])
    t = np.float32([[1, 0, 0, 0]])
    others = 3 * np.exp(-20.0)
    focal = engine.score(x, t, loss="expected_focal", row_loss=True)
    assert focal.row_loss[0] == pytest.approx(others**3, rel=1e-5)
    # To first order others·(½·ln 2).
    jsd = engine.score(x, t, loss="jensen_shannon_divergence", row_loss=True)
    assert jsd.row_loss[0] == pytest.approx(0.5 * np.log(2) * others, rel=1e-4)
