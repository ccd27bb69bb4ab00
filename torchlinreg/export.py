"""Fitted estimators as ONNX models, alone and within scikit-learn's pipelines; needs the extra ``export``."""

import warnings
from collections.abc import Callable
from itertools import product
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.regressor_cv import TorchLinearRegressorCV

if TYPE_CHECKING:
    import onnx

__all__ = ["register_onnx_converters", "to_onnx"]

# Largest error, in standard deviations of the predictions, that is not worth a warning
TOLERANCE = 1e-6
NUMBERS = "fiub"  # NumPy's letters for them
SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
# ONNX's operators, with constants, for inverse functions of targets
INVERSES: dict[Callable | None, list[tuple]] = {
    None: [],
    np.exp: [("Exp",)],
    np.expm1: [("Exp",), ("Sub", 1)],
    np.log: [("Log",)],
    np.log1p: [("Add", 1), ("Log",)],
    np.square: [("Pow", 2)],
    np.sqrt: [("Sqrt",)],
}


def to_onnx(estimator, X, *, target_opset: int | None = None) -> "onnx.ModelProto":
    """Return a fitted estimator as an ONNX model that predicts what ``predict`` does.

    The model calculates in double precision, whatever types it takes and returns: single precision loses the digits of
    columns that are far from zero, such as time stamps. Some steps of pipelines can be had in single precision only. If
    predictions for `X` are farther than 1e-6 of their standard deviation from those of ``predict`` for the same rows in
    double precision, a warning says how far.

    Parameters
    ----------
    estimator : TorchLinearRegressor, TorchLinearRegressorCV, Pipeline, TransformedTargetRegressor or search of these
        Fitted, and made of steps that skl2onnx can convert. Of a search, such as
        :class:`~sklearn.model_selection.GridSearchCV`, the best estimator is exported.
    X : ndarray or pandas.DataFrame of shape (n_samples, n_features)
        Rows such as the model will be given. For an array, the model has one input ``X`` of its type; for a frame, an
        input of shape (n_samples, 1) for each column, of its name and type.
    target_opset : int, default=None
        Version of ONNX's operators, by default the newest that skl2onnx was tested with.

    Returns
    -------
    onnx.ModelProto
        It returns predictions of shape (n_samples, n_targets), a single target being one column, in the type of those
        of ``predict``.

    Raises
    ------
    TypeError
        If `X` is neither an array nor a frame of pandas.
    RuntimeError, ValueError
        If a step cannot be converted.

    Warns
    -----
    UserWarning
        If single precision shows in the predictions for `X`.

    Examples
    --------
    >>> import numpy as np
    >>> import onnxruntime
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.export import to_onnx
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model = TorchLinearRegressor().fit(X, [1.0, 2.0, 2.0])
    >>> session = onnxruntime.InferenceSession(to_onnx(model, X).SerializeToString())
    >>> session.run(None, {"X": X})[0].round(6)
    array([[1.],
           [2.],
           [2.]])
    """
    check_is_fitted(estimator)
    estimator = getattr(estimator, "best_estimator_", estimator)
    register_onnx_converters()
    rows = _read_rows(X)
    returned = np.asarray(estimator.predict(X)).dtype
    # Scalers of scikit-learn round what they return to the type of what they are given
    expected = np.asarray(estimator.predict(_to_precision(rows, "f", np.float64))).astype(returned)
    found, refused = [], {}
    for dtype, as_matrix in product([np.float64, np.float32], _forms(rows)):
        try:
            model = _convert(estimator, rows, returned, dtype, as_matrix=as_matrix, target_opset=target_opset)
            predicted = _predict(model, rows)
        except Exception as trouble:  # skl2onnx and onnxruntime each have several for steps that they lack
            refused[dtype] = trouble
            continue
        error = _largest_error(predicted, expected)
        if error <= TOLERANCE:
            return model
        found.append((error, model))
    if not found:
        raise refused[np.float32]
    error, model = min(found, key=itemgetter(0))
    reason = refused.get(np.float64, "skl2onnx has no other for them")
    warnings.warn(
        f"Some steps are in single precision ({reason}): predictions for X differ by up to {error:.1e} of their "
        "standard deviation. If that is too much, export the model without these steps.",
        stacklevel=2,
    )
    return model


