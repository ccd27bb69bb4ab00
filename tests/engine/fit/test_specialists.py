"""Every loss and penalty, against the estimator that is trusted for it, on real data and on three designs."""

from functools import cache

import numpy as np
import pytest
import torch
from conftest import penalised
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes, make_regression
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    QuantileRegressor,
    Ridge,
    SGDRegressor,
)
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective.losses import LOSSES, resolve_loss
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.engine.preconditioning import choose
from torchlinreg.losses import (
    AbsoluteError,
    EpsilonInsensitive,
    Huber,
    Quantile,
    SquaredEpsilonInsensitive,
    SquaredError,
)


@cache
def diabetes():
    return load_diabetes(return_X_y=True, scaled=False)


def correlated():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(300, 12)) + 5.0
    return X, X @ rng.normal(size=12) + rng.standard_t(2, size=300)


def sparse_truth():
    return make_regression(200, 40, n_informative=5, noise=20.0, bias=30.0, random_state=1)


def more_columns_than_rows():
    X, y = make_regression(60, 90, n_informative=8, noise=5.0, random_state=2)
    return X * np.linspace(0.2, 5.0, 90), y


TABLES = {f.__name__: f for f in (diabetes, correlated, sparse_truth, more_columns_than_rows)}


@pytest.fixture(params=TABLES)
def table(request):
    """Return each table in turn."""
    return TABLES[request.param]()


def apart(ours, theirs, X, y) -> float:
    """Largest difference of coefficients, in spreads of the target for a deviation of the column."""
    return np.abs((ours.coef_ - theirs.coef_) * X.std(axis=0)).max() / y.std()


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10.0])
def test_ridge(table, alpha):
    X, y = table
    ours = TorchLinearRegressor(penalty="l2", alpha=alpha).fit(X, y)
    theirs = Ridge(alpha=alpha * len(y), solver="svd").fit(X, y)
    assert apart(ours, theirs, X, y) < 1e-8
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-8, atol=1e-8 * y.std())
    assert ours.converged_


@pytest.mark.parametrize("alpha", [1e-15, 1e-6, 1.0, 1e6, 1e10, 1e13, 1e15, 1e16])
def test_ridge_of_columns_of_very_different_sizes(rng, alpha):
    Z = rng.normal(size=(80, 5))
    X, y = Z * [1e-6, 1e-3, 1.0, 1e3, 1e6], Z.sum(1) + rng.normal(size=80)
    ours = TorchLinearRegressor(penalty="l2", alpha=alpha).fit(X, y)
    rows = np.vstack([X - X.mean(0), np.sqrt(80 * alpha) * np.eye(5)])
    size = np.linalg.norm(rows, axis=0)
    expected = np.linalg.lstsq(rows / size, np.append(y - y.mean(), np.zeros(5)))[0] / size
    assert_allclose(ours.coef_ * X.std(0), expected * X.std(0), atol=1e-9 * np.abs(expected * X.std(0)).max())
    assert ours.converged_


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_lasso_and_elastic_net(table, share, l1_ratio):
    X, y = table
    alpha = share * np.abs((X - X.mean(axis=0)).T @ (y - y.mean())).max() / len(y) / l1_ratio
    penalty = {"penalty": "l1"} if l1_ratio == 1.0 else {"penalty": "elasticnet", "l1_ratio": l1_ratio}
    ours = TorchLinearRegressor(alpha=alpha, **penalty).fit(X, y)
    specialist = Lasso(alpha) if l1_ratio == 1.0 else ElasticNet(alpha, l1_ratio=l1_ratio)
    theirs = specialist.set_params(tol=1e-14, max_iter=1_000_000).fit(X, y)
    assert apart(ours, theirs, X, y) < 1e-5
    assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert ours.converged_


def test_lasso_by_steps_in_scaled_columns(rng):
    """The threshold of a step in scaled columns goes by the square of their scale, as the step itself does."""
    X = rng.normal(size=(100, 4)) * [0.5, 5.0, 1.0, 2.0] + [0.0, 3.0, 1.0, 0.0]
    y = X @ [4.0, 0.3, 0.0, 1.0] + rng.normal(size=100)
    steps = {"learning_rate": 0.5, "batch_size": "full", "max_iter": 500, "tol": None}
    ours = TorchLinearRegressor(penalty="l1", alpha=0.3, conditioning="scale", **steps).fit(X, y)
    theirs = Lasso(alpha=0.3, tol=1e-14, max_iter=100_000).fit(X, y)
    assert apart(ours, theirs, X, y) < 1e-8
    assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)


