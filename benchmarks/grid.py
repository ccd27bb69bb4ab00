"""A grid of penalties by cross-validation, and bootstrap resamples, against fits of one model after the other.

All settings of a fold are columns of one weight matrix, and so are all resamples. Times and ratios come first.

Grids are 64 alphas × 5 folds (`KFold`, not shuffled), the refit to all rows included, on 1e5×50, float32: condition
number 1e4, offsets of ten deviations. With L2 the alphas span six decades: those of `Ridge` and `RidgeCV` are ours
times the rows to learn from, as their squared error is a sum. With the elastic net, `l1_ratio=0.5`, they are the path
that `ElasticNetCV(alphas=64)` chooses: three decades, down from the smallest alpha that leaves no weights.
Peers have the `max_iter` and `tol` that they have by default, whether they converge with it or not.

- Where the column "runs" says 3, a run takes longer than five seconds.
- `GridSearchCV(ElasticNet)` would take many minutes: it gets every eighth alpha, from the fifth on, in the first fold
  only, and no refit. Its time is the one measured, times 8 × 5.
- "error" is that of the mean squared errors on held-out rows, averaged over folds: the largest of all alphas, relative
  to the right one. That comes in float64, from an SVD or from `ElasticNetCV(tol=1e-10)`. `RidgeCV` does not show any.

For the bootstrap the table is 1e4×20, float64, and the estimator `TorchLinearRegressor()`.

Memory is the highest resident size during a fit in a process of its own, less what was there before it, X included.
Beside it stands what a number for each model and row would take, in the precision of X: what is kept for a model must
not grow with the rows. The models of a grid are those of one fold, as folds go one after the other. Where the loss is
no square the rows that a fold learns from are copied, 0.8 of X; squares are summarised.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from sklearn.linear_model import ElasticNet, ElasticNetCV, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold

from benchmarks.memory import PROCESS, beyond_table, numbers_from
from benchmarks.reference import Size
from benchmarks.targets import format_ratio, yes
from benchmarks.timing import Timings, alternate, markdown_table
from benchmarks.untuned import format_seconds, quietly
from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.analysis.bootstrap import bootstrap

TABLE, RESAMPLED = Size(100_000, 50, "correlated"), Size(10_000, 20)
N_ALPHAS, N_FOLDS, N_RESAMPLES = 64, 5, 1000
LARGEST, SMALLEST = 10.0, 1e-5  # alphas with L2; with less, float32 is too short for `Ridge`
L1_RATIO = 0.5
FIRST, EVERY = 4, 8  # alphas for the contender that is too slow for all of them
EXACT, EXACT_SWEEPS = 1e-10, 1_000_000  # tol and max_iter of the elastic net to trust
PATIENCE, RUNS_IF_SLOW, ROUNDS = 5.0, 3, 5  # seconds, and runs
QUICK_ROWS, QUICK_FEATURES, QUICK_ALPHAS, QUICK_RESAMPLES, QUICK_PATIENCE = 500, 10, 8, 20, 0.02

OURS, OURS_SEARCH = "TorchLinearRegressorCV", "GridSearchCV(TorchLinearRegressor)"
RIDGE_SEARCH = 'GridSearchCV(Ridge(solver="cholesky"))'
RIDGE_CV, RIDGE_LOO = f"RidgeCV(cv={N_FOLDS})", "RidgeCV(), leave-one-out"
ELASTIC_CV, ELASTIC_SEARCH = "ElasticNetCV(precompute=True)", "GridSearchCV(ElasticNet)"
ONE_FIT, RESAMPLES = "one fit", "bootstrap"
RESAMPLES_TARGET = 30.0  # fits

# Learns from a table; returns the mean squared error on held-out rows by alpha, the largest alpha first, if it is told
Search = Callable[[np.ndarray, np.ndarray], np.ndarray | None]


@dataclass(frozen=True)
class Contender:
    """A way to search a grid.

    Parameters
    ----------
    search : callable
    target : float, optional
        Times that ours is to be as fast.
    share : float, default=1
        Of the fits of the grid, those that it does.
    """

    search: Search
    target: float | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """Models whose memory is measured.

    Parameters
    ----------
    size : Size
    dtype : str
    n_models : tuple of int
        How many, the fewest first.
    fit : callable (X, y, n_models)
    """

    size: Size
    dtype: str
    n_models: tuple[int, ...]
    fit: Callable


def fit_grid(X: np.ndarray, y: np.ndarray, n_models: int, *, loss: str) -> None:
    """Fit a grid of alphas with L2."""
    TorchLinearRegressorCV(alphas=n_models, cv=N_FOLDS, loss=loss).fit(X, y)


def resample(X: np.ndarray, y: np.ndarray, n_models: int) -> None:
    """Resample with every other default."""
    bootstrap(TorchLinearRegressor(), X, y, n_resamples=n_models, random_state=0)


CASES: dict[str, Case] = {
    "grid, squared error": Case(
        Size(200_000, 50, "correlated"), "float32", (8, 64, 512), partial(fit_grid, loss="squared_error")
    ),
    "grid, Huber": Case(Size(100_000, 20, "correlated"), "float32", (8, 64), partial(fit_grid, loss="huber")),
    "bootstrap": Case(Size(100_000, 20, "correlated"), "float32", (100, 1000), resample),
}


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink tables and grids: to see that it runs, not to learn from it.
    """
    searched, resampled = (shrunk(TABLE), shrunk(RESAMPLED)) if quick else (TABLE, RESAMPLED)
    n_alphas, patience, n_resamples = (
        (QUICK_ALPHAS, QUICK_PATIENCE, QUICK_RESAMPLES) if quick else (N_ALPHAS, PATIENCE, N_RESAMPLES)
    )
    sections = {
        f"L2, {searched.title}": l2_table(searched, n_alphas, patience),
        f"Elastic net, {searched.title}": elastic_table(searched, n_alphas, patience),
        f"Bootstrap, {resampled.title}": bootstrap_table(resampled, n_resamples),
        "Memory of many models": memory_table(
            {name: shrunk_case(case) if quick else case for name, case in CASES.items()}
        ),
    }
    parts = [part for title, table in sections.items() for part in (f"### {title}", table)]
    return "\n\n".join([__doc__.partition("\n")[2].strip(), *parts])


