"""Tables on which least squares by SGD, and often by a direct solver, goes wrong; and an answer to trust.

Each case is a function of a random generator that returns ``X, y`` or ``X, y, sample_weight`` in float64. To add one,
write it and decorate it: the tests and the benchmark iterate over `CASES`.
"""

from collections.abc import Callable

import numpy as np

CASES: dict[str, Callable] = {}


def case(function: Callable) -> Callable:
    CASES[function.__name__] = function
    return function


def least_squares(X, y, sample_weight=None, *, fit_intercept=True):
    """Return coef (n_targets, n_features) and intercept (n_targets,) by an SVD of the centred, scaled columns.

    Sums are in extended precision where NumPy has it. Of all solutions it is the one of the smallest norm.
    """
    X, y = np.asarray(X, dtype=np.longdouble), np.asarray(y, dtype=np.longdouble).reshape(len(X), -1)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.longdouble)
    x_mean, y_mean = (
        (weight @ table / weight.sum() if fit_intercept else np.zeros(table.shape[1], np.longdouble))
        for table in (X, y)
    )
    root = np.sqrt(weight)[:, None]
    constant = (X[0] == X).all(0) & fit_intercept
    x_mean = np.where(constant, X[0], x_mean)
    A, B = root * (X - x_mean), root * (y - y_mean)
    scale = np.abs(A).max(0)
    scale = np.where(scale > 0, scale, 1)
    scale = scale * np.sqrt(((A / scale) ** 2).sum(0))
    scale = np.where(scale > 0, scale, 1)
    U, s, Vt = np.linalg.svd((A / scale).astype(float), full_matrices=False)
    kept = s > s[0] * max(A.shape) * np.finfo(float).eps
    coef = (Vt[kept].T / s[kept]) @ (U[:, kept].T @ B.astype(float)) / scale.astype(float)[:, None]
    if not kept.all() or A.shape[1] > A.shape[0]:
        basis = np.linalg.qr(scale.astype(float)[:, None] * Vt[kept].T)[0]
        coef = basis @ (basis.T @ coef)
    intercept = (y_mean - x_mean @ coef).astype(float)
    return coef.T, intercept


def linear_target(X, rng, *, noise=0.1):
    """Return a target in which every column of X has about the same say, whatever its scale."""
    spread = X.std(0)
    signal = ((X - X.mean(0)) / np.where(spread > 0, spread, 1)) @ rng.normal(size=X.shape[1])
    size = signal.std() or 1.0
    return signal / size + noise * rng.normal(size=len(X)) + 3.0


@case
def plain(rng):
    X = rng.normal(size=(300, 8))
    return X, linear_target(X, rng)


@case
def column_scales_from_1e_minus_8_to_1e8(rng):
    X = rng.normal(size=(400, 17)) * 10.0 ** np.arange(-8, 9)
    return X, linear_target(X, rng)


@case
def column_scales_from_1e_minus_100_to_1e100(rng):
    X = rng.normal(size=(100, 3)) * [1e-100, 1, 1e100]
    return X, linear_target(X, rng)


@case
def timestamps_years_and_fractions(rng):
    seconds = 1.7e9 + rng.uniform(0, 3e7, 500)
    years = rng.integers(1990, 2025, 500)
    X = np.column_stack([seconds, seconds * 1e9, years, rng.uniform(size=500), rng.uniform(size=500) < 0.3])
    X[:, 1] += rng.normal(size=500) * 1e15
    return X, linear_target(X, rng)


@case
def offsets_of_1e4_deviations(rng):
    X = rng.normal(size=(500, 6)) + 1e4
    return X, linear_target(X, rng)


@case
def offsets_of_1e4_deviations_and_scales(rng):
    X = (rng.normal(size=(500, 6)) + 1e4) * 10.0 ** np.arange(-3, 3)
    return X, linear_target(X, rng) - 20


def correlated(rng, condition, n=600, p=10):
    U, _, Vt = np.linalg.svd(rng.normal(size=(n, p)), full_matrices=False)
    return U @ np.diag(np.logspace(0, -np.log10(condition), p)) @ Vt * n**0.5


@case
def condition_1e4(rng):
    X = correlated(rng, 1e4)
    return X, linear_target(X, rng)


@case
def condition_1e6(rng):
    X = correlated(rng, 1e6) + 5
    return X, linear_target(X, rng)


@case
def condition_1e8(rng):
    X = correlated(rng, 1e8)
    return X, linear_target(X, rng)


@case
def full_dummy_sets(rng):
    parts = [np.eye(size)[rng.integers(0, size, 400)] for size in (2, 3, 5)]
    X = np.column_stack([*parts, rng.normal(size=400)])
    return X, linear_target(X, rng)


