"""Features and targets of a command: a built-in data set, or the columns of the user's file."""

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.datasets import load_diabetes, load_linnerud

from torchlinreg.cli.encoding import as_targets, with_dates
from torchlinreg.cli.messages import UsageError, listed, one_line
from torchlinreg.datasets import load_crop_yields
from torchlinreg.inputs.files import read_table, unusable

__all__ = ["BUILT_IN", "find_columns", "load", "read_file"]

BUILT_IN: dict[str, Callable[[], Any]] = {
    "diabetes": lambda: load_diabetes(as_frame=True, scaled=False),  # in years, kg/m² and so on, as real data is
    "linnerud": lambda: load_linnerud(as_frame=True),
    "crops": lambda: load_crop_yields(as_frame=True),
}


def load(arguments: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Load the data that the arguments name, and check that it can be used.

    Parameters
    ----------
    arguments : Namespace
        With `data`, `target`, `drop`, `encode`, `sep`, `encoding` and `decimal`.

    Returns
    -------
    X, y : DataFrame
        Features and targets, at least one column of each.
    decimal : {".", ","}
        Decimal mark of the file.

    Raises
    ------
    UsageError
        If there is no such file or column, or if a column cannot be used.
    """
    data, drop, decimal = arguments.data, arguments.drop, "."
    if data in BUILT_IN:
        bunch = BUILT_IN[data]()
        frame, candidates = bunch.frame, list(bunch.frame.columns.drop(bunch.feature_names))
        targets = find_columns(data, arguments.target or candidates, candidates, "--target")
        drop = [*drop, *(name for name in candidates if name not in targets)]
    else:
        frame, decimal = read_file(arguments)
        candidates = list(frame.columns)
        if frame.empty:
            raise UsageError(f"{data} holds no rows: give a table with a heading and at least a few rows")
        if not arguments.target:
            raise UsageError(f"name the column of {data} to predict with --target COL; it has {listed(candidates)}")
        targets = find_columns(data, arguments.target, candidates, "--target")
    drop = find_columns(data, drop, list(frame.columns), "--drop")
    X = frame.drop(columns=[*targets, *drop])
    y = frame[[name for name in targets if name not in drop]]
    if X.empty or y.empty:
        raise UsageError(f"{data} keeps no {'feature' if X.empty else 'target'} column: drop fewer")
    if arguments.encode:
        y = as_targets(y, decimal)
    _check_targets(data, y, frame)
    if not arguments.encode:
        _check_usable(data, with_dates(pd.concat([X, y], axis=1)))
    return X, y, decimal


def read_file(arguments: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """Read the user's file, and return it with its decimal mark."""
    data = arguments.data
    try:
        return read_table(data, sep=arguments.sep, encoding=arguments.encoding, decimal=arguments.decimal)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {data!r}: give the path of a CSV or Parquet file, or one of {', '.join(BUILT_IN)}"
        ) from error
    except (ImportError, ValueError) as error:
        raise UsageError(one_line(error)) from error


def find_columns(data: str, names: list[str], known: list[str], option: str) -> list[str]:
    """Find the names among the columns, ignoring spaces around them and repetitions."""
    found = dict.fromkeys(name if name in known else name.strip() for name in names)
    for name in found:
        if name not in known:
            by_lower_case = {each.lower(): each for each in reversed(known)}
            similar = [by_lower_case[each] for each in get_close_matches(name.lower(), by_lower_case)]
            hint = f"; did you mean {' or '.join(map(repr, similar))}?" if similar else ""
            raise UsageError(f"{data} has no column {name!r} for {option}: choose from {listed(known)}{hint}")
    return list(found)


def _check_targets(data: str, y: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Refuse a target that is not numeric, and suggest columns that are."""
    for name, column in y.items():
        if not is_numeric_dtype(column):
            others = [each for each, other in frame.items() if is_numeric_dtype(other) and each not in y]
            example = next((f", such as {str(value)!r}," for value in column.dropna()), "")
            raise UsageError(
                f"target {name!r} of {data} is text or dates{example} and regressions predict numbers: choose "
                f"another --target{f', for example {listed(others)}' if others else ''}"
            )


def _check_usable(data: str, frame: pd.DataFrame) -> None:
    """Refuse columns that are not numeric or not complete, all of them in one message."""
    found = unusable(frame)
    if not found:
        return
    lines = [f"{data} has columns that cannot be used as they are"]
    for kind, columns in found.items():
        different = " different" if kind != "missing or infinite values" else ""
        lines.append(f"  {kind}: {listed(f'{name!r} ({count}{different})' for name, count in columns.items())}")
    lines.append("encode them, and fill what is missing, with --encode, or leave columns out with --drop COL")
    raise UsageError("\n".join(lines))
