"""The scale of the residuals, found together with the weights: Huber's second proposal."""

import math

import torch

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import FullPass

NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
SMALLEST = 1e-8  # scale, in spreads of the target, below which most rows are fitted without an error
FARTHEST = 20.0  # times the plain step
HALVED = 4  # updates, after which the interval is cut in half in any case
MOST = 60  # updates
ROUNDS = 50  # from one scale to the next for the same residuals, at most,
ROUGHLY = 1e-3  # or until one differs from the next by no more than that
SETTLED = 1e-4  # rounding errors, to whose root the scale is known


class ScaleSearch:
    """Search for the scale s that makes ``mean(min(r² / s², epsilon²)) = 1`` for the residuals r of its own fit.

    That is where the joint objective of :class:`~sklearn.linear_model.HuberRegressor`, the mean of
    ``s + huber(r / s) s``, has its minimum in s (Huber & Ronchetti 2009, "Robust Statistics", section 7.7). For given
    residuals the next scale follows from the sums over both kinds of rows, and from two scales and what follows from
    them a better one by extrapolation (Aitken).

    Parameters
    ----------
    huber : Huber
    rows : Rows
        With targets in the units of the scale.

    Attributes
    ----------
    epsilon : float
    scale : torch.Tensor of shape (n_columns,)
    unsettled : torch.Tensor of shape (n_columns,)
        Square of the relative change that the last look would have called for, zero where that was none.
    """

    def __init__(self, huber, rows: Rows):
        self._huber, self.epsilon = huber, huber.epsilon
        y, self._dtype = rows.y.double(), rows.y.dtype
        deviation = NORMAL * (y - y.median(0).values).abs().median(0).values
        self.scale = torch.where(deviation > 0, deviation, 1.0).repeat(rows.models)
        self.unsettled = torch.ones_like(self.scale)
        self._before: tuple[torch.Tensor, torch.Tensor] | None = None
        self._low, self._high = torch.full_like(self.scale, -torch.inf), torch.full_like(self.scale, torch.inf)
        self._n_updates = 0

    @property
    def loss(self):
        """The loss at the present scale."""
        return self._huber.at_scale(self.scale.to(self._dtype))

    def begin_at(self, full_pass: FullPass, theta: torch.Tensor) -> None:
        """Go to the scale of the residuals of theta, which is near the optimum, as they are."""
        for _ in range(ROUNDS):
            change = self._change(full_pass, theta)
            self.scale = self.scale * change.exp()
            if (change.abs() < ROUGHLY).all():
                break

    def update(self, full_pass: FullPass, theta: torch.Tensor, tol: float) -> bool:
        """Look at the residuals of theta, the optimum at the present scale, and return whether the scale is right.

        That optimum is known to `tol`, relative to the loss, and so the scale to the root of that.
        """
        change, settled = self._change(full_pass, theta), max(SETTLED * full_pass.resolution, tol) ** 0.5
        unsure = (change.abs() > settled) & (self._high - self._low > settled)
        self.unsettled = torch.where(unsure, change.square(), 0.0)
        if not self.unsettled.any() or self._n_updates >= MOST:
            return True
        at, factor = self.scale.log(), torch.ones_like(change)
        if self._before is not None:
            slope = (change - self._before[1]) / (at - self._before[0])
            factor = torch.where(slope < 0, -1.0 / slope, 1.0).nan_to_num(nan=1.0).clamp(1.0 / FARTHEST, FARTHEST)
        self._before, self._n_updates = (at, change), self._n_updates + 1
        self._low = torch.where(change > 0, torch.maximum(self._low, at), self._low)
        self._high = torch.where(change < 0, torch.minimum(self._high, at), self._high)
        following = at + factor * change
        # Once the scale lies between two others it stays there, and closes in whatever the extrapolation says
        middle, lost = 0.5 * (self._low + self._high), (following <= self._low) | (following >= self._high)
        lost = torch.ones_like(lost) if self._n_updates % HALVED == 0 else lost
        self.scale = torch.where(lost & middle.isfinite(), middle, following).exp()
        return False

    def _change(self, full_pass: FullPass, theta: torch.Tensor) -> torch.Tensor:
        """Return what to add to the logarithm of the scale, as if the residuals of theta did not depend on it."""
        bound, at = self.epsilon * self.scale, self.scale.log()
        inside = full_pass.mean(theta, lambda p, y: (p - y).square() * ((p - y).abs() < bound))
        outside = full_pass.mean(theta, lambda p, y: ((p - y).abs() >= bound).to(p))
        room = 1.0 - self.epsilon**2 * outside
        following = torch.where(room > 0, 0.5 * (inside / room).log(), at + 1.0)
        return (following.clamp(min=math.log(SMALLEST)) - at).clamp(max=2.0)
