import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, PoissonRegressor, Ridge, SGDRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from torchlinreg.analysis.compare import compare
from torchlinreg.datasets import make_linear
from torchlinreg.estimators.regressor import TorchLinearRegressor

COLUMNS = ["R2 train", "R2 test", "max |coef - LinearRegression|", "fit seconds", "predict seconds"]
DIFFERENCE = COLUMNS[2]


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True, as_frame=True, scaled=False)


@pytest.fixture(scope="module")
def positive():
    """Features with spreads and offsets of their own, and a positive target."""
    X, y = make_linear(200, [0.01, -0.03, 0.02], 1.0, 0.01, random_state=0)
    return X * [1, 10, 0.1] + [5, 0, -3], y


def test_default_table(diabetes):
    table = compare(*diabetes)
    assert table.index.name == "estimator"
    assert list(table.index) == ["LinearRegression", "Ridge", "SGDRegressor (scaled)", "TorchLinearRegressor"]
    assert list(table.columns) == COLUMNS
    assert np.isfinite(table).all(axis=None)
    assert (table[["fit seconds", "predict seconds"]] > 0).all(axis=None)
    assert table.loc["LinearRegression", DIFFERENCE] == 0
    assert (table["R2 train"] > 0.4).all()


def test_scores_are_those_of_the_split(diabetes):
    X, y = diabetes
    table = compare(X, y, [Ridge()], test_size=100, random_state=7, n_repeats=1)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=100, random_state=7)
    ridge, line = Ridge().fit(X_train, y_train), LinearRegression().fit(X_train, y_train)
    wanted = [
        ridge.score(X_train, y_train),
        ridge.score(X_test, y_test),
        np.abs(ridge.coef_ - line.coef_).max(),
    ]
    assert_allclose(table.loc["Ridge"].iloc[:3], wanted, rtol=1e-12)


def test_several_targets():
    X, y = load_linnerud(return_X_y=True, as_frame=True)
    models = {"LinearRegression": LinearRegression(), "torch": TorchLinearRegressor(random_state=0)}
    table = compare(X, y, models)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    prediction = LinearRegression().fit(X_train, y_train).predict(X_test)
    assert table.loc["LinearRegression", "R2 test"] == pytest.approx(r2_score(y_test, prediction))
    assert table.loc["torch", DIFFERENCE] < 1e-6


def test_several_targets_by_default():
    X, y = make_linear(300, [[1, 2], [3, -4]], [0, 5], random_state=0)
    table = compare(X, y)
    assert len(table) == 4
    assert (table["R2 test"] > 0.99).all()
    assert (table[DIFFERENCE] < 0.05).all()


@pytest.mark.parametrize(
    "transformers",
    [
        [StandardScaler()],
        [StandardScaler(with_std=False)],
        [MinMaxScaler()],
        [MaxAbsScaler()],
        [RobustScaler()],
        ["passthrough"],
        [MinMaxScaler(), StandardScaler()],
    ],
    ids=str,
)
def test_coefficients_come_back_from_behind_scalers(positive, transformers):
    table = compare(*positive, [make_pipeline(*transformers, LinearRegression())])
    assert table[DIFFERENCE].iloc[0] < 1e-12


@pytest.mark.parametrize(
    "estimator",
    [
        MultiOutputRegressor(make_pipeline(StandardScaler(), LinearRegression())),
        make_pipeline(StandardScaler(), MultiOutputRegressor(LinearRegression())),
        GridSearchCV(LinearRegression(), {"fit_intercept": [True]}, cv=3),
    ],
    ids=["columns of pipelines", "pipeline of columns", "search"],
)
def test_coefficients_come_out_of_wrappers(estimator):
    X, y = make_linear(100, [[1, 2], [3, -4]], [0, 5], random_state=0)
    assert compare(X, y, [estimator])[DIFFERENCE].iloc[0] < 1e-12


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(n_estimators=3, random_state=0),
        make_pipeline(PolynomialFeatures(2), LinearRegression()),
        make_pipeline(StandardScaler(), RandomForestRegressor(n_estimators=3, random_state=0)),
        PoissonRegressor(),
        MultiOutputRegressor(RandomForestRegressor(n_estimators=3, random_state=0)),
    ],
    ids=["forest", "polynomial", "pipeline", "exponential", "columns"],
)
def test_not_linear_has_no_coefficients_to_compare(positive, estimator):
    X, y = positive
    y = np.exp(3 * y)
    y = np.column_stack([y, y]) if isinstance(estimator, MultiOutputRegressor) else y
    table = compare(X, y, {"it": estimator})
    assert np.isnan(table.loc["it", DIFFERENCE])
    assert np.isfinite(table.loc["it"].drop(DIFFERENCE)).all()


