"""Blocks of rows, and the mini-batches that they are cut into.

A *batch* is what one step learns from. A *block* is what is read at once - gathered from shuffled rows - so that
reading costs little per step and never more memory than `BLOCK_ELEMENTS` numbers. A block comes cut into batches.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from torchlinreg.engine.data.matrices.operators import Operator

BLOCK_ELEMENTS = 2**21  # features held in a block at once: 8 MB of float32
MOST_VIEWS = 2**12  # batches of a table, whose views are kept
SPARSE_ROOM = 4  # times that of a number, for one that is gathered with its column, and for finding both


class Rows(NamedTuple):
    """Features, targets and weights of the same rows."""

    X: Operator
    y: torch.Tensor
    weight: torch.Tensor | None


class Batch(NamedTuple):
    """The rows of one step.

    Attributes
    ----------
    X : Operator of shape (n_rows, n_features)
    y : torch.Tensor of shape (n_rows, n_targets)
    weight : torch.Tensor or None
    predicted : torch.Tensor of shape (n_rows, n_columns)
        The slot for predictions.
    share : float
        Of each row in the mean over the batch.
    first_row : int
        Number of the first row, if rows come in order.
    """

    X: Operator
    y: torch.Tensor
    weight: torch.Tensor | None
    predicted: torch.Tensor
    share: float
    first_row: int = 0


class Block(NamedTuple):
    """Rows read together, whole and cut into batches."""

    rows: Rows
    predicted: torch.Tensor
    batches: list[Batch]

    @classmethod
    def cut(cls, rows: Rows, predicted: torch.Tensor, batch_size: int) -> "Block":
        """Cut rows into batches of `batch_size`, the last one maybe shorter; nothing is copied."""
        X, y, predictions = (part.split(batch_size) for part in (rows.X, rows.y, predicted))
        weights = [None] * len(X) if rows.weight is None else rows.weight.split(batch_size)
        shares = [1.0 / batch_size] * (len(X) - 1) + [1.0 / len(X[-1])]
        return cls(rows, predicted, list(map(Batch, X, y, weights, predictions, shares)))


class MiniBatches:
    """The mini-batches of an epoch, in order or shuffled; iterating once is one epoch.

    Parameters
    ----------
    rows : Rows
    n_columns : int
        Columns of predictions.
    batch_size : int
        Rows a step; at most all of them.
    generator : torch.Generator, optional
        A CPU generator that draws one permutation an epoch, the same on every device. None keeps the order of the
        rows, as does a batch that holds all of them.
    n_draws : int, optional
        Instead of a permutation, draw that many rows independently.
    block_elements : int
        Features, or predictions, in a block at most, unless a single batch has more; of sparse rows those features that
        are stored.
    """

    def __init__(
        self,
        rows: Rows,
        n_columns: int,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        n_draws: int | None = None,
        block_elements: int = BLOCK_ELEMENTS,
    ):
        self.rows = rows
        self.n_rows = n_draws or len(rows.X)
        self.batch_size = min(batch_size, self.n_rows)
        self.generator = generator if n_draws or self.batch_size < len(rows.X) else None
        self.steps_per_epoch = -(-self.n_rows // self.batch_size)
        room = max(1, rows.X.mean_nnz * (SPARSE_ROOM if rows.X.is_sparse else 1), n_columns)
        batches_in_block = max(1, block_elements // (self.batch_size * room))
        self.block_size = min(self.n_rows, batches_in_block * self.batch_size)
        self._draws = n_draws is not None
        self._read = rows.X.reader(self.block_size, rows.y)
        self._copies = self.generator is not None or self._read.copies
        self._y, self._weight = rows.y, rows.weight
        if self._copies:
            self._y, self._weight = (
                None if part is None else part.new_empty(self.block_size, part.shape[1])
                for part in (rows.y, rows.weight)
            )
        self._predicted = rows.y.new_empty(self.block_size, n_columns)
        self._blocks: dict[int, Block] = {}

    def __iter__(self) -> Iterator[Block]:
        return self.within(slice(0, self.n_rows))

    def parts(self, n_parts: int) -> list[slice]:
        """Return the rows in about so many parts of whole blocks, in order."""
        size = -(-self.n_rows // (n_parts * self.block_size)) * self.block_size
        return [slice(start, min(start + size, self.n_rows)) for start in range(0, self.n_rows, size)]

    def within(self, rows: slice) -> Iterator[Block]:
        """Yield the blocks of some of the rows in order, or shuffled; the first of these begins a block."""
        order = self._order()
        on_device = None if order is None else order.to(self.rows.y.device)
        for start in range(rows.start, rows.stop, self.block_size):
            chosen = slice(start, min(start + self.block_size, rows.stop))
            if not self._copies:
                yield self._view(chosen)
            elif order is None:
                yield self._copy(chosen, chosen)
            else:
                yield self._copy(order[chosen], on_device[chosen])

    def _order(self) -> torch.Tensor | None:
        if self.generator is None:
            return None
        n_rows = len(self.rows.X)
        if self._draws:
            return torch.randint(n_rows, (self.n_rows,), generator=self.generator, device="cpu")
        # Half as wide numbers are the same permutation, sooner shuffled
        narrow = torch.int32 if n_rows < 2**31 else torch.int64
        return torch.randperm(n_rows, generator=self.generator, device="cpu", dtype=narrow)

    def _view(self, chosen: slice) -> Block:
        """Return consecutive rows where they are, cut once, which keeps small steps and passes cheap."""
        if chosen.start in self._blocks:
            return self._blocks[chosen.start]
        _, y, weight = self.rows
        rows = Rows(self._read(chosen, chosen), y[chosen], None if weight is None else weight[chosen])
        block = Block.cut(rows, self._predicted[: len(rows.y)], self.batch_size)
        if self.n_rows <= MOST_VIEWS * self.batch_size:
            self._blocks[chosen.start] = block
        return block

    def _copy(self, on_host: slice | torch.Tensor, on_device: slice | torch.Tensor) -> Block:
        """Read rows into the buffers; views of these stay valid, so that they are cut once."""
        X = self._read(on_host, on_device)
        n_rows = len(X)
        _copy_rows(self.rows.y, on_device, self._y[:n_rows])
        if self._weight is not None:
            _copy_rows(self.rows.weight, on_device, self._weight[:n_rows])
        if n_rows in self._blocks:
            return self._blocks[n_rows]
        rows = Rows(X, self._y[:n_rows], None if self._weight is None else self._weight[:n_rows])
        block = Block.cut(rows, self._predicted[:n_rows], self.batch_size)
        if self._read.is_buffered:
            self._blocks[n_rows] = block
        return block


def _copy_rows(table: torch.Tensor, chosen: slice | torch.Tensor, buffer: torch.Tensor) -> None:
    if isinstance(chosen, slice):
        buffer.copy_(table[chosen])
    else:
        torch.index_select(table, 0, chosen, out=buffer)
