"""What the user brings, checked and turned into tensors; what the engine returns, turned back.

NumPy arrays, data frames and lists go through scikit-learn's own validation. Torch tensors are checked where they
are, with the same rules and words, so that a table on a GPU never visits the CPU.
"""

from numbers import Number, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.validation import _check_sample_weight, validate_data

from torchlinreg.engine.data.csr import SparseTable
from torchlinreg.engine.runtime.devices import carry, widest
from torchlinreg.inputs.frames import FLOATS, advice, float_types, naming_columns


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
    if y is None:
        raise ValueError(f"This {type(estimator).__name__} estimator requires y to be passed, but y is None.")
    X = _check_tensor(estimator, X) if reset else check_X(estimator, X)
    if not isinstance(y, torch.Tensor):
        with naming_columns(y=y):
            given = check_array(y, ensure_2d=False, ensure_all_finite=False, input_name="y")
            y = to_tensor(_finite_floats(given))
    y = _check_target(y, X)
    if not reset:
        return X, y
    vars(estimator).pop("feature_names_in_", None)  # of an earlier fit on a data frame
    estimator.n_features_in_ = X.shape[1]
    return X, y


def check_X(estimator, X):
    """Validate data to predict for against what the estimator was fitted on."""
    if not isinstance(X, torch.Tensor):
        with naming_columns(X=X):
            return validate_data(estimator, X, accept_sparse=["csr", "csc"], dtype=float_types(X), reset=False)
    X = _check_tensor(estimator, X)
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return X


def check_weight(sample_weight, X, *, to_mean_one: bool = True) -> np.ndarray | None:
    """Validate sample weights, and scale them to mean one in float64, unless they are to stay as they are.

    Raises
    ------
    ValueError
        If a weight is negative or, where a mean of one is wanted, none is positive.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, torch.Tensor):
        sample_weight = to_numpy(sample_weight, "sample_weight")
    if isinstance(sample_weight, Number) and not isinstance(sample_weight, Real):
        raise ValueError(f"Complex data not supported: sample_weight={sample_weight!r}; give real numbers.")
    with naming_columns(sample_weight=sample_weight):
        rows = np.empty((X.shape[0], 0))
        weight = _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=not to_mean_one
        )
        assert_all_finite(weight, input_name="sample_weight")  # a single number for all rows comes unchecked
    if not to_mean_one:
        return weight
    largest = weight.max()
    if largest == 0:
        raise ValueError("sample_weight must not be all zero: no row would be left to learn from.")
    weight = weight / largest  # before the mean, which could overflow
    return weight / weight.mean()


def to_numpy(tensor: torch.Tensor, name: str) -> np.ndarray:
    """Return a tensor of the user's as an array, from wherever and however it is kept.

    Raises
    ------
    ValueError
        If there is nothing that could be returned.
    """
    tensor = _check_kind(tensor, name).detach().cpu()
    return (tensor.double() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def to_tensor(array) -> torch.Tensor | SparseTable:
    """Return the array as a tensor, or a CSR matrix as a table, that shares its memory, read-only arrays included."""
    if sparse.issparse(array):
        return SparseTable.of_csr(*map(to_tensor, (array.indptr, array.indices, array.data)), array.shape[1])
    if isinstance(array, torch.Tensor):
        # a tensor made under inference mode cannot take part in a graph
        return array.clone() if array.is_inference() else array
    if min(array.strides, default=0) < 0:  # of a dimension of length one, which NumPy calls contiguous all the same
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Writeable(array))
    return torch.from_numpy(array)


def _without_duplicates(X):
    """Return the matrix with numbers for the same place summed up, which is what they mean."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


class _Writeable:
    """The same memory announced as writeable: torch warns otherwise, and nothing here writes to it."""

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
    # torch sums with all cores, and only a sum that is not finite is worth a closer look
    if not to_tensor(stored).sum().isfinite():
        assert_all_finite(X, estimator_name=type(estimator).__name__, input_name="X")
    return X, _finite_floats(y)


def _finite_floats(y: np.ndarray) -> np.ndarray:
    """Return a target that is an array of numbers in one of the precisions, or refuse it."""
    if y.dtype.kind in "mM":
        raise ValueError(advice("y", "Dates", ()))
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
    """Apply scikit-learn's rules for y to a tensor, and bring it to the features."""
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
    """Refuse tensors that are not tables of real numbers."""
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} is a sparse tensor (layout {tensor.layout}); use {name}.to_dense().")
    if tensor.is_complex():
        raise ValueError(f"Complex data not supported: {name} has dtype {tensor.dtype}; use its real part.")
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is on the device meta, which holds no numbers; pass a tensor that does.")
    return tensor.resolve_neg()


def _refuse_non_finite(tensor: torch.Tensor, name: str) -> None:
    # A sum is finite only if every term is, and needs no mask of the table's size
    if tensor.sum().isfinite():
        return
    for what, trouble, found in (
        ("NaN", "Missing values", tensor.isnan()),
        ("infinity", "Infinite values", tensor.isinf()),
    ):
        if found.any():
            columns = found.any(0).nonzero().flatten().tolist() if found.ndim == 2 else ()
            raise ValueError(f"Input {name} contains {what}.\n{advice(name, trouble, columns)}")
