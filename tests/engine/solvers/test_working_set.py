"""Working sets beside scikit-learn's coordinate descent, and where columns depend on each other."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Lasso, LassoCV

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.fit import untuned
from torchlinreg.engine.solvers.full_batch import working_set
from torchlinreg.engine.solvers.full_batch.active_set import WIDE, ActiveSet, Quadratic

SIZES = [(200, 20), (60, 200), (100, 150)]


@pytest.fixture
def no_fallback(monkeypatch):
    """Let nothing but a working set find the answer."""
    monkeypatch.setattr(untuned, "solve_convex", None)


def draw(rng, n_rows, n_features, n_targets=None):
    X = rng.normal(size=(n_rows, n_features)) * rng.uniform(0.1, 10.0, n_features) + rng.uniform(-5, 5, n_features)
    coef = rng.normal(size=(n_features, n_targets or 1)) * (rng.random((n_features, 1)) < 10 / n_features)
    y = X @ coef + rng.normal(size=(n_rows, n_targets or 1))
    return X, y if n_targets else y[:, 0]


def largest_alpha(X, y, centred=True):
    """Return the alpha from which on all weights are zero."""
    X, y = (X - X.mean(0), y - y.mean(0)) if centred else (X, y)
    return np.abs(X.T @ y).max() / len(X)


def value(model, X, y, alpha, l1_ratio):
    """Return the objective of scikit-learn."""
    squares = 0.5 * np.mean((y - model.predict(X)) ** 2)
    coef = np.asarray(model.coef_)
    return squares + alpha * (l1_ratio * np.abs(coef).sum() + 0.5 * (1 - l1_ratio) * np.square(coef).sum())


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("size", SIZES)
def test_coordinate_descent(rng, size, l1_ratio, positive, fit_intercept):
    X, y = draw(rng, *size)
    for share in (0.5, 0.05):
        given = {
            "alpha": share * largest_alpha(X, y),
            "l1_ratio": l1_ratio,
            "positive": positive,
            "fit_intercept": fit_intercept,
        }
        model = TorchLinearRegressor(penalty="elasticnet", **given).fit(X, y)
        trusted = ElasticNet(**given, tol=1e-14, max_iter=10**6).fit(X, y)
        assert_allclose(model.coef_, trusted.coef_, rtol=1e-8, atol=1e-8 * np.abs(trusted.coef_).max())
        assert_allclose(model.intercept_, trusted.intercept_, atol=1e-7)
        assert model.converged_
        assert model.optimality_gap_ < 1e-12


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_weights_targets_and_sparse_rows(rng, container):
    X, y = draw(rng, 80, 120, 3)
    X *= rng.random(X.shape) < 0.3
    weight = rng.uniform(0.0, 3.0, len(X))
    alphas = [1.0, 0.3, 0.1]
    model = TorchLinearRegressor(penalty="l1", alpha=alphas).fit(container(X), y, weight)
    for target, alpha in enumerate(alphas):
        trusted = Lasso(alpha, tol=1e-14, max_iter=10**6).fit(X, y[:, target], weight)
        assert_allclose(model.coef_[target], trusted.coef_, atol=1e-8)


def test_single_precision(rng):
    X, y = (part.astype(np.float32) for part in draw(rng, 300, 40))
    alpha = 0.1 * largest_alpha(X, y)
    model = TorchLinearRegressor(penalty="l1", alpha=alpha).fit(X, y)
    trusted = Lasso(alpha, tol=1e-14, max_iter=10**6).fit(X.astype(float), y.astype(float))
    assert_allclose(model.coef_, trusted.coef_, rtol=1e-5, atol=1e-6)
    assert model.converged_


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("share", [0.3, 0.01, 1e-4])
def test_columns_that_depend_on_each_other(rng, share):
    X, y = draw(rng, 40, 30)
    X = np.hstack([X, X[:, ::-1], -X[:, :5], np.full((40, 2), 3.0), X[:, :10] @ rng.normal(size=(10, 10))])
    alpha = share * largest_alpha(X, y)
    model = TorchLinearRegressor(penalty="l1", alpha=alpha).fit(X, y)
    # The reference need not converge, as whatever it reaches bounds the minimum from above
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        trusted = Lasso(alpha, tol=1e-13, max_iter=10**5).fit(X, y)
    assert model.converged_
    assert value(model, X, y, alpha, 1.0) <= value(trusted, X, y, alpha, 1.0) * (1 + 1e-10)
    assert (model.coef_[65:67] == 0).all()


@pytest.mark.usefixtures("no_fallback")
def test_large_offsets(rng):
    X, y = draw(rng, 100, 20)
    alpha = 0.05 * largest_alpha(X, y)
    model = TorchLinearRegressor(penalty="l1", alpha=alpha).fit(X + 2.0**30, y)
    assert_allclose(model.coef_, TorchLinearRegressor(penalty="l1", alpha=alpha).fit(X, y).coef_, atol=1e-5)


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("size", [(150, 10), (60, 400)])
def test_path_of_cross_validation(rng, size):
    X, y = draw(rng, *size)
    search = TorchLinearRegressorCV(penalty="l1", alphas=30, eps=0.01, cv=3, scoring="neg_mean_squared_error")
    # Where all ten features matter, the smallest alpha is best, and the search says so
    with pytest.warns(UserWarning, match="is the smallest of 30 alphas") if size == (150, 10) else nullcontext():
        search.fit(X, y)
    trusted = LassoCV(alphas=30, eps=0.01, cv=3, tol=1e-13, max_iter=10**5).fit(X, y)
    assert_allclose(search.mse_path_, trusted.mse_path_, rtol=1e-7)
    assert search.alpha_ == pytest.approx(trusted.alpha_)
    assert_allclose(search.coef_, trusted.coef_, atol=1e-8)


@pytest.mark.usefixtures("no_fallback")
def test_passes_of_a_wide_path(rng):
    X, y = draw(rng, 100, 800)
    search = TorchLinearRegressorCV(penalty="l1", alphas=100, eps=1e-3, cv=2).fit(X, y)
    assert search.converged_
    assert search.n_iter_ <= 20
    assert np.count_nonzero(search.coef_path_[-1]) > 50


def test_set_that_would_be_too_large(rng, monkeypatch):
    X, y = draw(rng, 60, 100)
    alpha = 0.01 * largest_alpha(X, y)
    expected = TorchLinearRegressor(penalty="l1", alpha=alpha).fit(X, y)
    monkeypatch.setattr(working_set, "FIRST", 8)
    monkeypatch.setattr(working_set, "LARGEST_SET", 16)
    model = TorchLinearRegressor(penalty="l1", alpha=alpha).fit(X, y)
    assert_allclose(model.coef_, expected.coef_, atol=1e-6)
    assert model.converged_


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("rank", [3, 8, 20])
def test_active_set_from_anywhere(rng, rank, positive):
    """Optimality conditions hold wherever the search began, also for a singular Hessian."""
    factor = rng.normal(size=(rank, 12))
    hessian, linear = factor.T @ factor, factor.T @ rng.normal(size=rank)
    for l1 in (1.0, 0.1, 0.001):
        above = np.full(12, l1)
        below = np.full(12, np.inf) if positive else above
        quadratic = Quadratic(hessian, np.zeros(12), above, below)
        start = np.abs(rng.normal(size=12)) * (rng.random(12) < 0.5)
        search = ActiveSet(quadratic, start.copy(), linear + hessian @ start)
        assert search.minimize(quadratic)
        gradient = linear + hessian @ search.u
        slope = gradient + np.where(search.u > 0, above, -below)
        assert_allclose(slope[search.u != 0], 0.0, atol=1e-9)
        at_zero = gradient[search.u == 0]
        assert (at_zero >= -above[search.u == 0] - 1e-9).all()
        assert (at_zero <= below[search.u == 0] + 1e-9).all()
        assert not positive or (search.u >= 0).all()


def test_same_bits(rng):
    X, y = draw(rng, 60, 200)
    first, second = (TorchLinearRegressor(penalty="l1", alpha=0.1).fit(torch.from_numpy(X), y) for _ in range(2))
    assert np.array_equal(first.coef_, second.coef_)


@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_many_times_as_many_weights_as_rows(rng, no_fallback, penalty):
    X, y = rng.normal(size=(20, 150)), rng.normal(size=20)
    alpha = 1e-3 * largest_alpha(X, y)
    l1_ratio = 1.0 if penalty == "l1" else 0.05
    model = TorchLinearRegressor(penalty=penalty, alpha=alpha, l1_ratio=0.05).fit(X, y)
    trusted = ElasticNet(alpha, l1_ratio=l1_ratio, tol=1e-14, max_iter=10**6).fit(X, y)
    assert model.converged_
    if penalty == "elasticnet":
        assert np.count_nonzero(model.coef_) > WIDE * len(X)
    assert_allclose(model.coef_, trusted.coef_, atol=1e-8 * np.abs(trusted.coef_).max())
