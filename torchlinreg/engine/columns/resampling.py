"""Bootstrap: many models of one table, each of which learns from rows drawn from it anew, with replacement.

A resample is a column of weights, how often each row was drawn, and its model a column of one weight matrix. Few
features with a squared loss need no training: what a model depends on is then a few sums over the rows, of products of
features, and one product with all counts makes these for every resample.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from torchlinreg.engine.columns.grid import CURVATURE_ELEMENTS, Columns, go_alone
from torchlinreg.engine.data.batches import MiniBatches, Rows
from torchlinreg.engine.data.moments import sandwich
from torchlinreg.engine.fit.settings import Settings, no_graph
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.conditioning import Conditioning, condition

GROUP_ELEMENTS = 2**22  # numbers, of rows times resamples, held at once
CACHED_ELEMENTS = 2**20  # rows drawn at once
CHUNK_ROWS = 2**12  # whose products of features are held at once
FEW_FEATURES = 48  # products of pairs then cost less than the passes that they save
ROWS_PER_DIRECTION = 64  # with so many resamples are much alike, and single precision does for what is summed up
DOUBTFUL = {torch.float32: 1e-2, torch.float64: 2e-13}  # curvature, where it is one for the table, to be doubted


def resample(rows: Rows, settings: Settings, theta: torch.Tensor, n_resamples: int, seed: int) -> Columns:
    """Fit a model to each of many resamples.

    Where a resample has no row left that would tell what a weight should be, it is such that predictions for the rows
    that are missing stay as close to those of theta as may be.

    Parameters
    ----------
    rows : Rows
        Drawn with equal chances; they keep their weights.
    settings : Settings
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets), float64
        The fit to the table itself, on the host.
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
    untuned, few = isinstance(settings.learning_rate, str), rows.X.shape[1] <= FEW_FEATURES
    solve = _solve_by_products if untuned and few and _is_round(settings) else _train
    solve(rows, settings, theta, draw(len(rows), n_resamples, seed), found)
    return found


def _is_round(settings: Settings) -> bool:
    """Whether what is minimised is a parabola."""
    return settings.loss.is_quadratic and (settings.penalty is None or settings.penalty.is_smooth)


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


