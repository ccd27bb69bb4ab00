"""Evaluation of those columns of an objective that are not done yet."""

import torch

WORTH_LEAVING = 0.75  # share of the columns still in a product, below which the others leave it


class ActiveColumns:
    """Evaluates an objective; models that share a target leave the products when enough of them are done.

    Parameters
    ----------
    objective : Objective
    """

    def __init__(self, objective):
        self._objective = objective
        self._columns = torch.arange(objective.n_columns, device=objective.start.device)
        self._fewer = None

    def evaluate(self, theta: torch.Tensor, active: torch.Tensor):
        """Return the evaluation in theta, for the active columns at least; others are finite, and mean nothing."""
        n_columns = len(active)
        if self._objective.source.n_models == 1 or active.sum() > WORTH_LEAVING * n_columns:
            return self._objective.evaluate(theta)
        inside = 0 if self._fewer is None else active[self._columns].sum()
        if self._fewer is None or inside < active.sum() or inside <= WORTH_LEAVING * len(self._columns):
            (self._columns,) = active.nonzero(as_tuple=True)
            self._fewer = self._objective.select(self._columns)
        found = self._fewer.evaluate(theta[:, self._columns])
        value, gradient, reported = theta.new_zeros(n_columns), torch.zeros_like(theta), theta.new_zeros(n_columns)
        value[self._columns], reported[self._columns] = found.value, found.reported
        gradient[:, self._columns] = found.gradient
        return found._replace(value=value, gradient=gradient, reported=reported)
