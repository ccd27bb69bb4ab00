"""Digits of small, ill-conditioned least-squares problems, against rational arithmetic."""

from dataclasses import replace
from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch
from exact_regression import digits, exact_regression
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.optimality import refinement
from torchlinreg.engine.optimality.refinement import NormalEquations, refine
from torchlinreg.engine.preconditioning.conditioning import condition_exactly

RIGHT = 15.0  # digits, of which float64 has fewer than 16
POWERS = np.arange(21.0)[:, None] ** np.arange(1, 6)
POLYNOMIAL = 1.0 + POWERS.sum(1)


def orthogonal_to_powers():
    """Return integers that are orthogonal to all polynomials up to degree five: sixth differences."""
    residual = np.zeros(21)
    for first, factor in ((0, 3), (5, -7), (9, 2), (14, 5)):
        residual[first : first + 7] += [factor * (-1) ** k * comb(6, k) for k in range(7)]
    return residual


def polynomial(noise):
    """Integers, their answer known to be ones whatever the noise (as Wampler's problems)."""
    residual = orthogonal_to_powers()
    return POWERS, POLYNOMIAL + np.rint(noise * POLYNOMIAL.std() / residual.std()) * residual, None, True


def decimal_polynomial(rng):
    """Coefficients that are no numbers of float64, with weights."""
    y = 0.1 * POLYNOMIAL + 1e5 * rng.normal(size=21)
    return POWERS, y, rng.uniform(0.1, 3.0, 21), True


def high_degree(rng, degree, *, fit_intercept=True):
    """Powers of numbers between -9 and -3 (as in Filippelli's problem)."""
    x = np.linspace(-9.0, -3.0, 40) + rng.uniform(-0.02, 0.02, 40).round(4)
    y = (0.85 + 0.05 * np.sin(3 * x) + 0.02 * rng.normal(size=40)).round(4)
    return x[:, None] ** np.arange(int(fit_intercept), degree + 1), y, None, fit_intercept


def trends(rng):
    """Series that grow together, in very different units, two of them targets (as Longley's problem)."""
    year = np.arange(16.0)
    start, growth = np.array([[83, 234289, 2000, 1590, 107608, 1947], [2, 20000, 150, 90, 1500, 1]])
    noise = rng.integers(-9, 10, (16, 6)) * growth / 50.0
    X = start + growth * year[:, None] + noise * (growth != 1)
    y = np.column_stack([60323 + 700 * year, 3 * X[:, 0]]) + rng.integers(-900, 900, (16, 2))
    return X, y, rng.integers(1, 9, 16).astype(float), True


def line(rng):
    """One feature, and an intercept that is small beside the mean (as Norris's problem)."""
    x = rng.uniform(0.0, 1000.0, 36).round(1)
    return x[:, None], (-0.26 + 1.002 * x + 0.9 * rng.normal(size=36)).round(1), None, True


def load_cell(rng):
    """A parabola over large numbers (as Pontius's problem)."""
    x = np.repeat(np.arange(150000.0, 3000001.0, 150000.0), 2)
    return np.column_stack([x, x * x]), (6.7e-4 + 7.3e-7 * x - 3.2e-15 * x * x).round(5), None, True


def nearly_dependent(rng, exponent):
    X = rng.normal(size=(40, 4))
    X[:, 3] = X[:, 2] + 10.0**-exponent * X[:, 3]
    return X, X.sum(1) + rng.normal(size=40), None, True


def noise():
    """Residuals beside which hardly anything is to be seen of a line."""
    x = np.arange(21.0)
    return x[:, None] - 10.1, x + 1e5 * orthogonal_to_powers(), None, True


