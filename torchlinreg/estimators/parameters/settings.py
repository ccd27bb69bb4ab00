"""The estimator's parameters and validated data -> the engine's rows and settings."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state

from torchlinreg.engine.data.source import MemorySource, as_operator
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.losses import resolve_loss
from torchlinreg.engine.objective.penalties import Penalty, make_penalty
from torchlinreg.engine.preconditioning.choose import is_exact
from torchlinreg.engine.runtime.devices import carry, has_double, resolve_device, resolve_dtype, stays_on_host, widest
from torchlinreg.engine.solvers.minibatch.schedules import resolve_schedule
from torchlinreg.estimators.parameters.refusals import check_backend, check_mode, check_whitening
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.inputs.arrays import scale_to_mean_one, to_tensor
from torchlinreg.inputs.coefficients import per_target, plain_number


def place_rows(
    parameters: Parameters, X, y, weight: np.ndarray | None, *, to_mean_one: bool = False
) -> tuple[MemorySource, torch.dtype]:
    """Move validated data to the device to train on; return them with the precision to train in.

    Parameters
    ----------
    parameters : Parameters
    X, y
        Validated.
    weight : ndarray of shape (n_samples,), optional
    to_mean_one : bool, default=False
        Whether to scale the weights, and to keep beside them what they were before that rounded them.

    Raises
    ------
    ValueError
        If the device is not there, or lacks the precision that is needed.
    """
    X, y = as_operator(to_tensor(X)), to_tensor(y)
    device = _training_device(parameters, X.device)
    dtype = resolve_dtype(parameters.dtype, X.dtype, device)
    y = y.reshape(len(y), -1)
    given = None
    if weight is not None:
        if to_mean_one:
            given = carry(to_tensor(weight)[:, None], device, widest(device))
            weight = scale_to_mean_one(weight)
        weight = carry(to_tensor(weight)[:, None], device, dtype)
    if parameters.is_untuned:  # X keeps its precision, as columns are centred before they are rounded
        copied_to = torch.float64 if is_exact(MemorySource(X, y)) else None
    else:
        X = X.to(dtype) if X.dtype.itemsize > dtype.itemsize else X
        copied_to = None if X.dtype == dtype else dtype
    X_device = X.device if stays_on_host(X, device, copied_to) else device
    if parameters.is_untuned:
        return MemorySource(X.to(X_device), y.to(device), weight, given_weight=given), dtype
    return MemorySource(carry(X, X_device, dtype), carry(y, device, dtype), weight), dtype


def make_settings(parameters: Parameters, rows: MemorySource, dtype: torch.dtype) -> Settings:
    """Return the engine's settings for training on these rows.

    Raises
    ------
    ValueError
        If parameters contradict each other, or do not go with the rows.
    """
    schedule = resolve_schedule(parameters.schedule)
    check_mode(parameters, schedule, dtype)
    n_targets = rows.y.shape[1]
    loss = resolve_loss(parameters.loss, n_targets)
    penalty = resolve_penalty(
        parameters.penalty,
        per_target("alpha", parameters.alpha, n_targets, np.inf),
        per_target("l1_ratio", parameters.l1_ratio, n_targets, 1.0),
        rows.y.device,
        positive=parameters.positive,
    )
    check_backend(parameters, loss)
    check_whitening(parameters, penalty, rows)
    fastest = "autograd" if loss.by_autograd else "analytic"
    return Settings(
        loss=loss,
        penalty=penalty,
        fit_intercept=parameters.fit_intercept,
        backend=fastest if parameters.backend == "auto" else parameters.backend,
        optimizer=parameters.optimizer,
        optimizer_params=parameters.optimizer_params,
        momentum=float(parameters.momentum),
        learning_rate=plain_number("learning_rate", parameters.learning_rate),
        batch_size=parameters.batch_size,
        max_iter=parameters.max_iter,
        tol=plain_number("tol", parameters.tol),
        n_iter_no_change=parameters.n_iter_no_change,
        dtype=dtype,
        conditioning=parameters.conditioning,
        average=parameters.average,
        generator=_make_generator(parameters.random_state) if parameters.shuffle else None,
        schedule=schedule,
    )


def resolve_penalty(
    name: str | None, alpha: np.ndarray, l1_ratio: np.ndarray, device: torch.device, *, positive: bool
) -> Penalty | None:
    """Return the engine's penalty on a device, with a strength and a ratio for each column of weights."""
    strengths = (carry(torch.from_numpy(values), device, widest(device)) for values in (alpha, l1_ratio))
    return make_penalty(name, *strengths, positive=positive)


def _training_device(parameters: Parameters, device_of_X: torch.device) -> torch.device:
    """Return the device to train on: the one asked for, or the CPU if "auto" found one without float64."""
    device = resolve_device(parameters.device, device_of_X)
    if has_double(device) or not (parameters.is_untuned or parameters.is_conditioned):
        return device
    if parameters.device != "auto":
        raise ValueError(
            f'{device} has no float64, which learning_rate="auto" and conditioning count in. Give a number for '
            'learning_rate and conditioning=None, or use device="cpu".'
        )
    return torch.device("cpu")


def _make_generator(random_state) -> torch.Generator:
    """Return a generator of the orders of the rows, seeded with an integer as it is."""
    if not isinstance(random_state, Integral):
        random_state = check_random_state(random_state).randint(2**31 - 1)
    return torch.Generator("cpu").manual_seed(int(random_state))
