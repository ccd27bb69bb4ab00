"""Full passes over the table, down to the optimum, and the measured distance from it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchlinreg.engine.batches import MiniBatches, Rows
from torchlinreg.engine.losses import Loss, total

PASS_ELEMENTS = 2**19  # features in a chunk of a full pass, which both its products should find in the cache


class FullPass:
    """The mean loss over all rows, and its gradient, summed in float64 whatever the rows are kept in.

    Parameters
    ----------
    make_model : callable (theta) -> Model
    loss : Loss
    rows : Rows
    """

    def __init__(self, make_model: Callable, loss: Loss, rows: Rows):
        self._make_model, self._loss, self._rows = make_model, loss, rows
        chunk = max(1, PASS_ELEMENTS // max(1, rows.X.shape[1]))
        self._batches = MiniBatches(rows, chunk)

    def __call__(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each column, shape (n_columns,), and the gradient, in the shape of theta."""
        model = self._make_model(theta.to(self._rows.X.dtype))
        gradient, value = torch.zeros_like(theta), theta.new_zeros(theta.shape[1])
        for block in self._batches:
            for X, y, weight, predicted in block.batches:
                prediction = model.predict(X, out=predicted)
                error = model.error(self._loss, prediction, y, weight)
                model.backward(X, error)
                gradient.add_(model.gradient(), alpha=len(y))
                model.zero_grad()
            value += total(self._loss, block.predicted, block.rows.y, block.rows.weight)
        return value / len(self._rows), gradient / len(self._rows)


@dataclass
class Refined:
    """Where the refinement stopped."""

    theta: torch.Tensor
    gap: float
    n_passes: int


def refine(
    full_pass: FullPass,
    transform: torch.Tensor,
    v: torch.Tensor,
    *,
    floor: float,
    max_iter: int,
    after_pass: Callable[[torch.Tensor], None],
) -> Refined:
    """Descend by conjugate gradients in the variables v, in which the loss is nearly round.

    Each pass measures the true gradient at the end of a trial step. As the loss is quadratic, the two ends of the step
    give its curvature, hence the best length and, by interpolation, the gradient there: one pass an iteration, and no
    recurrence that could drift away from the data. Each column has a step of its own.

    Parameters
    ----------
    full_pass : FullPass
    transform : torch.Tensor of shape (n_theta, n_directions)
        ``theta = transform @ v``, scaled so that the loss has a curvature of about one in every direction of v.
    v : torch.Tensor of shape (n_directions, n_columns)
        The start.
    floor : float
        Squared gradient norm (twice the excess loss) at which a column is done.
    max_iter : int
        Passes at most.
    after_pass : callable (loss of each column)

    Returns
    -------
    Refined
        With the largest squared gradient norm of a column as `gap`.

    References
    ----------
    Hestenes & Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
    """

    def measure(v: torch.Tensor) -> torch.Tensor:
        value, gradient = full_pass(transform @ v)
        after_pass(value)
        return transform.T @ gradient

    gradient = measure(v)
    direction, length = -gradient, v.new_ones(v.shape[1])
    best = gradient.square().sum(0)
    n_passes, stale = 1, 0
    while best.max() > floor and n_passes < max_iter and stale < 3:
        trial = measure(v + length * direction)
        n_passes += 1
        change = (trial - gradient) / length
        curvature = (direction * change).sum(0)
        usable = curvature > 0
        exact = torch.where(usable, -(gradient * direction).sum(0) / curvature, 0.0)
        candidate = trial + (exact - length) * change
        size = candidate.square().sum(0)
        v = v + exact * direction
        turn = torch.where(usable, (candidate * change).sum(0) / curvature, 0.0)
        direction = turn * direction - candidate
        gradient, length = candidate, torch.where(exact > 0, exact, 1.0)
        stale = 0 if (size < best / 2).any() else stale + 1
        best = torch.minimum(best, size)
    return Refined(transform @ v, gradient.square().sum(0).max().item(), n_passes)
