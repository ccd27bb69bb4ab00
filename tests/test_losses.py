"""Value, slope and curvature of every loss, against numerical derivatives and against torch's own."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.losses import LOSSES, total


@pytest.fixture(params=sorted(LOSSES))
def name(request) -> str:
    """Return the name of each loss in turn."""
    return request.param


@pytest.fixture(params=[1, 3], ids=["1 target", "3 targets"])
def loss(request, name):
    """Return each loss, for one target and for several."""
    return LOSSES[name](request.param)


@pytest.fixture
def prediction(rng, loss):
    return torch.tensor(rng.normal(size=(40, loss.n_targets)) * 10, requires_grad=True)


@pytest.fixture
def target(rng, loss):
    return torch.tensor(rng.normal(size=(40, loss.n_targets)) * 10)


def test_slope_is_the_derivative_by_finite_differences(loss, prediction, target):
    prediction = prediction.detach()
    step = 1e-6
    difference = loss.value(prediction + step, target) - loss.value(prediction - step, target)
    assert_allclose(loss.slope(prediction, target), difference / (2 * step), rtol=1e-6, atol=1e-7)


def test_slope_is_the_derivative_by_autograd(loss, prediction, target):
    assert torch.autograd.gradcheck(lambda z: loss.value(z, target), prediction)
    loss.value(prediction, target).sum().backward()
    assert_allclose(loss.slope(prediction.detach(), target), prediction.grad, rtol=1e-14)


def test_curvature_bounds_the_change_of_slope(loss, prediction, target):
    near, far = prediction.detach(), prediction.detach().flip(0)
    change = (loss.slope(near, target) - loss.slope(far, target)).abs()
    assert (change <= loss.curvature * (near - far).abs() * (1 + 1e-12)).all()
    assert (change >= 0.99 * loss.curvature * (near - far).abs()).any()  # and no wider than need be


def test_best_prediction_is_the_target(loss, target):
    assert not loss.value(target, target).any()
    assert not loss.slope(target, target).any()
    assert (loss.value(target + 1, target) > 0).all()


def test_value_is_finite_and_slope_right_far_away(loss):
    far, near = torch.full((1, loss.n_targets), 1e150, dtype=torch.float64), torch.zeros(1, loss.n_targets)
    assert loss.value(far, near.double()).isfinite().all()
    assert_allclose(loss.slope(far, near.double()), loss.curvature * 1e150)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_arguments_are_kept(loss, prediction, target, dtype):
    prediction, target = prediction.detach().to(dtype), target.to(dtype)
    before = prediction.clone(), target.clone()
    for result in (loss.value(prediction, target), loss.slope(prediction, target)):
        assert (result.shape, result.dtype) == (prediction.shape, dtype)
    assert torch.equal(prediction, before[0])
    assert torch.equal(target, before[1])


def test_total_is_the_weighted_sum_of_each_column(rng, loss, prediction, target):
    prediction, weight = prediction.detach(), torch.tensor(rng.uniform(size=(40, 1)))
    value = loss.value(prediction, target)
    assert_allclose(total(loss, prediction, target, None), value.sum(0), rtol=1e-14)
    assert_allclose(total(loss, prediction, target, weight), (weight * value).sum(0), rtol=1e-14)
    assert total(loss, prediction.float(), target.float(), None).dtype == torch.float64


def test_mse_is_that_of_torch(rng):
    for n_targets in (1, 3):
        prediction = torch.tensor(rng.normal(size=(40, n_targets)), requires_grad=True)
        target = torch.tensor(rng.normal(size=(40, n_targets)))
        loss = LOSSES["mse"](n_targets)
        expected = torch.nn.MSELoss()(prediction, target)
        expected.backward()
        found = total(loss, prediction.detach(), target, None).sum() / 40
        assert_allclose(found, expected.detach(), rtol=1e-14)
        assert_allclose(loss.slope(prediction.detach(), target) / 40, prediction.grad, rtol=1e-14)


def test_squared_error_is_half_of_it(loss, prediction, target):
    half, whole = LOSSES["squared_error"](1), LOSSES["mse"](1)
    assert_allclose(half.value(prediction, target).detach(), whole.value(prediction, target).detach() / 2, rtol=1e-15)


def test_loss_of_a_fit_is_the_mean_over_rows(rng, name, backend):
    """Of the predictions before the only step, which are zero."""
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    model = TorchLinearRegressor(loss=name, backend=backend, learning_rate=0.1, max_iter=1, batch_size="full").fit(X, y)
    expected = np.mean(np.sum(LOSSES[name](2).value(torch.zeros(30, 2), torch.from_numpy(y)).numpy(), axis=1))
    assert model.loss_curve_ == pytest.approx([expected])


def test_untuned_mode_has_the_same_optimum_for_every_squared_loss(rng, name, backend):
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    fits = [TorchLinearRegressor(loss=each, backend=backend).fit(X, y) for each in (name, "squared_error")]
    assert_allclose(fits[0].coef_, fits[1].coef_, rtol=1e-12)
    assert fits[0].converged_
