"""The parameters of an estimator as one frozen object, which knows the mode that they ask for."""

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cache
from inspect import signature
from typing import Any

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def is_untuned(learning_rate: Any) -> bool:
    """Whether a learning rate asks for untuned mode, in which the estimator chooses its steps itself."""
    return isinstance(learning_rate, str) and learning_rate == "auto"


@dataclass(frozen=True)
class Parameters:
    """What `TorchLinearRegressor` documents, as the user gave it: no fitted attributes."""

    loss: Any
    penalty: str | None
    alpha: Any
    l1_ratio: Any
    positive: bool
    fit_intercept: bool
    backend: str
    optimizer: Any
    optimizer_params: dict | None
    momentum: float
    learning_rate: Any
    schedule: Any
    batch_size: int | str
    max_iter: int
    tol: Any
    n_iter_no_change: int
    shuffle: bool
    random_state: Any
    conditioning: str | None
    average: bool | int | str
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    verbose: int
    device: Any
    dtype: Any

    @classmethod
    def of(cls, estimator) -> "Parameters":
        """Return the parameters of a `TorchLinearRegressor` as they are now."""
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})

    def describe(self, but: Collection[str] = ()) -> dict[str, str]:
        """Return each parameter in words that are the same in another process."""
        return {field.name: _say(getattr(self, field.name)) for field in fields(self) if field.name not in but}

    @property
    def is_untuned(self) -> bool:
        """Whether they ask for untuned mode; if not, for textbook mode."""
        return is_untuned(self.learning_rate)

    @property
    def is_conditioned(self) -> bool:
        """Whether steps are taken in other variables than the weights because the user says so."""
        return self.conditioning not in ("auto", None)


def _say(value: Any) -> str:
    """Return the representation of a value, without addresses in memory."""
    name = getattr(value, "__qualname__", None)
    return ADDRESS.sub("", repr(value)) if name is None else f"{value.__module__}.{name}"


@cache
def find_defaults(cls: type) -> dict[str, Any]:
    """Return the default of each parameter of an estimator's class; a subclass may have fewer parameters."""
    return {name: parameter.default for name, parameter in signature(cls).parameters.items()}
