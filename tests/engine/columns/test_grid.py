"""A grid of models in one training gives what a search does that trains each by itself, and what specialists find."""

import numpy as np
import pytest
import sklearn
import torch
from conftest import AT_AN_END
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import get_scorer, make_scorer, max_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
)

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.columns import grid as engine
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES

N_ROWS = 60
ALPHAS = [0.3, 0.01, 0.1]
FULL = {"batch_size": "full", "random_state": 0}
TEXTBOOK = {"batch_size": 15, "max_iter": 5, "random_state": 0}
RATES = {"learning_rate": [0.01, 0.1]}
KINDS = sorted(PENALTIES)


@pytest.fixture
def scaled(table):
    X, y, weight = table
    return (X - X.mean(0)) / X.std(0), y, weight


def one_by_one(parameters, grid, X, y, *, cv=3, scoring=None, weight=None, groups=None) -> GridSearchCV:
    """Return the search that trains every model by itself."""
    model = TorchLinearRegressor(**parameters)
    given = {} if groups is None else {"groups": groups}
    with sklearn.config_context(enable_metadata_routing=weight is not None):
        if weight is not None:
            model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            scoring = scoring and get_scorer(scoring).set_score_request(sample_weight=True)
            given["sample_weight"] = weight
        return GridSearchCV(model, grid, cv=cv, scoring=scoring).fit(X, y, **given)


def at_once(parameters, grid, X, y, *, cv=3, scoring=None, weight=None, groups=None) -> TorchLinearRegressorCV:
    """Return the estimator in question."""
    names = {"alpha": "alphas", "learning_rate": "learning_rates"}
    given = {names.get(name, name): value for name, value in (parameters | grid).items()}
    return TorchLinearRegressorCV(cv=cv, scoring=scoring, **given).fit(X, y, weight, groups=groups)


def assert_same(mine: TorchLinearRegressorCV, truth: GridSearchCV, rtol=1e-6):
    """All that both say is the same."""
    assert mine.cv_results_["params"] == truth.cv_results_["params"]
    assert mine.best_params_ == truth.best_params_
    assert mine.n_splits_ == truth.n_splits_
    for name, expected in truth.cv_results_.items():
        if "_test_score" in name:
            largest = np.nanmax(np.abs(truth.cv_results_["mean_test_score"]), initial=0.0)
            assert_allclose(mine.cv_results_[name], expected, rtol=rtol, atol=rtol * largest, err_msg=name)
        elif name.startswith("param_"):
            assert_array_equal(mine.cv_results_[name], np.asarray(expected, dtype=float))
    assert mine.best_index_ == truth.best_index_
    assert_allclose(mine.best_score_, truth.best_score_, rtol=rtol)
    coef = truth.best_estimator_.coef_
    assert_allclose(mine.coef_, coef, rtol=0, atol=max(rtol, 1e-7) * np.abs(coef).max())
    assert_allclose(mine.intercept_, truth.best_estimator_.intercept_, rtol=0, atol=rtol * np.abs(coef).max() * 100)


def compare(parameters, grid, X, y, *, rtol=1e-6, **given) -> TorchLinearRegressorCV:
    """Do both, and expect the same."""
    mine = at_once(parameters, grid, X, y, **given)
    assert_same(mine, one_by_one(parameters, grid, X, y, **given), rtol)
    return mine


@pytest.mark.parametrize(
    ("penalty", "backend"), [*((kind, "analytic") for kind in KINDS), ("l2", "autograd"), ("l1", "linear")]
)
def test_it_is_the_search_over_single_models(table, penalty, backend):
    X, y, weight = table
    compare({"penalty": penalty, "backend": backend}, {"alpha": ALPHAS}, X, y, weight=weight)


@AT_AN_END
@pytest.mark.parametrize("penalty", KINDS)
def test_single_precision_differs_by_what_its_predictions_are_rounded(table, penalty):
    X, y = (part.astype(np.float32) for part in table[:2])
    mine = compare({"penalty": penalty}, {"alpha": ALPHAS}, X, y, rtol=1e-5)
    assert mine.coef_.dtype == np.float32
    assert mine.predict(X).dtype == np.float32


