"""What a pass over the table costs, against reading the table once, and how a fit's time grows with the table.

One read is `X.sum()` of the features as a tensor of torch's, on all of torch's threads: each number comes from memory
once, in order, and nothing is written. The epoch is that of textbook mode: shuffled mini-batches of 4096 rows,
closed-form gradient, SGD written out, the order drawn anew. The full pass is that of untuned mode: loss and gradient of
all rows, with sums over blocks in float64. Both run as in a fit, with no more threads inside the libraries than one. A
fit is `TorchLinearRegressor()` on float32 columns with a condition number of 10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.reference import Size
from benchmarks.timing import Timings, alternate, markdown_table
from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.objective.linear_model import AnalyticModel
from torchlinreg.engine.objective.losses import SquaredError
from torchlinreg.engine.objective.objective import Objective
from torchlinreg.engine.preconditioning.transforms import Transform
from torchlinreg.engine.runtime.threads import one_thread
from torchlinreg.engine.solvers.minibatch.loop import train_epoch
from torchlinreg.engine.solvers.minibatch.optimizers import SGD, Rate

# (table, precision) -> how many reads a full pass may take
TABLES = {
    (Size(1_000_000, 100), "float32"): 2.2,
    (Size(1_000_000, 100), "float64"): 2.2,
    (Size(200_000, 1000), "float32"): 2.5,
}
EPOCH_TARGET = 5.0  # reads
BATCH_SIZE, LEARNING_RATE = 4096, 0.01
READ, EPOCH, PASS = "one read, X.sum()", "one shuffled epoch, batches of 4096", "one full pass"

ROWS_GROW = tuple(Size(n_rows, 30) for n_rows in (10_000, 30_000, 100_000, 300_000, 1_000_000))
FEATURES_GROW = tuple(Size(100_000, n_features) for n_features in (10, 30, 100, 300))
QUICK_SHARE = 100  # one row in so many


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the tables: to see that it runs, not to learn from it.
    """
    shrink = QUICK_SHARE if quick else 1
    more_rows, more_features = ([shrunk(size, shrink) for size in sizes] for sizes in (ROWS_GROW, FEATURES_GROW))
    parts = [__doc__.partition("\n")[2].strip()]
    for (size, dtype), most in TABLES.items():
        table = shrunk(size, shrink)
        parts += [f"### {table.title}, {dtype}", passes_table(time_passes(table, dtype), most)]
    parts += ["### More rows", growth_table(more_rows, time_fits(more_rows))]
    parts += ["### More features", growth_table(more_features, time_fits(more_features))]
    return "\n\n".join(parts)


def shrunk(size: Size, share: int) -> Size:
    """Return a table of one row in so many."""
    return Size(size.n_rows // share, size.n_features)


def passes(X: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what is compared, ready to run; to be called, and run, in inference mode, as the estimator's own are."""
    source = MemorySource(DenseOperator(torch.from_numpy(X)), torch.from_numpy(y)[:, None])
    make_model = partial(AnalyticModel, fit_intercept=True)
    batches = source.blocks(BATCH_SIZE, torch.Generator().manual_seed(0))
    theta = torch.zeros(X.shape[1] + 1, 1, dtype=torch.float64)
    model = make_model(theta.to(source.y.dtype))
    no_change = Transform(torch.ones(X.shape[1], dtype=torch.float64), None)
    objective = Objective(source, SquaredError(), None, no_change, theta, make_model)
    return {
        READ: source.X.tensor.sum,
        EPOCH: one_thread()(lambda: train_epoch(model, SquaredError(), SGD(model, Rate(LEARNING_RATE)), batches)),
        PASS: one_thread()(lambda: objective.evaluate(theta)),
    }


def time_passes(size: Size, dtype: str) -> Timings:
    """Run the three in turn; they are short."""
    with torch.inference_mode():
        return alternate(passes(*size.make(dtype)), rounds=15, warm_up=2)


def passes_table(timings: Timings, most: float) -> str:
    """Lay out times in ms and the ratios, with what was aimed at: for a full pass, `most` reads."""
    targets = {EPOCH: EPOCH_TARGET, PASS: most}
    rows = []
    for name in timings.seconds:
        ratio, target = timings.ratio(name, READ), targets.get(name)
        verdict = ("", "") if target is None else (f"≤ {target:g}", "yes" if ratio <= target else "**no**")
        rows.append((name, f"{1e3 * timings.median(name):.1f}", f"{ratio:.2f}", *verdict))
    return markdown_table(("", "ms", "times one read", "target", "met"), rows)


def time_fits(sizes: list[Size]) -> Timings:
    """Fit tables of several sizes in turn; the keys are their titles."""
    tables = {size.title: size.make("float32") for size in sizes}
    return alternate({title: partial(TorchLinearRegressor().fit, *table) for title, table in tables.items()})


def growth_table(sizes: list[Size], timings: Timings) -> str:
    """Lay out times of a fit, in all and per number in the table, and how they grew from the row above."""
    rows, before = [], None
    for size in sizes:
        seconds, numbers = timings.median(size.title), size.n_rows * size.n_features
        growth = ["", ""]
        if before is not None:
            growth = [
                f"{numbers / (before.n_rows * before.n_features):.1f}",
                f"{timings.ratio(size.title, before.title):.1f}",
            ]
        rows.append((size.title, f"{1e3 * seconds:.1f}", f"{1e9 * seconds / numbers:.1f}", *growth))
        before = size
    return markdown_table(("table", "ms", "ns a number", "times as many numbers", "times as long"), rows)
