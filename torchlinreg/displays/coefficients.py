"""Coefficients with their confidence intervals."""

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
from torchlinreg.displays.docstrings import substitute
from torchlinreg.displays.drawing import (
    GREY,
    PANELS_IN_A_ROW,
    coefficients_label,
    import_matplotlib,
    labels,
    largest_features,
    merge_style,
    target_axes,
    target_titles,
    to_array,
    to_float64,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from numpy.random import RandomState

_ROW_HEIGHT = 0.25  # inches
_MAX_FIGURE_HEIGHT = 12  # inches; the rows of a higher figure move closer together
_MIN_FONT_SIZE = 5.5  # points
_LINE_HEIGHT = 1.05 / 72  # inches that a line of text takes for each point of its font size
_EXCLUDES_ZERO, _CROSSES_ZERO = "tab:blue", "0.6"


@substitute
class CoefficientDisplay:
    """Coefficients with their confidence intervals, a row for each feature.

    Intervals that exclude zero are blue, those that cross it grey. If any crosses it, a legend explains the colours.

    Parameters
    ----------
    estimate, low, high : array-like of shape (n_features,) or (n_targets, n_features)
        Coefficients, and the lower and upper ends of their intervals.
    %(feature_names)s
    %(target_names)s
    feature_stds : array-like of shape (n_features,) or None, default=None
        Standard deviations of the features. Coefficients and intervals are multiplied by them, which makes the
        features comparable; None leaves them as they are.

    Attributes
    ----------
    scatters_ : list of matplotlib PathCollection
        The coefficients of each target.
    lines_ : list of matplotlib LineCollection
        The intervals of each target.
    %(axes_)s
    legend_ : matplotlib Legend or None
        Says what the colours mean, and how many of the features are drawn.
    %(figure_)s

    See Also
    --------
    CoefficientDisplay.from_estimator : Draw the bootstrap intervals of an estimator.
    CoefficientDisplay.from_frame : Draw the DataFrame that `bootstrap` or `summary` returns.

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
    @substitute
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
            As `torchlinreg.bootstrap` takes it; it need not be fitted.
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The features.
        y : array-like, Series, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.
        n_resamples : int, default=1000
            Number of bootstrap samples.
        confidence_level : float, default=0.95
            Probability that an interval contains the true coefficient.
        random_state : int, RandomState instance or None, default=None
            Seed of the bootstrap samples; pass an int for reproducible intervals.
        %(intercept)s
        standardize : bool, default=False
            Whether to multiply coefficients and intervals by the standard deviations of the features (in a Pipeline,
            of the features that its last step gets). The intercept stays as it is.
        %(sort)s
        %(max_features)s
        %(axes)s
        %(scatter_kwargs)s
        %(interval_kwargs)s

        Returns
        -------
        display : CoefficientDisplay

        Raises
        ------
        ValueError
            If `bootstrap` refuses, if `max_features` is below one, or if `ax` does not hold an axes for each target.
        %(no_matplotlib)s
        """
        import_matplotlib("CoefficientDisplay.from_estimator")  # before the fits, which take time
        options = {"n_resamples": n_resamples, "confidence_level": confidence_level, "random_state": random_state}
        frame = bootstrap(estimator, X, y, sample_weight=sample_weight, **options)
        stds = _standard_deviations(estimator, X, y, sample_weight) if standardize else None
        names = [y.name] if isinstance(y, pd.Series) and y.name is not None else None
        show = {"target_names": names, "sort": sort, "max_features": max_features, "ax": ax}
        style = {"scatter_kwargs": scatter_kwargs, "line_kwargs": line_kwargs}
        return cls.from_frame(frame, intercept=intercept, feature_stds=stds, **show, **style)

    @classmethod
    @substitute
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        intercept: bool = False,
        target_names: Iterable[str] | None = None,
        feature_stds: ArrayLike | None = None,
        sort: bool = False,
        max_features: int | None = None,
        ax: "Axes | Iterable[Axes] | None" = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw what `torchlinreg.bootstrap` or `torchlinreg.inference.summary` returns, or some rows of it.

        Parameters
        ----------
        frame : DataFrame
            A row for each feature, or for each target and feature, with columns estimate, low and high, or as
            statsmodels names them. The last row of a target may be "intercept".
        %(intercept)s
        target_names : iterable of str or None, default=None
            Of length n_targets; None takes those that `frame` has.
        feature_stds : array-like of shape (n_features,), Series or None, default=None
            Standard deviations to multiply coefficients and intervals by; the intercept stays as it is. A Series such
            as ``X.std()`` is matched by the names of the features, an array by their order.
        %(sort)s
        %(max_features)s
        %(axes)s
        %(scatter_kwargs)s
        %(interval_kwargs)s

        Returns
        -------
        display : CoefficientDisplay

        Raises
        ------
        ValueError
            If a column is missing, if targets differ in their features, if `feature_stds` does not match the features,
            if `max_features` is below one, or if `ax` does not hold an axes for each target.
        %(no_matplotlib)s
        """
        ends = [name for name in map(str, frame.columns) if name.startswith("[") or name.endswith("]")]
        columns = ["Coef.", *ends] if "Coef." in frame.columns and len(ends) == 2 else ["estimate", "low", "high"]
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise ValueError(f"frame lacks the columns {missing}: pass what torchlinreg.bootstrap returns")
        if frame.empty:
            raise ValueError("frame has no rows: pass what torchlinreg.bootstrap returns, or some rows of it")
        found, tables = _by_target(frame)
        target_names = found if target_names is None else target_names
        feature_stds = None if feature_stds is None else _match_features(feature_stds, tables[0].index)
        if not intercept:
            tables = [table.iloc[:-1] if "intercept" in table.index[-1:] else table for table in tables]
            feature_stds = None if feature_stds is None else feature_stds[: len(tables[0])]
        features = tables[0].index
        if not all(table.index.equals(features) for table in tables):
            raise ValueError("the targets of frame differ in their features: give each the same, in the same order")
        numbers = (np.stack([table[column] for table in tables]) for column in columns)
        display = cls(*numbers, feature_names=features, target_names=target_names, feature_stds=feature_stds)
        show = {"sort": sort, "max_features": max_features}
        return display.plot(ax, **show, scatter_kwargs=scatter_kwargs, line_kwargs=line_kwargs)

    @substitute
    def plot(
        self,
        ax: "Axes | Iterable[Axes] | None" = None,
        *,
        sort: bool = False,
        max_features: int | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "CoefficientDisplay":
        """Draw coefficients and intervals, the first feature on top.

        A new figure is as high as its rows need, up to the height of a page. If the rows are too close for all names,
        only every second, third, ... row is named.

        Parameters
        ----------
        %(axes)s
        %(sort)s
        %(max_features)s
        %(scatter_kwargs)s
        %(interval_kwargs)s

        Returns
        -------
        self : CoefficientDisplay

        Raises
        ------
        %(no_matplotlib)s
        ValueError
            If shapes or numbers of names do not match, if `max_features` is below one, or if `ax` does not hold
            an axes for each target.
        """
        matplotlib = import_matplotlib("CoefficientDisplay.plot")
        estimate, low, high = self._intervals()
        n_targets, n_features = estimate.shape
        names = labels("feature_names", self.feature_names, n_features, "x")
        chosen = _choose_features(estimate, max_features, sort=sort)
        names = [names[feature] for feature in chosen]
        size = _axes_size(n_targets, len(chosen))
        titles = target_titles(self.target_names, n_targets)
        self.axes_ = target_axes(matplotlib, ax, titles, size=size, sharey=True)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.scatters_, self.lines_ = [], []
        rows = np.arange(len(chosen))
        excludes_zero = ((low > 0) | (high < 0))[:, chosen]
        for target, axis in enumerate(self.axes_):
            colors = np.where(excludes_zero[target], _EXCLUDES_ZERO, _CROSSES_ZERO)
            interval_style = {"color": colors, "linewidth": 2}
            interval_style = merge_style(matplotlib.collections.LineCollection, interval_style, line_kwargs)
            point_style = {"color": colors, "s": 25, "zorder": 3}
            point_style = merge_style(matplotlib.collections.PathCollection, point_style, scatter_kwargs)
            axis.axvline(0, color=GREY, linewidth=0.8, zorder=1)
            self.lines_.append(axis.hlines(rows, low[target, chosen], high[target, chosen], **interval_style))
            self.scatters_.append(axis.scatter(estimate[target, chosen], rows, **point_style))
            factor = "" if self.feature_stds is None else " × standard deviation"
            axis.set(xlabel=coefficients_label(titles[target], factor), ylim=(len(chosen) - 0.5, -0.5))
            axis.grid(axis="x", alpha=0.2)
            _name_rows(axis, names)
        default_colors = interval_style["color"] is colors  # the user's own colours mean something else
        explain_colors = default_colors and not excludes_zero.all()
        title = f"{len(chosen)} largest of {n_features} features" if len(chosen) < n_features else None
        self.legend_ = self._draw_legend(matplotlib, title, explain_colors=explain_colors, new=ax is None)
        return self

    def _intervals(self) -> list[np.ndarray]:
        """Return coefficients and the ends of their intervals, each of shape (n_targets, n_features)."""
        parts = {"estimate": self.estimate, "low": self.low, "high": self.high}
        numbers = [to_float64(part, name) for name, part in parts.items()]
        shapes = [part.shape for part in numbers]
        if len(set(shapes)) > 1 or numbers[0].ndim not in (1, 2) or not numbers[0].size:
            raise ValueError(
                f"estimate, low and high have shapes {shapes}: pass (n_features,) or (n_targets, n_features), "
                "the same for all three"
            )
        if self.feature_stds is None:
            return [np.atleast_2d(part) for part in numbers]
        stds = _one_for_each(self.feature_stds, shapes[0][-1])
        return [np.atleast_2d(part * stds) for part in numbers]

    def _draw_legend(
        self, matplotlib: ModuleType, title: str | None, *, explain_colors: bool, new: bool
    ) -> "Legend | None":
        """Draw a legend if it has a title or colours to explain, below a new figure or inside the user's last axes."""
        if not explain_colors and title is None:
            return None
        style = {"marker": "o", "markersize": 5, "linewidth": 2}
        meanings = {_EXCLUDES_ZERO: "interval leaves out zero", _CROSSES_ZERO: "interval crosses zero"}
        handles = [matplotlib.lines.Line2D([], [], color=color, label=meanings[color], **style) for color in meanings]
        handles = handles if explain_colors else []
        options = {"handles": handles, "title": title, "fontsize": "small", "title_fontsize": "small"}
        if new:
            return self.figure_.legend(loc="outside lower center", ncols=2, frameon=False, **options)
        return self.axes_[-1].legend(loc="best", **options)


def _by_target(frame: pd.DataFrame) -> tuple[list[Any] | None, list[pd.DataFrame]]:
    """Return the names of the targets, if there are any, and the rows of each target, indexed by feature."""
    if frame.index.nlevels == 1:
        return None, [frame]
    tables = dict(tuple(frame.groupby(level=0, sort=False)))
    return list(tables), [table.droplevel(0) for table in tables.values()]


def _choose_features(estimate: np.ndarray, max_features: int | None, *, sort: bool) -> np.ndarray:
    """Return the indices of the features to draw, in the order of their rows."""
    count = estimate.shape[1] if max_features is None else max_features
    if count < 1:
        raise ValueError(f"max_features={max_features} leaves nothing to draw: give a number from one on, or None")
    chosen = largest_features(estimate, count)
    return chosen if sort else np.sort(chosen)


def _standard_deviations(estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None) -> np.ndarray:
    """Return the standard deviations of the features that the last step of the estimator gets."""
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = clone(estimator[:-1]).fit_transform(X, y)
    scaler = StandardScaler(with_mean=False)  # sparse matrices cannot be centred
    return np.sqrt(scaler.fit(to_array(X, "X"), sample_weight=to_array(sample_weight, "sample_weight")).var_)


def _match_features(feature_stds: ArrayLike, features: pd.Index) -> np.ndarray:
    """Return a factor for each row of a target: the standard deviation of its feature, or 1 for the intercept."""
    with_intercept = "intercept" in features[-1:]
    names = features[:-1] if with_intercept else features
    if isinstance(feature_stds, pd.Series):
        unknown = names[~names.isin(feature_stds.index)]
        if len(unknown):
            raise ValueError(f"feature_stds has none for {list(unknown)}: pass that of each feature, such as X.std()")
        feature_stds = feature_stds[names]
    stds = _one_for_each(feature_stds, len(names))
    return np.append(stds, 1.0) if with_intercept else stds


def _one_for_each(feature_stds: ArrayLike, n_features: int) -> np.ndarray:
    """Return the standard deviations as an array, checked to be one for each feature."""
    stds = to_float64(feature_stds, "feature_stds")
    if stds.shape != (n_features,):
        raise ValueError(f"feature_stds has shape {stds.shape}, and there are {n_features} features: pass one for each")
    return stds


def _axes_size(n_targets: int, n_rows: int) -> tuple[float, float]:
    """Return width and height of the axes of each target in inches: as high as the rows need, up to a page."""
    max_height = _MAX_FIGURE_HEIGHT / -(-n_targets // PANELS_IN_A_ROW)
    return 4 + 2 / n_targets, min(1.5 + _ROW_HEIGHT * max(n_rows, 4), max_height)


def _name_rows(axis: "Axes", names: list[str]) -> None:
    """Write the names of the rows, in a smaller font or only every second, third, ... if there is no room."""
    row_height = axis.get_window_extent().height / axis.figure.dpi / len(names)
    step = int(-(-_MIN_FONT_SIZE * _LINE_HEIGHT // row_height))
    axis.set_yticks(np.arange(0, len(names), step), names[::step])
    font_size = step * row_height / _LINE_HEIGHT
    if font_size < axis.yaxis.label.get_fontsize():
        axis.tick_params(axis="y", labelsize=font_size)
