"""Entries of docstrings that several displays share, written once and put in when the displays are imported."""

import re
from collections.abc import Callable
from textwrap import indent
from typing import Any, TypeVar

__all__ = ["ENTRIES", "substitute"]

_Documented = TypeVar("_Documented", bound="type | Callable[..., Any]")

ENTRIES = {
    # Parameters of `from_estimator`, `from_frame` and `plot`
    "ax": """\
ax : matplotlib Axes, default=None
    Axes to draw on; None makes a new figure.""",
    "axes": """\
ax : matplotlib Axes or iterable of Axes, default=None
    Axes to draw on, one for each target; None makes a new figure.""",
    "validation_ax": """\
validation_ax : matplotlib Axes, default=None
    Axes to draw the validation scores on, such as the `validation_ax_` of another display; None adds a vertical
    axis at the right of `ax`.""",
    "intercept": """\
intercept : bool, default=False
    Whether to draw the intercept too, below the features.""",
    "sort": """\
sort : bool, default=False
    Whether to draw the largest coefficients first, by absolute value. With several targets, a coefficient is
    measured relative to the largest one of its target.""",
    "max_features": """\
max_features : int or None, default=None
    How many features to draw, those with the largest coefficients; None draws all.""",
    "line_kwargs": """\
line_kwargs : dict, default=None
    Keyword arguments for `Axes.plot`.""",
    "validation_line_kwargs": """\
validation_line_kwargs : dict, default=None
    Keyword arguments for `Axes.plot`, for the validation scores.""",
    "interval_kwargs": """\
line_kwargs : dict, default=None
    Keyword arguments for `Axes.hlines`.""",
    "scatter_kwargs": """\
scatter_kwargs : dict, default=None
    Keyword arguments for `Axes.scatter`.""",
    "band_kwargs": """\
band_kwargs : dict, default=None
    Keyword arguments for `Axes.fill_between`.""",
    "n_tangents": """\
n_tangents : int, default=4
    At how many points of the path to draw the gradient, apart from each other.""",
    "surface_kwargs": """\
line_kwargs : dict, default=None
    Keyword arguments for `Axes.plot`, for the curve.
contour_kwargs : dict, default=None
    Keyword arguments for `Axes.contourf`.
path_kwargs : dict, default=None
    Keyword arguments for `Axes.plot`, for the path.
tangent_kwargs : dict, default=None
    Keyword arguments for `matplotlib.collections.LineCollection` or, with contours, for `Axes.quiver`.""",
    # Parameters of the constructors
    "feature_names": """\
feature_names : iterable of str or None, default=None
    Of length n_features; None names the features x0, x1, ...""",
    "target_names": """\
target_names : iterable of str or None, default=None
    Of length n_targets; None names several targets y0, y1, ...""",
    # Attributes
    "ax_": """\
ax_ : matplotlib Axes
    Axes of the plot.""",
    "axes_": """\
axes_ : ndarray of shape (n_targets,)
    A matplotlib Axes for each target.
ax_ : matplotlib Axes
    The first of them.""",
    "figure_": """\
figure_ : matplotlib Figure
    Figure that contains the plot.""",
    # Errors
    "not_fitted": """\
NotFittedError
    If `estimator` is not fitted.""",
    "no_matplotlib": """\
ImportError
    If matplotlib is not installed.""",
}


def substitute(documented: _Documented) -> _Documented:
    """Replace each line ``%(key)s`` of a docstring by the entry of that key, indented as the line is.

    Parameters
    ----------
    documented : class or function
        As a decorator: the class or method that has the docstring.

    Returns
    -------
    documented : class or function
        The same object.
    """
    if documented.__doc__:  # python -OO removes docstrings
        documented.__doc__ = re.sub(r"^( *)%\((\w+)\)s$", _entry, documented.__doc__, flags=re.MULTILINE)
    return documented


def _entry(placeholder: re.Match[str]) -> str:
    return indent(ENTRIES[placeholder[2]], placeholder[1])
