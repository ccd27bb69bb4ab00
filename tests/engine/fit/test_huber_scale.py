"""Without a number for `delta`, Huber's loss goes by the scale of the residuals, as scikit-learn's specialist does."""

import pickle

import numpy as np
import pytest
from conftest import AT_AN_END
from convex import Loss, Problem
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap
from torchlinreg.engine.preconditioning import choose
from torchlinreg.losses import Huber

HUBER = TorchLinearRegressor(loss="huber")


@pytest.fixture
def outliers(rng):
    """Return standardised columns, a target with heavy tails, and whole-numbered weights."""
    X = StandardScaler().fit_transform(rng.normal(size=(300, 4)) + rng.normal(size=(300, 1)))
    return X, 50.0 + 10.0 * X @ rng.normal(size=4) + 5.0 * rng.standard_t(2, size=300), rng.integers(0, 3, 300)


def specialist(X, y, weight=None, **given):
    """Return HuberRegressor near its optimum: its solver stops early, and is started again where it stopped."""
    model = HuberRegressor(alpha=0.0, tol=1e-12, max_iter=100_000, warm_start=True, **given)
    for _ in range(30):
        try:
            model.fit(X, y, sample_weight=weight)
        except ValueError:  # "ABNORMAL": no step from here gains anything
            break
    return model


def joint_objective(model, X, y, epsilon):
    """Return what HuberRegressor minimises in weights, intercept and scale."""
    residual = np.abs(model.predict(X) - y) / model.scale_
    cost = np.where(residual < epsilon, residual**2, 2.0 * epsilon * residual - epsilon**2)
    return (model.scale_ * (1.0 + cost)).sum()


def assert_same(ours, theirs, rtol=1e-5):
    assert_allclose(ours.coef_, theirs.coef_, atol=rtol * np.abs(theirs.coef_).max(), rtol=0)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=rtol, atol=rtol * np.abs(theirs.coef_).max())
    assert_allclose(ours.scale_, theirs.scale_, rtol=rtol)


@pytest.mark.parametrize("epsilon", [1.05, 1.35, 2.0, 5.0])
def test_it_is_the_specialist(outliers, epsilon):
    X, y, _ = outliers
    ours, theirs = TorchLinearRegressor(loss=Huber(epsilon=epsilon)).fit(X, y), specialist(X, y, epsilon=epsilon)
    assert_same(ours, theirs)
    reached, best = (joint_objective(model, X, y, epsilon) for model in (ours, theirs))
    assert reached <= best * (1.0 + 1e-13)
    assert ours.converged_


def test_by_name_on_public_data():
    X, y = load_diabetes(return_X_y=True)
    X = X[:, :5] / X[:, :5].std(0)
    model = clone(HUBER).fit(X, y)
    assert_same(model, specialist(X, y))
    assert_same(model, TorchLinearRegressor(loss=Huber()).fit(X, y), 1e-12)
    assert model.converged_
    assert model.plan_["delta"] == pytest.approx(1.35 * model.scale_)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_gradient_of_the_joint_objective_is_zero(outliers, fit_intercept):
    X, y, _ = outliers
    model = TorchLinearRegressor(loss="huber", fit_intercept=fit_intercept).fit(X, y)
    residual = (model.predict(X) - y) / model.scale_
    assert_allclose(np.clip(residual, -1.35, 1.35) @ X / len(y), 0.0, atol=1e-7)
    assert np.minimum(residual**2, 1.35**2).mean() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_the_target(outliers, unit):
    X, y, _ = outliers
    here, there = clone(HUBER).fit(X, y), clone(HUBER).fit(X, unit * y)
    assert_allclose(there.coef_, unit * here.coef_, rtol=1e-6)
    assert_allclose(there.scale_, unit * here.scale_, rtol=1e-6)


def test_origin_of_the_target_and_sizes_of_columns(outliers):
    X, y, _ = outliers
    here, there = clone(HUBER).fit(X, y), clone(HUBER).fit(X * [1e-6, 1.0, 1e3, 1e6] + 5.0, y + 1e4)
    assert_allclose(there.coef_ * [1e-6, 1.0, 1e3, 1e6], here.coef_, atol=1e-6 * np.abs(here.coef_).max())
    assert_allclose(there.scale_, here.scale_, rtol=1e-6)


def test_delta_is_in_units_of_the_target(outliers):
    X, y, _ = outliers
    model = TorchLinearRegressor(loss=Huber(delta=3.0)).fit(X, y)
    assert not hasattr(model, "scale_")
    problem = Problem(X, y, Loss(lipschitz=1.0, slope_above=3.0, slope_below=3.0))
    assert np.abs(problem.gradient(model.coef_, model.intercept_)).max() < 1e-8 * 3.0
    huge = TorchLinearRegressor(loss=Huber(delta=3e6)).fit(X, 1e6 * y)
    assert_allclose(huge.coef_, 1e6 * model.coef_, rtol=1e-6)


def test_scale_is_forgotten_by_a_fit_with_another_loss(outliers):
    X, y, _ = outliers
    model = clone(HUBER).fit(X, y)
    assert not hasattr(model.set_params(loss="squared_error").fit(X, y), "scale_")


