"""Votes from Label Studio's JSON exports."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from softloss.quality import InputError, read_votes


def label_studio_task(
    number: int, votes: dict[Any, Any], control: str = "kind", **extra: Any
) -> dict[str, Any]:
    annotations = [
        {
            "id": 100 * number + i,
            "completed_by": who,
            "created_at": f"2024-05-0{i + 1}T10:00:00.000000Z",
            "result": [
                {"type": "choices", "from_name": control, "to_name": "text",
                 "value": {"choices": chosen if isinstance(chosen, list) else [chosen]}}
            ],
        }
        for i, (who, chosen) in enumerate(votes.items())
    ]  # fmt: skip
    return {"id": number, "data": {}, "annotations": annotations, **extra}


def write_export(path: pathlib.Path, tasks: list[dict[str, Any]]) -> pathlib.Path:
    path.write_text(json.dumps(tasks))
    return path


def test_label_studio_choices(tmp_path: pathlib.Path) -> None:
    tasks = [label_studio_task(1, {7: "dog", 8: "cat"}), label_studio_task(2, {7: "dog"})]
    tasks[1]["annotations"][0]["ground_truth"] = True
    tasks[1]["annotations"].append({"completed_by": 9, "was_cancelled": True, "result": []})
    tasks[0]["annotations"][1]["completed_by"] = {"id": 8, "email": "b@example.org"}
    tasks[0]["predictions"] = [
        {"score": 0.7, "result": tasks[0]["annotations"][0]["result"]},
    ]
    table = read_votes(write_export(tmp_path / "export.json", tasks))
    assert table.items == ["1", "2"] and table.annotators == ["7", "b@example.org"]
    assert table.classes == ["cat", "dog"] and table.label.tolist() == [1, 0, 1]
    assert table.gold == {"2": "dog"}
    np.testing.assert_allclose(table.predictions["1"], [0.3, 0.7])
    assert table.time[1] - table.time[0] == 86400
    notes = " ".join(table.sources[0].notes)
    assert "1 cancelled annotations were left out" in notes and "1 ground truths" in notes


def test_label_studio_ratings_and_several_choices(tmp_path: pathlib.Path) -> None:
    tasks = [label_studio_task(1, {7: ["dog", "cat"], 8: "cow"})]
    table = read_votes(write_export(tmp_path / "e.json", tasks))
    assert table.classes == ["cat", "cow", "dog"]
    np.testing.assert_array_equal(table.probabilities, [[0.5, 0, 0.5], [0, 1, 0]])
    assert "1 votes chose several classes: equal shares" in table.sources[0].notes
    for annotation, stars in zip(tasks[0]["annotations"], (3, 5), strict=True):
        annotation["result"] = [
            {"type": "rating", "from_name": "stars", "value": {"rating": stars}}
        ]
    rated = read_votes(write_export(tmp_path / "e.json", tasks))
    assert rated.classes == ["3", "5"]


def test_label_studio_with_two_controls(tmp_path: pathlib.Path) -> None:
    tasks = [label_studio_task(1, {7: "dog", 8: "cat"})]
    for annotation in tasks[0]["annotations"]:
        other = {"type": "choices", "from_name": "mood", "value": {"choices": ["sad"]}}
        annotation["result"].append(other)
    path = write_export(tmp_path / "e.json", tasks)
    assert read_votes(path).sources[0].columns["label"] == "kind"
    moods = read_votes(path, columns={"label": "mood"}, classes=["glad", "sad"])
    assert moods.label.tolist() == [1, 1]
    with pytest.raises(
        InputError, match=r"has no control 'x' of choices; it has \['kind', 'mood'\]"
    ):
        read_votes(path, columns={"label": "x"})


def test_label_studio_annotations_without_a_vote_are_told(tmp_path: pathlib.Path) -> None:
    tasks = [label_studio_task(1, {7: "dog", 8: "cat"}), label_studio_task(2, {7: "dog"})]
    tasks[1]["annotations"][0]["result"] = []
    path = write_export(tmp_path / "e.json", tasks)
    with pytest.raises(
        InputError, match="e.json:2: task 2: annotation 200 chose nothing in 'kind'"
    ):
        read_votes(path)
    assert len(read_votes(path, skip_bad_rows=True)) == 2
