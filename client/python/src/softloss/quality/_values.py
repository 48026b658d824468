"""Columns of text or objects as numbers, with what is wrong about each that is none."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._votes import Floats

#: Sums of probabilities may differ from 1 by this much; rows are then divided by their sum.
PROBABILITY_TOLERANCE = 1e-3


class Faults:
    """The first fault of each row of a chunk; rows without one are good."""

    def __init__(self, rows: int) -> None:
        self._reason: dict[int, str] = {}
        self._good = np.ones(rows, bool)

    def add(self, bad: Any, reason: Callable[[int], str]) -> None:
        """Note a fault of the rows where `bad` holds; `reason` is asked row by row."""
        for row in np.flatnonzero(bad & self._good).tolist():
            self._reason[row] = reason(row)
        self._good &= ~bad

    def set(self, row: int, reason: str) -> None:
        """Note the fault of one row, which had none."""
        self._reason[row] = reason
        self._good[row] = False

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """[rows], where there is no fault."""
        return self._good

    def items(self) -> list[tuple[int, str]]:
        """Rows with their faults, ascending."""
        return sorted(self._reason.items())


def _parsed(column: Any, parse: Callable[[Any], float]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Parse value by value: the numbers (NaN for what is missing) and where parsing failed."""
    values = np.full(len(column), np.nan)
    failed = np.zeros(len(column), bool)
    for i, value in enumerate(column):
        if value is None or value != value or (type(value) is str and not value.strip()):
            continue
        try:
            values[i] = parse(value)
        except (ValueError, TypeError, OverflowError, OSError):
            failed[i] = True
    return values, failed


def numbers(name: str, column: Any, faults: Faults) -> Floats:
    """Read a column of numbers; missing ones are NaN."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiub":
        return column.astype(np.float64)
    try:
        return np.asarray(column, np.float64)
    except (ValueError, TypeError):
        values, failed = _parsed(column, float)
        faults.add(failed, lambda i: f"{name}: must be a number; was {column[i]!r}")
        return values


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        text = value.strip()
        try:
            return float(text)
        except ValueError:
            value = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if hasattr(value, "timestamp"):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        return float(value.timestamp())
    return float(value)


def times(name: str, column: Any, faults: Faults) -> Floats:
    """Read a column of times as seconds: numbers, ISO 8601 (UTC unless told), datetimes."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        seconds = column.astype("datetime64[ns]").astype(np.float64) / 1e9
        seconds[np.isnat(column)] = np.nan
        return seconds
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        return column.astype(np.float64)
    values, failed = _parsed(column, _seconds)
    faults.add(failed, lambda i: f"{name}: must be seconds or ISO 8601; was {column[i]!r}")
    return values


def check_weight(name: str, weight: Floats, faults: Faults) -> None:
    """Weights are positive and finite."""
    bad = ~((weight > 0) & np.isfinite(weight))
    faults.add(bad, lambda i: f"{name}: must be positive and finite; was {weight[i]}")


def check_time(name: str, time: Floats, faults: Faults) -> None:
    """Times are finite."""
    faults.add(~np.isfinite(time), lambda i: f"{name}: must be finite; was {time[i]}")


def check_probabilities(name: str, rows: Floats, faults: Faults) -> Floats:
    """Probabilities are finite, at least 0, and sum to 1; returns them divided by their sum."""
    with np.errstate(invalid="ignore"):
        faults.add(
            ~np.isfinite(rows).all(1), lambda i: f"{name}: must be finite; were {_shown(rows[i])}"
        )
        faults.add(
            (rows < 0).any(1), lambda i: f"{name}: must be at least 0; were {_shown(rows[i])}"
        )
        total: Floats = rows.sum(1)
        faults.add(
            np.asarray(np.abs(total - 1) > PROBABILITY_TOLERANCE),
            lambda i: (
                f"{name}: must sum to 1 within {PROBABILITY_TOLERANCE}; sum to {total[i]:.6g}"
            ),
        )
        exact = np.abs(total - 1) <= 1e-12
        return np.where(exact[:, None], rows, rows / np.where(exact, 1, total)[:, None])


def _shown(row: Floats) -> str:
    shown = ", ".join(f"{p:.4g}" for p in row[:6])
    return f"[{shown}, …]" if len(row) > 6 else f"[{shown}]"


def lists(name: str, column: Any, width: int | None, faults: Faults) -> Floats:
    """Read a column of lists of numbers, or of JSON arrays in text, as [rows, width]."""
    if isinstance(column, np.ndarray) and column.ndim == 2:
        return column.astype(np.float64)
    rows: list[Any] = []
    failed = np.zeros(len(column), bool)
    for i, value in enumerate(column):
        try:
            row = np.asarray(json.loads(value) if isinstance(value, str) else value, np.float64)
            if row.ndim != 1 or len(row) == 0:
                raise ValueError
        except (ValueError, TypeError):
            failed[i] = True
            row = None
        rows.append(row)
    if width is None:
        width = next((len(row) for row in rows if row is not None), 0)
    faults.add(failed, lambda i: f"{name}: must be a list of numbers; was {column[i]!r}")
    result = np.full((len(column), width), np.nan)
    uneven = np.zeros(len(column), bool)
    for i, row in enumerate(rows):
        if row is not None and len(row) == width:
            result[i] = row
        elif row is not None:
            uneven[i] = True
    faults.add(uneven, lambda i: f"{name}: must have {width} numbers; has {len(rows[i])}")
    return result
