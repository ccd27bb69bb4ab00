"""The objective itself: every loss with every penalty, of coefficients in the units of the data.

Each of the losses is zero up to epsilon, then a parabola, then linear. Residuals are summed up in
twice the precision of float64, so that neither offsets nor scales blur what they cost; `trusted` has the minimum.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

EPS = np.finfo(float).eps


@dataclass(frozen=True)
class Loss:
    """Loss of a residual, prediction - target: zero up to epsilon, then a parabola, then linear."""

    epsilon: float = 0.0
    lipschitz: float = math.inf
    slope_above: float = math.inf
    slope_below: float = math.inf

    @property
    def jumps(self) -> bool:
        """Whether there is no parabola between epsilon and straight line."""
        return math.isinf(self.lipschitz)

    @property
    def is_quadratic(self) -> bool:
        """Whether there is nothing but a parabola."""
        return self.epsilon == 0 and math.isinf(self.slope_above)

    def value(self, residual: np.ndarray) -> np.ndarray:
        """Return the cost."""
        return sum(
            self._side(np.maximum(sign * residual - self.epsilon, 0), steepest) for sign, steepest in self._sides
        )

    def gradient(self, residual: np.ndarray) -> np.ndarray:
        """Return a derivative; zero where a jump leaves the choice."""
        outside = np.sign(residual) * np.maximum(np.abs(residual) - self.epsilon, 0)
        if self.jumps:
            return np.where(outside > 0, self.slope_above, np.where(outside < 0, -self.slope_below, 0.0))
        return np.clip(self.lipschitz * outside, -self.slope_below, self.slope_above)

    def hessian(self, residual: np.ndarray) -> np.ndarray:
        """Return the second derivative."""
        if self.jumps:
            return np.zeros_like(residual)
        slope = self.gradient(residual)
        return np.where(
            (np.abs(residual) >= self.epsilon) & (-self.slope_below < slope) & (slope < self.slope_above),
            self.lipschitz,
            0,
        )

    def conjugate(self, slope: np.ndarray) -> np.ndarray:
        """Return the largest slope * residual - value, for gradients `slope` that the loss has."""
        return self.epsilon * np.abs(slope) + (0.0 if self.jumps else slope**2 / (2 * self.lipschitz))

    def in_units(self, size: float) -> tuple["Loss", float]:
        """Return the loss of residuals over `size` and its unit, so that both lipschitz and slopes are moderate."""
        slopes = [slope * size for slope in (self.slope_above, self.slope_below) if math.isfinite(slope)]
        curvatures = [] if self.jumps else [self.lipschitz * size**2]
        unit = min([*curvatures, max(slopes)]) if slopes else curvatures[0]
        scaled = Loss(
            self.epsilon / size,
            self.lipschitz * size**2 / unit,
            self.slope_above * size / unit,
            self.slope_below * size / unit,
        )
        return scaled, unit

    @property
    def _sides(self) -> tuple:
        return (1, self.slope_above), (-1, self.slope_below)

    def _side(self, distance: np.ndarray, steepest: float) -> np.ndarray:
        if self.jumps:
            return steepest * distance
        bent = np.minimum(distance, steepest / self.lipschitz)
        return self.lipschitz * bent * (distance - 0.5 * bent)


# name -> loss, of its parameter and the number of targets
LOSSES = {
    "squared_error": lambda parameter, n_targets: Loss(lipschitz=1.0),
    "mse": lambda parameter, n_targets: Loss(lipschitz=2.0 / n_targets),
    "huber": lambda delta, n_targets: Loss(lipschitz=1.0, slope_above=delta, slope_below=delta),
    "absolute_error": lambda parameter, n_targets: Loss(slope_above=1.0, slope_below=1.0),
    "quantile": lambda quantile, n_targets: Loss(slope_above=1.0 - quantile, slope_below=quantile),
    "epsilon_insensitive": lambda epsilon, n_targets: Loss(epsilon=epsilon, slope_above=1.0, slope_below=1.0),
    "squared_epsilon_insensitive": lambda epsilon, n_targets: Loss(epsilon=epsilon, lipschitz=2.0),
}


@dataclass(frozen=True)
class Problem:
    """The mean of the weighted loss, and ``l1 |w|₁ + l2 |w|² / 2``: one target, everything in float64.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    loss : Loss
    l1, l2 : float
        ``alpha * l1_ratio`` and ``alpha * (1 - l1_ratio)``.
    fit_intercept : bool
    weight : ndarray of shape (n_samples,) or None
        Brought to mean one.
    """

    X: np.ndarray
    y: np.ndarray
    loss: Loss
    l1: float = 0.0
    l2: float = 0.0
    fit_intercept: bool = True
    weight: np.ndarray | None = None

    @cached_property
    def share(self) -> np.ndarray:
        """What part each row is of the mean."""
        if self.weight is None:
            return np.full(len(self.y), 1 / len(self.y))
        weight = self.weight / self.weight.max()
        return weight / weight.sum()

    def residual(self, coef: np.ndarray, intercept: float) -> np.ndarray:
        """Return prediction - target, as if computed in twice the precision."""
        return compensated(self.X, coef, np.full(len(self.y), float(intercept)), -self.y)

    def objective(self, coef: np.ndarray, intercept: float) -> float:
        """Return the objective, right to a few units in the last place."""
        coef = np.asarray(coef, dtype=float)
        cost = self.loss.value(self.residual(coef, intercept))
        penalty = self.l1 * math.fsum(np.abs(coef)) + self.l2 / 2 * math.fsum(coef**2)
        return math.fsum(self.share * cost) + penalty

    def gradient(self, coef: np.ndarray, intercept: float) -> np.ndarray:
        """Return a subgradient in the weights and, last, the intercept."""
        coef = np.asarray(coef, dtype=float)
        slope = self.share * self.loss.gradient(self.residual(coef, intercept))
        return np.append(self.X.T @ slope + self.l1 * np.sign(coef) + self.l2 * coef, slope.sum())

    def best_constant(self) -> float:
        """Return the intercept that is best without weights: where the gradient of the mean loss changes its sign."""
        low, high = self.y.min() - self.loss.epsilon, self.y.max() + self.loss.epsilon
        if not self.fit_intercept:
            return 0.0
        for _ in range(200):
            middle = low + 0.5 * (high - low)
            if not low < middle < high:
                break
            if self.share @ self.loss.gradient(middle - self.y) < 0:
                low = middle
            else:
                high = middle
        return min(low, high, key=self._constant)

    def baseline(self) -> float:
        """Return the objective of the best constant."""
        return self._constant(self.best_constant())

    def _constant(self, intercept: float) -> float:
        return math.fsum(self.share * self.loss.value(intercept - self.y))


def compensated(X: np.ndarray, coef: np.ndarray, *addends: np.ndarray) -> np.ndarray:
    """Return X @ coef + addends as if computed in twice the precision (Ogita, Rump and Oishi 2005)."""
    high, low = np.zeros(len(X)), np.zeros(len(X))
    for column, weight in zip(X.T, coef, strict=True):
        product, error = _two_product(column, weight)
        high, lost = _two_sum(high, product)
        low += lost + error
    for addend in addends:
        high, lost = _two_sum(high, addend)
        low += lost
    return high + low


def _two_sum(a, b):
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a, b):
    product = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _split(a):
    wide = 134217729.0 * a  # 2²⁷ + 1
    high = wide - (wide - a)
    return high, a - high
