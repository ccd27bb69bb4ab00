"""The scale of the residuals, found together with the weights: Huber's second proposal."""

import math

import torch

NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
SMALLEST = 1e-8  # scale, in standard deviations of the target, below which most rows are fitted without an error
LARGEST_FACTOR = 20.0  # times the plain step
BISECTION_EVERY = 4  # updates, after which the interval is cut in half in any case
MAX_UPDATES = 60  # updates
MAX_FIXED_POINT = 50  # from one scale to the next for the same residuals, at most,
FIXED_POINT_TOL = 1e-3  # or until one differs from the next by no more than that
SCALE_TOL = 1e-4  # rounding errors, to whose root the scale is known


def initial_scale(y: torch.Tensor, n_models: int) -> torch.Tensor:
    """Return the normalised median absolute deviation of each target, or one, shape (n_columns,)."""
    y = y.double()
    deviation = NORMAL * (y - y.median(0).values).abs().median(0).values
    return torch.where(deviation > 0, deviation, 1.0).repeat(n_models)


class ScaleSearch:
    """Search for the scale s that makes ``mean(min(r² / s², epsilon²)) = 1`` for the residuals r of its own fit.

    That is where the joint objective of :class:`~sklearn.linear_model.HuberRegressor`, the mean of
    ``s + huber(r / s) s``, has its minimum in s (Huber & Ronchetti 2009, "Robust Statistics", section 7.7). For given
    residuals the next scale follows from the sums over both kinds of rows, and from two scales and what follows from
    them a better one by extrapolation (Aitken).

    Parameters
    ----------
    scale : torch.Tensor of shape (n_columns,)
        The first one.
    epsilon : float

    Attributes
    ----------
    scale : torch.Tensor of shape (n_columns,)
    unsettled : torch.Tensor of shape (n_columns,)
        Square of the relative change that the last update asked for, zero where that was none.
    """

    def __init__(self, scale: torch.Tensor, epsilon: float):
        self._epsilon, self.scale = epsilon, scale
        self.unsettled = torch.ones_like(scale)
        self._before: tuple[torch.Tensor, torch.Tensor] | None = None
        self._bracket = torch.full_like(scale, -torch.inf), torch.full_like(scale, torch.inf)
        self._n_updates = 0

    def begin_at(self, objective, theta: torch.Tensor) -> None:
        """Iterate to the scale of the residuals of theta, taken as fixed."""
        for _ in range(MAX_FIXED_POINT):
            change = self._change(objective, theta)
            self.scale = self.scale * change.exp()
            if (change.abs() < FIXED_POINT_TOL).all():
                break

    def update(self, objective, theta: torch.Tensor, tol: float) -> bool:
        """Update by the residuals of theta, the optimum at the present scale, and return whether the scale is right.

        That optimum is known to `tol`, relative to the loss, and so the scale to the root of that.
        """
        change, settled = self._change(objective, theta), max(SCALE_TOL * objective.resolution, tol) ** 0.5
        low, high = self._bracket
        unsure = (change.abs() > settled) & (high - low > settled)
        self.unsettled = torch.where(unsure, change.square(), 0.0)
        if not self.unsettled.any() or self._n_updates >= MAX_UPDATES:
            return True
        at, factor = self.scale.log(), torch.ones_like(change)
        if self._before is not None:
            derivative = (change - self._before[1]) / (at - self._before[0])
            factor = torch.where(derivative < 0, -1.0 / derivative, 1.0).nan_to_num(nan=1.0)
            factor = factor.clamp(1.0 / LARGEST_FACTOR, LARGEST_FACTOR)
        self._before, self._n_updates = (at, change), self._n_updates + 1
        low = torch.where(change > 0, torch.maximum(low, at), low)
        high = torch.where(change < 0, torch.minimum(high, at), high)
        self._bracket = low, high
        following = at + factor * change
        # Once the scale lies between two others it stays there, and closes in whatever the extrapolation says
        middle, outside = 0.5 * (low + high), (following <= low) | (following >= high)
        outside = torch.ones_like(outside) if self._n_updates % BISECTION_EVERY == 0 else outside
        self.scale = torch.where(outside & middle.isfinite(), middle, following).exp()
        return False

    def _change(self, objective, theta: torch.Tensor) -> torch.Tensor:
        """Return what to add to the logarithm of the scale, as if the residuals of theta did not depend on it."""
        bound, at = self._epsilon * self.scale, self.scale.log()
        inside = objective.mean(theta, lambda p, y: (p - y).square() * ((p - y).abs() < bound))
        outside = objective.mean(theta, lambda p, y: ((p - y).abs() >= bound).to(p))
        room = 1.0 - self._epsilon**2 * outside
        following = torch.where(room > 0, 0.5 * (inside / room).log(), at + 1.0)
        return (following.clamp(min=math.log(SMALLEST)) - at).clamp(max=2.0)
