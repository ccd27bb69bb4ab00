"""The settings that cross-validation chooses from, and the table of how they did."""

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.model_selection import ParameterGrid

from torchlinreg.engine.columns.paths import AtZero, null_gradient, traces
from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.penalties import make_penalty
from torchlinreg.engine.runtime.devices import carry, widest
from torchlinreg.estimators.parameters.refusals import OVERFLOW
from torchlinreg.inputs.arrays import to_numpy
from torchlinreg.inputs.coefficients import to_array

L1_RATIO = {"l2": 0.0, "l1": 1.0}  # of penalties that leave no choice
LEFT = 1e-3  # degrees of freedom that are left at one end of a path and taken at the other, or spreads of the target
SMALLEST_ALPHA = 1e-15  # of a path for a target that nothing speaks of


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
        places = [[axis.index(params[name]) for params in self.params] for name, axis in axes.items()]
        order = np.lexsort([-self.column("alpha"), *places[::-1]])
        self.path = order.reshape(*map(len, axes.values()), alphas.shape[-1])

    def __len__(self) -> int:
        return len(self.params)

    def column(self, name: str) -> np.ndarray:
        """Return the value of a parameter in every combination."""
        return np.array([params[name] for params in self.params], dtype=float)

    def columns(self, estimator, settings: Settings, device: torch.device) -> Settings:
        """Return the settings of a training of all combinations at once.

        Parameters
        ----------
        estimator : TorchLinearRegressorCV
        settings : Settings
            Of one combination.
        device : torch.device
        """
        given = self.params[0]
        l1_ratio = self.column("l1_ratio") if "l1_ratio" in given else np.full(len(self), float(estimator.l1_ratio))
        strength = (carry(torch.from_numpy(part), device, widest(device)) for part in (self.column("alpha"), l1_ratio))
        steps = {
            name: carry(torch.from_numpy(self.column(name)), device, settings.dtype)
            for name in ("learning_rate", "momentum")
            if name in given
        }
        return replace(settings, penalty=make_penalty(estimator.penalty, *strength), **steps)

    def around(self, best: int) -> np.ndarray:
        """Return the combinations that differ from this one in alpha only, the largest alpha first."""
        paths = self.path.reshape(-1, self.path.shape[-1])
        return paths[(paths == best).any(1)][0]


def read_axes(estimator) -> dict[str, list[float]]:
    """Return the parameters of the estimator, apart from `alphas`, that have several values, and these.

    Parameters
    ----------
    estimator : TorchLinearRegressorCV

    Raises
    ------
    ValueError
        If a value is impossible, or if there is nothing to choose.
    """
    given = {
        "learning_rate": ("learning_rates", estimator.learning_rates),
        "momentum": ("momentum", estimator.momentum),
        "l1_ratio": ("l1_ratio", estimator.l1_ratio),
    }
    axes = {name: several(*one) for name, one in given.items() if not isinstance(one[1], str | Real)}
    bounds = {"learning_rate": (0.0, np.inf), "momentum": (0.0, 1.0), "l1_ratio": (0.0, 1.0)}
    for name, values in axes.items():
        low, high = bounds[name]
        excluded = {"learning_rate": {low, high}, "momentum": {high}}.get(name, set())
        if not all(low <= value <= high for value in values) or excluded & set(values):
            apart = f", {' and '.join(f'{end:g}' for end in sorted(excluded))} excluded" if excluded else ""
            raise ValueError(f"{given[name][0]}={given[name][1]!r} must lie between {low:g} and {high:g}{apart}.")
        if len(set(values)) < len(values):
            raise ValueError(f"{given[name][0]}={given[name][1]!r} has a value twice; give each once.")
    if "l1_ratio" in axes and estimator.penalty != "elasticnet":
        raise ValueError(
            f"l1_ratio={estimator.l1_ratio!r} has several values, of no effect with penalty={estimator.penalty!r}; use "
            'penalty="elasticnet".'
        )
    if "momentum" in axes and isinstance(estimator.learning_rates, str):
        raise ValueError(
            f'momentum={estimator.momentum!r} has several values, of no effect with learning_rates="auto"; give a '
            "number for learning_rates."
        )
    if estimator.penalty is None and not axes:
        raise ValueError(
            'penalty=None leaves nothing to choose; use penalty="l2", "l1" or "elasticnet", several learning_rates, or '
            "TorchLinearRegressor."
        )
    return axes


def read_alphas(estimator, rows: Rows, settings: Settings, axes: dict[str, list[float]]) -> np.ndarray:
    """Return the penalties to choose from, of shape (n_alphas,), or a path for each of several `l1_ratio`.

    Parameters
    ----------
    estimator : TorchLinearRegressorCV
    rows : Rows
    settings : Settings
    axes : dict of str to list

    Raises
    ------
    ValueError
        If one is impossible.
    """
    if estimator.penalty is None:
        return np.zeros(1)
    if not isinstance(estimator.alphas, Integral):
        alphas = np.array(several("alphas", estimator.alphas))
        if alphas.min() < 0 or not np.isfinite(alphas).all():
            raise ValueError(f"alphas={estimator.alphas!r} must be finite and not negative.")
        return alphas
    at_zero = null_gradient(rows, settings)
    l1_ratios = axes.get("l1_ratio", [L1_RATIO.get(estimator.penalty, estimator.l1_ratio)])
    whole = traces(rows, centred=settings.fit_intercept) if estimator.eps == "auto" else None
    paths = [alpha_path(at_zero, whole, l1_ratio, estimator.alphas, estimator.eps) for l1_ratio in l1_ratios]
    if not np.isfinite(paths).all():
        raise ValueError(OVERFLOW)
    return np.array(paths) if "l1_ratio" in axes else paths[0]


