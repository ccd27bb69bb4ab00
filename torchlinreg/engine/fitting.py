"""The two ways of working: textbook mode, where the user gives the learning rate, and untuned mode."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from torchlinreg.engine.batches import MiniBatches, Rows
from torchlinreg.engine.conditioning import EPS, condition
from torchlinreg.engine.descent import Patience, descend
from torchlinreg.engine.devices import full_precision
from torchlinreg.engine.losses import Loss, total
from torchlinreg.engine.models import MODELS
from torchlinreg.engine.optimizers import make_optimizer
from torchlinreg.engine.plan import TEXTBOOK_BATCH
from torchlinreg.engine.refinement import FullPass, refine

AUTO_TOL = {torch.float32: 1e-10, torch.float64: 1e-18}


@dataclass(frozen=True)
class Settings:
    """What the estimator's parameters say about training."""

    loss: Loss
    fit_intercept: bool
    backend: str
    optimizer: Any
    optimizer_params: dict | None
    momentum: float
    learning_rate: float | str
    batch_size: int | str
    max_iter: int
    tol: float | str | None
    n_iter_no_change: int
    generator: torch.Generator | None
    report: Callable[[int, float], None]


@dataclass
class Fit:
    """What training found."""

    theta: torch.Tensor
    n_steps: int
    loss_curve: list[float]
    converged: bool
    worsened: bool = False
    optimality_gap: float | None = None
    plan: dict[str, tuple[Any, str]] = field(default_factory=dict)


def fit_textbook(rows: Rows, theta: torch.Tensor, settings: Settings) -> Fit:
    """Plain mini-batch descent on the features as they are, at the learning rate given.

    Parameters
    ----------
    rows : Rows
    theta : torch.Tensor of shape (n_features + fit_intercept, n_columns)
        The start.
    settings : Settings

    Raises
    ------
    DivergedError
        If the learning rate is too large for the data.
    """
    batch_size = {"auto": TEXTBOOK_BATCH, "full": len(rows)}.get(settings.batch_size, settings.batch_size)
    patience = Patience(None if settings.tol == "auto" else settings.tol, settings.n_iter_no_change)

    def after_epoch(epoch: int, loss: float) -> bool:
        settings.report(epoch, loss)
        return patience.exhausted(loss)

    by_hand = settings.backend != "linear" and settings.optimizer == "sgd" and not settings.optimizer_params
    with no_graph(settings, by_hand=by_hand):
        options = {}
        if settings.backend == "analytic" and settings.fit_intercept and rows.is_small:
            rows, options = rows.with_ones(), {"ones": True}
        model = MODELS[settings.backend](theta, fit_intercept=settings.fit_intercept, **options)
        optimizer = make_optimizer(
            settings.optimizer,
            model.parameters,
            settings.learning_rate,
            settings.momentum,
            settings.optimizer_params,
            by_hand=by_hand,
        )
        batches = MiniBatches(rows, batch_size, settings.generator)
        curve = descend(model, settings.loss, optimizer, batches, max_iter=settings.max_iter, after_epoch=after_epoch)
        # Before the first step: known for zero weights, and never better than after one epoch for others
        before = curve[0]
        if not theta.any():
            before = total(settings.loss, torch.zeros_like(rows.y), rows.y, rows.weight).sum().item() / len(rows)
        return Fit(
            model.theta(),
            len(curve) * batches.steps_per_epoch,
            curve,
            converged=patience.tol is None or patience.is_exhausted,
            worsened=curve[-1] > 2 * min(before, curve[0]),
        )


def fit_untuned(rows: Rows, settings: Settings) -> Fit:
    """Find the optimum from the raw table, whatever its scales.

    Parameters
    ----------
    rows : Rows
    settings : Settings
    """
    with no_graph(settings, by_hand=True):
        table = condition(rows, fit_intercept=settings.fit_intercept)
        loss = settings.loss
        curve: list[float] = []

        def after_pass(value: torch.Tensor) -> None:
            curve.append((value * table.y_scale.square()).sum().item())
            settings.report(len(curve), curve[-1])

        def make_model(theta: torch.Tensor):
            return MODELS[settings.backend](theta, fit_intercept=settings.fit_intercept)

        full_pass = FullPass(make_model, loss, table.rows)
        transform = table.transform / loss.curvature**0.5
        start = transform.new_zeros(transform.shape[1], rows.y.shape[1])
        tol = AUTO_TOL[rows.X.dtype] if settings.tol in ("auto", None) else settings.tol
        refined = refine(full_pass, transform, start, floor=1e-24, max_iter=settings.max_iter, after_pass=after_pass)
        theta = refined.theta
        if table.rank < rows.X.shape[1]:
            theta = table.minimum_norm(theta)
            theta = theta - transform @ (transform.T @ full_pass(theta)[1])
        gap = refined.gap / loss.curvature
        theta = table.unwind(theta, fit_intercept=settings.fit_intercept)
        return Fit(
            theta, refined.n_passes, curve, gap <= max(tol, (8 * EPS * table.condition) ** 2), optimality_gap=gap
        )


def no_graph(settings: Settings, *, by_hand: bool) -> ExitStack:
    """Switch off what training does not need, whatever the caller has switched on: autograd and reduced precision."""
    stack = ExitStack()
    stack.enter_context(full_precision())
    # Inference mode makes small steps cheaper still, where no graph is ever built
    stack.enter_context(torch.inference_mode(settings.backend == "analytic" and by_hand))
    stack.enter_context(torch.no_grad())
    return stack
