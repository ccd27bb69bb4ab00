"""Losses that are one function of the residual: nothing inside a tube, then a parabola, then a straight line."""

import math
from dataclasses import dataclass

import torch


class Residual:
    """Zero while the residual stays inside a tube, then a parabola, until its slope has reached what it may.

    The fields of a child, in units of the target, may be tensors of shape (n_columns,).
    """

    is_quadratic = False
    is_smooth = True
    by_autograd = False
    mixes_targets = False
    finds_scale = False
    tube: float = 0.0
    curvature: float = 1.0
    rise: float = math.inf
    """Largest slope for predictions that are too large."""
    fall: float = math.inf
    """Largest slope, downwards, for predictions that are too small."""

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the cost of the part of the residual that is outside the tube."""
        residual = prediction - target
        above, below = torch.relu(residual - self.tube), torch.relu(-residual - self.tube)
        if not self.is_smooth:
            return self.rise * above + self.fall * below
        return self._side(above, self.rise) + self._side(below, self.fall)

    def slope(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the derivative; where that jumps, zero, which is between its two values."""
        residual = prediction - target
        if not self.is_smooth:
            above, below = (residual > self.tube).to(residual), (residual < -self.tube).to(residual)
            return self.rise * above - self.fall * below
        return _clamp(self._outside(residual) * self.curvature, -self.fall, self.rise)

    def bend(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the curvature on the parabolas, zero on the straight parts."""
        if not self.is_smooth:
            return torch.zeros_like(prediction)
        residual = prediction - target
        slope = self._outside(residual) * self.curvature
        bent = (slope > -self.fall) & (slope < self.rise) & (residual.abs() >= self.tube)
        return bent.to(residual) * self.curvature

    def majorant(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the curvature on the parabolas, and less the farther a straight part has led."""
        outside = self._outside(prediction - target)
        steepest = torch.where(outside > 0, _tensor(self.rise), _tensor(self.fall))
        return torch.minimum(steepest / outside.abs(), _tensor(self.curvature)).to(prediction)

    def for_targets(self, n_targets: int) -> "Residual":
        """Return the loss itself: targets do not mix."""
        return self

    def rescaled(self, shift: torch.Tensor, scale: torch.Tensor) -> "Residual":
        """Return the same shape with a narrower tube and a gentler slope."""
        curvature = torch.full_like(scale, self.curvature)
        return Piecewise(self.tube / scale, curvature, self.rise / scale, self.fall / scale, self.is_smooth)

    def conjugate(self, slope: torch.Tensor) -> torch.Tensor:
        """Return tube |slope| + slope² / (2 curvature), for slopes between the steepest ones."""
        bent = 0.0 if not self.is_smooth else slope.square() * (0.5 / self.curvature)
        return self.tube * slope.abs() + bent

    def feasible(self, slope: torch.Tensor) -> torch.Tensor:
        """Return slopes cut off at the steepest ones."""
        return _clamp(slope, -self.fall, self.rise)

    def only(self, columns: torch.Tensor) -> "Residual":
        """Return the loss itself, the same for all columns."""
        return self

    def smoothed(self, width: float | torch.Tensor) -> "Residual":
        """Return the loss with a parabola at least that wide.

        That is a Moreau envelope (Nesterov 2005, "Smooth minimization of non-smooth functions").
        """
        curvature, tube, rise, fall = map(_tensor, (self.curvature, self.tube, self.rise, self.fall))
        return Piecewise(tube, torch.minimum(curvature, torch.maximum(rise, fall) / width), rise, fall)

    def _outside(self, residual: torch.Tensor) -> torch.Tensor:
        return residual - _clamp(residual, -self.tube, self.tube)

    def _side(self, distance: torch.Tensor, steepest) -> torch.Tensor:
        bent = _clamp(distance, None, steepest / self.curvature)
        return self.curvature * bent * (distance - 0.5 * bent)


@dataclass(frozen=True)
class Piecewise(Residual):
    """Such a loss of any shape, which may differ from column to column."""

    tube: torch.Tensor
    curvature: torch.Tensor
    rise: torch.Tensor
    fall: torch.Tensor
    is_smooth: bool = True

    def only(self, columns: torch.Tensor) -> "Residual":
        """Return the loss of some of the columns."""
        fields = (self.tube, self.curvature, self.rise, self.fall)
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
