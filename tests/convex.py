"""The objective itself: every loss with every penalty, of coefficients in the units of the data.

Each of the losses is a tube in which nothing is lost, then a parabola, then straight lines. Residuals are summed up in
twice the precision of float64, so that neither offsets nor scales blur what they cost; `trusted` has the minimum.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

EPS = np.finfo(float).eps


@dataclass(frozen=True)
class Loss:
    """Cost of a residual, prediction - target: a tube, a parabola as far as a slope allows, then straight on."""

    tube: float = 0.0
    curvature: float = math.inf
    rise: float = math.inf
    fall: float = math.inf

    @property
    def jumps(self) -> bool:
        """Whether there is no parabola between tube and straight line."""
        return math.isinf(self.curvature)

    @property
    def is_quadratic(self) -> bool:
        """Whether there is nothing but a parabola."""
        return self.tube == 0 and math.isinf(self.rise)

    def value(self, residual: np.ndarray) -> np.ndarray:
        """Return the cost."""
        return sum(self._side(np.maximum(sign * residual - self.tube, 0), steepest) for sign, steepest in self._sides)

    def slope(self, residual: np.ndarray) -> np.ndarray:
        """Return a derivative; zero where a jump leaves the choice."""
        outside = np.sign(residual) * np.maximum(np.abs(residual) - self.tube, 0)
        if self.jumps:
            return np.where(outside > 0, self.rise, np.where(outside < 0, -self.fall, 0.0))
        return np.clip(self.curvature * outside, -self.fall, self.rise)

    def bend(self, residual: np.ndarray) -> np.ndarray:
        """Return the second derivative."""
        if self.jumps:
            return np.zeros_like(residual)
        slope = self.slope(residual)
        return np.where((np.abs(residual) >= self.tube) & (-self.fall < slope) & (slope < self.rise), self.curvature, 0)

    def conjugate(self, slope: np.ndarray) -> np.ndarray:
        """Return the largest slope * residual - value, for slopes that the loss has."""
        return self.tube * np.abs(slope) + (0.0 if self.jumps else slope**2 / (2 * self.curvature))

    def in_units(self, size: float) -> tuple["Loss", float]:
        """Return the loss of residuals over `size` and its unit, so that both curvature and slopes are moderate."""
        slopes = [slope * size for slope in (self.rise, self.fall) if math.isfinite(slope)]
        bends = [] if self.jumps else [self.curvature * size**2]
        unit = min([*bends, max(slopes)]) if slopes else bends[0]
        scaled = Loss(
            self.tube / size, self.curvature * size**2 / unit, self.rise * size / unit, self.fall * size / unit
        )
        return scaled, unit

    @property
    def _sides(self) -> tuple:
        return (1, self.rise), (-1, self.fall)

    def _side(self, distance: np.ndarray, steepest: float) -> np.ndarray:
        if self.jumps:
            return steepest * distance
        bent = np.minimum(distance, steepest / self.curvature)
        return self.curvature * bent * (distance - 0.5 * bent)


# name -> loss, of its parameter and the number of targets
LOSSES = {
    "squared_error": lambda parameter, n_targets: Loss(curvature=1.0),
    "mse": lambda parameter, n_targets: Loss(curvature=2.0 / n_targets),
    "huber": lambda delta, n_targets: Loss(curvature=1.0, rise=delta, fall=delta),
    "absolute_error": lambda parameter, n_targets: Loss(rise=1.0, fall=1.0),
    "quantile": lambda quantile, n_targets: Loss(rise=1.0 - quantile, fall=quantile),
    "epsilon_insensitive": lambda epsilon, n_targets: Loss(tube=epsilon, rise=1.0, fall=1.0),
    "squared_epsilon_insensitive": lambda epsilon, n_targets: Loss(tube=epsilon, curvature=2.0),
}


@dataclass(frozen=True)
class Problem:
    """The mean of the weighted loss, and ``kink |w|₁ + bend |w|² / 2``: one target, everything in float64.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    loss : Loss
    kink, bend : float
        ``alpha * l1_ratio`` and ``alpha * (1 - l1_ratio)``.
    fit_intercept : bool
    weight : ndarray of shape (n_samples,) or None
        Brought to mean one.
    """

    X: np.ndarray
    y: np.ndarray
    loss: Loss
    kink: float = 0.0
    bend: float = 0.0
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
        penalty = self.kink * math.fsum(np.abs(coef)) + self.bend / 2 * math.fsum(coef**2)
        return math.fsum(self.share * cost) + penalty

    def gradient(self, coef: np.ndarray, intercept: float) -> np.ndarray:
        """Return a subgradient in the weights and, last, the intercept."""
        coef = np.asarray(coef, dtype=float)
        slope = self.share * self.loss.slope(self.residual(coef, intercept))
        return np.append(self.X.T @ slope + self.kink * np.sign(coef) + self.bend * coef, slope.sum())

    def best_constant(self) -> float:
        """Return the intercept that is best without weights: where the slope of the mean loss changes its sign."""
        low, high = self.y.min() - self.loss.tube, self.y.max() + self.loss.tube
        if not self.fit_intercept:
            return 0.0
        for _ in range(200):
            middle = low + 0.5 * (high - low)
            if not low < middle < high:
                break
            if self.share @ self.loss.slope(middle - self.y) < 0:
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
