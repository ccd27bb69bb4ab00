"""From raw columns to well-conditioned ones: what makes a step of one right in every direction at once.

Let C be the centred, weighted covariance of the columns. Steps along ``T Tᵀ gradient``, where ``Tᵀ C T`` is close to
the identity, see a loss that has the same curvature everywhere. T is found from a *sketch* of the rows.
"""

from dataclasses import replace

import torch

from torchlinreg.engine.data.matrices.dense import DenseOperator, Standardized
from torchlinreg.engine.data.moments import (
    ColumnMoments,
    GramSum,
    nearest_power_of_two,
    root_mean_square,
    sparse_moments,
    standardize,
    standardize_targets,
)
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.preconditioning.choose import (
    SAMPLE_ROWS,
    SKETCH_ROWS_PER_FEATURE,
    can_be_dense,
    is_exact,
    sketch_rows,
)
from torchlinreg.engine.preconditioning.conditioned import Conditioned
from torchlinreg.engine.preconditioning.factorizations import (
    EPS,
    largest_eigenvalues,
    normalize_spectrum,
    whiten,
    whiten_covariance,
)
from torchlinreg.engine.preconditioning.gram import gram_dtype, is_trusted
from torchlinreg.engine.preconditioning.sketch import GramProduct, choose_shift, countsketch, subsample
from torchlinreg.engine.preconditioning.transforms import Transform

FEW_ROWS = 2**10  # at least, that tell scales and roughly the condition number
SINGLE_CONDITION = 3e4  # condition number that single precision can do justice to
BLOCK_ELEMENTS = 2**20  # numbers of a sparse source that are multiplied at once
MOMENT_ELEMENTS = 2**17  # numbers that are squared at once
SHIFT_ROWS = 64  # that show whether columns are far from zero
SMALLEST_SQUARE = 1e-280  # mean of columns whose squares lose no digits, and
VARIANCE_ROUNDING = 2**-40  # share of their mean square that may be rounding


def condition(
    source: MemorySource, method: str | None, dtype: torch.dtype, *, fit_intercept: bool, seed: int
) -> Conditioned:
    """Condition a source by all of its rows: exactly, or by a CountSketch; never by a subsample.

    Parameters
    ----------
    source : MemorySource
    method : {"whiten", "scale", None}
        As in `condition_exactly`.
    dtype : torch.dtype
        Precision to multiply in, if the condition number allows it.
    fit_intercept : bool
    seed : int
        Of the signs, if there are too many rows to be their own sketch.
    """
    if is_exact(source):
        return condition_exactly(source, method, fit_intercept=fit_intercept)
    generator = torch.Generator("cpu").manual_seed(seed)
    return condition_by_sketch(source, method, "countsketch", dtype, fit_intercept=fit_intercept, generator=generator)


def condition_exactly(source: MemorySource, method: str | None, *, fit_intercept: bool) -> Conditioned:
    """Centre, scale and whiten a source that is its own sketch, in float64.

    Parameters
    ----------
    source : MemorySource
    method : {"whiten", "scale", None}
        A full T, a diagonal one that brings the columns to one scale, or one that leaves them at theirs.
    fit_intercept : bool
        Nothing is centred without an intercept.
    """
    if not can_be_dense(source):
        return condition_by_products(source, method, torch.float64, fit_intercept=fit_intercept)
    if source.is_sparse:
        return condition_by_sketch(source, method, "exact", torch.float64, fit_intercept=fit_intercept)
    weight = None if source.weight is None else source.weight.double()
    X = source.X.to(source.y.device).to_dense().double()
    X, shift, scale = standardize(X, weight, centre=fit_intercept, power_of_two=True)
    y, y_shift, y_scale = standardize(source.y.double(), weight, centre=fit_intercept)
    sketch = X if weight is None else X * weight.sqrt()
    if method == "whiten":
        directions, row_space, cond = whiten(sketch)
    else:
        size = scale if method is None else torch.ones_like(scale)
        directions, row_space, cond = normalize_spectrum(sketch, size), None, 1.0
    transform = Transform(directions, torch.zeros_like(shift) if fit_intercept else None)
    weighted = y if weight is None else weight * y
    right_side = X.T @ weighted / len(y)
    return Conditioned(
        replace(source, X=DenseOperator(X), y=y, weight=weight),
        shift,
        scale,
        y_shift,
        y_scale,
        transform,
        row_space,
        condition=cond,
        sketch="exact",
        row_norm_bound=float(transform.n_directions),
        right_side=right_side if method == "whiten" and y.shape[1] == source.n_columns else None,
    )


