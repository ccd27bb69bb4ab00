"""Sources of rows: what can be gone through in blocks, and reduced."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self, TypeVar

import torch

from torchlinreg.engine.data.batches import MiniBatches, Rows
from torchlinreg.engine.data.matrices.dense import DenseOperator, Standardized
from torchlinreg.engine.data.matrices.operators import Operator
from torchlinreg.engine.data.reductions import Reduction
from torchlinreg.engine.runtime.devices import at_once
from torchlinreg.engine.runtime.threads import in_parallel

PASS_BYTES = 2**22  # of features in a block of a full pass, which both its products should find in the cache
PARALLEL_ELEMENTS = 2**22  # features, from which on a pass is worth sharing among threads
PARTS = 32  # of a pass, each taken by one thread, and merged in their order: as many whatever the number of threads
PREDICTIONS = 2**18  # at once, as each goes through several steps, and
BLOCK_ROWS = 2**16  # of so few that the memory for a number each is handed from one block to the next
SAMPLE_ROWS = 2**12  # gathered at once
SMALL_ELEMENTS = 2**18  # rows with no more features than this, together, may be copied freely
SKETCHED = 16  # times as many rows as features, at most, are factorised
NO_WEIGHT = "sample_weight is zero for all rows of a part of the table; give other weights or parts."


R = TypeVar("R", bound=Reduction)


class DataSource(Protocol):
    """Whoever holds rows: memory, a file, a process.

    Attributes
    ----------
    shape : tuple of int
        Rows and features.
    """

    shape: tuple[int, int]

    def blocks(self, batch_size: int, generator: torch.Generator | None = None, n_draws: int | None = None):
        """Return an iterable of blocks, cut into mini-batches: in order, shuffled, or drawn with replacement."""

    def sample(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the features of these rows."""

    def reduce(self, reduction: R, block_rows: int | None = None) -> R:
        """Update a reduction by every block, in order, and return it."""


