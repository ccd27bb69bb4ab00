"""`summary`: the numbers of statsmodels, without a rounding error where columns nearly depend on each other."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from exact_regression import exact_regression
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap
from torchlinreg.inference import summary


def of_statsmodels(X, y, weight=None, *, fit_intercept=True, alpha=0.05):
    X = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    model = sm.OLS(y, X) if weight is None else sm.WLS(y, X, weights=weight)
    return model.fit().summary2(alpha=alpha).tables[1]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "mse"])
def test_same_as_statsmodels(table, fit_intercept, weighted, loss):
    X, y, weight = table
    weight = weight if weighted else None
    model = TorchLinearRegressor(loss=loss, fit_intercept=fit_intercept)
    frame = summary(model, X, y, weight)
    names = ["x0", "x1", "x2", "x3", *["intercept"] * fit_intercept]
    assert frame.index.to_list() == [(target, name) for target in ("y0", "y1") for name in names]
    for target in range(2):
        expected = of_statsmodels(X, y[:, target], weight, fit_intercept=fit_intercept)
        found = frame.loc[f"y{target}"]
        assert found.columns.to_list() == expected.columns.to_list()
        assert_allclose(found, expected, rtol=1e-8)
    assert not hasattr(model, "coef_")


def test_level_names_and_containers(table, device):
    X, y, _ = table
    frame = pd.DataFrame(X, columns=["mass (kg)", "b", "c", "d"])
    found = summary(TorchLinearRegressor(), frame, y[:, 0], confidence_level=0.9)
    expected = of_statsmodels(X, y[:, 0], alpha=0.1)
    assert found.columns.to_list() == expected.columns.to_list()
    assert_allclose(found, expected, rtol=1e-8)
    assert found.index.to_list() == [*frame.columns, "intercept"]
    tensors = torch.tensor(X, device=device), torch.tensor(y[:, 0], device=device)
    for features, target in ((sparse.csr_array(X), y[:, 0]), tensors):
        again = summary(TorchLinearRegressor(), features, target, confidence_level=0.9)
        assert_allclose(again, found, rtol=1e-8)


def test_pipelines_are_summarised_by_what_their_last_step_gets(table):
    X, y, weight = table
    steps = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False))
    found = summary(make_pipeline(*steps, TorchLinearRegressor()), X, y[:, 0], weight)
    assert_allclose(found, of_statsmodels(steps.fit_transform(X), y[:, 0], weight), rtol=1e-8)
    assert found.index[4:6].to_list() == ["x0^2", "x0 x1"]


def exact_residual_ss(X, y, weight, *, fit_intercept):
    """Return the weighted sum of squared residuals as a fraction."""
    ((*coef,),) = exact_regression(X, y, weight, fit_intercept=fit_intercept)
    rows = zip(np.column_stack([X, np.ones(len(X))]).tolist(), y.tolist(), weight.tolist(), strict=True)
    return sum(
        Fraction(w) * (Fraction(t) - sum(c * Fraction(v) for c, v in zip(coef, row, strict=False))) ** 2
        for row, t, w in rows
    )


def test_columns_that_nearly_depend_on_each_other_cost_no_digits(rng):
    X = rng.normal(size=(40, 3)) * [1, 1e5, 1e-4] + [1e4, 3e6, 0]
    X = np.column_stack([X, 2 * X[:, 0] + 1e-4 * rng.normal(size=40)])
    y, weight = X @ [1, 2e-5, 3e3, 4] + rng.normal(size=40), rng.uniform(0.1, 3, 40)
    variance = exact_residual_ss(X, y, weight, fit_intercept=True) / (40 - 5)
    others = (exact_residual_ss(np.delete(X, j, 1), X[:, j], weight, fit_intercept=True) for j in range(4))
    of_ones = exact_residual_ss(X, np.ones(40), weight, fit_intercept=False)
    expected = [float(variance / left) ** 0.5 for left in (*others, of_ones)]
    assert_allclose(summary(TorchLinearRegressor(), X, y, weight)["Std.Err."], expected, rtol=1e-11)


def test_weights_are_relative_and_rows_without_any_do_not_count(table):
    X, y, weight = table
    expected = summary(TorchLinearRegressor(), X[10:], y[10:, 0], weight[10:])
    weight[:10] = 0
    assert_allclose(summary(TorchLinearRegressor(), X, y[:, 0], 7 * weight), expected, rtol=1e-10)


def test_bootstrap_goes_by_the_same_names(table):
    X, y, weight = table
    model = TorchLinearRegressor(loss="huber", penalty="l1", alpha=0.01)
    options = {"random_state": 0, "n_resamples": 50, "confidence_level": 0.8}
    found = summary(model, X, y, weight, standard_errors="bootstrap", **options)
    expected = bootstrap(model, X, y, sample_weight=weight, **options)
    assert found.columns.to_list() == ["Coef.", "Std.Err.", "z", "P>|z|", "[0.1", "0.9]"]
    assert_array_equal(found[["Coef.", "Std.Err.", "[0.1", "0.9]"]], expected)
    assert_array_equal(found["z"], found["Coef."] / found["Std.Err."])
    assert found.index.equals(expected.index)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (TorchLinearRegressor(penalty="l2"), "penalty='l2' keeps coefficients from"),
        (TorchLinearRegressorCV(alphas=[1e-9, 1e-2, 1e9]), "penalty='l2' keeps"),
        (TorchLinearRegressor(positive=True), "positive=True keeps"),
        (TorchLinearRegressor(loss="huber"), "loss='huber' is not squared"),
        (TorchLinearRegressor(learning_rate=1e-3, tol=None, max_iter=2), "learning_rate=0.001 may stop short"),
    ],
    ids=["penalty", "search", "positive", "loss", "textbook"],
)
def test_classical_is_for_least_squares(table, model, reason):
    with pytest.raises(ValueError, match=rf'and {reason}.*: use standard_errors="bootstrap"'):
        summary(model, table[0], table[1][:, 0])


def test_undetermined_coefficients_are_refused(table):
    X, y, _ = table
    with pytest.raises(ValueError, match=r"2 of 6 columns depend on the others or are constant.*drop them"):
        summary(TorchLinearRegressor(), np.column_stack([X, X[:, 0] - X[:, 1], np.full(60, 1e6)]), y)
    for n_rows in (2, 5):
        with pytest.raises(ValueError, match=r"drop them|rows leave nothing to tell the errors of 5 coefficients from"):
            summary(TorchLinearRegressor(), X[:n_rows], y[:n_rows])
    with pytest.raises(ValueError, match="'standard_errors' parameter of summary must be"):
        summary(TorchLinearRegressor(), X, y, standard_errors="HC0")
    with pytest.raises(TypeError, match="give a TorchLinearRegressor"):
        summary(StandardScaler(), X, y)
