"""Votes: who said what of which item, as columns of numbers beside the names they stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._errors import InvalidArgumentError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: How many malformed rows an error shows; it counts them all.
SHOWN_BAD_ROWS = 10


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        source: the file, or the kind of table.
        line: the line of a text file, from 1; of other sources the row, from 1.
        reason: what is wrong with it.
    """

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where votes came from, and how they were read.

    Attributes:
        name: the file, or the kind of table.
        rows: how many rows it has, malformed ones included.
        columns: the column read for each role.
        guessed: the roles whose column was guessed from its name.
        notes: what else a reader of the figures should know.
    """

    name: str
    rows: int
    columns: dict[str, str]
    guessed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        roles = ", ".join(
            f"{role} = {column!r}" + (" (guessed)" if role in self.guessed else "")
            for role, column in self.columns.items()
        )
        return "; ".join([f"{self.name}: {self.rows:,} rows, {roles}", *self.notes])


class InputError(InvalidArgumentError):
    """Input that cannot be analysed; `bad_rows` has the malformed rows, if they are the reason."""

    def __init__(
        self, message: str, *, field: str | None = None, bad_rows: Sequence[BadRow] = ()
    ) -> None:
        super().__init__(message, field=field)
        self.bad_rows = tuple(bad_rows)


def bad_rows_error(bad_rows: Sequence[BadRow]) -> InputError:
    """Make the error that shows the first of some malformed rows and counts them all."""
    shown = "\n".join(f"  {row}" for row in bad_rows[:SHOWN_BAD_ROWS])
    more = len(bad_rows) - SHOWN_BAD_ROWS
    rest = f"\n  and {more:,} more" if more > 0 else ""
    plural = "row is" if len(bad_rows) == 1 else "rows are"
    return InputError(
        f"{len(bad_rows):,} {plural} malformed (they can be left out with skip_bad_rows):\n"
        f"{shown}{rest}",
        field="rows",
        bad_rows=bad_rows,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class VoteTable:
    """Votes as columns of equal length n; rows are in the order in which they were read.

    Attributes:
        items: their names, sorted.
        annotators: their names, sorted.
        classes: their names, in the order of the columns of `probabilities`.
        item: int64 [n], indices into `items`.
        annotator: int32 [n], indices into `annotators`.
        label: int32 [n], indices into `classes`; None for soft votes.
        probabilities: float64 [n, K], rows sum to 1; None for hard votes.
        weight: float64 [n], positive; None is 1 everywhere.
        time: float64 [n], seconds; None if unknown.
        sources: where the votes came from.
        bad_rows: the malformed rows that were left out.
        gold: answers known to be right that came with the votes: item name to class name.
        predictions: a model's distributions that came with the votes: item name to K numbers.
    """

    items: list[str]
    annotators: list[str]
    classes: list[str]
    item: Ints
    annotator: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32] | None
    probabilities: Floats | None
    weight: Floats | None = None
    time: Floats | None = None
    sources: tuple[Source, ...] = ()
    bad_rows: tuple[BadRow, ...] = ()
    gold: dict[str, str] = dataclasses.field(default_factory=dict)
    predictions: dict[str, Floats] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def with_classes(self, classes: Sequence[str]) -> VoteTable:
        """Return the same votes over `classes`, which must include the present ones."""
        if list(classes) == self.classes:
            return self
        missing = sorted(set(self.classes) - set(classes))
        if missing:
            raise InputError(
                f"classes: must include every class voted for; {missing[:5]} are absent",
                field="classes",
            )
        position = {name: k for k, name in enumerate(classes)}
        to_new = np.array([position[name] for name in self.classes], np.int32)

        def widen(rows: Floats) -> Floats:
            wide = np.zeros((len(rows), len(classes)))
            wide[:, to_new] = rows
            return wide

        return dataclasses.replace(
            self,
            classes=list(classes),
            label=None if self.label is None else to_new[self.label],
            probabilities=None if self.probabilities is None else widen(self.probabilities),
            predictions={name: widen(row[None])[0] for name, row in self.predictions.items()},
        )


class Names:
    """Numbers names in the order of their appearance."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    def add(self, column: Any) -> Ints:
        """Return the numbers of a column's names, -1 where there is none."""
        values = column if isinstance(column, np.ndarray) else None
        if values is not None and values.dtype.kind == "f":
            whole = np.isfinite(values) & (np.floor(values) == values)
            if not (whole | np.isnan(values)).all():
                return self._add_objects(values.tolist())
            numbers = np.full(len(values), -1, np.int64)
            numbers[whole] = self.add(values[whole].astype(np.int64))
            return numbers
        if values is not None and values.dtype.kind in "iub":
            distinct, inverse = np.unique(values, return_inverse=True)
            return self._add_objects(distinct.tolist())[inverse.reshape(-1)]
        return self._add_objects(column)

    def _add_objects(self, values: Any) -> Ints:
        number = self._number
        try:
            codes = list(map(number.get, values))  # most names have been seen
        except TypeError:  # no name is unhashable
            codes = [None] * len(values)
        if None in codes:
            for i, value in enumerate(values):
                if codes[i] is None:
                    name = value.strip() if type(value) is str else _name(value)
                    codes[i] = number.setdefault(name, len(number)) if name else -1
        return np.array(codes, np.int64)

    @property
    def names(self) -> list[str]:
        """The names, by number."""
        return list(self._number)


def _name(value: Any) -> str:
    """Return what a value is called: integers without a point, nothing for what is missing."""
    if value is None or value != value:  # None, NaN, NaT
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    text = str(value).strip()
    return "" if text == "<NA>" else text


def sorted_classes(names: Sequence[str]) -> list[str]:
    """Sort class names: as numbers where all of them are, else as text."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)
