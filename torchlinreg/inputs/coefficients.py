"""Weights and intercepts as users know them, and theta as the engine does: (n_features + fit_intercept, n_targets)."""

import numpy as np
import torch

from torchlinreg.inputs.arrays import to_numpy


def coef_shape(n_features: int, n_targets: int, y_ndim: int) -> tuple[int, ...]:
    """Return the shape of `coef_`."""
    return (n_features,) if y_ndim == 1 else (n_targets, n_features)


def make_theta(coef, intercept, n_features: int, n_targets: int, y_ndim: int, *, fit_intercept: bool) -> torch.Tensor:
    """Check where training is to start, in the shapes of `coef_` and `intercept_` or None for zeros.

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
    """Return `coef_`, `intercept_`, and both in float64 for all targets, whatever shape y had."""
    theta = theta.detach().cpu().double().numpy()
    wide = np.array(theta[:n_features].T, order="C"), theta[n_features:].sum(0)  # copies: no memory of torch's stays
    name = str(dtype).removeprefix("torch.")
    coef, intercept = wide[0].astype(name), theta[n_features:].astype(name)
    if y_ndim == 1:
        return coef[0], intercept[0, 0] if len(intercept) else 0.0, wide
    return coef, intercept[0] if len(intercept) else 0.0, wide


def plain_number(name: str, given):
    """Convert to a float what is neither None nor a name; there are fractions, and integers too large for one.

    Raises
    ------
    ValueError
        If that cannot be done.
    """
    return given if given is None or isinstance(given, str) else to_array(name, given, "give a float").item()


def per_target(name: str, given, n_targets: int, highest: float) -> np.ndarray:
    """Check a parameter that each target may have a value of its own of.

    Raises
    ------
    ValueError
        If it is not made of finite numbers between 0 and `highest`, one or one for each target.
    """
    values = to_array(name, given, f"give one number, or one for each of {n_targets} targets")
    if values.shape not in ((), (n_targets,)):
        raise ValueError(f"{name} has shape {values.shape}; give one number, or one for each of {n_targets} targets.")
    if not (np.isfinite(values).all() and (values >= 0).all() and (values <= highest).all()):
        raise ValueError(f"{name}={given!r} must be finite, and between 0 and {highest:g}.")
    return np.broadcast_to(values, n_targets).copy()


def _initial(name: str, given, shape: tuple[int, ...]) -> np.ndarray:
    """Check where training is to start."""
    if given is None:
        return np.zeros(shape)
    start = to_array(name, given, f"this data needs shape {shape}")
    if start.shape != shape and not start.size == np.prod(shape, dtype=int) == 1:
        raise ValueError(f"{name} has shape {start.shape}, but this data needs {shape}.")
    if not np.isfinite(start).all():
        raise ValueError(f"{name} contains NaN or infinity; give finite numbers or None for zeros.")
    return start


def to_array(name: str, given, wanted: str) -> np.ndarray:
    """Convert to an array of float64 what should be real numbers."""
    try:
        array = np.asarray(to_numpy(given, name) if isinstance(given, torch.Tensor) else given)
        if array.dtype.kind not in "buifO":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(float)
    except (TypeError, ValueError, OverflowError) as reason:
        raise ValueError(f"{name}={given!r} is not made of real numbers ({reason}); {wanted}.") from reason
