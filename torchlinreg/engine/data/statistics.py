"""Sufficient statistics of least squares, which merge exactly in any grouping.

The rows about their mean enter least squares through their products only, and these a triangular factor holds without
squaring the condition number (Demmel, Grigori, Hoemmen & Langou 2012, "Communication-optimal parallel and sequential
QR and LU factorizations"). The rows of that factor are a small source with the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.moments import GramSum, weighted_mean
from torchlinreg.engine.data.source import MemorySource

BLOCK_ELEMENTS = 2**20  # features factorised at once
BY_PRODUCTS = 2**20  # features from which on their products, pair by pair, are tried before a factorisation
PRODUCT_ELEMENTS = 2**17  # in float64, at once: as many as the cache holds
SHIFT_ROWS = 2**10  # whose mean is near that of all
PRECISE = 2.0**7  # condition number whose square costs no digits that count
CORRECTED = 2.0**24  # and that a second factor makes up for (Yamamoto et al.)
FAR_FROM_SINGULAR = 1e-3  # times what rounding may make of a matrix
EPS = torch.finfo(torch.float64).eps


@dataclass
class SufficientStatistics:
    """Reduction: weighted means and a triangular factor of features and targets side by side, in float64.

    Attributes
    ----------
    n_rows : int
    weight : float
        Of all rows together.
    mean : torch.Tensor of shape (n_features + n_targets,)
    factor : torch.Tensor of shape (n, n_features + n_targets)
        R, of no more rows than columns: RᵀR are the weighted sums of products about the mean.
    """

    suits_threads: ClassVar[bool] = False  # rows are taken in one after the other

    n_rows: int
    weight: float
    mean: torch.Tensor
    factor: torch.Tensor

    @classmethod
    def empty(cls, n_columns: int, device: torch.device | str = "cpu") -> Self:
        """Return the statistics of no rows."""
        nothing = torch.zeros(0, n_columns, dtype=torch.float64, device=device)
        return cls(0, 0.0, nothing.new_zeros(n_columns), nothing)

    @classmethod
    def of(cls, source: MemorySource, divisor: torch.Tensor | None = None) -> Self:
        """Return the statistics of a source.

        Parameters
        ----------
        source : MemorySource
        divisor : torch.Tensor of shape (n_features, n_features), optional
            What :func:`find_divisor` found for other rows of the table.
        """
        if _has_many_rows(source):
            found = _by_products(source, divisor)
            if found is not None:
                return found
        n_features = source.shape[1]
        empty = cls.empty(n_features + source.y.shape[1], source.y.device)
        return source.reduce(empty, max(4 * n_features, BLOCK_ELEMENTS // n_features))

    @classmethod
    def merge_all(cls, parts: Sequence[Self]) -> Self:
        """Return the statistics of the rows of several parts, one at least, together."""
        n_rows = sum(part.n_rows for part in parts)
        # What weighs nothing has no mean that others could be apart from
        parts = [part for part in parts if part.weight] or parts[:1]
        first = parts[0]
        weights = first.mean.new_tensor([part.weight for part in parts])
        total = weights.sum()
        apart = torch.stack([part.mean for part in parts]) - first.mean
        middle = weights @ apart / total.clamp(min=torch.finfo(total.dtype).tiny)
        between = weights.sqrt()[:, None] * (apart - middle)
        factor = torch.linalg.qr(torch.cat([*(part.factor for part in parts), between]), mode="r")[1]
        return cls(n_rows, total.item(), first.mean + middle, factor.contiguous())  # as it is once it was saved

    def merge(self, other: Self) -> Self:
        """Return the statistics of the rows of both."""
        return self.merge_all([self, other])

    def fork(self) -> Self:
        """Return the statistics of no rows yet."""
        return self.empty(len(self.mean), self.mean.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the fields, by name."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the statistics of other rows in the place of these."""
        vars(self).update(state)

    def add(self, source: MemorySource) -> Self:
        """Return the statistics of these rows and those of a source."""
        return self.merge(self.of(source)) if self.n_rows else self.of(source)

    def update(self, block: Batch) -> None:
        """Take in a block of rows."""
        weight = block.y.new_ones(len(block.y), 1) if block.weight is None else block.weight
        matrix = torch.cat([block.X.to(block.y.device).to_dense().double(), block.y.double()], dim=1)
        weight = weight.double()
        new = weight.sum().item()
        mean = weighted_mean(matrix, weight * (len(matrix) / new)) if new else matrix.mean(0)
        rows = (matrix - mean) * weight.sqrt()
        merged = self.merge(SufficientStatistics(len(matrix), new, mean, rows))
        self.n_rows, self.weight, self.mean, self.factor = merged.n_rows, merged.weight, merged.mean, merged.factor

    def to(self, device: torch.device) -> Self:
        """Return the statistics on another device."""
        return replace(self, mean=self.mean.to(device), factor=self.factor.to(device))

    def as_source(self, n_features: int, *, centred: bool) -> tuple[MemorySource, torch.Tensor]:
        """Return a few rows with the same means of products, and what they miss of the targets' sums of squares.

        Parameters
        ----------
        n_features : int
        centred : bool
            Whether products are to be about the mean.

        Returns
        -------
        source : MemorySource
            Where columns depend on each other, as many rows as are independent.
        residual_ss : torch.Tensor of shape (n_targets,)
        """
        X, y, residual_ss = self._independent(n_features, centred=centred)
        share = (len(X) / self.weight) ** 0.5  # so that a mean over these rows is one over all
        return MemorySource(DenseOperator(X * share), y * share), residual_ss

    def with_intercept(self, weights: torch.Tensor) -> torch.Tensor:
        """Return theta, for weights of shape (n_features, n_targets, ...), with the intercepts that go by the means."""
        x_mean, y_mean = self.mean[: len(weights)], self.mean[len(weights) :]
        y_mean = y_mean.view(-1, *(1,) * (weights.ndim - 2))
        return torch.cat([weights, (y_mean - torch.tensordot(x_mean, weights, 1))[None]])

    def rounding_excess(self, theta: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return how much the mean squared error rises where theta, its minimiser, is rounded to a precision.

        Parameters
        ----------
        theta : torch.Tensor of shape (n_features + fit_intercept, n_targets, ...), float64
        dtype : torch.dtype

        Returns
        -------
        torch.Tensor of shape (n_targets, ...)
            In variances of the targets.
        """
        n_features = len(self.mean) - theta.shape[1]
        change = theta.to(dtype).double() - theta
        weights, intercept = change[:n_features], change[n_features:].sum(0)
        variance = self.factor[:, n_features:].square().sum(0).view(-1, *(1,) * (theta.ndim - 2))
        moved = torch.tensordot(self.factor[:, :n_features], weights, 1).square().sum(0)
        offset = torch.tensordot(self.mean[:n_features], weights, 1) + intercept
        return (moved + self.weight * offset.square()) / torch.where(variance > 0, variance, 1.0)

    def _independent(self, n_features: int, *, centred: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        factor = self.factor if centred else torch.cat([self.factor, self.weight**0.5 * self.mean[None]])
        X, y = factor[:, :n_features], factor[:, n_features:]
        scale = torch.linalg.vector_norm(X, dim=0)
        if centred and _has_full_rank(X, scale, self.n_rows):
            return X[:n_features], y[:n_features], y[n_features:].square().sum(0)
        U, singular, Vt = torch.linalg.svd(X / torch.where(scale > 0, scale, 1.0), full_matrices=False)
        kept = singular > singular[0] * EPS * max(self.n_rows, n_features)
        if kept.sum() == n_features:
            return X, y, y.new_zeros(y.shape[1])
        if not kept.any():
            return X.new_zeros(1, n_features), y.new_zeros(1, y.shape[1]), y.square().sum(0)
        # Rounding, piled up over many blocks, must not pass for a direction
        explained = U[:, kept].T @ y
        residual_ss = (y.square().sum(0) - explained.square().sum(0)).clamp_(min=0)
        return (singular[:, None] * Vt)[kept] * scale, explained, residual_ss


def find_divisor(source: MemorySource) -> torch.Tensor | None:
    """Return the factor by which to divide features before their products, if they nearly depend on each other.

    For other rows of the same table, too, this makes the features nearly orthogonal.
    """
    if not _has_many_rows(source):
        return None
    n_features = source.shape[1]
    source = source.rows(slice(0, max(4 * n_features, BY_PRODUCTS // n_features + 1)))
    triangle = SufficientStatistics.of(source).factor[:n_features, :n_features]
    if len(triangle) < n_features:
        return None
    _, condition = _cholesky(triangle.T @ triangle)
    return triangle if PRECISE < condition < CORRECTED else None


def _has_many_rows(source: MemorySource) -> bool:
    return source.X.n_stored >= BY_PRODUCTS and not source.is_sparse and source.shape[1] * 4 <= len(source)


def _by_products(source: MemorySource, divisor: torch.Tensor | None = None) -> SufficientStatistics | None:
    """Return the statistics by Cholesky's factor of products; None if that would cost digits.

    It is several times as fast as Householder's reflections. Where the condition number asks for it, a second factor,
    of rows that a first has made nearly orthogonal, takes back what squaring has cost (Yamamoto, Nakatsukasa,
    Yanagisawa & Fukaya 2015, "Roundoff error analysis of the CholeskyQR2 algorithm").
    """
    n_rows, n_features = source.shape
    y, weight = source.y.double(), None if source.weight is None else source.weight.double()
    total = float(n_rows) if weight is None else weight.sum().item()
    few = source.sample(torch.arange(0, n_rows, max(1, n_rows // SHIFT_ROWS), device="cpu")).double()
    if not (total > 0 and few.isfinite().all()):
        return None
    y_mean = weighted_mean(y, None if weight is None else weight * (n_rows / total))
    centred = replace(source, y=y - y_mean, weight=weight)
    mean, covariance, right = _products_about_mean(centred, few.mean(0), total, divisor)
    factor, condition = _cholesky(covariance)
    if divisor is None and PRECISE < condition < CORRECTED:
        divisor = factor
        mean, covariance, right = _products_about_mean(centred, mean, total, divisor)
        factor, condition = _cholesky(covariance)
    elif divisor is not None and not condition < PRECISE:  # these rows are of another kind
        return _by_products(source)
    if not condition < PRECISE:
        return None
    across = torch.linalg.solve_triangular(factor.T, right, upper=False)
    rest = _root(_products(centred.y, weight) - across.T @ across)
    factor = torch.cat([factor if divisor is None else factor @ divisor, across], dim=1)
    below = torch.nn.functional.pad(rest, (n_features, 0))
    return SufficientStatistics(n_rows, total, torch.cat([mean, y_mean]), torch.cat([factor, below]))


def _products_about_mean(
    source: MemorySource, near: torch.Tensor, total: float, divisor: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the features' mean, and weighted sums of products with each other and with centred targets about it.

    Parameters
    ----------
    source : MemorySource
    near : torch.Tensor of shape (n_features,)
        The mean, roughly.
    total : float
        Weight of all rows.
    divisor : torch.Tensor of shape (n_features, n_features), optional
        Triangular factor by which the features are divided for their products.
    """
    mixture = None
    if divisor is not None:
        identity = torch.eye(len(divisor), dtype=divisor.dtype, device=divisor.device)
        mixture = torch.linalg.solve_triangular(divisor, identity, upper=True)
    n_rows, n_features = source.shape
    block_rows = max(n_features, PRODUCT_ELEMENTS // n_features)
    moments = source.reduce(GramSum(near, torch.float64, mixture), block_rows).moments(centre=False)
    offset = moments.mean * (n_rows / total)
    covariance = n_rows * moments.covariance - total * offset[:, None] * offset
    away = offset if divisor is None else divisor.T @ offset
    return near + away, covariance, n_rows * moments.right_side


def _products(y: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    return y.T @ (y if weight is None else weight * y)


def _root(matrix: torch.Tensor) -> torch.Tensor:
    """Return R with RᵀR = matrix, which has no negative eigenvalues but for rounding."""
    size, directions = torch.linalg.eigh(matrix)
    return size.clamp(min=0).sqrt()[:, None] * directions.T


def _cholesky(matrix: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the upper factor of a matrix of products, and a bound of its condition once columns are of length one."""
    size = matrix.diagonal().sqrt()
    if not (size > 0).all():
        return matrix, torch.inf
    lower, failed = torch.linalg.cholesky_ex(matrix / (size[:, None] * size))
    if failed or not lower.isfinite().all():
        return matrix, torch.inf
    smallest = torch.linalg.eigvalsh(lower @ lower.T)[0].clamp(min=0)
    return lower.T * size, (len(size) / smallest).sqrt().item()


def _has_full_rank(factor: torch.Tensor, scale: torch.Tensor, n_rows: int) -> bool:
    """Whether the columns of an upper triangle, once of length one, are far from depending on each other."""
    n = factor.shape[1]
    if len(factor) < n or not scale.all():
        return False
    triangle = factor[:n] / scale
    identity = torch.eye(n, dtype=factor.dtype, device=factor.device)
    bound = torch.linalg.matrix_norm(torch.linalg.solve_triangular(triangle, identity, upper=True))
    return (bound * EPS * max(n_rows, n, 64)).item() < FAR_FROM_SINGULAR  # false for NaN