def l2_table(size: Size, n_alphas: int, patience: float) -> str:
    """Time everybody who searches a grid of L2 penalties, and lay it out."""
    X, y = size.make("float32")
    alphas = np.geomspace(LARGEST, SMALLEST, n_alphas)
    right = ridge_errors(X.astype("float64"), y.astype("float64"), alphas)
    return search_table(l2_contenders(alphas), X, y, right, patience)


def elastic_table(size: Size, n_alphas: int, patience: float) -> str:
    """Time everybody who searches a grid of elastic-net penalties, and lay it out."""
    X, y = size.make("float32")
    exact = elastic_net_cv(n_alphas, tol=EXACT, max_iter=EXACT_SWEEPS).fit(X.astype("float64"), y.astype("float64"))
    return search_table(elastic_contenders(exact.alphas_), X, y, exact.mse_path_.mean(1), patience)


def ridge_errors(X: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """Return the right mean squared error for each penalty, by an SVD of the centred columns of each fold."""
    errors = []
    for train, test in KFold(N_FOLDS).split(X):
        x_mean, y_mean = X[train].mean(0), y[train].mean()
        U, singular, Vt = np.linalg.svd(X[train] - x_mean, full_matrices=False)
        target = singular * (U.T @ (y[train] - y_mean))
        coef = Vt.T @ (target[:, None] / (singular[:, None] ** 2 + len(train) * alphas))
        errors.append((((X[test] - x_mean) @ coef - (y[test] - y_mean)[:, None]) ** 2).mean(0))
    return np.mean(errors, axis=0)


def shrunk(size: Size) -> Size:
    """Return a small table of the same kind."""
    return replace(size, n_rows=QUICK_ROWS, n_features=QUICK_FEATURES)


def shrunk_case(case: Case) -> Case:
    """Return a case of few models of a small table."""
    return replace(case, size=shrunk(case.size), n_models=case.n_models[:2])


def l2_contenders(alphas: np.ndarray) -> dict[str, Contender]:
    """Return everybody who searches these penalties, the largest first."""
    return {
        OURS: Contender(quietly(partial(search_ours, alphas=alphas, penalty="l2"))),
        OURS_SEARCH: Contender(partial(search_one_by_one, alphas=alphas), 20),
        RIDGE_SEARCH: Contender(quietly(partial(search_ridge, alphas=alphas)), 10),
        RIDGE_CV: Contender(quietly(partial(ridge_cv, alphas=alphas, cv=N_FOLDS)), 1),
        RIDGE_LOO: Contender(quietly(partial(ridge_cv, alphas=alphas, cv=None)), 1),
    }


def elastic_contenders(alphas: np.ndarray) -> dict[str, Contender]:
    """Return everybody who searches these penalties, the largest first."""
    some = alphas[FIRST::EVERY]
    share = len(some) / len(alphas) / N_FOLDS
    return {
        OURS: Contender(quietly(partial(search_ours, alphas=alphas, penalty="elasticnet"))),
        ELASTIC_CV: Contender(quietly(partial(elastic_cv, alphas=alphas)), 1 / 3),
        ELASTIC_SEARCH: Contender(quietly(partial(search_elastic, alphas=some)), 10, share),
    }


def ours(alphas: np.ndarray, penalty: str) -> TorchLinearRegressorCV:
    """Return the search that this is about."""
    return TorchLinearRegressorCV(alphas=alphas, cv=N_FOLDS, penalty=penalty, l1_ratio=L1_RATIO)


def search_ours(X: np.ndarray, y: np.ndarray, *, alphas: np.ndarray, penalty: str) -> np.ndarray:
    """Train all settings at once."""
    return ours(alphas, penalty).fit(X, y).mse_path_.mean(1)


def search_one_by_one(X: np.ndarray, y: np.ndarray, *, alphas: np.ndarray) -> np.ndarray:
    """Fit our estimator to each fold with each penalty."""
    return grid_search(TorchLinearRegressor(penalty="l2"), alphas, N_FOLDS).fit(X, y).cv_results_["mean_test_score"]


def search_ridge(X: np.ndarray, y: np.ndarray, *, alphas: np.ndarray) -> np.ndarray:
    """Fit `Ridge` to each fold with each penalty."""
    n_train = len(y) - len(y) // N_FOLDS
    return grid_search(Ridge(solver="cholesky"), n_train * alphas, N_FOLDS).fit(X, y).cv_results_["mean_test_score"]


def ridge_cv(X: np.ndarray, y: np.ndarray, *, alphas: np.ndarray, cv: int | None) -> None:
    """Search by folds, or leave one row out."""
    n_train = len(y) - (len(y) // cv if cv else 1)
    RidgeCV(n_train * alphas, cv=cv).fit(X, y)


def elastic_cv(X: np.ndarray, y: np.ndarray, *, alphas: np.ndarray) -> np.ndarray:
    """Follow the path of each fold by coordinate descent on products of columns."""
    return elastic_net_cv(alphas).fit(X, y).mse_path_.mean(1)


def elastic_net_cv(alphas: np.ndarray | int, *, tol: float = 1e-4, max_iter: int = 1000) -> ElasticNetCV:
    """Return scikit-learn's specialist."""
    return ElasticNetCV(alphas=alphas, l1_ratio=L1_RATIO, cv=N_FOLDS, precompute=True, tol=tol, max_iter=max_iter)


def search_elastic(X: np.ndarray, y: np.ndarray, *, alphas: np.ndarray) -> None:
    """Fit `ElasticNet` to the first fold only, with each penalty."""
    first = next(KFold(N_FOLDS).split(X))
    grid_search(ElasticNet(l1_ratio=L1_RATIO), alphas, [first], refit=False).fit(X, y)


def grid_search(estimator, alphas: np.ndarray, cv, *, refit: bool = True) -> GridSearchCV:
    """Return scikit-learn's search."""
    return GridSearchCV(estimator, {"alpha": alphas}, cv=cv, scoring="neg_mean_squared_error", refit=refit)


def search_table(
    contenders: Mapping[str, Contender], X: np.ndarray, y: np.ndarray, right: np.ndarray, patience: float
) -> str:
    """Let everybody search in turn, and lay out times, ratios and errors."""
    found: dict[str, np.ndarray | None] = {}

    def run(name: str) -> None:
        found[name] = contenders[name].search(X, y)

    timings = alternate(
        {name: partial(run, name) for name in contenders},
        rounds=ROUNDS,
        patience=dict.fromkeys(contenders, patience),
        runs_if_slow=RUNS_IF_SLOW,
    )
    timings = Timings({name: [s / contenders[name].share for s in took] for name, took in timings.seconds.items()})
    rows = [search_row(name, one.target, timings, worst_error(found[name], right)) for name, one in contenders.items()]
    return markdown_table(("", "time", "runs", "times ours", "target", "met", "error"), rows)


def search_row(name: str, target: float | None, timings: Timings, off: str) -> tuple[str, ...]:
    """Lay out how one contender did."""
    ratio = timings.ratio(name, OURS)
    verdict = ("", "") if target is None else (f"≥ {target:.2g}", yes(ratio >= target))
    return name, format_seconds(timings.median(name)), str(timings.n_runs(name)), format_ratio(ratio), *verdict, off


def worst_error(found: np.ndarray | None, right: np.ndarray) -> str:
    """Write the largest relative error of mean squared errors, which scikit-learn's scores are the negatives of."""
    return "" if found is None else f"{(np.abs(np.abs(found) - right) / right).max():.1e}"


def bootstrap_table(size: Size, n_resamples: int) -> str:
    """Time resamples beside one fit, and lay it out."""
    X, y = size.make("float64")
    timings = alternate(
        {
            ONE_FIT: partial(TorchLinearRegressor().fit, X, y),
            RESAMPLES: partial(resample, X, y, n_resamples),
        }
    )
    ratio = timings.ratio(RESAMPLES, ONE_FIT)
    rows = [
        (ONE_FIT, format_seconds(timings.median(ONE_FIT)), "1.00", "", ""),
        (
            f"{RESAMPLES}, {n_resamples} resamples",
            format_seconds(timings.median(RESAMPLES)),
            format_ratio(ratio),
            f"< {RESAMPLES_TARGET:g}",
            yes(ratio < RESAMPLES_TARGET),
        ),
    ]
    return markdown_table(("", "time", "times one fit", "target", "met"), rows)


def memory_table(cases: Mapping[str, Case]) -> str:
    """Measure each case, with few models and with many, and lay it out."""
    if not (PROCESS / "clear_refs").exists():
        return "Not measured: the highest resident size is read, and reset, by way of Linux's `/proc`."
    rows = [row for name, case in cases.items() for row in memory_rows(name, case)]
    header = ("", "models", "MB of X", "MB beyond X", "kB a further model", "MB of models × rows")
    return markdown_table(header, rows)


def memory_rows(name: str, case: Case) -> list[tuple[str, ...]]:
    """Lay out the memory of a case, a row for each number of models."""
    column = case.size.n_rows * int(case.dtype.removeprefix("float")) // 8
    taken = {count: measure_elsewhere(name, count, case.size) for count in case.n_models}
    rows, previous = [], None
    for count, beyond in taken.items():
        slope = "" if previous is None else f"{(beyond - taken[previous]) / (count - previous) / 1e3:.1f}"
        megabytes = (column * case.size.n_features, beyond, column * count)
        of_table, more, products = (f"{taken / 1e6:.0f}" for taken in megabytes)
        rows.append((f"{name}, {case.size.title}, {case.dtype}", str(count), of_table, more, slope, products))
        previous = count
    return rows


def measure_elsewhere(name: str, n_models: int, size: Size) -> int:
    """Return the bytes that so many models take beyond X, measured in a fresh process."""
    return numbers_from("benchmarks.grid", name, n_models, size.n_rows, size.n_features)[0]


def measure(name: str, n_models: int, n_rows: int, n_features: int) -> int:
    """Return the bytes that so many models take beyond X in this process."""
    case = CASES[name]
    size = replace(case.size, n_rows=n_rows, n_features=n_features)
    return beyond_table(partial(case.fit, n_models=n_models), size, case.dtype)


if __name__ == "__main__":
    print(measure(sys.argv[1], *map(int, sys.argv[2:])))
