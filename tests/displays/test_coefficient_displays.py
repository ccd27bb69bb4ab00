"""`CoefficientDisplay`, and what it has in common with the display of paths."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import same_color, to_rgba
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from torchlinreg import TorchLinearRegressor
from torchlinreg.displays import CoefficientDisplay, RegularizationPathDisplay, coefficients
from torchlinreg.inference import summary

ALPHAS = [10.0, 1.0, 0.1]
LONG = "onehotencoder__the_street_that_it_is_in_North"


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


def test_intervals_of_a_summary(pyplot, frame, rng):
    X, y = frame[0], frame[1] + rng.normal(size=30)
    table = summary(TorchLinearRegressor(), X, y, confidence_level=0.9)
    display = CoefficientDisplay.from_frame(table, intercept=True)
    assert rows(display.ax_) == ["size", "age", "rooms", "intercept"]
    assert_array_equal(display.scatters_[0].get_offsets()[:, 0], table["Coef."])
    assert_array_equal([segment[:, 0] for segment in display.lines_[0].get_segments()], table[["[0.05", "0.95]"]])


def test_intervals_that_cross_zero_are_grey(pyplot):
    display = CoefficientDisplay([1, -1, 0.1, 1], [0.5, -2, -1, 0], [2, -0.5, 1, 2]).plot()
    strong, weak = to_rgba("tab:blue"), to_rgba("0.6")
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
    assert [handle.get_color() for handle in display.legend_.legend_handles] == ["tab:blue", "0.6"]
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
    weak = to_rgba("0.6")
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


@pytest.mark.parametrize(("n_targets", "n_features"), [(1, 2), (1, 50), (3, 2), (5, 50)])
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
