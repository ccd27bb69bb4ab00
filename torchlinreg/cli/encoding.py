"""Encoding of columns that are not numeric: a ColumnTransformer for a table, and a description of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype, is_timedelta64_dtype
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from torchlinreg.cli.messages import listed
from torchlinreg.inputs.files import FEW, is_text, number_pattern, numbers_in

__all__ = ["ColumnParser", "DaysSinceFirst", "Encoding", "as_targets", "encode", "with_dates"]

MOST_CATEGORIES = 20
_NEARLY_ALL = 0.9
_OFTEN_MISSING = 0.05  # share of missing values from which an indicator column is added

AS_THEY_ARE = "numbers as they are"
FILLED = "missing values filled with the mean"
FILLED_AND_MARKED = "filled with the mean, and missing or not in a column more"
DATES = "days since the first date"
ONE_HOT = "one-hot"
_ROW_NUMBER_NAMES = r"unnamed: 0|index|(?:.*[\W_])?id"

_MONTHS = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_LONG_MONTHS = rf"(?:{_MONTHS}|january|february|march|april|june|july|august|sept|september|october|november|december)"
_LOOKS_LIKE_A_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"
    rf"|(?:\d{{1,2}}[ -])?{_LONG_MONTHS}\.?[ -](?:\d{{1,2}},? )?(?:\d{{4}}|\d{{2}}))(?:(?:T| +)\d.*)?"
)
_DATES = ["%Y-%m-%d", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%y", "%d %b %Y", "%d %b %y", "%b %d %Y", "%b %d %y", "%b %Y"]
_MONTH_FIRST, _DAY_FIRST = ["%m-%d-%Y", "%m-%d-%y"], ["%d-%m-%Y", "%d-%m-%y"]
_TIMES = ["", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p"]


class DaysSinceFirst(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Transform columns of dates into days since the earliest date of each column in `fit`; a missing date is NaN.

    Attributes
    ----------
    first_ : ndarray of shape (n_features,)
        The earliest dates.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns.
    """

    def fit(self, X: pd.DataFrame, y: Any = None) -> "DaysSinceFirst":
        """Store the earliest date of each column."""
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = X.shape[1]
        self.first_ = X.min().to_numpy()
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return the days since the earliest dates."""
        check_is_fitted(self)
        return ((X - self.first_) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)


class ColumnParser(TransformerMixin, BaseEstimator):
    """Parse the columns of a table as those of the training rows were parsed; what cannot be is missing.

    Parameters
    ----------
    kinds : dict of str to str
        The columns to keep, each with "number", "date" or "text".
    decimal : {".", ","}, default="."
        The decimal mark in texts such as "1.5 km".

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns.
    """

    def __init__(self, kinds: dict[str, str], decimal: str = "."):
        self.kinds = kinds
        self.decimal = decimal

    def fit(self, X: pd.DataFrame, y: Any = None) -> "ColumnParser":
        """Store the names."""
        self.feature_names_in_ = np.asarray(list(self.kinds), dtype=object)
        self.n_features_in_ = len(self.kinds)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the columns, parsed."""
        check_is_fitted(self)
        return pd.DataFrame({name: self._parse(X[name], kind) for name, kind in self.kinds.items()}, index=X.index)

    def _parse(self, column: pd.Series, kind: str) -> pd.Series:
        if kind == "date":
            parsed = _parse_column(with_dates(column.to_frame()).iloc[:, 0], self.decimal)[0]
            return parsed if is_datetime64_any_dtype(parsed) else pd.to_datetime(parsed, errors="coerce")
        if kind == "text":
            texts = column.map(str, na_action="ignore").astype(object)
            return texts.where(texts.notna(), np.nan)
        return pd.to_numeric(_parse_column(column, self.decimal)[0], errors="coerce").astype(np.float64)


