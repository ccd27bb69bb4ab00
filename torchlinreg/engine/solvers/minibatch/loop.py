"""Mini-batch gradient descent: the loop of every training here.

The loop is handed a model, a loss, an optimizer and batches, and knows none of them by name.
"""

import math

import torch

from torchlinreg.engine.objective.losses import total_loss


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
        epoch_loss += total_loss(loss, block.predicted, block.rows.y, block.rows.weight)
    return epoch_loss / batches.n_rows


def check_finite(model, losses: torch.Tensor, epoch: int) -> float:
    """Return the sum of an epoch's losses over the columns.

    Raises
    ------
    DivergedError
        If a loss or a weight is not finite.
    """
    finite = model.theta().isfinite().all(0)
    # One look, as each keeps an accelerator waiting
    reached, all_finite = torch.stack([losses.sum(), finite.all().to(losses)]).tolist()
    if not (math.isfinite(reached) and all_finite):
        diverged = ~(finite & losses.isfinite())
        # Maybe only their sum is too large
        raise DivergedError(epoch, diverged if diverged.any() else ~diverged)
    return reached
