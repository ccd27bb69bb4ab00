"""From data to numbers: what "auto" stands for, and why."""

import html
import math
from typing import Any

import torch

from torchlinreg.engine.data.batches import MiniBatches
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.preconditioning.conditioned import Conditioned
from torchlinreg.engine.preconditioning.factorizations import largest_second_moment
from torchlinreg.engine.runtime.devices import widest

TEXTBOOK_BATCH = 32
DESCENT_BATCH = 4096
SKETCHES = {
    "exact": "found from all {n} rows",
    "gram": "found from products of columns over all {n} rows",
    "subsample": "found from a random sample of rows, as there are many",
    "countsketch": "found from a CountSketch of all {n} rows, as a sample did not represent them",
}
DESCENT_SHARE = 8  # one row in so many is taken by mini-batches before the full passes


class Plan(dict[str, Any]):
    """The numbers of a fit, by name; prints as a table with a reason for each.

    Attributes
    ----------
    reasons : dict of str to str
    """

    def __init__(self, entries: dict[str, tuple[Any, str]]):
        super().__init__({name: value for name, (value, _) in entries.items()})
        self.reasons = {name: reason for name, (_, reason) in entries.items()}

    def __repr__(self) -> str:
        shown = self._shown()
        names, values = (max(map(len, column), default=0) for column in (shown, shown.values()))
        return "\n".join(f"{name:<{names}}  {value:<{values}}  {self.reasons[name]}" for name, value in shown.items())

    def _repr_html_(self) -> str:
        """Return the table for notebooks, with scikit-learn's classes of style sheets."""
        rows = ((name, value, self.reasons[name]) for name, value in self._shown().items())
        cells = (map(html.escape, row) for row in rows)
        lines = "".join("<tr class='default'><td>{}</td><td>{}</td><td>{}</td></tr>".format(*row) for row in cells)
        return f"<table class='parameters-table'><tbody>{lines}</tbody></table>"

    def _shown(self) -> dict[str, str]:
        return {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in self.items()}


def textbook_batch(batch_size: int | str, n_rows: int) -> int:
    """Return the rows of a step in textbook mode."""
    return int(min(n_rows, {"auto": TEXTBOOK_BATCH, "full": n_rows}.get(batch_size, batch_size)))


def untuned_batch(batch_size: int | str, n_rows: int) -> int:
    """Return the rows of a step in untuned mode: large enough that its noise is small beside its curvature."""
    return int(min(n_rows, {"auto": DESCENT_BATCH, "full": n_rows}.get(batch_size, batch_size)))


def step_size(conditioned: Conditioned, batch_size: int) -> float:
    """Return the step for mini-batches of m whitened rows, m / (b + (m - 1) e).

    Here b is the mean squared norm of a row, large rows counting more, and e the top eigenvalue of their second
    moment (Ma, Bassily & Belkin 2018, "The power of interpolation").
    """
    return batch_size / (conditioned.row_norm_bound + (batch_size - 1) * conditioned.largest_curvature)


def descent_entries(batches: MiniBatches, rate: float, *, average: bool, good: bool) -> dict[str, tuple[Any, str]]:
    """Return what is to be said of the mini-batches of untuned mode."""
    outcome = "drawn at random" if good else "drawn at random, but the steps diverged and were discarded"
    return {
        "batch_size": (batches.batch_size, "rows a step: many beside the directions, few beside the table"),
        "learning_rate": (rate, "in the conditioned variables: m / (b + (m - 1) e) for m rows a step"),
        "average": (average, "of the weights after the second half of the steps"),
        "descent_rows": (batches.n_rows, outcome),
    }


def conditioned_entries(problem) -> dict[str, tuple[Any, str]]:
    """Return what is to be said of the variables that steps were taken in, and of the scale of the residuals."""
    conditioned, method, source = problem.conditioned, problem.method, problem.source
    sketch, exact = SKETCHES[conditioned.sketch].format(n=len(source)), conditioned.sketch == "exact"
    shifted = not source.is_sparse and (exact or source.X.is_shifted)
    where = "once" if exact else "as they are read: some lie far from zero, or need more precision"
    wider = source.dtype != problem.settings.dtype
    entries = {
        "conditioning": (method, f"directions {sketch}" if method == "whiten" else f"scale {sketch}"),
        "condition_number": (conditioned.condition, "of the centred and scaled columns, estimated"),
        "rank": (conditioned.transform.rank, f"independent columns of {conditioned.n_features}"),
        "dtype": (
            str(source.dtype).removeprefix("torch."),
            "wider than asked, for accuracy" if wider else "as the data, or as asked",
        ),
        "centring": (shifted, f"columns are centred {where}" if shifted else "done in the algebra"),
    }
    if problem.scale is not None:
        epsilon = problem.settings.loss.epsilon
        delta = (epsilon * problem.scale_in_units).tolist()
        why = f"{epsilon:g} scales of the residuals, which are found with the weights"
        entries["delta"] = (delta[0] if len(delta) == 1 else delta, why)
    return entries


def textbook_entries(settings: Settings, dtype: torch.dtype, batch_size: int) -> dict[str, tuple[Any, str]]:
    """Return what is to be said of a training in textbook mode."""
    conditioning = None if settings.conditioning == "auto" else settings.conditioning
    average = settings.average not in ("auto", False)
    return {
        "learning_rate": (settings.learning_rate, "textbook mode: exactly the number given"),
        "batch_size": (batch_size, "rows a step; textbook mode takes 32 unless told otherwise"),
        "conditioning": (conditioning, "textbook mode takes the features as they are unless told otherwise"),
        "average": (average, "textbook mode keeps the last weights unless told otherwise"),
        "dtype": (str(dtype).removeprefix("torch."), "as the data, or as asked"),
    }


def largest_stable_rate(source: MemorySource, settings: Settings) -> float:
    """Return the learning rate above which SGD of this batch size diverges, to about a factor of two.

    Mini-batches of m rows are stable while the rate stays below 2 / ((m - 1) / m e + b / m), where e is the top
    eigenvalue of the second moment of the features and b their largest squared norm (Ma, Bassily & Belkin 2018, "The
    power of interpolation"). Momentum µ damps what all rows share, 1 + µ times, and adds up the noise of each batch,
    1 / (1 - µ) times.

    Parameters
    ----------
    source : MemorySource
    settings : Settings
        Its loss, intercept, momentum and batch size.
    """
    X = source.X.to(widest(source.X.device))
    X = X.with_ones() if settings.fit_intercept else X
    weight = None if source.weight is None else source.weight.to(X.device, X.dtype)
    size = X.map(torch.abs).max()
    X = X.map(lambda values: values / size)
    batch = textbook_batch(settings.batch_size, len(X))
    curvature = largest_second_moment(X, weight) / (1.0 + settings.momentum)
    if batch < len(X):
        norms = X.map(torch.square).matmul(torch.ones(X.shape[1], 1, dtype=X.dtype, device=X.device))
        largest = (norms if weight is None else norms * weight).max().item()
        curvature = ((batch - 1) * curvature + largest / (1.0 - settings.momentum)) / batch
    lipschitz = curvature * settings.loss.lipschitz * size.item() * size.item()  # ** 2 would raise on overflow
    return 2.0 / lipschitz if lipschitz else math.inf
