"""Textbook mode: the user gives the learning rate, and it means exactly that."""

import torch

from torchlinreg.engine.batches import MiniBatches, Rows
from torchlinreg.engine.descent import Patience, descend
from torchlinreg.engine.fitting import Fit, Settings, no_graph
from torchlinreg.engine.losses import total
from torchlinreg.engine.models import MODELS
from torchlinreg.engine.optimizers import make_optimizer
from torchlinreg.engine.plan import TEXTBOOK_BATCH


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
