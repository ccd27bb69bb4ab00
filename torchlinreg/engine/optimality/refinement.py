"""Iterative refinement of least squares: the digits that a large condition number took.

A step is what the factorisation at hand, in float64, makes of the residual of the normal equations, Xᵀ (y - X theta),
measured in twice the precision on the rows as they were given, at a theta that is held in twice the precision, too.
It leaves about the condition number times the rounding of float64 of the error before it (Björck 1967, "Iterative
refinement of linear least squares solutions I"; Demmel, Hida, Riedy & Li 2009, "Extra-precise iterative refinement for
overdetermined least squares problems"). As y - X theta is held in twice the precision, it need not be an unknown of its
own, as it is in the augmented system there.
"""

from typing import NamedTuple

import torch

from torchlinreg.engine.data.matrices.compensated import DoubleDouble, SlicedMatrix, unit_of
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.preconditioning.conditioned import Conditioned
from torchlinreg.engine.preconditioning.factorizations import EPS
from torchlinreg.engine.solvers.solver import Solution

# Times that rounding errors may be magnified before there is something to gain
WORTHWHILE = {torch.float32: 1e4, torch.float64: 1e2}
RESIDUALS = 50.0  # as many times as that, which residuals may magnify them: by less hardly any noisy table would
SOMETHING = 1e-24  # of the variance of a target, that the features are to explain
ELEMENTS = 2**20  # of rows at most, with the slices of their targets
MAX_STEPS = 20
PROGRESS = 0.5  # of the gap, that a step is to leave at most
NEGLIGIBLE = 2.0**-56  # of a weight, that the next step would change


class Refined(NamedTuple):
    """The outcome of iterative refinement.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets)
        Rounded to float64, in the units of the data.
    gap : torch.Tensor of shape (n_targets,)
        Excess of the objective over its minimum before rounding, in units of half the curvature and of variances of the
        targets.
    rounding : torch.Tensor of shape (n_targets,)
        Such excess that comes of rounding.
    n_steps : int
    """

    theta: torch.Tensor
    gap: torch.Tensor
    rounding: torch.Tensor
    n_steps: int

    def improve(self, solution: Solution) -> Solution:
        """Return the solution that was refined with the gap of this one, and what of it nothing can be done about."""
        gap = (self.gap.sqrt() + self.rounding.sqrt()).square()
        resolution = torch.as_tensor(solution.resolution, dtype=gap.dtype, device=gap.device)
        return solution._replace(gap=gap, resolution=torch.maximum(resolution, 2 * self.rounding))


class NormalEquations:
    """The normal equations of least squares on rows as they were given, and about their solution.

    Inside, theta is in units that are powers of two: dividing by them rounds nothing, and nothing overflows.

    Parameters
    ----------
    source : MemorySource
        One model for each target.
    conditioned : Conditioned
        The same, whitened exactly and with all directions; with the penalty, if there is one.
    l2 : torch.Tensor, to be broadcast to (n_features, n_targets), optional
        Of a penalty l2 w² / 2, beside a mean loss of curvature one.
    """

    def __init__(self, source: MemorySource, conditioned: Conditioned, l2: torch.Tensor | None = None):
        y, self._transform, self._n_features = source.y.double(), conditioned.transform, conditioned.n_features
        X = source.X.to(y.device).to_dense().double()
        x_unit, self._y_unit = unit_of(X)[:, None], unit_of(y)
        self._per_unit, self._mean = x_unit / conditioned.scale[:, None], conditioned.shift[:, None] / x_unit
        self._y_scale = conditioned.y_scale / self._y_unit
        X, self._x_unit = X / x_unit.T, x_unit
        if self._transform.offset is not None:
            X, self._x_unit = torch.cat([X, X.new_ones(len(X), 1)], dim=1), torch.cat([x_unit, X.new_ones(1, 1)])
        self._X, self._matrix, self._y = X, SlicedMatrix(X), DoubleDouble.of(y / self._y_unit)
        weight = source.weight if source.given_weight is None else source.given_weight
        self._weight = weight if weight is None else weight.double() / unit_of(weight.double())
        self._weight_sum, self._l2 = X.new_tensor(len(X)) if weight is None else self._weight.sum(), None
        if l2 is not None:
            strength, ones = X.new_zeros(X.shape[1], y.shape[1]), X.new_ones(len(X), 1)
            strength[: self._n_features] = l2 / x_unit / x_unit
            weight_sum = SlicedMatrix(ones).rmatmul(DoubleDouble.of(ones if weight is None else self._weight))
            self._l2 = weight_sum.times(strength)

    def encode(self, theta: torch.Tensor) -> torch.Tensor:
        """Return theta, given in the units of the data, in those used here."""
        return theta * self._x_unit / self._y_unit

    def decode(self, theta: torch.Tensor) -> torch.Tensor:
        """Return theta, given in the units used here, in those of the data."""
        return theta * self._y_unit / self._x_unit

    def residual(self, theta: DoubleDouble) -> DoubleDouble:
        """Return Xᵀ (y - X theta), with the weights of the rows, less the gradient of the penalty."""
        residual = self._y - self._matrix.matmul(theta)
        gradient = self._matrix.rmatmul(residual if self._weight is None else residual.times(self._weight))
        if self._l2 is None:
            return gradient
        return gradient - (theta.times(self._l2.high) + theta.times(self._l2.low))

    def solve(self, theta: DoubleDouble) -> tuple[torch.Tensor, torch.Tensor]:
        """Return about the step from theta to the solution, and the gap at theta."""
        gradient, n = self.residual(theta).high / self._weight_sum / self._y_scale, self._n_features
        of_weights, of_intercept = gradient[:n], gradient[n:]
        of_weights = self._per_unit * (of_weights - self._mean * of_intercept.sum(0))
        v = self._transform.rmatvec(torch.cat([of_weights, of_intercept]))
        step = self._transform(v) * self._y_scale
        weights, intercept = self._per_unit * step[:n], step[n:]
        return torch.cat([weights, intercept - (self._mean * weights).sum(0)]), v.square().sum(0)

    def excess(self, change: torch.Tensor) -> torch.Tensor:
        """Return the gap where theta is that much away from the solution."""
        moved = (self._X @ change).square()
        excess = (moved if self._weight is None else moved * self._weight).sum(0)
        if self._l2 is not None:
            excess = excess + (self._l2.high * change.square()).sum(0)
        return excess / self._weight_sum / self._y_scale.square()


