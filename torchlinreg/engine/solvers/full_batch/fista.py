"""Proximal gradient steps with momentum (FISTA)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchlinreg.engine.solvers.solver import Iterate, Iterates, Solution

WINDOW = 10  # passes over which the rate of progress is measured


class Momentum:
    """The sequence of points that FISTA evaluates, with adaptive restart; each column for itself.

    Parameters
    ----------
    u : torch.Tensor of shape (n_directions, n_columns)
        The start.
    prox : callable (u) -> torch.Tensor
        The proximal operator for the step size.
    step_size : torch.Tensor of shape (n_columns,)

    References
    ----------
    Beck & Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm for linear inverse problems";
    O'Donoghue & Candès (2015), "Adaptive restart for accelerated gradient schemes".
    """

    def __init__(self, u: torch.Tensor, prox: Callable, step_size: torch.Tensor):
        self._prox = prox
        self.u = self.ahead = u
        self._t = torch.ones_like(step_size)

    def step(self, gradient: torch.Tensor, step_size: torch.Tensor) -> torch.Tensor:
        """Go on by the gradient at `ahead`, and return the step taken from there."""
        after = self._prox(self.ahead - step_size * gradient, step_size)
        step = after - self.ahead
        uphill = (step * (after - self.u)).sum(0) < 0
        t = torch.where(uphill, 1.0, self._t)
        self._t = (1.0 + (1.0 + 4.0 * t.square()).sqrt()) / 2.0
        self.ahead, self.u = after + (t - 1.0) / self._t * (after - self.u), after
        return step


@dataclass(frozen=True)
class Fista:
    """FISTA with steps of one length, for more directions than a Hessian should have.

    The gap is estimated from how fast the steps become shorter.

    Attributes
    ----------
    floor : torch.Tensor of shape (n_columns,)
        Gap at which a column is done.
    max_iter : int
        Passes at most.
    """

    floor: torch.Tensor
    max_iter: int

    needs = frozenset({"prox"})

    def iterates(self, objective, v: torch.Tensor) -> Iterates:
        """Yield an iterate for each pass, and return the last point."""
        step_size, sizes, before = 1.0 / objective.lipschitz, [], None
        momentum = Momentum(v, objective.prox, step_size)
        for n_passes in range(1, self.max_iter + 1):
            theta = objective.theta(momentum.ahead)
            found = objective.evaluate(theta)
            yield Iterate(theta, found.reported, None, n_passes)
            ahead, gradient = momentum.ahead, objective.transform.rmatvec(found.gradient)
            if before is not None:
                # No pair of points of a convex function shows more curvature than its Lipschitz constant
                change = gradient - before[1]
                met = change.square().sum(0) / (change * (ahead - before[0])).sum(0)
                step_size = torch.where(met * step_size > 1.0, 1.0 / met, step_size)
            before = ahead, gradient
            step = momentum.step(gradient, step_size)
            sizes.append(step.square().sum(0).clamp(min=1e-300))
            if len(sizes) > WINDOW and bool((_gap(sizes, step_size) <= self.floor).all()):
                break
        return Solution(objective.theta(momentum.u), _gap(sizes, step_size), n_passes, v=momentum.u)


def _gap(sizes: list[torch.Tensor], step_size: torch.Tensor) -> torch.Tensor:
    """Return the gap of a sequence of squared steps that go on to become smaller as they have done."""
    window = min(WINDOW, len(sizes) - 1)
    shrinking = (sizes[-1] / sizes[-1 - window]).clamp(max=1.0 - 1e-6) ** (0.5 / max(1, window))
    return 0.5 * sizes[-1] / step_size / (1.0 - shrinking)
