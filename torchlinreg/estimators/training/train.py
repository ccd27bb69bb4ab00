"""One training by the engine: where it starts, which driver runs, its errors in the user's words, what it leaves."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from weakref import WeakKeyDictionary

import numpy as np
import torch

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.stream import fit_stream
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.runtime.devices import carry, widest
from torchlinreg.engine.solvers.minibatch.loop import DivergedError
from torchlinreg.estimators.parameters.refusals import refusing_overflow
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.estimators.training.reports import advise_rate
from torchlinreg.inputs.coefficients import coef_shape, make_theta

# Seconds of the last fit of each estimator. They are no part of its state, whose bits are the same for the same seed
fit_times: WeakKeyDictionary = WeakKeyDictionary()


@contextmanager
def learning(estimator) -> Iterator[None]:
    """Learn without a graph, and record how long that takes."""
    began = perf_counter()
    # Under inference mode, what is made inside could not take part in a graph
    with torch.inference_mode(False), torch.no_grad():
        yield
    fit_times[estimator] = perf_counter() - began


def train(
    rows: MemorySource, theta: torch.Tensor, settings: Settings, parameters: Parameters, state: dict | None = None
) -> Result:
    """Train on all rows or, with a training state, on the next rows of a stream.

    Parameters
    ----------
    rows : MemorySource
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets)
        Where textbook mode starts.
    settings : Settings
    parameters : Parameters
    state : dict, optional
        Of the stream; empty if it begins here.

    Raises
    ------
    ValueError
        If numbers overflow, or if training diverges.
    """
    if parameters.is_untuned:
        with refusing_overflow():
            return fit_untuned(rows, settings) if state is None else fit_stream(rows, settings, state)
    with naming_divergence(rows, settings, parameters):
        return fit_textbook(rows, theta, settings, state)


@contextmanager
def naming_divergence(rows: MemorySource, settings: Settings, parameters: Parameters) -> Iterator[None]:
    """Turn errors of numbers that overflow inside into a ValueError that says what to do.

    Parameters
    ----------
    rows : MemorySource
        Learnt from, or some of them.
    settings : Settings
    parameters : Parameters
    """
    try:
        with refusing_overflow():
            yield
    except DivergedError as diverged:
        raise ValueError(
            f"Training diverged in epoch {diverged.epoch}: learning_rate={parameters.learning_rate} is too large "
            f"for this data. {advise_rate(rows, settings)}"
        ) from None


def initial_theta(
    estimator, rows: MemorySource, y_ndim: int, coef_init=None, intercept_init=None, *, warm_start: bool
) -> torch.Tensor:
    """Return where training starts, of shape (n_features + fit_intercept, n_targets).

    Parameters
    ----------
    estimator : TorchLinearRegressor
    rows : MemorySource
        Of the sizes of the table, and on the device, that training is about.
    y_ndim : int
    coef_init, intercept_init : as given to `fit`, optional
    warm_start : bool
        Whether to start from what the estimator has learnt before, if its shape agrees.
    """
    sizes = rows.shape[1], rows.y.shape[1], y_ndim
    before = estimator._dense_coef() if warm_start and estimator.__sklearn_is_fitted__() else np.empty(0)
    if before.shape == coef_shape(*sizes):
        coef_init = before if coef_init is None else coef_init
        intercept_init = estimator.intercept_ if intercept_init is None and estimator.fit_intercept else intercept_init
    theta = make_theta(coef_init, intercept_init, *sizes, fit_intercept=estimator.fit_intercept)
    return carry(theta, rows.y.device, widest(rows.y.device))


def store(
    estimator, outcome: Result, n_features: int, y_ndim: int, dtype: torch.dtype, *, goes_on: bool = False
) -> None:
    """Set the fitted attributes; where training goes on, its steps are counted on."""
    steps_before = estimator.t_ if goes_on and estimator.__sklearn_is_fitted__() else 0
    estimator._set_weights(outcome.theta, n_features, y_ndim, dtype, needs_double=outcome.needs_double)
    estimator.loss_curve_ = outcome.loss_curve
    estimator.validation_scores_ = outcome.scores
    estimator.n_iter_ = len(outcome.loss_curve)
    estimator.t_ = steps_before + outcome.n_steps
    estimator.converged_ = outcome.converged
    estimator.optimality_gap_ = outcome.optimality_gap
    vars(estimator).pop("scale_", None)
    if outcome.scale is not None:
        scale = outcome.scale.cpu().numpy()
        estimator.scale_ = scale if y_ndim == 2 else float(scale[0])
    estimator._plan = outcome.plan
    estimator._training_state = None
