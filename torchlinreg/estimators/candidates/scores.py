"""The scores of many models on the rows of a fold that are held out."""

import inspect
from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils import _safe_indexing

from torchlinreg.engine.columns.grid import squared_errors
from torchlinreg.estimators.training.holdout import UserData
from torchlinreg.inputs.arrays import to_numpy


class Scores:
    """Scores models on held-out rows, by their squared errors or by a scorer of the user's.

    Parameters
    ----------
    estimator : TorchLinearRegressor
        Not fitted; `scoring` is given fitted copies of it.
    scoring : str, callable or None
        As :class:`~sklearn.model_selection.GridSearchCV` has it.
    data : UserData
        All rows.
    with_weights : callable (estimator, theta) -> estimator
        Makes an estimator fitted, with theta of shape (n_theta, n_targets).
    """

    def __init__(self, estimator, scoring, data: UserData, with_weights: Callable):
        self._estimator, self._data, self._with_weights = estimator, data, with_weights
        from_errors = {None: _r2, "r2": _r2, "neg_mean_squared_error": _negative_mean}
        named = scoring is None or isinstance(scoring, str)
        self._from_errors = from_errors.get(scoring) if named else None
        self._scorer = None if self._from_errors else check_scoring(estimator, scoring)

    def __call__(self, test: torch.Tensor, rows, theta: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the score and the mean squared error of each model, both of shape (n_models,).

        Parameters
        ----------
        test : torch.Tensor of shape (n_test,)
            Numbers of the rows to score.
        rows : MemorySource
            These rows.
        theta : torch.Tensor of shape (n_theta, n_targets, n_models)
        """
        errors, squares = (part.cpu().numpy() for part in squared_errors(rows, theta))
        if self._from_errors:
            return self._from_errors(errors, squares, len(rows)), errors.mean(0)
        X, y, weight = (None if part is None else _take(part, test.cpu().numpy()) for part in self._data)
        if _metric(self._scorer) is not None:  # scikit-learn's metrics take arrays only
            X, y = (to_numpy(part, "y") if isinstance(part, torch.Tensor) else part for part in (X, y))
        weighted = {} if weight is None or not _takes_weights(self._scorer) else {"sample_weight": weight}
        scores = [
            _check_score(self._scorer(self._with_weights(clone(self._estimator), model), X, y, **weighted))
            if model.isfinite().all()
            else np.nan
            for model in theta.unbind(2)
        ]
        return np.array(scores), errors.mean(0)


def _check_score(score) -> float:
    """Refuse what a scorer returned if it is not one number."""
    if not isinstance(score, Real | np.ndarray) or np.ndim(score):
        raise ValueError(f"scoring returned {type(score).__name__} of shape {np.shape(score)}, not one number.")
    return float(score)


def _r2(errors: np.ndarray, squares: np.ndarray, n_rows: int) -> np.ndarray:
    """Return R² of each model, as `r2_score` does: that would need the predictions of every model as arrays."""
    if n_rows < 2:
        raise ValueError(
            "R² of a single row is not defined: choose larger folds with cv, or another scoring, such as "
            'scoring="neg_mean_squared_error".'
        )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        score = 1.0 - errors / squares[:, None]
    constant = np.where(errors == 0, 1.0, 0.0)  # as r2_score has it for a constant target
    return np.where(squares[:, None] > 0, score, constant).mean(0)


def _negative_mean(errors: np.ndarray, squares: np.ndarray, n_rows: int) -> np.ndarray:
    return -errors.mean(0)


def _takes_weights(scorer) -> bool:
    """Whether a scorer takes sample weights; those of scikit-learn do if their metric does."""
    return "sample_weight" in inspect.signature(_metric(scorer) or scorer).parameters


def _metric(scorer) -> Callable | None:
    """Return the metric of one of scikit-learn's scorers; None for a function of the user's."""
    return getattr(scorer, "_score_func", None)


def _take(part, chosen: np.ndarray):
    """Return some rows of anything that holds rows."""
    if isinstance(part, torch.Tensor):
        return part[torch.from_numpy(chosen).to(part.device)]
    return _safe_indexing(part, chosen)