def register_onnx_converters() -> None:
    """Teach skl2onnx to convert `TorchLinearRegressor` and `TorchLinearRegressorCV`, wherever they are in an estimator.

    Also :class:`~sklearn.compose.TransformedTargetRegressor`, if its transformer is a scaler, or its function is the
    inverse of an exponential, a logarithm, a square or a root.

    :func:`to_onnx` calls it. Call it yourself to use skl2onnx's own functions; the linear model is then calculated in
    double precision, and other steps in that of the input.
    """
    from skl2onnx import update_registered_converter  # noqa: PLC0415

    for estimator in (TorchLinearRegressor, TorchLinearRegressorCV):
        update_registered_converter(estimator, f"Torchlinreg{estimator.__name__}", _set_output, _add_linear_model)
    update_registered_converter(
        TransformedTargetRegressor,
        "TorchlinregTransformedTarget",
        _set_type_of_input,
        _add_inverse_transform,
        parser=_parse_transformed_target,
    )


def _set_output(operator) -> None:
    """Set type and shape of the predictions of a linear model."""
    from skl2onnx.common.data_types import guess_tensor_type  # noqa: PLC0415

    n_targets = len(np.atleast_2d(operator.raw_operator._dense_coef()))
    kind = type(guess_tensor_type(operator.inputs[0].type))
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension(), n_targets])


def _add_linear_model(scope, operator, container) -> None:
    """Add a linear model to a graph, calculated in double precision."""
    from onnx import TensorProto  # noqa: PLC0415
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxCast, OnnxConcat, OnnxMatMul  # noqa: PLC0415
    from skl2onnx.common.data_types import guess_proto_type  # noqa: PLC0415

    version = {"op_version": container.target_opset}
    model = operator.raw_operator
    coef, intercept = model._exact_weights() or (model._dense_coef(), model.intercept_)
    coef, intercept = np.atleast_2d(coef).T.astype(np.float64), np.atleast_1d(intercept).astype(np.float64)
    columns = [OnnxCast(given, to=TensorProto.DOUBLE, **version) for given in operator.inputs]
    features = columns[0] if len(columns) == 1 else OnnxConcat(*columns, axis=1, **version)
    predicted = OnnxAdd(OnnxMatMul(features, coef, **version), intercept, **version)
    kind = guess_proto_type(operator.outputs[0].type)
    OnnxCast(predicted, to=kind, output_names=operator.outputs, **version).add_to(scope, container)


def _parse_transformed_target(scope, model, inputs, custom_parsers=None) -> list:
    """Add a regressor to a graph, followed by the inverse of the transformation of its target."""
    from skl2onnx._parse import parse_sklearn  # noqa: PLC0415

    (predicted,) = parse_sklearn(scope, model.regressor_, inputs, custom_parsers)
    predicted.init_status(is_leaf=False)
    inverse = scope.declare_local_operator("TorchlinregTransformedTarget", model)
    inverse.inputs = [predicted]
    inverse.outputs.append(scope.declare_local_variable("variable", predicted.type))
    return inverse.outputs


def _set_type_of_input(operator) -> None:
    """Set type and shape of what is as large as the input."""
    operator.outputs[0].type = operator.inputs[0].type


def _add_inverse_transform(scope, operator, container) -> None:
    """Add the inverse of the transformation of a target to a graph."""
    from skl2onnx.algebra import onnx_ops  # noqa: PLC0415
    from skl2onnx.common.data_types import guess_numpy_type  # noqa: PLC0415

    (y,), version = operator.inputs, {"op_version": container.target_opset}
    dtype = guess_numpy_type(y.type)
    for name, *constants in _invert(operator.raw_operator.transformer_):
        constants = [np.asarray(constant, dtype) for constant in constants]
        y = getattr(onnx_ops, f"Onnx{name}")(y, *constants, **version)
    onnx_ops.OnnxIdentity(y, output_names=operator.outputs, **version).add_to(scope, container)


def _invert(transformer) -> list[tuple]:
    """Return the inverse of a transformation of targets, as ONNX's operators with constants."""
    if isinstance(transformer, SCALERS):
        ends = np.array([[0.0], [1.0]]).repeat(transformer.n_features_in_, axis=1)
        offset, other = transformer.inverse_transform(ends)
        return [("Mul", other - offset), ("Add", offset)]
    if isinstance(transformer, FunctionTransformer) and transformer.inverse_func in INVERSES:
        return INVERSES[transformer.inverse_func]
    functions = ", ".join(f"numpy.{each.__name__}" for each in INVERSES if each is not None)
    raise ValueError(
        f"ONNX cannot invert {transformer!r}: of transformations of the target it can invert scalers, and those whose "
        f"inverse_func is one of {functions}. Or export `regressor_`, and transform back what it predicts."
    )


