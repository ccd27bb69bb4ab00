"""The `torchlinreg` command."""

import argparse
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from torchlinreg import __version__
from torchlinreg.analysis.compare import compare, default_estimators
from torchlinreg.cli.encoding import Encoding, as_targets, encode, with_dates
from torchlinreg.cli.picture import MOST_TARGETS, draw
from torchlinreg.datasets import load_crop_yields
from torchlinreg.displays.drawing import import_matplotlib
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.inputs.files import read_table, unusable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["main"]

# Diabetes in years, kg/m² and so on, not standardised: raw columns are what a regression meets in life.
_BUILT_IN: dict[str, Callable[[], Any]] = {
    "diabetes": lambda: load_diabetes(as_frame=True, scaled=False),
    "linnerud": lambda: load_linnerud(as_frame=True),
    "crops": lambda: load_crop_yields(as_frame=True),
}
_MOST_NAMES = 20
_WIDTH = 80


class _UsageError(Exception):
    """What the user can mend, in one line or a short list that says how."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments after the program's name; None takes those of the process.

    Returns
    -------
    status : int
        0, or 2 after an error that the user can mend; it is told on the standard error, in a line or a short list.

    Raises
    ------
    SystemExit
        From argparse: after `--help` and `--version`, and for arguments that it cannot read.
    """
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            arguments.run(arguments)
        except _UsageError as error:
            print(f"torchlinreg: error: {error}", file=sys.stderr)
            return 2
    return 0


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"torchlinreg: warning: {_one_line(message)}", file=sys.stderr)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _parser() -> argparse.ArgumentParser:
    """Each subcommand is one function that adds its arguments and names the function that runs it."""
    parser = argparse.ArgumentParser(prog="torchlinreg", description="Linear regression by mini-batch SGD in PyTorch.")
    parser.add_argument("--version", action="version", version=f"torchlinreg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_compare(commands)
    return parser


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare TorchLinearRegressor with scikit-learn's linear regressions",
        description="Fit LinearRegression, Ridge, SGDRegressor (scaled) and TorchLinearRegressor on the same "
        "rows, and print how well and how fast each does.",
    )
    parser.set_defaults(run=_compare)
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        default="diabetes",
        help=f"{', '.join(_BUILT_IN)} or the path of a CSV or Parquet file (default: diabetes)",
    )
    parser.add_argument(
        "--target",
        metavar="COL",
        action="append",
        help="column to predict; repeat it for several. A file's other columns are its features",
    )
    parser.add_argument(
        "--drop",
        metavar="COL",
        action="append",
        default=[],
        help="column to leave out; repeat it for several",
    )
    parser.add_argument(
        "--encode",
        action="store_true",
        help="turn texts, dates and gaps into numbers, and say how; leave out rows without target",
    )
    parser.add_argument("--sep", metavar="SEP", help="what separates the columns of a CSV file (default: found out)")
    parser.add_argument("--encoding", metavar="NAME", help="encoding of a CSV file (default: UTF-8)")
    parser.add_argument("--decimal", choices=[".", ","], help="decimal mark of a CSV file (default: found out)")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        help="save predicted against actual values, residuals and the largest coefficients (.png, .svg, .pdf)",
    )
    parser.add_argument(
        "--test-size",
        type=_share,
        default=0.25,
        metavar="SHARE",
        help="share of the rows to hold out (default: 0.25)",
    )
    parser.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed (default: 0)")
    parser.add_argument("--device", help='where to train: "auto", "cpu", "cuda", "cuda:1", "mps" (default: cpu)')
    parser.add_argument("--backend", default="auto", choices=["auto", "analytic", "autograd", "linear"])


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _compare(arguments: argparse.Namespace) -> None:
    if arguments.plot is not None:
        _check_plot(arguments.plot)
    X, y, decimal = _load(arguments)
    rows, encoding = len(X), None
    if arguments.encode:
        X, y = X[y.notna().all(axis=1)], y.dropna()
        encoding = encode(X, decimal)
        X = encoding.table
        if X.empty:
            raise _UsageError(f"{arguments.data} keeps no {'row' if y.empty else 'feature column'} to learn from")
    seed, test_size = arguments.random_state, arguments.test_size
    model = TorchLinearRegressor(random_state=seed, device=arguments.device, backend=arguments.backend)
    estimators = default_estimators(y.shape[1], random_state=seed, torch_regressor=model)
    print(f"{arguments.data}: {len(X)} rows, {test_size:.0%} of them held out")
    if rows > len(X):
        print(f"{rows - len(X)} more without target, left out")
    print(f"{_listed('feature', X.columns)}\n{_listed('target', y.columns)}")
    if encoding is not None:
        estimators = _encoded(estimators, encoding)
    print(flush=True)
    try:
        table = compare(X, y, estimators, test_size=test_size, random_state=seed)
        print(
            f"{_printable(table)}\n\nR2: 1 is perfect{', mean over the targets' if y.shape[1] > 1 else ''}; "
            "seconds: median of three runs"
        )
        if arguments.plot is not None:
            split = train_test_split(X, y, test_size=test_size, random_state=seed)
            _save(draw(estimators["TorchLinearRegressor"], *split), arguments.plot)
            first = f", which shows the first {MOST_TARGETS} targets" if y.shape[1] > MOST_TARGETS else ""
            print(f"\nsaved {arguments.plot}{first}")
    except (ValueError, RuntimeError) as error:
        # What estimators refuse (too few rows, no such device) they refuse by these, with the reason.
        raise _UsageError(_one_line(error)) from error


