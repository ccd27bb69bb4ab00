"""Least squares from a raw table, as it comes: the time of a fit, and how far its predictions are from the answer.

Everybody starts from the same arrays; where a contender needs standardised columns, standardising is part of its time.
The answer to compare with is the trusted one: centred, scaled columns in float64, by QR and SVD. Errors are those of
`predict`, as the user sees it, on at most 200 000 rows of the table, in spreads of the target.

Tables have Gaussian columns of spread one, with a condition number of 10 and an offset of one deviation;
"correlated" ones a condition number of 1e4 and offsets of ten deviations; "dummies" are full sets of 20 indicators.

- `Ridge` has a tiny penalty: ten times the smallest power of ten, from 1e-7 on, with which the matrix that it
  factorises by Cholesky is positive definite in the precision of the table. With less it falls back to an SVD.
- sklearnex is scikit-learn-intelex, `pip install ".[peers]"`, its estimators used as they are, without patching.
- `SGDRegressor` follows a `StandardScaler`, with the best of four settings by its error, found beforehand.
- skorch and the plain loop train `nn.Linear` on standardised columns by Adam, rate 0.01, in batches of 128, or of 32
  if rows are few: 100 epochs of the smallest table, 10 of 1e4 rows, and **one epoch only** from 1e5 rows on. Their time
  is that of reaching the error shown, and not of reaching ours.

Where the column "runs" says 1, a single run is all there is: that of a direct solver which takes longer than ten
seconds, or of a peer by SGD which takes longer than four. The last column says where a peer does better than
`TorchLinearRegressor()`.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import scipy.linalg
import torch
from sklearn.linear_model import LinearRegression, Ridge, SGDRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from benchmarks.reference import Judge, Size
from benchmarks.targets import (
    DTYPES,
    INTEL,
    INTEL_RIDGE,
    LINEAR,
    LOOP,
    LSQR,
    OURS,
    RIDGE,
    SGD,
    SIZES,
    SKORCH,
    STOCHASTIC,
    Result,
    format_ratio,
    targets_tables,
)
from benchmarks.timing import alternate, markdown_table
from torchlinreg import TorchLinearRegressor

# Seconds
PATIENCE = dict.fromkeys((LINEAR, RIDGE, LSQR, INTEL, INTEL_RIDGE), 10.0) | dict.fromkeys(STOCHASTIC, 4.0)
QUICK_ROWS, QUICK_FEATURES, QUICK_PATIENCE = 1000, 25, 0.02
ROUNDS, ROUNDS_IF_SMALL = 5, 11
SMALL_TABLE = 200_000  # numbers
LEARNING_RATE = 0.01
ROWS_TO_LEARN_FROM, MOST_EPOCHS = 100_000, 100  # of skorch and the loop
NUMBERS_TO_LEARN_FROM = 1_000_000_000  # of SGDRegressor, in all its epochs

Predict = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], Predict]
Outcome = TypeVar("Outcome")


def fit_ours(X: np.ndarray, y: np.ndarray) -> Predict:
    """Fit with every default."""
    return TorchLinearRegressor().fit(X, y).predict


def fit_linear(X: np.ndarray, y: np.ndarray) -> Predict:
    """Fit scikit-learn's direct solver."""
    return LinearRegression().fit(X, y).predict


def fit_ridge(X: np.ndarray, y: np.ndarray, *, solver: str, alpha: float) -> Predict:
    """Fit with a penalty that is meant to be of no effect."""
    return Ridge(alpha=alpha, solver=solver).fit(X, y).predict


def fit_intel(X: np.ndarray, y: np.ndarray, *, name: str, **parameters) -> Predict:
    """Fit an estimator of scikit-learn-intelex."""
    estimators = importlib.import_module("sklearnex.linear_model")
    return getattr(estimators, name)(**parameters).fit(X, y).predict


