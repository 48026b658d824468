"""How well readers' masks agree: soft Dice and IoU, soft alpha, and where they differ."""

from __future__ import annotations

import base64
import dataclasses
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from .._softloss import __version__
from ._masks import Bytes, MaskTable, read_masks
from ._outputs import write_json, write_text
from ._report import render
from ._votes import Floats, InputError

#: The longest side of a map in pixels; larger images are averaged down to it.
MAP_SIDE = 128


@dataclasses.dataclass(frozen=True, eq=False)
class PixelQuality:
    """What `analyze_masks` finds.

    Attributes:
        pixels: the schema's ``pixels``: plain lists and numbers.
        provenance: which masks were left out.
    """

    pixels: dict[str, Any]
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return an analysis of masks alone: the schema with ``pixels``, and without votes."""
        return {
            "schema": "softloss.quality/1",
            "version": __version__,
            "pixels": self.pixels,
            "provenance": self.provenance,
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the analysis as JSON."""
        write_json(path, self.to_dict())

    def report(self, path: str | os.PathLike[str], *, title: str | None = None) -> None:
        """Write the report: one HTML file."""
        write_text(path, render(self.to_dict(), title=title))


@dataclasses.dataclass
class _AlphaSums:
    """Sums for alpha of values of any number of readers a pixel (interval distance, so soft)."""

    values: int = 0
    total: int = 0
    squares: int = 0
    observed: float = 0.0  # Σ over pixels of the squared differences of ordered pairs / (m - 1)

    def add(self, image: _Image) -> None:
        m = len(image.area)
        if m < 2:
            return
        self.values += m * image.pixels
        self.total += int(image.area.sum())
        self.squares += image.squares
        self.observed += 2 * (m * image.squares - image.joint) / (m - 1)

    def alpha(self) -> float | None:
        n = self.values
        expected = 2 * (n * self.squares - self.total**2)
        if n < 2 or expected == 0:
            return None
        return 1 - (self.observed / n) / (expected / (n * (n - 1)))


class _Image:
    """The sums over an image's pixels that all its figures are made of; integers, so exact.

    Attributes:
        pixels: how many.
        area: [m] Σ a.
        squares: Σ a², of all readers.
        joint: Σ (Σ of the readers)².
        common: [m, m] Σ min(a, b), the intersections.
        with_others: [m] Σ min((m - 1) a, Σ of the others): with the others' mean, m - 1 times.
    """

    def __init__(self, flat: Bytes, soft: bool) -> None:
        m, self.pixels = flat.shape
        if soft:
            wide = flat.astype(np.int64)
            sums = wide.sum(0)
            self.area = wide.sum(1)
            self.squares = int((wide * wide).sum())
            self.joint = int((sums * sums).sum())
            self.common = np.array([np.minimum(row, flat).sum(1, dtype=np.int64) for row in flat])
            self.with_others = np.minimum((m - 1) * wide, sums - wide).sum(1)
            return
        # Of zeros and ones the least is the product, and all is in the matrix of products; sums of
        # ones are exact in float32 up to 2^24.
        ones: Any = flat.astype(np.float32 if self.pixels < 1 << 24 else np.float64)
        self.common = (ones @ ones.T).astype(np.int64)
        self.area = self.common.diagonal()
        self.squares = int(self.area.sum())
        self.joint = int(self.common.sum())
        self.with_others = self.common.sum(1) - self.area


def overlap(area: float, other: float, common: float) -> tuple[float, float]:
    """Soft Dice and IoU of two masks of these areas; 1 where both are empty.

    The intersection Σ min(a, b) is (Σa + Σb - Σ|a - b|) / 2, so that a mask agrees with itself by 1
    however soft it is.
    """
    both = area + other
    if both == 0:
        return 1.0, 1.0
    return 2 * common / both, common / (both - common)


def _figure(values: list[float]) -> dict[str, Any] | None:
    """The mean with its normal 95 % interval, kept in [0, 1]."""
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"value": mean, "low": None, "high": None, "n": 1}
    half = 1.959963984540054 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {"value": mean, "low": low, "high": high, "n": len(values)}


