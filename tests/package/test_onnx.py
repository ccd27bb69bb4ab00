"""What onnxruntime predicts by an exported model is what `predict` does, in every fitted state and within pipelines."""

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import skl2onnx
import torch
from conftest import AT_AN_END
from fitted_states import FITTED_STATES, made_table
from scipy.sparse import csr_array
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.export import register_onnx_converters, to_onnx

TIME_STAMPS = 1.7e9  # seconds since 1970, where numbers in single precision are 128 apart


def predict_by(model, X):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"X": X} if isinstance(X, np.ndarray) else {name: X[[name]].to_numpy() for name in X}
    (predicted,) = session.run(None, feed)
    return predicted


def assert_agrees(predicted, expected):
    """One column for each target, equal to 1e-6 of the spread of the predictions of each."""
    expected = expected.reshape(len(expected), -1)
    assert predicted.shape == expected.shape
    assert np.all(np.abs(predicted - expected).max(0) <= 1e-6 * expected.std(0))


@pytest.fixture
def stamped():
    """Rows with a column of time stamps, an hour apart and hence lost in single precision, and two targets."""
    X, y = made_table()
    X[:, 0] = TIME_STAMPS + 3600 * np.arange(len(X))
    return X, y + (X[:, :1] - X[0, 0]) * [[1e-4, -1e-3]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("state", FITTED_STATES)
def test_every_fitted_state(state, dtype):
    X, y = made_table()
    model = FITTED_STATES[state](X, y)
    X = X.astype(dtype)
    predicted = predict_by(to_onnx(model, X), X)
    assert predicted.dtype == dtype
    assert_agrees(predicted, model.predict(X))


PIPELINES = {
    "alone": TorchLinearRegressor(),
    "cross-validated": TorchLinearRegressorCV(alphas=[1.0, 1e-6, 1e-9]),
    "pipeline": make_pipeline(StandardScaler(), TorchLinearRegressor()),
    "search": GridSearchCV(
        make_pipeline(RobustScaler(), TorchLinearRegressor(penalty="l2")), {"torchlinearregressor__alpha": [0.01, 0.1]}
    ),
    "search at random": RandomizedSearchCV(
        TorchLinearRegressor(penalty="l2"), {"alpha": [0.01, 0.1]}, n_iter=1, random_state=0
    ),
    "search within": make_pipeline(
        MinMaxScaler(), GridSearchCV(TorchLinearRegressor(penalty="l2"), {"alpha": [0.01, 0.1]})
    ),
    "target": TransformedTargetRegressor(
        make_pipeline(StandardScaler(), TorchLinearRegressor()), transformer=StandardScaler()
    ),
}


@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", PIPELINES)
@AT_AN_END
def test_digits_of_time_stamps_are_kept(stamped, kind, dtype, n_targets):
    X, y = stamped[0].astype(dtype), stamped[1][:, 0] if n_targets == 1 else stamped[1]
    model = PIPELINES[kind].fit(X, y)
    exported = to_onnx(model, X)
    (taken,) = exported.graph.input
    assert taken.type.tensor_type.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    predicted = predict_by(exported, X)
    assert predicted.dtype == dtype
    # Scalers round what they return to the type of what they are given, which loses these digits
    assert_agrees(predicted, model.predict(X if kind == "alone" else X.astype("float64")))


TARGETS = {
    "nothing": {},
    "exponential": {"func": np.log, "inverse_func": np.exp},
    "expm1": {"func": np.log1p, "inverse_func": np.expm1},
    "square": {"func": np.sqrt, "inverse_func": np.square},
    "root": {"func": np.square, "inverse_func": np.sqrt},
    "logarithm": {"func": np.exp, "inverse_func": np.log},
    "log1p": {"func": np.expm1, "inverse_func": np.log1p},
    **{f"{scaler}": {"transformer": scaler} for scaler in (StandardScaler(with_std=False), MaxAbsScaler())},
    "transformer": {"transformer": FunctionTransformer(np.log, np.exp)},
}


@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("transformation", TARGETS)
def test_transformed_targets(transformation, n_targets):
    X, y = made_table()
    y = 5 + y / np.abs(y).max()
    model = TransformedTargetRegressor(TorchLinearRegressor(), **TARGETS[transformation])
    model.fit(X, y[:, 0] if n_targets == 1 else y)
    for each in (model, make_pipeline(model), search_of(model).fit(X, y)):
        assert_agrees(predict_by(to_onnx(each, X), X), each.predict(X))


def search_of(model):
    return GridSearchCV(model, {"regressor__fit_intercept": [True]}, cv=2)


def test_a_transformation_without_an_inverse_in_onnx():
    X, y = made_table()
    model = TransformedTargetRegressor(TorchLinearRegressor(), func=np.cbrt, inverse_func=lambda y: y**3).fit(X, y)
    with pytest.raises(ValueError, match=r"(?s)ONNX cannot invert FunctionTransformer.* numpy.expm1.* `regressor_`"):
        to_onnx(model, X)


def test_frames_have_an_input_for_each_column(stamped, rng):
    X, y = stamped
    frame = pd.DataFrame(X, columns=["time", "rain (mm)", "sun", "clay"]).astype({"sun": "float32"})
    frame["plots"] = rng.integers(1, 4, len(frame))
    frame["drained"] = X[:, 1] > 5
    numbers = [
        TorchLinearRegressor().fit(frame, y),
        make_pipeline(StandardScaler(), TorchLinearRegressor()).fit(frame, y),
    ]
    frame["soil"] = rng.choice(["loam", "peat"], len(frame))
    frame["farm"] = pd.Categorical(rng.choice(["north", "south"], len(frame)))
    columns = make_column_transformer(
        (StandardScaler(), ["time", "rain (mm)"]),
        (OneHotEncoder(), ["soil", "farm", "plots"]),
        remainder="passthrough",
    )
    mixed = make_pipeline(columns, TorchLinearRegressor()).fit(frame, y)
    for model, rows in (*((each, frame.iloc[:, :6]) for each in numbers), (mixed, frame)):
        exported = to_onnx(model, rows)
        assert [given.name for given in exported.graph.input] == list(rows)
        assert_agrees(predict_by(exported, rows), model.predict(rows))


def test_single_precision_is_warned_of_where_it_shows(stamped):
    X, y = stamped
    model = make_pipeline(SimpleImputer(), TorchLinearRegressor())
    with pytest.warns(UserWarning, match=r"(?s)in single precision .*Imputer.* differ by up to .*e-0. of their stand"):
        exported = to_onnx(model.fit(X, y), X)
    assert predict_by(exported, X).dtype == "float64"
    X = np.round(X - X.mean(0), 1).astype("float32")
    X[3, 2] = np.nan
    assert_agrees(predict_by(to_onnx(model.fit(X, y), X), X), model.predict(X))


def test_skl2onnx_converts_them_once_they_are_registered(stamped):
    X, y = stamped
    model = TorchLinearRegressor().fit(X, y)
    register_onnx_converters()
    for dtype in ("float32", "float64"):
        rows = X.astype(dtype)
        assert_agrees(predict_by(skl2onnx.to_onnx(model, rows), rows), model.predict(rows))


def test_the_version_of_the_operators_is_the_users():
    X, y = made_table()
    exported = to_onnx(TorchLinearRegressor().fit(X, y), X, target_opset=15)
    assert {opset.domain: opset.version for opset in exported.opset_import}[""] == 15


def test_what_cannot_be_exported_is_refused():
    X, y = made_table()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        to_onnx(TorchLinearRegressor(), X)
    model = TorchLinearRegressor().fit(X, y)
    for rows in (torch.from_numpy(X), csr_array(X), X.tolist()):
        with pytest.raises(TypeError, match=r"X must be an array or a pandas.DataFrame, not \w+; convert it"):
            to_onnx(model, rows)
    with pytest.raises(RuntimeError, match=r"Unable to find a shape calculator for type.*SplineTransformer"):
        to_onnx(make_pipeline(SplineTransformer(), model).fit(X, y), X)
