"""How far an answer is from the optimum, measured at the answer itself: a lower bound of the objective, by duality.

By Fenchel's inequality any dual point u, a number for each row, bounds the minimum from below, as far as the penalty
makes the gradient Xᵀu / n that belongs to it feasible. The bound is tight where u are the gradients of the loss at the
optimum. Those of a smooth loss that stands for one with jumps will do, and a Newton step brings them closer than the
answer is: then the gap shows what the answer lacks.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.products import absolute_product
from torchlinreg.engine.data.reductions import Sums
from torchlinreg.engine.objective.losses import SquaredError
from torchlinreg.engine.objective.objective import Objective
from torchlinreg.engine.preconditioning.factorizations import EPS
from torchlinreg.engine.solvers.full_batch.continuation import NARROWER, extrapolate
from torchlinreg.engine.solvers.full_batch.proximal_newton import Point, ProximalNewton, newton_step
from torchlinreg.engine.solvers.solver import run

# Where a dual point is sought, until it bounds the minimum well: multiples of the width of a smooth loss,
# passes at most, and whether the point before is that of a loss wider by NARROWER, from which to go on
JUMPING = ((1, 0, 0), (1, 20, 0), (25, 20, 0), (625, 60, 0), (125, 60, 1), (25, 60, 1), (5, 60, 1), (1, 60, 1))
SMOOTH = ((1, 0, 0), (1, 20, 0), (1, 20, 0))
SHARP = 0.05  # share of a gap that is good enough, to whose square such points are sought: errors count by their root
SINGULAR = 1e-12  # mean squares of a direction, below which there may be none
ROUNDINGS = 64  # of a number, that a sum may add up to


def optimality_gap(
    objective: Objective,
    smooth: Callable[[float], object] | None,
    theta: torch.Tensor,
    near: torch.Tensor,
    *,
    enough: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bound the excess of the objective over its minimum.

    Where the loss is known by its values only, an estimate has to do: the decrement of a Newton step, if the step can
    be trusted.

    Parameters
    ----------
    objective : Objective
        With its start where v is zero.
    smooth : callable (multiple) -> Loss, or None
        A smooth loss that stands for one with jumps, of that multiple of the width at which its gradients should do.
    theta, near : torch.Tensor of shape (n_theta, n_columns), float64
        The answer, and the same as the solver left it: from where a dual point is sought.
    enough : torch.Tensor of shape (n_columns,)
        A gap that is small enough to look no further.

    Returns
    -------
    gap : torch.Tensor of shape (n_columns,)
    resolution : torch.Tensor of shape (n_columns,)
        What of it may be rounding.
    """
    objective, v = from_start(objective, near)
    if objective.loss.by_autograd:
        return _estimate(objective, v)
    best, before, stage_before = torch.full_like(enough, torch.inf), None, objective
    # With a penalty, what is infeasible of its gradient is in few directions, and small
    metric = _metric(objective, v) if objective.has_hessian and objective.penalty is None else None
    for multiple, n_passes, goes_on in JUMPING if smooth is not None else SMOOTH:
        stage = objective
        if smooth is not None:
            stage = replace(objective, loss=smooth(multiple), reported_loss=objective.loss)
        if goes_on and before is not None and before.second_order is not None:
            v = v + (1.0 - 1.0 / NARROWER) * extrapolate(stage_before, before.second_order, v)
        if n_passes:
            before, stage_before = run(ProximalNewton((SHARP * enough).square(), n_passes).iterates(stage, v)), stage
            v = before.v
        sums = objective.source.reduce(DualityGap(objective, stage.loss, theta, stage.theta(v)))
        gap, resolution = sums.result(partial(_size, metric))
        best = torch.minimum(best, gap)
        if not objective.has_hessian or (best <= torch.maximum(enough, resolution)).all():
            break
    return best, resolution


def from_start(objective: Objective, theta: torch.Tensor) -> tuple[Objective, torch.Tensor]:
    """Return an objective whose v is zero at theta or, with a penalty that is not smooth, at weights of zero; and v."""
    if objective.nonsmooth is None:
        v = theta.new_zeros(objective.transform.n_directions, theta.shape[1])
        return replace(objective, start=theta), v
    return replace(objective, start=torch.zeros_like(theta)), objective.transform.inverse(theta)


def _metric(objective: Objective, v: torch.Tensor) -> torch.Tensor | None:
    """Return Cholesky factors of the second moment of the rows in the variables v; None where that is the identity."""
    if objective.transform.weights.ndim > 1:
        return None
    squares = replace(objective, loss=SquaredError(), penalty=None, start=torch.zeros_like(objective.start), seed=None)
    columns = torch.arange(v.shape[1], device=v.device)
    matrix = squares.second_order(torch.zeros_like(v), columns).hessian.matrix
    return torch.linalg.cholesky_ex(matrix + SINGULAR * torch.eye(len(v), dtype=v.dtype, device=v.device))[0]


