"""The picture of coefficients with their intervals."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from torchlinreg.displays.drawing import import_matplotlib, labels, merge, panels, titles
from torchlinreg.inference import bootstrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.random import RandomState

_ROW_INCHES = 0.25
_LABEL_INCHES = 0.15  # what the name of a row needs at least
_MOST_ROWS = 100  # of a new figure, before rows come closer


class CoefficientDisplay:
    """Estimated coefficients with their intervals, a row for each feature.

    Intervals that leave out zero are drawn in a stronger colour.

    Parameters
    ----------
    estimate, low, high : array-like of shape (n_features,) or (n_targets, n_features)
        Coefficients, and the ends of their intervals.
    feature_names : iterable of str or None, default=None
        Of length n_features; None names them x0, x1, ...
    target_names : iterable of str or None, default=None
        Of length n_targets; None names them y0, y1, ... where there are several.

    Attributes
    ----------
    scatters_ : list of matplotlib PathCollection
        The estimates of each target.
    lines_ : list of matplotlib LineCollection
        The intervals of each target.
    axes_ : ndarray of shape (n_targets,)
        A matplotlib Axes for each target.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure

    See Also
    --------
    CoefficientDisplay.from_estimator : Draw the bootstrap intervals of an estimator.
    CoefficientDisplay.from_frame : Draw what `torchlinreg.bootstrap` returned.

    Examples
    --------
    >>> from torchlinreg.displays import CoefficientDisplay
    >>> display = CoefficientDisplay([2.0, 0.1], [1.5, -0.4], [2.5, 0.6], feature_names=["size", "age"]).plot()
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['size', 'age']
    """

    def __init__(
        self,
        estimate: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        *,
        feature_names: Iterable[str] | None = None,
        target_names: Iterable[str] | None = None,
    ) -> None:
        self.estimate = estimate
        self.low = low
        self.high = high
        self.feature_names = feature_names
        self.target_names = target_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | pd.DataFrame,
        y: ArrayLike | pd.Series | pd.DataFrame,
        *,
        sample_weight: ArrayLike | None = None,
        n_resamples: int = 1000,
        confidence_level: float = 0.95,
        random_state: "int | RandomState | None" = None,
        intercept: bool = False,
        ax: "Axes | Iterable[Axes] | None" = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw the bootstrap intervals of an estimator.

        Parameters
        ----------
        estimator : TorchLinearRegressor, TorchLinearRegressorCV or Pipeline
            As `torchlinreg.bootstrap` takes it; need not be fitted.
        X : array-like or DataFrame of shape (n_samples, n_features)
            The features.
        y : array-like, Series or DataFrame of shape (n_samples,) or (n_samples, n_targets)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.
        n_resamples : int, default=1000
            How often the rows are drawn anew.
        confidence_level : float, default=0.95
            Share of such intervals that would hold the true coefficient.
        random_state : int, RandomState instance or None, default=None
            What the draws depend on; an int gives the same intervals again.
        intercept : bool, default=False
            Whether the intercept has a row too.
        ax : matplotlib Axes or iterable of them, default=None
            Where to draw, an axes for each target; None makes a new figure.
        scatter_kwargs, line_kwargs : dict, default=None
            Passed on to `Axes.scatter` and `Axes.hlines`.

        Returns
        -------
        display : CoefficientDisplay

        Raises
        ------
        ValueError
            If `bootstrap` refuses, or if `ax` does not hold an axes for each target.
        ImportError
            If matplotlib is not installed.
        """
        import_matplotlib("CoefficientDisplay.from_estimator")  # rather than after a thousand fits
        options = {"n_resamples": n_resamples, "confidence_level": confidence_level, "random_state": random_state}
        frame = bootstrap(estimator, X, y, sample_weight=sample_weight, **options)
        style = {"scatter_kwargs": scatter_kwargs, "line_kwargs": line_kwargs}
        return cls.from_frame(frame, intercept=intercept, ax=ax, **style)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        intercept: bool = False,
        ax: "Axes | Iterable[Axes] | None" = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw what `torchlinreg.bootstrap` returned, or some rows of it.

        Parameters
        ----------
        frame : DataFrame
            A row for each feature, or for each target and feature, with columns estimate, low and high.
        intercept : bool, default=False
            Whether a row "intercept" at the end of a target is drawn too.
        ax : matplotlib Axes or iterable of them, default=None
            Where to draw, an axes for each target; None makes a new figure.
        scatter_kwargs, line_kwargs : dict, default=None
            Passed on to `Axes.scatter` and `Axes.hlines`.

        Returns
        -------
        display : CoefficientDisplay

        Raises
        ------
        ValueError
            If a column is missing, if targets differ in their features, or if `ax` does not hold an axes for
            each target.
        ImportError
            If matplotlib is not installed.
        """
        missing = [column for column in ("estimate", "low", "high") if column not in frame.columns]
        if missing:
            raise ValueError(f"frame lacks the columns {missing}: pass what torchlinreg.bootstrap returns")
        if frame.empty:
            raise ValueError("frame has no rows: pass what torchlinreg.bootstrap returns, or some rows of it")
        target_names, tables = _by_target(frame)
        if not intercept:
            tables = [table.iloc[:-1] if "intercept" in table.index[-1:] else table for table in tables]
        features = tables[0].index
        if not all(table.index.equals(features) for table in tables):
            raise ValueError("the targets of frame differ in their features: give each the same, in the same order")
        numbers = (np.stack([table[column] for table in tables]) for column in ("estimate", "low", "high"))
        display = cls(*numbers, feature_names=features, target_names=target_names)
        return display.plot(ax, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: "Axes | Iterable[Axes] | None" = None,
        *,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw estimates and intervals, the first feature on top.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of them, default=None
            Where to draw, an axes for each target; None makes a new figure, as high as the rows need.
        scatter_kwargs, line_kwargs : dict, default=None
            Passed on to `Axes.scatter` and `Axes.hlines`.

        Returns
        -------
        self : CoefficientDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If shapes or numbers of names do not go together, or if `ax` does not hold an axes for each target.
        """
        matplotlib = import_matplotlib("CoefficientDisplay.plot")
        estimate, low, high = self._intervals()
        n_targets, n_features = estimate.shape
        names = labels("feature_names", self.feature_names, n_features, "x")
        size = (4 + 2 / n_targets, 1 + _ROW_INCHES * min(max(n_features, 4), _MOST_ROWS))
        self.axes_ = panels(matplotlib, ax, titles(self.target_names, n_targets), size=size, sharey=True)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.scatters_, self.lines_ = [], []
        rows = np.arange(n_features)
        for axis, middle, left, right in zip(self.axes_, estimate, low, high, strict=True):
            colors = np.where((left > 0) | (right < 0), "tab:blue", "lightsteelblue")
            whiskers = merge({"color": colors, "linewidth": 2}, line_kwargs, matplotlib.collections.LineCollection)
            dots = merge({"color": colors, "s": 25, "zorder": 3}, scatter_kwargs, matplotlib.collections.PathCollection)
            axis.axvline(0, color="0.3", linewidth=0.8, zorder=1)
            self.lines_.append(axis.hlines(rows, left, right, **whiskers))
            self.scatters_.append(axis.scatter(middle, rows, **dots))
            axis.set(xlabel="Coefficient", ylim=(n_features - 0.5, -0.5))
            axis.grid(axis="x", alpha=0.2)
            _name_rows(axis, names)
        return self

    def _intervals(self) -> list[np.ndarray]:
        """Return estimates and ends of intervals, of shape (n_targets, n_features) each."""
        numbers = [np.asarray(part, dtype=np.float64) for part in (self.estimate, self.low, self.high)]
        shapes = [part.shape for part in numbers]
        if len(set(shapes)) > 1 or numbers[0].ndim not in (1, 2) or not numbers[0].size:
            raise ValueError(
                f"estimate, low and high have shapes {shapes}: pass (n_features,) or (n_targets, n_features), "
                "the same for all three"
            )
        return [np.atleast_2d(part) for part in numbers]


def _by_target(frame: pd.DataFrame) -> tuple[list[Any] | None, list[pd.DataFrame]]:
    """Return the names of the targets, if they have any, and the rows of each by feature."""
    if frame.index.nlevels == 1:
        return None, [frame]
    tables = dict(tuple(frame.groupby(level=0, sort=False)))
    return list(tables), [table.droplevel(0) for table in tables.values()]


def _name_rows(axis: "Axes", names: list[str]) -> None:
    """Write the names of the rows: all of them, or every second, third, ... where there is no room."""
    room = axis.get_window_extent().height / axis.figure.dpi / _LABEL_INCHES
    step = -(-len(names) // max(int(room), 1))
    axis.set_yticks(np.arange(0, len(names), step), names[::step])
