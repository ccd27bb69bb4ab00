"""What a pass over the table costs, against reading the table once, and how a fit's time grows with the table.

One read is `torch.Tensor.sum` of all features. The epoch is that of textbook mode: shuffled mini-batches of 4096 rows,
closed-form gradient, SGD written out, the order drawn anew. The full pass is that of untuned mode: loss and gradient of
all rows, summed in float64. A fit is `TorchLinearRegressor()` on float32 columns with a condition number of 10.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.reference import Size
from benchmarks.timing import Timings, alternate, markdown_table
from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.operators import DenseOperator
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.objective.linear_model import AnalyticModel
from torchlinreg.engine.objective.losses import SquaredError
from torchlinreg.engine.objective.objective import LossAndGradient
from torchlinreg.engine.solvers.minibatch.loop import train_epoch
from torchlinreg.engine.solvers.minibatch.optimizers import SGD, Rate

TABLE = Size(1_000_000, 100)
BATCH_SIZE, LEARNING_RATE = 4096, 0.01
READ, EPOCH, PASS = "one read, X.sum()", "one shuffled epoch, batches of 4096", "one full pass"
# (slow, fast, how many times longer `slow` may take)
TARGETS = ((EPOCH, READ, 4.0), (PASS, READ, 2.5))

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
    table, more_rows, more_features = (
        [Size(size.n_rows // shrink, size.n_features) for size in sizes]
        for sizes in ((TABLE,), ROWS_GROW, FEATURES_GROW)
    )
    return "\n\n".join(
        [
            __doc__.partition("\n")[2].strip(),
            f"### {table[0].title}, float32",
            passes_table(time_passes(table[0])),
            "### More rows",
            growth_table(more_rows, time_fits(more_rows)),
            "### More features",
            growth_table(more_features, time_fits(more_features)),
        ]
    )


def passes(X: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what is compared, ready to run; to be called, and run, in inference mode, as the estimator's own are."""
    source = MemorySource(DenseOperator(torch.from_numpy(X)), torch.from_numpy(y)[:, None])
    model = AnalyticModel(source.y.new_zeros(X.shape[1] + 1, 1), fit_intercept=True)
    batches = source.blocks(BATCH_SIZE, torch.Generator().manual_seed(0))
    theta = torch.zeros(X.shape[1] + 1, 1, dtype=torch.float64)
    make_model = partial(AnalyticModel, theta.to(source.y.dtype), fit_intercept=True)
    return {
        READ: source.X.tensor.sum,
        EPOCH: lambda: train_epoch(model, SquaredError(), SGD(model, Rate(LEARNING_RATE)), batches),
        PASS: lambda: source.reduce(LossAndGradient(make_model, SquaredError(), theta)),
    }


def time_passes(size: Size) -> Timings:
    """Run the three in turn; they are short."""
    with torch.inference_mode():
        return alternate(passes(*size.make("float32")), rounds=15, warm_up=2)


def passes_table(timings: Timings) -> str:
    """Lay out times in ms and the ratios, with what was aimed at."""
    targets = {(slow, fast): target for slow, fast, target in TARGETS}
    rows = []
    for name in timings.seconds:
        ratio, target = timings.ratio(name, READ), targets.get((name, READ))
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
