"""The learning rate over time: against SGDRegressor, against torch's schedulers, and written out."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.solvers.minibatch.schedules import SCHEDULES
from torchlinreg.schedules import Adaptive, InvScaling

RATE = 0.05


@pytest.fixture
def table(rng):
    X = rng.normal(size=(83, 4))
    return X, X @ rng.normal(size=(4, 2)) + [4.2, -1.0] + 0.1 * rng.normal(size=(83, 2))


def torch_loop(X, y, make_optimizer, *, epochs, batch_size=10, factor=lambda epoch: 1.0):
    """Train nn.Linear as the documentation of torch does, rows in order."""
    X, y = torch.tensor(X), torch.tensor(y)
    module = torch.nn.Linear(X.shape[1], y.shape[1], dtype=X.dtype)
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = make_optimizer(module.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for _ in range(epochs):
        for X_batch, y_batch in zip(X.split(batch_size), y.split(batch_size), strict=True):
            optimizer.zero_grad()
            (module(X_batch) - y_batch).square().sum().div(2 * len(X_batch)).backward()
            optimizer.step()
        scheduler.step()
    return module.weight.detach().numpy(), module.bias.detach().numpy()


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_is_the_same_on_every_backend(table, name):
    options = {"learning_rate": RATE, "schedule": name, "max_iter": 1000, "batch_size": 10, "tol": 0.01}
    fits = [
        TorchLinearRegressor(backend=backend, random_state=0, **options).fit(*table)
        for backend in ("analytic", "autograd", "linear")
    ]
    for fit in fits[1:]:
        assert_allclose(fit.coef_, fits[0].coef_, rtol=1e-10)
        assert fit.n_iter_ == fits[0].n_iter_


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_first_step_is_at_the_rate_given(table, backend, name):
    X, y = table
    options = {"backend": backend, "learning_rate": RATE, "batch_size": "full", "max_iter": 1, "tol": 1e9}
    with pytest.warns(ConvergenceWarning, match="max_iter=1, without meeting tol"):
        scheduled, plain = (TorchLinearRegressor(schedule=schedule, **options).fit(X, y) for schedule in (name, None))
    assert_array_equal(scheduled.coef_, plain.coef_)


def test_constant_is_no_schedule_in_either_mode(table):
    for learning_rate in (RATE, "auto"):
        options = {"learning_rate": learning_rate, "max_iter": 3, "random_state": 0}
        constant = TorchLinearRegressor(schedule="constant", **options).fit(*table)
        assert_array_equal(constant.coef_, TorchLinearRegressor(**options).fit(*table).coef_)


@pytest.mark.parametrize(("schedule", "power_t"), [("invscaling", 0.25), (InvScaling(0.5), 0.5), (InvScaling(0), 0.0)])
def test_invscaling_is_that_of_sgd_regressor(table, backend, schedule, power_t):
    X, y = table
    ours = TorchLinearRegressor(
        backend=backend, learning_rate=RATE, schedule=schedule, batch_size=1, shuffle=False, max_iter=4
    ).fit(X, y[:, 0])
    theirs = SGDRegressor(
        learning_rate="invscaling", eta0=RATE, power_t=power_t, penalty=None, shuffle=False, max_iter=4, tol=None
    ).fit(X, y[:, 0])
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-11)
    assert_allclose(ours.intercept_, theirs.intercept_[0], rtol=1e-11)


@pytest.mark.parametrize("tol", ["auto", 1e-2, 1e-5])
def test_adaptive_is_that_of_sgd_regressor(table, backend, tol):
    X, y = table
    ours = TorchLinearRegressor(
        backend=backend, learning_rate=RATE, schedule="adaptive", batch_size=1, shuffle=False, tol=tol
    ).fit(X, y[:, 0])
    theirs = SGDRegressor(
        learning_rate="adaptive",
        eta0=RATE,
        penalty=None,
        shuffle=False,
        tol=1e-3 if tol == "auto" else tol,
    ).fit(X, y[:, 0])
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9)


def test_adaptive_that_runs_out_of_epochs_says_so(table):
    with pytest.warns(ConvergenceWarning, match="max_iter=5, without meeting tol=auto"):
        model = TorchLinearRegressor(learning_rate=RATE, schedule=Adaptive(), max_iter=5).fit(*table)
    assert not model.converged_


@pytest.mark.parametrize(
    ("optimizer", "params", "momentum"),
    [
        ("sgd", {}, 0.9),
        ("sgd", {"nesterov": True}, 0.9),
        ("sgd", {"weight_decay": 0.1}, 0.0),
        ("sgd", {"nesterov": True, "weight_decay": 0.01, "momentum": 0.5}, 0.0),
        ("adamw", {"weight_decay": 0.1, "betas": (0.8, 0.9)}, 0.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("factor", [None, lambda epoch: 0.5**epoch, lambda epoch: 1 / (1 + epoch)])
def test_functions_of_the_epoch_are_those_of_torch(table, backend, optimizer, params, momentum, factor):
    X, y = table
    cls = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    options = {**({"momentum": momentum} if momentum else {}), **params}
    coef, intercept = torch_loop(
        X,
        y,
        lambda parameters: cls(parameters, lr=RATE, **options),
        epochs=4,
        factor=factor or (lambda epoch: 1.0),
    )
    model = TorchLinearRegressor(
        backend=backend,
        learning_rate=RATE,
        schedule=factor,
        optimizer=optimizer,
        optimizer_params=params,
        momentum=momentum,
        batch_size=10,
        max_iter=4,
        shuffle=False,
    ).fit(X, y)
    assert_allclose(model.coef_, coef, rtol=1e-10)
    assert_allclose(model.intercept_, intercept, rtol=1e-10)


def test_functions_are_asked_once_an_epoch(table):
    asked = []
    TorchLinearRegressor(
        learning_rate=RATE, schedule=lambda epoch: asked.append(epoch) or 1.0, max_iter=3, batch_size=10
    ).fit(*table)
    assert asked == [0, 1, 2]


def test_the_proximal_step_is_as_long_as_the_step(table, backend):
    """A rate of zero leaves the weights alone, penalty and all."""
    X, y = table
    options = {"backend": backend, "learning_rate": RATE, "penalty": "l1", "alpha": 0.1, "random_state": 0}
    two = TorchLinearRegressor(max_iter=2, **options).fit(X, y)
    still = TorchLinearRegressor(max_iter=5, schedule=lambda epoch: float(epoch < 2), **options).fit(X, y)
    assert_array_equal(still.coef_, two.coef_)


def test_warm_start_begins_the_schedule_anew(table):
    X, y = table
    model = TorchLinearRegressor(
        learning_rate=RATE, schedule="invscaling", max_iter=2, warm_start=True, shuffle=False
    ).fit(X, y)
    coef, intercept, steps = model.coef_, model.intercept_, model.t_
    again = TorchLinearRegressor(learning_rate=RATE, schedule="invscaling", max_iter=2, shuffle=False)
    again.fit(X, y, coef_init=coef, intercept_init=intercept)
    assert_array_equal(model.fit(X, y).coef_, again.coef_)
    assert model.t_ == 2 * steps


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"schedule": "adaptive", "tol": None}, "schedule='adaptive' needs a tol"),
        ({"schedule": "invscaling", "learning_rate": "auto"}, "schedule='invscaling' needs a number for learning_rate"),
        ({"schedule": "optimal"}, "schedule"),
        ({"schedule": 0.5}, "schedule"),
        ({"schedule": lambda epoch: -1.0}, "returned -1.0 for epoch 0; it must return a number"),
        ({"schedule": lambda epoch: None}, "returned None for epoch 0"),
        ({"schedule": lambda epoch: np.nan}, "returned nan for epoch 0"),
    ],
    ids=["tol", "untuned", "name", "number", "negative", "nothing", "nan"],
)
def test_what_is_refused(table, parameters, message):
    with pytest.raises(ValueError, match=message):
        TorchLinearRegressor(**{"learning_rate": RATE, **parameters}).fit(*table)


@pytest.mark.parametrize("power_t", [-1.0, np.inf, "fast"])
def test_power_that_is_none(power_t):
    with pytest.raises(ValueError, match="InvScaling\\(power_t="):
        InvScaling(power_t)