PROBLEMS = {
    "polynomial": lambda rng: polynomial(0.0),
    "polynomial, noise of 1e-2": lambda rng: polynomial(1e-2),
    "polynomial, noise of 1e5": lambda rng: polynomial(1e5),
    "decimal polynomial": decimal_polynomial,
    "degree 10": lambda rng: high_degree(rng, 10),
    "degree 10 without intercept": lambda rng: high_degree(rng, 10, fit_intercept=False),
    "degree 13": lambda rng: high_degree(rng, 13),
    "trends": trends,
    "line": line,
    "load cell": load_cell,
    "noise": lambda rng: noise(),
    "condition 1e7": lambda rng: nearly_dependent(rng, 7),
    "condition 1e13": lambda rng: nearly_dependent(rng, 13),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_digits_are_right(rng, name):
    X, y, weight, fit_intercept = PROBLEMS[name](rng)
    truth = exact_regression(X, y, weight, fit_intercept=fit_intercept)
    model = TorchLinearRegressor(fit_intercept=fit_intercept).fit(X, y, sample_weight=weight)
    assert digits(model, truth) > RIGHT
    assert model.converged_
    assert 1 <= model.plan_["refinement"] <= 8
    reasons = {"line": "intercept", "load cell": "intercept", "noise": "residuals are"}
    assert f"as the {reasons.get(name, 'condition number')}" in model.plan_.reasons["refinement"]


def test_line_through_the_origin_needs_none():
    X, y = np.arange(60.0, 71.0)[:, None], np.arange(130.0, 141.0)  # as in NoInt1
    model = TorchLinearRegressor(fit_intercept=False).fit(X, y)
    assert digits(model, exact_regression(X, y, fit_intercept=False)) > RIGHT
    assert "refinement" not in model.plan_


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-6, 1.0, 1e4])
def test_ridge(rng, alpha, fit_intercept):
    X, y, weight, _ = decimal_polynomial(rng)
    model = TorchLinearRegressor(penalty="l2", alpha=alpha, fit_intercept=fit_intercept).fit(X, y, weight)
    assert digits(model, exact_regression(X, y, weight, alpha=alpha, fit_intercept=fit_intercept)) > RIGHT


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("given", [read_only, np.asfortranarray, list, torch.from_numpy])
def test_weights_are_taken_as_given(rng, given):
    X, y, weight, _ = decimal_polynomial(rng)
    truth = exact_regression(X, y, weight)
    assert digits(TorchLinearRegressor().fit(X, y, sample_weight=given(weight)), truth) > RIGHT


WAYS = {
    "integers": lambda X, y: ({}, X.astype(int), y.astype(int)),
    "float32": lambda X, y: ({"dtype": "float64"}, X.astype(np.float32), y),
    "sparse": lambda X, y: ({}, sparse.csr_array(X), y),
    "tensors": lambda X, y: ({}, torch.from_numpy(X), torch.from_numpy(y)),
    "columns in memory": lambda X, y: ({}, np.asfortranarray(X), y),
    "autograd": lambda X, y: ({"backend": "autograd", "loss": "mse"}, X, y),
    "linear": lambda X, y: ({"backend": "linear"}, X, y),
}


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_taken_as_given(way):
    X, y, *_ = polynomial(1.0)
    parameters, X, y = WAYS[way](X, y)
    model = TorchLinearRegressor(**parameters).fit(X, y)
    assert_array_equal([*model.coef_, model.intercept_], np.ones(6))


def test_intercept_of_a_sparse_table(rng):
    X, y, *_ = line(rng)
    model = TorchLinearRegressor().fit(sparse.csr_array(X), y)
    assert "intercept" in model.plan_.reasons["refinement"]
    assert digits(model, exact_regression(X, y)) > RIGHT


def test_columns_of_any_size():
    X, y, *_ = polynomial(1.0)
    sizes = 2.0 ** np.array([-500, 500, -300, 300, 0])
    model = TorchLinearRegressor().fit(X * sizes, y * 2.0**-100)
    assert_array_equal([*model.coef_ * sizes, model.intercept_], np.full(6, 2.0**-100))


def test_zeros_among_the_weights():
    model = TorchLinearRegressor().fit(POWERS, 1.0 + POWERS[:, 4])
    assert_allclose([*model.coef_, model.intercept_], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0], atol=1e-20)


def test_float32_is_rounded_once(rng):
    X = POWERS.astype(np.float32)
    y = (X @ rng.normal(size=(5, 2)) + 100 * rng.normal(size=(21, 2))).astype(np.float32)
    model = TorchLinearRegressor().fit(X, y)
    truth = np.array(exact_regression(X, y), float)
    assert model.coef_.dtype == np.float32
    away = np.abs(np.column_stack([model.coef_, model.intercept_]) - truth)
    assert (away <= 0.51 * np.spacing(np.abs(truth).astype(np.float32))).all()


