"""The family of losses against torch's own functions and autograd, in float64."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import softloss
import torch
import torch.nn.functional as F

SHAPE = (23, 7)


def terms(loss, x, t, o):
    """The loss a row (sigmoid losses: an element; losses of regions: a region), with torch."""
    log_p = F.log_softmax(x / o.get("temperature", 1), 1)
    p = log_p.exp()
    cross_entropy = -(t * log_p).sum(1)
    kl = F.kl_div(log_p, t, reduction="none").sum(1)
    s = x.sigmoid()
    both = (s + t - (s - t).abs()).sum(1, keepdim=True) / 2  # in a region, here a row
    smooth = float(np.float32(o.get("smooth", 1e-5)))
    if loss == "soft_dice":
        return 1 - (2 * both + smooth) / ((s + t).sum(1, keepdim=True) + smooth)
    if loss == "tversky":
        excess, missed = s.sum(1, keepdim=True) - both, t.sum(1, keepdim=True) - both
        alpha, beta = (float(np.float32(o.get(name, 0.5))) for name in ("alpha", "beta"))
        return 1 - (both + smooth) / (both + alpha * excess + beta * missed + smooth)
    if loss == "kl_divergence":
        return kl
    if loss == "distillation":
        return o.get("temperature", 1) ** 2 * kl
    if loss == "reverse_kl_divergence":
        return (p * (log_p - t.log())).sum(1)
    if loss == "jensen_shannon_divergence":
        beta = o.get("beta", 0.5)
        mixture = (beta * t + (1 - beta) * p).log()
        forward = beta * F.kl_div(mixture, t, reduction="none")
        return (
            forward + (1 - beta) * F.kl_div(mixture, log_p, log_target=True, reduction="none")
        ).sum(1)
    if loss == "brier":
        return F.mse_loss(p, t, reduction="none").sum(1)
    if loss == "binary_brier":
        return F.mse_loss(s, t, reduction="none")
    if loss == "quality_focal":
        bce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
        return (s - t).abs() ** o.get("beta", 2) * bce
    if loss == "expected_focal":
        return -(t * (1 - p) ** o.get("gamma", 2) * log_p).sum(1)
    if loss == "poly1_cross_entropy":
        return cross_entropy + o.get("epsilon", 2) * (t * (1 - p)).sum(1)
    if loss == "generalized_cross_entropy":
        q = float(np.float32(o.get("q", 0.7)))
        return (t * (1 - p**q) / q).sum(1)
    assert loss == "symmetric_cross_entropy"
    reverse = -(p * t.clamp(min=float(np.float32(1e-4))).log()).sum(1)
    return o.get("alpha", 1) * cross_entropy + o.get("beta", 1) * reverse


CASES = [
    ("kl_divergence", {}),
    ("kl_divergence", {"temperature": 2.0}),
    ("distillation", {}),
    ("distillation", {"temperature": 4.0}),
    ("reverse_kl_divergence", {}),
    ("jensen_shannon_divergence", {}),
    ("jensen_shannon_divergence", {"beta": 0.125}),
    ("brier", {}),
    ("binary_brier", {}),
    ("quality_focal", {}),
    ("quality_focal", {"beta": 1.5}),
    ("expected_focal", {}),
    ("expected_focal", {"gamma": 0.5}),
    ("poly1_cross_entropy", {}),
    ("poly1_cross_entropy", {"epsilon": -0.5}),
    ("generalized_cross_entropy", {}),
    ("generalized_cross_entropy", {"q": 0.25}),
    ("symmetric_cross_entropy", {}),
    ("symmetric_cross_entropy", {"alpha": 0.5, "beta": 2.0}),
    ("soft_dice", {}),
    ("soft_dice", {"smooth": 0.5}),
    ("tversky", {}),
    ("tversky", {"alpha": 0.3, "beta": 0.7, "smooth": 0.5}),
    ("tversky", {"alpha": 1.0, "beta": 1.0}),
]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("loss, options", CASES)
def test_torch(rng, backend, loss, options):
    x = torch.from_numpy(3 * rng.normal(size=SHAPE)).requires_grad_()
    t = torch.from_numpy(rng.random(SHAPE) * 4).softmax(1)
    engine = softloss.Engine(backend)
    arguments = {"loss": loss, "gradient": "float64", "reduction": "sum", **options}
    try:
        result = engine.score(x, t, row_loss=True, **arguments)
    except softloss.UnimplementedError as refused:
        pytest.skip(str(refused))
    expected = terms(loss, x, t, options)
    np.testing.assert_allclose(result.row_loss, expected.detach().numpy(), rtol=1e-11, atol=1e-14)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(result.gradient, gradient.numpy(), rtol=1e-10, atol=1e-14)


def test_tversky_with_halves_is_dice_and_with_ones_jaccard(rng):
    engine = softloss.Engine()
    x, t = rng.normal(size=(3, 4, 50)), rng.random((3, 4, 50))
    options = {"gradient": "float64", "class_axis": 1, "row_loss": True}
    dice = engine.score(x, t, loss="soft_dice", smooth=1, **options)
    halves = engine.score(x, t, loss="tversky", smooth=0.5, **options)
    np.testing.assert_allclose(halves.row_loss, dice.row_loss, rtol=1e-13)
    np.testing.assert_allclose(halves.gradient, dice.gradient, rtol=1e-12, atol=1e-18)
    dice = engine.score(x, t, loss="soft_dice", smooth=0, **options).row_loss
    jaccard = engine.score(x, t, loss="tversky", alpha=1, beta=1, smooth=0, **options).row_loss
    np.testing.assert_allclose(1 - jaccard, (1 - dice) / (1 + dice), rtol=1e-12)


def test_profiles_divide_as_torch_does(rng):
    engine = softloss.Engine()
    x = torch.from_numpy(rng.normal(size=SHAPE))
    t = torch.from_numpy(rng.random(SHAPE) * 4).softmax(1)
    ids = torch.from_numpy(rng.integers(0, SHAPE[1], size=SHAPE[0]))
    weight = torch.linspace(0.5, 2, SHAPE[1]).double()
    torch_like = {"profile": "torch", "gradient": None}
    ce = {"loss": "softmax_cross_entropy", "class_weight": weight, **torch_like}
    assert engine.score(x, t, **ce).loss == pytest.approx(F.cross_entropy(x, t, weight).item())
    assert engine.score(x, ids, **ce).loss == pytest.approx(F.cross_entropy(x, ids, weight).item())
    kl = engine.score(x, t, loss="kl_divergence", **torch_like)
    log_p = F.log_softmax(x, 1)
    with pytest.warns(UserWarning, match="batchmean"):
        assert kl.loss == pytest.approx(F.kl_div(log_p, t, reduction="mean").item())
    batchmean = engine.score(x, t, loss="kl_divergence", normalizer="batch", **torch_like)
    assert batchmean.loss == pytest.approx(F.kl_div(log_p, t, reduction="batchmean").item())
    nothing = engine.score(x, ids * 0 - 1, ignore_index=-1, **ce)
    assert np.isnan(nothing.loss)


def test_caffe_sums_a_pixel_map(rng):
    x, t = rng.normal(size=(2, 3, 4)), rng.random((2, 3, 4))
    result = softloss.Engine().score(x, t, profile="caffe", gradient=None)
    expected = F.binary_cross_entropy_with_logits(
        torch.from_numpy(x), torch.from_numpy(t), reduction="sum"
    )
    assert result.loss == pytest.approx(expected.item() / 2)


def test_a_parameter_of_another_loss_is_refused(rng):
    with pytest.raises(softloss.InvalidArgumentError, match="gamma: does not apply to brier"):
        softloss.Engine().score([[0.0, 1.0]], [[0.5, 0.5]], loss="brier", gamma=2)
    with pytest.raises(softloss.InvalidArgumentError, match="q: must be in"):
        softloss.Engine().score([[0.0, 1.0]], [[0.5, 0.5]], loss="generalized_cross_entropy", q=2)


def test_options_show_in_signatures():
    for function in (softloss.Engine.score, softloss.Client.score, softloss.Client.submit):
        assert {"loss", "temperature", "class_mask"} <= set(inspect.signature(function).parameters)
