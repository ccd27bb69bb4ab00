"""Losses and penalties wherever scikit-learn handles parameters: searched over, cloned, stored, shown."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from pairs import pairwise
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.losses import Huber, Quantile, TorchLoss

OBJECTS = {
    **{f"{name}()": make() for name, make in LOSSES.items()},
    "Huber(0.5)": Huber(0.5),
    "module": torch.nn.SmoothL1Loss(beta=0.3),
    "function": torch.nn.functional.mse_loss,
    "TorchLoss": TorchLoss(torch.nn.functional.huber_loss),
}


@pytest.fixture(params=OBJECTS)
def loss(request):
    """Return each loss as an object, and some of torch's."""
    return OBJECTS[request.param]


@pytest.fixture
def data(rng):
    X = rng.normal(size=(60, 3))
    return X, X @ [1.0, -2.0, 0.5] + 4.0 + rng.standard_t(2, 60)


def test_grid_search_over_losses_and_strengths(data):
    X, y = data
    grid = {"loss": ["squared_error", Huber(1.0), Quantile(0.5)], "penalty": ["l2", "l1"], "alpha": [1e-4, 0.1, 10.0]}
    search = GridSearchCV(TorchLinearRegressor(), grid, cv=3, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 18
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["alpha"] < 10
    assert search.best_estimator_.loss == search.best_params_["loss"]


def test_grid_search_over_strengths_finds_what_ridge_finds(data):
    X, y = data
    alphas = np.array([0.01, 0.1, 1.0])
    mine = GridSearchCV(TorchLinearRegressor(penalty="l2"), {"alpha": alphas}, cv=3, error_score="raise").fit(X, y)
    # Ridge sums over the 40 rows that each fold learns from, where this takes the mean
    truth = GridSearchCV(Ridge(), {"alpha": 40 * alphas}, cv=3).fit(X, y)
    assert_allclose(mine.cv_results_["mean_test_score"], truth.cv_results_["mean_test_score"], rtol=1e-9)
    assert mine.best_index_ == truth.best_index_


def test_clone(data, loss):
    model = TorchLinearRegressor(loss=loss, penalty="l2", alpha=np.array([0.01])).fit(*data)
    copy = clone(model)
    assert type(copy.loss) is type(loss)
    assert repr(copy) == repr(model)
    assert_array_equal(copy.alpha, model.alpha)
    assert vars(copy).keys() == copy.get_params().keys()
    assert_array_equal(copy.fit(*data).coef_, model.coef_)


def test_pickle(data, loss):
    model = TorchLinearRegressor(loss=loss, penalty="elasticnet").fit(*data)
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.predict(data[0]), model.predict(data[0]))
    assert repr(copy) == repr(model)
    assert_array_equal(copy.fit(*data).coef_, model.coef_)


def test_fit_changes_no_parameter(data, loss):
    alpha, before = np.array([0.01]), pickle.dumps(loss)
    model = TorchLinearRegressor(loss=loss, penalty="l1", alpha=alpha).fit(*data)
    assert model.loss is loss
    assert model.alpha is alpha
    assert pickle.dumps(loss) == before


def test_repr(data, loss):
    model = TorchLinearRegressor(loss=loss, penalty="l1", alpha=0.1)
    expected = f"TorchLinearRegressor(alpha=0.1, loss={loss!r}, penalty='l1')"
    unwrapped = "".join(repr(model).split())
    assert unwrapped == "".join(expected.split())
    for shown in (model, model.fit(*data), make_pipeline(StandardScaler(), model)):
        html = estimator_html_repr(shown)
        assert "TorchLinearRegressor" in html
        assert type(loss).__name__ in html
    assert "".join(repr(model).split()) == unwrapped


@pytest.mark.parametrize("loss", [Huber, Quantile, torch.nn.MSELoss])
def test_class_of_a_loss_is_no_loss(data, loss):
    with pytest.raises(
        ValueError, match=rf"loss=<class .*{loss.__name__}'> is a class; .* such as {loss.__name__}\(\)"
    ):
        TorchLinearRegressor(loss=loss).fit(*data)


def test_set_params_on_what_is_searched(data):
    pipeline = make_pipeline(StandardScaler(), TorchLinearRegressor(loss=Huber(0.5)))
    pipeline.set_params(torchlinearregressor__loss=Huber(2.0), torchlinearregressor__penalty="l2").fit(*data)
    assert pipeline[-1].loss == Huber(2.0)
    assert pipeline.get_params()["torchlinearregressor__loss"].delta == 2.0


# What a fit leaves behind

PLAIN = (int, float, bool, str, type(None))


def parts(value):
    """Yield everything that a fitted attribute is made of, however deep."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from parts(key)
            yield from parts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from parts(part)
    else:
        yield value


CONVERSIONS = {"arrays": np.asarray, "tensors": torch.as_tensor}
MODES = {"untuned": {}, "textbook": {"learning_rate": 0.01, "max_iter": 3}}


@pytest.mark.parametrize(
    ("loss", "penalty", "mode", "dtype", "container"),
    pairwise(OBJECTS, [None, *sorted(PENALTIES)], MODES, ["float32", "float64"], CONVERSIONS),
)
def test_fitted_state_is_numpy_and_plain_python(data, loss, penalty, mode, dtype, container):
    X, y = (CONVERSIONS[container](part.astype(dtype)) for part in data)
    strength = {} if penalty is None else {"alpha": 0.1}
    model = TorchLinearRegressor(loss=OBJECTS[loss], penalty=penalty, **strength, **MODES[mode]).fit(X, y)
    state = {name: value for name, value in vars(model).items() if name not in model.get_params()}
    for part in parts(state):
        if isinstance(part, np.ndarray):
            assert part.dtype.kind in "fi"
        else:
            assert type(part) in PLAIN or isinstance(part, np.generic), type(part)
