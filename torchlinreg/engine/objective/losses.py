"""Pointwise losses: value, gradient and Hessian in the prediction.

A loss works elementwise on predictions and targets of shape (n_rows, n_columns): columns are models of their own
and never mix. To add one, write a class and enter it in `LOSSES`; the tests check its derivatives numerically.

Most losses in use are a `PiecewiseLoss`: zero up to an epsilon, then quadratic, then linear. Any other that torch can
differentiate is a `TorchLoss`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import Protocol

import torch

from torchlinreg.engine.objective.autograd_loss import TorchLoss
from torchlinreg.engine.objective.piecewise import Piecewise, PiecewiseLoss
from torchlinreg.engine.runtime.devices import widest


class Loss(Protocol):
    """An elementwise loss, convex in the prediction.

    Attributes
    ----------
    lipschitz : float
        Lipschitz constant of the gradient, which bounds the stable learning rate; infinite where the gradient jumps,
        NaN if unknown.
    is_quadratic : bool
        Whether it is lipschitz / 2 (prediction - target)².
    is_smooth : bool
        Whether its gradient is continuous, as far as is known.
    by_autograd : bool
        Whether its gradient is found by autograd.
    mixes_targets : bool
        Whether the loss of one target may depend on predictions of others.
    finds_scale : bool
        Whether it depends on the scale of the residuals, to be estimated with the weights: then it has `at_scale`.
    """

    lipschitz: float
    is_quadratic: bool
    is_smooth: bool
    by_autograd: bool
    mixes_targets: bool
    finds_scale: bool

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of each prediction, shape (n_rows, n_columns)."""

    def gradient(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the derivative in the prediction, shape (n_rows, n_columns)."""

    def hessian(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the second derivative, zero where there is none, shape (n_rows, n_columns)."""

    def majorizer(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the second derivative of a parabola that touches the loss and lies above it, at least about so."""

    def for_targets(self, n_targets: int) -> "Loss":
        """Return the loss for that many targets, if that makes a difference to it."""

    def select(self, columns: torch.Tensor) -> "Loss":
        """Return the loss of some of the columns, a number for each."""

    def rescaled(self, shift: torch.Tensor, scale: torch.Tensor) -> "Loss":
        """Return the loss, over scale², of predictions and targets given as (original - shift) / scale.

        Both are of shape (n_columns,), and may be of lower precision than later predictions: divide by the scale twice
        and not by its square, so that value and gradient agree.
        """

    def moreau_envelope(self, width: float | torch.Tensor) -> "Loss":
        """Return a smooth loss below this one, whose gradient takes residuals of that width to change its sign.

        A smooth loss may return itself.
        """

    def conjugate(self, dual: torch.Tensor) -> torch.Tensor:
        """Return the convex conjugate of the loss as a function of the residual; there is none with `by_autograd`."""

    def feasible(self, dual: torch.Tensor) -> torch.Tensor:
        """Return the nearest values at which the conjugate is finite."""


class Quadratic(ABC):
    """lipschitz / 2 (prediction - target)²."""

    is_quadratic = True
    is_smooth = True
    by_autograd = False
    mixes_targets = False
    finds_scale = False
    lipschitz: float

    def value(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return lipschitz / 2 (prediction - target)²."""
        return (prediction - target).square().mul(0.5 * self.lipschitz)

    def gradient(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return lipschitz (prediction - target)."""
        residual = prediction - target
        return residual if self.lipschitz == 1.0 else residual.mul_(self.lipschitz)

    def hessian(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the constant `lipschitz`."""
        return torch.full_like(prediction, self.lipschitz)

    majorizer = hessian

    def conjugate(self, dual: torch.Tensor) -> torch.Tensor:
        """Return u² / (2 lipschitz)."""
        return dual.square().div(2.0 * self.lipschitz)

    def feasible(self, dual: torch.Tensor) -> torch.Tensor:
        """Return the values themselves: the conjugate is finite everywhere."""
        return dual

    def select(self, columns: torch.Tensor) -> Loss:
        """Return the loss itself, the same for all columns."""
        return self

    def rescaled(self, shift: torch.Tensor, scale: torch.Tensor) -> Loss:
        """Return the loss itself, which looks the same in all units."""
        return self

    def moreau_envelope(self, width: float) -> Loss:
        """Return the loss itself, which is smooth."""
        return self

    @abstractmethod
    def for_targets(self, n_targets: int) -> Loss:
        """Return the loss for that many targets."""


@dataclass(frozen=True)
class SquaredError(Quadratic):
    """Half the squared error, (prediction - target)² / 2, as in :class:`~sklearn.linear_model.SGDRegressor`."""

    __module__ = "torchlinreg.losses"

    lipschitz = 1.0

    def for_targets(self, n_targets: int) -> Loss:
        """Return the loss itself."""
        return self


@dataclass(frozen=True)
class MeanSquaredError(Quadratic):
    """:class:`torch.nn.MSELoss`: its mean runs over the targets too, so each of them weighs 1 / n_targets.

    Parameters
    ----------
    n_targets : int, default=1
        Set by the estimator to what the data have.
    """

    __module__ = "torchlinreg.losses"

    n_targets: int = 1

    @property
    def lipschitz(self) -> float:
        """Second derivative, the same everywhere."""
        return 2.0 / self.n_targets

    def for_targets(self, n_targets: int) -> Loss:
        """Return the mean over that many targets."""
        return MeanSquaredError(n_targets)


@dataclass(frozen=True)
class Huber(PiecewiseLoss):
    """Half the squared error up to `delta`, then linear (Huber 1964).

    Without a number for `delta` it is `epsilon` times the scale of the residuals, which untuned mode finds together
    with the weights, for each target, as :class:`~sklearn.linear_model.HuberRegressor` does. In textbook mode, whose
    steps see a batch of rows only, that scale is one, as in :class:`torch.nn.HuberLoss`.

    Parameters
    ----------
    delta : float, default=None
        Residual, in units of the target, beyond which it counts linearly.
    epsilon : float, default=1.35
        The same in scales of the residuals, at least 1.0, where it becomes the absolute error. Of no effect with a
        number for `delta`.
    """

    __module__ = "torchlinreg.losses"

    delta: float | None = None
    epsilon: float = 1.35

    def __post_init__(self):
        if self.delta is not None:
            _check_field(self, "delta", self.delta, positive=True)
        if not (isinstance(self.epsilon, Real) and 1.0 <= self.epsilon < math.inf):
            raise ValueError(f"Huber(epsilon={self.epsilon!r}): must be a number of scales, 1.0 at least.")

    @property
    def finds_scale(self) -> bool:
        """Whether `delta` depends on the scale of the residuals."""
        return self.delta is None

    @property
    def slope_above(self) -> float:
        """Bound of the derivative."""
        return self.epsilon if self.delta is None else self.delta

    slope_below = slope_above

    def at_scale(self, scale: torch.Tensor) -> Loss:
        """Return the loss for residuals of that scale, shape (n_columns,)."""
        delta = self.epsilon * scale
        return Piecewise(torch.zeros_like(scale), torch.ones_like(scale), delta, delta)


@dataclass(frozen=True)
class AbsoluteError(PiecewiseLoss):
    """The absolute error, whose best constant is the median."""

    __module__ = "torchlinreg.losses"

    is_smooth = False
    lipschitz = math.inf
    slope_above = slope_below = 1.0


@dataclass(frozen=True)
class Quantile(PiecewiseLoss):
    """The pinball loss, whose best constant is a quantile, as in :class:`~sklearn.linear_model.QuantileRegressor`.

    Parameters
    ----------
    quantile : float, default=0.5
        Share of the targets, between 0 and 1, that should lie below the predictions.
    """

    __module__ = "torchlinreg.losses"

    quantile: float = 0.5

    is_smooth = False
    lipschitz = math.inf

    def __post_init__(self):
        if not (isinstance(self.quantile, Real) and 0 < self.quantile < 1):
            raise ValueError(f"Quantile(quantile={self.quantile!r}): must be a number between 0 and 1, such as 0.9.")

    @property
    def slope_above(self) -> float:
        """Derivative for predictions that are too large."""
        return 1.0 - self.quantile

    @property
    def slope_below(self) -> float:
        """Minus the derivative for predictions that are too small."""
        return self.quantile


@dataclass(frozen=True)
class _EpsilonLoss(PiecewiseLoss):
    epsilon: float = 0.1

    def __post_init__(self):
        _check_field(self, "epsilon", self.epsilon, positive=False)

    @property
    def insensitive(self) -> float:
        """Residual up to which the loss is zero."""
        return self.epsilon


class EpsilonInsensitive(_EpsilonLoss):
    """The absolute error beyond `epsilon`, as in :class:`~sklearn.linear_model.SGDRegressor` and support vectors.

    Parameters
    ----------
    epsilon : float, default=0.1
        Residual, in units of the target, up to which nothing is lost.
    """

    __module__ = "torchlinreg.losses"

    is_smooth = False
    lipschitz = math.inf
    slope_above = slope_below = 1.0


class SquaredEpsilonInsensitive(_EpsilonLoss):
    """The square of what the error exceeds `epsilon` by, as in :class:`~sklearn.linear_model.SGDRegressor`.

    Parameters
    ----------
    epsilon : float, default=0.1
        Residual, in units of the target, up to which nothing is lost.
    """

    __module__ = "torchlinreg.losses"

    lipschitz = 2.0


def _check_field(loss: Loss, name: str, given, *, positive: bool) -> None:
    if not (isinstance(given, Real) and math.isfinite(given) and (given > 0 if positive else given >= 0)):
        wanted = "a positive number" if positive else "a number that is not negative"
        raise ValueError(f"{type(loss).__name__}({name}={given!r}): must be {wanted}, in units of the target.")


LOSSES: dict[str, type[Loss]] = {
    "squared_error": SquaredError,
    "mse": MeanSquaredError,
    "huber": Huber,
    "absolute_error": AbsoluteError,
    "quantile": Quantile,
    "epsilon_insensitive": EpsilonInsensitive,
    "squared_epsilon_insensitive": SquaredEpsilonInsensitive,
}


def resolve_loss(loss, n_targets: int) -> Loss:
    """Return the loss that a name, an object or a function stands for."""
    if isinstance(loss, str):
        loss = LOSSES[loss]()
    elif not (hasattr(loss, "gradient") and hasattr(loss, "hessian")):
        loss = TorchLoss(loss)
    return loss.for_targets(n_targets)


def total_loss(loss: Loss, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the weighted sum of losses over the rows, shape (n_columns,), in float64 where the device has it."""
    value = loss.value(prediction, target)
    if weight is not None:
        value = value.mul_(weight)
    return value.sum(0, dtype=widest(value.device))
