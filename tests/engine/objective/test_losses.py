"""Value, gradient and hessian of every loss, against numerical derivatives and against torch's own."""

import math
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective.losses import LOSSES, resolve_loss, total_loss
from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, SquaredEpsilonInsensitive, TorchLoss

STEP = 1e-6


@pytest.fixture(params=sorted(LOSSES))
def name(request) -> str:
    """Return the name of each loss in turn."""
    return request.param


@pytest.fixture(params=[1, 3], ids=["1 target", "3 targets"])
def n_targets(request) -> int:
    """Return how many targets there are."""
    return request.param


@pytest.fixture
def loss(name, n_targets):
    """Return each loss, for one target and for several."""
    return resolve_loss(name, n_targets)


@pytest.fixture
def prediction(rng, n_targets):
    return torch.tensor(rng.normal(size=(400, n_targets)) * 3, requires_grad=True)


@pytest.fixture
def target(rng, n_targets):
    return torch.tensor(rng.normal(size=(400, n_targets)) * 3)


def test_gradient_is_the_derivative_by_finite_differences(loss, prediction, target):
    prediction = prediction.detach()
    difference = loss.value(prediction + STEP, target) - loss.value(prediction - STEP, target)
    smooth = (loss.gradient(prediction + STEP, target) - loss.gradient(prediction - STEP, target)).abs() < 1e-3
    assert smooth.double().mean() > 0.99  # all but the odd jump
    assert_allclose(loss.gradient(prediction, target)[smooth], difference[smooth] / (2 * STEP), rtol=1e-6, atol=1e-6)


def test_hessian_is_the_derivative_of_the_gradient(loss, prediction, target):
    prediction = prediction.detach()
    near, far = (loss.hessian(prediction + by, target) for by in (-STEP, STEP))
    same = near == far
    assert same.double().mean() > 0.99
    difference = loss.gradient(prediction + STEP, target) - loss.gradient(prediction - STEP, target)
    assert_allclose(loss.hessian(prediction, target)[same], difference[same] / (2 * STEP), atol=1e-6)


def test_gradient_is_the_derivative_by_autograd(loss, prediction, target):
    loss.value(prediction, target).sum().backward()
    assert_allclose(loss.gradient(prediction.detach(), target), prediction.grad, rtol=1e-14)


def test_gradient_is_the_derivative_by_autograd_where_pieces_meet(name):
    """Both ways to the gradient take the same side."""
    loss = resolve_loss(name, 1)
    target = torch.zeros(7, 1, dtype=torch.float64)
    edges = torch.tensor([[0.0], [0.1], [-0.1], [1.0], [-1.0], [1.35], [-1.35]], dtype=torch.float64)
    edges.requires_grad_()
    loss.value(edges, target).sum().backward()
    assert_allclose(loss.gradient(edges.detach(), target), edges.grad, atol=1e-15)


def test_lipschitz_bounds_the_change_of_the_gradient(loss, prediction, target):
    near, far = prediction.detach(), prediction.detach().flip(0)
    change = (loss.gradient(near, target) - loss.gradient(far, target)).abs()
    assert (change <= loss.lipschitz * (near - far).abs() * (1 + 1e-12)).all()
    if loss.lipschitz < math.inf:
        assert loss.hessian(near, target).max() == loss.lipschitz  # and no wider than need be


def test_best_prediction_is_the_target(loss, target):
    assert not loss.value(target, target).any()
    assert not loss.gradient(target, target).any()
    assert (loss.value(target + 1, target) > 0).all()


def test_value_is_finite_and_gradient_right_far_away(loss, n_targets):
    far, near = torch.full((1, n_targets), 1e150, dtype=torch.float64), torch.zeros(1, n_targets).double()
    assert loss.value(far, near).isfinite().all()
    steepest = getattr(loss, "slope_above", math.inf)
    assert_allclose(loss.gradient(far, near), min(steepest, loss.lipschitz * 1e150))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_arguments_are_kept(loss, prediction, target, dtype):
    prediction, target = prediction.detach().to(dtype), target.to(dtype)
    before = prediction.clone(), target.clone()
    for result in (function(prediction, target) for function in (loss.value, loss.gradient, loss.hessian)):
        assert (result.shape, result.dtype) == (prediction.shape, dtype)
    assert torch.equal(prediction, before[0])
    assert torch.equal(target, before[1])