@AT_AN_END
def test_shares_of_the_absolute_values_are_an_axis(table):
    X, y, _ = table
    mine = compare({"penalty": "elasticnet"}, {"alpha": ALPHAS, "l1_ratio": [0.9, 0.0, 1]}, X, y[:, 0])
    assert mine.mse_path_.shape == (3, 3, 3)
    assert mine.l1_ratio_ == mine.best_params_["l1_ratio"]


@AT_AN_END
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_sparse_rows_are_as_dense_ones(rng, penalty, fit_intercept):
    X = sparse.random_array((N_ROWS, 8), density=0.3, random_state=rng, format="csr")
    y = X @ rng.normal(size=8) + 0.1 * rng.normal(size=N_ROWS) + 1
    parameters = {"penalty": penalty, "fit_intercept": fit_intercept}
    mine = compare(parameters, {"alpha": ALPHAS}, X, y)
    dense = at_once(parameters, {"alpha": ALPHAS}, X.toarray(), y)
    assert_allclose(mine.mse_path_, dense.mse_path_, rtol=1e-8)


@AT_AN_END
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_will_do(table, loss):
    X, y, weight = table
    compare({"penalty": "elasticnet", "loss": loss}, {"alpha": ALPHAS[:2]}, X, y[:, 0], weight=weight, cv=2)


@AT_AN_END
def test_models_that_are_done_stay_where_they_were_best():
    """Those that reach the tolerance at an earlier smooth loss than others are not taken further, nor anywhere else."""
    rng, scale = np.random.default_rng(1), np.array([1, 10, 0.1, 3, 2])
    X = rng.normal(size=(90, 5)) * scale + [0, 5, 0, 1, 100]
    y = (X @ (rng.normal(size=(5, 2)) / scale[:, None]) + rng.normal(size=(90, 2)))[:, 0]
    fold = np.r_[0:18, 36:90], np.r_[18:36]
    mine = at_once({"penalty": "l1", "loss": "quantile"}, {"alpha": np.geomspace(1, 1e-3, 6)}, X, y, cv=[fold])
    assert mine.cv_results_["mean_test_score"].min() > -1


@AT_AN_END
@pytest.mark.parametrize("mode", [{}, {**TEXTBOOK, "learning_rate": 0.05}], ids=["untuned", "textbook"])
@pytest.mark.parametrize("loss", [torch.nn.SmoothL1Loss(), torch.nn.MSELoss()], ids=str)
def test_losses_of_torch(scaled, loss, mode):
    X, y, _ = scaled
    grid = {"alpha": ALPHAS[:2]}
    compare({"penalty": "l2", "loss": loss, "backend": "autograd", **mode}, grid, X, y, cv=2)


def distances(prediction, target):
    """A mean that mixes the targets of a row."""
    return (prediction - target).square().sum(1).add(1.0).sqrt().mean()


def mean_of_squares(prediction, target):
    return (prediction - target).square().mean()


@pytest.mark.parametrize("loss", [distances, mean_of_squares])
def test_functions_that_see_all_targets_of_a_row(scaled, loss):
    X, y, _ = scaled
    compare({**TEXTBOOK, "penalty": "l2", "loss": loss}, {"alpha": ALPHAS[:1], **RATES}, X, y, cv=2)


TRAININGS = {
    "momenta": ({}, {"momentum": [0.0, 0.5]}),
    "momenta of nn.Linear": ({"backend": "linear"}, {"momentum": [0.0, 0.5]}),
    "schedule": ({"schedule": "invscaling", "average": True}, {"momentum": [0, 0.9]}),
    "function": ({"schedule": lambda epoch: 0.9**epoch, "fit_intercept": False}, {}),
    "Adam": ({"optimizer": "adam"}, {}),
    "Nesterov": ({"optimizer_params": {"nesterov": True}}, {"momentum": [0.5, 0.1]}),
    "tol": ({"tol": 0.05, "n_iter_no_change": 2, "max_iter": 300}, {"momentum": [0.0, 0.5]}),
    "adaptive": ({"tol": 0.05, "schedule": "adaptive", "n_iter_no_change": 2, "max_iter": 200}, {}),
    "whitened": ({"conditioning": "whiten"}, {}),
    "in order": ({"shuffle": False, "loss": "absolute_error"}, {"momentum": [0.0, 0.5]}),
}


