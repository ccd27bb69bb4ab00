"""The `torchlinreg` command."""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.datasets import load_diabetes, load_linnerud
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import train_test_split

from torchlinreg import __version__
from torchlinreg.comparison import compare, default_estimators
from torchlinreg.datasets import load_crop_yields
from torchlinreg.displays import LossCurveDisplay
from torchlinreg.displays.drawing import import_matplotlib
from torchlinreg.regressor import TorchLinearRegressor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["main"]

# Diabetes in years, kg/m² and so on, not standardised: raw columns are what a regression meets in life.
_BUILT_IN: dict[str, Callable[[], Any]] = {
    "diabetes": lambda: load_diabetes(as_frame=True, scaled=False),
    "linnerud": lambda: load_linnerud(as_frame=True),
    "crops": lambda: load_crop_yields(as_frame=True),
}
_PARQUET = {".parquet", ".pq"}


class _UsageError(Exception):
    """What the user can mend, in one line that says how."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments after the program's name; None takes those of the process.

    Returns
    -------
    status : int
        0, or 2 after an error that the user can mend; it is told in one line on the standard error.

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
        "--plot",
        metavar="FILE",
        type=Path,
        help="save predicted against actual values, and the loss curve (.png, .svg, .pdf)",
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
    X, y = _load(arguments.data, arguments.target, arguments.drop)
    seed, test_size = arguments.random_state, arguments.test_size
    model = TorchLinearRegressor(random_state=seed, device=arguments.device, backend=arguments.backend)
    estimators = default_estimators(y.shape[1], random_state=seed, torch_regressor=model)
    print(f"{arguments.data}: {len(X)} rows, {test_size:.0%} of them held out")
    print(f"{_listed('feature', X.columns)}\n{_listed('target', y.columns)}\n", flush=True)
    try:
        table = compare(X, y, estimators, test_size=test_size, random_state=seed)
        print(
            f"{_printable(table)}\n\nR2: 1 is perfect{', mean over the targets' if y.shape[1] > 1 else ''}; "
            "seconds: median of three runs"
        )
        if arguments.plot is not None:
            X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=test_size, random_state=seed)
            _save(_figure(model.fit(X_train, y_train), X_test, y_test), arguments.plot)
            print(f"\nsaved {arguments.plot}")
    except (ValueError, RuntimeError) as error:
        # What estimators refuse (too few rows, no such device) they refuse by these, with the reason.
        raise _UsageError(_one_line(error)) from error


def _listed(kind: str, names: Sequence[str], most: int = 10) -> str:
    names = [str(name) for name in names]
    more = [] if len(names) <= most else [f"and {len(names) - most} more"]
    return f"{len(names)} {kind}{'s'[: len(names) != 1]}: {', '.join(names[:most] + more)}"


def _printable(table: pd.DataFrame) -> str:
    """Lay the table out with headings of two lines, so that it fits on 80 columns."""
    formats = ["{:.4f}".format, "{:.4f}".format, "{:.2e}".format, "{:.5f}".format, "{:.5f}".format]
    headings = [tuple(name.rsplit(" ", 1)) for name in table.columns]
    cells = pd.DataFrame(
        {heading: table[name].map(shape) for heading, name, shape in zip(headings, table, formats, strict=True)}
    )
    return cells.rename_axis(None).to_string()


def _load(data: str, targets: list[str] | None, drop: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the table, and give features and targets: numbers, at least a column of each, none missing."""
    if data in _BUILT_IN:
        bunch = _BUILT_IN[data]()
        frame, candidates = bunch.frame, list(bunch.frame.columns.drop(bunch.feature_names))
        targets = targets or candidates
        drop = [*drop, *(name for name in candidates if name not in targets)]
    else:
        frame = _read(data)
        candidates = [str(name) for name in frame.columns]
    frame.columns = frame.columns.map(str)
    if frame.empty:
        raise _UsageError(f"{data} holds no rows: give a table with a heading and at least a few rows")
    if not targets:
        raise _UsageError(f"name the column of {data} to predict with --target COL; it has {', '.join(candidates)}")
    targets = list(dict.fromkeys(targets))
    _check_names(data, targets, candidates, "--target")
    _check_names(data, drop, list(frame.columns), "--drop")
    X = frame.drop(columns=[*targets, *drop])
    y = frame[[name for name in targets if name not in drop]]
    if X.empty or y.empty:
        raise _UsageError(f"{data} keeps no {'feature' if X.empty else 'target'} column: drop fewer")
    _check_numbers(data, pd.concat([X, y], axis=1))
    return X, y


