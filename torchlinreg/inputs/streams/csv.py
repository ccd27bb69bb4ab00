"""CSV files, cut at the ends of lines."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from torchlinreg.inputs.streams.base import TableFiles, check_names, import_arrow, list_paths, rows_in_chunk
from torchlinreg.inputs.streams.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

SCANNED = 2**22  # bytes of a file, whose ends of lines are looked for at once
FEW_BYTES = 2**16  # that tell what is in the columns
UTF_8 = "utf-8"
NEWLINE, QUOTE = ord("\n"), ord('"')


@dataclass(frozen=True)
class Format:
    """How a CSV file is written.

    Attributes
    ----------
    sep, decimal, encoding : str
    """

    sep: str
    decimal: str
    encoding: str

    def parse(self, text: bytes, names: list[str] | None, used: list[str] | None = None) -> "pa.Table":
        """Return a table; one of no rows for empty lines.

        Parameters
        ----------
        text : bytes
            Whole lines.
        names : list of str or None
            Of the columns; None takes them from the first line.
        used : list of str, optional
            Columns to return; by default all.
        """
        from pyarrow import BufferReader, csv, nulls, table  # noqa: PLC0415 - an extra

        if not text.strip():  # which pyarrow refuses
            return table({name: nulls(0) for name in used or names})
        if self.encoding != UTF_8:
            text = text.decode(self.encoding).encode()
        return csv.read_csv(
            BufferReader(text),
            # one block, so that the type of a column is found from all of its values
            csv.ReadOptions(column_names=names, block_size=len(text) + 1),
            csv.ParseOptions(delimiter=self.sep, newlines_in_values=True),
            csv.ConvertOptions(include_columns=used, decimal_point=self.decimal, strings_can_be_null=True),
        )


class Part(NamedTuple):
    """A chunk: bytes of a file, whose columns have these names."""

    path: str
    names: list[str]
    first_line: int
    start: int
    stop: int


class CSVChunks(TableFiles):
    """A table in CSV files, as :func:`csv_chunks` returns it."""

    __module__ = "torchlinreg.streams"

    def __init__(self, paths: list[str], columns: Columns, chunk_rows: int, written: Format, parts: list[Part]):
        super().__init__(paths, columns, chunk_rows)
        self._format, self._parts = written, parts

    def __len__(self) -> int:
        return len(self._parts)

    def describe(self, number: int) -> str:
        """Return the number of a chunk, its file, and where that begins."""
        part = self._parts[number]
        return f"chunk {number} ({part.path}, from line {part.first_line} after the heading on)"

    def _read_table(self, number: int) -> "pa.Table":
        part = self._parts[number]
        return self._format.parse(_read_bytes(part.path, part.start, part.stop), part.names, self.columns.names)


def csv_chunks(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    target: str | Sequence[str] | None,
    *,
    features: Sequence[str] | None = None,
    sample_weight: str | None = None,
    chunk_rows: int | None = None,
    sep: str = ",",
    decimal: str = ".",
    encoding: str = UTF_8,
) -> CSVChunks:
    """Open CSV files as a sequence of chunks, for :meth:`~torchlinreg.TorchLinearRegressor.fit_chunks`.

    The files are gone through once at first, to find out where lines end; line ends within quotes are text. Numbers are
    read as float64 whatever they look like in one chunk or another, "true" and "false" as 1 and 0.

    Parameters
    ----------
    paths : path, or sequence of paths
        Files with a heading each, and the same columns.
    target : str, sequence of str or None
        Column to predict, for a one-dimensional `y`; or a list of columns. None, for tables to predict for, makes each
        `y` None.
    features : sequence of str, default=None
        Columns to learn from; None means all others.
    sample_weight : str, default=None
        Column of weights.
    chunk_rows : int, default=None
        Rows in a chunk; None means 32 MB of features. Empty lines count.
    sep, decimal, encoding : str, default="," and "." and "utf-8"
        What separates columns, the decimal mark, and the encoding of the files.

    Returns
    -------
    CSVChunks
        A sequence of tuples ``(X, y)`` or ``(X, y, sample_weight)``, with `X` a DataFrame.

    Raises
    ------
    ValueError
        If a file cannot be read, a column is missing or of dates, or files have different columns. Missing values, and
        texts that are no numbers, are refused as they are read, with the names of column and file.
    FileNotFoundError
        If there is no such file.
    ImportError
        If pyarrow is not installed, the extra `parquet`.
    """
    import_arrow()
    written = check_format(sep, decimal, encoding)
    paths, columns, parts = list_paths(paths), None, []
    for path in paths:
        names, start = read_heading(path, written)
        if columns is None:
            columns = Columns.choose(_find_schema(path, start, names, written), target, features, sample_weight)
            size = rows_in_chunk(chunk_rows, columns.dtype.itemsize * len(columns.features))
        check_names(columns.names, names, path, paths[0])
        borders = _find_borders(path, start, size)
        places = pairwise(borders)
        parts += [Part(path, names, 1 + number * size, *place) for number, place in enumerate(places)]
    return CSVChunks(paths, columns, size, written, parts)


def check_format(sep: str, decimal: str, encoding: str) -> Format:
    """Return the format of files in which a line can be told by its bytes; refuse others."""
    marks = sep + decimal + chr(NEWLINE) + chr(QUOTE)
    try:
        is_plain = marks.encode(encoding) == marks.encode("ascii")
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"Unusable encoding={encoding!r}, sep={sep!r} or decimal={decimal!r}: {error}.") from error
    if not (is_plain and len(sep) == len(decimal) == 1):
        raise ValueError(
            f"encoding={encoding!r}, sep={sep!r} and decimal={decimal!r} must be such that single bytes mark the ends "
            "of lines and cells; convert the file to UTF-8, with a separator of one character."
        )
    return Format(sep, decimal, encoding)


def _read_bytes(path: str, start: int, stop: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(stop - start)


def read_heading(path: str, written: Format) -> tuple[list[str], int]:
    """Return the names of the columns, and where the rows begin."""
    line = b""
    with open(path, "rb") as file:
        for each in iter(file.readline, b""):
            line += each
            if line.strip() and line.count(b'"') % 2 == 0:
                return written.parse(line, None).column_names, file.tell()
    raise ValueError(f"{path} is empty: give a table with a heading and at least a few rows.")


def _find_schema(path: str, start: int, names: list[str], written: Format) -> "pa.Schema":
    """Return what the first rows have in their columns."""
    few = _read_bytes(path, start, start + FEW_BYTES)
    ends, _ = _find_ends(np.frombuffer(few, np.uint8), 0)
    if not few.strip():
        raise ValueError(f"{path} has no rows: give a table with a heading and at least a few rows.")
    try:
        return written.parse(few[: ends[-1] + 1] if len(ends) else few, names).schema
    except ValueError as error:
        raise ValueError(f"cannot read {path} as CSV: {error}; check sep, decimal and encoding.") from error


def _find_borders(path: str, start: int, n_lines: int) -> list[int]:
    """Return where each so many lines of a file begin in bytes, and where the last ones end.

    Parameters
    ----------
    path : str
    start : int
        Where the first line begins.
    n_lines : int
        Lines between two borders.
    """
    borders, left, is_quoted, at = [start], n_lines, 0, start
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(SCANNED):
            ends, is_quoted = _find_ends(np.frombuffer(block, np.uint8), is_quoted)
            chosen = ends[left - 1 :: n_lines]
            borders += (at + 1 + chosen).tolist()
            left = n_lines - (len(ends) - left) % n_lines if len(ends) >= left else left - len(ends)
            at += len(block)
    return borders if not _read_bytes(path, borders[-1], at).strip() else [*borders, at]


def _find_ends(block: np.ndarray, is_quoted: int) -> tuple[np.ndarray, int]:
    """Return where lines end in a block of bytes, and whether it ends within quotes as it may have begun."""
    ends, quotes = np.flatnonzero(block == NEWLINE), block == QUOTE
    if not is_quoted and not quotes.any():
        return ends, 0
    within = np.cumsum(quotes, dtype=np.uint8)  # of which only the last bit counts: a quote within quotes is doubled
    within += np.uint8(is_quoted)
    return ends[within[ends] % 2 == 0], int(within[-1] % 2)