def _size(factor: torch.Tensor | None, gradient: torch.Tensor) -> torch.Tensor:
    """Return how much a gradient in v gains with a step that moves predictions by one, shape (n_columns,)."""
    if factor is None:
        return _norm(gradient)
    return _norm(torch.linalg.solve_triangular(factor, gradient.T[..., None], upper=False)[..., 0].T)


class DualityGap(Sums):
    """Reduction: the gap between the objective at theta and the bound by the dual point of another theta.

    Parameters
    ----------
    objective : Objective
    smooth : Loss
        Whose gradients are the dual point.
    theta, dual_theta : torch.Tensor of shape (n_theta, n_columns)
    """

    SUMMED = ("_sums", "_gradient", "_n_rows")

    def __init__(self, objective: Objective, smooth, theta: torch.Tensor, dual_theta: torch.Tensor):
        self._objective, self._smooth, self._theta = objective, smooth, theta
        self._both = torch.cat([theta, dual_theta], dim=1)
        self._sums = torch.zeros_like(theta[:1]).repeat(5, 1)  # gap, size, dual squares, squared residuals, parts
        self._gradient, self._n_rows = torch.zeros_like(theta), 0

    @property
    def suits_threads(self) -> bool:
        """Whether the loss is no function of the user's, which is not called by several threads at once."""
        return not self._objective.loss.by_autograd

    def update(self, block: Batch) -> None:
        """Add what the rows of a block contribute."""
        theta, both, loss = self._theta, self._both, self._objective.loss
        n = block.X.shape[1]
        X, y = block.X.to(theta), block.y.to(theta)
        predicted, other = (X.matmul(both[:n]) + both[n:].sum(0)).chunk(2, dim=1)
        residual, dual = predicted - y, loss.feasible(self._smooth.gradient(other, y))
        value, conjugate, product = loss.value(predicted, y), loss.conjugate(dual), residual * dual
        largest = absolute_product(X, theta[:n]) + theta[n:].abs().sum(0)
        weight = 1.0 if block.weight is None else block.weight.to(theta)
        of_rows = (
            (value + conjugate - product).clamp(min=0),
            value + conjugate + product.abs(),
            dual.square(),
            residual.square(),
            largest.square(),
        )
        self._sums = self._sums + torch.stack([(weight * part).sum(0) for part in of_rows])
        dual = weight * dual
        self._gradient[:n] += X.rmatmul(dual)
        self._gradient[n:] += dual.sum(0)
        self._n_rows += len(y)

    def result(self, size_of: Callable) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gap, and what of it may be rounding, of shape (n_columns,).

        Parameters
        ----------
        size_of : callable (gradient in v) -> torch.Tensor of shape (n_columns,)
            What a gradient that is infeasible adds to the gap, for each unit that predictions may move.
        """
        objective, theta, transform = self._objective, self._theta, self._objective.transform
        gap, size, duals, squares, parts = self._sums / self._n_rows
        gradient, n = self._gradient / self._n_rows, objective.source.shape[1]
        # Predictions of the optimum are no farther from the targets, in the mean, and so no farther apart than twice
        reach, infeasible = 2.0 * squares.sqrt(), gradient.clone()
        if objective.penalty is not None:
            weights, unit = theta[:n], reach * transform.row_norms[:, None]
            of_penalty, infeasible[:n] = objective.penalty.duality_gap(weights, gradient[:n], unit)
            gap = gap + of_penalty
            size = size + objective.penalty.value(weights) + (weights * gradient[:n]).abs().sum(0)
        # Predictions whose parts cancel are rounded, and gradients with them
        rounding, loss = EPS * parts.sqrt(), objective.loss
        of_gradients = torch.minimum(loss.lipschitz * rounding, duals.sqrt()) if loss.is_smooth else 0.0
        gap = gap + reach * size_of(transform.rmatvec(infeasible)) + rounding * duals.sqrt()
        return gap, ROUNDINGS * EPS * (size + reach * duals.sqrt()) + 2.0 * reach * of_gradients


def _estimate(objective: Objective, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the decrement of a Newton step or, if it is not to be trusted, the gradient times how far it may go."""
    found = objective.value_and_gradient(v)
    gradient = _norm(_subgradient(objective, v, found.gradient))
    reach = 2.0 * objective.mean(objective.theta(v), lambda p, y: (p - y).square()).sqrt()
    resolution = ROUNDINGS * objective.resolution * found.value.abs()
    if not objective.has_hessian:
        return gradient * reach, resolution
    second_order = objective.second_order(v, torch.arange(v.shape[1], device=v.device))
    point = Point(v, found.value, found.gradient, found.reported)
    step, decrement = newton_step(objective, second_order, point, torch.zeros_like(gradient))
    there = objective.value_and_gradient(v + step)
    left = _norm(_subgradient(objective, v + step, there.gradient))
    trusted = (_norm(step) <= reach) & ((left <= 0.5 * gradient) | (gradient * reach <= resolution))
    return torch.where(trusted, decrement, gradient * reach), resolution


def _subgradient(objective: Objective, v: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the smallest subgradient."""
    return gradient if objective.nonsmooth is None else objective.nonsmooth.subdifferential_distance(v, gradient)


def _norm(v: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(v, dim=0)
