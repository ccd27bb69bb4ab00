"""Saved and loaded again, an estimator is what it was, in every state that training can leave it in."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from fitted_states import FITTED_STATES, made_table
from numpy.testing import assert_array_equal, assert_equal
from scipy.sparse import issparse

from torchlinreg import TorchLinearRegressor

# What skops is told to trust beside scikit-learn's types, in any of the states
TRUSTED = {
    "scipy.sparse._csr.csr_array",
    "torch.nn.modules.loss.MSELoss",
    "torchlinreg.TorchLinearRegressor",
    "torchlinreg.TorchLinearRegressorCV",
    "torchlinreg.losses.Huber",
    "torchlinreg.losses.Quantile",
}


def through_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file, compress=3)
    file.seek(0)
    return joblib.load(file)


def through_skops(model):
    data = skops.io.dumps(model)
    untrusted = skops.io.get_untrusted_types(data=data)
    assert set(untrusted) <= TRUSTED
    return skops.io.loads(data, trusted=untrusted)


ROUND_TRIPS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": through_joblib,
    "skops": through_skops,
}


def plain(value):
    """Return a value with sparse arrays as dense ones, and objects as their fields, for `assert_equal`."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if issparse(value):
        return ["sparse", value.toarray()]
    return (type(value).__name__, plain(vars(value))) if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("state", FITTED_STATES)
def test_everything_comes_back(state):
    X, y = made_table()
    model = FITTED_STATES[state](X, y)
    expected = model.predict(X)
    for name, there_and_back in ROUND_TRIPS.items():
        loaded = there_and_back(model)
        assert_equal(plain(vars(loaded)), plain(vars(model)), err_msg=name)
        assert_array_equal(loaded.predict(X), expected, err_msg=name)
        assert repr(loaded) == repr(model)
        assert str(loaded.plan_) == str(model.plan_)


@pytest.mark.parametrize("through", ROUND_TRIPS)
@pytest.mark.parametrize("state", [name for name in FITTED_STATES if "stream" in name])
def test_a_stream_goes_on_where_it_was(state, through):
    X, y = made_table()
    model = FITTED_STATES[state](X, y)
    loaded = ROUND_TRIPS[through](model)
    for each in (model, loaded):
        each.partial_fit(X[::-1], 2 * y)
    assert_array_equal(loaded.coef_, model.coef_)
    assert_array_equal(loaded.intercept_, model.intercept_)


def test_names_of_features_come_back():
    X, y = made_table()
    X = pd.DataFrame(X, columns=["rain", "sun", "clay", "slope"])
    model = TorchLinearRegressor().fit(X, y)
    for there_and_back in ROUND_TRIPS.values():
        loaded = there_and_back(model)
        assert list(loaded.feature_names_in_) == list(X)
        assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_module_through_torch_export(dtype, fit_intercept):
    X, y = made_table()
    X, y = X.astype(dtype), y.astype(dtype)
    module = TorchLinearRegressor(fit_intercept=fit_intercept).fit(X, y).to_module()
    rows = torch.from_numpy(X)
    any_number = {"input": {0: torch.export.Dim("n_samples")}}
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (rows,), dynamic_shapes=any_number), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for some in (rows, rows[:7]):
        assert torch.equal(loaded(some), module(some))
    assert np.dtype(dtype) == loaded(rows).detach().numpy().dtype
