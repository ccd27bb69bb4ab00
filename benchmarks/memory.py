"""The memory that a fit takes at its peak, beyond the table itself, as a share of the table.

Each fit has a process of its own. There, fits of a tiny table and of one of a tenth of the rows come first, so that
libraries and thread pools have what they keep, and what they freed goes back to the system. Then X is made in place,
C-contiguous; what counts is the highest resident size during the fit less the resident size before. 1e6×100,
condition number 1e4, offsets of ten deviations.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.reference import Size
from benchmarks.targets import LINEAR, OURS, RIDGE
from benchmarks.timing import markdown_table
from benchmarks.untuned import Fit, fit_linear, fit_ours, fit_ridge

TABLE = Size(1_000_000, 100, "correlated")
QUICK_SHARE, WARM_UP_SHARE, TINY_ROWS = 20, 10, 200
TARGET = 15.0  # percent of X
CONTENDERS: dict[str, Fit] = {
    OURS: fit_ours,
    LINEAR: fit_linear,
    RIDGE: partial(fit_ridge, solver="cholesky", alpha=1.0),
}
PROCESS = Path("/proc/self")


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the table: to see that it runs, not to learn from it.
    """
    if not (PROCESS / "clear_refs").exists():
        return "Not measured: the highest resident size is read, and reset, by way of Linux's `/proc`."
    size = replace(TABLE, n_rows=TABLE.n_rows // QUICK_SHARE) if quick else TABLE
    rows = [row(name, dtype, size) for dtype in ("float32", "float64") for name in CONTENDERS]
    header = ("", "X", "MB of X", "MB beyond X", "% of X", "target", "met")
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(header, rows)])


def row(name: str, dtype: str, size: Size) -> tuple[str, ...]:
    """Measure one fit, and lay it out."""
    table = size.n_rows * size.n_features * int(dtype.removeprefix("float")) // 8
    beyond = measure_elsewhere(name, dtype, size)
    share = 100 * beyond / table
    verdict = (f"≤ {TARGET:g}", "yes" if share <= TARGET else "**no**") if name == OURS else ("", "")
    return (name, f"{size.title}, {dtype}", f"{table / 1e6:.0f}", f"{beyond / 1e6:.0f}", f"{share:.1f}", *verdict)


def measure_elsewhere(name: str, dtype: str, size: Size) -> int:
    """Return the bytes that a fit takes beyond X, measured in a fresh process."""
    return numbers_from("benchmarks.memory", name, dtype, size.n_rows, size.n_features)[0]


def measure(name: str, dtype: str, size: Size) -> int:
    """Return the bytes that a fit takes beyond X in this process."""
    return beyond_table(CONTENDERS[name], size, dtype)


def numbers_from(module: str, *arguments: object) -> list[int]:
    """Run a module with these arguments in a fresh process, and return the whole numbers that it prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    return [int(number) for number in done.stdout.split()]


def beyond_table(fit: Callable[[np.ndarray, np.ndarray], object], size: Size, dtype: str) -> int:
    """Return the bytes that a fit to such a table takes beyond it, after fits to smaller ones of its kind."""
    for n_rows in (TINY_ROWS, max(TINY_ROWS, size.n_rows // WARM_UP_SHARE)):
        fit(*replace(size, n_rows=n_rows).make(dtype))
    return beyond(partial(fit, *size.make(dtype)))


def beyond(run: Callable[[], object]) -> int:
    """Return the bytes that this process takes at the peak of a run, beyond those that it holds before."""
    give_back()
    # Not getrusage's ru_maxrss: a process begins with that of the one which started it
    (PROCESS / "clear_refs").write_text("5")  # forget the highest so far
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def give_back() -> None:
    """Return freed memory to the system, where the C library can: else a fit could take it uncounted."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident(entry: str) -> int:
    """Bytes of this process in memory: now, "VmRSS", or at most, "VmHWM"."""
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(entry + ":"))


if __name__ == "__main__":
    contender, precision, *shape = sys.argv[1:]
    print(measure(contender, precision, Size(*map(int, shape), kind=TABLE.kind)))
