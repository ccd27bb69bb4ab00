"""Untuned mode on a stream of tables: least squares of all rows seen, from as few numbers as it needs.

The rows about their mean enter least squares through their products only, and these a triangular factor holds without
squaring the condition number (Demmel, Grigori, Hoemmen & Langou 2012, "Communication-optimal parallel and sequential
QR and LU factorizations"). The rows of that factor are a small table with the same answer.
"""

from dataclasses import dataclass, replace

import torch

from torchlinreg.engine.batches import Rows
from torchlinreg.engine.fitting import Fit, Settings
from torchlinreg.engine.moments import weighted_mean
from torchlinreg.engine.sparse import SparseTable
from torchlinreg.engine.untuned import fit_untuned

PIECE_ELEMENTS = 2**20  # features factorised at once
EPS = torch.finfo(torch.float64).eps


@dataclass
class Summary:
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
    def of_nothing(cls, n_columns: int) -> "Summary":
        """Return the summary of no rows."""
        nothing = torch.zeros(0, n_columns, dtype=torch.float64)
        return cls(0, 0.0, nothing.new_zeros(n_columns), nothing)

    def add(self, rows: Rows) -> None:
        """Take in a table, piece by piece."""
        weight = rows.y.new_ones(len(rows), 1) if rows.weight is None else rows.weight
        width = rows.X.shape[1]
        size = max(4 * width, PIECE_ELEMENTS // width)
        for X, y, w in zip(rows.X.split(size), rows.y.split(size), weight.split(size), strict=True):
            self._add(torch.cat([_dense(X.to(y.device).double()), y.double()], dim=1).cpu(), w.double().cpu())

    def _add(self, table: torch.Tensor, weight: torch.Tensor) -> None:
        self.n_rows += len(table)
        new = weight.sum().item()
        if new == 0:
            return
        mean = weighted_mean(table, weight * (len(table) / new))
        apart = mean - self.mean
        both = self.weight + new
        between = (self.weight * new / both) ** 0.5 * apart
        stacked = torch.cat([self.factor, (table - mean) * weight.sqrt(), between[None]])
        self.factor = torch.linalg.qr(stacked, mode="r")[1]
        self.mean = self.mean + new / both * apart
        self.weight = both

    def table(self, n_features: int, *, centred: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a few rows with the same sums of products, and what part of the targets' squares they leave out.

        Parameters
        ----------
        n_features : int
        centred : bool
            Whether products are to be about the mean.

        Returns
        -------
        X : torch.Tensor of shape (n, n_features)
            Where columns depend on each other, as many rows as are independent.
        y : torch.Tensor of shape (n, n_columns)
        rest : torch.Tensor of shape (n_columns,)
        """
        factor = self.factor if centred else torch.cat([self.factor, self.weight**0.5 * self.mean[None]])
        X, y = factor[:, :n_features], factor[:, n_features:]
        scale = torch.linalg.vector_norm(X, dim=0)
        scale = torch.where(scale > 0, scale, 1.0)
        U, singular, Vt = torch.linalg.svd(X / scale, full_matrices=False)
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
        What the last table left behind: the fields of `Summary`, if there was one.

    Raises
    ------
    ValueError
        If no row so far had any weight.
    """
    n_features, n_columns = rows.X.shape[1], rows.y.shape[1]
    summary = Summary(**memory) if memory else Summary.of_nothing(n_features + n_columns)
    summary.add(rows)
    if summary.weight == 0:
        raise ValueError("sample_weight must not be all zero: no row would be left to learn from.")
    X, y, rest = summary.table(n_features, centred=settings.fit_intercept)
    share = (len(X) / summary.weight) ** 0.5  # so that a mean over these rows is one over all
    X, y = (part.to(rows.y.device) * share for part in (X, y))
    few = replace(settings, fit_intercept=False, batch_size="auto", dtype=torch.float64)
    fit = fit_untuned(Rows(X, y), few)
    left_out = 0.5 * settings.loss.curvature * rest.sum().item() / summary.weight
    fit.loss_curve = [loss + left_out for loss in fit.loss_curve]
    fit.memory = vars(summary)
    fit.needs_double = True
    if settings.fit_intercept:
        x_mean, y_mean = summary.mean[:n_features], summary.mean[n_features:]
        weights = fit.theta.cpu()
        fit.theta = torch.cat([weights, (y_mean - x_mean @ weights)[None]])
    return fit
