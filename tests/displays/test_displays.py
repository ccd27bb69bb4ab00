import builtins
import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, QuantileRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from test_coefficient_displays import assert_all_inside, legend

from torchlinreg import displays
from torchlinreg.datasets import make_linear
from torchlinreg.displays import (
    CoefficientDisplay,
    FitDisplay,
    LossCurveDisplay,
    LossSurfaceDisplay,
    RegularizationPathDisplay,
)
from torchlinreg.displays.docstrings import ENTRIES, substitute
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.losses import Quantile


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


@pytest.mark.parametrize(
    "model",
    [
        TorchLinearRegressor(learning_rate=0.05, max_iter=5, tol=None, early_stopping=True, random_state=0),
        MLPRegressor(hidden_layer_sizes=[2], solver="sgd", early_stopping=True, max_iter=50, tol=100, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_loss_curve_with_validation_scores(pyplot, line, model):
    model.fit(*line)
    display = LossCurveDisplay.from_estimator(model)
    assert_array_equal(display.line_.get_ydata(), model.loss_curve_)
    assert_array_equal(display.validation_line_.get_ydata(), model.validation_scores_)
    assert_array_equal(display.validation_line_.get_xdata(), np.arange(1, len(model.validation_scores_) + 1))
    assert display.validation_line_.axes is display.validation_ax_ is not display.ax_
    assert display.validation_ax_.get_ylabel() == "Validation score"
    assert display.validation_ax_.get_yscale() == "linear"
    assert display.validation_ax_.get_shared_x_axes().joined(display.ax_, display.validation_ax_)
    assert legend(display.ax_) == ["training loss", "validation score"]
    assert display.validation_ax_.get_legend() is None
    # told apart without colours as well
    assert (display.line_.get_color(), display.validation_line_.get_color()) == ("tab:blue", "tab:orange")
    assert (display.line_.get_linestyle(), display.validation_line_.get_linestyle()) == ("-", "--")
    display.figure_.canvas.draw()


def test_loss_curve_without_validation_scores(pyplot, line):
    display = LossCurveDisplay.from_estimator(textbook(*line))
    assert display.validation_line_ is None
    assert display.validation_ax_ is None
    assert len(display.figure_.axes) == 1


def test_validation_scores_share_axes(pyplot):
    first = LossCurveDisplay([3, 2, 1], estimator_name="one", validation_scores=[0.1, 0.5, 0.6]).plot()
    second = LossCurveDisplay([4, 2], validation_scores=[0, 0.3]).plot(
        first.ax_, name="two", validation_ax=first.validation_ax_, validation_line_kwargs={"c": "black", "ls": ":"}
    )
    assert second.validation_ax_ is first.validation_ax_
    assert len(first.figure_.axes) == 2
    assert second.validation_line_.get_color() == "black"
    assert second.validation_line_.get_linestyle() == ":"
    assert legend(first.ax_) == [
        "one, training loss",
        "two, training loss",
        "one, validation score",
        "two, validation score",
    ]


def test_validation_scores_have_a_style_of_their_own(pyplot, line):
    model = TorchLinearRegressor(learning_rate=0.05, max_iter=5, tol=None, early_stopping=True, random_state=0).fit(
        *line
    )
    _, (left, right) = pyplot.subplots(1, 2)
    display = LossCurveDisplay.from_estimator(
        model, ax=left, validation_ax=right, line_kwargs={"lw": 3}, validation_line_kwargs={"color": "k"}
    )
    assert display.validation_ax_ is right
    assert display.line_.get_linewidth() == 3
    assert display.validation_line_.get_color() == "k"


TENSORS = {
    "graph": lambda values: torch.tensor(values, requires_grad=True),
    "bfloat16": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "negated": lambda values: torch._neg_view(-torch.tensor(values)),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_tensors_are_drawn(pyplot, rng, tensor):
    x = rng.integers(-8, 9, size=20).astype(float)
    y = 2 * x + rng.integers(0, 2, size=20)  # which bfloat16 has
    model = TorchLinearRegressor().fit(tensor(x[:, np.newaxis]), tensor(y))
    display = FitDisplay.from_estimator(model, tensor(x[:, np.newaxis]), tensor(y))
    assert_array_equal(display.scatter_.get_offsets(), np.column_stack([x, y]))
    assert_allclose(display.y_line, model.predict(display.x_line[:, np.newaxis]))
    again = FitDisplay(*map(tensor, (x, y, x, y))).plot()
    assert_array_equal(again.scatter_.get_offsets(), np.column_stack([x, y]))
    assert_array_equal(again.line_.get_ydata(), y)
    curve = LossCurveDisplay(tensor(np.array([2.0, 1.0])), validation_scores=tensor(np.array([0.5, 0.75]))).plot()
    assert_array_equal(curve.line_.get_ydata(), [2, 1])
    assert_array_equal(curve.validation_line_.get_ydata(), [0.5, 0.75])


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


def test_fit_with_a_band_between_quantiles(pyplot, line):
    X, y = pd.DataFrame(line[0], columns=["size"]), line[1]
    median, low = (TorchLinearRegressor(loss=Quantile(quantile)).fit(X, y) for quantile in (0.5, 0.1))
    high = make_pipeline(StandardScaler(), QuantileRegressor(quantile=0.9, alpha=0)).fit(X, y)
    display = FitDisplay.from_estimator(median, X, y, band=(low, high), band_kwargs={"alpha": 0.5})
    x_line = pd.DataFrame({"size": display.x_line})
    assert_array_equal(display.band, [low.predict(x_line), high.predict(x_line)])
    corners = display.band_.get_paths()[0].vertices
    for x, edge in zip(display.x_line[[0, -1]], np.transpose(display.band)[[0, -1]], strict=True):
        assert_array_equal(np.unique(corners[corners[:, 0] == x, 1]), edge)
    assert display.band_.get_alpha() == 0.5
    assert legend(display.ax_) == ["data", "fit", "quantiles 0.1 to 0.9"]
    plain = LinearRegression().fit(X, y)
    assert legend(FitDisplay.from_estimator(plain, X, y, band=(plain, high)).ax_)[2] == "band"
    assert FitDisplay.from_estimator(median, X, y).band_ is None


EXAMPLES = {
    "curve": LossCurveDisplay([2.0, 1.0], validation_scores=[0.1, 0.2]),
    "fit": FitDisplay([0, 1], [0, 1], [0, 1], [0, 1], band=([-1, 0], [1, 2])),
    "path": RegularizationPathDisplay([1.0, 2.0], np.ones((2, 10)), alpha=1.5),
    "coefficients": CoefficientDisplay([1.0, 1.0], [0.5, -1.0], [1.5, 3.0], target_names=["price (€)"]),
    "slice": LossSurfaceDisplay([[0, 1, 2]], [1, 0, 1], [1], path=[0], path_objective=[1], path_gradient=[[-2]]),
    "surface": LossSurfaceDisplay([[0, 1], [0, 1]], [[0, 1], [1, 2]], [0, 0], path=[[1, 1]], path_gradient=[[1, 1]]),
}


def contrast(color, ground):
    """Return the contrast ratio of a colour on a ground, as the Web Content Accessibility Guidelines define it."""
    *color, alpha = to_rgba(color)
    mixed = alpha * np.array(color) + (1 - alpha) * np.array(to_rgb(ground))
    channels = np.array([mixed, to_rgb(ground)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, light = np.sort(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("display", EXAMPLES.values(), ids=EXAMPLES)
def test_displays_are_legible_and_whole_on_light_and_dark_grounds(pyplot, style, display):
    with pyplot.style.context(style):
        figure = display.plot().figure_
        assert_all_inside(figure)
        lines = [line for axis in figure.axes for line in axis.lines if line.get_linestyle() != "None"]
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        for artist in lines + texts:
            color = to_rgba(artist.get_color(), artist.get_alpha())
            assert contrast(color, "white" if style == "default" else "black") > 2, artist


@pytest.mark.parametrize("display", EXAMPLES.values(), ids=EXAMPLES)
def test_without_matplotlib(monkeypatch, display):
    real = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "torchlinreg\[plot\]"'):
        display.plot()


DISPLAYS = [CoefficientDisplay, FitDisplay, LossCurveDisplay, LossSurfaceDisplay, RegularizationPathDisplay]
METHODS = [
    getattr(display, name)
    for display in DISPLAYS
    for name in ("from_estimator", "from_frame", "plot")
    if name in vars(display)
]


@pytest.mark.parametrize("documented", DISPLAYS + METHODS, ids=lambda documented: documented.__qualname__)
def test_every_parameter_is_documented(documented):
    parameters = inspect.getdoc(documented).partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    names = re.findall(r"^(\w.*?) :", parameters, flags=re.MULTILINE)
    assert sorted(", ".join(names).split(", ")) == sorted({*inspect.signature(documented).parameters} - {"self"})
    assert "%(" not in documented.__doc__


def test_placeholders_are_replaced_with_their_indentation():
    @substitute
    def plot(ax):
        """Draw 100% of it.

        Parameters
        ----------
        %(ax)s
        """

    assert inspect.getdoc(plot) == f"Draw 100% of it.\n\nParameters\n----------\n{ENTRIES['ax']}"


def test_an_unknown_placeholder_is_an_error():
    def plot():
        """%(axe)s"""

    with pytest.raises(KeyError, match="axe"):
        substitute(plot)


def test_every_entry_is_used():
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(displays.__file__).parent.glob("*.py"))
    assert {*re.findall(r"^ +%\((\w+)\)s$", sources, flags=re.MULTILINE)} == {*ENTRIES}
