"""Conjugate gradients for a quadratic objective, from the true residual in each iteration."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from torchlinreg.engine.solvers.full_batch.active_columns import ActiveColumns
from torchlinreg.engine.solvers.solver import Iterate, Iterates, Solution

PATIENCE = 3  # passes
PATIENCE_OF_SCALED = 200  # the same where T is diagonal only, and progress slow
SLOW = 0.25  # of the squared gradient left by a pass, on average, that shows a transform unfit
WORTHWHILE = 4.0  # times smaller a gap, for another restart


@dataclass(frozen=True)
class ConjugateGradient:
    """Conjugate gradients in the variables v, restarted as long as that helps (iterative refinement).

    Each pass measures the true gradient at the end of a trial step. As the objective is quadratic, the two ends of the
    step give its curvature, hence the best length and, by interpolation, the gradient there: one pass an iteration, and
    no recurrence that could drift away from the data. Each column has a step of its own.

    Attributes
    ----------
    tol : float
        Gap at which all columns are done, in units of half the curvature.
    floor : float
        The same at which a run of conjugate gradients ends; at most `tol`.
    max_iter : int
        Passes at most, from the second on. Without any, the step is what would be right if the Hessian were the
        identity.
    is_subsampled : bool
        Whether T comes from a subsample, so that slow progress shows it unfit, and ends the search.
    canonical : callable (theta) -> torch.Tensor
        Returns the representative of all theta that predict the same, in the precision in which it is returned.
    gap : callable (gradient, smallest_curvature) -> torch.Tensor
        Returns the gap of each column by the gradient in theta.

    References
    ----------
    Hestenes & Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
    """

    tol: float
    floor: float
    max_iter: int
    is_subsampled: bool
    canonical: Callable[[torch.Tensor], torch.Tensor]
    gap: Callable[..., torch.Tensor]

    needs = frozenset({"quadratic"})

    def iterates(self, objective, v: torch.Tensor | None = None) -> Iterates:
        """Yield an iterate for each pass, from v or else from where the objective starts; return the best solution."""
        best, n_passes, smallest_curvature, previous, stalled = None, 0, 1.0, float("inf"), False
        theta = self.canonical(objective.start if v is None else objective.theta(v))
        while True:
            value, gradient, _ = objective.evaluate(theta)
            n_passes += 1
            gap = self.gap(gradient, smallest_curvature)
            best = Solution(theta, gap) if best is None else best.or_better(theta, gap)
            yield Iterate(theta, value, best.gap, n_passes)
            largest = best.gap.max().item()
            is_stuck = n_passes > 1 and (largest > previous / WORTHWHILE or n_passes >= self.max_iter)
            if largest <= (min(self.floor, self.tol) if n_passes == 1 else self.tol) or stalled or is_stuck:
                return best._replace(n_passes=n_passes, stalled=stalled and largest > self.tol)
            previous = largest
            solution = yield from self._run(objective, theta, value, gradient, n_passes)
            theta, smallest_curvature = self.canonical(solution.theta), solution.smallest_curvature
            n_passes, stalled = solution.n_passes, solution.stalled and self.is_subsampled

    def _run(self, objective, start: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor, n_passes) -> Iterates:
        """Yield an iterate for each pass of one run of conjugate gradients, and return where it ended."""
        columns, transform, curvature = ActiveColumns(objective), objective.transform, objective.loss.lipschitz
        resolution, norm = objective.resolution, partial(torch.linalg.vector_norm, dim=0)
        gradient = transform.rmatvec(gradient) / curvature
        size = gradient.square().sum(0)
        v = best_v = torch.zeros_like(gradient)
        first, best, noise, smallest_curvature = size, size, resolution * norm(gradient), torch.ones_like(size)
        direction, length, n_first, stale = -gradient, torch.ones_like(size), n_passes, 0
        if n_passes >= self.max_iter:
            return Solution(start + transform(direction), size, n_passes, stalled=True)
        is_full = transform.weights.ndim > 1
        patience = PATIENCE if is_full else PATIENCE_OF_SCALED
        while best.max() > self.floor and n_passes < self.max_iter and stale < patience:
            active = best > self.floor
            theta = start + transform(v + length * direction)
            found = columns.evaluate(theta, active)
            value, n_passes = torch.where(active, found.value, value), n_passes + 1
            yield Iterate(theta, value, None, n_passes)
            trial = transform.rmatvec(found.gradient) / curvature
            change = (trial - gradient) / length
            along = (direction * change).sum(0)  # the curvature along the direction, times its squared length
            usable = (along > 0) & active
            relative = along / direction.square().sum(0)
            smallest_curvature = torch.where(usable, torch.minimum(smallest_curvature, relative), smallest_curvature)
            alpha = torch.where(usable, -(gradient * direction).sum(0) / along, 0.0)
            reach = alpha / length  # below or above one, the gradient there is an interpolation or an extrapolation
            gradient = reach * trial + (1.0 - reach) * gradient
            noise = reach.abs() * resolution * norm(trial) + (1.0 - reach).abs() * noise
            v = v + alpha * direction
            beta = torch.where(usable, (gradient * change).sum(0) / along, 0.0)
            direction, length = beta * direction - gradient, torch.where(alpha > 0, alpha, 1.0)
            size = gradient.square().sum(0) + noise.square()
            stale = 0 if (size < best / 2).any() else stale + 1
            best_v, best = torch.where(size < best, v, best_v), torch.minimum(best, size)
            n_taken = n_passes - n_first
            if self.is_subsampled and is_full and n_taken >= PATIENCE and (size > first * SLOW**n_taken).all():
                break
        theta, stalled = start + transform(best_v), bool(best.max() > self.floor)
        return Solution(theta, best, n_passes, stalled, smallest_curvature=smallest_curvature)
