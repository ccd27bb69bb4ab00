"""Automatic paths of penalties: from none of the weights to all of them, whatever the units of the columns."""

import warnings

import numpy as np
import pytest
from conftest import AT_AN_END
from numpy.testing import assert_allclose
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNetCV, LassoCV, RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.losses import Huber

SCALES = np.array([1e-6, 1e-3, 1.0, 1e3, 1e6])
CV = {"alphas": 20, "cv": 3}


def tables(rng):
    """Return features by name."""
    normal = rng.normal(size=(80, 5))
    return {
        "scales": normal * SCALES + SCALES,
        "correlated": (normal + 3.0 * rng.normal(size=(80, 1))) * SCALES,
        "dependent": np.column_stack([normal * SCALES, 1e5 * normal[:, 0], normal[:, 1] - normal[:, 2]]),
        "full set of categories": np.column_stack([np.eye(4)[rng.integers(0, 4, 80)], normal * SCALES]),
        "few rows": rng.normal(size=(12, 20)) * np.geomspace(1e-6, 1e6, 20),
        "constant column": np.column_stack([normal * SCALES, np.full(80, 1e3)]),
    }


def target(X, rng):
    """Return what depends on every column alike, with noise."""
    spread = X.std(0)
    Z = (X - X.mean(0)) / np.where(spread > 0, spread, 1.0)
    return 10.0 + Z @ rng.normal(size=X.shape[1]) + rng.normal(size=len(X))


def degrees_of_freedom(X, alpha, weight=None, *, centred=True):
    """Return the trace of the hat matrix of ridge regression."""
    weight = np.ones(len(X)) if weight is None else weight
    weight = weight / weight.sum()
    X = X - weight @ X if centred else X
    height = np.linalg.svd(X * np.sqrt(weight)[:, None], compute_uv=False) ** 2
    return (height / (height + alpha)).sum()


def rank(X, *, centred=True):
    """Return the number of independent columns."""
    X = X - X.mean(0) if centred else X
    size = np.abs(X).max(0)
    return np.linalg.matrix_rank(X / np.where(size > 0, size, 1.0), tol=1e-10)


@AT_AN_END
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "mse"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", tables(np.random.default_rng(0)))
def test_ends_of_l2(rng, name, weighted, loss, fit_intercept):
    X = tables(rng)[name]
    weight = rng.uniform(0.1, 3.0, len(X)) if weighted else None
    model = TorchLinearRegressorCV(loss=loss, fit_intercept=fit_intercept, **CV).fit(X, target(X, rng), weight)
    curvature = 2.0 if loss == "mse" else 1.0
    most, least = (
        degrees_of_freedom(X, alpha / curvature, weight, centred=fit_intercept) for alpha in model.alphas_[[-1, 0]]
    )
    assert 1e-5 < least < 2e-3
    assert rank(X, centred=fit_intercept) - 2e-3 < most
    assert np.isfinite(model.coef_path_).all()
    assert model.converged_


@AT_AN_END
@pytest.mark.parametrize("loss", ["huber", Huber(delta=1.0), "quantile", "absolute_error"])
def test_ends_of_l2_with_other_losses(rng, loss):
    X = rng.normal(size=(80, 5)) * [0.01, 0.1, 1.0, 10.0, 100.0]
    y = target(X, rng)
    model = TorchLinearRegressorCV(loss=loss, alphas=8, cv=2).fit(X, y)
    free = TorchLinearRegressor(loss=loss).fit(X, y)
    first, last = (X @ coef for coef in model.coef_path_[[0, -1]])
    assert first.std() < 0.05 * y.std()
    assert (last - X @ free.coef_).std() < 0.05 * y.std()


@AT_AN_END
@pytest.mark.parametrize("loss", ["squared_error", "huber", "quantile"])
@pytest.mark.parametrize(("penalty", "l1_ratio"), [("l1", 1.0), ("elasticnet", 0.5)])
@pytest.mark.parametrize("name", ["scales", "dependent", "full set of categories"])
def test_ends_of_l1(rng, name, penalty, l1_ratio, loss):
    X = tables(rng)[name][:, 1:]
    y = target(X, rng)
    model = TorchLinearRegressorCV(loss=loss, penalty=penalty, l1_ratio=l1_ratio, alphas=8, cv=2).fit(X, y)
    free = TorchLinearRegressor(loss=loss).fit(X, y)
    moved = np.abs(model.coef_path_ * X.std(0)).max(1)
    assert moved[0] < 5e-3 * y.std() < moved[2]
    last = X @ model.coef_path_[-1]
    assert (last - last.mean() - X @ free.coef_ + (X @ free.coef_).mean()).std() < 0.01 * y.std()


def cross_validated(model, X, y):
    return cross_val_score(model, X, y, cv=4).mean()


