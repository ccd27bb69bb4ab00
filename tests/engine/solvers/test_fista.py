"""FISTA where the Lipschitz constant is not known, or larger than that of the loss."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective import objective
from torchlinreg.losses import Huber

# Without a Hessian the gap is bounded only coarsely, and a fit warns that the bound is above `tol`. Here the answers
# are compared, not the bound.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def wide(monkeypatch):
    """Take three directions for too many to have a Hessian."""
    monkeypatch.setattr(objective, "LARGEST_HESSIAN", 2)


@pytest.mark.parametrize("steepness", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_losses_of_unknown_curvature(rng, monkeypatch, steepness, container):
    X = rng.normal(size=(60, 4)) * (rng.random((60, 4)) < 0.5)
    y = X @ [1.0, -2.0, 3.0, 0.5] + rng.normal(size=60)

    def loss(prediction, target):
        return steepness * torch.nn.functional.smooth_l1_loss(prediction, target, reduction="none")

    given = {"penalty": "l2", "alpha": 0.1 * steepness}
    expected = TorchLinearRegressor(loss=loss, **given).fit(container(X), y)
    monkeypatch.setattr(objective, "LARGEST_HESSIAN", 2)
    model = TorchLinearRegressor(loss=loss, tol=1e-10, **given).fit(container(X), y)
    assert_allclose(model.predict(X), expected.predict(X), atol=1e-4)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("alpha", [1.0, 1e3])
def test_ridge_of_whitened_columns(rng, alpha):
    """Its curvature counts as much as that of the loss."""
    X = rng.normal(size=(60, 4))
    y = X.sum(1) + rng.normal(size=60)
    model = TorchLinearRegressor(loss=Huber(2.0), penalty="l2", alpha=alpha, conditioning="whiten", tol=1e-8).fit(X, y)
    gradient = X.T @ np.clip(model.predict(X) - y, -2.0, 2.0) / 60 + alpha * model.coef_
    assert_allclose(gradient, 0.0, atol=1e-3)
