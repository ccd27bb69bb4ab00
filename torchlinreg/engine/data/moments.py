"""Means and sizes of columns, accurate under large offsets and for numbers of any magnitude; products of pairs."""

from threading import local
from typing import NamedTuple

import numpy as np
import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.products import add_products
from torchlinreg.engine.data.reductions import RowMean, Sums
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.runtime.devices import widest
from torchlinreg.engine.runtime.threads import in_parallel

BLOCK_ROWS = 2**18  # of targets, that a thread computes with at once
SUMMED = 2**20  # numbers, that a thread sums at once
ROUNDINGS = 8  # of a mean, that a constant may vary by
SMALLEST_SQUARE = 1e-30  # mean below which squares may have lost digits


def standardize(
    matrix: torch.Tensor, weight: torch.Tensor | None, *, centre: bool, power_of_two: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the columns with mean zero and mean square one, and the shift and scale that were taken off them.

    Parameters
    ----------
    matrix : torch.Tensor of shape (n_rows, n_columns)
    weight : torch.Tensor of shape (n_rows, 1), optional
    centre : bool
    power_of_two : bool
        Whether to divide by the nearest powers of two, which rounds nothing.
    """
    shift = weighted_mean(matrix, weight) if centre else torch.zeros_like(matrix[0])
    matrix = matrix - shift
    scale = root_mean_square(matrix, weight)
    if power_of_two:
        scale = nearest_power_of_two(scale)
    matrix /= scale
    if centre:
        # What rounding the first mean left is small, but the same in every row: it would pass for a direction
        rest = (matrix if weight is None else weight * matrix).mean(0)
        matrix -= rest
        shift = shift + scale * rest
    return matrix, shift, scale


def standardize_targets(
    y: torch.Tensor, weight: torch.Tensor | None, dtype: torch.dtype, *, centre: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `standardize` does, computed in float64, in another precision; many rows are shared among threads.

    Parameters
    ----------
    y : torch.Tensor of shape (n_rows, n_targets)
    weight : torch.Tensor of shape (n_rows, 1), optional
        With a mean of one.
    dtype : torch.dtype
    centre : bool
    """
    if len(y) <= BLOCK_ROWS or y.device.type != "cpu" or weight is not None:
        y, shift, scale = standardize(y.to(widest(y.device)), weight, centre=centre)
        return y.to(dtype), shift, scale
    blocks, standard = _blocks(y), torch.empty_like(y, dtype=dtype)
    shift = torch.zeros_like(y[0], dtype=torch.float64)
    if centre:  # as a number of the precision of y, so that nothing is lost in it
        shift = (sum(in_parallel(lambda rows: y[rows].sum(0, dtype=torch.float64), blocks)) / len(y)).to(y.dtype)

    def subtract(rows: slice) -> torch.Tensor:
        moved = torch.sub(y[rows], shift, out=standard[rows])
        return torch.linalg.vector_norm(moved, dim=0, dtype=torch.float64).square_()

    square = sum(in_parallel(subtract, blocks)) / len(y)
    rounding = (ROUNDINGS * torch.finfo(y.dtype).eps * shift.double()).square_()
    if not ((square > rounding + SMALLEST_SQUARE) & square.isfinite()).all():  # constant, or out of range when squared
        y, shift, scale = standardize(y.double(), weight, centre=centre)
        return y.to(dtype), shift, scale
    scale = square.sqrt_()
    in_parallel(lambda rows: standard[rows].div_(scale), blocks)
    return standard, shift.double(), scale


def _blocks(y: torch.Tensor) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, len(y), BLOCK_ROWS)]


def sum_is_finite(numbers: torch.Tensor) -> bool:
    """Whether the sum is finite, and so all terms: which needs no mask of the size of the table."""
    numbers = numbers.flatten()
    if numbers.device.type != "cpu" or not len(numbers):
        return bool(numbers.sum().isfinite())
    return bool(np.isfinite(in_parallel(_sum, numbers.split(SUMMED))).all())


def _sum(numbers: torch.Tensor) -> float:
    with np.errstate(all="ignore"):
        return numbers.numpy().sum()


def nearest_power_of_two(size: torch.Tensor) -> torch.Tensor:
    """Round to a power of two."""
    return torch.exp2(torch.log2(size).round())


