"""What all displays share."""

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.pipeline import Pipeline

from torchlinreg.inputs.arrays import to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_IN_A_ROW = 3
_LONGEST_NAME = 32


def import_matplotlib(caller: str) -> ModuleType:
    """Import matplotlib, with pyplot, only when something is drawn.

    Parameters
    ----------
    caller : str
        What needs it, for the error.

    Returns
    -------
    matplotlib : module

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message tells how to install it.
    """
    try:
        import matplotlib.pyplot  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f'{caller} needs matplotlib: pip install "torchlinreg[plot]"') from error
    return matplotlib


def new_axes(matplotlib: ModuleType) -> "Axes":
    """Return the axes of a new figure."""
    return matplotlib.pyplot.subplots(layout="constrained")[1]


def merge(style: dict[str, Any], wanted: dict[str, Any] | None, artist: type) -> dict[str, Any]:
    """Put the user's style over the default one, short names (`lw`, `ec`) and long ones alike."""
    wanted = import_matplotlib("a display").cbook.normalize_kwargs(wanted or {}, artist)
    if "c" in wanted:  # scatter's colours by value, which it refuses beside a plain colour
        style = {key: value for key, value in style.items() if key != "color"}
    return style | wanted


def to_array(numbers: Any, name: str) -> Any:
    """Return a tensor as an array, from wherever and however it is kept, and anything else as it is."""
    return to_numpy(numbers, name) if isinstance(numbers, torch.Tensor) else numbers


def column_name(table: Any, default: str) -> str:
    """Name of the one column of a DataFrame, or of a Series."""
    if isinstance(table, pd.DataFrame):
        return str(table.columns[0])
    if isinstance(table, pd.Series) and table.name is not None:
        return str(table.name)
    return default


def last_step(estimator: Any) -> Any:
    """Return the estimator at the end of a Pipeline, or the estimator itself."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def panels(
    matplotlib: ModuleType,
    ax: "Axes | Iterable[Axes] | None",
    titles: list[str],
    *,
    size: tuple[float, float],
    sharey: bool = False,
) -> np.ndarray:
    """Return an axes for each title: those of the user, or the axes of a new figure, up to three in a row.

    Parameters
    ----------
    matplotlib : module
    ax : matplotlib Axes, iterable of them, or None
        Where to draw; None makes a new figure.
    titles : list of str
        Those that are empty are not written.
    size : tuple of (width, height)
        Inches for each axes of a new figure.
    sharey : bool, default=False
        Whether the axes of a new figure have one vertical scale, written on the leftmost.

    Returns
    -------
    axes : ndarray of shape (n_titles,)

    Raises
    ------
    ValueError
        If `ax` holds too few or too many.
    """
    count = len(titles)
    if ax is None:
        columns = min(count, PANELS_IN_A_ROW)
        rows = -(-count // columns)
        shape = {"figsize": (columns * size[0], rows * size[1]), "squeeze": False, "sharey": sharey}
        axes = matplotlib.pyplot.subplots(rows, columns, layout="constrained", **shape)[1].ravel()
        for spare in axes[count:]:
            spare.remove()
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
    """Return texts that fit into a picture: the names, or a letter and a number where there are none.

    Parameters
    ----------
    parameter : str
        What `names` are called, for the error.
    names : iterable or None
    count : int
        How many there should be.
    letter : str
        First letter of the names where there are none: "x" makes x0, x1, ...

    Returns
    -------
    texts : list of str

    Raises
    ------
    ValueError
        If there are too few names or too many.
    """
    if names is None:
        return [f"{letter}{number}" for number in range(count)]
    texts = [_shortened(str(name)) for name in names]
    if len(texts) != count:
        raise ValueError(f"{parameter} has {len(texts)} names for {count}: pass one for each, or None")
    return texts


def titles(target_names: Iterable[Any] | None, n_targets: int) -> list[str]:
    """Return a title for each target; the only one goes without, unless it has a name."""
    if target_names is None and n_targets == 1:
        return [""]
    return labels("target_names", target_names, n_targets, "y")


def _shortened(name: str) -> str:
    """Leave out the middle of a long name: encoders tell columns apart by the end."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"
    return name.replace("$", r"\$")  # which would begin a formula


def largest(coefs: np.ndarray, count: int) -> np.ndarray:
    """Return which features have the largest coefficients, each beside the largest of its target, the first first.

    Parameters
    ----------
    coefs : ndarray of shape (n_targets, n_features)
    count : int
        How many at most.
    """
    sizes = np.abs(coefs)
    shares = sizes / np.maximum(sizes.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.argsort(-shares.max(axis=0), kind="stable")[:count]
