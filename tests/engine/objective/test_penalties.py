"""Every penalty: derivatives and proximal operator against their definitions, and optima against scikit-learn's own."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV, LinearRegression

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES, make_penalty

EXACTLY = {"tol": 1e-14, "max_iter": 1_000_000}
STRENGTHS = torch.tensor([0.7, 0.1], dtype=torch.float64), torch.tensor([0.5, 0.3], dtype=torch.float64)


@pytest.fixture(params=[(name, positive) for name in PENALTIES for positive in (False, True)], ids=str)
def penalty(request):
    name, positive = request.param
    return make_penalty(name, *STRENGTHS, positive=positive)


@pytest.fixture
def weights(penalty):
    drawn = torch.randn(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn[::4] = 0.0
    return drawn if penalty.terms(drawn).isfinite().all() else drawn.abs()


def test_derivatives(penalty, weights):
    """Of both parts together, against a central difference away from zero."""
    inside = penalty.is_differentiable(weights) & (weights.abs() > 1e-3)
    difference = (penalty.terms(weights + 1e-6) - penalty.terms(weights - 1e-6)) / 2e-6
    both = penalty.gradient(weights) + penalty.derivative(weights)
    assert_allclose(both[inside], difference[inside], rtol=1e-6, atol=1e-8)


def test_proximal_operator_is_a_minimum(penalty, weights):
    """Where h is what is left without the smooth part."""
    h = penalty.nonsmooth(torch.ones(40, 1, dtype=torch.float64), 0)
    step, point = torch.tensor([0.3, 2.0], dtype=torch.float64), weights - 0.3
    found = h.prox(point, step)

    def objective(u):
        return step * h.terms(u) + 0.5 * (u - point).square()

    for change in torch.linspace(-1.0, 1.0, 41, dtype=torch.float64):
        assert (objective(found) <= objective(found + change) + 1e-12).all()
    assert_allclose(h.subdifferential_distance(found, (found - point) / step), 0.0, atol=1e-12)


def test_increase(penalty, weights):
    h = penalty.nonsmooth(torch.ones(40, 1, dtype=torch.float64), 0)
    step = 0.5 * weights.flip(0).abs()
    assert_allclose(h.increase(weights, step), h.terms(weights + step) - h.terms(weights), atol=1e-14)


def test_rows_that_are_free_have_nothing_to_pay(penalty):
    h = penalty.nonsmooth(torch.ones(3, 1, dtype=torch.float64), 1)
    v = torch.full((4, 2), -5.0, dtype=torch.float64)
    assert_allclose(h.prox(v, torch.ones(2, dtype=torch.float64))[3], v[3])
    assert not h.terms(v)[3].any()
    assert h.is_differentiable(torch.zeros_like(v))[3].all()


def test_weights_of_zero_are_optimal_for_feasible_gradients(penalty):
    gradient = torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    zeros = torch.zeros_like(gradient)
    assert_allclose(penalty.subdifferential_distance(zeros, penalty.feasible(gradient)), 0.0, atol=1e-15)


# positive=True


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(150, 8)) * 10.0 ** np.arange(-3, 5) + 5.0
    return X, X @ (rng.normal(size=8) / 10.0 ** np.arange(-3, 5)) + rng.normal(size=150) + 3.0


def assert_same(model, specialist, X):
    assert_allclose(model.coef_ * X.std(0), specialist.coef_ * X.std(0), atol=1e-8)
    assert_allclose(model.predict(X), specialist.predict(X), atol=1e-7)
    assert (model.coef_ >= 0).all()
    assert ((model.coef_ == 0) == (specialist.coef_ == 0)).all()


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_positive_least_squares(rng, rows, fit_intercept, weighted):
    X, y = rows
    weight = rng.uniform(0, 2, len(y)) if weighted else None
    given = {"positive": True, "fit_intercept": fit_intercept}
    specialist = LinearRegression(**given).fit(X, y, weight)
    model = TorchLinearRegressor(**given).fit(X, y, weight)
    assert_same(model, specialist, X)
    assert model.converged_


@pytest.mark.parametrize(("penalty", "specialist"), [("l1", Lasso), ("elasticnet", ElasticNet)])
def test_positive_with_an_l1_part(rows, penalty, specialist):
    X, y = rows
    Z = X / X.std(0)
    specialist = specialist(alpha=0.02, positive=True, **EXACTLY).fit(Z, y)
    model = TorchLinearRegressor(penalty=penalty, alpha=0.02, l1_ratio=0.5, positive=True).fit(Z, y)
    assert_same(model, specialist, Z)


def test_positive_ridge(rows):
    """As least squares with a row more for each weight."""
    X, y = rows
    Z, target = (X - X.mean(0)) / X.std(0), y - y.mean()
    wide, long = np.vstack([Z, np.sqrt(150 * 0.02) * np.eye(8)]), np.append(target, np.zeros(8))
    specialist = LinearRegression(positive=True, fit_intercept=False).fit(wide, long)
    model = TorchLinearRegressor(penalty="l2", alpha=0.02, positive=True, fit_intercept=False).fit(Z, target)
    assert_same(model, specialist, Z)


def test_positive_where_no_constraint_binds(rng):
    X = rng.normal(size=(80, 4))
    y = X @ [1.0, 2.0, 3.0, 4.0] + 0.1 * rng.normal(size=80)
    model = TorchLinearRegressor(positive=True).fit(X, y)
    assert_allclose(model.coef_, LinearRegression().fit(X, y).coef_, atol=1e-10)


def test_positive_where_all_constraints_bind(rng):
    X = rng.normal(size=(80, 4))
    y = -X.sum(1) + 7.0
    model = TorchLinearRegressor(positive=True).fit(X, y)
    assert not model.coef_.any()
    assert model.intercept_ == pytest.approx(y.mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_no_weights_are_better(rng, rows, loss):
    """Of any loss: no step along a coordinate that keeps the signs lowers the objective by more than the gap."""
    X, y = rows
    X = X / X.std(0)
    if loss == "huber":
        loss = "squared_error"
    model = TorchLinearRegressor(loss=loss, positive=True, penalty="l1", alpha=0.02).fit(X, y)
    of_loss = LOSSES[loss]().for_targets(1)

    def objective(coef):
        prediction = torch.from_numpy(X @ coef + model.intercept_)[:, None]
        return of_loss.value(prediction, torch.from_numpy(y)[:, None]).mean().item() + 0.02 * np.abs(coef).sum()

    reached = objective(model.coef_)
    assert (model.coef_ >= 0).all()
    for feature in range(X.shape[1]):
        for change in (1e-3, -1e-3, 0.1, -0.1):
            other = model.coef_.copy()
            other[feature] = max(0.0, other[feature] + change)
            assert objective(other) >= reached * (1 - 10 * max(model.optimality_gap_, 1e-12))


def test_positive_columns_of_a_path(rows):
    X, y = rows
    Z = (X - X.mean(0)) / X.std(0)
    alphas = np.geomspace(1.0, 1e-3, 12)
    model = TorchLinearRegressorCV(penalty="l1", positive=True, alphas=alphas, cv=4).fit(Z, y)
    specialist = LassoCV(alphas=alphas, positive=True, cv=4, **EXACTLY).fit(Z, y)
    assert_allclose(model.mse_path_, specialist.mse_path_, rtol=1e-7)
    assert model.alpha_ == specialist.alpha_
    assert_same(model, specialist, Z)


def test_positive_from_sufficient_statistics(rows):
    X, y = rows
    stream = TorchLinearRegressor(positive=True)
    for part in np.split(np.arange(150), 5):
        stream.partial_fit(X[part], y[part])
    assert_same(stream, LinearRegression(positive=True).fit(X, y), X)


def test_positive_in_several_targets(rng):
    X = rng.normal(size=(60, 5))
    y = X @ rng.normal(size=(5, 3)) + rng.normal(size=(60, 3))
    model = TorchLinearRegressor(positive=True).fit(X, y)
    for target, coef in zip(y.T, model.coef_, strict=True):
        assert_allclose(coef, LinearRegression(positive=True).fit(X, target).coef_, atol=1e-8)


@pytest.mark.parametrize("conditioning", [None, "scale"])
def test_positive_steps_lead_to_the_optimum(rows, conditioning):
    X, y = rows
    Z = (X - X.mean(0)) / X.std(0)
    given = {"learning_rate": 0.3, "batch_size": "full", "max_iter": 3000, "conditioning": conditioning}
    model = TorchLinearRegressor(positive=True, penalty="elasticnet", alpha=0.02, l1_ratio=0.5, **given).fit(Z, y)
    assert_same(model, ElasticNet(alpha=0.02, positive=True, **EXACTLY).fit(Z, y), Z)


def test_elastic_net_cv(rows):
    X, y = rows
    Z = (X - X.mean(0)) / X.std(0)
    model = TorchLinearRegressorCV(penalty="elasticnet", l1_ratio=0.5, positive=True, alphas=[0.1, 0.01], cv=3)
    specialist = ElasticNetCV(alphas=[0.1, 0.01], positive=True, cv=3, **EXACTLY).fit(Z, y)
    with pytest.warns(UserWarning, match="alpha_="):
        assert_same(model.fit(Z, y), specialist, Z)
