"""How far an answer is from the optimum, measured at the answer itself: a lower bound of the objective, by duality.

By Fenchel's inequality any slopes r of the loss, a number for each row, bound the minimum from below, as far as the
penalty bears the gradient X'r / n that they make. The bound is sharp where r are the slopes at the optimum. Those of a
smooth loss that stands for one with jumps will do, and a Newton step brings them closer than the answer is: then what
the answer lacks shows, and not what was hoped for it.
"""

from collections.abc import Callable
from functools import partial

import torch

from torchlinreg.engine.objective.losses import Loss, SquaredError
from torchlinreg.engine.preconditioning.transforms import EPS, Transform
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import FullPass
from torchlinreg.engine.solvers.full_batch.proximal_newton import (
    NARROWER,
    Objective,
    is_narrow,
    newton,
    newton_step,
    towards_jumps,
)

# Where slopes are sought, until they bound the minimum well: multiples of the width of a smooth loss,
# passes at most, and whether the slopes before are those of a loss wider by NARROWER, from which to go on
JUMPING = ((1, 0, 0), (1, 20, 0), (25, 20, 0), (625, 60, 0), (125, 60, 1), (25, 60, 1), (5, 60, 1), (1, 60, 1))
SMOOTH = ((1, 0, 0), (1, 20, 0), (1, 20, 0))
SHARP = 0.05  # share of a gap that is good enough, to whose square such slopes are sought: errors count by their root
SINGULAR = 1e-12  # mean squares of a direction, below which there may be none
ROUNDINGS = 64  # of a number, that a sum may add up to


