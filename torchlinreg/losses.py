"""The losses, as objects: for those that have a parameter, such as ``loss=Quantile(0.9)``."""

from torchlinreg.engine.objective.losses import (
    AbsoluteError,
    EpsilonInsensitive,
    Huber,
    MeanSquaredError,
    Quantile,
    SquaredEpsilonInsensitive,
    SquaredError,
    TorchLoss,
)

__all__ = [
    "AbsoluteError",
    "EpsilonInsensitive",
    "Huber",
    "MeanSquaredError",
    "Quantile",
    "SquaredEpsilonInsensitive",
    "SquaredError",
    "TorchLoss",
]
