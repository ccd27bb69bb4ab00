"""Factorisations that find a change of variables T with Tᵀ C T close to the identity.

Here C = SᵀS / n is the second moment of the columns of a sketch S. A full T comes from an orthogonal factorisation; a
diagonal one, for which no eigenvalue of Tᵀ C T is above one, from power iteration.
"""

from collections.abc import Callable
from dataclasses import dataclass

import scipy.linalg
import torch

from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.matrices.operators import Operator
from torchlinreg.engine.data.matrices.products import gram
from torchlinreg.engine.data.moments import root_mean_square

QUICK_CONDITION = 1e3  # up to which the products of columns serve, instead of an orthogonal factorisation, and
ROUGH_CONDITION = 1e5  # the same where the transform is approximate anyway
POWER_ITERATIONS = 50
UNEVEN = 1e3  # times a row is larger than another, from which on a plain QR factorisation would lose its digits
EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class RowSpace:
    """The row space of a matrix X whose columns depend on each other.

    Attributes
    ----------
    basis : torch.Tensor of shape (n_features, rank)
        Orthonormal basis of the row space of ``X / scale``.
    scale : torch.Tensor of shape (n_features,)
        Of the columns.
    """

    basis: torch.Tensor
    scale: torch.Tensor

    def minimum_norm(self, weights: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Return the weights that predict the same, up to a constant, with the smallest norm of ``weights / unit``.

        Parameters
        ----------
        weights : torch.Tensor of shape (n_features, n_columns)
        unit : torch.Tensor of shape (n_features,)
        """
        scale = self.scale[:, None]
        Q = orthonormal_basis((unit * self.scale)[:, None] * self.basis)
        weights_in_units = weights / unit[:, None]
        change = scale * (unit[:, None] * (Q @ (Q.T @ weights_in_units) - weights_in_units))
        # What rounding would change of the predictions is taken back
        return weights + (change - self.basis @ (self.basis.T @ change)) / scale


def whiten(sketch: torch.Tensor, *, roughly: bool = False) -> tuple[torch.Tensor, RowSpace | None, float]:
    """Find T of full column rank such that ``sketch @ T`` has orthogonal columns of mean square one.

    Columns are brought to one scale first. Singular values below float64's rounding of the largest are then taken for
    zero, and their directions left out.

    Parameters
    ----------
    sketch : torch.Tensor of shape (n_rows, n_features), float64
    roughly : bool
        Whether the transform is approximate anyway. The Cholesky factor of the columns' products, which squares the
        condition number, is then good enough unless that is large; else as long as it is small.

    Returns
    -------
    transform : torch.Tensor of shape (n_features, rank)
    row_space : RowSpace or None
        The row space, if columns depend on each other.
    condition : float
        Condition number of the scaled columns, as far as they are independent, or an upper bound of it.
    """
    n_rows, n_features = sketch.shape
    if n_rows > n_features:
        found = whiten_covariance(gram(sketch).div_(n_rows))
        if found is not None and found[1] < (ROUGH_CONDITION if roughly else QUICK_CONDITION):
            return found[0], None, found[1]
    scale, empty = root_mean_square(sketch, None), ~sketch.any(0)
    sketch = sketch / (scale * n_rows**0.5)
    if n_rows >= n_features:
        sketch = torch.linalg.qr(sketch, mode="r")[1]
        inverse, bound = _invert(sketch)
        if bound * EPS * max(n_rows, 64) < 1e-3:  # far from a doubtful rank; false for NaN
            return inverse / scale[:, None], None, bound
    _, singular, Vt = torch.linalg.svd(sketch, full_matrices=False)
    kept = singular > singular[0] * EPS * max(n_rows, n_features)
    singular, Vt = singular[kept], Vt[kept].masked_fill(empty, 0.0)  # rounding there knows nothing of others' units
    spread = (singular[0] / singular[-1]).item() if len(singular) else 1.0
    return Vt.T / singular / scale[:, None], RowSpace(Vt.T, scale), spread


def whiten_covariance(covariance: torch.Tensor) -> tuple[torch.Tensor, float] | None:
    """Find T with ``Tᵀ C T`` the identity and a bound of the condition number of the scaled columns, or None.

    Parameters
    ----------
    covariance : torch.Tensor of shape (n_features, n_features), float64
        C; None is returned where rounding has left it indefinite, or a column has no variance.
    """
    variance = covariance.diagonal()
    if not ((variance > 0) & variance.isfinite()).all():
        return None
    scale = variance.sqrt()
    factor, failed = torch.linalg.cholesky_ex(covariance / scale / scale[:, None], upper=True)
    if failed:
        return None
    inverse, bound = _invert(factor)
    return inverse / scale[:, None], bound


def normalize_spectrum(sketch: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Return the diagonal T = `size`, scaled so that no eigenvalue of ``Tᵀ C T`` is above one."""
    return size / max(largest_second_moment(DenseOperator(sketch * size)), EPS) ** 0.5


def largest_second_moment(X: Operator, weight: torch.Tensor | None = None) -> float:
    """Return the largest eigenvalue of Xᵀ diag(w) X / n, by power iteration."""

    def second_moment(direction: torch.Tensor) -> torch.Tensor:
        image = X.matmul(direction)
        return X.rmatmul(image if weight is None else weight * image) / len(X)

    like = torch.empty(X.shape[1], 1, dtype=X.dtype, device=X.device)
    (eigenvalue,) = largest_eigenvalues(second_moment, like).tolist()
    return eigenvalue


def largest_eigenvalues(matmul: Callable, like: torch.Tensor, n_iter: int = POWER_ITERATIONS) -> torch.Tensor:
    """Return the largest eigenvalue of the positive semidefinite matrix of each column, by power iteration.

    Parameters
    ----------
    matmul : callable (torch.Tensor) -> torch.Tensor
        Multiplies each column by its matrix.
    like : torch.Tensor of shape (n, n_columns)
    n_iter : int

    Returns
    -------
    torch.Tensor of shape (n_columns,)
        Rayleigh quotients, approached from below; zero where one of them was.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    direction = torch.randn(like.shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)
    eigenvalues = []
    for _ in range(n_iter):
        direction = direction / torch.linalg.vector_norm(direction, dim=0)
        image = matmul(direction)
        eigenvalues.append((direction * image).sum(0))
        direction = image
    eigenvalues = torch.stack(eigenvalues)
    return torch.where((eigenvalues <= 0).any(0), 0.0, eigenvalues[-1])


def orthonormal_basis(matrix: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of the column space, accurate for rows of very different size, too."""
    size = torch.linalg.vector_norm(matrix, dim=1)
    if size.max() < UNEVEN * size.min():
        return torch.linalg.qr(matrix)[0]
    # Householder QR keeps the digits of small rows if columns are pivoted and the largest rows come first
    # (Cox & Higham 1998, "Stability of Householder QR factorization for weighted least squares problems")
    order = size.argsort(descending=True)
    Q, *_ = scipy.linalg.qr(matrix[order].cpu().numpy(), mode="economic", pivoting=True)
    return torch.empty_like(matrix).index_copy_(0, order, torch.from_numpy(Q).to(matrix))


def _invert(factor: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Invert an upper triangle; also return a bound of its condition number."""
    inverse = torch.linalg.solve_triangular(
        factor, torch.eye(len(factor), dtype=factor.dtype, device=factor.device), upper=True
    )
    return inverse, (torch.linalg.matrix_norm(factor) * torch.linalg.matrix_norm(inverse)).item() / len(factor) ** 0.5
