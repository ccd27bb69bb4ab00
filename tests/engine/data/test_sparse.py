"""Sparse tables: the same answers as dense ones give, in every format, and nothing filled with zeros on the way."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import penalised
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, lsqr
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.matrices.csr import CSROperator
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.engine.preconditioning import choose

FORMATS = [f"{form}_{kind}" for form in ("csr", "csc", "coo") for kind in ("matrix", "array")]
SAME = {"rtol": 1e-8, "atol": 1e-8}
NO_JUMPS = sorted(name for name in LOSSES if np.isfinite(LOSSES[name]().lipschitz))
JUMPS = sorted(set(LOSSES) - set(NO_JUMPS))


def make_table(rng, shape=(103, 12), density=0.3, dtype="float64"):
    """Return rows of very different lengths, some of them empty, and two targets."""
    X = rng.normal(size=shape) * (rng.uniform(size=shape) < density * rng.uniform(0, 2, size=(shape[0], 1)))
    X[::9] = 0
    X = X.astype(dtype)
    y = X @ rng.normal(size=(shape[1], 2)) + [1.0, -2.0] + 0.1 * rng.normal(size=(shape[0], 2))
    return X, y.astype(dtype)


@pytest.fixture
def table(rng):
    return make_table(rng)


@pytest.fixture
def never_filled(monkeypatch):
    """Let SciPy refuse to fill in the zeros, unless our own table asks for it, which notes for how many rows."""
    filled, is_ours = [], []

    def unless_ours(method):
        def fill(self, *args, **kwargs):
            assert is_ours, "densified"
            return method(self, *args, **kwargs)

        return fill

    for form in ("csr", "csc", "coo"):
        for kind in ("matrix", "array"):
            of_scipy = getattr(sparse, f"{form}_{kind}")
            for method in ("toarray", "todense"):
                monkeypatch.setattr(of_scipy, method, unless_ours(getattr(of_scipy, method)))
    fill = CSROperator.to_dense

    def note(self):
        filled.append(len(self))
        is_ours.append(self)
        try:
            return fill(self)
        finally:
            is_ours.pop()

    monkeypatch.setattr(CSROperator, "to_dense", note)
    return filled


def fit_both(X, y, sample_weight=None, **parameters):
    """Fit the sparse table and the dense one."""
    model = TorchLinearRegressor(**parameters)
    return (clone(model).fit(table, y, sample_weight=sample_weight) for table in (sparse.csr_array(X), X))


def assert_same(one, other):
    assert_allclose(one.coef_, other.coef_, **SAME)
    assert_allclose(one.intercept_, other.intercept_, **SAME)
    assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"shuffle": False},
        {"momentum": 0.9},
        {"batch_size": 1},
        {"batch_size": "full"},
        {"fit_intercept": False},
        {"optimizer": "adam"},
        {"average": True},
        {"conditioning": "scale"},
        {"conditioning": "whiten"},
        {"loss": torch.nn.SmoothL1Loss(), "backend": "linear"},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_textbook_mode_takes_the_steps_of_a_dense_table(table, rng, backend, parameters, weighted):
    weight = rng.uniform(0, 2, 103) if weighted else None
    options = {"backend": backend, "learning_rate": 0.05, "batch_size": 10, "max_iter": 3, "random_state": 0}
    assert_same(*fit_both(*table, weight, **(options | parameters)))


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_textbook_mode_with_every_loss_and_penalty(table, backend, loss, penalty):
    options = {"learning_rate": 0.05, "max_iter": 3, "random_state": 0, "alpha": 0.05}
    assert_same(*fit_both(*table, backend=backend, loss=loss, penalty=penalty, **options))


@pytest.mark.parametrize("loss", NO_JUMPS)
@pytest.mark.parametrize("penalty", [None, *sorted(PENALTIES)])
def test_untuned_mode_finds_the_optimum_of_a_dense_table(table, rng, backend, loss, penalty):
    X, y = table
    X = X * np.logspace(-3, 3, 12)
    X = X if penalty is None else StandardScaler(with_mean=False).fit_transform(X)
    options = {"backend": backend, "loss": loss, **penalised(penalty, 0.05)}
    one, other = fit_both(X, y, rng.uniform(0, 2, 103), **options)
    spread = X.std(0)
    assert_allclose(one.coef_ * spread, other.coef_ * spread, **SAME)
    assert_allclose(one.intercept_, other.intercept_, **SAME)
    assert one.converged_
    assert one.optimality_gap_ == pytest.approx(other.optimality_gap_, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("loss", JUMPS)
@pytest.mark.parametrize("penalty", [None, *sorted(PENALTIES)])
def test_untuned_mode_comes_as_close_for_losses_that_jump(table, loss, penalty):
    """Up to the tolerance, within which many weights may lie."""
    X, y = table
    ratio = {"l2": 0.0, "l1": 1.0, "elasticnet": 0.15, None: 0.0}[penalty]

    def objective(model):
        value = LOSSES[loss]().value(torch.from_numpy(model.predict(X)), torch.from_numpy(y)).mean(0).numpy()
        weights = model.coef_
        cost = ratio * np.abs(weights).sum(1) + (1 - ratio) / 2 * (weights**2).sum(1)
        return value + (0 if penalty is None else 0.05 * cost)

    one, other = fit_both(X, y, loss=loss, **penalised(penalty, 0.05))
    assert one.converged_
    assert_allclose(objective(one), objective(other), rtol=1e-5)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
@pytest.mark.parametrize("learning_rate", ["auto", 0.05])
def test_every_format(table, dtype, form, wide, learning_rate):
    X, y = (part.astype(dtype) for part in table)
    converted = getattr(sparse, form)(X)
    for name in ("indices", "indptr") if form[:3] != "coo" else ():
        setattr(converted, name, getattr(converted, name).astype(np.int64 if wide else np.int32))
    before = converted.copy()
    model = TorchLinearRegressor(learning_rate=learning_rate, max_iter=10, random_state=0)
    one, other = (clone(model).fit(each, y) for each in (converted, X))
    tolerance = {"float64": 1e-8, "float32": 1e-4}[dtype]
    assert one.coef_.dtype == dtype
    assert_allclose(one.coef_, other.coef_, rtol=tolerance, atol=tolerance)
    predicted = one.predict(converted)
    assert type(predicted) is np.ndarray
    assert predicted.dtype == dtype
    assert_allclose(predicted, one.predict(X), rtol=tolerance, atol=tolerance)
    assert one.score(converted, y) == pytest.approx(one.score(X, y), abs=tolerance)
    assert abs(converted - before).max() == 0


def strange_tables(rng):
    X, y = make_table(rng)
    canonical = sparse.csr_array(X)
    zeros = canonical.copy()
    zeros.data[::3] = 0
    half = sparse.coo_array(X / 2)
    twice = sparse.coo_array(
        (np.tile(half.data, 2), (np.tile(half.row, 2), np.tile(half.col, 2))), shape=half.shape
    ).tocsr(copy=True)
    duplicates = sparse.csr_array(
        (np.repeat(canonical.data / 2, 2), np.repeat(canonical.indices, 2), 2 * canonical.indptr), shape=X.shape
    )
    unsorted = canonical[:, ::-1].tocsr()
    empty_columns = X.copy()
    empty_columns[:, [0, 5, 11]] = 0
    one_number = np.zeros_like(X)
    one_number[-1, -1] = 3.0
    even = X.copy()
    even[:, 3:] = 0
    even[:, :3] = rng.normal(size=(103, 3))
    ones = X.copy()
    ones[:, 4] = 0.1
    far = X.copy()
    far[:, 4] = 1e4 + rng.normal(size=103)
    repeated = X.copy()
    repeated[:, 7] = repeated[:, 2]
    return {
        "explicit zeros": (zeros, y),
        "duplicates in COO": (twice, y),
        "duplicates in CSR": (duplicates, y),
        "unsorted": (unsorted, y),
        "empty columns": (sparse.csr_array(empty_columns), y),
        "no numbers": (sparse.csr_array(X.shape), y),
        "one number": (sparse.csr_array(one_number), y),
        "as many in every row": (sparse.csr_array(even), y),
        "a constant column": (sparse.csr_array(ones), y),
        "a column far from zero": (sparse.csr_array(far), y),
        "columns that depend on each other": (sparse.csr_array(repeated), y),
        "one row": (canonical[:1], y[:1]),
        "two rows": (canonical[1:3], y[1:3]),
        "one column": (canonical[:, [3]], y),
        "more columns than rows": (canonical[1:8], y[1:8]),
        "integers": (sparse.csr_array(rng.integers(0, 2, X.shape)), y),
        "one target": (canonical, y[:, 0]),
    }


@pytest.mark.parametrize("name", strange_tables(np.random.default_rng(0)))
@pytest.mark.parametrize("learning_rate", ["auto", 1e-9])
def test_strange_tables(rng, name, learning_rate):
    X, y = strange_tables(rng)[name]
    options = {"learning_rate": learning_rate, "max_iter": 5, "random_state": 0}
    one, other = (TorchLinearRegressor(**options).fit(each, y) for each in (X, X.toarray()))
    assert_allclose(one.coef_, other.coef_, rtol=1e-7, atol=1e-8)
    assert_allclose(one.predict(X), other.predict(X.toarray()), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind", ["sample", "CountSketch"])
def test_large_tables_are_sketched(rng, monkeypatch, never_filled, kind):
    X, y = make_table(rng, (5000, 10))
    if kind == "CountSketch":
        X[:, 9] = 0
        X[[77, 4999], 9] = 1.0
    expected = LinearRegression().fit(X, y)
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    model = TorchLinearRegressor(random_state=0).fit(sparse.csr_array(X), y)
    assert kind in model.plan_.reasons["conditioning"]
    assert_allclose(model.coef_, expected.coef_, **SAME)
    assert_allclose(model.intercept_, expected.intercept_, **SAME)
    assert max(never_filled) < len(X)


@pytest.mark.parametrize("alpha", [None, 1e-3])
@pytest.mark.parametrize("shape", [(300, 700), (700, 300)])
def test_very_wide_tables_are_never_filled(rng, monkeypatch, never_filled, alpha, shape):
    """As tables beyond what is whitened: by conjugate gradients, to the answer of the smallest norm."""
    X, y = make_table(rng, shape, density=0.05)
    expected = LinearRegression() if alpha is None else Ridge(alpha=alpha * shape[0], solver="svd")
    expected.fit(X, y)
    monkeypatch.setattr(choose, "WHITEN_FEATURES", 100)
    penalty = None if alpha is None else "l2"
    model = TorchLinearRegressor(**penalised(penalty, alpha or 1.0)).fit(sparse.csr_array(X), y)
    assert model.converged_
    assert model.plan_["conditioning"] == (None if alpha is None and shape[0] < shape[1] else "scale")
    assert_allclose(model.coef_, expected.coef_, rtol=1e-6, atol=1e-7)
    assert_allclose(model.predict(X), expected.predict(X), rtol=1e-6, atol=1e-7)
    assert never_filled == []


def test_wide_least_squares_is_that_of_lsqr(rng):
    X = sparse.random_array((500, 6000), density=0.005, random_state=rng, format="csr")
    y = X @ rng.normal(size=6000) + 3.0
    mean = X.mean(0)
    centred = LinearOperator(
        X.shape, matvec=lambda w: X @ w - mean @ w, rmatvec=lambda e: X.T @ e - mean * e.sum(), dtype=float
    )
    model = TorchLinearRegressor().fit(X, y)
    assert_allclose(model.coef_, lsqr(centred, y - y.mean(), atol=1e-14, btol=1e-14)[0], atol=1e-7)


@pytest.mark.parametrize("learning_rate", ["auto", 0.01])
def test_whitening_a_wide_sparse_table_is_refused(learning_rate):
    X = sparse.eye_array(10, 5000, format="csr")
    with pytest.raises(
        ValueError, match=r'conditioning="whiten" .* sparse X of 5000 columns.*use conditioning="scale"'
    ):
        TorchLinearRegressor(conditioning="whiten", learning_rate=learning_rate).fit(X, np.arange(10.0))


def test_textbook_mode_fills_nothing(table, backend, never_filled):
    X, y = table
    model = TorchLinearRegressor(backend=backend, learning_rate=0.05, max_iter=2).fit(sparse.csc_array(X), y)
    model.predict(sparse.coo_array(X))
    assert never_filled == []


def test_blocks_of_a_shuffled_table(rng, monkeypatch, backend):
    X, y = make_table(rng, (1000, 40), density=0.9)
    options = {"learning_rate": 0.01, "batch_size": 7, "max_iter": 2, "random_state": 1, "backend": backend}
    assert_same(*fit_both(X, y, **options))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_are_refused(table, bad):
    X, y = table
    X = sparse.csr_array(X)
    model = TorchLinearRegressor().fit(X, y)
    X.data[5] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        TorchLinearRegressor().fit(X, y)
    with pytest.raises(ValueError, match="Input X contains"):
        model.predict(X)


def test_divergence_names_the_rate_of_the_dense_table(table):
    messages = []
    for each in (sparse.csr_array(table[0] * 100), table[0] * 100):
        with pytest.raises(ValueError, match="stable rate is about") as raised:
            TorchLinearRegressor(learning_rate=1e150, random_state=0).fit(each, table[1])
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("one_target", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_sparsify_and_densify(table, one_target, fit_intercept):
    X, y = table
    y = y[:, 0] if one_target else y
    model = TorchLinearRegressor(penalty="l1", alpha=0.3, fit_intercept=fit_intercept).fit(X, y)
    coef, predicted = model.coef_, model.predict(X)
    assert (coef == 0).any()
    assert model.sparsify().sparsify() is model
    assert sparse.issparse(model.coef_)
    assert model.coef_.nnz == (coef != 0).sum()
    assert_array_equal(model.predict(X), predicted)
    assert_allclose(model.predict(sparse.csr_array(X)), predicted, rtol=1e-12, atol=1e-12)
    assert_allclose(model.predict(torch.from_numpy(X)).numpy(), predicted, rtol=1e-12, atol=1e-12)
    assert model.densify().densify() is model
    assert_array_equal(model.coef_, coef)
    assert model.coef_.shape == coef.shape
    assert_array_equal(model.sparsify().fit(X, y).coef_, coef)


def test_warm_start_from_sparse_coefficients(table):
    X, y = table
    options = {"learning_rate": 0.05, "shuffle": False, "warm_start": True}
    twice = TorchLinearRegressor(max_iter=1, **options).fit(X, y).sparsify().fit(X, y)
    assert_allclose(twice.coef_, TorchLinearRegressor(max_iter=2, **options).fit(X, y).coef_, rtol=1e-12)


def test_one_hot_columns_of_a_frame_straight_into_the_estimator(rng, never_filled):
    frame = pd.DataFrame({"soil": rng.choice(list("abcdefghij"), 400), "rain": rng.normal(50, 5, 400)})
    y = frame["rain"] + frame["soil"].map(ord) + rng.normal(size=400)
    columns = make_column_transformer((OneHotEncoder(), ["soil"]), (StandardScaler(), ["rain"]), sparse_threshold=1.0)
    pipeline = make_pipeline(columns, TorchLinearRegressor()).fit(frame, y)
    assert sparse.issparse(columns.fit_transform(frame))
    trusted = make_pipeline(columns, LinearRegression()).fit(frame, y)
    assert_allclose(pipeline.predict(frame), trusted.predict(frame), rtol=1e-8)


def test_grid_search(table, never_filled):
    X, y = table
    grid = {"alpha": [1e-3, 10.0], "backend": ["analytic", "linear"]}
    search = GridSearchCV(TorchLinearRegressor(penalty="l2"), grid, cv=3).fit(sparse.csr_array(X), y)
    assert search.best_params_["alpha"] == 1e-3


@pytest.mark.parametrize(("loss", "penalty"), [("squared_error", "l1"), ("huber", None), ("huber", "elasticnet")])
def test_very_wide_tables_with_l1_and_other_losses(rng, monkeypatch, never_filled, loss, penalty):
    X, y = make_table(rng, (300, 60))
    options = {"loss": loss, **penalised(penalty, 0.05)}
    expected = TorchLinearRegressor(**options).fit(X, y)
    monkeypatch.setattr(choose, "WHITEN_FEATURES", 20)
    monkeypatch.setattr("torchlinreg.engine.objective.objective.LARGEST_HESSIAN", 20)
    model = TorchLinearRegressor(**options).fit(sparse.csr_array(X), y)
    assert model.converged_
    assert_allclose(model.coef_, expected.coef_, atol=1e-6)
    assert never_filled == []
