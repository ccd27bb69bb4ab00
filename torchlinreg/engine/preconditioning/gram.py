"""The Gram matrix of all rows: where columns are few, it costs about as much as a pass over the rows, and saves many.

It squares the condition number, and is as good as its precision is: enough for a change of variables in which a pass
or two lead to the answer.
"""

from threading import local
from typing import NamedTuple

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.products import add_products
from torchlinreg.engine.data.reductions import Sums
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.runtime.devices import widest

# Features up to which the products of pairs of columns cost less than the passes that they save, by the precision of
# the rows, which says how much these cost, and that of the products
GRAM_FEATURES = {
    torch.float32: {torch.float32: 128, torch.float64: 128},
    torch.float64: {torch.float32: 256, torch.float64: 128},
}
NARROW = 32  # columns whose products cost so little that single precision is not worth the passes that it asks for
ROOM = 0.4  # power of the smallest and largest numbers, within which products and their sums are in range
TRUSTED = 1e-3  # largest relative error of an eigenvalue that lets one pass follow another closely


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


def suits_gram(source: MemorySource) -> bool:
    """Whether a source has so few columns, targets included, that the Gram matrix is worth computing."""
    one_weight = source.weight is None or source.weight.shape[1] == 1
    n_columns = source.shape[1] + source.y.shape[1]
    limits = GRAM_FEATURES.get(source.X.dtype, {})
    return one_weight and not source.is_sparse and n_columns <= max(limits.values(), default=0)


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
    n_columns, wide = source.shape[1] + source.y.shape[1], widest(source.y.device)
    as_given = source.X.dtype == wide and n_columns <= NARROW
    for dtype in (wide,) if as_given else (torch.float32, wide):
        of = torch.finfo(dtype)
        in_range = bool(((sizes > of.tiny**ROOM) & (sizes < of.max**ROOM)).all())
        if in_range and is_trusted(condition, dtype) and n_columns <= GRAM_FEATURES[source.X.dtype][dtype]:
            return dtype
    return None


def is_trusted(condition: float, dtype: torch.dtype) -> bool:
    """Whether products in a precision tell columns of this condition number apart, once they are of one scale."""
    return condition**2 * torch.finfo(dtype).eps < TRUSTED


class GramSum(Sums):
    """Reduction: products of all pairs of features, and of features with targets and ones, weighted.

    Parameters
    ----------
    shift : torch.Tensor of shape (n_features,)
        Subtracted from the features.
    dtype : torch.dtype
        Precision of the products within a block; their sums are in float64.
    """

    SUMMED = ("_sums", "_n_rows")

    def __init__(self, shift: torch.Tensor, dtype: torch.dtype):
        self._shift, self._dtype, self._of_thread = shift if shift.any() else None, dtype, local()
        self._sums, self._n_rows = 0.0, 0

    def update(self, block: Batch) -> None:
        """Add the products of a block."""
        y, (n_rows, n_features), buffers = block.y.to(self._dtype), block.X.shape, self._buffers(block)
        root = buffers.ones[:n_rows] if block.weight is None else block.weight.to(self._dtype).sqrt()
        X = block.X.to(y.device).to_dense()
        if block.weight is not None or self._shift is not None or X.dtype != self._dtype:
            rows = buffers.rows[:n_rows]
            X = rows.copy_(X) if self._shift is None else torch.sub(X, self._shift, out=rows)
        if block.weight is not None:
            X, y = X.mul_(root), y * root
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
        return buffers

    def moments(self, *, centre: bool) -> Moments:
        """Return the means; without centring, the covariance is about zero."""
        means, n_features = self._sums / self._n_rows, len(self._sums)
        covariance, right_side, mean = means[:, :n_features], means[:, n_features:-1], means[:, -1]
        if centre:
            covariance = covariance - mean[:, None] * mean
        return Moments(mean, covariance, right_side)
