"""Reductions: what looks at all rows, block by block, and merges part by part."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import torch

from torchlinreg.engine.data.batches import Batch


class Mergeable(Protocol):
    """What is known of some of the rows, and may be sent to other processes."""

    def merge(self, other: Self) -> Self:
        """Return what is known of the rows of both, which stay as they are."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is known as tensors and numbers, by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put what is known of other rows in the place of this."""


class Reduction(Mergeable, Protocol):
    """What looks at all rows: updated block by block, merged part by part."""

    suits_threads: bool
    """Whether several threads may each have a fork; if not, because the order of the rows matters, or memory does."""

    def update(self, block: Batch) -> None:
        """Take in a block of rows."""

    def fork(self) -> Self:
        """Return a reduction of the same kind, of no rows yet."""


class Sums(ABC):
    """Reduction: sums over the rows, which merge by addition.

    Attributes
    ----------
    SUMMED : tuple of str
        The attributes that are sums, tensors or numbers.
    """

    SUMMED: ClassVar[tuple[str, ...]]
    suits_threads = True

    @abstractmethod
    def update(self, block: Batch) -> None:
        """Add what a block contributes."""

    def merge(self, other: Self) -> Self:
        """Return the sums over the rows of both."""
        merged = copy(self)
        for name in self.SUMMED:
            setattr(merged, name, getattr(self, name) + getattr(other, name))
        return merged

    def fork(self) -> Self:
        """Return the sums over no rows yet."""
        other = copy(self)
        for name, found in self.state_dict().items():
            setattr(other, name, torch.zeros_like(found) if isinstance(found, torch.Tensor) else 0)
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, by name."""
        return {name: getattr(self, name) for name in self.SUMMED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put other sums in the place of these."""
        for name, found in state.items():
            setattr(self, name, found)


class RowMean(Sums):
    """Reduction: the mean over the rows of what a child sums up over a block."""

    SUMMED = ("_total", "_n_rows")

    def __init__(self):
        self._total, self._n_rows = 0.0, 0

    @abstractmethod
    def sums(self, block: Batch) -> torch.Tensor:
        """Return the weighted sums over the rows of a block."""

    def update(self, block: Batch) -> None:
        """Add the sums of a block."""
        self._total = self._total + self.sums(block)
        self._n_rows += len(block.y)

    @property
    def value(self) -> torch.Tensor:
        """The mean."""
        return self._total / self._n_rows


class Mean(RowMean):
    """Reduction: the weighted mean over the rows of a function of them.

    Parameters
    ----------
    function : callable (Batch) -> torch.Tensor
        Of a row each, shape (n_rows, ...).
    """

    def __init__(self, function: Callable[[Batch], torch.Tensor]):
        super().__init__()
        self._function = function

    def sums(self, block: Batch) -> torch.Tensor:
        """Return the sum of the values, shape (...)."""
        value = self._function(block)
        return (value if block.weight is None else value * block.weight).sum(0)


M = TypeVar("M", bound=Mergeable)


class Node(NamedTuple, Generic[M]):
    """What is known of the parts from a first one on, so many of them."""

    first: int
    length: int
    known: M


class MergeTree(Generic[M]):
    """Merges numbered parts, in their order, in a binary tree whose shape depends on their numbers only.

    A node holds 2^k parts from a multiple of 2^k on, so that rounding is the same whoever computed which parts, and
    grows with the logarithm of their number. No more than two nodes of each size wait to be merged.
    """

    def __init__(self):
        self._nodes: list[Node[M]] = []

    def __iter__(self) -> Iterator[Node[M]]:
        return iter(self._nodes)

    def add(self, node: Node[M]) -> None:
        """Add the part, or the node of parts, that comes after those added before; wholly or, if interrupted, not."""
        nodes = [*self._nodes, node]
        while len(nodes) > 1:
            left, right = nodes[-2:]
            if not (left.length == right.length and left.first % (2 * left.length) == 0):
                break
            nodes[-2:] = [Node(left.first, 2 * left.length, left.known.merge(right.known))]
        self._nodes = nodes

    def merged(self, nothing: M) -> M:
        """Return what is known of all parts; `nothing`, if there are none."""
        if not self._nodes:
            return nothing
        known = self._nodes[-1].known
        for node in reversed(self._nodes[:-1]):
            known = node.known.merge(known)
        return known
