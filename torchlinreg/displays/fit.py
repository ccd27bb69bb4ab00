"""Pictures of a training and of the line that it found.

Predicted against actual values is :class:`sklearn.metrics.PredictionErrorDisplay`, which draws any regressor.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from torchlinreg.displays.drawing import column_name, import_matplotlib, last_step, merge, new_axes, to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_FEW_EPOCHS = 30  # up to here each epoch is marked with a dot
_GRID_POINTS = 200  # enough for a polynomial pipeline to look smooth


class LossCurveDisplay:
    """The mean training loss of each epoch, and the scores on rows held out if there are any.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean training loss of each epoch, the first one first.
    estimator_name : str or None, default=None
        Label of the curve; None draws no legend, unless there are scores.
    validation_scores : array-like of shape (n_epochs,) or None, default=None
        Score of each epoch on rows held out; drawn on a vertical axis of their own, at the right.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    validation_line_ : matplotlib Line2D or None
        The scores.
    validation_ax_ : matplotlib Axes or None
        The axes of the scores, which share their epochs with `ax_`.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    LossCurveDisplay.from_estimator : Draw the loss curve of a fitted estimator.

    Examples
    --------
    >>> from torchlinreg.displays import LossCurveDisplay
    >>> display = LossCurveDisplay([10.0, 1.0, 0.1]).plot()
    >>> display.ax_.get_yscale()
    'log'
    """

    __module__ = "torchlinreg.displays"

    def __init__(
        self,
        loss_curve: ArrayLike,
        *,
        estimator_name: str | None = None,
        validation_scores: ArrayLike | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.estimator_name = estimator_name
        self.validation_scores = validation_scores

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: "Axes | None" = None,
        validation_ax: "Axes | None" = None,
        line_kwargs: dict[str, Any] | None = None,
        validation_line_kwargs: dict[str, Any] | None = None,
    ) -> "LossCurveDisplay":
        """Draw the `loss_curve_` of a fitted estimator, and its `validation_scores_` if it has any.

        Parameters
        ----------
        estimator : fitted estimator with a `loss_curve_`
            A TorchLinearRegressor (or scikit-learn's MLPRegressor), or a Pipeline that ends in one.
        name : str or None, default=None
            Label of the curve; None draws no legend, unless there are scores.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        validation_ax : matplotlib Axes, default=None
            Where to draw the scores, such as the `validation_ax_` of another display; None makes a vertical axis at
            the right of `ax`.
        line_kwargs, validation_line_kwargs : dict, default=None
            Passed on to `Axes.plot` for the loss and for the scores.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If it keeps no loss curve.
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        final = last_step(estimator)
        curve = getattr(final, "loss_curve_", None)
        if curve is None:
            raise ValueError(
                f"{type(final).__name__} keeps no loss_curve_: pass a fitted TorchLinearRegressor, or a "
                "Pipeline that ends in one"
            )
        display = cls(
            np.asarray(curve), estimator_name=name, validation_scores=getattr(final, "validation_scores_", None)
        )
        style = {"line_kwargs": line_kwargs, "validation_line_kwargs": validation_line_kwargs}
        return display.plot(ax, validation_ax=validation_ax, **style)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        validation_ax: "Axes | None" = None,
        line_kwargs: dict[str, Any] | None = None,
        validation_line_kwargs: dict[str, Any] | None = None,
    ) -> "LossCurveDisplay":
        """Draw the loss against the epoch, on a logarithmic scale when every loss is above zero.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Label of the curve; None takes `estimator_name`.
        validation_ax : matplotlib Axes, default=None
            Where to draw the scores, such as the `validation_ax_` of another display; None makes a vertical axis at
            the right of `ax`.
        line_kwargs, validation_line_kwargs : dict, default=None
            Passed on to `Axes.plot` for the loss and for the scores.

        Returns
        -------
        self : LossCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no epoch to draw.
        """
        matplotlib = import_matplotlib("LossCurveDisplay.plot")
        losses = np.asarray(to_array(self.loss_curve, "loss_curve"), dtype=np.float64)
        if losses.size == 0:
            raise ValueError("the loss curve is empty: fit for at least one epoch")
        self.ax_ = new_axes(matplotlib) if ax is None else ax
        self.figure_ = self.ax_.figure
        name = self.estimator_name if name is None else name
        scores = self.validation_scores
        label = name if scores is None else _label(name, "training loss")
        style = {"color": "tab:blue", "label": label}
        self.line_ = _draw(matplotlib, self.ax_, losses, style, line_kwargs)
        if np.all(losses > 0):
            self.ax_.set_yscale("log")
        self.ax_.set(xlabel="Epoch", ylabel="Mean training loss")
        self.ax_.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        self.ax_.grid(which="both", alpha=0.2)
        self.validation_line_, self.validation_ax_ = None, validation_ax
        if scores is not None:
            scores = np.asarray(to_array(scores, "validation_scores"), dtype=np.float64)
            self.validation_ax_ = self.ax_.twinx() if validation_ax is None else validation_ax
            style = {"color": "tab:orange", "linestyle": "--", "label": _label(name, "validation score")}
            self.validation_line_ = _draw(matplotlib, self.validation_ax_, scores, style, validation_line_kwargs)
            self.validation_ax_.set_ylabel("Validation score")
        self._explain()
        return self

    def _explain(self) -> None:
        """Draw one legend for all that has a label, on both axes."""
        lines, texts = self.ax_.get_legend_handles_labels()
        place = "best"
        if self.validation_ax_ is not None:
            more = self.validation_ax_.get_legend_handles_labels()
            lines, texts = lines + more[0], texts + more[1]
            place = "center right"  # losses end at the bottom, scores at the top
        if lines:
            self.ax_.legend(lines, texts, loc=place)


