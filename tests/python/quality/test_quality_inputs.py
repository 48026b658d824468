"""Predictions and gold answers, lined up with the votes."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pandas
import pytest
from softloss.quality import InputError, read_votes
from softloss.quality._model_inputs import align_gold, align_predictions

VOTES = {"item": [2, 0, 10, 1], "annotator": ["a"] * 4, "label": [0, 1, 2, 1]}
ROWS = np.arange(33, dtype=float).reshape(11, 3) + 1
ROWS /= ROWS.sum(1, keepdims=True)


def test_rows_of_an_array_are_the_items_of_their_numbers(tmp_path: pathlib.Path) -> None:
    votes = read_votes(VOTES)
    assert votes.items == ["0", "1", "10", "2"]
    np.save(tmp_path / "p.npy", ROWS)
    np.savez(tmp_path / "p.npz", predictions=ROWS)
    for source in (ROWS, tmp_path / "p.npy", tmp_path / "p.npz"):
        same, rows, notes = align_predictions(votes, source)
        assert same.classes == ["0", "1", "2"]
        np.testing.assert_allclose(rows, ROWS[[0, 1, 10, 2]], rtol=1e-15)
        assert any("columns have no names; taken as 0, 1, 2" in note for note in notes)
        assert any("7 predictions are of items without votes" in note for note in notes)


def test_named_rows_and_classes_in_any_order(tmp_path: pathlib.Path) -> None:
    votes = read_votes({"item": ["x", "y", "z"], "annotator": ["a"] * 3, "label": ["u", "v", "u"]})
    table = {"image_id": ["z", "x"], "p_v": [0.25, 1.0], "p_u": [0.75, 0.0]}
    frame = pandas.DataFrame(table)
    frame.to_csv(tmp_path / "p.csv", index=False)
    frame.to_parquet(tmp_path / "p.parquet")
    np.savez(
        tmp_path / "p.npz", items=["z", "x"], classes=["v", "u"], probs=[[0.25, 0.75], [1.0, 0.0]]
    )
    lists = {"item": ["z", "x"], "probabilities": [[0.75, 0.25], [0.0, 1.0]]}
    rows_by_name = {"z": [0.75, 0.25], "x": [0.0, 1.0]}
    for source in (table, frame, tmp_path / "p.csv", tmp_path / "p.parquet", tmp_path / "p.npz",
                   lists, rows_by_name):  # fmt: skip
        _, rows, _ = align_predictions(votes, source)
        np.testing.assert_array_equal(rows, [[0, 1], [np.nan] * 2, [0.75, 0.25]])


def test_a_model_may_know_more_classes() -> None:
    votes = read_votes({"item": [0, 1], "annotator": ["a"] * 2, "label": [0, 2]})
    wider, rows, _ = align_predictions(votes, np.full((2, 4), 0.25))
    assert wider.classes == ["0", "1", "2", "3"]
    assert wider.label.tolist() == [0, 2] and rows.shape == (2, 4)
    soft = read_votes({"item": ["x"], "annotator": ["a"], "p_u": [0.4], "p_w": [0.6]})
    wider, _, _ = align_predictions(soft, {"item": ["x"], "p_u": [1], "p_v": [0], "p_w": [0]})
    assert wider.classes == ["u", "v", "w"]
    np.testing.assert_array_equal(wider.probabilities, [[0.4, 0, 0.6]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.ones(3), "must be numbers"),
        (np.full((4, 3), 1 / 3), "has no names of items, so row i is the item called i"),
        (np.full((11, 2), 0.5), "has 2 columns without names, and the votes have 3 classes"),
        ({"item": ["0"], "p_0": [1.0], "p_1": [0.0]}, r"has no column for the classes \['2'\]"),
        ({"item": ["0", "0"], "p_0": [1, 1], "p_1": [0, 0], "p_2": [0, 0]}, "two predictions"),
        ({"item": ["7"], "p_0": [1], "p_1": [0], "p_2": [0]}, "no prediction for any item"),
        ({"item": ["0"], "p_0": [2], "p_1": [0], "p_2": [0]}, "must sum to 1"),
        ({"item": ["0"], "label": ["1"]}, "predictions are probabilities"),
        ({"item": ["0"], "p_0": ["x"], "p_1": [0], "p_2": [0]}, "p_0: must be a number; was 'x'"),
        ("absent.npy", "there is no such file"),
    ],
)
def test_predictions_that_do_not_fit(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        align_predictions(read_votes(VOTES), source)


def test_files_of_predictions_that_are_none(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, other=[1])
    with pytest.raises(InputError, match="has no array 'predictions'; it has"):
        align_predictions(read_votes(VOTES), path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="is no npy or npz file"):
        align_predictions(read_votes(VOTES), path)
    np.savez(path, predictions=ROWS, items=["a"] * 11)
    with pytest.raises(InputError, match="items must be 11 different names"):
        align_predictions(read_votes(VOTES), path)


def test_gold_answers(tmp_path: pathlib.Path) -> None:
    votes = read_votes(VOTES)
    (tmp_path / "gold.csv").write_text("task,answer\n10,2\n0,0\n99,1\n")
    for source in (
        tmp_path / "gold.csv",
        {"10": "2", "0": "0", "99": "1"},
        {10: 2, 0: 0, 99: 1},
        {"item": [10, 0, 99], "label": [2, 0, 1]},
    ):
        rows, notes = align_gold(votes, source)
        nothing = [np.nan] * 3
        np.testing.assert_array_equal(rows, [[1, 0, 0], nothing, [0, 0, 1], nothing])
        assert "answers for 2 of 4 items" in notes[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"0": "dog"}, "the answer for '0' must be one of 0, 1, 2; was 'dog'"),
        ({"item": [0, 0], "label": [1, 2]}, "a second, other answer for '0'"),
        ({"item": [0, None], "label": [1, 2]}, "there is no item"),
        ({"item": [0], "p_0": [1.0], "p_1": [0.0]}, "no column looks like|are labels"),
    ],
)
def test_gold_answers_that_do_not_fit(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        align_gold(read_votes(VOTES), source)
