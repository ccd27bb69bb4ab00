"""What is learnt is NumPy and plain Python, small, and nobody else's memory."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from surroundings import MODES

from torchlinreg import TorchLinearRegressor


@pytest.fixture(params=MODES)
def mode(request):
    """Return parameters of each way of working, with an optimiser of torch as well."""
    return {"random_state": 0, **MODES[request.param]}


PLAIN = (int, float, bool, str, type(None), np.generic)


def assert_plain(value):
    """NumPy and plain Python all the way down, and no view of the memory of anything else."""
    if isinstance(value, dict):
        assert_plain(list(value))
        assert_plain(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            assert_plain(part)
    elif isinstance(value, np.ndarray):
        assert value.base is None or isinstance(value.base, np.ndarray)
        assert value.dtype != object or all(type(part) is str for part in value)
        if value.base is not None:
            assert_plain(value.base)
    else:
        assert isinstance(value, PLAIN), type(value)


@pytest.mark.parametrize("one_target", [True, False])
def test_fitted_state_is_numpy_and_plain_python(model, table, dtype, one_target):
    for convert in (np.asarray, torch.tensor):
        X, y, weight = (convert(part.astype(dtype)) for part in table)
        y = y[:, 0] if one_target else y
        model.fit(X, y, sample_weight=weight)
        model.predict(X)
        assert_plain(vars(model))


def test_pickle_is_small(backend, large_table):
    X, y = large_table
    for parameters in MODES.values():
        model = TorchLinearRegressor(backend=backend, random_state=0, **parameters).fit(X, y)
        assert len(pickle.dumps(model)) < 5_000


def test_refit_leaves_earlier_coefficients_alone(model, table):
    X, y, _ = table
    coef, intercept = model.fit(X, y).coef_, model.intercept_
    expected = coef.copy(), intercept.copy()
    model.set_params(warm_start=True).fit(X[::-1], 2 * y)
    assert_array_equal(coef, expected[0])
    assert_array_equal(intercept, expected[1])
