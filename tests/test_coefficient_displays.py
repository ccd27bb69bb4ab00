import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import same_color, to_rgba
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, lasso_path
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.utils.validation import validate_data

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.displays import CoefficientDisplay, RegularizationPathDisplay, coefficients

# Short lists of alphas are enough here, so that the best one is often at an end: test_paths.py hears of that
pytestmark = pytest.mark.filterwarnings("ignore:alpha_=.* is the (smallest|largest) of:UserWarning")

ALPHAS = [10.0, 1.0, 0.1]
LONG = "onehotencoder__the_street_that_it_is_in_North"


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


def intervals(*targets, features=("size", "age", "intercept")):
    """Make a frame as bootstrap returns it."""
    names = pd.Index(features, name="feature")
    if targets:
        names = pd.MultiIndex.from_product([targets, features], names=["target", "feature"])
    estimate = np.arange(len(names)) - 1.0
    columns = {"estimate": estimate, "standard_error": 0.3, "low": estimate - 0.6, "high": estimate + 0.6}
    return pd.DataFrame(columns, index=names)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def rows(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def assert_all_inside(figure):
    """Check that no text is cut off by the edge of the figure."""
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


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
    alphas, coefs, _ = lasso_path(frame[0].to_numpy(), frame[1], alphas=20)
    display = RegularizationPathDisplay(alphas, np.moveaxis(coefs, -1, 0)).plot()
    assert_array_equal(display.lines_[0, 1].get_ydata(), coefs[1, ::-1])
    assert display.alpha_lines_ == []
    assert legend(display.ax_) == ["x0", "x1", "x2"]


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
    assert len({line.get_color() for line in display.lines_[0, named]}) == 10


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


def test_intervals_from_frame(pyplot):
    display = CoefficientDisplay.from_frame(intervals())
    assert isinstance(display, CoefficientDisplay)
    assert rows(display.ax_) == ["size", "age"]
    assert_array_equal(display.scatters_[0].get_offsets(), [[-1, 0], [0, 1]])
    assert_allclose(display.lines_[0].get_segments(), [[[-1.6, 0], [-0.4, 0]], [[-0.6, 1], [0.6, 1]]])
    bottom, top = display.ax_.get_ylim()
    assert bottom > top  # the first feature is on top
    assert display.ax_.get_xlabel() == "Coefficient"
    assert display.ax_.get_title() == ""
    assert display.figure_ is display.ax_.figure
    assert list(display.axes_) == [display.ax_]
    assert_all_inside(display.figure_)


def test_intervals_that_leave_out_zero_are_stronger(pyplot):
    display = CoefficientDisplay([1, -1, 0.1, 1], [0.5, -2, -1, 0], [2, -0.5, 1, 2]).plot()
    strong, weak = to_rgba("tab:blue"), to_rgba("lightsteelblue")
    assert_allclose(display.lines_[0].get_colors(), [strong, strong, weak, weak])
    assert_allclose(display.scatters_[0].get_facecolors(), [strong, strong, weak, weak])


@pytest.mark.parametrize("targets", [(), ("price", "rent")])
def test_intervals_with_the_intercept(pyplot, targets):
    display = CoefficientDisplay.from_frame(intervals(*targets), intercept=True)
    assert rows(display.ax_) == ["size", "age", "intercept"]
    without = CoefficientDisplay.from_frame(intervals(*targets, features=["size", "age"]))
    assert rows(without.ax_) == ["size", "age"]


def test_intervals_keep_a_feature_called_intercept(pyplot):
    display = CoefficientDisplay.from_frame(intervals(features=["intercept", "age", "intercept"]))
    assert rows(display.ax_) == ["intercept", "age"]


def test_intervals_have_axes_for_each_target(pyplot):
    frame = intervals("price", "rent", "tax", "yield")
    display = CoefficientDisplay.from_frame(frame)
    assert [ax.get_title() for ax in display.axes_] == ["price", "rent", "tax", "yield"]
    assert len(display.figure_.axes) == 4
    for target, (ax, dots) in enumerate(zip(display.axes_, display.scatters_, strict=True)):
        assert dots.axes is ax
        assert_array_equal(dots.get_offsets(), [[3 * target - 1, 0], [3 * target, 1]])
        assert ax.get_ylim() == (1.5, -0.5)
    assert_all_inside(display.figure_)

    _, axes = pyplot.subplots(2, 2)
    style = {"scatter_kwargs": {"c": "black"}, "line_kwargs": {"lw": 5, "color": "orange"}}
    again = CoefficientDisplay.from_frame(frame, ax=axes, **style)
    assert list(again.axes_) == list(axes.ravel())
    assert same_color(again.scatters_[3].get_facecolors()[0], "black")
    assert same_color(again.lines_[3].get_colors()[0], "orange")
    assert again.lines_[3].get_linewidths() == [5]


def test_intervals_of_some_rows(pyplot):
    display = CoefficientDisplay.from_frame(intervals().sort_values("estimate", ascending=False))
    assert rows(display.ax_) == ["intercept", "age", "size"]  # it is at the end of all rows that it is left out


def test_intervals_from_estimator(pyplot, frame, monkeypatch):
    asked = []
    monkeypatch.setattr(
        coefficients, "bootstrap", lambda *given, **options: asked.append((given, options)) or intervals()
    )
    model = LinearRegression()
    _, ax = pyplot.subplots()
    options = {"n_resamples": 20, "confidence_level": 0.5, "random_state": 3}
    display = CoefficientDisplay.from_estimator(
        model, *frame, **options, ax=ax, intercept=True, scatter_kwargs={"s": 50}, line_kwargs={"lw": 4}
    )
    assert display.ax_ is ax
    assert rows(ax) == ["size", "age", "intercept"]
    assert display.scatters_[0].get_sizes() == [50]
    assert display.lines_[0].get_linewidths() == [4]
    CoefficientDisplay.from_estimator(model, *frame)
    assert [given[0] is model and given[1:] == frame for given, _ in asked] == [True, True]
    assert asked[0][1] == {"sample_weight": None, **options}
    defaults = {"sample_weight": None, "n_resamples": 1000, "confidence_level": 0.95, "random_state": None}
    assert asked[1][1] == defaults


@pytest.mark.parametrize(("n_features", "named"), [(1, 1), (50, 50), (100, 100), (400, 100)])
def test_intervals_make_room_for_names(pyplot, n_features, named):
    display = CoefficientDisplay(*np.ones((3, 2, n_features))).plot()
    assert len(rows(display.ax_)) == named
    assert display.ax_.get_yticks()[-1] < n_features


def test_intervals_in_small_axes_name_every_other_row(pyplot):
    _, ax = pyplot.subplots(figsize=(6, 4))
    CoefficientDisplay(*np.ones((3, 40)), feature_names=[f"number {i}" for i in range(40)]).plot(ax)
    assert rows(ax)[:3] == ["number 0", "number 2", "number 4"]


@pytest.mark.parametrize("n_targets", [1, 5])
@pytest.mark.parametrize("n_features", [40, 1000])
def test_intervals_of_many_features_fit_on_a_page(pyplot, n_targets, n_features):
    display = CoefficientDisplay(*np.ones((3, n_targets, n_features))).plot()
    assert display.figure_.get_size_inches()[1] <= 12
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.ax_.get_yticklabels()]
    assert len(boxes) >= 20
    assert all(below.y1 <= above.y0 + 1 for above, below in pairwise(boxes))