def test_huber(table):
    X, y = table
    X = StandardScaler().fit_transform(X)
    theirs = HuberRegressor(alpha=0.1, tol=1e-12, max_iter=100_000, warm_start=True)
    for _ in range(10):  # its solver stops early, at a relative change of 2e-9
        theirs.fit(X, y)
    # For the scale that it ends with, the specialist's objective is ours times 2 n / scale_
    delta, alpha = theirs.epsilon * theirs.scale_, 0.1 * theirs.scale_ / len(y)
    ours = TorchLinearRegressor(loss=Huber(delta), penalty="l2", alpha=alpha).fit(X, y)
    assert objective(ours, X, y, Huber(delta), alpha, 0.0) <= objective(theirs, X, y, Huber(delta), alpha, 0.0) * (
        1 + 1e-12
    )
    if np.linalg.cond(X) < 50:  # elsewhere the specialist is not within 1e-5 of its own optimum
        assert apart(ours, theirs, X, y) < 1e-5
    gradient = np.clip(ours.predict(X) - y, -delta, delta) @ X / len(y) + alpha * ours.coef_
    assert_allclose(gradient, 0.0, atol=1e-9 * y.std())
    assert ours.converged_


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_quantile(table, alpha, quantile):
    X, y = table
    theirs = QuantileRegressor(quantile=quantile, alpha=alpha).fit(X, y)
    ours = TorchLinearRegressor(loss=Quantile(quantile), penalty="l1", alpha=alpha).fit(X, y)
    reached, best = (objective(model, X, y, Quantile(quantile), alpha, 1.0) for model in (ours, theirs))
    constant = np.quantile(y, quantile)
    unit = Quantile(quantile).value(*map(_tensor, (np.full_like(y, constant), y))).mean().item()
    assert reached <= best * 1.001 + 1e-6 * unit
    assert ours.converged_
    assert 1.5 * ours.optimality_gap_ >= (reached - best) / unit - 1e-9  # an estimate, but no flattery


def test_absolute_error_is_twice_the_median(table):
    X, y = table
    ours = TorchLinearRegressor(loss="absolute_error").fit(X, y)
    theirs = QuantileRegressor(alpha=0.0).fit(X, y)
    reached, best = (np.abs(y - model.predict(X)).mean() for model in (ours, theirs))
    assert reached <= best * 1.001 + 1e-5 * np.abs(y - np.median(y)).mean()


SGD_LOSSES = {
    "squared_error": SquaredError(),
    "huber": Huber(0.1),
    "epsilon_insensitive": EpsilonInsensitive(0.1),
    "squared_epsilon_insensitive": SquaredEpsilonInsensitive(0.1),
}


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", SGD_LOSSES)
def test_objective_is_no_larger_than_that_of_sgd(loss, penalty):
    X, y = diabetes()
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    ours = TorchLinearRegressor(loss=SGD_LOSSES[loss], **penalised(penalty, 0.01)).fit(X, y)
    theirs = SGDRegressor(loss=loss, penalty=penalty, alpha=0.01, epsilon=0.1, max_iter=2000, tol=1e-6, random_state=0)
    theirs.fit(X, y)
    l1_ratio = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": 0.15}[penalty]
    alpha = 0.0 if penalty is None else 0.01
    reached, other = (objective(m, X, y, SGD_LOSSES[loss], alpha, l1_ratio) for m in (ours, theirs))
    assert reached <= other


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_satisfies_its_own_optimality_condition(table, name):
    X, y = table
    alpha, l1_ratio = 0.5, 0.3
    model = TorchLinearRegressor(penalty=name, alpha=alpha, l1_ratio=l1_ratio).fit(X, y)
    share = {"l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}[name]
    w, spread = model.coef_, X.std(axis=0)
    residual = y - model.predict(X)
    gradient = -(X - X.mean(axis=0)).T @ residual / len(y) + alpha * (1 - share) * w
    l1, atol = alpha * share, 1e-8 * spread.max() * y.std()
    assert_allclose(gradient[w != 0], -l1 * np.sign(w[w != 0]), atol=atol)
    assert (np.abs(gradient[w == 0]) <= l1 + atol).all()
    assert abs(residual.mean()) < 1e-9 * y.std()  # the intercept is never penalised


@cache
def by_default(loss, penalty):
    """Return what every backend is to find on the diabetes data."""
    return TorchLinearRegressor(loss=loss, **penalised(penalty, 0.1)).fit(*diabetes())


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", ["autograd", "linear"])
def test_backends_agree(backend, loss, penalty):
    X, y = diabetes()
    model = TorchLinearRegressor(backend=backend, loss=loss, **penalised(penalty, 0.1)).fit(X, y)
    assert apart(model, by_default(loss, penalty), X, y) < 1e-9


@cache
def three_epochs(backend, loss, penalty, optimizer):
    X, y = diabetes()
    options = {"loss": loss, "optimizer": optimizer, **penalised(penalty, 0.1)}
    steps = {"learning_rate": 1e-3, "max_iter": 3, "random_state": 0}
    return TorchLinearRegressor(backend=backend, **options, **steps).fit(StandardScaler().fit_transform(X), y)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "RMSprop"])
