"""What the estimators print while they train, and their warnings at the end."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.plan import largest_stable_rate
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.estimators.parameters.values import Parameters

MORE_EPOCHS = "Increase max_iter, or accept a larger tol."


def print_epoch(epoch: int, loss: float, *, every: int, max_iter: int) -> None:
    """Print the loss of every so many epochs."""
    if epoch % every == 0:
        print(f"Epoch {epoch:>{len(str(max_iter))}}/{max_iter}, loss {loss:.6g}")


def warn_of_fit(
    outcome: Result, rows: MemorySource, settings: Settings, parameters: Parameters, *, stacklevel: int
) -> None:
    """Warn if training was interrupted, made the loss worse, or did not converge.

    Parameters
    ----------
    outcome : Result
    rows : MemorySource
        Learnt from.
    settings : Settings
        Trained with.
    parameters : Parameters
        As the user gave them.
    stacklevel : int
    """
    message = None
    if outcome.interrupted:
        message = _interrupted(outcome, parameters)
    elif outcome.cut_short:
        return
    elif outcome.worsened:
        message = (
            f"Training made the loss worse, up to {outcome.loss_curve[-1]:.3g}: "
            f"learning_rate={parameters.learning_rate} is too large for this data. {advise_rate(rows, settings)}"
        )
    elif not outcome.converged:
        message = _unconverged(outcome, parameters)
    if message is not None:
        warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel)


def _interrupted(outcome: Result, parameters: Parameters) -> str:
    kept = "the best until then" if parameters.is_untuned else "those after the last step"
    kept = "the best on the rows held out" if outcome.scores else kept
    return (
        f"Training was interrupted after epoch {len(outcome.loss_curve)} of at most {parameters.max_iter}; the weights "
        f"are {kept}. Fit again to go on, in textbook mode with warm_start=True."
    )


def _unconverged(outcome: Result, parameters: Parameters) -> str:
    n_epochs = len(outcome.loss_curve)
    reached = "" if outcome.optimality_gap is None else f" The optimality gap is {outcome.optimality_gap:.1e}."
    way_out = MORE_EPOCHS
    if n_epochs < parameters.max_iter:
        way_out = "Further passes gained nothing: accept a larger tol, or scale features and target."
    return (
        f"Stopped after {n_epochs} epochs, with max_iter={parameters.max_iter}, without meeting "
        f"tol={parameters.tol}.{reached} {way_out}"
    )


def advise_rate(rows: MemorySource, settings: Settings) -> str:
    """Return what to try instead of a learning rate that was too large."""
    stable = ""
    if settings.optimizer == "sgd" and not settings.optimizer_params:
        rate = largest_stable_rate(rows, settings)
        stable = f"The largest stable rate is about {rate:.2g}. " if 0 < rate < np.inf else ""
    return stable + 'Lower it, scale the features, or leave the choice to learning_rate="auto".'


def warn_of_search(
    scores: np.ndarray, scoring, errors: np.ndarray, end_of_path: str | None, parameters: Parameters, *, stacklevel: int
) -> None:
    """Warn of settings that diverged or have no score, and of a choice at an end of the path.

    Parameters
    ----------
    scores : ndarray of shape (n_settings,)
        Mean test score of each.
    scoring : str, callable or None
        As the user gave it.
    errors : ndarray of shape (..., n_folds)
        Mean squared error of each setting on each fold.
    end_of_path : str or None
        What `describe_end` says.
    parameters : Parameters
    stacklevel : int
    """
    n_unscored = int(np.isnan(scores).sum())
    n_diverged = 0 if parameters.is_untuned else int(np.isnan(errors).any(-1).sum())
    if n_diverged:
        warnings.warn(
            f"Training diverged at {n_diverged} of {len(scores)} settings, which are scored NaN: their learning rates "
            "are too large for this data.",
            FitFailedWarning,
            stacklevel=stacklevel,
        )
    if n_unscored > n_diverged:
        warnings.warn(
            f"scoring={scoring!r} gave NaN for {n_unscored - n_diverged} of {len(scores)} settings, which rank last.",
            UserWarning,
            stacklevel=stacklevel,
        )
    elif end_of_path is not None:
        warnings.warn(end_of_path, UserWarning, stacklevel=stacklevel)


def warn_of_unfinished(parameters: Parameters, *, stacklevel: int) -> None:
    """Warn that not every model of a search converged."""
    warnings.warn(
        f"Some models did not meet tol={parameters.tol} with max_iter={parameters.max_iter}. {MORE_EPOCHS}",
        ConvergenceWarning,
        stacklevel=stacklevel,
    )


def describe_end(chosen: int, path_alphas: np.ndarray, path_scores: np.ndarray, alphas, eps) -> str | None:
    """Return a message if the alpha chosen is the largest or the smallest of several, so that others may be better.

    Parameters
    ----------
    chosen : int
        Place of the alpha chosen in the path.
    path_alphas, path_scores : ndarray of shape (n_alphas,)
        The path, the largest alpha first, with mean test scores.
    alphas, eps : as the user gave them
    """
    no_choice = not np.nanmin(path_scores, initial=np.inf) < np.nanmax(path_scores, initial=-np.inf)
    if len(path_alphas) == 1 or no_choice or chosen not in (0, len(path_alphas) - 1) or path_alphas[chosen] == 0:
        return None
    a_path = isinstance(alphas, Integral)
    if chosen == 0:
        further = "larger ones, if not better features: predictions hardly leave the mean"
    elif a_path and eps == "auto":
        further = "none at all, as TorchLinearRegressor() has it: the path ends near that"
    else:
        further = 'eps="auto"' if a_path else "smaller ones, or alphas=100 for a path of them"
    return (
        f"alpha_={path_alphas[chosen]:.3g} is the {'smallest' if chosen else 'largest'} of {len(path_alphas)} alphas; "
        f"others may be better. Try {further}."
    )