def intel_fits(alpha: float) -> dict[str, Fit]:
    """Return the fits of scikit-learn-intelex, by name; none where it is not installed."""
    if importlib.util.find_spec("sklearnex") is None:
        return {}
    return {
        INTEL: partial(fit_intel, name="LinearRegression"),
        INTEL_RIDGE: partial(fit_intel, name="Ridge", alpha=alpha),
    }


def fit_sgd(X: np.ndarray, y: np.ndarray, *, settings: dict) -> Predict:
    """Fit scikit-learn's SGD on standardised columns."""
    max_iter = min(1000, max(1, NUMBERS_TO_LEARN_FROM // X.size))
    sgd = SGDRegressor(penalty=None, max_iter=max_iter, tol=1e-5, random_state=0, **settings)
    return make_pipeline(StandardScaler(), sgd).fit(X, y).predict


def fit_skorch(X: np.ndarray, y: np.ndarray, *, n_epochs: int) -> Predict:
    """Fit skorch's regressor on standardised columns, without callbacks or a validation split."""
    torch.manual_seed(0)
    net = NeuralNetRegressor(
        nn.Linear,
        module__in_features=X.shape[1],
        module__out_features=1,
        module__dtype=torch.from_numpy(X[:1]).dtype,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        batch_size=batch_size(len(X)),
        max_epochs=n_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks="disable",
        verbose=0,
    )
    pipeline = make_pipeline(StandardScaler(), net).fit(X, y[:, None])
    return lambda rows: pipeline.predict(rows)[:, 0]


def fit_loop(X: np.ndarray, y: np.ndarray, *, n_epochs: int) -> Predict:
    """Train nn.Linear on standardised columns, as the concise tutorials do."""
    torch.manual_seed(0)
    scaler = StandardScaler()
    data = torch.utils.data.TensorDataset(torch.from_numpy(scaler.fit_transform(X)), torch.from_numpy(y[:, None]))
    loader = torch.utils.data.DataLoader(data, batch_size=batch_size(len(X)), shuffle=True)
    net, loss = nn.Linear(X.shape[1], 1, dtype=data.tensors[0].dtype), nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    for _ in range(n_epochs):
        for X_batch, y_batch in loader:
            value = loss(net(X_batch), y_batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return lambda rows: net(torch.from_numpy(scaler.transform(rows))).detach().numpy()[:, 0]


def few_epochs(n_rows: int) -> int:
    """Epochs of skorch and the loop: so many that they see 100 000 rows, but not more than 100."""
    return min(MOST_EPOCHS, max(1, ROWS_TO_LEARN_FROM // n_rows))


def batch_size(n_rows: int) -> int:
    """Rows a step of skorch and the loop."""
    return 32 if n_rows < 2000 else 128


def sgd_grid(n_rows: int, n_features: int) -> dict[str, dict]:
    """Four settings of SGDRegressor; rates go by the length of a standardised row, averages begin with epoch two."""
    slow, fast, largest = (share / n_features for share in (0.1, 0.5, 1.0))
    return {
        "slow, averaged": {"learning_rate": "constant", "eta0": slow, "average": n_rows},
        "fast, averaged": {"learning_rate": "constant", "eta0": fast, "average": n_rows},
        "invscaling": {"learning_rate": "invscaling", "eta0": largest},
        "adaptive": {"learning_rate": "adaptive", "eta0": fast},
    }


def best_sgd(X: np.ndarray, y: np.ndarray, judge: Judge) -> tuple[str, dict]:
    """Try the grid once; return the name and the settings with the smallest error."""
    grid = sgd_grid(*X.shape)

    def rms(settings: dict) -> float:
        with suppress(ValueError):  # that it diverged
            return judge(quietly(partial(fit_sgd, settings=settings))(X, y)).rms
        return math.inf

    return min(grid.items(), key=lambda entry: rms(entry[1]))


def smallest_alpha(X: np.ndarray) -> float:
    """Return the penalty that lets Ridge's Cholesky factorisation succeed, with a margin of ten."""
    centred = X - X.mean(0)
    products = centred.T @ centred
    alpha = 1e-7
    while True:
        with suppress(scipy.linalg.LinAlgError):
            scipy.linalg.cholesky(products + np.diag(np.full_like(products[0], alpha)))
            return 10 * alpha
        alpha *= 10


def quietly(fit: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Keep a peer's warnings, that it did not converge for one, out of the report: its error says it all."""

    def fit_quietly(*table: np.ndarray) -> Outcome:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fit(*table)

    return fit_quietly


def measure(size: Size, dtype: str, *, quick: bool = False) -> Result:
    """Fit everybody to one table, or to a small one of its kind, in turn."""
    size = shrunk(size) if quick else size
    n_epochs, patience = (1, dict.fromkeys(PATIENCE, QUICK_PATIENCE)) if quick else (few_epochs(size.n_rows), PATIENCE)
    X, y = size.make(dtype)
    judge = Judge(X, y)
    alpha = smallest_alpha(X)
    name, settings = best_sgd(X, y, judge)
    peers: dict[str, Fit] = {
        LINEAR: fit_linear,
        RIDGE: partial(fit_ridge, solver="cholesky", alpha=alpha),
        LSQR: partial(fit_ridge, solver="lsqr", alpha=alpha),
        **intel_fits(alpha),
        SGD: partial(fit_sgd, settings=settings),
        SKORCH: partial(fit_skorch, n_epochs=n_epochs),
        LOOP: partial(fit_loop, n_epochs=n_epochs),
    }
    fits = {OURS: fit_ours} | {peer: quietly(fit) for peer, fit in peers.items()}
    fitted: dict[str, Predict] = {}

    def run(contender: str) -> None:
        fitted[contender] = fits[contender](X, y)

    rounds = ROUNDS_IF_SMALL if X.size <= SMALL_TABLE else ROUNDS
    timings = alternate({c: partial(run, c) for c in fits}, rounds=rounds, patience=patience)
    errors = {contender: judge(fitted[contender]) for contender in fits}
    notes = {peer: [f"alpha={alpha:.0e}"] for peer in (RIDGE, LSQR, INTEL_RIDGE)} | {SGD: [name]}
    coef_error = judge.coef_error(TorchLinearRegressor().fit(X, y).coef_)
    return Result(f"{size.title}, {dtype}", timings, errors, notes, coef_error)


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the tables: to see that it runs, not to learn from it.
    """
    results = {(size, dtype): measure(size, dtype, quick=quick) for size in SIZES for dtype in DTYPES}
    parts = [__doc__.partition("\n")[2].strip(), "### Targets", targets_tables(results)]
    for result in results.values():
        parts += [f"### {result.title}", result_table(result)]
    return "\n\n".join(parts)


def shrunk(size: Size) -> Size:
    """Return a small table of the same kind."""
    return replace(size, n_rows=min(size.n_rows, QUICK_ROWS), n_features=min(size.n_features, QUICK_FEATURES))


def result_table(result: Result) -> str:
    """Lay out a table with a row for each contender."""
    rows = [
        (
            ", ".join([name, *result.notes.get(name, [])]),
            format_seconds(result.timings.median(name)),
            result.timings.n_runs(name),
            format_ratio(result.ratio(name, OURS)),
            f"{error.rms:.1e}",
            f"{error.largest:.1e}",
            better(result, name),
        )
        for name, error in result.errors.items()
    ]
    return markdown_table(("", "time", "runs", "times ours", "RMS error", "largest error", "better than ours"), rows)


def better(result: Result, name: str) -> str:
    """Say in what a contender beats ours, if in anything."""
    faster = result.ratio(name, OURS) < 1
    closer = result.errors[name].rms < result.errors[OURS].rms
    wins = [word for word, holds in (("faster", faster), ("more accurate", closer)) if holds]
    return f"**{' and '.join(wins)}**" if wins else ""


def format_seconds(seconds: float) -> str:
    """Write a time with two digits or more, in ms or s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{1e3 * seconds:.2f} ms"
