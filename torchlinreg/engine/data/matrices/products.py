"""Products of a dense matrix with single columns, and with itself."""

import numpy as np
import torch

from torchlinreg.engine.runtime.devices import at_once
from torchlinreg.engine.runtime.threads import in_parallel

# From so many numbers on, NumPy's products with a single column come at memory speed, which torch's do on some
# processors only; below, torch's cost less to call
NUMPY_ELEMENTS = 2**17
GRAM_ELEMENTS = 2**18  # numbers in a part of a matrix that is multiplied with itself: those that the cache holds
GRAM_PARTS = 16  # at most, each with a product of its own
SUMMED_ROWS = 2**13  # at once in the precision of the products: their errors are independent, and mostly cancel
FEW = 4  # times as many features are read sooner than some of them are picked out
PAIRED = 64  # columns, whose products with each other are worth a matrix of their own
PAIRED_ELEMENTS = 2**19  # numbers in a piece of that matrix


def suits_numpy(matrix: torch.Tensor) -> bool:
    """Whether NumPy is to multiply this matrix with single columns."""
    return matrix.numel() >= NUMPY_ELEMENTS and matrix.device.type == "cpu"


def multiply_column(matrix: np.ndarray, column: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return X w in `out`, for w of shape (n_columns, 1)."""
    np.dot(matrix, column.numpy()[:, 0], out=out.numpy()[:, 0])
    return out


def multiply_transposed(matrix: np.ndarray, column: torch.Tensor) -> torch.Tensor:
    """Return Xᵀ r, for r of shape (n_rows, 1)."""
    return torch.from_numpy(np.dot(column.numpy()[:, 0], matrix))[:, None]


def add_residual_sums(total: torch.Tensor, X, W: torch.Tensor, b: torch.Tensor, y: torch.Tensor, weight, out) -> None:
    """Go through rows once: residuals X W + b - y, and their products with the rows while these are in the cache.

    On the CPU NumPy does it, as few of its calls let other threads in: coming back from each costs a wait for them.

    Parameters
    ----------
    total : torch.Tensor of shape (n_features + 2, n_columns), float64
        To which Xᵀ residual, the sum and the sum of squares of the residuals are added, weighted.
    X : Operator of shape (n_rows, n_features)
    W : torch.Tensor of shape (n_features, n_columns)
    b : torch.Tensor of shape (1 or 0, n_columns)
        Intercepts, if there are any.
    y : torch.Tensor of shape (n_rows, n_targets)
    weight : torch.Tensor of shape (n_rows, 1) or (n_rows, n_columns), or None
    out : torch.Tensor of shape (n_rows, n_columns)
        Overwritten.
    """
    if X.array is not None and W.shape[1] == 1:
        _add_residual_sums(total.numpy()[:, 0], X.array, W.numpy()[:, 0], b.numpy()[:, 0], y.numpy(), weight, out)
        return
    residual = X.affine(b, W, out) if len(b) else X.matmul(W, out=out)
    residual.sub_(y)
    weighted = residual if weight is None else residual * weight
    total[:-2] += X.rmatmul(weighted)
    total[-2] += weighted.sum(0)
    total[-1] += torch.linalg.vecdot(weighted, residual, dim=0)


def _add_residual_sums(total: np.ndarray, X: np.ndarray, w, b, y, weight, out) -> None:
    residual = np.dot(X, w, out=out.numpy()[:, 0])
    residual -= y[:, 0]
    if b.size:
        residual += b[0]
    weighted = residual if weight is None else residual * weight.numpy()[:, 0]
    total[:-2] += np.dot(weighted, X)
    total[-2] += weighted.sum()
    total[-1] += weighted @ residual


def add_products(total: torch.Tensor, X: torch.Tensor, *factors: torch.Tensor) -> None:
    """Add Xᵀ X, and beside it Xᵀ R for the columns of some factors, to a total in float64.

    Parameters
    ----------
    total : torch.Tensor of shape (n_features, n_features + n_factors), float64
    X : torch.Tensor of shape (n_rows, n_features)
    *factors : torch.Tensor of shape (n_rows, any)
        R, one after the other.
    """
    n_features = X.shape[1]
    if X.device.type != "cpu":
        total += torch.cat([X.T @ X, *(X.T @ R for R in factors)], dim=1)
        return
    total, X = total.numpy(), X.numpy()
    columns = [column for R in factors for column in R.numpy().T]
    for start in range(0, len(X), SUMMED_ROWS):
        rows = slice(start, start + SUMMED_ROWS)
        total[:, :n_features] += _gram(X[rows])
        for place, column in enumerate(columns, n_features):
            total[:, place] += np.dot(column[rows], X[rows])


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """Return Xᵀ X."""
    if matrix.device.type != "cpu":
        return matrix.T @ matrix
    n_rows, n_columns = matrix.shape
    X = matrix.numpy()  # which computes half of a product of a matrix with itself, as the other half is the same
    size = max(1, GRAM_ELEMENTS // max(1, n_columns), -(-n_rows // GRAM_PARTS))
    parts = in_parallel(lambda start: _gram(X[start : start + size]), range(0, n_rows, size))
    return torch.from_numpy(sum(parts))


def _gram(X: np.ndarray) -> np.ndarray:
    return np.dot(X.T, X)  # which lets other threads go on, as the operator @ does not always


def absolute_product(X, W: torch.Tensor) -> torch.Tensor:
    """Return abs(X) abs(W), going by those features that have weights, where they are few.

    Parameters
    ----------
    X : Operator
    W : torch.Tensor of shape (n_features, n_columns)
    """
    weighted = W.any(1).nonzero()[:, 0]
    if FEW * len(weighted) > len(W):
        return X.map(torch.abs).to(W).matmul(W.abs())
    return X.columns(weighted).to(W).abs_() @ W[weighted].abs()


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
    size = max(1, GRAM_ELEMENTS // max(1, matrix.shape[1]), -(-len(matrix) // GRAM_PARTS))
    parts = list(zip(matrix.split(size), weight[:, None].split(size), strict=True))
    return sum(in_parallel(lambda part: part[0].T @ (part[0] * part[1]), parts))
