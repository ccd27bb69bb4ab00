"""What all tables in chunks have in common."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from operator import index
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from torchlinreg.inputs.streams.columns import Columns

CHUNK_BYTES = 2**25  # of features in a chunk, where nothing else is asked for: 32 MB


class ChunkedTable(ABC):
    """A table that is read chunk by chunk: a sequence of tuples ``(X, y)`` or ``(X, y, sample_weight)``.

    Each chunk is read when it is asked for. Tables can be pickled, and read from several threads and processes.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of chunks."""

    @abstractmethod
    def read(self, number: int, buffer: np.ndarray | None = None) -> tuple:
        """Read a chunk.

        Parameters
        ----------
        number : int
            From 0 to ``len(self) - 1``.
        buffer : ndarray, default=None
            What `new_buffer` returned, for the features; whatever was read into it before is overwritten. None takes
            new memory.

        Returns
        -------
        tuple
            ``(X, y)`` or ``(X, y, sample_weight)``.
        """

    @abstractmethod
    def new_buffer(self) -> np.ndarray | None:
        """Return memory for the features of a chunk; None if chunks need none of their own."""

    @abstractmethod
    def describe(self, number: int) -> str:
        """Return the number of a chunk and where it is from, for messages."""

    def __getitem__(self, number: int) -> tuple:
        return self.read(range(len(self))[index(number)])

    def __iter__(self) -> Iterator[tuple]:
        return map(self.read, range(len(self)))


class TableFiles(ChunkedTable):
    """A table in files, of which chunks are read as Arrow tables.

    Parameters
    ----------
    paths : list of str
    columns : Columns
        Which of its columns are features, targets and weights.
    chunk_rows : int
        Rows in a chunk, at most.
    """

    def __init__(self, paths: list[str], columns: Columns, chunk_rows: int):
        self.paths, self.columns, self.chunk_rows = paths, columns, chunk_rows

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in their order."""
        return self.columns.features

    @property
    def dtype(self) -> np.dtype:
        """Type of the features, the same in all chunks."""
        return self.columns.dtype

    def read(self, number: int, buffer: np.ndarray | None = None) -> tuple:
        """Read a chunk, its features as a DataFrame in the memory of the buffer.

        Parameters
        ----------
        number : int
        buffer : ndarray, default=None
            What `new_buffer` returned.

        Raises
        ------
        ValueError
            If values are missing or no numbers; the message names the columns, the file and the place in it.
        """
        try:
            return self.columns.to_chunk(self._read_table(number), buffer)
        except ValueError as error:
            raise ValueError(f"{self.describe(number)}: {error}") from error

    def new_buffer(self) -> np.ndarray:
        """Return memory for the features of a chunk."""
        return np.empty((self.chunk_rows, len(self.columns.features)), self.columns.dtype)

    @abstractmethod
    def _read_table(self, number: int):
        """Return the columns of a chunk as an Arrow table."""


def list_paths(paths) -> list[str]:
    """Return a path, or several, as a list.

    Raises
    ------
    ValueError
        If there is none.
    FileNotFoundError
    """
    paths = [paths] if isinstance(paths, str | PathLike) else list(paths)
    if not paths:
        raise ValueError("paths is empty: name a file at least.")
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file {fspath(path)!r}.")
    return [fspath(path) for path in paths]


def check_names(names: list[str], found: list[str], path: str, first_path: str) -> None:
    """Refuse a file that has not all columns that are read from the first one.

    Raises
    ------
    ValueError
    """
    counts = Counter(found)
    for name in names:
        if counts[name] != 1:
            raise ValueError(f"{path} has {counts[name]} columns {name!r}, but {first_path} has one.")


def rows_in_chunk(chunk_rows: int | None, bytes_in_row: float) -> int:
    """Return the rows of a chunk: those asked for, or as many as have `CHUNK_BYTES`.

    Raises
    ------
    ValueError
    """
    if chunk_rows is None:
        return max(1, int(CHUNK_BYTES / max(1.0, bytes_in_row)))
    if index(chunk_rows) < 1:
        raise ValueError(f"chunk_rows must be positive, got {chunk_rows!r}.")
    return index(chunk_rows)


def import_arrow():
    """Import pyarrow.

    Raises
    ------
    ImportError
        If it is not installed; the message says how to.
    """
    try:
        import pyarrow  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError('reading files in chunks needs pyarrow: pip install "torchlinreg[parquet]"') from error
    return pyarrow
