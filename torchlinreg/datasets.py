"""Small data sets for linear regression, made in memory: the tutorials' crop yields and random data."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import Bunch, check_random_state, check_scalar

__all__ = ["load_crop_yields", "make_linear"]

_FEATURES = ["temperature", "rainfall", "humidity"]
_TARGETS = ["apples", "oranges"]
_REGIONS = [
    # temperature, rainfall, humidity, apples, oranges
    [73, 67, 43, 56, 70],
    [91, 88, 64, 81, 101],
    [87, 134, 58, 119, 133],
    [102, 43, 37, 22, 37],
    [69, 96, 70, 103, 119],
]
_DESCRIPTION = """\
Crop yields of five regions
---------------------------
The made-up data of many tutorials on linear regression in PyTorch: the weather of a region, and the
apples and oranges grown there.

Features: temperature (degrees Fahrenheit), rainfall (millimetres), humidity (percent).
Targets: apples and oranges (tons).
Rows: the five regions, in the same order, `n_repeats` times over.
"""


def load_crop_yields(
    *, return_X_y: bool = False, as_frame: bool = False, n_repeats: int = 1
) -> Bunch | tuple[np.ndarray, np.ndarray] | tuple[pd.DataFrame, pd.DataFrame]:
    """Load the crop yields of five regions: three features, two targets.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return `(data, target)` instead of a Bunch.
    as_frame : bool, default=False
        Return `data` and `target` as pandas DataFrames with named columns.
    n_repeats : int, default=1
        How often to repeat the five regions; 3 gives the 15 rows of the tutorials on mini-batches.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With `data` of shape (5 * n_repeats, 3), `target` of shape (5 * n_repeats, 2), both float64;
        `feature_names`, `target_names`, `DESCR`, and `frame`: a DataFrame of data and target side by side
        if `as_frame=True`, else None.
    (data, target) : tuple
        If `return_X_y=True`.

    Raises
    ------
    TypeError, ValueError
        If `n_repeats` is not an integer, or is below 1.

    Examples
    --------
    >>> from torchlinreg.datasets import load_crop_yields
    >>> X, y = load_crop_yields(return_X_y=True)
    >>> X.shape, y.shape
    ((5, 3), (5, 2))
    """
    check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
    table = np.tile(np.array(_REGIONS, dtype=np.float64), (n_repeats, 1))
    frame = pd.DataFrame(table, columns=_FEATURES + _TARGETS) if as_frame else None
    if as_frame:
        data, target = frame[_FEATURES], frame[_TARGETS]
    else:
        # Copies, since slices of columns are not contiguous
        data, target = table[:, :3].copy(), table[:, 3:].copy()
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=list(_FEATURES),
        target_names=list(_TARGETS),
        DESCR=_DESCRIPTION,
    )


def make_linear(
    n_samples: int = 1000,
    coef: Sequence[float] | ArrayLike = (2, -3.4),
    intercept: float | ArrayLike = 4.2,
    noise: float = 0.01,
    *,
    random_state: int | np.random.RandomState | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `X` from the standard normal distribution, and set `y = X @ coef + intercept + noise * N(0, 1)`.

    The numbers are drawn in float64 and then rounded to `dtype`, so that one seed gives the same data in each dtype.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    coef : array-like of shape (n_features,) or (n_targets, n_features), default=(2, -3.4)
        The true coefficients, in the shape of :class:`~sklearn.linear_model.LinearRegression`'s `coef_`.
    intercept : float or array-like of shape (n_targets,), default=4.2
        The true intercept.
    noise : float, default=0.01
        Standard deviation of the noise on `y`, in units of `y`.
    random_state : int, RandomState instance or None, default=None
        Seed; pass an int for the same data each time.
    dtype : data type, default=numpy.float64
        A floating type for `X` and `y`.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)

    Raises
    ------
    TypeError, ValueError
        If a parameter is of the wrong type or shape, or out of its range.

    Examples
    --------
    >>> from torchlinreg.datasets import make_linear
    >>> X, y = make_linear(random_state=0)
    >>> X.shape, y.shape
    ((1000, 2), (1000,))
    """
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    check_scalar(noise, "noise", Real, min_val=0)
    coef = np.asarray(coef, dtype=np.float64)
    intercept = np.asarray(intercept, dtype=np.float64)
    if coef.ndim not in (1, 2):
        raise ValueError(f"coef must be of shape (n_features,) or (n_targets, n_features), not {coef.shape}")
    if intercept.shape not in ((), coef.shape[:-1]):
        raise ValueError(
            f"intercept must be a number or of shape {coef.shape[:-1]} to go with coef of shape "
            f"{coef.shape}, not {intercept.shape}"
        )
    if not np.issubdtype(dtype, np.floating):
        raise ValueError(f"dtype must be a floating type such as numpy.float32, not {dtype!r}")
    rng = check_random_state(random_state)
    X = rng.standard_normal((n_samples, coef.shape[-1]))
    y = X @ coef.T + intercept
    y += noise * rng.standard_normal(y.shape)
    return X.astype(dtype), y.astype(dtype)
