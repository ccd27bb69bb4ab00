"""From raw columns to round ones: what makes a step of one right in every direction at once.

Let C be the centred, weighted covariance of the columns. Steps along ``T Tᵀ gradient``, where ``Tᵀ C T`` is close to
the identity, see a loss that is equally curved everywhere. T comes from an orthogonal factorisation of a *sketch* of
the table. A small table is its own sketch. Of a large one a sample of rows is tried first, which costs nothing; where
that turns out not to speak for the table - heavy tails, rare indicators - all rows are folded onto each other with
random signs (Clarkson & Woodruff 2013, "Low rank approximation and regression in input sparsity time"), which cannot
miss the row that matters.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import torch

from torchlinreg.engine.data.batches import MiniBatches, Rows
from torchlinreg.engine.data.moments import mean_and_variance, root_mean_square, standardise
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.transforms import EPS, RowSpace, Transform, largest_eigenvalue, stretch, whiten

EXACT_ELEMENTS = 2**19  # a table no larger may be copied to float64 and be its own sketch,
EXACT_OPERATIONS = 2**28  # if factorising it takes no longer than this many multiplications
SHORT_ELEMENTS = 2**27  # the same for a table that has few rows for its columns
SHORT_OPERATIONS = 2**38
WHITEN_FEATURES = 4096  # beyond, a factorisation costs more than the passes that it saves
SKETCH_ROWS = 2**15  # rows of a sketch at most, and
SKETCH_OPERATIONS = 2**29  # multiplications that factorising it may take,
SKETCH_ROWS_PER_FEATURE = 8  # unless it needs more to say anything
SAMPLE_ROWS = 2**12
RANGE_IN_DEVIATIONS = 6.0  # of a sample, roughly
FAR_FROM_ZERO = 8.0  # offset, in deviations, beyond which features are shifted before they are multiplied
SINGLE_CONDITION = 3e4  # condition number that single precision can do justice to
CHUNK_ELEMENTS = 2**20  # numbers of a sparse table that are multiplied at once


@dataclass(frozen=True)
class Conditioning:
    """A table as the engine wants it, a change of variables in which its loss is round, and the way back.

    Attributes
    ----------
    rows : Rows
        Features (X - shift) / scale, targets (y - y_shift) / y_scale.
    shift, scale : torch.Tensor of shape (n_features,), float64
    y_shift, y_scale : torch.Tensor of shape (n_columns,), float64
    transform : Transform
        Theta, the weights with the intercept as a last row, is ``transform(v)``. In float64.
    span : RowSpace or None
        What rows are made of, if columns depend on each other.
    condition : float
        Estimated condition number of the centred and scaled columns, as far as they are independent.
    sketch : {"table", "sample", "fold"}
        What the transform was found from. If it was the whole table, one step of one is the answer.
    row_norm_bound : float
        Mean squared norm of a whitened row, each weighted by itself; the number of directions if tails are light.
    load : dict
        How blocks of `rows` become the features meant above: options of `MiniBatches`.
    """

    rows: Rows
    shift: torch.Tensor
    scale: torch.Tensor
    y_shift: torch.Tensor
    y_scale: torch.Tensor
    transform: Transform
    span: RowSpace | None
    condition: float
    sketch: str
    row_norm_bound: float = 0.0
    load: dict = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Features of the table."""
        return len(self.shift)

    @property
    def excess(self) -> float:
        """Largest curvature that a sketch of this size leaves, where one is meant (Marchenko & Pastur)."""
        if self.sketch == "table":
            return 1.0
        return (1.0 + (self.n_features / sketch_rows(*self.rows.X.shape)) ** 0.5) ** 2

    def in_double(self) -> "Conditioning":
        """Return the table with products in float64, whatever precision its features are kept in."""
        weight = None if self.rows.weight is None else self.rows.weight.double()
        rows = replace(self.rows, y=self.rows.y.double(), weight=weight)
        # Shifting rows, if only by zero, is what brings them to the precision of the targets
        narrow = not rows.is_sparse and rows.X.dtype != rows.y.dtype
        return replace(self, rows=rows, load={"shift": self.shift} if self.load or narrow else {})

    def minimum_norm(self, theta: torch.Tensor) -> torch.Tensor:
        """Of all theta that predict the same, return the one whose weights have the smallest norm in the data's units.

        Parameters
        ----------
        theta : torch.Tensor of shape (n_features, n_columns) or (n_features + 1, n_columns)
            Without a last row of intercepts, predictions stay the same up to a constant.
        """
        if self.span is None:
            return theta
        weights, intercept = theta[: self.n_features], theta[self.n_features :]
        smallest = self.span.smallest(weights, self.scale)
        if self.transform.offset is not None and len(intercept):
            intercept = intercept + self.transform.offset[None] @ (weights - smallest)
        return torch.cat([smallest, intercept])

    def penalty_in_units(self, penalty: Penalty) -> Penalty:
        """Return the penalty, given in the units of the data, in those of the table."""
        return penalty.rescaled(self.y_scale / self.scale[:, None], self.y_scale)

    def standardize(self, theta: torch.Tensor, *, fit_intercept: bool) -> torch.Tensor:
        """Return theta, given in the units of the data, in those of the table."""
        n_features = self.n_features
        weights = theta[:n_features].double() * (self.scale[:, None] / self.y_scale)
        if not fit_intercept:
            return weights
        intercept = theta[n_features].double() + self.shift @ theta[:n_features].double() - self.y_shift
        return torch.cat([weights, (intercept / self.y_scale)[None]])

    def unstandardize(self, theta: torch.Tensor, *, fit_intercept: bool) -> torch.Tensor:
        """Return theta in the units of the data, as given."""
        n_features = self.n_features
        weights = theta[:n_features] * (self.y_scale / self.scale[:, None])
        if not fit_intercept:
            return weights
        intercept = self.y_shift + self.y_scale * theta[n_features] - self.shift @ weights
        return torch.cat([weights, intercept[None]])


