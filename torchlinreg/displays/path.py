"""The picture of coefficients along a path of penalties."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from torchlinreg.displays.drawing import (
    PANELS_IN_A_ROW,
    import_matplotlib,
    labels,
    largest,
    last_step,
    merge,
    panels,
    titles,
    to_array,
)
from torchlinreg.inputs.frames import names_after

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 10  # lines that a legend can tell apart, and colours that there are


class RegularizationPathDisplay:
    """Coefficients against the strength of the penalty, a line for each feature.

    As in scikit-learn's examples of `lasso_path`, alpha is on a logarithmic axis and grows to the right:
    coefficients begin near those without a penalty and shrink from left to right.

    Parameters
    ----------
    alphas : array-like of shape (n_alphas,)
        Strengths of the penalty, in any order, none below zero.
    coefs : array-like of shape (n_alphas, n_features) or (n_alphas, n_targets, n_features)
        Coefficients at each of them. (Those of scikit-learn's `lasso_path` have alpha last:
        pass `np.moveaxis(coefs, -1, 0)`.)
    alpha : float or None, default=None
        The one that was chosen, marked by a dashed line.
    l1_ratio : float or None, default=None
        The share of L1 that the path is for, written beside alpha where others were tried as well.
    feature_names : iterable of str or None, default=None
        Of length n_features; None names them x0, x1, ...
    target_names : iterable of str or None, default=None
        Of length n_targets; None names them y0, y1, ... where there are several.

    Attributes
    ----------
    lines_ : ndarray of shape (n_targets, n_features)
        A matplotlib Line2D for each coefficient.
    alpha_lines_ : list of matplotlib Line2D
        The dashed line of each target, if `alpha` is given.
    axes_ : ndarray of shape (n_targets,)
        A matplotlib Axes for each target.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure

    See Also
    --------
    RegularizationPathDisplay.from_estimator : Draw the path of a fitted TorchLinearRegressorCV.

    Examples
    --------
    >>> from torchlinreg.displays import RegularizationPathDisplay
    >>> display = RegularizationPathDisplay([1.0, 0.1], [[0.0, 0.0], [2.0, 0.0]], alpha=0.1).plot()
    >>> display.ax_.get_xscale()
    'log'
    """

    __module__ = "torchlinreg.displays"

    def __init__(
        self,
        alphas: ArrayLike,
        coefs: ArrayLike,
        *,
        alpha: float | None = None,
        l1_ratio: float | None = None,
        feature_names: Iterable[str] | None = None,
        target_names: Iterable[str] | None = None,
    ) -> None:
        self.alphas = alphas
        self.coefs = coefs
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.feature_names = feature_names
        self.target_names = target_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: "Axes | Iterable[Axes] | None" = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "RegularizationPathDisplay":
        """Draw the path of a fitted search over alpha, at the `l1_ratio` that it chose.

        The axis of alpha says which one that is, if there were several to choose from.

        Parameters
        ----------
        estimator : fitted TorchLinearRegressorCV, or a Pipeline that ends in one
            Names are those of the columns that it was fitted on.
        ax : matplotlib Axes or iterable of them, default=None
            Where to draw, an axes for each target; None makes a new figure.
        line_kwargs : dict, default=None
            Passed on to `Axes.plot`.

        Returns
        -------
        display : RegularizationPathDisplay

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If it keeps no path, or if `ax` does not hold an axes for each target.
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        final = last_step(estimator)
        coefs = getattr(final, "coef_path_", None)
        if coefs is None:
            raise ValueError(
                f"{type(final).__name__} keeps no coef_path_: pass a fitted TorchLinearRegressorCV or a Pipeline "
                "that ends in one, or call RegularizationPathDisplay(alphas, coefs).plot()"
            )
        l1_ratio = final.l1_ratio_ if np.size(final.l1_ratio) > 1 else None
        display = cls(
            final.path_alphas_, coefs, alpha=final.alpha_, l1_ratio=l1_ratio, feature_names=_feature_names(estimator)
        )
        return display.plot(ax, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: "Axes | Iterable[Axes] | None" = None,
        *,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "RegularizationPathDisplay":
        """Draw the lines; of more than ten features, only the ten that end largest have a colour and a name.

        Parameters
        ----------
        ax : matplotlib Axes or iterable of them, default=None
            Where to draw, an axes for each target; None makes a new figure.
        line_kwargs : dict, default=None
            Passed on to `Axes.plot`.

        Returns
        -------
        self : RegularizationPathDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If shapes or numbers of names do not go together, if an alpha is below zero or not finite, or if
            `ax` does not hold an axes for each target.
        """
        matplotlib = import_matplotlib("RegularizationPathDisplay.plot")
        alphas, coefs = self._path()
        n_targets, n_features = coefs.shape[1:]
        names = labels("feature_names", self.feature_names, n_features, "x")
        self.axes_ = panels(matplotlib, ax, titles(self.target_names, n_targets), size=(6, 4.5))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        colors = {feature: f"C{rank}" for rank, feature in enumerate(np.sort(largest(coefs[0], _MOST_NAMED)))}
        marker = "o" if len(alphas) == 1 else None
        quiet = {"color": "0.8", "linewidth": 0.8, "zorder": 1.5, "marker": marker}
        quiet = merge(quiet, line_kwargs, matplotlib.lines.Line2D)
        self.lines_ = np.empty((n_targets, n_features), dtype=object)
        for target, axis in enumerate(self.axes_):
            self.lines_[target] = axis.plot(alphas, coefs[:, target], **quiet)
            for feature, color in colors.items():
                style = {"color": color, "linewidth": 1.5, "zorder": 2}
                self.lines_[target, feature].set(**merge(style, line_kwargs, matplotlib.lines.Line2D))
        self._mark(alphas)
        self._explain([names[feature] for feature in colors], self.lines_[0, list(colors)], new=ax is None)
        return self

    def _path(self) -> tuple[np.ndarray, np.ndarray]:
        """Return alphas in rising order, and coefficients of shape (n_alphas, n_targets, n_features)."""
        alphas = np.asarray(to_array(self.alphas, "alphas"), dtype=np.float64)
        coefs = np.asarray(to_array(self.coefs, "coefs"), dtype=np.float64)
        if alphas.ndim != 1 or not alphas.size or not np.all(np.isfinite(alphas) & (alphas >= 0)):
            raise ValueError(f"alphas must be finite numbers from zero on, got {self.alphas}: pass shape (n_alphas,)")
        if coefs.ndim not in (2, 3) or not coefs.size or len(coefs) != len(alphas):
            raise ValueError(
                f"coefs has shape {coefs.shape}, and there are {len(alphas)} alphas: pass shape (n_alphas, n_features) "
                "or (n_alphas, n_targets, n_features), such as np.moveaxis(coefs, -1, 0) of scikit-learn's lasso_path"
            )
        order = np.argsort(alphas)
        return alphas[order], coefs.reshape(len(coefs), -1, coefs.shape[-1])[order]

    def _mark(self, alphas: np.ndarray) -> None:
        """Scale the axes, and draw the chosen alpha and zero."""
        self.alpha_lines_ = []
        chosen = [] if self.alpha is None else [self.alpha]
        shown = np.append(alphas, chosen)
        for axis in self.axes_:
            axis.axhline(0, color="0.5", linewidth=0.8, zorder=1)
            for alpha in chosen:
                self.alpha_lines_.append(axis.axvline(alpha, color="black", linestyle="--", linewidth=1))
            if np.all(shown > 0):
                axis.set_xscale("log")
            elif np.any(shown > 0):  # a logarithmic axis has no place for zero
                axis.set_xscale("symlog", linthresh=shown[shown > 0].min())
                axis.set_xlim(left=0)
            share = "" if self.l1_ratio is None else f" (l1_ratio = {self.l1_ratio:.3g})"
            axis.set(xlabel=f"alpha{share}", ylabel="Coefficient")
            axis.grid(alpha=0.2)

    def _explain(self, names: list[str], lines: np.ndarray, *, new: bool) -> None:
        """Draw one legend for all axes: beside them in a figure of our own, else where the last has room."""
        if self.alpha is not None:
            names, lines = [*names, f"alpha = {self.alpha:.3g}"], [*lines, self.alpha_lines_[0]]
        n_features = self.lines_.shape[1]
        title = f"{_MOST_NAMED} largest of {n_features}" if n_features > _MOST_NAMED else None
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if new else {"loc": "best"}
        axis = self.axes_[: PANELS_IN_A_ROW if new else None][-1]
        axis.legend(lines, names, title=title, fontsize="small", **place)


def _feature_names(estimator: Any) -> Iterable[str] | None:
    """Return the names of the columns that the last step was fitted on, where anything knows them."""
    names = getattr(last_step(estimator), "feature_names_in_", None)
    if names is None and isinstance(estimator, Pipeline) and len(estimator) > 1:
        return names_after(estimator[:-1])
    return names
