"""Products of a dense matrix with itself."""

import torch

from torchlinreg.engine.runtime.devices import at_once

PAIRED = 64  # columns, whose products with each other are worth a matrix of their own
PAIRED_ELEMENTS = 2**19  # numbers in a piece of that matrix


def sandwich(matrix: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return Xᵀ diag(w) X for each column w of the weights, shape (n_weights, n_features, n_features).

    Parameters
    ----------
    matrix : torch.Tensor of shape (n_rows, n_features)
        X.
    weights : torch.Tensor of shape (n_rows, n_weights)
    """
    n_columns = matrix.shape[1]
    if not 0 < n_columns <= PAIRED or weights.shape[1] == 1:
        return torch.stack([_sandwich(matrix, weight) for weight in weights.unbind(1)])
    # One product for all weights, with a matrix of the products of all pairs of columns
    first, second = torch.triu_indices(n_columns, n_columns, device=matrix.device)
    size = min(len(matrix), max(1, at_once(PAIRED_ELEMENTS, matrix.device) // len(first)))
    of_pairs, pairs = matrix.new_zeros(len(first), weights.shape[1]), matrix.new_empty(len(first), size)
    of_column = pairs.split(list(range(n_columns, 0, -1)))
    for rows, some in zip(matrix.split(size), weights.split(size), strict=True):
        transposed, n_rows = rows.t().contiguous(), len(rows)
        for column, part in enumerate(of_column):
            torch.mul(transposed[column:], transposed[column], out=part[:, :n_rows])
        of_pairs.addmm_(pairs[:, :n_rows], some)
    products = matrix.new_empty(weights.shape[1], n_columns, n_columns)
    products[:, first, second] = of_pairs.T
    products[:, second, first] = of_pairs.T
    return products


def _sandwich(matrix: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if matrix.device.type == "cpu":  # others would have to wait for the number of rows
        (nonzero,) = weight.nonzero(as_tuple=True)
        if len(nonzero) < len(matrix):
            matrix, weight = matrix[nonzero], weight[nonzero]
    return matrix.T @ (matrix * weight[:, None])
