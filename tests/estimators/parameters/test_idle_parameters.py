"""A parameter that is given and has no effect is warned of, with the way out; one that is not given, never."""

import warnings

import numpy as np
import pytest
from conftest import AT_AN_END
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap

PENALTY = 'has no effect with penalty=None; use penalty="l2", "l1" or "elasticnet"'
RATE = 'has no effect with learning_rate="auto"; give a number for learning_rate'
TEXTBOOK = {"learning_rate": 0.01, "max_iter": 2}
IDLE = {
    "alpha": ({"alpha": 0.5}, f"alpha=0.5 {PENALTY}"),
    "alphas": ({"alpha": [0.5]}, rf"alpha=\[0.5\] {PENALTY}"),
    "l1_ratio": ({"l1_ratio": 0.9}, f"l1_ratio=0.9 {PENALTY}"),
    "momentum": ({"momentum": 0.9}, f"momentum=0.9 {RATE}"),
    "alpha in textbook mode": ({"alpha": 0.5, **TEXTBOOK}, f"alpha=0.5 {PENALTY}"),
}
SILENT = [
    {},
    {"alpha": 0.0},
    {"alpha": 0},
    {"alpha": [0.0]},
    {"l1_ratio": 0.0},
    {"alpha": 1e-4, "l1_ratio": 0.15},
    {"penalty": "l2", "alpha": 0.5},
    {"penalty": "elasticnet", "alpha": 0.5, "l1_ratio": 0.9},
    {"momentum": 0.0},
    {"momentum": 0.9, **TEXTBOOK},
]
USES = {
    "fit": lambda model, X, y: model.fit(X, y),
    "partial_fit": lambda model, X, y: model.partial_fit(X, y),
    "bootstrap": lambda model, X, y: bootstrap(model, X, y, n_resamples=5, random_state=0),
    "clone": lambda model, X, y: clone(model).fit(X, y),
    "pipeline": lambda model, X, y: make_pipeline(StandardScaler(), model).fit(X, y),
}


@pytest.fixture
def data(rng):
    X = rng.normal(size=(60, 3))
    return X, X @ [1.0, 2.0, 3.0] + rng.normal(size=60)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("case", IDLE)
def test_warned_of(data, use, case):
    parameters, message = IDLE[case]
    with pytest.warns(UserWarning, match=message) as caught:
        USES[use](TorchLinearRegressor(**parameters), *data)
    assert len(caught) == 1


def test_warning_points_to_the_line_of_the_user(data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TorchLinearRegressor(alpha=0.5).fit(*data)
        TorchLinearRegressor(alpha=0.5).partial_fit(*data)
        TorchLinearRegressorCV(momentum=0.5, alphas=[0.1]).fit(*data)
    assert [each.filename for each in caught] == 3 * [__file__]
    first = caught[0].lineno
    assert [each.lineno for each in caught] == [first, first + 1, first + 2]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("parameters", SILENT, ids=str)
def test_silent(data, use, parameters):
    USES[use](TorchLinearRegressor(**parameters), *data)  # where warnings are errors


def test_both_at_once(data):
    with pytest.warns(UserWarning, match="has no effect with") as caught:
        TorchLinearRegressor(alpha=0.5, l1_ratio=0.9, momentum=0.5).fit(*data)
    assert [str(each.message).split("=")[0] for each in caught] == ["alpha", "l1_ratio", "momentum"]


def test_it_is_the_same_model(data):
    with pytest.warns(UserWarning, match="alpha"):
        idle = TorchLinearRegressor(alpha=0.5).fit(*data)
    np.testing.assert_array_equal(idle.coef_, TorchLinearRegressor().fit(*data).coef_)


class Unpenalised(TorchLinearRegressor):
    """A subclass with parameters of its own, one of them without a default, that leaves nobody a choice of `alpha`."""

    def __init__(self, device, momentum=0.5):
        super().__init__(device=device, alpha=0.5, momentum=momentum)


def test_what_a_subclass_sets_itself_is_nobodys_choice(data):
    Unpenalised("cpu").fit(*data)
    with pytest.warns(UserWarning, match=f"momentum=0.9 {RATE}") as caught:
        Unpenalised("cpu", momentum=0.9).fit(*data)
    assert len(caught) == 1


def test_search_over_alpha_without_a_penalty(data):
    search = GridSearchCV(TorchLinearRegressor(), {"alpha": [0.1, 1.0]}, cv=2)
    with pytest.warns(UserWarning, match=r"alpha=.* has no effect with penalty=None"):
        search.fit(*data)


def test_cross_validation_of_an_idle_alpha(data):
    with pytest.warns(UserWarning, match=r"alpha=0.5 has no effect"):
        cross_val_score(TorchLinearRegressor(alpha=0.5), *data, cv=2)


def test_search_over_alpha_with_a_penalty(data):
    GridSearchCV(TorchLinearRegressor(penalty="l2"), {"alpha": [0.1, 1.0]}, cv=2).fit(*data)


CHOICE = {"alphas": np.geomspace(10.0, 1e-5, 9), "cv": 3}


@AT_AN_END
def test_the_estimator_that_chooses(data):
    with pytest.warns(UserWarning, match=f"momentum=0.5 {RATE}"):
        TorchLinearRegressorCV(momentum=0.5, **CHOICE).fit(*data)
    textbook = {"learning_rates": [0.01, 0.02], "max_iter": 2, "penalty": None}
    with pytest.warns(UserWarning, match=f"l1_ratio=0.9 {PENALTY}"):
        TorchLinearRegressorCV(l1_ratio=0.9, **textbook).fit(*data)
    TorchLinearRegressorCV(**CHOICE).fit(*data)
    TorchLinearRegressorCV(**textbook).fit(*data)
