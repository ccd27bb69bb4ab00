"""Cross-validation folds as numbers of rows."""

import numpy as np
import torch
from sklearn.model_selection import check_cv

from torchlinreg.inputs.arrays import to_numpy

Fold = tuple[torch.Tensor, torch.Tensor]


def make_folds(cv, X, y, groups) -> list[Fold]:
    """Return, for each fold, the numbers of the rows to learn from and of those to score.

    Parameters
    ----------
    cv, groups : as given by the user
    X, y : as `check_X_y` returns them

    Raises
    ------
    ValueError
        If there are no folds, or rows that do not exist.
    """
    y, groups = (
        to_numpy(given, name) if isinstance(given, torch.Tensor) else given
        for name, given in {"y": y, "groups": groups}.items()
    )
    pairs = check_cv(cv).split(X, y, groups)
    folds = [tuple(torch.from_numpy(_row_numbers(part, X.shape[0])) for part in pair) for pair in pairs]
    if not folds:
        raise ValueError(f"cv={cv!r} gave no folds; give a number of folds, or other pairs.")
    return folds


def _row_numbers(chosen, n_rows: int) -> np.ndarray:
    """Return the numbers of rows that a splitter chose, by numbers or by a mask."""
    given = np.asarray(to_numpy(chosen, "cv") if isinstance(chosen, torch.Tensor) else chosen)
    is_mask = given.dtype == bool
    numbers = np.flatnonzero(given) if is_mask else given
    wrong_mask = is_mask and given.shape != (n_rows,)
    if not numbers.size or given.ndim != 1 or numbers.dtype.kind not in "iu" or wrong_mask:
        raise ValueError(
            f"cv gave a part of shape {given.shape} and dtype {given.dtype}, with {numbers.size} rows; give the "
            f"numbers of some of the {n_rows} rows, or True or False for each of them."
        )
    numbers = numbers.astype(np.int64)
    strange = numbers[(numbers < -n_rows) | (numbers >= n_rows)]
    if len(strange):
        raise ValueError(f"cv names row {strange[0]} of {n_rows}; give numbers of rows that there are.")
    return numbers % n_rows
