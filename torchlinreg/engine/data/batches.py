"""Rows in memory, and the mini-batches of an epoch.

Two sizes must not be confused. A *batch* is what one step learns from. A *block* is what is moved at once - gathered
from a shuffled table - so that moving costs little per step and never more memory than `BLOCK_ELEMENTS` numbers.
A block comes cut into batches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from torchlinreg.engine.data.csr import SparseTable, Transposed

BLOCK_ELEMENTS = 2**21  # features held in a block at once: 8 MB of float32
SPARSE_ROOM = 4  # times that of a number, for one that is gathered with its column, and for finding both
NO_WEIGHT = "sample_weight is zero for all rows of a part of the table; give other weights or parts."
SMALL_ELEMENTS = 2**18  # a table no larger than this may be copied freely


@dataclass(frozen=True)
class Rows:
    """A table to learn from.

    Attributes
    ----------
    X : torch.Tensor or SparseTable of shape (n_rows, n_features)
        On the device of y or, if that has no room for it, on the host: then blocks travel as they are needed.
    y : torch.Tensor of shape (n_rows, n_columns)
    weight : torch.Tensor of shape (n_rows, 1) or (n_rows, models), or None
        Mean one, so that a weight of two is a row written twice.
    models : int
        How many models, a column each, learn the same target; with more than one, y has a single column.
    """

    X: torch.Tensor | SparseTable
    y: torch.Tensor
    weight: torch.Tensor | None = None
    models: int = 1

    def __len__(self) -> int:
        return len(self.X)

    @property
    def is_small(self) -> bool:
        """Whether copying the table costs less than thinking about it."""
        return self.X.numel() <= SMALL_ELEMENTS and not self.is_sparse

    @property
    def is_sparse(self) -> bool:
        """Whether only the numbers that are not zero are kept, and so cannot be shifted."""
        return isinstance(self.X, SparseTable)

    @property
    def width(self) -> int:
        """Numbers kept of a row, on average."""
        return -(-self.X.numel() // max(1, len(self)))

    @property
    def n_columns(self) -> int:
        """Columns of weights that the table asks for."""
        return self.y.shape[1] * self.models

    def with_tables(self, change: Callable) -> "Rows":
        """Return what `change` makes of features, targets and weights."""
        tables = (None if table is None else change(table) for table in (self.X, self.y, self.weight))
        return Rows(*tables, self.models)

    def take(self, chosen: torch.Tensor) -> "Rows":
        """Return a copy of these rows, a number for each; their weights have mean one again.

        Raises
        ------
        ValueError
            If no row has any weight.
        """
        rows = self.with_tables(lambda table: table.index_select(0, chosen.to(table.device)))
        if rows.weight is None:
            return rows
        mean = rows.weight.mean(0)
        if not mean.all():
            raise ValueError(NO_WEIGHT)
        return replace(rows, weight=rows.weight / mean)

    def select(self, models: torch.Tensor) -> "Rows":
        """Return the table for some of its models, a number for each."""
        each = self.weight is not None and self.weight.shape[1] > 1
        return replace(self, weight=self.weight[:, models] if each else self.weight, models=len(models))

    def with_ones(self) -> "Rows":
        """Append a column of ones, which makes the intercept a weight like any other."""
        if self.is_sparse:
            return replace(self, X=self.X.with_ones())
        return replace(self, X=torch.cat([self.X, self.X.new_ones(len(self), 1)], dim=1))


class Batch(NamedTuple):
    """The rows of one step, the slot for what is predicted for them, and what is looked up in every step."""

    X: torch.Tensor | SparseTable
    y: torch.Tensor
    weight: torch.Tensor | None
    predicted: torch.Tensor
    X_transposed: torch.Tensor | Transposed
    share: float
    """Of each row in the mean over the batch."""


@dataclass(frozen=True)
class Block:
    """Rows moved together, whole and cut into batches."""

    rows: Rows
    predicted: torch.Tensor
    batches: list[Batch]

    @classmethod
    def cut(cls, rows: Rows, predicted: torch.Tensor, batch_size: int) -> "Block":
        """Cut rows into batches of `batch_size`, the last one maybe shorter; nothing is copied."""
        X, y, predictions = (table.split(batch_size) for table in (rows.X, rows.y, predicted))
        transposed = [part.t() for part in X]
        weights = [None] * len(X) if rows.weight is None else rows.weight.split(batch_size)
        shares = [1.0 / batch_size] * (len(X) - 1) + [1.0 / len(X[-1])]
        return cls(rows, predicted, list(map(Batch, X, y, weights, predictions, transposed, shares)))


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
    n_draws : int, optional
        Instead of a permutation, draw that many rows independently.
    shift : torch.Tensor of shape (n_features,), optional
        Subtracted from the features of each block as it is moved, in the precision of `shift`, which is that of
        `rows.y` and `rows.weight`. Sparse rows are not shifted; they come in the precision of `rows.y` in any case.
    block_elements : int
        Features, or predictions, in a block at most, unless a single batch has more; of sparse rows those features that
        are kept.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        n_draws: int | None = None,
        shift: torch.Tensor | None = None,
        block_elements: int = BLOCK_ELEMENTS,
    ):
        self.rows = rows
        self.n_rows = n_draws or len(rows)
        self.batch_size = min(batch_size, self.n_rows)
        self.generator = generator if n_draws or self.batch_size < len(rows) else None
        self.steps_per_epoch = -(-self.n_rows // self.batch_size)
        room = max(1, rows.width * (SPARSE_ROOM if rows.is_sparse else 1), rows.n_columns)
        batches_in_block = max(1, block_elements // (self.batch_size * room))
        self.block_size = min(self.n_rows, batches_in_block * self.batch_size)
        self._draws, self._shift = n_draws is not None, shift
        self._travels = rows.X.device != rows.y.device
        self._moves = self.generator is not None or shift is not None or self._travels or rows.X.dtype != rows.y.dtype
        self._moved = _like(rows, self.block_size) if self._moves else rows
        # Copies to an accelerator are fast from page-locked memory only
        self._waiting = None
        if self._travels and not rows.is_sparse:
            self._waiting = torch.empty_like(self._moved.X, device="cpu", pin_memory=True)
        self._shifted = None if shift is None else shift.new_empty(self.block_size, len(shift))
        self._predicted = rows.y.new_empty(self.block_size, rows.n_columns)
        self._blocks: dict[int, Block] = {}

    def __iter__(self) -> Iterator[Block]:
        order = self._order()
        there = None if order is None else order.to(self.rows.y.device)
        for start in range(0, self.n_rows, self.block_size):
            stop = min(start + self.block_size, self.n_rows)
            if not self._moves:
                yield self._block(start, stop, keep=self.block_size == self.n_rows)
                continue
            chosen = slice(start, stop)
            self._move(*((chosen, chosen) if order is None else (order[chosen], there[chosen])))
            # Views of a buffer stay valid; cutting them once is what keeps small steps cheap
            yield self._block(0, stop - start, keep=not self.rows.is_sparse)

    def _order(self) -> torch.Tensor | None:
        if self.generator is None:
            return None
        n_rows = len(self.rows)
        if self._draws:
            order = torch.randint(n_rows, (self.n_rows,), generator=self.generator, device="cpu")
        else:
            # Half as wide numbers are the same permutation, sooner shuffled
            narrow = torch.int32 if n_rows < 2**31 else torch.int64
            order = torch.randperm(n_rows, generator=self.generator, device="cpu", dtype=narrow)
        return order

    def _move(self, chosen: slice | torch.Tensor, there: slice | torch.Tensor) -> None:
        """Copy the chosen rows, named on the host and where y is, to the front of the buffers, shifted."""
        rows, moved = self.rows, self._moved
        n_rows = chosen.stop - chosen.start if isinstance(chosen, slice) else len(chosen)
        chosen = chosen if self._travels else there
        self._copy(rows.y, there, moved.y[:n_rows])
        if rows.weight is not None:
            self._copy(rows.weight, there, moved.weight[:n_rows])
        if rows.is_sparse:
            # There is no telling beforehand how much a buffer would have to hold
            self._moved = replace(moved, X=rows.X.rows(chosen).to(rows.y.device, rows.y.dtype))
            return
        if self._shift is not None and isinstance(chosen, slice) and not self._travels:
            X = rows.X[chosen]
        else:
            X = self._copy(rows.X, chosen, moved.X[:n_rows])
        if self._shift is not None:
            torch.sub(X, self._shift, out=self._shifted[:n_rows])

    def _copy(self, table: torch.Tensor, chosen: slice | torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
        if table.device != buffer.device:
            waiting = self._waiting[: len(buffer)]
            if isinstance(chosen, slice):
                return buffer.copy_(waiting.copy_(table[chosen]))
            return buffer.copy_(torch.index_select(table, 0, chosen, out=waiting))
        if isinstance(chosen, slice):
            return buffer.copy_(table[chosen])
        return torch.index_select(table, 0, chosen, out=buffer)

    def _block(self, start: int, stop: int, *, keep: bool) -> Block:
        block = self._blocks.get(stop) if keep else None
        if block is None:
            part = self._moved.with_tables(lambda table: table[start:stop])
            if self._shift is not None:
                part = replace(part, X=self._shifted[start:stop])
            block = Block.cut(part, self._predicted[: stop - start], self.batch_size)
            if keep:
                self._blocks[stop] = block
        return block


def _like(rows: Rows, n_rows: int) -> Rows:
    """Return buffers for that many rows, where y is; sparse ones find room of their own."""

    def buffer(table: torch.Tensor | SparseTable) -> torch.Tensor | SparseTable:
        if isinstance(table, SparseTable):
            return table
        return table.new_empty(n_rows, table.shape[1], device=rows.y.device)

    return rows.with_tables(buffer)
