"""What the estimator's parameters say about training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from torchlinreg.engine.objective.losses import Loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.solvers.minibatch.schedules import Schedule


def _go_on(epoch: int, loss: float, theta: Callable[[], torch.Tensor]) -> bool:
    """Ignore the epoch, and do not stop."""
    return False


@dataclass(frozen=True)
class Settings:
    """The settings of one training.

    Attributes
    ----------
    loss : Loss
    penalty : Penalty or None
    fit_intercept : bool
    backend : {"analytic", "autograd", "linear"}
    optimizer, optimizer_params
        As the estimator has them.
    momentum, learning_rate : float or torch.Tensor of shape (n_columns,)
        One for all columns, or one for each. "auto" as a learning rate is untuned mode.
    batch_size : int, "auto" or "full"
    max_iter : int
    tol : float, "auto" or None
    n_iter_no_change : int
    dtype : torch.dtype
    conditioning : {"auto", "whiten", "scale", None}
    average : bool, int or "auto"
    generator : torch.Generator or None
        Of the order of the rows.
    schedule : Schedule or None
    score : callable (theta) -> float, optional
        Rates theta on rows held out.
    after_epoch : callable (epoch, loss, theta) -> bool
        Told of each epoch, counted from one, its loss, and what returns theta; returns True to stop.
    """

    loss: Loss
    penalty: Penalty | None
    fit_intercept: bool
    backend: str
    optimizer: Any
    optimizer_params: dict | None
    momentum: float | torch.Tensor
    learning_rate: float | torch.Tensor | str
    batch_size: int | str
    max_iter: int
    tol: float | str | None
    n_iter_no_change: int
    dtype: torch.dtype
    conditioning: str | None
    average: bool | int | str
    generator: torch.Generator | None
    schedule: Schedule | None = None
    score: Callable[[torch.Tensor], float] | None = None
    after_epoch: Callable[[int, float, Callable[[], torch.Tensor]], bool] = _go_on

    @property
    def is_untuned(self) -> bool:
        """Whether the learning rate is left to the engine."""
        return isinstance(self.learning_rate, str)

    @property
    def is_quadratic(self) -> bool:
        """Whether the objective is a quadratic."""
        return self.loss.is_quadratic and (self.penalty is None or self.penalty.is_smooth)

    @property
    def seed(self) -> int:
        """Seed of what else is drawn, beside the order of the rows."""
        return 0 if self.generator is None else self.generator.initial_seed()

    def select(self, columns: torch.Tensor) -> Self:
        """Return the settings of some of the columns, a number for each, as they were before any order was drawn."""
        of_columns = {
            name: value[columns] if len(columns) > 1 else value[columns].item()
            for name, value in (("momentum", self.momentum), ("learning_rate", self.learning_rate))
            if isinstance(value, torch.Tensor)
        }
        penalty = None if self.penalty is None else self.penalty.select(columns)
        if penalty is not None and penalty.is_free.all():
            penalty = None
        generator = None if self.generator is None else torch.Generator("cpu").manual_seed(self.seed)
        return replace(self, penalty=penalty, generator=generator, **of_columns)

    def for_statistics(self) -> Self:
        """Return the settings for the few rows of sufficient statistics, which are about their mean."""
        return replace(self, fit_intercept=False, batch_size="auto", dtype=torch.float64)
