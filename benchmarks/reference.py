"""Tables to measure on, and the least-squares answer to trust.

A table is made in place, a block of rows at a time: beyond itself it takes next to no memory. The answer comes from
centred columns in float64, by a QR factorisation of block after block and an SVD of what is left, its columns scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

BLOCK_ELEMENTS = 2**21  # numbers handled at once, unless rows are so long that
ROWS_PER_FEATURE = 8  # a factorisation would find little to reduce
NOISE = 0.1  # in spreads of what the features explain
LEVELS = 20  # of each categorical variable
EVALUATED_ROWS = 200_000

Table = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Size:
    """A table to be made.

    Parameters
    ----------
    n_rows, n_features : int
    kind : str, default="mild"
        A key of `KINDS`.
    """

    n_rows: int
    n_features: int
    kind: str = "mild"

    @property
    def title(self) -> str:
        """Name of the table, such as ``1e6×100, correlated``."""
        exponent = len(str(self.n_rows)) - 1
        mantissa, rest = divmod(self.n_rows, 10**exponent)
        rows = self.n_rows if rest or exponent < 4 else f"{mantissa}e{exponent}"
        return f"{rows}×{self.n_features}" + ("" if self.kind == "mild" else f", {self.kind}")

    def make(self, dtype: str, seed: int = 0) -> Table:
        """Return X, C-contiguous, and y of shape (n_rows,), both of that precision."""
        return KINDS[self.kind](self.n_rows, self.n_features, dtype, np.random.default_rng(seed))


def mixed_columns(
    n_rows: int, n_features: int, dtype: str, rng: np.random.Generator, *, condition: float, offset: float
) -> Table:
    """Gaussian columns of spread one, in which all have the same say.

    Parameters
    ----------
    condition : float
        Condition number of the centred columns.
    offset : float
        Their mean, in deviations.
    """
    left, right = (np.linalg.qr(rng.standard_normal((n_features, n_features)))[0] for _ in range(2))
    singular = np.logspace(0, -np.log10(condition), n_features)
    mix = ((left * singular) @ right.T / np.sqrt((singular**2).mean())).astype(dtype)
    weights = rng.standard_normal(n_features).astype(dtype)
    X, y = np.empty((n_rows, n_features), dtype), np.empty(n_rows, dtype)
    for rows in blocks(n_rows, n_features):
        np.matmul(rng.standard_normal(X[rows].shape, dtype), mix, out=X[rows])
        y[rows] = X[rows] @ weights
        X[rows] += offset
    return X, _with_noise(y, rng)


def dummies(n_rows: int, n_features: int, dtype: str, rng: np.random.Generator) -> Table:
    """Full sets of indicators of categorical variables, the k-th level of each seen 1 / k times as often as the first.

    Every row has a one for each variable; the last variable has the levels that `n_features` leaves.
    """
    X, y = np.zeros((n_rows, n_features), dtype), np.zeros(n_rows, dtype)
    weights = rng.standard_normal(n_features).astype(dtype)
    for first in range(0, n_features, LEVELS):
        shares = 1.0 / np.arange(1, min(LEVELS, n_features - first) + 1)
        columns = first + rng.choice(len(shares), n_rows, p=shares / shares.sum())
        X[np.arange(n_rows), columns] = 1
        y += weights[columns]
    return X, _with_noise(y, rng)


def _with_noise(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y /= y.std()
    y += NOISE * rng.standard_normal(len(y), y.dtype)
    y += 3
    return y


KINDS: dict[str, Callable[..., Table]] = {
    "mild": partial(mixed_columns, condition=10, offset=1),
    "correlated": partial(mixed_columns, condition=1e4, offset=10),
    "dummies": dummies,
}


def blocks(n_rows: int, n_features: int) -> Iterator[slice]:
    """Cut rows into blocks of moderate size."""
    size = max(1, BLOCK_ELEMENTS // n_features, ROWS_PER_FEATURE * n_features)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


@dataclass(frozen=True)
class LeastSquares:
    """The answer: weights and means of the features, each of shape (n_features,), and that of the target, (1,).

    It is the only one if the rank is the number of features.
    """

    coef: np.ndarray
    x_mean: np.ndarray
    y_mean: np.ndarray
    rank: int

    @classmethod
    def fit(cls, X: np.ndarray, y: np.ndarray) -> LeastSquares:
        """Solve; of columns that depend on each other, directions without information are left out."""
        n_rows, n_features = X.shape
        x_mean, y_mean = _mean(X), _mean(y[:, None])
        factor = np.empty((0, n_features + 1))
        for rows in blocks(n_rows, n_features):
            part = np.column_stack([X[rows] - x_mean, y[rows] - y_mean])
            factor = np.linalg.qr(np.vstack([factor, part]), mode="r")
        # QR treats each column by its own scale, so that scaling its outcome does what scaling the table would
        triangle, target = factor[:, :-1], factor[:, -1]
        scale = np.linalg.norm(triangle, axis=0)
        scale[scale == 0] = 1
        U, singular, Vt = np.linalg.svd(triangle / scale, full_matrices=False)
        kept = singular > singular[0] * max(X.shape) * np.finfo(float).eps
        coef = (Vt[kept].T / singular[kept]) @ (U[:, kept].T @ target) / scale
        return cls(coef, x_mean, y_mean, int(kept.sum()))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict in float64; shape (n_rows,)."""
        parts = [(X[rows] - self.x_mean) @ self.coef for rows in blocks(*X.shape)]
        return np.concatenate(parts) + self.y_mean


def _mean(table: np.ndarray) -> np.ndarray:
    """Mean of each column in float64, exact for a constant one."""
    first = table[0].astype(float)
    return first + sum((table[rows] - first).sum(0) for rows in blocks(*table.shape)) / len(table)


@dataclass(frozen=True)
class Error:
    """Distance of predictions from those of the trusted answer, in spreads (standard deviations) of the target."""

    rms: float
    largest: float


class Judge:
    """Compares predictions with the trusted ones, on `EVALUATED_ROWS` rows of the table at most, evenly spaced."""

    def __init__(self, X: np.ndarray, y: np.ndarray):
        self.X = np.ascontiguousarray(X[:: -(-len(X) // EVALUATED_ROWS)])
        self._answer = LeastSquares.fit(X, y)
        self._expected = self._answer.predict(self.X)
        self._spread = float(y.std(dtype=float))

    def __call__(self, predict: Callable[[np.ndarray], np.ndarray]) -> Error:
        """Measure a function that predicts; predictions that are not finite are infinitely far off."""
        distance = (np.asarray(predict(self.X), dtype=float) - self._expected) / self._spread
        if not np.isfinite(distance).all():
            return Error(np.inf, np.inf)
        return Error(float(np.sqrt((distance**2).mean())), float(np.abs(distance).max()))

    def coef_error(self, coef: np.ndarray) -> float:
        """Return the length of the difference from the right coefficients, as a share of theirs; NaN if all are."""
        right = self._answer.coef
        if self._answer.rank < len(right):
            return np.nan
        return float(np.linalg.norm(coef - right) / np.linalg.norm(right))
