"""Frames of pandas, polars and pyarrow in; refusals that name the columns and the way out."""

import datetime
import re
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import needs_scikit_learn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from torchlinreg import TorchLinearRegressor
from torchlinreg.inputs.frames import MOST_NAMES, naming_columns


@np.errstate(invalid="ignore")  # pandas before 3 tries whether infinity is an integer
def nullable_frame(columns, dtype_backend="numpy_nullable"):
    return pd.DataFrame(columns).convert_dtypes(dtype_backend=dtype_backend)


FRAMES = {
    "pandas": pd.DataFrame,
    "pandas nullable": nullable_frame,
    "pandas on arrow": partial(nullable_frame, dtype_backend="pyarrow"),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "pyarrow chunked": lambda columns: pa.concat_tables([pa.table(columns).slice(0, 7), pa.table(columns).slice(7)]),
}
SERIES = {
    "pandas": pd.Series,
    "pandas nullable": lambda values: pd.Series(values).convert_dtypes(),
    "pandas on arrow": lambda values: pd.Series(values).convert_dtypes(dtype_backend="pyarrow"),
    "polars": pl.Series,
    "pyarrow": lambda values: pa.chunked_array([values]),
    "pyarrow chunked": lambda values: pa.chunked_array([values[:7], values[7:]]),
    "pyarrow array": pa.array,
}


@pytest.fixture(params=FRAMES)
def make_frame(request):
    """Make a frame of each library from columns by name."""
    return FRAMES[request.param]


@pytest.fixture(params=SERIES)
def make_series(request):
    """Make a column of each library."""
    return SERIES[request.param]


@pytest.fixture
def columns(rng):
    """Columns of several types, by name."""
    return {
        "rain": rng.normal(900, 200, 40),
        "days": rng.integers(0, 100, 40),
        "irrigated": rng.integers(0, 2, 40).astype(bool),
    }


@pytest.fixture
def target(columns, rng):
    return 0.05 * columns["rain"] - columns["days"] + 10.0 * columns["irrigated"] + rng.normal(size=40)


@pytest.fixture
def table(columns):
    return np.column_stack([*columns.values()])


# The same answer, and the names


def test_frame_gives_what_the_array_gives(columns, target, table, make_frame):
    model = TorchLinearRegressor(random_state=0)
    expected = model.fit(table, target).coef_
    X = make_frame(columns)
    model.fit(X, target)
    assert_array_equal(model.coef_, expected)
    assert model.feature_names_in_.tolist() == list(columns)
    assert model.n_features_in_ == 3
    predicted = model.predict(X)
    assert type(predicted) is np.ndarray
    assert_allclose(predicted, table @ expected + model.intercept_)
    assert model.score(X, target) == pytest.approx(LinearRegression().fit(X, target).score(X, target))


def test_series_as_target_and_as_weights(columns, target, table, make_series):
    weight = np.linspace(0.1, 2.0, 40)
    model = TorchLinearRegressor(random_state=0)
    expected = model.fit(table, target, sample_weight=weight).coef_
    score = model.score(table, target, sample_weight=weight)
    y, weight = make_series(target), make_series(weight)
    model.fit(table, y, sample_weight=weight)
    assert_array_equal(model.coef_, expected)
    assert np.shape(model.intercept_) == ()
    assert model.predict(table).shape == (40,)
    assert model.score(table, y, sample_weight=weight) == pytest.approx(score)


def test_frame_as_targets(columns, target, table, make_frame):
    targets = {"plus": target, "minus": 3.0 - 2.0 * target}
    model = TorchLinearRegressor(random_state=0).fit(table, make_frame(targets))
    assert_array_equal(model.coef_, TorchLinearRegressor(random_state=0).fit(table, np.c_[*targets.values()]).coef_)
    assert model.predict(table).shape == (40, 2)


@pytest.mark.parametrize("library", FRAMES)
def test_single_precision_stays_single(columns, target, library):
    singles = {name: np.asarray(values, dtype="float32") for name, values in columns.items()}
    X = pa.table(singles) if library.startswith("pyarrow") else FRAMES[library](singles)
    if library == "pandas nullable":
        X = pd.DataFrame(singles).astype("Float32")
    elif library == "pandas on arrow":
        X = pd.DataFrame(singles).astype("float[pyarrow]")
    model = TorchLinearRegressor(random_state=0).fit(X, target)
    assert model.coef_.dtype == np.float32
    assert model.predict(X).dtype == np.float32


