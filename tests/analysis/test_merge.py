"""`merge`: one model from several that each learnt a part of the rows, exact whatever the parts."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from torchlinreg import TorchLinearRegressor, merge

PARAMETERS = {
    "least squares": {},
    "ridge": {"penalty": "l2", "alpha": 0.1},
    "lasso": {"penalty": "l1", "alpha": 0.1},
    "through the origin": {"fit_intercept": False, "loss": "mse"},
}


def make(n_rows, n_targets=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4)) * 10.0 ** np.arange(-2, 2) + 20
    Y = X / X.std(0) @ rng.normal(size=(4, 2)) + rng.normal(size=(n_rows, 2))
    return X, Y if n_targets else Y[:, 0], rng.integers(0, 3, n_rows).astype(float)


def learn(parts, **parameters):
    return [TorchLinearRegressor(**parameters).partial_fit(*part) for part in parts]


def cut(columns, cuts):
    return list(zip(*(np.split(column, cuts) for column in columns), strict=True))


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("n_targets", [None, 2])
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(20, 280), max_size=6).map(sorted))
def test_random_partitions_give_the_answer_of_one_fit(cuts, parameters, n_targets):
    columns = make(300, n_targets)
    parts = [part for part in cut(columns, cuts) if part[2].sum()]
    model, whole = merge(learn(parts, **parameters)), TorchLinearRegressor(**parameters).fit(*columns)
    X, y, _ = columns
    assert_allclose(model.predict(X), whole.predict(X), rtol=0, atol=1e-9 * y.std())
    assert model.coef_.shape == whole.coef_.shape
    assert model.converged_
    assert model.optimality_gap_ < 1e-12


def test_a_tree_of_merges_is_one_merge():
    X, y, weight = make(400)
    parts = learn(cut((X, y, weight), [100, 200, 300]))
    tree = merge([merge(parts[:2]), merge(parts[2:])])
    assert_array_equal(tree.coef_, merge(iter(parts)).coef_)
    chunks = TorchLinearRegressor().fit_chunks(cut((X, y, weight), [100, 200, 300]))
    assert_array_equal(tree.coef_, chunks.coef_)


def test_models_travel_and_go_on():
    X, y, _ = make(300)
    names = list("abcd")
    parts = learn([(pd.DataFrame(X[rows], columns=names), y[rows]) for rows in (slice(0, 100), slice(100, 200))])
    model = merge(pickle.loads(pickle.dumps(parts)))
    assert [*model.feature_names_in_] == names
    before = [part.coef_.copy() for part in parts]
    model.partial_fit(pd.DataFrame(X[200:], columns=names), y[200:])
    whole = TorchLinearRegressor().fit(pd.DataFrame(X, columns=names), y)
    assert_allclose(model.coef_, whole.coef_, rtol=1e-9)
    for part, coef in zip(parts, before, strict=True):
        assert_array_equal(part.coef_, coef)


def wrong_models():
    """Return lists of models that cannot be merged, with what is said of them."""
    X, y, _ = make(100)
    good = TorchLinearRegressor().partial_fit(X, y)
    frame = pd.DataFrame(X, columns=list("abcd"))
    return {
        "none": ([], ValueError, "no models"),
        "another class": ([good, "model"], TypeError, r"models\[1\] is str"),
        "not fitted": ([good, TorchLinearRegressor()], NotFittedError, r"models\[1\] is not fitted"),
        "fit": ([good, TorchLinearRegressor().fit(X, y)], ValueError, r"models\[1\] keeps no sufficient statistics"),
        "textbook": (
            [TorchLinearRegressor(learning_rate=1e-6).partial_fit(X, y)],
            ValueError,
            r"models\[0\] keeps no sufficient statistics",
        ),
        "penalty": (
            [good, *learn([(X, y)], penalty="l2")],
            ValueError,
            r"models\[1\] has other penalty.*'l2', not None",
        ),
        "alpha": (learn([(X, y)], penalty="l2") + learn([(X, y)], penalty="l2", alpha=1), ValueError, "other alpha"),
        "intercept": ([good, *learn([(X, y)], fit_intercept=False)], ValueError, "other fit_intercept"),
        "columns": ([good, *learn([(frame, y)])], ValueError, "other columns"),
        "names": (learn([(frame, y), (frame.rename(columns={"a": "x"}), y)]), ValueError, "other columns"),
        "features": ([good, *learn([(X[:, :3], y)])], ValueError, "other shape of coef_"),
        "targets": ([good, *learn([(X, y[:, None])])], ValueError, "other shape of coef_"),
        "precision": ([good, *learn([(X.astype("f"), y)])], ValueError, "other precision"),
    }


@pytest.mark.parametrize("wrong", wrong_models())
def test_incompatible_models_are_refused_by_name(wrong):
    models, error, message = wrong_models()[wrong]
    with pytest.raises(error, match=message):
        merge(models)
