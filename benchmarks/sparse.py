"""An epoch over a sparse table, and the memory that its fit takes, against scikit-learn's SGD.

200 000 rows of 100 000 features, 30 of which are not zero: exactly 30 in every row, as one-hot columns have it, or 30
on average, all rows about as long ("ragged", Poisson), or from one to hundreds ("skewed", geometric), as words have it.
Everybody fits the same CSR matrix for one shuffled epoch, all the checks of `fit` included: `SGDRegressor` at a
constant rate without penalty, `max_iter=1`, `tol=None`, which takes a row a step, and `TorchLinearRegressor` in
textbook mode, closed-form gradient. How they fare when others use the machine is in "Beside a busy process". Memory is
the highest resident size during a fit in a process of its own, less what was there before X was made: X counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import sparse
from sklearn.linear_model import SGDRegressor

from benchmarks.memory import PROCESS, beyond, numbers_from
from benchmarks.timing import Timings, alternate, markdown_table
from torchlinreg import TorchLinearRegressor

N_ROWS, N_FEATURES, PER_ROW = 200_000, 100_000, 30
QUICK_SHARE = 100  # one row, and one feature, in so many
KINDS = ("even", "ragged", "skewed")
DTYPES = ("float32", "float64")
LEARNING_RATE = 0.1
SGD, LARGE, SMALL = "SGDRegressor", "ours, batches of 4096", "ours, batches of 32"
FASTER, MEMORY = 1.3, 2.0  # targets: times, and times X

Fit = Callable[[sparse.csr_array, np.ndarray], object]


def ours(batch_size: int) -> Fit:
    """Return the fit of an epoch."""
    model = TorchLinearRegressor(learning_rate=LEARNING_RATE, batch_size=batch_size, max_iter=1, random_state=0)
    return model.fit


CONTENDERS: dict[str, Fit] = {
    SGD: SGDRegressor(penalty=None, learning_rate="constant", max_iter=1, tol=None, random_state=0).fit,
    LARGE: ours(4096),
    SMALL: ours(32),
}


def make(kind: str, dtype: str, n_rows: int, n_features: int) -> tuple[sparse.csr_array, np.ndarray]:
    """Make a table and a target, with noise of one; features of a row are distinct."""
    rng = np.random.default_rng(0)
    lengths = {
        "even": np.full,
        "ragged": lambda n, mean: rng.poisson(mean, n),
        "skewed": lambda n, mean: rng.geometric(1 / mean, n),
    }
    per_row = lengths[kind](n_rows, PER_ROW).clip(1, n_features)
    ends = np.concatenate([[0], per_row.cumsum()]).astype(np.int32)
    place = np.arange(ends[-1]) - np.repeat(ends[:-1], per_row)
    # A feature from each of as many equal parts of them as the row has numbers
    first, after = (n_features * part // np.repeat(per_row, per_row) for part in (place, place + 1))
    columns = rng.integers(first, after, dtype=np.int32)
    X = sparse.csr_array((rng.standard_normal(len(place)).astype(dtype), columns, ends), shape=(n_rows, n_features))
    noise = rng.standard_normal(n_rows)
    return X, (X @ rng.standard_normal(n_features) + 1.0 + noise).astype(dtype)


def nbytes(X: sparse.csr_array) -> int:
    """Bytes of a table."""
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the table: to see that it runs, not to learn from it.
    """
    size = (N_ROWS // QUICK_SHARE, N_FEATURES // QUICK_SHARE) if quick else (N_ROWS, N_FEATURES)
    timings = {(kind, dtype): time_epochs(kind, dtype, *size) for kind in KINDS for dtype in DTYPES}
    parts = [__doc__.partition("\n")[2].strip(), "### Epoch", epoch_table(timings), "### Memory"]
    if (PROCESS / "clear_refs").exists():
        return "\n\n".join([*parts, memory_table({key: measure_elsewhere(*key, *size) for key in timings})])
    return "\n\n".join([*parts, "Not measured: the highest resident size is read by way of Linux's `/proc`."])


def time_epochs(kind: str, dtype: str, n_rows: int, n_features: int) -> Timings:
    """Run everybody in turn."""
    X, y = make(kind, dtype, n_rows, n_features)
    return alternate({name: lambda fit=fit: fit(X, y) for name, fit in CONTENDERS.items()})


def epoch_table(timings: dict[tuple[str, str], Timings]) -> str:
    """Lay out the times of an epoch and the ratios, with what was aimed at."""
    rows = []
    for (kind, dtype), times in timings.items():
        for name in CONTENDERS:
            ratio = times.ratio(SGD, name)
            verdict = (f"≥ {FASTER:g}", "yes" if ratio >= FASTER else "**no**") if name == LARGE else ("", "")
            rows.append((f"{kind}, {dtype}", name, f"{1e3 * times.median(name):.0f}", f"{ratio:.1f}", *verdict))
    return markdown_table(("table", "", "ms", f"times as fast as {SGD}", "target", "met"), rows)


def measure_elsewhere(kind: str, dtype: str, n_rows: int, n_features: int) -> tuple[int, int]:
    """Return the bytes of X, and those of a fit with X, measured in a fresh process."""
    of_X, in_all = numbers_from("benchmarks.sparse", kind, dtype, n_rows, n_features)
    return of_X, in_all


def measure(kind: str, dtype: str, n_rows: int, n_features: int) -> tuple[int, int]:
    """Return the bytes of X, and those of a fit with X, in this process."""
    fit = CONTENDERS[LARGE]
    fit(*make(kind, dtype, max(100, n_rows // 100), n_features))  # libraries and thread pools have what they keep
    X, y = make(kind, dtype, n_rows, n_features)
    return nbytes(X), nbytes(X) + beyond(partial(fit, X, y))


def memory_table(measured: dict[tuple[str, str], tuple[int, int]]) -> str:
    """Lay out memory as a multiple of X, with what was aimed at."""
    rows = []
    for (kind, dtype), (of_X, in_all) in measured.items():
        times = in_all / of_X
        verdict = f"≤ {MEMORY:g}", "yes" if times <= MEMORY else "**no**"
        rows.append((f"{kind}, {dtype}", f"{of_X / 1e6:.0f}", f"{in_all / 1e6:.0f}", f"{times:.2f}", *verdict))
    return markdown_table(("table", "MB of X", "MB of X and fit", "times X", "target", "met"), rows)


if __name__ == "__main__":
    table, precision, *shape = sys.argv[1:]
    print(*measure(table, precision, *map(int, shape)))
