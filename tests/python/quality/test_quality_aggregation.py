"""Aggregation on data too large for the C++ tests, and as NumPy sees it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from softloss import _softloss as native


@pytest.fixture(scope="module")
def real_votes(shared_data: pathlib.Path) -> dict[str, Any]:
    """5 votes of 85 raters on each of 184,962 questions: no, maybe, yes."""
    path = shared_data / "imagenet-real-raters"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    file = np.load(path / "votes.npz")
    items, each = file["answer"].shape
    return {
        "num_items": items,
        "num_annotators": len(file["rater_id"]),
        "num_classes": 3,
        "item": np.repeat(np.arange(items, dtype=np.int64), each),
        "annotator": file["rater"].ravel().astype(np.int32),
        "label": file["answer"].ravel().astype(np.int32),
    }


def test_two_states_are_the_published_scores(
    real_votes: dict[str, Any], shared_data: pathlib.Path
) -> None:
    """The authors' own Dawid-Skene: a label is right or not, whatever the three answers."""
    published = np.load(shared_data / "imagenet-real-raters" / "scores.npz")["tensor"]
    yes = real_votes["label"].reshape(-1, 5).mean(1) / 2
    start = np.stack([1 - yes, yes], 1)
    fit = native.quality_dawid_skene(native.QualityVotes(**real_votes), start=start, smoothing=1.0)
    score = fit["posterior"][:, 1]
    assert fit["confusion"].shape == (85, 2, 3)
    assert np.corrcoef(score, published)[0, 1] >= 0.98
    assert ((score > 0.5) == (published > 0.5)).mean() >= 0.98
    likelihood = fit["log_likelihood"]
    assert (np.diff(likelihood) >= -1e-13 * np.abs(likelihood[1:])).all()


def test_threads_change_no_bit(real_votes: dict[str, Any]) -> None:
    one, four = (
        native.quality_dawid_skene(native.QualityVotes(**real_votes), max_iterations=5, threads=n)
        for n in (1, 4)
    )
    for name, value in one.items():
        np.testing.assert_array_equal(value, four[name], err_msg=name)
    predictions = np.full((real_votes["num_items"], 3), 1 / 3)
    one, four = (
        native.quality_crowdlab(
            native.QualityVotes(**real_votes), predictions=predictions, threads=n
        )
        for n in (1, 4)
    )
    for name, value in one.items():
        np.testing.assert_array_equal(value, four[name], err_msg=name)


def test_consensus_masks_are_crowd_kits(shared_data: pathlib.Path) -> None:
    path = shared_data / "lidc-readers"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    expected = json.loads((path / "expected.json").read_text())["pixel"]
    slices = expected["slices"]
    masks = np.unpackbits(np.load(path / "masks.npz")["masks"][:slices], axis=-1)
    for k, readers in enumerate(masks):
        fit = native.quality_segmentation_em(np.ascontiguousarray(readers.T))
        assert fit["mask"].sum() == expected["em_consensus_pixels"][k], k
        assert set(np.unique(fit["mask"])) <= {0, 1}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Hard votes, at most one of a person on an item."""
    items, people, classes = draw(
        st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(2, 4))
    )
    cells = draw(
        st.lists(
            st.integers(0, items * people - 1), unique=True, min_size=1, max_size=items * people
        )
    )
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(cells), max_size=len(cells)))
    return {
        "num_items": items,
        "num_annotators": people,
        "num_classes": classes,
        "item": np.array(cells, np.int64) // people,
        "annotator": (np.array(cells) % people).astype(np.int32),
        "label": np.array(labels, np.int32),
    }


@settings(deadline=None, max_examples=150)
@given(tables(), st.sampled_from([0.0, 0.5]))
def test_certain_soft_votes_are_hard_votes(votes: dict[str, Any], smoothing: float) -> None:
    certain = votes | {"label": None, "probabilities": np.eye(votes["num_classes"])[votes["label"]]}
    for function, options in (
        (native.quality_dawid_skene, {"smoothing": smoothing, "max_iterations": 20}),
        (native.quality_crowdlab, {}),
    ):
        hard, soft = (function(native.QualityVotes(**v), **options) for v in (votes, certain))
        for name, value in hard.items():
            np.testing.assert_array_equal(value, soft[name], err_msg=name)


@settings(deadline=None, max_examples=150)
@given(tables(), st.sampled_from([0.0, 0.5]), st.randoms())
def test_em_climbs_and_heeds_no_order(votes: dict[str, Any], smoothing: float, random: Any) -> None:
    options = {"smoothing": smoothing, "tolerance": 0.0, "max_iterations": 30}
    fit = native.quality_dawid_skene(native.QualityVotes(**votes), **options)
    likelihood = fit["log_likelihood"]
    assert (np.diff(likelihood) >= -1e-12 * (1 + np.abs(likelihood[1:]))).all()
    np.testing.assert_allclose(fit["posterior"].sum(1), 1, rtol=1e-14)
    order = list(range(len(votes["item"])))
    random.shuffle(order)
    shuffled = votes | {name: votes[name][order] for name in ("item", "annotator", "label")}
    for name, value in native.quality_dawid_skene(
        native.QualityVotes(**shuffled), **options
    ).items():
        np.testing.assert_array_equal(value, fit[name], err_msg=name)


def test_errors_name_the_field() -> None:
    votes = {"num_items": 1, "num_annotators": 1, "num_classes": 2}
    item, annotator = np.zeros(1, np.int64), np.zeros(1, np.int32)
    with pytest.raises(Exception, match=r"label\[0\]: must be from 0 to 1; was 2"):
        native.QualityVotes(**votes, item=item, annotator=annotator, label=np.full(1, 2, np.int32))
    with pytest.raises(Exception, match="predictions: must have 1 items"):
        native.quality_crowdlab(
            native.QualityVotes(**votes, item=item, annotator=annotator, label=annotator),
            predictions=np.ones((2, 2)) / 2,
        )
    with pytest.raises(Exception, match=r"value\[0, 1\]: must be at most 1"):
        native.quality_segmentation_em(np.array([[0, 3]], np.uint8))
