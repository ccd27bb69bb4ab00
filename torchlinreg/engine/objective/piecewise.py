"""Losses of the residual r = prediction - target that are zero, then quadratic, then linear."""

import math
from dataclasses import dataclass

import torch


class PiecewiseLoss:
    """Zero for abs(r) up to a width, then a parabola, then linear where its derivative has reached a bound.

    A child sets the attributes, in units of the target; they may be tensors of shape (n_columns,).

    Attributes
    ----------
    insensitive : float, default=0.0
        The width, epsilon in support vector regression. (Huber's epsilon is another number.)
    lipschitz : float, default=1.0
        Second derivative of the parabola; infinite without one.
    slope_above, slope_below : float, default=inf
        Bounds of the absolute derivative for positive and for negative residuals.
    """

    is_quadratic = False
    is_smooth = True
    by_autograd = False
    mixes_targets = False
    finds_scale = False
    insensitive: float = 0.0
    lipschitz: float = 1.0
    slope_above: float = math.inf
    slope_below: float = math.inf

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        residual = prediction - target
        above, below = torch.relu(residual - self.insensitive), torch.relu(-residual - self.insensitive)
        if not self.is_smooth:
            return self.slope_above * above + self.slope_below * below
        return self._side(above, self.slope_above) + self._side(below, self.slope_below)

    def gradient(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the derivative; where it jumps, zero, which is a subgradient."""
        residual = prediction - target
        if not self.is_smooth:
            above, below = (residual > self.insensitive).to(residual), (residual < -self.insensitive).to(residual)
            return self.slope_above * above - self.slope_below * below
        return _clamp(self._beyond(residual) * self.lipschitz, -self.slope_below, self.slope_above)

    def hessian(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the second derivative: that of the parabolas, zero elsewhere."""
        if not self.is_smooth:
            return torch.zeros_like(prediction)
        residual = prediction - target
        gradient = self._beyond(residual) * self.lipschitz
        is_curved = (gradient > -self.slope_below) & (gradient < self.slope_above)
        return (is_curved & (residual.abs() >= self.insensitive)).to(residual) * self.lipschitz

    def majorizer(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the second derivative of a parabola that touches the loss and lies above it."""
        beyond = self._beyond(prediction - target)
        bound = torch.where(beyond > 0, _tensor(self.slope_above), _tensor(self.slope_below))
        return torch.minimum(bound / beyond.abs(), _tensor(self.lipschitz)).to(prediction)

    def for_targets(self, n_targets: int) -> "PiecewiseLoss":
        """Return the loss itself: targets do not mix."""
        return self

    def rescaled(self, shift: torch.Tensor, scale: torch.Tensor) -> "PiecewiseLoss":
        """Return the loss, over scale², of targets in other units."""
        lipschitz = torch.full_like(scale, self.lipschitz)
        insensitive, above, below = (part / scale for part in (self.insensitive, self.slope_above, self.slope_below))
        return Piecewise(insensitive, lipschitz, above, below, self.is_smooth)

    def conjugate(self, dual: torch.Tensor) -> torch.Tensor:
        """Return epsilon abs(u) + u² / (2 lipschitz), for u between the bounds of the derivative."""
        of_parabola = 0.0 if not self.is_smooth else dual.square() * (0.5 / self.lipschitz)
        return self.insensitive * dual.abs() + of_parabola

    def feasible(self, dual: torch.Tensor) -> torch.Tensor:
        """Return the nearest values at which the conjugate is finite."""
        return _clamp(dual, -self.slope_below, self.slope_above)

    def select(self, columns: torch.Tensor) -> "PiecewiseLoss":
        """Return the loss itself, the same for all columns."""
        return self

    def moreau_envelope(self, width: float | torch.Tensor) -> "PiecewiseLoss":
        """Return the loss with a parabola at least that wide (Parikh & Boyd 2014, "Proximal algorithms", 3.1)."""
        parts = self.lipschitz, self.insensitive, self.slope_above, self.slope_below
        lipschitz, insensitive, above, below = map(_tensor, parts)
        return Piecewise(insensitive, torch.minimum(lipschitz, torch.maximum(above, below) / width), above, below)

    def _beyond(self, residual: torch.Tensor) -> torch.Tensor:
        return residual - _clamp(residual, -self.insensitive, self.insensitive)

    def _side(self, distance: torch.Tensor, bound) -> torch.Tensor:
        quadratic = _clamp(distance, None, bound / self.lipschitz)
        return self.lipschitz * quadratic * (distance - 0.5 * quadratic)


@dataclass(frozen=True)
class Piecewise(PiecewiseLoss):
    """Such a loss of any shape, which may differ from column to column."""

    insensitive: torch.Tensor
    lipschitz: torch.Tensor
    slope_above: torch.Tensor
    slope_below: torch.Tensor
    is_smooth: bool = True

    def select(self, columns: torch.Tensor) -> PiecewiseLoss:
        """Return the loss of some of the columns."""
        fields = (self.insensitive, self.lipschitz, self.slope_above, self.slope_below)
        return Piecewise(*(one if one.numel() == 1 else one[columns] for one in fields), self.is_smooth)


def _tensor(number) -> torch.Tensor:
    return number if isinstance(number, torch.Tensor) else torch.tensor(number, dtype=torch.float64, device="cpu")


def _clamp(values: torch.Tensor, low, high) -> torch.Tensor:
    # torch.clamp wants two numbers or two tensors
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        low, high = (
            bound if bound is None or isinstance(bound, torch.Tensor) else values.new_tensor(bound)
            for bound in (low, high)
        )
        low, high = (None if bound is None else bound.to(values) for bound in (low, high))
    return torch.clamp(values, low, high)
