"""The same fits on an idle machine, and beside a process that keeps one core busy.

The busy process is a Python loop, pinned to one core where the system can. It is there during every other round, so
that both kinds of rounds see the same state of the machine. Its share is one core: what computes on one thread need not
take longer if there are two. Threads that wait for each other do, at each wait. The ratio is that of the medians; it is
aimed at for ours, and the others stand beside it.

Untuned fits are `TorchLinearRegressor()` on columns with a condition number of 10; the sparse table has 30 numbers in
each of its rows, and its epoch is that of textbook mode in batches of 4096; `Lasso` and ours have a hundredth of the
alpha that leaves no weights, and each path its own default alphas and folds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.linear_model import Lasso, LassoCV

from benchmarks import sparse, untuned
from benchmarks.reference import Size
from benchmarks.targets import FIRST_LARGE, INTEL, LINEAR, OURS, RIDGE, SMALL, SMALLEST, WIDE, format_ratio, yes
from benchmarks.timing import markdown_table, seconds_of, without_old_garbage
from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV

ROUNDS, ROUNDS_IF_SLOW, QUICK_ROUNDS = 9, 3, 1
PATIENCE = 4.0  # seconds
SHORT, RUNS_IF_SHORT = 0.1, 5  # seconds, and runs in each round
SETTLE = 0.2  # seconds until the busy process is past its start
SLOWER = 2.5  # target: times as long as on an idle machine
SMALLER_ALPHA = 100

# What runs, without arguments, by name; ours comes first
Contenders = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Times:
    """Seconds of each run of a contender."""

    idle: list[float]
    busy: list[float]

    @property
    def ratio(self) -> float:
        """How many times longer it takes beside a busy process."""
        return statistics.median(self.busy) / statistics.median(self.idle)


def dense(size: Size, dtype: str, *, quick: bool) -> Contenders:
    """Return the least-squares fits of a dense table."""
    X, y = (untuned.shrunk(size) if quick else size).make(dtype)
    alpha = untuned.smallest_alpha(X)
    fits = {
        OURS: untuned.fit_ours,
        LINEAR: untuned.fit_linear,
        RIDGE: partial(untuned.fit_ridge, solver="cholesky", alpha=alpha),
    }
    fits |= {name: fit for name, fit in untuned.intel_fits(alpha).items() if name == INTEL}
    return {name: partial(fit, X, y) for name, fit in fits.items()}


def sparse_epoch(*, quick: bool) -> Contenders:
    """Return epochs over a sparse table."""
    share = sparse.QUICK_SHARE if quick else 1
    X, y = sparse.make("even", "float32", sparse.N_ROWS // share, sparse.N_FEATURES // share)
    return {name: partial(sparse.CONTENDERS[name], X, y) for name in (sparse.LARGE, sparse.SGD)}


def lasso(size: Size, *, quick: bool) -> Contenders:
    """Return fits with an L1 penalty."""
    X, y = (untuned.shrunk(size) if quick else size).make("float64")
    alpha = np.abs((X - X.mean(0)).T @ (y - y.mean())).max() / len(X) / SMALLER_ALPHA
    models = {
        'TorchLinearRegressor(penalty="l1")': TorchLinearRegressor(penalty="l1", alpha=alpha),
        "Lasso": Lasso(alpha),
    }
    return {name: partial(model.fit, X, y) for name, model in models.items()}


def l1_path(size: Size, *, quick: bool) -> Contenders:
    """Return paths of L1 penalties by cross-validation."""
    X, y = size.make("float64")
    kept = len(X) // 4 if quick else len(X)
    models = {'TorchLinearRegressorCV(penalty="l1")': TorchLinearRegressorCV(penalty="l1"), "LassoCV": LassoCV()}
    return {name: partial(model.fit, X[:kept], y[:kept]) for name, model in models.items()}


DENSE = (
    (SMALLEST, "float64"),
    (SMALL, "float64"),
    (FIRST_LARGE, "float32"),
    (Size(1_000_000, 10), "float32"),
    (Size(1_000_000, 100), "float32"),
    (Size(1_000_000, 100), "float64"),
    (WIDE, "float32"),
)
CASES: dict[str, Callable[..., Contenders]] = {
    **{f"{size.title}, {dtype}": partial(dense, size, dtype) for size, dtype in DENSE},
    "sparse epoch, float32": sparse_epoch,
    "L1, 2000×200, float64": partial(lasso, Size(2000, 200)),
    "L1 path, 442×10, float64": partial(l1_path, SMALLEST),
}


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the tables, and to run once: to see that it runs, not to learn from it.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    rows = [row for title, make in CASES.items() for row in case_rows(title, measure(make(quick=quick), rounds))]
    header = ("table", "", "idle", "beside a busy process", "times as long", "target", "met")
    return "\n\n".join([__doc__.partition("\n")[2].strip(), where(), markdown_table(header, rows)])


def measure(contenders: Contenders, rounds: int) -> dict[str, Times]:
    """Run everybody in turn, in one round on an idle machine and in the next beside a busy process.

    Parameters
    ----------
    contenders : dict of str to callable
    rounds : int
        Of each kind; fewer for contenders that take longer than `PATIENCE`, and more runs in each for short ones.
    """
    runs = {name: untuned.quietly(run) for name, run in contenders.items()}
    times = {name: Times([], []) for name in runs}
    with without_old_garbage():
        first = {name: seconds_of(run) for name, run in runs.items()}
        for number in range(rounds):
            here = [name for name in runs if first[name] <= PATIENCE or number < ROUNDS_IF_SLOW]
            for kind, around in (("idle", nullcontext()), ("busy", busy_process())):
                with around:
                    for name in here * RUNS_IF_SHORT:
                        seconds = getattr(times[name], kind)
                        if first[name] <= SHORT or len(seconds) == number:
                            seconds.append(seconds_of(runs[name]))
    return times


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        time.sleep(SETTLE)
        yield
    finally:
        process.kill()
        process.wait()


def where() -> str:
    """Say where the busy process runs."""
    if hasattr(os, "sched_setaffinity"):
        return f"Here the busy process has one of the {len(os.sched_getaffinity(0))} cores."
    return "This system cannot pin the busy process to a core."


def case_rows(title: str, times: Mapping[str, Times]) -> list[tuple]:
    """Lay out a case with a row for each contender, and what was aimed at for the first, which is ours."""
    rows = []
    for name, each in times.items():
        medians = (untuned.format_seconds(statistics.median(seconds)) for seconds in (each.idle, each.busy))
        verdict = ("", "") if rows else (f"≤ {SLOWER:g}", yes(each.ratio <= SLOWER))
        rows.append((title, name, *medians, format_ratio(each.ratio), *verdict))
    return rows