def test_intervals_say_what_colours_mean(pyplot):
    display = CoefficientDisplay([1, 2], [-1, 1], [3, 3]).plot()
    assert [text.get_text() for text in display.legend_.get_texts()] == [
        "interval leaves out zero",
        "interval crosses zero",
    ]
    assert [handle.get_color() for handle in display.legend_.legend_handles] == ["tab:blue", "lightsteelblue"]
    assert display.legend_.get_title().get_text() == ""
    assert display.legend_ in display.figure_.legends
    assert_all_inside(display.figure_)
    assert CoefficientDisplay([1, 2], [0.5, 1], [3, 3]).plot().legend_ is None
    assert CoefficientDisplay([1, 2], [-1, 1], [3, 3]).plot(line_kwargs={"color": "black"}).legend_ is None

    _, axes = pyplot.subplots(1, 2)
    both = CoefficientDisplay([[1, 2], [1, 2]], [[0.5, 1], [-1, 1]], [[3, 3], [3, 3]]).plot(axes)
    assert both.legend_ is axes[1].get_legend()
    assert axes[0].get_legend() is None


def test_intervals_largest_first(pyplot):
    display = CoefficientDisplay([1, -3, 2], [0, -4, 1], [2, -2, 3], feature_names="abc").plot(sort=True)
    assert rows(display.ax_) == ["b", "c", "a"]
    assert_array_equal(display.scatters_[0].get_offsets(), [[-3, 0], [2, 1], [1, 2]])
    assert_array_equal(display.lines_[0].get_segments()[0], [[-4, 0], [-2, 0]])
    weak = to_rgba("lightsteelblue")
    assert [tuple(color) == weak for color in display.lines_[0].get_colors()] == [False, False, True]


