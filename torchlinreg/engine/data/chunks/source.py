"""A source whose rows are read chunk by chunk, in every pass anew, by one process or by several together.

Whoever reads a chunk, what it adds to a reduction is merged in the order of the chunks, in a tree whose shape depends
on their numbers only: the bits of the answer do not depend on the number of processes.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, Protocol, Self, TypeVar

import torch

from torchlinreg.engine.data.chunks.batches import ChunkBatches, OwnBatches, SharedBatches
from torchlinreg.engine.data.chunks.survey import Survey
from torchlinreg.engine.data.reductions import Mergeable, MergeTree, Node, Reduction
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.runtime.process_group import ProcessGroup

SEGMENTS = 100  # of the chunks that several processes share, after each of which there is a checkpoint
M = TypeVar("M", bound=Mergeable)
R = TypeVar("R", bound=Reduction)
NodeStates = list[tuple[int, int, dict]]  # first part, number of parts, and the state of what is known of them


class Chunks(Protocol):
    """Where chunks come from.

    Attributes
    ----------
    n_chunks : int or None
        None if that is not known.
    is_dealt : bool
        Whether all processes can read the same chunks, and share them out; if not, each has its own.
    divisor : torch.Tensor or None
        What `find_divisor` found for the first one.
    """

    n_chunks: int | None
    is_dealt: bool
    divisor: torch.Tensor | None

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[MemorySource]:
        """Yield the chunks of these numbers or, in order, all of them; the next one may take the memory of one."""


class Journal(Protocol):
    """Keeps what passes over the chunks have found, for the next process if this one is killed."""

    def found(self) -> dict | None:
        """Return the state of what the next pass has found, if an earlier process came to its end."""

    def unfinished(self) -> NodeStates:
        """Return the nodes of the pass that an earlier process was in, if that is the next one."""

    def note(self, nodes: Callable[[], NodeStates]) -> None:
        """Take down how to tell the nodes of this pass so far, and save them now and then."""

    def finish(self, state: dict) -> None:
        """Take down what this pass has found."""


def fold(
    chunks: Chunks,
    group: ProcessGroup,
    find: Callable[[MemorySource], M],
    nothing: M,
    journal: Journal | None = None,
) -> M:
    """Merge what is found in each chunk, in the order of the chunks; all processes return the same.

    Parameters
    ----------
    chunks : Chunks
    group : ProcessGroup
    find : callable (MemorySource) -> Mergeable
        Keeps nothing of the chunk.
    nothing : Mergeable
        What is known of no rows.
    journal : Journal, optional
        For chunks that this process reads alone, or that are dealt.
    """
    tree, n_done = MergeTree(), 0
    if journal is not None:
        found = journal.found()
        if found is not None:
            return _known(nothing, found)
        for first, length, state in journal.unfinished():
            tree.add(Node(first, length, _known(nothing, state)))
            n_done = first + length
    if group.size == 1:
        _read_on(tree, n_done, chunks, partial(_find, find=find, nothing=nothing), journal)
    else:
        for segment in _segments(chunks, group, n_done, journal):
            for nodes in group.gather(partial(_find_share, chunks, group, segment, find, nothing)):
                for first, length, state in nodes:
                    tree.add(Node(first, length, _known(nothing, state)))
            if journal is not None:
                journal.note(partial(_states, tree))
    merged = _known(nothing, tree.merged(nothing).state_dict())  # laid out in memory as if it came from the journal
    if journal is not None:
        journal.finish(_moved(merged.state_dict(), "cpu"))
    return merged


def _read_on(tree: MergeTree, n_done: int, chunks: Chunks, find: Callable, journal: Journal | None) -> None:
    """Add the chunks from a number on to a tree."""
    numbers = None if chunks.n_chunks is None else range(n_done, chunks.n_chunks)
    skipped = n_done if numbers is None else 0  # what has no numbers is read once more
    for number, part in enumerate(islice(chunks.read(numbers), skipped, None), n_done):
        tree.add(Node(number, 1, find(part)))
        if journal is not None:
            journal.note(partial(_states, tree))


def _find(part: MemorySource, find: Callable[[MemorySource], M], nothing: M) -> M:
    return find(part) if len(part) else _known(nothing, nothing.state_dict())


def _segments(chunks: Chunks, group: ProcessGroup, n_done: int, journal: Journal | None) -> Iterator[range]:
    """Yield the numbers of the chunks between two gatherings."""
    if not chunks.is_dealt:
        yield range(group.size)
        return
    n_left = chunks.n_chunks - n_done
    size = max(1, n_left) if journal is None else max(group.size, n_left // SEGMENTS)
    for start in range(n_done, chunks.n_chunks, size):
        yield range(start, min(start + size, chunks.n_chunks))


def _find_share(chunks: Chunks, group: ProcessGroup, segment: range, find: Callable, nothing: Mergeable) -> list:
    """Return the states of the nodes of this process's share of the chunks."""
    tree = MergeTree()
    if chunks.is_dealt:
        share = segment[len(segment) * group.rank // group.size : len(segment) * (group.rank + 1) // group.size]
        parts, first = chunks.read(share), share.start
    else:
        parts, first = chunks.read(), 0
    for number, part in enumerate(parts, first):
        tree.add(Node(number, 1, _find(part, find, nothing)))
    return _states(tree if chunks.is_dealt else [Node(group.rank, 1, tree.merged(nothing))])


def _states(nodes: Iterable[Node]) -> NodeStates:
    return [(node.first, node.length, _moved(node.known.state_dict(), "cpu")) for node in nodes]


def _known(nothing: M, state: dict) -> M:
    """Return what another process knows, as what is known of no rows is."""
    known = copy(nothing)
    known.load_state_dict(_moved(state, _device(nothing.state_dict())))
    return known


def _device(state: dict) -> torch.device | str:
    tensors = (value for value in state.values() if isinstance(value, torch.Tensor))
    return next((tensor.device for tensor in tensors), "cpu")


def _moved(state: Any, device: torch.device | str) -> Any:
    if isinstance(state, dict):
        return {name: _moved(value, device) for name, value in state.items()}
    return state.to(device).contiguous() if isinstance(state, torch.Tensor) else state


@dataclass(frozen=True, eq=False)
class ChunkSource:
    """Rows in chunks, of which a survey has been made.

    Attributes
    ----------
    chunks : Chunks
    group : ProcessGroup
        The processes that read them.
    survey : Survey
    change : Standardization or None
        What is done to the rows as they are read.
    journal : Journal or None
        Keeps what passes find.
    """

    chunks: Chunks
    group: ProcessGroup
    survey: Survey
    change: "Standardization | None" = None
    journal: Journal | None = None

    n_models = 1
    is_small = False  # so that nothing is appended to the rows

    def __len__(self) -> int:
        return self.survey.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return len(self), self.survey.few.shape[1]

    @property
    def n_columns(self) -> int:
        """Columns of weights: one for each target."""
        return self.survey.few.y.shape[1]

    @cached_property
    def few(self) -> MemorySource:
        """Some of the rows, evenly spaced, in memory, with weights of mean one."""
        few = self.survey.sample
        return few if self.change is None else self.change(few)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products."""
        return self.few.dtype

    @property
    def is_sparse(self) -> bool:
        """Whether only nonzero features are stored: of those that are kept, none but the shifted are."""
        return self.few.is_sparse

    @property
    def is_shared(self) -> bool:
        """Whether other processes have a share of the rows."""
        return self.group.size > 1

    @property
    def shares_weight(self) -> bool:
        """Whether all columns have the same weights."""
        return True

    def standardized(self, shift: torch.Tensor, y_shift: torch.Tensor, y_scale: torch.Tensor) -> Self:
        """Return the source with features less a shift, targets less a shift over a scale, in their precision."""
        return replace(self, change=Standardization(shift, y_shift, y_scale))

    def in_double(self, shift: torch.Tensor) -> Self:
        """Return the source, whose products are in float64 anyway."""
        return self

    def without_features(self) -> MemorySource:
        """Return the targets of some of the rows, which tell the loss of a constant."""
        return self.few.without_features()

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[MemorySource]:
        """Yield the chunks of these numbers or, in order, all of them, in the units of the source."""
        for chunk in self.chunks.read(numbers):
            if len(chunk):
                yield self._prepared(chunk)

    def blocks(self, batch_size: int, generator: torch.Generator | None = None) -> SharedBatches:
        """Return the mini-batches of an epoch."""
        if self.chunks.is_dealt or self.group.size == 1:
            return ChunkBatches(self, batch_size, generator)
        (own,) = self.chunks.read()
        sizes = self.group.gather(lambda: len(own))
        return OwnBatches(self._prepared(own), sizes, batch_size, self.group, generator)

    def total(self, found: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes."""
        if self.group.size == 1:
            return found
        return sum(self.group.gather(found.detach().cpu)).to(found.device)

    def reduce(self, reduction: R, block_rows: int | None = None) -> R:
        """Return a reduction of all rows: each chunk has a fork, and these are merged in the order of the chunks."""

        def find(chunk: MemorySource) -> R:
            return self._prepared(chunk).reduce(reduction.fork(), block_rows)

        return fold(self.chunks, self.group, find, reduction.fork(), self.journal)

    def reduce_subsample(self, reduction: R, n_rows: int, generator: torch.Generator) -> R:
        """Return a reduction of some of the rows, or of all where they are not many more."""
        few = self.few
        return few.reduce(reduction) if len(few) >= n_rows // 2 else self.reduce(reduction)

    def _prepared(self, chunk: MemorySource) -> MemorySource:
        """Return a chunk in standard units, with weights of mean one over all rows."""
        if self.survey.is_weighted:
            weight = torch.ones_like(chunk.y[:, :1]) if chunk.weight is None else chunk.weight
            chunk = replace(chunk, weight=weight * (self.survey.n_rows / self.survey.weight))
        return chunk if self.change is None else self.change(chunk)


@dataclass(frozen=True)
class Standardization:
    """What is done to the rows as they are read.

    Attributes
    ----------
    shift : torch.Tensor of shape (n_features,)
    y_shift, y_scale : torch.Tensor of shape (n_targets,)
    """

    shift: torch.Tensor
    y_shift: torch.Tensor
    y_scale: torch.Tensor

    def __call__(self, chunk: MemorySource) -> MemorySource:
        """Return a chunk with features less the shift, and targets in standard units."""
        shift = self.shift.to(chunk.y.device)
        y = (chunk.y.to(shift.dtype) - self.y_shift) / self.y_scale
        weight = None if chunk.weight is None else chunk.weight.to(y)
        return replace(chunk.shifted(shift), y=y, weight=weight)
