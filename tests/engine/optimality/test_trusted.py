"""The trusted minimum can be trusted: it is that of scikit-learn's specialists, and a dual point proves it."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from certificate_problems import PENALTIES, draw
from convex import LOSSES, Problem
from scipy.optimize import linprog
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, HuberRegressor, Lasso, LinearRegression, QuantileRegressor, Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVR
from trusted import lower_bound, solve

from torchlinreg.engine.objective.losses import LOSSES as PACKAGED

PARAMETERS = {"huber": 30.0, "quantile": 0.8, "epsilon_insensitive": 10.0, "squared_epsilon_insensitive": 10.0}


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return X, y


def make_problem(loss, table, **penalty):
    return Problem(*table, LOSSES[loss](PARAMETERS.get(loss), 1), **penalty)


def assert_no_worse(problem, specialist, close):
    """Neither is the specialist better, nor is it much worse."""
    ours, theirs = problem.objective(*solve(problem)), problem.objective(specialist.coef_, specialist.intercept_)
    assert ours <= theirs * (1 + 1e-13)
    assert theirs - ours <= close * problem.baseline()


@pytest.mark.parametrize("loss", LOSSES)
def test_values_and_gradients_are_those_of_the_package(loss, rng):
    residual = np.append(rng.normal(size=50) * 60, 0.0)[:, None]
    ours = LOSSES[loss](PARAMETERS.get(loss), 1)
    theirs = PACKAGED[loss](PARAMETERS[loss]) if loss in PARAMETERS else PACKAGED[loss]()
    prediction, zero = torch.from_numpy(residual), torch.zeros(residual.shape, dtype=torch.float64)
    expected = theirs.value(prediction, zero).numpy()
    np.testing.assert_allclose(ours.value(residual), expected)
    np.testing.assert_allclose(ours.gradient(residual), theirs.gradient(prediction, zero).numpy())
    moderate, unit = ours.in_units(7.0)
    np.testing.assert_allclose(unit * moderate.value(residual / 7.0), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_conjugate_is_the_largest_difference(loss):
    ours = LOSSES[loss](PARAMETERS.get(loss), 1)
    residual = np.linspace(-100, 100, 20001)
    for gradient in np.linspace(max(-ours.slope_below, -50), min(ours.slope_above, 50), 7):
        assert ours.conjugate(gradient) == pytest.approx((gradient * residual - ours.value(residual)).max(), abs=1e-4)


def test_objective_is_exact_beside_huge_offsets(rng):
    X, y = rng.normal(size=(20, 3)) * 1e-3 + 1e6, rng.normal(size=20) + 1e9
    coef, intercept = np.array([1e3, -2e3, 5e2]), 1.4e9
    residual = [
        sum((Fraction(x) * Fraction(w) for x, w in zip(row, coef, strict=True)), Fraction(intercept)) - Fraction(target)
        for row, target in zip(X.tolist(), y.tolist(), strict=True)
    ]
    squares = sum(r**2 for r in residual) / 40
    problem = Problem(X, y, LOSSES["squared_error"](None, 1), l1=3.0, l2=2.0)
    expected = float(squares + Fraction(3500.0) * 3 + Fraction(1e6 + 4e6 + 2.5e5))
    assert problem.objective(coef, intercept) == pytest.approx(expected, rel=4e-16)


@pytest.mark.parametrize("loss", LOSSES)
def test_best_constant_has_no_better_neighbour(loss, diabetes):
    problem = make_problem(loss, diabetes, weight=np.linspace(0, 2, 442))
    zeros, best = np.zeros(10), problem.best_constant()
    assert problem.baseline() == problem.objective(zeros, best)
    assert all(
        problem.objective(zeros, best + step) >= problem.baseline() * (1 - 1e-15) for step in (-1e-3, 1e-3, -9, 9)
    )
    alone = Problem(np.empty((442, 0)), *[getattr(problem, name) for name in ("y", "loss")], weight=problem.weight)
    assert alone.objective(*solve(alone)) == pytest.approx(problem.baseline(), rel=1e-13)


def test_least_squares_and_ridge(diabetes):
    X, y = diabetes
    assert_no_worse(make_problem("squared_error", diabetes), LinearRegression().fit(X, y), 1e-12)
    for alpha in (1e-4, 1.0, 1e3):
        specialist = Ridge(alpha=442 * alpha, solver="svd").fit(X, y)
        assert_no_worse(make_problem("squared_error", diabetes, l2=alpha), specialist, 1e-12)


@pytest.mark.parametrize("alpha", [1e-2, 1.0, 30.0])
def test_lasso_and_elastic_net(alpha, diabetes):
    X, y = diabetes
    exactly = {"alpha": alpha, "tol": 1e-14, "max_iter": 100_000}
    assert_no_worse(make_problem("squared_error", diabetes, l1=alpha), Lasso(**exactly).fit(X, y), 1e-10)
    elastic = ElasticNet(l1_ratio=0.3, **exactly).fit(X, y)
    assert_no_worse(make_problem("squared_error", diabetes, l1=0.3 * alpha, l2=0.7 * alpha), elastic, 1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_quantiles(alpha, diabetes):
    X, y = diabetes
    specialist = QuantileRegressor(quantile=0.8, alpha=alpha, solver="highs").fit(X, y)
    assert_no_worse(make_problem("quantile", diabetes, l1=alpha), specialist, 1e-9)


def test_huber(diabetes):
    X, y = diabetes
    X = StandardScaler().fit_transform(X)
    specialist = HuberRegressor(alpha=0.1, tol=1e-12, max_iter=100_000).fit(X, y)
    # For the scale that it ends with, the specialist's objective is ours times 2 n / scale_
    delta, alpha = specialist.epsilon * specialist.scale_, 0.1 * specialist.scale_ / len(y)
    assert_no_worse(Problem(X, y, LOSSES["huber"](delta, 1), l2=alpha), specialist, 1e-6)


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "squared_epsilon_insensitive"])
def test_support_vectors(loss, diabetes):
    X, y = diabetes
    X = np.column_stack([StandardScaler().fit_transform(X), np.ones(len(y))])
    specialist = LinearSVR(
        epsilon=10.0, C=0.1, loss=loss, fit_intercept=False, dual=True, tol=1e-8, max_iter=1_000_000, random_state=0
    ).fit(X, y)
    problem = make_problem(loss, (X, y), l2=1 / 0.1 / len(y), fit_intercept=False)
    assert_no_worse(problem, specialist, 1e-6)


def test_absolute_error_of_a_table_without_independent_columns(rng):
    X = np.column_stack([np.eye(4)[rng.integers(0, 4, 80)], rng.normal(size=80)])
    y = X @ rng.normal(size=5) + rng.standard_cauchy(80)
    n, rows = len(y), np.column_stack([X, np.ones(80), -np.eye(80), np.eye(80)])
    cost = np.concatenate([np.zeros(6), np.full(160, 1 / n)])
    best = linprog(cost, A_eq=rows, b_eq=y, bounds=[(None, None)] * 6 + [(0, None)] * 160, method="highs").fun
    problem = make_problem("absolute_error", (X, y))
    assert problem.objective(*solve(problem)) == pytest.approx(best, rel=1e-12)


def test_weights_are_repetition(rng, diabetes):
    (X, y), repeats = diabetes, rng.integers(0, 4, size=442)
    repeated = np.repeat(X, repeats, axis=0), np.repeat(y, repeats)
    for loss in LOSSES:
        weighted = make_problem(loss, (X, y), l1=0.1, l2=0.1, weight=repeats.astype(float))
        other = make_problem(loss, repeated, l1=0.1, l2=0.1)
        for problem in (weighted, other):
            assert problem.objective(*solve(weighted)) == pytest.approx(other.objective(*solve(other)), rel=1e-12)


@cache
def three_hundred():
    return [draw(seed) for seed in range(300)]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_dual_points_prove_minima(penalty):
    """Where the dual point that is found is loose, the minimum may be right all the same."""
    gaps = []
    for drawn in three_hundred():
        for problem in drawn.problems() if drawn.recipe["penalty"] == penalty else ():
            found = solve(problem)
            reached = problem.objective(*found)
            gaps.append((reached - lower_bound(problem, *found)) / (problem.baseline() or 1.0))
    gaps = np.array(gaps)
    assert gaps.min() > -1e-10
    assert np.quantile(gaps, 0.5) < 1e-13
    assert np.quantile(gaps, 0.9) < 1e-8
