"""The `torchlinreg` program: its subcommands and their arguments."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchlinreg import __version__
from torchlinreg.cli.comparison import run_compare
from torchlinreg.cli.data import BUILT_IN
from torchlinreg.cli.messages import UsageError, one_line
from torchlinreg.cli.models.fitting import parse_parameter, parse_value, run_fit
from torchlinreg.cli.models.prediction import run_predict

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments after the program's name; None takes those of the process.

    Returns
    -------
    status : int
        0, or 2 after an error that the user can correct, which is printed to standard error.

    Raises
    ------
    SystemExit
        From argparse: after `--help` and `--version`, and for invalid arguments.
    """
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            arguments.run(arguments)
        except UsageError as error:
            print(f"torchlinreg: error: {error}", file=sys.stderr)
            return 2
    return 0


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"torchlinreg: warning: {one_line(message)}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    """Return the parser; a function for each subcommand adds it, with the function that runs it."""
    parser = argparse.ArgumentParser(prog="torchlinreg", description="Linear regression by mini-batch SGD in PyTorch.")
    parser.add_argument("--version", action="version", version=f"torchlinreg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_compare(commands)
    _add_fit(commands)
    _add_predict(commands)
    return parser


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare TorchLinearRegressor with scikit-learn's linear regressions",
        description="Fit LinearRegression, Ridge, SGDRegressor (scaled) and TorchLinearRegressor on the same "
        "rows, and print how well and how fast each does.",
    )
    parser.set_defaults(run=run_compare)
    _add_data_arguments(parser)
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        help="save predicted against actual values, residuals and the largest coefficients (.png, .svg, .pdf)",
    )
    parser.add_argument(
        "--test-size",
        type=_fraction,
        default=0.25,
        metavar="SHARE",
        help="share of the rows to hold out (default: 0.25)",
    )
    parser.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed (default: 0)")
    _add_training_arguments(parser)


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser(
        "fit",
        help="fit TorchLinearRegressor to a file and save it",
        description="Fit TorchLinearRegressor to a table and save it as a file of skops. Large files are read in "
        "chunks. Processes of torchrun --nproc-per-node 2 -m torchlinreg fit ... share the chunks.",
    )
    parser.set_defaults(run=run_fit)
    _add_data_arguments(parser)
    parser.add_argument(
        "--output", metavar="FILE", type=Path, required=True, help="file of the model, such as model.skops"
    )
    parser.add_argument("--sample-weight", metavar="COL", help="column of weights")
    parser.add_argument("--loss", metavar="NAME", help='loss, such as "huber" (default: squared_error)')
    parser.add_argument("--penalty", metavar="NAME", help='"l2", "l1" or "elasticnet" (default: none)')
    parser.add_argument("--alpha", type=float, help="strength of the penalty (default: 0.0001)")
    parser.add_argument("--learning-rate", type=parse_value, help='"auto", or a number for plain SGD (default: auto)')
    parser.add_argument("--max-iter", type=int, metavar="N", help="epochs at most (default: 1000)")
    parser.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed (default: 0)")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        type=parse_parameter,
        action="append",
        default=[],
        help="any other parameter of the estimator, such as dtype=float32; repeat it for several",
    )
    _add_training_arguments(parser)
    _add_chunk_argument(parser)
    parser.add_argument("--checkpoint", metavar="FILE", help="save what is learnt on the way, and go on from it")


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="predict with a saved model",
        description="Predict with a model of torchlinreg fit for each row of a table. Files of skops are loaded, and "
        "of these only scikit-learn's types and this package's; pickles are not.",
    )
    parser.set_defaults(run=run_predict)
    parser.add_argument("model", metavar="MODEL", type=Path, help="file of the model")
    parser.add_argument(
        "data", metavar="DATA", help="CSV or Parquet file with the columns that the model has learnt from"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, required=True, help="file of the predictions, .parquet or .csv"
    )
    _add_format_arguments(parser)
    _add_chunk_argument(parser)


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help='where to train: "auto", "cpu", "cuda", "cuda:1", "mps" (default: cpu)')
    parser.add_argument("--backend", default="auto", choices=["auto", "analytic", "autograd", "linear"])


def _add_chunk_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--chunk-rows",
        metavar="N",
        type=int,
        help="read the file in chunks of so many rows (default: in chunks of 32 MB if it is larger than 256 MB)",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which data to read and how."""
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        default="diabetes",
        help=f"{', '.join(BUILT_IN)} or the path of a CSV or Parquet file (default: diabetes)",
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
    _add_format_arguments(parser)


def _add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a CSV file is written."""
    parser.add_argument("--sep", metavar="SEP", help="what separates the columns of a CSV file (default: found out)")
    parser.add_argument("--encoding", metavar="NAME", help="encoding of a CSV file (default: UTF-8)")
    parser.add_argument("--decimal", choices=[".", ","], help="decimal mark of a CSV file (default: found out)")


def _fraction(text: str) -> float:
    """Parse a number between zero and one, both excluded."""
    fraction = float(text)
    if not 0 < fraction < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return fraction
