"""A Parquet table larger than memory may hold: time beside reading it, memory beside the package, digits beside `fit`.

The file has 1e7×100 float32 (4 GB, not compressed) in row groups of 100 000 rows, the condition number is 1e4, offsets
are ten deviations. Each reading has a process of its own with all threads. "Read" reads the same row groups into NumPy,
by way of pandas, which copies nothing, and sums them up; "fit_chunks" is the fit of `parquet_chunks`; both take turns.
Memory is the highest resident size of the process less that with the package imported. Then `fit` learns from a memmap
of the same numbers, and the coefficients of both are compared, relative to the largest, in float64. The table of twice
the rows is the same file given twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.memory import beyond
from benchmarks.timing import markdown_table

N_ROWS, N_FEATURES, GROUP_ROWS = 10_000_000, 100, 100_000
QUICK_SHARE, ROUNDS = 1000, 5
TARGETS = {"time": 2.0, "memory": 1e9, "difference": 1e-9, "twice": 2.1}


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the table: to see that it runs, not to learn from it.
    """
    n_rows, rounds = (N_ROWS // QUICK_SHARE, 1) if quick else (N_ROWS, ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_table(path, n_rows)
        found = [(run("read", path), run("fit", path)) for _ in range(rounds)]
        twice = [run("fit", path, path)["seconds"] for _ in range(rounds)]
        on_memmap = run("memmap", path)
    fits = [fit for _, fit in found]
    ratio = median(fit["seconds"] / read["seconds"] for read, fit in found)
    apart = np.abs(np.subtract(fits[0]["coef"], on_memmap["coef"])).max() / np.abs(on_memmap["coef"]).max()
    memory = max(fit["bytes"] for fit in fits)
    growth = median(after / fit["seconds"] for after, fit in zip(twice, fits, strict=True))
    rows = [
        ("time of reading and summing up", f"{median(read['seconds'] for read, _ in found):.2f} s", "", ""),
        ("time of `fit_chunks`", f"{median(fit['seconds'] for fit in fits):.2f} s", "", ""),
        ("ratio of both", f"{ratio:.2f}", *verdict(ratio, "time")),
        ("memory beyond the package", f"{memory / 1e6:.0f} MB", *verdict(memory, "memory")),
        ("difference from `fit` on a memmap", f"{apart:.0e}", *verdict(apart, "difference")),
        ("time for twice the rows", f"{growth:.2f}", *verdict(growth, "twice")),
    ]
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(("", "", "target", "met"), rows)])


def verdict(value: float, name: str) -> tuple[str, str]:
    """Return a target, and whether it is met."""
    return f"≤ {TARGETS[name]:g}", "yes" if value <= TARGETS[name] else "**no**"


def write_table(path: Path, n_rows: int) -> None:
    """Write the table to a file, row group by row group."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    rng = np.random.default_rng(0)
    mixture = rng.normal(size=(N_FEATURES, N_FEATURES))
    left, _, right = np.linalg.svd(mixture)
    mixture = (left * np.logspace(0, -4, N_FEATURES)) @ right
    weights = rng.normal(size=N_FEATURES)
    names = [f"x{number}" for number in range(N_FEATURES)]
    schema = pa.schema([(name, pa.float32()) for name in [*names, "y"]])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for start in range(0, n_rows, GROUP_ROWS):
            size = min(GROUP_ROWS, n_rows - start)
            X = rng.standard_normal((size, N_FEATURES), dtype="f") @ mixture.astype("f")
            X += 10 * np.sqrt(np.square(mixture).sum(0)).astype("f")
            y = (X @ weights + rng.standard_normal(size)).astype("f")
            file.write_table(pa.table([*X.T, y], schema=schema))


def run(what: str, *paths: Path) -> dict:
    """Return what a process measured."""
    command = [sys.executable, "-m", "benchmarks.beyond_memory", what, *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def read(paths: list[str]) -> None:
    """Read row groups into NumPy and sum them up."""
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415

    for path in paths:
        with ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group).to_pandas().to_numpy().sum()


def main(what: str, *paths: str) -> None:
    """Measure one reading in this process, and print it."""
    from torchlinreg import TorchLinearRegressor  # noqa: PLC0415 - before memory is measured
    from torchlinreg.streams import parquet_chunks  # noqa: PLC0415

    model = TorchLinearRegressor(dtype="float64")
    learn = {
        "read": lambda: read([*paths]),
        "fit": lambda: model.fit_chunks(parquet_chunks(paths, "y")),
        "memmap": lambda: model.fit(*as_memmap(*paths)),
    }[what]
    began = time.perf_counter()
    found = {"bytes": beyond(learn), "seconds": time.perf_counter() - began}
    print(json.dumps(found | ({} if what == "read" else {"coef": model.coef_.tolist()})))


def as_memmap(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features as a memmap, of a file beside that of the table, and targets."""
    from torchlinreg.streams import parquet_chunks  # noqa: PLC0415

    chunks = parquet_chunks(path, "y")
    n_rows = sum(len(y) for _, y in chunks)
    X = np.lib.format.open_memmap(f"{path}.npy", "w+", np.float32, (n_rows, N_FEATURES))
    y, start = np.empty(n_rows, np.float32), 0
    for part, target in chunks:
        rows = slice(start, start + len(part))
        X[rows], y[rows], start = part, target, rows.stop
    X.flush()
    return np.load(f"{path}.npy", mmap_mode="r"), y


if __name__ == "__main__":
    main(*sys.argv[1:])
