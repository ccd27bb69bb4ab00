"""What an answer loses when it is rounded to the precision of `coef_`."""

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.products import absolute_product
from torchlinreg.engine.data.reductions import RowMean
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.objective.objective import Objective

ROUNDING_ROWS = 1000
LARGE_PARTS = 100.0  # times the standard deviation of the targets


def sample(source: MemorySource) -> slice:
    """Return some of the rows, evenly spaced."""
    return slice(None, None, max(1, len(source) // ROUNDING_ROWS))


def needs_double(source: MemorySource, theta: torch.Tensor, y_scale: torch.Tensor) -> bool:
    """Whether the parts of a prediction are so much larger than their sum that single precision loses it.

    Parameters
    ----------
    source : MemorySource
    theta : torch.Tensor of shape (n_theta, n_columns)
    y_scale : torch.Tensor of shape (n_targets,)
        Standard deviations of the targets.
    """
    n_features = source.shape[1]
    parts = absolute_product(source.X.rows(sample(source)).to(theta.device), theta[:n_features]).amax(0)
    return bool((parts + theta[n_features:].abs().sum(0) > LARGE_PARTS * y_scale).any())


def moved_predictions(source: MemorySource, change: torch.Tensor) -> torch.Tensor:
    """Return the mean square of what a change of theta does to predictions, estimated from some of the rows."""
    n_features, chosen = source.shape[1], source.rows(sample(source))
    moved = chosen.X.to(change).matmul(change[:n_features]) + change[n_features:].sum(0)
    weight = 1.0 if chosen.weight is None else chosen.weight.to(change)
    return (weight * moved.square()).mean(0)


def rounding_excess(objective: Objective, theta: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Return how much larger the objective is at the second theta, or zero, shape (n_columns,)."""
    more = objective.source.reduce(LossDifference(objective.loss, theta, rounded)).value
    if objective.penalty is not None:
        n_features = objective.source.shape[1]
        more += objective.penalty.value(rounded[:n_features]) - objective.penalty.value(theta[:n_features])
    return more.clamp(min=0)


class LossDifference(RowMean):
    """Reduction: how much larger the mean loss is at one theta than at another, row by row, shape (n_columns,).

    Parameters
    ----------
    loss : Loss
    before, after : torch.Tensor of shape (n_theta, n_columns)
    """

    def __init__(self, loss, before: torch.Tensor, after: torch.Tensor):
        super().__init__()
        self._loss, self._both = loss, torch.cat([before, after], dim=1)

    def sums(self, block: Batch) -> torch.Tensor:
        """Return the differences."""
        n, both = block.X.shape[1], self._both
        X, y = block.X.to(both), block.y.to(both)
        before, after = (X.matmul(both[:n]) + both[n:].sum(0)).chunk(2, dim=1)
        weight = 1.0 if block.weight is None else block.weight.to(both)
        return (weight * (self._loss.value(after, y) - self._loss.value(before, y))).sum(0)
