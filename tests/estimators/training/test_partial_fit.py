"""Learning from a stream: one epoch of steps in textbook mode, the optimum of all rows so far in untuned mode."""

import pickle
import pickletools
import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import SGDRegressor

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data import statistics
from torchlinreg.engine.objective.penalties import PENALTIES

STEPS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "optimizer_params": {"nesterov": True}},
    {"optimizer": "adam"},
    {"optimizer": "adamw", "optimizer_params": {"weight_decay": 0.1}},
    {"optimizer": "rmsprop", "momentum": 0.5},
    {"schedule": "invscaling"},
    {"average": True},
    {"average": 25, "momentum": 0.5},
    {"penalty": "elasticnet", "alpha": 0.1},
    {"loss": "huber"},
]


@pytest.fixture
def table(rng):
    X = rng.normal(size=(90, 4)) + 1.0
    y = X @ rng.normal(size=(4, 2)) + [4.2, -1.0] + 0.1 * rng.normal(size=(90, 2))
    return X, y, rng.uniform(0, 2, 90)


def chunks(sizes, *tables):
    ends = np.cumsum(sizes)
    for start, stop in zip([0, *ends], ends, strict=False):
        yield [None if table is None else table[start:stop] for table in tables]


def stream(model, sizes, *tables):
    for chunk in chunks(sizes, *tables):
        model.partial_fit(*chunk)
    return model


# Textbook mode


@pytest.mark.parametrize("steps", STEPS, ids=str)
@pytest.mark.parametrize("sizes", [[10] * 9, [40, 10, 30, 10], [20, 50, 20]], ids=str)
def test_chunks_of_whole_batches_are_an_epoch(table, backend, dtype, steps, sizes):
    X, y, _ = table
    X, y = X.astype(dtype), y.astype(dtype)
    model = TorchLinearRegressor(backend=backend, learning_rate=0.02, batch_size=10, max_iter=1, shuffle=False, **steps)
    whole = clone(model).fit(X, y)
    parts = stream(clone(model), sizes, X, y)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    assert parts.coef_.dtype == dtype
    assert_allclose(parts.coef_, whole.coef_, rtol=tolerance, atol=tolerance)
    assert_allclose(parts.intercept_, whole.intercept_, rtol=tolerance, atol=tolerance)
    assert parts.t_ == whole.t_ == 9
    assert parts.n_iter_ == len(parts.loss_curve_) == len(sizes)


@pytest.mark.parametrize("sizes", [[7, 33, 1, 49], [90], [1] * 20], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_chunks_of_any_size_are_the_written_out_loop(table, backend, sizes, momentum):
    """Weights of rows are taken as they are, and the last batch of a chunk is shorter."""
    X, y, weight = table
    model = TorchLinearRegressor(backend=backend, learning_rate=0.05, batch_size=10, shuffle=False, momentum=momentum)
    stream(model, sizes, X, y[:, 0], weight)
    w, b, v_w, v_b = np.zeros(4), 0.0, np.zeros(4), 0.0
    n_steps = 0
    for X_chunk, y_chunk, weight_chunk in chunks(sizes, X, y[:, 0], weight):
        for start in range(0, len(X_chunk), 10):
            batch = slice(start, start + 10)
            gradient = weight_chunk[batch] * (X_chunk[batch] @ w + b - y_chunk[batch])
            v_w, v_b = momentum * v_w + X_chunk[batch].T @ gradient / len(gradient), momentum * v_b + gradient.mean()
            w, b = w - 0.05 * v_w, b - 0.05 * v_b
            n_steps += 1
    assert_allclose(model.coef_, w, rtol=1e-11)
    assert_allclose(model.intercept_, b, rtol=1e-11)
    assert model.t_ == n_steps


def test_rows_one_by_one_are_those_of_sgd_regressor(table):
    X, y, _ = table
    ours = TorchLinearRegressor(learning_rate=0.05, schedule="invscaling", batch_size=1)
    theirs = SGDRegressor(learning_rate="invscaling", eta0=0.05, penalty=None)
    for X_chunk, y_chunk in chunks([1] * 50, X, y[:, 0]):
        ours.partial_fit(X_chunk, y_chunk)
        theirs.partial_fit(X_chunk, y_chunk)
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-10)
    assert_allclose(ours.intercept_, theirs.intercept_[0], rtol=1e-10)
    assert ours.t_ == theirs.t_ - 1


def test_schedules_by_epochs_count_the_calls(table, backend):
    X, y, _ = table
    rates = [0.05, 0.02, 0.01]
    model = TorchLinearRegressor(
        backend=backend, learning_rate=1.0, batch_size=30, shuffle=False, schedule=lambda epoch: rates[epoch]
    )
    stream(model, [30] * 3, X, y)
    w, b = np.zeros((4, 2)), np.zeros(2)
    for rate, (X_chunk, y_chunk) in zip(rates, chunks([30] * 3, X, y), strict=True):
        gradient = (X_chunk @ w + b - y_chunk) / 30
        w, b = w - rate * X_chunk.T @ gradient, b - rate * gradient.sum(0)
    assert_allclose(model.coef_, w.T, rtol=1e-12)


