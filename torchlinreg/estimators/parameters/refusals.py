"""What cannot be asked of the estimator at the same time, and what to ask instead."""

import warnings
from functools import cache
from inspect import signature

import numpy as np
import torch

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.losses import Loss, resolve_loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.conditioning import WHITEN_FEATURES
from torchlinreg.engine.solvers.minibatch.schedules import Schedule
from torchlinreg.inputs.coefficients import plain_number, to_array

SAMPLE_ROWS = 1000  # to see whether predictions overflow
OVERFLOW = (
    "The numbers in X and y are too large, too small or too different in size to compute with. Bring them to a common "
    "size first, for example with sklearn.preprocessing.StandardScaler in a Pipeline and "
    'sklearn.compose.TransformedTargetRegressor, or try dtype="float64".'
)


def check_overflow(rows: Rows, theta: torch.Tensor, dtype: torch.dtype) -> None:
    """Refuse coefficients that are no numbers, or predict none.

    Raises
    ------
    ValueError
    """
    if theta.abs().max() < torch.finfo(dtype).max ** 0.5:
        return
    n_features = rows.X.shape[1]
    sample = rows.X[:: max(1, len(rows.X) // SAMPLE_ROWS)].to(theta)
    predicted = sample @ theta[:n_features] + theta[n_features:].sum(0)
    if not (theta.to(dtype).isfinite().all() and predicted.to(dtype).isfinite().all()):
        raise ValueError(OVERFLOW)


def check_mode(estimator, schedule: Schedule | None, dtype: torch.dtype) -> None:
    """Refuse what does not go with the mode, or lacks what it goes by.

    Raises
    ------
    ValueError
    """
    rate = plain_number("learning_rate", estimator.learning_rate)
    if rate != "auto" and rate > torch.finfo(dtype).max:
        raise ValueError(f'learning_rate={rate} is too large for {dtype}; give a smaller one, or "auto".')
    if isinstance(estimator.loss, type):
        name = estimator.loss.__name__
        raise ValueError(f"loss={estimator.loss!r} is a class; give an object of it, such as {name}().")
    if estimator.learning_rate == "auto":
        if estimator.optimizer != "sgd" or estimator.optimizer_params:
            raise ValueError(
                f"optimizer={estimator.optimizer!r} with optimizer_params={estimator.optimizer_params!r} needs a "
                'number for learning_rate; learning_rate="auto" chooses steps for optimizer="sgd" only.'
            )
        if schedule is not None and estimator.schedule != "constant":
            raise ValueError(
                f'schedule={estimator.schedule!r} needs a number for learning_rate; learning_rate="auto" chooses the '
                "steps itself."
            )
        if estimator.early_stopping:
            raise ValueError(
                'early_stopping=True stops before the optimum, which is what learning_rate="auto" goes to; give a '
                'number for learning_rate or, against overfitting, a penalty such as penalty="l2".'
            )
    elif schedule is not None and schedule.reduces_on_plateau and estimator.tol is None:
        raise ValueError(
            f'schedule={estimator.schedule!r} needs a tol that says what progress is; use tol="auto" or a number.'
        )


def warn_of_idle(estimator, *, stacklevel: int) -> None:
    """Warn of parameters that the user has set, and that have no effect beside the others.

    Warns
    -----
    UserWarning
    """
    idle, default = {}, _defaults(type(estimator))
    if estimator.penalty is None:
        idle["alpha"] = idle["l1_ratio"] = 'penalty=None; use penalty="l2", "l1" or "elasticnet"'
    if estimator.learning_rate == "auto":
        idle["momentum"] = 'learning_rate="auto"; give a number for learning_rate'
    for name, reason in idle.items():
        given = getattr(estimator, name)
        values = to_array(name, given, "give numbers")
        if name in default and ((values != default[name]) & (values != 0)).any():
            warnings.warn(f"{name}={given!r} has no effect with {reason}.", UserWarning, stacklevel=stacklevel)


@cache
def _defaults(kind: type) -> dict[str, object]:
    """Return what the parameters of an estimator are as long as nobody sets them; a subclass may have fewer."""
    return {name: parameter.default for name, parameter in signature(kind).parameters.items()}


def check_backend(estimator, loss: Loss) -> None:
    """Refuse a loss that the backend cannot differentiate.

    Raises
    ------
    ValueError
    """
    if loss.by_autograd and estimator.backend == "analytic":
        raise ValueError(
            f'backend="analytic" knows the slopes of the losses in torchlinreg.losses only, not of '
            f'loss={estimator.loss!r}; use backend="autograd" or "linear", or leave the choice to "auto".'
        )


def check_whitening(estimator, penalty: Penalty | None, rows: Rows) -> None:
    """Refuse whitened variables where a penalty or a sparse table does not bear them.

    Raises
    ------
    ValueError
    """
    if estimator.conditioning == "whiten" and penalty is not None and not penalty.is_smooth:
        raise ValueError(
            f'conditioning="whiten" steps in mixtures of the weights, in which penalty={estimator.penalty!r} with its '
            'absolute values has no proximal step; use conditioning="scale" or "auto".'
        )
    if estimator.conditioning == "whiten" and rows.is_sparse and rows.X.shape[1] > WHITEN_FEATURES:
        raise ValueError(
            f'conditioning="whiten" mixes all features with each other, which would fill a sparse X of '
            f'{rows.X.shape[1]} columns, more than {WHITEN_FEATURES}; use conditioning="scale" or "auto".'
        )


def check_stream(estimator, settings: Settings, coef: np.ndarray | None, shape: tuple[int, ...]) -> None:
    """Refuse, in `partial_fit`, a schedule that goes by whole tables, and rows that need `coef_` of another shape.

    Raises
    ------
    ValueError
    """
    if coef is not None and coef.shape != shape:
        raise ValueError(
            f"y needs coef_ of shape {shape}, but this estimator has learnt coef_ of shape {coef.shape} "
            "from the rows before; start a new stream on a clone."
        )
    if estimator.learning_rate == "auto" and shape[-1] > WHITEN_FEATURES:
        raise ValueError(
            f'learning_rate="auto" keeps a summary of a stream whose size is the square of that of {shape[-1]} '
            f"features, more than {WHITEN_FEATURES}; give a number for learning_rate, or use fit."
        )
    if settings.schedule is not None and settings.schedule.reduces_on_plateau:
        raise ValueError(
            f'schedule={estimator.schedule!r} goes by epochs over one table; use fit, schedule="invscaling" or a '
            "function of the number of the call."
        )


def offers_streams(estimator) -> bool:
    """Say whether there is a `partial_fit`: not where parameters ask for what goes by whole tables.

    Raises
    ------
    AttributeError
        If not; it says why.
    """
    if estimator.early_stopping:
        raise AttributeError("early_stopping=True holds rows of a whole table out; use fit, or early_stopping=False.")
    if estimator.learning_rate != "auto":
        if estimator.conditioning not in ("auto", None):
            raise AttributeError(
                f"conditioning={estimator.conditioning!r} looks at a whole table first; use fit, or conditioning=None "
                "on features that were scaled before."
            )
    elif not resolve_loss(estimator.loss, 1).is_quadratic:
        raise AttributeError(
            'learning_rate="auto" keeps a summary of a stream that answers for loss="squared_error" and "mse" only, '
            f"not for loss={estimator.loss!r}; give a number for learning_rate, or use fit."
        )
    return True
