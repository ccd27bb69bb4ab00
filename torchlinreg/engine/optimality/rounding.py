"""What an answer loses when it is rounded to the precision of `coef_`."""

import torch

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import FullPass

SAMPLE_ROWS = 1000
LARGE_PARTS = 100.0  # times the spread of the targets


def sample(rows: Rows) -> slice:
    """Return some of the rows, evenly spaced."""
    return slice(None, None, max(1, len(rows) // SAMPLE_ROWS))


def needs_double(rows: Rows, theta: torch.Tensor, spread: torch.Tensor) -> bool:
    """Whether the parts of a prediction are so much larger than what they leave that single precision loses it.

    Parameters
    ----------
    rows : Rows
    theta : torch.Tensor of shape (n_theta, n_columns)
    spread : torch.Tensor of shape (n_columns,)
        Of the targets.
    """
    n_features = rows.X.shape[1]
    parts = (rows.X[sample(rows)].abs().to(theta) @ theta[:n_features].abs()).amax(0)
    return bool((parts + theta[n_features:].abs().sum(0) > LARGE_PARTS * spread).any())


def moved_predictions(rows: Rows, change: torch.Tensor) -> torch.Tensor:
    """Return the mean square of what a change of theta does to predictions, estimated from some of the rows."""
    n_features, chosen = rows.X.shape[1], sample(rows)
    moved = rows.X[chosen].to(change) @ change[:n_features] + change[n_features:].sum(0)
    weight = 1.0 if rows.weight is None else rows.weight[chosen].to(change)
    return (weight * moved.square()).mean(0)


def rounding_excess(full_pass: FullPass, theta: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Return how much larger the objective is at the second theta, or zero, shape (n_columns,)."""
    n_features, loss = full_pass.rows.X.shape[1], full_pass.loss
    more, both = torch.zeros_like(theta[0]), torch.cat([theta, rounded], dim=1)
    for batch in full_pass.batches():
        X, y = batch.X.to(theta), batch.y.to(theta)
        before, after = (X @ both[:n_features] + both[n_features:].sum(0)).chunk(2, dim=1)
        weight = 1.0 if batch.weight is None else batch.weight.to(theta)
        more += (weight * (loss.value(after, y) - loss.value(before, y))).sum(0)
    more /= len(full_pass.rows)
    if full_pass.penalty is not None:
        more += full_pass.penalty.value(rounded[:n_features]) - full_pass.penalty.value(theta[:n_features])
    return more.clamp(min=0)
