"""Textbook mode: the user gives the learning rate, and it means exactly that."""

from dataclasses import dataclass

import torch

from torchlinreg.engine.data.batches import MiniBatches
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.history import History, refuse_infinite
from torchlinreg.engine.fit.plan import textbook_batch, textbook_entries
from torchlinreg.engine.fit.problem import penalty_in_units
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.linear_model import MODELS, Model
from torchlinreg.engine.objective.losses import Loss, total_loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.conditioned import Conditioned
from torchlinreg.engine.preconditioning.conditioning import condition
from torchlinreg.engine.runtime.switches import training_mode
from torchlinreg.engine.solvers.minibatch.loop import DivergedError, check_finite, train_epoch
from torchlinreg.engine.solvers.minibatch.optimizers import (
    BaseOptimizer,
    Optimizer,
    PolyakAveraging,
    Preconditioned,
    ProximalGradient,
    Rate,
    SummedGradient,
    make_optimizer,
)
from torchlinreg.engine.solvers.minibatch.schedules import Scheduled
from torchlinreg.engine.solvers.minibatch.stopping import Patience, Validation

PLATEAU_TOL = 1e-3  # that "auto" stands for where plateaus of the loss are looked for, as in SGDRegressor
VALIDATION_TOL = 1e-4  # and for scores, as in MLPRegressor


def fit_textbook(
    source: MemorySource, theta: torch.Tensor, settings: Settings, training_state: dict | None = None
) -> Result:
    """Plain mini-batch descent at the learning rate given, on the features as they are unless told otherwise.

    Parameters
    ----------
    source : MemorySource
    theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
        The start.
    settings : Settings
    training_state : dict, optional
        What the last part of a stream left behind, to go on from; n_steps and n_epochs are how far it had come. The
        result then has a training state too.

    Raises
    ------
    DivergedError
        If the learning rate is too large for the data.
    """
    # Products of sparse rows take one thread anyway
    at_once = 0 if source.few.is_sparse else textbook_batch(settings.batch_size, len(source)) * source.few.X.mean_nnz
    inference = settings.backend == "analytic" and _by_hand(settings)
    factorized = source.factorization_work if settings.conditioning not in ("auto", None) else 0
    with training_mode(at_once, factorized, inference=inference):
        training = _assemble(source, theta, settings, training_state)
        history, stopping = History(settings), Stopping(settings)
        with history.interruptible(training.has_learnt):
            for epoch in range(1, settings.max_iter + 1):
                losses = training.units * source.total(train_epoch(*training.loop))
                reached = check_finite(training.model, losses, epoch)
                measured = stopping.measure(reached, training.theta)
                history.record(reached, training.theta)
                if stopping.is_due(measured, training.scheduled):
                    break
        if history.interrupted and not training.model.theta().isfinite().all():
            raise DivergedError(len(history.curve) + 1, ~training.model.theta().isfinite().all(0))
        return training.result(history, stopping, keeps_state=training_state is not None)


class Stopping:
    """When textbook mode stops: after `n_iter_no_change` epochs without progress of the loss, or of a score.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings):
        tol = settings.tol
        if tol == "auto":
            on_plateaus = settings.schedule is not None and settings.schedule.reduces_on_plateau
            tol = VALIDATION_TOL if settings.score is not None else PLATEAU_TOL if on_plateaus else None
        self._patience = Patience(tol, settings.n_iter_no_change)
        self.validation = None if settings.score is None else Validation(settings.score)

    def measure(self, loss: float, theta) -> float:
        """Return what should fall: the loss, or minus the score on rows held out."""
        return loss if self.validation is None else -self.validation.note(theta())

    def is_due(self, measured: float, scheduled: Scheduled | None) -> bool:
        """Whether to stop after an epoch; a schedule may lower the rate instead."""
        done = self._patience.exhausted(measured)
        if scheduled is not None:
            scheduled.end_epoch()
            if done and scheduled.leaves_plateau():
                self._patience.renew()
                return False
        return done

    @property
    def has_converged(self) -> bool:
        """Whether the criterion was met, or none was asked for."""
        return self._patience.tol is None or self._patience.is_exhausted


@dataclass(frozen=True, eq=False)
class _Parts:
    """The parts of one training: on the rows or, if they are conditioned, on what that makes of them."""

    settings: Settings
    conditioned: Conditioned | None
    start: torch.Tensor
    model: Model
    loss: Loss
    base: BaseOptimizer
    optimizer: Optimizer
    scheduled: Scheduled | None
    averaged: PolyakAveraging | None
    batches: MiniBatches
    loss_before: float

    @property
    def loop(self) -> tuple:
        """What the loop is handed."""
        return self.model, self.loss, self.optimizer, self.batches

    @property
    def units(self) -> torch.Tensor | float:
        """What a loss of one in each column stands for in the units of the data."""
        return 1.0 if self.conditioned is None else self.conditioned.y_scale.square()

    def has_learnt(self) -> bool:
        """Whether any step was taken."""
        return not torch.equal(self.model.theta(), self.start)

    def theta(self) -> torch.Tensor:
        """Return where training is, in the units of the data."""
        theta = self.model.theta() if self.averaged is None else self.averaged.mean
        if self.conditioned is None:
            return theta
        return self.conditioned.unstandardize(theta.double(), fit_intercept=self.settings.fit_intercept)

    def result(self, history: History, stopping: Stopping, *, keeps_state: bool) -> Result:
        """Return what training found."""
        batches, curve, validation = self.batches, history.curve, stopping.validation
        cut_short = history.ended_by is not None
        converged = not cut_short and stopping.has_converged
        best = None if validation is None else validation.best
        return Result(
            self.theta() if best is None else best,
            len(curve) * batches.steps_per_epoch,
            curve,
            converged=converged,
            n_unfinished=0 if converged else self.start.shape[1],
            worsened=bool(curve) and curve[-1] > 2 * min(self.loss_before, curve[0]),
            plan=history.plan | textbook_entries(self.settings, self.start.dtype, batches.batch_size),
            scores=None if validation is None else validation.scores,
            cut_short=cut_short,
            interrupted=history.interrupted,
            training_state=self._state() if keeps_state and self.conditioned is None else None,
        )

    def _state(self) -> dict:
        """Return what the next part of a stream goes on from."""
        state = {"optimizer": self.base.state_dict()}
        if self.averaged is not None:
            state |= {"last": self.model.theta(), "n_averaged": self.averaged.n_steps}
        if self.settings.generator is not None:
            state["order"] = self.settings.generator.get_state()
        return state


def _by_hand(settings: Settings) -> bool:
    """Whether steps are the written-out ones: torch's own SGD has one rate and one momentum for all columns."""
    plain = settings.optimizer == "sgd" and not settings.optimizer_params
    of_columns = any(isinstance(number, torch.Tensor) for number in (settings.learning_rate, settings.momentum))
    return plain and (settings.backend != "linear" or of_columns)