def condition_by_sketch(
    source: MemorySource,
    method: str | None,
    kind: str,
    dtype: torch.dtype,
    *,
    fit_intercept: bool,
    generator: torch.Generator | None = None,
) -> Conditioned:
    """Whiten a large or a sparse source, approximately, without copying it.

    Parameters
    ----------
    source : MemorySource
    method : {"whiten", "scale", None}
        As in `condition_exactly`.
    kind : {"subsample", "countsketch", "exact"}
        The sketch: some of the rows, a CountSketch of all, or all as they are.
    dtype : torch.dtype
        Precision to multiply in, if the condition number allows it.
    fit_intercept : bool
    generator : torch.Generator, optional
        Draws the sample, or the signs.
    """
    n_rows, n_features = source.shape
    chosen = torch.arange(n_rows, device="cpu")
    if kind != "exact":
        chosen = torch.randint(n_rows, (sketch_rows(n_rows, n_features),), generator=generator, device="cpu")
    few = source.sample(chosen[:SAMPLE_ROWS])
    shift = choose_shift(few, dtype) if fit_intercept else torch.zeros_like(few[0], dtype=torch.float64)
    if kind == "countsketch":
        offset, sketch = countsketch(source, shift, centre=fit_intercept, generator=generator)
    else:
        offset, sketch = subsample(source, chosen, shift, centre=fit_intercept)
    directions, row_space, cond = _directions(sketch, method, is_exact=kind == "exact")
    transform = Transform(directions, offset if fit_intercept else None)
    del sketch  # the largest thing here; what follows needs the room
    row_norm_bound = _row_norm_bound(few - shift, transform, fit_intercept=fit_intercept)
    if source.is_sparse:
        # Numbers that are not stored cannot be shifted: their centre is taken care of in the algebra
        offset, shift, dtype = offset + shift, torch.zeros_like(shift), torch.float64
        transform = replace(transform, offset=offset if fit_intercept else None)
    dtype = torch.float64 if cond > SINGLE_CONDITION else dtype
    y, y_shift, y_scale = standardize_targets(source.y, source.weight, dtype, centre=fit_intercept)
    if not source.is_sparse and (shift.any() or dtype != source.X.dtype):
        source = source.shifted(shift.to(dtype))
    return Conditioned(
        replace(source, y=y, weight=None if source.weight is None else source.weight.to(dtype)),
        shift,
        torch.ones_like(shift),
        y_shift,
        y_scale,
        transform,
        row_space,
        condition=cond,
        sketch=kind,
        row_norm_bound=row_norm_bound,
    )


def condition_by_statistics(source, method: str | None, *, fit_intercept: bool) -> Conditioned:
    """Whiten a source of which sufficient statistics are known, exactly, without reading it.

    Parameters
    ----------
    source : ChunkSource
    method : {"whiten", "scale", None}
        As in `condition_exactly`.
    fit_intercept : bool
    """
    statistics, n_features = source.survey.statistics, source.shape[1]
    few, _ = statistics.as_source(n_features, centred=fit_intercept)
    directions, row_space, cond = _directions(few.X.to_dense(), method, is_exact=True)
    mean = statistics.mean if fit_intercept else torch.zeros_like(statistics.mean)
    squares = statistics.factor[:, n_features:].square().sum(0) / statistics.weight
    if not fit_intercept:
        squares = squares + statistics.mean[n_features:].square()
    y_scale = torch.where(squares > 0, squares.sqrt(), 1.0)
    shift, y_shift = mean[:n_features], mean[n_features:]
    return Conditioned(
        source.standardized(shift, y_shift, y_scale),
        shift,
        torch.ones_like(shift),
        y_shift,
        y_scale,
        Transform(directions, torch.zeros_like(shift) if fit_intercept else None),
        row_space,
        condition=cond,
        sketch="exact",
        row_norm_bound=float(n_features + fit_intercept),
    )


def condition_by_gram(
    source: MemorySource, dtype: torch.dtype, *, fit_intercept: bool, generator: torch.Generator
) -> Conditioned:
    """Whiten a large source with few columns by their products over all rows.

    Without directions, if the condition number does not allow that in a precision that is worth its costs.

    Parameters
    ----------
    source : MemorySource
    dtype : torch.dtype
        Precision to multiply in.
    fit_intercept : bool
    generator : torch.Generator
        Draws a few rows, to look at first.
    """
    n_rows, n_features = source.shape
    n_few = max(FEW_ROWS, SKETCH_ROWS_PER_FEATURE * n_features)
    few = source.sample(torch.randint(n_rows, (n_few,), generator=generator, device="cpu"))
    zero = few.new_zeros(n_features, dtype=torch.float64)
    shift = choose_shift(few, dtype) if fit_intercept else zero
    few = few.double() - shift
    seen = few - few.mean(0) if fit_intercept else few
    seen = seen[:, seen.any(0)]  # of rare indicators, a few rows say nothing
    seen_condition = whiten(seen, roughly=True)[2] if seen.numel() else 1.0
    dtype = torch.float64 if seen_condition > SINGLE_CONDITION else dtype
    y, y_shift, y_scale = standardize_targets(source.y, source.weight, dtype, centre=fit_intercept)
    weight = None if source.weight is None else source.weight.to(dtype)
    found = replace(source, y=y, weight=weight)
    precise = gram_dtype(source, seen_condition, root_mean_square(few, None))
    directions, offset, bound, right_side = zero[:, None][:, :0], zero, 1.0, None
    if precise is not None:
        moments = found.reduce(GramSum(shift, precise)).moments(centre=fit_intercept)
        whitened = whiten_covariance(moments.covariance)
        # A few rows may have hidden what makes columns depend on each other
        if whitened is not None and is_trusted(whitened[1], precise):
            offset, right_side = moments.mean, moments.right_side
            directions, bound = whitened
    if shift.any() or dtype != source.X.dtype:
        found = found.shifted(shift.to(dtype))
    return Conditioned(
        found,
        shift,
        torch.ones_like(shift),
        y_shift,
        y_scale,
        Transform(directions, offset if fit_intercept else None),
        None,
        condition=bound,
        sketch="gram",
        row_norm_bound=float(n_features + fit_intercept),
        right_side=right_side,
    )