def test_names_are_compared_across_libraries(columns, target, make_frame):
    model = TorchLinearRegressor().fit(make_frame(columns), target)
    expected = model.predict(make_frame(columns))
    for make in FRAMES.values():
        assert_array_equal(model.predict(make(columns)), expected)
        with pytest.raises(ValueError, match="same order"):
            model.predict(make(dict(reversed(columns.items()))))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_transformers_set_to_frames_feed_the_estimator(columns, target, library):
    X = FRAMES[library]({**columns, "soil": ["clay", "loam"] * 20})
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["soil"]),
        remainder=StandardScaler(),
        verbose_feature_names_out=False,
    )
    pipeline = make_pipeline(encode, TorchLinearRegressor(random_state=0)).set_output(transform=library)
    truth = make_pipeline(encode, LinearRegression()).set_output(transform=library).fit(X, target)
    pipeline.fit(X, target)
    assert pipeline[-1].feature_names_in_.tolist() == ["soil_clay", "soil_loam", *columns]
    predicted = pipeline.predict(X)
    assert type(predicted) is np.ndarray
    assert_allclose(predicted, truth.predict(X), atol=1e-8)


OLDER = needs_scikit_learn("1.9", "an older scikit-learn cannot split tables of pyarrow")


@pytest.mark.parametrize("library", ["pandas", "polars", pytest.param("pyarrow", marks=OLDER)])
def test_model_selection_over_frames(columns, target, library):
    X, y = FRAMES[library](columns), SERIES[library](target)
    mine, truth = (cross_val_score(model, X, y) for model in (TorchLinearRegressor(), LinearRegression()))
    assert_allclose(mine, truth)
    grid = GridSearchCV(TorchLinearRegressor(penalty="l2"), {"alpha": [0.01, 10.0]}, error_score="raise").fit(X, y)
    assert grid.best_estimator_.feature_names_in_.tolist() == list(columns)


# Refusals


def refusal(X, y, **parameters):
    with pytest.raises((ValueError, TypeError)) as raised:
        TorchLinearRegressor(**parameters).fit(X, y)
    return str(raised.value)


def with_missing(columns):
    lists = {name: values.tolist() for name, values in columns.items()}
    for name in ("days", "irrigated"):
        lists[name][3] = None
    return lists


def test_missing_values_are_refused_by_column(columns, target, make_frame):
    message = refusal(make_frame(with_missing(columns)), target)
    assert "Input X contains NaN." in message
    assert "Missing values in columns 'days', 'irrigated' of X. Fill them with sklearn.impute.SimpleImputer" in message
    assert "'rain'" not in message


@pytest.mark.parametrize("library", ["pandas", "pandas nullable", "polars"])
def test_the_imputer_that_is_named_helps(columns, target, library):
    X = FRAMES[library](
        with_missing(
            {name: values for name, values in columns.items() if name != "irrigated"}
            | {"irrigated": columns["irrigated"].astype(float)}
        )
    )
    model = make_pipeline(SimpleImputer(), TorchLinearRegressor()).fit(X, target)
    assert np.isfinite(model.predict(X)).all()


def test_missing_values_are_refused_in_predict(columns, target, make_frame):
    model = TorchLinearRegressor().fit(make_frame(columns), target)
    with pytest.raises(ValueError, match=r"Input X contains NaN(.|\n)*columns 'days', 'irrigated' of X"):
        model.predict(make_frame(with_missing(columns)))


def test_missing_targets_are_refused(columns, target, table, make_series, make_frame):
    missing = target.tolist()
    missing[5] = None
    assert re.search(r"Input y contains NaN.\nMissing values in y. Drop", refusal(table, make_series(missing)))
    message = refusal(table, make_frame({"yield": missing, "other": target}))
    assert "Missing values in column 'yield' of y. Drop" in message


def test_infinite_values_are_refused_by_column(columns, target, make_frame):
    columns["rain"][-1] = np.inf
    message = refusal(make_frame(columns), target)
    assert "Input X contains infinity" in message
    assert "Infinite values in column 'rain' of X. Clip them" in message


