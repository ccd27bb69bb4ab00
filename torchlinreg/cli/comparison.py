"""The subcommand `torchlinreg compare`: estimators compared on the user's data, printed and drawn."""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from torchlinreg.analysis.compare import compare, default_estimators
from torchlinreg.cli.data import load
from torchlinreg.cli.encoding import Encoding, encode
from torchlinreg.cli.messages import UsageError, listed, one_line
from torchlinreg.cli.picture import MOST_TARGETS, draw
from torchlinreg.displays.drawing import import_matplotlib
from torchlinreg.estimators.regressor import TorchLinearRegressor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["run_compare"]

_LINE_WIDTH = 80


def run_compare(arguments: argparse.Namespace) -> None:
    """Compare the estimators on the data that the arguments name, and print the results.

    Parameters
    ----------
    arguments : Namespace
        Those of the subcommand.

    Raises
    ------
    UsageError
        If the data cannot be read or used, if an estimator refuses it, or if the figure cannot be saved.
    """
    if arguments.plot is not None:
        _check_plot(arguments.plot)
    X, y, decimal = load(arguments)
    n_rows, encoding = len(X), None
    if arguments.encode:
        X, y = X[y.notna().all(axis=1)], y.dropna()
        encoding = encode(X, decimal)
        X = encoding.table
        if X.empty:
            raise UsageError(f"{arguments.data} keeps no {'row' if y.empty else 'feature column'} to learn from")
    seed, test_size = arguments.random_state, arguments.test_size
    model = TorchLinearRegressor(random_state=seed, device=arguments.device, backend=arguments.backend)
    estimators = default_estimators(y.shape[1], random_state=seed, torch_regressor=model)
    print(f"{arguments.data}: {len(X)} rows, {test_size:.0%} of them held out")
    if n_rows > len(X):
        print(f"{n_rows - len(X)} more without target, left out")
    print(f"{_counted('feature', X.columns)}\n{_counted('target', y.columns)}")
    if encoding is not None:
        _print_encoding(encoding)
        estimators = _with_transformer(estimators, encoding)
    print(flush=True)
    try:
        results = compare(X, y, estimators, test_size=test_size, random_state=seed)
        print(
            f"{_formatted(results)}\n\nR2: 1 is perfect{', mean over the targets' if y.shape[1] > 1 else ''}; "
            "seconds: median of three runs"
        )
        if arguments.plot is not None:
            split = train_test_split(X, y, test_size=test_size, random_state=seed)
            _save(draw(estimators["TorchLinearRegressor"], *split), arguments.plot)
            first = f", which shows the first {MOST_TARGETS} targets" if y.shape[1] > MOST_TARGETS else ""
            print(f"\nsaved {arguments.plot}{first}")
    except (ValueError, RuntimeError) as error:  # from the estimators: too few rows, no such device
        raise UsageError(one_line(error)) from error


def _counted(kind: str, names: Sequence[str]) -> str:
    """Return the number of features or targets, and their names."""
    return f"{len(names)} {kind}{'s'[: len(names) != 1]}: {listed(names, 10)}"


def _print_encoding(encoding: Encoding) -> None:
    """Print how each column is encoded."""
    print("encoded as follows, by what is learnt from the training rows:")
    for line in encoding.lines():
        print(textwrap.fill(line, _LINE_WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False))


def _with_transformer(estimators: dict[str, BaseEstimator], encoding: Encoding) -> dict[str, BaseEstimator]:
    """Return each estimator in a pipeline behind the transformer, if one is needed."""
    transformer = encoding.transformer()
    if transformer is None:
        return estimators
    return {name: make_pipeline(transformer, model) for name, model in estimators.items()}


def _formatted(results: pd.DataFrame) -> str:
    """Return the results as text, with headings of two lines so that it fits on 80 columns."""
    formats = [_score, _score, "{:.2e}".format, "{:.5f}".format, "{:.5f}".format]
    headings = [tuple(name.rsplit(" ", 1)) for name in results.columns]
    cells = pd.DataFrame(
        {heading: results[name].map(shape) for heading, name, shape in zip(headings, results, formats, strict=True)}
    )
    return cells.rename_axis(None).to_string()


def _score(R2: float) -> str:
    return f"{R2:.4f}" if abs(R2) < 1000 else f"{R2:.1e}"


def _check_plot(file: Path) -> None:
    """Refuse a file that the figure cannot be saved as, before the estimators are fitted."""
    try:
        matplotlib = import_matplotlib("--plot")
    except ImportError as error:
        raise UsageError(error) from error
    formats = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    if file.suffix.lower().removeprefix(".") not in formats:
        raise UsageError(f"cannot tell what kind of picture {file} is: end its name in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise UsageError(f"cannot save {file}: there is no folder {file.parent}; make it first")


def _save(figure: "Figure", file: Path) -> None:
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise UsageError(f"cannot save {file}: {error.strerror or error}; choose another place") from error