@dataclass
class Encoding:
    """How the columns of a table are encoded as numbers.

    Attributes
    ----------
    table : DataFrame
        The columns that are used, as the transformer takes them.
    treatments : dict of str to dict
        For each treatment, its columns with a remark on each, perhaps empty.
    left_out : dict of str to str
        The columns that are not used, each with the reason.
    """

    table: pd.DataFrame
    treatments: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def transformer(self) -> ColumnTransformer | None:
        """Return the unfitted transformer, or None if all columns are numeric already."""
        if set(self.treatments) <= {AS_THEY_ARE}:
            return None
        # A column may have no value at all in the training rows: it becomes a constant, without a warning.
        mean = SimpleImputer(keep_empty_features=True)
        steps = {
            AS_THEY_ARE: "passthrough",
            FILLED: mean,
            FILLED_AND_MARKED: SimpleImputer(keep_empty_features=True, add_indicator=True),
            DATES: make_pipeline(DaysSinceFirst(), mean),
            ONE_HOT: OneHotEncoder(
                handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
            ),
        }
        return ColumnTransformer([(kind, steps[kind], list(names)) for kind, names in self.treatments.items()])

    def parser(self, decimal: str) -> ColumnParser:
        """Return the transformer that makes the table of another one with the same columns."""
        kinds = {ONE_HOT: "text", DATES: "date"}
        of_column = {name: kinds.get(kind, "number") for kind, names in self.treatments.items() for name in names}
        return ColumnParser({name: of_column[name] for name in self.table}, decimal)

    def lines(self, most: int = 10) -> Iterator[str]:
        """Yield a line for each treatment, with its columns.

        Parameters
        ----------
        most : int, default=10
            How many columns to name; the others are counted.
        """
        for kind, names in (self.treatments | {"left out": self.left_out}).items():
            if names:
                columns = (f"{name} ({remark})" if remark else name for name, remark in names.items())
                yield f"{kind}: {listed(columns, most)}"


def with_dates(table: pd.DataFrame) -> pd.DataFrame:
    """Parse text columns in which every value is a date; the other columns stay as they are."""
    return table.assign(**{name: _parse_dates(column) for name, column in table.items() if is_text(column)})


def encode(table: pd.DataFrame, decimal: str = ".") -> Encoding:
    """Choose an encoding for each column of a table.

    What depends on the training rows, such as means and categories, is left to the transformer.

    Parameters
    ----------
    table : DataFrame
        The features.
    decimal : {".", ","}, default="."
        The decimal mark in texts such as "1.5 km".

    Returns
    -------
    encoding : Encoding
    """
    encoding = Encoding(pd.DataFrame(index=table.index))
    columns, treatments = {}, {AS_THEY_ARE: {}, FILLED: {}, FILLED_AND_MARKED: {}, DATES: {}, ONE_HOT: {}}
    for name, column in with_dates(table).items():
        column, remark = _parse_column(column, decimal)
        if reason := _reason_to_leave_out(name, column):
            encoding.left_out[name] = reason
            continue
        kind, more = _choose_treatment(column)
        columns[name] = column
        treatments[kind][name] = "; ".join(filter(None, [remark, more]))
    encoding.table = pd.DataFrame(columns, index=table.index)
    encoding.treatments = {kind: names for kind, names in treatments.items() if names}
    return encoding


def as_targets(table: pd.DataFrame, decimal: str = ".") -> pd.DataFrame:
    """Parse target columns that hold numbers, with or without a unit; infinite numbers become missing values."""
    numbers = {
        name: column if is_bool_dtype(column) else _parse_column(column, decimal)[0]
        for name, column in with_dates(table).items()
    }
    return pd.DataFrame(numbers, index=table.index)


def _choose_treatment(column: pd.Series) -> tuple[str, str]:
    """Return the treatment of a column, and a remark on its values."""
    missing = int(column.isna().sum())
    remark = f"{missing} missing" if missing else ""
    if is_datetime64_any_dtype(column):
        return DATES, remark
    if not is_numeric_dtype(column):
        values = column.nunique() + (missing > 0)
        frequent = f"the {MOST_CATEGORIES - 1} most frequent of {values} values, and the rest"
        return ONE_HOT, f"{values} values" if values <= MOST_CATEGORIES else frequent
    if not missing:
        return AS_THEY_ARE, remark
    return (FILLED_AND_MARKED if missing >= _OFTEN_MISSING * len(column) else FILLED), remark


