"""The settings that cross-validation chooses from, and `cv_results_`."""

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.model_selection import ParameterGrid
from sklearn.utils._param_validation import Interval

from torchlinreg.engine.columns.paths import null_gradient, traces
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.runtime.devices import carry
from torchlinreg.estimators.candidates.alpha_path import alpha_path
from torchlinreg.estimators.parameters.refusals import OVERFLOW
from torchlinreg.estimators.parameters.settings import resolve_penalty
from torchlinreg.estimators.parameters.values import is_untuned
from torchlinreg.inputs.coefficients import to_array

L1_RATIO = {"l2": 0.0, "l1": 1.0}  # of penalties that leave no choice


class Candidates:
    """Every combination of the values that are given for some parameters.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,) or (n_l1_ratios, n_alphas)
        Two-dimensional if each `l1_ratio` has a path of its own.
    axes : dict of str to list
        Further parameters, `l1_ratio` among them, with their values.

    Attributes
    ----------
    params : list of dict
        The combinations, in the order of :class:`~sklearn.model_selection.ParameterGrid`.
    path : ndarray of int, of shape (len(axis), ..., n_alphas)
        Where the combinations are in that list, the largest alpha first: an axis for each of `axes`, in its order.
    """

    def __init__(self, alphas: np.ndarray, axes: dict[str, list[float]]):
        if alphas.ndim == 1:
            grids = [{"alpha": alphas.tolist(), **axes}]
        else:
            grids = [
                {"alpha": path.tolist(), **axes, "l1_ratio": [l1_ratio]}
                for path, l1_ratio in zip(alphas, axes["l1_ratio"], strict=True)
            ]
        self.params = list(ParameterGrid(grids))
        positions = [[axis.index(params[name]) for params in self.params] for name, axis in axes.items()]
        order = np.lexsort([-self.column("alpha"), *positions[::-1]])
        self.path = order.reshape(*map(len, axes.values()), alphas.shape[-1])

    def __len__(self) -> int:
        return len(self.params)

    def column(self, name: str) -> np.ndarray:
        """Return the value of a parameter in every combination."""
        return np.array([params[name] for params in self.params], dtype=float)

    def settings_of_all(self, settings: Settings, device: torch.device, *, penalty, l1_ratio, positive) -> Settings:
        """Return the settings for training all combinations at once, a column each.

        Parameters
        ----------
        settings : Settings
            For one combination.
        device : torch.device
        penalty : str or None
        l1_ratio : float or list
            A number for all combinations, unless they have one each.
        positive : bool
        """
        names = self.params[0]
        l1_ratio = self.column("l1_ratio") if "l1_ratio" in names else np.full(len(self), float(l1_ratio))
        penalty = resolve_penalty(penalty, self.column("alpha"), l1_ratio, device, positive=positive)
        steps = {
            name: carry(torch.from_numpy(self.column(name)), device, settings.dtype)
            for name in ("learning_rate", "momentum")
            if name in names
        }
        return replace(settings, penalty=penalty, **steps)

    def path_of(self, chosen: int) -> np.ndarray:
        """Return the combinations that differ from the one chosen in alpha only, the largest alpha first."""
        paths = self.path.reshape(-1, self.path.shape[-1])
        return paths[(paths == chosen).any(1)][0]


# name in the engine -> name of the parameter, and the values that it takes
_AXES = {
    "learning_rate": ("learning_rates", Interval(Real, 0, np.inf, closed="neither")),
    "momentum": ("momentum", Interval(Real, 0, 1, closed="left")),
    "l1_ratio": ("l1_ratio", Interval(Real, 0, 1, closed="both")),
}


