"""Early stopping: rows held out of training, and their score."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.runtime.devices import carry
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.inputs.arrays import check_weight, check_X_y, to_numpy, to_tensor


class UserData(NamedTuple):
    """Features, targets and weights as the user gave them."""

    X: object
    y: object
    sample_weight: object = None


def hold_out(data: UserData, validation: UserData, parameters: Parameters) -> tuple[UserData, UserData | None]:
    """Return the data to learn from and, with early stopping, those to score: the ones given, or a random share.

    Parameters
    ----------
    data : UserData
    validation : UserData
        ``X_val, y_val, sample_weight_val``, each may be None.
    parameters : Parameters

    Raises
    ------
    ValueError
        If `validation` is incomplete, or given without early stopping.
    """
    if any(part is not None for part in validation):
        if validation.X is None or validation.y is None:
            missing = "X_val" if validation.X is None else "y_val"
            raise ValueError(f"{missing} is missing: X_val and y_val, and maybe sample_weight_val, go together.")
        if not parameters.early_stopping:
            raise ValueError(
                "X_val and y_val are of no use with early_stopping=False; set early_stopping=True, together with "
                "tol=None if all epochs are to be run and scored."
            )
    if not parameters.early_stopping:
        return data, None
    if validation.X is not None:
        return data, validation
    split = train_test_split(
        *(data if data.sample_weight is not None else data[:2]),
        test_size=parameters.validation_fraction,
        random_state=parameters.random_state,
    )
    return UserData(*split[::2]), UserData(*split[1::2])


def score_on(estimator, held_out: UserData, rows: MemorySource, y_ndim: int) -> "RSquared":
    """Return the score of weights on data held out, for the training rows `rows`."""
    X, y = check_X_y(estimator, held_out.X, held_out.y, reset=False)
    return RSquared(X, y, held_out.sample_weight, rows, y_ndim, estimator.validation_fraction)


class RSquared:
    """R² of weights on validated rows that were held out, as `score` gives it.

    Parameters
    ----------
    X, y : as `check_X_y` returns them
    sample_weight : as given by the user
    rows : MemorySource
        The training rows: their device, precision and number of targets.
    y_ndim : int
        Dimensions of the training target.
    validation_fraction : float
        For the error message.

    Raises
    ------
    ValueError
        If there is a single row, or another number of targets.
    """

    def __init__(self, X, y, sample_weight, rows: MemorySource, y_ndim: int, validation_fraction: float):
        if X.shape[0] < 2:
            raise ValueError(
                "R² of a single row is not defined: early_stopping=True needs two rows to score at least; increase "
                f"validation_fraction={validation_fraction}, or give X_val and y_val."
            )
        if y.ndim != y_ndim or y[0:1].reshape(1, -1).shape[1] != rows.y.shape[1]:
            raise ValueError(
                f"y_val has shape {tuple(y.shape)}, which does not go with {rows.y.shape[1]} targets in y."
            )
        self._weight = check_weight(sample_weight, X)
        self._X = carry(to_tensor(X), rows.y.device, rows.y.dtype)
        self._y = (to_numpy(y, "y_val") if isinstance(y, torch.Tensor) else y).reshape(len(y), -1)

    def __call__(self, theta: torch.Tensor) -> float:
        """Return R², averaged over the targets; minus infinity if predictions or their squares overflow."""
        n_features = self._X.shape[1]
        theta = carry(theta, self._X.device, self._X.dtype)
        predicted = (self._X @ theta[:n_features] + theta[n_features:].sum(0)).cpu().numpy()
        if not np.isfinite(predicted).all():
            return -np.inf
        with np.errstate(over="ignore", invalid="ignore"):
            score = float(r2_score(self._y, predicted, sample_weight=self._weight))
        return score if np.isfinite(score) else -np.inf
