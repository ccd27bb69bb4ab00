"""Linear changes of variables, and how to find one that makes a table round.

Let C be the second moment of the columns of a sketch. A change of variables T with ``Tᵀ C T`` the identity comes from
an orthogonal factorisation; one that is diagonal and has no eigenvalue of that above one, from power iteration.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import scipy.linalg
import torch

from torchlinreg.engine.data.moments import root_mean_square

QUICK_CONDITION = 1e5
POWER_ITERATIONS = 50
UNEVEN = 1e3  # times a row is larger than another, from which on a plain QR factorisation would lose its digits
EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Transform:
    """A linear change of variables, ``theta = T v``, and its transpose.

    Attributes
    ----------
    weights : torch.Tensor of shape (n_features, n_directions) or (n_features,)
        The part of T that makes weights, which may be diagonal.
    offset : torch.Tensor of shape (n_features,) or None
        Mean of the features. With an intercept, v has a last row for the mean prediction.
    gain : torch.Tensor of shape (n_directions without that of the intercept, n_columns) or None
        Length of each direction in each column, where columns differ in that.
    """

    weights: torch.Tensor
    offset: torch.Tensor | None
    gain: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        """Directions, without that of the intercept."""
        return self.weights.shape[-1]

    @property
    def n_directions(self) -> int:
        """Rows of v."""
        return self.rank + (self.offset is not None)

    @property
    def row_norms(self) -> torch.Tensor:
        """How far a step of length one may move each weight, shape (n_features,)."""
        return self.weights.abs() if self.weights.ndim == 1 else torch.linalg.vector_norm(self.weights, dim=1)

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """Return T v, for v of shape (n_directions, n_columns)."""
        steps = v[: self.rank] if self.gain is None else self.gain * v[: self.rank]
        weights = self.weights[:, None] * steps if self.weights.ndim == 1 else self.weights @ steps
        if self.offset is None:
            return weights
        return torch.cat([weights, v[self.rank :] - self.offset[None] @ weights])

    def inverse(self, theta: torch.Tensor) -> torch.Tensor:
        """Return v with ``T v = theta``, where T is diagonal but for the offset."""
        v = theta[: self.rank] / self.weights[:, None]
        if self.offset is None:
            return v
        return torch.cat([v, theta[self.rank :] + self.offset[None] @ theta[: self.rank]])

    def rmatvec(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return Tᵀ gradient, the gradient in v, for a gradient of shape (n_theta, n_columns)."""
        if self.offset is None:
            return self._back(gradient)
        of_weights, of_intercept = gradient[:-1], gradient[-1:]
        centred = of_weights - self.offset[:, None] @ of_intercept
        return torch.cat([self._back(centred), of_intercept])

    def beyond(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the part of a gradient, as `rmatvec` takes it, that is lost on the way to v."""
        weights = gradient[: len(self.weights)]
        if self.offset is not None:
            weights = weights - self.offset[:, None] @ gradient[len(self.weights) :]
        return weights - self._range @ (self._range.T @ weights)

    @cached_property
    def _range(self) -> torch.Tensor:
        return _orthonormal(self.weights)

    def rows(self, X: torch.Tensor) -> torch.Tensor:
        """Return rows, and the one of the intercept, in the variables v: shape (n_rows, n_directions)."""
        X = X.to(self.weights).to_dense()
        X = X if self.offset is None else X - self.offset
        X = X * self.weights if self.weights.ndim == 1 else X @ self.weights
        return X if self.offset is None else torch.cat([X, X.new_ones(len(X), 1)], dim=1)

    def to(self, dtype: torch.dtype) -> "Transform":
        """Return T in another precision."""
        parts = (getattr(self, part.name) for part in fields(self))
        return Transform(*(None if part is None else part.to(dtype) for part in parts))

    def for_ridge(self, l2: torch.Tensor) -> "Transform":
        """Return the T of a loss that is round in v with a penalty, ``l2 w² / 2`` of the weights, added.

        Parameters
        ----------
        l2 : torch.Tensor of shape (n_features, n_columns)
            Proportional between columns; one eigendecomposition serves them all.
        """
        if self.weights.ndim == 1:
            return replace(self, gain=(1.0 + l2 * self.weights[:, None].square()).rsqrt())
        strength = l2.sum(0)
        shape = l2[:, strength.argmax()]
        # Not by the eigenvalues of the square, in which dear directions drown cheap ones where columns differ in scale
        root = shape.sqrt()[:, None] * self.weights
        root = root[torch.linalg.vector_norm(root, dim=1).argsort(descending=True)]
        _, size, turn = torch.linalg.svd(root, full_matrices=False)
        gain = (1.0 + size.square()[:, None] * (strength / strength.max())).rsqrt()
        return Transform(self.weights @ turn.T, self.offset, gain)

    def _back(self, gradient: torch.Tensor) -> torch.Tensor:
        back = self.weights[:, None] * gradient if self.weights.ndim == 1 else self.weights.T @ gradient
        return back if self.gain is None else self.gain * back


@dataclass(frozen=True)
class RowSpace:
    """The span of the rows of a table whose columns depend on each other.

    Attributes
    ----------
    basis : torch.Tensor of shape (n_features, rank)
        Orthonormal basis of the span of the rows of ``table / scale``.
    scale : torch.Tensor of shape (n_features,)
        Of the columns.
    """

    basis: torch.Tensor
    scale: torch.Tensor

    def smallest(self, weights: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Return the weights that predict the same, up to a constant, with the smallest norm of ``weights / unit``.

        Parameters
        ----------
        weights : torch.Tensor of shape (n_features, n_columns)
        unit : torch.Tensor of shape (n_features,)
        """
        scale = self.scale[:, None]
        Q = _orthonormal((unit * self.scale)[:, None] * self.basis)
        weights_in_units = weights / unit[:, None]
        change = scale * (unit[:, None] * (Q @ (Q.T @ weights_in_units) - weights_in_units))
        # What rounding would change of the predictions is taken back
        return weights + (change - self.basis @ (self.basis.T @ change)) / scale


def whiten(sketch: torch.Tensor, *, quickly: bool = False) -> tuple[torch.Tensor, RowSpace | None, float]:
    """Find T of full column rank such that ``sketch @ T`` has orthogonal columns of mean square one.

    Columns are brought to one scale first. Singular values below float64's rounding of the largest are then taken for
    zero, and their directions left out.

    Parameters
    ----------
    sketch : torch.Tensor of shape (n_rows, n_features), float64
    quickly : bool
        Whether to try the Cholesky factor of the columns' products first. That squares the condition number but, as
        long as it is small, is as good for a transform that is approximate anyway.

    Returns
    -------
    transform : torch.Tensor of shape (n_features, rank)
    span : RowSpace or None
        The span of the rows, if that is not everything.
    condition : float
        Condition number of the scaled columns, as far as they are independent, or an upper bound of it.
    """
    n_rows, n_features = sketch.shape
    if quickly:
        products = (sketch.T @ sketch).div_(n_rows)
        scale = products.diagonal().sqrt()
        factor, failed = torch.linalg.cholesky_ex(products / scale.outer(scale), upper=True)
        inverse, bound = _invert(factor)
        if not failed and bound < QUICK_CONDITION:
            return inverse / scale[:, None], None, bound
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


def stretch(sketch: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Return the diagonal `size`, brought down until no direction is curved more than one."""
    return size / max(top_eigenvalue(sketch * size), EPS) ** 0.5


def top_eigenvalue(table: torch.Tensor, weight: torch.Tensor | None = None) -> float:
    """Largest eigenvalue of the weighted second moment of the columns, by power iteration."""

    def second_moment(direction: torch.Tensor) -> torch.Tensor:
        image = table @ direction
        return table.T @ (image if weight is None else weight * image) / len(table)

    like = torch.empty(table.shape[1], dtype=table.dtype, device=table.device)
    return largest_eigenvalue(second_moment, like)


def largest_eigenvalue(times: Callable, like: torch.Tensor) -> float:
    """Largest eigenvalue of the matrix that `times` multiplies by, none of whose eigenvalues is negative."""
    generator = torch.Generator("cpu").manual_seed(0)
    direction = torch.randn(len(like), 1, generator=generator, dtype=like.dtype, device="cpu").to(like.device)
    eigenvalues = []
    for _ in range(POWER_ITERATIONS):
        direction = direction / torch.linalg.vector_norm(direction)
        image = times(direction)
        eigenvalues.append((direction * image).sum())
        direction = image
    eigenvalues = torch.stack(eigenvalues).tolist()  # one look for all: each keeps an accelerator waiting
    return 0.0 if any(eigenvalue <= 0 for eigenvalue in eigenvalues) else eigenvalues[-1]


def _orthonormal(table: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of the span of the columns, accurate for rows of very different size, too."""
    size = torch.linalg.vector_norm(table, dim=1)
    if size.max() < UNEVEN * size.min():
        return torch.linalg.qr(table)[0]
    # Householder QR keeps the digits of small rows if columns are pivoted and the largest rows come first
    # (Cox & Higham 1998, "Stability of Householder QR factorization for weighted least squares problems")
    order = size.argsort(descending=True)
    Q, *_ = scipy.linalg.qr(table[order].cpu().numpy(), mode="economic", pivoting=True)
    return torch.empty_like(table).index_copy_(0, order, torch.from_numpy(Q).to(table))


def _invert(factor: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Invert an upper triangle; also return a bound of its condition number."""
    inverse = torch.linalg.solve_triangular(
        factor, torch.eye(len(factor), dtype=factor.dtype, device=factor.device), upper=True
    )
    return inverse, (torch.linalg.matrix_norm(factor) * torch.linalg.matrix_norm(inverse)).item() / len(factor) ** 0.5
