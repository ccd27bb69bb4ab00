"""What compressed rows are asked for: on the CPU by SciPy's kernels, elsewhere by torch's operations.

SciPy computes on one thread, in the order of the rows: the bits are the same each time, and a busy machine takes
nothing but its share, where torch's index operations enter a pool of threads that wait for each other.
"""

import warnings
from copy import copy
from functools import cache, cached_property, lru_cache
from typing import Protocol

import numpy as np
import torch
from scipy import sparse

FEW_STORED = 4  # times as many features as numbers stored: then a sum is added number by number, and not formed

Compressed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Products(Protocol):
    """Products with a sparse matrix, and its rows."""

    def rows(self, chosen: torch.Tensor) -> Compressed:
        """Return a copy of the rows of these numbers: their bounds, columns and values."""

    def matmul(self, W: torch.Tensor) -> torch.Tensor:
        """Return X W."""

    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add alpha Xᵀ R to `total`."""

    def to_dense(self) -> torch.Tensor:
        """Return a tensor with the zeros filled in."""


class ScipyProducts:
    """Products on the CPU, on one thread; arrays share the memory of the tensors.

    Parameters
    ----------
    crow, col, value : torch.Tensor
        Compressed rows.
    shape : tuple of int
    """

    def __init__(self, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, shape: tuple[int, int]):
        # SciPy's constructor would copy what is a small part of a larger array
        self._matrix = copy(_nothing_stored(shape, value.dtype))
        self._matrix.indptr, self._matrix.indices, self._matrix.data = crow.numpy(), col.numpy(), value.numpy()

    def rows(self, chosen: torch.Tensor) -> Compressed:
        """Copy rows."""
        rows = self._matrix[chosen.numpy()]
        return tuple(map(torch.from_numpy, (rows.indptr, rows.indices, rows.data)))

    def matmul(self, W: torch.Tensor) -> torch.Tensor:
        """Return X W."""
        return torch.from_numpy(self._matrix @ W.detach().numpy())

    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add alpha Xᵀ R, or each of its terms, where a sum would be mostly zeros."""
        matrix, total = self._matrix, total.numpy()
        with np.errstate(all="ignore"):  # what overflows is found in what comes of it, as everywhere with torch
            R = alpha * R.numpy()
            if FEW_STORED * len(matrix.data) > len(total):
                total += matrix.T @ R
                return
            lengths = matrix.indptr[1:] - matrix.indptr[:-1]
            for column, of_column in zip(total.T, R.T, strict=True):
                np.add.at(column, matrix.indices, matrix.data * of_column.repeat(lengths))

    def to_dense(self) -> torch.Tensor:
        """Fill in the zeros."""
        return torch.from_numpy(self._matrix.toarray())


class TorchProducts:
    """Products where the tensors are.

    Parameters
    ----------
    crow, col, value : torch.Tensor
        Compressed rows.
    shape : tuple of int
    """

    def __init__(self, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, shape: tuple[int, int]):
        self._crow, self._col, self._value, self._shape = crow, col, value, shape

    def rows(self, chosen: torch.Tensor) -> Compressed:
        """Copy rows."""
        first, last = (bounds.index_select(0, chosen) for bounds in (self._crow[:-1], self._crow[1:]))
        lengths = last - first
        crow = torch.nn.functional.pad(lengths.cumsum(0, dtype=lengths.dtype), (1, 0))
        n_stored = crow[-1].item()
        place = (first - crow[:-1]).repeat_interleave(lengths, output_size=n_stored)
        place += torch.arange(n_stored, dtype=place.dtype, device=place.device)
        return crow, self._col.index_select(0, place), self._value.index_select(0, place)

    def matmul(self, W: torch.Tensor) -> torch.Tensor:
        """Return X W."""
        return torch.mm(self._csr, W)

    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add each term of alpha Xᵀ R."""
        terms, col = self._value[:, None] * (alpha * R).index_select(0, self._row), self._col.long()
        for column, of_column in zip(total.unbind(1), terms.unbind(1), strict=True):
            column.scatter_add_(0, col, of_column)

    def to_dense(self) -> torch.Tensor:
        """Fill in the zeros."""
        dense = self._value.new_zeros(self._shape)
        dense.view(-1).index_add_(0, self._row * self._shape[1] + self._col, self._value)
        return dense

    @cached_property
    def _csr(self) -> torch.Tensor:
        _hear_warning()
        parts = self._crow, self._col, self._value
        return torch.sparse_csr_tensor(*parts, self._shape, device=self._value.device, check_invariants=False)

    @cached_property
    def _row(self) -> torch.Tensor:
        """Of each number stored."""
        rows = torch.arange(self._shape[0], device=self._crow.device)
        return rows.repeat_interleave(self._crow.diff(), output_size=len(self._value))


@lru_cache(8)
def _nothing_stored(shape: tuple[int, int], dtype: torch.dtype) -> sparse.csr_array:
    return sparse.csr_array(shape, dtype=torch.empty(0, dtype=dtype, device="cpu").numpy().dtype)


@cache
def _hear_warning() -> None:
    """Let torch warn, which it does once a process and into the void, that its own CSR tensors are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], torch.empty(0, device="cpu"), (1, 1), device="cpu")