def analyze_masks(source: Any, *, maps: int = 12, skip_bad_rows: bool = False) -> PixelQuality:
    """Compare readers' masks.

    Args:
        source: what `read_masks` takes.
        maps: how many of the most contested images to keep maps of.
        skip_bad_rows: leave malformed masks out instead of raising.
    """
    table = read_masks(source, skip_bad_rows=skip_bad_rows)
    if max(len(readers) for readers in table.drawn) < 2:
        raise InputError("masks: no image was drawn by two readers", field="masks")
    readers = len(table.readers)
    scale = 255 if table.soft else 1
    overall = _AlphaSums()
    pair_dice: Floats = np.zeros((readers, readers))
    pair_iou: Floats = np.zeros((readers, readers))
    pair_images = np.zeros((readers, readers), np.int64)
    against: list[dict[str, list[float]]] = [
        {"dice": [], "iou": [], "area": []} for _ in range(readers)
    ]
    columns: dict[str, list[Any]] = {
        key: [] for key in ("name", "readers", "pixels", "alpha", "dice", "iou", "contested")
    }
    for name, masks, drawn in zip(table.images, table.masks, table.drawn, strict=True):
        flat = masks.reshape(len(masks), -1)
        image = _Image(flat, table.soft)
        overall.add(image)
        own = _AlphaSums()
        own.add(image)
        area, others = image.area.tolist(), (image.area.sum() - image.area).tolist()
        dices, ious = [], []
        for i, a in enumerate(drawn):
            against[a]["area"].append(area[i] / (image.pixels * scale))
            if len(drawn) > 1:
                mine = (len(drawn) - 1) * area[i]
                dice, iou = overlap(mine, others[i], int(image.with_others[i]))
                against[a]["dice"].append(dice)
                against[a]["iou"].append(iou)
            for j in range(i):
                b = drawn[j]
                dice, iou = overlap(area[i], area[j], int(image.common[i, j]))
                dices.append(dice)
                ious.append(iou)
                for x, y in ((a, b), (b, a)):
                    pair_dice[x, y] += dice
                    pair_iou[x, y] += iou
                    pair_images[x, y] += 1
        touched = int((flat.max(0) > 0).sum())
        differs = int((flat.max(0) != flat.min(0)).sum())
        row = (name, len(drawn), int(flat.shape[1]), own.alpha(), _mean(dices), _mean(ious))
        contested = differs / touched if touched and len(drawn) > 1 else None
        for key, value in zip(columns, (*row, contested), strict=True):
            columns[key].append(value)
    worst = sorted(
        (i for i, share in enumerate(columns["contested"]) if share is not None),
        key=lambda i: (-columns["contested"][i], table.images[i]),
    )[:maps]
    bad_rows = [dataclasses.asdict(row) for row in table.bad_rows]
    return PixelQuality(
        provenance={"bad_row_count": len(bad_rows), "bad_rows": bad_rows[:1000]},
        pixels={
            "images": len(table.images),
            "readers": table.readers,
            "pixels": sum(int(mask[0].size) for mask in table.masks),
            "alpha_soft": overall.alpha(),
            "reader": [
                {
                    "name": reader,
                    "images": len(found["area"]),
                    "dice": _figure(found["dice"]),
                    "iou": _figure(found["iou"]),
                    "area": _mean(found["area"]),
                }
                for reader, found in zip(table.readers, against, strict=True)
            ],
            "pair": {
                "dice": _ratio(pair_dice, pair_images),
                "iou": _ratio(pair_iou, pair_images),
                "images": pair_images.tolist(),
            },
            "image": columns,
            "map": [_map(table, columns, i, scale) for i in worst],
        },
    )


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _ratio(sums: Floats, counts: npt.NDArray[np.int64]) -> list[list[float | None]]:
    return [
        [float(s) / int(n) if n else None for s, n in zip(row, ns, strict=True)]
        for row, ns in zip(sums, counts, strict=True)
    ]


def _map(table: MaskTable, columns: dict[str, list[Any]], image: int, scale: int) -> dict[str, Any]:
    """The readers' mean as bytes (255 is all of them), small enough to show."""
    masks: Bytes = table.masks[image]
    mean = masks.mean(0, dtype=np.float64) / scale
    step = -(-max(mean.shape) // MAP_SIDE)
    height, width = (-(-side // step) for side in mean.shape)
    padded = np.full((height * step, width * step), np.nan)
    padded[: mean.shape[0], : mean.shape[1]] = mean
    small = np.nanmean(padded.reshape(height, step, width, step), axis=(1, 3))
    return {
        "image": table.images[image],
        "readers": len(masks),
        "height": height,
        "width": width,
        "step": step,
        "dice": columns["dice"][image],
        "contested": columns["contested"][image],
        "mean": base64.b64encode(np.round(small * 255).astype(np.uint8).tobytes()).decode(),
    }
