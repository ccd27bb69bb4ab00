"""What to do with columns that are no numbers: a ColumnTransformer made for a table, and plain words for it."""

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

from torchlinreg.inputs.files import FEW, is_text, number_pattern, numbers_in

__all__ = ["DaysSinceFirst", "Encoding", "as_targets", "encode", "with_dates"]

MOST_CATEGORIES = 20
_NEARLY_ALL = 0.9
_OFTEN_MISSING = 0.05  # share of the rows from which a column that tells them is worth its coefficient

AS_THEY_ARE = "numbers as they are"
FILLED = "missing values filled with the mean"
TOLD = "filled with the mean, and missing or not in a column more"
DATES = "days since the first date"
ONE_HOT = "one-hot"
_NUMBERS_ROWS = r"unnamed: 0|index|(?:.*[\W_])?id"

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
    """Turn columns of dates into days since the earliest date of each on the rows fitted on; no date is NaN.

    Attributes
    ----------
    first_ : Series of length n_features
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    """

    def fit(self, X: pd.DataFrame, y: Any = None) -> "DaysSinceFirst":
        """Find the earliest dates."""
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = X.shape[1]
        self.first_ = X.min()
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Count days from them."""
        check_is_fitted(self)
        return ((X - self.first_) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)


@dataclass
class Encoding:
    """How the features of a table become numbers.

    Attributes
    ----------
    table : DataFrame
        The features that are used, as the transformer takes them.
    treatments : dict of str to dict
        For each treatment the columns that get it, with a remark on each, perhaps empty.
    left_out : dict of str to str
        The columns that are not used, and why.
    """

    table: pd.DataFrame
    treatments: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def transformer(self) -> ColumnTransformer | None:
        """Return the unfitted transformer; None where all columns are numbers already."""
        if set(self.treatments) <= {AS_THEY_ARE}:
            return None
        # A column without any value on the training rows is a constant, and not a complaint.
        mean = SimpleImputer(keep_empty_features=True)
        steps = {
            AS_THEY_ARE: "passthrough",
            FILLED: mean,
            TOLD: SimpleImputer(keep_empty_features=True, add_indicator=True),
            DATES: make_pipeline(DaysSinceFirst(), mean),
            ONE_HOT: OneHotEncoder(
                handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
            ),
        }
        return ColumnTransformer([(kind, steps[kind], list(names)) for kind, names in self.treatments.items()])

    def lines(self, most: int = 10) -> Iterator[str]:
        """Say in a line for each treatment which columns get it.

        Parameters
        ----------
        most : int, default=10
            Columns to name; of more, only the number is told.
        """
        for kind, names in (self.treatments | {"left out": self.left_out}).items():
            if names:
                told = [f"{name} ({remark})" if remark else name for name, remark in names.items()]
                more = [f"and {len(told) - most} more"] if len(told) > most else []
                yield f"{kind}: {', '.join(told[:most] + more)}"


def with_dates(table: pd.DataFrame) -> pd.DataFrame:
    """Read the columns of texts that are all dates as dates; the others stay as they are."""
    return table.assign(**{name: _dates(column) for name, column in table.items() if is_text(column)})


def encode(table: pd.DataFrame, decimal: str = ".") -> Encoding:
    """Decide what to do with each column of a table, without learning from its rows what a transformer will learn.

    Parameters
    ----------
    table : DataFrame
    decimal : {".", ","}, default="."
        The decimal mark in texts such as "1.5 km".

    Returns
    -------
    encoding : Encoding
    """
    encoding = Encoding(pd.DataFrame(index=table.index))
    columns, treatments = {}, {AS_THEY_ARE: {}, FILLED: {}, TOLD: {}, DATES: {}, ONE_HOT: {}}
    for name, column in with_dates(table).items():
        column, remark = _recognised(column, decimal)
        if reason := _useless(name, column):
            encoding.left_out[name] = reason
            continue
        kind, more = _treatment(column)
        columns[name] = column
        treatments[kind][name] = "; ".join(filter(None, [remark, more]))
    encoding.table = pd.DataFrame(columns, index=table.index)
    encoding.treatments = {kind: names for kind, names in treatments.items() if names}
    return encoding


def as_targets(table: pd.DataFrame, decimal: str = ".") -> pd.DataFrame:
    """Read columns to predict as numbers where they are numbers, with or without a unit; infinite ones as missing."""
    numbers = {
        name: column if is_bool_dtype(column) else _recognised(column, decimal)[0]
        for name, column in with_dates(table).items()
    }
    return pd.DataFrame(numbers, index=table.index)


def _treatment(column: pd.Series) -> tuple[str, str]:
    """Choose the treatment of a column, and say what is remarkable about it."""
    missing = int(column.isna().sum())
    told = f"{missing} missing" if missing else ""
    if is_datetime64_any_dtype(column):
        return DATES, told
    if not is_numeric_dtype(column):
        values = column.nunique() + (missing > 0)
        often = f"the {MOST_CATEGORIES - 1} most frequent of {values} values, and the rest"
        return ONE_HOT, f"{values} values" if values <= MOST_CATEGORIES else often
    if not missing:
        return AS_THEY_ARE, told
    return (TOLD if missing >= _OFTEN_MISSING * len(column) else FILLED), told


def _useless(name: str, column: pd.Series) -> str:
    """Say why there is nothing to learn from a column; an empty text if there may be."""
    values, present = column.nunique(), int(column.notna().sum())
    if not present:
        return "empty"
    if values == 1 and present == len(column):
        return "always the same"
    if is_numeric_dtype(column):
        whole = values == len(column) and column.mod(1).eq(0).all()
        return "numbers the rows" if whole and re.fullmatch(_NUMBERS_ROWS, name, re.IGNORECASE) else ""
    if not is_datetime64_any_dtype(column) and values > max(2, _NEARLY_ALL * present):
        return "nearly all values differ"
    return ""


def _recognised(column: pd.Series, decimal: str) -> tuple[pd.Series, str]:
    """Bring a column to float64, dates, or texts; and remark on what was read into it."""
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
        return _measured(texts, decimal)
    return texts, ""


def _measured(texts: pd.Series, decimal: str) -> tuple[pd.Series, str]:
    """Read texts as numbers if nearly all are numbers, be they with a unit, the same one everywhere."""
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


def _dates(texts: pd.Series) -> pd.Series:
    """Read texts as dates, each by the first format that fits, if all are dates; else give them back."""
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
