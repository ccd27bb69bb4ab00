"""How a gradient becomes a step: SGD written out, or any optimiser of torch."""

import inspect
from typing import Any, Protocol

import torch

from torchlinreg.engine.conditioning import Transform
from torchlinreg.engine.models import Model


class Optimizer(Protocol):
    """Moves parameters along their gradients, in place."""

    def step(self) -> Any:
        """Take one step."""


class SGD:
    """The hand-written step: ``parameter -= learning_rate * gradient``.

    With momentum the gradients are first summed up into a velocity, ``v = momentum * v + gradient``, as in
    `torch.optim.SGD`. To be called with autograd switched off.
    """

    def __init__(self, model: Model, lr: float, momentum: float = 0.0):
        self._model, self._lr, self._momentum = model, lr, momentum
        self._velocity = torch.zeros_like(model.theta()) if momentum else None

    def step(self) -> None:
        """Take one step downhill."""
        if self._momentum:
            self._velocity.mul_(self._momentum).add_(self._model.gradient())
            self._model.replace_gradient(self._velocity)
        self._model.descend(self._lr)


class TorchOptimizer:
    """An optimiser of torch, which finds the gradient in the parameters."""

    def __init__(self, model: Model, optimizer: torch.optim.Optimizer):
        self._model, self._optimizer = model, optimizer

    def step(self) -> None:
        """Take one step."""
        self._model.gradient()
        self._optimizer.step()


class Preconditioned:
    """Another optimiser, led along ``T Tᵀ gradient``: its steps in the variables v in which ``theta = T v``.

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
        self._model.replace_gradient(self._transform(self._transform.pull_back(self._model.gradient())))
        self._optimizer.step()


class Averaged:
    """Another optimiser, and the mean of where its steps have led.

    Steps of constant length reach the neighbourhood of the optimum fast and stay there, scattered; the mean of where
    they went is much closer (Bach & Moulines 2013, "Non-strongly-convex smooth stochastic approximation with
    convergence rate O(1/n)").

    Parameters
    ----------
    optimizer : Optimizer
    model : Model
    burn_in : int
        Steps before the mean begins.
    """

    def __init__(self, optimizer: Optimizer, model: Model, burn_in: int):
        self._optimizer, self._model, self._burn_in = optimizer, model, burn_in
        self._n_steps = 0
        self.mean = model.theta().clone()

    def step(self) -> None:
        """Take one step, and note where it led."""
        self._optimizer.step()
        self._n_steps += 1
        if self._n_steps > self._burn_in:
            self.mean.lerp_(self._model.theta(), 1.0 / (self._n_steps - self._burn_in))


def torch_optimizer_class(name: str | type) -> type[torch.optim.Optimizer]:
    """Find a class of `torch.optim` by its name in any case.

    Raises
    ------
    ValueError
        If torch has no such optimiser, or if it needs what a mini-batch loop does not offer.
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


_UNUSABLE = {"lbfgs", "sparseadam"}  # a closure that is called again and again; sparse gradients only


def make_optimizer(
    optimizer: str | type,
    model: Model,
    lr: float,
    momentum: float = 0.0,
    params: dict | None = None,
    *,
    by_hand: bool = True,
) -> Optimizer:
    """Build the optimiser that the estimator's parameters name; plain "sgd" is written out, if `by_hand`.

    Raises
    ------
    ValueError
        If the optimiser is unknown, or does not take one of its parameters.
    """
    if optimizer == "sgd" and not params and by_hand:
        return SGD(model, lr, momentum)
    cls = torch_optimizer_class(optimizer)
    if "lr" in (params or {}):
        raise ValueError(f"optimizer_params={params!r} sets lr, which is learning_rate={lr}; give one of them only.")
    options = {"lr": lr, **(params or {})}
    if momentum:
        options.setdefault("momentum", momentum)
    try:
        return TorchOptimizer(model, cls(model.parameters, **options))
    except TypeError as reason:
        accepted = [name for name in inspect.signature(cls).parameters if name not in ("params", "lr")]
        raise ValueError(
            f"torch.optim.{cls.__name__} does not take {sorted(set(options) - {'lr'})} as given ({reason}); "
            f"optimizer_params may hold {', '.join(accepted)}."
        ) from reason