@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", LOSSES)
def test_backends_take_the_same_steps(backend, loss, penalty, optimizer):
    model, expected = (three_epochs(each, loss, penalty, optimizer) for each in (backend, "auto"))
    assert_allclose(model.coef_, expected.coef_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", LOSSES)
def test_large_tables_have_the_same_optimum(monkeypatch, rng, dtype, loss, penalty):
    """Too large to be copied to float64 and to be its own sketch, as far as the engine is told."""
    X = rng.normal(size=(4000, 6)) * [1.0, 1.0, 1.0, 30.0, 0.1, 1.0] + 3.0
    y = X @ [1.0, 0.0, -2.0, 0.1, 5.0, 0.0] + rng.standard_t(3, size=4000)
    X, y = X.astype(dtype), y.astype(dtype)
    options = {"loss": loss, **penalised(penalty, 0.02)}
    small = TorchLinearRegressor(**options).fit(X, y)
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    large = TorchLinearRegressor(**options).fit(X, y)
    by_working_set = loss in ("squared_error", "mse") and penalty in ("l1", "elasticnet")  # which copies no rows
    differs = large.plan_.reasons["conditioning"] != small.plan_.reasons["conditioning"]
    assert differs != by_working_set
    tolerance = 0.02 if resolve_loss(loss, 1).lipschitz == np.inf else {"float32": 2e-5, "float64": 1e-7}[dtype]
    assert apart(small, large, X, y) < tolerance
    assert large.converged_


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", LOSSES)
def test_targets_do_not_mix(loss, penalty):
    if loss == "mse":
        loss = SquaredError()  # its mean runs over the targets, by definition
    X, y = diabetes()
    Y = np.c_[y, 1000.0 * np.sin(y), -0.001 * y**2]
    alphas = [1.0, 0.1, 0.0]
    together = TorchLinearRegressor(loss=loss, **penalised(penalty, alphas)).fit(X, Y)
    for column, alpha in enumerate(alphas):
        alone = TorchLinearRegressor(loss=loss, **penalised(penalty, alpha)).fit(X, Y[:, column])
        scores = [model.predict(X) for model in (together, alone)]
        tolerance = 1e-6 if alone.optimality_gap_ < 1e-15 else 0.02
        assert np.abs(scores[0][:, column] - scores[1]).max() < tolerance * Y[:, column].std()


@pytest.mark.parametrize("loss", [Huber(20.0), AbsoluteError(), Quantile(0.8), EpsilonInsensitive(10.0)])
def test_weights_are_repetition(rng, loss):
    X, y = diabetes()
    repeats = rng.integers(0, 4, size=len(y))
    options = {"loss": loss, "penalty": "elasticnet", "alpha": 0.1}
    weighted = TorchLinearRegressor(**options).fit(X, y, sample_weight=repeats)
    repeated = TorchLinearRegressor(**options).fit(np.repeat(X, repeats, axis=0), np.repeat(y, repeats))
    X, y = np.repeat(X, repeats, axis=0), np.repeat(y, repeats)
    reached = [objective(model, X, y, loss, 0.1, 0.15) for model in (weighted, repeated)]
    assert_allclose(*reached, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_units_of_the_target_do_not_matter(loss):
    X, y = diabetes()
    model = TorchLinearRegressor(loss=loss).fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert model.converged_


def objective(model, X, y, loss, alpha, l1_ratio) -> float:
    """The mean loss, and the penalty as scikit-learn writes it."""
    w = model.coef_.ravel()
    penalty = l1_ratio * np.abs(w).sum() + (1 - l1_ratio) / 2 * (w**2).sum()
    return loss.value(_tensor(model.predict(X)), _tensor(y)).mean().item() + alpha * penalty


def _tensor(values):

    return torch.from_numpy(np.asarray(values, dtype=float))[:, None]
