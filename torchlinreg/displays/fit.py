"""Pictures of a training and of the line that it found.

Predicted against actual values is :class:`sklearn.metrics.PredictionErrorDisplay`, which draws any regressor.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from torchlinreg.displays.drawing import column_name, import_matplotlib, last_step, merge, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_EPOCHS = 30  # up to here each epoch is marked with a dot
_GRID_POINTS = 200  # enough for a polynomial pipeline to look smooth


class LossCurveDisplay:
    """The mean training loss of each epoch.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean training loss of each epoch, the first one first.
    estimator_name : str or None, default=None
        Label of the curve; None draws no legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
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

    def __init__(self, loss_curve: ArrayLike, *, estimator_name: str | None = None) -> None:
        self.loss_curve = loss_curve
        self.estimator_name = estimator_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: "Axes | None" = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "LossCurveDisplay":
        """Draw the `loss_curve_` of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with a `loss_curve_`
            A TorchLinearRegressor (or scikit-learn's MLPRegressor), or a Pipeline that ends in one.
        name : str or None, default=None
            Label of the curve; None draws no legend.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        line_kwargs : dict, default=None
            Passed on to `Axes.plot`.

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
        return cls(np.asarray(curve), estimator_name=name).plot(ax, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "LossCurveDisplay":
        """Draw the loss against the epoch, on a logarithmic scale when every loss is above zero.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        name : str or None, default=None
            Label of the curve; None takes `estimator_name`.
        line_kwargs : dict, default=None
            Passed on to `Axes.plot`.

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
        losses = np.asarray(self.loss_curve, dtype=np.float64)
        if losses.size == 0:
            raise ValueError("the loss curve is empty: fit for at least one epoch")
        ax = new_axes(matplotlib) if ax is None else ax
        name = self.estimator_name if name is None else name
        marker = "o" if losses.size <= _FEW_EPOCHS else None
        style = {"color": "tab:blue", "marker": marker, "markersize": 4, "label": name}
        style = merge(style, line_kwargs, matplotlib.lines.Line2D)
        (self.line_,) = ax.plot(np.arange(1, losses.size + 1), losses, **style)
        if np.all(losses > 0):
            ax.set_yscale("log")
        ax.set(xlabel="Epoch", ylabel="Mean training loss")
        ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.grid(which="both", alpha=0.2)
        if name is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self


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
        X : array-like or DataFrame of shape (n_samples, 1)
            The feature. The axis takes the name of a DataFrame's column.
        y : array-like or Series of shape (n_samples,) or (n_samples, 1)
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
        self.scatter_ = ax.scatter(self.x, self.y, **dots)
        (self.line_,) = ax.plot(self.x_line, self.y_line, **line)
        ax.set(xlabel=self.feature_name, ylabel=self.target_name)
        ax.grid(alpha=0.2)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
