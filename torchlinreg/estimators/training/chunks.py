"""The chunks that a user gives to `fit_chunks`: checked, and placed where training is, one after the other."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from os import PathLike
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import clone

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.data.statistics import find_divisor
from torchlinreg.engine.runtime.process_group import ProcessGroup
from torchlinreg.engine.runtime.switches import training_mode
from torchlinreg.engine.runtime.threads import read_ahead
from torchlinreg.estimators.parameters.settings import place_rows
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.inputs.arrays import check_weight, check_X_y
from torchlinreg.inputs.frames import FLOATS
from torchlinreg.inputs.streams.base import ChunkedTable

END = object()  # after the last chunk
TABLES = (str, bytes, PathLike, Mapping, np.ndarray, torch.Tensor)
CHUNK = "(X, y) or (X, y, sample_weight)"


@dataclass(frozen=True)
class Layout:
    """What all chunks have in common.

    Attributes
    ----------
    n_features, n_targets, y_ndim : int
    features : dict
        `n_features_in_` and, if the features have names, `feature_names_in_`.
    digest : str
        SHA-256 of the first chunk, where a checkpoint asks for it.
    given : str
        Type of the features as they come, such as "float32".
    dtype : torch.dtype
        Precision to train in.
    nothing : MemorySource
        No rows.
    """

    n_features: int
    n_targets: int
    y_ndim: int
    features: dict[str, Any]
    digest: str
    given: str
    dtype: torch.dtype
    nothing: MemorySource

    @property
    def description(self) -> str:
        """What has to agree between processes, in words."""
        y = "(n_samples,)" if self.y_ndim == 1 else f"(n_samples, {self.n_targets})"
        return f"{self.n_features} features of type {self.given}, and y of shape {y}"


class UserChunks:
    """Chunks as the user has them, for the engine.

    Parameters
    ----------
    chunks : sequence, or iterable
    estimator : TorchLinearRegressor
        By whose rules rows are checked; it is not changed.
    group : ProcessGroup
    is_own : bool, default=False
        Whether each process has a single chunk of its own.
    digests : bool, default=False
        Whether a checkpoint asks for a digest of the first chunk.

    Attributes
    ----------
    n_chunks : int or None
    is_dealt : bool
        Whether chunks have numbers.
    is_spent_by_one_pass : bool
        Whether they can be gone through once only.
    divisor : torch.Tensor or None
        What `find_divisor` found for the first one, where statistics are asked for.
    layout : Layout

    Raises
    ------
    TypeError, ValueError
        If there are no chunks, or if the first one is unusable.
    """

    def __init__(self, chunks, estimator, group: ProcessGroup, *, is_own: bool = False, digests: bool = False):
        self._probe, self._parameters, self._group = clone(estimator), Parameters.of(estimator), group
        is_table = isinstance(chunks, TABLES) or nw.dependencies.is_into_dataframe(chunks)
        if is_table or (not hasattr(chunks, "__getitem__") and not isinstance(chunks, Iterable)):
            raise TypeError(
                f"chunks must be a sequence or an iterable of {CHUNK}, not {type(chunks).__name__}. For a table in "
                "memory there is fit; torchlinreg.streams makes chunks of files and of what can be sliced."
            )
        has_numbers = hasattr(chunks, "__len__") and hasattr(chunks, "__getitem__")
        self.is_own, self.is_dealt = is_own, has_numbers and not is_own
        self.n_chunks = len(chunks) if self.is_dealt else None
        self.is_spent_by_one_pass = not self.is_dealt and iter(chunks) is chunks
        self._chunks, self._first, self._digests = chunks, END, digests
        self.layout, self.divisor = None, None
        self.layout = self._agree(self._look())

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[MemorySource]:
        """Yield the chunks of these numbers or, in order, all of them; a thread reads ahead."""
        if self.is_dealt:
            numbers = range(self.n_chunks) if numbers is None else numbers
            yield from read_ahead(self._reader(), numbers)
            return
        items = enumerate(self._items())
        for found in read_ahead(lambda _: self._place_next(items), iter(int, 1)):
            if found is END:
                return
            yield found

    def _reader(self) -> Callable[[int], MemorySource]:
        """Return what reads a chunk: in turns to two places, as one is used while the next one is read."""
        if not isinstance(self._chunks, ChunkedTable):
            return lambda number: self._place(number, self._chunks[number])
        buffers = cycle([self._chunks.new_buffer(), self._chunks.new_buffer()])
        return lambda number: self._place(number, self._chunks.read(number, next(buffers)))

    def _items(self) -> Iterator:
        """Yield the chunks of an iterable, the first one from where it is kept if it cannot be had twice."""
        first, self._first = self._first, END
        if self.is_spent_by_one_pass and first is not END:
            yield first
        yield from self._chunks

    def _place_next(self, items: Iterator):
        number, item = next(items, (0, END))
        return END if item is END else self._place(number, item)

    def _look(self) -> Layout | None:
        """Return the layout of the first chunk; None if there is none."""
        if self.is_dealt:
            item = self._chunks[0] if self.n_chunks else END
        else:
            item = self._first = next(iter(self._chunks), END)
        if item is END:
            return None
        with torch.no_grad():
            X, y, weight = self._check(0, item, reset=True)
            rows, dtype = place_rows(self._parameters, X, y, weight)
            if self._parameters.is_untuned:
                with training_mode(0, 0, inference=False):
                    self.divisor = find_divisor(rows)
            known = vars(self._probe)
            features = {name: known[name] for name in ("n_features_in_", "feature_names_in_") if name in known}
            digest = _digest(X, y, weight) if self._digests else ""
            sizes, nothing = (rows.shape[1], rows.y.shape[1], y.ndim), rows.rows(torch.arange(0, device="cpu"))
            return Layout(*sizes, features, digest, _name(X), dtype, nothing)

    def _agree(self, layout: Layout | None) -> Layout:
        """Return the layout that all processes have, and refuse any other."""
        found = self._group.gather(lambda: None if layout is None else layout.description)
        known = [description for description in found if description is not None]
        if not known:
            raise ValueError("There are no chunks to learn from.")
        if len({*known}) > 1:
            told = "; ".join(f"rank {rank}: {what}" for rank, what in enumerate(found) if what is not None)
            raise ValueError(f"All processes must have the same columns, but have {told}.")
        if layout is None:
            raise ValueError("This process has no chunk; give it one of no rows, of the columns that the others have.")
        return layout

    def _place(self, number: int, item) -> MemorySource:
        """Return a chunk where training is."""
        with torch.no_grad():
            X, y, weight = self._check(number, item, reset=False)
            if X.shape[0] == 0:
                return self.layout.nothing
            return place_rows(self._parameters, X, y, weight)[0]

    def _check(self, number: int, item, *, reset: bool) -> tuple:
        """Return features, targets and weights of a chunk, checked; an error names the chunk."""
        if not (isinstance(item, tuple | list) and len(item) in (2, 3)):
            raise TypeError(f"chunk {number} is {type(item).__name__}; each chunk must be a tuple, {CHUNK}.")
        X, y, weight = item if len(item) == 3 else (*item, None)
        try:
            if np.shape(X)[:1] == (0,):
                if not reset:
                    return np.empty((0, self.layout.n_features)), None, None
                X, y, weight = _one_row(X), np.zeros((1, *np.shape(y)[1:])), None
            X, y = check_X_y(self._probe, X, y, reset=reset)
            if not reset:
                self._compare(X, y)
            return X, y, check_weight(weight, X, to_mean_one=False, allow_zeros=True)
        except (TypeError, ValueError) as refused:
            is_table = isinstance(self._chunks, ChunkedTable)
            place = self._chunks.describe(number) if is_table else f"chunk {number}"
            raise type(refused)(f"{place}: {refused}") from refused

    def _compare(self, X, y) -> None:
        """Refuse a chunk that differs from the first one."""
        layout = self.layout
        n_targets = y.shape[1] if y.ndim == 2 else 1
        if (y.ndim, n_targets) != (layout.y_ndim, layout.n_targets):
            raise ValueError(f"y has shape {tuple(y.shape)}, but the first chunk has {layout.description}.")
        if _name(X) != layout.given:
            raise ValueError(f"X is of type {_name(X)}, but the first chunk has {layout.description}; convert it.")


def _one_row(X):
    """Return a row of zeros with the columns of a table that has no rows."""
    if hasattr(X, "reindex"):
        return X.reindex([0], fill_value=0)
    dtype = X.dtype if isinstance(X, np.ndarray) and X.dtype in FLOATS else np.float64
    return np.zeros((1, *np.shape(X)[1:]), dtype)


def _digest(X, *others) -> str:
    """Return the SHA-256 of the arrays of a chunk."""
    found = hashlib.sha256()
    for array in ((X.indptr, X.indices, X.data) if issparse(X) else (X,)) + others:
        if array is not None:
            array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _name(X) -> str:
    """Return the type of features, and whether they are sparse."""
    return f"{'sparse ' if not isinstance(X, torch.Tensor | np.ndarray) else ''}{str(X.dtype).removeprefix('torch.')}"
