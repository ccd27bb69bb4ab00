"""Proximal Newton steps for any convex objective, by damped quadratic models."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from torchlinreg.engine.solvers.full_batch.active_columns import ActiveColumns
from torchlinreg.engine.solvers.full_batch.l1_quadratic import solve_l1_quadratic
from torchlinreg.engine.solvers.solver import Iterate, Iterates, Solution

PATIENCE = 12  # passes without progress
SUFFICIENT = 1e-3  # of the decrease that a step promises
BAD_DIRECTION = 0.4  # part of a step beyond which it goes uphill, that tells of a wrong direction
SMALLEST_STEP = 1e-12  # part of a step that is worth trying
FLAT = 1e-10  # of the largest curvature, below which there may be none,
GRADIENT_ROUNDINGS = 256  # of the gradients, that a mean may be wrong by
JITTER = 1e-13  # of the largest curvature, so that no direction is without,
DAMPING = 1e-3  # share of a majorizer, added where curvature changes along the way
SMALLEST_DAMPING = 1e-8  # such share, that keeps rounding out of directions in which the loss is flat


class Point(NamedTuple):
    """Where columns have got to.

    Attributes
    ----------
    v : torch.Tensor of shape (n_directions, n_columns)
    value : torch.Tensor of shape (n_columns,)
    gradient : torch.Tensor of shape (n_directions, n_columns)
    reported : torch.Tensor of shape (n_columns,)
    """

    v: torch.Tensor
    value: torch.Tensor
    gradient: torch.Tensor
    reported: torch.Tensor

    def where(self, better: torch.Tensor, other: "Point") -> "Point":
        """Return this point, with the better columns of another."""
        return Point(*(torch.where(better, theirs, ours) for ours, theirs in zip(self, other, strict=True)))


class QuadraticModel(NamedTuple):
    """The step that a damped quadratic model of the objective suggests.

    Attributes
    ----------
    step : torch.Tensor of shape (n_directions, n_columns)
    newton_decrement : torch.Tensor of shape (n_columns,)
        What the full step promises to gain.
    step_size : torch.Tensor of shape (n_columns,)
        Part of the step that is tried next.
    damping : torch.Tensor of shape (n_columns,)
    failed : torch.Tensor of shape (n_columns,), bool
        Whether the last direction was a bad one.
    """

    step: torch.Tensor
    newton_decrement: torch.Tensor
    step_size: torch.Tensor
    damping: torch.Tensor
    failed: torch.Tensor


@dataclass(frozen=True)
class ProximalNewton:
    """Proximal Newton steps with a line search; each column for itself.

    Attributes
    ----------
    floor : torch.Tensor of shape (n_columns,)
        Gap at which a column is done; infinite if it is already.
    max_iter : int
        Passes at most.

    References
    ----------
    Lee, Sun & Saunders (2014), "Proximal Newton-type methods for minimizing composite functions".
    """

    floor: torch.Tensor
    max_iter: int

    needs = frozenset({"hessian", "prox"})

    def iterates(self, objective, v: torch.Tensor) -> Iterates:
        """Yield an iterate for each pass, and return the last point, with the second order found last."""
        columns, is_quadratic = ActiveColumns(objective), objective.loss.is_quadratic
        patience = 2 if is_quadratic else PATIENCE  # one step is to the minimum, the next mends its rounding
        active = fresh = self.floor.isfinite()
        point, theta = _measure(objective, columns, v, active)
        damping = torch.full_like(point.value, 0.0 if is_quadratic else DAMPING)
        model = QuadraticModel(torch.zeros_like(v), *torch.zeros_like(point.value).repeat(2, 1), damping, damping < 0)
        second_order, lowest, n_passes, stale, moved = None, point.value, 1, 0, True
        yield Iterate(theta, point.reported, None, n_passes)
        while len(v):  # rows of zeros leave no direction
            if moved:
                second_order = update_hessian(objective, point.v, active, second_order)
            model = self._refresh(objective, second_order, point, model, fresh)
            active = (model.newton_decrement > self.floor) & (model.step_size > SMALLEST_STEP)
            if not active.any() or n_passes >= self.max_iter or stale >= patience:
                break
            there = torch.where(active, point.v + model.step_size * model.step, point.v)
            trial, theta = _measure(objective, columns, there, active)
            n_passes += 1
            noise = 4 * objective.resolution * point.value.abs()
            promised = SUFFICIENT * model.step_size * model.newton_decrement
            better = active & (trial.value <= point.value - promised + noise)
            model, bad_direction = _adjust(objective, model, point, trial, active, better)
            point = point.where(better, trial)
            yield Iterate(theta, point.reported, model.newton_decrement, n_passes)
            moved, fresh = bool(better.any()), better | (bad_direction & (model.damping < 1.0))
            stale = 0 if (point.value < lowest - noise).any() else stale + 1
            lowest = torch.minimum(lowest, point.value)
        return Solution(
            objective.theta(point.v), model.newton_decrement, n_passes, v=point.v, second_order=second_order
        )

    def _refresh(
        self, objective, second_order, point: Point, model: QuadraticModel, fresh: torch.Tensor
    ) -> QuadraticModel:
        """Return the model with new steps of the fresh columns, damped as little as their decrements allow."""
        while fresh.any():
            direction, decrement = newton_step(objective, second_order, point, model.damping)
            model = model._replace(
                step=torch.where(fresh, direction, model.step),
                newton_decrement=torch.where(fresh, decrement, model.newton_decrement),
                step_size=torch.where(fresh, 1.0, model.step_size),
            )
            # A damped step promises less than there is to gain
            overdamped = fresh & (model.newton_decrement <= self.floor) & ~model.failed
            overdamped &= model.damping > SMALLEST_DAMPING
            if not overdamped.any():
                break
            model = model._replace(damping=torch.where(overdamped, _ease(model.damping * 1e-2), model.damping))
        return model


def update_hessian(objective, v: torch.Tensor, active: torch.Tensor, second_order):
    """Return the second order at v, anew for the active columns if there is one already."""
    if second_order is not None and objective.loss.is_quadratic:
        return second_order
    (columns,) = active.nonzero(as_tuple=True)  # once, as it keeps an accelerator waiting
    found = objective.second_order(v, columns)
    return found if second_order is None else second_order.update_(found, columns)


def _measure(objective, columns: ActiveColumns, v: torch.Tensor, active: torch.Tensor) -> tuple[Point, torch.Tensor]:
    """Return the point at v, and its theta."""
    theta = objective.theta(v)
    found = columns.evaluate(theta, active)
    return Point(v, found.value, objective.transform.rmatvec(found.gradient), found.reported), theta


def _adjust(
    objective, model: QuadraticModel, point: Point, trial: Point, active, better
) -> tuple[QuadraticModel, torch.Tensor]:
    """Return the model with step sizes and damping as a trial has taught, and which directions were bad ones."""
    shorter = _secant(objective.nonsmooth, model.step, point, trial)
    bad_direction = active & ~better & (model.step_size * shorter < BAD_DIRECTION)
    damping = model.damping
    if not objective.loss.is_quadratic:
        damping = torch.where(better & (model.step_size == 1), _ease(damping / 10), damping)
        damping = torch.where(better & (model.step_size < 1), (10 * damping).clamp(DAMPING, 1.0), damping)
        damping = torch.where(bad_direction, (30 * damping).clamp(DAMPING, 1.0), damping)
    step_size = torch.where(active, model.step_size * shorter, model.step_size)
    failed = ~better & (model.failed | bad_direction)
    return model._replace(step_size=step_size, damping=damping, failed=failed), bad_direction


def _ease(damping: torch.Tensor) -> torch.Tensor:
    return damping.clamp(min=SMALLEST_DAMPING)


def newton_step(objective, second_order, point: Point, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step to the minimum of the damped quadratic model, and the decrease that the model promises."""
    hessian, nonsmooth, v, gradient = second_order.hessian, objective.nonsmooth, point.v, point.gradient
    damped = hessian.plus_diagonal(JITTER * (objective.loss_lipschitz + hessian.diagonal))
    if damping.any():
        damped = damped.plus_matrix(damping[:, None, None] * second_order.majorizer)
    if nonsmooth is None:
        lipschitz = objective.loss_lipschitz
        noise = GRADIENT_ROUNDINGS * objective.resolution * (lipschitz * point.value.abs()).sqrt()
        step = _solve(damped.to_dense(), -gradient, noise, lipschitz)
    else:
        step = solve_l1_quadratic(damped, gradient - damped @ v, nonsmooth, v) - v
    decrement = -(step * (gradient + 0.5 * (hessian @ step))).sum(0)
    if nonsmooth is not None:
        decrement -= nonsmooth.increase(v, step).sum(0)
    return step, decrement.clamp(min=0)


