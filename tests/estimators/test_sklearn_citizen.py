"""The estimator goes wherever scikit-learn puts a regressor, and says there what `LinearRegression` says."""

import inspect
import io
import pickle
import pickletools

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import needs_scikit_learn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_regressor
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import make_regression
from sklearn.ensemble import BaggingRegressor, StackingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate, learning_curve
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.validation import check_is_fitted

from torchlinreg import TorchLinearRegressor

RTOL = 1e-6  # of the target's spread, where predictions are compared


@pytest.fixture(params=["analytic", "autograd", "linear"])
def ours(request):
    """An unfitted estimator of each backend, untuned."""
    return TorchLinearRegressor(backend=request.param, random_state=0)


@pytest.fixture
def data():
    """Sixty rows with four informative features of seven, an offset and some noise."""
    return make_regression(n_samples=60, n_features=7, n_informative=4, bias=20.0, noise=5.0, random_state=0)


@pytest.fixture
def frame():
    """A table of numbers and categories, and a target that depends on both."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "rainfall": rng.normal(900.0, 200.0, size=60),
            "soil": rng.choice(["clay", "loam", "sand"], size=60),
            "acidity": rng.normal(6.5, 0.5, size=60),
            "irrigated": pd.Series(rng.choice(["no", "yes"], size=60), dtype="category"),
        }
    )
    y = 0.05 * X["rainfall"] - 4.0 * X["acidity"] + 10.0 * (X["soil"] == "loam") + rng.normal(size=60)
    return X, y.rename("yield")


def assert_same_predictions(ours, truth, X, y):
    assert_allclose(ours.predict(X), truth.predict(X), rtol=0, atol=RTOL * np.std(np.asarray(y)))


# Composition


def test_pipeline(ours, data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), ours).fit(X, y)
    assert_same_predictions(pipeline, LinearRegression().fit(X, y), X, y)
    assert pipeline.score(X, y) == pytest.approx(LinearRegression().fit(X, y).score(X, y), rel=RTOL)
    assert pipeline[-1].coef_.shape == (7,)


def test_column_transformer_over_a_mixed_frame(ours, frame):
    X, y = frame

    def model(regressor):
        columns = ColumnTransformer(
            [
                ("numbers", StandardScaler(), ["rainfall", "acidity"]),
                ("categories", OneHotEncoder(sparse_output=False), ["soil", "irrigated"]),
            ]
        )
        return make_pipeline(columns.set_output(transform="pandas"), regressor).fit(X, y)

    mine, truth = model(ours), model(LinearRegression())
    assert_same_predictions(mine, truth, X, y)
    # The dummy columns of a category add up to one, so many answers fit equally well: the shortest is wanted.
    assert_allclose(mine[-1].coef_, truth[-1].coef_, atol=RTOL * np.std(y))
    assert_array_equal(mine[-1].feature_names_in_, mine[0].get_feature_names_out())


def test_set_output_in_a_pipeline(ours, frame):
    X, y = frame
    X = X[["rainfall", "acidity"]]
    pipeline = make_pipeline(StandardScaler(), ours).set_output(transform="pandas").fit(X, y)
    assert_array_equal(pipeline[-1].feature_names_in_, ["rainfall", "acidity"])
    prediction = pipeline.predict(X)
    assert isinstance(prediction, np.ndarray)
    assert_array_equal(prediction, pipeline[-1].predict(pipeline[:-1].transform(X)))


def test_transformed_target(ours, data):
    X, y = data
    y = np.exp(y / 100)

    def model(regressor):
        return TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp).fit(X, y)

    assert_same_predictions(model(ours), model(LinearRegression()), X, y)


def test_bagging(ours, data):
    X, y = data

    def model(regressor):
        return BaggingRegressor(regressor, n_estimators=5, max_features=0.8, random_state=0).fit(X, y)

    assert_same_predictions(model(ours), model(LinearRegression()), X, y)


def test_stacking(ours, data):
    X, y = data

    def model(regressor):
        tree = DecisionTreeRegressor(max_depth=2, random_state=0)
        return StackingRegressor([("line", regressor), ("tree", tree)], clone(regressor), cv=3).fit(X, y)

    assert_same_predictions(model(ours), model(LinearRegression()), X, y)


def test_multi_output(ours, data):
    X, y = data
    Y = np.column_stack([y, X[:, 0] - 3 * y])
    each = MultiOutputRegressor(ours).fit(X, Y)
    assert_same_predictions(each, LinearRegression().fit(X, Y), X, Y)
    assert_same_predictions(clone(ours).fit(X, Y), each, X, Y)


# Model selection


def test_grid_search_in_two_processes(data):
    X, y = data
    grid = {"fit_intercept": [True, False], "loss": ["squared_error", "mse"]}
    search = GridSearchCV(TorchLinearRegressor(random_state=0), grid, cv=3, n_jobs=2, error_score="raise")
    search.fit(X, y)
    truth = GridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}, cv=3).fit(X, y)
    assert search.best_params_["fit_intercept"] is True
    assert_same_predictions(search, truth, X, y)
    # Half the squared error has the same minimum, so each of the truth's scores stands twice.
    expected = np.repeat(truth.cv_results_["mean_test_score"], 2)
    assert_allclose(search.cv_results_["mean_test_score"], expected, rtol=RTOL)


def test_cross_val_score(ours, data):
    X, y = data
    assert_allclose(cross_val_score(ours, X, y), cross_val_score(LinearRegression(), X, y), rtol=RTOL)


def test_learning_curve(ours, data):
    X, y = data
    mine, truth = (
        learning_curve(regressor, X, y, train_sizes=[15, 30, 40], cv=3, error_score="raise")
        for regressor in (ours, LinearRegression())
    )
    for a, b in zip(mine, truth, strict=True):
        assert_allclose(a, b, rtol=RTOL)


def test_rfe(ours, data):
    X, y = data
    mine, truth = (RFE(regressor, n_features_to_select=2).fit(X, y) for regressor in (ours, LinearRegression()))
    assert_array_equal(mine.ranking_, truth.ranking_)
    assert_same_predictions(mine, truth, X, y)


def test_select_from_model(ours, data):
    X, y = data
    mine, truth = (SelectFromModel(regressor).fit(X, y) for regressor in (ours, LinearRegression()))
    assert_array_equal(mine.get_support(), truth.get_support())
    assert 0 < mine.get_support().sum() < 7


def test_permutation_importance(ours, data):
    X, y = data
    mine, truth = (
        permutation_importance(regressor.fit(X, y), X, y, n_repeats=3, random_state=0)
        for regressor in (ours, LinearRegression())
    )
    assert_allclose(mine.importances, truth.importances, rtol=RTOL, atol=RTOL)


# Copies


def test_clone(ours, data):
    X, y = data
    copy = clone(ours.fit(X, y))
    assert copy is not ours
    assert copy.get_params() == ours.get_params()
    assert vars(copy) == copy.get_params()
    assert_array_equal(copy.fit(X, y).coef_, ours.coef_)


def joblib_round_trip(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def pickle_round_trip(estimator):
    return pickle.loads(pickle.dumps(estimator))


@pytest.mark.parametrize("round_trip", [pickle_round_trip, joblib_round_trip])
def test_round_trip(ours, frame, round_trip):
    X, y = frame
    X = X[["rainfall", "acidity"]]
    copy = round_trip(ours.fit(X, y))
    assert_array_equal(copy.predict(X), ours.predict(X))
    assert_array_equal(copy.feature_names_in_, X.columns)
    assert copy.get_params() == ours.get_params()
    assert_array_equal(copy.fit(X, y).coef_, ours.coef_)


def test_nothing_of_torch_is_pickled(ours, data):
    stored = pickle.dumps(ours.fit(*data))
    names = [argument for _, argument, _ in pickletools.genops(stored) if isinstance(argument, str)]
    assert "TorchLinearRegressor" in names
    assert not [name for name in names if name == "torch" or name.startswith(("torch.", "torch "))]


# Sample weights and their routing


def weights(y):
    return np.random.default_rng(1).uniform(0.1, 3.0, size=len(y))


@needs_scikit_learn("1.9", "an older Pipeline asks for a request of its own to score with weights")
def test_routing_of_sample_weight(ours, data):
    X, y = data

    def scores(regressor):
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            clone(regressor).set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
        )
        params = {"sample_weight": weights(y)}
        return cross_validate(pipeline, X, y, params=params, cv=3, error_score="raise")["test_score"]

    with sklearn.config_context(enable_metadata_routing=True):
        weighted = scores(ours)
        assert_allclose(weighted, scores(LinearRegression()), rtol=RTOL)
    assert np.abs(weighted - cross_val_score(ours, X, y, cv=3)).min() > 1e-4


def test_routing_reaches_fit(ours, data):
    X, y = data
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), ours.set_fit_request(sample_weight=True))
        pipeline[0].set_fit_request(sample_weight=False)
        pipeline.fit(X, y, sample_weight=weights(y))
    assert_same_predictions(pipeline, LinearRegression().fit(X, y, sample_weight=weights(y)), X, y)


# Tables with names


def test_names_of_features(ours, frame):
    X, y = frame
    X = X[["rainfall", "acidity"]]
    ours.fit(X, y)
    assert_array_equal(ours.feature_names_in_, ["rainfall", "acidity"])
    assert ours.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(X.rename(columns={"acidity": "pH"}))
    with pytest.raises(ValueError, match="same order"):
        ours.predict(X[["acidity", "rainfall"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        ours.predict(X.to_numpy())
    with pytest.raises(ValueError, match="expecting 2 features"), pytest.warns(UserWarning, match="names"):
        ours.predict(X.to_numpy()[:, :1])


def test_names_that_come_late(ours, frame):
    X, y = frame
    X = X[["rainfall", "acidity"]]
    ours.fit(X.to_numpy(), y)
    assert not hasattr(ours, "feature_names_in_")
    with pytest.warns(UserWarning, match="fitted without feature names"):
        ours.predict(X)


@pytest.mark.parametrize(
    "target",
    [
        lambda y: y,
        lambda y: y.to_frame(),
        lambda y: pd.DataFrame({"plus": y, "minus": 3 - 2 * y}),
        lambda y: y.astype("float32"),
        lambda y: y.round().astype("int64"),
        lambda y: y.astype("Float64"),
    ],
    ids=["series", "one column", "two columns", "float32", "integers", "nullable"],
)
def test_target_from_pandas(ours, frame, target):
    X, y = frame
    X, y = X[["rainfall", "acidity"]], target(y)
    truth = LinearRegression().fit(X, y)
    ours.fit(X, y)
    assert ours.coef_.shape == truth.coef_.shape
    assert np.shape(ours.intercept_) == np.shape(truth.intercept_)
    prediction = ours.predict(X)
    assert isinstance(prediction, np.ndarray)
    assert prediction.shape == y.shape
    assert_same_predictions(ours, truth, X, y)
    assert ours.score(X, y) == pytest.approx(truth.score(X, y), rel=RTOL)


def test_shuffled_index_is_no_join(ours, frame):
    X, y = frame
    X = X[["rainfall", "acidity"]]
    turned = y.set_axis(y.index[::-1])
    assert_array_equal(clone(ours).fit(X, turned).coef_, ours.fit(X, y).coef_)


# The estimator itself


def test_parameters_and_their_defaults():
    signature = inspect.signature(TorchLinearRegressor).parameters
    defaults = {name: parameter.default for name, parameter in signature.items()}
    assert TorchLinearRegressor().get_params() == defaults
    assert {parameter.kind for parameter in signature.values()} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError):
        TorchLinearRegressor("mse")


def test_set_params():
    estimator = TorchLinearRegressor()
    assert estimator.set_params(loss="mse", max_iter=7) is estimator
    assert estimator.get_params() == TorchLinearRegressor(loss="mse", max_iter=7).get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'epochs'"):
        estimator.set_params(epochs=7)


def test_reprs(ours, data):
    text = f"TorchLinearRegressor(backend={ours.backend!r}, random_state=0)"
    assert repr(TorchLinearRegressor()) == "TorchLinearRegressor()"
    assert repr(ours) == text
    assert repr(ours.fit(*data)) == text
    for html in (estimator_html_repr(ours), make_pipeline(StandardScaler(), ours)._repr_html_()):
        assert "TorchLinearRegressor" in html
        assert "Fitted" in html


def test_tags(ours):
    tags = get_tags(ours)
    assert is_regressor(ours)
    assert tags.estimator_type == "regressor"
    assert tags.regressor_tags is not None
    assert tags.classifier_tags is None
    assert tags.target_tags.required
    assert tags.target_tags.multi_output
    assert tags.target_tags.single_output
    assert tags.input_tags.two_d_array
    assert not tags.input_tags.allow_nan
    assert not tags.no_validation


def test_not_fitted(ours, data):
    X, y = data
    for use in (lambda: ours.predict(X), lambda: ours.score(X, y), lambda: check_is_fitted(ours)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use()
    check_is_fitted(ours.fit(X, y))


def test_warm_start_goes_on_where_it_stopped(ours, data):
    ours.set_params(learning_rate=0.01, batch_size=8, max_iter=1, shuffle=False)
    at_once = clone(ours).set_params(max_iter=3).fit(*data)
    again_and_again = clone(ours).set_params(warm_start=True)
    for _ in range(3):
        again_and_again.fit(*data)
    assert_allclose(again_and_again.coef_, at_once.coef_, rtol=1e-12)
    assert_allclose(again_and_again.intercept_, at_once.intercept_, rtol=1e-12)


def test_untuned_warm_start_stays_at_the_answer(ours, data):
    X, y = data
    truth = LinearRegression().fit(X, y)
    ours.set_params(warm_start=True).fit(X, y)
    assert_same_predictions(ours.fit(X, y), truth, X, y)
