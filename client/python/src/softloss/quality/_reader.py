"""Reading votes: from any number of tables, files and Label Studio exports to one VoteTable."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._columns import Roles, class_of
from ._label_studio import read_label_studio
from ._parts import Collector, Part
from ._tables import Chunk, Table, open_table
from ._values import (
    Faults,
    check_probabilities,
    check_time,
    check_weight,
    lists,
    numbers,
    times,
)
from ._votes import (
    Floats,
    InputError,
    Ints,
    Names,
    Source,
    VoteTable,
    bad_rows_error,
    sorted_classes,
)

Columns = Mapping[str, "str | Sequence[str]"]


def read_votes(
    source: Any,
    *,
    columns: Columns | None = None,
    classes: Sequence[str] | None = None,
    skip_bad_rows: bool = False,
) -> VoteTable:
    """Read votes.

    Args:
        source: one or a list of: a path to CSV (.csv, .tsv, .txt, each also .gz), Parquet, npz or a
            Label Studio export (.json); a pandas, Polars or Arrow table; a structured array; a
            dictionary of columns. A row is a vote: an item, an annotator, a label or K columns of
            probabilities, and perhaps a weight and a time.
        columns: the column of each role (``item``, ``annotator``, ``label``, ``probabilities``,
            ``weight``, ``time``); those not given are guessed from the names, and `Source` says so.
        classes: the classes' names in order; by default those that occur, sorted.
        skip_bad_rows: leave malformed rows out (they are in `VoteTable.bad_rows`) instead of
            raising.

    Raises:
        InputError: a source cannot be read, lacks a column, or has malformed rows.

    >>> table = read_votes({"task": [1, 1, 2], "worker": ["a", "b", "a"], "label": ["x", "y", "x"]})
    >>> table.items, table.annotators, table.classes, table.label.tolist()
    (['1', '2'], ['a', 'b'], ['x', 'y'], [0, 1, 0])
    """
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise InputError("source: must be at least one; was none", field="source")
    collector = Collector()
    parts = [_read_part(one, columns or {}, classes, collector) for one in sources]
    return _combine(parts, collector, classes, skip_bad_rows)


def _read_part(
    source: Any, columns: Columns, classes: Sequence[str] | None, collector: Collector
) -> Part:
    if isinstance(source, (str, os.PathLike)) and pathlib.Path(source).suffix.lower() == ".json":
        return read_label_studio(pathlib.Path(source), columns, collector)
    return _read_table(open_table(source), columns, classes, collector)


def _read_table(
    table: Table, columns: Columns, classes: Sequence[str] | None, collector: Collector
) -> Part:
    roles = Roles(table.name, table.header, columns, ("item", "annotator", "label"))
    wanted = [*roles.column.values(), *roles.probability]
    named = [class_of(name) for name in roles.probability]
    if named and classes is not None and sorted(named) != sorted(classes):
        named = list(classes) if len(classes) == len(named) else named
    if len(set(named)) < len(named):
        raise InputError(f"{table.name}: two probability columns name the same class: {named}")
    gathered: dict[str, list[Any]] = {role: [] for role in ("line", "item", "annotator", "label")}
    gathered |= {"probabilities": [], "weight": [], "time": []}
    rows = 0
    width = len(classes) if classes is not None else None
    for chunk in table.chunks(wanted):
        faults = Faults(len(chunk.line))
        values = _parse(chunk, roles, width, faults, collector)
        if (soft := values.get("probabilities")) is not None:
            width = soft.shape[1]
        rows += len(chunk.line) + len(chunk.bad_rows)
        collector.bad_rows += chunk.bad_rows
        collector.reject(table.name, chunk.line, faults)
        gathered["line"].append(chunk.line[faults.good])
        for role, column in values.items():
            gathered[role].append(column[faults.good])

    def joined(role: str) -> Any:
        return np.concatenate(gathered[role]) if gathered[role] else None

    probabilities = joined("probabilities")
    if probabilities is not None and not named:
        given = list(classes) if classes is not None else []
        k = probabilities.shape[1]
        named = given if len(given) == k else [str(i) for i in range(k)]
    empty = np.zeros(0, np.int64)
    return Part(
        Source(table.name, rows, roles.described, roles.guessed),
        line=joined("line") if gathered["line"] else empty,
        item=joined("item") if gathered["item"] else empty,
        annotator=joined("annotator") if gathered["annotator"] else empty,
        label=joined("label"),
        probabilities=probabilities,
        classes=named,
        weight=joined("weight"),
        time=joined("time"),
    )


def _parse(
    chunk: Chunk, roles: Roles, width: int | None, faults: Faults, collector: Collector
) -> dict[str, Any]:
    values: dict[str, Any] = {}

    def names(role: str, into: Names) -> None:
        column = roles.column[role]
        values[role] = into.add(chunk.column[column])
        faults.add(values[role] < 0, lambda i: f"{column}: there is no {role}")

    names("item", collector.items)
    names("annotator", collector.annotators)
    if roles.probability:
        rows = np.empty((len(chunk.line), len(roles.probability)))
        for k, column in enumerate(roles.probability):
            rows[:, k] = numbers(column, chunk.column[column], faults)
        values["probabilities"] = check_probabilities("probabilities", rows, faults)
    elif soft := roles.column.get("probabilities"):
        rows = lists(soft, chunk.column[soft], width, faults)
        values["probabilities"] = check_probabilities(soft, rows, faults)
    else:
        names("label", collector.labels)
    if weight := roles.column.get("weight"):
        values["weight"] = numbers(weight, chunk.column[weight], faults)
        check_weight(weight, values["weight"], faults)
    if time := roles.column.get("time"):
        values["time"] = times(time, chunk.column[time], faults)
        check_time(time, values["time"], faults)
    return values


def _combine(
    parts: Sequence[Part],
    collector: Collector,
    given: Sequence[str] | None,
    skip_bad_rows: bool,
) -> VoteTable:
    label_names = collector.labels.names
    classes = _classes(parts, label_names, given)
    number = {name: k for k, name in enumerate(classes)}
    to_class = np.array([number.get(name, -1) for name in label_names] + [-1], np.int64)
    for part in parts:
        if part.label is not None:
            faults = Faults(len(part.line))
            for i in np.flatnonzero(to_class[part.label] < 0).tolist():
                was = label_names[part.label[i]]
                faults.set(i, f"label: must be one of {_shown(classes)}; was {was!r}")
            _keep(part, faults, collector)
            part.label = to_class[part.label]
        elif part.probabilities is not None:
            wide = np.zeros((len(part.line), len(classes)))
            wide[:, [number[name] for name in part.classes]] = part.probabilities
            part.probabilities = wide
    items, item_rank = _ranked(collector.items.names)
    annotators, annotator_rank = _ranked(collector.annotators.names)
    for part in parts:
        part.item = item_rank[part.item]
        part.annotator = annotator_rank[part.annotator]
    _reject_repeats(parts, items, annotators, collector)
    collector.bad_rows.sort(key=lambda row: (_place(parts, row.source), row.line))
    if collector.bad_rows and not skip_bad_rows:
        raise bad_rows_error(collector.bad_rows)
    if not sum(len(part.item) for part in parts):
        raise InputError(
            "votes: there are none" + (" left" if collector.bad_rows else ""),
            field="votes",
            bad_rows=collector.bad_rows,
        )
    if len(classes) < 2:
        raise InputError(
            f"classes: must be at least two; every vote is {classes[0]!r} "
            "(name the classes there might have been)",
            field="classes",
        )
    return _table(parts, collector, items, annotators, classes)


def _table(
    parts: Sequence[Part],
    collector: Collector,
    items: list[str],
    annotators: list[str],
    classes: list[str],
) -> VoteTable:
    item = np.concatenate([part.item for part in parts])
    annotator = np.concatenate([part.annotator for part in parts])
    # Names of rows that were left out are not names of votes.
    items, item = _used(items, item)
    annotators, annotator = _used(annotators, annotator)
    soft = any(part.probabilities is not None for part in parts)
    one_hot = np.eye(len(classes))
    weights = [part.weight for part in parts]
    times_known = all(part.time is not None for part in parts)
    gold: dict[str, str] = {}
    predictions: dict[str, Floats] = {}
    for part in parts:
        gold |= part.gold
        predictions |= part.predictions
    return VoteTable(
        items=items,
        annotators=annotators,
        classes=classes,
        item=item,
        annotator=annotator.astype(np.int32),
        label=None if soft else np.concatenate([p.label for p in parts]).astype(np.int32),
        probabilities=np.concatenate(
            [one_hot[p.label] if p.probabilities is None else p.probabilities for p in parts]
        )
        if soft
        else None,
        weight=np.concatenate(
            [np.ones(len(p.item)) if p.weight is None else p.weight for p in parts]
        )
        if any(weight is not None for weight in weights)
        else None,
        time=np.concatenate([p.time for p in parts]) if times_known else None,
        sources=tuple(part.source for part in parts),
        bad_rows=tuple(collector.bad_rows),
        gold=gold,
        predictions={name: _wide(row, parts, classes) for name, row in predictions.items()},
    )


def _wide(row: Floats, parts: Sequence[Part], classes: list[str]) -> Floats:
    names = next(part.classes for part in parts if part.predictions)
    wide = np.zeros(len(classes))
    for name, p in zip(names, row, strict=True):
        wide[classes.index(name)] = p
    return wide


def _classes(
    parts: Sequence[Part], label_names: Sequence[str], given: Sequence[str] | None
) -> list[str]:
    if given is not None:
        classes = [str(name) for name in given]
        if len(set(classes)) < len(classes):
            raise InputError(f"classes: must differ; were {_shown(classes)}", field="classes")
    else:
        named = [part.classes for part in parts if part.classes]
        present = {*label_names}.union(*named)
        in_order = bool(named) and all(len(one) == len(present) for one in named)
        classes = named[0] if in_order else sorted_classes(list(present))
    for part in parts:
        if part.classes and not set(part.classes) <= set(classes):
            raise InputError(
                f"{part.source.name}: probability columns must be of the classes "
                f"{_shown(classes)}; were of {_shown(part.classes)}",
                field="classes",
            )
    return classes


def _ranked(names: list[str]) -> tuple[list[str], Ints]:
    """Sort names; returns them and each old number's new one."""
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return [names[i] for i in order], rank