def _solve(hessian: torch.Tensor, right: torch.Tensor, noise: torch.Tensor, lipschitz: torch.Tensor) -> torch.Tensor:
    """Solve ``hessian @ u = right``.

    Parameters
    ----------
    hessian : torch.Tensor of shape (n_columns, n_directions, n_directions)
    right : torch.Tensor of shape (n_directions, n_columns)
    noise : torch.Tensor of shape (n_columns,)
        How well each of these numbers is known.
    lipschitz : torch.Tensor of shape (n_columns,)
        Bound of the second derivative of the loss.
    """
    # No direction keeps more curvature than the loss may have, so that those of a penalty do not drown the others
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    root = torch.maximum(diagonal, torch.minimum(lipschitz[:, None], diagonal.amax(1, keepdim=True))).sqrt()
    hessian, right = hessian / root[:, :, None] / root[:, None, :], right / root.T
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if not (failed.any() or (factor.diagonal(dim1=1, dim2=2).square() < FLAT).any()):
        return torch.cholesky_solve(right.T[..., None], factor)[..., 0].T / root.T
    # Directions that no row determines must not be gone in by what rounding has left there
    eigenvalues, axes = torch.linalg.eigh(hessian)
    along = torch.einsum("kij,ik->kj", axes, right)
    noise = noise[:, None] * torch.linalg.vector_norm(axes / root[:, :, None], dim=1)
    undetermined = (eigenvalues <= 0) | ((eigenvalues < FLAT) & (along.abs() <= noise))
    return torch.einsum("kij,kj->ik", axes, torch.where(undetermined, 0.0, along / eigenvalues)) / root.T


def _secant(nonsmooth, step: torch.Tensor, point: Point, trial: Point) -> torch.Tensor:
    """Return where along a step the derivative vanishes, by linear interpolation between its ends."""
    before, after = (step * point.gradient).sum(0), (step * trial.gradient).sum(0)
    if nonsmooth is not None:
        before = before + (step * nonsmooth.derivative(torch.where(point.v == 0, step, point.v))).sum(0)
        after = after + (step * nonsmooth.derivative(trial.v)).sum(0)
    return (before / (before - after)).nan_to_num(nan=0.5).clamp(1e-4, 0.8)
