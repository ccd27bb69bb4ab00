"""Full passes down to the optimum of what is not a parabola: other losses, and penalties with a l1.

Each step minimises the parabola that touches the objective, with the kinks of the penalty, exactly: a proximal Newton
step (Lee, Sun & Saunders 2014, "Proximal Newton-type methods for minimizing composite functions"). What the parabola
promises to gain is, near the optimum, the distance from it, and is what is reported.
"""

from collections.abc import Callable
from functools import partial

import torch

from torchlinreg.engine.objective.losses import Loss
from torchlinreg.engine.objective.objective import Objective
from torchlinreg.engine.preconditioning.transforms import Transform
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import FullPass
from torchlinreg.engine.solvers.full_batch.l1_quadratic import Curvature, accelerated, minimum_with_kinks

LARGEST_MATRIX = 4097  # directions, and the intercept, that are worth a matrix of curvatures
PATIENCE = 12  # passes without progress
WINDOW = 10  # passes over which the rate of progress is measured
SUFFICIENT = 1e-3  # of the gain that a step promises
MISLED = 0.4  # part of a step beyond which it goes uphill, that tells of a wrong direction
SHORTEST = 1e-12  # part of a step that is worth trying
FLAT = 1e-10  # of the steepest curvature, below which there may be none,
ROUNDINGS = 256  # of the slopes, that a gradient may be wrong by
JITTER = 1e-13  # of the steepest curvature, so that no direction is without,
DAMPING = 1e-3  # share of a parabola that lies above the objective, added where curvature changes along the way
SLIGHTEST = 1e-8  # such share, that keeps rounding out of directions in which the loss is flat
NARROWER = 5.0  # times, from one smooth loss to the next
ROUGHLY = 1e-3  # of what a smooth loss is wrong by anyway, to which its own optimum is worth finding
NARROWEST = 1e-12  # width of a moreau_envelope jump, in spreads of the target


def is_narrow(transform: Transform) -> bool:
    """Whether there are so few directions that a matrix of curvatures is worth it."""
    return transform.n_directions <= LARGEST_MATRIX