@dataclass(frozen=True, eq=False)
class MemorySource:
    """Rows in memory, with their targets and weights.

    Attributes
    ----------
    X : Operator of shape (n_rows, n_features)
        On the device of y or, if that has no room for it, on the host: then blocks are moved as they are needed.
    y : torch.Tensor of shape (n_rows, n_targets)
    weight : torch.Tensor of shape (n_rows, 1) or (n_rows, n_models), or None
        Mean one, so that a weight of two is a row written twice.
    n_models : int
        How many models, a column each, learn the same target; with more than one, y has a single column.
    given_weight : torch.Tensor of shape (n_rows, 1) or None
        Float64 weights as they were given, which those of mean one are rounded multiples of, where that is known.
    """

    X: Operator
    y: torch.Tensor
    weight: torch.Tensor | None = None
    n_models: int = 1
    given_weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.X.shape

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the products, that of the targets."""
        return self.y.dtype

    @property
    def few(self) -> Self:
        """Rows in memory that stand for all: these."""
        return self

    @property
    def shares_weight(self) -> bool:
        """Whether all columns have the same weights."""
        return self.weight is None or self.weight.shape[1] == 1

    @property
    def is_shared(self) -> bool:
        """Whether other processes have a share of the rows."""
        return False

    @property
    def is_small(self) -> bool:
        """Whether copying the features costs next to nothing."""
        return self.X.n_stored <= SMALL_ELEMENTS and not self.X.is_sparse

    @property
    def is_sparse(self) -> bool:
        """Whether only nonzero features are stored, so that none can be shifted."""
        return self.X.is_sparse

    @property
    def factorization_work(self) -> int:
        """Multiplications in factorising the rows, or a sketch of them, for each column."""
        n_rows, n_features = self.shape
        n_stored = min(n_rows, SKETCHED * n_features) * self.X.mean_nnz
        return n_stored * min(self.shape) * self.n_columns

    @property
    def n_columns(self) -> int:
        """Columns of weights: one for each target and model."""
        return self.y.shape[1] * self.n_models

    def rows(self, chosen: slice | torch.Tensor) -> Self:
        """Return the rows of a slice, or a copy of those of these numbers, with their weights."""
        if isinstance(chosen, slice):
            y, weight = self.y[chosen], None if self.weight is None else self.weight[chosen]
        else:
            there = chosen.to(self.y.device)
            y = self.y.index_select(0, there)
            weight = None if self.weight is None else self.weight.index_select(0, there)
        return replace(self, X=self.X.rows(chosen), y=y, weight=weight, given_weight=None)

    def fold(self, chosen: torch.Tensor) -> Self:
        """Return a copy of these rows as a source of its own: their weights have mean one again.

        Raises
        ------
        ValueError
            If no row has any weight.
        """
        fold = self.rows(chosen)
        if fold.weight is None:
            return fold
        mean = fold.weight.mean(0)
        if not mean.all():
            raise ValueError(NO_WEIGHT)
        return replace(fold, weight=fold.weight / mean)

    def select(self, models: torch.Tensor) -> Self:
        """Return the source for some of its models, a number for each."""
        each = self.weight is not None and self.weight.shape[1] > 1
        return replace(self, weight=self.weight[:, models] if each else self.weight, n_models=len(models))

    def shifted(self, shift: torch.Tensor) -> Self:
        """Return the source with a shift subtracted from its features as they are read, in the shift's precision."""
        return replace(self, X=Standardized(self.X, shift))

    def in_double(self, shift: torch.Tensor) -> Self:
        """Return the source with products in float64, less a shift where the features are not in float64 yet."""
        weight = None if self.weight is None else self.weight.double()
        return replace(self, X=self.X.in_double(shift), y=self.y.double(), weight=weight)

    def without_features(self) -> Self:
        """Return the targets alone; for one model, where all have the same weights."""
        return replace(self, X=DenseOperator(self.y.new_empty(len(self), 0)))

    def total(self, found: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes that have rows: this one."""
        return found

    def with_ones(self) -> Self:
        """Append a column of ones, which makes the intercept a weight like any other."""
        return replace(self, X=self.X.with_ones())

    def blocks(
        self, batch_size: int, generator: torch.Generator | None = None, n_draws: int | None = None
    ) -> MiniBatches:
        """Return the mini-batches of an epoch, as :class:`MiniBatches` has them."""
        return self._blocks_of(batch_size, generator, n_draws=n_draws)

    def sample(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the features of these rows, dense, in the precision that they have, where y is."""
        sample = torch.empty(len(chosen), self.shape[1], dtype=self.X.dtype, device=self.y.device)
        for part, out in zip(chosen.split(SAMPLE_ROWS), sample.split(SAMPLE_ROWS), strict=True):
            self.X.copy_rows(part, out)
        return sample

    def reduce(self, reduction: R, block_rows: int | None = None) -> R:
        """Update a reduction by every block, in order, and return it.

        Parameters
        ----------
        reduction : Reduction
        block_rows : int, optional
            Rows in a block; by default as many as the cache holds.
        """
        idle = self._idle if block_rows is None else [self._new_pass(block_rows)]
        on_host = self.X.device.type == self.y.device.type == "cpu"
        if not on_host or self.X.n_stored < PARALLEL_ELEMENTS or not reduction.suits_threads:
            return _update(reduction, idle[0], slice(0, len(self)))

        def reduce_part(rows: slice) -> R:
            batches = idle.pop() if idle else self._new_pass(block_rows)
            try:
                return _update(reduction.fork(), batches, rows)
            finally:
                idle.append(batches)

        for part in in_parallel(reduce_part, idle[0].parts(PARTS)):
            reduction = reduction.merge(part)
        return reduction

    def reduce_subsample(self, reduction: R, n_rows: int, generator: torch.Generator) -> R:
        """Update a reduction by rows drawn with replacement, and return it."""
        drawn = self._blocks_of(self._block_rows, generator, n_draws=n_rows, block_elements=self._pass_elements)
        for block in drawn:
            for batch in block.batches:
                reduction.update(batch)
        return reduction

    @property
    def _pass_elements(self) -> int:
        return at_once(PASS_BYTES // self.X.dtype.itemsize, self.y.device)

    @cached_property
    def _block_rows(self) -> int:
        predictions, rows = (at_once(n, self.y.device) for n in (PREDICTIONS, BLOCK_ROWS))
        return max(1, min(self._pass_elements // max(1, self.X.mean_nnz), predictions // self.n_columns, rows))

    @cached_property
    def _idle(self) -> list[MiniBatches]:
        """What passes go by and no thread is at, each with buffers of its own."""
        return [self._new_pass()]

    def _new_pass(self, block_rows: int | None = None) -> MiniBatches:
        if block_rows is not None:
            return self._blocks_of(block_rows, block_elements=0)
        return self._blocks_of(self._block_rows, block_elements=self._pass_elements)

    def _blocks_of(self, batch_size: int, generator: torch.Generator | None = None, **options) -> MiniBatches:
        return MiniBatches(Rows(self.X, self.y, self.weight), self.n_columns, batch_size, generator, **options)


def _update(reduction: R, batches: MiniBatches, rows: slice) -> R:
    first_row = rows.start
    for block in batches.within(rows):
        for batch in block.batches:
            reduction.update(batch if first_row == 0 else batch._replace(first_row=first_row))
            first_row += len(batch.y)
    return reduction


def as_operator(X: torch.Tensor | Operator) -> Operator:
    """Return a tensor as an operator."""
    return DenseOperator(X) if isinstance(X, torch.Tensor) else X
