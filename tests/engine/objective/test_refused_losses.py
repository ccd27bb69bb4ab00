"""Losses of the user's that overflow, or are no numbers, are refused by name: nothing is learnt from them."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap


def log_cosh(prediction, target):
    return torch.log(torch.cosh(prediction - target))


def log_cosh_mean(prediction, target):
    return log_cosh(prediction, target).mean()


def no_number(prediction, target):
    return (prediction - target).square() * float("nan")


def no_number_mean(prediction, target):
    return no_number(prediction, target).mean()


class Module(torch.nn.Module):
    """A module, as the user may write one."""

    def forward(self, prediction, target):
        """Return the cost."""
        return log_cosh(prediction, target)


LOSSES = [log_cosh, log_cosh_mean, no_number, no_number_mean, Module()]
NAMES = {log_cosh: "log_cosh", log_cosh_mean: "log_cosh_mean", no_number: "no_number", no_number_mean: "no_number_mean"}
TEXTBOOK = {"learning_rate": 0.01, "max_iter": 5}


def named(loss) -> str:
    return f"loss=.*{NAMES.get(loss, 'Module')}"


@pytest.fixture
def prices(rng):
    """Return features of moderate size and prices near a million, some of them far from the mean."""
    X = rng.normal(size=(100, 3))
    return X, 1e6 + 1e5 * X @ [1.0, -2.0, 0.5] + 1e4 * rng.normal(size=100)


@pytest.mark.parametrize("parameters", [{}, {"penalty": "l2"}, {"penalty": "l1"}, {"fit_intercept": False}, TEXTBOOK])
@pytest.mark.parametrize("loss", LOSSES)
def test_fit(prices, loss, parameters):
    with pytest.raises(ValueError, match=named(loss)):
        TorchLinearRegressor(loss=loss, **parameters).fit(*prices)


@pytest.mark.parametrize("parameters", [{}, TEXTBOOK])
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("loss", LOSSES[:2])
def test_columns_of_targets(prices, loss, n_targets, parameters):
    X, y = prices
    with pytest.raises(ValueError, match=named(loss)):
        TorchLinearRegressor(loss=loss, **parameters).fit(X, np.column_stack([y / 1e6, y][-n_targets:]))


@pytest.mark.parametrize("backend", ["autograd", "linear"])
@pytest.mark.parametrize("parameters", [{}, TEXTBOOK])
def test_backends(prices, backend, parameters):
    with pytest.raises(ValueError, match=named(log_cosh)):
        TorchLinearRegressor(loss=log_cosh, backend=backend, **parameters).fit(*prices)


@pytest.mark.parametrize("parameters", [{}, {"learning_rates": 0.01, "max_iter": 5}, {"penalty": "l1", "alphas": 3}])
@pytest.mark.parametrize("loss", LOSSES)
def test_cross_validation(prices, loss, parameters):
    with pytest.raises(ValueError, match=named(loss)):
        TorchLinearRegressorCV(loss=loss, **{"alphas": [0.1, 1.0], **parameters}).fit(*prices)


@pytest.mark.parametrize("parameters", [{}, {"penalty": "l2"}, TEXTBOOK])
@pytest.mark.parametrize("loss", LOSSES)
def test_bootstrap(prices, loss, parameters):
    with pytest.raises(ValueError, match=named(loss)):
        bootstrap(TorchLinearRegressor(loss=loss, **parameters), *prices, n_resamples=5)


def test_partial_fit(prices):
    with pytest.raises(ValueError, match=named(log_cosh)):
        TorchLinearRegressor(loss=log_cosh, learning_rate=0.01).partial_fit(*prices)


def test_search_reports_the_refusal(prices):
    search = GridSearchCV(TorchLinearRegressor(loss=log_cosh, penalty="l2"), {"alpha": [0.1, 1.0]}, error_score=0.0)
    with pytest.raises(ValueError, match="log_cosh"):
        search.fit(*prices)


@pytest.mark.parametrize("parameters", [{}, {"learning_rate": 0.1, "max_iter": 200}])
def test_the_same_loss_of_small_numbers_is_learnt(rng, parameters):
    X = rng.normal(size=(100, 2))
    model = TorchLinearRegressor(loss=log_cosh, **parameters).fit(X, X @ [1.0, -2.0] + 3.0)
    np.testing.assert_allclose(model.coef_, [1.0, -2.0], atol=1e-3)