@pytest.mark.parametrize("name", ["polynomial, noise of 1e-2", "decimal polynomial", "degree 10", "trends"])
def test_gap_is_that_of_the_rounded_weights(rng, name):
    X, y, weight, _ = PROBLEMS[name](rng)
    y = y.reshape(len(y), -1)[:, 0] + 1e-3 * rng.normal(size=len(y))
    truth = exact_regression(X, y, weight)[0]
    model = TorchLinearRegressor().fit(X, y, sample_weight=weight)
    change = [Fraction(float(a)) - b for a, b in zip([*model.coef_, model.intercept_], truth, strict=True)]
    weight = [Fraction(1)] * len(X) if weight is None else [*map(Fraction, weight.tolist())]
    rows = [[*map(Fraction, row), Fraction(1)] for row in X.tolist()]
    moved = [sum(a * b for a, b in zip(row, change, strict=True)) for row in rows]
    excess = sum(w * each**2 for w, each in zip(weight, moved, strict=True)) / sum(weight)
    mean = np.average(y, weights=np.array(weight, float))
    variance = np.average((y - mean) ** 2, weights=np.array(weight, float))
    assert_allclose(model.optimality_gap_, float(excess) / variance, rtol=1e-3)


def test_easy_tables_pay_nothing(rng, monkeypatch):
    monkeypatch.setattr(refinement, "NormalEquations", None)
    X = rng.normal(size=(442, 10))
    model = TorchLinearRegressor().fit(X + 1.0, X @ rng.normal(size=10) + rng.normal(size=442) + 2.0)
    assert "refinement" not in model.plan_
    model.fit(X - X.mean(0), X[:, 0] - X[:, 0].mean())  # an intercept that is nothing but rounding
    assert "refinement" not in model.plan_
    model.fit(X, rng.normal(size=442))  # of which nothing is explained
    assert "refinement" not in model.plan_
    model.fit(X, np.full(442, 0.1))
    assert "refinement" not in model.plan_


@pytest.mark.parametrize("what", ["dependent columns", "scaled", "one pass", "Huber", "lasso", "large"])
def test_what_is_left_alone(monkeypatch, what):
    if what == "large":
        monkeypatch.setattr(refinement, "ELEMENTS", 200)
    parameters = {
        "scaled": {"conditioning": "scale"},
        "one pass": {"max_iter": 1},
        "Huber": {"loss": "huber"},
        "lasso": {"penalty": "l1"},
    }.get(what, {})
    X = POWERS if what != "dependent columns" else POWERS[:, [0, 1, 1, 2]]
    model = TorchLinearRegressor(**parameters).fit(X, POLYNOMIAL)
    assert "refinement" not in model.plan_


def problem_of(rng):
    X, y = POWERS, POLYNOMIAL + 1000.0 * rng.normal(size=21)
    source = MemorySource(DenseOperator(torch.from_numpy(X)), torch.from_numpy(y)[:, None])
    theta = torch.linalg.lstsq(torch.from_numpy(np.column_stack([X, np.ones(21)])), source.y).solution
    return source, condition_exactly(source, "whiten", fit_intercept=True), theta


def test_steps_that_lead_away_are_not_taken(rng):
    source, conditioned, theta = problem_of(rng)
    transform = conditioned.transform
    too_long = replace(conditioned, transform=replace(transform, weights=2.0 * transform.weights))
    assert refine(NormalEquations(source, conditioned), theta).n_steps > 0
    assert refine(NormalEquations(source, too_long), theta) is None
    assert refine(NormalEquations(source, conditioned), torch.full_like(theta, torch.nan)) is None


def test_each_target_stops_for_itself(rng):
    source, conditioned, theta = problem_of(rng)
    both = replace(source, y=torch.cat([source.y, 1.0 + source.X.to_dense().sum(1, keepdim=True)], dim=1))
    equations = NormalEquations(both, condition_exactly(both, "whiten", fit_intercept=True))
    refined = refine(equations, torch.cat([theta, torch.ones_like(theta)], dim=1))
    assert refined.gap[1] == 0  # solved as it was
    assert_array_equal(refined.theta[:, 1], np.ones(6))
    alone = refine(NormalEquations(source, conditioned), theta)
    assert_array_equal(refined.theta[:, 0], alone.theta[:, 0])


def test_streams_gain_what_their_statistics_have():
    X, y, *_ = polynomial(1.0)
    model = TorchLinearRegressor()
    for part in np.array_split(np.arange(len(X)), 2):
        model.partial_fit(X[part], y[part])
    assert_allclose([*model.coef_, model.intercept_], np.ones(6), rtol=1e-7)
