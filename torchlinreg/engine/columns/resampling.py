"""Bootstrap: many models of the same rows, each of which learns from rows drawn from them, with replacement.

A resample is a column of weights, how often each row was drawn, and its model a column of one weight matrix. Few
features with a squared loss need no training: what a model depends on is then a few sums over the rows, of products of
features, and one product with all counts makes these for every resample.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from torchlinreg.engine.columns.grid import HESSIAN_ELEMENTS, Columns, must_train_separately
from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.reductions import Sums
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.problem import penalty_in_units
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.conditioned import Conditioned
from torchlinreg.engine.preconditioning.conditioning import condition
from torchlinreg.engine.runtime.switches import training_mode

GROUP_ELEMENTS = 2**22  # numbers, of rows times resamples, held at once
CACHED_ELEMENTS = 2**20  # rows drawn at once
BLOCK_ROWS = 2**12  # whose products of features are held at once
FEW_FEATURES = 48  # products of pairs then cost less than the passes that they save
ROWS_PER_DIRECTION = 64  # with so many resamples are much alike, and single precision does for what is summed up
DOUBTFUL = {torch.float32: 1e-2, torch.float64: 2e-13}  # curvature, where it is one for all rows, to be doubted


def resample(source: MemorySource, settings: Settings, theta: torch.Tensor, n_resamples: int, seed: int) -> Columns:
    """Fit a model to each of many resamples.

    Where a resample has no row left that would tell what a weight should be, it is such that predictions for the rows
    that are missing stay as close to those of theta as may be.

    Parameters
    ----------
    source : MemorySource
        Its rows are drawn with equal chances; they keep their weights.
    settings : Settings
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets), float64
        The fit to the rows themselves, on the host.
    n_resamples : int
    seed : int
        Of the draws.

    Raises
    ------
    DivergedError
        If training by the textbook diverges on a resample.
    ValueError
        If no row of a resample has any weight.
    """
    found = Columns(theta[..., None].repeat(1, 1, n_resamples))
    few = source.shape[1] <= FEW_FEATURES
    solve = _solve_by_products if settings.is_untuned and few and settings.is_quadratic else _train
    solve(source, settings, theta, draw(len(source), n_resamples, seed), found)
    return found


def draw(n_rows: int, n_resamples: int, seed: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Draw resamples of the rows, group by group; they are the same in groups of any size.

    Yields
    ------
    group : slice
        The numbers of these resamples.
    counts : torch.Tensor of shape (n_resamples of the group, n_rows), int16
        How often each row was drawn.
    """
    generator, one = torch.Generator("cpu").manual_seed(seed), torch.ones(1, dtype=torch.int16, device="cpu")
    size = max(1, GROUP_ELEMENTS // n_rows)
    for start in range(0, n_resamples, size):
        counts = torch.zeros(min(size, n_resamples - start), n_rows, dtype=torch.int16, device="cpu")
        for part in counts.split(max(1, CACHED_ELEMENTS // n_rows)):
            drawn = torch.randint(n_rows, part.shape, generator=generator, device="cpu")
            part.scatter_add_(1, drawn, one.expand(part.shape))
        yield slice(start, start + len(counts)), counts


def _train(source: MemorySource, settings: Settings, theta: torch.Tensor, draws: Iterator, found: Columns) -> None:
    """Train the models of each group together, as columns with weights of their own."""
    # Steps in variables of its own are what each model would take in textbook mode
    own_steps = not settings.is_untuned and (
        must_train_separately(settings) or settings.conditioning not in ("auto", None)
    )
    has_hessians = settings.is_untuned and not settings.is_quadratic
    size = max(1, HESSIAN_ELEMENTS // len(theta) ** 2 if has_hessians else GROUP_ELEMENTS // len(theta))
    for group, counts in draws:
        weights = _weights(source, counts, settings.dtype)
        models = torch.arange(group.start, group.stop, device="cpu")
        if settings.loss.mixes_targets or own_steps:
            for model, weight in zip(models.tolist(), weights.split(1, dim=1), strict=True):
                columns = torch.arange(source.y.shape[1], device="cpu")
                part = replace(source, weight=weight)
                found.record(_fit(part, settings.select(columns), theta), slice(None), model)
            continue
        for target in range(source.y.shape[1]):
            y = source.y[:, target : target + 1]
            for some, weight in zip(models.split(size), weights.split(size, dim=1), strict=True):
                part = MemorySource(source.X, y, weight, len(some))
                columns = torch.full_like(some, target)
                start = theta[:, target, None].repeat(1, len(some))
                found.record(_fit(part, settings.select(columns), start), target, some)


def _fit(source: MemorySource, settings: Settings, warm_start: torch.Tensor):
    """Fit models to resamples: from near the optimum in untuned mode, from zero in textbook mode."""
    if settings.is_untuned:
        return fit_untuned(source, settings, warm_start.to(source.y.device))
    return fit_textbook(source, source.y.new_zeros(len(warm_start), source.n_columns), settings)


def _weights(source: MemorySource, counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the weights of the rows in each resample, of mean one, shape (n_rows, n_resamples)."""
    weights = counts.to(source.y.device, dtype).T.contiguous()
    if source.weight is not None:
        weights *= source.weight
    return weights.div_(_refuse_zero(weights.mean(0)))


def _refuse_zero(weight: torch.Tensor) -> torch.Tensor:
    if not weight.all():
        raise ValueError(
            "sample_weight is zero for all rows of a resample: too few rows have any weight. Leave out those without, "
            "or give more rows some."
        )
    return weight


def _solve_by_products(
    source: MemorySource, settings: Settings, theta: torch.Tensor, draws: Iterator, found: Columns
) -> None:
    """Solve for the change from theta, in variables in which the Hessian of the rows is the identity."""
    with training_mode(0, source.factorization_work, inference=settings.backend == "analytic"):
        normal = _normal_equations(source, settings, theta)
        many_rows = len(source) >= ROWS_PER_DIRECTION * normal.conditioned.transform.n_directions
        quick = torch.float32 if many_rows else torch.float64
        for group, counts in draws:
            steps, doubtful = normal.solve(counts, quick)
            if quick == torch.float32 and doubtful.any():
                steps[doubtful], _ = normal.solve(counts[doubtful.cpu()], torch.float64)
            conditioned = normal.conditioned
            for target, step in enumerate(steps.unbind(1)):
                moved = normal.theta[:, target, None] + conditioned.transform(step.T)
                y_shift, y_scale = conditioned.y_shift[target], conditioned.y_scale[target]
                one = replace(conditioned, y_shift=y_shift, y_scale=y_scale)
                learnt = one.unstandardize(moved, fit_intercept=settings.fit_intercept)
                found.theta[:, target, group] = learnt.to(found.theta)


@dataclass(frozen=True, eq=False)
class _NormalEquations:
    """The normal equations of resamples, for the change from the theta of all rows.

    Attributes
    ----------
    conditioned : Conditioned
    theta : torch.Tensor of shape (n_theta, n_targets)
        In standard units.
    of_penalty : tuple or None
        Hessian and gradient of the penalty, for each target.
    lipschitz : float
        Second derivative of the loss.
    """

    conditioned: Conditioned
    theta: torch.Tensor
    of_penalty: tuple[torch.Tensor, torch.Tensor] | None
    lipschitz: float

    def solve(self, counts: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the change of each resample, (n_resamples, n_targets, n_directions), and which to doubt."""
        sums = ResampledProducts(self.conditioned.transform, self.theta, counts, dtype)
        hessian, gradient = self.conditioned.source.reduce(sums, BLOCK_ROWS).means()
        if self.of_penalty is not None:
            hessian = hessian[:, None] + self.of_penalty[0] / self.lipschitz
            gradient = gradient + self.of_penalty[1].T / self.lipschitz
        solution, doubtful = _solve(hessian, gradient, DOUBTFUL[dtype])
        return -solution, doubtful


def _normal_equations(source: MemorySource, settings: Settings, theta: torch.Tensor) -> _NormalEquations:
    conditioned = condition(source, "whiten", settings.dtype, fit_intercept=settings.fit_intercept, seed=settings.seed)
    if conditioned.row_space is not None:
        # Of the weights that predict the same, the smallest
        transform = conditioned.transform
        transform = replace(transform, weights=conditioned.minimum_norm(transform.weights))
        conditioned = replace(conditioned, transform=transform)
    near = conditioned.standardize(theta.to(source.y.device), fit_intercept=settings.fit_intercept)
    of_penalty = None
    if settings.penalty is not None:
        of_penalty = _of_penalty(conditioned, penalty_in_units(settings.penalty, conditioned), near)
    return _NormalEquations(conditioned, near, of_penalty, settings.loss.lipschitz)


class ResampledProducts(Sums):
    """Reduction: Zᵀ diag(c) Z and Zᵀ diag(c) r for each column c of counts, with r what theta predicts too much.

    Parameters
    ----------
    transform : Transform
        To the variables of the rows Z.
    theta : torch.Tensor of shape (n_theta, n_targets)
    counts : torch.Tensor of shape (n_resamples, n_rows)
    dtype : torch.dtype
        Of the products of features.
    """

    SUMMED = ("_hessian", "_gradient", "_weight")

    def __init__(self, transform, theta: torch.Tensor, counts: torch.Tensor, dtype: torch.dtype):
        self._transform, self._theta, self._counts, self._dtype = transform, theta, counts, dtype
        self._hessian = self._gradient = self._weight = 0.0

    def update(self, block: Batch) -> None:
        """Add the products of a block."""
        theta, n = self._theta, block.X.shape[1]
        X = block.X.to(theta).to_dense()
        residual = X @ theta[:n] + theta[n:].sum(0) - block.y
        drawn = self._counts[:, block.first_row : block.first_row + len(X)].to(theta.device, self._dtype).T
        if block.weight is not None:
            drawn = drawn * block.weight.to(self._dtype)
        Z = self._transform.rows(block.X)
        self._hessian = self._hessian + DenseOperator(Z.to(self._dtype)).sandwich(drawn).to(theta)
        gradients = (Z[:, None] * residual[:, :, None]).flatten(1)
        self._gradient = self._gradient + drawn.T.to(theta) @ gradients
        self._weight = self._weight + drawn.sum(0, dtype=theta.dtype)

    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means over the rows of each resample.

        Returns
        -------
        hessian : torch.Tensor of shape (n_resamples, n_directions, n_directions)
        gradient : torch.Tensor of shape (n_resamples, n_targets, n_directions)
        """
        weight = _refuse_zero(self._weight)[:, None, None]
        shape = self._theta.shape[1], self._hessian.shape[-1]
        return self._hessian / weight, self._gradient.unflatten(1, shape) / weight


def _of_penalty(conditioned: Conditioned, penalty: Penalty, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return second and first derivatives of a smooth penalty, for each target."""
    weights, n_features = conditioned.transform.weights, conditioned.n_features
    wide = torch.nn.functional.pad(weights, (0, conditioned.transform.n_directions - weights.shape[1]))
    l2 = penalty.l2.expand(n_features, theta.shape[1])
    gradient = torch.zeros_like(theta)
    gradient[:n_features] = penalty.gradient(theta[:n_features])
    return torch.einsum("jq,jt,jr->tqr", wide, l2, wide), conditioned.transform.rmatvec(gradient)


def _solve(hessian: torch.Tensor, gradient: torch.Tensor, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest solutions, in the shape of the gradient, and which resamples have hardly any curvature.

    Parameters
    ----------
    hessian : torch.Tensor of shape (n_resamples, n_directions, n_directions) or, if targets differ in it, \
            (n_resamples, n_targets, n_directions, n_directions)
    gradient : torch.Tensor of shape (n_resamples, n_targets, n_directions)
    least : float
        Share of the curvature below which there may as well be none.
    """
    right = gradient.mT if hessian.ndim == 3 else gradient[..., None]
    factor, failed = torch.linalg.cholesky_ex(hessian)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    doubtful = (failed > 0) | (pivots < least * hessian.diagonal(dim1=-2, dim2=-1)).any(-1)
    solution = torch.cholesky_solve(right, factor)
    if doubtful.any():
        inverse = torch.linalg.pinv(hessian[doubtful], rtol=least, hermitian=True)
        solution[doubtful] = inverse @ right[doubtful]
    if hessian.ndim == 3:
        return solution.mT, doubtful
    return solution[..., 0], doubtful.any(-1)