def test_a_constant_model_is_linear(positive):
    X, y = positive
    table = compare(X, y, [Ridge(alpha=1e15)])
    wanted = np.abs(LinearRegression().fit(X, y).coef_).max()
    assert_allclose(table[DIFFERENCE], wanted, rtol=0.2)


def test_names_of_a_list(positive):
    pipeline = make_pipeline(StandardScaler(), "passthrough", SGDRegressor(random_state=0))
    table = compare(*positive, [Ridge(), Ridge(alpha=10.0), pipeline])
    assert list(table.index) == ["Ridge", "Ridge (2)", "StandardScaler + SGDRegressor"]


def test_warnings_come_once_and_with_a_name(positive):
    X, y = positive
    sgd = MultiOutputRegressor(SGDRegressor(max_iter=1, tol=1e-9, random_state=0))
    with pytest.warns(ConvergenceWarning, match=r"^hasty: Maximum number") as caught:
        compare(X, np.column_stack([y, y]), {"hasty": make_pipeline(StandardScaler(), sgd)})
    assert len(caught) == 1


def test_estimators_and_data_are_left_alone(diabetes):
    X, y = (table.copy() for table in diabetes)
    models = {"ridge": Ridge()}
    compare(X, y, models)
    assert not hasattr(models["ridge"], "coef_")
    pd.testing.assert_frame_equal(X, diabetes[0])
    pd.testing.assert_series_equal(y, diabetes[1])


@pytest.mark.parametrize("change", [np.asarray, pd.Series, lambda y: y[:, np.newaxis], list])
def test_one_target_in_any_shape(positive, change):
    X, y = positive
    wanted = compare(X, y, [Ridge()], n_repeats=1).iloc[:, :3]
    pd.testing.assert_frame_equal(compare(X, change(y), [Ridge()], n_repeats=1).iloc[:, :3], wanted)


def test_integer_and_boolean_columns():
    X = pd.DataFrame({"rooms": [1, 2, 3, 4, 5, 6, 7, 8], "garden": [True, False] * 4})
    y = 3 * X["rooms"] + 10 * X["garden"]
    assert (compare(X, y, [LinearRegression(), TorchLinearRegressor(random_state=0)])["R2 test"] > 0.999).all()