def optimality_gap(
    full_pass: FullPass,
    smooth: Callable[[float], FullPass] | None,
    transform: Transform,
    theta: torch.Tensor,
    near: torch.Tensor,
    *,
    enough: torch.Tensor,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bound the excess of the objective over its minimum.

    Where the loss is known by its values only, an estimate has to do: what a Newton step promises, if it keeps its
    word.

    Parameters
    ----------
    full_pass : FullPass
    smooth : callable (multiple) -> FullPass, or None
        Of a smooth loss that stands for one with jumps, of that multiple of the width at which its slopes should do.
    transform : Transform
        The variables to take steps in: diagonal if the penalty has kinks.
    theta, near : torch.Tensor of shape (n_theta, n_columns), float64
        The answer, and the same as the solver left it: where to look for slopes from.
    enough : torch.Tensor of shape (n_columns,)
        A gap that is small enough to look no further.
    seed : int
        Of the rows that curvature is estimated from, if there are too many.

    Returns
    -------
    gap : torch.Tensor of shape (n_columns,)
    resolution : torch.Tensor of shape (n_columns,)
        What of it may be rounding.
    """
    start, v = near, near.new_zeros(transform.n_directions, near.shape[1])
    if full_pass.penalty is not None and not full_pass.penalty.is_smooth:
        start, v = torch.zeros_like(near), transform.inverse(near)
    can_step = is_narrow(transform)
    if full_pass.loss.by_autograd:
        return _promised(full_pass, Objective(full_pass, transform, start, seed, thin=True), v, can_step=can_step)
    best, before = torch.full_like(enough, torch.inf), None
    # With a penalty, what its gradient does not bear is in few directions, and small
    size_of = partial(_size, _metric(full_pass, transform, v, seed) if can_step and full_pass.penalty is None else None)
    for multiple, n_passes, goes_on in JUMPING if smooth is not None else SMOOTH:
        objective = Objective(full_pass if smooth is None else smooth(multiple), transform, start, seed, thin=True)
        if goes_on and before.curvature is not None:
            v = v + (1.0 - 1.0 / NARROWER) * towards_jumps(before, v)
        if n_passes:
            floor = (SHARP * enough).square()
            v, *_ = newton(objective, v, floor=floor, max_iter=n_passes, after_pass=_ignore)
        gap, resolution = _duality_gap(full_pass, objective.loss, transform, theta, objective.theta(v), size_of)
        best, before = torch.minimum(best, gap), objective
        if not can_step or (best <= torch.maximum(enough, resolution)).all():
            break
    return best, resolution


def _metric(full_pass: FullPass, transform: Transform, v: torch.Tensor, seed: int) -> torch.Tensor | None:
    """Return Cholesky factors of the second moment of the rows in the variables v; None where that is the identity."""
    if transform.weights.ndim > 1:
        return None
    objective = Objective(full_pass.with_loss(SquaredError()), transform, torch.zeros_like(v), seed, thin=True)
    objective.look(v, torch.ones_like(v[0], dtype=torch.bool))
    matrix = objective.curvature.matrix
    return torch.linalg.cholesky_ex(matrix + SINGULAR * torch.eye(len(v), dtype=v.dtype, device=v.device))[0]


def _size(factor: torch.Tensor | None, gradient: torch.Tensor) -> torch.Tensor:
    """Return how much a gradient in v gains with a step that moves predictions by one, shape (n_columns,)."""
    if factor is None:
        return _norm(gradient)
    return _norm(torch.linalg.solve_triangular(factor, gradient.T[..., None], upper=False)[..., 0].T)


def _duality_gap(
    full_pass: FullPass, smooth: Loss, transform: Transform, theta, dual_theta, size_of: Callable
) -> tuple:
    """Return the gap between theta and the bound by the slopes at another theta, both of shape (n_theta, n_columns).

    Returns
    -------
    gap : torch.Tensor of shape (n_columns,)
    resolution : torch.Tensor of shape (n_columns,)
        What of it may be rounding.
    """
    loss, penalty, n_features = full_pass.loss, full_pass.penalty, full_pass.rows.X.shape[1]
    gap, size, slopes, squares, parts = torch.zeros_like(theta[:1]).repeat(5, 1)
    gradient, both = torch.zeros_like(theta), torch.cat([theta, dual_theta], dim=1)
    for batch in full_pass.batches():
        X, y = batch.X.to(theta), batch.y.to(theta)
        predicted, other = (X @ both[:n_features] + both[n_features:].sum(0)).chunk(2, dim=1)
        residual, slope = predicted - y, loss.feasible(smooth.gradient(other, y))
        value, conjugate, product = loss.value(predicted, y), loss.conjugate(slope), residual * slope
        weight = 1.0 if batch.weight is None else batch.weight.to(theta)
        gap += (weight * (value + conjugate - product).clamp(min=0)).sum(0)
        size += (weight * (value + conjugate + product.abs())).sum(0)
        slopes += (weight * slope.square()).sum(0)
        squares += (weight * residual.square()).sum(0)
        largest = X.abs() @ theta[:n_features].abs() + theta[n_features:].abs().sum(0)
        parts += (weight * largest.square()).sum(0)
        slope = weight * slope
        gradient[:n_features] += X.T @ slope
        gradient[n_features:] += slope.sum(0)
    gap, size, slopes, squares, parts, gradient = (
        part / len(full_pass.rows) for part in (gap, size, slopes, squares, parts, gradient)
    )
    # Predictions of the optimum are no farther from the targets, in the mean, and so no farther apart than twice that
    reach, rest = 2.0 * squares.sqrt(), gradient.clone()
    if penalty is not None:
        weights, unit = theta[:n_features], reach * transform.row_norms[:, None]
        of_penalty, rest[:n_features] = penalty.duality_gap(weights, gradient[:n_features], unit)
        gap, size = gap + of_penalty, size + penalty.value(weights) + (weights * gradient[:n_features]).abs().sum(0)
    # Predictions whose parts cancel are rounded, and slopes with them
    rounding = EPS * parts.sqrt()
    of_slopes = torch.minimum(loss.lipschitz * rounding, slopes.sqrt()) if loss.is_smooth else 0.0
    gap = gap + reach * size_of(transform.rmatvec(rest)) + rounding * slopes.sqrt()
    return gap, ROUNDINGS * EPS * (size + reach * slopes.sqrt()) + 2.0 * reach * of_slopes


def _promised(full_pass: FullPass, objective: Objective, v: torch.Tensor, *, can_step: bool) -> tuple:
    """Return what a Newton step promises to gain or, if it is not to be trusted, the slope times how far it may go."""
    every = torch.ones_like(v[0], dtype=torch.bool)
    value, gradient = objective(v, every)
    slope = _norm(_subgradient(objective, v, gradient))
    reach = 2.0 * full_pass.mean(objective.theta(v), lambda p, y: (p - y).square()).sqrt()
    resolution = ROUNDINGS * objective.resolution * value.abs()
    if not can_step:
        return slope * reach, resolution
    objective.look(v, every)
    step, promised = newton_step(objective, v, value, gradient, torch.zeros_like(slope))
    _, there = objective(v + step, every)
    left = _norm(_subgradient(objective, v + step, there))
    trusted = (_norm(step) <= reach) & ((left <= 0.5 * slope) | (slope * reach <= resolution))
    return torch.where(trusted, promised, slope * reach), resolution


def _subgradient(objective: Objective, v: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the smallest subgradient."""
    if objective.l1 is None:
        return gradient
    beyond = gradient - torch.clamp(gradient, -objective.l1, objective.l1)
    return torch.where(v == 0, beyond, gradient + objective.l1 * v.sign())


def _ignore(values: torch.Tensor) -> None:
    pass


def _norm(v: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(v, dim=0)