@AT_AN_END
@pytest.mark.parametrize("training", TRAININGS)
def test_rates_and_momenta_are_axes_in_textbook_mode(scaled, training):
    X, y, weight = scaled
    parameters, axes = TRAININGS[training]
    grid = {"alpha": [0.1, 0.01], **RATES, **axes}
    mine = compare({**TEXTBOOK, "penalty": "l2", **parameters}, grid, X, y[:, 0], weight=weight)
    assert mine.learning_rate_ == mine.best_params_["learning_rate"]
    assert mine.mse_path_.shape == (2, *[2] * len(axes), 2, 3)


def test_rates_and_momenta_are_axes_on_every_backend(scaled, backend):
    X, y, _ = scaled
    grid = {"alpha": [0.1], **RATES, "momentum": [0.0, 0.5]}
    compare({**TEXTBOOK, "penalty": "l1", "backend": backend}, grid, X, y, cv=2)


@pytest.mark.parametrize("given", [{}, {"optimizer_params": {"nesterov": False}}], ids=["together", "alone"])
def test_rates_at_which_training_diverges_score_nan(scaled, backend, given):
    X, y, _ = scaled
    parameters = {**FULL, "max_iter": 40, "penalty": "l2", "backend": backend, **given}
    grid = {"alpha": [0.1], "learning_rate": [0.2, 1e5, 0.15, 1e30]}
    with pytest.warns(sklearn.exceptions.FitFailedWarning, match=r"diverged at 2 of 4 settings"):
        mine = at_once(parameters, grid, X, y)
    with pytest.warns((sklearn.exceptions.FitFailedWarning, UserWarning)):
        truth = one_by_one(parameters, grid, X, y)
    assert_same(mine, truth)
    assert_array_equal(np.isnan(mine.cv_results_["mean_test_score"]), [False, True, False, True])
    assert_array_equal(mine.cv_results_["rank_test_score"][1::2], [3, 3])


def pairs_of_rows(rng):
    return [(np.arange(40), np.arange(40, 60)), (np.arange(20, 60), -np.arange(41, 61))]


def masks(rng):
    first = np.arange(N_ROWS) < 30
    return [(first, ~first), (~first, first)]


def rows_that_occur_twice(rng):
    return [(rng.integers(0, N_ROWS, 50), np.r_[0:20, 3]) for _ in range(3)]


SPLITTERS = {
    "shuffled": lambda rng: KFold(4, shuffle=True, random_state=1),
    "random": lambda rng: ShuffleSplit(4, random_state=0),
    "repeated": lambda rng: RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
    "series": lambda rng: TimeSeriesSplit(4),
    "pairs": pairs_of_rows,
    "masks": masks,
    "twice": rows_that_occur_twice,
}


@AT_AN_END
@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("splitter", SPLITTERS)
def test_folds_may_be_cut_in_any_way(table, rng, splitter, penalty):
    X, y, weight = table
    cv = SPLITTERS[splitter](rng)
    compare({"penalty": penalty}, {"alpha": ALPHAS}, X, y, cv=cv, weight=weight if splitter == "twice" else None)


@AT_AN_END
def test_groups_stay_together(table, rng):
    X, y, _ = table
    compare({"penalty": "l2"}, {"alpha": ALPHAS}, X, y, cv=GroupKFold(3), groups=rng.integers(0, 8, N_ROWS))


@AT_AN_END
def test_rows_may_be_left_out_one_by_one(table):
    X, y, _ = table
    given = {"cv": LeaveOneOut(), "scoring": "neg_mean_squared_error"}
    mine = compare({"penalty": "l2"}, {"alpha": ALPHAS[:2]}, X[:30], y[:30, 0], **given)
    assert mine.mse_path_.shape == (2, 30)


