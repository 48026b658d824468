"""Tables as chunks of columns: CSV, Parquet, npz, pandas, Polars, Arrow, NumPy, dictionaries."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
import importlib
import itertools
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from ._votes import BadRow, InputError, Ints

#: Rows a chunk of a text file has at most; more only give the garbage collector more to look at.
_CHUNK_ROWS = 4096


@dataclasses.dataclass
class Chunk:
    """Some rows of a table.

    Attributes:
        line: [n], each row's line, or number from 1.
        column: by name; each a list of strings or an array of n.
        bad_rows: rows between these that could not be split into columns.
    """

    line: Ints
    column: Mapping[str, Any]
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is read chunk by chunk, and only those columns that are asked for."""

    name: str
    header: list[str]
    chunks: Callable[[Sequence[str]], Iterator[Chunk]]


def open_table(source: Any, name: str | None = None) -> Table:
    """Open a file by its suffix, or look at a table in memory.

    Raises:
        InputError: the file is absent, empty or of unknown kind, or the object is no table.
    """
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        suffix = _check_file(path)
        if suffix in (".csv", ".tsv", ".txt"):
            return _csv_table(path, "\t" if suffix == ".tsv" else None)
        if suffix in (".parquet", ".pq"):
            return _parquet_table(path)
        if suffix == ".npz":
            return _columns_table(path.name, _load_npz(path))
        raise InputError(
            f"{path.name}: a table must be .csv, .tsv, .txt (each also .gz), .parquet or .npz",
            field="source",
        )
    kind = name or f"{type(source).__module__.partition('.')[0]}.{type(source).__name__}"
    if isinstance(source, Mapping):
        return _columns_table(name or "dict", source)
    if isinstance(source, np.ndarray) and source.dtype.names:
        return _columns_table(kind, {field: source[field] for field in source.dtype.names})
    header = getattr(source, "column_names", None) or getattr(source, "columns", None)
    if header is not None and hasattr(source, "__getitem__"):
        if hasattr(header, "tolist"):
            header = header.tolist()
        return _columns_table(kind, {str(c): source[c].to_numpy() for c in header})
    raise InputError(
        f"source: must be a path, a pandas, Polars or Arrow table, a structured array or a "
        f"dictionary of columns; was {type(source).__name__}",
        field="source",
    )


def _check_file(path: pathlib.Path) -> str:
    """Return the suffix (without .gz) of a file that exists and is not empty."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", field="source")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name}: the file is empty", field="source")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()


def _open_text(path: pathlib.Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


@contextlib.contextmanager
def _told(path: pathlib.Path, reader: Any = None) -> Iterator[None]:
    """Turn what may go wrong in reading text into an InputError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8: {error}", field="source") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path.name}: is cut off or damaged: {error}") from None
    except csv.Error as error:
        raise InputError(f"{path.name}:{reader.line_num}: {error}", field="source") from None


def _csv_table(path: pathlib.Path, delimiter: str | None) -> Table:
    def opened(file: IO[str]) -> tuple[Any, Iterator[list[str]], list[str]]:
        nonlocal delimiter
        if delimiter is None:
            with _told(path):
                delimiter = max(",;\t|", key=file.readline().count)
            file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)

        def rows() -> Iterator[list[str]]:
            with _told(path, reader):
                yield from reader

        source = rows()
        return reader, source, [name.strip() for name in next(source, [])]

    def chunks(columns: Sequence[str]) -> Iterator[Chunk]:
        with _open_text(path) as file:
            reader, source, header = opened(file)
            places = [header.index(name) for name in columns]
            begin = reader.line_num + 1
            while read := [(row, reader.line_num) for row in itertools.islice(source, _CHUNK_ROWS)]:
                rows, ends = zip(*read, strict=True)
                lines = np.array([begin, *(end + 1 for end in ends)], np.int64)[:-1]
                begin = ends[-1] + 1
                bad: list[BadRow] = []
                good = rows
                if set(map(len, rows)) != {len(header)}:
                    fits = np.array([len(row) == len(header) for row in rows])
                    good = tuple(itertools.compress(rows, fits))
                    bad = [
                        BadRow(path.name, line, f"must have {len(header)} fields; has {len(row)}")
                        for row, line in zip(rows, lines.tolist(), strict=True)
                        if row and len(row) != len(header)  # blank lines are no rows
                    ]
                    lines = lines[fits]
                values = list(zip(*good, strict=True)) if good else [()] * len(header)
                yield Chunk(
                    lines,
                    {name: values[place] for name, place in zip(columns, places, strict=True)},
                    bad,
                )

    with _open_text(path) as file:
        *_, header = opened(file)
    if not any(header):
        raise InputError(f"{path.name}: has no header line", field="source")
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"{path.name}: has two columns {doubled!r}", field="source")
    return Table(path.name, header, chunks)


def _parquet_table(path: pathlib.Path) -> Table:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            f"{path.name}: Parquet needs the package pyarrow (pip install 'softloss[quality]')",
            field="source",
        ) from None
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:  # pyarrow has many errors
        raise InputError(f"{path.name}: is no Parquet file: {error}", field="source") from None

    def chunks(columns: Sequence[str]) -> Iterator[Chunk]:
        row = 1
        try:
            for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
                line = np.arange(row, row + batch.num_rows)
                row += batch.num_rows
                arrays = {
                    name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns
                }
                yield Chunk(line, arrays)
        except OSError as error:
            raise InputError(f"{path.name}: is cut off or damaged: {error}") from None

    return Table(path.name, [str(name) for name in file.schema_arrow.names], chunks)


def _load_npz(path: pathlib.Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise InputError(f"{path.name}: is no npz file: {error}", field="source") from None


def _columns_table(name: str, columns: Mapping[str, Any]) -> Table:
    arrays = {key: np.asarray(c) if not _ragged(c) else _objects(c) for key, c in columns.items()}

    def chunks(wanted: Sequence[str]) -> Iterator[Chunk]:
        lengths = {key: len(arrays[key]) if arrays[key].ndim else 0 for key in wanted}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise InputError(f"{name}: columns must be equally long; are {listed}")
        n = next(iter(lengths.values()), 0)
        yield Chunk(np.arange(1, n + 1), {key: arrays[key] for key in wanted})

    return Table(name, list(arrays), chunks)


def _ragged(column: Any) -> bool:
    """Whether a column is a list of lists or of mixed values, which NumPy would not keep apart."""
    return isinstance(column, (list, tuple)) and not all(
        isinstance(value, (int, float)) for value in column
    )


def _objects(column: Sequence[Any]) -> Any:
    array = np.empty(len(column), object)
    for i, value in enumerate(column):
        array[i] = value
    return array