def read_axes(*, learning_rates, momentum, l1_ratio, penalty: str | None) -> dict[str, list[float]]:
    """Return the parameters, apart from `alphas`, that have several values, and these.

    Raises
    ------
    ValueError
        If a value is impossible, or if there is nothing to choose.
    """
    given = {"learning_rate": learning_rates, "momentum": momentum, "l1_ratio": l1_ratio}
    axes = {
        name: _read_axis(*_AXES[name], values) for name, values in given.items() if not isinstance(values, str | Real)
    }
    if "l1_ratio" in axes and penalty != "elasticnet":
        raise ValueError(
            f"l1_ratio={l1_ratio!r} has several values, of no effect with penalty={penalty!r}; use "
            'penalty="elasticnet".'
        )
    if "momentum" in axes and is_untuned(learning_rates):
        raise ValueError(
            f'momentum={momentum!r} has several values, of no effect with learning_rates="auto"; give a '
            "number for learning_rates."
        )
    if penalty is None and not axes:
        raise ValueError(
            'penalty=None leaves nothing to choose; use penalty="l2", "l1" or "elasticnet", several learning_rates, or '
            "TorchLinearRegressor."
        )
    return axes


def _read_axis(name: str, allowed: Interval, given) -> list[float]:
    """Return the values of a parameter that has several, in the order given."""
    values = read_numbers(name, given)
    if not all(value in allowed for value in values):
        raise ValueError(f"{name}={given!r}: each value must be {allowed}.")
    if len(set(values)) < len(values):
        raise ValueError(f"{name}={given!r} has a value twice; give each once.")
    return values


def read_numbers(name: str, given) -> list[float]:
    """Return the numbers in a list of them, one at least.

    Raises
    ------
    ValueError
        If it is none.
    """
    values = to_array(name, given, "give a list of numbers")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name}={given!r} has shape {values.shape}; give a list of numbers, one at least.")
    if np.isnan(values).any():
        raise ValueError(f"{name}={given!r} contains NaN; give numbers.")
    return values.tolist()


def read_alphas(
    alphas, eps: float | str, l1_ratio: float | list[float], rows: MemorySource, settings: Settings, *, positive: bool
) -> np.ndarray:
    """Return the strengths of the penalty to choose from.

    Parameters
    ----------
    alphas : int or list
        A number of them asks for a path.
    eps : float or "auto"
        Length of a path.
    l1_ratio : float or list of float
        Each of several has a path of its own.
    rows : MemorySource
    settings : Settings
    positive : bool

    Returns
    -------
    ndarray of shape (n_alphas,) or, for the paths of several `l1_ratio`, (n_l1_ratios, n_alphas)

    Raises
    ------
    ValueError
        If one is impossible.
    """
    if not isinstance(alphas, Integral):
        strengths = np.array(read_numbers("alphas", alphas))
        if strengths.min() < 0 or not np.isfinite(strengths).all():
            raise ValueError(f"alphas={alphas!r} must be finite and not negative.")
        return strengths
    at_zero = null_gradient(rows, settings)
    covariance = traces(rows, centred=settings.fit_intercept) if eps == "auto" else None
    l1_ratios = l1_ratio if isinstance(l1_ratio, list) else [l1_ratio]
    paths = np.array([alpha_path(at_zero, covariance, each, alphas, eps, positive=positive) for each in l1_ratios])
    if not np.isfinite(paths).all():
        raise ValueError(OVERFLOW)
    return paths if isinstance(l1_ratio, list) else paths[0]


def make_cv_results(candidates: Candidates, scores: np.ndarray) -> dict:
    """Return `cv_results_` as :class:`~sklearn.model_selection.GridSearchCV` has it, without the times.

    Parameters
    ----------
    candidates : Candidates
    scores : ndarray of shape (n_candidates, n_folds)
    """
    results = {f"param_{name}": candidates.column(name) for name in candidates.params[0]}
    results["params"] = candidates.params
    results |= {f"split{fold}_test_score": column for fold, column in enumerate(scores.T)}
    with np.errstate(over="ignore", invalid="ignore"):  # where training nearly diverged
        mean = scores.mean(1)
        results |= {"mean_test_score": mean, "std_test_score": scores.std(1)}
    worst = 0.0 if np.isnan(mean).all() else np.nanmin(mean) - 1
    results["rank_test_score"] = rankdata(-np.where(np.isnan(mean), worst, mean), method="min").astype(np.int32)
    return results
