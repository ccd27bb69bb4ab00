"""Data frames and arrays of objects: what about their columns keeps a regression from learning.

Frames of pandas, polars and pyarrow go through scikit-learn's own validation, as everything else does. If that refuses
one, the error is completed here: which columns are to blame, and what to put before the estimator.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype, is_object_dtype, is_string_dtype
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

FLOATS = [np.float64, np.float32]
MOST_NAMES = 5

REMEDIES = {
    "Dates": "Turn them into numbers first, such as days since the first.",
    "No numbers": (
        "Encode categories first, with sklearn.preprocessing.OneHotEncoder in a ColumnTransformer; "
        "leave out, or scale down, what is no number that float64 can hold."
    ),
    "Missing values": "Fill them with sklearn.impute.SimpleImputer in a Pipeline, or drop these rows.",
    "Infinite values": "Clip them, or make them NaN for sklearn.impute.SimpleImputer to fill, or drop these rows.",
}


def float_types(X) -> list | type:
    """Return the types for scikit-learn to convert X to: float32 if all of it is float32, float64 for other numbers.

    Raises
    ------
    ValueError
        If columns are dates or durations.
    """
    refuse_dates("X", X)
    if isinstance(X, np.ndarray) or not nw.dependencies.is_into_dataframe(X):
        return FLOATS
    return np.float32 if all(dtype == nw.Float32 for dtype in nw.from_native(X).schema.values()) else FLOATS


def refuse_dates(name: str, values) -> None:
    """Refuse dates and durations, which would be converted to large numbers, and missing ones to huge ones.

    Raises
    ------
    ValueError
    """
    if isinstance(values, np.ndarray):  # first, as asking whether X is a frame takes longer
        if values.dtype.kind in "mM":
            raise ValueError(advice(name, "Dates", ()))
    elif nw.dependencies.is_into_dataframe(values):
        dates = [column for column, dtype in nw.from_native(values).schema.items() if dtype.is_temporal()]
        if dates:
            raise ValueError(advice(name, "Dates", dates))


def is_text(column: pd.Series) -> bool:
    """Whether a column is of texts, or of any objects, and not a pandas category."""
    return (is_object_dtype(column) or is_string_dtype(column)) and not isinstance(column.dtype, pd.CategoricalDtype)


def unusable(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the columns that linear regressions cannot use as they are: judged by their types, none is converted.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    found : dict of str to dict
        For "text", "dates" and "missing or infinite values", each if there are any, columns with a count: of different
        texts or dates, or of missing and infinite values.
    """
    found: dict[str, dict[str, int]] = {"text": {}, "dates": {}, "missing or infinite values": {}}
    for name, column in table.items():
        if not is_numeric_dtype(column):
            kind = "dates" if is_datetime64_any_dtype(column) else "text"
            found[kind][str(name)] = column.dropna().astype(str).nunique()
        elif missing := int((~np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan))).sum()):
            found["missing or infinite values"][str(name)] = missing
    return {kind: columns for kind, columns in found.items() if columns}


@contextmanager
def naming_columns(**tables) -> Iterator[None]:
    """Add to an error that is raised inside which columns are to blame, and what to do about them.

    Parameters
    ----------
    **tables : array-like or DataFrame
        The data validated inside, by their names in messages.
    """
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of scikit-learn's sums, which look for infinities
            yield
    except (TypeError, ValueError, OverflowError) as refusal:
        lines = [line for name, table in tables.items() for line in _explanations(name, table)]
        kind = TypeError if isinstance(refusal, TypeError) else ValueError
        if not lines and isinstance(refusal, kind):
            raise
        raise kind("\n".join([str(refusal), *lines])) from refusal


def advice(table: str, trouble: str, names: Iterable) -> str:
    """Return what is wrong with which columns of a table, and what to do about it.

    Parameters
    ----------
    table : str
    trouble : str
        A key of `REMEDIES`.
    names : iterable
        Names or numbers of columns; none for a table that has no columns.
    """
    names = [repr(name) if isinstance(name, str) else str(name) for name in names]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    columns = f"column{'s' * (len(names) > 1)} {', '.join(names[:MOST_NAMES])}{more} of " if names else ""
    return f"{trouble} in {columns}{table}. {REMEDIES[trouble] if table == 'X' else 'Drop or mend these rows.'}"


def _explanations(table: str, values) -> Iterator[str]:
    """Yield a line for each kind of trouble in the columns of a table."""
    found: dict[str, list] = {trouble: [] for trouble in REMEDIES}
    try:
        for name, column in _columns(values):
            for trouble in _troubles(column):
                found[trouble].append(name)
    except (TypeError, ValueError):  # not a table at all: the error says so
        return
    for trouble, names in found.items():
        if names:
            yield advice(table, trouble, [name for name in names if name is not None])


def _columns(values) -> Iterator[tuple]:
    """Yield the columns of a table with their names, or their numbers if it has none."""
    if nw.dependencies.is_into_dataframe(values):
        for column in nw.from_native(values).iter_columns():
            yield column.name, column.to_native()
        return
    values = np.asarray(values)
    if values.ndim == 1:
        yield None, values
    elif values.ndim == 2:
        yield from enumerate(values.T)


def _troubles(column) -> Iterator[str]:
    """Yield what is wrong with a column, by converting it as scikit-learn does."""
    try:
        numbers = check_array(
            column, ensure_2d=False, dtype=np.float64, ensure_all_finite=False, ensure_min_samples=0, input_name="X"
        )
    except (TypeError, ValueError, OverflowError):
        yield "No numbers"
        return
    if np.isnan(numbers).any():
        yield "Missing values"
    if np.isinf(numbers).any():
        yield "Infinite values"


def names_after(steps: Pipeline) -> Iterable[str] | None:
    """Return the names of the features that the steps of a pipeline make; None if one of them does not know."""
    try:
        return steps.get_feature_names_out()
    except (AttributeError, ValueError):
        return None