def test_rescaled_is_the_loss_of_other_units(rng, loss, n_targets, prediction, target):
    prediction = prediction.detach()
    shift, scale = (torch.tensor(part) for part in (rng.normal(size=n_targets), rng.uniform(0.1, 10.0, n_targets)))
    inside = loss.rescaled(shift, scale)
    original = shift + scale * prediction, shift + scale * target
    assert_allclose(inside.value(prediction, target), loss.value(*original) / scale**2, rtol=1e-12, atol=1e-15)
    assert_allclose(inside.gradient(prediction, target), loss.gradient(*original) / scale, rtol=1e-12, atol=1e-15)


def test_smoothed_is_close_from_below(loss, prediction, target):
    if loss.lipschitz < math.inf:
        return  # smooth already
    prediction = prediction.detach()
    for width in (1.0, 0.1, 1e-3):
        smooth = loss.moreau_envelope(width)
        above = loss.value(prediction, target) - smooth.value(prediction, target)
        assert above.min() >= -1e-15
        steepest = max(loss.slope_above, loss.slope_below)
        assert above.max() <= steepest * width / 2 * (1 + 1e-9)
        assert smooth.hessian(prediction, target).max() <= steepest / width + 1e-9


def test_total_is_the_weighted_sum_of_each_column(rng, loss, prediction, target):
    prediction, weight = prediction.detach(), torch.tensor(rng.uniform(size=(400, 1)))
    value = loss.value(prediction, target)
    assert_allclose(total_loss(loss, prediction, target, None), value.sum(0), rtol=1e-13)
    assert_allclose(total_loss(loss, prediction, target, weight), (weight * value).sum(0), rtol=1e-13)
    assert total_loss(loss, prediction.float(), target.float(), None).dtype == torch.float64


TORCH = {
    "mse": torch.nn.MSELoss,
    "huber": lambda **options: torch.nn.HuberLoss(delta=1.35, **options),
    "absolute_error": torch.nn.L1Loss,
}


@pytest.mark.parametrize("twin", TORCH)
def test_twins_in_torch(twin, n_targets, prediction, target):
    ours, theirs = resolve_loss(twin, n_targets), resolve_loss(TORCH[twin](), n_targets)
    share = 1 if twin == "mse" else n_targets  # their mean runs over the targets
    prediction = prediction.detach()
    for function in ("value", "gradient", "hessian"):
        found, expected = (getattr(loss, function)(prediction, target) for loss in (ours, theirs))
        assert_allclose(found, share * expected, rtol=1e-12, atol=1e-15)
    mean = TORCH[twin]()(prediction, target)
    assert_allclose(theirs.value(prediction, target).sum() / 400, mean, rtol=1e-12)


def mean_of_logcosh(prediction, target):
    return torch.log(torch.cosh(prediction - target)).mean()


def logcosh(prediction, target):
    return torch.log(torch.cosh(prediction - target)) / prediction.shape[1]


def test_a_function_may_return_elements_or_their_mean(n_targets, prediction, target):
    prediction = prediction.detach()
    whole, single = (resolve_loss(function, n_targets) for function in (mean_of_logcosh, logcosh))
    assert_allclose(whole.gradient(prediction, target), single.gradient(prediction, target), rtol=1e-10, atol=1e-15)
    assert_allclose(whole.value(prediction, target).sum(1), single.value(prediction, target).sum(1), rtol=1e-12)


@pytest.mark.parametrize("backend", ["auto", "autograd", "linear"])
@pytest.mark.parametrize("function", [mean_of_logcosh, logcosh, torch.nn.SmoothL1Loss()])
def test_torch_losses_are_brought_to_their_optimum(rng, backend, function):
    X = rng.normal(size=(200, 4)) * [1.0, 100.0, 1e-3, 1.0] + 5.0
    y = X @ [1.0, 0.02, 500.0, 0.0] + rng.standard_t(2, size=200)
    model = TorchLinearRegressor(loss=function, backend=backend).fit(X, y)
    assert model.converged_
    prediction = torch.from_numpy(model.predict(X))[:, None]
    gradient = TorchLoss(function).gradient(prediction, torch.from_numpy(y)[:, None])[:, 0].numpy()
    assert_allclose(gradient @ StandardScaler().fit_transform(X), 0.0, atol=1e-5)


