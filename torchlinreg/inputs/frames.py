"""Tables with columns of names and types of their own: what scikit-learn's refusals of them leave unsaid.

Frames of pandas, polars and pyarrow go through scikit-learn's own validation, like everything else. Where that says no,
the refusal is completed here: which columns are to blame, and what to put before the estimator so that they are not.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import narwhals.stable.v2 as nw
import numpy as np
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
    """Return what scikit-learn is to make of X: float32 where nothing else is in it, float64 for any other numbers.

    Raises
    ------
    ValueError
        If columns are dates or durations, which would pass for large numbers, and missing ones for huge ones.
    """
    if isinstance(X, np.ndarray):  # first, as the question whether X is a frame takes longer
        if X.dtype.kind in "mM":
            raise ValueError(advice("X", "Dates", ()))
        return FLOATS
    if not nw.dependencies.is_into_dataframe(X):
        return FLOATS
    schema = nw.from_native(X).schema
    dates = [name for name, dtype in schema.items() if dtype.is_temporal()]
    if dates:
        raise ValueError(advice("X", "Dates", dates))
    return np.float32 if all(dtype == nw.Float32 for dtype in schema.values()) else FLOATS


@contextmanager
def naming_columns(**tables) -> Iterator[None]:
    """Add to a refusal that is raised inside the columns that are to blame, and the way out.

    Parameters
    ----------
    **tables : array-like or DataFrame
        What is validated inside, by the name that it has in messages.
    """
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # of the sums by which scikit-learn looks for infinities
            yield
    except (TypeError, ValueError, OverflowError) as refusal:
        lines = [line for name, table in tables.items() for line in _explanations(name, table)]
        kind = TypeError if isinstance(refusal, TypeError) else ValueError
        if not lines and isinstance(refusal, kind):
            raise
        raise kind("\n".join([str(refusal), *lines])) from refusal


def advice(table: str, trouble: str, names: Iterable) -> str:
    """Say what is wrong with which columns of a table, and what to do about it.

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
    """Find what keeps the columns of a table from being learnt from."""
    found: dict[str, list] = {trouble: [] for trouble in REMEDIES}
    try:
        for name, column in _columns(values):
            for trouble in _troubles(column):
                found[trouble].append(name)
    except (TypeError, ValueError):  # no table at all: the refusal is about that
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
    """Return the names that the steps of a pipeline give their features; None if one of them has no opinion."""
    try:
        return steps.get_feature_names_out()
    except (AttributeError, ValueError):
        return None
