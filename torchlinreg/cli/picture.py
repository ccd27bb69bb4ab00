"""The picture of `torchlinreg compare --plot`: what a fitted pipeline predicts, how it errs, and by which columns."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import PredictionErrorDisplay
from sklearn.pipeline import Pipeline

from torchlinreg.displays.drawing import import_matplotlib

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
    """Fit on the training rows, and draw a row of three panels for each target, the first `MOST_TARGETS` of them.

    Predicted against actual values, and residuals against predicted ones, are those of the held-out rows. The
    coefficients are the largest, each times the standard deviation of its column on the training rows: what one
    such deviation changes, in units of the target.

    Parameters
    ----------
    estimator : estimator
        A linear model, or a Pipeline with one at its end.
    X_train, X_test, y_train, y_test : DataFrame
        As :func:`~sklearn.model_selection.train_test_split` gives them.

    Returns
    -------
    figure : matplotlib Figure
        One without pyplot: no screen is needed.
    """
    matplotlib = import_matplotlib("draw")
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
    """Coefficients times the standard deviation of what they multiply: a row for each feature, a column per target."""
    names = X.columns
    if isinstance(model, Pipeline):
        names = [_plain(name) for name in model[:-1].get_feature_names_out()]
        X, model = model[:-1].transform(X), model[-1]
    spread = np.asarray(X, dtype=np.float64).std(axis=0)
    return pd.DataFrame((np.atleast_2d(model.coef_) * spread).T, index=names)


def _plain(name: str) -> str:
    """Say a name that scikit-learn's transformers give as a reader of the table would; the transformer is in front."""
    name = name.partition("__")[2]
    name = f"{rest} missing" if (rest := name.removeprefix("missingindicator_")) != name else name
    return name.replace("_infrequent_sklearn", " (the rest)")


def _draw_effects(ax: "Axes", effects: pd.Series, target: str) -> None:
    largest = effects.iloc[np.argsort(effects.abs())].tail(_MOST_COEFFICIENTS)
    places = np.arange(len(largest))
    ax.barh(places, largest, color=np.where(largest < 0, "tab:orange", "tab:blue"))
    ax.set_yticks(places, [_shortened(name) for name in largest.index])
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_xlabel("coefficient × standard deviation")
    shown = f"the {len(largest)} largest of {len(effects)}" if len(largest) < len(effects) else "all"
    ax.set_title(f"{target}\n{shown} coefficients")
    ax.grid(alpha=0.2, axis="x")


def _shortened(name: str) -> str:
    """Leave out the middle of a long name, and keep a dollar from beginning a formula."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"
    return name.replace("$", r"\$").replace("\n", " ")
