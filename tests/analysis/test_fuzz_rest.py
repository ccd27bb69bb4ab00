"""What is chosen, resampled and streamed is refused for a reason, or as sound as what `fit` learns."""

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from convex import LOSSES
from drawn_parameters import FAR, ODD, SOUND, assert_finite, quickly, tables
from drawn_problems import problems, refuse_more_than_the_gap
from hypothesis import event, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import GroupKFold, LeaveOneOut, ShuffleSplit, TimeSeriesSplit
from sklearn.utils import check_random_state
from trusted import solve

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap
from torchlinreg.engine.columns.resampling import draw as draw_resamples

OF_CHOICE: dict[str, list] = {
    "alphas": [1, 2, 5, np.int64(3), [0.1], [0.0, 1.0], np.array([1e-300, 1e300]), (1, 2, 3), torch.tensor([0.5, 1.0])],
    "eps": ["auto", "auto", 1e-3, 0.5, 1e-300, np.float32(0.1)],
    "l1_ratio": [0.0, 1.0, 0.3, [0.3], [0.3, 1.0], [0.0, 0.5]],
    "cv": [None, 2, 3, LeaveOneOut(), ShuffleSplit(2, random_state=0), TimeSeriesSplit(2), GroupKFold(2)],
    "scoring": [None, "r2", "neg_mean_squared_error", "neg_mean_absolute_error", lambda m, X, y: 1.0],
    "momentum": [0.0, 0.5, [0.0, 0.9], np.array([0.5])],
    "learning_rates": ["auto"] * 4 + [1e-3, [1e-3, 0.1], [1e-300, 1e300], 0.1, np.array([0.01])],
}
ODD_CHOICE: dict[str, list] = {
    "alphas": [0, [], [[1.0]], [-1.0], [np.nan], ["a"], None, 10**30, 2.0, True, {}, [1.0, 1.0], [np.inf]],
    "eps": [0.0, 1.0, 2, "a", None, np.nan],
    "l1_ratio": [[], [0.5, 0.5], [2.0], [[0.5]], ["a"], None],
    "cv": [
        0,
        1,
        100,
        "a",
        [],
        [([0], [])],
        [([0], [0])],
        [([0], [99])],
        [([True], [1])],
        [(0, 1)],
        [0],
        2.5,
        [([], [0])],
    ],
    "scoring": ["a", "roc_auc", lambda m, X, y: None, lambda m, X, y: np.nan, lambda m: 1, lambda m, X, y: [1.0]],
    "momentum": [[1.0], [], [0.1, 0.1], [-0.1], ["a"]],
    "learning_rates": [[], [0.0], [1.0, 1.0], [np.inf], ["auto"], None, 0.0],
}
SHARED = sorted(set(TorchLinearRegressorCV().get_params()) - set(OF_CHOICE))


@st.composite
def choices(draw):
    """Draw parameters of `TorchLinearRegressorCV`, most of them sound."""
    sound = {**{name: SOUND[name] for name in SHARED}, **OF_CHOICE}
    odd = {**{name: values for name, values in ODD.items() if name in sound}, **ODD_CHOICE}
    names = draw(st.lists(st.sampled_from(sorted(sound)), unique=True, max_size=8))
    names += draw(st.lists(st.sampled_from(sorted(OF_CHOICE)), unique=True, max_size=4))
    drawn = {
        "max_iter": 5,
        "alphas": 3,
        "cv": 2,
        "scoring": "neg_mean_absolute_error",
        **{name: draw(st.sampled_from(sound[name])) for name in names},
    }
    if isinstance(drawn.get("learning_rates", "auto"), str):
        drawn = {name: value for name, value in drawn.items() if not name.startswith("optimizer")}
    if drawn.get("penalty") != "elasticnet":
        drawn.pop("l1_ratio", None)
    unsound = draw(st.integers(0, 15))
    if unsound == 0:
        drawn[draw(st.sampled_from(sorted(set(sound) - {"max_iter", "alphas"})))] = draw(st.sampled_from(FAR))
    elif unsound < 4:
        name = draw(st.sampled_from(sorted(odd)))
        drawn[name] = draw(st.sampled_from(odd[name]))
    return drawn


def allow():
    """Ignore what the estimator rightly says of parameters that are drawn at random; any other warning is an error."""
    for category in (ConvergenceWarning, FitFailedWarning):
        warnings.simplefilter("ignore", category)
    said = "has no effect with |groups parameter is ignored|is the (smallest|largest) of|scoring=.* gave NaN|forgets"
    warnings.filterwarnings("ignore", f".* ({said})", UserWarning)


def check_choice(parameters, data, groups):
    model = TorchLinearRegressorCV(**parameters)
    data = {name: part for name, part in data.items() if not name.endswith("_init")}
    with warnings.catch_warnings(action="error"):
        allow()
        try:
            model.fit(**data, groups=groups)
        except (ValueError, TypeError) as refusal:
            event(f"refused: {str(refusal)[:70]}")
            return
    event("fitted")
    assert_finite(model, data["X"])
    assert model.best_params_ == model.cv_results_["params"][model.best_index_]
    assert model.cv_results_["rank_test_score"][model.best_index_] == 1
    assert not isinstance(model.optimality_gap_, float) or model.optimality_gap_ >= 0


many_groups = st.sampled_from([None, None, None, None, [0, 1, 2, 0, 1, 2]])


