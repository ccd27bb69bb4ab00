"""Mini-batch gradient descent: the loop of every training here.

The loop is handed a model, a loss, an optimiser and batches, and knows none of them by name.
"""

import math
from collections.abc import Callable

import torch

from torchlinreg.engine.objective.losses import total


class DivergedError(ArithmeticError):
    """The loss or the weights of these columns overflowed: the steps are too long."""

    def __init__(self, epoch: int, columns: torch.Tensor):
        super().__init__(f"diverged in epoch {epoch}")
        self.epoch, self.columns = epoch, columns


def train_epoch(model, loss, optimizer, batches) -> torch.Tensor:
    """Learn from every batch once; return the mean loss of the predictions made on the way.

    Parameters
    ----------
    model : Model
    loss : Loss
    optimizer : Optimizer
    batches : MiniBatches

    Returns
    -------
    torch.Tensor of shape (n_columns,)
        Weighted mean over the rows, each predicted before the step that it took part in.
    """
    epoch_loss = 0.0
    for block in batches:
        for batch in block.batches:
            prediction = model.predict(batch)  # 1. predict
            error = model.error(loss, prediction, batch)  # 2. compare with the targets
            model.backward(batch, error)  # 3. gradient
            optimizer.step()  # 4. step
            model.zero_grad()  # 5. zero
        epoch_loss += total(loss, block.predicted, block.rows.y, block.rows.weight)
    return epoch_loss / batches.n_rows


def descend(
    model,
    loss,
    optimizer,
    batches,
    *,
    units: torch.Tensor,
    max_iter: int,
    after_epoch: Callable[[int, float], bool],
) -> tuple[list[float], bool]:
    """Train for at most `max_iter` epochs, or until the user interrupts.

    Parameters
    ----------
    units : torch.Tensor of shape (n_columns,)
        What a loss of one in each column stands for.
    max_iter : int
    after_epoch : callable (epoch, loss) -> bool
        Called after each epoch, counted from one; returns True to stop.

    Returns
    -------
    curve : list of float
        The mean loss of each whole epoch, summed over the columns.
    interrupted : bool
        Whether the user has had enough (Ctrl-C). The model is then where its last step led.

    Raises
    ------
    DivergedError
        As soon as an epoch ends with a loss or weights that are not finite.
    """
    curve: list[float] = []
    interrupted = False
    try:
        for epoch in range(1, max_iter + 1):
            column_losses = units * train_epoch(model, loss, optimizer, batches)
            finite = model.theta().isfinite().all(0)
            # One look, as each keeps an accelerator waiting
            reached, all_finite = torch.stack([column_losses.sum(), finite.all().to(column_losses)]).tolist()
            curve.append(reached)
            if not (math.isfinite(reached) and all_finite):
                lost = ~(finite & column_losses.isfinite())
                # Maybe only their sum is too large
                raise DivergedError(epoch, lost if lost.any() else ~lost)
            if after_epoch(epoch, reached):
                break
    except KeyboardInterrupt:
        interrupted = True
        finite = model.theta().isfinite().all(0)
        if not finite.all():
            raise DivergedError(len(curve) + 1, ~finite) from None
    return curve, interrupted


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
