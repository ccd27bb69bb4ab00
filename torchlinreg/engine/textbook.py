"""Textbook mode: the user gives the learning rate, and it means exactly that."""

import torch

from torchlinreg.engine.batches import MiniBatches, Rows
from torchlinreg.engine.conditioning import Conditioning, condition_by_sketch, condition_exactly, is_exact
from torchlinreg.engine.descent import Patience, descend
from torchlinreg.engine.fitting import Fit, Settings, no_graph
from torchlinreg.engine.losses import total
from torchlinreg.engine.models import MODELS
from torchlinreg.engine.optimizers import Averaged, Preconditioned, make_optimizer
from torchlinreg.engine.plan import textbook_batch


def fit_textbook(rows: Rows, theta: torch.Tensor, settings: Settings) -> Fit:
    """Plain mini-batch descent at the learning rate given, on the features as they are unless told otherwise.

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
    by_hand = settings.backend != "linear" and settings.optimizer == "sgd" and not settings.optimizer_params
    with no_graph(settings, by_hand=by_hand):
        if settings.conditioning in ("auto", None):
            return _descend(rows, theta, settings, by_hand=by_hand)
        table = _condition(rows, settings)
        start = table.wind(theta, fit_intercept=settings.fit_intercept)
        fit = _descend(table.rows, start.to(table.rows.y.dtype), settings, by_hand=by_hand, table=table)
        fit.theta = table.unwind(fit.theta.double(), fit_intercept=settings.fit_intercept)
        return fit


def _condition(rows: Rows, settings: Settings) -> Conditioning:
    if is_exact(*rows.X.shape):
        return condition_exactly(rows, settings.conditioning, fit_intercept=settings.fit_intercept)
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    return condition_by_sketch(
        rows, settings.conditioning, "fold", settings.dtype, fit_intercept=settings.fit_intercept, generator=generator
    )


def _descend(
    rows: Rows, theta: torch.Tensor, settings: Settings, *, by_hand: bool, table: Conditioning | None = None
) -> Fit:
    """Train on the rows, or, with a table, on what its conditioning makes of them."""
    batch_size = textbook_batch(settings.batch_size, len(rows))
    units = rows.y.new_ones(rows.y.shape[1]) if table is None else table.y_scale.square()
    zero_loss = (units * total(settings.loss, torch.zeros_like(rows.y), rows.y, rows.weight)).sum().item() / len(rows)
    options = {}
    if settings.backend == "analytic" and settings.fit_intercept and rows.is_small:
        rows, options = rows.with_ones(), {"ones": True}
    model = MODELS[settings.backend](theta, fit_intercept=settings.fit_intercept, **options)
    optimizer = make_optimizer(
        settings.optimizer,
        model,
        settings.learning_rate,
        settings.momentum,
        settings.optimizer_params,
        by_hand=by_hand,
    )
    if table is not None:
        optimizer = Preconditioned(optimizer, model, table.transform.to(rows.y.dtype))
    average = settings.average not in ("auto", False)
    if average:
        optimizer = Averaged(optimizer, model, burn_in=(int(settings.average) - 1) // batch_size)
    load = {} if table is None else table.load
    batches = MiniBatches(rows, batch_size, settings.generator, **load)
    patience = Patience(None if settings.tol == "auto" else settings.tol, settings.n_iter_no_change)

    def after_epoch(epoch: int, loss: float) -> bool:
        settings.report(epoch, loss)
        return patience.exhausted(loss)

    curve = descend(
        model, settings.loss, optimizer, batches, units=units, max_iter=settings.max_iter, after_epoch=after_epoch
    )
    # The loss before the first step is known for zero weights; for others, that of the first epoch has to do
    before = curve[0] if theta.any() else zero_loss
    return Fit(
        optimizer.mean if average else model.theta(),
        len(curve) * batches.steps_per_epoch,
        curve,
        converged=patience.tol is None or patience.is_exhausted,
        worsened=curve[-1] > 2 * min(before, curve[0]),
        plan=_plan(settings, rows, batch_size),
    )


def _plan(settings: Settings, rows: Rows, batch_size: int) -> dict:
    return {
        "backend": (settings.backend, "as asked, or the fastest that can do what is asked"),
        "learning_rate": (settings.learning_rate, "textbook mode: exactly the number given"),
        "batch_size": (batch_size, "rows a step; textbook mode takes 32 unless told otherwise"),
        "conditioning": (
            None if settings.conditioning == "auto" else settings.conditioning,
            "textbook mode takes the features as they are unless told otherwise",
        ),
        "average": (
            settings.average not in ("auto", False),
            "textbook mode keeps the last weights unless told otherwise",
        ),
        "dtype": (str(rows.y.dtype).removeprefix("torch."), "as the data, or as asked"),
    }