def condition_by_columns(source: MemorySource, *, fit_intercept: bool) -> Conditioned:
    """Bring the columns to one scale, in float64, without copying them and without looking at them together.

    Parameters
    ----------
    source : MemorySource
    fit_intercept : bool
    """
    y, y_shift, y_scale = standardize_targets(source.y, source.weight, torch.float64, centre=fit_intercept)
    weight = None if source.weight is None else source.weight.double()
    shift = torch.zeros(source.shape[1], dtype=y.dtype, device=y.device)
    X = source.X
    if not source.is_sparse:
        if fit_intercept:
            some = torch.arange(0, len(source), max(1, len(source) // SHIFT_ROWS), device="cpu")
            shift = choose_shift(source.sample(some), y.dtype)
        X = X.in_double(shift) if not shift.any() else Standardized(X, shift)
    given, source = source, replace(source, X=X, y=y, weight=weight)
    block_rows = max(1, BLOCK_ELEMENTS // max(1, source.X.mean_nnz))
    if source.is_sparse:
        mean, variance = sparse_moments(source, block_rows, centre=fit_intercept)
        square = variance
    else:
        mean, square = source.reduce(ColumnMoments(), max(1, MOMENT_ELEMENTS // source.shape[1])).value
        mean = mean if fit_intercept else torch.zeros_like(mean)
        variance = square - mean.square()
        variance = torch.where(variance > VARIANCE_ROUNDING * square, variance, 0.0)
    if not square.isfinite().all() or ((square > 0) & (square < SMALLEST_SQUARE)).any():
        return condition_exactly(given, "scale", fit_intercept=fit_intercept)  # which takes care of squares
    size = nearest_power_of_two(torch.where(variance > 0, variance, 1.0).rsqrt())
    return Conditioned(
        source,
        shift,
        torch.ones_like(mean),
        y_shift,
        y_scale,
        Transform(size, mean if fit_intercept else None),
        None,
        condition=1.0,
        sketch="exact",
        row_norm_bound=float(source.shape[1]),
    )


def condition_by_products(
    source: MemorySource, method: str | None, dtype: torch.dtype, *, fit_intercept: bool
) -> Conditioned:
    """Bring the columns to one scale, or leave them at theirs, by products with the rows alone.

    Parameters
    ----------
    source : MemorySource
    method : {"scale", None}
        As in `condition_exactly`.
    dtype : torch.dtype
        Precision to multiply in.
    fit_intercept : bool
    """
    y, y_shift, y_scale = standardize_targets(source.y, source.weight, dtype, centre=fit_intercept)
    weight = None if source.weight is None else source.weight.to(dtype)
    source = replace(source, y=y, weight=weight)
    block_rows = max(1, BLOCK_ELEMENTS // max(1, source.X.mean_nnz))
    mean, variance = sparse_moments(source, block_rows, centre=fit_intercept)
    size = torch.ones_like(mean)
    if method is not None:
        size = nearest_power_of_two(torch.where(variance > 0, variance, 1.0).rsqrt())
    transform = Transform(size, mean if fit_intercept else None)
    (curvature,) = largest_eigenvalues(
        lambda direction: source.reduce(GramProduct(transform, direction), block_rows).value, mean[:, None]
    ).tolist()
    size = size / max(curvature, EPS) ** 0.5
    return Conditioned(
        source,
        torch.zeros_like(mean),
        torch.ones_like(mean),
        y_shift,
        y_scale,
        Transform(size, transform.offset),
        None,
        condition=1.0,
        sketch="exact",
        row_norm_bound=(variance * size.square()).sum().item() + fit_intercept,
    )


def _directions(sketch: torch.Tensor, method: str | None, *, is_exact: bool) -> tuple:
    """Return the weights' part of T, the row space if it is not everything, and the condition number."""
    if method == "whiten":
        return whiten(sketch, roughly=not is_exact)
    size = torch.ones_like(sketch[0])
    if method is not None:
        size = size / root_mean_square(sketch, None)
    size = nearest_power_of_two(size) if is_exact else size
    return normalize_spectrum(sketch, size), None, 1.0


def _row_norm_bound(sample: torch.Tensor, transform: Transform, *, fit_intercept: bool) -> float:
    """Return the mean squared norm of rows in the variables v, each weighted by itself."""
    if fit_intercept:
        sample = torch.cat([sample, sample.new_ones(len(sample), 1)], dim=1)
    norms = transform.rmatvec(sample.T).square_().sum(0)
    return (norms.square().sum() / norms.sum()).item()