def _read_rows(X) -> np.ndarray | pd.DataFrame:
    """Return rows of types that ONNX has: a category is the text or number that it stands for."""
    if isinstance(X, pd.DataFrame):
        return X.astype({name: kind.categories.dtype for name, kind in X.dtypes.items() if hasattr(kind, "categories")})
    if isinstance(X, np.ndarray):
        return X
    raise TypeError(f"X must be an array or a pandas.DataFrame, not {type(X).__name__}; convert it.")


def _to_precision(rows, kinds: str, dtype: type):
    """Return rows with what is of these kinds, by NumPy's letters, in this precision."""
    if isinstance(rows, pd.DataFrame):
        return rows.astype({name: dtype for name, found in rows.dtypes.items() if found.kind in kinds})
    return rows.astype(dtype) if rows.dtype.kind in kinds else rows


def _forms(rows) -> list[bool]:
    """Return whether to give the first step a matrix, or each column by its name, or to try one after the other."""
    if isinstance(rows, np.ndarray):
        return [True]
    return [True, False] if all(dtype.kind in NUMBERS for dtype in rows.dtypes) else [False]


def _inputs(rows) -> dict[str, np.ndarray]:
    """Return what an exported model is given, by name."""
    return {name: rows[[name]].to_numpy() for name in rows} if isinstance(rows, pd.DataFrame) else {"X": rows}


def _predict(model: "onnx.ModelProto", rows) -> np.ndarray:
    """Return predictions of an exported model."""
    import onnxruntime  # noqa: PLC0415

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, _inputs(rows))[0]


def _largest_error(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error, in standard deviations of a target's predictions."""
    expected = expected.reshape(predicted.shape)
    spread = expected.std(0)
    return float((np.abs(predicted - expected) / np.where(spread > 0, spread, 1 + np.abs(expected).max(0))).max())


def _convert(estimator, rows, returned: np.dtype, dtype: type, *, as_matrix: bool, target_opset: int | None):
    """Return a model that calculates in this precision, from inputs like the rows to an output of that type."""
    from skl2onnx import convert_sklearn  # noqa: PLC0415
    from skl2onnx.algebra.type_helper import guess_initial_types  # noqa: PLC0415

    numbers = _to_precision(rows, NUMBERS, dtype)
    types = guess_initial_types(np.asarray(numbers) if as_matrix else numbers)
    model = convert_sklearn(estimator, initial_types=types, target_opset=target_opset)
    return _with_ends(model, _inputs(rows), returned)


def _with_ends(model: "onnx.ModelProto", taken: dict[str, np.ndarray], returned: np.dtype) -> "onnx.ModelProto":
    """Return a model with casts before and after it, from inputs like these and to an output of that type."""
    from onnx import compose, helper  # noqa: PLC0415

    kept = dict.fromkeys(("nodes", "edges", "initializers", "value_infos", "functions"), False)
    name = model.graph.output[0].name
    model = compose.add_prefix(model, "inner_", **{f"rename_{part}": False for part in kept})
    graph, output, joined = model.graph, model.graph.output[0], []
    inner = {given.name: given.type.tensor_type.elem_type for given in graph.input}
    if len(inner) < len(taken):
        ((matrix, kind),) = inner.items()
        inner = {f"inner_{number}": kind for number in range(len(taken))}
        joined = [helper.make_node("Concat", [*inner], [matrix], axis=1)]
    pairs = zip(taken, inner.items(), strict=True)
    before = [helper.make_node("Cast", [outer], [link], to=kind) for outer, (link, kind) in pairs]
    kind = helper.np_dtype_to_tensor_dtype(returned)
    nodes = [*before, *joined, *graph.node, helper.make_node("Cast", [output.name], [name], to=kind)]
    output.name, output.type.tensor_type.elem_type = name, kind
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    for outer, values in taken.items():
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        graph.input.append(helper.make_tensor_value_info(outer, kind, [None, values.shape[1]]))
    return model
