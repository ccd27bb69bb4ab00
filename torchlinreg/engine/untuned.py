"""Untuned mode: look at the table, choose everything, descend by mini-batches, then refine down to the optimum."""

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
from torchlinreg.engine.losses import total
from torchlinreg.engine.models import MODELS
from torchlinreg.engine.optimizers import SGD, Averaged, Preconditioned
from torchlinreg.engine.plan import DESCENT_SHARE, step_size, untuned_batch
from torchlinreg.engine.refinement import FullPass, Refined, refine

AUTO_TOL = {torch.float32: 1e-10, torch.float64: 1e-20}
FLOOR = 1e-24  # squared relative error below which nothing is left to gain in float64
SAMPLE_ROWS = 1000
WORTHWHILE = 4.0  # times less excess loss, for another round of refinement
LARGE_PARTS = 100.0  # times the spread of the targets

SKETCHES = {
    "table": "found from all {n} rows",
    "sample": "found from a random sample of rows, as the table is large",
    "fold": "found from all {n} rows folded with random signs, as a sample did not speak for the table",
}


def fit_untuned(rows: Rows, settings: Settings) -> Fit:
    """Find the optimum from the raw table, whatever its scales.

    Parameters
    ----------
    rows : Rows
        In any precision.
    settings : Settings
    """
    with no_graph(settings, by_hand=True):
        return _Untuned(rows, settings).fit()