def weighted_mean(matrix: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of each column: exact for a constant one, and accurate under a large offset."""
    first = matrix[0]
    rest = matrix - first
    return first + (rest if weight is None else rest.mul_(weight)).mean(0)


def root_mean_square(matrix: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the root of the weighted mean square of each column, without overflow; one for columns of zeros."""
    if matrix.device.type == "cpu":
        square = (matrix.square() if weight is None else matrix.square().mul_(weight)).mean(0)
        if ((square > SMALLEST_SQUARE) & square.isfinite()).all():
            return square.sqrt_()
    largest = matrix.abs().amax(0)
    largest = torch.where(largest > 0, largest, 1.0)
    squares = (matrix / largest).square_()
    size = largest * (squares if weight is None else squares.mul_(weight)).mean(0).sqrt_()
    return torch.where(size > 0, size, 1.0)


class ColumnMeans(RowMean):
    """Reduction: Xᵀ R / n, the weighted means of columns times numbers of each row, shape (n_features, n_factors).

    Parameters
    ----------
    factors : torch.Tensor of shape (n_rows, n_factors), optional
        R; ones by default.
    """

    def __init__(self, factors: torch.Tensor | None = None):
        super().__init__()
        self._factors = factors

    def sums(self, block: Batch) -> torch.Tensor:
        """Return Xᵀ R."""
        wide = widest(block.y.device)
        factors = torch.ones_like(block.y[:, :1], dtype=wide)
        if self._factors is not None:
            factors = self._factors[block.first_row : block.first_row + len(block.y)].to(wide)
        factors = factors if block.weight is None else factors * block.weight
        return block.X.to(factors).rmatmul(factors)


class ColumnMoments(RowMean):
    """Reduction: the weighted means of dense columns and of their squares, shape (2, n_features)."""

    def sums(self, block: Batch) -> torch.Tensor:
        """Return the sums."""
        X = block.X.to_dense()
        weight = X.new_ones(1, len(X)) if block.weight is None else block.weight.to(X).T
        return torch.cat([weight @ X, weight @ X.square()])


class SparseVariances(Sums):
    """Reduction: the weighted mean squares of sparse columns about given means.

    Parameters
    ----------
    mean : torch.Tensor of shape (n_features,)
    """

    SUMMED = ("_squares", "_stored", "_n_rows")

    def __init__(self, mean: torch.Tensor):
        self._mean, self._n_rows = mean, 0
        self._squares, self._stored = torch.zeros_like(mean), torch.zeros_like(mean)

    def update(self, block: Batch) -> None:
        """Add the squares of a block, of the numbers stored; each that is not is a zero."""
        weight = torch.ones_like(block.y[:, :1]) if block.weight is None else block.weight
        deviation = block.X.value - self._mean.index_select(0, block.X.col)
        self._squares += block.X.with_values(deviation.square_()).rmatmul(weight)[:, 0]
        self._stored += block.X.map(torch.ones_like).rmatmul(weight)[:, 0]
        self._n_rows += len(block.y)

    @property
    def value(self) -> torch.Tensor:
        """The variances, shape (n_features,); zero for those below rounding."""
        of_zeros = (1.0 - self._stored / self._n_rows).clamp_(min=0) * self._mean.square()
        variance = self._squares / self._n_rows + of_zeros
        rounding = 64 * torch.finfo(self._mean.dtype).eps * self._mean
        return torch.where(variance > rounding.square(), variance, 0.0)


def sparse_moments(source: MemorySource, block_rows: int, *, centre: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of each sparse column, or zero, and the mean square of what is left."""
    mean = source.y.new_zeros(source.shape[1])
    if centre:
        mean = source.reduce(ColumnMeans(), block_rows).value[:, 0]
    return mean, source.reduce(SparseVariances(mean), block_rows).value


class Moments(NamedTuple):
    """Means over the rows, of which the normal equations are made.

    Attributes
    ----------
    mean : torch.Tensor of shape (n_features,)
        Of the shifted features.
    covariance : torch.Tensor of shape (n_features, n_features)
    right_side : torch.Tensor of shape (n_features, n_targets)
        Of features times targets.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    right_side: torch.Tensor


class GramSum(Sums):
    """Reduction: products of all pairs of features, and of features with targets and ones, weighted.

    Parameters
    ----------
    shift : torch.Tensor of shape (n_features,)
        Subtracted from the features.
    dtype : torch.dtype
        Precision of the products within a block; their sums are in float64.
    mixture : torch.Tensor of shape (n_features, n_features), optional
        Times which the shifted features are taken, in that precision.
    """

    SUMMED = ("_sums", "_n_rows")

    def __init__(self, shift: torch.Tensor, dtype: torch.dtype, mixture: torch.Tensor | None = None):
        self._shift, self._dtype, self._of_thread = shift if shift.any() else None, dtype, local()
        self._mixture = mixture
        self._sums, self._n_rows = 0.0, 0

    def update(self, block: Batch) -> None:
        """Add the products of a block."""
        y, (n_rows, n_features), buffers = block.y.to(self._dtype), block.X.shape, self._buffers(block)
        root = buffers.ones[:n_rows] if block.weight is None else block.weight.to(self._dtype).sqrt()
        X = block.X.to(y.device).to_dense()
        if block.weight is not None or self._shift is not None or X.dtype != self._dtype:
            rows = buffers.rows[:n_rows]
            X = rows.copy_(X)  # before the shift: converted at once, rows take twice as long
            if self._shift is not None:
                X.sub_(self._shift)
        if self._mixture is not None:
            X = torch.matmul(X, self._mixture, out=buffers.mixed[:n_rows])
        if block.weight is not None:
            X, y = X * root, y * root
        if self._n_rows == 0:
            self._sums = y.new_zeros(n_features, n_features + y.shape[1] + 1, dtype=widest(y.device))
        add_products(self._sums, X, y, root)
        self._n_rows += n_rows

    def _buffers(self, block: Batch) -> local:
        """Return memory for rows, and for a one each, that belongs to the calling thread."""
        buffers, size = self._of_thread, block.X.shape
        if len(getattr(buffers, "ones", ())) < size[0]:
            buffers.ones = block.y.new_ones(size[0], 1, dtype=self._dtype)
            buffers.rows = block.y.new_empty(size, dtype=self._dtype)
            buffers.mixed = block.y.new_empty(size if self._mixture is not None else (0, 0), dtype=self._dtype)
        return buffers

    def moments(self, *, centre: bool) -> Moments:
        """Return the means; without centring, the covariance is about zero."""
        means, n_features = self._sums / self._n_rows, len(self._sums)
        covariance, right_side, mean = means[:, :n_features], means[:, n_features:-1], means[:, -1]
        if centre:
            covariance = covariance - mean[:, None] * mean
        return Moments(mean, covariance, right_side)
