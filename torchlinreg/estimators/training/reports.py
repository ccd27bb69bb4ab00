"""What the estimator says while it trains, and of how that ended."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.fit.plan import largest_stable_rate
from torchlinreg.engine.fit.settings import Fit, Settings


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


def warn_of_search(estimator, path: np.ndarray, *, stacklevel: int) -> None:
    """Say what the caller should know of how a search ended.

    Parameters
    ----------
    estimator : TorchLinearRegressorCV
    path : ndarray of int
        The settings that differ from the one chosen in alpha only, the largest alpha first.
    stacklevel : int
    """
    n_settings = len(estimator.cv_results_["params"])
    n_unscored = int(np.isnan(estimator.cv_results_["mean_test_score"]).sum())
    untuned = isinstance(estimator.learning_rates, str)
    n_diverged = 0 if untuned else int(np.isnan(estimator.mse_path_).any(-1).sum())
    said = {}
    if n_diverged:
        said[FitFailedWarning] = (
            f"Training diverged at {n_diverged} of {n_settings} settings, which are scored NaN: their learning rates "
            "are too large for this data."
        )
    if n_unscored > n_diverged:
        said[UserWarning] = (
            f"scoring={estimator.scoring!r} gave NaN for {n_unscored - n_diverged} of {n_settings} settings, which "
            "rank last."
        )
    elif (at := _end(estimator, path)) is not None:
        said[UserWarning] = at
    if not estimator.converged_:
        said[ConvergenceWarning] = (
            f"Some models did not meet tol={estimator.tol} with max_iter={estimator.max_iter}. Increase max_iter, or "
            "accept a larger tol."
        )
    for category, message in said.items():
        warnings.warn(message, category, stacklevel=stacklevel)


def _end(estimator, path: np.ndarray) -> str | None:
    """Say if the alpha chosen is the largest or the smallest of several, so that others may be better still."""
    at = int((path == estimator.best_index_).argmax())
    scores = estimator.cv_results_["mean_test_score"][path]
    no_choice = len(path) == 1 or not np.nanmin(scores, initial=np.inf) < np.nanmax(scores, initial=-np.inf)
    if no_choice or at not in (0, len(path) - 1) or estimator.alpha_ == 0:
        return None
    a_path = isinstance(estimator.alphas, Integral)
    if at == 0:
        further = "larger ones, if not better features: predictions hardly leave the mean"
    elif a_path and estimator.eps == "auto":
        further = "none at all, as TorchLinearRegressor() has it: the path ends near that"
    else:
        further = 'eps="auto"' if a_path else "smaller ones, or alphas=100 for a path of them"
    return (
        f"alpha_={estimator.alpha_:.3g} is the {'smallest' if at else 'largest'} of {len(path)} alphas; others may be "
        f"better. Try {further}."
    )


def advise(estimator, rows: Rows, settings: Settings) -> str:
    """Say what to try instead of a learning rate that was too large."""
    stable = ""
    if estimator.optimizer == "sgd" and not estimator.optimizer_params:
        rate = largest_stable_rate(rows, settings)
        stable = f"The largest stable rate is about {rate:.2g}. " if 0 < rate < np.inf else ""
    return stable + 'Lower it, scale the features, or leave the choice to learning_rate="auto".'
