"""Textbook mode: the user gives the learning rate, and it means exactly that."""

import torch

from torchlinreg.engine.data.batches import MiniBatches, Rows
from torchlinreg.engine.fit.plan import textbook_batch
from torchlinreg.engine.fit.settings import Fit, Settings, no_graph, refuse_infinite
from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.objective.losses import total
from torchlinreg.engine.preconditioning.conditioning import Conditioning, condition
from torchlinreg.engine.solvers.minibatch.loop import Patience, Validation, descend
from torchlinreg.engine.solvers.minibatch.optimizers import (
    PolyakAveraging,
    Preconditioned,
    ProximalGradient,
    Rate,
    make_optimizer,
)
from torchlinreg.engine.solvers.minibatch.schedules import Scheduled

PLATEAU_TOL = 1e-3  # that "auto" stands for where plateaus of the loss are looked for, as in SGDRegressor
VALIDATION_TOL = 1e-4  # and for scores, as in MLPRegressor


def fit_textbook(rows: Rows, theta: torch.Tensor, settings: Settings, memory: dict | None = None) -> Fit:
    """Plain mini-batch descent at the learning rate given, on the features as they are unless told otherwise.

    Parameters
    ----------
    rows : Rows
    theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
        The start.
    settings : Settings
    memory : dict, optional
        What the last table of a stream left behind, to go on from; n_steps and n_epochs are how far it had come. The
        answer then has a memory too.

    Raises
    ------
    DivergedError
        If the learning rate is too large for the data.
    """
    plain = settings.optimizer == "sgd" and not settings.optimizer_params
    # torch's own SGD has one rate and one momentum for all columns
    of_columns = any(isinstance(number, torch.Tensor) for number in (settings.learning_rate, settings.momentum))
    by_hand = plain and (settings.backend != "linear" or of_columns)
    with no_graph(settings, rows, by_hand=by_hand):
        if settings.conditioning in ("auto", None):
            return _Training(rows, theta, settings, by_hand=by_hand, memory=memory).run()
        table = condition(
            rows, settings.conditioning, settings.dtype, fit_intercept=settings.fit_intercept, seed=settings.seed
        )
        start = table.standardize(theta, fit_intercept=settings.fit_intercept)
        return _Training(table.rows, start.to(table.rows.y.dtype), settings, by_hand=by_hand, table=table).run()


