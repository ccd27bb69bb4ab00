"""The fitted model as a module of torch and as scikit-learn's own: the same predictions, and nothing shared."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.utils.fixes import parse_version

from torchlinreg import TorchLinearRegressor

RTOL = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture(params=[None, 1, 2], ids=["1-d y", "1 target", "2 targets"])
def data(request, rng, dtype):
    """A table, with targets in each of the shapes that they may have."""
    X = rng.normal(size=(50, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, 1]
    y = X @ rng.normal(size=(4, 2)) + rng.normal(size=(50, 2))
    return X.astype(dtype), (y[:, 0] if request.param is None else y[:, : request.param]).astype(dtype)


@pytest.fixture(params=[True, False], ids=["intercept", "no intercept"])
def fitted(request, data):
    return TorchLinearRegressor(fit_intercept=request.param, random_state=0).fit(*data)


def assert_close(actual, expected, dtype):
    assert_allclose(actual, expected, rtol=RTOL[dtype], atol=RTOL[dtype] * np.abs(expected).max())


def test_module_predicts_the_same(fitted, data, dtype):
    X, y = data
    module = fitted.to_module()
    assert type(module) is torch.nn.Linear
    assert (module.in_features, module.out_features) == (4, 1 if y.ndim == 1 else y.shape[1])
    assert (module.bias is not None) == fitted.fit_intercept
    assert all(p.dtype == getattr(torch, dtype) and p.device.type == "cpu" for p in module.parameters())
    predicted = module(torch.from_numpy(X)).detach().numpy()
    assert_close(predicted.reshape(y.shape), fitted.predict(X), dtype)


def test_sklearn_predicts_the_same(fitted, data, dtype):
    X, y = data
    model = fitted.to_sklearn()
    assert type(model) is LinearRegression
    assert model.fit_intercept == fitted.fit_intercept
    assert_array_equal(model.coef_, fitted.coef_)
    assert_array_equal(model.intercept_, fitted.intercept_)
    assert model.coef_.dtype == dtype
    predicted = model.predict(X)
    assert predicted.shape == y.shape
    assert_close(predicted, fitted.predict(X), dtype)
    assert model.score(X, y) == pytest.approx(fitted.score(X, y), rel=1e-5)


def test_exports_share_no_memory(fitted, data):
    X, _ = data
    expected = fitted.predict(X)
    module, model = fitted.to_module(), fitted.to_sklearn()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    model.coef_[:] = 7.0
    assert_array_equal(fitted.predict(X), expected)
    assert_array_equal(fitted.to_module().weight.detach().numpy(), np.atleast_2d(fitted.coef_))


SURROUNDINGS = {
    "as found": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default device meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_module_is_fresh_and_can_be_trained(fitted, data, surroundings):
    X, y = (torch.from_numpy(part) for part in data)
    state = torch.random.get_rng_state()
    with SURROUNDINGS[surroundings]():
        module = fitted.to_module()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module.training
    for parameter in module.parameters():
        assert parameter.requires_grad
        assert parameter.is_leaf
        assert parameter.grad is None
    before = module.weight.detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    torch.nn.functional.mse_loss(module(X), 2 * y.reshape(len(y), -1)).backward()
    optimizer.step()
    assert not torch.equal(module.weight.detach(), before)


def test_at_the_optimum_the_gradient_of_the_module_is_zero(fitted, data, dtype):
    """What it is trained on next starts where the fit ended."""
    X, y = (torch.from_numpy(part) for part in data)
    module = fitted.to_module()
    torch.nn.functional.mse_loss(module(X), y.reshape(len(y), -1)).backward()
    assert module.weight.grad.abs().max() < {"float32": 1e-2, "float64": 1e-9}[dtype]


ONE_DIMENSION = pytest.mark.skipif(
    parse_version(scipy.__version__) < parse_version("1.15"),
    reason="SciPy before 1.15 has no CSR arrays of one dimension",
)


@pytest.mark.parametrize("sparse", [pytest.param(csr_array, marks=ONE_DIMENSION), csr_matrix])
def test_sparse_coefficients(fitted, data, dtype, sparse):
    X, _ = data
    expected, coef = fitted.predict(X), fitted.coef_
    dense = fitted.to_sklearn(), fitted.to_module()
    fitted.coef_ = sparse(coef)
    model, module = fitted.to_sklearn(), fitted.to_module()
    assert type(model.coef_) is np.ndarray
    assert_array_equal(np.atleast_2d(model.coef_), np.atleast_2d(coef))
    assert_close(model.predict(X).reshape(expected.shape), expected, dtype)
    assert torch.equal(module.weight, dense[1].weight)


def test_names_of_features_are_kept(rng):
    X = pd.DataFrame(rng.normal(size=(20, 2)), columns=["rain", "sun"])
    fitted = TorchLinearRegressor().fit(X, X["rain"])
    model = fitted.to_sklearn()
    assert list(model.feature_names_in_) == ["rain", "sun"]
    assert model.n_features_in_ == 2
    assert_allclose(model.predict(X), X["rain"], atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"sun": "moon"}))
    nameless = fitted.fit(X.to_numpy(), X["rain"]).to_sklearn()
    assert not hasattr(nameless, "feature_names_in_")


def test_exported_model_is_scikit_learns_own(fitted, data):
    X, y = data
    model = fitted.to_sklearn()
    assert b"torch" not in pickle.dumps(model)
    copy = clone(model).fit(X, y)
    assert copy.predict(X).shape == y.shape


def test_intercept_survives_a_change_of_mind(fitted, data, dtype):
    """`fit_intercept` is about the next fit."""
    X, y = data
    expected = fitted.predict(X)
    fitted.set_params(fit_intercept=not fitted.fit_intercept)
    predicted = fitted.to_module()(torch.from_numpy(X)).detach().numpy()
    assert_close(predicted.reshape(y.shape), expected, dtype)


@pytest.mark.parametrize("export", [TorchLinearRegressor.to_module, TorchLinearRegressor.to_sklearn])
def test_only_what_is_fitted_is_exported(export):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        export(TorchLinearRegressor())
