"""A model's predictions and gold answers, lined up with the votes' items and classes."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._columns import SYNONYMS, Roles, class_of, normalized
from ._tables import open_table
from ._values import Faults, check_probabilities, lists, numbers
from ._votes import BadRow, Floats, InputError, Names, VoteTable, bad_rows_error

_PREDICTION_KEYS = ("predictions", "probabilities", "pred_probs", "probs")
_ITEM_KEYS = ("items", "item", "names", "ids")


@dataclasses.dataclass(frozen=True, eq=False)
class _Predictions:
    """Rows of probabilities; without names, row i is the item called i."""

    source: str
    rows: Floats
    names: list[str] | None
    classes: list[str] | None
    columns: dict[str, str]


def align_predictions(
    votes: VoteTable, source: Any, columns: Mapping[str, Any] | None = None
) -> tuple[VoteTable, Floats, list[str]]:
    """Read predictions and put them in the order of the votes' items and classes.

    Args:
        votes: the votes; their classes may become more, if the model knows more.
        source: [items, K] probabilities (an array, .npy), whose row i is the item called i; an .npz
            of ``predictions`` with ``items`` and perhaps ``classes``; a table with a column of
            items and one a class (p_CLASS), or a column of lists; or a dictionary of item to row.
        columns: the table's columns by role (``item``, ``probabilities``).

    Returns:
        The votes, [items, K] with NaN in rows of items without a prediction, and notes.
    """
    found = _read(source, columns or {})
    votes, order = _align_classes(votes, found)
    rows = found.rows[:, order]
    faults = Faults(len(rows))
    rows = check_probabilities("predictions", rows, faults)
    if not faults.good.all():
        raise bad_rows_error([BadRow(found.source, i + 1, why) for i, why in faults.items()])
    aligned = np.full((len(votes.items), len(votes.classes)), np.nan)
    place = _places(votes, found)
    known = place >= 0
    aligned[place[known]] = rows[known]
    notes = [f"{found.source}: predictions of {int(known.sum()):,} of {len(votes.items):,} items"]
    if found.columns:
        notes[0] += ", " + ", ".join(f"{role} = {name!r}" for role, name in found.columns.items())
    if found.classes is None:
        shown = ", ".join(votes.classes[:6]) + (", …" if len(votes.classes) > 6 else "")
        notes.append(f"{found.source}: columns have no names; taken as {shown}")
    if not known.any():
        raise InputError(
            f"{found.source}: has no prediction for any item of the votes", field="predictions"
        )
    if spare := int((~known).sum()):
        notes.append(f"{found.source}: {spare:,} predictions are of items without votes")
    return votes, aligned, notes


def _read(source: Any, columns: Mapping[str, Any]) -> _Predictions:
    name = type(source).__name__
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        name = path.name
        if path.suffix.lower() in (".npy", ".npz"):
            return _read_arrays(path)
    elif isinstance(source, np.ndarray) and source.dtype.names is None:
        return _Predictions("predictions", _matrix("predictions", source), None, None, {})
    elif isinstance(source, Mapping) and not _has_columns(source):
        rows = np.array(list(source.values()), np.float64)
        matrix = _matrix("predictions", rows)
        return _Predictions("predictions", matrix, [str(key) for key in source], None, {})
    table = open_table(source)
    roles = Roles(table.name, table.header, columns, ("item", "label"))
    if "label" in roles.column:
        raise InputError(
            f"{name}: predictions are probabilities; name them p_CLASS, or with "
            "columns probabilities=A,B,…",
            field="predictions",
        )
    items = Names()
    codes: list[Any] = []
    gathered: list[Floats] = []
    width: int | None = None
    faulty: list[BadRow] = []
    for chunk in table.chunks([*roles.column.values(), *roles.probability]):
        faults = Faults(len(chunk.line))
        code = items.add(chunk.column[roles.column["item"]])
        faults.add(code < 0, lambda i: "there is no item")
        if roles.probability:
            matrix = np.empty((len(chunk.line), len(roles.probability)))
            for k, column in enumerate(roles.probability):
                matrix[:, k] = numbers(column, chunk.column[column], faults)
        else:
            column = roles.column["probabilities"]
            matrix = lists(column, chunk.column[column], width, faults)
            width = matrix.shape[1]
        faulty += chunk.bad_rows
        faulty += [BadRow(table.name, int(chunk.line[i]), why) for i, why in faults.items()]
        codes.append(code)
        gathered.append(matrix)
    if faulty:
        raise bad_rows_error(faulty)
    all_codes = np.concatenate(codes) if codes else np.zeros(0, np.int64)
    if len(all_codes) > len(items.names):
        raise InputError(f"{name}: an item has two predictions", field="predictions")
    classes = [class_of(column) for column in roles.probability] or None
    if classes is not None and len(set(classes)) < len(classes):
        raise InputError(f"{name}: two columns name the same class", field="predictions")
    joined = np.concatenate(gathered) if gathered else np.zeros((0, len(roles.probability)))
    return _Predictions(table.name, joined, items.names, classes, roles.described)


def _has_columns(source: Mapping[Any, Any]) -> bool:
    """Whether a dictionary is a table (one of its columns is called like items are)."""
    columns = (
        str(key)
        for key, value in source.items()
        if hasattr(value, "__len__") and not isinstance(value, str)
    )
    return any(normalized(name) in SYNONYMS["item"] for name in columns)


def _read_arrays(path: pathlib.Path) -> _Predictions:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", field="predictions")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"predictions": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise InputError(f"{path.name}: is no npy or npz file: {error}") from None
    key = next((key for key in _PREDICTION_KEYS if key in arrays), None)
    if key is None:
        raise InputError(f"{path.name}: has no array 'predictions'; it has {sorted(arrays)}")
    rows = _matrix(path.name, arrays[key])
    key = next((key for key in _ITEM_KEYS if key in arrays), None)
    names = None if key is None else [str(name) for name in arrays[key].tolist()]
    if names is not None and (len(names) != len(rows) or len(set(names)) != len(names)):
        raise InputError(f"{path.name}: {key} must be {len(rows):,} different names")
    classes = [str(name) for name in arrays["classes"].tolist()] if "classes" in arrays else None
    return _Predictions(path.name, rows, names, classes, {})


def _matrix(name: str, rows: npt.NDArray[Any]) -> Floats:
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise InputError(
            f"{name}: predictions must be numbers [items, classes]; are {rows.dtype} of shape "
            f"{rows.shape}",
            field="predictions",
        )
    return rows.astype(np.float64)


def _align_classes(votes: VoteTable, found: _Predictions) -> tuple[VoteTable, list[int]]:
    """Return the votes with the model's classes too, and the columns in the classes' order."""
    k = found.rows.shape[1]
    classes = found.classes
    if classes is not None and len(classes) != k:
        raise InputError(f"{found.source}: {len(classes)} classes name {k} columns")
    if classes is None:
        if k == len(votes.classes):
            return votes, list(range(k))
        numbered = [str(i) for i in range(k)]
        if not set(votes.classes) <= set(numbered):
            raise InputError(
                f"{found.source}: has {k} columns without names, and the votes have "
                f"{len(votes.classes)} classes; name the classes in order",
                field="classes",
            )
        classes = numbered
    if not set(classes) >= set(votes.classes):
        absent = sorted(set(votes.classes) - set(classes))
        raise InputError(
            f"{found.source}: has no column for the classes {absent[:8]}", field="classes"
        )
    if len(classes) > len(votes.classes):
        votes = votes.with_classes(classes)
    return votes, [classes.index(name) for name in votes.classes]


def _places(votes: VoteTable, found: _Predictions) -> npt.NDArray[np.int64]:
    """Return the item of each row of predictions, -1 for items without votes."""
    place = {name: i for i, name in enumerate(votes.items)}
    names: Sequence[str]
    if found.names is None:
        rows = len(found.rows)
        if not all(name.isdecimal() and int(name) < rows for name in votes.items):
            raise InputError(
                f"{found.source}: has no names of items, so row i is the item called i; but the "
                f"items are called {votes.items[0]!r}, …: give a table or npz with an item column",
                field="predictions",
            )
        names = [str(i) for i in range(rows)]
    else:
        names = found.names
    return np.array([place.get(name, -1) for name in names], np.int64)


def align_gold(
    votes: VoteTable, source: Any, columns: Mapping[str, Any] | None = None
) -> tuple[Floats, list[str]]:
    """Read gold answers: a table of items and labels, or a dictionary of item to label.

    Returns:
        [items, K], one-hot, NaN where the answer is not known, and notes.
    """
    answers: dict[str, str] = {}
    name = "gold"
    faulty: list[BadRow] = []
    if isinstance(source, Mapping) and not _has_columns(source):
        answers = {str(item): str(label) for item, label in source.items()}
    else:
        table = open_table(source)
        name = table.name
        roles = Roles(name, table.header, columns or {}, ("item", "label"))
        if "label" not in roles.column:
            raise InputError(f"{name}: gold answers are labels, not probabilities", field="gold")
        items, labels = Names(), Names()
        for chunk in table.chunks([roles.column["item"], roles.column["label"]]):
            codes = items.add(chunk.column[roles.column["item"]])
            values = labels.add(chunk.column[roles.column["label"]])
            item_names, label_names = items.names, labels.names
            faulty += chunk.bad_rows
            for line, code, value in zip(
                chunk.line.tolist(), codes.tolist(), values.tolist(), strict=True
            ):
                if code < 0 or value < 0:
                    what = "item" if code < 0 else "label"
                    faulty.append(BadRow(name, line, f"there is no {what}"))
                elif answers.setdefault(item_names[code], label_names[value]) != label_names[value]:
                    reason = f"a second, other answer for {item_names[code]!r}"
                    faulty.append(BadRow(name, line, reason))
    number = {name: k for k, name in enumerate(votes.classes)}
    gold = np.full((len(votes.items), len(votes.classes)), np.nan)
    place = {item: i for i, item in enumerate(votes.items)}
    for item, label in answers.items():
        if label not in number:
            shown = ", ".join(votes.classes[:8])
            raise InputError(
                f"{name}: the answer for {item!r} must be one of {shown}; was {label!r}",
                field="gold",
            )
        if item in place:
            gold[place[item]] = 0
            gold[place[item], number[label]] = 1
    if faulty:
        raise bad_rows_error(faulty)
    used = int(np.isfinite(gold).all(1).sum())
    return gold, [f"{name}: answers for {used:,} of {len(votes.items):,} items"]