def _check_names(data: str, names: list[str], known: list[str], option: str) -> None:
    for name in names:
        if name not in known:
            raise _UsageError(f"{data} has no column {name!r} for {option}: choose from {', '.join(known)}")


def _check_numbers(data: str, frame: pd.DataFrame) -> None:
    for name, column in frame.items():
        if not is_numeric_dtype(column):
            raise _UsageError(
                f"column {name!r} of {data} is not numeric ({column.dtype}): leave it out with "
                f"--drop {name!r}, or write it as numbers"
            )
        missing = int((~np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan))).sum())
        if missing:
            raise _UsageError(
                f"column {name!r} of {data} has {missing} missing or infinite values: fill them, remove "
                f"these rows, or leave the column out with --drop {name!r}"
            )


def _read(data: str) -> pd.DataFrame:
    """Read a file by its ending: Parquet, or else CSV (compressed ones too, as pandas does)."""
    parquet = Path(data).suffix.lower() in _PARQUET
    try:
        return pd.read_parquet(data) if parquet else pd.read_csv(data)
    except FileNotFoundError as error:
        raise _UsageError(
            f"there is no file {data!r}: give the path of a CSV or Parquet file, or one of {', '.join(_BUILT_IN)}"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise _UsageError(f"{data} is empty: give a table with a heading and at least a few rows") from error
    except Exception as error:  # pandas, pyarrow and the decompressors each raise their own kinds
        if parquet and isinstance(error, ImportError):
            raise _UsageError('reading Parquet needs pyarrow: pip install "torchlinreg[parquet]"') from error
        raise _UsageError(
            f"cannot read {data} as {'Parquet' if parquet else 'CSV'}: {_one_line(error)}; check that the "
            "file is whole and its ending tells its kind"
        ) from error


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


def _figure(model: TorchLinearRegressor, X: pd.DataFrame, y: pd.DataFrame) -> "Figure":
    """Draw predicted against actual values, a panel for each target, and the loss curve."""
    matplotlib = import_matplotlib("--plot")
    panels = y.shape[1] + 1
    columns = 2 if panels in (2, 4) else 3
    rows = -(-panels // columns)
    # A Figure of its own, not one of pyplot's, has no window: no screen is needed.
    figure = matplotlib.figure.Figure(figsize=(4.5 * columns, 4.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    dots = {"alpha": 0.6, "edgecolor": "none"}
    predictions = np.asarray(model.predict(X)).reshape(len(X), -1)
    for ax, target, prediction in zip(axes, y, predictions.T, strict=False):
        PredictionErrorDisplay.from_predictions(
            y[target], prediction, kind="actual_vs_predicted", random_state=0, ax=ax, scatter_kwargs=dots
        )
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
        ax.set_title(f"{target}, held-out rows")
        ax.set_box_aspect(1)
        ax.grid(alpha=0.2)
    LossCurveDisplay.from_estimator(model, ax=axes[panels - 1])
    axes[panels - 1].set_title("loss, training rows")
    axes[panels - 1].set_box_aspect(1)
    for ax in axes[panels:]:
        ax.remove()
    return figure


def _save(figure: "Figure", file: Path) -> None:
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise _UsageError(f"cannot save {file}: {error.strerror or error}; choose another place") from error
