"""The path for large tables, taken by small ones: conditioning by a sketch, its parts, and what comes of it."""

from functools import cache

import numpy as np
import pytest
import torch
from hard_cases import CASES, least_squares, linear_target
from numpy.testing import assert_allclose, assert_array_equal

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.moments import root_mean_square, weighted_mean
from torchlinreg.engine.data.source import MemorySource, as_operator
from torchlinreg.engine.preconditioning import choose
from torchlinreg.engine.preconditioning.factorizations import whiten
from torchlinreg.engine.preconditioning.sketch import countsketch

TOLERANCE = {"float64": 1e-8, "float32": 1e-4}  # of the target's spread
# Where single rows weigh as much as all others, float32 keeps the tolerance in the mean but not in each of these rows
SINGLE_ROWS_MATTER = {
    "cauchy_rows",
    "heavy_tails",
    "lognormal",
    "one_row_of_leverage_1e6",
    "rare_indicators",
    "sparse_dummies_of_a_long_tail",
    "student_t",
    "lognormal_of_20000_rows",
    "indicators_of_single_rows",
}


@pytest.fixture
def sketched(monkeypatch):
    """Take no table for its own sketch that has rows enough for another."""
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)


def student_t(rng):
    X = rng.standard_t(1.5, size=(20_000, 10))
    return X, X @ rng.normal(size=10) + rng.normal(size=20_000)


def lognormal_of_20000_rows(rng):
    X = rng.lognormal(0, 2, size=(20_000, 10))
    return X, linear_target(X, rng)


def indicators_of_single_rows(rng):
    X = rng.normal(size=(20_000, 10))
    X[:, 6:] = 0
    X[[5, 777, 12_000, 19_999], [6, 7, 8, 9]] = 1
    return X, linear_target(X, rng)


def sorted_by_every_column(rng):
    X = np.sort(rng.normal(size=(20_000, 10)), axis=0) + 0.1 * rng.normal(size=(20_000, 10))
    return X, linear_target(X, rng)


