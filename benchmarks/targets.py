"""What is aimed at in the table of least squares, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.reference import Error, Size
from benchmarks.timing import Timings, markdown_table

OURS, LINEAR = "TorchLinearRegressor()", "LinearRegression"
RIDGE, LSQR = 'Ridge(solver="cholesky")', 'Ridge(solver="lsqr")'
SGD, SKORCH, LOOP = "SGDRegressor", "skorch, nn.Linear", "DataLoader loop, nn.Linear"
INTEL, INTEL_RIDGE = "sklearnex LinearRegression", "sklearnex Ridge"
STOCHASTIC = (SGD, SKORCH, LOOP)

SMALLEST, SMALL, FIRST_LARGE = Size(442, 10), Size(10_000, 10), Size(100_000, 30)
CORRELATED, WIDE = Size(1_000_000, 100, "correlated"), Size(200_000, 1000)
SIZES = (
    SMALLEST,
    SMALL,
    FIRST_LARGE,
    Size(1_000_000, 10),
    Size(1_000_000, 100),
    CORRELATED,
    WIDE,
    Size(1_000_000, 100, "dummies"),
)
LARGE = SIZES[2:]
DTYPES = ("float32", "float64")

SLOWER_IF_SMALL = {SMALLEST: 2.5, SMALL: 1.5}  # times LinearRegression
NARROW, SLOWER_IF_NARROW = 100, 2.0  # features; up to there, times sklearnex
CLOSER = 20  # times as close to the answer as sklearnex in float32
PREDICTION_ERROR = {"float32": 1e-6, "float64": 1e-10}
COEF_ERROR = {"float32": 1e-5, "float64": 1e-10}


@dataclass(frozen=True)
class Result:
    """What came out on one table; names of contenders are the keys.

    Parameters
    ----------
    title : str
    timings : Timings
    errors : dict of str to Error
        Of predictions.
    notes : dict of str to list of str
    coef_error : float
        Of our coefficients, relative to all of them; NaN if no other ones are wrong.
    """

    title: str
    timings: Timings
    errors: dict[str, Error]
    notes: dict[str, list[str]]
    coef_error: float = math.nan

    def ratio(self, slow: str, fast: str) -> float:
        """How many times longer one takes than the other."""
        return self.timings.ratio(slow, fast)


Results = dict[tuple[Size, str], Result]


def targets_tables(results: Results) -> str:
    """Lay out targets for times, for times and errors together, and for errors."""
    header = ("ratio of times", "table", "measured", "target", "our error", "allowed", "met")
    error_header = ("table", "predictions", "allowed", "coefficients", "allowed", "met")
    rule = (
        "Errors are RMS; at 2e5×1000 the largest one. For the last three rows: the table with the smallest ratio, and "
        "the largest that our error is, on any table, as a share of that peer's."
    )
    errors_rule = (
        "The error of predictions is RMS, in spreads of the target; that of coefficients is the length of the "
        "difference from the right ones, as a share of theirs, and is left out where columns depend on each other."
    )
    return "\n\n".join(
        [
            rule,
            markdown_table(header, [*_speed_rows(results), *_intel_rows(results), *_stochastic_rows(results)]),
            *([] if _has_intel(results) else ["sklearnex is left out: scikit-learn-intelex is not installed."]),
            errors_rule,
            markdown_table(error_header, [_error_row(dtype, result) for (_, dtype), result in results.items()]),
        ]
    )


def _speed_rows(results: Results) -> list[tuple[str, ...]]:
    correlated, wide = results[CORRELATED, "float32"], results[WIDE, "float32"]
    rms, largest = correlated.errors[OURS].rms, wide.errors[OURS].largest
    return [
        _at_least(correlated, LINEAR, 8, error=rms, allowed=correlated.errors[LINEAR].rms),
        _at_least(correlated, RIDGE, 1, error=rms, allowed=correlated.errors[RIDGE].rms / 10),
        _at_least(wide, LINEAR, 5, error=largest, allowed=1e-4),
        *(_at_most(results[size, dtype], LINEAR, most) for size, most in SLOWER_IF_SMALL.items() for dtype in DTYPES),
        *(_at_most(results[size, dtype], peer, 1) for peer in (LINEAR, RIDGE) for size in LARGE for dtype in DTYPES),
    ]


def _has_intel(results: Results) -> bool:
    return all(INTEL in result.errors for result in results.values())


def _intel_rows(results: Results) -> list[tuple[str, ...]]:
    if not _has_intel(results):
        return []
    rows = []
    for size in LARGE:
        most = 1 if size.n_rows * size.n_features >= 1_000_000 * NARROW else SLOWER_IF_NARROW
        for dtype in DTYPES:
            result = results[size, dtype]
            allowed = result.errors[INTEL].rms / CLOSER if dtype == "float32" else math.inf
            rows.append(_at_most(result, INTEL, most, allowed=allowed))
    return rows


def _stochastic_rows(results: Results) -> list[tuple[str, ...]]:
    return [_everywhere(results.values(), peer) for peer in STOCHASTIC]


def _error_row(dtype: str, result: Result) -> tuple[str, ...]:
    rms, allowed = result.errors[OURS].rms, PREDICTION_ERROR[dtype]
    known = not math.isnan(result.coef_error)
    met = rms <= allowed and not (known and result.coef_error > COEF_ERROR[dtype])
    of_coef = (f"{result.coef_error:.1e}", f"{COEF_ERROR[dtype]:.0e}") if known else ("", "")
    return (result.title, f"{rms:.1e}", f"{allowed:.0e}", *of_coef, yes(met))


def _at_least(result: Result, peer: str, target: float, *, error: float, allowed: float) -> tuple[str, ...]:
    ratio = result.ratio(peer, OURS)
    met = ratio >= target and error <= allowed
    return (
        f"{peer} / ours",
        result.title,
        format_ratio(ratio),
        f"≥ {target}",
        f"{error:.1e}",
        f"{allowed:.1e}",
        yes(met),
    )


def _at_most(result: Result, peer: str, target: float, *, allowed: float = math.inf) -> tuple[str, ...]:
    ratio, error = result.ratio(OURS, peer), result.errors[OURS].rms
    errors = (f"{error:.1e}", f"{allowed:.1e}") if math.isfinite(allowed) else ("", "")
    met = ratio <= target and error <= allowed
    return (f"ours / {peer}", result.title, format_ratio(ratio), f"≤ {target:g}", *errors, yes(met))


def _everywhere(results: Iterable[Result], peer: str) -> tuple[str, ...]:
    results = list(results)
    closest = min(results, key=lambda result: result.ratio(peer, OURS))
    ratio = closest.ratio(peer, OURS)
    share = max(result.errors[OURS].rms / result.errors[peer].rms for result in results)
    met = ratio >= 1 and share <= 1
    return (f"{peer} / ours", closest.title, format_ratio(ratio), "≥ 1", f"{share:.1e} of its", "all of it", yes(met))


def format_ratio(ratio: float) -> str:
    """Write a ratio with two digits or more."""
    return f"{ratio:.{0 if ratio >= 10 else 2}f}"


def yes(met: bool) -> str:
    """Write whether a target was met."""
    return "yes" if met else "**no**"
