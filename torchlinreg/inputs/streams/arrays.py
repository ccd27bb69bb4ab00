"""Arrays that are read in slices: memory maps, sparse matrices, and what h5py and zarr open."""

import mmap
from math import ceil
from typing import Any

import numpy as np
from scipy import sparse

from torchlinreg.inputs.streams.base import ChunkedTable, rows_in_chunk


class ArrayChunks(ChunkedTable):
    """A table in arrays, as :func:`array_chunks` returns it."""

    __module__ = "torchlinreg.streams"

    def __init__(self, X, y, sample_weight=None, *, chunk_rows: int):
        self.X, self.y, self.sample_weight, self.chunk_rows = X, y, sample_weight, chunk_rows

    def __len__(self) -> int:
        return ceil(self.X.shape[0] / self.chunk_rows)

    def read(self, number: int, buffer: None = None) -> tuple:
        """Return a chunk: slices of the arrays.

        Parameters
        ----------
        number : int
        buffer : None
        """
        start, stop = number * self.chunk_rows, min((number + 1) * self.chunk_rows, self.X.shape[0])
        return tuple(_slice(part, start, stop) for part in (self.X, self.y, self.sample_weight) if part is not None)

    def new_buffer(self) -> None:
        """Return None: slices need no memory of their own, or bring it along."""
        return

    def describe(self, number: int) -> str:
        """Return the number of a chunk and its first row."""
        return f"chunk {number} (from row {number * self.chunk_rows} on)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: _MapOfFile.of(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        opened = {name: value.open() if isinstance(value, _MapOfFile) else value for name, value in state.items()}
        vars(self).update(opened)


class _MapOfFile:
    """What a memory map is opened by, for another process: pickles of maps hold all of the numbers."""

    def __init__(self, mapped: np.memmap):
        order = "C" if mapped.flags.c_contiguous else "F"
        self._how = (mapped.filename, mapped.dtype, "r", mapped.offset, mapped.shape, order)

    @classmethod
    def of(cls, value):
        """Return this for a map of a file, and everything else as it is, parts of a map among it."""
        is_map = isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap)
        return cls(value) if is_map and value.filename and value.mode != "c" else value

    def open(self) -> np.memmap:
        """Map the file."""
        return np.memmap(*self._how)


def array_chunks(X, y, sample_weight=None, *, chunk_rows: int | None = None) -> ArrayChunks:
    """Cut arrays into a sequence of chunks, for :meth:`~torchlinreg.TorchLinearRegressor.fit_chunks`.

    Slices of memory maps, arrays and sparse matrices share their memory; h5py and zarr read those that are asked for.

    Parameters
    ----------
    X : array-like, sparse matrix in CSR format or DataFrame of shape (n_samples, n_features)
        Anything with a shape that slices return rows of.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
    sample_weight : array-like of shape (n_samples,), default=None
    chunk_rows : int, default=None
        Rows in a chunk; None means 32 MB of features, in whole blocks where an array is stored in blocks.

    Returns
    -------
    ArrayChunks
        A sequence of tuples ``(X, y)`` or ``(X, y, sample_weight)``.

    Raises
    ------
    ValueError, TypeError
        If `X` cannot be sliced into rows, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.streams import array_chunks
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> chunks = array_chunks(X, X @ [1.0, 2.0], chunk_rows=100)
    >>> len(chunks), TorchLinearRegressor().fit_chunks(chunks).coef_.round(6)
    (10, array([1., 2.]))
    """
    if sparse.issparse(X) and X.format != "csr":
        raise TypeError(f"X is sparse in {X.format.upper()} format, which has no rows to slice; use X.tocsr().")
    X, y, sample_weight = map(_with_shape, (X, y, sample_weight))
    if len(X.shape) != 2:
        raise ValueError(f"X must have two dimensions, got shape {tuple(X.shape)}.")
    for name, part in (("y", y), ("sample_weight", sample_weight)):
        if part is not None and part.shape[:1] != X.shape[:1]:
            raise ValueError(f"X has {X.shape[0]} rows, but {name} has shape {tuple(part.shape)}.")
    size = rows_in_chunk(chunk_rows, _bytes_in_row(X))
    if chunk_rows is None:
        block = _rows_in_block(X)
        size = max(1, size // block) * block
    return ArrayChunks(X, y, sample_weight, chunk_rows=size)


def _with_shape(part):
    return part if part is None or hasattr(part, "shape") else np.asarray(part)


def _slice(table, start: int, stop: int):
    """Return rows of a table; of a sparse matrix a view, which SciPy would copy."""
    if sparse.issparse(table):
        borders = table.indptr[start : stop + 1]
        stored = slice(borders[0], borders[-1])
        parts = table.data[stored], table.indices[stored], borders - borders[0]
        return type(table)(parts, shape=(stop - start, table.shape[1]))
    return getattr(table, "iloc", table)[start:stop]


def _bytes_in_row(X) -> float:
    """Return how many bytes a row has, in the mean."""
    if sparse.issparse(X):
        return (X.data.nbytes + X.indices.nbytes) / max(1, X.shape[0])
    return X.shape[1] * getattr(getattr(X, "dtype", None), "itemsize", 8)


def _rows_in_block(X) -> int:
    """Return how many rows h5py and zarr store together, and would read anew for each slice; 1 for others."""
    block = (getattr(X, "chunks", None) or (1,))[0]
    return block if isinstance(block, int) else 1  # dask has a tuple there