@quickly
@given(choices(), tables(), many_groups)
def test_choice_is_refused_or_finite(parameters, data, groups):
    check_choice(parameters, data, groups)


@pytest.mark.slow
@settings(quickly, max_examples=100)
@given(choices(), tables(), many_groups)
def test_choice_is_refused_or_finite_at_length(parameters, data, groups):
    check_choice(parameters, data, groups)


def check_answers_of_choice(drawn):
    """Every model of a path must be the optimum for its alpha."""
    drawn = replace(drawn, penalty=drawn.penalty or "l2")
    parameters = drawn.parameters()
    del parameters["alpha"]
    model = TorchLinearRegressorCV(alphas=[1e-3, 0.1, 10.0], cv=2, random_state=0, **parameters)
    with warnings.catch_warnings(action="error"):
        allow()
        try:
            model.fit(drawn.X, drawn.y, drawn.weight)
        except ValueError as refusal:
            event(str(refusal)[:40])
            return
    event("fitted")
    for alpha, coef in zip(model.path_alphas_, model.coef_path_, strict=True):
        if alpha == model.alpha_:
            assert_array_equal(coef, model.coef_)
            one = replace(drawn, alpha=alpha)
            refuse_more_than_the_gap(one, coef, model.intercept_, model.optimality_gap_)
        if drawn.penalty == "l2" and drawn.loss in ("squared_error", "mse"):
            single = TorchLinearRegressor(alpha=alpha, random_state=0, **parameters)
            single.fit(drawn.X, drawn.y, drawn.weight)
            assert_allclose(coef, single.coef_, rtol=1e-6, atol=1e-6 * np.abs(drawn.y).max())


@settings(quickly, max_examples=20)
@given(problems())
def test_chosen_is_the_optimum(drawn):
    check_answers_of_choice(drawn)


@pytest.mark.slow
@settings(quickly, max_examples=40)
@given(problems())
def test_chosen_is_the_optimum_at_length(drawn):
    check_answers_of_choice(drawn)


@quickly
@given(problems(), st.integers(0, 10))
def test_resamples(drawn, seed):
    """Standard errors and intervals must be those of trusted fits to the same draws, where these are unique."""
    drawn = replace(drawn, penalty="l2", alpha=max(drawn.alpha, 0.01))
    model, n_resamples = TorchLinearRegressor(**drawn.parameters(), random_state=0), 20
    with warnings.catch_warnings(action="error"):
        allow()
        try:
            table = bootstrap(model, drawn.X, drawn.y, n_resamples, 0.9, seed, sample_weight=drawn.weight)
        except ValueError as refusal:
            event(str(refusal)[:40])
            return
    assert np.isfinite(table.to_numpy()).all()
    assert (table["low"] <= table["high"]).all()
    assert (table["standard_error"] >= 0).all()
    if LOSSES[drawn.loss](drawn.parameter, 1).is_quadratic:
        number = int(check_random_state(seed).randint(2**31 - 1))
        ((_, counts),) = draw_resamples(len(drawn.y), n_resamples, number)
        ones = np.ones(len(drawn.y)) if drawn.weight is None else drawn.weight
        found = []
        for count in counts.numpy():
            answers = [solve(problem) for problem in replace(drawn, weight=ones * count).problems()]
            found.append(
                np.concatenate([np.append(coef, [intercept] * drawn.fit_intercept) for coef, intercept in answers])
            )
        size = np.abs(found).max() + 1.0
        assert_allclose(table["standard_error"], np.std(found, axis=0, ddof=1), rtol=1e-5, atol=1e-7 * size)
        assert_allclose(table["low"], np.quantile(found, 0.05, axis=0), rtol=1e-5, atol=1e-7 * size)


@quickly
@given(problems(), st.lists(st.integers(0, 59), max_size=5), st.integers(-100, 100))
def test_streams(drawn, cuts, of_size):
    """A stream must end where all of its rows are learnt from, weights as they are."""
    drawn = replace(drawn, loss=drawn.loss if drawn.loss[0] == "s" and "insens" not in drawn.loss else "mse")
    model = TorchLinearRegressor(**drawn.parameters(of_size, of_size), random_state=0)
    bounds = [0, *sorted({cut % len(drawn.y) for cut in cuts} - {0}), len(drawn.y)]
    with warnings.catch_warnings(action="error"):
        allow()
        for start, end in pairwise(bounds):
            rows = slice(start, end)
            weight = None if drawn.weight is None else drawn.weight[rows]
            size = 2.0**of_size
            model.partial_fit(drawn.X[rows] * size, drawn.y[rows] * size, weight)
    coef, intercept = model.coef_, np.ldexp(model.intercept_, -of_size)
    refuse_more_than_the_gap(drawn, coef, intercept, 1e-10)


def test_resamples_of_a_table_of_zeros():
    table = bootstrap(TorchLinearRegressor(fit_intercept=False), np.zeros((4, 2)), np.arange(4.0), 5)
    assert not table.to_numpy().any()


def test_shortest_eps_makes_a_path_all_the_same(rng):
    X = rng.normal(size=(20, 2))
    model = TorchLinearRegressorCV(alphas=3, eps=1e-300, cv=2)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        model.fit(X, X.sum(1) + rng.normal(size=20))
    assert (model.alphas_ > 0).all()
    assert np.isfinite(model.coef_path_).all()
