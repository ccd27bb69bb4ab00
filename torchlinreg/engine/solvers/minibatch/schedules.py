"""How the learning rate changes while training goes on.

A schedule says what the learning rate is multiplied by. To add one, write a class and enter it in `SCHEDULES`; the
tests iterate over it. Schedules hold no state: the counts they go by are those of `Scheduled`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from torchlinreg.engine.solvers.minibatch.optimizers import Optimizer, Rate

CUT = 5.0  # what a plateau divides the rate by
LOWEST_RATE = 1e-6  # a rate that is not divided any further


class Schedule(ABC):
    """Says what the learning rate is multiplied by."""

    every_step: bool = False
    """Whether that changes within an epoch."""

    reduces_on_plateau: bool = False
    """Whether it changes when training makes no progress, which then does not end training."""

    @abstractmethod
    def factor(self, step: int, epoch: int, plateaus: int) -> float:
        """Return the factor for a step, counted from one, of an epoch, counted from zero, after so many plateaus."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate as given."""

    __module__ = "torchlinreg.schedules"

    def factor(self, step: int, epoch: int, plateaus: int) -> float:
        """Return one."""
        return 1.0


@dataclass(frozen=True)
class InvScaling(Schedule):
    """Divided by ``t ** power_t`` in step t, as in :class:`~sklearn.linear_model.SGDRegressor`.

    Parameters
    ----------
    power_t : float, default=0.25
        Not negative.
    """

    __module__ = "torchlinreg.schedules"

    power_t: float = 0.25

    every_step = True

    def __post_init__(self):
        if not (isinstance(self.power_t, Real) and math.isfinite(self.power_t) and self.power_t >= 0):
            raise ValueError(f"InvScaling(power_t={self.power_t!r}): must be a number that is not negative.")

    def factor(self, step: int, epoch: int, plateaus: int) -> float:
        """Return ``step ** -power_t``."""
        return step**-self.power_t


@dataclass(frozen=True)
class Adaptive(Schedule):
    """Divided by five each time that training makes no progress, as in :class:`~sklearn.linear_model.SGDRegressor`."""

    __module__ = "torchlinreg.schedules"

    reduces_on_plateau = True

    def factor(self, step: int, epoch: int, plateaus: int) -> float:
        """Return ``5 ** -plateaus``."""
        return CUT**-plateaus


@dataclass(frozen=True)
class ByEpoch(Schedule):
    """Any function of the epoch, as in :class:`torch.optim.lr_scheduler.LambdaLR`.

    Parameters
    ----------
    function : callable (epoch) -> float
        Epochs are counted from zero.
    """

    __module__ = "torchlinreg.schedules"

    function: Callable[[int], float]

    def factor(self, step: int, epoch: int, plateaus: int) -> float:
        """Return what the function does."""
        factor = self.function(epoch)
        if not (isinstance(factor, Real) and math.isfinite(factor) and factor >= 0):
            raise ValueError(
                f"schedule={self.function!r} returned {factor!r} for epoch {epoch}; it must return a number that is "
                "not negative, by which the learning rate is multiplied."
            )
        return float(factor)


SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "invscaling": InvScaling, "adaptive": Adaptive}


def resolve_schedule(schedule: str | Schedule | Callable | None) -> Schedule | None:
    """Return the schedule that a name, an object or a function of the epoch stands for; None without one."""
    if schedule is None or isinstance(schedule, Schedule):
        return schedule
    return SCHEDULES[schedule]() if isinstance(schedule, str) else ByEpoch(schedule)


class Scheduled:
    """Another optimizer, at the rate of a schedule.

    Parameters
    ----------
    optimizer : Optimizer
    rate : Rate
        What the optimizer goes by; its value now is what the factors of the schedule multiply.
    schedule : Schedule
    n_steps, n_epochs : int
        Taken before.
    """

    def __init__(self, optimizer: Optimizer, rate: Rate, schedule: Schedule, n_steps: int = 0, n_epochs: int = 0):
        self._optimizer, self._rate, self._schedule, self._first = optimizer, rate, schedule, rate.now
        self._n_steps, self._n_epochs, self._plateaus = n_steps, n_epochs, 0
        self._is_due = True

    def step(self) -> None:
        """Take one step."""
        if self._is_due:
            factor = self._schedule.factor(self._n_steps + 1, self._n_epochs, self._plateaus)
            self._rate.now = self._first * factor
            self._is_due = self._schedule.every_step
        self._n_steps += 1
        self._optimizer.step()

    def end_epoch(self) -> None:
        """Have the next step begin an epoch."""
        self._n_epochs += 1
        self._is_due = True

    def leaves_plateau(self) -> bool:
        """Whether the schedule has an answer to a plateau, which the next epoch then gives."""
        if not self._schedule.reduces_on_plateau or self._rate.now <= LOWEST_RATE:
            return False
        self._plateaus += 1
        return True
