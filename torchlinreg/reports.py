"""What the estimator says while it trains, and of how that ended."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from torchlinreg.engine.batches import Rows
from torchlinreg.engine.fitting import Fit, Settings
from torchlinreg.engine.plan import largest_stable_rate


def print_epoch(estimator, epoch: int, loss: float) -> None:
    """Print a line for every `verbose`-th epoch, as tutorials do."""
    if epoch % estimator.verbose == 0:
        width = len(str(estimator.max_iter))
        print(f"Epoch {epoch:>{width}}/{estimator.max_iter}, loss {loss:.6g}")


def warn_of(estimator, outcome: Fit, rows: Rows, settings: Settings, *, stacklevel: int) -> None:
    """Say what the caller should know of how training ended."""
    if outcome.interrupted:
        kept = "the best until then" if estimator.learning_rate == "auto" else "those after the last step"
        kept = "the best on the rows held out" if outcome.scores else kept
        warnings.warn(
            f"Training was interrupted after epoch {estimator.n_iter_} of at most {estimator.max_iter}; the weights "
            f"are {kept}. Fit again to go on, in textbook mode with warm_start=True.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
    elif outcome.cut_short:
        return
    elif outcome.worsened:
        warnings.warn(
            f"Training made the loss worse, up to {estimator.loss_curve_[-1]:.3g}: "
            f"learning_rate={estimator.learning_rate} is too large for this data. {advise(estimator, rows, settings)}",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
    elif not outcome.converged:
        reached = (
            "" if estimator.optimality_gap_ is None else f" The optimality gap is {estimator.optimality_gap_:.1e}."
        )
        way_out = "Increase max_iter, or accept a larger tol."
        if estimator.n_iter_ < estimator.max_iter:
            way_out = "Further passes gained nothing: accept a larger tol, or scale features and target."
        warnings.warn(
            f"Stopped after {estimator.n_iter_} epochs, with max_iter={estimator.max_iter}, without meeting "
            f"tol={estimator.tol}.{reached} {way_out}",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def advise(estimator, rows: Rows, settings: Settings) -> str:
    """Say what to try instead of a learning rate that was too large."""
    stable = ""
    if estimator.optimizer == "sgd" and not estimator.optimizer_params:
        rate = largest_stable_rate(rows, settings)
        stable = f"The largest stable rate is about {rate:.2g}. " if 0 < rate < np.inf else ""
    return stable + 'Lower it, scale the features, or leave the choice to learning_rate="auto".'
