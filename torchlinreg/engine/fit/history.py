"""What is recorded of a training: losses, steps, the best weights, and who ended it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.losses import Loss


class StoppedError(Exception):
    """A callback asked training to stop."""


class Best(NamedTuple):
    """The epoch with the lowest loss so far.

    Attributes
    ----------
    loss : float
    theta : callable () -> torch.Tensor
        Returns the weights in the units of the data.
    scale : torch.Tensor or None
        Of the residuals.
    """

    loss: float
    theta: Callable[[], torch.Tensor]
    scale: torch.Tensor | None


class History:
    """The account of a training.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    curve : list of float
        The loss of each epoch or pass.
    n_steps : int
    plan : dict
        Name to (value, reason).
    best : Best or None
    ended_by : Exception or None
        An interrupt, or a callback that stopped training.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self.curve: list[float] = []
        self.n_steps = 0
        self.plan: dict[str, tuple[Any, str]] = {
            "backend": (settings.backend, "as asked, or the fastest that can do what is asked")
        }
        self.best: Best | None = None
        self.ended_by: BaseException | None = None

    @property
    def n_left(self) -> int:
        """Epochs or passes that may still be recorded."""
        return self._settings.max_iter - len(self.curve)

    @property
    def interrupted(self) -> bool:
        """Whether the user has ended training (Ctrl-C)."""
        return isinstance(self.ended_by, KeyboardInterrupt)

    @contextmanager
    def interruptible(self, is_worth_keeping: Callable[[], bool]) -> Iterator[None]:
        """Let an interrupt, or a callback, end training, unless nothing has been learnt that is worth keeping."""
        try:
            yield
        except (KeyboardInterrupt, StoppedError) as reason:
            if not is_worth_keeping():
                raise
            self.ended_by = reason

    def record(self, loss: float, theta: Callable[[], torch.Tensor], scale: torch.Tensor | None = None) -> None:
        """Record an epoch or a pass, and tell the callbacks; in untuned mode, of the best weights so far.

        Parameters
        ----------
        loss : float
            Summed over the columns.
        theta : callable () -> torch.Tensor
            Returns the weights that have this loss, in the units of the data.
        scale : torch.Tensor, optional
            Of the residuals.

        Raises
        ------
        StoppedError
            If a callback wants no more.
        """
        self.curve.append(loss)
        if self.best is None or loss <= self.best.loss:
            self.best = Best(loss, theta, scale)
        shown = self.best.theta if self._settings.is_untuned else theta
        if self._settings.after_epoch(len(self.curve), loss, shown):
            raise StoppedError

    def change_loss(self) -> None:
        """Compare the losses to come with each other only."""
        if self.best is not None:
            self.best = self.best._replace(loss=math.inf)

    def interrupted_result(self) -> Result:
        """Return the best weights so far, for a training that was ended."""
        return Result(
            self.best.theta(),
            self.n_steps,
            self.curve,
            converged=False,
            needs_double=True,
            plan=self.plan,
            cut_short=True,
            interrupted=self.interrupted,
            scale=self.best.scale,
        )


def refuse_infinite(loss: Loss, value: float) -> None:
    """Refuse a loss of the user's that has no value where training begins.

    Raises
    ------
    ValueError
    """
    if loss.by_autograd and not math.isfinite(value):
        raise ValueError(
            f"loss={loss.function!r} is {value} where training begins, for predictions near the mean of the targets or "
            "of zero. Write it so that it does not overflow, as log(cosh(r)) does and r + softplus(-2 r) does not, or "
            "bring the targets to a common size first, with sklearn.compose.TransformedTargetRegressor."
        )
