"""Time contenders side by side in one process, and show the result as a Markdown table."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Timings:
    """Seconds that each contender took, a list per contender and an entry per round.

    Parameters
    ----------
    seconds : mapping of str to sequence of float
        Wall-clock seconds; entry ``i`` of every list comes from round ``i``, unless the list is shorter than
        others: that contender was too slow for as many runs.
    """

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.seconds[name])

    def n_runs(self, name: str) -> int:
        """Count the timed runs of one contender."""
        return len(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """How many times longer `slow` takes than `fast`: the median of each round's own ratio.

        Both runs of a round see the same state of the machine, so a busy spell moves single ratios and not
        their median, where it could move one of two separate medians. Those it is, where one of the two ran less often.
        """
        if self.n_runs(slow) != self.n_runs(fast):
            return self.median(slow) / self.median(fast)
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(slower / faster for slower, faster in pairs)


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    warm_up: int = 1,
    patience: Mapping[str, float] | None = None,
    runs_if_slow: int = 1,
) -> Timings:
    """Run every contender once a round, in turn, and time each run.

    Parameters
    ----------
    contenders : mapping of str to callable
        What to run, without arguments, by name.
    rounds : int, default=7
        Timed runs of each contender.
    warm_up : int, default=1
        Runs of each contender beforehand that do not count: imports, caches, thread pools.
    patience : mapping of str to float, optional
        Seconds by name. A contender whose warm-up takes longer is slow, and that run counts.
    runs_if_slow : int, default=1
        Timed runs of a slow contender, that one included.

    Returns
    -------
    Timings
        The seconds of every run.

    Raises
    ------
    ValueError
        If `rounds` is below 5: the median of fewer is not worth printing.
    """
    if rounds < FEWEST_ROUNDS:
        raise ValueError(f"rounds={rounds} is too few for a median; use at least {FEWEST_ROUNDS}.")
    with without_old_garbage():
        return Timings(_rounds(contenders, rounds, warm_up, patience or {}, runs_if_slow))


@contextmanager
def without_old_garbage() -> Iterator[None]:
    """Let the garbage collector pass over what is there: clearing up before each run would search all imports."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _rounds(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int,
    patience: Mapping[str, float],
    runs_if_slow: int,
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    runs = dict.fromkeys(contenders, rounds)
    for name, run in contenders.items():
        for _ in range(warm_up):
            took = seconds_of(run)
            if took > patience.get(name, math.inf):
                seconds[name], runs[name] = [took], runs_if_slow
                break
    for _ in range(rounds):
        for name in contenders:
            if len(seconds[name]) < runs[name]:
                seconds[name].append(seconds_of(contenders[name]))
    return seconds


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of one run; what earlier runs left for the garbage collector is cleared first."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    finally:
        if was_enabled:
            gc.enable()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a Markdown table: first column to the left, the others to the right.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : iterable of sequences
        Cells, as many in each row as there are titles; shown with `str`.

    Returns
    -------
    str
        The table, with no newline at its end.
    """
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = [header, rule, *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
