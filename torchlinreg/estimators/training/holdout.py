"""Rows that are held out of training to tell when to stop."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.runtime.devices import carry
from torchlinreg.inputs.arrays import check_weight, check_X_y, to_numpy, to_tensor


class Table(NamedTuple):
    """Rows as the user gave them."""

    X: object
    y: object
    sample_weight: object = None


def hold_out(estimator, table: Table, given: Table) -> tuple[Table, Table | None]:
    """Return the rows to learn from and, with early stopping, those to score: the ones given, or a random part.

    Parameters
    ----------
    estimator : TorchLinearRegressor
        Its `early_stopping`, `validation_fraction` and `random_state`.
    table : Table
    given : Table
        Of ``X_val, y_val, sample_weight_val``, each may be None.

    Raises
    ------
    ValueError
        If parts of a table are missing, or if nobody asked for one.
    """
    if any(part is not None for part in given):
        if given.X is None or given.y is None:
            missing = "X_val" if given.X is None else "y_val"
            raise ValueError(f"{missing} is missing: X_val and y_val, and maybe sample_weight_val, go together.")
        if not estimator.early_stopping:
            raise ValueError(
                "X_val and y_val are of no use with early_stopping=False; set early_stopping=True, together with "
                "tol=None if all epochs are to be run and scored."
            )
    if not estimator.early_stopping:
        return table, None
    if given.X is not None:
        return table, given
    parts = table if table.sample_weight is not None else table[:2]
    split = train_test_split(*parts, test_size=estimator.validation_fraction, random_state=estimator.random_state)
    return Table(*split[::2]), Table(*split[1::2])


class RSquared:
    """The coefficient of determination of weights on rows held out, as `score` gives it.

    Parameters
    ----------
    estimator : TorchLinearRegressor
        That has seen the features of the training rows.
    table : Table
    rows : Rows
        The training rows.
    y_ndim : int
        Dimensions of the target trained on.
    """

    def __init__(self, estimator, table: Table, rows: Rows, y_ndim: int):
        X, y = check_X_y(estimator, table.X, table.y, reset=False)
        if X.shape[0] < 2:
            raise ValueError(
                "R² of a single row is not defined: early_stopping=True needs two rows to score at least; increase "
                f"validation_fraction={estimator.validation_fraction}, or give X_val and y_val."
            )
        if y.ndim != y_ndim or y[0:1].reshape(1, -1).shape[1] != rows.y.shape[1]:
            raise ValueError(
                f"y_val has shape {tuple(y.shape)}, which does not go with {rows.y.shape[1]} targets in y."
            )
        self._weight = check_weight(table.sample_weight, X)
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
