"""Tables from CSV and Parquet files: separator, encoding and decimal mark are recognised, texts become numbers."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from torchlinreg.inputs.frames import is_text, unusable

__all__ = ["FEW", "PARQUET", "find_format", "is_text", "number_pattern", "numbers_in", "read_table", "unusable"]

PARQUET = {".parquet", ".pq"}
_SEPARATORS = ",;\t|"
_MISSING = ["", "?", "-", "--", ".", "na", "Na", "N.A.", "n.a.", "none", "Null", "NIL", "nil", "missing", "#REF!"]
_MISSING += ["NA", "N/A", "n/a", "<NA>", "NaN", "nan", "null", "NULL", "None", "#N/A", "#VALUE!", "#DIV/0!"]
# A separator that no text contains: pandas, which opens compressed files and URLs too, then returns whole lines
_NO_SEPARATOR = "\x1f"
_SAMPLE_LINES = 200
FEW = 1000  # texts that are looked at before all of them: most columns of texts show early that they are no numbers


def read_table(
    path: str, *, sep: str | None = None, encoding: str | None = None, decimal: str | None = None
) -> tuple[pd.DataFrame, str]:
    r"""Read a file by its ending: Parquet, or else CSV (compressed ones too, as pandas does).

    Names and texts are stripped of spaces, repeated names are numbered, the usual words for a missing value become NaN,
    and columns of texts that are all numbers, such as 1,234, become numeric.

    Parameters
    ----------
    path : str
    sep : str, default=None
        Separator of a CSV file, as for :func:`pandas.read_csv`; None chooses among comma, semicolon, tab, pipe and
        spaces by the first lines.
    encoding : str, default=None
        Encoding of a CSV file; None means UTF-8.
    decimal : {".", ","}, default=None
        The decimal mark of a CSV file; None decides by the first lines.

    Returns
    -------
    table : DataFrame
    decimal : str
        The decimal mark of the file.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, or has a single column; the message says what to try.
    FileNotFoundError, ImportError
        If there is no such file, or no pyarrow to read it.
    """
    if Path(path).suffix.lower() in PARQUET:
        return _tidied(_read_parquet(path), "."), "."
    try:
        # The file is read twice, and a pipe can be read once only
        whole = Path(path).read_bytes() if Path(path).is_fifo() else None
        sep, decimal = find_format(path if whole is None else BytesIO(whole), sep, encoding, decimal)
        table = _read_csv(path if whole is None else BytesIO(whole), sep, encoding, decimal)
    except FileNotFoundError:
        raise
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty: give a table with a heading and at least a few rows") from error
    except UnicodeError as error:
        utf_16 = isinstance(error, UnicodeDecodeError) and error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise ValueError(
            f"cannot read {path} as CSV: it is not {encoding or 'UTF-8'}; name its encoding, for example "
            f"--encoding {'utf-16' if utf_16 else 'latin-1'}"
        ) from error
    except Exception as error:  # pandas and the decompressors each raise their own kinds
        raise ValueError(_unreadable(path, "CSV", error)) from error
    if table.shape[1] == 1:
        raise ValueError(
            f"{path} came out as one column, {str(table.columns[0])!r}: say what separates its columns with --sep, "
            r"for example --sep ':' or --sep '\s+' for spaces"
        )
    return _tidied(table, decimal), decimal


def find_format(source: str | BytesIO, sep: str | None, encoding: str | None, decimal: str | None) -> tuple[str, str]:
    """Return the separator and the decimal mark of a CSV file: those given, or what its first lines look like."""
    sample = _first_lines(source, encoding)
    sep = {r"\t": "\t", "tab": "\t"}.get(sep, sep) or _separator(sample)
    return sep, decimal or _decimal(sample, sep)


def number_pattern(decimal: str) -> str:
    """Return a regular expression for a number, with or without marks between its thousands."""
    mark, group = re.escape(decimal), "[.'’\u00a0\u202f ]" if decimal == "," else "[,'’\u00a0\u202f ]"
    return rf"[+−-]?(?:\d{{1,3}}(?:{group}\d{{3}})+(?:{mark}\d*)?|\d+(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?"


def numbers_in(texts: pd.Series, decimal: str) -> pd.Series:
    """Read texts as numbers where they match `number_pattern`; the others become NaN."""
    texts = texts.astype(object).str.replace("−", "-", regex=False)
    texts = texts.where(texts.str.fullmatch(number_pattern(decimal)).eq(True))
    plain = texts.str.replace(rf"[^\d{re.escape(decimal)}eE+-]", "", regex=True)
    return pd.to_numeric(plain.str.replace(decimal, ".", regex=False)).astype(np.float64)


def _unreadable(path: str, kind: str, error: Exception) -> str:
    return f"cannot read {path} as {kind}: {error}; check that the file is whole and its ending tells its kind"


def _read_parquet(path: str) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise ImportError('reading Parquet needs pyarrow: pip install "torchlinreg[parquet]"') from error
    except Exception as error:  # pyarrow raises kinds of its own
        raise ValueError(_unreadable(path, "Parquet", error)) from error
    return table if table.index.names == [None] else table.reset_index()


def _read_csv(source: str | BytesIO, sep: str, encoding: str | None, decimal: str) -> pd.DataFrame:
    # By default the C parser infers types chunk by chunk, and mixes them within a column
    engine = {"low_memory": False} if len(sep) == 1 or sep == r"\s+" else {"engine": "python"}
    return pd.read_csv(
        source, sep=sep, encoding=encoding, decimal=decimal, na_values=_MISSING, skipinitialspace=True, **engine
    )


def _first_lines(source: str | BytesIO, encoding: str | None) -> list[str]:
    lines = pd.read_csv(
        source,
        sep=_NO_SEPARATOR,
        encoding=encoding,
        header=None,
        dtype=str,
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        nrows=_SAMPLE_LINES,
    )
    return lines.iloc[:, 0].tolist()


def _cells(lines: list[str], sep: str) -> list[list[str]]:
    """Split lines into cells, without the last row, which may be incomplete."""
    if len(sep) > 1:  # a regular expression
        return [re.split(sep, line) for line in lines]
    rows = list(csv.reader((f"{line}\n" for line in lines), delimiter=sep, skipinitialspace=True))
    return rows[:-1] if len(rows) > 2 else rows


def _separator(lines: list[str]) -> str:
    """Return the separator with which most rows have as many cells as the heading, more than one.

    Spaces occur in headings and texts: they are the separator only if no other is, and all rows have as many cells.
    """

    def fit(sep: str) -> tuple[float, int]:
        counts = [len(row) for row in _cells(lines, sep)]
        return counts.count(counts[0]) / len(counts) if counts[0] > 1 else 0.0, counts[0]

    best = max(_SEPARATORS, key=fit)
    spaced = {len(row) for row in _cells([line.strip() for line in lines], " ")}
    return r"\s+" if fit(best)[0] == 0 and len(spaced) == 1 and max(spaced) > 1 else best


def _decimal(lines: list[str], sep: str) -> str:
    """Return the decimal mark; 1,234 is a thousand unless semicolons separate the columns."""
    comma = r"[+-]?[\d.]*\d,\d+" if sep == ";" else r"[+-]?[\d.]*\d,(?:\d{1,2}|\d{4,})"
    kinds = Counter()
    for row in _cells(lines, sep):
        for cell in row:
            kinds[","] += bool(re.fullmatch(comma, cell.strip()))
            kinds["."] += bool(re.fullmatch(r"[+-]?\d*\.\d+", cell.strip()))
    return "," if kinds[","] > kinds["."] else "."


def _tidied(table: pd.DataFrame, decimal: str) -> pd.DataFrame:
    """Strip names and texts, and convert columns of texts that are all numbers."""
    # A separator at the end of every line makes a last column without name or values
    table = table.loc[:, [not (str(name).startswith("Unnamed: ") and table[name].isna().all()) for name in table]]
    names = _numbered(str(name).strip() for name in table.columns)
    columns = [column for _, column in table.items()]
    return pd.DataFrame(
        {name: _tidied_column(column, decimal) for name, column in zip(names, columns, strict=True)}, index=table.index
    )


def _numbered(names: Iterable[str]) -> list[str]:
    """Make names unique as pandas does: a, a.1, a.2."""
    unique: dict[str, None] = {}
    for name in names:
        numbered, count = name, 0
        while numbered in unique:
            count += 1
            numbered = f"{name}.{count}"
        unique[numbered] = None
    return list(unique)


def _tidied_column(column: pd.Series, decimal: str) -> pd.Series:
    if not is_text(column):
        return column
    texts = column.map(str, na_action="ignore").astype(object).str.strip()
    texts = texts.where(~texts.isin(_MISSING), np.nan)
    few = texts.dropna().head(FEW)
    if numbers_in(few, decimal).isna().any():
        return texts
    numbers = numbers_in(texts, decimal)
    return numbers if numbers.notna().eq(texts.notna()).all() else texts
