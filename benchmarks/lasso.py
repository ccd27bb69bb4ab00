"""The lasso and the elastic net beside coordinate descent with gap-safe screening, to the same answers.

Ten features matter, and noise has a hundredth to a tenth of their size. Single fits have a penalty of a share of the
largest that leaves a weight, `Lasso` a tolerance of 1e-9; paths have 100 penalties and 5 folds, `LassoCV` and
`ElasticNetCV` a tolerance of 1e-8. "Difference" is that of the coefficients from those of scikit-learn at a tolerance
of 1e-14, over the largest of these.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV

from benchmarks.timing import FEWEST_ROUNDS, alternate, markdown_table
from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV

FITS, PATHS = ((2000, 200), (200, 1500), (1000, 5000), (100_000, 50)), ((442, 10), (2000, 200), (200, 1500))
QUICK = ((60, 8),)
SHARES = (20, 100)
PEERS = ("celer", "skglm")
PATIENCE = 8.0  # seconds, beyond which once is enough
OURS, SKLEARN = "ours", "scikit-learn"
FACTOR_OF_FITS, FACTOR_OF_PATHS = 3.0, 2.0  # targets


def make(n_rows: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a table and a target."""
    rng = np.random.default_rng(0)
    X, coef = rng.standard_normal((n_rows, n_features)), np.zeros(n_features)
    n_true = min(10, n_features)
    coef[rng.choice(n_features, n_true, replace=False)] = rng.uniform(10, 100, n_true)
    return X, X @ coef + 10 * rng.standard_normal(n_rows)


def peers(alpha: float) -> dict:
    """Return estimators of packages that may be installed, by name."""
    found = {}
    for name in PEERS:
        if importlib.util.find_spec(name) is not None:
            package = importlib.import_module(name)
            found[name] = package.Lasso(alpha=alpha, tol=1e-9)
    return found


def difference(coef: np.ndarray, trusted: np.ndarray) -> str:
    """Return how far coefficients are from the trusted ones, in words."""
    return f"{np.abs(coef - trusted).max() / max(np.abs(trusted).max(), 1e-300):.0e}"


def time_fits(n_rows: int, n_features: int, rounds: int) -> list[list[str]]:
    """Fit one model with each of two penalties."""
    X, y = make(n_rows, n_features)
    largest = np.abs((X - X.mean(0)).T @ (y - y.mean())).max() / n_rows
    rows = []
    for share in SHARES:
        alpha = largest / share
        trusted = Lasso(alpha, tol=1e-14, max_iter=10**5).fit(X, y).coef_
        models = {
            OURS: TorchLinearRegressor(penalty="l1", alpha=alpha),
            SKLEARN: Lasso(alpha, tol=1e-9, max_iter=10**5),
            **peers(alpha),
        }
        timings = alternate({name: lambda fit=model.fit: fit(X, y) for name, model in models.items()}, rounds=rounds)
        for name, model in models.items():
            ratio = f"{timings.ratio(name, SKLEARN):.2f}"
            seconds = f"{1e3 * timings.median(name):.1f}"
            rows.append(
                [f"{n_rows}×{n_features}", f"1/{share}", name, seconds, ratio, difference(model.coef_, trusted)]
            )
    return rows


def time_paths(n_rows: int, n_features: int, rounds: int) -> list[list[str]]:
    """Choose a penalty by cross-validation."""
    X, y = make(n_rows, n_features)
    rows = []
    for penalty, of_sklearn, mixture in (("l1", LassoCV, {}), ("elasticnet", ElasticNetCV, {"l1_ratio": 0.5})):
        scoring = "neg_mean_squared_error"
        models = {
            OURS: TorchLinearRegressorCV(penalty=penalty, alphas=100, eps=1e-3, cv=5, scoring=scoring, **mixture),
            SKLEARN: of_sklearn(alphas=100, cv=5, tol=1e-8, max_iter=10**5, **mixture),
        }
        timings = alternate(
            {name: lambda fit=model.fit: fit(X, y) for name, model in models.items()},
            rounds=rounds,
            patience=dict.fromkeys(models, PATIENCE),
        )
        l1_ratio = mixture.get("l1_ratio", 1.0)
        for name, model in models.items():
            trusted = ElasticNet(model.alpha_, l1_ratio=l1_ratio, tol=1e-14, max_iter=10**5).fit(X, y).coef_
            ratio, seconds = f"{timings.ratio(name, SKLEARN):.2f}", f"{1e3 * timings.median(name):.1f}"
            rows.append([f"{n_rows}×{n_features}", penalty, name, seconds, ratio, difference(model.coef_, trusted)])
    return rows


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to shrink the tables: to see that it runs, not to learn from it.
    """
    rounds = FEWEST_ROUNDS if quick else 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of coordinate descent, which the differences tell
        warnings.filterwarnings("ignore", message="alpha_=")
        fits = [row for size in (QUICK if quick else FITS) for row in time_fits(*size, rounds)]
        paths = [row for size in (QUICK if quick else (*PATHS, FITS[-1])) for row in time_paths(*size, rounds)]
    header = ["table", "penalty", "contender", "ms", "times scikit-learn's", "difference"]
    absent = [name for name in PEERS if importlib.util.find_spec(name) is None]
    return "\n\n".join(
        [
            __doc__.partition("\n")[2].strip(),
            f"### Fits\n\nAimed at: {FACTOR_OF_FITS:g} times at most.",
            *([f"Not installed here: {', '.join(absent)}."] if absent else []),
            markdown_table(header, fits),
            f"### Paths\n\nAimed at: {FACTOR_OF_PATHS:g} times at most.",
            markdown_table(header, paths),
        ]
    )
