"""Bootstrap intervals: the same as from rows that are really repeated, and as textbooks have them."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import AT_AN_END
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap
from torchlinreg.displays import CoefficientDisplay
from torchlinreg.engine.columns import resampling
from torchlinreg.engine.data.source import MemorySource, as_operator
from torchlinreg.engine.objective.losses import LOSSES, Huber
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.estimators.parameters.settings import make_settings
from torchlinreg.estimators.parameters.values import Parameters

TEXTBOOK = {"learning_rate": 1e-3, "max_iter": 3, "batch_size": "full"}
QUADRATIC = ("squared_error", "mse")
JUMPS = ("absolute_error", "quantile", "epsilon_insensitive")


def counts_of(n_rows, n_resamples, random_state):
    """Return what bootstrap draws, shape (n_resamples, n_rows)."""
    seed = int(np.random.RandomState(random_state).randint(2**31 - 1))
    return torch.cat([counts for _, counts in resampling.draw(n_rows, n_resamples, seed)]).numpy()


def coefficients(model, X, y, sample_weight=None):
    """Return what is learnt, in the order of the rows of the frame."""
    model = clone(model).fit(X, y, sample_weight)
    coef, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)[:, None]
    return (np.hstack([coef, intercept]) if model.fit_intercept else coef).ravel()


def by_repetition(model, X, y, n_resamples, random_state, sample_weight=None):
    """Fit each resample for itself, its rows written as often as they were drawn."""
    found = []
    for counts in counts_of(len(y), n_resamples, random_state):
        weight = None if sample_weight is None else np.repeat(sample_weight, counts)
        found.append(coefficients(model, np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0), weight))
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    columns = {"standard_error": np.std(found, axis=0, ddof=1), "low": low, "high": high}
    return pd.DataFrame({"estimate": coefficients(model, X, y, sample_weight), **columns})


def assert_same(frame, expected, tol):
    """Compare in units of the largest number of each row, which differ in their scales."""
    frame, expected = np.asarray(frame), np.asarray(expected)
    size = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(frame - expected) <= tol * size).all()


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("parameters", [{}, TEXTBOOK], ids=["untuned", "textbook"])
def test_same_as_repeated_rows(table, loss, penalty, parameters):
    X, y, weight = table
    strength = {} if penalty is None else {"alpha": 0.05}
    model = TorchLinearRegressor(loss=loss, penalty=penalty, random_state=0, **strength, **parameters)
    y, weight = (y, weight) if loss in QUADRATIC else (y[:, 0], None)
    frame = bootstrap(model, X, y, 2, random_state=3, sample_weight=weight)
    tol = 1e-9 if parameters or loss in QUADRATIC else 1e-2 if loss in JUMPS else 1e-5
    assert_same(frame, by_repetition(model, X, y, 2, 3, weight), tol)


@pytest.mark.parametrize(
    "parameters",
    [
        {"tol": 0.5, "n_iter_no_change": 1, "max_iter": 60},
        {"optimizer": "sgd", "optimizer_params": {"nesterov": True, "momentum": 0.5}},
        {"conditioning": "whiten"},
        {"average": True, "momentum": 0.5},
        {"backend": "autograd", "loss": torch.nn.SmoothL1Loss(), "penalty": "l1"},
        {"backend": "linear"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_textbook_same_as_repeated_rows(table, parameters):
    X, y, weight = table
    model = TorchLinearRegressor(**{**TEXTBOOK, "random_state": 0, **parameters})
    frame = bootstrap(model, X, y, 3, random_state=3, sample_weight=weight)
    assert_same(frame, by_repetition(model, X, y, 3, 3, weight), 1e-9)


@pytest.mark.parametrize("shape", [(60, 4), (400, 50)])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("penalty", [None, "l2"])
def test_products_and_training_agree(rng, monkeypatch, shape, fit_intercept, penalty):
    X = rng.normal(size=shape) * rng.uniform(0.1, 10, shape[1]) + 5
    y = X @ rng.normal(size=(shape[1], 2)) + rng.normal(size=(shape[0], 2))
    strength = {} if penalty is None else {"alpha": [0.1, 0.0]}
    model = TorchLinearRegressor(penalty=penalty, fit_intercept=fit_intercept, **strength)
    frames = []
    for few in (0, 100):
        monkeypatch.setattr(resampling, "FEW_FEATURES", few)
        frames.append(bootstrap(model, X, y, 20, random_state=0, sample_weight=rng.uniform(1, 1, shape[0])))
    assert_same(*frames, 1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tables_that_are_not_copied(rng, monkeypatch, dtype):
    X = rng.normal(size=(30_000, 20)) * rng.uniform(0.1, 10, 20) + 50
    y = X.sum(1) + rng.normal(size=30_000)
    model = TorchLinearRegressor(random_state=0)
    given = X.astype(dtype)
    expected = by_repetition(model, given.astype(float), y, 2, 0)[:-1]  # without the intercept, so far from the rows
    for few in (0, 100):
        monkeypatch.setattr(resampling, "FEW_FEATURES", few)
        assert_same(bootstrap(model, given, y, 2, random_state=0)[:-1], expected, 1e-8 if dtype == "float64" else 1e-3)


def test_standard_errors_of_the_textbook(rng):
    # With 2000 resamples a standard error is known to 1 / sqrt(2 * 2000) = 1.6 %. The formula takes the size of the
    # errors to have nothing to do with the features, which in a sample holds to sqrt((3 - 1) / 2000) / 2 = 1.6 %: both
    # together are 2.2 %, of which 10 % are more than four times as much
    X = rng.normal(size=(2000, 3)) * [1, 10, 0.1]
    y = X @ [1, 2, 3] + 4 + rng.normal(scale=2, size=2000)
    frame = bootstrap(TorchLinearRegressor(), X, y, 2000, random_state=0)
    ones = np.column_stack([X, np.ones(2000)])
    coef, squares = np.linalg.lstsq(ones, y, rcond=None)[:2]
    textbook = np.sqrt(np.diag(squares / (2000 - 4) * np.linalg.inv(ones.T @ ones)))
    np.testing.assert_allclose(frame["estimate"], coef, rtol=1e-8)
    np.testing.assert_allclose(frame["standard_error"], textbook, rtol=0.1)
    np.testing.assert_allclose(frame["low"], coef - 1.96 * textbook, atol=0.3 * textbook.max())
    half = bootstrap(TorchLinearRegressor(), X, y, 2000, 0.5, random_state=0)
    np.testing.assert_allclose((half["high"] - half["low"]) / (2 * 0.6745 * textbook), 1.0, rtol=0.15)


def test_intervals_hold_the_truth_about_as_often_as_they_say(rng):
    # 60 tables with 3 coefficients: 180 trials, of which 0.9 ± 0.022 succeed; short tables make percentiles narrow
    inside = []
    for seed in range(60):
        X = rng.normal(size=(100, 2))
        y = X @ [1.0, 0.0] + 2.0 + rng.standard_t(5, size=100)
        frame = bootstrap(TorchLinearRegressor(), X, y, 300, 0.9, random_state=seed)
        inside.append((frame["low"] < [1.0, 0.0, 2.0]) & (frame["high"] > [1.0, 0.0, 2.0]))
    assert 0.8 < np.mean(inside) < 0.97


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_same_random_state_same_frame(table, monkeypatch, loss):
    X, y, _ = table
    model = TorchLinearRegressor(loss=loss)
    frame = bootstrap(model, X, y, 30, random_state=7)
    pd.testing.assert_frame_equal(frame, bootstrap(model, X, y, 30, random_state=7))
    pd.testing.assert_frame_equal(frame, bootstrap(model, X, y, 30, random_state=np.random.RandomState(7)))
    assert not np.allclose(frame, bootstrap(model, X, y, 30, random_state=8))
    monkeypatch.setattr(resampling, "GROUP_ELEMENTS", 7 * len(X))
    monkeypatch.setattr(resampling, "BLOCK_ROWS", 16)
    assert_same(bootstrap(model, X, y, 30, random_state=7), frame, 1e-6)


def test_size_of_sample_weight_says_nothing(table):
    X, y, weight = table
    frame = bootstrap(TorchLinearRegressor(), X, y, 10, random_state=0, sample_weight=weight)
    assert_same(bootstrap(TorchLinearRegressor(), X, y, 10, random_state=0, sample_weight=1e5 * weight), frame, 1e-10)
    ones = bootstrap(TorchLinearRegressor(), X, y, 10, random_state=0, sample_weight=np.ones(60))
    assert_same(bootstrap(TorchLinearRegressor(), X, y, 10, random_state=0), ones, 1e-10)


@pytest.mark.parametrize(("loss", "tol"), [("squared_error", 1e-9), (Huber(1.35), 1e-4)])
def test_rows_that_a_resample_misses(rng, loss, tol):
    X = np.column_stack([rng.normal(size=50), np.arange(50) == 0])  # a category of a single row
    y = X @ [1.0, 3.0] + rng.normal(size=50)
    model = TorchLinearRegressor(loss=loss).fit(X, y)
    rows = MemorySource(as_operator(torch.from_numpy(X)), torch.from_numpy(y)[:, None])
    theta = torch.from_numpy(np.append(model.coef_, model.intercept_))[:, None]
    found = (
        resampling.resample(rows, make_settings(Parameters.of(model), rows, torch.float64), theta, 30, seed=0)
        .theta[:, 0]
        .numpy()
    )
    drawn = torch.cat([counts for _, counts in resampling.draw(50, 30, seed=0)]).numpy()
    assert 5 < (drawn[:, 0] == 0).sum() < 20
    for counts, (slope, category, intercept) in zip(drawn, found.T, strict=True):
        others = clone(model).fit(np.repeat(X[1:, :1], counts[1:], axis=0), np.repeat(y[1:], counts[1:]))
        assert slope == pytest.approx(others.coef_[0], abs=tol)
        assert intercept == pytest.approx(others.intercept_, abs=tol)
        # What the category makes of its row is known from it alone, or else stays as it was
        assert slope * X[0, 0] + category + intercept == pytest.approx(y[0], abs=100 * tol)


def test_fewer_rows_than_columns(rng):
    X = rng.normal(size=(5, 8))
    for model in (TorchLinearRegressor(), TorchLinearRegressor(fit_intercept=False, loss="huber")):
        frame = bootstrap(model, X, X[:, 0], 50, random_state=0)
        assert frame.abs().to_numpy().max() < 10


@pytest.mark.parametrize("penalty", [None, "l2"])
def test_columns_that_depend_on_each_other(table, penalty):
    X, y, _ = table
    X = np.column_stack([X, X[:, 0], np.ones(60)])
    model = TorchLinearRegressor(penalty=penalty, **({} if penalty is None else {"alpha": 0.01}))
    frame = bootstrap(model, X, y[:, 0], 5, random_state=0)
    assert_same(frame.drop("x5"), by_repetition(model, X, y[:, 0], 5, 0).drop(5), 1e-9)
    assert frame.loc["x5"].abs().max() < 1e-12


@pytest.mark.parametrize("loss", JUMPS)
def test_medians_of_resamples(rng, loss):
    # Some of these are done long before others, and must stay where they are
    y = rng.normal(size=50)
    frame = bootstrap(TorchLinearRegressor(loss=loss), np.zeros((50, 2)), y, 60, 0.999, random_state=0)
    assert (frame.loc[["x0", "x1"]] == 0).all(axis=None)
    assert -1 < frame.loc["intercept", "low"] < frame.loc["intercept", "high"] < 1


def test_frames_and_names(table):
    X, y, _ = table
    features = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    frame = bootstrap(TorchLinearRegressor(), features, pd.Series(y[:, 0], name="yield"), 3, random_state=0)
    assert frame.index.name == "feature"
    assert frame.index.tolist() == ["a", "b", "c", "d", "intercept"]
    assert frame.columns.tolist() == ["estimate", "standard_error", "low", "high"]
    assert (frame.dtypes == np.float64).all()
    targets = pd.DataFrame(y, columns=["apples", "oranges"])
    several = bootstrap(TorchLinearRegressor(), features, targets, 3, random_state=0)
    assert several.index.names == ["target", "feature"]
    assert several.loc["apples"].index.tolist() == frame.index.tolist()
    assert several.index.levels[0].tolist() == ["apples", "oranges"]
    np.testing.assert_allclose(several.loc["apples"], frame, rtol=1e-9)
    in_polars = bootstrap(TorchLinearRegressor(), pl.from_pandas(features), pl.from_pandas(targets), 3, random_state=0)
    pd.testing.assert_frame_equal(in_polars, several)
    plain = bootstrap(TorchLinearRegressor(fit_intercept=False), X, y[:, :1], 3, random_state=0)
    assert plain.index.tolist() == [("y0", f"x{number}") for number in range(4)]


@pytest.mark.parametrize("parameters", [{}, {"penalty": "l2"}, {"loss": "huber"}, {"penalty": "l1"}, TEXTBOOK], ids=str)
def test_devices(table, device, parameters):
    X, y, weight = table
    model = TorchLinearRegressor(random_state=0, **parameters)
    expected = bootstrap(model, X, y, 5, random_state=0, sample_weight=weight)
    model.set_params(device=device)
    assert_same(bootstrap(model, X, y, 5, random_state=0, sample_weight=weight), expected, 1e-5)


def joint(prediction, target):
    """A mean over whole rows, of which no target can be told apart."""
    return (prediction - target).square().sum(1).add(1.0).sqrt().mean()


@pytest.mark.parametrize("loss", [joint, torch.nn.functional.mse_loss], ids=["joint", "mse_loss"])
def test_functions_that_see_all_targets_of_a_row(table, loss):
    X, y, _ = table
    model = TorchLinearRegressor(loss=loss, backend="autograd", penalty="l2", alpha=0.1, **TEXTBOOK)
    assert_same(bootstrap(model, X, y, 3, random_state=0), by_repetition(model, X, y, 3, 0), 1e-9)


def test_kinds_of_tables(table, dtype):
    X, y, weight = table
    expected = bootstrap(TorchLinearRegressor(), X, y, 9, random_state=0, sample_weight=weight)
    X, y = X.astype(dtype), y.astype(dtype)
    tol = 1e-4 if dtype == "float32" else 1e-9
    for kind in (sparse.csr_array, sparse.csc_matrix, torch.from_numpy, np.asfortranarray, np.ndarray.tolist):
        frame = bootstrap(TorchLinearRegressor(), kind(X), y, 9, random_state=0, sample_weight=weight)
        assert_same(frame, expected, tol)
    tensors = (torch.from_numpy(part) for part in (X, y))
    frame = bootstrap(TorchLinearRegressor(), *tensors, 9, random_state=0, sample_weight=torch.from_numpy(weight))
    assert_same(frame, expected, tol)


def test_sparse_tables_of_many_columns(rng):
    X = sparse.random_array((80, 60), density=0.2, random_state=rng, format="csr")
    y = X @ rng.normal(size=60) + rng.normal(size=80)
    model = TorchLinearRegressor(penalty="l2", alpha=0.1)
    expected = by_repetition(model, X.toarray(), y, 3, 0)
    assert_same(bootstrap(model, X, y, 3, random_state=0), expected, 1e-8)


def test_pipelines(table):
    X, y, _ = table
    features = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), TorchLinearRegressor())
    frame = bootstrap(pipeline, features, y[:, 0], 5, random_state=0)
    steps = clone(pipeline[:-1]).fit(features)
    assert frame.index.tolist() == [*steps.get_feature_names_out(), "intercept"]
    expected = bootstrap(TorchLinearRegressor(), steps.transform(features), y[:, 0], 5, random_state=0)
    np.testing.assert_allclose(frame, expected)
    assert not hasattr(pipeline[0], "mean_")
    assert not hasattr(pipeline[-1], "coef_")
    alone = bootstrap(make_pipeline(TorchLinearRegressor()), features, y[:, 0], 5, random_state=0)
    pd.testing.assert_frame_equal(alone, bootstrap(TorchLinearRegressor(), features, y[:, 0], 5, random_state=0))
    nameless = make_pipeline(FunctionTransformer(np.abs), TorchLinearRegressor())
    assert bootstrap(nameless, X, y[:, 0], 5).index[0] == "x0"
    encoded = make_pipeline(OneHotEncoder(), TorchLinearRegressor())
    colours = bootstrap(encoded, pd.DataFrame({"colour": list("abc") * 20}), y[:, 0], 5)
    assert colours.index.tolist() == ["colour_a", "colour_b", "colour_c", "intercept"]


@AT_AN_END
def test_chosen_settings(table):
    X, y, _ = table
    search = TorchLinearRegressorCV(alphas=[1e-3, 1.0], penalty="elasticnet", l1_ratio=[0.1, 0.9], max_iter=2000)
    frame = bootstrap(make_pipeline(StandardScaler(), search), X, y[:, 0], 5, random_state=0)
    X = StandardScaler().fit_transform(X)
    chosen = TorchLinearRegressor(penalty="elasticnet", max_iter=2000, **clone(search).fit(X, y[:, 0]).best_params_)
    pd.testing.assert_frame_equal(frame, bootstrap(chosen, X, y[:, 0], 5, random_state=0))
    assert not hasattr(search, "alpha_")
    rates = TorchLinearRegressorCV(penalty=None, learning_rates=[1e-5, 1e-3], max_iter=5, random_state=0)
    best = clone(rates).fit(X, y).learning_rate_
    model = TorchLinearRegressor(learning_rate=best, max_iter=5, random_state=0)
    pd.testing.assert_frame_equal(bootstrap(rates, X, y, 5, random_state=0), bootstrap(model, X, y, 5, random_state=0))


def test_estimator_stays_as_it_is(table):
    X, y, _ = table
    model = TorchLinearRegressor().fit(X[:30], y[:30])
    before = model.coef_.copy()
    bootstrap(model, X, y, 3)
    np.testing.assert_array_equal(model.coef_, before)


def test_global_generators_are_left_alone(table):
    X, y, _ = table
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    bootstrap(TorchLinearRegressor(random_state=0, loss="huber"), X, y, 3, random_state=0)
    bootstrap(TorchLinearRegressor(random_state=0), X, y, 3, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            {"estimator": LinearRegression()},
            TypeError,
            "give a TorchLinearRegressor, a TorchLin.* or a Pip",
        ),
        ({"estimator": make_pipeline(StandardScaler())}, TypeError, "a Pipeline that ends in one of them"),
        ({"estimator": TorchLinearRegressor}, TypeError, "give a TorchLinearRegressor"),
        ({"estimator": TorchLinearRegressor(alpha=-1)}, ValueError, "alpha"),
        (
            {"estimator": TorchLinearRegressor(learning_rate=0.1, early_stopping=True)},
            ValueError,
            "early_stopping=True would hold rows out",
        ),
        ({"n_resamples": 1}, ValueError, "'n_resamples' parameter of bootstrap must be an int in the range"),
        ({"n_resamples": 10.0}, ValueError, "n_resamples"),
        (
            {"confidence_level": 1.0},
            ValueError,
            "'confidence_level' parameter of bootstrap must be a float in",
        ),
        ({"random_state": "x"}, ValueError, "random_state"),
        ({"sample_weight": np.zeros(60)}, ValueError, "sample_weight must not be all zero"),
        ({"sample_weight": np.eye(60)[0]}, ValueError, "sample_weight is zero for all rows of a resample"),
        ({"X": np.ones((3, 2))}, ValueError, "inconsistent numbers of samples"),
        ({"estimator": TorchLinearRegressor(learning_rate=10.0)}, ValueError, "largest stable rate"),
    ],
)
def test_refusals(table, given, kind, message):
    X, y, _ = table
    given = {"estimator": TorchLinearRegressor(), "X": X, "y": y, "n_resamples": 20, **given}
    with pytest.raises(kind, match=message):
        bootstrap(**given)


def test_divergence_on_a_resample(rng):
    # One row dominates: the rate is stable for the table, but not where that row counts several times
    X, y = rng.normal(size=(40, 1)), rng.normal(size=40)
    X[0] = 100.0
    model = TorchLinearRegressor(learning_rate=1.5 / (X**2).mean(), batch_size="full", max_iter=3000, random_state=0)
    with pytest.raises(ValueError, match=r"diverged on a resample, in epoch \d+: .*The largest stable rate is about"):
        bootstrap(model, X, y, 20, random_state=0)


def test_resamples_that_do_not_converge(table):
    X, y, _ = table
    model = TorchLinearRegressor(loss="huber", max_iter=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bootstrap(model, X, y[:, 0], 20, random_state=0)
    _, of_resamples = caught
    assert all(one.category is ConvergenceWarning for one in caught)
    assert "of 20 models of resamples did not meet tol=auto with max_iter=2" in str(of_resamples.message)
    assert of_resamples.filename == __file__


def test_picture(pyplot, table):
    X, y, _ = table
    features = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    display = CoefficientDisplay.from_estimator(TorchLinearRegressor(), features, y, n_resamples=20, random_state=0)
    frame = bootstrap(TorchLinearRegressor(), features, y, 20, random_state=0)
    assert len(display.axes_) == 2
    for name, low, high in zip(("y0", "y1"), display.low, display.high, strict=True):
        np.testing.assert_allclose(low, frame.loc[name, "low"][:-1])
        np.testing.assert_allclose(high, frame.loc[name, "high"][:-1])