def _label(name: str | None, what: str) -> str:
    """Say what a line is and, if it has a name, whose."""
    return what if name is None else f"{name}, {what}"


def _draw(
    matplotlib: ModuleType, ax: "Axes", numbers: np.ndarray, style: dict[str, Any], wanted: dict[str, Any] | None
) -> "Line2D":
    """Draw a number for each epoch, with dots while they are few."""
    marker = "o" if numbers.size <= _FEW_EPOCHS else None
    style = merge({"marker": marker, "markersize": 4} | style, wanted, matplotlib.lines.Line2D)
    return ax.plot(np.arange(1, numbers.size + 1), numbers, **style)[0]


class FitDisplay:
    """The rows of a one-feature regression as dots, and the fitted line through them in red.

    Parameters
    ----------
    x, y : array-like of shape (n_samples,)
        The feature and the target.
    x_line, y_line : array-like of shape (n_points,)
        Points on the fitted line, in the order of `x_line`.
    feature_name, target_name : str, default="x" and "y"
        Labels of the axes.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The rows.
    line_ : matplotlib Line2D
        The fitted line.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    FitDisplay.from_estimator : Draw a fitted regressor and the rows it was fitted on.
    sklearn.metrics.PredictionErrorDisplay : Predicted against actual values, for any number of features.

    Examples
    --------
    >>> from torchlinreg.displays import FitDisplay
    >>> display = FitDisplay([0, 1, 2], [1, 2, 4], [0, 2], [0.8, 3.8]).plot()
    >>> display.line_.get_color()
    'red'
    """

    __module__ = "torchlinreg.displays"

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        x_line: ArrayLike,
        y_line: ArrayLike,
        *,
        feature_name: str = "x",
        target_name: str = "y",
    ) -> None:
        self.x = x
        self.y = y
        self.x_line = x_line
        self.y_line = y_line
        self.feature_name = feature_name
        self.target_name = target_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | pd.DataFrame,
        y: ArrayLike | pd.Series,
        *,
        ax: "Axes | None" = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "FitDisplay":
        """Draw a fitted regressor of one feature, and rows.

        Parameters
        ----------
        estimator : fitted regressor
            Anything with a `predict`; a pipeline with polynomial features gives a curve.
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, 1)
            The feature. The axis takes the name of a DataFrame's column.
        y : array-like, Series or torch.Tensor of shape (n_samples,) or (n_samples, 1)
            The target. The axis takes the name of a Series.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        scatter_kwargs, line_kwargs : dict, default=None
            Passed on to `Axes.scatter` and `Axes.plot`.

        Returns
        -------
        display : FitDisplay

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If there is more than one feature or target, or if a value is missing.
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        X, y = to_array(X, "X"), to_array(y, "y")
        features = check_array(X, input_name="X")
        targets = check_array(y, ensure_2d=False, input_name="y")
        check_consistent_length(features, targets)
        if features.shape[1] != 1 or targets.size != len(targets):
            raise ValueError(
                "FitDisplay draws one feature and one target, and got X of shape "
                f"{features.shape} and y of shape {targets.shape}: pass one column of each, or draw "
                "predicted against actual values with sklearn.metrics.PredictionErrorDisplay.from_estimator"
            )
        x_line = np.linspace(features.min(), features.max(), _GRID_POINTS, dtype=np.result_type(features, 1.0))
        # A regressor fitted on a frame warns when it is asked to predict on anything but a frame.
        grid = x_line[:, np.newaxis]
        grid = pd.DataFrame(grid, columns=X.columns) if isinstance(X, pd.DataFrame) else grid
        y_line = np.ravel(estimator.predict(grid))
        names = {"feature_name": column_name(X, "x"), "target_name": column_name(y, "y")}
        display = cls(features.ravel(), targets.ravel(), x_line, y_line, **names)
        return display.plot(ax, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "FitDisplay":
        """Draw the rows and the line.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        scatter_kwargs, line_kwargs : dict, default=None
            Passed on to `Axes.scatter` and `Axes.plot`.

        Returns
        -------
        self : FitDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        matplotlib = import_matplotlib("FitDisplay.plot")
        ax = new_axes(matplotlib) if ax is None else ax
        dots = {"color": "tab:blue", "alpha": 0.6, "edgecolor": "none", "label": "data"}
        line = {"color": "red", "linewidth": 2, "label": "fit"}
        dots = merge(dots, scatter_kwargs, matplotlib.collections.PathCollection)
        line = merge(line, line_kwargs, matplotlib.lines.Line2D)
        x, y, x_line, y_line = (to_array(getattr(self, name), name) for name in ("x", "y", "x_line", "y_line"))
        self.scatter_ = ax.scatter(x, y, **dots)
        (self.line_,) = ax.plot(x_line, y_line, **line)
        ax.set(xlabel=self.feature_name, ylabel=self.target_name)
        ax.grid(alpha=0.2)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