def test_a_jump_of_the_gradient_that_only_torch_knows_of():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    best = np.abs(TorchLinearRegressor(loss="absolute_error").fit(X, y).predict(X) - y).mean()
    with pytest.warns(ConvergenceWarning, match="Further passes gained nothing: accept a larger tol") as caught:
        model = TorchLinearRegressor(loss=torch.nn.L1Loss()).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]  # where the user can do something about it
    assert np.abs(model.predict(X) - y).mean() < best * (1 + 1e-5)


def test_torch_loss_in_textbook_mode_is_the_written_out_loop(rng):
    X, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    model = TorchLinearRegressor(
        loss=torch.nn.SmoothL1Loss(), learning_rate=0.1, max_iter=3, batch_size=16, shuffle=False
    ).fit(X, y)
    module = torch.nn.Linear(3, 1).double()
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        for rows, target in zip(torch.from_numpy(X).split(16), torch.from_numpy(y).split(16), strict=True):
            torch.nn.SmoothL1Loss()(module(rows)[:, 0], target).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_allclose(model.coef_, module.weight.detach()[0], rtol=1e-12)


def test_refusals_name_the_way_out(rng):
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    with pytest.raises(ValueError, match=r'backend="analytic" knows .* use backend="autograd"'):
        TorchLinearRegressor(loss=torch.nn.L1Loss(), backend="analytic").fit(X, y)
    with pytest.raises(ValueError, match=r'use reduction="mean"'):
        TorchLinearRegressor(loss=torch.nn.MSELoss(reduction="sum")).fit(X, y)
    with pytest.raises(ValueError, match=r"returned shape .* return that shape, or one number"):
        TorchLinearRegressor(loss=lambda p, t: (p - t).square().sum(1)[:5]).fit(X, y)
    for function in (lambda p, t: 1.0, lambda p, t: (p - t).detach()):
        with pytest.raises(ValueError, match=r"cannot differentiate; return a torch.Tensor"):
            TorchLinearRegressor(loss=function, learning_rate=0.1).fit(X, y)
    for wrong in (lambda: Huber(0.0), lambda: Huber("1"), lambda: EpsilonInsensitive(-1.0)):
        with pytest.raises(ValueError, match="in units of the target"):
            wrong()
    with pytest.raises(ValueError, match="between 0 and 1"):
        Quantile(1.0)


@pytest.mark.parametrize("loss", [Huber(2.0), Quantile(0.9), EpsilonInsensitive(0.5), SquaredEpsilonInsensitive(0.0)])
def test_objects_are_values(loss):
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert eval(repr(loss)) == loss
    assert loss.lipschitz > 0


def test_squared_error_is_half_of_mse(prediction, target):
    half, whole = resolve_loss("squared_error", 1), resolve_loss("mse", 1)
    assert_allclose(half.value(prediction, target).detach(), whole.value(prediction, target).detach() / 2, rtol=1e-15)


def test_loss_of_a_fit_is_the_mean_over_rows(rng, name, backend):
    """Of the predictions before the only step, which are zero."""
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    model = TorchLinearRegressor(loss=name, backend=backend, learning_rate=0.1, max_iter=1, batch_size="full").fit(X, y)
    value = resolve_loss(name, 2).value(torch.zeros(30, 2), torch.from_numpy(y))
    assert model.loss_curve_ == pytest.approx([np.mean(np.sum(value.numpy(), axis=1))])


def test_untuned_mode_has_the_same_optimum_for_every_squared_loss(rng, backend):
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    quadratic = [name for name in LOSSES if resolve_loss(name, 2).is_quadratic]
    fits = [TorchLinearRegressor(loss=name, backend=backend).fit(X, y) for name in quadratic]
    for fit in fits[1:]:
        assert_allclose(fit.coef_, fits[0].coef_, rtol=1e-12)
        assert fit.converged_