def _assemble(source: MemorySource, theta: torch.Tensor, settings: Settings, state: dict | None) -> _Parts:
    """Put model, loss, optimizer and batches together."""
    theta, conditioned, loss, penalty = theta.to(settings.dtype), None, settings.loss, settings.penalty
    if settings.conditioning not in ("auto", None):
        conditioned = condition(
            source, settings.conditioning, settings.dtype, fit_intercept=settings.fit_intercept, seed=settings.seed
        )
        theta = conditioned.standardize(theta, fit_intercept=settings.fit_intercept)
        source, state = conditioned.source, None
        theta = theta.to(source.dtype)
        loss = loss.rescaled(conditioned.y_shift, conditioned.y_scale)
        penalty = None if penalty is None else penalty_in_units(penalty, conditioned)
    loss_before = _loss_before(source, theta, settings, loss, conditioned)
    start = theta if state is None else state.get("last", theta).to(theta)
    options = {}
    if settings.backend == "analytic" and settings.fit_intercept and source.is_small:
        source, options = source.with_ones(), {"ones": True}
    model = MODELS[settings.backend](start, fit_intercept=settings.fit_intercept, **options)
    batch_size = textbook_batch(settings.batch_size, len(source))
    parts = _optimizers(model, theta, settings, conditioned, penalty, batch_size, state or {})
    base, optimizer, *wrappers = parts
    if source.is_shared:
        optimizer = SummedGradient(optimizer, model, source.total)
    batches = source.blocks(batch_size, settings.generator)
    return _Parts(settings, conditioned, start, model, loss, base, optimizer, *wrappers, batches, loss_before)


def _loss_before(source: MemorySource, theta: torch.Tensor, settings: Settings, loss: Loss, conditioned) -> float:
    """Return the loss before the first step, which is known for zero weights only; else infinity."""
    if theta.any():
        return float("inf")
    y, weight = source.few.y, source.few.weight
    weight = None if weight is None else weight.mean(1, keepdim=True)
    of_zeros = total_loss(loss, torch.zeros_like(y), y, weight)
    units = 1.0 if conditioned is None else conditioned.y_scale.square()
    of_zeros = source.n_models * (units * of_zeros).sum().item() / len(y)
    refuse_infinite(settings.loss, of_zeros)
    return of_zeros


def _optimizers(
    model: Model,
    theta: torch.Tensor,
    settings: Settings,
    conditioned: Conditioned | None,
    penalty: Penalty | None,
    batch_size: int,
    state: dict,
) -> tuple:
    """Return the base optimizer, going on from its state, what is wrapped around it, and the wrappers looked at."""
    rate = Rate(settings.learning_rate)
    optimizer = base = make_optimizer(
        settings.optimizer, model, rate, settings.momentum, settings.optimizer_params, by_hand=_by_hand(settings)
    )
    if "optimizer" in state:
        base.load_state_dict(state["optimizer"])
    if "order" in state and settings.generator is not None:
        settings.generator.set_state(state["order"])
    transform = None if conditioned is None else conditioned.transform.to(theta.dtype)
    if transform is not None:
        optimizer = Preconditioned(optimizer, model, transform)
    if penalty is not None:
        optimizer = ProximalGradient(
            optimizer, model, penalty.to(theta.dtype), len(theta) - settings.fit_intercept, rate, transform
        )
    scheduled = averaged = None
    if settings.schedule is not None:
        counts = state.get("n_steps", 0), state.get("n_epochs", 0)
        optimizer = scheduled = Scheduled(optimizer, rate, settings.schedule, *counts)
    if settings.average not in ("auto", False):
        burn_in = (int(settings.average) - 1) // batch_size
        optimizer = averaged = PolyakAveraging(optimizer, model, burn_in, state.get("n_averaged", 0))
        averaged.mean.copy_(theta)
    return base, optimizer, scheduled, averaged
