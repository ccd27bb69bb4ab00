"""`coef_` and `intercept_`, and the engine's theta of shape (n_features + fit_intercept, n_targets)."""

import numpy as np
import torch

from torchlinreg.inputs.arrays import to_numpy


def coef_shape(n_features: int, n_targets: int, y_ndim: int) -> tuple[int, ...]:
    """Return the shape of `coef_`."""
    return (n_features,) if y_ndim == 1 else (n_targets, n_features)


def make_theta(coef, intercept, n_features: int, n_targets: int, y_ndim: int, *, fit_intercept: bool) -> torch.Tensor:
    """Return theta for initial values in the shapes of `coef_` and `intercept_`, or None for zeros.

    Raises
    ------
    ValueError
        If a shape is wrong, or a number is not finite.
    """
    shape = coef_shape(n_features, n_targets, y_ndim)
    coef, intercept = _initial("coef_init", coef, shape), _initial("intercept_init", intercept, shape[:-1])
    theta = np.empty((n_features + fit_intercept, n_targets))
    theta[:n_features] = coef.reshape(n_targets, n_features).T
    theta[n_features:] = intercept.reshape(1, n_targets)
    return torch.from_numpy(theta)


def split_theta(theta: torch.Tensor, n_features: int, y_ndim: int, dtype: torch.dtype) -> tuple:
    """Return `coef_`, `intercept_`, and both in float64 with an axis for the targets whatever shape y had."""
    array = theta.detach().cpu().numpy().astype(np.float64)
    in_float64 = np.array(array[:n_features].T, order="C"), array[n_features:].sum(0)  # copies, not torch's memory
    name = str(dtype).removeprefix("torch.")
    coef, intercept = in_float64[0].astype(name), array[n_features:].astype(name)
    if y_ndim == 1:
        return coef[0], intercept[0, 0] if len(intercept) else 0.0, in_float64
    return coef, intercept[0] if len(intercept) else 0.0, in_float64


def plain_number(name: str, given):
    """Return a parameter as a float unless it is None or a string.

    Raises
    ------
    ValueError
        If it cannot be converted, such as an integer that is too large.
    """
    return given if given is None or isinstance(given, str) else to_array(name, given, "give a float").item()


def per_target(name: str, given, n_targets: int, highest: float) -> np.ndarray:
    """Return a value of a parameter for each target, given one for all or one for each.

    Raises
    ------
    ValueError
        If the values are not finite numbers between 0 and `highest`.
    """
    values = to_array(name, given, f"give one number, or one for each of {n_targets} targets")
    if values.shape not in ((), (n_targets,)):
        raise ValueError(f"{name} has shape {values.shape}; give one number, or one for each of {n_targets} targets.")
    if not (np.isfinite(values).all() and (values >= 0).all() and (values <= highest).all()):
        raise ValueError(f"{name}={given!r} must be finite, and between 0 and {highest:g}.")
    return np.broadcast_to(values, n_targets).copy()


def _initial(name: str, given, shape: tuple[int, ...]) -> np.ndarray:
    """Return an initial value as an array; zeros for None."""
    if given is None:
        return np.zeros(shape)
    start = to_array(name, given, f"this data needs shape {shape}")
    if start.shape != shape and not start.size == np.prod(shape, dtype=int) == 1:
        raise ValueError(f"{name} has shape {start.shape}, but this data needs {shape}.")
    if not np.isfinite(start).all():
        raise ValueError(f"{name} contains NaN or infinity; give finite numbers or None for zeros.")
    return start


def to_array(name: str, given, wanted: str) -> np.ndarray:
    """Return real numbers as an array of float64.

    Raises
    ------
    ValueError
        If they are none; the message ends in `wanted`.
    """
    try:
        array = np.asarray(to_numpy(given, name) if isinstance(given, torch.Tensor) else given)
        if array.dtype.kind not in "buifO":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(float)
    except (TypeError, ValueError, OverflowError) as reason:
        raise ValueError(f"{name}={given!r} is not made of real numbers ({reason}); {wanted}.") from reason