def test_every_target_has_its_own_scale(outliers, rng):
    X, y, _ = outliers
    both = np.column_stack([y, 1e4 * X[:, 0] + 1e3 * rng.standard_cauchy(300), rng.normal(size=300)])
    model = clone(HUBER).fit(X, both)
    assert model.scale_.shape == (3,)
    for target in range(3):
        alone = clone(HUBER).fit(X, both[:, target])
        assert_allclose(model.coef_[target], alone.coef_, atol=1e-6 * np.abs(alone.coef_).max())
        assert_allclose(model.scale_[target], alone.scale_, rtol=1e-6)
    assert clone(HUBER).fit(X, both[:, :1]).scale_.shape == (1,)


def test_weights_are_repetition(outliers):
    X, y, weight = outliers
    model = clone(HUBER).fit(X, y, weight)
    assert_same(model, clone(HUBER).fit(X.repeat(weight, axis=0), y.repeat(weight)), 1e-6)
    assert_same(clone(HUBER).fit(X, y, 1e-3 * weight), model, 1e-6)
    assert_same(model, specialist(X, y, weight.astype(float)))


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_sparse(outliers, container):
    X, y, _ = outliers
    X = X * (np.abs(X) > 0.5)
    assert_same(clone(HUBER).fit(container(X), y), clone(HUBER).fit(X, y), 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_tables_and_single_precision(monkeypatch, outliers, dtype):
    X, y, _ = outliers
    expected = clone(HUBER).fit(X, y)
    for elements in (choose.EXACT_ELEMENTS, 0):
        monkeypatch.setattr(choose, "EXACT_ELEMENTS", elements)
        model = TorchLinearRegressor(loss="huber", random_state=0).fit(X.astype(dtype), y.astype(dtype))
        assert model.coef_.dtype == dtype
        assert_same(model, expected, 1e-4 if dtype == "float32" else 1e-6)


@pytest.mark.parametrize("backend", ["analytic", "autograd", "linear"])
def test_backends(outliers, backend):
    X, y, _ = outliers
    assert_same(TorchLinearRegressor(loss="huber", backend=backend).fit(X, y), clone(HUBER).fit(X, y), 1e-6)


def test_warm_start_stays(outliers):
    X, y, _ = outliers
    model = TorchLinearRegressor(loss="huber", warm_start=True).fit(X, y)
    coef, scale = model.coef_, model.scale_
    model.fit(X, y)
    assert_allclose(model.coef_, coef, rtol=1e-6)
    assert_allclose(model.scale_, scale, rtol=1e-6)


@AT_AN_END
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_cross_validation(outliers, penalty):
    X, y, _ = outliers
    search = TorchLinearRegressorCV(loss="huber", penalty=penalty, alphas=[10.0, 0.1, 1e-3], cv=3)
    for unit in (1.0, 1e3):  # alpha of L1 is in units of the target
        alphas = np.array([10.0, 0.1, 1e-3]) * (unit if penalty == "l1" else 1.0)
        search.set_params(alphas=alphas).fit(X, unit * y)
        alone = TorchLinearRegressor(loss="huber", penalty=penalty, alpha=search.alpha_).fit(X, unit * y)
        assert_allclose(search.coef_, alone.coef_, atol=1e-4 * np.abs(alone.coef_).max())


def test_bootstrap(outliers):
    X, y, _ = outliers
    frames = [bootstrap(HUBER, X, unit * y, n_resamples=30, random_state=0) for unit in (1.0, 1e6)]
    assert_allclose(frames[1], 1e6 * frames[0], rtol=1e-4, atol=1e-4 * 1e6 * frames[0]["standard_error"].max())
    assert_allclose(frames[0]["estimate"][:-1], clone(HUBER).fit(X, y).coef_, rtol=1e-6)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("n_rows", [1, 2, 4, 60])
@pytest.mark.parametrize("target", ["perfect", "constant", "zero", "nearly perfect", "mostly constant"])
def test_residuals_without_a_scale(rng, target, n_rows, container):
    X = rng.normal(size=(n_rows, 3))
    y = {
        "perfect": X @ [1.0, 2.0, 3.0] + 4.0,
        "constant": np.full(n_rows, 7.3),
        "zero": np.zeros(n_rows),
        "nearly perfect": X @ [1.0, 2.0, 3.0] + 1e-9 * rng.normal(size=n_rows),
        "mostly constant": np.where(np.arange(n_rows) % 10 == 3, 100.0, 7.3),
    }[target]
    model = clone(HUBER).fit(container(X), y)
    for found in (model.coef_, model.intercept_, model.scale_, model.optimality_gap_, model.loss_curve_):
        assert np.isfinite(found).all()
    assert model.scale_ > 0
    if target != "mostly constant":
        assert_allclose(model.predict(X), y, atol=1e-5 * max(1.0, np.abs(y).max()))


def test_objects_are_values(outliers):
    X, y, _ = outliers
    for loss in (Huber(), Huber(epsilon=2.0), Huber(delta=3.0)):
        model = TorchLinearRegressor(loss=loss).fit(X, y)
        for copied in (pickle.loads(pickle.dumps(loss)), clone(model).loss, pickle.loads(pickle.dumps(model)).loss):
            assert copied == loss
            assert repr(copied) == repr(loss)
        again = pickle.loads(pickle.dumps(model))
        assert getattr(again, "scale_", None) == getattr(model, "scale_", None)
    assert eval(repr(Huber(epsilon=2.0))) == Huber(epsilon=2.0)
    assert Huber() != Huber(delta=1.35)


@pytest.mark.parametrize("given", [{"epsilon": 0.9}, {"epsilon": "1"}, {"epsilon": np.inf}, {"delta": 0.0}])
def test_impossible_numbers_are_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        Huber(**given)
