"""Estimators in every state that training can leave them in, for whatever saves, loads or exports them."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.engine.solvers.minibatch.schedules import SCHEDULES
from torchlinreg.losses import Huber, Quantile

TEXTBOOK = {"learning_rate": 0.01, "random_state": 0}
THREE_EPOCHS = {**TEXTBOOK, "max_iter": 3, "tol": None}


def made_table():
    """Return features of several sizes, and two targets."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(60, 4)) * [1, 3, 0.1, 2] + [0, 5, 0, 1]
    return X, X @ rng.normal(size=(4, 2)) + rng.normal(size=(60, 2))


def fit(X, y, **parameters):
    return TorchLinearRegressor(**parameters).fit(X, y[:, 0])


def several_targets(X, y, **parameters):
    return TorchLinearRegressor(**parameters).fit(X, y)


def sparsified(X, y, *, n_targets):
    y = y[:, 0] if n_targets == 1 else y
    return TorchLinearRegressor(penalty="l1", alpha=0.5).fit(X, y).sparsify()


def stream(X, y, **parameters):
    model = TorchLinearRegressor(**parameters)
    for rows in np.array_split(np.arange(len(X)), 3):
        model.partial_fit(X[rows], y[rows])
    return model


def chunked(X, y):
    return TorchLinearRegressor().fit_chunks([*zip(np.split(X, 3), np.split(y, 3), strict=True)])


def chosen(X, y, *, alphas, **parameters):
    return TorchLinearRegressorCV(alphas=alphas, random_state=0, **parameters).fit(X, y)


def ctrl_c(epoch):
    if epoch == 2:
        raise KeyboardInterrupt
    return 1.0


def interrupted(X, y):
    model = TorchLinearRegressor(schedule=ctrl_c, **TEXTBOOK)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(X, y)
    return model.set_params(schedule=None)


def unfinished(X, y):
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        return fit(X, y, loss="huber", max_iter=1)


def warm(X, y):
    return TorchLinearRegressor(warm_start=True, **THREE_EPOCHS).fit(X, y).fit(X, 2 * y)


def rounded(X, y):
    """Fit to float32, with weights in float64 kept, as rounded ones would show."""
    model = fit(np.float32(X + np.array([1e4, 0, 0, 0])), y)
    assert model._weights_in_float64 is not None
    return model


# Each a function of a table that returns an estimator fitted to it
FITTED_STATES = {
    **{f"loss {name}": partial(fit, loss=name) for name in LOSSES},
    "loss with a parameter": partial(several_targets, loss=Quantile(0.9)),
    "loss of torch": partial(fit, loss=torch.nn.MSELoss(), backend="autograd"),
    "scale_ of several targets": partial(several_targets, loss=Huber()),
    **{f"penalty {name}": partial(fit, penalty=name, alpha=0.1) for name in PENALTIES},
    "positive": partial(fit, positive=True),
    "an alpha for each target": partial(several_targets, penalty="l2", alpha=[0.1, 1.0]),
    "no intercept": partial(several_targets, fit_intercept=False),
    **{f"textbook {name}": partial(fit, backend=name, **THREE_EPOCHS) for name in MODELS},
    **{f"schedule {name}": partial(fit, schedule=name, **TEXTBOOK) for name in SCHEDULES},
    "early stopping": partial(several_targets, early_stopping=True, **TEXTBOOK),
    "sparsified": partial(sparsified, n_targets=1),
    "several targets, sparsified": partial(sparsified, n_targets=2),
    "untuned stream": stream,
    "textbook stream": partial(stream, momentum=0.9, average=True, **THREE_EPOCHS),
    "stream with adam": partial(stream, optimizer="adam", backend="linear", **THREE_EPOCHS),
    "chunks": chunked,
    "interrupted": interrupted,
    "unfinished": unfinished,
    "warm start": warm,
    "float32": rounded,
    "chosen": partial(chosen, alphas=[1.0, 0.1, 1e-4]),
    "chosen, of several rates": partial(chosen, alphas=[0.1], learning_rates=[0.01, 0.02], max_iter=3, tol=None),
}
