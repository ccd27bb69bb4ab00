"""Where columns depend on each other, the weights are those of smallest norm, whatever the loss."""

import numpy as np
import pytest
from convex import LOSSES, Problem
from numpy.testing import assert_allclose
from scipy import sparse
from trusted import solve

from torchlinreg import TorchLinearRegressor, bootstrap
from torchlinreg.engine.preconditioning import choose
from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, SquaredEpsilonInsensitive

CASES = {
    "squared_error": ("squared_error", LOSSES["squared_error"](0.0, 1)),
    "huber": (Huber(delta=1.35), LOSSES["huber"](1.35, 1)),
    "absolute_error": ("absolute_error", LOSSES["absolute_error"](0.0, 1)),
    "quantile": (Quantile(0.8), LOSSES["quantile"](0.8, 1)),
    "epsilon_insensitive": (EpsilonInsensitive(0.1), LOSSES["epsilon_insensitive"](0.1, 1)),
    "squared_epsilon_insensitive": (SquaredEpsilonInsensitive(0.1), LOSSES["squared_epsilon_insensitive"](0.1, 1)),
}
EXCESS = 1e-5  # of the objective of the best constant; losses that jump are known to 1e-6


@pytest.fixture
def categories(rng):
    """Return two full sets of categories, numbers of two sizes, one column twice, and a target."""
    codes = rng.integers(0, 4, 400), rng.integers(0, 3, 400)
    numbers = rng.normal(size=(400, 2)) * [1.0, 20.0] + [0.0, 50.0]
    X = np.column_stack([np.eye(4)[codes[0]], np.eye(3)[codes[1]], numbers, 2.0 * numbers[:, 0]])
    return X, X @ rng.normal(size=X.shape[1]) + 3.0 * codes[0] + 30.0 + rng.normal(size=400)


def smallest(X, coef, *, fit_intercept=True):
    """Return the weights of smallest norm that predict as these do, up to a constant where there is an intercept."""
    X = X - X.mean(0) if fit_intercept else X
    return np.linalg.pinv(X, rcond=1e-10) @ (X @ coef)


def check(loss, X, y, model, excess=EXCESS, rtol=1e-8):
    """Check the objective, and the norm of the weights."""
    problem = Problem(X, y, CASES[loss][1], fit_intercept=model.fit_intercept)
    reached, best = (problem.objective(*found) for found in ((model.coef_, model.intercept_), solve(problem)))
    assert reached - best < excess * problem.baseline()
    coef = smallest(X, model.coef_, fit_intercept=model.fit_intercept)
    assert_allclose(model.coef_, coef, atol=rtol * np.abs(coef).max(), rtol=0)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("loss", CASES)
def test_full_sets_of_categories(categories, loss, container, fit_intercept):
    X, y = categories
    model = TorchLinearRegressor(loss=CASES[loss][0], fit_intercept=fit_intercept).fit(container(X), y)
    check(loss, X, y, model)


@pytest.mark.parametrize("loss", CASES)
def test_large_tables(monkeypatch, categories, loss):
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X, y = categories
    model = TorchLinearRegressor(loss=CASES[loss][0], random_state=0).fit(X, y)
    assert model.plan_["conditioning"] == "whiten"
    check(loss, X, y, model)


@pytest.mark.parametrize("loss", ["huber", "quantile"])
def test_weights_and_several_targets(categories, rng, loss):
    X, y = categories
    weight = rng.integers(0, 3, len(y))
    both = np.column_stack([y, -2.0 * y + 100.0 * X[:, 0]])
    model = TorchLinearRegressor(loss=CASES[loss][0]).fit(X, both, weight)
    repeated = TorchLinearRegressor(loss=CASES[loss][0]).fit(X.repeat(weight, axis=0), both.repeat(weight, axis=0))
    for coef in (model.coef_, repeated.coef_):
        assert_allclose(coef.T, smallest(X[weight > 0], coef.T), atol=1e-8 * np.abs(coef).max())
    if loss == "huber":  # whose minimum is unique
        assert_allclose(model.coef_, repeated.coef_, atol=1e-6 * np.abs(repeated.coef_).max())
        assert_allclose(model.intercept_, repeated.intercept_, rtol=1e-6)


@pytest.mark.parametrize("loss", ["huber", "squared_epsilon_insensitive"])
def test_an_independent_set_predicts_the_same(categories, loss):
    X, y = categories
    model = TorchLinearRegressor(loss=CASES[loss][0]).fit(X, y)
    fewer = X[:, [1, 2, 3, 5, 6, 7, 8]]
    reference = TorchLinearRegressor(loss=CASES[loss][0]).fit(fewer, y)
    assert_allclose(model.predict(X), reference.predict(fewer), atol=1e-6 * y.std())


@pytest.mark.parametrize("loss", CASES)
def test_fewer_rows_than_columns(rng, loss):
    X = rng.normal(size=(20, 30)) + 3.0
    y = rng.normal(size=20)
    model = TorchLinearRegressor(loss=CASES[loss][0]).fit(X, y)
    check(loss, X, y, model)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("loss", ["squared_error", "huber", "quantile"])
def test_bootstrap(categories, loss, container):
    X, y = categories
    frame = bootstrap(TorchLinearRegressor(loss=CASES[loss][0]), container(X), y, n_resamples=20, random_state=0)
    coef = frame["estimate"].to_numpy()[:-1]
    assert_allclose(coef, smallest(X, coef), atol=1e-8 * np.abs(coef).max())
    low, estimate, high = frame.loc["intercept", ["low", "estimate", "high"]]
    assert low < estimate < high
    # Of a column and its double, the double has twice the smallest weight, in each resample
    assert_allclose(frame.loc["x9"], 2.0 * frame.loc["x7"], rtol=1e-6)