class _Untuned:
    """One fit: the table, and the account of what is done with it."""

    def __init__(self, rows: Rows, settings: Settings):
        self.rows, self.settings = rows, settings
        self.method = choose_method(settings.conditioning, *rows.X.shape)
        self.tol = AUTO_TOL[settings.dtype] if settings.tol in ("auto", None) else settings.tol
        self.limit = max(2, settings.max_iter)  # a step means nothing without a look at where it led
        self.curve: list[float] = []
        self.n_steps = 0
        self.plan = {"backend": (settings.backend, "as asked, or the fastest that can do what is asked")}

    def fit(self) -> Fit:
        table = self._table("table" if is_exact(*self.rows.X.shape) else "sample")
        theta = table.shift.new_zeros(table.n_features + self.settings.fit_intercept, self.rows.y.shape[1])
        slow = not self._trusted(table)
        if not slow:
            refined = self._refine(table, self._descend(table, theta))
            slow = table.sketch == "sample" and refined.is_slow
        if slow:
            table = self._table("fold")
            refined = self._refine(table, theta)
        theta = refined.theta
        if table.transform.rank < table.n_features:
            theta = self._least_norm(table, theta)
        reachable = (8 * torch.finfo(table.rows.y.dtype).eps * table.condition) ** 2
        self._explain(table, refined)
        theta = table.unwind(theta, fit_intercept=self.settings.fit_intercept)
        return Fit(
            theta,
            self.n_steps,
            self.curve,
            converged=refined.excess <= max(self.tol, reachable),
            optimality_gap=refined.excess,
            needs_double=self._needs_double(table, theta),
            plan=self.plan,
        )

    def _table(self, kind: str) -> Conditioning:
        if kind == "table":
            return condition_exactly(self.rows, self.method, fit_intercept=self.settings.fit_intercept)
        # The same seed each time: the sample, and with it the shift, stays the same
        generator = torch.Generator("cpu").manual_seed(self.settings.seed)
        return condition_by_sketch(
            self.rows,
            self.method,
            kind,
            self.settings.dtype,
            fit_intercept=self.settings.fit_intercept,
            generator=generator,
        )

    def _trusted(self, table: Conditioning) -> bool:
        """Whether to go by this table: a sample of lower rank than the columns may just have missed something."""
        return table.sketch != "sample" or table.transform.rank == table.n_features

    def _model(self, theta: torch.Tensor):
        return MODELS[self.settings.backend](theta, fit_intercept=self.settings.fit_intercept)

    def _note(self, column_losses: torch.Tensor, table: Conditioning) -> None:
        self.curve.append((column_losses * table.y_scale.square()).sum().item())
        self.settings.report(len(self.curve), self.curve[-1])

    def _descend(self, table: Conditioning, theta: torch.Tensor) -> torch.Tensor:
        """Return where mini-batch SGD with tail averaging ends; the start, if it did not get closer."""
        n_rows = len(table.rows)
        batch_size = untuned_batch(self.settings.batch_size, n_rows)
        given = not isinstance(self.settings.batch_size, str)
        if table.sketch == "table" and not (given and batch_size < n_rows):
            self.plan["batch_size"] = (n_rows, "one step of all rows is the answer, as the conditioning is exact")
            return theta
        rate = step_size(table, batch_size)
        generator = torch.Generator("cpu").manual_seed(self.settings.seed + 1)
        n_draws = n_rows if given else max(batch_size, n_rows // DESCENT_SHARE)
        batches = MiniBatches(table.rows, batch_size, generator, n_draws=n_draws, **table.load)
        dtype = table.rows.y.dtype
        model = self._model(theta.to(dtype))
        sgd = SGD(model, rate / self.settings.loss.curvature)
        optimizer = Preconditioned(sgd, model, table.transform.to(dtype))
        if self.settings.average:
            optimizer = Averaged(optimizer, model, burn_in=batches.steps_per_epoch // 2)
        losses = train_epoch(model, self.settings.loss, optimizer, batches)
        self._note(losses, table)
        self.n_steps += batches.steps_per_epoch
        found = optimizer.mean if self.settings.average else model.theta()
        fresh = MiniBatches(table.rows, batch_size, generator, n_draws=batch_size, **table.load)
        good = self._is_closer(table, found, fresh)
        self._explain_descent(batches, rate, good=good)
        return found.double() if good else theta

    def _is_closer(self, table: Conditioning, theta: torch.Tensor, batches: MiniBatches) -> bool:
        """Whether theta predicts fresh rows better than nothing does."""
        (block,) = batches
        predicted = self._model(theta).predict(block.batches[0])
        y, weight = block.rows.y, block.rows.weight
        reached, before = (total(self.settings.loss, p, y, weight) for p in (predicted, torch.zeros_like(y)))
        return bool((reached <= before).all())

    def _refine(self, table: Conditioning, theta: torch.Tensor) -> Refined:
        """Go on from theta, and again from where that got stuck in rounding, as long as it helps."""
        refined = Refined(theta, float("inf"), 0, is_slow=True)
        before = float("inf")
        while refined.excess > self.tol and refined.excess <= before / WORTHWHILE and len(self.curve) < self.limit:
            before = refined.excess
            refined = refine(
                FullPass(self._model, self.settings.loss, table.rows, table.load),
                table.transform,
                refined.theta,
                curvature=self.settings.loss.curvature,
                floor=FLOOR if table.sketch == "table" else self.tol,
                max_iter=self.limit - len(self.curve),
                impatient=table.sketch == "sample" and self.method == "whiten",
                after_pass=lambda losses: self._note(losses, table),
            )
            self.n_steps += refined.n_passes
            if table.sketch == "sample" and refined.is_slow:
                break
        return refined

    def _least_norm(self, table: Conditioning, theta: torch.Tensor) -> torch.Tensor:
        """Of the many answers choose the smallest, and mend what rounding the change cost the predictions."""
        theta = table.minimum_norm(theta)
        gradient = FullPass(self._model, self.settings.loss, table.rows, table.load)(theta)[1]
        return theta - table.transform(table.transform.pull_back(gradient)) / self.settings.loss.curvature

    def _needs_double(self, table: Conditioning, theta: torch.Tensor) -> bool:
        """Whether the parts of a prediction are so much larger than what they leave that single precision loses it."""
        sample = self.rows.X[:: max(1, len(self.rows.X) // SAMPLE_ROWS)]
        parts = sample.abs().amax(0).to(theta) @ theta[: table.n_features].abs() + theta[table.n_features :].abs()
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
        shifted = table.sketch == "table" or "shift" in table.load
        where = (
            "once" if table.sketch == "table" else "as they are read: some lie far from zero, or need more precision"
        )
        self.plan["centring"] = (shifted, f"columns are centred {where}" if shifted else "done in the algebra")
        self.plan["full_passes"] = (refined.n_passes, "conjugate gradients, from the true residual each time")
