"""Working sets: a quadratic loss and a penalty that leaves most weights zero, by products of columns that matter."""

from dataclasses import dataclass

import numpy as np
import torch

from torchlinreg.engine.solvers.full_batch.active_set import WIDE, ActiveSet, Quadratic, low_rank_root
from torchlinreg.engine.solvers.solver import Iterate, Iterates, Solution

FIRST = 64  # features that a working set begins with; of no more, all are in it,
WHOLE_PATH = 2  # as they are if there are fewer than so many times the models, which will need most of them
FIRST_MODELS = 8  # on a path, that are solved before the set grows
LARGEST_SET = 4096  # features, whose products with each other are worth a matrix
TOLERANCE = 1e-13  # of the numbers that optimality conditions weigh against each other
SLOW = 0.25  # of a correction is left after another pass, from which on it is rounding


@dataclass(frozen=True)
class WorkingSet:
    """Minimise on a few features, see in a pass over the rows which others matter, and take these in.

    On a few features the objective is a small quadratic, known by their products with each other. The gradient that a
    pass measures says at all other features whether zero is optimal, and at these what to correct. Models on a path of
    penalties are gone through from the sparsest on, each from the solution of the one before.

    Attributes
    ----------
    floor : torch.Tensor of shape (n_columns,)
        What a correction must gain to be worth another pass.
    max_iter : int
        Passes at most.

    References
    ----------
    Massias, Gramfort & Salmon (2018), "Celer: a fast solver for the Lasso with dual extrapolation".
    """

    floor: torch.Tensor
    max_iter: int

    needs = frozenset({"prox", "gram"})

    def iterates(self, objective, v: torch.Tensor) -> Iterates:
        """Yield an iterate for each pass, from v; return the solution, `stalled` if the set would be too large."""
        weight = objective.source.weight
        if weight is None or weight.shape[1] == 1:
            return (yield from self._together(objective, v))
        # Models whose rows have weights of their own share neither means nor products
        theta, n_passes, stalled = objective.theta(v), 0, False
        values = objective.evaluate(theta).value
        for column in range(v.shape[1]):
            one = torch.tensor([column], device=v.device)
            solver = WorkingSet(self.floor[one], self.max_iter - n_passes)
            part = objective.select(one).centred()
            begin = part.transform.inverse(theta[:, one])
            solution = yield from _among(theta, values, column, n_passes, solver, part, begin)
            n_passes, stalled = n_passes + solution.n_passes, stalled or solution.stalled
        return Solution(theta, torch.zeros_like(self.floor), n_passes, stalled, v=objective.transform.inverse(theta))

    def _together(self, objective, v: torch.Tensor) -> Iterates:
        """Solve models of the same rows, with the same weights."""
        models, value, n_passes = Models(objective, v), None, 0
        todo, floor, last = models.order, self.floor.tolist(), dict.fromkeys(models.order, np.inf)
        reach = len(todo) if models.are_all_chosen else FIRST_MODELS
        while todo and n_passes < self.max_iter:
            some = todo[:reach]
            if n_passes and not models.solve(some):
                break
            value = models.measure(some if n_passes else todo, value)
            n_passes += 1
            yield Iterate(objective.theta(models.v), value, None, n_passes)
            left_out, is_optimal = models.check(some)
            done = set()
            for model, is_complete, is_done in zip(some, ~left_out.any(0), is_optimal, strict=True):
                if is_complete and not is_done and n_passes > 1:
                    gained, last[model] = last[model], models.correct(model, floor[model])
                    is_done = last[model] <= floor[model] or last[model] > SLOW * gained
                if is_complete and is_done:
                    done.add(model)
            todo = [model for model in todo if model not in done]
            if left_out.any():
                if not models.grow(left_out):
                    break
            elif len(done) == len(some):
                reach *= 2
        theta = objective.theta(models.v)
        return Solution(theta, torch.zeros_like(self.floor), n_passes, bool(todo), v=models.v)


def _among(theta, values, column: int, n_passes: int, solver: WorkingSet, objective, v: torch.Tensor) -> Iterates:
    """Yield the iterates of one of the models as those of all, and return its solution; write what it finds."""
    iterates = solver.iterates(objective, v)
    while True:
        try:
            found = next(iterates)
        except StopIteration as end:
            theta[:, [column]] = end.value.theta
            return end.value
        theta[:, [column]], values[column] = found.theta, found.value[0]
        yield Iterate(theta.clone(), values.clone(), None, n_passes + found.n_passes)


