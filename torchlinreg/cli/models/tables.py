"""Tables too large to be read at once, as chunks of rows."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from torchlinreg.cli.data import BUILT_IN, find_columns
from torchlinreg.cli.messages import UsageError, listed
from torchlinreg.inputs.files import PARQUET, find_format
from torchlinreg.inputs.streams.base import TableFiles, import_arrow
from torchlinreg.inputs.streams.csv import check_format, csv_chunks, read_heading
from torchlinreg.inputs.streams.parquet import parquet_chunks, read_names

__all__ = ["is_large", "open_chunks"]

LARGE_BYTES = 2**28  # of a file, that is read in chunks from that size on
COMPRESSED = {".gz", ".bz2", ".zip", ".xz", ".zst"}


def is_large(arguments: argparse.Namespace) -> bool:
    """Whether to read the data in chunks: if it is a large file, or if `chunk_rows` asks for that."""
    data = arguments.data
    if arguments.chunk_rows is not None:
        return True
    is_file = data not in BUILT_IN and os.path.isfile(data) and Path(data).suffix.lower() not in COMPRESSED
    return is_file and os.path.getsize(data) >= LARGE_BYTES


def open_chunks(
    arguments: argparse.Namespace,
    *,
    target: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    sample_weight: str | None = None,
    drop: Sequence[str] = (),
) -> TableFiles:
    """Open the user's file, with some of its columns.

    Parameters
    ----------
    arguments : Namespace
        With `data`, `chunk_rows`, `sep`, `encoding` and `decimal`.
    target, features : sequence of str, optional
        None makes features of all columns that are nothing else.
    sample_weight : str, optional
    drop : sequence of str, default=()
        Columns that are nothing at all.

    Raises
    ------
    UsageError
        If there is no such file or column.
    """
    data = arguments.data
    if data in BUILT_IN or not os.path.isfile(data):
        raise UsageError(f"there is no file {data!r} to read in chunks: give the path of a CSV or Parquet file")
    import_arrow()
    is_parquet, form = Path(data).suffix.lower() in PARQUET, {}
    if is_parquet:
        names = read_names(data)
    else:
        if Path(data).suffix.lower() in COMPRESSED:
            raise UsageError(f"{data} is compressed, and cannot be read in chunks: decompress it first")
        sep, decimal = find_format(data, arguments.sep, arguments.encoding, arguments.decimal)
        form = {"sep": sep, "decimal": decimal, "encoding": arguments.encoding or "utf-8"}
        names, _ = read_heading(data, check_format(**form))
    if target is not None:
        target = find_columns(data, target, names, "--target")
        weights = find_columns(data, [] if sample_weight is None else [sample_weight], names, "--sample-weight")
        apart = {*target, *weights, *find_columns(data, drop, names, "--drop")}
        features = [name for name in names if name not in apart]
        target = [name for name in target if name not in drop]
    elif missing := [name for name in features if name not in names]:
        raise UsageError(f"{data} lacks columns of the model: {listed(missing)}; it has {listed(names)}")
    read = parquet_chunks if is_parquet else csv_chunks
    single = target[0] if target is not None and len(target) == 1 else target
    options = {"features": features, "sample_weight": sample_weight, "chunk_rows": arguments.chunk_rows}
    return read(data, single, **options, **form)
