"""Coefficients along a regularization path."""

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from torchlinreg.displays.docstrings import substitute
from torchlinreg.displays.drawing import (
    COLORS,
    GREY,
    PANELS_IN_A_ROW,
    coefficients_label,
    fitted_attribute,
    import_matplotlib,
    labels,
    largest_features,
    last_step,
    merge_style,
    target_axes,
    target_titles,
    to_float64,
)
from torchlinreg.inputs.frames import names_after

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 10  # features with a name, a colour and dashes of their own


@substitute
class RegularizationPathDisplay:
    """Coefficients against the strength of the penalty, a line for each feature.

    As in scikit-learn's examples of `lasso_path`, alpha is on a logarithmic axis and grows to the right:
    at the left the coefficients are almost those without a penalty, and they shrink from left to right.

    Parameters
    ----------
    alphas : array-like of shape (n_alphas,)
        Strengths of the penalty, zero or above, in any order.
    coefs : array-like of shape (n_alphas, n_features) or (n_alphas, n_targets, n_features)
        Coefficients for each alpha. The coefficients that scikit-learn's `lasso_path` returns have alpha as the last
        axis: pass `np.moveaxis(coefs, -1, 0)`.
    alpha : float or None, default=None
        The chosen alpha, marked by a dashed line.
    l1_ratio : float or None, default=None
        The `l1_ratio` of the path, written beside alpha; None writes nothing.
    %(feature_names)s
    %(target_names)s

    Attributes
    ----------
    lines_ : ndarray of shape (n_targets, n_features)
        A matplotlib Line2D for each coefficient.
    alpha_lines_ : list of matplotlib Line2D
        The dashed line in each axes, if `alpha` is given.
    %(axes_)s
    %(figure_)s

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
    @substitute
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: "Axes | Iterable[Axes] | None" = None,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "RegularizationPathDisplay":
        """Draw the path of a fitted search over alpha, at the `l1_ratio` that it chose.

        If there were several values of `l1_ratio` to choose from, the label of the x-axis gives the chosen one.

        Parameters
        ----------
        estimator : fitted TorchLinearRegressorCV, or a Pipeline that ends in one
            The features are named after the columns that it was fitted on.
        %(axes)s
        %(line_kwargs)s

        Returns
        -------
        display : RegularizationPathDisplay

        Raises
        ------
        %(not_fitted)s
        ValueError
            If it has no path, or if `ax` does not hold an axes for each target.
        %(no_matplotlib)s
        """
        advice = (
            "pass a fitted TorchLinearRegressorCV or a Pipeline that ends in one, or call "
            "RegularizationPathDisplay(alphas, coefs).plot()"
        )
        final, coefs = fitted_attribute(estimator, "coef_path_", advice)
        l1_ratio = final.l1_ratio_ if np.size(final.l1_ratio) > 1 else None
        chosen = {"alpha": final.alpha_, "l1_ratio": l1_ratio}
        display = cls(final.path_alphas_, coefs, **chosen, feature_names=_feature_names(estimator))
        return display.plot(ax, line_kwargs=line_kwargs)

    @substitute
    def plot(
        self,
        ax: "Axes | Iterable[Axes] | None" = None,
        *,
        line_kwargs: dict[str, Any] | None = None,
    ) -> "RegularizationPathDisplay":
        """Draw a line for each coefficient, in colour and with a name for at most ten features.

        Of more than ten features, the ten with the largest coefficients at the smallest alpha are named; the others
        are grey.

        Parameters
        ----------
        %(axes)s
        %(line_kwargs)s

        Returns
        -------
        self : RegularizationPathDisplay

        Raises
        ------
        %(no_matplotlib)s
        ValueError
            If shapes or numbers of names do not match, if an alpha is below zero or not finite, or if `ax` does not
            hold an axes for each target.
        """
        matplotlib = import_matplotlib("RegularizationPathDisplay.plot")
        alphas, coefs = self._path()
        n_targets, n_features = coefs.shape[1:]
        names = labels("feature_names", self.feature_names, n_features, "x")
        titles = target_titles(self.target_names, n_targets)
        self.axes_ = target_axes(matplotlib, ax, titles, size=(6, 4.5))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        chosen = np.sort(largest_features(coefs[0], _MOST_NAMED))
        named = dict(zip(chosen, product(("-", "-."), COLORS), strict=False))
        marker = "o" if len(alphas) == 1 else None
        grey = {"color": GREY, "alpha": 0.4, "linewidth": 0.8, "zorder": 1.5, "marker": marker}
        grey = merge_style(matplotlib.lines.Line2D, grey, line_kwargs)
        self.lines_ = np.empty((n_targets, n_features), dtype=object)
        for target, axis in enumerate(self.axes_):
            self.lines_[target] = axis.plot(alphas, coefs[:, target], **grey)
            for feature, (dashes, color) in named.items():
                style = {"color": color, "linestyle": dashes, "alpha": None, "linewidth": 1.5, "zorder": 2}
                self.lines_[target, feature].set(**merge_style(matplotlib.lines.Line2D, style, line_kwargs))
        self._draw_alpha(alphas, titles, matplotlib.rcParams["text.color"])
        self._draw_legend([names[feature] for feature in named], self.lines_[0, list(named)], new=ax is None)
        return self

    def _path(self) -> tuple[np.ndarray, np.ndarray]:
        """Return alphas in ascending order, and coefficients of shape (n_alphas, n_targets, n_features)."""
        alphas, coefs = to_float64(self.alphas, "alphas"), to_float64(self.coefs, "coefs")
        if alphas.ndim != 1 or not alphas.size or not np.all(np.isfinite(alphas) & (alphas >= 0)):
            raise ValueError(f"alphas must be finite numbers from zero on, got {self.alphas}: pass shape (n_alphas,)")
        if coefs.ndim not in (2, 3) or not coefs.size or len(coefs) != len(alphas):
            raise ValueError(
                f"coefs has shape {coefs.shape}, and there are {len(alphas)} alphas: pass shape (n_alphas, n_features) "
                "or (n_alphas, n_targets, n_features), such as np.moveaxis(coefs, -1, 0) of scikit-learn's lasso_path"
            )
        order = np.argsort(alphas)
        return alphas[order], coefs.reshape(len(coefs), -1, coefs.shape[-1])[order]

    def _draw_alpha(self, alphas: np.ndarray, titles: list[str], color: str) -> None:
        """Draw the chosen alpha and the zero line, and set the scale and labels of the axes."""
        self.alpha_lines_ = []
        chosen = [] if self.alpha is None else [self.alpha]
        shown = np.append(alphas, chosen)
        for axis, title in zip(self.axes_, titles, strict=True):
            axis.axhline(0, color=GREY, linewidth=0.8, zorder=1)
            for alpha in chosen:
                self.alpha_lines_.append(axis.axvline(alpha, color=color, linestyle="--", linewidth=1))
            if np.all(shown > 0):
                axis.set_xscale("log")
            elif np.any(shown > 0):  # a logarithmic axis cannot show zero
                axis.set_xscale("symlog", linthresh=shown[shown > 0].min())
                axis.set_xlim(left=0)
            l1_ratio = "" if self.l1_ratio is None else f" (l1_ratio = {self.l1_ratio:.3g})"
            axis.set(xlabel=f"alpha{l1_ratio}", ylabel=coefficients_label(title))
            axis.grid(alpha=0.2)

    def _draw_legend(self, names: list[str], lines: np.ndarray, *, new: bool) -> None:
        """Draw one legend for all axes: beside those of a new figure, or inside the user's last axes."""
        if self.alpha is not None:
            names, lines = [*names, f"alpha = {self.alpha:.3g}"], [*lines, self.alpha_lines_[0]]
        n_features = self.lines_.shape[1]
        title = f"{_MOST_NAMED} largest of {n_features}" if n_features > _MOST_NAMED else None
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if new else {"loc": "best"}
        axis = self.axes_[: PANELS_IN_A_ROW if new else None][-1]
        axis.legend(lines, names, title=title, fontsize="small", **place)


def _feature_names(estimator: Any) -> Iterable[str] | None:
    """Return the names of the columns that the last step was fitted on, or None if they are not known."""
    names = getattr(last_step(estimator), "feature_names_in_", None)
    if names is None and isinstance(estimator, Pipeline) and len(estimator) > 1:
        return names_after(estimator[:-1])
    return names
