"""The columns of an Arrow table: which are features, targets and weights, and what they are as arrays."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from torchlinreg.inputs.frames import advice, float_types

if TYPE_CHECKING:
    import pyarrow as pa


COPIED_ROWS = 2**10  # at once, so that they stay in the cache from the first column to the last


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are features, targets and weights, and their types as arrays.

    Attributes
    ----------
    features, targets : list of str
    weight : str or None
    is_single : bool
        Whether the target was named alone, so that y is one-dimensional.
    dtype, y_dtype : numpy.dtype
        Types that `fit` gives a frame of these columns: float32 if all are that narrow, else float64. None where there
        is no target.
    """

    features: list[str]
    targets: list[str]
    weight: str | None
    is_single: bool
    dtype: np.dtype
    y_dtype: np.dtype | None

    @classmethod
    def choose(
        cls,
        schema: "pa.Schema",
        target: str | Sequence[str] | None,
        features: Sequence[str] | None,
        sample_weight: str | None,
    ) -> Self:
        """Find the columns in a schema.

        Parameters
        ----------
        schema : pyarrow.Schema
        target : str or sequence of str, optional
        features : sequence of str, optional
            None takes all columns that are nothing else, but for an index of pandas.
        sample_weight : str, optional

        Raises
        ------
        ValueError
            If a column is not there, is there twice, or is of dates.
        """
        is_single = isinstance(target, str)
        targets = [target] if is_single else [] if target is None else list(target)
        weights = [] if sample_weight is None else [sample_weight]
        if features is None:
            apart = {*targets, *weights, *_index_columns(schema)}
            features = [name for name in schema.names if name not in apart]
        elif isinstance(features, str):
            raise ValueError(f"features must be a list of names, got {features!r}; write [{features!r}].")
        features = list(features)
        there = Counter(schema.names)
        for name, n_times in Counter([*features, *targets, *weights]).items():
            if there[name] != 1:
                raise ValueError(f"{there[name]} columns are named {name!r}; there are {', '.join(there)}.")
            if n_times > 1:
                raise ValueError(f"The column {name!r} is named twice among features, target and sample_weight.")
        if not features or not (targets or target is None):
            what = "target" if features else "feature"
            raise ValueError(f"No {what} is left among the columns {', '.join(there)}.")
        y_dtype = _float_type(schema, targets) if targets else None
        return cls(features, targets, sample_weight, is_single, _float_type(schema, features), y_dtype)

    @property
    def names(self) -> list[str]:
        """All of them: features, targets, weights."""
        return [*self.features, *self.targets, *([] if self.weight is None else [self.weight])]

    @cached_property
    def _heading(self) -> pd.Index:
        return pd.Index(self.features, dtype=object)

    def to_chunk(self, table: "pa.Table", buffer: np.ndarray | None = None) -> tuple:
        """Return the features as a DataFrame, the targets, and the weights if there are any.

        Parameters
        ----------
        table : pyarrow.Table
        buffer : ndarray, optional
            Memory for the features.

        Raises
        ------
        ValueError
            If values are missing or no numbers.
        """
        if buffer is None:
            buffer = np.empty((table.num_rows, len(self.features)), self.dtype)
        X = buffer[: table.num_rows]
        _copy(table, self.features, X, "X")
        chunk, y = (pd.DataFrame(X, columns=self._heading, copy=False),), None
        if self.targets:
            y = np.empty((table.num_rows, len(self.targets)), self.y_dtype)
            _copy(table, self.targets, y, "y")
        chunk += (y[:, 0] if self.is_single else y,)
        if self.weight is not None:
            weight = np.empty((table.num_rows, 1))
            _copy(table, [self.weight], weight, "sample_weight")
            chunk += (weight[:, 0],)
        return chunk


def _index_columns(schema: "pa.Schema") -> list[str]:
    """Return the columns in which pandas has stored the index of a frame."""
    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in stored if isinstance(name, str)]  # others describe a range


def _float_type(schema: "pa.Schema", names: list[str]) -> np.dtype:
    """Return the type that `fit` gives a pandas frame of these columns."""
    nothing = schema.empty_table().select(names)
    types = float_types(nothing)
    return check_array(nothing.to_pandas(), dtype=types, ensure_min_samples=0).dtype


def _copy(table: "pa.Table", names: list[str], out: np.ndarray, role: str) -> None:
    """Write columns to the rows of an array; refuse missing values and what is no number, by name."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    columns = []
    found: dict[str, list[str]] = {"No numbers": [], "Missing values": []}
    for name in names:
        try:
            column = _to_numbers(table.column(name))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            found["No numbers"].append(name)
            continue
        if column.null_count:
            found["Missing values"].append(name)
        columns.append(column.to_numpy())
    lines = [advice(role, trouble, names) for trouble, names in found.items() if names]
    if lines:
        raise ValueError("\n".join(lines))
    for start in range(0, len(out), COPIED_ROWS):
        rows = slice(start, start + COPIED_ROWS)
        for place, column in zip(out[rows].T, columns, strict=True):
            place[:] = column[rows]


def _to_numbers(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return a column of numbers or booleans: of what is neither, decimals for example, in float64."""
    from pyarrow import float64, types  # noqa: PLC0415 - an extra

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_number = types.is_floating(column.type) or types.is_integer(column.type) or types.is_boolean(column.type)
    return column if is_number else column.cast(float64())
