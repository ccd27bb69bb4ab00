"""From the parameters of the estimator, and data that are checked, to what the engine is asked."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.losses import resolve_loss
from torchlinreg.engine.objective.penalties import make_penalty
from torchlinreg.engine.preconditioning.conditioning import is_exact
from torchlinreg.engine.runtime.devices import carry, has_double, resolve_device, resolve_dtype, stays_on_host, widest
from torchlinreg.engine.solvers.minibatch.schedules import resolve_schedule
from torchlinreg.estimators.parameters.refusals import check_backend, check_mode, check_whitening
from torchlinreg.inputs.arrays import to_tensor
from torchlinreg.inputs.coefficients import per_target, plain_number


def place_rows(estimator, X, y, weight: np.ndarray | None) -> tuple[Rows, torch.dtype]:
    """Put validated data on the device to train on, and say in which precision to do so.

    Raises
    ------
    ValueError
        If the device is not there, or cannot do what is asked.
    """
    X, y = to_tensor(X), to_tensor(y)
    device = resolve_device(estimator.device, X.device)
    if not has_double(device) and (estimator.learning_rate == "auto" or estimator.conditioning not in ("auto", None)):
        if estimator.device != "auto":
            raise ValueError(
                f'{device} has no float64, which learning_rate="auto" and conditioning count in. Give a number for '
                'learning_rate and conditioning=None, or use device="cpu".'
            )
        device = torch.device("cpu")
    dtype = resolve_dtype(estimator.dtype, X.dtype, device)
    y = y.reshape(len(y), -1)
    if weight is not None:
        weight = carry(torch.from_numpy(weight)[:, None], device, dtype)
    untuned = estimator.learning_rate == "auto"  # which centres before it rounds
    if untuned:
        copied_to = torch.float64 if is_exact(Rows(X, y)) else None
    else:
        X = X.to(dtype) if X.dtype.itemsize > dtype.itemsize else X
        copied_to = None if X.dtype == dtype else dtype
    home = X.device if stays_on_host(X, device, copied_to) else device
    if untuned:
        return Rows(X.to(home), y.to(device), weight), dtype
    return Rows(carry(X, home, dtype), carry(y, device, dtype), weight), dtype


def make_settings(estimator, rows: Rows, dtype: torch.dtype) -> Settings:
    """Return what the parameters of the estimator say about training on these rows.

    Raises
    ------
    ValueError
        If they contradict each other, or do not go with the rows.
    """
    schedule = resolve_schedule(estimator.schedule)
    check_mode(estimator, schedule, dtype)
    n_targets = rows.y.shape[1]
    loss = resolve_loss(estimator.loss, n_targets)
    alpha, l1_ratio = (
        carry(
            torch.from_numpy(per_target(name, getattr(estimator, name), n_targets, highest)),
            rows.y.device,
            widest(rows.y.device),
        )
        for name, highest in (("alpha", np.inf), ("l1_ratio", 1.0))
    )
    penalty = make_penalty(estimator.penalty, alpha, l1_ratio)
    check_backend(estimator, loss)
    check_whitening(estimator, penalty, rows)
    generator = None
    if estimator.shuffle:
        seed = estimator.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        generator = torch.Generator("cpu").manual_seed(int(seed))
    return Settings(
        loss=loss,
        penalty=penalty,
        fit_intercept=estimator.fit_intercept,
        backend=("autograd" if loss.by_autograd else "analytic") if estimator.backend == "auto" else estimator.backend,
        optimizer=estimator.optimizer,
        optimizer_params=estimator.optimizer_params,
        momentum=float(estimator.momentum),
        learning_rate=plain_number("learning_rate", estimator.learning_rate),
        batch_size=estimator.batch_size,
        max_iter=estimator.max_iter,
        tol=plain_number("tol", estimator.tol),
        n_iter_no_change=estimator.n_iter_no_change,
        dtype=dtype,
        conditioning=estimator.conditioning,
        average=estimator.average,
        generator=generator,
        schedule=schedule,
    )
