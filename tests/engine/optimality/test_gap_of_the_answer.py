"""`optimality_gap_` is that of the stored numbers, whatever way led to them."""

import numpy as np
import pytest
from conftest import AT_AN_END
from convex import LOSSES, Problem
from scipy import sparse
from trusted import solve

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.preconditioning import choose
from torchlinreg.losses import Huber

# Some of these fits are stopped early, and some cannot come closer: the gap has to say so, and is what is tested
GAP_IS_THE_POINT = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CASES = {
    "squared_error": ("squared_error", LOSSES["squared_error"](0.0, 1)),
    "huber": (Huber(delta=1.0), LOSSES["huber"](1.0, 1)),
    "absolute_error": ("absolute_error", LOSSES["absolute_error"](0.0, 1)),
}
SMALLEST = 1e-13  # of the objective, that summing it up may be wrong by


def excess(model, X, y, loss, *, l2=0.0, l1=0.0):
    """Return how far the objective of the stored numbers is from the minimum, over that of the best constant."""
    problem = Problem(X.astype(float), y.astype(float), loss, l2=l2, l1=l1, fit_intercept=model.fit_intercept)
    reached = problem.objective(np.asarray(model.coef_, float).ravel(), float(np.ravel(model.intercept_)[0]))
    return (reached - problem.objective(*solve(problem))) / problem.baseline()


@GAP_IS_THE_POINT
@pytest.mark.parametrize("sketched", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_numbers_that_single_precision_rounds(monkeypatch, rng, case, fit_intercept, sketched):
    """Columns far from zero, whose weights and intercept nearly cancel: what rounding them costs is in the gap."""
    if sketched:
        monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X = (1e4 + rng.normal(size=(400, 3))).astype(np.float32)
    y = (X.astype(float) @ [30.0, -50.0, 20.0] + rng.normal(size=400)).astype(np.float32)
    model = TorchLinearRegressor(loss=CASES[case][0], fit_intercept=fit_intercept, random_state=0).fit(X, y)
    beyond = excess(model, X, y, CASES[case][1])
    assert beyond > 1e-11  # or this would be no test
    assert beyond <= 10 * model.optimality_gap_


@GAP_IS_THE_POINT
@pytest.mark.parametrize("scheme", ["scale", None])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("max_iter", [5, 1000])
@pytest.mark.parametrize("case", CASES)
def test_other_variables(rng, case, max_iter, container, scheme):
    codes = np.eye(4)[rng.integers(0, 4, 200)]
    X = np.column_stack([codes, rng.normal(size=(200, 2)) @ [[1.0, 0.99], [0.0, 0.1]]]) * [1, 1, 1, 1, 5, 0.1]
    y = X @ [1.0, 2.0, 3.0, 4.0, 1.0, 5.0] + rng.normal(size=200)
    model = TorchLinearRegressor(loss=CASES[case][0], conditioning=scheme, max_iter=max_iter).fit(container(X), y)
    assert excess(model, X, y, CASES[case][1]) <= 10 * model.optimality_gap_ + SMALLEST


@GAP_IS_THE_POINT
@AT_AN_END
@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("case", CASES)
def test_cross_validation(rng, case, penalty):
    X = rng.normal(size=(100, 4)) * [1.0, 10.0, 0.1, 1.0]
    X[:, 3] = X[:, 0] - 2.0 * X[:, 2]
    y = X.sum(1) + rng.normal(size=100)
    for max_iter in (4, 1000):
        model = TorchLinearRegressorCV(
            loss=CASES[case][0], penalty=penalty, alphas=[0.1, 0.01], cv=3, max_iter=max_iter
        ).fit(X, y)
        given = {penalty: model.alpha_}
        assert excess(model, X, y, CASES[case][1], **given) <= 10 * model.optimality_gap_ + SMALLEST


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_streams(rng, dtype):
    X = (1e3 + rng.normal(size=(300, 3))).astype(dtype)
    y = (X.astype(float) @ [30.0, -50.0, 20.0] + rng.normal(size=300)).astype(dtype)
    model = TorchLinearRegressor()
    for chunk in np.array_split(np.arange(300), 3):
        model.partial_fit(X[chunk], y[chunk])
    assert excess(model, X, y, CASES["squared_error"][1]) <= 10 * model.optimality_gap_ + SMALLEST