def log_of_two_weeks(rng):
    seconds = np.arange(20_000) * 60.0
    X = rng.normal(size=(20_000, 10))
    X[:, :3] = np.column_stack([1.7e9 + seconds, seconds // 86_400, seconds % 86_400])
    return X, linear_target(X, rng)


def an_offset_that_drifts(rng):
    X = rng.normal(size=(20_000, 10)) + 1e3 * np.linspace(0, 1, 20_000)[:, None]
    return X, linear_target(X, rng)


LARGE = {
    function.__name__: function
    for function in (
        student_t,
        lognormal_of_20000_rows,
        indicators_of_single_rows,
        sorted_by_every_column,
        log_of_two_weeks,
        an_offset_that_drifts,
    )
}
TALL = [name for name, table in CASES.items() if np.divide(*table(np.random.default_rng(0))[0].shape) > 16]


@cache
def solved(name, dtype, seed=None):
    """Return a table, its weights, and the answer to trust."""
    X, y, *weight = {**CASES, **LARGE}[name](np.random.default_rng(len(name) if seed is None else seed))
    with np.errstate(over="ignore", under="ignore"):
        X, y = np.asarray(X).astype(dtype), np.asarray(y).astype(dtype)
    weight = weight[0] if weight else None
    return X, y, weight, *least_squares(X, y, weight)


def spread_of(y):
    columns = y.reshape(len(y), -1).astype(float)
    spread = columns.std(0)
    return np.where(spread > 0, spread, np.abs(columns).max(0))


def errors(model, X, y, weight, coef, intercept):
    """Return by how much predictions are off, in spreads of the target, for each row that counts."""
    expected = X.astype(float) @ coef.T + intercept
    error = np.abs(model.predict(X).reshape(expected.shape) - expected) / spread_of(y)
    return error if weight is None else error[weight > 0]


def assert_least_squares(name, dtype, backend):
    X, y, weight, coef, intercept = solved(name, dtype)
    model = TorchLinearRegressor(backend=backend, random_state=0).fit(X, y, sample_weight=weight)
    error = errors(model, X, y, weight, coef, intercept)
    in_the_mean = dtype == "float32" and name in SINGLE_ROWS_MATTER
    size = np.sqrt(np.mean(error**2)) if in_the_mean else error.max()
    assert size <= TOLERANCE[dtype]
    assert model.converged_


@pytest.mark.parametrize("name", TALL)
def test_predictions_are_those_of_least_squares(sketched, name, backend, dtype):
    if dtype == "float32" and name == "column_scales_from_1e_minus_100_to_1e100":
        name = "column_scales_from_1e_minus_8_to_1e8"
    assert_least_squares(name, dtype, backend)


@pytest.mark.parametrize("name", LARGE)
def test_predictions_on_20000_rows(sketched, name, dtype):
    assert_least_squares(name, dtype, "auto")


@pytest.mark.parametrize("seed", range(12))
def test_row_that_the_sample_may_have_missed(sketched, seed, dtype):
    """Such a row outweighs all others a million million times, and must not drown what they say."""
    X, y, weight, coef, intercept = solved("one_row_of_leverage_1e6", dtype, seed)
    model = TorchLinearRegressor(random_state=seed).fit(X, y)
    error = errors(model, X, y, weight, coef, intercept)
    assert np.sqrt(np.mean(error**2)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("kind", ["sample", "fold"])
@pytest.mark.parametrize("seed", range(3))
def test_gap_is_that_of_the_answer(sketched, kind, seed):
    """The gap is measured, to a factor that allows for the sketch, not just believed."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3000, 5)) if kind == "sample" else rng.standard_t(1.5, size=(3000, 5))
    y = X @ rng.normal(size=5) + rng.normal(size=3000)
    best = np.mean((np.column_stack(least_squares(X, y)) @ np.vstack([X.T, np.ones(3000)]) - y) ** 2)
    for tol in (1e-3, 1e-6):
        model = TorchLinearRegressor(tol=tol, random_state=seed).fit(X, y)
        excess = (np.mean((model.predict(X) - y) ** 2) - best) / y.var()
        assert excess <= 4 * tol
        assert excess <= 4 * model.optimality_gap_ + 1e-12


# Coefficients


def assert_coefficients(name, model):
    """Compare what each column contributes per deviation, to a tolerance that grows with the condition number."""
    X, y, weight, coef, intercept = solved(name, "float64")
    model.fit(X, y, sample_weight=weight)
    deviation = X.std(0)
    singular = np.linalg.svd((X - X.mean(0)) / np.where(deviation > 0, deviation, 1), compute_uv=False)
    kept = singular[singular > 1e-11 * singular[0]]
    condition = kept[0] / kept[-1] if len(kept) else 1.0
    error = np.abs(np.atleast_2d(model.coef_) - coef) * deviation / spread_of(y)[:, None]
    assert error.max() <= 1e-9 * condition
    size = spread_of(y) + np.abs(coef * X.mean(0)).sum(1)
    assert (np.abs(model.intercept_ - intercept) <= 1e-9 * condition * size).all()


@pytest.mark.parametrize("name", CASES)
def test_coefficients_are_the_unique_ones_or_those_of_minimum_norm(name):
    assert_coefficients(name, TorchLinearRegressor(random_state=0))


@pytest.mark.parametrize("name", [*TALL, *LARGE])
def test_coefficients_by_a_sketch(sketched, name):
    assert_coefficients(name, TorchLinearRegressor(random_state=0))


@pytest.mark.parametrize("shape", [(10, 30), (200, 6)])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("sketch", [True, False])
def test_minimum_norm_is_in_the_units_of_the_data(rng, monkeypatch, shape, weighted, fit_intercept, sketch):
    """The pseudo-inverse of the centred, weighted columns as they are, whatever their scales."""
    if sketch:
        monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X = rng.normal(size=shape) * rng.uniform(0.1, 10, shape[1]) + 3
    X[:, 1], X[:, 2] = 2 * X[:, 0], X[:, 3] - X[:, 4]
    y, weight = rng.normal(size=(shape[0], 2)), rng.uniform(0.5, 2, shape[0]) if weighted else np.ones(shape[0])
    x_mean, y_mean = (np.average(part, axis=0, weights=weight) * fit_intercept for part in (X, y))
    root = np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(root * (X - x_mean), root * (y - y_mean), rcond=1e-12)[0]
    model = TorchLinearRegressor(fit_intercept=fit_intercept, random_state=0)
    model.fit(X, y, sample_weight=weight if weighted else None)
    assert_allclose(model.coef_, expected.T, atol=1e-9)
    assert_allclose(model.intercept_, (y_mean - x_mean @ expected) * fit_intercept, atol=1e-8)


# Whitening


def with_condition(rng, condition, shape=(300, 12)):
    U, _, Vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return U * np.geomspace(1, 1 / condition, len(Vt)) @ Vt


@pytest.mark.parametrize("roughly", [True, False])
@pytest.mark.parametrize("condition", [1, 1e3, 1e6, 1e9])
def test_whitened_columns_are_orthonormal(rng, condition, roughly):
    sketch = torch.from_numpy(with_condition(rng, condition))
    transform, _, _ = whiten(sketch, roughly=roughly)
    assert transform.shape == (12, 12)
    white = sketch @ transform
    assert_allclose(white.T @ white / 300, np.eye(12), atol=1e-15 * condition * 10 + 1e-6 * roughly + 1e-12)


@pytest.mark.parametrize("roughly", [True, False])
@pytest.mark.parametrize("condition", [1, 10, 1e4, 1e8])
@pytest.mark.parametrize("n_features", [1, 2, 12, 40])
def test_condition_number_is_estimated(rng, condition, roughly, n_features):
    sketch = with_condition(rng, condition, (300, n_features))
    _, _, estimate = whiten(torch.from_numpy(sketch), roughly=roughly)
    actual = np.linalg.cond(sketch / np.linalg.norm(sketch, axis=0))
    assert actual / 10 <= estimate <= actual * 10


@pytest.mark.parametrize("roughly", [True, False])
def test_scale_of_columns_does_not_matter(rng, roughly):
    sketch = torch.from_numpy(rng.normal(size=(50, 5)))
    scale = torch.tensor([1e-150, 1e-8, 1, 1e8, 1e150], dtype=torch.float64)
    transform, _, condition = whiten(sketch * scale, roughly=roughly)
    white = sketch @ (scale[:, None] * transform)
    assert_allclose(white.T @ white / 50, np.eye(5), atol=1e-12)
    assert condition == pytest.approx(whiten(sketch, roughly=roughly)[2], rel=0.01)


COLLINEAR = {
    "a copy": (lambda X: np.column_stack([X, X[:, 0]]), 4),
    "a copy in other units": (lambda X: np.column_stack([X, 1e6 * X[:, 0]]), 4),
    "a sum": (lambda X: np.column_stack([X, X.sum(1)]), 4),
    "a column of zeros": (lambda X: np.column_stack([X, np.zeros(30)]), 4),
    "fewer rows than columns": (lambda X: X[:3], 3),
    "as many rows as columns": (lambda X: X[:4], 4),
    "one row": (lambda X: X[:1], 1),
    "one column": (lambda X: X[:, :1], 1),
    "nothing but zeros": (np.zeros_like, 0),
}


@pytest.mark.parametrize("roughly", [True, False])
@pytest.mark.parametrize("case", COLLINEAR)
def test_rank(rng, case, roughly):
    change, rank = COLLINEAR[case]
    sketch = torch.from_numpy(change(rng.normal(size=(30, 4))))
    transform, _, condition = whiten(sketch, roughly=roughly)
    assert transform.shape == (sketch.shape[1], rank)
    white = sketch @ transform
    assert_allclose(white.T @ white / len(sketch), np.eye(rank), atol=1e-12)
    assert 1 <= condition < 1e3


# The sketch, and the sums that it starts from


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("centre", [True, False])
def test_countsketch_is_what_it_says(rng, weighted, centre):
    """Row i, centred and weighted, goes with a random sign onto row i modulo the size of the sketch."""
    X, shift = rng.normal(size=(1003, 4)) + 5, np.array([5.0, 4.0, 0.0, -1.0])
    weight = rng.uniform(0.1, 2, (1003, 1)) if weighted else np.ones((1003, 1))
    weight /= weight.mean()
    weights = torch.from_numpy(weight) if weighted else None
    rows = MemorySource(as_operator(torch.from_numpy(X)), torch.zeros(1003, 1), weights)
    generator = torch.Generator().manual_seed(3)
    offset, sketch = countsketch(rows, torch.from_numpy(shift), centre=centre, generator=generator)
    expected_offset = (weight * (X - shift)).mean(0) * centre
    assert_allclose(offset, expected_offset, atol=1e-13)

    size = choose.sketch_rows(1003, 4)
    generator.manual_seed(3)
    lengths = [min(size, 1003 - start) for start in range(0, 1003, size)]
    signs = np.concatenate([torch.randint(2, (n, 1), generator=generator).numpy() for n in lengths]) * 2 - 1
    expected = np.zeros((size, 4))
    np.add.at(expected, np.arange(1003) % size, signs * np.sqrt(weight) * (X - shift - expected_offset))
    assert_allclose(sketch, expected * np.sqrt(size / 1003), atol=1e-12)


def test_countsketch_has_the_second_moments_of_the_table(rng):
    X = rng.standard_t(3, size=(2000, 3))
    rows = MemorySource(as_operator(torch.from_numpy(X)), torch.zeros(2000, 1))
    generator = torch.Generator().manual_seed(0)
    moments = np.zeros((3, 3))
    for _ in range(100):
        _, sketch = countsketch(rows, torch.zeros(3, dtype=torch.float64), centre=True, generator=generator)
        moments += (sketch.T @ sketch / len(sketch)).numpy() / 100
    assert_allclose(moments, np.cov(X.T, bias=True), atol=0.03 * X.var(0).max())


SUMS = {
    "plain": lambda X: X,
    "far from zero": lambda X: X + 1e9,
    "tiny": lambda X: X * 1e-160,
    "huge": lambda X: X * 1e160,
    "one row outweighs the others": lambda X: np.vstack([X[1:], X[:1] * 1e12]),
    "constant": lambda X: np.full_like(X, 0.1),
    "zero": np.zeros_like,
}


@pytest.mark.parametrize("case", SUMS)
@pytest.mark.parametrize("weighted", [True, False])
def test_sums_against_extended_precision(rng, case, weighted):
    X = SUMS[case](rng.normal(size=(1000, 4)) * [1, 10, 1e-3, 7])
    weight = rng.integers(0, 3, (1000, 1)) * rng.uniform(size=(1000, 1)) if weighted else np.ones((1000, 1))
    weight /= weight.mean()
    wide = X.astype(np.longdouble)
    mean, square = (weight * wide).mean(0), (weight * wide**2).mean(0)
    given = torch.from_numpy(X), torch.from_numpy(weight) if weighted else None
    deviation = np.sqrt((weight * (wide - mean) ** 2).mean(0)).astype(float)
    assert_allclose(weighted_mean(*given), mean.astype(float), rtol=1e-15, atol=1e-13 * deviation.max())
    assert_allclose(root_mean_square(*given), np.where(square > 0, np.sqrt(square), 1).astype(float), rtol=1e-13)


def test_mean_of_a_constant_column_is_that_constant(rng):
    weight = torch.from_numpy(rng.uniform(size=(1000, 1)))
    for value in (0.1, 1e9 + 0.1, -7.3e-200):
        table = torch.full((1000, 2), value, dtype=torch.float64)
        for given in (None, weight / weight.mean()):
            assert_array_equal(weighted_mean(table, given), [value, value])
