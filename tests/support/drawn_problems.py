"""Tables of moderate numbers, that every container can hold, and what to learn from them, drawn by hypothesis."""

from dataclasses import dataclass

import numpy as np
from certificate_problems import CLASSES, FACTOR, PARAMETRIC, UNITS, rounding, unit_of
from convex import LOSSES, Problem
from hypothesis import strategies as st
from trusted import solve

PENALTIES = {None: 0.0, "l2": 0.0, "l1": 1.0, "elasticnet": 0.5}


@dataclass(frozen=True)
class Drawn:
    """A table of moderate numbers, and what to learn from it."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    loss: str
    parameter: float
    penalty: str | None
    alpha: float
    fit_intercept: bool

    def problems(self) -> list[Problem]:
        """Return what there is to minimise, for each target."""
        targets = self.y.reshape(len(self.y), -1).T
        alpha, ratio = (self.alpha if self.penalty else 0.0), PENALTIES[self.penalty]
        loss = LOSSES[self.loss](self.parameter, len(targets))
        strengths = {"l1": alpha * ratio, "l2": alpha * (1 - ratio)}
        return [
            Problem(self.X, y, loss, fit_intercept=self.fit_intercept, weight=self.weight, **strengths) for y in targets
        ]

    def parameters(self, of_X: int = 0, of_y: int = 0) -> dict:
        """Return those of the estimator for X times 2**of_X and y times 2**of_y."""
        loss = self.loss
        if loss in PARAMETRIC:
            loss = CLASSES[loss](self.parameter * 2.0 ** (0 if loss == "quantile" else of_y))
        given = {"loss": loss, "fit_intercept": self.fit_intercept, "penalty": self.penalty}
        if self.penalty is None:
            return given
        of_loss = of_y if LOSSES[self.loss](self.parameter, 1).jumps else 2 * of_y
        ratio, of_coef = PENALTIES[self.penalty], of_y - of_X
        l1 = float(np.ldexp(self.alpha * ratio, of_loss - of_coef))
        l2 = float(np.ldexp(self.alpha * (1 - ratio), of_loss - 2 * of_coef))
        alpha = l1 + l2
        return {**given, "alpha": alpha, "l1_ratio": min(1.0, l1 / alpha) if 0 < alpha < np.inf else 0.0}


@st.composite
def problems(draw, whole=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows = draw(st.one_of(st.integers(1, 6), st.integers(1, 60)))
    n_features, n_targets = draw(st.integers(1, 12)), draw(st.sampled_from([0, 0, 1, 2, 3]))
    X = rng.integers(-16, 17, (n_rows, n_features)).astype(float)
    X[rng.random(X.shape) < draw(st.sampled_from([0.0, 0.0, 0.5, 0.9]))] = 0.0
    y = rng.integers(-100, 101, (n_rows, n_targets) if n_targets else n_rows).astype(float)
    if draw(st.booleans()):
        y = np.round(0.25 * y + X @ rng.integers(-2, 3, (n_features, n_targets) if n_targets else n_features))
    weight = {
        "none": None,
        "few": rng.integers(1, 4, n_rows).astype(float),
        "zeros": np.append(1.0, rng.integers(0, 2, n_rows - 1)),
    }[draw(st.sampled_from(["none", "none", "few", "zeros"]))]
    shape = {"loss": draw(st.sampled_from(sorted(LOSSES))), "penalty": draw(st.sampled_from(list(PENALTIES)))}
    parameter = draw(st.sampled_from([0.1, 0.5, 0.75])) * (1 if shape["loss"] == "quantile" else 10)
    alpha = draw(st.sampled_from([1e-4, 0.01, 1.0, 100.0]))
    return Drawn(X, y, weight, parameter=parameter, alpha=alpha, fit_intercept=draw(st.booleans()), **shape)


def refuse_more_than_the_gap(drawn: Drawn, coef, intercept, gap, precision="float64"):
    """See that no coefficients are better by more than the gap says, and what rounding excuses."""
    coefs = np.reshape(coef, (-1, drawn.X.shape[1])).astype(float)
    intercepts = np.broadcast_to(np.asarray(intercept, dtype=float), len(coefs))
    assert np.isfinite(coefs).all()
    assert np.isfinite(intercepts).all()
    for problem, *found in zip(drawn.problems(), coefs, intercepts, strict=True):
        unit = unit_of(problem, precision)
        excess = (problem.objective(*found) - problem.objective(*solve(problem))) / unit
        assert excess <= FACTOR * gap + UNITS[precision] + rounding(problem, *found, precision) / unit, (excess, gap)
