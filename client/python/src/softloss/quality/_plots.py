"""The report's plots, as SVG text that takes its colours from the page's style sheet."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._format import count, date, esc, known, number, percent

Figure = Mapping[str, Any]


def svg(width: float, height: float, label: str, body: str, cls: str = "") -> str:
    """Wrap marks in an image that a screen reader reads as `label`."""
    cls = f' class="{cls}"' if cls else ""
    return (
        f'<svg{cls} role="img" aria-label="{esc(label)}" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}">{body}</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    """Draw a line."""
    return f'<line class="{cls}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", cls: str = "") -> str:
    """Write words; `anchor` is start, middle or end."""
    cls = f' class="{cls}"' if cls else ""
    return f'<text{cls} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{esc(words)}</text>'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = high - low
    if not span > 0:
        return [low]
    step = 10 ** math.floor(math.log10(span / about))
    step *= min((1, 2, 5, 10), key=lambda m: abs(span / (step * m) - about))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def interval(
    figure: Figure | None,
    low: float,
    high: float,
    *,
    reference: float | None = None,
    limit: float | None = None,
    label: str = "",
) -> str:
    """A point with its interval on a scale from `low` to `high`, beside a reference and a limit.

    It is in the colour of warnings if the interval is wholly under the limit.
    """
    width, middle = 120.0, 9.0

    def x(value: float) -> float:
        return 4 + (width - 8) * min(1.0, max(0.0, (value - low) / ((high - low) or 1)))

    body = line(4, middle, width - 4, middle, "grid")
    if reference is not None and known(reference):
        body += line(x(reference), 2, x(reference), 16, "ref")
    if limit is not None:
        body += line(x(limit), 2, x(limit), 16, "limit")
    if figure is None or not known(figure["value"]):
        return svg(width, 18, f"{label}: none", body)
    value, lower, upper = figure["value"], figure["low"], figure["high"]
    spoken = f"{label}: {number(value)}"
    marks = ""
    if known(lower) and known(upper):
        marks += line(x(lower), middle, x(upper), middle, "ci")
        spoken += f", 95 % interval {number(lower)} to {number(upper)}"
    marks += f'<circle class="dot" cx="{x(value):.1f}" cy="{middle}" r="4"/>'
    bad = limit is not None and known(upper) and upper < limit
    return svg(width, 18, spoken, body + f"<g{' class=bad' if bad else ''}>{marks}</g>")


def histogram(edges: Sequence[float], counts: Sequence[float], label: str, x_label: str) -> str:
    """Bars over shares from 0 to 1."""
    width, height, left, bottom, top = 460.0, 220.0, 46.0, 36.0, 14.0
    most = max([*counts, 1])
    plot_w, plot_h = width - left - 10, height - bottom - top

    def x(v: float) -> float:
        return left + plot_w * (v - edges[0]) / ((edges[-1] - edges[0]) or 1)

    body = ""
    for tick in ticks(0, most, 4):
        y = top + plot_h * (1 - tick / most)
        body += line(left, y, width - 10, y, "grid") + text(left - 6, y + 4, count(tick), "end")
    for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True):
        h = plot_h * n / most
        body += (
            f'<rect class="bar" x="{x(low) + 0.5:.1f}" y="{top + plot_h - h:.1f}" '
            f'width="{max(x(high) - x(low) - 1, 1):.1f}" height="{h:.1f}">'
            f"<title>{percent(low, 0)} to {percent(high, 0)}: {count(n)}</title></rect>"
        )
    body += line(left, top + plot_h, width - 10, top + plot_h, "axis")
    for tick in (0, 0.25, 0.5, 0.75, 1):
        body += text(x(tick), height - bottom + 16, percent(tick, 0), "middle")
    body += text(left + plot_w / 2, height - 3, x_label, "middle")
    return svg(width, height, label, body)


def reliability(bins: Sequence[Mapping[str, Any]], label: str) -> str:
    """Accuracy against confidence; the dots' areas are the bins' counts."""
    side, left, bottom, top = 340.0, 62.0, 42.0, 12.0
    width, height = left + side + 12, top + side + bottom
    most = max([row["count"] for row in bins] + [1])

    def x(v: float) -> float:
        return left + side * v

    def y(v: float) -> float:
        return top + side * (1 - v)

    body = ""
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        body += line(x(0), y(tick), x(1), y(tick), "grid") + line(
            x(tick), y(0), x(tick), y(1), "grid"
        )
        body += text(left - 6, y(tick) + 4, percent(tick, 0), "end")
        body += text(x(tick), height - bottom + 16, percent(tick, 0), "middle")
    body += line(x(0), y(0), x(1), y(1), "ref")
    body += text(x(0.62), y(0.54) + 6, "right as often as sure")
    points = [row for row in bins if row["count"] and known(row["accuracy"])]
    path = " ".join(f"{x(row['confidence']):.1f},{y(row['accuracy']):.1f}" for row in points)
    body += f'<polyline class="line" points="{path}"/>'
    for row in points:
        r = 3 + 9 * math.sqrt(row["count"] / most)
        body += (
            f'<circle class="dot halo" cx="{x(row["confidence"]):.1f}" '
            f'cy="{y(row["accuracy"]):.1f}" r="{r:.1f}"><title>confidence '
            f"{percent(row['confidence'])}, right {percent(row['accuracy'])}, "
            f"{count(row['count'])} items</title></circle>"
        )
    body += text(left + side / 2, height - 6, "the model's confidence", "middle")
    body += (
        f'<text transform="translate(11 {top + side / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">right by the votes</text>'
    )
    return svg(width, height, label, body)


#: More points than this are drawn as a density.
_MOST_POINTS = 1500


def scatter(
    x_values: npt.NDArray[np.float64],
    y_values: npt.NDArray[np.float64],
    marked: npt.NDArray[np.bool_],
    names: Sequence[str],
    label: str,
    x_label: str,
    y_label: str,
) -> str:
    """Points, the marked ones in the warning colour; many unmarked ones as a density."""
    width, height, left, bottom, top = 720.0, 400.0, 62.0, 42.0, 16.0
    plot_w, plot_h = width - left - 12, height - bottom - top
    x_most = max(float(x_values.max(initial=0)), 1e-9) * 1.03
    # A few extremes would press all others flat: they are drawn at the upper edge.
    y_most = max(float(y_values.max(initial=0)), 1e-9) * 1.05
    if len(y_values):
        y_most = min(y_most, max(float(np.quantile(y_values, 0.99)) * 1.6, 1e-9))
    above = int((y_values > y_most).sum())

    def x(v: float) -> float:
        return left + plot_w * v / x_most

    def y(v: float) -> float:
        return top + plot_h * (1 - min(max(v, 0.0) / y_most, 1.0))

    body = ""
    if above:
        body += text(width - 12, top - 5, f"{count(above)} above, drawn at the edge", "end")
    for tick in ticks(0, y_most):
        body += line(left, y(tick), width - 12, y(tick), "grid")
        body += text(left - 6, y(tick) + 4, f"{tick:g}", "end")
    for tick in ticks(0, x_most, 6):
        body += line(x(tick), top, x(tick), top + plot_h, "grid")
        body += text(x(tick), height - bottom + 16, f"{tick:g}", "middle")
    plain = np.flatnonzero(~marked)
    if len(plain) > _MOST_POINTS:
        body += _density(
            x_values[plain] / x_most, y_values[plain] / y_most, left, top, plot_w, plot_h
        )
    else:
        for i in plain.tolist():
            body += (
                f'<circle class="dot" fill-opacity=".45" cx="{x(x_values[i]):.1f}" '
                f'cy="{y(y_values[i]):.1f}" r="3"/>'
            )
    flagged = np.flatnonzero(marked)
    flagged = flagged[np.argsort(-y_values[flagged], kind="stable")][:_MOST_POINTS]
    for i in flagged.tolist():
        body += (
            f'<circle class="dot issue halo" cx="{x(x_values[i]):.1f}" cy="{y(y_values[i]):.1f}" '
            f'r="3.5"><title>{esc(names[i])}</title></circle>'
        )
    body += line(left, top + plot_h, width - 12, top + plot_h, "axis")
    body += text(left + plot_w / 2, height - 6, x_label, "middle")
    body += (
        f'<text transform="translate(12 {top + plot_h / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{esc(y_label)}</text>'
    )
    return svg(width, height, label, body)


def _density(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    left: float,
    top: float,
    width: float,
    height: float,
) -> str:
    columns, rows = 48, 32
    cells = np.histogram2d(x, np.clip(y, 0, 1), (columns, rows), ((0, 1), (0, 1)))[0]
    most = max(float(cells.max()), 1.0)
    body = ""
    for i, j in np.argwhere(cells > 0).tolist():
        level = 1 + min(3, int(4 * math.log1p(cells[i, j]) / math.log1p(most) * 0.999))
        body += (
            f'<rect class="c{level}" x="{left + width * i / columns:.1f}" '
            f'y="{top + height * (1 - (j + 1) / rows):.1f}" width="{width / columns - 0.6:.1f}" '
            f'height="{height / rows - 0.6:.1f}"><title>{count(cells[i, j])} items</title></rect>'
        )
    return body


def drift_line(windows: Sequence[Mapping[str, Any]], low: float, bad: bool, label: str) -> str:
    """Agreement over windows of time with its interval, from `low` to 1."""
    width, height, left, right, top, bottom = 250.0, 96.0, 36.0, 40.0, 8.0, 20.0
    plot_w, plot_h = width - left - right, height - top - bottom

    def y(v: float) -> float:
        return top + plot_h * (1 - (max(v, low) - low) / ((1 - low) or 1))

    points = []
    step = plot_w / max(len(windows) - 1, 1)
    for i, window in enumerate(windows):
        figure = window["agreement"]
        if figure is not None and known(figure["value"]):
            points.append((left + i * step, figure))
    body = ""
    for tick in (low, 1):
        body += line(left, y(tick), width - right, y(tick), "grid")
        body += text(left - 5, y(tick) + 4, percent(tick, 0), "end")
    if points:
        upper = [f"{x:.1f},{y(f['high']):.1f}" for x, f in points if known(f["high"])]
        lower = [f"{x:.1f},{y(f['low']):.1f}" for x, f in points if known(f["low"])]
        middle = [f"{x:.1f},{y(f['value']):.1f}" for x, f in points]
        marks = f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>'
        marks += f'<polyline class="line" points="{" ".join(middle)}"/>'
        x_last, last = points[-1]
        marks += f'<circle class="dot" cx="{x_last:.1f}" cy="{y(last["value"]):.1f}" r="3"/>'
        body += f"<g{' class=bad' if bad else ''}>{marks}</g>"
        body += text(x_last + 6, y(last["value"]) + 4, percent(last["value"], 0), cls="strong")
        body += text(left, height - 4, date(windows[0]["start"]))
        body += text(width - right, height - 4, date(windows[-1]["end"]), "end")
    return svg(width, height, label, body)


# Colours of the maps: dark to light, monotone in lightness, told apart by everyone.
_STOPS = ((24, 30, 72), (45, 93, 143), (106, 158, 147), (205, 205, 110), (255, 247, 196))


def _palette() -> bytes:
    places = np.linspace(0, 255, len(_STOPS))
    channels = [np.interp(np.arange(256), places, [s[c] for s in _STOPS]) for c in range(3)]
    return np.stack(channels, 1).round().astype(np.uint8).tobytes()


def heat_image(values: npt.NDArray[np.uint8]) -> str:
    """A picture of bytes [H, W] as the address of an image inside the page (PNG)."""
    height, width = values.shape

    def block(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = values
    png = b"\x89PNG\r\n\x1a\n" + block(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    )
    png += block(b"PLTE", _palette()) + block(b"IDAT", zlib.compress(rows.tobytes(), 9))
    png += block(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()
