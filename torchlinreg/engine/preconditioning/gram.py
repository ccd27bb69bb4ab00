"""The Gram matrix of all rows: where columns are few, it costs about as much as a pass over the rows, and saves many.

It squares the condition number, and is as good as its precision is: enough for a change of variables in which a pass
or two lead to the answer.
"""

import torch

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
