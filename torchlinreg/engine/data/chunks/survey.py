"""What one pass over all rows tells: how many there are, their weight, their statistics, and a few of them."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.data.statistics import SufficientStatistics

FEW_ELEMENTS = 2**20  # features of the rows that are kept, at most, but
FEW_ROWS = 2**6  # so many rows in any case
MANY_ROWS = 2**15


@dataclass
class Survey:
    """What is known of the rows of some chunks.

    Attributes
    ----------
    n_rows : int
    weight : float
        Of all rows together.
    statistics : SufficientStatistics or None
        Where they are asked for.
    few : MemorySource
        Every so many rows, dense.
    stride : int
        How many rows each of the few stands for.
    room : int
        How many are kept, at most.
    is_weighted : bool
        Whether rows have weights.
    """

    n_rows: int
    weight: float
    statistics: SufficientStatistics | None
    few: MemorySource
    stride: int
    room: int
    is_weighted: bool

    @classmethod
    def of(cls, source: MemorySource, room: int, divisor: torch.Tensor | None = None, *, has_statistics: bool) -> Self:
        """Return what is known of the rows of a chunk, keeping as many as there is room for.

        `divisor` is that of `SufficientStatistics.of`.
        """
        n_rows, n_features = source.shape
        statistics = None
        if has_statistics:
            empty = SufficientStatistics.empty(n_features + source.y.shape[1], source.y.device)
            statistics = SufficientStatistics.of(source, divisor) if n_rows else empty
        weight = source.y.new_ones(n_rows, 1) if source.weight is None else source.weight
        stride = 1
        while n_rows > stride * room:
            stride *= 2
        chosen = torch.arange(0, n_rows, stride, device="cpu")
        there = chosen.to(source.y.device)
        few = MemorySource(
            DenseOperator(source.sample(chosen)), source.y.index_select(0, there), weight.index_select(0, there)
        )
        total = weight.sum(dtype=torch.float64).item()
        return cls(n_rows, total, statistics, few, stride, room, source.weight is not None)

    def merge(self, other: Self) -> Self:
        """Return what is known of the rows of both."""
        n_rows, weight, stride = self.n_rows + other.n_rows, self.weight + other.weight, max(self.stride, other.stride)
        while n_rows > stride * self.room:
            stride *= 2
        own, others = (part.few.rows(slice(None, None, stride // part.stride)) for part in (self, other))
        few = MemorySource(
            DenseOperator(torch.cat([own.X.to_dense(), others.X.to_dense()])),
            torch.cat([own.y, others.y]),
            torch.cat([own.weight, others.weight]),
        )
        statistics = None if self.statistics is None else self.statistics.merge(other.statistics)
        is_weighted = self.is_weighted or other.is_weighted
        return type(self)(n_rows, weight, statistics, few, stride, self.room, is_weighted)

    def state_dict(self) -> dict[str, Any]:
        """Return what is known as tensors and numbers."""
        names = "n_rows", "weight", "stride", "room", "is_weighted"
        found = {name: getattr(self, name) for name in names}
        found |= {"X": self.few.X.to_dense(), "y": self.few.y, "row_weight": self.few.weight}
        return found if self.statistics is None else found | {"statistics": self.statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put what is known of other rows in the place of this."""
        state = dict(state)
        few = MemorySource(*(state.pop(name) for name in ("X", "y", "row_weight")))
        statistics = SufficientStatistics(**state.pop("statistics")) if "statistics" in state else None
        vars(self).update(state, few=replace(few, X=DenseOperator(few.X)), statistics=statistics)

    @property
    def sample(self) -> MemorySource:
        """The few rows, with weights of mean one; as they are where all of these weigh nothing."""
        mean = self.few.weight.mean()
        return replace(self.few, weight=self.few.weight / torch.where(mean > 0, mean, 1.0))


def room_for(n_features: int, *, to_fit: bool) -> int:
    """Return how many rows to keep: enough for a fit that is near that to all, or so few that they cost nothing."""
    many = FEW_ELEMENTS // max(1, n_features) if to_fit else FEW_ROWS
    return min(MANY_ROWS, max(FEW_ROWS, many))
