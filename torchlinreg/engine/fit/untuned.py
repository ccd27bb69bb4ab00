"""Untuned mode: look at the table, choose everything, descend by mini-batches, then refine down to the optimum."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from torchlinreg.engine.data.batches import MiniBatches, Rows
from torchlinreg.engine.fit.plan import DESCENT_SHARE, descent_entries, step_size, table_entries, untuned_batch
from torchlinreg.engine.fit.robust_scale import ScaleSearch
from torchlinreg.engine.fit.settings import Fit, Settings, no_graph, refuse_infinite
from torchlinreg.engine.objective.linear_model import MODELS, Model
from torchlinreg.engine.objective.losses import Loss, total
from torchlinreg.engine.optimality.duality_gap import optimality_gap
from torchlinreg.engine.optimality.rounding import moved_predictions, needs_double, rounding_excess
from torchlinreg.engine.preconditioning.conditioning import (
    Conditioning,
    choose_method,
    condition_by_sketch,
    condition_exactly,
    is_exact,
    may_be_filled,
)
from torchlinreg.engine.preconditioning.transforms import EPS, Transform
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import FullPass, Solution, refine
from torchlinreg.engine.solvers.full_batch.proximal_newton import is_narrow, minimise
from torchlinreg.engine.solvers.minibatch.loop import train_epoch
from torchlinreg.engine.solvers.minibatch.optimizers import SGD, PolyakAveraging, Preconditioned, ProximalGradient, Rate

AUTO_TOL = {torch.float32: 1e-10, torch.float64: 1e-20}
AUTO_TOL_OF_CURVES = 1e-16  # at best, where the loss is no parabola: the end of what float64 can tell, or
AUTO_TOL_OF_JUMPS = 1e-6  # where its slope jumps, which the descent only comes close to
AIM = 0.5  # share of it that the descent is content with, as what bounds the minimum is off by something, too
FLOOR = 1e-24  # squared relative error below which nothing is left to gain in float64
ROUGHLY = 1e-3  # known is the loss that excess is measured in
UNEVEN = 1e8  # times that some weights, of columns at one scale, are dearer than others
ROUNDINGS = 64  # of targets with a spread of one, that a gradient may be wrong by
WORTHWHILE = 4.0  # times less excess loss, for another round of refinement
ENOUGH_OF_BOUNDS = {
    torch.float32: 1e-8,
    torch.float64: 1e-10,
}  # gap to a lower bound that is good enough: the bound itself is hardly sharper,
ENOUGH_FOR_WIDE = 1e-8  # least of all where there are too many directions for Newton steps to it, or some were dropped


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
    with no_graph(settings, rows, by_hand=True):
        return _Untuned(rows, settings, start).fit()


class _StoppedError(Exception):
    """Whoever is told of each pass has seen enough."""


class _Untuned:
    """One fit: the table, and the account of what is done with it."""

    def __init__(self, rows: Rows, settings: Settings, start: torch.Tensor | None):
        self.rows, self.settings, self.start = rows, settings, start
        self.loss, self.penalty = settings.loss, settings.penalty
        self.has_l1 = self.penalty is not None and not self.penalty.is_smooth
        self.round = self.loss.is_quadratic and not self.has_l1
        method = "scale" if self.has_l1 and settings.conditioning == "auto" else settings.conditioning
        self.method = choose_method(method, rows, least_norm=self.round and self.penalty is None)
        tol = AUTO_TOL[settings.dtype]
        if not self.loss.is_quadratic:
            tol = max(tol, AUTO_TOL_OF_CURVES if self.loss.is_smooth else AUTO_TOL_OF_JUMPS)
        self.tol = tol if settings.tol in ("auto", None) else settings.tol
        self.limit = settings.max_iter
        self.curve: list[float] = []
        self.n_steps = 0
        self.passing: FullPass | None = None
        self.scale: ScaleSearch | None = None
        """Of the residuals, where the loss goes by one that is found with the weights."""
        self.best: Callable[[], torch.Tensor] | None = None
        """Returns theta of the best pass so far, in the units of the data."""
        self.lowest = float("inf")
        """Its loss."""
        self.best_scale: torch.Tensor | None = None
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
                scale=self.best_scale,
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
        how = "conjugate gradients, from the true residual each time" if self.round else "Newton steps"
        self.plan |= table_entries(table, self.method, self.settings.dtype, self.scale)
        self.plan["full_passes"] = (refined.n_passes, how)
        finished = refined.excesses <= refined.resolution.clamp(min=self.tol)
        theta = table.unstandardize(refined.theta, fit_intercept=self.settings.fit_intercept)
        gap = refined.excesses + self._rounding(table, theta, refined.unit)
        if gap.isnan().any() and not self.loss.by_autograd:
            raise torch.linalg.LinAlgError("the objective is out of the range of float64")
        return Fit(
            theta,
            self.n_steps,
            self.curve,
            converged=bool(finished.all()),
            n_unfinished=int((~finished).sum()),
            optimality_gap=gap.max().item(),
            needs_double=needs_double(self.rows, theta, table.y_scale),
            plan=self.plan,
            scale=self._scale_of_residuals(table),
        )

    def _begin(self, table: Conditioning) -> torch.Tensor:
        """Return the start, in the units of the table."""
        if self.start is None:
            return table.shift.new_zeros(table.n_features + self.settings.fit_intercept, self.rows.n_columns)
        return table.standardize(self.start, fit_intercept=self.settings.fit_intercept)

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
        if settings.loss.finds_scale:
            self.scale = ScaleSearch(settings.loss, table.rows)
            self._go_to_scale()
        if settings.penalty is None:
            return table
        self.penalty = table.penalty_in_units(settings.penalty)
        transform = table.transform
        if not self.round and self.method == "whiten":
            bend = self.penalty.l2.amax(-1) * transform.row_norms.square()
            if bend.max() > UNEVEN * bend.min():
                # Curvature of such a penalty would drown that of the loss in mixtures of the weights
                self.method = "scale"
                return self._table(kind)
        if transform.rank < table.n_features:
            # Of the weights that predict the same, the penalty has its own choice
            transform = replace(transform, weights=table.minimum_norm(transform.weights))
        if self.round:
            transform = transform.for_ridge(self.penalty.l2 / self.loss.lipschitz)
        return replace(table, transform=transform)

    def _go_to_scale(self) -> None:
        """Take the loss at the present scale. Its values do not compare with those at another."""
        self.loss, self.lowest = self.scale.loss, float("inf")

    def _scale_of_residuals(self, table: Conditioning) -> torch.Tensor | None:
        return None if self.scale is None else self.scale.scale * table.y_scale

    def _full_pass(self, table: Conditioning, loss: Loss) -> FullPass:
        self.passing = FullPass(self._model, loss, table.rows, table.load, self.penalty, reported=self.loss)
        return self.passing

    def _trusted(self, table: Conditioning) -> bool:
        """Whether to go by this table: a sample of lower rank than the columns may just have missed something."""
        return table.sketch != "sample" or table.transform.rank == table.n_features

    def _model(self, theta: torch.Tensor, backend: str | None = None) -> Model:
        return MODELS[backend or self.settings.backend](theta, fit_intercept=self.settings.fit_intercept)

    def _note(self, column_losses: torch.Tensor, table: Conditioning, theta: torch.Tensor | None = None) -> None:
        """Take note of an epoch that led to theta, or of a pass, and tell whoever wants to know."""
        self.curve.append((column_losses * table.y_scale.square()).sum().item())
        refuse_infinite(self.settings.loss, self.curve[-1])
        if self.curve[-1] <= self.lowest:
            self.lowest = self.curve[-1]
            theta = self.passing.best if theta is None else theta
            self.best = partial(table.unstandardize, theta.double(), fit_intercept=self.settings.fit_intercept)
            self.best_scale = self._scale_of_residuals(table)
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
        if self.has_l1 or self.loss.by_autograd or not self.loss.is_smooth:
            self.plan["batch_size"] = (n_rows, "steps of all rows: others do not suit this loss or penalty")
            return theta
        rate = step_size(table, batch_size)
        generator = torch.Generator("cpu").manual_seed(self.settings.seed + 1)
        n_draws = n_rows if given else max(batch_size, n_rows // DESCENT_SHARE)
        batches = MiniBatches(table.rows, batch_size, generator, n_draws=n_draws, **table.load)
        dtype = table.rows.y.dtype
        model = self._model(theta.to(dtype))
        step = Rate(rate / self.settings.loss.lipschitz)
        optimizer = Preconditioned(SGD(model, step), model, table.transform.to(dtype))
        if self.penalty is not None:
            optimizer = ProximalGradient(optimizer, model, self.penalty.to(dtype), table.n_features, step)
        if self.settings.average:
            optimizer = PolyakAveraging(optimizer, model, burn_in=batches.steps_per_epoch // 2)
        losses = train_epoch(model, self.loss, optimizer, batches)
        self.n_steps += batches.steps_per_epoch
        found = optimizer.mean if self.settings.average else model.theta()
        fresh = MiniBatches(table.rows, batch_size, generator, n_draws=batch_size, **table.load)
        good = self._is_closer(table, found, fresh)
        self.plan |= descent_entries(batches, rate, average=bool(self.settings.average), good=good)
        self._note(losses, table, found if good else theta)
        return found.double() if good else theta

    def _is_closer(self, table: Conditioning, theta: torch.Tensor, batches: MiniBatches) -> bool:
        """Whether theta predicts fresh rows better than nothing does."""
        (block,) = batches
        predicted = self._model(theta).predict(block.batches[0])
        y, weight = block.rows.y, block.rows.weight
        reached, before = (total(self.loss, p, y, weight) for p in (predicted, torch.zeros_like(predicted)))
        return bool((reached <= before).all())

    def _refine(self, table: Conditioning, theta: torch.Tensor) -> Solution:
        """Go on from theta, and again from where that got stuck in rounding, as long as it helps."""
        full_pass, curvature = self._full_pass(table, self.loss), self.loss.lipschitz
        theta, best = self._answer(table, theta), None
        n_passes, before, flattest, is_slow = 0, float("inf"), 1.0, False
        while True:
            losses, gradient = full_pass(theta)
            n_passes += 1
            if len(self.curve) < self.limit:
                self._note(losses, table)
            excesses = table.transform.rmatvec(gradient / curvature).square().sum(0) / flattest
            if self.penalty is not None and table.span is not None:
                # What the penalty asks for in directions that were taken for none
                rounding = ROUNDINGS * EPS * curvature * table.span.scale[:, None]
                beyond = (table.transform.beyond(gradient).abs() - rounding).clamp(min=0)
                excesses += (beyond.square() / self.penalty.l2).nan_to_num(posinf=0.0).sum(0) / curvature
            best = Solution(theta, excesses) if best is None else best.or_better(theta, excesses)
            stuck = n_passes > 1 and (best.excess > before / WORTHWHILE or len(self.curve) >= self.limit)
            if best.excess <= self.tol or is_slow or stuck:
                break
            before = best.excess
            refined = refine(
                full_pass,
                table.transform,
                theta,
                gradient,
                curvature=curvature,
                floor=FLOOR if table.sketch == "table" and self.method == "whiten" else self.tol,
                max_iter=self.limit - len(self.curve),
                impatient=table.sketch == "sample" and self.method == "whiten",
                after_pass=lambda losses: self._note(losses, table),
            )
            theta, flattest = self._answer(table, refined.theta), refined.flattest
            n_passes += refined.n_passes
            is_slow = table.sketch == "sample" and refined.is_slow
        self.n_steps += n_passes
        best = replace(best, n_passes=n_passes, is_slow=is_slow and best.excess > self.tol)
        if self.method == "whiten" or not (may_be_filled(table.rows) and is_narrow(table.transform)):
            rounding = (8 * full_pass.resolution * table.condition) ** 2
            if self.penalty is not None and table.span is not None:
                rounding = max(rounding, ENOUGH_FOR_WIDE)
            return replace(best, resolution=torch.full_like(best.excesses, rounding), unit=0.5 * curvature)
        return self._certified(table, best, torch.full_like(best.excesses, 0.5 * curvature))

    def _bend(self, table: Conditioning, theta: torch.Tensor) -> Solution:
        """Go on from theta by steps that follow the bends of the loss and the kinks of the penalty."""
        if self.scale is not None and self.start is not None:
            self.scale.begin_at(self._full_pass(table, self.loss), theta)
            self._go_to_scale()
        unit, n_passes = self._best_constant(table), 0
        width = torch.zeros_like(unit)
        while len(self.curve) < self.limit:
            theta, width, taken = minimise(
                partial(self._full_pass, table),
                self.loss,
                table.transform,
                theta,
                unit=unit,
                tol=self.tol if self.loss.is_smooth else AIM * self.tol,
                max_iter=self.limit - len(self.curve),
                seed=self.settings.seed,
                after_pass=lambda losses: self._note(losses, table),
                warm=n_passes > 0,
            )
            n_passes += taken
            full_pass = self._full_pass(table, self.loss)
            if self.scale is None or self.scale.update(full_pass, theta, self.tol):
                break
            self._go_to_scale()
        self.n_steps += n_passes
        if self.scale is not None:
            unit = self._best_constant(table)
        refined = self._certified(table, Solution(theta, torch.zeros_like(unit), n_passes), unit, width)
        return refined if self.scale is None else replace(refined, excesses=refined.excesses + self.scale.unsettled)

    def _certified(
        self, table: Conditioning, refined: Solution, unit: torch.Tensor, width: torch.Tensor | None = None
    ) -> Solution:
        """Return the outcome as the user will have it, with a gap, in that unit, that does not rest on its history."""

        def smooth(multiple: float) -> FullPass:
            return self._full_pass(table, self.loss.moreau_envelope(multiple * width))

        table, answer = table.in_double(), self._answer(table, refined.theta)
        gap, resolution = optimality_gap(
            self._full_pass(table, self.loss),
            smooth if width is not None and width.any() else None,
            table.transform,
            answer,
            refined.theta,
            enough=max(self.tol, ENOUGH_OF_BOUNDS[self.settings.dtype]) * unit,
            seed=self.settings.seed,
        )
        enough = ENOUGH_OF_BOUNDS[self.settings.dtype] if is_narrow(table.transform) else ENOUGH_FOR_WIDE
        resolution = torch.maximum(resolution, enough * unit)
        return replace(refined, theta=answer, excesses=gap / unit, resolution=resolution / unit, unit=unit)

    def _answer(self, table: Conditioning, theta: torch.Tensor) -> torch.Tensor:
        """Return theta as it is once it has been given to the user: the smallest of many, in the units of the data."""
        if self.settings.penalty is None:
            theta = table.minimum_norm(theta)
        fit_intercept = self.settings.fit_intercept
        return table.standardize(table.unstandardize(theta, fit_intercept=fit_intercept), fit_intercept=fit_intercept)

    def _best_constant(self, table: Conditioning) -> torch.Tensor:
        """Return the loss of the best constant prediction, which excess is measured in."""
        y, weight = table.rows.y, table.rows.weight
        rows = replace(table.rows, X=y.new_empty(len(y), 0))
        if self.scale is None and (weight is None or weight.shape[1] == 1):
            rows = replace(rows, models=1)  # which have the same one
        none, theta = table.shift[:0], table.shift.new_zeros(int(self.settings.fit_intercept), rows.n_columns)

        def full_pass(loss: Loss) -> FullPass:
            backend = "autograd" if loss.by_autograd else "analytic"
            return FullPass(partial(self._model, backend=backend), loss, rows, {}, reported=self.loss)

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
        refuse_infinite(self.settings.loss, value.sum().item())
        return torch.where(value > 0, value, 1.0).expand(self.rows.n_columns)

    def _rounding(self, table: Conditioning, theta: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Return what rounding theta, in the units of the data, to the precision of `coef_` adds to the gap."""
        if self.settings.dtype == torch.float64:
            return torch.zeros_like(theta[0])
        rounded = theta.to(self.settings.dtype).double()
        if not self.round:
            both = (table.standardize(each, fit_intercept=self.settings.fit_intercept) for each in (theta, rounded))
            return rounding_excess(self._full_pass(table, self.loss), *both) / unit
        # At the minimum a parabola rises by nothing but its curvature
        excess = 0.5 * self.loss.lipschitz * moved_predictions(self.rows, rounded - theta)
        if self.settings.penalty is not None:
            excess = excess + self.settings.penalty.value((rounded - theta)[: table.n_features])
        return excess / table.y_scale.square() / unit
