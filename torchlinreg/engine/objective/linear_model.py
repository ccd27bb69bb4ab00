"""The linear model, three ways: by hand in closed form, by hand with autograd, and `torch.nn.Linear`.

All three hold weights of shape (n_features, n_columns) and an intercept per column, and offer the same calls in the
order of a training step: `predict`, `error`, `backward`, `zero_grad`. Between the last two an optimiser moves the
parameters along the gradient, a mean over the rows of the batch.

Outside the step all of them speak of *theta*: the weights with the intercept, if there is one, as a last row.
"""

from typing import Protocol

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.objective.losses import Loss


class Model(Protocol):
    """A linear model that knows its gradient."""

    parameters: list[torch.Tensor]
    """What an optimiser moves, in place."""
    is_closed_form: bool
    """Whether no graph is built."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return predictions of shape (n_rows, n_columns), and leave them in ``batch.predicted`` too."""

    def error(self, loss: Loss, prediction: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return what `backward` starts from."""

    def backward(self, batch: Batch, error: torch.Tensor) -> None:
        """Find the gradient."""

    def descend(self, lr: float) -> None:
        """Move the parameters by ``-lr`` times the gradient."""

    def zero_grad(self) -> None:
        """Forget the gradient."""

    def theta(self) -> torch.Tensor:
        """Return weights and intercept, detached."""

    def gradient(self) -> torch.Tensor:
        """Return the gradient in the shape of theta; from then on it is in ``.grad`` of the parameters too."""

    def replace_gradient(self, gradient: torch.Tensor) -> None:
        """Put another gradient, in the shape of theta, in the place of the one that `backward` found."""

    def move(self, change: torch.Tensor) -> None:
        """Add a change, in the shape of theta, to the parameters."""


class AnalyticModel:
    """The gradient in closed form, Xᵀ error / n_rows: no graph, three small products and sums a step.

    Weights and intercept are rows of one tensor. Where the rows carry a column of ones, the intercept takes part in
    the same products. The gradient is not even formed unless somebody asks for it: a plain step adds the product.
    """

    is_closed_form = True

    def __init__(self, theta: torch.Tensor, *, fit_intercept: bool, ones: bool = False):
        self._theta = theta.clone()
        self._theta.grad = torch.zeros_like(theta)
        self.parameters = [self._theta]
        self._separate = fit_intercept and not ones
        split = len(theta) - self._separate
        self._weights, self._intercept = self._theta[:split], self._theta[split:]
        self._weights_grad, self._intercept_grad = self._theta.grad[:split], self._theta.grad[split:]
        self._factors: tuple[Batch, torch.Tensor] | None = None

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return X @ weights + intercept."""
        if self._separate:
            return batch.X.affine(self._intercept, self._weights, batch.predicted)
        return batch.X.matmul(self._weights, batch.predicted)

    def error(self, loss: Loss, prediction: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the weighted gradient of the loss in each prediction."""
        gradient = loss.gradient(prediction, batch.y)
        return gradient if batch.weight is None else gradient.mul_(batch.weight)

    def backward(self, batch: Batch, error: torch.Tensor) -> None:
        """Keep the factors of the gradient."""
        self._factors = batch, error

    def descend(self, lr: float) -> None:
        """Add ``-lr`` times the product of the factors, or of the gradient if it is there already."""
        if self._factors is None:
            self._theta.add_(self._theta.grad, alpha=-lr)
            return
        batch, error = self._factors
        batch.X.add_rmatmul(self._weights, error, -lr * batch.share)
        if self._separate:
            self._intercept.sub_(error.sum(0), alpha=lr * batch.share)

    def zero_grad(self) -> None:
        """Do nothing: the next gradient takes the place of this one."""

    def theta(self) -> torch.Tensor:
        """Return weights and intercept."""
        return self._theta

    def gradient(self) -> torch.Tensor:
        """Return Xᵀ error / n_rows; the intercept's feature is one."""
        if self._factors is not None:
            batch, error = self._factors
            batch.X.rmatmul(error, self._weights_grad, batch.share)
            if self._separate:
                torch.sum(error, 0, keepdim=True, out=self._intercept_grad).mul_(batch.share)
            self._factors = None
        return self._theta.grad

    def replace_gradient(self, gradient: torch.Tensor) -> None:
        """Overwrite the gradient."""
        self._theta.grad.copy_(gradient)
        self._factors = None

    def move(self, change: torch.Tensor) -> None:
        """Add to weights and intercept at once."""
        self._theta.add_(change)


class AutogradModel:
    """Two tensors with ``requires_grad``; torch finds the gradient from the written-out prediction."""

    is_closed_form = False

    def __init__(self, theta: torch.Tensor, *, fit_intercept: bool):
        split = len(theta) - fit_intercept
        self.w = theta[:split].clone().requires_grad_()
        self.b = theta[split].clone().requires_grad_() if fit_intercept else None
        self.parameters = [self.w, self.b] if fit_intercept else [self.w]

    def predict(self, batch: Batch) -> torch.Tensor:
        """Return X @ w + b."""
        with torch.enable_grad():
            prediction = batch.X @ self.w if self.b is None else batch.X @ self.w + self.b
        batch.predicted.copy_(prediction)
        return prediction

    def error(self, loss: Loss, prediction: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss of the batch: a mean over its rows, a sum over its columns."""
        with torch.enable_grad():
            value = loss.value(prediction, batch.y)
            return (value if batch.weight is None else value * batch.weight).sum() * batch.share

    def backward(self, batch: Batch, error: torch.Tensor) -> None:
        """Let autograd walk back from the loss."""
        error.backward()

    def descend(self, lr: float) -> None:
        """Update by hand: ``parameter -= lr * gradient``."""
        for parameter in self.parameters:
            parameter.sub_(parameter.grad, alpha=lr)

    def zero_grad(self) -> None:
        """Drop the gradients, which autograd would add to."""
        for parameter in self.parameters:
            parameter.grad = None

    def theta(self) -> torch.Tensor:
        """Return w, and b as a last row."""
        return _stack(self.w.detach(), self.b)

    def gradient(self) -> torch.Tensor:
        """Return the gradients of w and b, stacked likewise."""
        return _stack(self.w.grad, None if self.b is None else self.b.grad)

    def replace_gradient(self, gradient: torch.Tensor) -> None:
        """Overwrite the gradients of w and b."""
        self.w.grad.copy_(gradient[: len(self.w)])
        if self.b is not None:
            self.b.grad.copy_(gradient[-1])

    def move(self, change: torch.Tensor) -> None:
        """Add to w and b."""
        self.w.add_(change[: len(self.w)])
        if self.b is not None:
            self.b.add_(change[-1])


class _Undrawn(torch.nn.Linear):
    """`torch.nn.Linear` without its initial weights: they would be drawn from torch's global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def linear_module(n_features: int, n_columns: int, *, bias: bool, device, dtype: torch.dtype) -> torch.nn.Linear:
    """Return a `torch.nn.Linear` whose weights are yet to be set.

    `torch.nn.utils.skip_init` makes one, too, but loads a compiler on its way, which adds to the filters of warnings.
    """
    module = _Undrawn(n_features, n_columns, bias=bias, device=device, dtype=dtype)
    module.__class__ = torch.nn.Linear  # for whoever is to unpickle it
    return module


class LinearModel:
    """`torch.nn.Linear`, as the concise tutorials have it."""

    is_closed_form = False

    def __init__(self, theta: torch.Tensor, *, fit_intercept: bool):
        n_features = len(theta) - fit_intercept
        self.module = linear_module(
            n_features, theta.shape[1], bias=fit_intercept, device=theta.device, dtype=theta.dtype
        )
        self.parameters = list(self.module.parameters())
        with torch.no_grad():
            self.module.weight.copy_(theta[:n_features].t())
            if fit_intercept:
                self.module.bias.copy_(theta[n_features])

    def predict(self, batch: Batch) -> torch.Tensor:
        """Call the module."""
        with torch.enable_grad():
            prediction = batch.X.apply(self.module)
        batch.predicted.copy_(prediction)
        return prediction

    error = AutogradModel.error
    backward = AutogradModel.backward
    descend = AutogradModel.descend
    zero_grad = AutogradModel.zero_grad

    def theta(self) -> torch.Tensor:
        """Return the module's weight, transposed, and its bias as a last row."""
        return _stack(self.module.weight.detach().t(), self.module.bias)

    def gradient(self) -> torch.Tensor:
        """Return the gradients of weight and bias, stacked likewise."""
        bias = self.module.bias
        return _stack(self.module.weight.grad.t(), None if bias is None else bias.grad)

    def replace_gradient(self, gradient: torch.Tensor) -> None:
        """Overwrite the gradients of weight and bias."""
        self.module.weight.grad.copy_(gradient[: self.module.in_features].t())
        if self.module.bias is not None:
            self.module.bias.grad.copy_(gradient[-1])

    def move(self, change: torch.Tensor) -> None:
        """Add to weight and bias."""
        self.module.weight.add_(change[: self.module.in_features].t())
        if self.module.bias is not None:
            self.module.bias.add_(change[-1])


def _stack(weights: torch.Tensor, intercept: torch.Tensor | None) -> torch.Tensor:
    return weights if intercept is None else torch.cat([weights, intercept.detach()[None]])


MODELS: dict[str, type[Model]] = {"analytic": AnalyticModel, "autograd": AutogradModel, "linear": LinearModel}
