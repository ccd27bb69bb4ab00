"""The Gram matrix of all rows: where columns are few, it costs about as much as a pass over the rows, and saves many.

It squares the condition number, and is as good as its precision is: enough for a change of variables in which a pass
or two lead to the answer.
"""

from copy import copy
from typing import NamedTuple, Self

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.products import gram
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.runtime.devices import widest

# Features up to which the products of pairs of columns cost less than the passes that they save, by the precision of
# the rows, which says how many passes these are; half as many, if products are to be in double precision
GRAM_FEATURES = {torch.float32: 64, torch.float64: 256}
ROOM = 0.4  # power of the smallest and largest numbers, within which products and their sums are in range
TRUSTED = 1e-2  # largest relative error of an eigenvalue that lets one pass follow another closely


class Moments(NamedTuple):
    """Means over the rows, of which the normal equations are made.

    Attributes
    ----------
    mean : torch.Tensor of shape (n_features,)
        Of the shifted features.
    covariance : torch.Tensor of shape (n_features, n_features)
    right_side : torch.Tensor of shape (n_features + 1, n_targets)
        Of features times targets, and of targets.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    right_side: torch.Tensor


def suits_gram(source: MemorySource) -> bool:
    """Whether a source has so few columns, targets included, that the Gram matrix is worth computing."""
    one_weight = source.weight is None or source.weight.shape[1] == 1
    n_columns = source.shape[1] + source.y.shape[1]
    return one_weight and not source.is_sparse and n_columns <= GRAM_FEATURES.get(source.X.dtype, 0)


def gram_dtype(source: MemorySource, condition: float, sizes: torch.Tensor) -> torch.dtype | None:
    """Return the cheapest precision that suffices, or None if there is none that is worth its costs.

    Parameters
    ----------
    source : MemorySource
    condition : float
        Of the columns, brought to one scale.
    sizes : torch.Tensor
        Numbers as large as those to be multiplied, none of them zero.
    """
    n_columns, limit = source.shape[1] + source.y.shape[1], GRAM_FEATURES[source.X.dtype]
    for dtype, most in ((torch.float32, limit), (widest(source.y.device), limit // 2)):
        of = torch.finfo(dtype)
        in_range = bool(((sizes > of.tiny**ROOM) & (sizes < of.max**ROOM)).all())
        if in_range and condition**2 * of.eps < TRUSTED and n_columns <= most:
            return dtype
    return None


class GramSum:
    """Reduction: products of all pairs of columns, of features, targets and ones, weighted.

    Parameters
    ----------
    shift : torch.Tensor of shape (n_features,)
        Subtracted from the features.
    dtype : torch.dtype
        Precision of the products within a block; their sums are in float64.
    """

    def __init__(self, shift: torch.Tensor, dtype: torch.dtype):
        self._shift, self._is_shifted, self._dtype = shift, bool(shift.any()), dtype
        self._buffer, self._sum, self._n_rows = None, 0.0, 0

    def update(self, block: Batch) -> None:
        """Add the products of a block."""
        n_rows, n_features = block.X.shape
        if self._buffer is None or len(self._buffer) < n_rows:
            n_columns = n_features + block.y.shape[1] + 1
            self._buffer = block.y.new_empty(n_rows, n_columns, dtype=self._dtype)
        rows = self._buffer[:n_rows]
        X = block.X.to(rows.device).to_dense()
        if self._is_shifted:
            torch.sub(X, self._shift, out=rows[:, :n_features])
        else:
            rows[:, :n_features] = X
        rows[:, n_features:-1], rows[:, -1] = block.y, 1.0
        if block.weight is not None:
            rows *= block.weight.sqrt()
        self._sum = self._sum + gram(rows).to(widest(rows.device))
        self._n_rows += n_rows

    def merge(self, other: Self) -> Self:
        """Return the products of the rows of both."""
        self._sum, self._n_rows = self._sum + other._sum, self._n_rows + other._n_rows
        return self

    def fork(self) -> Self:
        """Return products of no rows yet."""
        other = copy(self)
        other._sum, other._n_rows, other._buffer = 0.0, 0, None
        return other

    def moments(self, *, centre: bool) -> Moments:
        """Return the means; without centring, the covariance is about zero."""
        means, n = self._sum / self._n_rows, len(self._shift)
        mean, covariance = means[:n, -1], means[:n, :n]
        if centre:
            covariance = covariance - mean[:, None] * mean
        return Moments(mean, covariance, torch.cat([means[:n, n:-1], means[-1:, n:-1]]))
