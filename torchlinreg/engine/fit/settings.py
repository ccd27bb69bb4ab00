"""What the two ways of working, `textbook` and `untuned`, are asked and what they answer."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.objective.losses import Loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.runtime.devices import ONE_THREAD_ELEMENTS, ONE_THREAD_OPERATIONS, full_precision, one_thread
from torchlinreg.engine.solvers.minibatch.schedules import Schedule


def _go_on(epoch: int, loss: float, theta: Callable[[], torch.Tensor]) -> bool:
    """Look at nothing, and do not stop."""
    return False


@dataclass(frozen=True)
class Settings:
    """What the estimator's parameters say about training."""

    loss: Loss
    penalty: Penalty | None
    fit_intercept: bool
    backend: str
    optimizer: Any
    optimizer_params: dict | None
    momentum: float | torch.Tensor
    learning_rate: float | torch.Tensor | str
    """Like the momentum one for all columns, or one for each."""
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
    """Rates theta on rows held out."""
    after_epoch: Callable[[int, float, Callable[[], torch.Tensor]], bool] = _go_on
    """Told of each epoch, counted from one, its loss, and where theta then is; returns True to stop."""

    @property
    def seed(self) -> int:
        """Seed of what else is drawn, beside the order of the rows."""
        return 0 if self.generator is None else self.generator.initial_seed()

    def select(self, columns: torch.Tensor) -> "Settings":
        """Return the settings of some of the columns, a number for each, as they were before any order was drawn."""
        of_columns = {
            name: value[columns] if len(columns) > 1 else value[columns].item()
            for name, value in (("momentum", self.momentum), ("learning_rate", self.learning_rate))
            if isinstance(value, torch.Tensor)
        }
        penalty = None if self.penalty is None else self.penalty.select(columns)
        if penalty is not None and not (penalty.l1.any() or penalty.l2.any()):
            penalty = None
        generator = None if self.generator is None else torch.Generator("cpu").manual_seed(self.seed)
        return replace(self, penalty=penalty, generator=generator, **of_columns)


@dataclass
class Fit:
    """What training found.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
    n_steps : int
    loss_curve : list of float
    converged : bool
        Whether the criterion of the mode was met.
    worsened : bool
        Whether the loss ended above where it began.
    optimality_gap : float, optional
    needs_double : bool
        Whether predictions lose more than they should if theta is rounded to single precision.
    plan : dict
        What "auto" stood for: name to (value, reason).
    scores : list of float, optional
        Of each epoch, on rows held out.
    cut_short : bool
        Whether somebody outside ended training: the user by an interrupt, or `Settings.after_epoch`.
    interrupted : bool
        Whether it was the user.
    n_unfinished : int
        Columns that did not meet the criterion of the mode.
    memory : dict, optional
        What a stream of tables goes on from, beside theta.
    scale : torch.Tensor of shape (n_columns,), optional
        Of the residuals, if the loss goes by one.
    """

    theta: torch.Tensor
    n_steps: int
    loss_curve: list[float]
    converged: bool
    worsened: bool = False
    optimality_gap: float | None = None
    needs_double: bool = False
    plan: dict[str, tuple[Any, str]] = field(default_factory=dict)
    scores: list[float] | None = None
    cut_short: bool = False
    interrupted: bool = False
    n_unfinished: int = 0
    memory: dict[str, Any] | None = None
    scale: torch.Tensor | None = None


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


@contextmanager
def no_graph(settings: Settings, rows: Rows, *, by_hand: bool) -> Iterator[None]:
    """Switch off what training does not need, whatever the caller has switched on.

    That is autograd, reduced precision and, where there is little to compute, all threads but one.
    """
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        if _is_little(rows):
            stack.enter_context(one_thread())
        # Inference mode makes small steps cheaper still, where no graph is ever built
        stack.enter_context(_inference(settings.backend == "analytic" and by_hand))
        stack.enter_context(torch.no_grad())
        yield


@contextmanager
def _inference(mode: bool) -> Iterator[None]:
    """Enter torch's inference mode and leave it for certain: a guard that is left behind would do so at any time."""
    guard = torch.inference_mode(mode)
    guard.__enter__()
    try:
        yield
    finally:
        try:
            guard.__exit__(None, None, None)
        except KeyboardInterrupt:  # just here: once more, before it goes on its way
            guard.__exit__(None, None, None)
            raise


def _is_little(rows: Rows) -> bool:
    """Whether training is over before threads have found together."""
    elements = rows.X.numel()
    operations = elements * min(rows.X.shape) * rows.n_columns
    return elements <= ONE_THREAD_ELEMENTS and operations <= ONE_THREAD_OPERATIONS
