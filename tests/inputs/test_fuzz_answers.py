"""Whatever a table comes in and whatever the size of its numbers, the answer is the trusted one or a refusal.

Tables of moderate numbers are brought to extreme sizes by powers of two. The trusted solver is asked for the answer at
moderate size, and what was learnt is brought back to it.
"""

import warnings

import numpy as np
import pytest
from containers import ARRAYS, INTEGERS, SPARSE, TABLES, is_single
from drawn_problems import Drawn, problems, refuse_more_than_the_gap
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from torchlinreg import TorchLinearRegressor

quickly = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
MORE = 140
"""So many are drawn at length, besides those that are drawn anyway."""
TINY = np.finfo(float).tiny


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
@settings(quickly, max_examples=MORE)
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
@settings(quickly, max_examples=MORE)
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
