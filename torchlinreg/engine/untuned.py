"""Untuned mode: look at the table, choose everything, descend by mini-batches, then refine down to the optimum."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from torchlinreg.engine.batches import MiniBatches, Rows
from torchlinreg.engine.conditioning import (
    Conditioning,
    choose_method,
    condition_by_sketch,
    condition_exactly,
    is_exact,
)
from torchlinreg.engine.descent import train_epoch
from torchlinreg.engine.fitting import Fit, Settings, no_graph
from torchlinreg.engine.losses import Loss, total
from torchlinreg.engine.models import MODELS, Model
from torchlinreg.engine.newton import minimise
from torchlinreg.engine.optimizers import SGD, Averaged, Penalised, Preconditioned, Rate
from torchlinreg.engine.plan import DESCENT_SHARE, step_size, untuned_batch
from torchlinreg.engine.refinement import FullPass, Refined, refine
from torchlinreg.engine.transforms import Transform

AUTO_TOL = {torch.float32: 1e-10, torch.float64: 1e-20}
AUTO_TOL_OF_CURVES = 1e-16  # at best, where the loss is no parabola: the end of what float64 can tell, or
AUTO_TOL_OF_JUMPS = 1e-6  # where its slope jumps, which the descent only comes close to
FLOOR = 1e-24  # squared relative error below which nothing is left to gain in float64
SAMPLE_ROWS = 1000
ROUGHLY = 1e-3  # known is the loss that excess is measured in
WORTHWHILE = 4.0  # times less excess loss, for another round of refinement
LARGE_PARTS = 100.0  # times the spread of the targets

SKETCHES = {
    "table": "found from all {n} rows",
    "sample": "found from a random sample of rows, as the table is large",
    "fold": "found from all {n} rows folded with random signs, as a sample did not speak for the table",
}


def fit_untuned(rows: Rows, settings: Settings, start: torch.Tensor | None = None) -> Fit:
    """Find the optimum from the raw table, whatever its scales.

    Parameters
    ----------
    rows : Rows
        In any precision.
    settings : Settings
    start : torch.Tensor of shape (n_features + fit_intercept, n_columns), optional
        Near the optimum, if anybody knows where that is.
    """
    with no_graph(settings, by_hand=True):
        return _Untuned(rows, settings, start).fit()


class _StoppedError(Exception):
    """Whoever is told of each pass has seen enough."""


class _Untuned:
    """One fit: the table, and the account of what is done with it."""

    def __init__(self, rows: Rows, settings: Settings, start: torch.Tensor | None):
        self.rows, self.settings, self.start = rows, settings, start
        self.loss, self.penalty = settings.loss, settings.penalty
        self.kinked = self.penalty is not None and not self.penalty.is_smooth
        self.round = self.loss.is_quadratic and not self.kinked
        method = "scale" if self.kinked and settings.conditioning == "auto" else settings.conditioning
        self.method = choose_method(method, rows, least_norm=self.round and self.penalty is None)
        tol = AUTO_TOL[settings.dtype]
        if not self.loss.is_quadratic:
            tol = max(tol, AUTO_TOL_OF_CURVES if self.loss.is_smooth else AUTO_TOL_OF_JUMPS)
        self.tol = tol if settings.tol in ("auto", None) else settings.tol
        self.limit = max(2, settings.max_iter)  # a step means nothing without a look at where it led
        self.curve: list[float] = []
        self.n_steps = 0
        self.passing: FullPass | None = None
        self.best: Callable[[], torch.Tensor] | None = None
        """Returns theta of the best pass so far, in the units of the data."""
        self.plan = {"backend": (settings.backend, "as asked, or the fastest that can do what is asked")}

    def fit(self) -> Fit:
        """Find the optimum or, if somebody ends that early, what was best until then."""
        try:
            return self._fit()
        except (KeyboardInterrupt, _StoppedError) as reason:
            if self.best is None:
                raise
            return Fit(
                self.best(),
                self.n_steps,
                self.curve,
                converged=False,
                needs_double=True,
                plan=self.plan,
                cut_short=True,
                interrupted=isinstance(reason, KeyboardInterrupt),
            )

    def _fit(self) -> Fit:
        table = self._table("table" if is_exact(self.rows) else "sample")
        theta = self._begin(table)
        refine = self._refine if self.round else self._bend
        slow = not self._trusted(table)
        if not slow:
            theta = self._descend(table, theta) if self.start is None else theta
            refined = refine(table, theta)
            slow = table.sketch == "sample" and refined.is_slow
        if slow:
            table = self._table("fold")
            refined = refine(table, theta)
        theta = refined.theta
        if table.transform.rank < table.n_features and self.penalty is None:
            theta = self._least_norm(table, theta)
        enough = max(self.tol, (8 * torch.finfo(table.rows.y.dtype).eps * table.condition) ** 2)
        self._explain(table, refined)
        theta = table.unwind(theta, fit_intercept=self.settings.fit_intercept)
        return Fit(
            theta,
            self.n_steps,
            self.curve,
            converged=refined.excess <= enough,
            n_unfinished=int((~(refined.excesses <= enough)).sum()),
            optimality_gap=refined.excess,
            needs_double=self._needs_double(table, theta),
            plan=self.plan,
        )

    def _begin(self, table: Conditioning) -> torch.Tensor:
        """Return the start, in the units of the table."""
        if self.start is None:
            return table.shift.new_zeros(table.n_features + self.settings.fit_intercept, self.rows.n_columns)
        return table.wind(self.start, fit_intercept=self.settings.fit_intercept)

    def _table(self, kind: str) -> Conditioning:
        """Condition the table, and bring loss and penalty to its units."""
        settings = self.settings
        rows = self.rows
        if rows.weight is not None:
            # What is round for the mean of the weights is nearly so for each of them
            rows = replace(rows, weight=rows.weight.mean(1, keepdim=True))
        if kind == "table":
            table = condition_exactly(rows, self.method, fit_intercept=settings.fit_intercept)
        else:
            # The same seed each time: the sample, and with it the shift, stays the same
            generator = torch.Generator("cpu").manual_seed(settings.seed)
            table = condition_by_sketch(
                rows, self.method, kind, settings.dtype, fit_intercept=settings.fit_intercept, generator=generator
            )
        if rows.weight is not None:
            table = replace(table, rows=replace(table.rows, weight=self.rows.weight.to(table.rows.y)))
        self.loss = settings.loss.rescaled(table.y_shift.to(table.rows.y), table.y_scale.to(table.rows.y))
        if settings.penalty is None:
            return table
        self.penalty = table.penalty_in_units(settings.penalty)
        transform = table.transform
        if transform.rank < table.n_features:
            # Of the weights that predict the same, the penalty has its own choice
            transform = replace(transform, weights=table.minimum_norm(transform.weights))
        if self.round:
            transform = transform.for_ridge(self.penalty.bend / self.loss.curvature)
        return replace(table, transform=transform)

    def _full_pass(self, table: Conditioning, loss: Loss) -> FullPass:
        self.passing = FullPass(self._model, loss, table.rows, table.load, self.penalty)
        return self.passing

    def _trusted(self, table: Conditioning) -> bool:
        """Whether to go by this table: a sample of lower rank than the columns may just have missed something."""
        return table.sketch != "sample" or table.transform.rank == table.n_features

    def _model(self, theta: torch.Tensor, backend: str | None = None) -> Model:
        return MODELS[backend or self.settings.backend](theta, fit_intercept=self.settings.fit_intercept)

    def _note(self, column_losses: torch.Tensor, table: Conditioning, theta: torch.Tensor | None = None) -> None:
        """Take note of an epoch that led to theta, or of a pass, and tell whoever wants to know."""
        self.curve.append((column_losses * table.y_scale.square()).sum().item())
        # Smooth stand-ins for a loss cannot be compared; the latest is the closest
        if not self.round or self.curve[-1] <= min(self.curve):
            theta = self.passing.best if theta is None else theta
            self.best = partial(table.unwind, theta.double(), fit_intercept=self.settings.fit_intercept)
        if self.settings.after_epoch(len(self.curve), self.curve[-1], self.best):
            raise _StoppedError

    def _descend(self, table: Conditioning, theta: torch.Tensor) -> torch.Tensor:
        """Return where mini-batch SGD with tail averaging ends; the start, if it did not get closer."""
        n_rows = len(table.rows)
        batch_size = untuned_batch(self.settings.batch_size, n_rows)
        given = not isinstance(self.settings.batch_size, str)
        if table.sketch == "table" and not (given and batch_size < n_rows):
            self.plan["batch_size"] = (n_rows, "steps of all rows, as the table is small, or wide and sparse")
            return theta
        if self.kinked or self.loss.by_autograd or not self.loss.is_smooth:
            self.plan["batch_size"] = (n_rows, "steps of all rows: others do not suit this loss or penalty")
            return theta
        rate = step_size(table, batch_size)
        generator = torch.Generator("cpu").manual_seed(self.settings.seed + 1)
        n_draws = n_rows if given else max(batch_size, n_rows // DESCENT_SHARE)
        batches = MiniBatches(table.rows, batch_size, generator, n_draws=n_draws, **table.load)
        dtype = table.rows.y.dtype
        model = self._model(theta.to(dtype))
        step = Rate(rate / self.settings.loss.curvature)
        optimizer = Preconditioned(SGD(model, step), model, table.transform.to(dtype))
        if self.penalty is not None:
            optimizer = Penalised(optimizer, model, self.penalty.to(dtype), table.n_features, step)
        if self.settings.average:
            optimizer = Averaged(optimizer, model, burn_in=batches.steps_per_epoch // 2)
        losses = train_epoch(model, self.loss, optimizer, batches)
        self.n_steps += batches.steps_per_epoch
        found = optimizer.mean if self.settings.average else model.theta()
        fresh = MiniBatches(table.rows, batch_size, generator, n_draws=batch_size, **table.load)
        good = self._is_closer(table, found, fresh)
        self._explain_descent(batches, rate, good=good)
        self._note(losses, table, found if good else theta)
        return found.double() if good else theta

    def _is_closer(self, table: Conditioning, theta: torch.Tensor, batches: MiniBatches) -> bool:
        """Whether theta predicts fresh rows better than nothing does."""
        (block,) = batches
        predicted = self._model(theta).predict(block.batches[0])
        y, weight = block.rows.y, block.rows.weight
        reached, before = (total(self.loss, p, y, weight) for p in (predicted, torch.zeros_like(predicted)))
        return bool((reached <= before).all())

    def _refine(self, table: Conditioning, theta: torch.Tensor) -> Refined:
        """Go on from theta, and again from where that got stuck in rounding, as long as it helps."""
        refined = Refined(theta, torch.full_like(theta[0], torch.inf), 0, is_slow=True)
        before = float("inf")
        while refined.excess > self.tol and refined.excess <= before / WORTHWHILE and len(self.curve) < self.limit:
            before = refined.excess
            refined = refine(
                self._full_pass(table, self.loss),
                table.transform,
                refined.theta,
                curvature=self.loss.curvature,
                floor=FLOOR if table.sketch == "table" and self.method == "whiten" else self.tol,
                max_iter=self.limit - len(self.curve),
                impatient=table.sketch == "sample" and self.method == "whiten",
                after_pass=lambda losses: self._note(losses, table),
            )
            self.n_steps += refined.n_passes
            if table.sketch == "sample" and refined.is_slow:
                break
        return refined

    def _bend(self, table: Conditioning, theta: torch.Tensor) -> Refined:
        """Go on from theta by steps that follow the bends of the loss and the kinks of the penalty."""
        unit = self._best_constant(table)
        theta, excess, n_passes = minimise(
            partial(self._full_pass, table),
            self.loss,
            table.transform,
            theta,
            unit=unit,
            tol=self.tol,
            max_iter=self.limit - len(self.curve),
            seed=self.settings.seed,
            after_pass=lambda losses: self._note(losses, table),
        )
        self.n_steps += n_passes
        return Refined(theta, excess / unit, n_passes, is_slow=False)

    def _best_constant(self, table: Conditioning) -> torch.Tensor:
        """Return the loss of the best constant prediction, which excess is measured in."""
        y, weight = table.rows.y, table.rows.weight
        rows = replace(table.rows, X=y.new_empty(len(y), 0))
        if weight is None or weight.shape[1] == 1:
            rows = replace(rows, models=1)  # which have the same one
        none, theta = table.shift[:0], table.shift.new_zeros(int(self.settings.fit_intercept), rows.n_columns)

        def full_pass(loss: Loss) -> FullPass:
            backend = "autograd" if loss.by_autograd else "analytic"
            return FullPass(partial(self._model, backend=backend), loss, rows, {})

        if self.settings.fit_intercept:
            theta, _, _ = minimise(
                full_pass,
                self.loss,
                Transform(none, none),
                theta,
                unit=full_pass(self.loss)(theta)[0],
                tol=ROUGHLY,
                max_iter=self.limit,
                seed=self.settings.seed,
                after_pass=lambda losses: None,
            )
        value = full_pass(self.loss)(theta)[0]
        return torch.where(value > 0, value, 1.0)

    def _least_norm(self, table: Conditioning, theta: torch.Tensor) -> torch.Tensor:
        """Of the many answers choose the smallest, and mend what rounding the change cost the predictions."""
        theta = table.minimum_norm(theta)
        if not self.round:
            return theta
        gradient = self._full_pass(table, self.loss)(theta)[1]
        return theta - table.transform(table.transform.pull_back(gradient)) / self.loss.curvature

    def _needs_double(self, table: Conditioning, theta: torch.Tensor) -> bool:
        """Whether the parts of a prediction are so much larger than what they leave that single precision loses it."""
        sample = self.rows.X[:: max(1, len(self.rows.X) // SAMPLE_ROWS)].abs().to(theta)
        parts = (sample @ theta[: table.n_features].abs()).amax(0) + theta[table.n_features :].abs()
        return bool((parts > LARGE_PARTS * table.y_scale).any())

    def _explain_descent(self, batches: MiniBatches, rate: float, *, good: bool) -> None:
        self.plan["batch_size"] = (batches.batch_size, "rows a step: many beside the directions, few beside the table")
        self.plan["learning_rate"] = (rate, "in the conditioned variables: m / (b + (m - 1) e) for m rows a step")
        self.plan["average"] = (bool(self.settings.average), "of the weights after the second half of the steps")
        outcome = "drawn at random" if good else "drawn at random, but the steps diverged and were discarded"
        self.plan["descent_rows"] = (batches.n_rows, outcome)

    def _explain(self, table: Conditioning, refined: Refined) -> None:
        sketch = SKETCHES[table.sketch].format(n=len(table.rows))
        self.plan["conditioning"] = (
            self.method,
            f"directions {sketch}" if self.method == "whiten" else f"scale {sketch}",
        )
        self.plan["condition_number"] = (table.condition, "of the centred and scaled columns, estimated")
        self.plan["rank"] = (table.transform.rank, f"independent columns of {table.n_features}")
        dtype = str(table.rows.y.dtype).removeprefix("torch.")
        wider = table.rows.y.dtype != self.settings.dtype
        self.plan["dtype"] = (dtype, "wider than asked, for accuracy" if wider else "as the data, or as asked")
        shifted = not table.rows.is_sparse and (table.sketch == "table" or "shift" in table.load)
        where = (
            "once" if table.sketch == "table" else "as they are read: some lie far from zero, or need more precision"
        )
        self.plan["centring"] = (shifted, f"columns are centred {where}" if shifted else "done in the algebra")
        how = "conjugate gradients, from the true residual each time" if self.round else "Newton steps"
        self.plan["full_passes"] = (refined.n_passes, how)
