"""Files that an analysis is written to: JSON, the worklist as CSV, consensus labels."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import pathlib
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._votes import Floats, InputError


def plain(value: Any) -> Any:
    """Turn NumPy's arrays and numbers into Python's, and what is not finite into None."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def replace_file(path: str | os.PathLike[str], write: Callable[[pathlib.Path], None]) -> None:
    """Write a file whole or not at all: beside its place, then into it."""
    path = pathlib.Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = pathlib.Path(name)
    try:
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8."""
    replace_file(path, lambda file: _write(file, text))


def _write(file: pathlib.Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], analysis: Mapping[str, Any]) -> None:
    """Write an analysis as JSON; figures that are not defined are null."""
    text = json.dumps(plain(analysis), ensure_ascii=False, allow_nan=False, indent=1)
    write_text(path, text + "\n")


def write_worklist(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a worklist as CSV: rank, item, given, suggested, confidence, score, reason."""

    def write(file: pathlib.Path) -> None:
        with open(file, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            columns = ("rank", "item", "given", "suggested", "confidence", "score", "reason")
            writer.writerow(columns)
            writer.writerows([_field(row[column]) for column in columns] for row in rows)

    replace_file(path, write)


def _field(value: Any) -> Any:
    """Return a cell's content; text that a spreadsheet would run as a formula gets a quote."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


def write_consensus(
    path: str | os.PathLike[str],
    items: Sequence[str],
    classes: Sequence[str],
    posterior: Floats,
) -> None:
    """Write consensus soft labels, by the path's suffix.

    ``.safetensors``: ``labels`` F32 [items, K], which scoring takes as labels; ``items``, the names
    as the bytes of a JSON array; the classes as JSON in the metadata. ``.parquet``: a row an item,
    with ``item``, ``consensus``, ``confidence`` and a column ``p_CLASS`` for each class.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".safetensors":
        names = np.frombuffer(json.dumps(list(items), ensure_ascii=False).encode(), np.uint8)
        metadata = {
            "classes": json.dumps(list(classes), ensure_ascii=False),
            "schema": "softloss.consensus/1",
        }
        tensors: dict[str, npt.NDArray[Any]] = {
            "labels": posterior.astype(np.float32),
            "items": names,
        }
        replace_file(path, lambda file: write_safetensors(file, tensors, metadata))
    elif suffix == ".parquet":
        _write_parquet(path, items, classes, posterior)
    else:
        raise InputError(
            f"consensus: must end in .safetensors or .parquet; was {str(path)!r}", field="consensus"
        )


_SAFETENSORS_DTYPES = {"float32": "F32", "float64": "F64", "uint8": "U8", "int64": "I64"}


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str],
) -> None:
    """Write the safetensors format: the header's length, the header as JSON, the tensors' bytes.

    Wide elements come first, and the header is filled up with spaces to a multiple of 8, so that
    every tensor lies aligned.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    ordered = sorted(tensors.items(), key=lambda pair: (-pair[1].itemsize, pair[0]))
    position = 0
    for name, tensor in ordered:
        end = position + tensor.nbytes
        header[name] = {
            "dtype": _SAFETENSORS_DTYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for _, tensor in ordered:
            file.write(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes())


def _write_parquet(
    path: str | os.PathLike[str],
    items: Sequence[str],
    classes: Sequence[str],
    posterior: Floats,
) -> None:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            "consensus: Parquet needs the package pyarrow (pip install 'softloss[quality]')",
            field="consensus",
        ) from None
    best = posterior.argmax(1)
    columns: dict[str, Any] = {
        "item": list(items),
        "consensus": [classes[k] for k in best.tolist()],
        "confidence": posterior[np.arange(len(posterior)), best],
    }
    columns |= {f"p_{name}": posterior[:, k] for k, name in enumerate(classes)}
    table = arrow.table(columns)
    replace_file(path, lambda file: parquet.write_table(table, file))