def _used(names: list[str], codes: Ints) -> tuple[list[str], Ints]:
    used = np.zeros(len(names), bool)
    used[codes] = True
    if used.all():
        return names, codes
    new = np.cumsum(used) - 1
    return [name for name, keep in zip(names, used, strict=True) if keep], new[codes]


def _keep(part: Part, faults: Faults, collector: Collector) -> None:
    collector.reject(part.source.name, part.line, faults)
    _filter(part, faults.good)


def _filter(part: Part, good: npt.NDArray[np.bool_]) -> None:
    if good.all():
        return
    for field in ("line", "item", "annotator", "label", "probabilities", "weight", "time"):
        column = getattr(part, field)
        if column is not None:
            setattr(part, field, column[good])


def _reject_repeats(
    parts: Sequence[Part], items: list[str], annotators: list[str], collector: Collector
) -> None:
    """An annotator has one vote on an item: the first counts, the others are malformed rows."""
    if not parts:
        return
    item = np.concatenate([part.item for part in parts])
    annotator = np.concatenate([part.annotator for part in parts])
    key = item * max(len(annotators), 1) + annotator
    order = np.argsort(key, kind="stable")
    repeat = np.zeros(len(key), bool)
    repeat[order[1:]] = key[order[1:]] == key[order[:-1]]
    start = 0
    for part in parts:
        n = len(part.item)
        faults = Faults(n)
        for i in np.flatnonzero(repeat[start : start + n]).tolist():
            who, what = annotators[part.annotator[i]], items[part.item[i]]
            faults.set(i, f"a second vote of {who!r} on {what!r}")
        start += n
        _keep(part, faults, collector)


def _place(parts: Sequence[Part], name: str) -> int:
    return next((i for i, part in enumerate(parts) if part.source.name == name), len(parts))


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"{shown}, … ({len(names):,})" if len(names) > 8 else shown
