"""Rows held out: nothing unless asked, scored as `score` does, and the best weights kept."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from torchlinreg import TorchLinearRegressor


@pytest.fixture
def table(rng):
    """Few rows, many columns: training for long overfits."""
    X = rng.normal(size=(60, 40))
    return X, X[:, :2] @ rng.normal(size=(2, 2)) + 3.0 + rng.normal(size=(60, 2)), rng.uniform(0.5, 2, 60)


OPTIONS = {"learning_rate": 0.05, "batch_size": 10, "max_iter": 200, "shuffle": False}


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_fits_of_that_many_epochs(table, backend, weighted):
    X, y, weight = table
    weight = weight if weighted else None
    X, X_val, y, y_val = X[:40], X[40:], y[:40], y[40:]
    w, w_val = (None, None) if weight is None else (weight[:40], weight[40:])
    model = TorchLinearRegressor(backend=backend, early_stopping=True, **OPTIONS)
    model.fit(X, y, w, X_val=X_val, y_val=y_val, sample_weight_val=w_val)
    assert model.converged_
    assert model.n_iter_ == len(model.validation_scores_) == len(model.loss_curve_) < 200
    assert all(type(score) is float for score in model.validation_scores_)
    for epoch in (1, 3, model.n_iter_):
        shorter = TorchLinearRegressor(backend=backend, **{**OPTIONS, "max_iter": epoch}).fit(X, y, w)
        assert_allclose(model.validation_scores_[epoch - 1], shorter.score(X_val, y_val, w_val), rtol=1e-9)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < model.n_iter_
    shorter = TorchLinearRegressor(backend=backend, **{**OPTIONS, "max_iter": best}).fit(X, y, w)
    assert_allclose(model.coef_, shorter.coef_, rtol=1e-12)
    assert_allclose(model.score(X_val, y_val, w_val), max(model.validation_scores_), rtol=1e-12)


def test_stops_when_nothing_was_gained_for_a_while(table):
    X, y, _ = table
    model = TorchLinearRegressor(early_stopping=True, n_iter_no_change=4, tol=0.01, random_state=0, **OPTIONS)
    scores = np.array(model.fit(X, y).validation_scores_)
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], scores[:-1]]))
    stale = scores < best_before + 0.01
    assert stale[-4:].all()
    assert np.convolve(stale[:-1], np.ones(4), "valid").max() < 4


@pytest.mark.parametrize("n_targets", [1, 2])
def test_held_out_rows_are_those_of_train_test_split(table, backend, n_targets):
    X, y, weight = table
    y = y[:, 0] if n_targets == 1 else y
    model = TorchLinearRegressor(
        backend=backend, early_stopping=True, validation_fraction=0.3, random_state=5, **OPTIONS
    ).fit(X, y, weight)
    X, X_val, y, y_val, w, w_val = train_test_split(X, y, weight, test_size=0.3, random_state=5)
    given = TorchLinearRegressor(backend=backend, early_stopping=True, random_state=5, **OPTIONS)
    given.fit(X, y, w, X_val=X_val, y_val=y_val, sample_weight_val=w_val)
    assert_array_equal(model.coef_, given.coef_)
    assert model.validation_scores_ == given.validation_scores_


def test_nothing_is_held_out_unless_asked(table, backend):
    X, y, _ = table
    model = TorchLinearRegressor(backend=backend, **{**OPTIONS, "max_iter": 2}).fit(X, y)
    assert model.validation_scores_ is None
    other = TorchLinearRegressor(backend=backend, validation_fraction=0.5, **{**OPTIONS, "max_iter": 2}).fit(X, y)
    assert_array_equal(model.coef_, other.coef_)


def test_all_epochs_are_scored_without_tol(table):
    X, y, _ = table
    model = TorchLinearRegressor(early_stopping=True, tol=None, **OPTIONS)
    model.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
    assert model.n_iter_ == len(model.validation_scores_) == 200
    assert model.converged_
    assert_allclose(model.score(X[40:], y[40:]), max(model.validation_scores_))


def test_running_out_of_epochs_is_said(table):
    X, y, _ = table
    with pytest.warns(ConvergenceWarning, match="max_iter=2, without meeting tol"):
        model = TorchLinearRegressor(early_stopping=True, **{**OPTIONS, "max_iter": 2}).fit(X, y)
    assert not model.converged_


def test_adaptive_goes_by_the_scores(table):
    X, y, _ = table
    model = TorchLinearRegressor(early_stopping=True, schedule="adaptive", random_state=0, **OPTIONS).fit(X, y)
    plain = TorchLinearRegressor(early_stopping=True, random_state=0, **OPTIONS).fit(X, y)
    assert model.n_iter_ > plain.n_iter_
    assert model.validation_scores_[: plain.n_iter_] == plain.validation_scores_
    assert max(model.validation_scores_) >= max(plain.validation_scores_)


@pytest.mark.parametrize("options", [{"average": True}, {"conditioning": "scale"}, {"conditioning": "whiten"}], ids=str)
def test_scores_are_of_the_weights_that_fit_would_return(table, options):
    X, y, _ = table
    model = TorchLinearRegressor(early_stopping=True, tol=None, **{**OPTIONS, "max_iter": 5, **options})
    model.fit(X[:50], y[:50], X_val=X[50:], y_val=y[50:])
    last = TorchLinearRegressor(**{**OPTIONS, "max_iter": 5, **options}).fit(X[:50], y[:50])
    assert_allclose(model.validation_scores_[-1], last.score(X[50:], y[50:]), rtol=1e-9)


@pytest.mark.parametrize("given", [False, True], ids=["random part", "given"])
def test_sparse_rows(table, given):
    X, y, _ = table
    model = TorchLinearRegressor(learning_rate=0.01, early_stopping=True, tol=None, max_iter=5, random_state=0)
    held_out = {"X_val": X[:20], "y_val": y[:20]} if given else {}
    expected = clone(model).fit(X, y, **held_out).validation_scores_
    held_out |= {"X_val": sparse.csr_array(X[:20])} if given else {}
    assert_allclose(model.fit(sparse.csr_array(X), y, **held_out).validation_scores_, expected)


def test_frames_and_tensors(table):
    X, y, _ = table
    options = {**OPTIONS, "early_stopping": True, "random_state": 0}
    expected = TorchLinearRegressor(**options).fit(X, y)
    names = [f"x{i}" for i in range(40)]
    frame = TorchLinearRegressor(**options).fit(pd.DataFrame(X, columns=names), pd.DataFrame(y))
    assert_array_equal(frame.coef_, expected.coef_)
    assert_array_equal(frame.feature_names_in_, names)
    assert_array_equal(TorchLinearRegressor(**options).fit(torch.tensor(X), torch.tensor(y)).coef_, expected.coef_)
    with pytest.raises(ValueError, match="feature names"):
        frame.fit(pd.DataFrame(X, columns=names), y, X_val=pd.DataFrame(X, columns=names[::-1]), y_val=y)


@pytest.mark.parametrize(
    ("parameters", "given", "message"),
    [
        ({"learning_rate": "auto"}, [], r"early_stopping=True stops before the optimum.*give a number"),
        ({}, ["X_val"], "y_val is missing"),
        ({}, ["y_val"], "X_val is missing"),
        ({}, ["sample_weight_val"], "X_val is missing"),
        ({"early_stopping": False}, ["X_val", "y_val"], "of no use with early_stopping=False; set early_stopping=True"),
        ({"validation_fraction": 1.0}, [], "validation_fraction"),
        ({"validation_fraction": 0.01}, [], "needs two rows to score at least; increase validation_fraction=0.01"),
    ],
    ids=str,
)
def test_what_is_refused(table, parameters, given, message):
    X, y, weight = table
    given = {name: {"X": X, "y": y, "s": weight}[name[0]] for name in given}
    with pytest.raises(ValueError, match=message):
        TorchLinearRegressor(**{"early_stopping": True, **OPTIONS, **parameters}).fit(X, y, **given)


def test_validation_rows_are_checked_as_others_are(table):
    X, y, weight = table
    model = TorchLinearRegressor(early_stopping=True, **OPTIONS)
    with pytest.raises(ValueError, match="y_val has shape"):
        model.fit(X, y, X_val=X, y_val=y[:, 0])
    with pytest.raises(ValueError, match="39 features"):
        model.fit(X, y, X_val=X[:, 1:], y_val=y)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X, y, X_val=X * np.nan, y_val=y)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        model.fit(X, y, X_val=X, y_val=y, sample_weight_val=-weight)
