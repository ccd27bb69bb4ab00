"""What the ends of a path of penalties are computed from: the null model, and traces of the covariance."""

from dataclasses import dataclass, replace

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.moments import ColumnMeans, standardize
from torchlinreg.engine.data.reductions import Mean, RowMean
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.objective.losses import Loss
from torchlinreg.engine.preconditioning.choose import WHITEN_FEATURES
from torchlinreg.engine.runtime.devices import has_double, widest

JUMP = 1e-6  # standard deviations of a target within which a gradient that jumps is taken to change
BLOCK_ELEMENTS = 2**20  # numbers computed with at once


@dataclass(frozen=True, eq=False)
class NullModel:
    """The mean loss where the weights are zero and the intercepts at their best.

    Attributes
    ----------
    gradient : torch.Tensor of shape (n_features, n_targets)
        In the weights.
    stride : torch.Tensor of shape (n_targets,)
        How far a step along the gradient, as it is, takes predictions, in standard deviations of the target.
    steepness : torch.Tensor of shape (n_targets,)
        Root mean square of the gradients in the predictions.
    spread : torch.Tensor of shape (n_targets,)
        Standard deviation of the target.
    """

    gradient: torch.Tensor
    stride: torch.Tensor
    steepness: torch.Tensor
    spread: torch.Tensor


def null_gradient(source: MemorySource, settings: Settings) -> NullModel:
    """Look at the mean loss where the weights are zero and the intercepts at their best."""
    y = source.y.to(widest(source.y.device))
    weight = y.new_ones(len(y), 1) if source.weight is None else source.weight.to(y)
    source = replace(source, y=y, weight=weight)
    spread = standardize(y, weight, centre=settings.fit_intercept)[2]
    if not settings.loss.is_smooth:
        # Of the gradients on either side of a jump none is that of the best constant, which lies on it
        settings = replace(settings, loss=settings.loss.moreau_envelope(JUMP * spread.min().item()))
    constant, loss = _best_constant(source, settings)
    in_predictions = loss.gradient(constant.to(y.dtype).to(y.device).expand_as(y), y)
    steepness = (weight * in_predictions.square()).mean(0).sqrt()
    block_rows = max(1, BLOCK_ELEMENTS // max(1, source.X.mean_nnz))
    mean = source.reduce(ColumnMeans(), block_rows).value[:, 0]
    mean = mean if settings.fit_intercept else torch.zeros_like(mean)
    gradient = source.reduce(ColumnMeans(in_predictions), block_rows).value
    gradient = gradient - mean[:, None] * (weight * in_predictions).mean(0)
    moved = source.reduce(
        Mean(lambda block: (block.X.to(gradient).matmul(gradient) - mean @ gradient).square()), block_rows
    ).value
    return NullModel(gradient, moved.sqrt() / spread, steepness, spread)


def traces(source: MemorySource, *, centred: bool) -> tuple[float, float]:
    """Return the traces of the columns' covariance and of its pseudo-inverse, in the units of the data.

    Large penalties leave as many degrees of freedom as the first is times the penalty, small ones take as many as the
    second is times that. Of more columns than are worth a matrix each counts for itself.
    """
    n_rows, n_features = source.shape
    block_rows = max(1, BLOCK_ELEMENTS // n_features)
    y = source.y[:, :1].to(widest(source.y.device))
    source = replace(source, y=y, weight=None if source.weight is None else source.weight.to(y), n_models=1)
    first = source.sample(torch.zeros(1, dtype=torch.int64, device="cpu")).to(y)[0]
    mean = torch.zeros_like(first)
    if centred:
        mean = first + source.reduce(Mean(lambda block: block.X.to(y).to_dense() - first), block_rows).value
    if n_features > WHITEN_FEATURES:
        squares = Mean(lambda block: (block.X.to(y).to_dense() - mean).square())
        variance = source.reduce(squares, block_rows).value
        variance = variance[variance > 0]
        return variance.sum().item(), variance.reciprocal().sum().item()
    covariance = source.reduce(Covariance(mean), block_rows).value
    deviation = covariance.diagonal().sqrt()
    inverse = torch.where(deviation > 0, deviation, torch.inf).reciprocal()
    eigenvalues, axes = torch.linalg.eigh(covariance * inverse * inverse[:, None])
    smallest = eigenvalues[-1] * torch.finfo(y.dtype).eps * max(n_rows, n_features)
    eigenvalues = torch.where(eigenvalues > smallest, eigenvalues, torch.inf)
    of_inverse = (axes.square() / eigenvalues).sum(1) * inverse.square()
    return covariance.trace().item(), of_inverse.sum().item()


class Covariance(RowMean):
    """Reduction: the weighted mean of products of columns about given means, shape (n_features, n_features).

    Parameters
    ----------
    mean : torch.Tensor of shape (n_features,)
    """

    def __init__(self, mean: torch.Tensor):
        super().__init__()
        self._mean = mean

    def sums(self, block: Batch) -> torch.Tensor:
        """Return the products."""
        X = block.X.to(self._mean).to_dense() - self._mean
        return X.T @ (X if block.weight is None else block.weight * X)


def _best_constant(source: MemorySource, settings: Settings) -> tuple[torch.Tensor, Loss]:
    """Return the best intercepts for weights of zero, shape (n_targets,), and the loss, at its scale if it has one."""
    loss = settings.loss
    if not (settings.fit_intercept or loss.finds_scale):
        return torch.zeros_like(source.y[0]), loss
    nothing, weight = source.y.new_zeros(len(source), 1), source.weight
    y = source.y
    if not has_double(y.device):
        nothing, y, weight = nothing.cpu(), y.cpu(), weight.cpu()
    plain = replace(settings, penalty=None, conditioning="auto", tol="auto", batch_size="auto")
    result = fit_untuned(MemorySource(DenseOperator(nothing), y, weight), plain)
    return result.theta[1:].sum(0), loss if result.scale is None else loss.at_scale(result.scale)
