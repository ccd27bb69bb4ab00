"""What solvers yield and return, and what they need of an objective."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, Self

import torch


class Iterate(NamedTuple):
    """A pass over the rows.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_theta, n_columns)
        Where it measured.
    value : torch.Tensor of shape (n_columns,)
        The objective there; of columns that are done, an earlier one.
    gap : torch.Tensor of shape (n_columns,) or None
        Estimated excess over the minimum, where it is known by now.
    n_passes : int
        So far.
    """

    theta: torch.Tensor
    value: torch.Tensor
    gap: torch.Tensor | None
    n_passes: int


class Solution(NamedTuple):
    """Where a solver stopped.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_theta, n_columns)
    gap : torch.Tensor of shape (n_columns,)
        Excess of the objective over its minimum, in units of `baseline_loss`.
    n_passes : int
    stalled : bool
        Whether it ended before its tolerance was reached.
    resolution : torch.Tensor of shape (n_columns,) or float
        Gap that rounding makes indistinguishable from none.
    baseline_loss : torch.Tensor of shape (n_columns,) or float
        Loss of the best constant.
    smallest_curvature : torch.Tensor of shape (n_columns,) or float
        Met on the way, relative to the one that was meant.
    width : torch.Tensor of shape (n_columns,) or None
        Of the smooth loss whose minimum this is; zero for the loss itself.
    v : torch.Tensor of shape (n_directions, n_columns), optional
        The same as theta in the variables of the objective; `Continuation` needs it.
    second_order : SecondOrder, optional
        Found last.
    """

    theta: torch.Tensor
    gap: torch.Tensor
    n_passes: int = 0
    stalled: bool = False
    resolution: torch.Tensor | float = 0.0
    baseline_loss: torch.Tensor | float = 1.0
    smallest_curvature: torch.Tensor | float = 1.0
    width: torch.Tensor | None = None
    v: torch.Tensor | None = None
    second_order: Any = None

    def or_better(self, theta: torch.Tensor, gap: torch.Tensor) -> Self:
        """Return, column by column, this or another outcome, whichever has the smaller gap."""
        better = gap < self.gap
        return self._replace(theta=torch.where(better, theta, self.theta), gap=torch.where(better, gap, self.gap))


Iterates = Generator[Iterate, None, Solution]


class Solver(Protocol):
    """Goes from an objective to its minimum; `Continuation` constructs its solvers by (floor, max_iter).

    Attributes
    ----------
    needs : frozenset of str
        Names of capabilities that the objective must have.
    """

    needs: frozenset[str]

    def iterates(self, objective, v: torch.Tensor) -> Iterates:
        """Yield an iterate for each pass over the rows, from v, and return the solution."""


def run(iterates: Iterates, record: Callable[[Iterate], None] | None = None) -> Solution:
    """Let a solver go to its end, and record each iterate."""
    while True:
        try:
            iterate = next(iterates)
        except StopIteration as end:
            return end.value
        if record is not None:
            record(iterate)


def count_from(n_passes: int, iterates: Iterates) -> Iterates:
    """Yield the iterates of a solver that goes on after so many passes, and return its solution."""
    while True:
        try:
            iterate = next(iterates)
        except StopIteration as end:
            return end.value
        yield iterate._replace(n_passes=n_passes + iterate.n_passes)


def require(solver: Solver, capabilities: frozenset[str]) -> None:
    """Refuse an objective that lacks what a solver needs.

    Raises
    ------
    ValueError
    """
    missing = sorted(solver.needs - capabilities)
    if missing:
        raise ValueError(
            f"{type(solver).__name__} needs {', '.join(missing)} of an objective that offers "
            f"{', '.join(sorted(capabilities)) or 'none'}; use a solver that needs no more than that."
        )