@case
def duplicate_columns(rng):
    X = rng.normal(size=(200, 5))
    X = np.column_stack([X, X[:, 0], X[:, 0], 2 * X[:, 1]])
    return X, linear_target(X, rng)


@case
def constant_columns(rng):
    X = np.column_stack([np.full(200, 0.1), rng.normal(size=(200, 3)), np.zeros(200), np.full(200, 1e9)])
    return X, linear_target(X, rng)


@case
def cauchy_rows(rng):
    X = rng.standard_cauchy(size=(500, 6))
    return X, X @ rng.normal(size=6) + rng.standard_cauchy(500)


@case
def heavy_tails(rng):
    X = rng.standard_t(1.5, size=(1000, 10))
    return X, X @ rng.normal(size=10) + rng.normal(size=1000)


@case
def one_row_of_leverage_1e6(rng):
    X = rng.normal(size=(300, 5))
    X[17] *= 1e6
    return X, linear_target(X, rng)


@case
def lognormal(rng):
    X = rng.lognormal(0, 3, size=(500, 6))
    return X, linear_target(X, rng)


@case
def fewer_rows_than_columns(rng):
    X = rng.normal(size=(20, 50))
    return X, linear_target(X, rng)


@case
def fewer_rows_than_columns_of_many_scales(rng):
    X = rng.normal(size=(20, 40)) * 10.0 ** rng.uniform(-2, 2, 40) + 7
    return X, linear_target(X, rng)


@case
def as_many_rows_as_columns(rng):
    X = rng.normal(size=(30, 30))
    return X, linear_target(X, rng)


@case
def one_row(rng):
    return rng.normal(size=(1, 4)), np.array([2.5])


@case
def two_rows(rng):
    return rng.normal(size=(2, 3)), rng.normal(size=2)


@case
def one_column(rng):
    X = rng.normal(size=(100, 1)) * 1e-5 + 1
    return X, linear_target(X, rng)


@case
def one_constant_column(rng):
    return np.full((50, 1), 3.7), rng.normal(size=50)


@case
def constant_target(rng):
    return rng.normal(size=(100, 4)), np.full(100, 7.3)


@case
def target_at_1e12(rng):
    X = rng.normal(size=(200, 4))
    return X, linear_target(X, rng) * 1e12


@case
def target_at_1e_minus_12(rng):
    X = rng.normal(size=(200, 4))
    return X, linear_target(X, rng) * 1e-12


@case
def target_far_from_zero(rng):
    X = rng.normal(size=(200, 4))
    return X, linear_target(X, rng) + 100


@case
def rare_indicators(rng):
    X = np.column_stack([rng.normal(size=(2000, 4)), np.zeros((2000, 3))])
    X[5, 4] = X[17, 5] = X[18, 5] = X[1999, 6] = 1
    return X, linear_target(X, rng)


@case
def polynomial_of_degree_7(rng):
    x = np.sort(rng.uniform(0, 10, 300))
    X = x[:, None] ** np.arange(1, 8)
    return X, linear_target(X, rng)


@case
def targets_of_very_different_scale(rng):
    X = rng.normal(size=(300, 5)) * [1, 10, 100, 0.1, 0.01]
    return X, np.column_stack([linear_target(X, rng) * size for size in (1e-9, 1, 1e9)])


@case
def integers(rng):
    X = rng.integers(-1000, 1000, size=(300, 6))
    return X, X @ rng.integers(-5, 5, 6) + rng.integers(-10, 10, 300)


@case
def weights_with_zeros(rng):
    X = rng.normal(size=(300, 5)) * 10.0 ** np.arange(5)
    weight = rng.uniform(0, 3, 300)
    weight[::3] = 0
    y = linear_target(X, rng)
    y[::3] += 100
    return X, y, weight


@case
def weights_of_very_different_size(rng):
    X = rng.normal(size=(300, 5)) + 10
    return X, linear_target(X, rng), 10.0 ** rng.uniform(-6, 6, 300)


@case
def sorted_rows(rng):
    X = np.sort(rng.normal(size=(500, 5)), axis=0) + 0.1 * rng.normal(size=(500, 5))
    return X, linear_target(X, rng)


@case
def noiseless(rng):
    X = rng.normal(size=(300, 5)) * [1e3, 1, 1e-3, 5, 7] + 100
    return X, linear_target(X, rng, noise=0.0)


@case
def sparse_dummies_of_a_long_tail(rng):
    codes = np.minimum(rng.zipf(1.5, 3000), 40) - 1
    X = np.column_stack([np.eye(40)[codes], rng.normal(size=(3000, 2))])
    return X, linear_target(X, rng)
