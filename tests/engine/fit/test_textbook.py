"""Textbook mode against a loop written out here: the same weights after every epoch."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.source import SMALL_ELEMENTS

RATE = 0.05
EPOCHS = 4
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def written_out_loop(X, y, weight, *, epochs, batch_size, seed, momentum, loss, fit_intercept):
    """Mini-batch SGD in plain NumPy, float64: weights after each epoch, shapes (n_features, n_targets)."""
    n, k = len(X), y.shape[1]
    w, b = np.zeros((X.shape[1], k)), np.zeros(k)
    v_w, v_b = np.zeros_like(w), np.zeros_like(b)
    weight = np.ones(n) if weight is None else weight * n / weight.sum()
    order_of = torch.Generator().manual_seed(seed) if seed is not None else None
    factor = 1.0 if loss == "squared_error" else 2.0 / k
    history = []
    for _ in range(epochs):
        order = np.arange(n) if seed is None else torch.randperm(n, generator=order_of).numpy()
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            gradient = factor * weight[rows, None] * (X[rows] @ w + b - y[rows])
            g_w, g_b = X[rows].T @ gradient / len(rows), gradient.mean(0) * fit_intercept
            v_w, v_b = momentum * v_w + g_w, momentum * v_b + g_b
            w, b = w - RATE * v_w, b - RATE * v_b
        history.append((w, b))
    return history


@pytest.fixture
def table(rng):
    X = rng.normal(size=(103, 4))
    return X, X @ rng.normal(size=(4, 2)) + [4.2, -1.0] + 0.1 * rng.normal(size=(103, 2)), rng.uniform(0, 2, 103)


@pytest.mark.parametrize("loss", ["squared_error", "mse"])
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"seed": 3},
        {"momentum": 0.9},
        {"weighted": True},
        {"n_targets": 1},
        {"batch_size": 103},
        {"batch_size": 1},
        {"fit_intercept": False},
        {"seed": 5, "momentum": 0.5, "weighted": True, "batch_size": 7},
    ],
    ids=str,
)
def test_weights_after_every_epoch_are_those_of_the_written_out_loop(table, backend, dtype, device, loss, case):
    X, y, weight = table
    case = {"seed": None, "momentum": 0.0, "batch_size": 10, "fit_intercept": True, **case}
    y = y[:, : case.pop("n_targets", 2)]
    weight = weight if case.pop("weighted", False) else None
    X, y = X.astype(dtype), y.astype(dtype)
    expected = written_out_loop(X.astype(float), y.astype(float), weight, epochs=EPOCHS, loss=loss, **case)
    seed = case.pop("seed")
    for epoch, (w, b) in enumerate(expected, start=1):
        model = TorchLinearRegressor(
            backend=backend,
            loss=loss,
            learning_rate=RATE,
            max_iter=epoch,
            shuffle=seed is not None,
            random_state=seed,
            device=device,
            **case,
        ).fit(X, y, sample_weight=weight)
        assert model.coef_.dtype == dtype
        size = np.abs(w).max()
        np.testing.assert_allclose(model.coef_, w.T, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * size)
        np.testing.assert_allclose(model.intercept_, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * size)
        assert model.n_iter_ == epoch
        assert model.t_ == epoch * -(-len(X) // case["batch_size"])
        assert model.converged_


@pytest.mark.parametrize("shuffle", [False, True])
def test_table_of_many_blocks(rng, backend, shuffle):
    """Beyond the size of a block the rows come in several, and the intercept apart from the features."""
    n = SMALL_ELEMENTS // 16
    X = rng.normal(size=(n * 10 + 3, 16))
    y = X @ rng.normal(size=(16, 1)) + 1.0
    options = {"epochs": 2, "batch_size": 4096, "momentum": 0.0, "loss": "squared_error", "fit_intercept": True}
    (w, b) = written_out_loop(X, y, None, seed=1 if shuffle else None, **options)[-1]
    model = TorchLinearRegressor(
        backend=backend, learning_rate=RATE, batch_size=4096, max_iter=2, shuffle=shuffle, random_state=1
    ).fit(X, y)
    np.testing.assert_allclose(model.coef_, w.T, rtol=1e-12)
    np.testing.assert_allclose(model.intercept_, b, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "AdamW", "rmsprop", torch.optim.Adagrad])
def test_any_torch_optimizer_takes_the_same_steps_on_every_backend(table, optimizer):
    X, y, _ = table
    fits = [
        TorchLinearRegressor(
            backend=name, optimizer=optimizer, learning_rate=0.01, max_iter=5, random_state=0, batch_size=10
        ).fit(X, y)
        for name in ("analytic", "autograd", "linear")
    ]
    for other in fits[1:]:
        np.testing.assert_allclose(other.coef_, fits[0].coef_, rtol=1e-9, atol=1e-12)


def test_optimizer_params_reach_torch(table, backend):
    X, y, _ = table
    options = {"backend": backend, "learning_rate": 0.01, "max_iter": 3, "shuffle": False, "batch_size": 10}
    model = TorchLinearRegressor(momentum=0.9, optimizer_params={"nesterov": True}, **options).fit(X, y)
    module = torch.nn.Linear(4, 2, dtype=torch.float64)
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    for _ in range(3):
        for X_part, y_part in zip(torch.tensor(X).split(10), torch.tensor(y).split(10), strict=True):
            optimizer.zero_grad()
            (module(X_part) - y_part).square().sum().div(2 * len(X_part)).backward()
            optimizer.step()
    np.testing.assert_allclose(model.coef_, module.weight.detach().numpy(), rtol=1e-12)


def test_start_from_given_weights(table, backend):
    X, y, _ = table
    options = {"backend": backend, "learning_rate": RATE, "shuffle": False}
    two = TorchLinearRegressor(max_iter=2, **options).fit(X, y)
    one = TorchLinearRegressor(max_iter=1, **options).fit(X, y)
    one.fit(X, y, coef_init=one.coef_, intercept_init=one.intercept_)
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-12)
    warm = TorchLinearRegressor(max_iter=1, warm_start=True, **options).fit(X, y).fit(X, y)
    np.testing.assert_allclose(warm.intercept_, two.intercept_, rtol=1e-12)
    assert warm.t_ == two.t_


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("coef_init", np.zeros(3), r"coef_init has shape \(3,\), but this data needs \(2, 4\)"),
        ("coef_init", np.full((2, 4), np.nan), "coef_init contains NaN"),
        ("intercept_init", 0.0, r"intercept_init has shape \(\), but this data needs \(2,\)"),
    ],
)
def test_bad_start_is_refused(table, name, value, message):
    X, y, _ = table
    with pytest.raises(ValueError, match=message):
        TorchLinearRegressor(learning_rate=RATE).fit(X, y, **{name: value})


@pytest.mark.parametrize("batch_size", ["full", 10])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_divergence_names_the_rate_and_the_largest_stable_one(table, backend, batch_size, momentum):
    X, y, _ = table
    options = {"backend": backend, "batch_size": batch_size, "momentum": momentum, "random_state": 0}
    with pytest.raises(ValueError, match="learning_rate=1e\\+150 is too large") as raised:
        TorchLinearRegressor(learning_rate=1e150, **options).fit(X * 100, y)
    stable = float(str(raised.value).split("stable rate is about ")[1].split()[0].rstrip("."))
    curve = TorchLinearRegressor(learning_rate=stable / 2, max_iter=100, **options).fit(X * 100, y).loss_curve_
    assert curve[-1] < curve[0]
    if batch_size == "full":
        with pytest.raises(ValueError, match="diverged"):
            TorchLinearRegressor(learning_rate=stable * 1.2, max_iter=10_000, **options).fit(X * 100, y)


def test_weights_that_grow_without_overflow_are_warned_of(table, backend):
    X, y, _ = table
    with pytest.warns(ConvergenceWarning, match="made the loss worse.*learning_rate=2.5 .*stable rate is about"):
        TorchLinearRegressor(backend=backend, learning_rate=2.5, batch_size="full", max_iter=5).fit(X, y)


def test_tol_stops_training_and_says_so(table, backend):
    X, y, _ = table
    options = {"backend": backend, "learning_rate": RATE, "random_state": 0, "n_iter_no_change": 3}
    model = TorchLinearRegressor(tol=1e-6, **options).fit(X, y)
    assert model.converged_
    assert model.n_iter_ < 1000
    losses = np.array(model.loss_curve_)
    assert (losses[-3:] > losses[:-3].min() - 1e-6).all()
    with pytest.warns(UserWarning, match="max_iter=2, without meeting tol=1e-06"):
        TorchLinearRegressor(tol=1e-6, max_iter=2, **options).fit(X, y)


def test_loss_curve_is_the_mean_loss_on_the_way(table, backend):
    X, y, weight = table
    options = {"backend": backend, "learning_rate": RATE, "batch_size": "full", "max_iter": 3}
    model = TorchLinearRegressor(**options).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.loss_curve_[0], np.average((y**2).sum(1) / 2, weights=weight), rtol=1e-12)
    assert model.loss_curve_ == sorted(model.loss_curve_, reverse=True)
    assert all(type(value) is float for value in model.loss_curve_)


def test_verbose_prints_every_kth_epoch(table, capsys):
    X, y, _ = table
    TorchLinearRegressor(learning_rate=RATE, max_iter=10, verbose=5).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Epoch  5/10", "Epoch 10/10"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"optimizer": "adaam"}, "optimizer='adaam' is not in torch.optim; use one of adadelta"),
        ({"optimizer": "lbfgs"}, "optimizer='lbfgs' cannot take plain dense steps"),
        ({"optimizer": int}, "optimizer=<class 'int'> is not a torch.optim.Optimizer class"),
        ({"optimizer": "adam", "optimizer_params": {"beta": 1}}, "optimizer_params may hold betas"),
        ({"optimizer": "adam", "learning_rate": "auto"}, "needs a number for learning_rate"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
        ({"device": "abacus"}, "device='abacus' cannot be used here"),
        ({"dtype": "float16"}, "dtype"),
        ({"dtype": torch.float16}, "dtype=torch.float16 is not supported"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"momentum": 1.0}, "momentum"),
        ({"loss": "squared"}, "loss"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(table, parameters, message):
    X, y, _ = table
    with pytest.raises(ValueError, match=message):
        TorchLinearRegressor(**{"learning_rate": RATE, **parameters}).fit(X, y)
