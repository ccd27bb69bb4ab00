"""Paths of penalties: against those of specialists, where they begin, and from rows, summaries or little memory."""

import numpy as np
import pytest
import sklearn
from conftest import AT_AN_END
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import ElasticNetCV, LassoCV, RidgeCV
from sklearn.metrics import get_scorer

from torchlinreg import TorchLinearRegressorCV
from torchlinreg.engine.columns import grid as engine
from torchlinreg.engine.objective import hessian
from torchlinreg.engine.objective.losses import LOSSES, Huber
from torchlinreg.engine.objective.objective import Objective
from torchlinreg.engine.objective.penalties import PENALTIES


@AT_AN_END
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l1_ratio", [1.0, [0.5, 0.9]], ids=["lasso", "elastic net"])
def test_it_is_the_path_of_the_specialists(table, l1_ratio, weighted):
    X, y, weight = table
    weight = weight if weighted else None
    options = {"alphas": 8, "eps": 0.01, "cv": 4}
    if l1_ratio == 1.0:
        truth, penalty = LassoCV(**options, tol=1e-12, max_iter=100_000), "l1"
    else:
        truth, penalty = ElasticNetCV(l1_ratio=l1_ratio, **options, tol=1e-12, max_iter=100_000), "elasticnet"
    truth.fit(X, y[:, 0], sample_weight=weight)
    scoring = "neg_mean_squared_error"
    mine = TorchLinearRegressorCV(penalty=penalty, l1_ratio=l1_ratio, scoring=scoring, **options)
    mine.fit(X, y[:, 0], weight)
    assert_allclose(mine.alphas_, truth.alphas_, rtol=1e-10)
    assert_allclose(mine.mse_path_, truth.mse_path_, rtol=1e-4)
    assert_allclose(mine.alpha_, truth.alpha_, rtol=1e-10)
    assert_allclose(mine.coef_, truth.coef_, atol=1e-4 * np.abs(truth.coef_).max())
    assert_allclose(mine.l1_ratio_, 1.0 if penalty == "l1" else truth.l1_ratio_)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_ridge_of_the_specialist(table, weighted):
    X, y, weight = table
    alphas = np.geomspace(1e-3, 10, 7)
    weight = np.tile(weight[:12] / weight[:12].sum(), 5) if weighted else np.ones(len(y))
    learnt = 0.8 * weight.sum()  # of every fold
    given = {"cv": 5, "scoring": "neg_mean_squared_error"}
    with sklearn.config_context(enable_metadata_routing=weighted):
        truth = RidgeCV(learnt * alphas, **given)
        if weighted:
            truth.scoring = get_scorer(truth.scoring).set_score_request(sample_weight=True)
        truth.fit(X, y, sample_weight=weight)
    mine = TorchLinearRegressorCV(alphas=alphas, **given).fit(X, y, weight)
    assert_allclose(mine.alpha_, truth.alpha_ / learnt)
    assert_allclose(mine.best_score_, truth.best_score_, rtol=1e-4)
    again = RidgeCV([weight.sum() * mine.alpha_], cv=5).fit(X, y, sample_weight=weight)
    assert_allclose(mine.coef_, again.coef_, rtol=1e-4)


@AT_AN_END
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_path_begins_where_weights_begin(table, loss):
    X, y, weight = table
    options = {"alphas": 3, "eps": 0.5, "cv": 2, "tol": 1e-10}
    model = TorchLinearRegressorCV(penalty="l1", loss=loss, **options).fit(X, y[:, 0], weight)
    zero = np.abs(model.coef_path_).max(1) * X.std(0).max() < 1e-4 * y[:, 0].std()
    assert_array_equal(zero[:2], [True, False])
    assert_allclose(model.path_alphas_, model.alphas_)
    assert_allclose(model.alphas_[-1] / model.alphas_[0], 0.5)


@AT_AN_END
def test_the_path_of_a_round_penalty_begins_near_the_best_constant(table):
    X, y, _ = table
    model = TorchLinearRegressorCV(alphas=5, cv=2, eps=1e-2).fit(X, y[:, 0])
    moved = (X @ model.coef_path_.T).std(0) / y[:, 0].std()
    assert 0.2e-2 < moved[0] < 1.5e-2
    assert_allclose(model.alphas_[-1] / model.alphas_[0], 1e-4)


@pytest.fixture
def columns_of_passes(monkeypatch):
    """Return a list of how many columns each full pass over rows has."""
    seen, evaluate = [], Objective.evaluate

    def counted(self, theta):
        seen.append(theta.shape[1])
        return evaluate(self, theta)

    monkeypatch.setattr(Objective, "evaluate", counted)
    return seen


@pytest.mark.parametrize("loss", ["squared_error", Huber(1.35)], ids=["squared_error", "huber"])
def test_little_memory_gives_the_same(table, monkeypatch, loss, columns_of_passes):
    X, y, weight = table
    given = {"alphas": np.geomspace(1, 1e-2, 7), "penalty": "l1", "loss": loss, "cv": 2}
    whole = TorchLinearRegressorCV(**given).fit(X, y, weight)
    assert max(columns_of_passes) == 7
    columns_of_passes.clear()
    monkeypatch.setattr(engine, "HESSIAN_ELEMENTS", 3 * (X.shape[1] + 1) ** 2)
    monkeypatch.setattr(engine, "BLOCK_ELEMENTS", 50)
    monkeypatch.setattr(hessian, "SYSTEM_ELEMENTS", 50)
    parts = TorchLinearRegressorCV(**given).fit(X, y, weight)
    # Parabolas of a squared loss share one matrix
    assert max(columns_of_passes) == (7 if loss == "squared_error" else 3)
    assert_allclose(parts.mse_path_, whole.mse_path_, rtol=1e-8)
    assert_allclose(parts.coef_path_, whole.coef_path_, atol=1e-8 * np.abs(whole.coef_path_).max())


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
def test_rows_give_what_their_summaries_give(rng, monkeypatch, penalty, columns_of_passes):
    """And models leave the product as soon as they are done."""
    X = rng.normal(size=(200, 12)) @ np.diag(np.geomspace(1, 0.1, 12)) @ rng.normal(size=(12, 12))
    y, weight = X @ rng.normal(size=(12, 2)) + rng.normal(size=(200, 2)), rng.uniform(0, 2, 200)
    given = {"alphas": np.geomspace(1, 1e-6, 9), "penalty": penalty, "cv": 3}
    summarised = TorchLinearRegressorCV(**given).fit(X, y, weight)
    columns_of_passes.clear()
    monkeypatch.setattr(engine.Grid, "_pays", lambda self, n_parts: False)
    rows = TorchLinearRegressorCV(**given, conditioning="scale").fit(X, y, weight)
    assert len(columns_of_passes) > 8
    assert min(columns_of_passes) < max(columns_of_passes) == 9
    assert_allclose(rows.mse_path_, summarised.mse_path_, rtol=1e-8)
    assert_allclose(rows.coef_, summarised.coef_, atol=1e-8 * np.abs(rows.coef_).max())