def test_the_order_of_rows_goes_on_too(table, backend):
    """A chunk that comes twice is shuffled as the first two epochs of one `fit` are."""
    X, y, _ = table
    model = TorchLinearRegressor(backend=backend, learning_rate=0.02, batch_size=10, max_iter=2, random_state=3)
    whole = clone(model).fit(X, y)
    parts = clone(model).partial_fit(X, y).partial_fit(X, y)
    assert_allclose(parts.coef_, whole.coef_, rtol=1e-12)


@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_memory_is_plain_and_survives_pickling(table, backend, steps):
    X, y, _ = table
    model = TorchLinearRegressor(backend=backend, learning_rate=0.02, batch_size=10, shuffle=False, **steps)
    once = stream(clone(model), [30, 60], X, y)
    model.partial_fit(X[:30], y[:30])
    stored = pickle.dumps(model)
    names = [argument for _, argument, _ in pickletools.genops(stored) if isinstance(argument, str)]
    assert not [name for name in names if name == "torch" or name.startswith(("torch.", "torch "))]
    copy = pickle.loads(stored)
    for each in (model, copy):
        assert_array_equal(each.partial_fit(X[30:], y[30:]).coef_, once.coef_)


def test_goes_on_from_fit_and_fit_begins_anew(table, backend):
    X, y, _ = table
    model = TorchLinearRegressor(backend=backend, learning_rate=0.02, batch_size=10, max_iter=3, shuffle=False)
    model.fit(X, y).partial_fit(X, y)
    longer = clone(model).set_params(max_iter=4).fit(X, y)
    assert_allclose(model.coef_, longer.coef_, rtol=1e-12)
    assert model.t_ == longer.t_
    assert_array_equal(model.fit(X, y).coef_, clone(model).fit(X, y).coef_)
    assert model.t_ == 27


def test_other_steps_forget_the_momentum_of_the_ones_before(table):
    X, y, _ = table
    model = TorchLinearRegressor(learning_rate=0.02, momentum=0.9, shuffle=False).partial_fit(X, y)
    before = model.coef_, model.intercept_
    model.set_params(optimizer="adam", momentum=0.0).partial_fit(X, y)
    fresh = clone(model).set_params(max_iter=1).fit(X, y, coef_init=before[0], intercept_init=before[1])
    assert_allclose(model.coef_, fresh.coef_, rtol=1e-12)


def test_divergence_leaves_the_weights_as_they_were(table, backend):
    X, y, _ = table
    model = TorchLinearRegressor(backend=backend, learning_rate=0.02, momentum=0.9).partial_fit(X, y)
    before = model.coef_.copy()
    with pytest.raises(ValueError, match="diverged"):
        model.partial_fit(X * 1e200, y)
    assert_array_equal(model.coef_, before)


# Untuned mode