def minimise(
    full_pass: Callable[[Loss], FullPass],
    loss: Loss,
    transform: Transform,
    theta: torch.Tensor,
    *,
    unit: torch.Tensor,
    tol: float,
    max_iter: int,
    seed: int,
    after_pass: Callable[[torch.Tensor], None],
    warm: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Minimise any loss with any penalty.

    Parameters
    ----------
    full_pass : callable (loss) -> FullPass
    loss : Loss
    transform : Transform
        The variables to work in: diagonal if the penalty has kinks.
    theta : torch.Tensor of shape (n_theta, n_columns)
        The start.
    unit : torch.Tensor of shape (n_columns,)
        What `tol` is relative to.
    tol : float
        Excess of the objective at which a column is done.
    max_iter : int
        Passes at most.
    seed : int
        Of the rows that curvature is estimated from, if there are too many.
    after_pass : callable (value of each column)
    warm : bool
        Whether the start is so close that a smooth loss needs no smoother one to lead there.

    Returns
    -------
    theta : torch.Tensor of shape (n_theta, n_columns)
    width : torch.Tensor of shape (n_columns,)
        Of the smooth loss whose optimum that is; zero for the loss itself.
    n_passes : int
    """

    def objective(loss: Loss, *, thin: bool) -> Objective:
        return Objective(full_pass(loss), transform, theta, seed, thin=thin)

    solver = partial(newton if is_narrow(transform) else accelerate, after_pass=after_pass)
    measure = full_pass(loss)
    start = theta.new_zeros(transform.n_directions, theta.shape[1])
    if measure.penalty is not None and not measure.penalty.is_smooth:
        # The kinks are where theta is zero, so that is where v has to begin
        start, theta = transform.inverse(theta), torch.zeros_like(theta)
    v, width, n_passes = _narrow(
        measure, objective, start, unit=unit, tol=tol, solver=solver, limit=max_iter, warm=warm
    )
    return theta + transform(v), width, n_passes


def newton(
    objective: Objective,
    v: torch.Tensor,
    *,
    floor: torch.Tensor,
    max_iter: int,
    after_pass: Callable[[torch.Tensor], None],
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Minimise by proximal Newton steps, cut short where they lead too far; each column for itself.

    Parameters
    ----------
    objective : Objective
    v : torch.Tensor of shape (n_directions, n_columns)
        The start.
    floor : torch.Tensor of shape (n_columns,)
        Excess of the objective at which a column is done; infinite if it is already.
    max_iter : int
        Passes at most.
    after_pass : callable (value of each column)

    Returns
    -------
    v : torch.Tensor of shape (n_directions, n_columns)
    excess : torch.Tensor of shape (n_columns,)
        Estimated.
    n_passes : int
    """
    unfinished = fresh = floor.isfinite()
    value, gradient = objective(v, unfinished)
    reported = objective.reported
    after_pass(reported)
    step = excess = cut = torch.zeros_like(value)
    failed = torch.zeros_like(value, dtype=torch.bool)
    damping = torch.full_like(value, 0.0 if objective.loss.is_quadratic else DAMPING)
    moved, lowest, n_passes, stale = True, value, 1, 0
    patience = 2 if objective.loss.is_quadratic else PATIENCE  # one step is to the minimum, the next mends its rounding
    if not len(v):  # a table of zeros leaves no direction
        return v, excess, n_passes
    while True:
        if moved:
            objective.look(v, unfinished)
            moved = False
        if fresh.any():
            direction, promised = newton_step(objective, v, value, gradient, damping)
            step, excess = torch.where(fresh, direction, step), torch.where(fresh, promised, excess)
            cut = torch.where(fresh, 1.0, cut)
            # A damped step promises less than there is to gain
            timid = fresh & (excess <= floor) & (damping > SLIGHTEST) & ~failed
            if timid.any():
                damping = torch.where(timid, _ease(damping * 1e-2), damping)
                continue
        unfinished = (excess > floor) & (cut > SHORTEST)
        if not unfinished.any() or n_passes >= max_iter or stale >= patience:
            return v, excess, n_passes
        there = torch.where(unfinished, v + cut * step, v)
        trial_value, trial_gradient = objective(there, unfinished)
        n_passes += 1
        noise = 4 * objective.resolution * value.abs()
        better = unfinished & (trial_value <= value - SUFFICIENT * cut * excess + noise)
        shorter = _secant(objective.l1, step, v, gradient, there, trial_gradient)
        misled = unfinished & ~better & (cut * shorter < MISLED)
        if not objective.loss.is_quadratic:
            damping = torch.where(better & (cut == 1), _ease(damping / 10), damping)
            damping = torch.where(better & (cut < 1), (10 * damping).clamp(DAMPING, 1.0), damping)
            damping = torch.where(misled, (30 * damping).clamp(DAMPING, 1.0), damping)
        cut = torch.where(unfinished, cut * shorter, cut)
        v, gradient = torch.where(better, there, v), torch.where(better, trial_gradient, gradient)
        value, reported = torch.where(better, trial_value, value), torch.where(better, objective.reported, reported)
        after_pass(reported)
        moved, failed, fresh = bool(better.any()), ~better & (failed | misled), better | (misled & (damping < 1.0))
        stale = 0 if (value < lowest - noise).any() else stale + 1
        lowest = torch.minimum(lowest, value)


def _ease(damping: torch.Tensor) -> torch.Tensor:
    return damping.clamp(min=SLIGHTEST)


def newton_step(objective: Objective, v, value, gradient, damping) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step to the minimum of the parabola that touches the objective, and what it promises to gain."""
    curvature, l1 = objective.curvature, objective.l1
    safe = curvature.with_diagonal(JITTER * (objective.steepest_of_loss + curvature.height))
    if damping.any():
        safe = Curvature(safe.matrix + damping[:, None, None] * objective.above, safe.diagonal)
    if l1 is None:
        lipschitz = objective.steepest_of_loss
        step = _solve(safe, -gradient, ROUNDINGS * objective.resolution * (lipschitz * value.abs()).sqrt(), lipschitz)
    else:
        step = minimum_with_kinks(safe, gradient - safe @ v, l1, v) - v
    promise = -(step * (gradient + 0.5 * (curvature @ step))).sum(0)
    if l1 is not None:
        promise -= (l1 * ((v + step).abs() - v.abs())).sum(0)
    return step, promise.clamp(min=0)


def _solve(curvature: Curvature, right: torch.Tensor, noise: torch.Tensor, lipschitz: torch.Tensor) -> torch.Tensor:
    """Solve ``curvature @ u = right``.

    Parameters
    ----------
    curvature : Curvature
    right : torch.Tensor of shape (n_directions, n_columns)
    noise : torch.Tensor of shape (n_columns,)
        How well each of these numbers is known.
    lipschitz : torch.Tensor of shape (n_columns,)
        Bound of the curvature of the loss.
    """
    whole = curvature.whole()
    # No direction is left steeper than the loss may be, so that those of a penalty do not drown the others
    height = whole.diagonal(dim1=1, dim2=2)
    root = torch.maximum(height, torch.minimum(lipschitz[:, None], height.amax(1, keepdim=True))).sqrt()
    whole, right = whole / root[:, :, None] / root[:, None, :], right / root.T
    factor, failed = torch.linalg.cholesky_ex(whole)
    if not (failed.any() or (factor.diagonal(dim1=1, dim2=2).square() < FLAT).any()):
        return torch.cholesky_solve(right.T[..., None], factor)[..., 0].T / root.T
    # Directions that no row speaks of must not be gone in by what rounding has left there
    height, axes = torch.linalg.eigh(whole)
    along = torch.einsum("kij,ik->kj", axes, right)
    noise = noise[:, None] * torch.linalg.vector_norm(axes / root[:, :, None], dim=1)
    gone = (height <= 0) | ((height < FLAT) & (along.abs() <= noise))
    return torch.einsum("kij,kj->ik", axes, torch.where(gone, 0.0, along / height)) / root.T


def _secant(l1, step, v, gradient, there, gradient_there) -> torch.Tensor:
    """Return where on the way to a point that was too far the slope along the way is zero, by linear interpolation."""
    before, after = (step * gradient).sum(0), (step * gradient_there).sum(0)
    if l1 is not None:
        before = before + (l1 * step * torch.where(v == 0, step, v).sign()).sum(0)
        after = after + (l1 * step * there.sign()).sum(0)
    return (before / (before - after)).nan_to_num(nan=0.5).clamp(1e-4, 0.8)


def accelerate(
    objective: Objective,
    v: torch.Tensor,
    *,
    floor: torch.Tensor,
    max_iter: int,
    after_pass: Callable[[torch.Tensor], None],
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Minimise by accelerated proximal steps of one length, for more directions than a matrix should have.

    Parameters and results are those of `newton`. The excess is estimated from how fast the steps become shorter.
    """
    rate, sizes = 1.0 / objective.steepest, []

    def gradient(v: torch.Tensor) -> torch.Tensor:
        _, gradient = objective(v, torch.ones_like(rate, dtype=torch.bool))
        after_pass(objective.reported)
        return gradient

    def excess() -> torch.Tensor:
        last = sizes[-1]
        before = sizes[-1 - min(WINDOW, len(sizes) - 1)]
        shrinking = (last / before).clamp(max=1.0 - 1e-6) ** (0.5 / WINDOW)
        return 0.5 * last / rate / (1.0 - shrinking)

    def enough(step: torch.Tensor) -> bool:
        sizes.append(step.square().sum(0).clamp(min=1e-300))
        return len(sizes) >= max_iter or (len(sizes) > WINDOW and bool((excess() <= floor).all()))

    v = accelerated(gradient, objective.l1, rate, v, max_iter, enough)
    return v, excess(), len(sizes)


def _narrow(
    full_pass: FullPass,
    objective_of: Callable,
    v: torch.Tensor,
    *,
    unit: torch.Tensor,
    tol: float,
    solver: Callable,
    limit: int,
    warm: bool,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Minimise by smooth losses that come ever closer to a loss whose slope jumps, or turns sharply.

    How far the optimum of such a loss can be from the true one is not a guess: its slopes bound the true minimum from
    below (Fenchel's inequality), row by row.
    """
    loss, n_passes = full_pass.loss, 0
    width = NARROWEST if warm and loss.is_smooth else 1.0
    unit = unit.expand(v.shape[1])
    best_v, best, best_width = v, torch.full_like(unit, torch.inf), torch.ones_like(unit)
    done = torch.zeros_like(unit, dtype=torch.bool)
    floor = ROUGHLY * unit
    while True:
        smooth = loss.moreau_envelope(width)
        exact = loss.is_smooth and bool(
            (torch.as_tensor(smooth.lipschitz, device=v.device) >= loss.lipschitz).all() or loss.by_autograd
        )
        objective = objective_of(loss if exact else smooth, thin=exact or width == 1.0)
        v, excess, taken = solver(objective, v, floor=tol * unit if exact else floor, max_iter=limit - n_passes)
        n_passes += taken
        if exact:
            return v, torch.zeros_like(unit), n_passes
        slack = full_pass.mean(objective.theta(v), partial(_slack, loss, smooth))
        closer = ~done & (excess + slack < best)  # what is done was not led to the optimum of this smooth loss
        best_v, best = torch.where(closer, v, best_v), torch.where(closer, excess + slack, best)
        best_width = torch.where(closer, width, best_width)
        width /= NARROWER
        done = best <= tol * unit
        if done.all() or n_passes >= limit or width < NARROWEST:
            return best_v, best_width, n_passes
        if objective.curvature is not None:
            v = torch.where(done, v, v + (1.0 - 1.0 / NARROWER) * towards_jumps(objective, v))
        floor = torch.maximum(1e-3 * tol * unit, ROUGHLY * slack / NARROWER**2).masked_fill(done, torch.inf)


def _slack(loss: Loss, smooth: Loss, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return what each row adds to the loss above the bound that the slope of the smooth loss gives."""
    slope = smooth.gradient(prediction, target)
    gained = 1.0 / smooth.lipschitz - (1.0 / loss.lipschitz if loss.is_smooth else 0.0)
    bound = smooth.value(prediction, target) + 0.5 * gained * slope.square()
    return (loss.value(prediction, target) - bound).clamp_(min=0)


def towards_jumps(objective: Objective, v: torch.Tensor) -> torch.Tensor:
    """Return the step that brings the residuals which feel the smoothing to the jumps themselves.

    The optimum moves on a straight line with the width, as long as these stay the same.
    """
    free = torch.ones_like(v, dtype=torch.bool) if objective.l1 is None else (v != 0) | (objective.l1 == 0)
    height = torch.maximum(objective.curvature.height.mean(0), SLIGHTEST * objective.steepest)
    return objective.curvature.with_diagonal(SLIGHTEST * height).solve(-objective.inside, free)