def why_refine(
    source: MemorySource, conditioned: Conditioned, solution: torch.Tensor, theta: torch.Tensor, dtype: torch.dtype
) -> str | None:
    """Return why a solution is to be refined; None if that is out of reach, or would hardly show.

    Parameters
    ----------
    source : MemorySource
    conditioned : Conditioned
        The same, whitened.
    solution, theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
        The solution in standard units, and in those of the data.
    dtype : torch.dtype
        Precision of the weights that are asked for.
    """
    (n_rows, n_features), n_slices = source.shape, 8
    is_small = n_rows * (n_features + n_slices * source.n_columns) <= ELEMENTS
    has_all = conditioned.sketch == "exact" and conditioned.transform.rank == n_features
    if not (is_small and has_all and source.n_models == 1):
        return None
    steps, limit, condition = (
        "steps by residuals in twice the precision, as the",
        WORTHWHILE[dtype],
        conditioned.condition,
    )
    if condition >= limit:
        return f"{steps} condition number is {condition:.2g}"
    # Errors grow by the square of the condition number times the size of residuals beside that of predictions, too
    X = conditioned.source.X.to(solution)
    predicted = torch.linalg.vector_norm(X.matmul(solution[:n_features]), dim=0).tolist()
    little = 1.0 / (1.0 + (RESIDUALS * limit / condition**2) ** 2)
    if any(SOMETHING < size * size / n_rows < little for size in predicted):  # plain numbers, as there are few
        return f"{steps} residuals are large"
    if len(theta) > n_features:
        mean = conditioned.transform.offset if source.is_sparse else conditioned.shift
        parts, intercepts = (mean.abs() @ theta[:n_features].abs()).tolist(), theta[n_features].tolist()
        sizes = zip(parts, intercepts, conditioned.y_scale.tolist(), strict=True)
        if any(part > limit * max(abs(intercept), EPS * scale) for part, intercept, scale in sizes):
            return f"{steps} intercept is small beside its parts"
    return None


def refine(equations: NormalEquations, theta: torch.Tensor) -> Refined | None:
    """Refine the solution of normal equations as long as that brings down their residual, each target for itself.

    Parameters
    ----------
    equations : NormalEquations
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets)
        Near the solution, in the units of the data.

    Returns
    -------
    Refined or None
        None if no step brought the residual down.
    """
    best, n_steps = DoubleDouble.of(equations.encode(theta)), 0
    step, gap = equations.solve(best)
    while n_steps < MAX_STEPS:
        trial = best + DoubleDouble.of(step)
        next_step, trial_gap = equations.solve(trial)
        better = trial_gap < PROGRESS * gap  # false for NaN
        if not better.any():
            break
        best, gap = best.where(better, trial), torch.where(better, trial_gap, gap)
        step, n_steps = torch.where(better, next_step, 0.0), n_steps + 1
        if (step.abs() <= NEGLIGIBLE * best.high.abs()).all():
            break
    if n_steps == 0 or not gap.isfinite().all():
        return None
    return Refined(equations.decode(best.high), gap, equations.excess(best.low), n_steps)
