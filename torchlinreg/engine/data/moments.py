"""Means and sizes of columns, accurate under large offsets and for numbers of any magnitude."""

import torch

from torchlinreg.engine.data.batches import MiniBatches
from torchlinreg.engine.runtime.devices import at_once

PAIRED = 64  # columns, whose products with each other are worth a table of their own
PAIRED_ELEMENTS = 2**19  # numbers in a piece of that table


def standardise(
    table: torch.Tensor, weight: torch.Tensor | None, *, centre: bool, coarse: bool = False
) -> tuple[torch.Tensor, ...]:
    """Return the columns with mean zero and mean square one, and the shift and scale that were taken off them.

    A coarse scale is the nearest power of two, dividing by which rounds nothing.
    """
    shift = weighted_mean(table, weight) if centre else torch.zeros_like(table[0])
    table = table - shift
    scale = root_mean_square(table, weight)
    if coarse:
        scale = torch.exp2(torch.log2(scale).round())
    table /= scale
    if centre:
        # What rounding the first mean left is small, but the same in every row: it would pass for a direction
        rest = weighted_mean(table, weight)
        table -= rest
        shift = shift + scale * rest
    return table, shift, scale


def weighted_mean(table: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Mean of each column: exact for a constant one, and accurate under a large offset."""
    first = table[0]
    rest = table - first
    return first + (rest if weight is None else rest.mul_(weight)).mean(0)


def mean_and_variance(batches: MiniBatches, *, centre: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each column of sparse rows, or zero, and the mean square of what is left; no variance below rounding."""
    n_rows, n_features = batches.rows.X.shape
    zeros = batches.rows.y.new_zeros(n_features)
    mean, variance, kept = zeros.clone(), zeros.clone(), zeros.clone()
    for again in (False, True):
        for block in batches:
            for batch in block.batches:
                weight = torch.ones_like(batch.y[:, :1]) if batch.weight is None else batch.weight
                if not again:
                    mean += (batch.X_transposed @ weight)[:, 0] * centre
                    continue
                value = batch.X.value
                deviation = value - mean.index_select(0, batch.X.col)
                variance += (batch.X.with_values(deviation.square_()).t() @ weight)[:, 0]
                kept += (batch.X.with_values(torch.ones_like(value)).t() @ weight)[:, 0]
        if not again:
            mean /= n_rows
    variance = (variance / n_rows) + (1.0 - kept / n_rows).clamp_(min=0) * mean.square()
    rounding = 64 * torch.finfo(mean.dtype).eps * mean
    return mean, torch.where(variance > rounding.square(), variance, 0.0)


def root_mean_square(table: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Root of the weighted mean square of each column, without overflow; one for columns of zeros."""
    largest = table.abs().amax(0)
    largest = torch.where(largest > 0, largest, 1.0)
    squares = (table / largest).square_()
    size = largest * (squares if weight is None else squares.mul_(weight)).mean(0).sqrt_()
    return torch.where(size > 0, size, 1.0)


def sandwich(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return ``tableᵀ diag(w) table`` for each column w of the weights, shape (n_weights, n_columns, n_columns)."""
    n_columns = table.shape[1]
    if not 0 < n_columns <= PAIRED or weights.shape[1] == 1:
        return torch.stack([_sandwich(table, weight) for weight in weights.unbind(1)])
    # One product for all weights, of a table of all pairs of columns
    first, second = torch.triu_indices(n_columns, n_columns, device=table.device)
    size = min(len(table), max(1, at_once(PAIRED_ELEMENTS, table.device) // len(first)))
    of_pairs, pairs = table.new_zeros(len(first), weights.shape[1]), table.new_empty(len(first), size)
    of_column = pairs.split(list(range(n_columns, 0, -1)))
    for rows, some in zip(table.split(size), weights.split(size), strict=True):
        turned, n_rows = rows.t().contiguous(), len(rows)
        for column, part in enumerate(of_column):
            torch.mul(turned[column:], turned[column], out=part[:, :n_rows])
        of_pairs.addmm_(pairs[:, :n_rows], some)
    products = table.new_empty(weights.shape[1], n_columns, n_columns)
    products[:, first, second] = of_pairs.T
    products[:, second, first] = of_pairs.T
    return products


def _sandwich(table: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if table.device.type == "cpu":  # others would have to wait for their number
        (nonzero,) = weight.nonzero(as_tuple=True)
        if len(nonzero) < len(table):
            table, weight = table[nonzero], weight[nonzero]
    return table.T @ (table * weight[:, None])
