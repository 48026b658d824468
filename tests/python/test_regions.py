"""Losses of regions against torch, MONAI's and smp's formulas, scikit-learn, and by the wire."""

from __future__ import annotations

import numpy as np
import pytest
import softloss
import torch
from sklearn.metrics import f1_score

DICE = {"loss": "soft_dice", "gradient": "float64"}


SMOOTH = float(np.float32(1e-5))


def dice(s, t, dims, smooth=SMOOTH):
    """The loss of each region, as MONAI (`soft_label`) and JDTLosses write it, with torch."""
    apart = (s - t).abs().sum(dims)
    size = s.sum(dims) + t.sum(dims)
    return 1 - (size - apart + smooth) / (size + smooth)


def draw(rng, shape, axis=None):
    x = torch.from_numpy(2 * rng.normal(size=shape)).requires_grad_()
    t = torch.from_numpy(rng.random(shape))
    return x, t if axis is None else (4 * t).softmax(axis)


def check(result, expected, x):
    np.testing.assert_allclose(
        result.row_loss.reshape(expected.shape), expected.detach().numpy(), rtol=1e-11, atol=1e-15
    )
    assert result.loss == pytest.approx(expected.mean().item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(expected.mean(), x, retain_graph=True)
    np.testing.assert_allclose(result.scaled_gradient(), gradient, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
def test_multi_class_images(any_engine, rng, smooth):
    x, t = draw(rng, (2, 5, 16, 9), 1)
    expected = dice(x.softmax(1), t, (2, 3), float(np.float32(smooth)))
    result = any_engine.score(x, t, activation="softmax", smooth=smooth, row_loss=True, **DICE)
    check(result, expected, x)
    assert result.row_loss.shape == (2, 5)
    assert result.valid_count == 10


def test_channels_last(any_engine, rng):
    x, t = draw(rng, (2, 7, 9, 4), -1)
    result = any_engine.score(x, t, class_axis=-1, row_loss=True, **DICE)
    check(result, dice(x.softmax(-1), t, (1, 2)), x)


def test_multi_label_images(any_engine, rng):
    x, t = draw(rng, (3, 4, 10, 6))
    result = any_engine.score(x, t, class_axis=1, activation="sigmoid", row_loss=True, **DICE)
    check(result, dice(x.sigmoid(), t, (2, 3)), x)


@pytest.mark.parametrize("shape, dims, regions", [((4, 8, 9), (1, 2), 4), ((50,), (0,), 1)])
def test_binary_masks(any_engine, rng, shape, dims, regions):
    x, t = draw(rng, shape)
    result = any_engine.score(x, t, row_loss=True, **DICE)
    check(result, dice(x.sigmoid(), t, dims), x)
    assert result.row_loss.shape == (regions, 1)


def test_a_class_in_the_whole_batch_as_smp_has_it(any_engine, rng):
    x, t = draw(rng, (3, 4, 10), 1)
    result = any_engine.score(x, t, class_axis=1, batch=True, row_loss=True, **DICE)
    check(result, dice(x.softmax(1), t, (0, 2)), x)
    # Rows of classes have no positions of their own.
    x, t = draw(rng, (30, 4), 1)
    result = any_engine.score(x, t, class_axis=1, row_loss=True, **DICE)
    check(result, dice(x.softmax(1), t, 0), x)


def test_class_ids_weights_and_masks(any_engine, rng):
    x, _ = draw(rng, (2, 3, 40))
    ids = rng.integers(0, 3, size=(2, 40))
    t = torch.nn.functional.one_hot(torch.from_numpy(ids), 3).movedim(-1, 1).double()
    r = torch.from_numpy(rng.random((2, 1, 40)).astype(np.float32)).double()
    ids[:, 5:9] = 255
    r[:, :, 5:9] = 0
    expected = dice(r * x.softmax(1), r * t, 2) * torch.tensor([1.0, 0.5, 2.0])
    result = any_engine.score(
        x,
        ids,
        class_axis=1,
        ignore_index=255,
        row_weight=r[:, 0].numpy(),
        class_weight=[1, 0.5, 2],
        row_loss=True,
        **DICE,
    )
    check(result, expected, x)


def test_what_does_not_count_leaves_all_sums(any_engine, rng):
    x, t = draw(rng, (2, 60))
    keep = torch.from_numpy(rng.random((2, 60)) < 0.7)
    expected = torch.stack([dice(x[i][keep[i]].sigmoid(), t[i][keep[i]], 0) for i in (0, 1)])
    check(any_engine.score(x, t, mask=keep.numpy(), row_loss=True, **DICE), expected, x)
    ignored = torch.where(keep, t, torch.full_like(t, -1))
    check(any_engine.score(x, ignored, ignore_value=-1, row_loss=True, **DICE), expected, x)
    nothing = any_engine.score(x, t, mask=np.zeros((2, 60), bool), **DICE)
    assert nothing.conditions.empty
    assert nothing.loss == 0


def test_hard_answers_give_one_less_f1(any_engine, rng):
    shape = (500, 4)
    s, t = (
        (rng.random(shape) < 0.4).astype(np.float32),
        (rng.random(shape) < 0.3).astype(np.float32),
    )
    result = any_engine.score(
        s,
        t,
        class_axis=1,
        activation="sigmoid",
        prediction_kind="probabilities",
        smooth=0,
        row_loss=True,
        loss="soft_dice",
    )
    np.testing.assert_allclose(1 - result.row_loss[0], f1_score(t, s, average=None), rtol=1e-6)


def test_product_dice_is_not_least_at_a_soft_label_but_this_is(any_engine):
    """At t = 0.5 the usual form falls as s goes to 1 (MONAI #8094)."""
    t = np.full((1, 100), 0.5)
    grid = np.linspace(0, 1, 101)

    def product(s):
        return 1 - 2 * (s * t).sum() / (s.sum() + t.sum())

    def ours(s):
        options = {"prediction_kind": "probabilities", "smooth": 0, "gradient": None}
        return any_engine.score(s, t, loss="soft_dice", **options).loss

    assert grid[np.argmin([product(np.full_like(t, v)) for v in grid])] == 1
    assert product(t) == 0.5
    assert grid[np.argmin([ours(np.full_like(t, v)) for v in grid])] == 0.5
    assert ours(t) == 0


@pytest.mark.parametrize(
    "shape, options",
    [
        ((2, 21, 300, 200), {"activation": "softmax"}),  # 10 MB of each tensor, 20 chunks and more
        ((3, 700, 1000), {}),
        ((200000, 6), {"class_axis": 1}),
        ((1, 3, 40), {"class_axis": 1, "activation": "sigmoid"}),
    ],
)
def test_server_and_engine_give_equal_bits(client, engine, rng, shape, options):
    x = rng.normal(size=shape).astype(np.float32)
    t = rng.random(shape).astype(np.float32)
    options = {"loss": "soft_dice", "row_loss": True, **options}
    remote, local = client.score(x, t, **options), engine.score(x, t, **options)
    assert remote.loss == local.loss
    assert remote.gradient_l2_norm == local.gradient_l2_norm
    np.testing.assert_array_equal(remote.gradient, local.gradient)
    np.testing.assert_array_equal(remote.row_loss, local.row_loss)
    without = client.score(x, t, **options | {"gradient": None})
    assert without.loss == local.loss
    np.testing.assert_array_equal(without.row_loss, local.row_loss)


def test_in_shared_memory(binary, run_dir, engine, rng):
    from servers import Server

    server = Server(binary, [f"unix:{run_dir}/s"], "--metrics_listen=127.0.0.1:0")
    try:
        with softloss.Client(server.address, timeout=60) as client:
            x = client.allocate((2, 5, 300, 100))
            t = client.allocate((2, 5, 300, 100))
            x[...] = rng.normal(size=x.shape)
            t[...] = rng.random(x.shape)
            options = {"loss": "soft_dice", "class_axis": 1, "row_loss": True}
            remote, local = client.score(x, t, **options), engine.score(x, t, **options)
            assert remote.transport == "shared_memory"
            assert remote.loss == local.loss
            np.testing.assert_array_equal(remote.gradient, local.gradient)
            np.testing.assert_array_equal(remote.row_loss, local.row_loss)
            del x, t, remote
    finally:
        server.stop()


def test_the_number_of_threads_changes_nothing(rng):
    x = rng.normal(size=(2, 4, 500, 300)).astype(np.float32)
    t = rng.random(x.shape).astype(np.float32)
    results = [
        softloss.Engine("cpu", threads=n).score(x, t, loss="soft_dice", class_axis=1)
        for n in (1, 3)
    ]
    assert results[0].loss == results[1].loss
    np.testing.assert_array_equal(results[0].gradient, results[1].gradient)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 2}, "temperature: does not apply to soft_dice"),
        ({"z_loss": 0.1}, "z_loss: does not apply to soft_dice"),
        ({"gamma": 2}, "gamma: does not apply to soft_dice"),
        ({"pos_weight": [2]}, "pos_weight: applies to sigmoid_cross_entropy only"),
        ({"smooth": -1}, r"smooth: must be in \[0, 1e\+06\] for soft_dice; was -1"),
        ({"activation": "tanh"}, "activation: must be one of sigmoid, softmax; was tanh"),
        ({"normalizer": "elements"}, "normalizer: ELEMENTS does not apply to soft_dice"),
        ({"label_check": "renormalize"}, "label_check: RENORMALIZE needs a class axis"),
        ({"loss": "brier", "activation": "softmax"}, "activation: does not apply to brier"),
        ({"loss": "brier", "batch": True}, "batch: does not apply to brier"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(softloss.InvalidArgumentError, match=message):
        softloss.Engine().score([[0.0, 1.0]], [[0.5, 0.5]], **{"loss": "soft_dice", **options})


def test_sparse_labels_are_refused():
    label = softloss.SparseLabel(ids=[[1]], values=[[0.5]], tail="zero")
    with pytest.raises(softloss.InvalidArgumentError, match="label.kind: must be dense"):
        softloss.Engine().score([[0.0, 1.0]], label, loss="soft_dice", class_axis=1)