def test_intervals_of_the_largest(pyplot):
    estimate = np.array([[1.0, -3.0, 2.0, 0.5], [0.0, 200.0, 0.0, -300.0]])  # d is the largest of its target
    display = CoefficientDisplay(estimate, estimate - 0.1, estimate + 0.1, feature_names="abcd")
    display.plot(max_features=2)
    assert rows(display.ax_) == ["b", "d"]
    assert_array_equal(display.scatters_[1].get_offsets(), [[200, 0], [-300, 1]])
    assert display.legend_.get_title().get_text() == "2 largest of 4 features"
    assert display.legend_.get_texts() == []
    assert rows(display.plot(max_features=3, sort=True).ax_) == ["b", "d", "c"]
    assert rows(display.plot(max_features=9).ax_) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="max_features=0 leaves nothing to draw: give a number from one on, or None"):
        display.plot(max_features=0)


def test_intervals_in_standard_deviations(pyplot):
    display = CoefficientDisplay([[1.0, 2.0]], [[0.5, -1.0]], [[2.0, 3.0]], feature_stds=[10.0, 0.1]).plot(sort=True)
    assert rows(display.ax_) == ["x0", "x1"]  # which is the larger one only now
    assert_allclose(display.scatters_[0].get_offsets(), [[10, 0], [0.2, 1]])
    assert_allclose(display.lines_[0].get_segments(), [[[5, 0], [20, 0]], [[-0.1, 1], [0.3, 1]]])
    assert display.ax_.get_xlabel() == "Coefficient × standard deviation"
    with pytest.raises(ValueError, match=r"feature_stds has shape \(3,\), and there are 2 features: pass one for each"):
        CoefficientDisplay([1.0, 2.0], [1, 1], [2, 2], feature_stds=[1, 2, 3]).plot()


@pytest.mark.parametrize("targets", [(), ("price", "rent")])
@pytest.mark.parametrize("stds", [[2.0, 3.0], pd.Series({"age": 3.0, "rooms": 9.0, "size": 2.0})], ids=type)
@pytest.mark.parametrize("intercept", [True, False])
def test_intervals_from_frame_in_standard_deviations(pyplot, targets, stds, intercept):
    frame = intervals(*targets)
    display = CoefficientDisplay.from_frame(frame, feature_stds=stds, intercept=intercept)
    factors = [2, 3, 1][: 2 + intercept]
    estimates = frame["estimate"].to_numpy().reshape(-1, 3)[:, : 2 + intercept]
    for dots, estimate in zip(display.scatters_, estimates, strict=True):
        assert_array_equal(dots.get_offsets()[:, 0], estimate * factors)


def test_intervals_from_frame_refuse_standard_deviations(pyplot):
    with pytest.raises(ValueError, match=r"feature_stds has none for \['size'\]: pass that of each feature, such as X"):
        CoefficientDisplay.from_frame(intervals(), feature_stds=pd.Series({"age": 1.0}))
    with pytest.raises(ValueError, match=r"feature_stds has shape \(1,\), and there are 2 features: pass one for each"):
        CoefficientDisplay.from_frame(intervals(), feature_stds=[1.0])