@AT_AN_END
@pytest.mark.parametrize("scoring", ["r2", "neg_mean_squared_error", "neg_median_absolute_error"])
def test_named_scores_count_weights(table, scoring):
    X, y, weight = table
    compare({"penalty": "l2"}, {"alpha": ALPHAS}, X, y, scoring=scoring, weight=weight)


@AT_AN_END
@pytest.mark.parametrize(
    "scoring",
    [make_scorer(max_error, greater_is_better=False), lambda model, X, y: -np.abs(model.predict(X) - y).sum()],
    ids=["scorer", "function"],
)
def test_scores_of_the_users_own(table, scoring):
    X, y, _ = table
    compare({"penalty": "l1"}, {"alpha": ALPHAS}, X, y[:, 0], scoring=scoring)


def test_ties_share_a_rank_and_the_first_is_chosen(table):
    X, y, _ = table
    mine = compare({"penalty": "l2"}, {"alpha": [9.0, 0.1, 0.1, 5.0]}, X, y)
    assert_array_equal(mine.cv_results_["rank_test_score"], [4, 1, 1, 3])
    assert mine.best_index_ == 1


def wide(rng):
    X = rng.normal(size=(30, 50))
    return X, X[:, :3] @ [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=30)


def collinear(rng):
    X = rng.normal(size=(N_ROWS, 3))
    return np.c_[X, X[:, 0] + X[:, 1], X[:, 2]], X @ [1.0, 2.0, 3.0] + rng.normal(size=N_ROWS)


def rare_dummies(rng):
    X = rng.normal(size=(N_ROWS, 3))
    rare = (np.arange(N_ROWS) == 3) + np.array([[0.0], [1.0], [1 / 3]])
    return np.c_[X, rare.T, np.ones(N_ROWS)], X @ [1.0, 2.0, 3.0] + rng.normal(size=N_ROWS)


def far_from_zero(rng):
    X = rng.normal(size=(N_ROWS, 3)) + 1e6
    return X, X @ [1.0, 2.0, 3.0] + rng.normal(size=N_ROWS)


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("make", [wide, collinear, rare_dummies, far_from_zero])
def test_hard_tables_with_and_without_a_penalty(rng, make, penalty):
    compare({"penalty": penalty}, {"alpha": [1.0, 0.0, 1e-2]}, *make(rng), rtol=1e-5 if make is far_from_zero else 1e-6)


@AT_AN_END
@pytest.mark.parametrize("make", [wide, collinear])
def test_hard_tables_and_another_loss(rng, make):
    compare({"penalty": "l2", "loss": "huber"}, {"alpha": [1.0, 1e-2]}, *make(rng))


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_column_that_never_changes_in_a_fold_gets_no_weight_there(value):
    """Without an intercept, a penalty or a value that it could speak of."""
    rng, rows = np.random.default_rng(1), np.arange(90)
    X = rng.normal(size=(90, 5)) * [1, 10, 0.1, 3, 2] + [0, 5, 0, 1, 100]
    y = X @ rng.normal(size=5) + rng.normal(size=90)
    X = np.c_[X, np.where(rows == 3, value + 1, value), rows % 2, np.ones(90)]
    compare({"penalty": "l2", "fit_intercept": False}, {"alpha": [1.0, 0.0, 1e-2]}, X, y)


@AT_AN_END
def test_wide_tables_are_not_reduced(rng, monkeypatch):
    X, y = wide(rng)
    monkeypatch.setattr(engine, "ALWAYS_REDUCED", 10)
    calls, summarise = [], engine.Grid._reduce
    monkeypatch.setattr(engine.Grid, "_reduce", lambda self, parts: calls.append(parts) or summarise(self, parts))
    few = at_once({}, {"alpha": ALPHAS}, X, y)
    assert not calls
    assert_same(few, one_by_one({"penalty": "l2"}, {"alpha": ALPHAS}, X, y))