def _reason_to_leave_out(name: str, column: pd.Series) -> str:
    """Return why a column cannot help to predict, or an empty text if it may."""
    values, present = column.nunique(), int(column.notna().sum())
    if not present:
        return "empty"
    if values == 1 and present == len(column):
        return "always the same"
    if is_numeric_dtype(column):
        whole = values == len(column) and column.mod(1).eq(0).all()
        return "numbers the rows" if whole and re.fullmatch(_ROW_NUMBER_NAMES, name, re.IGNORECASE) else ""
    if not is_datetime64_any_dtype(column) and values > max(2, _NEARLY_ALL * present):
        return "nearly all values differ"
    return ""


def _parse_column(column: pd.Series, decimal: str) -> tuple[pd.Series, str]:
    """Return a column as float64, dates or texts, and a remark on how it was parsed."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert(None), ""
    if is_datetime64_any_dtype(column):
        return column, ""
    if is_timedelta64_dtype(column):
        return column / pd.Timedelta(days=1), "in days"
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        numbers = pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), column.index)
        return numbers.replace([np.inf, -np.inf], np.nan), ""
    texts = column.astype(object).map(str, na_action="ignore").astype(object)
    texts = texts.where(texts.notna(), np.nan)
    if is_text(column):
        return _parse_numbers(texts, decimal)
    return texts, ""


def _parse_numbers(texts: pd.Series, decimal: str) -> tuple[pd.Series, str]:
    """Parse texts as numbers, perhaps with a unit, if nearly all are numbers and all units are the same."""
    pattern = rf"[$€£¥]?\s*({number_pattern(decimal)})\s*([^\d\s.,+-]\D{{0,11}})?"
    if not texts.dropna().head(FEW).str.fullmatch(pattern).mean() > 0.5:
        return texts, ""
    parts = texts.str.extract(f"^{pattern}$")
    numbers = numbers_in(parts[0], decimal)
    units, present = parts[1].dropna().unique(), texts.notna()
    strays = texts[present & numbers.isna()]
    if len(units) > 1 or len(strays) > (1 - _NEARLY_ALL) * present.sum():
        return texts, ""
    if len(strays) and numbers.nunique() < 10:
        return texts, ""
    remarks = [f"in {unit}" for unit in units]
    if len(strays):
        remarks.append(f"{strays.iloc[0]!r} and the like are missing")
    return numbers, ", ".join(remarks)


def _parse_dates(texts: pd.Series) -> pd.Series:
    """Parse texts as dates, each by the first format that fits; return the texts if one of them is not a date."""
    few = texts.dropna().head(FEW).astype(str)
    if few.empty or not few.str.fullmatch(_LOOKS_LIKE_A_DATE, flags=re.IGNORECASE).all():
        return texts
    values = pd.Series(texts.dropna().unique(), dtype=object)
    if not values.astype(str).str.fullmatch(_LOOKS_LIKE_A_DATE, flags=re.IGNORECASE).all():
        return texts
    plain = values.str.replace("/", "-")
    named = plain.str.contains("[a-z]{3}", flags=re.IGNORECASE)
    if named.any():
        short = plain[named].str.replace(rf"{_MONTHS}[a-z]*\.?", r" \1 ", regex=True, flags=re.IGNORECASE)
        plain[named] = short.str.replace("[ ,-]+", " ", regex=True).str.strip()
    for order in (_MONTH_FIRST, _DAY_FIRST):
        formats = ["ISO8601", *(date + time for time in _TIMES for date in _DATES + order)]
        parsed = pd.Series(pd.NaT, index=plain.index, dtype="datetime64[us, UTC]")
        for each in formats:
            left = parsed.isna()
            if not left.any():
                found = parsed.dt.tz_localize(None)
                return texts.map(dict(zip(values, found, strict=True))).astype(found.dtype)
            parsed[left] = pd.to_datetime(plain[left], format=each, utc=True, errors="coerce")
    return texts
