"""The mini-batches of rows that are read chunk by chunk, or that several processes have."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch

from torchlinreg.engine.data.batches import Batch, Block, MiniBatches, Rows
from torchlinreg.engine.data.matrices.csr import CSROperator
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.matrices.operators import Operator
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.runtime.process_group import ProcessGroup

BATCHES_AT_ONCE = 2**6  # of a block whose rows are gathered


class SharedBatches(ABC):
    """The mini-batches of an epoch; of each, this process has a share of the rows.

    Parameters
    ----------
    n_rows : int
        That all processes have together.
    batch_size : int
    group : ProcessGroup
    generator : torch.Generator, optional
        In the same state in all processes. None keeps the order of the rows.
    """

    def __init__(self, n_rows: int, batch_size: int, group: ProcessGroup, generator: torch.Generator | None):
        self.n_rows, self.batch_size, self._group, self._generator = n_rows, min(batch_size, n_rows), group, generator
        self.steps_per_epoch = -(-n_rows // self.batch_size)

    @abstractmethod
    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks of an epoch."""


class ChunkBatches(SharedBatches):
    """Mini-batches across the borders of chunks that each process reads; of each batch it takes every so many rows.

    Parameters
    ----------
    source : ChunkSource
        With chunks that have numbers, if they are to be shuffled.
    batch_size : int
    generator : torch.Generator, optional
        Draws the order of the chunks, and that of the rows of each.
    """

    def __init__(self, source, batch_size: int, generator: torch.Generator | None = None):
        super().__init__(len(source), batch_size, source.group, generator)
        self._source = source

    def __iter__(self) -> Iterator[Block]:
        waiting, size = None, self.batch_size
        for chunk in self._chunks():
            start = 0
            if waiting is not None:
                start = min(size - len(waiting), len(chunk))
                waiting = _join(waiting, chunk.rows(slice(0, start)))
                if len(waiting) < size:
                    continue
                yield from self._blocks(waiting)
                waiting = None
            stop = len(chunk) - (len(chunk) - start) % size
            if stop > start:
                yield from self._blocks(chunk.rows(slice(start, stop)))
            if stop < len(chunk):  # a copy, as the next chunk may take the memory of this one
                waiting = chunk.rows(torch.arange(stop, len(chunk), device="cpu"))
        if waiting is not None:
            yield from self._blocks(waiting)

    def _chunks(self) -> Iterator[MemorySource]:
        if self._generator is None:
            yield from self._source.read()
            return
        n_chunks = self._source.chunks.n_chunks
        order = None if n_chunks is None else torch.randperm(n_chunks, generator=self._generator, device="cpu").tolist()
        for chunk in self._source.read(order):
            yield chunk.rows(torch.randperm(len(chunk), generator=self._generator, device="cpu"))

    def _blocks(self, rows: MemorySource) -> Iterator[Block]:
        """Yield the blocks of rows in order, each with this process's share of its batches."""
        batches = MiniBatches(Rows(rows.X, rows.y, rows.weight), rows.n_columns, self.batch_size)
        if self._group.size == 1:
            yield from batches
            return
        for some in torch.arange(len(rows), device="cpu").split(BATCHES_AT_ONCE * self.batch_size):
            whole = some.split(self.batch_size)
            shares = [batch[self._group.rank :: self._group.size] for batch in whole]
            yield _cut(rows, shares, [len(batch) for batch in whole])


class OwnBatches(SharedBatches):
    """Mini-batches of a table whose rows lie with several processes, one after the other.

    Parameters
    ----------
    rows : MemorySource
        Those of this process.
    sizes : list of int
        How many each process has.
    batch_size : int
    group : ProcessGroup
    generator : torch.Generator, optional
        Draws one permutation of all rows an epoch.
    """

    def __init__(
        self,
        rows: MemorySource,
        sizes: list[int],
        batch_size: int,
        group: ProcessGroup,
        generator: torch.Generator | None = None,
    ):
        super().__init__(sum(sizes), batch_size, group, generator)
        self._rows, self._first = rows, sum(sizes[: group.rank])

    def __iter__(self) -> Iterator[Block]:
        order = torch.arange(self.n_rows, device="cpu")
        if self._generator is not None:
            order = torch.randperm(self.n_rows, generator=self._generator, device="cpu")
        for some in order.split(BATCHES_AT_ONCE * self.batch_size):
            whole = some.split(self.batch_size)
            own = [batch[(batch >= self._first) & (batch < self._first + len(self._rows))] for batch in whole]
            yield _cut(self._rows, [batch - self._first for batch in own], [len(batch) for batch in whole])


def _cut(rows: MemorySource, shares: list[torch.Tensor], sizes: list[int]) -> Block:
    """Return a block of batches with these rows, each a share of a batch of that size."""
    found = rows.rows(torch.cat(shares))
    predicted, batches, start = found.y.new_empty(len(found), rows.n_columns), [], 0
    for share, size in zip(shares, sizes, strict=True):
        here = slice(start, start + len(share))
        weight = None if found.weight is None else found.weight[here]
        batches.append(Batch(found.X.rows(here), found.y[here], weight, predicted[here], 1.0 / size))
        start = here.stop
    return Block(Rows(found.X, found.y, found.weight), predicted, batches)


def _join(first: MemorySource, second: MemorySource) -> MemorySource:
    """Return the rows of both."""
    weight = None if first.weight is None else torch.cat([first.weight, second.weight])
    return replace(first, X=_joined(first.X, second.X), y=torch.cat([first.y, second.y]), weight=weight)


def _joined(first: Operator, second: Operator) -> Operator:
    if isinstance(first, CSROperator):
        crow = torch.cat([first.crow, second.crow[1:] + first.crow[-1]])
        col, value = torch.cat([first.col, second.col]), torch.cat([first.value, second.value])
        return CSROperator(crow, col, value, first.shape[1])
    return DenseOperator(torch.cat([first.to_dense(), second.to_dense()]))
