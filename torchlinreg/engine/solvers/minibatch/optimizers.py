"""How a gradient becomes a step: SGD written out, or any optimizer of torch."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch

from torchlinreg.engine.objective.linear_model import Model
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.transforms import Transform


@dataclass
class Rate:
    """The learning rate of the next step, which a schedule may change; one for all columns, or one for each."""

    now: float | torch.Tensor


class Optimizer(Protocol):
    """Moves parameters along their gradients, in place."""

    def step(self) -> Any:
        """Take one step."""


class BaseOptimizer(Optimizer, Protocol):
    """An optimizer whose state, if it has any, are tensors."""

    def state_dict(self) -> dict:
        """Return the state, by name."""

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state."""


class SGD:
    """The hand-written step: ``parameter -= learning_rate * gradient``.

    With momentum the gradients are first summed up into a velocity, ``v = momentum * v + gradient``, as in
    `torch.optim.SGD`. To be called with autograd switched off. The columns may each have a rate and a momentum of their
    own.
    """

    def __init__(self, model: Model, rate: Rate, momentum: float | torch.Tensor = 0.0):
        self._model, self._rate, self._momentum = model, rate, momentum
        self._velocity = torch.zeros_like(model.theta()) if torch.as_tensor(momentum, device="cpu").any() else None

    def step(self) -> None:
        """Take one step downhill."""
        if self._velocity is not None:
            self._velocity.mul_(self._momentum).add_(self._model.gradient())
            self._model.replace_gradient(self._velocity)
        rate = self._rate.now
        if isinstance(rate, torch.Tensor):
            self._model.replace_gradient(rate * self._model.gradient())
            rate = 1.0
        self._model.descend(rate)

    def state_dict(self) -> dict:
        """Return the velocity, if there is one."""
        return {} if self._velocity is None else {"velocity": self._velocity}

    def load_state_dict(self, state: dict) -> None:
        """Go on at that velocity."""
        if self._velocity is not None:
            self._velocity.copy_(state["velocity"])


class TorchOptimizer:
    """An optimizer of torch, which finds the gradient in the parameters."""

    def __init__(self, model: Model, rate: Rate, optimizer: torch.optim.Optimizer):
        self._model, self._rate, self._optimizer = model, rate, optimizer

    def step(self) -> None:
        """Take one step."""
        self._model.gradient()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate.now
        self._optimizer.step()

    def state_dict(self) -> dict:
        """Return what torch keeps of each parameter."""
        return self._optimizer.state_dict()["state"]

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state."""
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})


class Preconditioned:
    """Another optimizer, led along ``T Tᵀ gradient``: its steps in the variables v in which ``theta = T v``.

    Parameters
    ----------
    optimizer : Optimizer
    model : Model
    transform : Transform
        T, in the precision of the model.
    """

    def __init__(self, optimizer: Optimizer, model: Model, transform: Transform):
        self._optimizer, self._model, self._transform = optimizer, model, transform

    def step(self) -> None:
        """Take one step."""
        self._model.replace_gradient(self._transform(self._transform.rmatvec(self._model.gradient())))
        self._optimizer.step()


class ProximalGradient:
    """Another optimizer with a penalty: the gradient of its smooth part beforehand, its proximal step afterwards.

    Proximal gradient descent, of which ISTA is an example (Beck & Teboulle 2009, "A fast iterative
    shrinkage-thresholding algorithm for linear inverse problems").

    Parameters
    ----------
    optimizer : Optimizer
    model : Model
    penalty : Penalty
    n_features : int
        Rows of theta that are weights.
    rate : Rate
        Length of the steps.
    transform : Transform, optional
        That of `Preconditioned`, if it is diagonal: then each weight has a step of its own length.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: Model,
        penalty: Penalty,
        n_features: int,
        rate: Rate,
        transform: Transform | None = None,
    ):
        self._optimizer, self._model, self._penalty = optimizer, model, penalty
        self._n_features, self._rate, self._transform = n_features, rate, transform

    def step(self) -> None:
        """Take one step."""
        model, penalty, n_features = self._model, self._penalty, self._n_features
        gradient = model.gradient().clone()
        gradient[:n_features] += penalty.gradient(model.theta()[:n_features])
        model.replace_gradient(gradient)
        self._optimizer.step()
        if penalty.is_smooth:
            return
        theta = model.theta()
        weights, change = theta[:n_features], torch.zeros_like(theta)
        length = self._rate.now if self._transform is None else self._rate.now * self._transform.weights[:, None] ** 2
        change[:n_features] = penalty.prox(weights, length) - weights
        if self._transform is not None and self._transform.offset is not None:
            change[n_features:] = -self._transform.offset[None] @ change[:n_features]
        model.move(change)


