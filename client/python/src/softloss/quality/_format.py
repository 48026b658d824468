"""Numbers and names as text for the report: one way to write each kind."""

from __future__ import annotations

import datetime
import html
import math
from typing import Any

import numpy as np
import numpy.typing as npt

#: What stands for a figure that is not defined.
ABSENT = "\N{EN DASH}"


def esc(text: Any) -> str:
    """Escape text for HTML, in elements and in attributes."""
    return html.escape(str(text), quote=True)


def known(value: Any) -> bool:
    """Whether a figure is defined."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def number(value: Any, digits: int = 3) -> str:
    """Write a figure with a fixed number of decimals, or a dash."""
    if not known(value):
        return ABSENT
    text = f"{float(value):.{digits}f}"
    if text.strip("-0.") == "":
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: Any, digits: int = 1) -> str:
    """Write a share as a percentage, or a dash."""
    return f"{100 * float(value):.{digits}f} %" if known(value) else ABSENT


def count(value: Any) -> str:
    """Write a whole number with groups of three, or a dash."""
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if known(value) else ABSENT


def date(seconds: Any) -> str:
    """Write a time in seconds as a day if it may be one (after 1980), else as a number."""
    if not known(seconds):
        return ABSENT
    if seconds < 315532800 or seconds > 253402300799:
        return number(seconds, 0)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%d")


def shorten(name: str, length: int = 28) -> str:
    """Cut a long name in the middle, so that both of its ends show."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"


def column(values: Any) -> npt.NDArray[np.float64]:
    """Return a column of the analysis as numbers, NaN for None."""
    return np.array([np.nan if value is None else value for value in values], float)
