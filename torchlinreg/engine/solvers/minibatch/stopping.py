"""When to stop: the loss, or a score on rows held out, no longer improves."""

import math
from collections.abc import Callable

import torch


class Patience:
    """Stop after `n_iter_no_change` epochs without an improvement of `tol`, as scikit-learn's SGD does."""

    def __init__(self, tol: float | None, n_iter_no_change: int):
        self.tol, self.n_iter_no_change = tol, n_iter_no_change
        self._best, self._stale = math.inf, 0

    def exhausted(self, loss: float) -> bool:
        """Take note of an epoch's loss, and say whether to stop."""
        if self.tol is None:
            return False
        self._stale = self._stale + 1 if loss > self._best - self.tol else 0
        self._best = min(self._best, loss)
        return self.is_exhausted

    def renew(self) -> None:
        """Count anew, from the best so far."""
        self._stale = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether the last epochs brought nothing."""
        return self._stale >= self.n_iter_no_change


class Validation:
    """Scores on rows that are not learnt from, and the weights that did best there.

    Parameters
    ----------
    score : callable (theta) -> float
        The higher, the better.
    """

    def __init__(self, score: Callable[[torch.Tensor], float]):
        self._score = score
        self.scores: list[float] = []
        self.best: torch.Tensor | None = None

    def note(self, theta: torch.Tensor) -> float:
        """Take note of the weights after an epoch, and return their score."""
        score = self._score(theta)
        if self.best is None or score > max(self.scores):
            self.best = theta.clone()
        self.scores.append(score)
        return score
