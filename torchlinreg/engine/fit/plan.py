"""From data to numbers: what "auto" stands for, and why."""

import math
from dataclasses import replace
from typing import Any

import torch

from torchlinreg.engine.data.batches import MiniBatches, Rows
from torchlinreg.engine.fit.robust_scale import ScaleSearch
from torchlinreg.engine.preconditioning.conditioning import Conditioning
from torchlinreg.engine.preconditioning.transforms import top_eigenvalue
from torchlinreg.engine.runtime.devices import widest

TEXTBOOK_BATCH = 32
DESCENT_BATCH = 4096
SKETCHES = {
    "table": "found from all {n} rows",
    "sample": "found from a random sample of rows, as the table is large",
    "fold": "found from all {n} rows folded with random signs, as a sample did not speak for the table",
}
DESCENT_SHARE = 8  # one row in so many is learnt from by mini-batches before the full passes


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
        shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in self.items()}
        names, values = (max(map(len, column), default=0) for column in (shown, shown.values()))
        return "\n".join(f"{name:<{names}}  {value:<{values}}  {self.reasons[name]}" for name, value in shown.items())


def textbook_batch(batch_size: int | str, n_rows: int) -> int:
    """Return the rows of a step in textbook mode."""
    return int(min(n_rows, {"auto": TEXTBOOK_BATCH, "full": n_rows}.get(batch_size, batch_size)))


def untuned_batch(batch_size: int | str, n_rows: int) -> int:
    """Return the rows of a step in untuned mode: large enough that its noise is small beside its curvature."""
    return int(min(n_rows, {"auto": DESCENT_BATCH, "full": n_rows}.get(batch_size, batch_size)))


def step_size(table: Conditioning, batch_size: int) -> float:
    """Return the step for mini-batches of m whitened rows, m / (b + (m - 1) e).

    Here b is the mean squared norm of a row, large rows counting more, and e the top eigenvalue of their second
    moment (Ma, Bassily & Belkin 2018, "The power of interpolation").
    """
    return batch_size / (table.row_norm_bound + (batch_size - 1) * table.excess)


def descent_entries(batches: MiniBatches, rate: float, *, average: bool, good: bool) -> dict[str, tuple[Any, str]]:
    """Return what is to be said of the mini-batches of untuned mode."""
    outcome = "drawn at random" if good else "drawn at random, but the steps diverged and were discarded"
    return {
        "batch_size": (batches.batch_size, "rows a step: many beside the directions, few beside the table"),
        "learning_rate": (rate, "in the conditioned variables: m / (b + (m - 1) e) for m rows a step"),
        "average": (average, "of the weights after the second half of the steps"),
        "descent_rows": (batches.n_rows, outcome),
    }


def table_entries(
    table: Conditioning, method: str | None, dtype: torch.dtype, scale: ScaleSearch | None
) -> dict[str, tuple[Any, str]]:
    """Return what is to be said of the variables that steps were taken in, and of the scale of the residuals."""
    sketch = SKETCHES[table.sketch].format(n=len(table.rows))
    shifted = not table.rows.is_sparse and (table.sketch == "table" or "shift" in table.load)
    where = "once" if table.sketch == "table" else "as they are read: some lie far from zero, or need more precision"
    wider = table.rows.y.dtype != dtype
    entries = {
        "conditioning": (method, f"directions {sketch}" if method == "whiten" else f"scale {sketch}"),
        "condition_number": (table.condition, "of the centred and scaled columns, estimated"),
        "rank": (table.transform.rank, f"independent columns of {table.n_features}"),
        "dtype": (
            str(table.rows.y.dtype).removeprefix("torch."),
            "wider than asked, for accuracy" if wider else "as the data, or as asked",
        ),
        "centring": (shifted, f"columns are centred {where}" if shifted else "done in the algebra"),
    }
    if scale is not None:
        delta = (scale.epsilon * scale.scale * table.y_scale).tolist()
        why = f"{scale.epsilon:g} scales of the residuals, which are found with the weights"
        entries["delta"] = (delta[0] if len(delta) == 1 else delta, why)
    return entries


def largest_stable_rate(rows: Rows, settings) -> float:
    """Learning rate above which SGD of this batch size diverges, to about a factor of two.

    Mini-batches of m rows are stable while the rate stays below 2 / ((m - 1) / m e + b / m), where e is the top
    eigenvalue of the second moment of the features and b their largest squared norm (Ma, Bassily & Belkin 2018, "The
    power of interpolation"). Momentum µ damps what all rows share, 1 + µ times, and adds up the noise of each batch,
    1 / (1 - µ) times.

    Parameters
    ----------
    rows : Rows
    settings : Settings
        Its loss, intercept, momentum and batch size.
    """
    rows = replace(rows, X=rows.X.to(widest(rows.X.device)))
    X = rows.with_ones().X if settings.fit_intercept else rows.X
    weight = None if rows.weight is None else rows.weight.to(X.device, X.dtype)
    size = X.abs().max()
    X = X / size
    batch = textbook_batch(settings.batch_size, len(X))
    curvature = top_eigenvalue(X, weight) / (1.0 + settings.momentum)
    if batch < len(X):
        norms = X.square() @ torch.ones(X.shape[1], 1, dtype=X.dtype, device=X.device)
        largest = (norms if weight is None else norms * weight).max().item()
        curvature = ((batch - 1) * curvature + largest / (1.0 - settings.momentum)) / batch
    steepest = curvature * settings.loss.lipschitz * size.item() * size.item()  # ** 2 would raise on overflow
    return 2.0 / steepest if steepest else math.inf