@pytest.mark.parametrize("kind", ["text", "category"])
def test_categories_are_refused_by_column(columns, target, make_frame, kind):
    X = make_frame({**columns, "soil": ["clay", "loam"] * 20})
    if kind == "category":
        if isinstance(X, pd.DataFrame):
            X = X.astype({"soil": "category"})
        elif isinstance(X, pl.DataFrame):
            X = X.with_columns(pl.col("soil").cast(pl.Categorical))
        else:
            X = X.set_column(3, "soil", X["soil"].dictionary_encode())
    message = refusal(X, target)
    assert "No numbers in column 'soil' of X. Encode categories first, with sklearn.preprocessing.OneHotEnc" in message


def test_the_encoder_that_is_named_helps(columns, target, make_frame):
    X = make_frame({**columns, "soil": ["clay", "loam"] * 20})
    encode = make_column_transformer((OneHotEncoder(sparse_output=False), ["soil"]), remainder="passthrough")
    if isinstance(X, pa.Table):  # which scikit-learn's ColumnTransformer does not take
        X = X.to_pandas()
    assert make_pipeline(encode, TorchLinearRegressor()).fit(X, target).score(X, target) > 0.9


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_dates_are_refused_by_column(columns, target, make_frame, missing, alone):
    """Taken for numbers, a missing date would be a very large one."""
    dates = [datetime.datetime(2020, 1, 1) + datetime.timedelta(days=i) for i in range(40)]
    if missing:
        dates[3] = None
    message = refusal(make_frame({"sown": dates} if alone else {**columns, "sown": dates}), target)
    assert "Dates in column 'sown' of X. Turn them into numbers" in message


def test_dates_in_arrays_are_refused(table, target):
    dates = np.arange("2020-01-01", "2020-02-10", dtype="datetime64[D]")
    assert "Dates in X. Turn" in refusal(dates[:, None], target)
    assert "Dates in y." in refusal(table, dates)


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, np.ndarray.tolist], ids=["array", "tensor", "list"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "Missing"), (-np.inf, "Infinite")])
def test_columns_without_names_are_counted(table, target, convert, value, word):
    table = table.astype(float)
    table[4, 1] = value
    assert f"{word} values in column 1 of X" in refusal(convert(table), convert(target))
    table[2] = value
    assert f"{word} values in columns 0, 1, 2 of X" in refusal(convert(table), convert(target))


def test_names_that_are_no_text(table, target):
    X = pd.DataFrame(table, columns=[2020, 2021, 2022]).astype({2021: object})
    X.loc[3, 2021] = "many"
    assert "No numbers in column 2021 of X" in refusal(X, target)


def test_only_so_many_names_are_listed(rng):
    n = MOST_NAMES + 3
    message = refusal(np.full((4, n), np.nan), np.zeros(4))
    assert f"columns {', '.join(map(str, range(MOST_NAMES)))} and 3 more of X" in message


def test_several_troubles_are_all_named(columns, target, make_frame):
    columns["rain"][-1] = np.inf
    message = refusal(make_frame({**with_missing(columns), "soil": ["clay"] * 40}), target)
    for part in ("No numbers in column 'soil'", "Missing values in columns 'days'", "Infinite values in column 'rain'"):
        assert part in message


def test_numbers_too_large_for_a_float_are_refused():
    X = np.array([[1, 2], [3, 10**400]], dtype=object)
    assert re.search("too large.*\nNo numbers in column 1 of X", refusal(X, [1.0, 2.0]))
    assert re.search("too large.*\nNo numbers in y", refusal(np.eye(2), [1, 10**400]))


@pytest.mark.parametrize("weight", [np.nan, np.inf, [1.0, np.nan]])
def test_weights_are_finite(weight):
    with pytest.raises(ValueError, match="Input sample_weight contains"):
        TorchLinearRegressor().fit(np.eye(2), [1.0, 2.0], sample_weight=weight)


def test_other_refusals_are_left_as_they_are(table, target):
    with pytest.raises(KeyError, match="elsewhere"), naming_columns(X=table):
        raise KeyError("elsewhere")
    error = ValueError("something else")
    with pytest.raises(ValueError, match="something else") as raised, naming_columns(X=table, y=target):
        raise error
    assert raised.value is error