def made_tables(rng):
    few = rng.normal(size=(200, 20)) * np.geomspace(1e-3, 1e3, 20)
    many = rng.normal(size=(300, 8)) * np.geomspace(1e4, 1e-4, 8)
    codes = np.eye(6)[rng.integers(0, 6, 200)]
    mixed = np.column_stack([codes, rng.normal(size=(200, 3)) * [1e5, 1.0, 1e-5]])
    return {
        "one of twenty": (few, 5.0 * few[:, 7] / few[:, 7].std() + rng.normal(size=200)),
        "all of eight": (many, (many / many.std(0)).sum(1) + rng.normal(size=300)),
        "categories": (mixed, mixed[:, :6] @ np.arange(6) + mixed[:, 6] / 1e5 + rng.normal(size=200)),
        "diabetes": load_diabetes(return_X_y=True, scaled=False),
    }


@AT_AN_END
@pytest.mark.parametrize("name", ["one of twenty", "all of eight", "categories", "diabetes"])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_raw_columns_score_as_well_as_standardised_ones(rng, penalty, name):
    X, y = made_tables(rng)[name]
    specialist = RidgeCV(np.geomspace(1e-3, 1e5, 60)) if penalty == "l2" else LassoCV(cv=5)
    ours = cross_validated(TorchLinearRegressorCV(penalty=penalty), X, y)
    theirs = cross_validated(make_pipeline(StandardScaler(), specialist), X, y)
    assert ours > theirs - 0.01


@AT_AN_END
@pytest.mark.parametrize("specialist", [LassoCV(), ElasticNetCV(l1_ratio=0.3)])
@pytest.mark.parametrize("eps", [1e-3, 1e-2])
def test_eps_is_that_of_the_specialists(specialist, eps):
    X, y = load_diabetes(return_X_y=True)
    specialist.set_params(eps=eps, cv=3).fit(X, y)
    penalty = {"penalty": "l1"} if isinstance(specialist, LassoCV) else {"penalty": "elasticnet", "l1_ratio": 0.3}
    model = TorchLinearRegressorCV(eps=eps, cv=3, **penalty).fit(X, y)
    np.testing.assert_allclose(model.alphas_, specialist.alphas_, rtol=1e-9)


# Warnings of a choice at an end


@pytest.fixture
def clear(rng):
    """Return a table in which a moderate penalty is best."""
    X = rng.normal(size=(60, 30))
    return X, X[:, :6].sum(1) + 2.0 * rng.normal(size=60)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alphas": [1e-4, 1e-5, 1e-6]}, r"alpha_=0.0001 is the largest of 3 alphas.*Try larger ones"),
        ({"alphas": [1e3, 1e2, 10.0]}, r"alpha_=10 is the smallest of 3 alphas.*Try smaller ones, or alphas=100"),
        ({"alphas": 5, "penalty": "l1", "eps": 0.9}, r'is the smallest of 5 alphas.*Try eps="auto"'),
    ],
)
def test_a_choice_at_an_end_is_told(clear, given, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TorchLinearRegressorCV(**given).fit(*clear)
    assert len(caught) == 1
    assert caught[0].category is UserWarning
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=message):
        TorchLinearRegressorCV(**given).fit(*clear)


def test_noise_chooses_the_largest(rng):
    X = rng.normal(size=(40, 5))
    with pytest.warns(UserWarning, match="predictions hardly leave the mean"):
        TorchLinearRegressorCV(penalty="l1").fit(X, rng.normal(size=40))


def test_a_clear_table_chooses_the_smallest(rng):
    X = rng.normal(size=(400, 5))
    with pytest.warns(UserWarning, match=r"none at all, as TorchLinearRegressor\(\) has it"):
        TorchLinearRegressorCV().fit(X, X.sum(1) + 1e-6 * rng.normal(size=400))


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
def test_a_choice_inside_is_not(clear, penalty):
    model = TorchLinearRegressorCV(penalty=penalty).fit(*clear)
    assert model.alphas_[-1] < model.alpha_ < model.alphas_[0]


@pytest.mark.parametrize("alphas", [1, [0.1], [0.0]])
def test_a_single_one_is_no_choice(clear, alphas):
    TorchLinearRegressorCV(alphas=alphas).fit(*clear)


def test_no_penalty_at_all_is_no_end(rng):
    X = rng.normal(size=(200, 3))
    model = TorchLinearRegressorCV(alphas=[1.0, 0.1, 0.0]).fit(X, X.sum(1))
    assert model.alpha_ == 0


def test_several_l1_ratios_have_ends_of_their_own(clear):
    paths = {"l1_ratio": [0.1, 0.9], "penalty": "elasticnet"}
    TorchLinearRegressorCV(**paths).fit(*clear)
    with pytest.warns(UserWarning, match="is the smallest of 3 alphas"):
        TorchLinearRegressorCV(alphas=[10.0, 3.0, 1.0], **paths).fit(*clear)


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet"])
@pytest.mark.parametrize("eps", ["auto", 1e-3])
@AT_AN_END
def test_ends_do_not_depend_on_the_order_of_targets(rng, penalty, eps):
    X = rng.normal(size=(80, 4))
    y = (X @ rng.normal(size=(4, 2)) + rng.normal(size=(80, 2))) * [1.0, 1000.0]
    one, other = (
        TorchLinearRegressorCV(penalty=penalty, eps=eps, alphas=5, cv=2).fit(X, targets) for targets in (y, y[:, ::-1])
    )
    assert_allclose(one.alphas_, other.alphas_, rtol=1e-10)