class PolyakAveraging:
    """Another optimizer, and the mean of the weights that it has reached.

    Steps of constant length reach the neighbourhood of the optimum fast and stay there, scattered; the mean of where
    they went is much closer (Bach & Moulines 2013, "Non-strongly-convex smooth stochastic approximation with
    convergence rate O(1/n)").

    Parameters
    ----------
    optimizer : Optimizer
    model : Model
    burn_in : int
        Steps before the mean begins.
    n_steps : int
        Taken before.
    """

    def __init__(self, optimizer: Optimizer, model: Model, burn_in: int, n_steps: int = 0):
        self._optimizer, self._model, self._burn_in = optimizer, model, burn_in
        self.n_steps = n_steps
        self.mean = model.theta().clone()

    def step(self) -> None:
        """Take one step, and note where it led."""
        self._optimizer.step()
        self.n_steps += 1
        if self.n_steps > self._burn_in:
            self.mean.lerp_(self._model.theta(), 1.0 / (self.n_steps - self._burn_in))


class SummedGradient:
    """Another optimizer, whose gradient is the sum of those that several processes find, each on its share of a batch.

    Parameters
    ----------
    optimizer : Optimizer
    model : Model
    total : callable (torch.Tensor) -> torch.Tensor
        Returns the sum over the processes, the same in all of them.
    """

    def __init__(self, optimizer: Optimizer, model: Model, total: Callable[[torch.Tensor], torch.Tensor]):
        self._optimizer, self._model, self._total = optimizer, model, total

    def step(self) -> None:
        """Take one step."""
        self._model.replace_gradient(self._total(self._model.gradient()))
        self._optimizer.step()


def torch_optimizer_class(name: str | type) -> type[torch.optim.Optimizer]:
    """Find a class of `torch.optim` by its name in any case.

    Raises
    ------
    ValueError
        If torch has no such optimizer, or if it needs what a mini-batch loop does not offer.
    """
    known = {
        cls_name.lower(): cls
        for cls_name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    usable = sorted(set(known) - _UNUSABLE)
    found = known.get(name.lower()) if isinstance(name, str) else name
    if found is None:
        raise ValueError(f"optimizer={name!r} is not in torch.optim; use one of {', '.join(usable)}, or a class.")
    if not (inspect.isclass(found) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(f"optimizer={name!r} is not a torch.optim.Optimizer class; use one, or its name.")
    if found.__name__.lower() in _UNUSABLE:
        raise ValueError(
            f"optimizer={name!r} cannot take plain dense steps with one gradient each; use one of {', '.join(usable)}."
        )
    return found


@cache
def _load_compiler() -> None:
    """Have torch load its compiler, as the first of its optimizers does, which adds to the filters of warnings."""
    with warnings.catch_warnings():
        torch.optim.SGD([torch.zeros(1, device="cpu")])


_UNUSABLE = {"lbfgs", "sparseadam"}  # a closure that is called again and again; sparse gradients only


def make_optimizer(
    optimizer: str | type,
    model: Model,
    rate: Rate,
    momentum: float = 0.0,
    params: dict | None = None,
    *,
    by_hand: bool = True,
) -> BaseOptimizer:
    """Build the optimizer that the estimator's parameters name; plain "sgd" is written out, if `by_hand`.

    Raises
    ------
    ValueError
        If the optimizer is unknown, or does not take one of its parameters.
    """
    if optimizer == "sgd" and not params and by_hand:
        return SGD(model, rate, momentum)
    cls = torch_optimizer_class(optimizer)
    if "lr" in (params or {}):
        raise ValueError(
            f"optimizer_params={params!r} sets lr, which is learning_rate={rate.now}; give one of them only."
        )
    options = {"lr": rate.now, **(params or {})}
    if momentum:
        options.setdefault("momentum", momentum)
    _load_compiler()
    try:
        return TorchOptimizer(model, rate, cls(model.parameters, **options))
    except TypeError as reason:
        accepted = [name for name in inspect.signature(cls).parameters if name not in ("params", "lr")]
        raise ValueError(
            f"torch.optim.{cls.__name__} does not take {sorted(set(options) - {'lr'})} as given ({reason}); "
            f"optimizer_params may hold {', '.join(accepted)}."
        ) from reason
