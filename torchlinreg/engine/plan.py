"""From data to numbers: what "auto" stands for, and why."""

import math
from dataclasses import replace
from typing import Any

import torch

from torchlinreg.engine.batches import Rows
from torchlinreg.engine.conditioning import Conditioning
from torchlinreg.engine.devices import widest
from torchlinreg.engine.transforms import top_eigenvalue

TEXTBOOK_BATCH = 32
DESCENT_BATCH = 4096
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
    return batch_size / (table.heaviness + (batch_size - 1) * table.excess)


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
    steepest = curvature * settings.loss.curvature * size.item() * size.item()  # ** 2 would raise on overflow
    return 2.0 / steepest if steepest else math.inf
