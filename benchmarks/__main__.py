"""``python -m benchmarks [NAME ...] [--quick | --write]``: run benchmarks and print Markdown tables."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks import (
    beyond_memory,
    crashes,
    grid,
    imports,
    lasso,
    load,
    memory,
    merging,
    passes,
    processes,
    sparse,
    tables,
    textbook,
    untuned,
)

# name on the command line -> (title, function that is told whether to be quick, runs it and returns Markdown)
BENCHMARKS: dict[str, tuple[str, Callable[[bool], str]]] = {
    "textbook": ("Textbook mini-batch SGD", lambda quick: textbook.report()),  # is quick anyway
    "untuned": ("Least squares without tuning", lambda quick: untuned.report(quick=quick)),
    "passes": ("The cost of a pass, and how a fit's time grows", lambda quick: passes.report(quick=quick)),
    "sparse": ("Sparse tables", lambda quick: sparse.report(quick=quick)),
    "grid": ("Grids, cross-validation and resamples", lambda quick: grid.report(quick=quick)),
    "lasso": ("The lasso and the elastic net", lambda quick: lasso.report(quick=quick)),
    "tables": ("Public tables, beside scikit-learn", lambda quick: tables.report(quick=quick)),
    "load": ("Beside a busy process", lambda quick: load.report(quick=quick)),
    "memory": ("Memory", lambda quick: memory.report(quick=quick)),
    "beyond_memory": ("A table larger than memory", lambda quick: beyond_memory.report(quick=quick)),
    "processes": ("Several processes", lambda quick: processes.report(quick=quick)),
    "merging": ("Merging many parts", lambda quick: merging.report(quick=quick)),
    "crashes": ("Killed and resumed", lambda quick: crashes.report(quick=quick)),
    "imports": ("Import time", lambda quick: imports.report(quick=quick)),
}
PEERS = ("numpy", "scikit-learn", "skorch", "torch", "torchlinreg")
MORE_PEERS = ("scikit-learn-intelex", "celer", "skglm")  # where they are installed
PERFORMANCE_PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
INTRODUCTION = """\
# Performance

Written by `python -m benchmarks --write`. The contenders of a table run in turn within one process, with the
garbage collector off; times are medians, ratios are medians of each round's own ratio. Times belong to the
machine named above them; the ratios are what should hold elsewhere.

The pictures are drawn from the tables below, where the machines and the conditions are. Direct solvers are faster on
small tables and leave more digits in float64; coordinate descent is faster for a single lasso.

```{eval-rst}
.. plot:: pictures/performance.py draw_times
   :alt: The time of each peer over ours, table by table

.. plot:: pictures/performance.py draw_errors
   :alt: The error of each peer's predictions, table by table

.. plot:: pictures/performance.py draw_memory
   :alt: Memory of a fit beside the table

.. plot:: pictures/performance.py draw_steps
   :alt: Microseconds a step of textbook mode

.. plot:: pictures/performance.py draw_lasso
   :alt: The time of a lasso over scikit-learn's
```
"""


def cpu_model() -> str:
    """Name of the processor, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine() -> str:
    """One line on where and with what the numbers came about."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PEERS]
    for name in MORE_PEERS:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{datetime.date.today()}, {cpu_model()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, {accelerator}; "
        f"Python {platform.python_version()}, {', '.join(versions)}."
    )


def write(sections: dict[str, str]) -> None:
    """Put sections, by title, into the performance page; the page's other sections stay as they are."""
    page = PERFORMANCE_PAGE.read_text(encoding="utf-8") if PERFORMANCE_PAGE.exists() else ""
    kept = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    everything = kept | sections
    body = [f"\n## {title}\n\n{text.strip()}\n" for title, text in everything.items()]
    PERFORMANCE_PAGE.write_text(INTRODUCTION + "".join(body), encoding="utf-8")


def main() -> None:
    """Read the command line, run, print and perhaps write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(BENCHMARKS)} (default: all)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--quick", action="store_true", help="small tables: to see that it runs, not to learn from it")
    output.add_argument("--write", action="store_true", help="write the results into docs/performance.md as well")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    sections = {}
    for name in arguments.names or BENCHMARKS:
        title, report = BENCHMARKS[name]
        sections[title] = f"{machine()}\n\n{report(arguments.quick)}"
        print(f"## {title}\n\n{sections[title]}\n", flush=True)
    if arguments.write:
        write(sections)


if __name__ == "__main__":
    main()
