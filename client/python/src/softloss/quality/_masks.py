"""Masks of several readers: npz arrays and COCO's run lengths."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._label_studio import annotator_name, load_export, results
from ._run_lengths import decode_brush, decode_rle
from ._votes import BadRow, InputError, bad_rows_error

Bytes = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class MaskTable:
    """Masks of images by readers.

    Attributes:
        images: their names.
        readers: their names; who did not draw an image has no mask there.
        masks: one an image: uint8 [readers who drew it, H, W], 0 or 1 (soft: 0 to 255).
        drawn: one an image: the indices of those readers, ascending.
        soft: whether values are 255ths rather than 0 and 1.
        bad_rows: the masks that were left out.
    """

    images: list[str]
    readers: list[str]
    masks: list[Bytes]
    drawn: list[list[int]]
    soft: bool = False
    bad_rows: tuple[BadRow, ...] = ()


def read_masks(source: Any, *, skip_bad_rows: bool = False) -> MaskTable:
    """Read masks.

    Args:
        source: an array [images, readers, H, W] of bool or uint8 (0 and 1; with values above 1,
            255ths); a path to such an .npy; to an .npz with the array ``masks``, and perhaps
            ``readers`` and ``images`` (names) and ``shape`` (H, W), with which ``masks`` may be
            bit-packed as [images, readers, ceil(H·W / 8)] (NumPy's ``packbits``, row-major; without
            ``shape`` square masks are assumed); to a COCO .json whose annotations have run lengths
            and an ``annotator`` (or ``annotator_id``, also under ``attributes``); to a Label Studio
            export (.json) with brush labels; or a list of COCO files, one a reader.
        skip_bad_rows: leave malformed masks out instead of raising.
    """
    if isinstance(source, MaskTable):
        return source
    if isinstance(source, (list, tuple)):
        return _read_coco([pathlib.Path(path) for path in source], skip_bad_rows)
    if not isinstance(source, (str, os.PathLike)):
        return _from_array(np.asarray(source), None, None, "masks")
    path = pathlib.Path(source)
    if path.suffix.lower() == ".json":
        if path.is_file() and path.read_bytes().lstrip()[:1] == b"[":
            return _read_brush(path, skip_bad_rows)
        return _read_coco([path], skip_bad_rows)
    name, arrays = _load_arrays(path, "masks")
    masks = arrays["masks"]
    if masks.ndim == 3:
        masks = _unpack(name, masks, arrays.get("shape"))
    return _from_array(masks, arrays.get("images"), arrays.get("readers"), name)


def read_model_masks(source: Any, table: MaskTable) -> list[npt.NDArray[np.float32]]:
    """Read a model's masks of the images of a table: float32 [pixels] an image, in its order.

    Args:
        source: an array [images, H, W] of floats from 0 to 1, of bool, or of uint8 (255ths), in the
            order of the table's images; a dictionary of image to [H, W]; a path to such an .npy, or
            to an .npz with ``predictions`` and, for another order, ``images`` (names).
        table: the readers' masks. Every image must have one.
    """
    name, names = "predictions", None
    if isinstance(source, Mapping):
        names, masks = [str(key) for key in source], [np.asarray(mask) for mask in source.values()]
    else:
        if isinstance(source, (str, os.PathLike)):
            name, arrays = _load_arrays(pathlib.Path(source), "predictions")
            given = arrays.get("images")
            names = None if given is None else [str(x) for x in given]
            source = arrays["predictions"]
        array = np.asarray(source)
        if array.ndim != 3:
            raise InputError(f"{name}: must be [images, H, W]; has {array.ndim} dimensions")
        masks = list(array)
    if names is None:
        if len(masks) != len(table.images):
            raise InputError(
                f"{name}: must have {len(table.images)} images, as the masks; has {len(masks)}",
                field="predictions",
            )
        names = table.images
    by_name = dict(zip(names, masks, strict=True))
    out = []
    for image, drawn in zip(table.images, table.masks, strict=True):
        if image not in by_name:
            raise InputError(f"{name}: has no image {image!r}", field="predictions")
        out.append(_probabilities(f"{name}, image {image!r}", by_name[image], drawn.shape[1:]))
    return out


def _probabilities(
    name: str, mask: npt.NDArray[Any], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    if mask.shape != shape:
        raise InputError(f"{name}: must be {shape}, as its masks; is {mask.shape}")
    if mask.dtype == np.uint8:
        return (mask / np.float32(255)).astype(np.float32).reshape(-1)
    if mask.dtype != bool and not np.issubdtype(mask.dtype, np.floating):
        raise InputError(f"{name}: must be of floats, bool or uint8; is {mask.dtype}")
    values = np.ascontiguousarray(mask, np.float32).reshape(-1)
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        raise InputError(f"{name}: must be from 0 to 1; has {values[wrong][0]}")
    return values


def _load_arrays(path: pathlib.Path, key: str) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Return the file's name and its arrays, of which one is called `key`."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", field=key)
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {key: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise InputError(f"{path.name}: is no npy or npz file: {error}", field=key) from None
    if key not in arrays:
        raise InputError(f"{path.name}: has no array {key!r}; it has {sorted(arrays)}")
    return path.name, arrays


def _unpack(name: str, packed: npt.NDArray[Any], shape: npt.NDArray[Any] | None) -> Bytes:
    if packed.dtype != np.uint8:
        raise InputError(f"{name}: bit-packed masks must be uint8; are {packed.dtype}")
    bits = packed.shape[2] * 8
    if shape is None:
        side = round(bits**0.5)
        if side * side != bits:
            raise InputError(f"{name}: {bits} bits are no square; give the array 'shape' (H, W)")
        shape = np.array([side, side])
    height, width = (int(n) for n in np.asarray(shape).reshape(-1)[:2])
    if not 0 < height * width <= bits or bits - height * width >= 8:
        raise InputError(f"{name}: shape {height} x {width} does not fit {bits} bits")
    unpacked = np.unpackbits(packed, axis=-1, count=height * width)
    return unpacked.reshape(*packed.shape[:2], height, width)


def _from_array(
    masks: npt.NDArray[Any],
    images: npt.NDArray[Any] | None,
    readers: npt.NDArray[Any] | None,
    name: str,
) -> MaskTable:
    if masks.ndim != 4:
        raise InputError(f"{name}: must be [images, readers, H, W]; has {masks.ndim} dimensions")
    if masks.dtype not in (np.dtype(bool), np.dtype(np.uint8)):
        raise InputError(f"{name}: must be bool or uint8; are {masks.dtype}", field="masks")
    n, r = masks.shape[:2]
    if not masks.size:
        raise InputError(f"{name}: there are no pixels in {masks.shape}", field="masks")
    image_names = [str(i) for i in range(n)] if images is None else [str(x) for x in images]
    reader_names = (
        [f"reader {i}" for i in range(r)] if readers is None else [str(x) for x in readers]
    )
    for what, names, size in (("images", image_names, n), ("readers", reader_names, r)):
        if len(names) != size or len(set(names)) != size:
            raise InputError(f"{name}: {what} must be {size} different names", field=what)
    data = masks.view(np.uint8) if masks.dtype == bool else masks
    soft = bool(masks.dtype == np.uint8 and (data > 1).any())
    return MaskTable(image_names, reader_names, list(data), [list(range(r))] * n, soft)


def _read_coco(paths: Sequence[pathlib.Path], skip_bad_rows: bool) -> MaskTable:
    drawn: Drawn = {}
    bad: list[BadRow] = []
    for path in paths:
        document = _load_coco(path)
        names = {image.get("id"): str(image.get("file_name", image.get("id")))
                 for image in document.get("images") or []}  # fmt: skip
        sizes = {image.get("id"): (image.get("height"), image.get("width"))
                 for image in document.get("images") or []}  # fmt: skip
        categories = {row.get("id"): str(row.get("name", row.get("id")))
                      for row in document.get("categories") or []}  # fmt: skip
        for number, annotation in enumerate(document["annotations"], 1):
            image = annotation.get("image_id")
            reader = _reader(annotation) or (path.stem if len(paths) > 1 else "")
            try:
                if not reader:
                    raise ValueError("there is no annotator (nor one file a reader)")
                mask = _mask(annotation.get("segmentation"), sizes.get(image))
            except (ValueError, TypeError) as error:
                bad.append(BadRow(path.name, number, f"annotation {number}: {error}"))
                continue
            name = names.get(image, str(image))
            if len(categories) > 1:
                kind = annotation.get("category_id")
                name += f" / {categories.get(kind, str(kind))}"
            if not _draw(drawn, name, reader, mask):
                reason = f"annotation {number}: the image's other masks have another size"
                bad.append(BadRow(path.name, number, reason))
    return _joined(drawn, bad, skip_bad_rows)


def _read_brush(path: pathlib.Path, skip_bad_rows: bool) -> MaskTable:
    """Read the brush labels of a Label Studio export."""
    drawn: Drawn = {}
    bad: list[BadRow] = []
    for line, task in enumerate(load_export(path), 1):
        for annotation in task.get("annotations") or []:
            if annotation.get("was_cancelled"):
                continue
            for result in results(annotation):
                value = result.get("value") or {}
                if result.get("type") != "brushlabels" and "rle" not in value:
                    continue
                try:
                    size = (int(result["original_height"]), int(result["original_width"]))
                    mask = decode_brush(value["rle"], *size)
                    if not (reader := annotator_name(annotation)):
                        raise ValueError("there is no annotator")
                except (KeyError, ValueError, TypeError) as error:
                    reason = f"task {task.get('id', line)}: brush: {error}"
                    bad.append(BadRow(path.name, line, reason))
                    continue
                kinds = value.get("brushlabels") or [""]
                name = f"{task.get('id', line)} / {kinds[0]}" if kinds[0] else str(task.get("id"))
                if not _draw(drawn, name, reader, mask):
                    reason = f"task {task.get('id', line)}: brush: masks have different sizes"
                    bad.append(BadRow(path.name, line, reason))
    return _joined(drawn, bad, skip_bad_rows)


Drawn = dict[str, dict[str, Bytes]]


def _draw(drawn: Drawn, image: str, reader: str, mask: Bytes) -> bool:
    """Add a mask to what a reader drew on an image, unless the image has another size."""
    of_image = drawn.setdefault(image, {})
    if any(other.shape != mask.shape for other in of_image.values()):
        return False
    of_image[reader] = of_image[reader] | mask if reader in of_image else mask
    return True


def _joined(drawn: Drawn, bad: list[BadRow], skip_bad_rows: bool) -> MaskTable:
    if bad and not skip_bad_rows:
        raise bad_rows_error(bad)
    if not drawn:
        raise InputError("masks: there are none", field="masks", bad_rows=bad)
    readers = sorted({reader for of_image in drawn.values() for reader in of_image})
    place = {reader: i for i, reader in enumerate(readers)}
    images = sorted(drawn)
    return MaskTable(
        images,
        readers,
        [np.stack([drawn[name][reader] for reader in sorted(drawn[name])]) for name in images],
        [[place[reader] for reader in sorted(drawn[name])] for name in images],
        bad_rows=tuple(bad),
    )


def _load_coco(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", field="masks")
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path.name}: is no JSON: {error}", field="masks") from None
    if not isinstance(document, dict) or not isinstance(document.get("annotations"), list):
        raise InputError(f"{path.name}: a COCO file is an object with 'annotations'")
    return document


def _reader(annotation: Mapping[str, Any]) -> str:
    for place in (annotation, annotation.get("attributes") or {}):
        for key in ("annotator", "annotator_id", "reader", "created_by"):
            if place.get(key) is not None:
                return str(place[key])
    return ""


def _mask(segmentation: Any, size: tuple[Any, Any] | None) -> Bytes:
    if isinstance(segmentation, list):
        raise ValueError("segmentation: polygons have no exact pixels; convert them to run lengths")
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise ValueError("segmentation: must have counts of run lengths")
    height, width = (int(n) for n in segmentation.get("size") or size or (0, 0))
    if not (0 < height <= 1 << 16 and 0 < width <= 1 << 16):
        raise ValueError(f"segmentation: size must be 1 to 65536; was {height} x {width}")
    return decode_rle(segmentation["counts"], height, width)
