"""The picture of coefficients with their intervals."""

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg.analysis.bootstrap import bootstrap
from torchlinreg.displays.drawing import (
    PANELS_IN_A_ROW,
    import_matplotlib,
    labels,
    largest,
    merge,
    panels,
    titles,
    to_array,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from numpy.random import RandomState

_ROW_INCHES = 0.25
_MOST_INCHES = 12  # of a new figure, before rows come closer
_LEAST_POINTS = 5.5  # of the letters of a name
_INCHES_PER_POINT = 1.05 / 72  # of a line of such letters
_CLEAR, _DOUBTFUL = "tab:blue", "lightsteelblue"


class CoefficientDisplay:
    """Estimated coefficients with their intervals, a row for each feature.

    Intervals that leave out zero are drawn in a stronger colour; a legend says so where some do not.

    Parameters
    ----------
    estimate, low, high : array-like of shape (n_features,) or (n_targets, n_features)
        Coefficients, and the ends of their intervals.
    feature_names : iterable of str or None, default=None
        Of length n_features; None names them x0, x1, ...
    target_names : iterable of str or None, default=None
        Of length n_targets; None names them y0, y1, ... where there are several.
    feature_stds : array-like of shape (n_features,) or None, default=None
        Standard deviations of the features: coefficients and intervals are multiplied by them, so that they can be
        compared. None leaves them as they are.

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
    legend_ : matplotlib Legend or None
        What colours mean, and how many of the features are drawn.
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

    __module__ = "torchlinreg.displays"

    def __init__(
        self,
        estimate: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        *,
        feature_names: Iterable[str] | None = None,
        target_names: Iterable[str] | None = None,
        feature_stds: ArrayLike | None = None,
    ) -> None:
        self.estimate = estimate
        self.low = low
        self.high = high
        self.feature_names = feature_names
        self.target_names = target_names
        self.feature_stds = feature_stds

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
        standardize: bool = False,
        sort: bool = False,
        max_features: int | None = None,
        ax: "Axes | Iterable[Axes] | None" = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw the bootstrap intervals of an estimator.

        Parameters
        ----------
        estimator : TorchLinearRegressor, TorchLinearRegressorCV or Pipeline
            As `torchlinreg.bootstrap` takes it; need not be fitted.
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The features.
        y : array-like, Series, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
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
        standardize : bool, default=False
            Whether to multiply coefficients and intervals by the standard deviations of the features, those that the
            last step of a Pipeline gets. The intercept stays as it is.
        sort : bool, default=False
            Whether the largest coefficients come first, by their absolute values; of several targets each counts
            beside the largest of its target.
        max_features : int or None, default=None
            How many features to draw, the largest ones; None draws all.
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
            If `bootstrap` refuses, if `max_features` is below one, or if `ax` does not hold an axes for each target.
        ImportError
            If matplotlib is not installed.
        """
        import_matplotlib("CoefficientDisplay.from_estimator")  # rather than after a thousand fits
        options = {"n_resamples": n_resamples, "confidence_level": confidence_level, "random_state": random_state}
        frame = bootstrap(estimator, X, y, sample_weight=sample_weight, **options)
        stds = _feature_stds(estimator, X, y, sample_weight) if standardize else None
        show = {"sort": sort, "max_features": max_features, "ax": ax}
        style = {"scatter_kwargs": scatter_kwargs, "line_kwargs": line_kwargs}
        return cls.from_frame(frame, intercept=intercept, feature_stds=stds, **show, **style)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        intercept: bool = False,
        feature_stds: ArrayLike | None = None,
        sort: bool = False,
        max_features: int | None = None,
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
        feature_stds : array-like of shape (n_features,), Series or None, default=None
            Standard deviations to multiply coefficients and intervals by; the intercept stays as it is. Those of a
            Series such as ``X.std()`` are found by the names of the features, others by their order.
        sort : bool, default=False
            Whether the largest coefficients come first, by their absolute values; of several targets each counts
            beside the largest of its target.
        max_features : int or None, default=None
            How many features to draw, the largest ones; None draws all.
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
            If a column is missing, if targets differ in their features, if `feature_stds` has too few or too many, if
            `max_features` is below one, or if `ax` does not hold an axes for each target.
        ImportError
            If matplotlib is not installed.
        """
        missing = [column for column in ("estimate", "low", "high") if column not in frame.columns]
        if missing:
            raise ValueError(f"frame lacks the columns {missing}: pass what torchlinreg.bootstrap returns")
        if frame.empty:
            raise ValueError("frame has no rows: pass what torchlinreg.bootstrap returns, or some rows of it")
        target_names, tables = _by_target(frame)
        feature_stds = None if feature_stds is None else _match(feature_stds, tables[0].index)
        if not intercept:
            tables = [table.iloc[:-1] if "intercept" in table.index[-1:] else table for table in tables]
            feature_stds = None if feature_stds is None else feature_stds[: len(tables[0])]
        features = tables[0].index
        if not all(table.index.equals(features) for table in tables):
            raise ValueError("the targets of frame differ in their features: give each the same, in the same order")
        numbers = (np.stack([table[column] for table in tables]) for column in ("estimate", "low", "high"))
        display = cls(*numbers, feature_names=features, target_names=target_names, feature_stds=feature_stds)
        show = {"sort": sort, "max_features": max_features}
        return display.plot(ax, **show, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: "Axes | Iterable[Axes] | None" = None,
        *,
        sort: bool = False,
        max_features: int | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw estimates and intervals, the first feature on top.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of them, default=None
            Where to draw, an axes for each target; None makes a new figure, as high as the rows need, up to what fits
            on a page. Where rows are too close for all names, every second, third, ... is named.
        sort : bool, default=False
            Whether the largest coefficients come first, by their absolute values; of several targets each counts
            beside the largest of its target.
        max_features : int or None, default=None
            How many features to draw, the largest ones; None draws all.
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
            If shapes or numbers of names do not go together, if `max_features` is below one, or if `ax` does not hold
            an axes for each target.
        """
        matplotlib = import_matplotlib("CoefficientDisplay.plot")
        estimate, low, high = self._intervals()
        n_targets, n_features = estimate.shape
        names = labels("feature_names", self.feature_names, n_features, "x")
        chosen = _choose(estimate, max_features, sort=sort)
        names = [names[feature] for feature in chosen]
        size = _panel_size(n_targets, len(chosen))
        self.axes_ = panels(matplotlib, ax, titles(self.target_names, n_targets), size=size, sharey=True)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.scatters_, self.lines_ = [], []
        rows = np.arange(len(chosen))
        clear = ((low > 0) | (high < 0))[:, chosen]
        for target, axis in enumerate(self.axes_):
            colors = np.where(clear[target], _CLEAR, _DOUBTFUL)
            whiskers = merge({"color": colors, "linewidth": 2}, line_kwargs, matplotlib.collections.LineCollection)
            dots = merge({"color": colors, "s": 25, "zorder": 3}, scatter_kwargs, matplotlib.collections.PathCollection)
            axis.axvline(0, color="0.3", linewidth=0.8, zorder=1)
            self.lines_.append(axis.hlines(rows, low[target, chosen], high[target, chosen], **whiskers))
            self.scatters_.append(axis.scatter(estimate[target, chosen], rows, **dots))
            factor = "" if self.feature_stds is None else " × standard deviation"
            axis.set(xlabel=f"Coefficient{factor}", ylim=(len(chosen) - 0.5, -0.5))
            axis.grid(axis="x", alpha=0.2)
            _name_rows(axis, names)
        ours = whiskers["color"] is colors  # or the user's colours mean something else
        drawn = f"{len(chosen)} largest of {n_features} features" if len(chosen) < n_features else None
        self.legend_ = self._explain(matplotlib, drawn, doubts=ours and not clear.all(), new=ax is None)
        return self

    def _intervals(self) -> list[np.ndarray]:
        """Return estimates and ends of intervals, of shape (n_targets, n_features) each."""
        parts = {"estimate": self.estimate, "low": self.low, "high": self.high}
        numbers = [np.asarray(to_array(part, name), dtype=np.float64) for name, part in parts.items()]
        shapes = [part.shape for part in numbers]
        if len(set(shapes)) > 1 or numbers[0].ndim not in (1, 2) or not numbers[0].size:
            raise ValueError(
                f"estimate, low and high have shapes {shapes}: pass (n_features,) or (n_targets, n_features), "
                "the same for all three"
            )
        if self.feature_stds is None:
            return [np.atleast_2d(part) for part in numbers]
        stds = np.asarray(to_array(self.feature_stds, "feature_stds"), dtype=np.float64)
        if stds.shape != shapes[0][-1:]:
            raise ValueError(
                f"feature_stds has shape {stds.shape}, and there are {shapes[0][-1]} features: pass one for each"
            )
        return [np.atleast_2d(part * stds) for part in numbers]

    def _explain(self, matplotlib: ModuleType, title: str | None, *, doubts: bool, new: bool) -> "Legend | None":
        """Draw a legend if there is something to say: below a figure of our own, else where the last axes has room."""
        if not doubts and title is None:
            return None
        meanings = {_CLEAR: "interval leaves out zero", _DOUBTFUL: "interval crosses zero"} if doubts else {}
        style = {"marker": "o", "markersize": 5, "linewidth": 2}
        handles = [
            matplotlib.lines.Line2D([], [], color=color, label=meaning, **style) for color, meaning in meanings.items()
        ]
        options = {"handles": handles, "title": title, "fontsize": "small", "title_fontsize": "small"}
        if new:
            return self.figure_.legend(loc="outside lower center", ncols=2, frameon=False, **options)
        return self.axes_[-1].legend(loc="best", **options)


def _by_target(frame: pd.DataFrame) -> tuple[list[Any] | None, list[pd.DataFrame]]:
    """Return the names of the targets, if they have any, and the rows of each by feature."""
    if frame.index.nlevels == 1:
        return None, [frame]
    tables = dict(tuple(frame.groupby(level=0, sort=False)))
    return list(tables), [table.droplevel(0) for table in tables.values()]


def _choose(estimate: np.ndarray, max_features: int | None, *, sort: bool) -> np.ndarray:
    """Return which features to draw, from the top."""
    count = estimate.shape[1] if max_features is None else max_features
    if count < 1:
        raise ValueError(f"max_features={max_features} leaves nothing to draw: give a number from one on, or None")
    chosen = largest(estimate, count)
    return chosen if sort else np.sort(chosen)


def _feature_stds(estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None) -> np.ndarray:
    """Return the standard deviations of the features that the last step of the estimator gets."""
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = clone(estimator[:-1]).fit_transform(X, y)
    scaler = StandardScaler(with_mean=False)  # which sparse matrices can do as well
    return np.sqrt(scaler.fit(to_array(X, "X"), sample_weight=to_array(sample_weight, "sample_weight")).var_)


def _match(feature_stds: ArrayLike, features: pd.Index) -> np.ndarray:
    """Return a factor for each row of a target: the standard deviation of its feature, and one for the intercept."""
    with_intercept = "intercept" in features[-1:]
    names = features[:-1] if with_intercept else features
    if isinstance(feature_stds, pd.Series):
        unknown = names[~names.isin(feature_stds.index)]
        if len(unknown):
            raise ValueError(f"feature_stds has none for {list(unknown)}: pass that of each feature, such as X.std()")
        feature_stds = feature_stds[names]
    stds = np.asarray(to_array(feature_stds, "feature_stds"), dtype=np.float64)
    if stds.shape != names.shape:
        raise ValueError(f"feature_stds has shape {stds.shape}, and there are {len(names)} features: pass one for each")
    return np.append(stds, 1.0) if with_intercept else stds


def _panel_size(n_targets: int, n_rows: int) -> tuple[float, float]:
    """Return inches of the axes of each target: as high as the rows need, while all fit on a page."""
    most = _MOST_INCHES / -(-n_targets // PANELS_IN_A_ROW)
    return 4 + 2 / n_targets, min(1.5 + _ROW_INCHES * max(n_rows, 4), most)


def _name_rows(axis: "Axes", names: list[str]) -> None:
    """Write the names of the rows, as small as need be, or every second, third, ... where there is no room."""
    room = axis.get_window_extent().height / axis.figure.dpi / len(names)
    step = -(-_LEAST_POINTS * _INCHES_PER_POINT // room)
    axis.set_yticks(np.arange(0, len(names), int(step)), names[:: int(step)])
    points = step * room / _INCHES_PER_POINT
    if points < axis.yaxis.label.get_fontsize():
        axis.tick_params(axis="y", labelsize=points)
