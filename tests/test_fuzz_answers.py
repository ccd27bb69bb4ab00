"""Whatever a table comes in and whatever the size of its numbers, the answer is the trusted one or a refusal.

Tables are drawn of moderate numbers, that every container can hold, and brought to extreme sizes by powers of two. The
trusted solver is asked for the answer at moderate size, and what was learnt is brought back to it.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from certificate_problems import CLASSES, PARAMETRIC
from containers import ARRAYS, INTEGERS, SPARSE, TABLES, is_single
from convex import LOSSES, Problem
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from test_certificate import FACTOR, UNITS, rounding, unit_of
from trusted import solve

from torchlinreg import TorchLinearRegressor

quickly = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
TINY = np.finfo(float).tiny
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


def learn(model, *data, **more):
    """Return the model after fit, or None if it refused; no warning but that of missing convergence."""
    with warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return model.fit(*data, **more)
        except ValueError as refusal:
            event(f"refused: {str(refusal)[:40]}")
            return None


def check_container(drawn, of_X, of_y, of_weight):
    X = (ARRAYS | INTEGERS | SPARSE | TABLES)[of_X](drawn.X)
    y = (ARRAYS | (TABLES if drawn.y.ndim == 2 else {}))[of_y](drawn.y)
    weight = None if drawn.weight is None else ARRAYS[of_weight](drawn.weight)
    model = learn(TorchLinearRegressor(**drawn.parameters(), random_state=0), X, y, weight)
    assert model is not None
    precision = "float32" if is_single(of_X) else "float64"
    refuse_more_than_the_gap(drawn, model.coef_, model.intercept_, model.optimality_gap_, precision)
    predicted = model.predict(X)
    predicted = predicted.detach().numpy() if hasattr(predicted, "detach") else predicted
    assert predicted.shape == drawn.y.shape
    assert np.isfinite(predicted.astype(float)).all()


containers = (
    st.sampled_from(sorted(ARRAYS | INTEGERS | SPARSE | TABLES)),
    st.sampled_from(sorted(ARRAYS)),
    st.sampled_from(sorted(ARRAYS)),
)


@quickly
@given(problems(), *containers)
def test_any_container(drawn, of_X, of_y, of_weight):
    check_container(drawn, of_X, of_y, of_weight)


@pytest.mark.slow
@settings(quickly, max_examples=200)
@given(problems(), *containers)
def test_any_container_at_length(drawn, of_X, of_y, of_weight):
    check_container(drawn, of_X, of_y, of_weight)


def check_size(drawn, of_X, of_y, of_weight):
    """Fit at an extreme size; what is learnt goes back to the moderate one, where objectives can be computed."""
    weight = None if drawn.weight is None else drawn.weight * 2.0**of_weight
    with np.errstate(over="ignore"):
        parameters = drawn.parameters(of_X, of_y)
    alpha, ratio = parameters.get("alpha", 1.0), parameters.get("l1_ratio", 1.0)
    # What tells the parts of the penalty apart must not be rounded away
    assume(TINY < alpha < np.inf and (drawn.penalty != "elasticnet" or 1e-6 < ratio < 1 - 1e-6))
    model = TorchLinearRegressor(**parameters, random_state=0)
    model = learn(model, drawn.X * 2.0**of_X, drawn.y * 2.0**of_y, weight)
    if model is None:
        return
    event("fitted")
    assert np.isfinite(model.predict(drawn.X * 2.0**of_X)).all()
    with np.errstate(under="ignore"):
        coef, intercept = np.ldexp(model.coef_, of_X - of_y), np.ldexp(model.intercept_, -of_y)
    refuse_more_than_the_gap(drawn, coef, intercept, model.optimality_gap_)


def one_row(**recipe):
    whole = {"weight": None, "loss": "absolute_error", "parameter": 1.0, "alpha": 1e-4, "fit_intercept": False}
    return Drawn(np.array([[12.0]]), np.array([28.0]), **whole, **recipe)


powers = st.one_of(st.integers(-40, 40), st.integers(-1000, 1000))


@quickly
@example(one_row(penalty="l1"), 0, 479, 0)
@example(one_row(penalty="l2"), -516, -24, 0)
@given(problems(), powers, powers, powers)
def test_any_size(drawn, of_X, of_y, of_weight):
    check_size(drawn, of_X, of_y, of_weight)


@pytest.mark.slow
@settings(quickly, max_examples=200)
@given(problems(), powers, powers, powers)
def test_any_size_at_length(drawn, of_X, of_y, of_weight):
    check_size(drawn, of_X, of_y, of_weight)


@pytest.mark.parametrize("penalty", [None, "l2"])
@pytest.mark.parametrize("power", [-39, 0, 300])
def test_columns_of_zeros_get_weights_of_zero_in_any_units(rng, power, penalty):
    X, y = rng.integers(-2, 3, (6, 8)).astype(float), rng.normal(size=6)
    X[:, [1, 4]] = 0.0
    drawn = Drawn(X, y, None, "squared_error", 0.0, penalty, 0.01, fit_intercept=False)
    model = TorchLinearRegressor(**drawn.parameters(power, 0)).fit(X * 2.0**power, y)
    assert_array_equal(model.coef_[[1, 4]], 0.0)
    expected = TorchLinearRegressor(**drawn.parameters()).fit(X, y).coef_
    assert_allclose(np.ldexp(model.coef_, power), expected, rtol=1e-12)
