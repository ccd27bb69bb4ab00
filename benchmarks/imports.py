"""What `import torchlinreg` adds to importing torch and scikit-learn.

Each import is in a process of its own, which has imported torch and scikit-learn's linear models before. Seconds are
those that the processor worked, as others may use the machine; files have been read and compiled before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.timing import markdown_table

ROUNDS, QUICK_ROUNDS = 9, 1
TARGET = 0.2  # seconds
PROGRAM = """
import time
start = time.process_time()
import torch, sklearn.linear_model
between = time.process_time()
import torchlinreg
print(between - start, time.process_time() - between)
"""


def measure() -> tuple[float, float]:
    """Return the seconds of importing torch and scikit-learn, and those that this package adds."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, added = map(float, done.stdout.split())
    return before, added


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to import once: to see that it runs, not to learn from it.
    """
    measure()  # compiles
    before, added = map(
        statistics.median, zip(*(measure() for _ in range(QUICK_ROUNDS if quick else ROUNDS)), strict=True)
    )
    rows = [
        ("torch and scikit-learn", f"{before:.2f} s", "", ""),
        ("torchlinreg, after these", f"{added:.2f} s", f"≤ {TARGET} s", "yes" if added <= TARGET else "**no**"),
    ]
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(("import", "time", "target", "met"), rows)])