KINDS = {
    "array": np.asarray,
    "frame": pd.DataFrame,
    "sparse": sparse.csr_array,
    "tensor": lambda X: torch.tensor(X, requires_grad=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [True, False])
def test_intervals_from_estimator_in_standard_deviations(pyplot, rng, kind, weighted):
    X = rng.normal(size=(50, 3)) * [1, 100, 0.01]
    y = X @ [1, 0.02, 30] + rng.normal(size=50)
    weight = rng.uniform(size=50) if weighted else None
    options = {"n_resamples": 5, "random_state": 0, "sample_weight": weight}
    model = TorchLinearRegressor()
    plain = CoefficientDisplay.from_estimator(model, X, y, **options)
    display = CoefficientDisplay.from_estimator(
        model, KINDS[kind](X), y, **options, standardize=True, sort=True, max_features=2
    )
    stds = np.sqrt(np.diag(np.cov(X.T, aweights=weight, ddof=0)))
    expected = (plain.estimate * stds)[0]
    largest = np.argsort(-np.abs(expected))[:2]
    assert_allclose(display.scatters_[0].get_offsets()[:, 0], expected[largest], rtol=1e-6)
    assert [int(name[-1]) for name in rows(display.ax_)] == list(largest)


def test_standard_deviations_are_those_after_the_transformers(pyplot, frame):
    X, y = frame
    model = make_pipeline(FunctionTransformer(lambda X: X * [1, 10, 100]), TorchLinearRegressor())
    options = {"n_resamples": 5, "random_state": 0, "standardize": True}
    display = CoefficientDisplay.from_estimator(model, X, y, **options)
    plain = CoefficientDisplay.from_estimator(model[-1], X, y, **options)
    assert_allclose(display.scatters_[0].get_offsets(), plain.scatters_[0].get_offsets(), rtol=1e-6)


TENSORS = {
    "graph": lambda values: torch.tensor(values, requires_grad=True),
    "bfloat16": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "negated": lambda values: torch._neg_view(-torch.tensor(values)),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_tensors_are_drawn(pyplot, tensor):
    values = np.array([[1.0, -2.0], [0.5, 4.0]])  # which bfloat16 has
    low, high, stds = values - 1, values + 1, np.array([2.0, 4.0])
    display = CoefficientDisplay(*map(tensor, (values, low, high)), feature_stds=tensor(stds)).plot()
    assert_array_equal(display.scatters_[1].get_offsets()[:, 0], values[1] * stds)
    path = RegularizationPathDisplay(tensor(np.array([1.0, 0.5])), tensor(values)).plot()
    assert_array_equal(path.lines_[0, 1].get_ydata(), [4.0, -2.0])


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_intervals_of_an_estimator_fitted_to_tensors(pyplot, rng, tensor):
    X, y = rng.integers(-4, 5, size=(40, 2)).astype(float), rng.integers(-4, 5, size=40).astype(float)
    options = {"n_resamples": 5, "random_state": 0, "standardize": True}
    display = CoefficientDisplay.from_estimator(TorchLinearRegressor(), tensor(X), tensor(y), **options)
    expected = CoefficientDisplay.from_estimator(TorchLinearRegressor(), X, y, **options)
    assert_allclose(display.scatters_[0].get_offsets(), expected.scatters_[0].get_offsets(), rtol=1e-6)


def test_intervals_refuse(pyplot):
    with pytest.raises(ValueError, match=r"frame lacks the columns \['low', 'high'\]: pass what torchlinreg.bootstrap"):
        CoefficientDisplay.from_frame(intervals()[["estimate", "standard_error"]])
    with pytest.raises(ValueError, match="frame has no rows"):
        CoefficientDisplay.from_frame(intervals("price").iloc[:0])
    mixed = pd.concat([intervals("price"), intervals("rent", features=["age", "size"])])
    with pytest.raises(ValueError, match="targets of frame differ in their features: give each the same"):
        CoefficientDisplay.from_frame(mixed)
    with pytest.raises(ValueError, match=r"shapes \[\(2,\), \(2,\), \(1, 2\)\]: pass \(n_features,\) or"):
        CoefficientDisplay([1, 2], [0, 1], [[2, 3]]).plot()
    with pytest.raises(ValueError, match=r"shapes \[\(0,\), \(0,\), \(0,\)\]"):
        CoefficientDisplay([], [], []).plot()


DISPLAYS = {
    "path": lambda values, **names: RegularizationPathDisplay(ALPHAS, [values, values, values], alpha=1, **names),
    "intervals": lambda values, **names: CoefficientDisplay(values, values - 1, values + 1, **names),
}


@pytest.fixture(params=DISPLAYS)
def make(request):
    """Return each display of coefficients, of shape (n_targets, n_features), in turn."""
    return DISPLAYS[request.param]


@pytest.mark.parametrize(("n_targets", "n_axes"), [(1, 2), (2, 1), (3, 4)])
def test_axes_are_as_many_as_targets(pyplot, make, n_targets, n_axes):
    _, axes = pyplot.subplots(1, n_axes)
    with pytest.raises(ValueError, match=rf"ax holds {n_axes} axes, and there are {n_targets} targets to draw: pass"):
        make(np.ones((n_targets, 2))).plot(axes)


def test_names_are_as_many_as_features(pyplot, make):
    with pytest.raises(ValueError, match="feature_names has 1 names for 2: pass one for each, or None"):
        make(np.ones((1, 2)), feature_names=["size"]).plot()
    with pytest.raises(ValueError, match="target_names has 3 names for 2: pass one for each, or None"):
        make(np.ones((2, 2)), target_names="abc").plot()


@pytest.mark.parametrize("n_features", [2, 50])
@pytest.mark.parametrize("n_targets", [1, 3, 5])
def test_long_names_are_shortened_and_nothing_is_cut_off(pyplot, make, n_targets, n_features):
    names = [f"{LONG}_{i}" for i in range(n_features)]
    values = np.arange(n_targets * n_features, dtype=float).reshape(n_targets, n_features)
    display = make(values, feature_names=names, target_names=[f"{LONG}_{i}" for i in range(n_targets)]).plot()
    assert_all_inside(display.figure_)
    texts = [text.get_text() for ax in display.axes_ if ax.get_legend() for text in ax.get_legend().get_texts()]
    texts = texts or rows(display.ax_)
    assert any(text.startswith("onehot") and text.endswith(f"in_North_{n_features - 1}") for text in texts)
    assert max(map(len, texts)) <= 32
    assert len(set(texts)) == len(texts)


def test_names_are_no_formulas(pyplot, make):
    display = make(np.ones((1, 2)), feature_names=["$ per $_", "_hidden"]).plot()
    display.figure_.canvas.draw()
    legend_of = display.ax_.get_legend()
    texts = rows(display.ax_) if legend_of is None else legend(display.ax_)[:2]
    assert texts == [r"\$ per \$_", "_hidden"]
