"""The optimisation problem of untuned mode: the objective in standard units and well-conditioned variables."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.history import refuse_infinite
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.linear_model import MODELS, Model
from torchlinreg.engine.objective.losses import Loss
from torchlinreg.engine.objective.objective import Objective
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.objective.robust_scale import initial_scale
from torchlinreg.engine.optimality.refinement import NormalEquations, refine, why_refine
from torchlinreg.engine.preconditioning.choose import choose_conditioning, is_exact
from torchlinreg.engine.preconditioning.conditioned import Conditioned
from torchlinreg.engine.preconditioning.conditioning import (
    condition_by_columns,
    condition_by_gram,
    condition_by_sketch,
    condition_by_statistics,
    condition_exactly,
)
from torchlinreg.engine.preconditioning.gram import suits_gram
from torchlinreg.engine.preconditioning.transforms import Transform
from torchlinreg.engine.solvers.full_batch.continuation import Continuation
from torchlinreg.engine.solvers.solver import Solution, run

AUTO_TOL = {torch.float32: 1e-10, torch.float64: 1e-20}
AUTO_TOL_OF_CURVES = 1e-16  # at best, where the loss is no quadratic: the end of what float64 can tell, or
AUTO_TOL_OF_JUMPS = 1e-6  # where its gradient jumps, which the solver only comes close to
ROUGHLY = 1e-3  # to which the baseline loss is known
UNEVEN = 1e8  # times the largest curvature of a penalty may exceed the smallest


@dataclass(frozen=True, eq=False)
class Problem:
    """The objective, and the way from the units of the data and back.

    Attributes
    ----------
    settings : Settings
    conditioned : Conditioned
    loss : Loss
        In standard units.
    penalty : Penalty or None
        In standard units.
    method : {"whiten", "scale", None}
        Conditioning.
    scale : torch.Tensor of shape (n_columns,) or None
        Of the residuals, in standard units, where the loss depends on one.
    """

    settings: Settings
    conditioned: Conditioned
    loss: Loss
    penalty: Penalty | None
    method: str | None
    scale: torch.Tensor | None = None

    @property
    def source(self) -> MemorySource:
        """The rows in standard units."""
        return self.conditioned.source

    @property
    def transform(self) -> Transform:
        """The change of variables."""
        return self.conditioned.transform

    @property
    def is_reliable(self) -> bool:
        """Whether the sketch has as many independent columns as there are: samples and products miss some."""
        conditioned = self.conditioned
        return conditioned.sketch not in ("gram", "subsample") or self.transform.rank == conditioned.n_features

    @property
    def tol(self) -> float:
        """The gap at which training has converged."""
        loss, settings = self.settings.loss, self.settings
        if settings.tol not in ("auto", None):
            return settings.tol
        tol = AUTO_TOL[settings.dtype]
        if loss.is_quadratic:
            return tol
        return max(tol, AUTO_TOL_OF_CURVES if loss.is_smooth else AUTO_TOL_OF_JUMPS)

    def encode(self, theta: torch.Tensor | None) -> torch.Tensor:
        """Return theta, given in the units of the data, in standard units; for None what is known, or zeros."""
        if theta is None and self.settings.is_quadratic and self.conditioned.right_side is not None:
            right_side = self.conditioned.right_side
            if self.settings.fit_intercept:  # targets have mean zero
                right_side = torch.nn.functional.pad(right_side, (0, 0, 0, 1))
            return self.transform(self.transform.rmatvec(right_side))
        if theta is None:
            n_theta = self.conditioned.n_features + self.settings.fit_intercept
            return self.conditioned.shift.new_zeros(n_theta, self.source.n_columns)
        return self.conditioned.standardize(theta, fit_intercept=self.settings.fit_intercept)

    def decode(self, theta: torch.Tensor) -> torch.Tensor:
        """Return theta, given in standard units, in the units of the data."""
        return self.conditioned.unstandardize(theta.double(), fit_intercept=self.settings.fit_intercept)

    def canonical(self, theta: torch.Tensor) -> torch.Tensor:
        """Return theta as the user is given it: the smallest of many, rounded in the units of the data."""
        if self.settings.penalty is None:
            theta = self.conditioned.minimum_norm(theta)
        return self.encode(self.decode(theta))

    def objective(self, theta: torch.Tensor, loss: Loss | None = None) -> Objective:
        """Return the objective with its v at zero where theta is, for a loss in standard units."""
        return Objective(
            self.source,
            loss or self.loss,
            self.penalty,
            self.transform,
            theta,
            self.make_model,
            seed=self.settings.seed,
        )

    def refine(self, source: MemorySource, theta: torch.Tensor, solution: Solution) -> tuple:
        """Return theta and its solution, refined on the rows as given where that shows, and what to say of it.

        Parameters
        ----------
        source : MemorySource
        theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
            The solution in the units of the data.
        solution : Solution
        """
        settings, conditioned = self.settings, self.conditioned
        if not (settings.is_quadratic and self.method == "whiten"):
            return theta, solution, {}
        reason = why_refine(source, conditioned, solution.theta, theta, settings.dtype)
        if reason is None:
            return theta, solution, {}
        l2 = None if settings.penalty is None else settings.penalty.l2 / settings.loss.lipschitz
        refined = refine(NormalEquations(source, conditioned, l2), theta)
        if refined is None:
            return theta, solution, {}
        return refined.theta, refined.improve(solution), {"refinement": (refined.n_steps, reason)}

    def make_model(self, theta: torch.Tensor, backend: str | None = None) -> Model:
        """Return a model of theta."""
        return MODELS[backend or self.settings.backend](theta, fit_intercept=self.settings.fit_intercept)

    def at_scale(self, scale: torch.Tensor) -> Self:
        """Return the problem with the loss at another scale of the residuals."""
        return replace(self, loss=self.settings.loss.at_scale(scale.to(self.source.dtype)), scale=scale)

    def in_double(self) -> Self:
        """Return the problem with products in float64."""
        return replace(self, conditioned=self.conditioned.in_double())

    @property
    def scale_in_units(self) -> torch.Tensor | None:
        """The scale of the residuals in the units of the data."""
        return None if self.scale is None else self.scale * self.conditioned.y_scale

    def baseline_loss(self) -> torch.Tensor:
        """Return the loss of the best constant prediction, which gaps are relative to, shape (n_columns,)."""
        settings, source = self.settings, self.source.without_features()
        if self.scale is None and source.shares_weight:
            source = replace(source, n_models=1)  # which have the same one
        none = self.conditioned.shift[:0]
        theta = self.conditioned.shift.new_zeros(int(settings.fit_intercept), source.n_columns)
        transform = Transform(none, none if settings.fit_intercept else None)
        make_model = partial(self.make_model, backend="autograd" if self.loss.by_autograd else "analytic")
        objective = Objective(source, self.loss, None, transform, theta, make_model, seed=settings.seed)
        if settings.fit_intercept:
            solver = Continuation(objective.evaluate(theta).value, ROUGHLY, settings.max_iter)
            theta = run(solver.iterates(objective, torch.zeros_like(theta))).theta
        value = objective.evaluate(theta).value
        refuse_infinite(settings.loss, value.sum().item())
        return torch.where(value > 0, value, 1.0).expand(self.source.n_columns)


def sketches(source: MemorySource, settings: Settings, method: str | None) -> tuple[str, ...]:
    """Return the sketches to try: all rows where they are few; or their products, a subsample, a CountSketch."""
    if is_exact(source):
        return ("exact",)
    by_products = settings.is_quadratic and method == "whiten" and suits_gram(source)
    return ("gram", "subsample", "countsketch") if by_products else ("subsample", "countsketch")


def first_conditioning(source: MemorySource, settings: Settings) -> str | None:
    """Return the conditioning to begin with: a diagonal one where the penalty is not smooth."""
    penalty = settings.penalty
    is_smooth = penalty is None or penalty.is_smooth
    asked = "scale" if not is_smooth and settings.conditioning == "auto" else settings.conditioning
    return choose_conditioning(asked, source, minimum_norm=settings.loss.is_quadratic and penalty is None)


def precondition(source: MemorySource, settings: Settings, sketch: str, method: str | None) -> Problem:
    """Bring the rows to standard units, find a change of variables, and bring loss and penalty to these units.

    Parameters
    ----------
    source : MemorySource or, with "statistics", ChunkSource
    settings : Settings
    sketch : {"exact", "gram", "subsample", "countsketch", "columns", "statistics"}
        What the change of variables is found from.
    method : {"whiten", "scale", None}
    """
    if sketch == "statistics":
        conditioned = condition_by_statistics(source, method, fit_intercept=settings.fit_intercept)
    else:
        conditioned = _condition(source, settings, sketch, method)
    like = conditioned.source.few.y
    loss = settings.loss.rescaled(conditioned.y_shift.to(like), conditioned.y_scale.to(like))
    penalty = None
    if settings.penalty is not None:
        penalty = penalty_in_units(settings.penalty, conditioned)
        if not settings.is_quadratic and method == "whiten":
            curvature = penalty.l2.amax(-1) * conditioned.transform.row_norms.square()
            if curvature.max() > UNEVEN * curvature.min():
                # The curvature of such a penalty would drown that of the loss in mixtures of the weights
                return precondition(source, settings, sketch, "scale")
        conditioned = replace(conditioned, transform=_penalized(conditioned, penalty, settings))
    problem = Problem(settings, conditioned, loss, penalty, method)
    return problem.at_scale(initial_scale(like, source.n_models)) if settings.loss.finds_scale else problem


def penalty_in_units(penalty: Penalty, conditioned: Conditioned) -> Penalty:
    """Return the penalty, given in the units of the data, in standard units."""
    return penalty.rescaled(conditioned.y_scale / conditioned.scale[:, None], conditioned.y_scale)


def _condition(source: MemorySource, settings: Settings, sketch: str, method: str | None) -> Conditioned:
    # What suits the mean of several weights nearly suits each of them
    weight = source.weight
    mean = source if weight is None else replace(source, weight=weight.mean(1, keepdim=True))
    # The same seed each time: the sample, and with it the shift, stays the same
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    if sketch == "columns":
        conditioned = condition_by_columns(mean, fit_intercept=settings.fit_intercept)
    elif sketch == "exact":
        conditioned = condition_exactly(mean, method, fit_intercept=settings.fit_intercept)
    elif sketch == "gram":
        conditioned = condition_by_gram(mean, settings.dtype, fit_intercept=settings.fit_intercept, generator=generator)
    else:
        conditioned = condition_by_sketch(
            mean, method, sketch, settings.dtype, fit_intercept=settings.fit_intercept, generator=generator
        )
    if weight is None:
        return conditioned
    return replace(conditioned, source=replace(conditioned.source, weight=weight.to(conditioned.source.y)))


def _penalized(conditioned: Conditioned, penalty: Penalty, settings: Settings) -> Transform:
    """Return the transform for an objective with a penalty."""
    transform = conditioned.transform
    if transform.rank < conditioned.n_features:
        # Of the weights that predict the same, the penalty has its own choice
        transform = replace(transform, weights=conditioned.minimum_norm(transform.weights))
    return transform.for_ridge(penalty.l2 / settings.loss.lipschitz) if settings.is_quadratic else transform