@pytest.mark.parametrize("dtype", ["str", "category", "datetime64[ns]"])
def test_text_columns_are_named(dtype):
    X = pd.DataFrame({"rooms": [1, 2, 3, 4], "city": pd.Series(["2001", "2002"] * 2).astype(dtype)})
    with pytest.raises(ValueError, match=r"not numeric: 'city'.*OneHotEncoder"):
        compare(X, [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"not numeric: 'city'"):
        compare(X[["rooms"]], X["city"])


@pytest.fixture
def houses():
    """Texts, dates and gaps among the features, and a target that depends on them."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"rooms": rng.integers(1, 9, 80).astype(float), "city": ["Bern", "Basel"] * 40})
    X["sold"] = pd.date_range("2020-01-01", periods=80)
    y = 3 * X["rooms"] + 10 * (X["city"] == "Bern") + rng.normal(size=80)
    X.loc[::9, "rooms"] = np.nan
    return X, y


def encoder():
    days = FunctionTransformer(lambda X: X.apply(lambda column: (column - pd.Timestamp("2020-01-01")).dt.days))
    return make_column_transformer(
        (SimpleImputer(), ["rooms"]), (OneHotEncoder(drop="first"), ["city"]), (days, ["sold"])
    )


class Untouched(RegressorMixin, BaseEstimator):
    """An estimator with preparations of its own, which sees to it that it gets the columns as they are."""

    def __init__(self, dtypes):
        self.dtypes = dtypes

    def fit(self, X, y):
        assert X.dtypes.equals(self.dtypes)
        self.coef_ = np.ones(3)
        self.mean_ = y.mean()
        return self

    def predict(self, X):
        assert X.dtypes.equals(self.dtypes)
        return np.full(len(X), self.mean_)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: GridSearchCV(model, {}, cv=3)])
def test_pipelines_get_the_frame_as_it_is(houses, wrap):
    X, y = houses
    models = {
        "line": make_pipeline(encoder(), LinearRegression()),
        "scaled": make_pipeline(encoder(), StandardScaler(), LinearRegression()),
        "ridge": make_pipeline(encoder(), Ridge(alpha=10.0)),
        "torch": make_pipeline(encoder(), StandardScaler(), TorchLinearRegressor(random_state=0)),
        "own": Untouched(X.dtypes),
    }
    models = {name: model if name == "own" else wrap(model) for name, model in models.items()}
    table = compare(X, y, models)
    assert list(table.columns) == COLUMNS
    assert list(table.index) == list(models)
    assert (table["R2 test"].drop("own") > 0.5).all()
    X_train, _, y_train, _ = train_test_split(X, y, random_state=0)
    numbers = encoder().fit_transform(X_train)
    line, ridge = LinearRegression().fit(numbers, y_train), Ridge(alpha=10.0).fit(numbers, y_train)
    assert (table.loc[["line", "scaled", "torch"], DIFFERENCE] < 1e-8).all()
    assert table.loc["ridge", DIFFERENCE] == pytest.approx(np.abs(ridge.coef_ - line.coef_).max())
    assert np.isnan(table.loc["own", DIFFERENCE])


def test_missing_values_reach_those_who_take_them(houses):
    X, y = houses
    models = [make_pipeline(SimpleImputer(), LinearRegression()), HistGradientBoostingRegressor(max_iter=3)]
    for rooms in (X[["rooms"]], X[["rooms"]].to_numpy()):
        table = compare(rooms, y, models, n_repeats=1)
        assert table[DIFFERENCE].iloc[0] < 1e-12
        assert np.isnan(table[DIFFERENCE].iloc[1])


@pytest.mark.parametrize(
    "plain", [LinearRegression(), TorchLinearRegressor(), make_pipeline(StandardScaler(), Ridge())]
)
def test_plain_estimators_name_the_columns_that_they_cannot_use(houses, plain):
    models = {"good": make_pipeline(encoder(), Ridge()), "plain": plain}
    pattern = r"plain cannot use X as it is.*not numeric: 'city', 'sold'; missing or infinite values: 'rooms'.*Pipeline"
    with pytest.raises(ValueError, match=pattern):
        compare(*houses, models)


@pytest.mark.parametrize("column", [["1", "2"] * 40, pd.date_range("2020-01-01", periods=80)], ids=["digits", "dates"])
def test_texts_and_dates_are_not_taken_for_numbers(houses, column):
    X = pd.DataFrame({"odd": column})
    with pytest.raises(ValueError, match=r"LinearRegression cannot use X as it is .*not numeric: 'odd'"):
        compare(X, houses[1], [LinearRegression()])


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"estimators": []}, ValueError, "estimators is empty"),
        ({"estimators": Ridge()}, TypeError, "a mapping of names or a list"),
        ({"estimators": 3}, TypeError, "a mapping of names or a list"),
        ({"estimators": [Ridge]}, TypeError, "class"),
        ({"n_repeats": 0}, ValueError, "n_repeats"),
        ({"test_size": 1}, ValueError, "raise test_size"),
        ({"X": [[np.nan], [1], [2], [3], [4], [5]]}, ValueError, "NaN"),
        ({"y": [1, 2]}, ValueError, "inconsistent"),
    ],
)
def test_refuses(wrong, error, match):
    arguments = {"X": [[0], [1], [2], [3], [4], [5]], "y": [0, 1, 2, 3, 4, 6]} | wrong
    with pytest.raises(error, match=match):
        compare(**arguments)
