"""The figure that `torchlinreg compare --plot` saves: predictions, residuals and coefficients."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import PredictionErrorDisplay
from sklearn.pipeline import Pipeline

from torchlinreg.displays.drawing import GREY, import_matplotlib, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_TARGETS", "draw"]

MOST_TARGETS = 6
_MOST_COEFFICIENTS = 12
_LONGEST_NAME = 28
_PANEL_INCHES = (4.6, 4.2)
_KINDS = {"actual_vs_predicted": "predicted and actual", "residual_vs_predicted": "residuals"}


def draw(
    estimator: BaseEstimator,
    X_train: pd.DataFrame,
    X_test: pd.DataFrame,
    y_train: pd.DataFrame,
    y_test: pd.DataFrame,
) -> "Figure":
    """Fit an estimator on the training rows, and draw three panels for each target: how it predicts, and by what.

    The first panel has predicted against actual values, the second residuals against predicted values, both of the
    held-out rows. The third has the largest coefficients, each times the standard deviation of its column on the
    training rows: the effect of one standard deviation, in units of the target. Of many targets, the first
    `MOST_TARGETS` are drawn.

    Parameters
    ----------
    estimator : estimator
        A linear model, or a Pipeline that ends in one.
    X_train, X_test, y_train, y_test : DataFrame
        As :func:`~sklearn.model_selection.train_test_split` returns them.

    Returns
    -------
    figure : matplotlib Figure
        Made without pyplot, so that no display is needed.
    """
    matplotlib = import_matplotlib("--plot")
    model = clone(estimator).fit(X_train, y_train)
    predictions = np.asarray(model.predict(X_test)).reshape(len(X_test), -1)
    effects = _effects(model, X_train)
    targets = list(y_test.columns[:MOST_TARGETS])
    size = (3 * _PANEL_INCHES[0], len(targets) * _PANEL_INCHES[1])
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(targets), 3, squeeze=False)
    for number, (target, axes) in enumerate(zip(targets, rows, strict=True)):
        name = _shortened(target)
        for (kind, title), ax in zip(_KINDS.items(), axes, strict=False):
            PredictionErrorDisplay.from_predictions(
                y_test[target],
                predictions[:, number],
                kind=kind,
                random_state=0,
                ax=ax,
                scatter_kwargs={"alpha": 0.6, "edgecolor": "none"},
            )
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
            ax.set_title(f"{name}\n{title}, held-out rows")
            ax.grid(alpha=0.2)
        axes[0].set_box_aspect(1)
        _draw_effects(axes[2], effects.iloc[:, number], name)
    return figure


def _effects(model: BaseEstimator, X: pd.DataFrame) -> pd.DataFrame:
    """Return coefficients times the standard deviation of their column: a row for each feature, a column per target."""
    names = X.columns
    if isinstance(model, Pipeline):
        names = [_readable(name) for name in model[:-1].get_feature_names_out()]
        X, model = model[:-1].transform(X), model[-1]
    stds = np.asarray(X, dtype=np.float64).std(axis=0)
    return pd.DataFrame((np.atleast_2d(model.coef_) * stds).T, index=names)


def _readable(name: str) -> str:
    """Return the name of an encoded column without the transformer's prefix and scikit-learn's own words."""
    name = name.partition("__")[2]
    name = f"{rest} missing" if (rest := name.removeprefix("missingindicator_")) != name else name
    return name.replace("_infrequent_sklearn", " (the rest)")


def _draw_effects(ax: "Axes", effects: pd.Series, target: str) -> None:
    """Draw a bar for each of the largest effects, the largest on top."""
    largest = effects.iloc[np.argsort(effects.abs())].tail(_MOST_COEFFICIENTS)
    places = np.arange(len(largest))
    ax.barh(places, largest, color=np.where(largest < 0, "tab:orange", "tab:blue"))
    ax.set_yticks(places, [_shortened(name) for name in largest.index])
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_xlabel("coefficient × standard deviation")
    shown = f"the {len(largest)} largest of {len(effects)}" if len(largest) < len(effects) else "all"
    ax.set_title(f"{target}\n{shown} coefficients")
    ax.grid(alpha=0.2, axis="x")


def _shortened(name: str) -> str:
    """Return a name that fits beside a panel, on one line."""
    return shorten(name.replace("\n", " "), _LONGEST_NAME)