class Models:
    """Models of the same rows, a column of v each, and the features in their working set.

    Parameters
    ----------
    objective : Objective
    v : torch.Tensor of shape (n_directions, n_columns)
        Where to begin.

    Attributes
    ----------
    v : torch.Tensor of shape (n_directions, n_columns)
    order : list of int
        Their numbers, from those on that are likely to be the sparsest.
    """

    def __init__(self, objective, v: torch.Tensor):
        self._objective, self.v = objective, v.clone()
        n, k = len(objective.transform.weights), v.shape[1]
        penalty, infinite = objective.nonsmooth, torch.full_like(v, torch.inf)
        # The subgradients at zero are an interval
        self._above = -_to_host(penalty.feasible(-infinite)[:n])
        self._below = _to_host(penalty.feasible(infinite)[:n])
        shift = objective.penalty.l2 * objective.transform.weights[:, None].square()
        self._shift = _to_host(shift.expand(n, k))
        self._is_path = objective.source.y.shape[1] == 1
        if self._is_path and k > 1:
            self.v.zero_()  # the sparsest is near zero, and each is nearer to the one before than to any average
        self._u, self._gradient = _to_host(self.v[:n]).copy(), np.zeros((n, k))
        self._solved = np.full(k, bool(self._u.any()) or not self._is_path)
        self.order = np.argsort(-np.minimum(self._above, self._below).sum(0), kind="stable").tolist()
        self._chosen, self._hessian, self._parts = np.zeros(0, dtype=int), np.zeros((0, 0)), [np.zeros((k, 0))] * 3
        self._root: np.ndarray | None = None
        self.are_all_chosen = n <= max(FIRST, WHOLE_PATH * k * self._is_path)
        self._choose(np.arange(n) if self.are_all_chosen else np.flatnonzero(self._u.any(1)))

    def measure(self, models: list[int], value: torch.Tensor | None) -> torch.Tensor:
        """Take the gradients of these models from the rows, and return the values of all; others are as given."""
        objective, asked = self._objective, models
        if self._is_path and not self._solved.any():
            asked = models[:1]  # all of them are where they began
        columns = torch.tensor(asked if self._is_path else self.order, device=self.v.device).sort()[0]
        is_part = len(columns) < self.v.shape[1]
        objective = objective.select(columns) if is_part else objective
        found = objective.value_and_gradient(self.v[:, columns])
        gradient, n = _to_host(found.gradient), len(self._u)
        if len(asked) < len(models):
            self._gradient[:] = gradient[:n]
            return found.value.repeat(self.v.shape[1])
        self._gradient[:, columns.cpu().numpy()] = gradient[:n]
        self.v[n:, columns] -= found.gradient[n:] / objective.loss.lipschitz
        return found.value if value is None else value.index_copy(0, columns, found.value)

    def solve(self, models: list[int]) -> bool:
        """Minimise on the working set, and return whether that went well."""
        search, before = None, None
        for model in models:
            quadratic = self._quadratic(model)
            if self._solved[model] or search is None:
                search = self._search(model, quadratic)
            else:  # goes on from the model before
                search.gradient += (quadratic.shift - before.shift) * search.u
            if not search.minimize(quadratic):
                return False
            before = quadratic
            self._u[self._chosen, model] = search.u
        self._solved[models] = True
        self._tell(models)
        return True

    def correct(self, model: int, floor: float) -> float:
        """Return what the minimum on the working set is below the value that was measured; go there, if not by much."""
        quadratic = self._quadratic(model)
        search = self._search(model, quadratic)
        u, gradient = search.u.copy(), search.gradient.copy()
        if not search.minimize(quadratic):
            return np.inf
        gained = 0.5 * float((search.u - u) @ (search.gradient - gradient))
        if gained <= floor:
            self._u[self._chosen, model] = search.u
            self._tell([model])
        return gained

    def check(self, models: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Compare the gradients measured with those at an optimum.

        Returns
        -------
        left_out : ndarray of shape (n_features, n_models)
            By how much zero is not optimal at features that are left out.
        is_optimal : ndarray of shape (n_models,)
            Whether nothing is to be corrected at the others.
        """
        gradient, above, below, u = (part[:, models] for part in (self._gradient, self._above, self._below, self._u))
        slack = TOLERANCE * np.maximum(np.abs(gradient), np.minimum(above, below))
        excess = np.maximum(-gradient - above, gradient - below)
        at = u != 0
        excess[at] = np.abs(gradient + np.where(u > 0, above, -below))[at]
        excess[excess <= slack] = 0.0
        is_optimal = ~excess[self._chosen].any(0)
        excess[self._chosen] = 0.0
        return excess, is_optimal

    def grow(self, left_out: np.ndarray) -> bool:
        """Take features in, the most needed of each model, to twice as many at most; False if these are too many."""
        room, new = max(FIRST, len(self._chosen)), []
        for excess in left_out.T:
            wanted = np.flatnonzero(excess)
            wanted = wanted[np.argsort(-excess[wanted], kind="stable")]
            new = list(dict.fromkeys([*new, *wanted.tolist()]))[:room]
            if len(new) == room:
                break
        if len(self._chosen) + len(new) > LARGEST_SET:
            return False
        self._choose(np.array(new, dtype=int))
        return True

    def _choose(self, new: np.ndarray) -> None:
        """Take these features into the working set."""
        if not len(new):
            return
        n_old = len(self._chosen)
        self._chosen = np.concatenate([self._chosen, new])
        products = _to_host(self._objective.gram(torch.from_numpy(self._chosen).to(self.v.device), n_old))
        hessian = np.empty((len(self._chosen), len(self._chosen)))
        hessian[:n_old, :n_old], hessian[n_old:] = self._hessian, products
        hessian[:n_old, n_old:] = products[:, :n_old].T
        self._hessian = hessian
        most = len(self._objective.source)
        self._root = low_rank_root(hessian, most) if len(hessian) > WIDE * most and self._shift.all() else None
        # A row for each model
        self._parts = [part[self._chosen].T.copy() for part in (self._shift, self._above, self._below)]

    def _quadratic(self, model: int) -> Quadratic:
        return Quadratic(self._hessian, *(part[model] for part in self._parts), self._root)

    def _search(self, model: int, quadratic: Quadratic) -> ActiveSet:
        return ActiveSet(quadratic, *(part[self._chosen, model] for part in (self._u, self._gradient)))

    def _tell(self, models: list[int]) -> None:
        """Write the weights of models to v."""
        self.v[: len(self._u), models] = torch.from_numpy(self._u[:, models]).to(self.v)


def _to_host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()
