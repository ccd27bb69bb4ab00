"""What large weights cost: value, slope and l1 of each penalty.

A penalty works on weights of shape (n_features, n_columns), never on intercepts. It has a smooth part, which has a
slope, and an L1 part, for which there is a proximal step instead, `soft_threshold`: that is what makes zeros
exact. To add one, write a class and enter it in `PENALTIES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch


class Penalty(Protocol):
    """Cost of weights, added to the mean loss."""

    l1: torch.Tensor
    """Slope on either side of zero of the part that is not smooth, to be broadcast to (n_features, n_columns)."""

    l2: torch.Tensor
    """Second derivative of the smooth part, the same everywhere, to be broadcast likewise."""

    is_smooth: bool
    """Whether there is no l1."""

    def value(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the cost, shape (n_columns,)."""

    def gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the derivative of the smooth part."""

    def duality_gap(
        self, weights: torch.Tensor, gradient: torch.Tensor, unit: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return value(weights) + conjugate(-gradient) + weights' gradient, zero at the optimum and positive elsewhere.

        Parameters
        ----------
        weights, gradient : torch.Tensor of shape (n_features, n_columns)
            The gradient is that of the mean loss.
        unit : torch.Tensor of shape (n_features, n_columns)
            How far weights may be from the optimum, about.

        Returns
        -------
        gap : torch.Tensor of shape (n_columns,)
            For a gradient from which some is left out: where the conjugate is not finite, or larger than what a
            gradient that is left out adds to the gap in its unit.
        rest : torch.Tensor of shape (n_features, n_columns)
            What is left out.
        """

    def rescaled(self, unit: torch.Tensor, scale: torch.Tensor) -> "Penalty":
        """Return the penalty, over scale², of weights given in the units `unit`, shape (n_features, n_columns)."""

    def to(self, dtype: torch.dtype) -> "Penalty":
        """Return the penalty in another precision."""

    def select(self, columns: torch.Tensor) -> "Penalty":
        """Return the penalty of some of the columns, a number for each."""


@dataclass(frozen=True)
class ElasticNet:
    """The sum over the weights of l1 |w| + l2 w² / 2, as :class:`~sklearn.linear_model.ElasticNet` has it."""

    l1: torch.Tensor
    l2: torch.Tensor
    is_smooth: bool
    """Asked in every step, so that looking at the numbers each time would keep an accelerator waiting."""

    @classmethod
    def of(cls, l1: torch.Tensor, l2: torch.Tensor) -> "ElasticNet":
        """Return the penalty of these numbers."""
        return cls(l1, l2, is_smooth=not l1.any())

    def value(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return (self.l1 * weights.abs() + (0.5 * self.l2) * weights.square()).sum(0)

    def gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """Return l2 w."""
        return self.l2 * weights

    def duality_gap(
        self, weights: torch.Tensor, gradient: torch.Tensor, unit: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gap, and what of the gradient is steeper than the penalty bears."""
        over = gradient - torch.clamp(gradient, -self.l1, self.l1)
        conjugate = torch.where(over == 0, 0.0, over * (over / (2.0 * self.l2)))  # whose square may underflow
        dear = conjugate + weights * over > over.abs() * unit
        rest, conjugate = torch.where(dear, over, 0.0), torch.where(dear, 0.0, conjugate)
        costs = self.l1 * weights.abs() + (0.5 * self.l2) * weights.square()
        return (costs + conjugate + weights * (gradient - rest)).sum(0), rest

    def rescaled(self, unit: torch.Tensor, scale: torch.Tensor) -> "ElasticNet":
        """Return the penalty of weights in other units."""
        relative = unit / scale
        return replace(self, l1=self.l1 * relative / scale, l2=self.l2 * relative.square())

    def to(self, dtype: torch.dtype) -> "ElasticNet":
        """Return the penalty in another precision."""
        return replace(self, l1=self.l1.to(dtype), l2=self.l2.to(dtype))

    def select(self, columns: torch.Tensor) -> "ElasticNet":
        """Return the penalty of some of the columns."""
        l1, l2 = self.l1[..., columns], self.l2[..., columns]
        return replace(self, l1=l1, l2=l2) if self.is_smooth else ElasticNet.of(l1, l2)


def make_penalty(name: str | None, alpha: torch.Tensor, l1_ratio: torch.Tensor) -> Penalty | None:
    """Return the penalty of that name; None if there is nothing to pay.

    Parameters
    ----------
    name : str or None
    alpha, l1_ratio : torch.Tensor of shape (n_columns,)
    """
    return PENALTIES[name](alpha, l1_ratio) if name is not None and alpha.any() else None


def soft_threshold(weights: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Take the proximal step for ``by |w|``: weights nearer to zero by that much, zero for those that would cross."""
    return weights - torch.clamp(weights, -by, by)


def _elastic_net(alpha: torch.Tensor, l1_ratio: torch.Tensor) -> ElasticNet:
    return ElasticNet.of(alpha * l1_ratio, alpha * (1.0 - l1_ratio))


# name -> penalty, of alpha and l1_ratio, which are of shape (n_columns,)
PENALTIES: dict[str, Callable[[torch.Tensor, torch.Tensor], Penalty]] = {
    "l2": lambda alpha, l1_ratio: _elastic_net(alpha, torch.zeros_like(alpha)),
    "l1": lambda alpha, l1_ratio: _elastic_net(alpha, torch.ones_like(alpha)),
    "elasticnet": _elastic_net,
}
