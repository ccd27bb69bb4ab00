"""Validation of arrays and tensors, and conversion between the two.

NumPy arrays, data frames and lists go through scikit-learn's own validation. Torch tensors are checked by the same
rules on their own device, so that a table on a GPU is never copied to the CPU.
"""

from numbers import Number, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import check_non_negative, validate_data

from torchlinreg.engine.data.matrices.csr import CSROperator
from torchlinreg.engine.data.moments import sum_is_finite
from torchlinreg.engine.fit.stream import ALL_ZERO
from torchlinreg.engine.runtime.devices import carry, widest
from torchlinreg.inputs.frames import FLOATS, advice, float_types, naming_columns, refuse_dates


def check_X_y(estimator, X, y, *, reset: bool = True):
    """Validate training data, and record the features on the estimator.

    Parameters
    ----------
    estimator : TorchLinearRegressor
    X, y : as given by the user
    reset : bool, default=True
        Whether to record the features; False compares them with those recorded.

    Returns
    -------
    X : ndarray, sparse matrix or array in CSR format, or torch.Tensor of shape (n_samples, n_features)
    y : ndarray or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
    """
    if not isinstance(X, torch.Tensor):
        y = to_numpy(y, "y") if isinstance(y, torch.Tensor) else y
        with naming_columns(X=X, y=y):
            return _check_arrays(estimator, X, y, reset=reset)
    X = _check_tensor(estimator, X)
    if y is not None and not isinstance(y, torch.Tensor):
        with naming_columns(y=y):
            given = check_array(y, ensure_2d=False, ensure_all_finite=False, input_name="y")
            y = to_tensor(_finite_floats(given))
    y = y if y is None else _check_target(y, X)
    return validate_data(estimator, X, y, reset=reset, skip_check_array=True)


def check_X(estimator, X):
    """Validate data to predict for, and compare their features with those recorded on the estimator."""
    if isinstance(X, torch.Tensor):
        X = _check_tensor(estimator, X)
        return validate_data(estimator, X, reset=False, skip_check_array=True)
    with naming_columns(X=X):
        return validate_data(estimator, X, accept_sparse=["csr", "csc"], dtype=float_types(X), reset=False)


def check_weight(sample_weight, X, *, to_mean_one: bool = True, allow_zeros: bool = False) -> np.ndarray | None:
    """Validate sample weights, and scale them to mean one if asked to; in float64.

    Raises
    ------
    ValueError
        If a weight is negative or, unless that is allowed, all are zero.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, torch.Tensor):
        sample_weight = to_numpy(sample_weight, "sample_weight")
    if isinstance(sample_weight, Number) and not isinstance(sample_weight, Real):
        raise ValueError(f"Complex data not supported: sample_weight={sample_weight!r}; give real numbers.")
    n_rows = X.shape[0]
    with naming_columns(sample_weight=sample_weight):
        given = np.full(n_rows, sample_weight) if isinstance(sample_weight, Number) else sample_weight
        weight = check_array(given, ensure_2d=False, dtype=np.float64, order="C", input_name="sample_weight")
        if weight.shape != (n_rows,):
            raise ValueError(f"sample_weight.shape == {weight.shape}, expected a number or 1D: ({n_rows},).")
        check_non_negative(weight, "`sample_weight`")
    if not (allow_zeros or weight.any()):
        raise ValueError(ALL_ZERO)
    return scale_to_mean_one(weight) if to_mean_one else weight


def scale_to_mean_one(weight: np.ndarray) -> np.ndarray:
    """Return weights of mean one.

    Raises
    ------
    ValueError
        If none is positive.
    """
    largest = weight.max()
    if largest == 0:
        raise ValueError(ALL_ZERO)
    weight = weight / largest  # first, as the mean could overflow
    return weight / weight.mean()


def to_numpy(tensor: torch.Tensor, name: str) -> np.ndarray:
    """Return a tensor as an array, from any device and of any floating type.

    Raises
    ------
    ValueError
        If it is sparse, complex or without data.
    """
    tensor = _check_kind(tensor, name).detach().cpu()
    return (tensor.double() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def to_tensor(array) -> torch.Tensor | CSROperator:
    """Return an array as a tensor that shares its memory, even if it is read-only; a CSR matrix as a CSROperator."""
    if sparse.issparse(array):
        return CSROperator(*map(to_tensor, (array.indptr, array.indices, array.data)), array.shape[1])
    if isinstance(array, torch.Tensor):
        # a tensor made under inference mode cannot take part in a graph
        return array.clone() if array.is_inference() else array
    if min(array.strides, default=0) < 0:  # even in a contiguous array, for a dimension of length one
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Writeable(array))
    return torch.from_numpy(array)


def _without_duplicates(X):
    """Return a sparse matrix with the entries of duplicate indices summed up."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