def _encoded(estimators: dict[str, BaseEstimator], encoding: Encoding) -> dict[str, BaseEstimator]:
    """Put the transformer before each estimator, and say what it does."""
    print("encoded as follows, by what is learnt from the training rows:")
    for line in encoding.lines():
        print(textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False))
    transformer = encoding.transformer()
    if transformer is None:
        return estimators
    return {name: make_pipeline(transformer, model) for name, model in estimators.items()}


def _listed(kind: str, names: Sequence[str]) -> str:
    return f"{len(names)} {kind}{'s'[: len(names) != 1]}: {_names(names, 10)}"


def _printable(table: pd.DataFrame) -> str:
    """Lay the table out with headings of two lines, so that it fits on 80 columns."""
    formats = [_score, _score, "{:.2e}".format, "{:.5f}".format, "{:.5f}".format]
    headings = [tuple(name.rsplit(" ", 1)) for name in table.columns]
    cells = pd.DataFrame(
        {heading: table[name].map(shape) for heading, name, shape in zip(headings, table, formats, strict=True)}
    )
    return cells.rename_axis(None).to_string()


def _score(R2: float) -> str:
    return f"{R2:.4f}" if abs(R2) < 1000 else f"{R2:.1e}"


def _load(arguments: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Read the table, and give features and targets, at least a column of each, and the decimal mark of its texts."""
    data, drop, decimal = arguments.data, arguments.drop, "."
    if data in _BUILT_IN:
        bunch = _BUILT_IN[data]()
        frame, candidates = bunch.frame, list(bunch.frame.columns.drop(bunch.feature_names))
        targets = _columns(data, arguments.target or candidates, candidates, "--target")
        drop = [*drop, *(name for name in candidates if name not in targets)]
    else:
        frame, decimal = _read(arguments)
        candidates = list(frame.columns)
        if frame.empty:
            raise _UsageError(f"{data} holds no rows: give a table with a heading and at least a few rows")
        if not arguments.target:
            raise _UsageError(f"name the column of {data} to predict with --target COL; it has {_names(candidates)}")
        targets = _columns(data, arguments.target, candidates, "--target")
    drop = _columns(data, drop, list(frame.columns), "--drop")
    X = frame.drop(columns=[*targets, *drop])
    y = frame[[name for name in targets if name not in drop]]
    if X.empty or y.empty:
        raise _UsageError(f"{data} keeps no {'feature' if X.empty else 'target'} column: drop fewer")
    if arguments.encode:
        y = as_targets(y, decimal)
    _check_targets(data, y, frame)
    if not arguments.encode:
        _check_usable(data, with_dates(pd.concat([X, y], axis=1)))
    return X, y, decimal


def _columns(data: str, names: list[str], known: list[str], option: str) -> list[str]:
    """Find each name among the columns, spaces around it aside, and once."""
    found = dict.fromkeys(name if name in known else name.strip() for name in names)
    for name in found:
        if name not in known:
            by_lower_case = {each.lower(): each for each in reversed(known)}
            near = [by_lower_case[each] for each in get_close_matches(name.lower(), by_lower_case)]
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise _UsageError(f"{data} has no column {name!r} for {option}: choose from {_names(known)}{hint}")
    return list(found)


def _names(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    names = list(names)
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join(names[:most] + more)


def _check_targets(data: str, y: pd.DataFrame, frame: pd.DataFrame) -> None:
    for name, column in y.items():
        if not is_numeric_dtype(column):
            others = [each for each, other in frame.items() if is_numeric_dtype(other) and each not in y]
            example = next((f", such as {str(value)!r}," for value in column.dropna()), "")
            raise _UsageError(
                f"target {name!r} of {data} is text or dates{example} and regressions predict numbers: choose "
                f"another --target{f', for example {_names(others)}' if others else ''}"
            )


def _check_usable(data: str, frame: pd.DataFrame) -> None:
    found = unusable(frame)
    if not found:
        return
    lines = [f"{data} has columns that cannot be used as they are"]
    for kind, columns in found.items():
        different = " different" if kind != "missing or infinite values" else ""
        lines.append(f"  {kind}: {_names(f'{name!r} ({count}{different})' for name, count in columns.items())}")
    lines.append("encode them, and fill what is missing, with --encode, or leave columns out with --drop COL")
    raise _UsageError("\n".join(lines))


def _read(arguments: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    data = arguments.data
    try:
        return read_table(data, sep=arguments.sep, encoding=arguments.encoding, decimal=arguments.decimal)
    except FileNotFoundError as error:
        raise _UsageError(
            f"there is no file {data!r}: give the path of a CSV or Parquet file, or one of {', '.join(_BUILT_IN)}"
        ) from error
    except (ImportError, ValueError) as error:
        raise _UsageError(_one_line(error)) from error


def _check_plot(file: Path) -> None:
    """Refuse a picture that could not be saved, before any work is done."""
    try:
        matplotlib = import_matplotlib("--plot")
    except ImportError as error:
        raise _UsageError(error) from error
    kinds = matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    if file.suffix.lower().removeprefix(".") not in kinds:
        raise _UsageError(f"cannot tell what kind of picture {file} is: end its name in .png, .svg or .pdf")
    if not file.parent.is_dir():
        raise _UsageError(f"cannot save {file}: there is no folder {file.parent}; make it first")


def _save(figure: "Figure", file: Path) -> None:
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise _UsageError(f"cannot save {file}: {error.strerror or error}; choose another place") from error
