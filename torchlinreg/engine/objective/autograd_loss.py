"""Losses differentiated by autograd: modules of `torch.nn` and functions of the user's."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property, partial

import torch

NEAR = 1e-6  # distance to a target, in its standard deviations, within which the gradient may jump


class TorchLoss:
    """Any loss that torch can differentiate: a module of :mod:`torch.nn`, or a function of your own.

    Parameters
    ----------
    function : callable (prediction, target) -> torch.Tensor
        Returns either the loss of each element or, for a few rows at a time, one number, a mean.
    n_targets : int, default=1
        The targets that a mean runs over.
    """

    __module__ = "torchlinreg.losses"

    lipschitz = math.nan
    is_quadratic = False
    is_smooth = True
    by_autograd = True
    finds_scale = False

    def __init__(self, function: Callable, n_targets: int = 1):
        self.function, self.n_targets = function, n_targets

    def __repr__(self) -> str:
        return f"TorchLoss({self.function!r})"

    @property
    def mixes_targets(self) -> bool:
        """Whether losses may depend on predictions of other targets: functions of the user's are given whole rows."""
        return self.n_targets > 1 and getattr(self.function, "reduction", None) is None

    @cached_property
    def _elementwise(self) -> Callable:
        """The function, made to return the loss of each element."""
        reduction = getattr(self.function, "reduction", None)
        if reduction is None:
            return self._by_elements
        if reduction == "sum":
            raise ValueError(
                f"loss={self.function!r} sums over the rows, so that a step would grow with the batch; "
                'use reduction="mean".'
            )
        whole = deepcopy(self.function)
        whole.reduction = "none"
        share = 1.0 / self.n_targets if reduction == "mean" else 1.0
        return lambda prediction, target: whole(prediction, target) * share

    def _by_elements(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = self.function(prediction, target)
        if not isinstance(value, torch.Tensor) or (prediction.requires_grad and not value.requires_grad):
            raise ValueError(
                f"loss={self.function!r} returned {type(value).__name__} that torch cannot differentiate; "
                "return a torch.Tensor computed from the prediction by operations of torch."
            )
        if value.shape == prediction.shape:
            return value
        if value.numel() != 1:
            raise ValueError(
                f"loss={self.function!r} returned shape {tuple(value.shape)} for predictions of shape "
                f"{tuple(prediction.shape)}; return that shape, or one number."
            )
        # The loss of each row, as the mean over a batch of that row alone, which its targets share
        by_row = torch.vmap(lambda p, t: self.function(p[None], t[None]).reshape(()))(prediction, target)
        return (by_row[:, None] / prediction.shape[1]).repeat(1, prediction.shape[1])

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of each prediction."""
        if prediction.shape == target.shape:
            return self._elementwise(prediction, target)
        # Models that share a target do not mix
        each = self._elementwise(prediction.reshape(-1, 1), target.expand_as(prediction).reshape(-1, 1))
        return each.view_as(prediction)

    def gradient(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return its derivative, by autograd."""
        with torch.enable_grad():
            prediction = prediction.detach().requires_grad_()
            return torch.autograd.grad(self.value(prediction, target).sum(), prediction)[0]

    def hessian(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return its second derivative, by autograd; zero where it is negative, or where there is none."""
        with torch.enable_grad():
            prediction = prediction.detach().requires_grad_()
            value = self.value(prediction, target).sum()
            (gradient,) = torch.autograd.grad(value, prediction, create_graph=True)
            if not gradient.requires_grad:
                return torch.zeros_like(prediction)
            (hessian,) = torch.autograd.grad(gradient.sum(), prediction, allow_unused=True)
        return torch.zeros_like(prediction) if hessian is None else hessian.clamp(min=0)

    def majorizer(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the second derivative or, where it is larger, that of a parabola around the target."""
        distance = (prediction - target).abs().clamp(min=NEAR)
        return torch.maximum(self.hessian(prediction, target), self.gradient(prediction, target).abs() / distance)

    def for_targets(self, n_targets: int) -> "TorchLoss":
        """Return the loss whose mean runs over that many targets."""
        return TorchLoss(self.function, n_targets)

    def select(self, columns: torch.Tensor) -> "TorchLoss":
        """Return the loss itself, the same for all columns."""
        return self

    def rescaled(self, shift: torch.Tensor, scale: torch.Tensor) -> "TorchLoss":
        """Return the loss of numbers brought back to the units that the function knows."""
        return TorchLoss(partial(_in_units, self._elementwise, shift, scale))

    def moreau_envelope(self, width: float) -> "TorchLoss":
        """Return the loss itself."""
        return self


def _in_units(function: Callable, shift, scale, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    shift, scale = shift.to(prediction), scale.to(prediction)
    return function(shift + scale * prediction, shift + scale * target) / scale.square()
