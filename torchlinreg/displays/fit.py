"""The data and the fitted line of a regression on one feature.

For any number of features there is :class:`sklearn.metrics.PredictionErrorDisplay`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from torchlinreg.displays.docstrings import substitute
from torchlinreg.displays.drawing import axes_or_new, column_name, import_matplotlib, merge_style, to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GRID_POINTS = 200  # enough for a polynomial pipeline to look smooth


@substitute
class FitDisplay:
    """Scatter plot of a one-feature regression, with the fitted line in red.

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
        The data.
    line_ : matplotlib Line2D
        The fitted line.
    %(ax_)s
    %(figure_)s

    See Also
    --------
    FitDisplay.from_estimator : Draw a fitted regressor and the data it was fitted on.
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
    @substitute
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
        """Draw data and the predictions of a fitted regressor with one feature.

        Parameters
        ----------
        estimator : fitted regressor
            Any object with `predict`; a pipeline with polynomial features gives a curve.
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, 1)
            The feature. The x-axis is labelled with the column name of a DataFrame.
        y : array-like, Series or torch.Tensor of shape (n_samples,) or (n_samples, 1)
            The target. The y-axis is labelled with the name of a Series.
        %(ax)s
        %(scatter_kwargs)s
        %(line_kwargs)s

        Returns
        -------
        display : FitDisplay

        Raises
        ------
        %(not_fitted)s
        ValueError
            If there is more than one feature or target, or if a value is missing.
        %(no_matplotlib)s
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
        grid = x_line[:, np.newaxis]
        if isinstance(X, pd.DataFrame):  # a regressor fitted on named columns warns when the names are missing
            grid = pd.DataFrame(grid, columns=X.columns)
        y_line = np.ravel(estimator.predict(grid))
        names = {"feature_name": column_name(X, "x"), "target_name": column_name(y, "y")}
        display = cls(features.ravel(), targets.ravel(), x_line, y_line, **names)
        return display.plot(ax, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    @substitute
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "FitDisplay":
        """Draw the data and the fitted line.

        Parameters
        ----------
        %(ax)s
        %(scatter_kwargs)s
        %(line_kwargs)s

        Returns
        -------
        self : FitDisplay

        Raises
        ------
        %(no_matplotlib)s
        """
        matplotlib = import_matplotlib("FitDisplay.plot")
        points = {"color": "tab:blue", "alpha": 0.6, "edgecolor": "none", "label": "data"}
        points = merge_style(matplotlib.collections.PathCollection, points, scatter_kwargs)
        line = {"color": "red", "linewidth": 2, "label": "fit"}
        line = merge_style(matplotlib.lines.Line2D, line, line_kwargs)
        x, y, x_line, y_line = (to_array(getattr(self, name), name) for name in ("x", "y", "x_line", "y_line"))
        self.ax_ = axes_or_new(matplotlib, ax)
        self.figure_ = self.ax_.figure
        self.scatter_ = self.ax_.scatter(x, y, **points)
        (self.line_,) = self.ax_.plot(x_line, y_line, **line)
        self.ax_.set(xlabel=self.feature_name, ylabel=self.target_name)
        self.ax_.grid(alpha=0.2)
        self.ax_.legend()
        return self
