"""Separable penalties of the weights: value, gradient of the smooth part, proximal operator, optimality conditions.

A penalty is a sum over the weights, of shape (n_features, n_columns), never over intercepts. Its smooth part is
``l2 w² / 2``; what is left is not differentiable, or ends, at zero and nowhere else, and is known to solvers by `prox`,
`derivative` and `subdifferential_distance`. To add one, write a class and enter it in `PENALTIES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch


@dataclass(frozen=True, eq=False)
class Penalty(ABC):
    """A penalty of the weights, added to the mean loss.

    Attributes
    ----------
    l1 : torch.Tensor, to be broadcast to (n_features, n_columns)
        Derivative of the part that is not smooth, on the positive side of zero.
    l2 : torch.Tensor, to be broadcast likewise
        Second derivative of the smooth part.
    """

    l1: torch.Tensor
    l2: torch.Tensor

    @property
    @abstractmethod
    def is_smooth(self) -> bool:
        """Whether the smooth part is all there is."""

    @property
    @abstractmethod
    def is_free(self) -> torch.Tensor:
        """Whether columns are not penalized at all, shape (n_columns,)."""

    @abstractmethod
    def terms(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the penalty of each weight, shape (n_features, n_columns)."""

    def value(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the penalty of each column, shape (n_columns,)."""
        return self.terms(weights).sum(0)

    def gradient(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the smooth part, l2 w."""
        return self.l2 * weights

    @abstractmethod
    def prox(self, weights: torch.Tensor, step: float | torch.Tensor) -> torch.Tensor:
        """Return the proximal operator of the part that is not smooth, argmin_u step h(u) + (u - w)² / 2."""

    @abstractmethod
    def derivative(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the derivative of the part that is not smooth, zero where it has none."""

    @abstractmethod
    def increase(self, weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return h(w + step) - h(w) of the part that is not smooth, without cancellation for small steps."""

    @abstractmethod
    def is_differentiable(self, weights: torch.Tensor) -> torch.Tensor:
        """Return at which weights the penalty has a derivative."""

    @abstractmethod
    def subdifferential_distance(self, weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return gradient + the element of the subdifferential of the part that is not smooth that makes it smallest.

        At the optimum, with the gradient of all that is smooth, it is zero.
        """

    @abstractmethod
    def feasible(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the nearest gradients of the loss at which weights of zero are optimal."""

    def duality_gap(
        self, weights: torch.Tensor, gradient: torch.Tensor, unit: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return value(w) + conjugate(-g) + wᵀg, which is zero at the optimum and positive elsewhere.

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
        left_out : torch.Tensor of shape (n_features, n_columns)
        """
        over = gradient - self.feasible(gradient)
        conjugate = torch.where(over == 0, 0.0, over * (over / (2.0 * self.l2)))  # whose square may underflow
        too_large = conjugate + weights * over > over.abs() * unit
        left_out, conjugate = torch.where(too_large, over, 0.0), torch.where(too_large, 0.0, conjugate)
        return (self.terms(weights) + conjugate + weights * (gradient - left_out)).sum(0), left_out

    def rescaled(self, unit: torch.Tensor, scale: torch.Tensor) -> Self:
        """Return the penalty, over scale², of weights given in the units `unit`, shape (n_features, n_columns)."""
        relative = unit / scale
        return replace(self, l1=self.l1 * relative / scale, l2=self.l2 * relative.square())

    def to(self, dtype: torch.dtype) -> Self:
        """Return the penalty in another precision."""
        return replace(self, l1=self.l1.to(dtype), l2=self.l2.to(dtype))

    @abstractmethod
    def select(self, columns: torch.Tensor) -> "Penalty":
        """Return the penalty of some of the columns, a number for each; without an L1 part left, a smooth one."""

    @abstractmethod
    def nonsmooth(self, scale: torch.Tensor, n_free: int) -> "Penalty":
        """Return the part that is not smooth, of weights in units of `scale` with rows after them that are free.

        Parameters
        ----------
        scale : torch.Tensor of shape (n_features, 1)
            Positive.
        n_free : int
        """


@dataclass(frozen=True, eq=False)
class Ridge(Penalty):
    """The sum over the weights of l2 w² / 2, as :class:`~sklearn.linear_model.Ridge` has it; `l1` is zero."""

    is_smooth = True

    @property
    def is_free(self) -> torch.Tensor:
        """Whether columns are not penalized at all."""
        return (self.l2 == 0).view(-1, self.l2.shape[-1]).all(0)

    def terms(self, weights: torch.Tensor) -> torch.Tensor:
        """Return l2 w² / 2."""
        return (0.5 * self.l2) * weights.square()

    def prox(self, weights: torch.Tensor, step: float | torch.Tensor) -> torch.Tensor:
        """Return the weights."""
        return weights

    def derivative(self, weights: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(weights)

    def increase(self, weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(weights)

    def is_differentiable(self, weights: torch.Tensor) -> torch.Tensor:
        """Return that all weights are such."""
        return torch.ones_like(weights, dtype=torch.bool)

    def subdifferential_distance(self, weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient."""
        return gradient

    def feasible(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(gradient)

    def select(self, columns: torch.Tensor) -> Penalty:
        """Return the penalty of some of the columns."""
        return Ridge(self.l1[..., columns], self.l2[..., columns])

    def nonsmooth(self, scale: torch.Tensor, n_free: int) -> Penalty:
        """Return a penalty of zero."""
        zero = scale.new_zeros(len(scale) + n_free, 1)
        return Ridge(zero, zero)


@dataclass(frozen=True, eq=False)
class ElasticNet(Penalty):
    """The sum over the weights of l1 abs(w) + l2 w² / 2, as :class:`~sklearn.linear_model.ElasticNet` has it."""

    is_smooth = False

    @property
    def is_free(self) -> torch.Tensor:
        """Whether columns are not penalized at all."""
        return ((self.l1 == 0) & (self.l2 == 0)).view(-1, self.l1.shape[-1]).all(0)

    def terms(self, weights: torch.Tensor) -> torch.Tensor:
        """Return l1 abs(w) + l2 w² / 2."""
        return self.l1 * weights.abs() + (0.5 * self.l2) * weights.square()

    def prox(self, weights: torch.Tensor, step: float | torch.Tensor) -> torch.Tensor:
        """Soft-threshold the weights."""
        return soft_threshold(weights, self.l1 * step)

    def derivative(self, weights: torch.Tensor) -> torch.Tensor:
        """Return l1 sign(w)."""
        return self.l1 * weights.sign()

    def increase(self, weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return l1 (abs(w + step) - abs(w))."""
        return self.l1 * ((weights + step).abs() - weights.abs())

    def is_differentiable(self, weights: torch.Tensor) -> torch.Tensor:
        """Return which weights are not zero, or not penalized."""
        return (weights != 0) | (self.l1 == 0)

    def subdifferential_distance(self, weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return gradient + l1 sign(w) or, at zero, what of the gradient exceeds l1."""
        at_zero = soft_threshold(gradient, self.l1.expand_as(gradient))
        return torch.where(weights == 0, at_zero, gradient + self.derivative(weights))

    def feasible(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return gradients of l1 at most."""
        return torch.clamp(gradient, -self.l1, self.l1)

    def select(self, columns: torch.Tensor) -> Penalty:
        """Return the penalty of some of the columns."""
        l1, l2 = self.l1[..., columns], self.l2[..., columns]
        return ElasticNet(l1, l2) if l1.any() else Ridge(l1, l2)

    def nonsmooth(self, scale: torch.Tensor, n_free: int) -> Penalty:
        """Return the L1 part, which is zero for rows that are free."""
        l1 = torch.nn.functional.pad(self.l1 * scale, (0, 0, 0, n_free))
        return ElasticNet(l1, torch.zeros_like(l1))


@dataclass(frozen=True, eq=False)
class NonNegative(Penalty):
    """The sum over the weights of l1 w + l2 w² / 2 where none is negative, infinite elsewhere.

    As with ``positive=True`` in :class:`~sklearn.linear_model.Lasso` and :class:`~sklearn.linear_model.ElasticNet`.

    Attributes
    ----------
    lower : torch.Tensor, optional
        Bound of each row, to be broadcast; minus infinity for rows that are free. Zero by default.
    """

    lower: torch.Tensor | float = 0.0

    is_smooth = False

    @property
    def is_free(self) -> torch.Tensor:
        """Return that all columns are constrained."""
        return torch.zeros(self.l1.shape[-1], dtype=torch.bool, device=self.l1.device)

    def terms(self, weights: torch.Tensor) -> torch.Tensor:
        """Return l1 w + l2 w² / 2, or infinity."""
        return torch.where(weights < self.lower, torch.inf, self.l1 * weights + (0.5 * self.l2) * weights.square())

    def prox(self, weights: torch.Tensor, step: float | torch.Tensor) -> torch.Tensor:
        """Return w - step l1, or the bound."""
        return torch.clamp(weights - self.l1 * step, min=self.lower)

    def derivative(self, weights: torch.Tensor) -> torch.Tensor:
        """Return l1 for weights above the bound."""
        return torch.where(weights > self.lower, self.l1, 0.0)

    def increase(self, weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return l1 step, or infinity."""
        return torch.where(weights + step < self.lower, torch.inf, self.l1 * ((weights + step) - weights))

    def is_differentiable(self, weights: torch.Tensor) -> torch.Tensor:
        """Return which weights are above the bound."""
        return weights > self.lower

    def subdifferential_distance(self, weights: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return gradient + l1 or, at the bound, what of it is negative."""
        gradient = gradient + self.l1
        return torch.where(weights > self.lower, gradient, gradient.clamp(max=0))

    def feasible(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return gradients of -l1 at least."""
        return torch.maximum(gradient, -self.l1.expand_as(gradient))

    def select(self, columns: torch.Tensor) -> Penalty:
        """Return the penalty of some of the columns."""
        return replace(self, l1=self.l1[..., columns], l2=self.l2[..., columns])

    def nonsmooth(self, scale: torch.Tensor, n_free: int) -> Penalty:
        """Return the bound and the L1 part, without either for rows that are free."""
        pad = torch.nn.functional.pad
        l1 = pad(self.l1 * scale, (0, 0, 0, n_free))
        return NonNegative(l1, torch.zeros_like(l1), pad(torch.zeros_like(scale), (0, 0, 0, n_free), value=-torch.inf))


def soft_threshold(weights: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return weights nearer to zero by the threshold, and zero for those that would cross it."""
    return weights - torch.clamp(weights, -threshold, threshold)


def make_penalty(
    name: str | None, alpha: torch.Tensor, l1_ratio: torch.Tensor, *, positive: bool = False
) -> Penalty | None:
    """Return the penalty of that name, maybe of weights that must not be negative; None without a penalty.

    Parameters
    ----------
    name : str or None
    alpha, l1_ratio : torch.Tensor of shape (n_columns,)
    positive : bool
    """
    if name is None or not alpha.any():
        alpha = torch.zeros_like(alpha)
        return NonNegative(alpha, alpha) if positive else None
    penalty = PENALTIES[name](alpha, l1_ratio)
    if not positive:
        return penalty
    if not isinstance(penalty, ElasticNet | Ridge):
        raise ValueError(f'positive=True does not go with penalty="{name}".')
    return NonNegative(penalty.l1, penalty.l2)


def _elastic_net(alpha: torch.Tensor, l1_ratio: torch.Tensor) -> Penalty:
    l1, l2 = alpha * l1_ratio, alpha * (1.0 - l1_ratio)
    return ElasticNet(l1, l2) if l1.any() else Ridge(l1, l2)


# name -> penalty, of alpha and l1_ratio, which are of shape (n_columns,)
PENALTIES: dict[str, Callable[[torch.Tensor, torch.Tensor], Penalty]] = {
    "l2": lambda alpha, l1_ratio: _elastic_net(alpha, torch.zeros_like(alpha)),
    "l1": lambda alpha, l1_ratio: _elastic_net(alpha, torch.ones_like(alpha)),
    "elasticnet": _elastic_net,
}
