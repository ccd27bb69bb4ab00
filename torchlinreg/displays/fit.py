"""The data and the fitted line of a regression on one feature.

For any number of features there is :class:`sklearn.metrics.PredictionErrorDisplay`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from torchlinreg.displays.docstrings import substitute
from torchlinreg.displays.drawing import (
    axes_or_new,
    column_name,
    import_matplotlib,
    last_step,
    merge_style,
    shorten,
    to_array,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GRID_POINTS = 200  # enough for a polynomial pipeline to look smooth


@substitute
class FitDisplay:
    """Scatter plot of a one-feature regression, with the fitted line in red, and perhaps a band around it.

    Parameters
    ----------
    x, y : array-like of shape (n_samples,)
        The feature and the target.
    x_line, y_line : array-like of shape (n_points,)
        Points on the fitted line, in the order of `x_line`.
    band : tuple of two array-likes of shape (n_points,) or None, default=None
        Lower and upper end of a band at each `x_line`.
    band_name : str, default="band"
        What the legend calls it.
    feature_name, target_name : str, default="x" and "y"
        Labels of the axes.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The data.
    line_ : matplotlib Line2D
        The fitted line.
    band_ : matplotlib FillBetweenPolyCollection or None
        The band.
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
        band: tuple[ArrayLike, ArrayLike] | None = None,
        band_name: str = "band",
        feature_name: str = "x",
        target_name: str = "y",
    ) -> None:
        self.x = x
        self.y = y
        self.x_line = x_line
        self.y_line = y_line
        self.band = band
        self.band_name = band_name
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
        band: tuple[Any, Any] | None = None,
        ax: "Axes | None" = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
        band_kwargs: dict[str, Any] | None = None,
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
        band : tuple of two fitted regressors or None, default=None
            What to fill the space between the predictions of, such as regressors of a lower and an upper quantile. The
            legend gives their quantiles, if they have any.
        %(ax)s
        %(scatter_kwargs)s
        %(line_kwargs)s
        %(band_kwargs)s

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
        names = {"feature_name": shorten(column_name(X, "x"), 48), "target_name": shorten(column_name(y, "y"), 48)}
        if band is not None:
            names["band_name"] = _band_name(*band)
            band = tuple(np.ravel(edge.predict(grid)) for edge in band)
        display = cls(features.ravel(), targets.ravel(), x_line, y_line, band=band, **names)
        style = {"scatter_kwargs": scatter_kwargs, "line_kwargs": line_kwargs, "band_kwargs": band_kwargs}
        return display.plot(ax, **style)

    @substitute
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
        band_kwargs: dict[str, Any] | None = None,
    ) -> "FitDisplay":
        """Draw the data, the fitted line and the band.

        Parameters
        ----------
        %(ax)s
        %(scatter_kwargs)s
        %(line_kwargs)s
        %(band_kwargs)s

        Returns
        -------
        self : FitDisplay

        Raises
        ------
        %(no_matplotlib)s
        """
        matplotlib = import_matplotlib("FitDisplay.plot")
        points = {"color": "tab:blue", "alpha": 0.8, "edgecolor": "none", "label": "data"}
        points = merge_style(matplotlib.collections.PathCollection, points, scatter_kwargs)
        line = {"color": "red", "linewidth": 2, "label": "fit"}
        line = merge_style(matplotlib.lines.Line2D, line, line_kwargs)
        x, y, x_line, y_line = (to_array(getattr(self, name), name) for name in ("x", "y", "x_line", "y_line"))
        self.ax_ = axes_or_new(matplotlib, ax)
        self.figure_ = self.ax_.figure
        self.scatter_ = self.ax_.scatter(x, y, **points)
        (self.line_,) = self.ax_.plot(x_line, y_line, **line)
        self.band_ = None
        if self.band is not None:
            style = {"color": self.line_.get_color(), "alpha": 0.25, "linewidth": 0, "zorder": 0.5}
            style = merge_style(matplotlib.collections.PolyCollection, style | {"label": self.band_name}, band_kwargs)
            self.band_ = self.ax_.fill_between(x_line, *(to_array(edge, "band") for edge in self.band), **style)
        self.ax_.set(xlabel=self.feature_name, ylabel=self.target_name)
        self.ax_.grid(alpha=0.2)
        self.ax_.legend()
        return self


def _band_name(lower: Any, upper: Any) -> str:
    """Return the quantiles of two regressors, if these are all that they differ in."""
    quantiles = [
        getattr(last_step(edge), "quantile", getattr(getattr(last_step(edge), "loss", None), "quantile", None))
        for edge in (lower, upper)
    ]
    return "band" if None in quantiles else "quantiles {:g} to {:g}".format(*quantiles)
