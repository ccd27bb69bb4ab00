"""Helpers that all displays share: matplotlib's import, axes, styles, names and units, and numbers to draw."""

import re
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from torchlinreg.inputs.arrays import to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_IN_A_ROW = 3
LABEL = 36  # letters of a label in one line, beside which an axis has room for its power of ten
# Told apart by readers who are colour-blind, and on light and dark grounds (Okabe & Ito 2008, "Color universal design")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
GREY = "0.5"
UNIT = re.compile(r"\s*[(\[]([^()\[\]]+)[)\]]$")  # of "mass (kg)", "mass [kg]"


def import_matplotlib(caller: str) -> ModuleType:
    """Import matplotlib and its pyplot; displays call it when they draw, for matplotlib is optional.

    Parameters
    ----------
    caller : str
        Name of what needs matplotlib, for the error.

    Returns
    -------
    matplotlib : module

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message says how to install it.
    """
    try:
        import matplotlib.pyplot  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f'{caller} needs matplotlib: pip install "torchlinreg[plot]"') from error
    return matplotlib


def axes_or_new(matplotlib: ModuleType, ax: "Axes | None") -> "Axes":
    """Return the user's axes, or those of a new figure."""
    return matplotlib.pyplot.subplots(layout="constrained")[1] if ax is None else ax


def merge_style(artist: type, default: dict[str, Any], user: dict[str, Any] | None) -> dict[str, Any]:
    """Override the default style by the user's, in which `lw` and `linewidth` are the same.

    Parameters
    ----------
    artist : matplotlib Artist class
        What is drawn; it knows the short names of its properties.
    default : dict
        Keyword arguments, with the long names.
    user : dict or None
        Keyword arguments that override them.

    Returns
    -------
    style : dict
    """
    from matplotlib.cbook import normalize_kwargs  # noqa: PLC0415

    user = normalize_kwargs(user, artist)
    if "c" in user:  # colours by value; scatter refuses them together with `color`
        default = {key: value for key, value in default.items() if key != "color"}
    return default | user


def to_array(values: Any, name: str) -> Any:
    """Turn a tensor into an array, on whatever device it is; return anything else as it is."""
    return to_numpy(values, name) if isinstance(values, torch.Tensor) else values


def to_float64(values: Any, name: str) -> np.ndarray:
    """Return an array-like or tensor as an array of float64."""
    return np.asarray(to_array(values, name), dtype=np.float64)


def column_name(table: Any, default: str) -> str:
    """Return the name of a Series or of the first column of a DataFrame."""
    if isinstance(table, pd.DataFrame):
        return str(table.columns[0])
    if isinstance(table, pd.Series) and table.name is not None:
        return str(table.name)
    return default


def split_unit(name: str) -> tuple[str, str | None]:
    """Return the name of a column without the unit that it ends in, and the unit: "mass" and "kg" of "mass (kg)"."""
    unit = UNIT.search(name)
    return (name, None) if unit is None else (name[: unit.start()], unit[1])


def coefficient_label(feature: str, target: str | None = None) -> str:
    """Return what to write at the axis of a coefficient, with its unit if those of feature and target are known.

    Parameters
    ----------
    feature : str
        Name of the column as `labels` returns it, or "intercept".
    target : str, optional
        Name of the target.
    """
    unit = None if target is None else split_unit(shorten(target))[1]
    if feature == "intercept":
        label = "Intercept"
    else:
        feature, of_feature = split_unit(feature)
        label = f"Coefficient of {feature}"
        unit = None if unit is None or of_feature is None else f"{unit} per {of_feature}"
    if unit is None:
        return label
    return f"{label} ({unit})" if len(label + unit) <= LABEL else f"{label}\n({unit})"


