"""`RegularizationPathDisplay`: coefficients against alpha."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import AT_AN_END
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, lasso_path
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.utils.validation import validate_data
from test_coefficient_displays import ALPHAS, assert_all_inside, legend

from torchlinreg import TorchLinearRegressorCV
from torchlinreg.displays import RegularizationPathDisplay


class RidgePath(RegressorMixin, BaseEstimator):
    """What a search over alpha leaves behind, without the search."""

    l1_ratio = 0.15

    def fit(self, X, y):
        X, y = validate_data(self, X, y, multi_output=True)
        covariance, slope = X.T @ X / len(X), X.T @ y / len(X)
        path = [np.linalg.solve(covariance + alpha * np.eye(X.shape[1]), slope).T for alpha in ALPHAS]
        self.path_alphas_, self.coef_path_ = np.array(ALPHAS), np.array(path)
        self.alphas_, self.alpha_ = self.path_alphas_, 1.0
        return self


@pytest.fixture
def frame(rng):
    X = pd.DataFrame(rng.normal(size=(30, 3)), columns=["size", "age", "rooms"])
    return X, X @ [1.0, -2.0, 0.5]


@pytest.mark.parametrize("make", [RidgePath, lambda: make_pipeline(StandardScaler(with_std=False), RidgePath())])
def test_path_from_estimator(pyplot, frame, make):
    model = make().fit(*frame)
    display = RegularizationPathDisplay.from_estimator(model)
    assert isinstance(display, RegularizationPathDisplay)
    assert display.lines_.shape == (1, 3)
    path = (model if isinstance(model, RidgePath) else model[-1]).coef_path_
    for line, coefs in zip(display.lines_[0], path.T, strict=True):
        assert_array_equal(line.get_xdata(), ALPHAS[::-1])
        assert_array_equal(line.get_ydata(), coefs[::-1])
    assert legend(display.ax_) == ["size", "age", "rooms", "alpha = 1"]
    assert [line.get_xdata() for line in display.alpha_lines_] == [[1.0, 1.0]]
    assert display.alpha_lines_[0].get_linestyle() == "--"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("alpha", "Coefficient")
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "linear")
    assert display.ax_.get_title() == ""
    assert display.figure_ is display.ax_.figure
    assert list(display.axes_) == [display.ax_]
    assert_all_inside(display.figure_)


def test_path_takes_names_from_the_transformers(pyplot, frame):
    X, y = frame
    squares = make_pipeline(PolynomialFeatures(2, interaction_only=True, include_bias=False), RidgePath())
    display = RegularizationPathDisplay.from_estimator(squares.fit(X, y))
    assert legend(display.ax_)[2:5] == ["rooms", "size age", "size rooms"]
    unnamed = make_pipeline(FunctionTransformer(np.exp), RidgePath()).fit(X.to_numpy(), y)
    assert legend(RegularizationPathDisplay.from_estimator(unnamed).ax_)[:3] == ["x0", "x1", "x2"]
    alone = make_pipeline(RidgePath()).fit(X.to_numpy(), y)
    assert legend(RegularizationPathDisplay.from_estimator(alone).ax_)[:3] == ["x0", "x1", "x2"]


def test_path_of_scikit_learn(pyplot, frame):
    alphas, coefs, _ = lasso_path(frame[0].to_numpy(), frame[1], alphas=np.geomspace(100, 0.1, 20))
    display = RegularizationPathDisplay(alphas, np.moveaxis(coefs, -1, 0)).plot()
    assert_array_equal(display.lines_[0, 1].get_ydata(), coefs[1, ::-1])
    assert display.alpha_lines_ == []
    assert legend(display.ax_) == ["x0", "x1", "x2"]


@AT_AN_END
@pytest.mark.parametrize(
    ("penalty", "l1_ratio", "label"),
    [
        ("elasticnet", [0.25, 0.75], r"alpha \(l1_ratio = 0.[27]5\)"),
        ("elasticnet", [0.25], "alpha"),
        ("elasticnet", 0.25, "alpha"),
        ("l1", 0.25, "alpha"),
    ],
)
def test_path_says_which_of_several_l1_ratios_it_is_for(pyplot, frame, penalty, l1_ratio, label):
    X, y = frame
    search = TorchLinearRegressorCV(penalty=penalty, l1_ratio=l1_ratio, alphas=3).fit(X, np.column_stack([y, -y]))
    display = RegularizationPathDisplay.from_estimator(make_pipeline(search))
    for ax in display.axes_:
        assert re.fullmatch(label, ax.get_xlabel())
        assert label == "alpha" or f"{search.l1_ratio_}" in ax.get_xlabel()


def test_path_has_axes_for_each_target(pyplot, frame):
    X, y = frame
    model = RidgePath().fit(X, np.column_stack([y, -y]))
    display = RegularizationPathDisplay.from_estimator(model)
    assert display.lines_.shape == (2, 3)
    for target, feature in np.ndindex(2, 3):
        line = display.lines_[target, feature]
        assert line.axes is display.axes_[target]
        assert line.get_color() == display.lines_[0, feature].get_color()
        assert_array_equal(line.get_ydata(), model.coef_path_[::-1, target, feature])
    assert [ax.get_title() for ax in display.axes_] == ["y0", "y1"]
    assert [ax.get_legend() is None for ax in display.axes_] == [True, False]

    _, axes = pyplot.subplots(2, 1)
    again = RegularizationPathDisplay.from_estimator(model, ax=axes, line_kwargs={"ls": ":", "c": "green"})
    assert list(again.axes_) == list(axes)
    assert {line.get_linestyle() for line in again.lines_.ravel()} == {":"}
    assert {line.get_color() for line in again.lines_.ravel()} == {"green"}


def test_path_draws_into_axes_of_the_user(pyplot):
    _, ax = pyplot.subplots()
    ax.set_title("mine")
    display = RegularizationPathDisplay(ALPHAS, np.eye(3)).plot(ax)
    assert display.ax_ is ax
    assert ax.get_title() == "mine"
    assert RegularizationPathDisplay(ALPHAS, np.eye(3), target_names=["yours"]).plot(ax).ax_.get_title() == "yours"


def test_path_names_the_largest_of_many(pyplot):
    final = np.zeros((2, 50))
    final[0, [3, 7, 20]] = [1e6, -2e6, 3e6]  # a target of another size, which is not to crowd out the first
    final[1, 30:40] = np.arange(10) / 10
    display = RegularizationPathDisplay([1.0, 0.1], [0 * final, final], alpha=0.3).plot()
    named = [3, 7, 20, 33, 34, 35, 36, 37, 38, 39]
    assert legend(display.axes_[1]) == [f"x{feature}" for feature in named] + ["alpha = 0.3"]
    assert display.axes_[1].get_legend().get_title().get_text() == "10 largest of 50"
    strong = [feature for feature in range(50) if display.lines_[1, feature].get_linewidth() > 1]
    assert strong == named
    assert len({(line.get_color(), line.get_linestyle()) for line in display.lines_[0, named]}) == 10


def test_path_of_one_alpha_is_dots(pyplot):
    display = RegularizationPathDisplay([0.5], [[1.0, 2.0]], alpha=0.5).plot()
    assert [line.get_marker() for line in display.lines_[0]] == ["o", "o"]
    assert display.ax_.get_xscale() == "log"
    assert RegularizationPathDisplay(ALPHAS, np.eye(3)).plot().lines_[0, 0].get_marker() == "None"


@pytest.mark.parametrize(
    ("alphas", "alpha", "scale"),
    [([1.0, 0.0], None, "symlog"), ([1.0, 0.1], 0.0, "symlog"), ([0.0], None, "linear"), ([2, 1], 1, "log")],
)
def test_path_has_a_place_for_zero(pyplot, alphas, alpha, scale):
    display = RegularizationPathDisplay(alphas, np.ones((len(alphas), 2)), alpha=alpha).plot()
    display.figure_.canvas.draw()
    assert display.ax_.get_xscale() == scale
    left, right = display.ax_.get_xlim()
    assert left <= min(alphas) <= max(alphas) <= right


def test_path_refuses(pyplot, frame):
    with pytest.raises(NotFittedError):
        RegularizationPathDisplay.from_estimator(RidgePath())
    for other in (LinearRegression(), make_pipeline(StandardScaler(), LinearRegression())):
        with pytest.raises(
            ValueError, match=r"LinearRegression keeps no coef_path_: pass a fitted TorchLinearRegressorCV"
        ):
            RegularizationPathDisplay.from_estimator(other.fit(*frame))
    with pytest.raises(ValueError, match=r"TransformedTargetRegressor keeps no coef_path_"):
        RegularizationPathDisplay.from_estimator(TransformedTargetRegressor().fit(*frame))


@pytest.mark.parametrize("alphas", [[], [[1.0]], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]])
def test_path_refuses_alphas(pyplot, alphas):
    with pytest.raises(
        ValueError, match=r"alphas must be finite numbers from zero on, got .* pass shape \(n_alphas,\)"
    ):
        RegularizationPathDisplay(alphas, np.ones((2, 3))).plot()


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 1, 1, 1), (2, 0)])
def test_path_refuses_coefs(pyplot, shape):
    with pytest.raises(ValueError, match=r"coefs has shape .* and there are 2 alphas: .* such as np.moveaxis"):
        RegularizationPathDisplay([1.0, 0.1], np.ones(shape)).plot()
