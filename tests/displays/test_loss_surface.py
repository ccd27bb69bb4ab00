"""`LossSurfaceDisplay`: the objective itself, its gradient, and the path of the loop in the tutorials."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import AT_AN_END, penalised
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_coefficient_displays import assert_all_inside, legend

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.analysis.surface import Fitted
from torchlinreg.displays import LossSurfaceDisplay, drawing
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.losses import Quantile

TEXTBOOK = {"learning_rate": 0.01, "batch_size": "full", "max_iter": 8, "tol": None}
FUNCTIONS = {"SmoothL1Loss": torch.nn.SmoothL1Loss(), "fourth power": lambda p, t: ((p - t) ** 4).mean()}


@pytest.mark.parametrize("penalty", [None, "elasticnet"])
@pytest.mark.parametrize("loss", {**{name: name for name in LOSSES}, **FUNCTIONS}.items(), ids=lambda loss: loss[0])
def test_objective_and_gradient(table, loss, penalty):
    X, y, weight = table
    model = TorchLinearRegressor(loss=loss[1], random_state=0, **penalised(penalty, 0.1)).fit(X, y[:, 0], weight)
    surface = Fitted.of(model, X, y[:, 0], weight).surface([1, 4], 0)
    assert surface.names == ["x1", "intercept"]
    value = surface.evaluate(surface.estimate[None])
    assert_allclose(value, model.loss_curve_[-1], rtol=1e-12)
    points = surface.estimate + surface.widths * [[0.3, 0.1], [-0.2, 1.3], [0.01, -0.6]]
    values, gradients = surface.evaluate(points), surface.gradient(points)
    assert (values > value).all()
    for j, step in enumerate(1e-6 * surface.widths * np.eye(2)):
        above, below = (surface.evaluate(points + sign * step) for sign in (1, -1))
        assert_allclose(gradients[:, j], (above - below) / (2 * step[j]), rtol=1e-5)


def by_hand(X, y, n_epochs):
    """Return the weights of full-batch gradient descent on half the squared error, from zeros on."""
    theta = np.zeros(X.shape[1] + 1)
    path = [theta]
    ones = np.column_stack([X, np.ones(len(X))])
    for _ in range(n_epochs):
        theta = theta - 0.01 * ones.T @ (ones @ theta - y) / len(y)
        path.append(theta)
    return np.array(path)


def test_curve_with_tangents_along_the_path_of_the_tutorials_loop(pyplot, table):
    X, y = table[0][:, [0]], table[1][:, 0]
    model = TorchLinearRegressor(fit_intercept=False, **TEXTBOOK).fit(X, y)
    display = LossSurfaceDisplay.from_estimator(model, X, y, path="fit", n_tangents=3)
    w, objective = display.line_.get_data()
    assert_allclose(objective, [np.mean((X[:, 0] * value - y) ** 2) / 2 for value in w], rtol=1e-12)
    path, heights = display.path_line_.get_data()
    expected, slope = [0.0], lambda value: np.mean((X[:, 0] * value - y) * X[:, 0])
    for _ in range(8):
        expected.append(expected[-1] - 0.01 * slope(expected[-1]))
    assert_allclose(path, expected, rtol=1e-12)
    assert_allclose(heights, [np.mean((X[:, 0] * value - y) ** 2) / 2 for value in path], rtol=1e-12)
    assert 2 <= len(display.tangents_.get_segments()) <= 3
    for left, right in display.tangents_.get_segments():
        assert_allclose((right - left)[1] / (right - left)[0], slope((left + right)[0] / 2), rtol=1e-9)
    assert w.min() < path.min() < path.max() < w.max()
    assert legend(display.ax_) == ["objective", "path", "tangent", "fitted"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("Coefficient of x0", "Mean loss (squared_error)")
    assert display.contour_ is None


def test_contours_with_arrows_the_way_that_steps_go(pyplot, table):
    X, y = pd.DataFrame(table[0][:, [0]], columns=["mass (kg)"]), pd.Series(table[1][:, 0], name="price (€)")
    model = TorchLinearRegressor(**TEXTBOOK).fit(X, y)
    path = by_hand(X.to_numpy(), y.to_numpy(), 8)
    display = LossSurfaceDisplay.from_estimator(model, X, y, features=["mass (kg)", "intercept"], path="fit")
    assert_allclose(np.transpose(display.path_line_.get_data()), path, rtol=1e-10, atol=1e-15)
    assert_allclose(display.estimate, path[-1], rtol=1e-10)
    starts, steps = display.tangents_.XY, np.column_stack([display.tangents_.U, display.tangents_.V])
    for start, arrow in zip(starts, steps, strict=True):
        at = np.abs(path - start).sum(1).argmin()
        step = path[at + 1] - path[at]
        assert_allclose(arrow / np.linalg.norm(arrow), step / np.linalg.norm(step), rtol=1e-6)
    mean = np.mean(
        (np.outer(display.grid[0], X["mass (kg)"])[:, None] + display.grid[1][:, None] - y.to_numpy()) ** 2, 2
    )
    assert_allclose(display.objective, mean / 2, rtol=1e-12)
    assert display.ax_.get_xlabel() == "Coefficient of mass (€ per kg)"
    assert display.ax_.get_ylabel() == "Intercept (€)"
    again = LossSurfaceDisplay.from_estimator(model, X, y, features=(0, 1), path=path, tangent_kwargs={"color": "red"})
    assert_array_equal(
        again.objective, LossSurfaceDisplay.from_estimator(model, X, y, features=[0, 1], path=path).objective
    )
    assert display.line_ is None


@AT_AN_END
def test_targets_pipelines_searches_and_containers(pyplot, table, device):
    X, y, weight = table
    model = TorchLinearRegressor(penalty="l2", alpha=[0.1, 0.2]).fit(X, y, weight)
    expected = LossSurfaceDisplay.from_estimator(model, X, y, features=2, target=1, sample_weight=weight)
    alone = TorchLinearRegressor(penalty="l2", alpha=0.2).fit(X, y[:, 1], weight)
    tensors = torch.tensor(X, device=device), torch.tensor(y[:, 1], device=device)
    for features, target in ((X, y[:, 1]), (sparse.csr_array(X), y[:, 1]), tensors):
        options = {"features": ["x2"], "sample_weight": weight, "path": "fit"}
        found = LossSurfaceDisplay.from_estimator(
            alone, features, target, limits=[expected.grid[0][[0, -1]]], **options
        )
        assert_allclose(found.objective, expected.objective, rtol=1e-8)
    search = TorchLinearRegressorCV(alphas=[0.2]).fit(X, y[:, 1], weight)
    found = LossSurfaceDisplay.from_estimator(search, X, y[:, 1], features=2, sample_weight=weight)
    assert_allclose(found.objective, expected.objective, rtol=1e-8)
    misleading = pd.DataFrame(X, columns=["a", "b", "intercept", "d"])
    alone.fit(misleading, y[:, 1], weight)
    found = LossSurfaceDisplay.from_estimator(alone, misleading, y[:, 1], features="intercept", sample_weight=weight)
    assert_allclose(found.objective, expected.objective, rtol=1e-8)
    frame = pd.DataFrame(X, columns=list("abcd"))
    pipeline = make_pipeline(StandardScaler(), TorchLinearRegressor(loss=Quantile(0.9))).fit(frame, y[:, 0])
    found = LossSurfaceDisplay.from_estimator(pipeline, frame, y[:, 0], features=["d", "b"], limits=[(0, 1), (2, 3)])
    assert (found.ax_.get_xlabel(), found.ax_.get_ylabel()) == ("Coefficient of d", "Coefficient of b")
    assert [(axis[0], axis[-1]) for axis in found.grid] == [(0, 1), (2, 3)]
    assert found.objective_name == "Mean loss (Quantile(quantile=0.9))"


def test_nothing_is_drawn_where_the_objective_is_infinite(pyplot, table):
    X, _, _ = table
    model = TorchLinearRegressor(positive=True).fit(X, -X[:, 0])
    display = LossSurfaceDisplay.from_estimator(model, X, -X[:, 0], features=[0, 1], grid_resolution=9)
    display.figure_.canvas.draw()
    assert np.isinf(display.objective).sum() == 9 * 9 - 5 * 5
    curve = LossSurfaceDisplay.from_estimator(model, X, -X[:, 0], path=[[1.0], [0.5]], n_tangents=0)
    assert curve.line_.get_xdata()[np.isfinite(curve.line_.get_ydata())].min() >= 0
    assert curve.tangents_ is None


@pytest.mark.parametrize(
    ("parameters", "options", "reason"),
    [
        ({}, {"features": "size"}, r"features: there is no 'size'; give one or two of \['x0', 'x1'"),
        ({}, {"features": 5}, "features: there is no 5"),
        ({}, {"features": [0, 1, 2]}, "give one feature for a curve, or two for contours"),
        ({}, {"target": 1}, "target=1: y has 1 columns; give a number from 0 to 0"),
        ({}, {"path": "all"}, 'give an array, "fit" to train once more, or None'),
        ({}, {"features": [0, 1], "path": [1.0, 2.0]}, r"pass finite numbers of shape \(n_points, 2\)"),
        ({}, {"path": [np.nan]}, r"pass finite numbers of shape \(n_points, 1\)"),
        ({**TEXTBOOK, "early_stopping": True}, {"path": "fit"}, "early_stopping=True held rows out"),
    ],
)
def test_refusals(pyplot, table, parameters, options, reason):
    X, y, _ = table
    model = TorchLinearRegressor(**{**parameters, **({"learning_rate": 1e-4} if parameters else {})}).fit(X, y[:, 0])
    with pytest.raises(ValueError, match=reason):
        LossSurfaceDisplay.from_estimator(model, X, y[:, 0], **options)


def test_estimators_whose_objective_is_not_known_are_refused(pyplot, table):
    X, y, _ = table
    with pytest.raises(NotFittedError):
        LossSurfaceDisplay.from_estimator(TorchLinearRegressor(), X, y)
    with pytest.raises(TypeError, match="Ridge minimises an objective that is not known here: give a TorchLinear"):
        LossSurfaceDisplay.from_estimator(Ridge().fit(X, y), X, y)
    mixing = TorchLinearRegressor(loss=lambda p, t: (p - t).norm(dim=1).mean(), **TEXTBOOK).fit(X / 10, y)
    with pytest.raises(ValueError, match="may mix the 2 targets: fit one of them alone"):
        LossSurfaceDisplay.from_estimator(mixing, X / 10, y)
    with pytest.raises(ValueError, match=r"grid has 1 axes of \(3,\) values, objective has shape \(2,\)"):
        LossSurfaceDisplay([[0, 1, 2]], [0, 1], [1]).plot()


def test_long_names_and_dollars_are_written_as_they_are(pyplot):
    names = {"feature_names": [f"${'a' * 40} (km per hour)"], "target_name": "income (1000 $)"}
    display = LossSurfaceDisplay([[0, 1]], [1, 2], [0], **names).plot()
    assert_all_inside(display.figure_)
    assert display.ax_.get_xlabel() == f"Coefficient of \\${'a' * 14}…aa\n(1000 \\$ per km per hour)"


@pytest.mark.parametrize(
    ("name", "parts"),
    [("mass (kg)", ("mass", "kg")), ("v [m/s]", ("v", "m/s")), ("f(x) y", ("f(x) y", None)), ("(kg)", ("", "kg"))],
)
def test_units_stand_at_the_end_of_a_name(name, parts):
    assert drawing.split_unit(name) == parts
