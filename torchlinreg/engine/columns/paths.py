"""Where a path of penalties begins and ends: at no weight to speak of, and at no penalty to speak of."""

from dataclasses import dataclass, replace

import torch

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.data.csr import SparseTable, Transposed
from torchlinreg.engine.data.moments import standardise
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.objective.losses import Loss
from torchlinreg.engine.preconditioning.conditioning import WHITEN_FEATURES
from torchlinreg.engine.runtime.devices import has_double, widest

JUMP = 1e-6  # spreads of a target in which a slope that jumps there is taken to change
PIECE_ELEMENTS = 2**20  # numbers computed with at once


@dataclass
class AtZero:
    """The mean loss where the weights are zero and the intercepts at their best.

    Attributes
    ----------
    slope : torch.Tensor of shape (n_features, n_targets)
        Its gradient in the weights.
    stride : torch.Tensor of shape (n_targets,)
        How far a step of that length down the slope takes predictions, in spreads of the target.
    steepness : torch.Tensor of shape (n_targets,)
        Root mean square of the slopes in the predictions.
    spread : torch.Tensor of shape (n_targets,)
        Of the targets.
    """

    slope: torch.Tensor
    stride: torch.Tensor
    steepness: torch.Tensor
    spread: torch.Tensor


def null_gradient(rows: Rows, settings: Settings) -> AtZero:
    """Look at the mean loss where the weights are zero and the intercepts at their best."""
    y = rows.y.to(widest(rows.y.device))
    weight = y.new_ones(len(y), 1) if rows.weight is None else rows.weight.to(y)
    spread = standardise(y, weight, centre=settings.fit_intercept)[2]
    weight = weight / len(y)
    if not settings.loss.is_smooth:
        # Of the slopes on either side of a jump none is that of the best constant, which lies on it
        settings = replace(settings, loss=settings.loss.moreau_envelope(JUMP * spread.min().item()))
    constant, loss = _best_constant(rows, settings)
    uphill = loss.gradient(constant.to(y.dtype).to(y.device).expand_as(y), y)
    steepness = (weight * uphill.square()).sum(0).sqrt()
    uphill = uphill * weight
    parts = rows.X.split(max(1, PIECE_ELEMENTS // max(1, rows.width)))
    size = len(parts[0])
    mean = sum(_turned(X, y) @ w for X, w in zip(parts, weight.split(size), strict=True))[:, 0]
    mean = mean if settings.fit_intercept else torch.zeros_like(mean)
    slope = sum(_turned(X, y) @ s for X, s in zip(parts, uphill.split(size), strict=True))
    slope = slope - mean[:, None] * uphill.sum(0)
    moved = torch.cat([X.to(y) @ slope for X in parts]) - mean @ slope
    return AtZero(slope, (weight * moved.square()).sum(0).sqrt() / spread[0], steepness, spread[0])


def traces(rows: Rows, *, centred: bool) -> tuple[float, float]:
    """Return the traces of the columns' covariance and of its pseudo-inverse, in the units of the data.

    Large penalties leave as many degrees of freedom as the first is times the penalty, small ones take as many as the
    second is times that. Of more columns than are worth a matrix each counts for itself.
    """
    n_rows, n_features = rows.X.shape
    size = max(1, PIECE_ELEMENTS // n_features)
    y = rows.y[:, :1].to(widest(rows.y.device))
    weight = (torch.ones_like(y) if rows.weight is None else rows.weight.to(y)) / n_rows
    pieces = list(zip(rows.X.split(size), weight.split(size), strict=True))
    first = _dense(rows.X[:1], y)
    mean = sum(((_dense(X, y) - first) * w).sum(0) for X, w in pieces) + first[0] if centred else first[0] * 0.0
    if n_features > WHITEN_FEATURES:
        variance = sum((w * (_dense(X, y) - mean).square()).sum(0) for X, w in pieces)
        variance = variance[variance > 0]
        return variance.sum().item(), variance.reciprocal().sum().item()
    products = y.new_zeros(n_features, n_features)
    for X, w in pieces:
        X = _dense(X, y) - mean
        products.addmm_(X.T, w * X)
    deviation = products.diagonal().sqrt()
    inverse = torch.where(deviation > 0, deviation, torch.inf).reciprocal()
    height, axes = torch.linalg.eigh(products * inverse * inverse[:, None])
    height = torch.where(height > height[-1] * torch.finfo(y.dtype).eps * max(n_rows, n_features), height, torch.inf)
    of_inverse = (axes.square() / height).sum(1) * inverse.square()
    return products.trace().item(), of_inverse.sum().item()


def _best_constant(rows: Rows, settings: Settings) -> tuple[torch.Tensor, Loss]:
    """Return the best intercepts for weights of zero, shape (n_targets,), and the loss, at its scale if it has one."""
    loss = settings.loss
    if not (settings.fit_intercept or loss.finds_scale):
        return torch.zeros_like(rows.y[0]), loss
    nothing = replace(rows, X=rows.y.new_zeros(len(rows), 1))
    if not has_double(rows.y.device):
        nothing = nothing.with_tables(lambda table: table.cpu())
    plain = replace(settings, penalty=None, conditioning="auto", tol="auto", batch_size="auto")
    fit = fit_untuned(nothing, plain)
    return fit.theta[1:].sum(0), loss if fit.scale is None else loss.at_scale(fit.scale)


def _dense(X: torch.Tensor | SparseTable, like: torch.Tensor) -> torch.Tensor:
    return X.to(like).to_dense()


def _turned(X: torch.Tensor | SparseTable, like: torch.Tensor) -> torch.Tensor | Transposed:
    return X.to(like).t()