def coefficients_label(target: str, factor: str = "") -> str:
    """Return what to write at an axis that coefficients of several features share.

    Parameters
    ----------
    target : str
        Name of the target, perhaps with a unit, or empty.
    factor : str, default=""
        What coefficients are multiplied by, if it takes away the units of the features.
    """
    unit = split_unit(target)[1]
    if unit is None:
        return f"Coefficient{factor}"
    return f"Coefficient{factor} ({unit})" if factor else f"Coefficient ({unit} per unit of the feature)"


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline, or the estimator itself."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def fitted_attribute(estimator: Any, attribute: str, advice: str) -> tuple[Any, Any]:
    """Return the last step of a fitted estimator, and the attribute of it that is to be drawn.

    Parameters
    ----------
    estimator : estimator
        A Pipeline or another estimator.
    attribute : str
        Name of the attribute.
    advice : str
        What to pass instead, for the error.

    Returns
    -------
    final : estimator
    value : object

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If the last step has no such attribute.
    """
    check_is_fitted(estimator)
    final = last_step(estimator)
    value = getattr(final, attribute, None)
    if value is None:
        raise ValueError(f"{type(final).__name__} keeps no {attribute}: {advice}")
    return final, value


def target_axes(
    matplotlib: ModuleType,
    ax: "Axes | Iterable[Axes] | None",
    titles: list[str],
    *,
    size: tuple[float, float],
    sharey: bool = False,
) -> np.ndarray:
    """Return an axes for each target: the user's, or those of a new figure with up to three in a row.

    Parameters
    ----------
    matplotlib : module
    ax : matplotlib Axes, iterable of Axes, or None
        Axes to draw on; None makes a new figure.
    titles : list of str
        A title for each target, perhaps empty.
    size : tuple of (width, height)
        Inches of each axes of a new figure.
    sharey : bool, default=False
        Whether the axes of a new figure share their y-axis.

    Returns
    -------
    axes : ndarray of shape (n_targets,)

    Raises
    ------
    ValueError
        If `ax` holds more axes than there are targets, or fewer.
    """
    count = len(titles)
    if ax is None:
        columns = min(count, PANELS_IN_A_ROW)
        rows = -(-count // columns)
        shape = {"figsize": (columns * size[0], rows * size[1]), "squeeze": False, "sharey": sharey}
        axes = matplotlib.pyplot.subplots(rows, columns, layout="constrained", **shape)[1].ravel()
        for unused in axes[count:]:
            unused.remove()
        axes = axes[:count]
    else:
        axes = np.array(list(ax) if isinstance(ax, Iterable) else [ax], dtype=object).ravel()
    if len(axes) != count:
        raise ValueError(
            f"ax holds {len(axes)} axes, and there are {count} targets to draw: pass an axes for each, or None "
            "for a new figure"
        )
    for axis, title in zip(axes, titles, strict=True):
        if title:
            axis.set_title(title)
    return axes


def labels(parameter: str, names: Iterable[Any] | None, count: int, letter: str) -> list[str]:
    """Return names as texts to draw, shortened where they are long; without names, x0, x1, ...

    Parameters
    ----------
    parameter : str
        Name of the parameter that `names` come from, for the error.
    names : iterable or None
    count : int
        How many names there should be.
    letter : str
        First letter of the texts where there are no names.

    Returns
    -------
    texts : list of str

    Raises
    ------
    ValueError
        If there are more or fewer names than `count`.
    """
    if names is None:
        return [f"{letter}{number}" for number in range(count)]
    texts = [shorten(str(name)) for name in names]
    if len(texts) != count:
        raise ValueError(f"{parameter} has {len(texts)} names for {count}: pass one for each, or None")
    return texts


def target_titles(target_names: Iterable[Any] | None, n_targets: int) -> list[str]:
    """Return a title for each target; an empty one for a single target without a name."""
    if target_names is None and n_targets == 1:
        return [""]
    return labels("target_names", target_names, n_targets, "y")


def shorten(name: str, length: int = 32) -> str:
    """Cut the middle out of a long name, since encoded columns differ at the end; escape dollar signs."""
    if len(name) > length:
        name = f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"
    return name.replace("$", r"\$")  # or matplotlib would read a formula


def largest_features(coefs: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the features with the largest coefficients, relative to the largest of each target.

    Parameters
    ----------
    coefs : ndarray of shape (n_targets, n_features)
    count : int
        How many features at most.

    Returns
    -------
    features : ndarray of shape (min(count, n_features),)
        The feature with the largest coefficient first.
    """
    sizes = np.abs(coefs)
    relative = sizes / np.maximum(sizes.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.argsort(-relative.max(axis=0), kind="stable")[:count]
