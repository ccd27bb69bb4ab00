"""What large weights cost: value, slope and kink of each penalty.

A penalty works on weights of shape (n_features, n_columns), never on intercepts. It has a smooth part, which has a
slope, and a part with a kink at zero, for which there is a proximal step instead, `shrink`: that is what makes zeros
exact. To add one, write a class and enter it in `PENALTIES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch


class Penalty(Protocol):
    """Cost of weights, added to the mean loss."""

    kink: torch.Tensor
    """Slope on either side of zero of the part that is not smooth, to be broadcast to (n_features, n_columns)."""

    bend: torch.Tensor
    """Second derivative of the smooth part, the same everywhere, to be broadcast likewise."""

    is_smooth: bool
    """Whether there is no kink."""

    def value(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the cost, shape (n_columns,)."""

    def slope(self, weights: torch.Tensor) -> torch.Tensor:
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

    def only(self, columns: torch.Tensor) -> "Penalty":
        """Return the penalty of some of the columns, a number for each."""


@dataclass(frozen=True)
class ElasticNet:
    """The sum over the weights of kink |w| + bend w² / 2, as :class:`~sklearn.linear_model.ElasticNet` has it."""

    kink: torch.Tensor
    bend: torch.Tensor
    is_smooth: bool
    """Asked in every step, so that looking at the numbers each time would keep an accelerator waiting."""

    @classmethod
    def of(cls, kink: torch.Tensor, bend: torch.Tensor) -> "ElasticNet":
        """Return the penalty of these numbers."""
        return cls(kink, bend, is_smooth=not kink.any())

    def value(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return (self.kink * weights.abs() + (0.5 * self.bend) * weights.square()).sum(0)

    def slope(self, weights: torch.Tensor) -> torch.Tensor:
        """Return bend w."""
        return self.bend * weights

    def duality_gap(
        self, weights: torch.Tensor, gradient: torch.Tensor, unit: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gap, and what of the gradient is steeper than the penalty bears."""
        over = gradient - torch.clamp(gradient, -self.kink, self.kink)
        conjugate = torch.where(over == 0, 0.0, over * (over / (2.0 * self.bend)))  # whose square may underflow
        dear = conjugate + weights * over > over.abs() * unit
        rest, conjugate = torch.where(dear, over, 0.0), torch.where(dear, 0.0, conjugate)
        costs = self.kink * weights.abs() + (0.5 * self.bend) * weights.square()
        return (costs + conjugate + weights * (gradient - rest)).sum(0), rest

    def rescaled(self, unit: torch.Tensor, scale: torch.Tensor) -> "ElasticNet":
        """Return the penalty of weights in other units."""
        relative = unit / scale
        return replace(self, kink=self.kink * relative / scale, bend=self.bend * relative.square())

    def to(self, dtype: torch.dtype) -> "ElasticNet":
        """Return the penalty in another precision."""
        return replace(self, kink=self.kink.to(dtype), bend=self.bend.to(dtype))

    def only(self, columns: torch.Tensor) -> "ElasticNet":
        """Return the penalty of some of the columns."""
        kink, bend = self.kink[..., columns], self.bend[..., columns]
        return replace(self, kink=kink, bend=bend) if self.is_smooth else ElasticNet.of(kink, bend)


def make_penalty(name: str | None, alpha: torch.Tensor, l1_ratio: torch.Tensor) -> Penalty | None:
    """Return the penalty of that name; None if there is nothing to pay.

    Parameters
    ----------
    name : str or None
    alpha, l1_ratio : torch.Tensor of shape (n_columns,)
    """
    return PENALTIES[name](alpha, l1_ratio) if name is not None and alpha.any() else None


def shrink(weights: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
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
