"""Parameters and data that do not go together: errors and warnings that say what to ask for instead."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.losses import Loss, resolve_loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.choose import WHITEN_FEATURES
from torchlinreg.engine.runtime.threads import one_thread
from torchlinreg.engine.solvers.minibatch.schedules import Schedule
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.inputs.coefficients import plain_number, to_array

SAMPLE_ROWS = 1000  # to see whether predictions overflow
OVERFLOW = (
    "The numbers in X and y are too large, too small or too different in size to compute with. Bring them to a common "
    "size first, for example with sklearn.preprocessing.StandardScaler in a Pipeline and "
    'sklearn.compose.TransformedTargetRegressor, or try dtype="float64".'
)


@contextmanager
def refusing_overflow() -> Iterator[None]:
    """Turn errors of linear algebra inside, which mean that numbers overflowed, into a ValueError that says so."""
    try:
        yield
    except torch.linalg.LinAlgError as overflow:
        raise ValueError(f"{OVERFLOW} ({overflow})") from overflow


def check_overflow(rows: MemorySource, theta: torch.Tensor, dtype: torch.dtype) -> None:
    """Refuse coefficients that are not finite, or whose predictions are not.

    Raises
    ------
    ValueError
    """
    with one_thread():
        largest = theta.abs().max()
    if largest < torch.finfo(dtype).max ** 0.5:
        return
    n_features = rows.shape[1]
    sample = rows.X.rows(slice(None, None, max(1, len(rows) // SAMPLE_ROWS))).to(theta)
    predicted = sample.matmul(theta[:n_features]) + theta[n_features:].sum(0)
    if not (theta.to(dtype).isfinite().all() and predicted.to(dtype).isfinite().all()):
        raise ValueError(OVERFLOW)


def check_mode(parameters: Parameters, schedule: Schedule | None, dtype: torch.dtype) -> None:
    """Refuse parameters that the mode cannot use, or that lack something which the mode needs.

    Raises
    ------
    ValueError
    """
    if isinstance(parameters.loss, type):
        name = parameters.loss.__name__
        raise ValueError(f"loss={parameters.loss!r} is a class; give an object of it, such as {name}().")
    if parameters.is_untuned:
        _check_untuned(parameters, schedule)
        return
    rate = plain_number("learning_rate", parameters.learning_rate)
    if rate > torch.finfo(dtype).max:
        raise ValueError(f'learning_rate={rate} is too large for {dtype}; give a smaller one, or "auto".')
    if schedule is not None and schedule.reduces_on_plateau and parameters.tol is None:
        raise ValueError(
            f'schedule={parameters.schedule!r} needs a tol that says what progress is; use tol="auto" or a number.'
        )


def _check_untuned(parameters: Parameters, schedule: Schedule | None) -> None:
    """Refuse parameters of textbook mode in untuned mode."""
    if parameters.optimizer != "sgd" or parameters.optimizer_params:
        raise ValueError(
            f"optimizer={parameters.optimizer!r} with optimizer_params={parameters.optimizer_params!r} needs a "
            'number for learning_rate; learning_rate="auto" chooses steps for optimizer="sgd" only.'
        )
    if schedule is not None and parameters.schedule != "constant":
        raise ValueError(
            f'schedule={parameters.schedule!r} needs a number for learning_rate; learning_rate="auto" chooses the '
            "steps itself."
        )
    if parameters.early_stopping:
        raise ValueError(
            'early_stopping=True stops before the optimum, which is what learning_rate="auto" goes to; give a '
            'number for learning_rate or, against overfitting, a penalty such as penalty="l2".'
        )


def warn_of_idle(parameters: Parameters, defaults: dict[str, object], *, stacklevel: int) -> None:
    """Warn of parameters that the user has set, and that have no effect beside the others.

    Parameters
    ----------
    parameters : Parameters
    defaults : dict
        Of the user's class: parameters that it does not have are not the user's choice.
    stacklevel : int

    Warns
    -----
    UserWarning
    """
    idle = {}
    if parameters.penalty is None:
        idle["alpha"] = idle["l1_ratio"] = 'penalty=None; use penalty="l2", "l1" or "elasticnet"'
    if parameters.is_untuned:
        idle["momentum"] = 'learning_rate="auto"; give a number for learning_rate'
    for name, reason in idle.items():
        given = getattr(parameters, name)
        values = to_array(name, given, "give numbers")
        if name in defaults and ((values != defaults[name]) & (values != 0)).any():
            warnings.warn(f"{name}={given!r} has no effect with {reason}.", UserWarning, stacklevel=stacklevel)


def check_backend(parameters: Parameters, loss: Loss) -> None:
    """Refuse a loss that the backend cannot differentiate.

    Raises
    ------
    ValueError
    """
    if loss.by_autograd and parameters.backend == "analytic":
        raise ValueError(
            f'backend="analytic" knows the gradients of the losses in torchlinreg.losses only, not that of '
            f'loss={parameters.loss!r}; use backend="autograd" or "linear", or leave the choice to "auto".'
        )


def check_whitening(parameters: Parameters, penalty: Penalty | None, rows: MemorySource) -> None:
    """Refuse whitened variables with an L1 penalty, with `positive`, or with many sparse features.

    Raises
    ------
    ValueError
    """
    if parameters.conditioning != "whiten":
        return
    if parameters.positive:
        raise ValueError(
            'conditioning="whiten" steps in mixtures of the weights, in which positive=True is no bound on each '
            'variable; use conditioning="scale" or "auto".'
        )
    if penalty is not None and not penalty.is_smooth:
        raise ValueError(
            f'conditioning="whiten" steps in mixtures of the weights, in which the L1 part of '
            f'penalty={parameters.penalty!r} has no proximal step; use conditioning="scale" or "auto".'
        )
    if rows.is_sparse and rows.shape[1] > WHITEN_FEATURES:
        raise ValueError(
            f'conditioning="whiten" mixes all features with each other, which would fill a sparse X of '
            f'{rows.shape[1]} columns, more than {WHITEN_FEATURES}; use conditioning="scale" or "auto".'
        )


def check_stream(
    parameters: Parameters, settings: Settings, coef: np.ndarray | None, coef_shape: tuple[int, ...]
) -> None:
    """Refuse, in `partial_fit`, rows that need `coef_` of another shape, and what only `fit` can do.

    Raises
    ------
    ValueError
    """
    if coef is not None and coef.shape != coef_shape:
        raise ValueError(
            f"y needs coef_ of shape {coef_shape}, but this estimator has learnt coef_ of shape {coef.shape} "
            "from the rows before; start a new stream on a clone."
        )
    if parameters.is_untuned and coef_shape[-1] > WHITEN_FEATURES:
        raise ValueError(
            f'learning_rate="auto" keeps sufficient statistics of a stream, whose size is the square of that of '
            f"{coef_shape[-1]} features, more than {WHITEN_FEATURES}; give a number for learning_rate, or use fit."
        )
    if settings.schedule is not None and settings.schedule.reduces_on_plateau:
        raise ValueError(
            f'schedule={parameters.schedule!r} goes by epochs over the same rows; use fit, schedule="invscaling" or a '
            "function of the number of the call."
        )


def offers_streams(estimator) -> bool:
    """Whether there is a `partial_fit`, for :func:`~sklearn.utils.metaestimators.available_if`.

    Raises
    ------
    AttributeError
        If not, because parameters need all rows at once; it says which.
    """
    parameters = Parameters.of(estimator)
    if parameters.early_stopping:
        raise AttributeError("early_stopping=True holds rows of a whole table out; use fit, or early_stopping=False.")
    if not parameters.is_untuned:
        if parameters.is_conditioned:
            raise AttributeError(
                f"conditioning={parameters.conditioning!r} looks at a whole table first; use fit, or "
                "conditioning=None on features that were scaled before."
            )
    elif not resolve_loss(parameters.loss, 1).is_quadratic:
        raise AttributeError(
            'learning_rate="auto" keeps sufficient statistics of a stream, which answer for loss="squared_error" and '
            f'"mse" only, not for loss={parameters.loss!r}; give a number for learning_rate, or use fit.'
        )
    return True
