"""The subcommand `torchlinreg predict`: predictions of a saved model for the rows of a file, in their order."""

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from torchlinreg.cli.data import BUILT_IN, read_file
from torchlinreg.cli.messages import UsageError, listed, one_line
from torchlinreg.cli.models.files import check_folder, load_model, writing
from torchlinreg.cli.models.tables import is_large, open_chunks
from torchlinreg.inputs.files import PARQUET

__all__ = ["run_predict"]


def run_predict(arguments: argparse.Namespace) -> None:
    """Predict for the data that the arguments name, and save the predictions.

    Parameters
    ----------
    arguments : Namespace
        Those of the subcommand.

    Raises
    ------
    UsageError
        If the model or the data cannot be used, or if the predictions cannot be saved.
    """
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one predicts: rows keep their order
        return
    kind = arguments.output.suffix.lower()
    if kind not in PARQUET | {".csv"}:
        raise UsageError(f"cannot tell what kind of file {arguments.output} is: end its name in .parquet or .csv")
    check_folder(arguments.output)
    model = load_model(arguments.model)
    try:
        parts = _frames(model, _tables(arguments, model))
        with writing(arguments.output) as unfinished:
            n_rows = (_write_csv if kind == ".csv" else _write_parquet)(parts, unfinished)
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UsageError(one_line(error)) from error
    print(f"{arguments.data}: {n_rows} rows\nsaved {arguments.output}")


def _tables(arguments: argparse.Namespace, model: BaseEstimator) -> Iterator[pd.DataFrame]:
    """Yield the features, in chunks if the file is large."""
    names = list(model.feature_names_in_)
    if is_large(arguments) and not isinstance(model, Pipeline):  # whose columns may be texts
        chunks = open_chunks(arguments, features=names)
        buffer = chunks.new_buffer()
        for number in range(len(chunks)):
            yield chunks.read(number, buffer)[0]
        return
    table = BUILT_IN[arguments.data]().frame if arguments.data in BUILT_IN else read_file(arguments)[0]
    if missing := [name for name in names if name not in table]:
        raise UsageError(f"{arguments.data} lacks columns of the model: {listed(missing)}; it has {listed(table)}")
    if table.empty:
        raise UsageError(f"{arguments.data} holds no rows to predict for")
    yield table[names]


def _frames(model: BaseEstimator, tables: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yield the predictions for each table, in columns that are named like the targets."""
    for table in tables:
        predicted = model.predict(table)
        predicted = predicted.reshape(len(predicted), -1)
        names = getattr(model, "target_names_", None)
        if names is None or len(names) != predicted.shape[1]:
            names = ["prediction"] if predicted.shape[1] == 1 else np.arange(predicted.shape[1]).astype(str)
        yield pd.DataFrame(predicted, columns=list(names))


def _write_csv(parts: Iterable[pd.DataFrame], file: Path) -> int:
    n_rows = 0
    with open(file, "w", encoding="utf-8", newline="") as out:
        for part in parts:
            part.to_csv(out, index=False, header=n_rows == 0)
            n_rows += len(part)
    return n_rows


def _write_parquet(parts: Iterable[pd.DataFrame], file: Path) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('writing Parquet needs pyarrow: pip install "torchlinreg[parquet]"') from error
    n_rows, writer = 0, None
    try:
        for part in parts:
            table = pa.Table.from_pandas(part, preserve_index=False)
            writer = writer or parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
            n_rows += len(part)
    finally:
        if writer is not None:
            writer.close()
    return n_rows
