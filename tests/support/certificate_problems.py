"""Small problems drawn at random: every loss and penalty on tables with all that real ones bring.

Dependent columns, offsets and scales, heavy tails, weights, few rows; a seed gives the same problem everywhere.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from convex import LOSSES, Problem
from scipy import sparse

from torchlinreg import TorchLinearRegressor, losses

EPS = np.finfo(float).eps
CLASSES = {
    "squared_error": losses.SquaredError,
    "huber": losses.Huber,
    "absolute_error": losses.AbsoluteError,
    "quantile": losses.Quantile,
    "epsilon_insensitive": losses.EpsilonInsensitive,
    "squared_epsilon_insensitive": losses.SquaredEpsilonInsensitive,
}
PARAMETRIC = ("huber", "quantile", "epsilon_insensitive", "squared_epsilon_insensitive")
PENALTIES = (None, "l2", "l1", "elasticnet")
TABLES = ("plain", "one-hot", "one-hot", "one-hot", "duplicates", "sums", "constants", "wide", "tails", "tiny", "tiny")
WEIGHTS = (None, None, None, "even", "zeros", "uneven")
NOISES = ("normal", "normal", "cauchy", "small", "counts")
FACTOR = 10
"""An estimate may be off by as much."""
UNITS = {"float64": 4096 * 2.0**-53, "float32": 4096 * 2.0**-53 + 4 * 2.0**-24}
"""Relative error that rounding may cost a number: thousands of roundings in float64, in which small tables are worked
on, and a few in what is stored."""


@dataclass
class Drawn:
    """A problem as the estimator is given it."""

    seed: int
    recipe: dict
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    parameter: float | None = None
    alpha: np.ndarray = field(default_factory=lambda: np.zeros(1))

    @property
    def targets(self) -> np.ndarray:
        """The targets as columns."""
        return self.y.reshape(len(self.y), -1)

    def model(self) -> TorchLinearRegressor:
        """Return the estimator, with nothing tuned."""
        recipe = self.recipe
        loss = CLASSES[recipe["loss"]](self.parameter) if recipe["loss"] in PARAMETRIC else recipe["loss"]
        strength = {} if recipe["penalty"] is None else {"alpha": self.alpha, "l1_ratio": recipe["l1_ratio"]}
        intercept = recipe["fit_intercept"]
        return TorchLinearRegressor(
            loss=loss, penalty=recipe["penalty"], fit_intercept=intercept, random_state=0, **strength
        )

    def fit(self) -> TorchLinearRegressor:
        """Return the estimator after fit."""
        X = sparse.csr_array(self.X) if self.recipe["sparse"] else self.X
        return self.model().fit(X, self.y, sample_weight=self.weight)

    def problems(self) -> list[Problem]:
        """Return what there is to minimise, for each target."""
        recipe, targets = self.recipe, self.targets
        ratio = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": recipe["l1_ratio"]}[recipe["penalty"]]
        paid = recipe["penalty"] is not None
        return [
            Problem(
                self.X.astype(float),
                target.astype(float),
                LOSSES[recipe["loss"]](self.parameter, targets.shape[1]),
                l1=paid * alpha * ratio,
                l2=paid * alpha * (1 - ratio),
                fit_intercept=recipe["fit_intercept"],
                weight=self.weight,
            )
            for target, alpha in zip(targets.T, self.alpha, strict=True)
        ]


def draw(seed: int) -> Drawn:
    """Return the problem of that number: losses, penalties and tables take turns, the rest is drawn."""
    rng = np.random.default_rng([seed, 2024])
    recipe = {
        "loss": list(LOSSES)[seed % len(LOSSES)],
        "penalty": PENALTIES[seed // len(LOSSES) % len(PENALTIES)],
        "l1_ratio": float(rng.choice([0.05, 0.15, 0.5, 0.9])),
        "table": str(rng.choice(TABLES)),
        "dtype": str(rng.choice(["float64", "float64", "float32"])),
        "sparse": bool(rng.random() < 0.3),
        "fit_intercept": bool(rng.random() < 0.8),
        "scales": bool(rng.random() < 0.4),
        "offsets": bool(rng.random() < 0.4),
        "weights": rng.choice(np.array(WEIGHTS, dtype=object)),
        "noise": str(rng.choice(NOISES)),
        "n_targets": int(rng.choice([1, 1, 1, 1, 1, 2, 3])),
    }
    X = _table(recipe, rng)
    Y, size = _targets(recipe, X, rng)
    weight = _weights(recipe["weights"], len(X), rng)
    recipe["shape"] = X.shape
    drawn = Drawn(seed, recipe, X, Y[:, 0] if recipe["n_targets"] == 1 else Y, weight)
    drawn.parameter = {
        "huber": size * 10 ** rng.uniform(-2, 1),
        "quantile": rng.choice([0.1, 0.5, 0.75, 0.95]),
    }.get(recipe["loss"], size * 10 ** rng.uniform(-2, 0))
    drawn.parameter = float(drawn.parameter)
    drawn.alpha = np.zeros(recipe["n_targets"])
    recipe["share"] = 10 ** rng.uniform(-6, 2)
    drawn.alpha = recipe["share"] * _units(drawn)
    recipe["parameter"] = drawn.parameter
    recipe["alpha"] = drawn.alpha.tolist()
    return drawn


def _table(recipe: dict, rng: np.random.Generator) -> np.ndarray:
    kind, single = recipe["table"], recipe["dtype"] == "float32"
    n = int(np.exp(rng.uniform(0, np.log(400)))) if rng.random() < 0.6 else int(rng.integers(20, 200))
    p = int(rng.integers(1, 13))
    if kind == "tiny":
        n, p = int(rng.integers(4, 13)), int(rng.integers(2, 9))
    if kind == "wide":
        n, p = int(rng.integers(1, 20)), int(rng.integers(10, 31))
    X = rng.normal(size=(n, p))
    if kind == "tails":
        X = rng.standard_t(1.5, size=(n, p))
    if recipe["offsets"]:
        X = X + 10 ** rng.uniform(0, 3 if single else 6, p)
    if recipe["scales"]:
        X = X * 10 ** rng.uniform(*((-3, 3) if single else (-6, 6)), p)
    if kind == "one-hot":
        sets = [np.eye(size)[rng.integers(0, size, n)] for size in rng.integers(3, 7, size=rng.integers(1, 4))]
        X = np.column_stack([*sets, X[:, :4]])
    if kind == "duplicates":
        X = np.column_stack([X, X[:, :2], 2 * X[:, :1]])
    if kind == "sums":
        X = np.column_stack([X, X.sum(1), X[:, 0] - X[:, -1]])
    if kind == "constants":
        X = np.column_stack([np.full(n, 0.1), X, np.zeros(n), np.full(n, 1e4)])
    if recipe["sparse"] and kind not in ("one-hot", "constants") and not recipe["offsets"]:
        X = X * (rng.random(X.shape) < 0.3)
    return X.astype(recipe["dtype"])


def _targets(recipe: dict, X: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    single, shape = recipe["dtype"] == "float32", (len(X), recipe["n_targets"])
    spread = X.std(0, dtype=float)
    Z = (X - X.mean(0, dtype=float)) / np.where(spread > 0, spread, 1)
    Y = Z @ rng.normal(size=(X.shape[1], shape[1])) / np.sqrt(X.shape[1])
    Y += {
        "normal": lambda: rng.normal(size=shape),
        "cauchy": lambda: rng.standard_t(1.2, size=shape),
        "small": lambda: 1e-3 * rng.normal(size=shape),
        "counts": lambda: rng.poisson(2, size=shape),
    }[recipe["noise"]]()
    if recipe["noise"] == "counts":
        Y = Y.round()
    size = 10 ** rng.uniform(-6, 9)
    recipe["target_size"] = size
    recipe["target_offset"] = 10 ** rng.uniform(0, 2 if single else 6) if rng.random() < 0.3 else float(rng.normal())
    Y = (Y + recipe["target_offset"]) * size * np.array([1, 30, 0.1])[: shape[1]]
    return Y.astype(recipe["dtype"]), size


def _weights(kind: str | None, n: int, rng: np.random.Generator) -> np.ndarray | None:
    if kind is None:
        return None
    weight = 10 ** rng.uniform(-3, 3, n) if kind == "uneven" else rng.uniform(0.1, 2, n)
    if kind == "zeros":
        weight[rng.random(n) < 0.3] = 0
        weight[0] = 1
    return weight


def _units(drawn: Drawn) -> np.ndarray:
    """Return, for each target, the penalty that has about as much say as the loss for columns of the median size."""
    X = drawn.X.astype(float)
    center = X.mean(0) if drawn.recipe["fit_intercept"] else 0.0
    spread = np.sqrt(((X - center) ** 2).mean(0))
    spread = np.median(spread[spread > 0]) if spread.any() else 1.0
    sizes = []
    for problem in drawn.problems():
        size = np.abs(problem.y - problem.best_constant()).mean() or 1.0
        loss, unit = problem.loss.in_units(size)
        gradient = unit / size * (1.0 if np.isinf(loss.slope_above) else max(loss.slope_above, loss.slope_below))
        has_l1 = drawn.recipe["penalty"] in ("l1", "elasticnet")
        sizes.append(gradient * spread if has_l1 else gradient / size * spread**2)
    return np.array(sizes)


def rounding(problem: Problem, coef, intercept, dtype: str) -> float:
    """Return by how much the objective may rise where a minimum is stored in numbers of that precision.

    If the stored numbers are those of a minimum up to the relative error u, then convexity bounds that by u times
    the sum of |gradient| |number|. Weights rounded to that precision, and the sum over the rows, are wrong by u times
    the objective. For float32 u is a few roundings of what is stored; what is computed is computed in float64.
    """
    u = UNITS[dtype]
    numbers = np.abs(np.append(coef, intercept))
    return u * (np.abs(problem.gradient(coef, intercept)) @ numbers + problem.objective(coef, intercept))


def unit_of(problem: Problem, dtype: str) -> float:
    """Return the objective of the best constant or, if that is perfect, of what a rounding of the target costs."""
    rounded = replace(problem.loss, epsilon=0.0).value(UNITS[dtype] * np.abs(problem.y).max()) / UNITS[dtype]
    return problem.baseline() or rounded or 1.0
