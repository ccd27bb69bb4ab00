"""Parquet files, row group by row group."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from threading import Lock
from typing import TYPE_CHECKING

from torchlinreg.inputs.streams.base import TableFiles, check_names, import_arrow, list_paths, rows_in_chunk
from torchlinreg.inputs.streams.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

READ_BYTES = 2**25  # of a row group, read from the file at once
LEAST_READ_BYTES = 2**12  # for each of its columns


class ParquetChunks(TableFiles):
    """A table in Parquet files, as :func:`parquet_chunks` returns it."""

    __module__ = "torchlinreg.streams"

    def __init__(self, paths: list[str], columns: Columns, chunk_rows: int, groups: list[tuple[int, int, int]]):
        super().__init__(paths, columns, chunk_rows)
        self._groups = groups  # row groups: the number of the file, that in the file, and of rows
        # Of each chunk the row group, and which part of it
        self._parts = [(at, part) for at, (*_, n_rows) in enumerate(groups) for part in range(-(-n_rows // chunk_rows))]
        self._position = _Position()

    def __len__(self) -> int:
        return len(self._parts)

    def describe(self, number: int) -> str:
        """Return the number of a chunk, its file and row group."""
        file, group, _ = self._groups[self._parts[number][0]]
        return f"chunk {number} ({self.paths[file]}, row group {group})"

    def _read_table(self, number: int) -> "pa.Table":
        """Return a chunk: at once if it comes after the one that was read last."""
        if self._position.process != os.getpid():
            self._position = _Position()
        position, (group, part) = self._position, self._parts[number]
        with position.lock:
            if position.next == number:
                part = 0
            else:
                position.tables = self._tables(group)
            position.next = None  # for as long as an error may come
            for _ in range(part):
                next(position.tables)
            table = next(position.tables)
            position.next = number + 1
            return table

    def _tables(self, group: int) -> Iterator["pa.Table"]:
        """Yield the chunks from the first one of a row group on."""
        from pyarrow import Table  # noqa: PLC0415 - an extra

        names = self.columns.names
        buffer_size = max(LEAST_READ_BYTES, READ_BYTES // len(names))
        for at, groups in groupby(self._groups[group:], itemgetter(0)):
            with _open(self.paths[at], buffer_size=buffer_size) as file:
                for _, number, _ in groups:
                    batches = file.iter_batches(self.chunk_rows, row_groups=[number], columns=names)
                    yield from map(Table.from_batches, _cut(batches, self.chunk_rows))


class _Position:
    """Where a process is in the files; copies of it begin anew.

    Attributes
    ----------
    process : int
    lock : Lock
        For threads to read one after the other: open files take more memory than a chunk.
    next : int or None
        Number of the chunk that is read next.
    tables : iterator
        Of the chunks from that one on.
    """

    def __init__(self):
        self.process, self.lock, self.next, self.tables = os.getpid(), Lock(), None, iter(())

    def __reduce__(self):
        return _Position, ()


def parquet_chunks(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    target: str | Sequence[str] | None,
    *,
    features: Sequence[str] | None = None,
    sample_weight: str | None = None,
    chunk_rows: int | None = None,
) -> ParquetChunks:
    """Open Parquet files as a sequence of chunks, for :meth:`~torchlinreg.TorchLinearRegressor.fit_chunks`.

    Each row group is a chunk, or several if it has more than `chunk_rows`. Reading the chunks in their order costs
    nothing more than that; one from the middle of a row group costs reading what is before it in the group. Columns
    are converted as `fit` converts those of a frame.

    Parameters
    ----------
    paths : path, or sequence of paths
        Files with the same columns.
    target : str, sequence of str or None
        Column to predict, for a one-dimensional `y`; or a list of columns. None, for tables to predict for, makes each
        `y` None.
    features : sequence of str, default=None
        Columns to learn from; None means all others, without an index that pandas has stored.
    sample_weight : str, default=None
        Column of weights.
    chunk_rows : int, default=None
        Rows in a chunk, at most; None means 32 MB of features.

    Returns
    -------
    ParquetChunks
        A sequence of tuples ``(X, y)`` or ``(X, y, sample_weight)``, with `X` a DataFrame in float32 if all features
        are, else in float64.

    Raises
    ------
    ValueError
        If a file cannot be read, a column is missing or of dates, or files have different columns. Missing values, and
        texts that are no numbers, are refused as they are read, with the names of column and file.
    FileNotFoundError
        If there is no such file.
    ImportError
        If pyarrow is not installed, the extra `parquet`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.datasets import load_crop_yields
    >>> from torchlinreg.streams import parquet_chunks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "crops.parquet"
    ...     load_crop_yields(as_frame=True).frame.to_parquet(path)
    ...     chunks = parquet_chunks(path, ["apples", "oranges"])
    ...     model = TorchLinearRegressor().fit_chunks(chunks)
    >>> model.feature_names_in_.tolist()
    ['temperature', 'rainfall', 'humidity']
    """
    import_arrow()
    paths, columns, groups = list_paths(paths), None, []
    for at, path in enumerate(paths):
        with _open(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            if columns is None:
                columns, first = Columns.choose(schema, target, features, sample_weight), schema
                size = rows_in_chunk(chunk_rows, columns.dtype.itemsize * len(columns.features))
            _compare(columns.names, schema, first, path, paths[0])
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            groups += [(at, group, n_rows) for group, n_rows in enumerate(sizes) if n_rows]
    return ParquetChunks(paths, columns, size, groups)


def read_names(path: str) -> list[str]:
    """Return the names of the columns of a file, without that of an index that has no name.

    Raises
    ------
    ValueError, ImportError
        If it cannot be read.
    """
    import_arrow()
    with _open(path) as file:
        return [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]


def _open(path: str, **options):
    """Open a Parquet file, of which nothing is read ahead: pyarrow would keep that in memory."""
    from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - an extra

    try:
        return parquet.ParquetFile(path, pre_buffer=False, **options)
    except ArrowInvalid as error:
        raise ValueError(f"cannot read {path} as Parquet: {error}; check that the file is whole.") from error


def _compare(names: list[str], schema: "pa.Schema", first: "pa.Schema", path: str, first_path: str) -> None:
    """Refuse a file whose columns have other types than those of the first."""
    check_names(names, schema.names, path, first_path)
    for name in names:
        found, expected = schema.field(name).type, first.field(name).type
        if found != expected:
            raise ValueError(f"Column {name!r} is {found} in {path}, but {expected} in {first_path}; write both alike.")


def _cut(batches: Iterable["pa.RecordBatch"], n_rows: int) -> Iterator[list["pa.RecordBatch"]]:
    """Yield batches of so many rows together; the last ones may have fewer."""
    waiting, left = [], n_rows
    for batch in batches:
        while batch.num_rows:
            waiting.append(batch.slice(0, left))
            left -= waiting[-1].num_rows
            batch = batch.slice(waiting[-1].num_rows)
            if not left:
                yield waiting
                waiting, left = [], n_rows
    if waiting:
        yield waiting