class _Writeable:
    """The memory of an array declared writeable: torch warns otherwise, and nothing here writes to it."""

    def __init__(self, array: np.ndarray):
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.array = array  # keeps the memory alive


def _check_arrays(estimator, X, y, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
    X, y = validate_data(
        estimator,
        X,
        y,
        reset=reset,
        accept_sparse="csr",
        dtype=float_types(X),
        order="C",
        multi_output=True,
        y_numeric=True,
        ensure_all_finite=False,
    )
    stored = X
    if sparse.issparse(X):
        X = _without_duplicates(X)
        stored = X.data
    if not sum_is_finite(to_tensor(stored)):
        assert_all_finite(X, estimator_name=type(estimator).__name__, input_name="X")
    return X, _finite_floats(y)


def _finite_floats(y: np.ndarray) -> np.ndarray:
    """Return a target in float32 or float64, or refuse it if it is not numeric or not finite."""
    refuse_dates("y", y)
    y = np.ascontiguousarray(y, dtype=y.dtype if y.dtype in FLOATS else np.float64)
    assert_all_finite(y, input_name="y")  # None becomes NaN only here
    return y


def _check_tensor(estimator, X: torch.Tensor) -> torch.Tensor:
    """Apply scikit-learn's rules for X to a tensor, on its own device."""
    name = type(estimator).__name__
    X = _check_kind(X, "X")
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: a tensor of shape {tuple(X.shape)}. Reshape your data "
            "either using X.reshape(-1, 1) if your data has a single feature or X.reshape(1, -1) if it contains a "
            "single sample."
        )
    for size, unit, axis in ((X.shape[0], "sample", 0), (X.shape[1], "feature", 1)):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {unit}(s) (shape={tuple(X.shape)}) while a minimum of 1 is required by {name} "
                f"(axis {axis})."
            )
    X = X.detach()
    if X.dtype not in (torch.float32, torch.float64):
        X = X.to(widest(X.device))
    _refuse_non_finite(X, "X")
    return X.contiguous()


def _check_target(y: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    """Apply scikit-learn's rules for y to a tensor, and move it to the device of X."""
    y = _check_kind(y, "y").detach()
    y = carry(y, X.device, widest(X.device) if y.dtype == torch.float64 else y.dtype)
    if y.ndim not in (1, 2) or (y.ndim == 2 and y.shape[1] == 0):
        raise ValueError(f"y should be a 1d or 2d tensor with a column at least, got shape {tuple(y.shape)} instead.")
    if len(y) != len(X):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{len(X)}, {len(y)}]")
    y = y if y.dtype in (torch.float32, torch.float64) else y.to(X.dtype)
    _refuse_non_finite(y, "y")
    return y


def _check_kind(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Refuse tensors that are sparse, complex or without data."""
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} is a sparse tensor (layout {tensor.layout}); use {name}.to_dense().")
    if tensor.is_complex():
        raise ValueError(f"Complex data not supported: {name} has dtype {tensor.dtype}; use its real part.")
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is on the device meta, which holds no numbers; pass a tensor that does.")
    return tensor.resolve_neg()


def _refuse_non_finite(tensor: torch.Tensor, name: str) -> None:
    """Refuse NaN and infinity, and name the columns that they are in."""
    if sum_is_finite(tensor):
        return
    for what, trouble, found in (
        ("NaN", "Missing values", tensor.isnan()),
        ("infinity", "Infinite values", tensor.isinf()),
    ):
        if found.any():
            columns = found.any(0).nonzero().flatten().tolist() if found.ndim == 2 else ()
            raise ValueError(f"Input {name} contains {what}.\n{advice(name, trouble, columns)}")