class _Training:
    """One training on the rows, or, with a table, on what its conditioning makes of them."""

    def __init__(
        self,
        rows: Rows,
        theta: torch.Tensor,
        settings: Settings,
        *,
        by_hand: bool,
        table: Conditioning | None = None,
        memory: dict | None = None,
    ):
        self.rows, self.settings, self.table, self.memory = rows, settings, table, memory
        self.batch_size = textbook_batch(settings.batch_size, len(rows))
        self.units = rows.y.new_ones(rows.y.shape[1]) if table is None else table.y_scale.square()
        self.loss = settings.loss if table is None else settings.loss.rescaled(table.y_shift, table.y_scale)
        weight = None if rows.weight is None else rows.weight.mean(1, keepdim=True)
        of_zeros = total(self.loss, torch.zeros_like(rows.y), rows.y, weight)
        zero_loss = rows.models * (self.units * of_zeros).sum().item() / len(rows)
        if not theta.any():
            refuse_infinite(settings.loss, zero_loss)
        # The loss before the first step is known for zero weights only
        self.loss_before = float("inf") if theta.any() else zero_loss
        options, n_features = {}, rows.X.shape[1]
        if settings.backend == "analytic" and settings.fit_intercept and rows.is_small:
            rows, options = rows.with_ones(), {"ones": True}
        self.start = theta if memory is None else memory.get("last", theta).to(theta)
        self.model = MODELS[settings.backend](self.start, fit_intercept=settings.fit_intercept, **options)
        self._set_optimizer(theta, n_features, by_hand=by_hand)
        self.batches = MiniBatches(rows, self.batch_size, settings.generator, **({} if table is None else table.load))
        tol = settings.tol
        if tol == "auto":
            reduces_on_plateau = settings.schedule is not None and settings.schedule.reduces_on_plateau
            tol = VALIDATION_TOL if settings.score is not None else PLATEAU_TOL if reduces_on_plateau else None
        self.patience = Patience(tol, settings.n_iter_no_change)
        self.validation = None if settings.score is None else Validation(settings.score)
        self.stopped = False

    def _set_optimizer(self, theta: torch.Tensor, n_features: int, *, by_hand: bool) -> None:
        """Put the optimiser together, and have it go on from where the memory says it was."""
        settings, model, table, memory = self.settings, self.model, self.table, self.memory or {}
        rate = Rate(settings.learning_rate)
        optimizer = self.base = make_optimizer(
            settings.optimizer, model, rate, settings.momentum, settings.optimizer_params, by_hand=by_hand
        )
        if "optimizer" in memory:
            self.base.resume(memory["optimizer"])
        if "order" in memory and settings.generator is not None:
            settings.generator.set_state(memory["order"])
        dtype = self.rows.y.dtype
        transform = None if table is None else table.transform.to(dtype)
        if transform is not None:
            optimizer = Preconditioned(optimizer, model, transform)
        if settings.penalty is not None:
            penalty = settings.penalty if table is None else table.penalty_in_units(settings.penalty)
            optimizer = ProximalGradient(optimizer, model, penalty.to(dtype), n_features, rate, transform)
        self.scheduled = self.averaged = None
        if settings.schedule is not None:
            counts = memory.get("n_steps", 0), memory.get("n_epochs", 0)
            optimizer = self.scheduled = Scheduled(optimizer, rate, settings.schedule, *counts)
        if settings.average not in ("auto", False):
            burn_in = (int(settings.average) - 1) // self.batch_size
            optimizer = self.averaged = PolyakAveraging(optimizer, model, burn_in, memory.get("n_averaged", 0))
            self.averaged.mean.copy_(theta)
        self.optimizer = optimizer

    def run(self) -> Fit:
        """Train."""
        settings, n_steps = self.settings, self.batches.steps_per_epoch
        curve, interrupted = descend(
            self.model,
            self.loss,
            self.optimizer,
            self.batches,
            units=self.units,
            max_iter=settings.max_iter,
            after_epoch=self._after_epoch,
        )
        if interrupted and torch.equal(self.model.theta(), self.start):
            raise KeyboardInterrupt  # nothing was learnt that would be worth keeping
        cut_short = interrupted or self.stopped
        best = None if self.validation is None else self.validation.best
        converged = not cut_short and (self.patience.tol is None or self.patience.is_exhausted)
        return Fit(
            self._theta() if best is None else best,
            len(curve) * n_steps,
            curve,
            converged=converged,
            n_unfinished=0 if converged else self.rows.n_columns,
            worsened=bool(curve) and curve[-1] > 2 * min(self.loss_before, curve[0]),
            plan=_plan(settings, self.rows, self.batch_size),
            scores=None if self.validation is None else self.validation.scores,
            cut_short=cut_short,
            interrupted=interrupted,
            memory=None if self.memory is None else self._remember(),
        )

    def _theta(self) -> torch.Tensor:
        """Return where training is, in the units of the data."""
        theta = self.model.theta() if self.averaged is None else self.averaged.mean
        if self.table is None:
            return theta
        return self.table.unstandardize(theta.double(), fit_intercept=self.settings.fit_intercept)

    def _after_epoch(self, epoch: int, loss: float) -> bool:
        """Say whether to stop, after all that goes by epochs has been seen to."""
        measured = loss if self.validation is None else -self.validation.note(self._theta())
        self.stopped = self.settings.after_epoch(epoch, loss, self._theta)
        done = self.patience.exhausted(measured)
        if self.scheduled is not None:
            self.scheduled.end_epoch()
            if done and self.scheduled.leaves_plateau():
                self.patience.renew()
                done = False
        return done or self.stopped

    def _remember(self) -> dict:
        """Return what the next table of a stream goes on from."""
        memory = {"optimizer": self.base.state()}
        if self.averaged is not None:
            memory |= {"last": self.model.theta(), "n_averaged": self.averaged.n_steps}
        if self.settings.generator is not None:
            memory["order"] = self.settings.generator.get_state()
        return memory


def _plan(settings: Settings, rows: Rows, batch_size: int) -> dict:
    return {
        "backend": (settings.backend, "as asked, or the fastest that can do what is asked"),
        "learning_rate": (settings.learning_rate, "textbook mode: exactly the number given"),
        "batch_size": (batch_size, "rows a step; textbook mode takes 32 unless told otherwise"),
        "conditioning": (
            None if settings.conditioning == "auto" else settings.conditioning,
            "textbook mode takes the features as they are unless told otherwise",
        ),
        "average": (
            settings.average not in ("auto", False),
            "textbook mode keeps the last weights unless told otherwise",
        ),
        "dtype": (str(rows.y.dtype).removeprefix("torch."), "as the data, or as asked"),
    }
