"""Untuned mode on a stream of tables: least squares of all rows seen, from as few numbers as it needs.

The rows about their mean enter least squares through their products only, and these a triangular factor holds without
squaring the condition number (Demmel, Grigori, Hoemmen & Langou 2012, "Communication-optimal parallel and sequential
QR and LU factorizations"). The rows of that factor are a small table with the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.data.csr import SparseTable
from torchlinreg.engine.data.moments import weighted_mean
from torchlinreg.engine.fit.settings import Fit, Settings
from torchlinreg.engine.fit.untuned import fit_untuned

PIECE_ELEMENTS = 2**20  # features factorised at once
EPS = torch.finfo(torch.float64).eps


@dataclass
class SufficientStatistics:
    """What is kept of the rows seen so far, features and targets side by side, in float64.

    Attributes
    ----------
    n_rows : int
    weight : float
        Of all rows together.
    mean : torch.Tensor of shape (n_features + n_columns,)
    factor : torch.Tensor of shape (n, n_features + n_columns)
        R, of no more rows than columns: R'R are the weighted sums of products about the mean.
    """

    n_rows: int
    weight: float
    mean: torch.Tensor
    factor: torch.Tensor

    @classmethod
    def empty(cls, n_columns: int, device: torch.device | str = "cpu") -> "SufficientStatistics":
        """Return the summary of no rows."""
        nothing = torch.zeros(0, n_columns, dtype=torch.float64, device=device)
        return cls(0, 0.0, nothing.new_zeros(n_columns), nothing)

    @classmethod
    def merge(cls, parts: Sequence["SufficientStatistics"]) -> "SufficientStatistics":
        """Return the summary of the rows of several, one at least, together."""
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
        return cls(n_rows, total.item(), first.mean + middle, factor)

    def add(self, rows: Rows) -> None:
        """Take in a table, piece by piece."""
        weight = rows.y.new_ones(len(rows), 1) if rows.weight is None else rows.weight
        width = rows.X.shape[1]
        size = max(4 * width, PIECE_ELEMENTS // width)
        for X, y, w in zip(rows.X.split(size), rows.y.split(size), weight.split(size), strict=True):
            self._add(torch.cat([_dense(X.to(y.device).double()), y.double()], dim=1), w.double())

    def to(self, device: torch.device) -> "SufficientStatistics":
        """Return the summary on another device."""
        return replace(self, mean=self.mean.to(device), factor=self.factor.to(device))

    def _add(self, table: torch.Tensor, weight: torch.Tensor) -> None:
        new = weight.sum().item()
        mean = weighted_mean(table, weight * (len(table) / new)) if new else table.mean(0)
        rows = (table - mean) * weight.sqrt()
        vars(self).update(vars(SufficientStatistics.merge([self, SufficientStatistics(len(table), new, mean, rows)])))

    def rows(self, n_features: int, *, centred: bool) -> tuple[Rows, torch.Tensor]:
        """Return a few rows with the same means of products, and what they miss of the sum of the targets' squares.

        Parameters
        ----------
        n_features : int
        centred : bool
            Whether products are to be about the mean.

        Returns
        -------
        rows : Rows
            Where columns depend on each other, as many as are independent.
        rest : torch.Tensor of shape (n_columns,)
        """
        X, y, rest = self._independent(n_features, centred=centred)
        share = (len(X) / self.weight) ** 0.5  # so that a mean over these rows is one over all
        return Rows(X * share, y * share), rest

    def with_intercept(self, weights: torch.Tensor) -> torch.Tensor:
        """Return theta, for weights of shape (n_features, n_targets, ...), with the intercepts that go by the means."""
        x_mean, y_mean = self.mean[: len(weights)], self.mean[len(weights) :]
        y_mean = y_mean.view(-1, *(1,) * (weights.ndim - 2))
        return torch.cat([weights, (y_mean - torch.tensordot(x_mean, weights, 1))[None]])

    def rise(self, theta: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return how much mean squares of residuals rise where theta, at their minimum, is rounded to a precision.

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
        spread = self.factor[:, n_features:].square().sum(0).view(-1, *(1,) * (theta.ndim - 2))
        moved = torch.tensordot(self.factor[:, :n_features], weights, 1).square().sum(0)
        offset = torch.tensordot(self.mean[:n_features], weights, 1) + intercept
        return (moved + self.weight * offset.square()) / torch.where(spread > 0, spread, 1.0)

    def _independent(self, n_features: int, *, centred: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        factor = self.factor if centred else torch.cat([self.factor, self.weight**0.5 * self.mean[None]])
        X, y = factor[:, :n_features], factor[:, n_features:]
        scale = torch.linalg.vector_norm(X, dim=0)
        U, singular, Vt = torch.linalg.svd(X / torch.where(scale > 0, scale, 1.0), full_matrices=False)
        kept = singular > singular[0] * EPS * max(self.n_rows, n_features)
        if kept.sum() == n_features:
            return X, y, y.new_zeros(y.shape[1])
        if not kept.any():
            return X.new_zeros(1, n_features), y.new_zeros(1, y.shape[1]), y.square().sum(0)
        # Rounding, piled up over many tables, must not pass for a direction
        known = U[:, kept].T @ y
        rest = (y.square().sum(0) - known.square().sum(0)).clamp_(min=0)
        return (singular[:, None] * Vt)[kept] * scale, known, rest


def _dense(X: torch.Tensor | SparseTable) -> torch.Tensor:
    return X.to_dense() if isinstance(X, SparseTable) else X


def fit_stream(rows: Rows, settings: Settings, memory: dict) -> Fit:
    """Find the optimum for all rows of a stream, of which these are the latest.

    Parameters
    ----------
    rows : Rows
        Their weights need not have mean one.
    settings : Settings
        With a quadratic loss.
    memory : dict
        What the last table left behind: the fields of `SufficientStatistics`, if there was one.

    Raises
    ------
    ValueError
        If no row so far had any weight.
    """
    n_features, n_columns = rows.X.shape[1], rows.y.shape[1]
    summary = SufficientStatistics(**memory) if memory else SufficientStatistics.empty(n_features + n_columns)
    summary = summary.to(rows.y.device)  # there are more rows than numbers in it
    summary.add(rows)
    if summary.weight == 0:
        raise ValueError("sample_weight must not be all zero: no row would be left to learn from.")
    few, rest = summary.rows(n_features, centred=settings.fit_intercept)
    fit = fit_untuned(few, for_few(settings))
    left_out = 0.5 * settings.loss.lipschitz * rest.sum().item() / summary.weight
    fit.loss_curve = [loss + left_out for loss in fit.loss_curve]
    fit.memory = vars(summary)
    fit.needs_double = True
    if settings.fit_intercept:
        fit.theta = summary.with_intercept(fit.theta)
    if fit.optimality_gap is not None:
        fit.optimality_gap += summary.rise(fit.theta, settings.dtype).max().item()
    return fit


def for_few(settings: Settings) -> Settings:
    """Return the settings for the few rows of a summary, which are about their mean."""
    return replace(settings, fit_intercept=False, batch_size="auto", dtype=torch.float64)
