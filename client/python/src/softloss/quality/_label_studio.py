"""Label Studio's JSON exports: choices and ratings of several annotators a task."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ._parts import Collector, Part
from ._values import Faults, times
from ._votes import BadRow, InputError, Source

# Result types whose value names classes, and the key that holds them.
_CHOICES = {"choices": "choices", "rating": "rating", "labels": "labels"}


def load_export(path: pathlib.Path) -> list[dict[str, Any]]:
    """Load the tasks of an export.

    Raises:
        InputError: the file is no JSON array of tasks with annotations.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", field="source")
    try:
        tasks = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path.name}: is no JSON: {error}", field="source") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(
            f"{path.name}: a Label Studio export is a JSON array of tasks", field="source"
        )
    if tasks and not any("annotations" in task for task in tasks):
        raise InputError(
            f"{path.name}: no task has annotations; export as JSON, not as JSON-MIN",
            field="source",
        )
    return tasks


def annotator_name(annotation: Mapping[str, Any]) -> str:
    """Return who made an annotation: the e-mail address, or the number of the account."""
    who = annotation.get("completed_by", annotation.get("created_username"))
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("username") or who.get("id")
    return "" if who is None else str(who)


def results(annotation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The results of an annotation or prediction."""
    for result in annotation.get("result") or []:
        if isinstance(result, dict):
            yield result


def _chosen(annotation: Mapping[str, Any], control: str) -> list[str]:
    """Return what an annotation chose in a control."""
    chosen: list[str] = []
    for result in results(annotation):
        key = _CHOICES.get(str(result.get("type")))
        if key is None or result.get("from_name") != control:
            continue
        value = (result.get("value") or {}).get(key)
        chosen += [str(v) for v in value] if isinstance(value, list) else [str(value)]
    return list(dict.fromkeys(chosen))


def _control(path: pathlib.Path, tasks: list[dict[str, Any]], given: Any) -> str:
    counts = collections.Counter(
        str(result.get("from_name"))
        for task in tasks
        for annotation in task.get("annotations") or []
        for result in results(annotation)
        if result.get("type") in _CHOICES
    )
    if given is not None:
        if given not in counts:
            raise InputError(
                f"{path.name}: has no control {given!r} of choices; it has {sorted(counts)}",
                field="columns.label",
            )
        return str(given)
    if not counts:
        raise InputError(f"{path.name}: has no choices and no ratings", field="source")
    return min(counts, key=lambda name: (-counts[name], name))


@dataclasses.dataclass
class _Vote:
    """What an annotation says: the task's number in the file, its id, who, which choices, when."""

    line: int
    item: str
    annotator: str
    chosen: list[str]
    created_at: Any


def read_label_studio(path: pathlib.Path, columns: Mapping[str, Any], collector: Collector) -> Part:
    """Read an export's votes; `columns["label"]` names the control, by default the most used.

    Several choices of one annotation are equal shares of its vote. Annotations marked as ground
    truth are gold answers too; predictions, with their score as the chosen class's probability and
    the rest shared by the others, are the model's.
    """
    tasks = load_export(path)
    control = _control(path, tasks, columns.get("label"))
    votes: list[_Vote] = []
    notes = [f"{len(tasks):,} tasks"]
    gold: dict[str, str] = {}
    guesses: dict[str, tuple[str, float]] = {}
    cancelled = 0
    for line, task in enumerate(tasks, 1):
        item = str(task.get("id", line))
        for annotation in task.get("annotations") or []:
            if annotation.get("was_cancelled"):
                cancelled += 1
                continue
            chosen = _chosen(annotation, control)
            who = annotator_name(annotation)
            if not chosen or not who:
                what = f"chose nothing in {control!r}" if not chosen else "has no completed_by"
                reason = f"task {item}: annotation {annotation.get('id', '')} {what}"
                collector.bad_rows.append(BadRow(path.name, line, reason))
                continue
            votes.append(_Vote(line, item, who, chosen, annotation.get("created_at")))
            if annotation.get("ground_truth") and len(chosen) == 1:
                gold[item] = chosen[0]
        for prediction in task.get("predictions") or []:
            chosen = _chosen(prediction, control)
            score = prediction.get("score")
            if len(chosen) == 1 and isinstance(score, (int, float)) and 0 < score <= 1:
                guesses[item] = (chosen[0], float(score))
    if cancelled:
        notes.append(f"{cancelled:,} cancelled annotations were left out")
    if guesses:
        notes.append(f"{len(guesses):,} predictions of the export are the model's")
    if gold:
        notes.append(f"{len(gold):,} ground truths are gold answers")
    classes = sorted(
        {name for vote in votes for name in vote.chosen}
        | {name for name, _ in guesses.values()}
        | set(gold.values())
    )
    place = {name: k for k, name in enumerate(classes)}
    shared = sum(len(vote.chosen) > 1 for vote in votes)
    probabilities = label = None
    if shared:
        notes.append(f"{shared:,} votes chose several classes: equal shares")
        probabilities = np.zeros((len(votes), len(classes)))
        for row, vote in zip(probabilities, votes, strict=True):
            row[[place[name] for name in vote.chosen]] = 1 / len(vote.chosen)
    else:
        label = collector.labels.add([vote.chosen[0] for vote in votes])
    predictions = {}
    for item, (name, score) in guesses.items():
        row = np.full(len(classes), (1 - score) / max(len(classes) - 1, 1))
        row[place[name]] = score
        predictions[item] = row / row.sum()
    time = times("created_at", [vote.created_at for vote in votes], Faults(len(votes)))
    used = {"item": "id", "annotator": "completed_by", "label": control, "time": "created_at"}
    guessed = () if "label" in columns else ("label",)
    return Part(
        Source(path.name, len(votes), used, guessed, tuple(notes)),
        line=np.array([vote.line for vote in votes], np.int64),
        item=collector.items.add([vote.item for vote in votes]),
        annotator=collector.annotators.add([vote.annotator for vote in votes]),
        label=label,
        probabilities=probabilities,
        classes=classes if shared or guesses else [],
        weight=None,
        time=time if np.isfinite(time).all() else None,
        gold=gold,
        predictions=predictions,
    )
