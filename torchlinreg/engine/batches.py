"""Rows in memory, and the mini-batches of an epoch.

Two sizes must not be confused. A *batch* is what one step learns from. A *block* is what is moved at once - gathered
from a shuffled table - so that moving costs little per step and never more memory than `BLOCK_ELEMENTS` numbers.
A block comes cut into batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

BLOCK_ELEMENTS = 2**21  # features held in a block at once: 8 MB of float32
SMALL_ELEMENTS = 2**18  # a table no larger than this may be copied freely


@dataclass(frozen=True)
class Rows:
    """A table to learn from, all on one device.

    Attributes
    ----------
    X : torch.Tensor of shape (n_rows, n_features)
    y : torch.Tensor of shape (n_rows, n_columns)
    weight : torch.Tensor of shape (n_rows, 1) or None
        Mean one, so that a weight of two is a row written twice.
    """

    X: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def is_small(self) -> bool:
        """Whether copying the table costs less than thinking about it."""
        return self.X.numel() <= SMALL_ELEMENTS

    def with_ones(self) -> "Rows":
        """Append a column of ones, which makes the intercept a weight like any other."""
        return replace(self, X=torch.cat([self.X, self.X.new_ones(len(self), 1)], dim=1))


class Batch(NamedTuple):
    """The rows of one step, and the slot for what is predicted for them."""

    X: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None
    predicted: torch.Tensor


@dataclass(frozen=True)
class Block:
    """Rows moved together, whole and cut into batches."""

    rows: Rows
    predicted: torch.Tensor
    batches: list[Batch]

    @classmethod
    def cut(cls, rows: Rows, predicted: torch.Tensor, batch_size: int) -> "Block":
        """Cut rows into batches of `batch_size`, the last one maybe shorter; nothing is copied."""
        parts = [rows.X.split(batch_size), rows.y.split(batch_size), predicted.split(batch_size)]
        weights = [None] * len(parts[0]) if rows.weight is None else rows.weight.split(batch_size)
        return cls(rows, predicted, [Batch(X, y, w, p) for X, y, p, w in zip(*parts, weights, strict=True)])


class MiniBatches:
    """The mini-batches of an epoch, in order or shuffled; iterating once is one epoch.

    Parameters
    ----------
    rows : Rows
    batch_size : int
        Rows a step; at most the whole table.
    generator : torch.Generator, optional
        A CPU generator that draws one permutation an epoch, the same on every device. None keeps the order of the
        table, as does a batch that holds all of it.
    """

    def __init__(self, rows: Rows, batch_size: int, generator: torch.Generator | None = None):
        self.rows = rows
        self.batch_size = min(batch_size, len(rows))
        self.generator = generator if self.batch_size < len(rows) else None
        batches_in_block = max(1, BLOCK_ELEMENTS // (self.batch_size * max(1, rows.X.shape[1])))
        self.block_size = min(len(rows), batches_in_block * self.batch_size)
        self.steps_per_epoch = -(-len(rows) // self.batch_size)
        self._blocks: dict[tuple[int, int], Block] = {}
        self._predicted = rows.y.new_empty(self.block_size, rows.y.shape[1])
        if self.generator is not None:
            self._buffer = Rows(*(None if t is None else t[: self.block_size].clone() for t in vars(rows).values()))

    def __iter__(self) -> Iterator[Block]:
        starts = range(0, len(self.rows), self.block_size)
        if self.generator is None:
            yield from (self._slice(start) for start in starts)
            return
        order = torch.randperm(len(self.rows), generator=self.generator).to(self.rows.X.device)
        yield from (self._gather(order[start : start + self.block_size]) for start in starts)

    def _slice(self, start: int) -> Block:
        """Return the block that begins at row `start`: views of the table itself."""
        stop = min(start + self.block_size, len(self.rows))
        return self._cut(self.rows, start, stop, keep=self.block_size == len(self.rows))

    def _gather(self, order: torch.Tensor) -> Block:
        """Copy the rows numbered in `order` into the buffer."""
        for table, buffer in zip(vars(self.rows).values(), vars(self._buffer).values(), strict=True):
            if table is not None:
                torch.index_select(table, 0, order, out=buffer[: len(order)])
        return self._cut(self._buffer, 0, len(order), keep=True)

    def _cut(self, rows: Rows, start: int, stop: int, *, keep: bool) -> Block:
        # Views of a buffer stay valid from epoch to epoch; cutting them once is what keeps small steps cheap.
        block = self._blocks.get((start, stop))
        if block is None:
            part = Rows(*(None if table is None else table[start:stop] for table in vars(rows).values()))
            block = Block.cut(part, self._predicted[: stop - start], self.batch_size)
            if keep:
                self._blocks[start, stop] = block
        return block
