import builtins

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from torchlinreg.datasets import make_linear
from torchlinreg.displays import CoefficientDisplay, FitDisplay, LossCurveDisplay, RegularizationPathDisplay
from torchlinreg.regressor import TorchLinearRegressor


@pytest.fixture
def line():
    return make_linear(40, [3.0], 10.0, 0.5, random_state=0)


def textbook(X, y):
    return TorchLinearRegressor(learning_rate=0.05, max_iter=5, random_state=0).fit(X, y)


def test_loss_curve_from_estimator(pyplot, line):
    model = textbook(*line)
    display = LossCurveDisplay.from_estimator(model)
    assert isinstance(display, LossCurveDisplay)
    assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5])
    assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
    assert display.ax_.get_yscale() == "log"
    assert display.ax_.get_xlabel() == "Epoch"
    assert display.ax_.get_legend() is None
    assert display.figure_ is display.ax_.figure
    assert all(tick == int(tick) for tick in display.ax_.get_xticks())
    display.figure_.canvas.draw()


def test_loss_curve_of_a_pipeline_with_a_name(pyplot, line):
    pipeline = make_pipeline(StandardScaler(), TorchLinearRegressor(random_state=0)).fit(*line)
    _, ax = pyplot.subplots()
    display = LossCurveDisplay.from_estimator(pipeline, name="torch", ax=ax, line_kwargs={"c": "green", "lw": 3})
    assert display.ax_ is ax
    assert display.line_.get_color() == "green"
    assert display.line_.get_linewidth() == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["torch"]


def test_loss_curves_share_axes(pyplot):
    first = LossCurveDisplay([3, 2, 1], estimator_name="one").plot()
    second = LossCurveDisplay([4, 2, 1], estimator_name="two").plot(first.ax_, name="other")
    assert second.ax_ is first.ax_
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["one", "other"]


@pytest.mark.parametrize(("curve", "scale"), [([2, 1], "log"), ([1, 0], "linear"), ([-1, -2], "linear")])
def test_loss_curve_is_logarithmic_only_where_it_can_be(pyplot, curve, scale):
    assert LossCurveDisplay(curve).plot().ax_.get_yscale() == scale


@pytest.mark.parametrize(("n_epochs", "marker"), [(1, "o"), (500, "None")])
def test_loss_curve_marks_epochs_while_they_are_few(pyplot, n_epochs, marker):
    assert LossCurveDisplay(np.ones(n_epochs)).plot().line_.get_marker() == marker


def test_loss_curve_refuses(pyplot, line):
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(TorchLinearRegressor())
    with pytest.raises(ValueError, match=r"LinearRegression keeps no loss_curve_: pass a fitted Torch"):
        LossCurveDisplay.from_estimator(LinearRegression().fit(*line))
    with pytest.raises(ValueError, match="empty: fit for at least one epoch"):
        LossCurveDisplay([]).plot()


@pytest.mark.parametrize("make", [textbook, lambda X, y: LinearRegression().fit(X, y)], ids=["torch", "sklearn"])
def test_fit_from_estimator(pyplot, line, make):
    X, y = line
    model = make(X, y)
    display = FitDisplay.from_estimator(model, X, y)
    assert_array_equal(display.scatter_.get_offsets(), np.column_stack([X, y]))
    x_line, y_line = display.line_.get_data()
    assert (x_line[0], x_line[-1]) == (X.min(), X.max())
    assert_allclose(y_line, x_line * model.coef_ + model.intercept_, rtol=1e-12)
    assert display.line_.get_color() == "red"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("x", "y")
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


def test_fit_takes_the_names_of_a_frame(pyplot, line):
    X, y = pd.DataFrame(line[0], columns=["size"]), pd.Series(line[1], name="price")
    display = FitDisplay.from_estimator(LinearRegression().fit(X, y), X, y)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("size", "price")
    both = FitDisplay.from_estimator(LinearRegression().fit(X, y.to_frame()), X, y.to_frame())
    assert both.ax_.get_ylabel() == "price"


def test_fit_of_a_pipeline_is_a_curve(pyplot, line):
    X, y = line
    model = make_pipeline(PolynomialFeatures(2), LinearRegression()).fit(X, y**2)
    display = FitDisplay.from_estimator(model, X, y**2)
    assert np.ptp(np.diff(display.y_line, 2)) < 1e-9 < abs(np.diff(display.y_line, 2)).min()


def test_fit_style(pyplot, line):
    X, y = line
    _, ax = pyplot.subplots()
    display = FitDisplay.from_estimator(
        LinearRegression().fit(X, y), X, y, ax=ax, scatter_kwargs={"c": y, "ec": "k"}, line_kwargs={"ls": ":"}
    )
    assert display.ax_ is ax
    assert_array_equal(display.scatter_.get_array(), y)
    assert display.line_.get_linestyle() == ":"
    assert display.line_.get_color() == "red"


@pytest.mark.parametrize(("n_features", "n_targets"), [(2, 1), (1, 2)])
def test_fit_draws_one_feature_and_one_target(pyplot, n_features, n_targets):
    X, y = make_linear(20, np.ones((n_targets, n_features)), random_state=0)
    with pytest.raises(ValueError, match=r"one feature and one target.*PredictionErrorDisplay"):
        FitDisplay.from_estimator(LinearRegression().fit(X, y), X, y)


def test_fit_must_be_fitted(pyplot, line):
    with pytest.raises(NotFittedError):
        FitDisplay.from_estimator(TorchLinearRegressor(), *line)


@pytest.mark.parametrize(
    "display",
    [
        LossCurveDisplay([1.0]),
        FitDisplay([0], [0], [0, 1], [0, 1]),
        RegularizationPathDisplay([1.0], [[1.0]]),
        CoefficientDisplay([1.0], [0.5], [1.5]),
    ],
    ids=lambda display: type(display).__name__,
)
def test_without_matplotlib(monkeypatch, display):
    real = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "torchlinreg\[plot\]"'):
        display.plot()