def several(name: str, given) -> list[float]:
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


def row_numbers(part, n_rows: int) -> np.ndarray:
    """Return the numbers of rows that a splitter chose, by numbers or by a mask.

    Raises
    ------
    ValueError
        If it chose none, or such as there are not.
    """
    given = np.asarray(to_numpy(part, "cv") if isinstance(part, torch.Tensor) else part)
    chosen = np.flatnonzero(given) if given.dtype == bool else given
    cut_short = given.dtype == bool and given.shape != (n_rows,)
    if not chosen.size or given.ndim != 1 or chosen.dtype.kind not in "iu" or cut_short:
        raise ValueError(
            f"cv gave a part of shape {given.shape} and dtype {given.dtype}, with {chosen.size} rows; give the numbers "
            f"of some of the {n_rows} rows, or True or False for each of them."
        )
    chosen = chosen.astype(np.int64)
    strange = chosen[(chosen < -n_rows) | (chosen >= n_rows)]
    if len(strange):
        raise ValueError(f"cv names row {strange[0]} of {n_rows}; give numbers of rows that there are.")
    return chosen % n_rows


def alpha_path(
    at_zero: AtZero, whole: tuple[float, float] | None, l1_ratio: float, n_alphas: int, eps: float | str
) -> np.ndarray:
    """Return penalties from the largest that is of any use downwards, evenly spaced by their logarithms.

    With an L1 part the largest one is the smallest that makes all weights zero, as in
    :class:`~sklearn.linear_model.LassoCV`, and `eps` the ratio of smallest to largest. Without, no weight becomes zero:
    the largest lets predictions leave the best constant by about `eps` of the target's spread, and the ratio is
    ``eps ** 2``.

    With "auto" the path ends where the penalty no longer counts, whatever the units of the columns. Let C be their
    covariance, and c the curvature of the loss. L2 leaves the trace of ``C (C + alpha / c)⁻¹`` degrees of freedom:
    about ``c trace(C) / alpha`` for large alphas, and all but ``alpha trace(C⁻¹) / c`` for small ones. L1 moves
    predictions from where they were without it by ``alpha / c sqrt(signs' C⁻¹ signs)``.

    Parameters
    ----------
    at_zero : AtZero
    whole : tuple of float or None
        Traces of C and of its pseudo-inverse, for "auto".
    l1_ratio : float
    n_alphas : int
    eps : float or "auto"
    """
    steepest = at_zero.slope.abs().max().item()
    if whole is None:
        largest, ratio = (steepest / l1_ratio, eps) if l1_ratio else (at_zero.stride.max().item() / eps, eps**2)
        largest = max(largest, SMALLEST_ALPHA)
        smallest = ratio * largest
    else:
        curvature = at_zero.steepness / at_zero.spread
        low, high = (curvature.min().item() / whole[1] if whole[1] else 0.0), curvature.max().item() * whole[0]
        largest = steepest / l1_ratio if l1_ratio else high / LEFT
        largest = max(largest, SMALLEST_ALPHA)
        ends = [LEFT * largest]
        if l1_ratio < 1:
            ends.append(LEFT * low / (1.0 - l1_ratio))
        if l1_ratio:
            ends.append(LEFT * (at_zero.steepness.min().item() / whole[1] ** 0.5 if whole[1] else 0.0) / l1_ratio)
        smallest = min(end for end in ends if end > 0)
    smallest = max(smallest, np.finfo(float).tiny)
    return np.geomspace(largest, smallest, n_alphas) if n_alphas > 1 else np.array([largest])


def results_table(candidates: Candidates, scores: np.ndarray) -> dict:
    """Return `cv_results_` as :class:`~sklearn.model_selection.GridSearchCV` has it, without the times.

    Parameters
    ----------
    candidates : Candidates
    scores : ndarray of shape (n_candidates, n_folds)
    """
    table = {f"param_{name}": candidates.column(name) for name in candidates.params[0]}
    table["params"] = candidates.params
    table |= {f"split{fold}_test_score": column for fold, column in enumerate(scores.T)}
    with np.errstate(over="ignore", invalid="ignore"):  # where training all but diverged
        mean = scores.mean(1)
        table |= {"mean_test_score": mean, "std_test_score": scores.std(1)}
    worst = 0.0 if np.isnan(mean).all() else np.nanmin(mean) - 1
    table["rank_test_score"] = rankdata(-np.where(np.isnan(mean), worst, mean), method="min").astype(np.int32)
    return table
