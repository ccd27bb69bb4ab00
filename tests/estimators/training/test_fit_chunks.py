"""`fit_chunks`: what `fit` learns from the concatenated table, from chunks that are read in every pass anew."""

import weakref
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from chunked import CUTS, Dataset, make_columns, standard
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.data.chunks import survey
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.losses import Quantile

TEXTBOOK = {"learning_rate": 0.01, "max_iter": 3, "tol": None, "random_state": 3}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Keep so few rows that they do not stand for all of them."""
    monkeypatch.setattr(survey, "MANY_ROWS", 100)


@pytest.fixture
def columns():
    return make_columns()


def assert_same(model, other, X, tolerance):
    expected, found = other.predict(X), model.predict(X)
    assert found.dtype == expected.dtype
    rounding = 8 * np.finfo(expected.dtype).eps * abs(expected).max()
    assert_allclose(found, expected, rtol=0, atol=tolerance * expected.std(0).max() + rounding)


@pytest.mark.parametrize("n_columns", [2, 3], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("penalty", [None, "l2", "l1", "elasticnet"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_untuned_mode_finds_the_same_optimum(columns, loss, penalty, n_columns):
    columns = columns[:n_columns]
    jumps = loss in {"absolute_error", "quantile", "epsilon_insensitive"}
    tol = 1e-6 if jumps else 1e-12
    parameters = {"loss": loss, "penalty": penalty, "tol": tol} | ({"alpha": 0.05} if penalty else {})
    whole = TorchLinearRegressor(**parameters).fit(*columns)
    model = TorchLinearRegressor(**parameters).fit_chunks(Dataset(*columns))
    assert_same(
        model, whole, columns[0], 20 * tol**0.5
    )  # a gap of g leaves predictions about the square root of g apart
    assert model.converged_
    assert model.optimality_gap_ < max(tol, 1e-10)  # bounds of the minimum are no tighter


@pytest.mark.parametrize("parameters", [{}, {"penalty": "l1", "alpha": 0.1}, {"fit_intercept": False}], ids=str)
@pytest.mark.parametrize("n_targets", [None, 2])
def test_squared_loss_takes_one_pass(columns, dtype, parameters, n_targets):
    X, y, weight = columns
    y = y if n_targets is None else np.column_stack([y, X[:, 0]])
    chunks = Dataset(X.astype(dtype), y.astype(dtype), weight)
    model = TorchLinearRegressor(**parameters).fit_chunks(chunks)
    whole = TorchLinearRegressor(**parameters).fit(X.astype(dtype), y.astype(dtype), weight)
    assert model.coef_.dtype == dtype
    assert model.coef_.shape == whole.coef_.shape
    assert_same(model, whole, X.astype(dtype), 1e-10 if dtype == "float64" else 1e-5)
    assert chunks.read == [0, *range(len(chunks))]  # the first one is looked at before


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"momentum": 0.9, "batch_size": 100},
        {"batch_size": "full", "penalty": "l2", "alpha": 0.1},
        {"optimizer": "adam", "backend": "linear"},
        {"loss": "huber", "backend": "autograd"},
        {"average": True, "penalty": "l1", "alpha": 0.01},
        {"schedule": "invscaling", "batch_size": 333},
    ],
    ids=str,
)
@pytest.mark.parametrize("n_columns", [2, 3], ids=["unweighted", "weighted"])
def test_textbook_mode_takes_the_same_steps(columns, parameters, n_columns):
    columns = standard(columns[:n_columns])
    settings = TEXTBOOK | {"shuffle": False} | parameters
    model = TorchLinearRegressor(**settings).fit_chunks(Dataset(*columns))
    whole = TorchLinearRegressor(**settings).fit(*columns)
    assert_same(model, whole, columns[0], 1e-12)
    assert_allclose(model.loss_curve_, whole.loss_curve_, rtol=1e-12)
    assert (model.t_, model.n_iter_) == (whole.t_, whole.n_iter_)


def test_textbook_mode_shuffles_chunks_and_the_rows_of_each(columns):
    X, y, _ = standard(columns)
    generator, order = torch.Generator().manual_seed(3), []
    for number in torch.randperm(len(CUTS) - 1, generator=generator).tolist():
        rows = torch.arange(CUTS[number], CUTS[number + 1])
        if len(rows):
            order += rows[torch.randperm(len(rows), generator=generator)].tolist()
    parameters = TEXTBOOK | {"max_iter": 1}
    model = TorchLinearRegressor(**parameters).fit_chunks(Dataset(X, y))
    by_hand = TorchLinearRegressor(**parameters | {"shuffle": False}).fit(X[order], y[order])
    assert_same(model, by_hand, X, 1e-12)
    assert_array_equal(model.coef_, TorchLinearRegressor(**parameters).fit_chunks(Dataset(X, y)).coef_)


@pytest.mark.parametrize(
    "kind", ["list", "DataLoader", "iterable", "iterator", "frames", "tensors", "sparse", "column-major"]
)
def test_kinds_of_chunks(columns, kind):
    X, y, weight = columns
    parts = [(X[a:b], y[a:b], weight[a:b]) for a, b in pairwise(CUTS)]
    names = [f"column {number}" for number in range(X.shape[1])]
    chunks = {
        "list": parts,
        "DataLoader": torch.utils.data.DataLoader([part for part in parts if len(part[0])], batch_size=None),
        "iterable": dict(enumerate(parts)).values(),
        "iterator": iter(parts),
        "frames": [(pd.DataFrame(X, columns=names), pd.Series(y), weight) for X, y, weight in parts],
        "tensors": [tuple(map(torch.tensor, part)) for part in parts],
        "sparse": [(sparse.csr_array(X), y, weight) for X, y, weight in parts],
        "column-major": [(np.asfortranarray(X), y, weight) for X, y, weight in parts],
    }[kind]
    model = TorchLinearRegressor().fit_chunks(chunks)
    X = pd.DataFrame(X, columns=names) if kind == "frames" else X
    assert_same(model, TorchLinearRegressor().fit(X, y, weight), X, 1e-10)
    assert [*getattr(model, "feature_names_in_", names)] == names


@pytest.mark.parametrize("loss", ["squared_error", Quantile(0.9)], ids=str)
def test_iterables_of_one_pass(columns, loss):
    X, y, _ = columns
    chunks = iter([(X, y)])
    if loss == "squared_error":
        assert TorchLinearRegressor(loss=loss).fit_chunks(chunks).converged_
        return
    with pytest.raises(ValueError, match=r"iterator, which can be gone through once.*DataLoader"):
        TorchLinearRegressor(loss=loss).fit_chunks(chunks)
    with pytest.raises(ValueError, match="a number for learning_rate takes several passes"):
        TorchLinearRegressor(learning_rate=0.1).fit_chunks(iter([(X, y)]))


def test_statistics_go_on_by_partial_fit(columns):
    X, y, _ = columns
    model = TorchLinearRegressor().fit_chunks(Dataset(X[:700], y[:700], cuts=[0, 300, 700]))
    assert_same(model.partial_fit(X[700:], y[700:]), TorchLinearRegressor().fit(X, y), X, 1e-10)


def test_warm_start_goes_on(columns):
    X, y, _ = standard(columns)
    parameters = TEXTBOOK | {"shuffle": False, "warm_start": True}
    model, whole = TorchLinearRegressor(**parameters), TorchLinearRegressor(**parameters)
    for _ in range(2):
        assert_same(model.fit_chunks(Dataset(X, y)), whole.fit(X, y), X, 1e-12)
    assert model.t_ == whole.t_


WRONG = {
    "width": (lambda X, y: (X[:, :4], y), "chunk 3: X has 4 features.* 5 features"),
    "NaN": (lambda X, y: (np.where(np.arange(5) == 2, np.nan, X), y), "chunk 3: .*NaN"),
    "string": (lambda X, y: (X.astype(str).astype(object) + "?", y), "chunk 3: "),
    "dtype": (
        lambda X, y: (X.astype(np.float32), y),
        "chunk 3: X is of type float32, but the first chunk has .*float64",
    ),
    "two targets": (lambda X, y: (X, np.column_stack([y, y])), "chunk 3: y has shape"),
    "rows": (lambda X, y: (X, y[1:]), "chunk 3: .*inconsistent"),
    "weights": (lambda X, y: (X, y, -np.ones(len(y))), "chunk 3: .*sample_weight"),
    "no tuple": (lambda X, y: X, "chunk 3 is ndarray"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
def test_a_wrong_chunk_is_refused_by_its_number(columns, wrong, loss):
    X, y, _ = columns
    chunks = [(X[a:b], y[a:b]) for a, b in pairwise(CUTS)]
    model = TorchLinearRegressor(loss=loss).fit(X, 2 * y)
    before = model.coef_.copy()
    spoil, message = WRONG[wrong]
    chunks[3] = spoil(*chunks[3])
    with pytest.raises((TypeError, ValueError), match=f"(?s){message}"):
        model.fit_chunks(chunks)
    assert_array_equal(model.coef_, before)
    assert model.n_features_in_ == 5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"early_stopping": True}, "early_stopping=True holds rows"),
        ({"learning_rate": 0.1, "conditioning": "whiten"}, "looks at a whole table"),
    ],
    ids=str,
)
def test_parameters_that_need_all_rows_are_refused(columns, parameters, message):
    with pytest.raises(ValueError, match=message):
        TorchLinearRegressor(**parameters).fit_chunks(Dataset(*columns))


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([], ValueError, "no chunks"),
        (3, TypeError, "sequence or an iterable"),
        ("table.parquet", TypeError, "not str.*torchlinreg.streams makes chunks of files"),
        (pd.DataFrame({"x": [1.0]}), TypeError, "not DataFrame.*memory there is fit"),
        (np.ones((3, 2)), TypeError, "not ndarray"),
        ([(np.empty((0, 2)), np.empty(0))], ValueError, "no rows"),
        ([(np.ones((3, 2)), np.ones(3), np.zeros(3))], ValueError, "all zero"),
    ],
    ids=["empty", "number", "path", "frame", "array", "no rows", "no weight"],
)
def test_chunks_without_rows_are_refused(chunks, error, message):
    with pytest.raises(error, match=message):
        TorchLinearRegressor().fit_chunks(chunks)


def test_an_error_of_the_reader_comes_through(columns):
    X, y, _ = columns
    with pytest.raises(OSError, match="the disk is gone"):
        TorchLinearRegressor().fit_chunks(Dataset(X, y, breaks_at=3))


def test_no_more_than_a_few_chunks_are_in_memory(rng):
    alive, most = [], [0]

    class Made:
        def __len__(self):
            return 30

        def __getitem__(self, number):
            X = rng.normal(size=(500, 3))
            alive.append(weakref.ref(X))
            most[0] = max(most[0], sum(X() is not None for X in alive))
            return X, X.sum(1)

    TorchLinearRegressor(loss="absolute_error").fit_chunks(Made())
    assert most[0] <= 3


def test_a_criterion_that_is_not_met_warns(columns):
    with pytest.warns(ConvergenceWarning):
        model = TorchLinearRegressor(loss="absolute_error", max_iter=1, tol=1e-12).fit_chunks(Dataset(*columns))
    assert not model.converged_


def test_cross_validation_says_why_it_takes_no_chunks(columns):
    with pytest.raises(NotImplementedError, match=r"have to be in memory.*alpha=model\.alpha_.*fit_chunks"):
        TorchLinearRegressorCV().fit_chunks([columns])
