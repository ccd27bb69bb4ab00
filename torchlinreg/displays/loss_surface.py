"""The objective along one or two coefficients, with the path of a descent and its gradients."""

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from torchlinreg.analysis.surface import Fitted, Surface
from torchlinreg.displays.docstrings import substitute
from torchlinreg.displays.drawing import (
    COLORS,
    axes_or_new,
    coefficient_label,
    column_name,
    import_matplotlib,
    labels,
    merge_style,
    to_float64,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = {1: 201, 2: 41}  # along each axis
_MARGIN = 1.2  # times as far from the fitted coefficients as the path goes
_LEVELS = 13
_TANGENT = 0.12  # of the width and height of the axes


@substitute
class LossSurfaceDisplay:
    """The objective along one coefficient as a curve, or along two as contours, with the path of a descent.

    It is a slice: all other coefficients are held where they were fitted. A path is projected onto it, so that its
    points lie on the curve, and tangents and arrows are the gradient there.

    Parameters
    ----------
    grid : sequence of one or two array-likes
        Values of each coefficient, in ascending order.
    objective : array-like of shape (n_values,) or (n_values_0, n_values_1)
        The objective at these. Where it is infinite, nothing is drawn.
    estimate : array-like of shape (n_coefficients,)
        The fitted coefficients.
    path : array-like of shape (n_points, n_coefficients) or None, default=None
        Coefficients on the way, from the first to the last.
    path_objective : array-like of shape (n_points,) or None, default=None
        The objective at these; a curve needs it to draw the path.
    path_gradient : array-like of shape (n_points, n_coefficients) or None, default=None
        Its gradient there; None draws neither tangents nor arrows.
    feature_names : iterable of str or None, default=None
        What the coefficients belong to, "intercept" for that; None names the features x0, x1.
    target_name : str or None, default=None
        With a unit, such as "price (€)", it gives coefficients of features that have one, too, theirs.
    objective_name : str, default="Objective"
        Label of the axis, or of the colour bar.

    Attributes
    ----------
    line_ : matplotlib Line2D or None
        The curve.
    contour_ : matplotlib QuadContourSet or None
        The contours.
    path_line_ : matplotlib Line2D or None
        The path.
    tangents_ : matplotlib LineCollection or Quiver or None
        Tangents of the curve, or arrows against the gradient, the way that a step goes.
    %(ax_)s
    %(figure_)s

    See Also
    --------
    LossSurfaceDisplay.from_estimator : Draw the objective of a fitted estimator.
    LossCurveDisplay : The loss of each epoch, with all coefficients.

    Examples
    --------
    >>> import numpy as np
    >>> from torchlinreg.displays import LossSurfaceDisplay
    >>> weights = np.linspace(-1, 3, 50)
    >>> display = LossSurfaceDisplay([weights], (weights - 1) ** 2, [1.0]).plot()
    >>> display.ax_.get_xlabel()
    'Coefficient of x0'
    """

    __module__ = "torchlinreg.displays"

    def __init__(
        self,
        grid: Sequence[ArrayLike],
        objective: ArrayLike,
        estimate: ArrayLike,
        *,
        path: ArrayLike | None = None,
        path_objective: ArrayLike | None = None,
        path_gradient: ArrayLike | None = None,
        feature_names: Iterable[str] | None = None,
        target_name: str | None = None,
        objective_name: str = "Objective",
    ) -> None:
        self.grid = grid
        self.objective = objective
        self.estimate = estimate
        self.path = path
        self.path_objective = path_objective
        self.path_gradient = path_gradient
        self.feature_names = feature_names
        self.target_name = target_name
        self.objective_name = objective_name

    @classmethod
    @substitute
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | pd.DataFrame,
        y: ArrayLike | pd.Series | pd.DataFrame,
        *,
        features: int | str | Sequence[int | str] = 0,
        target: int = 0,
        path: ArrayLike | str | None = None,
        sample_weight: ArrayLike | None = None,
        limits: Sequence[tuple[float, float]] | None = None,
        grid_resolution: int | None = None,
        ax: "Axes | None" = None,
        n_tangents: int = 4,
        line_kwargs: dict[str, Any] | None = None,
        contour_kwargs: dict[str, Any] | None = None,
        path_kwargs: dict[str, Any] | None = None,
        tangent_kwargs: dict[str, Any] | None = None,
    ) -> "LossSurfaceDisplay":
        """Draw the objective of a fitted estimator, mean loss and penalty, around its coefficients.

        The time this takes grows with the number of rows times that of values on the grid.

        Parameters
        ----------
        estimator : fitted TorchLinearRegressor or TorchLinearRegressorCV, or a Pipeline that ends in one
            With any loss and penalty. A search is fitted once more, with the setting that it chose.
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
            The features that it was fitted to.
        y : array-like, Series, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            The targets.
        features : int, str or sequence of one or two of them, default=0
            Whose coefficients to move: numbers or names of features, or "intercept".
        target : int, default=0
            The target whose coefficients are drawn, if there are several.
        path : array-like of shape (n_points, n_coefficients), "fit" or None, default=None
            Values of these coefficients on the way, such as those of a loop of your own. "fit" trains a second time and
            records them after each epoch, in textbook mode from the start on; with mini-batches, give the estimator a
            `random_state` to get the same path.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, as in `fit`.
        limits : sequence of (low, high) or None, default=None
            Where the axis of each coefficient ends. None goes as far around the fitted coefficients as the path does,
            or until predictions have moved by 1.5 standard deviations of the target.
        grid_resolution : int or None, default=None
            Number of values along each axis; None is 201 for one coefficient and 41 for two.
        %(ax)s
        %(n_tangents)s
        %(surface_kwargs)s

        Returns
        -------
        display : LossSurfaceDisplay

        Raises
        ------
        %(not_fitted)s
        TypeError
            If the objective of `estimator` is not known.
        ValueError
            If there are no such features or there is no such target, or if the path does not have a finite value for
            each coefficient.
        %(no_matplotlib)s
        """
        import_matplotlib("LossSurfaceDisplay.from_estimator")  # before the computation, which takes time
        fitted = Fitted.of(estimator, X, y, sample_weight)
        features = [features] if isinstance(features, int | str) else list(features)
        if len(features) not in (1, 2):
            raise ValueError(f"features={features!r}: give one feature for a curve, or two for contours.")
        chosen = [fitted.find(feature) for feature in features]
        surface = fitted.surface(chosen, target)
        if isinstance(path, str):
            if path != "fit":
                raise ValueError(f'path={path!r}: give an array, "fit" to train once more, or None.')
            path = fitted.descend()[:, chosen, target]
        path = None if path is None else _check_path(path, len(chosen))
        grid = _make_grid(surface, path, limits, grid_resolution)
        points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
        values = surface.evaluate(points.reshape(-1, len(chosen))).reshape(points.shape[:-1])
        display = cls(
            grid,
            values,
            surface.estimate,
            path=path,
            path_objective=None if path is None else surface.evaluate(path),
            path_gradient=None if path is None else surface.gradient(path),
            feature_names=surface.names,
            target_name=_target_name(y, target),
            objective_name=_objective_name(fitted.model),
        )
        style = {"line_kwargs": line_kwargs, "contour_kwargs": contour_kwargs}
        style |= {"path_kwargs": path_kwargs, "tangent_kwargs": tangent_kwargs}
        return display.plot(ax, n_tangents=n_tangents, **style)

    @substitute
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        n_tangents: int = 4,
        line_kwargs: dict[str, Any] | None = None,
        contour_kwargs: dict[str, Any] | None = None,
        path_kwargs: dict[str, Any] | None = None,
        tangent_kwargs: dict[str, Any] | None = None,
    ) -> "LossSurfaceDisplay":
        """Draw the curve or the contours, the fitted coefficients, and the path with its gradients.

        Contours are closer where the objective is lower: steps between them grow with the distance from the minimum.

        Parameters
        ----------
        %(ax)s
        %(n_tangents)s
        %(surface_kwargs)s

        Returns
        -------
        self : LossSurfaceDisplay

        Raises
        ------
        %(no_matplotlib)s
        ValueError
            If shapes or numbers of names do not match.
        """
        matplotlib = import_matplotlib("LossSurfaceDisplay.plot")
        grid, objective, estimate = self._surface()
        names = labels("feature_names", self.feature_names, len(grid), "x")
        axis_labels = [coefficient_label(name, self.target_name) for name in names]
        self.ax_ = axes_or_new(matplotlib, ax)
        self.figure_ = self.ax_.figure
        self.line_ = self.contour_ = self.path_line_ = self.tangents_ = None
        if len(grid) == 1:
            style = merge_style(
                matplotlib.lines.Line2D, {"color": COLORS[0], "linewidth": 2, "label": "objective"}, line_kwargs
            )
            (self.line_,) = self.ax_.plot(grid[0], objective, **style)
            self.ax_.set(xlabel=axis_labels[0], ylabel=self.objective_name)
            self.ax_.grid(alpha=0.2)
            marked = [estimate[0]], [np.interp(estimate[0], grid[0], objective)]
        else:
            self._draw_contours(matplotlib, grid, objective, contour_kwargs)
            self.ax_.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
            marked = [estimate[0]], [estimate[1]]
        if self.path is not None:
            self._draw_path(matplotlib, path_kwargs, tangent_kwargs, n_tangents)
        style = {"marker": "*", "markersize": 14, "linestyle": "none", "color": "white", "markeredgecolor": "black"}
        self.ax_.plot(*marked, **style, zorder=5, label="fitted")
        self.ax_.legend(fontsize="small")
        return self

    def _surface(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Return the grid, the objective on it, NaN where it is infinite, and the fitted coefficients."""
        grid = [to_float64(values, "grid") for values in self.grid]
        objective, estimate = to_float64(self.objective, "objective"), to_float64(self.estimate, "estimate")
        shape = tuple(len(values) for values in grid)
        if len(grid) not in (1, 2) or objective.shape != shape or estimate.shape != (len(grid),):
            raise ValueError(
                f"grid has {len(grid)} axes of {shape} values, objective has shape {objective.shape} and estimate "
                f"{estimate.shape}: pass one or two axes, an objective for each point, a coefficient for each axis"
            )
        return grid, np.where(np.isfinite(objective), objective, np.nan), estimate

    def _draw_contours(
        self, matplotlib: ModuleType, grid: list[np.ndarray], objective: np.ndarray, user: dict[str, Any] | None
    ) -> None:
        """Draw filled contours with a colour bar."""
        low, high = np.nanmin(objective), np.nanmax(objective)
        levels = low + (high - low or abs(low) or 1.0) * np.linspace(0, 1, _LEVELS) ** 2
        style = {"levels": levels, "cmap": "viridis", "norm": matplotlib.colors.BoundaryNorm(levels, 256)}
        self.contour_ = contour = self.ax_.contourf(*grid, objective.T, **(style | (user or {})))
        bar = self.figure_.colorbar(contour, ax=self.ax_, label=self.objective_name, format="%.3g")
        bar.set_ticks(contour.levels[::3])

    def _draw_path(
        self,
        matplotlib: ModuleType,
        path_kwargs: dict[str, Any] | None,
        tangent_kwargs: dict[str, Any] | None,
        n_tangents: int,
    ) -> None:
        """Draw the path and, at a few of its points, tangents or arrows."""
        is_curve = self.line_ is not None
        points = to_float64(self.path, "path")
        points = _check_path(points, 1 if is_curve else 2)
        if is_curve:
            points = np.column_stack([points[:, 0], to_float64(self.path_objective, "path_objective")])
        style = {"color": COLORS[1], "marker": "o", "markersize": 5, "linewidth": 1.2, "markeredgecolor": "white"}
        style |= {"markeredgewidth": 0.6, "label": "path", "zorder": 3}
        (self.path_line_,) = self.ax_.plot(*points.T, **merge_style(matplotlib.lines.Line2D, style, path_kwargs))
        if self.path_gradient is None or n_tangents == 0:
            return
        gradient = to_float64(self.path_gradient, "path_gradient").reshape(len(points), -1)
        size = np.abs(np.diff([self.ax_.get_xlim(), self.ax_.get_ylim()])).T[0]
        some = _spread(points / size, n_tangents)
        along = np.column_stack([np.ones(len(points)), gradient[:, 0]]) if is_curve else -gradient
        length = np.linalg.norm(along / size, axis=1, keepdims=True)
        some = some[np.isfinite(length[some, 0]) & (length[some, 0] > 0)]
        points, along = points[some], _TANGENT * along[some] / length[some]
        if is_curve:
            segments = np.stack([points - along, points + along], axis=1)
            style = {"colors": COLORS[2], "linewidths": 2, "label": "tangent", "zorder": 4}
            style = merge_style(matplotlib.collections.LineCollection, style, tangent_kwargs)
            self.tangents_ = self.ax_.add_collection(matplotlib.collections.LineCollection(segments, **style))
        else:
            style = {
                "color": "white",
                "edgecolor": "black",
                "linewidth": 0.5,
                "width": 0.007,
                "zorder": 4,
                "label": "against the gradient",
            }
            style |= {"angles": "xy", "scale_units": "xy", "scale": 1} | (tangent_kwargs or {})
            self.tangents_ = self.ax_.quiver(*points.T, *along.T, **style)


def _make_grid(
    surface: Surface,
    path: np.ndarray | None,
    limits: Sequence[tuple[float, float]] | None,
    grid_resolution: int | None,
) -> list[np.ndarray]:
    """Return the values of each coefficient to evaluate the objective at."""
    n_points = grid_resolution or _POINTS[len(surface.names)]
    if limits is None:
        reach = 1.5 * surface.widths
        if path is not None:
            distance = np.abs(path - surface.estimate).max(0)
            reach = np.where(distance > 0, _MARGIN * distance, reach)
        limits = np.column_stack([surface.estimate - reach, surface.estimate + reach])
    return [np.linspace(low, high, n_points) for low, high in limits]


def _check_path(path: ArrayLike, n_coefficients: int) -> np.ndarray:
    """Return the path as an array of shape (n_points, n_coefficients)."""
    points = to_float64(path, "path")
    points = points[:, np.newaxis] if points.ndim == 1 and n_coefficients == 1 else points
    if points.ndim != 2 or points.shape[1] != n_coefficients or not points.size or not np.isfinite(points).all():
        raise ValueError(
            f"path has shape {points.shape}, or numbers that are not finite: pass finite numbers of shape "
            f"(n_points, {n_coefficients}), a column for each coefficient drawn"
        )
    return points


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of a few points, the first and others evenly along the path."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.append(0.0, np.cumsum(lengths))
    return np.unique(np.searchsorted(along, np.linspace(0, along[-1], count, endpoint=False)))


def _target_name(y: Any, target: int) -> str | None:
    """Return the name of a target, if it has one."""
    if isinstance(y, pd.DataFrame):
        return str(y.columns[target])
    return column_name(y, "") or None


def _objective_name(model: Any) -> str:
    """Return what the objective is made of."""
    loss = model.loss if isinstance(model.loss, str) else getattr(model.loss, "__name__", repr(model.loss))
    return f"Mean loss ({loss})" if model.penalty is None else f"Mean loss ({loss}) + {model.penalty} penalty"
