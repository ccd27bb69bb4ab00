"""The subcommand `torchlinreg fit`: a model from a file, of any size, and by several processes if asked to."""

import argparse
import ast
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from torchlinreg.cli.data import find_columns, load
from torchlinreg.cli.encoding import encode
from torchlinreg.cli.messages import UsageError, one_line
from torchlinreg.cli.models.files import check_folder, import_skops, save_model
from torchlinreg.cli.models.tables import is_large, open_chunks
from torchlinreg.estimators.regressor import TorchLinearRegressor

__all__ = ["PARAMETERS", "parse_parameter", "run_fit"]

PARAMETERS = ("loss", "penalty", "alpha", "learning_rate", "max_iter", "random_state", "device", "backend")
"""Those of the estimator that have options of their own."""


def run_fit(arguments: argparse.Namespace) -> None:
    """Fit a model to the data that the arguments name, and save it.

    Started by torchrun, the processes share the chunks of the file, and the first one saves.

    Parameters
    ----------
    arguments : Namespace
        Those of the subcommand.

    Raises
    ------
    UsageError
        If the data or a parameter cannot be used, or if the model cannot be saved.
    """
    import_skops()
    check_folder(arguments.output)
    given = {name: getattr(arguments, name) for name in PARAMETERS if getattr(arguments, name) is not None}
    try:
        estimator = TorchLinearRegressor().set_params(**given, **dict(arguments.set))
        with process_group() as group:
            in_chunks = group is not None or arguments.checkpoint is not None or is_large(arguments)
            fit = _fit_chunks if in_chunks else _fit_table
            model, targets = fit(arguments, estimator, group)
            if group is None or group.rank() == 0:
                model.target_names_ = np.array(targets, dtype=object)
                save_model(model, arguments.output)
                print(f"{_described(arguments.data, model, estimator)}\nsaved {arguments.output}")
    except (ValueError, TypeError, RuntimeError, ImportError, OSError) as error:
        raise UsageError(one_line(error)) from error


def parse_parameter(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE, with a value of Python or, if it is none, a text."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """Parse a value of Python; what is none stays a text."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


@contextmanager
def process_group() -> Iterator[Any]:
    """Join the processes that torchrun has started together; None if it has not."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        yield None
        return
    import torch.distributed as dist  # noqa: PLC0415 - takes a while

    dist.init_process_group("gloo")
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


def _fit_chunks(arguments: argparse.Namespace, estimator: TorchLinearRegressor, group) -> tuple[BaseEstimator, list]:
    if arguments.encode:
        raise UsageError("--encode needs the whole table in memory: leave it out, or encode the table first")
    if not arguments.target:
        raise UsageError(f"name the column of {arguments.data} to predict with --target COL")
    names = {"target": arguments.target, "sample_weight": arguments.sample_weight, "drop": arguments.drop}
    chunks = open_chunks(arguments, **names)
    estimator.fit_chunks(chunks, process_group=group, checkpoint=arguments.checkpoint)
    return estimator, chunks.columns.targets


def _fit_table(arguments: argparse.Namespace, estimator: TorchLinearRegressor, group) -> tuple[BaseEstimator, list]:
    X, y, decimal = load(arguments)
    weight = None
    if arguments.sample_weight is not None:
        (name,) = find_columns(arguments.data, [arguments.sample_weight], list(X.columns), "--sample-weight")
        weight = X.pop(name)
    model, parameters = estimator, {"sample_weight": weight}
    if arguments.encode:
        kept = y.notna().all(axis=1)
        X, y, weight = X[kept], y[kept], None if weight is None else weight[kept]
        encoding = encode(X, decimal)
        if encoding.table.empty:
            raise UsageError(f"{arguments.data} keeps no {'row' if y.empty else 'feature column'} to learn from")
        transformer = encoding.transformer()
        if transformer is not None:
            transformer.set_output(transform="pandas")  # so that columns have names in messages
        model = make_pipeline(encoding.parser(decimal), transformer or "passthrough", estimator)
        parameters = {"torchlinearregressor__sample_weight": weight}
    model.fit(X, y.iloc[:, 0] if y.shape[1] == 1 else y, **parameters)
    return model, list(y.columns)


def _described(data: str, model: BaseEstimator, estimator: TorchLinearRegressor) -> str:
    """Return what was learnt, in a few lines."""
    end = "converged" if estimator.converged_ else "stopped before it converged"
    lines = [f"{data}: {end} after {estimator.n_iter_} epoch{'s'[: estimator.n_iter_ != 1]}"]
    if estimator.optimality_gap_ is not None:
        lines[0] += f", optimality gap {estimator.optimality_gap_:.0e}"
    table = pd.DataFrame(np.atleast_2d(estimator.coef_).T, estimator.feature_names_in_, list(model.target_names_))
    table.loc["(intercept)"] = estimator.intercept_
    shown = table if len(table) <= 25 else pd.concat([table.head(23), table.tail(1)])
    lines.append(shown.to_string(float_format="{:.6g}".format))
    if len(shown) < len(table):
        lines.append(f"and {len(table) - len(shown)} more")
    return "\n".join(lines)
