"""What training found."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Result:
    """What training found.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
    n_steps : int
    loss_curve : list of float
    converged : bool
        Whether the criterion of the mode was met.
    worsened : bool
        Whether the loss ended above where it began.
    optimality_gap : float, optional
    needs_double : bool
        Whether predictions lose more than they should if theta is rounded to single precision.
    plan : dict
        What "auto" stood for: name to (value, reason).
    scores : list of float, optional
        Of each epoch, on rows held out.
    cut_short : bool
        Whether somebody outside ended training: the user by an interrupt, or `Settings.after_epoch`.
    interrupted : bool
        Whether it was the user.
    n_unfinished : int
        Columns that did not meet the criterion of the mode.
    training_state : dict, optional
        What a stream goes on from, beside theta.
    scale : torch.Tensor of shape (n_columns,), optional
        Of the residuals, if the loss depends on one.
    """

    theta: torch.Tensor
    n_steps: int
    loss_curve: list[float]
    converged: bool
    worsened: bool = False
    optimality_gap: float | None = None
    needs_double: bool = False
    plan: dict[str, tuple[Any, str]] = field(default_factory=dict)
    scores: list[float] | None = None
    cut_short: bool = False
    interrupted: bool = False
    n_unfinished: int = 0
    training_state: dict[str, Any] | None = None
    scale: torch.Tensor | None = None
