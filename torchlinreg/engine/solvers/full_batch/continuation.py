"""Continuation: smooth losses that come ever closer to one whose gradient jumps, or turns sharply."""

from dataclasses import dataclass, replace
from functools import partial

import torch

from torchlinreg.engine.solvers.full_batch.fista import Fista
from torchlinreg.engine.solvers.full_batch.proximal_newton import SMALLEST_DAMPING, ProximalNewton
from torchlinreg.engine.solvers.solver import Iterates, Solution, Solver, count_from

NARROWER = 5.0  # times, from one smooth loss to the next
ROUGHLY = 1e-3  # of what a smooth loss is wrong by anyway, to which its own minimum is worth finding
SMALLEST_WIDTH = 1e-12  # of a Moreau envelope, in standard deviations of the target


@dataclass(frozen=True)
class Continuation:
    """Minimise any loss with any penalty, by Moreau envelopes of decreasing width.

    How far the minimum of such an envelope can be from the true one is not estimated but bounded: its gradients are a
    dual point, and bound the true minimum from below (Fenchel's inequality), row by row.

    Attributes
    ----------
    baseline_loss : torch.Tensor of shape (n_columns,)
        What `tol` is relative to.
    tol : float
        Gap at which a column is done.
    max_iter : int
        Passes at most.
    is_warm : bool
        Whether the start is so close that a smooth loss needs no smoother one to lead there.

    References
    ----------
    Nesterov (2005), "Smooth minimization of non-smooth functions".
    """

    baseline_loss: torch.Tensor
    tol: float
    max_iter: int
    is_warm: bool = False

    needs = frozenset({"prox"})

    def iterates(self, objective, v: torch.Tensor) -> Iterates:
        """Yield an iterate for each pass, and return the best solution with the width it was found at."""
        loss, unit, n_passes = objective.loss, self.baseline_loss.expand(v.shape[1]), 0
        width = SMALLEST_WIDTH if self.is_warm and loss.is_smooth else 1.0
        best = Solution(objective.theta(v), torch.full_like(unit, torch.inf), v=v, width=torch.ones_like(unit))
        done, floor = torch.zeros_like(unit, dtype=torch.bool), ROUGHLY * unit
        while True:
            smooth = loss.moreau_envelope(width)
            lipschitz = torch.as_tensor(smooth.lipschitz, device=v.device)
            exact = loss.is_smooth and bool(loss.by_autograd or (lipschitz >= loss.lipschitz).all())
            stage = objective
            if not exact:
                seed = objective.seed if width == 1.0 else None
                stage = replace(objective, loss=smooth, reported_loss=loss, seed=seed)
            solver = choose_solver(stage, self.tol * unit if exact else floor, self.max_iter - n_passes)
            solution = yield from count_from(n_passes, solver.iterates(stage, v))
            v, n_passes = solution.v, n_passes + solution.n_passes
            if exact:
                return solution._replace(n_passes=n_passes, width=torch.zeros_like(unit))
            excess = objective.mean(objective.theta(v), partial(_excess, loss, smooth))
            gap = solution.gap + excess
            closer = ~done & (gap < best.gap)  # what is done was not led to the minimum of this smooth loss
            v_best, gap = torch.where(closer, v, best.v), torch.where(closer, gap, best.gap)
            best = best._replace(v=v_best, gap=gap, width=torch.where(closer, width, best.width))
            width /= NARROWER
            done = best.gap <= self.tol * unit
            if done.all() or n_passes >= self.max_iter or width < SMALLEST_WIDTH:
                return best._replace(theta=objective.theta(best.v), n_passes=n_passes)
            if solution.second_order is not None:
                ahead = (1.0 - 1.0 / NARROWER) * extrapolate(stage, solution.second_order, v)
                v = torch.where(done, v, v + ahead)
            floor = torch.maximum(1e-3 * self.tol * unit, ROUGHLY * excess / NARROWER**2).masked_fill(done, torch.inf)


def choose_solver(objective, floor: torch.Tensor, max_iter: int) -> Solver:
    """Return Newton's method, unless there are too many directions for a Hessian."""
    solver = ProximalNewton if ProximalNewton.needs <= objective.capabilities else Fista
    return solver(floor, max_iter)


def _excess(loss, smooth, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return how much the loss of each row is above the bound that the gradient of the smooth loss gives."""
    gradient = smooth.gradient(prediction, target)
    gained = 1.0 / smooth.lipschitz - (1.0 / loss.lipschitz if loss.is_smooth else 0.0)
    bound = smooth.value(prediction, target) + 0.5 * gained * gradient.square()
    return (loss.value(prediction, target) - bound).clamp_(min=0)


def extrapolate(objective, second_order, v: torch.Tensor) -> torch.Tensor:
    """Return the step from the minimum at one width of a Moreau envelope to that at width zero.

    The minimum moves on a straight line with the width, as long as the same residuals are on parabolas.
    """
    nonsmooth = objective.nonsmooth
    free = torch.ones_like(v, dtype=torch.bool) if nonsmooth is None else nonsmooth.is_differentiable(v)
    curvature = torch.maximum(second_order.hessian.diagonal.mean(0), SMALLEST_DAMPING * objective.lipschitz)
    return second_order.hessian.plus_diagonal(SMALLEST_DAMPING * curvature).solve(-second_order.curved_gradient, free)
