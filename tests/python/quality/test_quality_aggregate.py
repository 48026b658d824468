"""Aggregation as users call it: every method, warm starts, files, and what does not go together."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from softloss.quality import InputError, aggregate, read_votes


def votes_of(rng: np.random.Generator, items: int, people: int) -> dict[str, Any]:
    truth = rng.integers(0, 3, items)
    skill = np.linspace(0.5, 0.95, people)
    right = rng.random((items, people)) < skill
    label = np.where(right, truth[:, None], rng.integers(0, 3, (items, people)))
    return {
        "item": [f"i{i:04}" for i in range(items) for _ in range(people)],
        "annotator": [f"a{r}" for _ in range(items) for r in range(people)],
        "label": ["xyz"[k] for k in label.ravel()],
    }


def test_methods_are_their_formulas(rng: np.random.Generator) -> None:
    columns = votes_of(rng, 60, 5)
    table = read_votes(columns)
    one_hot = np.eye(3)[np.asarray(table.label)].reshape(60, 5, 3)
    majority = aggregate(columns, "majority")
    np.testing.assert_allclose(majority.posterior, one_hot.mean(1), atol=1e-15)
    assert majority.labels == ["xyz"[k] for k in one_hot.sum(1).argmax(1)]
    agrees = one_hot[np.arange(60), :, one_hot.sum(1).argmax(1)].mean(0)
    np.testing.assert_allclose(majority.skill, agrees, atol=1e-15)
    wawa = aggregate(columns, "wawa")
    weighted = (one_hot * agrees[:, None]).sum(1)
    np.testing.assert_allclose(
        wawa.posterior, weighted / weighted.sum(1, keepdims=True), atol=1e-14
    )
    # One E and M step of Dawid and Skene from the majority, in plain NumPy.
    fit = aggregate(columns, "dawid_skene", max_iterations=1)
    posterior = one_hot.mean(1)
    confusion = np.einsum("is,irk->rsk", posterior, one_hot)
    confusion /= confusion.sum(2, keepdims=True)
    score = np.log(posterior.mean(0)) + np.einsum(
        "irk,rsk->is", one_hot, np.log(np.maximum(confusion, 1e-300))
    )
    expected = np.exp(score - score.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(fit.posterior, expected, atol=1e-10)
    coin = aggregate(columns, "one_coin")
    assert coin.converged and (np.diff(coin.log_likelihood) > -1e-9).all()
    lab = aggregate(columns, "crowdlab", predictions={f"i{i:04}": [1 / 3] * 3 for i in range(60)})
    np.testing.assert_allclose(lab.posterior.sum(1), 1, atol=1e-12)


def test_a_table_that_grows(rng: np.random.Generator) -> None:
    columns = votes_of(rng, 300, 6)
    part = {name: values[:1500] for name, values in columns.items()}
    first = aggregate(part)
    assert first.converged and first.log_likelihood is not None
    # Somebody new comes, too.
    extra = {
        "item": ["i0000", "i0299"], "annotator": ["a0a", "a0a"], "label": ["x", "y"],
    }  # fmt: skip
    grown = {name: [*columns[name], *extra[name]] for name in columns}
    whole = aggregate(grown, tolerance=1e-13)
    updated = first.update(grown, max_iterations=2)
    assert updated.annotators == whole.annotators and "a0a" in updated.annotators
    np.testing.assert_allclose(updated.posterior, whole.posterior, atol=0.05)
    again = updated.update(grown, max_iterations=200, tolerance=1e-13)
    # Likelihoods that rise by less than a 1e-13th leave so much.
    np.testing.assert_allclose(again.posterior, whole.posterior, atol=1e-3)
    assert again.log_likelihood[-1] == pytest.approx(whole.log_likelihood[-1], rel=1e-7)
    # Nothing but an E step: the model's own items, which it was fitted to.
    converged = aggregate(columns, tolerance=1e-14, max_iterations=1000)
    np.testing.assert_allclose(converged.posterior_of(columns), converged.posterior, atol=1e-5)
    new = {"item": ["n", "n"], "annotator": ["a5", "who"], "label": ["z", "x"]}
    (row,) = converged.posterior_of(new)
    known = converged.annotators.index("a5")
    expected = converged.prior * converged.confusion[known][:, 2]
    np.testing.assert_allclose(row, expected / expected.sum(), rtol=1e-12)


def test_gold_is_taken_as_known(rng: np.random.Generator) -> None:
    columns = votes_of(rng, 30, 4)
    for method in ("dawid_skene", "one_coin"):
        fit = aggregate(columns, method, gold={"i0007": "z"})
        assert fit.posterior[fit.items.index("i0007")].tolist() == [0, 0, 1]


def test_consensus_files(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    from safetensors.numpy import load_file

    fit = aggregate(votes_of(rng, 20, 3))
    fit.write(tmp_path / "labels.safetensors")
    labels = load_file(tmp_path / "labels.safetensors")["labels"]
    np.testing.assert_array_equal(labels, fit.posterior.astype(np.float32))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("glad", {}, "method: must be one of majority, wawa"),
        ("wawa", {"smoothing": 1}, "smoothing: is no option of wawa"),
        ("majority", {"predictions": np.ones((2, 3)) / 3}, "predictions: go with crowdlab"),
        ("crowdlab", {"gold": {"i0000": "x"}}, "gold: goes with one_coin and dawid_skene"),
    ],
)
def test_what_does_not_go_together(
    rng: np.random.Generator, method: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        aggregate(votes_of(rng, 2, 3), method, **options)


def test_only_dawid_skene_is_updated(rng: np.random.Generator) -> None:
    columns = votes_of(rng, 5, 3)
    with pytest.raises(InputError, match="method: must be 'dawid_skene'; was 'wawa'"):
        aggregate(columns, "wawa").update(columns)
