"""Untuned mode: look at the table, choose everything, descend by mini-batches, then refine down to the optimum."""

import math

import torch

from torchlinreg.engine.batches import MiniBatches, Rows
from torchlinreg.engine.conditioning import (
    Conditioning,
    condition_by_sketch,
    condition_exactly,
    is_small,
)
from torchlinreg.engine.descent import train_epoch
from torchlinreg.engine.fitting import Fit, Settings, no_graph
from torchlinreg.engine.models import MODELS
from torchlinreg.engine.optimizers import WhitenedSGD
from torchlinreg.engine.refinement import FullPass, Refined, refine

AUTO_TOL = {torch.float32: 1e-10, torch.float64: 1e-18}
FLOOR = 1e-24  # squared relative error below which nothing is left to gain in float64
SAMPLE_ROWS = 1000
LARGE_PARTS = 100.0  # times the spread of the targets
DESCENT_BATCH = 4096
DESCENT_SHARE = 8  # one row in so many is learnt from by mini-batches before the full passes


def fit_untuned(rows: Rows, settings: Settings) -> Fit:
    """Find the optimum from the raw table, whatever its scales.

    Parameters
    ----------
    rows : Rows
        Targets in any precision; features in the one to answer in.
    settings : Settings
    """
    with no_graph(settings, by_hand=True):
        return _Untuned(rows, settings).fit()


class _Untuned:
    """One fit: the table, and the account of what is done with it."""

    def __init__(self, rows: Rows, settings: Settings):
        self.rows, self.settings = rows, settings
        self.curve: list[float] = []
        self.n_steps = 0
        self.plan: dict[str, tuple[object, str]] = {}
        self.tol = AUTO_TOL[rows.X.dtype] if settings.tol in ("auto", None) else settings.tol
        self.seed = 0 if settings.generator is None else settings.generator.initial_seed()

    def fit(self) -> Fit:
        table = self._first_table()
        theta = table.transform.new_zeros(len(table.transform), self.rows.y.shape[1])
        if table.sketch == "sample" and table.rank == table.n_features:
            theta = self._descend(table)
            refined = self._refine(table, theta)
            if refined.is_slow:
                table = self._table("fold")
                refined = self._refine(table, refined.theta)
        else:
            table = table if table.sketch == "table" else self._table("fold")
            refined = self._refine(table, theta)
        theta = refined.theta
        if table.rank < table.n_features:
            theta = self._least_norm(table, theta)
        gap = refined.squared_gradient / self.settings.loss.curvature
        reachable = (8 * torch.finfo(table.rows.y.dtype).eps * table.condition) ** 2
        theta = table.unwind(theta, fit_intercept=self.settings.fit_intercept)
        return Fit(
            theta,
            self.n_steps,
            self.curve,
            converged=gap <= max(self.tol, reachable),
            optimality_gap=gap,
            needs_double=self._needs_double(table, theta),
            plan=self.plan,
        )

    def _first_table(self) -> Conditioning:
        if is_small(*self.rows.X.shape):
            return condition_exactly(self.rows, fit_intercept=self.settings.fit_intercept)
        return self._table("sample")

    def _table(self, kind: str) -> Conditioning:
        # The same seed each time: the sample, and with it the shift, stays the same
        generator = torch.Generator().manual_seed(self.seed)
        return condition_by_sketch(self.rows, kind, fit_intercept=self.settings.fit_intercept, generator=generator)

    def _needs_double(self, table: Conditioning, theta: torch.Tensor) -> bool:
        """Whether the parts of a prediction are so much larger than what they leave that single precision loses it."""
        sample = self.rows.X[:: max(1, len(self.rows.X) // SAMPLE_ROWS)]
        parts = sample.abs().amax(0).double() @ theta[: table.n_features].abs()
        return bool((parts > LARGE_PARTS * table.y_scale).any())

    def _model(self, theta: torch.Tensor):
        return MODELS[self.settings.backend](theta, fit_intercept=self.settings.fit_intercept)

    def _transform(self, table: Conditioning) -> torch.Tensor:
        return table.transform / self.settings.loss.curvature**0.5

    def _note(self, column_losses: torch.Tensor, table: Conditioning) -> None:
        self.curve.append((column_losses * table.y_scale.square()).sum().item())
        self.settings.report(len(self.curve), self.curve[-1])

    def _descend(self, table: Conditioning) -> torch.Tensor:
        """Mini-batch SGD with tail averaging; from where it ends, or from zero if it did not go well."""
        transform = self._transform(table)
        start = transform.new_zeros(len(transform), table.rows.y.shape[1])
        batch = DESCENT_BATCH
        rate = batch / (table.heaviness + (batch - 1) * table.excess)
        n_draws = len(table.rows) // DESCENT_SHARE
        generator = torch.Generator().manual_seed(self.seed + 1)
        batches = MiniBatches(table.rows, batch, generator, n_draws=n_draws, **table.load)
        model = self._model(start.to(table.rows.y.dtype))
        optimizer = WhitenedSGD(model, transform.to(table.rows.y.dtype), rate, burn_in=batches.steps_per_epoch // 2)
        losses = train_epoch(model, self.settings.loss, optimizer, batches)
        self.n_steps += batches.steps_per_epoch
        self._note(losses, table)
        theta = transform @ optimizer.average.double()
        return theta if math.isfinite(theta.sum().item()) else start

    def _refine(self, table: Conditioning, theta: torch.Tensor) -> Refined:
        refined = refine(
            FullPass(self._model, self.settings.loss, table.rows, table.load),
            self._transform(table),
            theta,
            floor=FLOOR if table.sketch == "table" else self.tol * self.settings.loss.curvature,
            max_iter=self.settings.max_iter - len(self.curve),
            after_pass=lambda losses: self._note(losses, table),
        )
        self.n_steps += refined.n_passes
        return refined

    def _least_norm(self, table: Conditioning, theta: torch.Tensor) -> torch.Tensor:
        """Of the many answers choose the smallest, and mend what rounding the change cost the predictions."""
        theta = table.minimum_norm(theta)
        transform = self._transform(table)
        full_pass = FullPass(self._model, self.settings.loss, table.rows, table.load)
        return theta - transform @ (transform.T @ full_pass(theta)[1])
