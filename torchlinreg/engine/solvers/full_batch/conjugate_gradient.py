"""Full passes over the table, down to the optimum, and the measured distance from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from torchlinreg.engine.data.batches import Batch, MiniBatches, Rows
from torchlinreg.engine.objective.losses import Loss, total
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.transforms import Transform
from torchlinreg.engine.runtime.devices import at_once

PASS_ELEMENTS = 2**20  # features in a chunk of a full pass, which both its products should find in the cache
PREDICTIONS = 2**18  # at once, as each goes through several steps
WORTH_LEAVING = 0.75  # share of the columns still in a product, below which the others leave it
PATIENCE = 3  # passes
PATIENCE_OF_SCALED = 200  # the same where columns are at one scale only, and progress slow
SLOW = 0.25  # of the squared gradient left by a pass, on average, that shows a transform unfit


class FullPass:
    """The mean loss over all rows with the smooth part of the penalty, and the gradient, summed in float64.

    Parameters
    ----------
    make_model : callable (theta) -> Model
    loss : Loss
    rows : Rows
        In whatever precision.
    load : dict
        Further options of the `MiniBatches` that the pass is made of.
    penalty : Penalty, optional
    reported : Loss, optional
        What to tell of besides, where `loss` is a smooth one that stands for it.
    """

    def __init__(
        self,
        make_model: Callable,
        loss: Loss,
        rows: Rows,
        load: dict,
        penalty: Penalty | None = None,
        reported: Loss | None = None,
    ):
        self._make_model, self.loss, self.rows, self.load, self.penalty = make_model, loss, rows, load, penalty
        self._reported = None if reported is loss else reported
        self.objective: torch.Tensor | None = None
        """Of the theta measured last, with the loss to be reported, shape (n_columns,)."""
        self.resolution = torch.finfo(rows.y.dtype).eps
        elements, predictions = (at_once(n, rows.y.device) for n in (PASS_ELEMENTS, PREDICTIONS))
        self.chunk = max(1, min(elements // max(1, rows.width), predictions // rows.n_columns))
        self._batches = MiniBatches(rows, self.chunk, block_elements=elements, **load)
        self.lowest = float("inf")
        """Of the losses seen, summed over the columns,"""
        self.best: torch.Tensor | None = None
        """and the theta that it belongs to."""
        self._columns = torch.arange(rows.n_columns, device=rows.y.device)
        self._fewer: FullPass | None = None

    def __call__(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each column, shape (n_columns,), and the gradient, in the shape of theta."""
        value, gradient = self._measure(theta)
        reached = self.objective.sum().item()
        if self.best is None or reached < self.lowest:
            self.lowest, self.best = reached, theta
        return value, gradient

    def of_open(self, theta: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the same for some of the columns at least; what is said of the others means nothing.

        Models that share a target leave the product when enough of them are done.
        """
        if self.rows.models == 1 or active.sum() > WORTH_LEAVING * len(self._columns):
            return self(theta)
        self.best = theta if self.best is None else self.best  # better than none, until all columns are seen together
        fewer = self._fewer
        inside = 0 if fewer is None else active[fewer._columns].sum()
        if fewer is None or inside < active.sum() or inside <= WORTH_LEAVING * len(fewer._columns):
            (columns,) = active.nonzero(as_tuple=True)
            penalty = None if self.penalty is None else self.penalty.select(columns)
            reported = None if self._reported is None else self._reported.select(columns)
            rows, loss = self.rows.select(columns), self.loss.select(columns)
            fewer = FullPass(self._make_model, loss, rows, self.load, penalty, reported)
            fewer._columns, self._fewer = columns, fewer
        value, gradient = theta.new_zeros(theta.shape[1]), torch.zeros_like(theta)
        value[fewer._columns], gradient[:, fewer._columns] = fewer._measure(theta[:, fewer._columns])
        self.objective = torch.zeros_like(value)
        self.objective[fewer._columns] = fewer.objective
        return value, gradient

    def _measure(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.model(theta)
        gradient, value = torch.zeros_like(theta), theta.new_zeros(theta.shape[1])
        reported = torch.zeros_like(value)
        for block in self._batches:
            for batch in block.batches:
                prediction = model.predict(batch)
                error = model.error(self.loss, prediction, batch)
                model.backward(batch, error)
                gradient.add_(model.gradient(), alpha=len(batch.y))
                model.zero_grad()
            value += total(self.loss, block.predicted, block.rows.y, block.rows.weight)
            if self._reported is not None:
                reported += total(self._reported, block.predicted, block.rows.y, block.rows.weight)
        value, gradient = value / len(self.rows), gradient / len(self.rows)
        self.objective = value if self._reported is None else reported / len(self.rows)
        if self.penalty is not None:
            weights = theta[: self.rows.X.shape[1]]
            cost = self.penalty.value(weights)
            value, self.objective = value + cost, self.objective + cost
            gradient[: len(weights)] += self.penalty.gradient(weights)
        return value, gradient

    def model(self, theta: torch.Tensor):
        """Return the model of theta, in the precision of the rows."""
        return self._make_model(theta.to(self.rows.y.dtype))

    def with_loss(self, loss: Loss) -> "FullPass":
        """Return the pass for another loss, without a penalty."""
        return FullPass(self._make_model, loss, self.rows, self.load)

    def batches(self) -> Iterator[Batch]:
        """Go through all rows, in chunks."""
        for block in self._batches:
            yield from block.batches

    def mean(self, theta: torch.Tensor, cost: Callable) -> torch.Tensor:
        """Return the mean over all rows of ``cost(prediction, target)``, shape (n_columns,)."""
        model, mean = self.model(theta), theta.new_zeros(theta.shape[1])
        for batch in self.batches():
            each = cost(model.predict(batch).detach(), batch.y)
            mean += (each if batch.weight is None else each * batch.weight).sum(0, dtype=mean.dtype)
        return mean / len(self.rows)


@dataclass
class Solution:
    """Where the refinement stopped, and the excess loss of each column there.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_theta, n_columns)
    excesses : torch.Tensor of shape (n_columns,)
    n_passes : int
    is_slow : bool
        Whether it ended before the floor was reached.
    flattest : torch.Tensor of shape (n_columns,) or float
        Smallest curvature met on the way, relative to the one that was meant.
    resolution : torch.Tensor of shape (n_columns,) or float
        Excess that rounding does not let anybody tell from none.
    unit : torch.Tensor of shape (n_columns,) or float
        Loss that excesses are given in: of the best constant, which is half the curvature where the loss is a square.
    """

    theta: torch.Tensor
    excesses: torch.Tensor
    n_passes: int = 0
    is_slow: bool = False
    flattest: torch.Tensor | float = 1.0
    resolution: torch.Tensor | float = 0.0
    unit: torch.Tensor | float = 1.0

    def or_better(self, theta: torch.Tensor, excesses: torch.Tensor) -> "Solution":
        """Return, column by column, the better one of this and another outcome."""
        better = excesses < self.excesses
        return Solution(torch.where(better, theta, self.theta), torch.where(better, excesses, self.excesses))

    @property
    def excess(self) -> float:
        """The largest."""
        return self.excesses.max().item()


def refine(
    full_pass: FullPass,
    transform: Transform,
    theta: torch.Tensor,
    gradient: torch.Tensor,
    *,
    curvature: float,
    floor: float,
    max_iter: int,
    impatient: bool,
    after_pass: Callable[[torch.Tensor], None],
) -> Solution:
    """Descend by conjugate gradients in the variables v, in which the loss is nearly round.

    Each pass measures the true gradient at the end of a trial step. As the loss is quadratic, the two ends of the step
    give its curvature, hence the best length and, by interpolation, the gradient there: one pass an iteration, and no
    recurrence that could drift away from the data. Each column has a step of its own.

    Parameters
    ----------
    full_pass : FullPass
    transform : Transform
        Steps in theta are ``transform(v)``.
    theta, gradient : torch.Tensor of shape (n_theta, n_columns)
        The start, and the gradient there.
    curvature : float
        About that of the loss in every direction of v.
    floor : float
        Squared norm of the remaining way in v at which a column is done: its excess loss, in units of half the
        curvature.
    max_iter : int
        Passes at most. Without any, the step is what would be right if the loss were as round as is hoped.
    impatient : bool
        Whether to stop when it goes slower than a fit transform would let it.
    after_pass : callable (loss of each column)

    References
    ----------
    Hestenes & Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
    """
    value = theta.new_zeros(theta.shape[1])

    def measure(v: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        nonlocal value
        there, gradient = full_pass.of_open(theta + transform(v), active)
        value = torch.where(active, there, value)
        after_pass(value)
        return transform.rmatvec(gradient) / curvature

    resolution, norm = full_pass.resolution, partial(torch.linalg.vector_norm, dim=0)
    gradient = transform.rmatvec(gradient) / curvature
    size = gradient.square().sum(0)
    v = best_v = torch.zeros_like(gradient)
    first, best, noise, flattest = size, size, resolution * norm(gradient), torch.ones_like(size)
    direction, length = -gradient, torch.ones_like(size)
    n_passes = stale = 0
    if max_iter < 1:
        return Solution(theta + transform(direction), size, 0, is_slow=True)
    patience = PATIENCE if transform.weights.ndim > 1 else PATIENCE_OF_SCALED
    while best.max() > floor and n_passes < max_iter and stale < patience:
        active = best > floor
        trial = measure(v + length * direction, active)
        n_passes += 1
        change = (trial - gradient) / length
        bend = (direction * change).sum(0)
        usable = (bend > 0) & active
        flattest = torch.where(usable, torch.minimum(flattest, bend / direction.square().sum(0)), flattest)
        exact = torch.where(usable, -(gradient * direction).sum(0) / bend, 0.0)
        reach = exact / length  # below or above one, the gradient there is an interpolation or an extrapolation
        gradient = reach * trial + (1.0 - reach) * gradient
        noise = reach.abs() * resolution * norm(trial) + (1.0 - reach).abs() * noise
        v = v + exact * direction
        turn = torch.where(usable, (gradient * change).sum(0) / bend, 0.0)
        direction, length = turn * direction - gradient, torch.where(exact > 0, exact, 1.0)
        size = gradient.square().sum(0) + noise.square()
        stale = 0 if (size < best / 2).any() else stale + 1
        best_v, best = torch.where(size < best, v, best_v), torch.minimum(best, size)
        if impatient and n_passes >= PATIENCE and (size > first * SLOW**n_passes).all():
            break
    return Solution(theta + transform(best_v), best, n_passes, is_slow=bool(best.max() > floor), flattest=flattest)
