"""What a prediction costs: the value and the slope of each loss.

A loss works elementwise on predictions and targets of shape (n_rows, n_columns): columns are models of their own
and never mix. To add one, write a class and enter it in `LOSSES`; the tests check its slope numerically.
"""

from dataclasses import dataclass
from typing import Protocol

import torch


class Loss(Protocol):
    """Elementwise cost of a prediction."""

    curvature: float
    """Largest second derivative in the prediction: bounds the stable learning rate."""

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the cost of each prediction, shape (n_rows, n_columns)."""

    def slope(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return its derivative in the prediction, shape (n_rows, n_columns)."""


@dataclass(frozen=True)
class SquaredError:
    """Half the squared error, (prediction - target)² / 2, as in scikit-learn's `SGDRegressor`."""

    n_targets: int = 1

    @property
    def curvature(self) -> float:
        """Second derivative, the same everywhere."""
        return 1.0

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return (prediction - target)² / 2."""
        return (prediction - target).square().mul(0.5)

    def slope(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return prediction - target."""
        return prediction - target


@dataclass(frozen=True)
class MeanSquaredError:
    """torch's `MSELoss`: its mean runs over the targets too, so each of them weighs 1 / n_targets."""

    n_targets: int = 1

    @property
    def curvature(self) -> float:
        """Second derivative, the same everywhere."""
        return 2.0 / self.n_targets

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return (prediction - target)² / n_targets."""
        return (prediction - target).square().div(self.n_targets)

    def slope(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return 2 (prediction - target) / n_targets."""
        return (prediction - target).mul_(2.0 / self.n_targets)


LOSSES: dict[str, type[Loss]] = {"squared_error": SquaredError, "mse": MeanSquaredError}


def total(loss: Loss, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Sum the weighted cost over the rows: shape (n_columns,), float64 where the device has it."""
    value = loss.value(prediction, target)
    if weight is not None:
        value = value.mul_(weight)
    return value.sum(0, dtype=torch.float32 if value.device.type == "mps" else torch.float64)