def _train(rows: Rows, settings: Settings, theta: torch.Tensor, draws: Iterator, found: Columns) -> None:
    """Train the models of each group together, as columns with weights of their own."""
    untuned, n_targets = isinstance(settings.learning_rate, str), rows.y.shape[1]
    # Steps in variables of its own are what each model would take by the textbook
    own_steps = not untuned and (go_alone(settings) or settings.conditioning not in ("auto", None))
    alone = settings.loss.mixes_targets or own_steps
    bent = untuned and not _is_round(settings)
    size = max(1, CURVATURE_ELEMENTS // len(theta) ** 2 if bent else GROUP_ELEMENTS // len(theta))
    for group, counts in draws:
        weights = _weights(rows, counts, settings.dtype)
        models = torch.arange(group.start, group.stop, device="cpu")
        if alone:
            for model, weight in zip(models.tolist(), weights.split(1, dim=1), strict=True):
                anew = settings.select(torch.arange(n_targets, device="cpu"))
                one = replace(rows, weight=weight)
                if untuned:
                    fit = fit_untuned(one, anew, theta.to(rows.y.device))
                else:
                    fit = fit_textbook(one, rows.y.new_zeros(len(theta), n_targets), anew)
                found.enter(fit, slice(None), model)
            continue
        for target in range(n_targets):
            y = rows.y[:, target : target + 1]
            for some, weight in zip(models.split(size), weights.split(size, dim=1), strict=True):
                table = Rows(rows.X, y, weight, len(some))
                same = settings.select(torch.full_like(some, target))
                if untuned:
                    fit = fit_untuned(table, same, theta[:, target, None].repeat(1, len(some)).to(y.device))
                else:
                    fit = fit_textbook(table, rows.y.new_zeros(len(theta), len(some)), same)
                found.enter(fit, target, some)


def _weights(rows: Rows, counts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the weights of the rows in each resample, of mean one, shape (n_rows, n_resamples)."""
    weights = counts.to(rows.y.device, dtype).T.contiguous()
    if rows.weight is not None:
        weights *= rows.weight
    return weights.div_(_refuse_zero(weights.mean(0)))


def _refuse_zero(weight: torch.Tensor) -> torch.Tensor:
    if not weight.all():
        raise ValueError(
            "sample_weight is zero for all rows of a resample: too few rows have any weight. Leave out those without, "
            "or give more rows some."
        )
    return weight


def _solve_by_products(rows: Rows, settings: Settings, theta: torch.Tensor, draws: Iterator, found: Columns) -> None:
    """Solve for the change from theta, in variables in which the loss of the table is round."""
    with no_graph(settings, rows, by_hand=True):
        table = condition(rows, "whiten", settings.dtype, fit_intercept=settings.fit_intercept, seed=settings.seed)
        if table.span is not None:
            # Of the weights that predict the same, the smallest
            transform = replace(table.transform, weights=table.minimum_norm(table.transform.weights))
            table = replace(table, transform=transform)
        penalty = None if settings.penalty is None else table.penalty_in_units(settings.penalty)
        near = table.standardize(theta.to(rows.y.device), fit_intercept=settings.fit_intercept)
        costs = None if penalty is None else _of_penalty(table, penalty, near)
        many_rows = len(rows) >= ROWS_PER_DIRECTION * table.transform.n_directions
        quick = torch.float32 if many_rows else torch.float64
        for group, counts in draws:
            steps, doubtful = _steps(table, near, counts, costs, settings.loss.lipschitz, quick)
            if quick == torch.float32 and doubtful.any():
                again = _steps(table, near, counts[doubtful.cpu()], costs, settings.loss.lipschitz, torch.float64)
                steps[doubtful] = again[0]
            for target, step in enumerate(steps.unbind(1)):
                moved = near[:, target, None] + table.transform(step.T)
                one = replace(table, y_shift=table.y_shift[target], y_scale=table.y_scale[target])
                learnt = one.unstandardize(moved, fit_intercept=settings.fit_intercept)
                found.theta[:, target, group] = learnt.to(found.theta)


def _steps(
    table: Conditioning, near: torch.Tensor, counts: torch.Tensor, costs, curvature_of_loss: float, dtype
) -> tuple:
    """Return the change of each resample, (n_resamples, n_targets, n_directions), and which are to be doubted."""
    curvature, gradient = _sums(table, near, counts, dtype)
    if costs is not None:
        curvature = curvature[:, None] + costs[0] / curvature_of_loss
        gradient = gradient + costs[1].T / curvature_of_loss
    solution, doubtful = _solve(curvature, gradient, DOUBTFUL[dtype])
    return -solution, doubtful


def _sums(table: Conditioning, theta: torch.Tensor, counts: torch.Tensor, dtype: torch.dtype) -> tuple:
    """Return the means, over the rows of each resample, of the products that its model depends on.

    Returns
    -------
    curvature : torch.Tensor of shape (n_resamples, n_directions, n_directions)
        Of pairs of variables.
    gradient : torch.Tensor of shape (n_resamples, n_targets, n_directions)
        Of variables and what theta predicts too much.
    """
    n_features, n_directions, start = table.n_features, table.transform.n_directions, 0
    curvature = gradient = mass = 0.0
    for block in MiniBatches(table.rows, CHUNK_ROWS, block_elements=0, **table.load):
        X = block.rows.X.to(theta).to_dense()
        excess = X @ theta[:n_features] + theta[n_features:].sum(0) - block.rows.y
        drawn = counts[:, start : start + len(X)].to(theta.device, dtype).T
        if block.rows.weight is not None:
            drawn = drawn * block.rows.weight.to(dtype)
        Z = table.transform.rows(X)
        curvature = curvature + sandwich(Z.to(dtype), drawn).to(theta)
        slopes = (Z[:, None] * excess[:, :, None]).flatten(1)
        gradient = gradient + drawn.T.to(theta) @ slopes
        mass = mass + drawn.sum(0, dtype=theta.dtype)
        start += len(X)
    mass = _refuse_zero(mass)[:, None, None]
    return curvature / mass, gradient.unflatten(1, (theta.shape[1], n_directions)) / mass


def _of_penalty(table: Conditioning, penalty: Penalty, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return second and first derivatives of a smooth penalty, for each target."""
    weights, n_features = table.transform.weights, table.n_features
    wide = torch.nn.functional.pad(weights, (0, table.transform.n_directions - weights.shape[1]))
    bend = penalty.l2.expand(n_features, theta.shape[1])
    slope = torch.zeros_like(theta)
    slope[:n_features] = penalty.gradient(theta[:n_features])
    return torch.einsum("jq,jt,jr->tqr", wide, bend, wide), table.transform.rmatvec(slope)


def _solve(curvature: torch.Tensor, gradient: torch.Tensor, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest solutions, in the shape of the gradient, and which resamples have hardly any curvature.

    Parameters
    ----------
    curvature : torch.Tensor of shape (n_resamples, n_directions, n_directions) or, if targets differ in it, \
            (n_resamples, n_targets, n_directions, n_directions)
    gradient : torch.Tensor of shape (n_resamples, n_targets, n_directions)
    least : float
        Share of the curvature below which there may as well be none.
    """
    right = gradient.mT if curvature.ndim == 3 else gradient[..., None]
    factor, failed = torch.linalg.cholesky_ex(curvature)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    doubtful = (failed > 0) | (pivots < least * curvature.diagonal(dim1=-2, dim2=-1)).any(-1)
    solution = torch.cholesky_solve(right, factor)
    if doubtful.any():
        inverse = torch.linalg.pinv(curvature[doubtful], rtol=least, hermitian=True)
        solution[doubtful] = inverse @ right[doubtful]
    if curvature.ndim == 3:
        return solution.mT, doubtful
    return solution[..., 0], doubtful.any(-1)
