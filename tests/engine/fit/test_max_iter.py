"""`max_iter` counts every pass over the table, the first ones included."""

import numpy as np
import pytest

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective import objective
from torchlinreg.engine.preconditioning import choose
from torchlinreg.losses import Huber

# Every fit here is stopped before it has converged
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LOSSES = [
    "squared_error",
    "mse",
    "huber",
    Huber(delta=1.0),
    "quantile",
    "absolute_error",
    "squared_epsilon_insensitive",
]


@pytest.mark.parametrize("penalty", [None, "l2", "l1"])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_one_pass_is_one_pass(monkeypatch, rng, loss, large, penalty):
    if large:
        monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X = rng.normal(size=(2000, 3)) * [1.0, 10.0, 0.1]
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=2000)
    model = TorchLinearRegressor(loss=loss, penalty=penalty, max_iter=1, random_state=0).fit(X, y)
    assert model.n_iter_ == 1
    assert len(model.loss_curve_) == 1
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.optimality_gap_)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("max_iter", [2, 3, 7])
def test_never_more_than_asked_for(monkeypatch, rng, loss, max_iter):
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X = rng.standard_t(2, size=(2000, 6))
    y = X @ rng.normal(size=6) + rng.standard_t(2, size=2000)
    model = TorchLinearRegressor(loss=loss, max_iter=max_iter, random_state=0).fit(X, y)
    assert 1 <= model.n_iter_ <= max_iter
    assert model.n_iter_ == len(model.loss_curve_)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("max_iter", [1, 2])
def test_more_directions_than_a_matrix_is_worth(monkeypatch, rng, loss, max_iter):
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    monkeypatch.setattr(objective, "LARGEST_HESSIAN", 2)
    X = rng.normal(size=(2000, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=2000)
    model = TorchLinearRegressor(loss=loss, max_iter=max_iter, random_state=0).fit(X, y)
    assert 1 <= model.n_iter_ <= max_iter
    assert np.isfinite(model.coef_).all()
