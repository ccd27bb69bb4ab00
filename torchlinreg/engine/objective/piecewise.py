"""Losses that are one function of the residual: nothing inside a insensitive, then a parabola, then a straight line."""

import math
from dataclasses import dataclass

import torch


class Residual:
    """Zero while the residual stays inside a insensitive, then a parabola, until its slope has reached what it may.

    The fields of a child, in units of the target, may be tensors of shape (n_columns,).
    """

    is_quadratic = False
    is_smooth = True
    by_autograd = False
    mixes_targets = False
    finds_scale = False
    insensitive: float = 0.0
    lipschitz: float = 1.0
    slope_above: float = math.inf
    """Largest slope for predictions that are too large."""
    slope_below: float = math.inf
    """Largest slope, downwards, for predictions that are too small."""

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the cost of the part of the residual that is outside the insensitive."""
        residual = prediction - target
        above, below = torch.relu(residual - self.insensitive), torch.relu(-residual - self.insensitive)
        if not self.is_smooth:
            return self.slope_above * above + self.slope_below * below
        return self._side(above, self.slope_above) + self._side(below, self.slope_below)

    def gradient(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the derivative; where that jumps, zero, which is between its two values."""
        residual = prediction - target
        if not self.is_smooth:
            above, below = (residual > self.insensitive).to(residual), (residual < -self.insensitive).to(residual)
            return self.slope_above * above - self.slope_below * below
        return _clamp(self._outside(residual) * self.lipschitz, -self.slope_below, self.slope_above)

    def hessian(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the lipschitz on the parabolas, zero on the straight parts."""
        if not self.is_smooth:
            return torch.zeros_like(prediction)
        residual = prediction - target
        slope = self._outside(residual) * self.lipschitz
        bent = (slope > -self.slope_below) & (slope < self.slope_above) & (residual.abs() >= self.insensitive)
        return bent.to(residual) * self.lipschitz

    def majorizer(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the lipschitz on the parabolas, and less the farther a straight part has led."""
        outside = self._outside(prediction - target)
        steepest = torch.where(outside > 0, _tensor(self.slope_above), _tensor(self.slope_below))
        return torch.minimum(steepest / outside.abs(), _tensor(self.lipschitz)).to(prediction)

    def for_targets(self, n_targets: int) -> "Residual":
        """Return the loss itself: targets do not mix."""
        return self

    def rescaled(self, shift: torch.Tensor, scale: torch.Tensor) -> "Residual":
        """Return the same shape with a narrower insensitive and a gentler slope."""
        lipschitz = torch.full_like(scale, self.lipschitz)
        return Piecewise(
            self.insensitive / scale, lipschitz, self.slope_above / scale, self.slope_below / scale, self.is_smooth
        )

    def conjugate(self, slope: torch.Tensor) -> torch.Tensor:
        """Return insensitive |slope| + slope² / (2 lipschitz), for slopes between the steepest ones."""
        bent = 0.0 if not self.is_smooth else slope.square() * (0.5 / self.lipschitz)
        return self.insensitive * slope.abs() + bent

    def feasible(self, slope: torch.Tensor) -> torch.Tensor:
        """Return slopes cut off at the steepest ones."""
        return _clamp(slope, -self.slope_below, self.slope_above)

    def select(self, columns: torch.Tensor) -> "Residual":
        """Return the loss itself, the same for all columns."""
        return self

    def moreau_envelope(self, width: float | torch.Tensor) -> "Residual":
        """Return the loss with a parabola at least that wide.

        That is a Moreau envelope (Nesterov 2005, "Smooth minimization of non-smooth functions").
        """
        lipschitz, insensitive, slope_above, slope_below = map(
            _tensor, (self.lipschitz, self.insensitive, self.slope_above, self.slope_below)
        )
        return Piecewise(
            insensitive,
            torch.minimum(lipschitz, torch.maximum(slope_above, slope_below) / width),
            slope_above,
            slope_below,
        )

    def _outside(self, residual: torch.Tensor) -> torch.Tensor:
        return residual - _clamp(residual, -self.insensitive, self.insensitive)

    def _side(self, distance: torch.Tensor, steepest) -> torch.Tensor:
        bent = _clamp(distance, None, steepest / self.lipschitz)
        return self.lipschitz * bent * (distance - 0.5 * bent)


@dataclass(frozen=True)
class Piecewise(Residual):
    """Such a loss of any shape, which may differ from column to column."""

    insensitive: torch.Tensor
    lipschitz: torch.Tensor
    slope_above: torch.Tensor
    slope_below: torch.Tensor
    is_smooth: bool = True

    def select(self, columns: torch.Tensor) -> "Residual":
        """Return the loss of some of the columns."""
        fields = (self.insensitive, self.lipschitz, self.slope_above, self.slope_below)
        return Piecewise(*(one if one.numel() == 1 else one[columns] for one in fields), self.is_smooth)


def _tensor(number) -> torch.Tensor:
    return number if isinstance(number, torch.Tensor) else torch.tensor(number, dtype=torch.float64, device="cpu")


def _clamp(table: torch.Tensor, low, high) -> torch.Tensor:
    # torch.clamp wants two numbers or two tensors
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        low, high = (
            bound if bound is None or isinstance(bound, torch.Tensor) else table.new_tensor(bound)
            for bound in (low, high)
        )
        low, high = (None if bound is None else bound.to(table) for bound in (low, high))
    return torch.clamp(table, low, high)