def is_exact(rows: Rows) -> bool:
    """Whether the table is to be its own sketch: where that is fast, or where it is too short for another."""
    n_rows, n_features = rows.X.shape
    if rows.is_sparse and n_features > WHITEN_FEATURES:
        return True  # of which products only are asked
    size = n_rows * n_features
    operations = size * min(n_rows, n_features)
    if n_rows > 2 * SKETCH_ROWS_PER_FEATURE * n_features:
        return size <= EXACT_ELEMENTS and operations <= EXACT_OPERATIONS
    return n_rows == 1 or (size <= SHORT_ELEMENTS and operations <= SHORT_OPERATIONS)


def sketch_rows(n_rows: int, n_features: int) -> int:
    """Rows of a sketch."""
    affordable = min(SKETCH_ROWS, SKETCH_OPERATIONS // n_features**2)
    wanted = SKETCH_ROWS_PER_FEATURE * n_features if n_features <= WHITEN_FEATURES else SAMPLE_ROWS
    return min(n_rows // 2, max(wanted, affordable))


def may_be_filled(rows: Rows) -> bool:
    """Whether rows may be given their zeros, some at a time: not those of sparse tables with very many columns."""
    return not rows.is_sparse or rows.X.shape[1] <= WHITEN_FEATURES


def choose_method(method: str | None, rows: Rows, *, least_norm: bool) -> str | None:
    """Return what "auto" stands for: "whiten" unless factorising a sketch would cost more than it saves.

    Parameters
    ----------
    method : {"auto", "whiten", "scale", None}
    rows : Rows
    least_norm : bool
        Whether to find the smallest of many answers: descent from zero does, if columns stay at their own scales.
    """
    n_rows, n_features = rows.X.shape
    if method != "auto":
        return method
    if n_features <= WHITEN_FEATURES or (is_exact(rows) and not rows.is_sparse):
        return "whiten"
    return None if least_norm and rows.is_sparse and n_rows <= n_features else "scale"


def condition(rows: Rows, method: str | None, dtype: torch.dtype, *, fit_intercept: bool, seed: int) -> Conditioning:
    """Condition a table in a way that can be trusted without a look at where it leads.

    Parameters
    ----------
    rows : Rows
    method : {"whiten", "scale", None}
        As in `condition_exactly`.
    dtype : torch.dtype
        Precision to multiply in, if the condition number allows it.
    fit_intercept : bool
    seed : int
        Of the signs, if the table is too large to be its own sketch.
    """
    if is_exact(rows):
        return condition_exactly(rows, method, fit_intercept=fit_intercept)
    generator = torch.Generator("cpu").manual_seed(seed)
    return condition_by_sketch(rows, method, "fold", dtype, fit_intercept=fit_intercept, generator=generator)


def condition_exactly(rows: Rows, method: str | None, *, fit_intercept: bool) -> Conditioning:
    """Centre, scale and whiten a table that is its own sketch, in float64.

    Parameters
    ----------
    rows : Rows
    method : {"whiten", "scale", None}
        Directions that are equally curved; the columns at one scale; or the columns as they are.
    fit_intercept : bool
        Nothing is centred without an intercept.
    """
    if rows.is_sparse:
        condition = condition_by_sketch if rows.X.shape[1] <= WHITEN_FEATURES else condition_by_products
        return condition(rows, method, "table", torch.float64, fit_intercept=fit_intercept)
    weight = None if rows.weight is None else rows.weight.double()
    X, shift, scale = standardise(rows.X.to(rows.y.device).double(), weight, centre=fit_intercept, coarse=True)
    y, y_shift, y_scale = standardise(rows.y.double(), weight, centre=fit_intercept)
    sketch = X if weight is None else X * weight.sqrt()
    if method == "whiten":
        directions, span, cond = whiten(sketch)
    else:
        directions, span, cond = stretch(sketch, scale if method is None else torch.ones_like(scale)), None, 1.0
    transform = Transform(directions, torch.zeros_like(shift) if fit_intercept else None)
    return Conditioning(
        replace(rows, X=X, y=y, weight=weight),
        shift,
        scale,
        y_shift,
        y_scale,
        transform,
        span,
        condition=cond,
        sketch="table",
        row_norm_bound=float(transform.n_directions),
    )


def condition_by_sketch(
    rows: Rows,
    method: str | None,
    kind: str,
    dtype: torch.dtype,
    *,
    fit_intercept: bool,
    generator: torch.Generator | None = None,
) -> Conditioning:
    """Whiten a large or a sparse table, approximately, without copying it.

    Parameters
    ----------
    rows : Rows
    method : {"whiten", "scale", None}
        As in `condition_exactly`.
    kind : {"sample", "fold", "table"}
        What to sketch the table by: some of the rows, all of them folded, or all as they are.
    dtype : torch.dtype
        Precision to multiply in, if the condition number allows it.
    fit_intercept : bool
    generator : torch.Generator, optional
        Draws the sample, or the signs.
    """
    n_rows, n_features = rows.X.shape
    chosen = torch.arange(n_rows, device="cpu")
    if kind != "table":
        chosen = torch.randint(n_rows, (sketch_rows(n_rows, n_features),), generator=generator, device="cpu")
    few = _take(rows.X, chosen[:SAMPLE_ROWS], rows.y.device)
    shift = _far_from_zero(few, dtype) if fit_intercept else torch.zeros_like(few[0], dtype=torch.float64)
    if kind != "fold":
        offset, sketch = _sample(rows, chosen, shift, centre=fit_intercept)
    else:
        offset, sketch = _fold(rows, shift, centre=fit_intercept, generator=generator)
    if method == "whiten":
        directions, span, cond = whiten(sketch, quickly=kind != "table")
    else:
        size = torch.ones_like(shift) if method is None else 1.0 / root_mean_square(sketch, None)
        size = _coarse(size) if kind == "table" else size
        directions, span, cond = stretch(sketch, size), None, 1.0
    transform = Transform(directions, offset if fit_intercept else None)
    del sketch  # the largest thing here; what follows needs the room
    few = few - shift
    few = torch.cat([few, few.new_ones(len(few), 1)], dim=1) if fit_intercept else few
    norms = transform.rmatvec(few.T).square_().sum(0)
    if rows.is_sparse:
        # Numbers that are not kept cannot be shifted: their centre is taken care of in the algebra
        offset, shift, dtype = offset + shift, torch.zeros_like(shift), torch.float64
        transform = replace(transform, offset=offset if fit_intercept else None)
    y, y_shift, y_scale = standardise(rows.y.double(), rows.weight, centre=fit_intercept)
    dtype = torch.float64 if cond > SINGLE_CONDITION else dtype
    dense = not rows.is_sparse
    load = {"shift": shift.to(dtype)} if dense and (shift.any() or dtype != rows.X.dtype) else {}
    weight = None if rows.weight is None else rows.weight.to(dtype)
    return Conditioning(
        replace(rows, y=y.to(dtype), weight=weight),
        shift,
        torch.ones_like(shift),
        y_shift,
        y_scale,
        transform,
        span,
        condition=cond,
        sketch=kind,
        row_norm_bound=(norms.square().sum() / norms.sum()).item(),
        load=load,
    )


def condition_by_products(
    rows: Rows, method: str | None, kind: str, dtype: torch.dtype, *, fit_intercept: bool
) -> Conditioning:
    """Bring the columns to one scale, or leave them at theirs, by products with the table alone.

    Parameters
    ----------
    rows : Rows
    method : {"scale", None}
        As in `condition_exactly`.
    kind : {"table"}
    dtype : torch.dtype
        Precision to multiply in.
    fit_intercept : bool
    """
    y, y_shift, y_scale = standardise(rows.y.double(), rows.weight, centre=fit_intercept)
    rows = replace(rows, y=y.to(dtype), weight=None if rows.weight is None else rows.weight.to(dtype))
    chunks = MiniBatches(rows, max(1, CHUNK_ELEMENTS // max(1, rows.width)))
    mean, variance = mean_and_variance(chunks, centre=fit_intercept)
    size = torch.ones_like(mean) if method is None else _coarse(torch.where(variance > 0, variance, 1.0).rsqrt())
    offset = mean if fit_intercept else None
    curvature = largest_eigenvalue(partial(_curve, chunks, Transform(size, offset)), torch.zeros_like(mean))
    size /= max(curvature, EPS) ** 0.5
    return Conditioning(
        rows,
        torch.zeros_like(mean),
        torch.ones_like(mean),
        y_shift,
        y_scale,
        Transform(size, offset),
        None,
        condition=1.0,
        sketch=kind,
        row_norm_bound=(variance * size.square()).sum().item() + fit_intercept,
    )


def _curve(chunks: MiniBatches, transform: Transform, direction: torch.Tensor) -> torch.Tensor:
    """Multiply by the second moment of the centred rows in the variables v, those of weights."""
    v = direction if transform.offset is None else torch.cat([direction, direction.new_zeros(1, 1)])
    theta, gradient = transform(v), 0.0
    for block in chunks:
        for batch in block.batches:
            error = batch.X @ theta[: len(direction)] + theta[len(direction) :].sum(0)
            error = error if batch.weight is None else batch.weight * error
            of_weights = batch.X_transposed @ error
            gradient += of_weights if transform.offset is None else torch.cat([of_weights, error.sum(0)[None]])
    return transform.rmatvec(gradient)[: len(direction)] / chunks.n_rows


def _coarse(size: torch.Tensor) -> torch.Tensor:
    """Return the nearest powers of two, as tables that are copied are scaled by."""
    return torch.exp2(torch.log2(size).round())


def _take(table: torch.Tensor, chosen: torch.Tensor, device: torch.device) -> torch.Tensor:
    return table.index_select(0, chosen.to(table.device)).to(device).to_dense()


def _far_from_zero(sample: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the mean of each column, as a number of that precision, or zeros if all are near zero."""
    mean = sample.mean(0, dtype=torch.float64)
    lowest, highest = torch.aminmax(sample, dim=0)
    mean = torch.where(lowest == highest, lowest, mean).to(dtype).double()
    far = mean.abs() > FAR_FROM_ZERO * (highest.double() - lowest.double()) / RANGE_IN_DEVIATIONS
    return mean if (far & (mean != 0)).any() else torch.zeros_like(mean)


def _sample(rows: Rows, chosen: torch.Tensor, shift: torch.Tensor, *, centre: bool) -> tuple:
    """Return the mean offset of some rows from the shift, and these rows in float64, centred and weighted."""
    X = shift.new_empty(len(chosen), len(shift))
    for part, some in zip(X.split(SAMPLE_ROWS), chosen.split(SAMPLE_ROWS), strict=True):
        torch.sub(_take(rows.X, some, shift.device), shift, out=part)
    weight = None if rows.weight is None else _take(rows.weight, chosen, shift.device).double()
    offset = torch.zeros_like(shift)
    if centre:
        offset = X.mean(0) if weight is None else (weight.T @ X)[0] / weight.sum()
        X -= offset
    return offset, X if weight is None else X.mul_(weight.sqrt())


def _fold(rows: Rows, shift: torch.Tensor, *, centre: bool, generator: torch.Generator) -> tuple:
    """Return the mean offset of all rows from the shift, and all rows folded onto a few with random signs, centred."""
    n_rows, n_features = rows.X.shape
    size = sketch_rows(n_rows, n_features)
    sketch, part = shift.new_zeros(size, n_features), shift.new_empty(size, n_features)
    total, signs = torch.zeros_like(shift), shift.new_zeros(size, 1)
    for start in range(0, n_rows, size):
        X = rows.X[start : start + size].to(shift.device).to_dense()
        X = torch.sub(X, shift, out=part[: len(X)])
        sign = torch.randint(2, (len(X), 1), generator=generator, device="cpu").to(X).mul_(2).sub_(1)
        if rows.weight is None:
            total += X.sum(0)
        else:
            weight = rows.weight[start : start + size].to(X)
            total += (weight.T @ X)[0]
            sign *= weight.sqrt()
        sketch[: len(X)].addcmul_(X, sign)
        signs[: len(X)] += sign
    offset = total / n_rows if centre else torch.zeros_like(shift)
    sketch.addmm_(signs, offset[None], alpha=-1.0)
    return offset, sketch.mul_((size / n_rows) ** 0.5)
