"""How well readers' masks agree, with each other and with a model: overlap, alpha, maps."""

from __future__ import annotations

import base64
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _softloss
from .._softloss import __version__
from ._masks import Bytes, MaskTable, read_masks, read_model_masks
from ._outputs import replace_file, write_json, write_safetensors, write_text
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
        table: the masks.
        mean: float32 [H, W] an image: the readers' mean, a soft label of every pixel.
    """

    pixels: dict[str, Any]
    provenance: dict[str, Any]
    table: MaskTable
    mean: list[npt.NDArray[np.float32]]

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

    def em(self) -> list[npt.NDArray[np.float32]]:
        """Return float32 [H, W] an image: posteriors by EM over the readers' accuracies.

        Raises:
            SoftlossError: the masks are soft, or more than 64 readers drew one.
        """
        if self.table.soft:
            raise InputError("masks: EM takes masks of 0 and 1; these are soft", field="masks")
        out = []
        for masks in self.table.masks:
            by_pixel = np.ascontiguousarray(masks.reshape(len(masks), -1).T)
            posterior = _softloss.quality_segmentation_em(by_pixel)["posterior"]
            out.append(posterior.astype(np.float32).reshape(masks.shape[1:]))
        return out

    def write_consensus(self, path: str | os.PathLike[str]) -> None:
        """Write the consensus as .safetensors: soft labels [H, W] that sigmoid losses take.

        ``mean/IMAGE`` is the readers' mean; of masks of 0 and 1 ``em/IMAGE`` is EM's posterior.
        """
        if pathlib.Path(path).suffix.lower() != ".safetensors":
            raise InputError(
                f"consensus: of masks must end in .safetensors; was {str(path)!r}",
                field="consensus",
            )
        kinds = {"mean": self.mean}
        if not self.table.soft:
            kinds["em"] = self.em()
        tensors: dict[str, npt.NDArray[Any]] = {
            f"{kind}/{name}": image
            for kind, images in kinds.items()
            for name, image in zip(self.table.images, images, strict=True)
        }
        metadata = {"schema": "softloss.mask_consensus/1"}
        replace_file(path, lambda file: write_safetensors(file, tensors, metadata))


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


def analyze_masks(
    source: Any,
    predictions: Any = None,
    *,
    maps: int = 12,
    skip_bad_rows: bool = False,
    threads: int = 0,
) -> PixelQuality:
    """Compare readers' masks, and a model's with them.

    Args:
        source: what `read_masks` takes.
        predictions: a model's probabilities of the pixels; what `read_model_masks` takes.
        maps: how many of the most contested images to keep maps of.
        skip_bad_rows: leave malformed masks out instead of raising.
        threads: how many threads share the work; 0 for one a core. They change no bit.
    """
    table = read_masks(source, skip_bad_rows=skip_bad_rows)
    if max(len(readers) for readers in table.drawn) < 2:
        raise InputError("masks: no image was drawn by two readers", field="masks")
    model = None if predictions is None else read_model_masks(predictions, table)
    scale = 255 if table.soft else 1
    flat = [np.ascontiguousarray(masks.reshape(len(masks), -1)) for masks in table.masks]
    found = _softloss.quality_compare_masks(flat, scale=scale, threads=threads)
    readers = _Readers(table, found)
    contested, touched = found["image.contested"].tolist(), found["image.touched"].tolist()
    columns: dict[str, Any] = {
        "name": list(table.images),
        "readers": [len(drawn) for drawn in table.drawn],
        "pixels": [masks.shape[1] for masks in flat],
        "alpha": [_number(alpha) for alpha in found["image.alpha"]],
        "dice": readers.image_dice,
        "iou": readers.image_iou,
        "contested": [
            c / t if t and len(drawn) > 1 else None
            for c, t, drawn in zip(contested, touched, table.drawn, strict=True)
        ],
    }
    consensus = [_softloss.quality_mask_consensus(masks, scale=scale) for masks in flat]
    issues = None
    against = None
    if model is not None:
        issues, against = _compare_model(model, consensus, columns, threads)
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
            "pixels": sum(columns["pixels"]),
            "alpha_soft": _number(found["alpha"]),
            "reader": readers.rows(),
            "pair": readers.pairs(),
            "model": against,
            "image": columns,
            "map": [_map(table, columns, i, consensus[i]["mean"], scale, issues) for i in worst],
        },
        table=table,
        mean=[
            found["mean"].reshape(masks.shape[1:])
            for found, masks in zip(consensus, table.masks, strict=True)
        ],
    )


class _Readers:
    """The figures of readers and their pairs, of which each image has those who drew it."""

    def __init__(self, table: MaskTable, found: dict[str, npt.NDArray[Any]]) -> None:
        count = len(table.readers)
        self._names = table.readers
        self._own: list[dict[str, list[float]]] = [
            {"dice": [], "iou": [], "area": []} for _ in range(count)
        ]
        self._sum = {key: np.zeros((count, count)) for key in ("dice", "iou")}
        self._images = np.zeros((count, count), np.int64)
        self.image_dice: list[float | None] = []
        self.image_iou: list[float | None] = []
        reader = pair = 0
        for drawn in table.drawn:
            m = len(drawn)
            for r, who in enumerate(drawn, reader):
                self._own[who]["area"].append(float(found["reader.area"][r]))
                if m > 1:
                    for key in ("dice", "iou"):
                        self._own[who][key].append(float(found[f"reader.{key}"][r]))
            apart = ~np.eye(m, dtype=bool)
            among = np.ix_(drawn, drawn)
            for key, means in (("dice", self.image_dice), ("iou", self.image_iou)):
                of_pairs = found[f"pair.{key}"][pair : pair + m * m].reshape(m, m)
                self._sum[key][among] += np.where(apart, of_pairs, 0)
                means.append(float(of_pairs[apart].mean()) if m > 1 else None)
            self._images[among] += apart
            reader += m
            pair += m * m

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "images": len(own["area"]),
                "dice": _figure(own["dice"]),
                "iou": _figure(own["iou"]),
                "area": float(np.mean(own["area"])) if own["area"] else None,
            }
            for name, own in zip(self._names, self._own, strict=True)
        ]

    def pairs(self) -> dict[str, Any]:
        return {
            **{key: _ratio(sums, self._images) for key, sums in self._sum.items()},
            "images": self._images.tolist(),
        }


def _compare_model(
    model: list[npt.NDArray[np.float32]],
    consensus: list[dict[str, npt.NDArray[Any]]],
    columns: dict[str, Any],
    threads: int,
) -> tuple[list[Bytes], dict[str, Any]]:
    """Return the pixels that look wrong, an array an image, and the figures of all images."""
    begin = np.concatenate([[0], np.cumsum(columns["pixels"])]).astype(np.int64)
    found = _softloss.quality_mask_issues(
        begin=begin,
        label=np.concatenate([image["majority"] for image in consensus]),
        mean=np.concatenate([image["mean"] for image in consensus]),
        model=np.concatenate(model),
        threads=threads,
    )
    columns["model_dice"] = found["dice"].tolist()
    columns["model_iou"] = found["iou"].tolist()
    columns["model_score"] = found["score"].tolist()
    columns["model_issues"] = found["issues"].tolist()
    figures = {
        "dice": _figure(columns["model_dice"]),
        "iou": _figure(columns["model_iou"]),
        "score": _figure(columns["model_score"]),
        "issues": sum(columns["model_issues"]),
    }
    return np.split(found["issue"], begin[1:-1]), figures


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _ratio(sums: Floats, counts: npt.NDArray[np.int64]) -> list[list[float | None]]:
    return [
        [float(s) / int(n) if n else None for s, n in zip(row, ns, strict=True)]
        for row, ns in zip(sums, counts, strict=True)
    ]


def _map(
    table: MaskTable,
    columns: dict[str, Any],
    image: int,
    mean: npt.NDArray[np.float32],
    scale: int,
    issues: list[Bytes] | None,
) -> dict[str, Any]:
    """Maps of an image as bytes, small enough to show."""
    masks: Bytes = table.masks[image]
    shape = masks.shape[1:]
    step = -(-max(shape) // MAP_SIDE)
    flat = np.ascontiguousarray(masks.reshape(len(masks), -1))
    differs = _softloss.quality_disagreement_map(flat, scale=scale)
    return {
        "image": table.images[image],
        "readers": len(masks),
        "height": -(-shape[0] // step),
        "width": -(-shape[1] // step),
        "step": step,
        "dice": columns["dice"][image],
        "contested": columns["contested"][image],
        "mean": _shrunk(mean.reshape(shape), step),
        "differs": _shrunk(differs.reshape(shape), step),
        "issues": None if issues is None else _shrunk(issues[image].reshape(shape), step),
    }


def _shrunk(values: npt.NDArray[Any], step: int) -> str:
    """Means of squares of step x step pixels, in 255ths, as base64."""
    height, width = (-(-side // step) for side in values.shape)
    padded = np.full((height * step, width * step), np.nan)
    padded[: values.shape[0], : values.shape[1]] = values
    small = np.nanmean(padded.reshape(height, step, width, step), axis=(1, 3))
    return base64.b64encode(np.round(small * 255).astype(np.uint8).tobytes()).decode()
