"""The schedules of the learning rate, as objects: for those that have a parameter, such as ``InvScaling(0.5)``."""

from torchlinreg.engine.solvers.minibatch.schedules import Adaptive, ByEpoch, Constant, InvScaling

__all__ = ["Adaptive", "ByEpoch", "Constant", "InvScaling"]