@pytest.mark.parametrize("sizes", [[90], [1] * 90, [7, 1, 1, 60, 21], [30] * 3], ids=["all", "rows", "uneven", "even"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_untuned_stream_is_fit_on_all_rows(table, backend, sizes, fit_intercept, weighted):
    X, y, weight = table
    X = X * [1.0, 1e-4, 1e5, 1.0] + [0.0, 3.0, 1e6, -5.0]
    weight = weight if weighted else None
    model = TorchLinearRegressor(backend=backend, fit_intercept=fit_intercept)
    whole = clone(model).fit(X, y, sample_weight=weight)
    parts = stream(clone(model), sizes, X, y, weight)
    spread = X.std(0)
    assert_allclose(parts.coef_ * spread, whole.coef_ * spread, rtol=1e-8, atol=1e-8)
    assert_allclose(parts.predict(X), whole.predict(X), rtol=1e-8, atol=1e-8)
    assert parts.converged_
    assert_allclose(parts.loss_curve_[-1], whole.loss_curve_[-1], rtol=1e-6)


def test_large_chunks_are_taken_in_piece_by_piece(table, monkeypatch):
    X, y, weight = table
    monkeypatch.setattr(statistics, "BLOCK_ELEMENTS", 1)
    parts = TorchLinearRegressor().partial_fit(X, y, weight)
    assert_allclose(parts.coef_, TorchLinearRegressor().fit(X, y, weight).coef_, rtol=1e-10)


def test_untuned_stream_after_every_chunk(table):
    X, y, _ = table
    model = TorchLinearRegressor()
    for stop in range(1, 30):
        model.partial_fit(X[stop - 1 : stop], y[stop - 1 : stop, 0])
        whole = clone(model).fit(X[:stop], y[:stop, 0])
        assert_allclose(model.coef_, whole.coef_, rtol=1e-8, atol=1e-8)
        assert_allclose(model.intercept_, whole.intercept_, rtol=1e-8)


@pytest.mark.parametrize("size", [1, 13])
def test_minimum_norm_of_dependent_columns(rng, size):
    X = rng.normal(size=(130, 6))
    X[:, 3] = X[:, 0]
    X[:, 4] = 7.0
    X[:, 5] = 2 - X[:, 1]
    y = X @ rng.normal(size=6) + rng.normal(size=130)
    parts = stream(TorchLinearRegressor(), [size] * (130 // size), X, y)
    whole = TorchLinearRegressor().fit(X, y)
    assert_allclose(parts.coef_, whole.coef_, rtol=1e-8, atol=1e-8)
    assert_allclose(parts.predict(X), whole.predict(X), rtol=1e-8)


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
@pytest.mark.parametrize("loss", ["squared_error", "mse"])
def test_penalties(table, penalty, loss):
    X, y, weight = table
    model = TorchLinearRegressor(penalty=penalty, alpha=[0.1, 0.3], l1_ratio=0.5, loss=loss)
    whole = clone(model).fit(X, y, sample_weight=weight)
    parts = stream(clone(model), [7, 1, 1, 60, 21], X, y, 3.0 * weight)
    assert_allclose(parts.coef_, whole.coef_, rtol=1e-7, atol=1e-8)
    assert_array_equal(parts.coef_ == 0, whole.coef_ == 0)


def test_single_precision(table):
    X, y, _ = table
    X, y = (X + 1000.0).astype("float32"), y.astype("float32")
    parts = stream(TorchLinearRegressor(), [30] * 3, X, y)
    assert parts.coef_.dtype == np.float32
    assert parts.predict(X).dtype == np.float32
    assert_allclose(parts.predict(X), TorchLinearRegressor().fit(X, y).predict(X), rtol=1e-4, atol=1e-3)


def test_tensors_of_both_modes(table):
    X, y, _ = table
    for learning_rate in ("auto", 0.02):
        model = TorchLinearRegressor(learning_rate=learning_rate, shuffle=False)
        tensors = stream(clone(model), [30] * 3, torch.tensor(X), torch.tensor(y))
        assert_allclose(tensors.coef_, stream(clone(model), [30] * 3, X, y).coef_, rtol=1e-9)


def test_rows_without_weight(table):
    X, y, _ = table
    nothing = np.zeros(30)
    with pytest.raises(ValueError, match="must not be all zero"):
        TorchLinearRegressor().partial_fit(X[:30], y[:30], nothing)
    some = TorchLinearRegressor().partial_fit(X[:30], y[:30])
    coef = some.coef_
    assert_allclose(some.partial_fit(X[30:60], y[30:60], nothing).coef_, coef, rtol=1e-12)


# Refusals


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "huber"}, 'answer for loss="squared_error" and "mse" only, not for loss=\'huber\'.*a number for'),
        ({"learning_rate": 0.1, "early_stopping": True}, "early_stopping=True holds rows.*use fit"),
        ({"learning_rate": 0.1, "conditioning": "whiten"}, "conditioning='whiten' looks at a whole table.*use fit"),
    ],
    ids=str,
)
def test_there_is_no_stream_of_what_goes_by_whole_tables(parameters, message):
    model = TorchLinearRegressor(**parameters)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as refusal:
        _ = model.partial_fit
    assert re.search(message, str(refusal.value.__cause__))


def test_a_schedule_by_epochs_does_not_go_by_chunks(table):
    X, y, _ = table
    with pytest.raises(ValueError, match=r"schedule='adaptive' goes by epochs.*use fit"):
        TorchLinearRegressor(learning_rate=0.1, schedule="adaptive").partial_fit(X, y)


@pytest.mark.parametrize("learning_rate", ["auto", 0.02])
def test_tables_that_do_not_fit_the_stream(table, learning_rate):
    X, y, _ = table
    model = TorchLinearRegressor(learning_rate=learning_rate).partial_fit(X, y)
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(X[:, :3], y)
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(torch.tensor(X[:, :3]), y)
    with pytest.raises(ValueError, match=r"y needs coef_ of shape \(4,\).*start a new stream"):
        model.partial_fit(X, y[:, 0])


def test_untuned_stream_begins_anew_after_fit_and_says_so(table):
    X, y, _ = table
    fresh = TorchLinearRegressor().partial_fit(X[:30], y[:30])
    for learning_rate in ("auto", 0.02):
        model = TorchLinearRegressor(learning_rate=learning_rate).fit(X, y).set_params(learning_rate="auto")
        with pytest.warns(UserWarning, match="a new stream begins"):
            model.partial_fit(X[:30], y[:30])
        assert_array_equal(model.coef_, fresh.coef_)
