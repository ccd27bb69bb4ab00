"""The training loss of each epoch, with the validation scores."""

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from torchlinreg.displays.docstrings import substitute
from torchlinreg.displays.drawing import axes_or_new, fitted_attribute, import_matplotlib, merge_style, to_float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_MOST_MARKERS = 30  # a curve of more epochs has no dots


@substitute
class LossCurveDisplay:
    """The mean training loss of each epoch, and the validation scores if there are any.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Mean training loss of each epoch.
    estimator_name : str or None, default=None
        Label of the curve; None draws no legend, unless there are validation scores.
    validation_scores : array-like of shape (n_epochs,) or None, default=None
        Score of each epoch on held-out rows; drawn on a second vertical axis, at the right.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The loss curve.
    validation_line_ : matplotlib Line2D or None
        The curve of the validation scores.
    validation_ax_ : matplotlib Axes or None
        Axes of the validation scores, which shares the epochs with `ax_`.
    %(ax_)s
    %(figure_)s

    See Also
    --------
    LossCurveDisplay.from_estimator : Draw the loss curve of a fitted estimator.

    Examples
    --------
    >>> from torchlinreg.displays import LossCurveDisplay
    >>> display = LossCurveDisplay([10.0, 1.0, 0.1]).plot()
    >>> display.ax_.get_yscale()
    'log'
    """

    __module__ = "torchlinreg.displays"

    def __init__(
        self,
        loss_curve: ArrayLike,
        *,
        estimator_name: str | None = None,
        validation_scores: ArrayLike | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.estimator_name = estimator_name
        self.validation_scores = validation_scores

    @classmethod
    @substitute
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: "Axes | None" = None,
        validation_ax: "Axes | None" = None,
        line_kwargs: dict[str, Any] | None = None,
        validation_line_kwargs: dict[str, Any] | None = None,
    ) -> "LossCurveDisplay":
        """Draw the `loss_curve_` of a fitted estimator, and its `validation_scores_` if it has any.

        Parameters
        ----------
        estimator : fitted estimator with a `loss_curve_`
            A TorchLinearRegressor (or scikit-learn's MLPRegressor), or a Pipeline that ends in one.
        name : str or None, default=None
            Label of the curve; None draws no legend, unless there are validation scores.
        %(ax)s
        %(validation_ax)s
        %(line_kwargs)s
        %(validation_line_kwargs)s

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        %(not_fitted)s
        ValueError
            If it has no loss curve.
        %(no_matplotlib)s
        """
        advice = "pass a fitted TorchLinearRegressor, or a Pipeline that ends in one"
        final, curve = fitted_attribute(estimator, "loss_curve_", advice)
        scores = getattr(final, "validation_scores_", None)
        display = cls(np.asarray(curve), estimator_name=name, validation_scores=scores)
        style = {"line_kwargs": line_kwargs, "validation_line_kwargs": validation_line_kwargs}
        return display.plot(ax, validation_ax=validation_ax, **style)

    @substitute
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        name: str | None = None,
        validation_ax: "Axes | None" = None,
        line_kwargs: dict[str, Any] | None = None,
        validation_line_kwargs: dict[str, Any] | None = None,
    ) -> "LossCurveDisplay":
        """Draw the loss against the epoch, on a logarithmic scale if every loss is above zero.

        Parameters
        ----------
        %(ax)s
        name : str or None, default=None
            Label of the curve; None takes `estimator_name`.
        %(validation_ax)s
        %(line_kwargs)s
        %(validation_line_kwargs)s

        Returns
        -------
        self : LossCurveDisplay

        Raises
        ------
        %(no_matplotlib)s
        ValueError
            If there is no epoch to draw.
        """
        matplotlib = import_matplotlib("LossCurveDisplay.plot")
        losses = to_float64(self.loss_curve, "loss_curve")
        if losses.size == 0:
            raise ValueError("the loss curve is empty: fit for at least one epoch")
        self.ax_ = axes_or_new(matplotlib, ax)
        self.figure_ = self.ax_.figure
        name = self.estimator_name if name is None else name
        scores = self.validation_scores
        label = name if scores is None else _label(name, "training loss")
        style = {"color": "tab:blue", "label": label}
        self.line_ = _draw_curve(matplotlib, self.ax_, losses, style, line_kwargs)
        if np.all(losses > 0):
            self.ax_.set_yscale("log")
        self.ax_.set(xlabel="Epoch", ylabel="Mean training loss")
        self.ax_.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        self.ax_.grid(which="both", alpha=0.2)
        self.validation_line_, self.validation_ax_ = None, validation_ax
        if scores is not None:
            scores = to_float64(scores, "validation_scores")
            self.validation_ax_ = self.ax_.twinx() if validation_ax is None else validation_ax
            style = {"color": "tab:orange", "linestyle": "--", "label": _label(name, "validation score")}
            self.validation_line_ = _draw_curve(matplotlib, self.validation_ax_, scores, style, validation_line_kwargs)
            self.validation_ax_.set_ylabel("Validation score")
        self._draw_legend()
        return self

    def _draw_legend(self) -> None:
        """Draw one legend for the labelled lines of both axes."""
        lines, texts = self.ax_.get_legend_handles_labels()
        place = "best"
        if self.validation_ax_ is not None:
            validation_lines, validation_texts = self.validation_ax_.get_legend_handles_labels()
            lines, texts = lines + validation_lines, texts + validation_texts
            place = "center right"  # losses end at the bottom, scores at the top
        if lines:
            self.ax_.legend(lines, texts, loc=place)


def _label(name: str | None, curve: str) -> str:
    """Return the label of a curve, with the name of the estimator if it has one."""
    return curve if name is None else f"{name}, {curve}"


def _draw_curve(
    matplotlib: ModuleType, ax: "Axes", values: np.ndarray, style: dict[str, Any], user: dict[str, Any] | None
) -> "Line2D":
    """Draw a value for each epoch, with a dot at each of a few epochs."""
    marker = "o" if values.size <= _MOST_MARKERS else None
    style = merge_style(matplotlib.lines.Line2D, {"marker": marker, "markersize": 4} | style, user)
    return ax.plot(np.arange(1, values.size + 1), values, **style)[0]
