"""The training state that `partial_fit` goes on from, beside the weights: NumPy arrays and plain numbers."""

import warnings

import numpy as np
import torch

from torchlinreg.estimators.parameters.values import Parameters

SavedState = tuple[str, dict]


def save_training_state(state: dict, parameters: Parameters) -> SavedState:
    """Return a training state, as arrays, with the parameters that it depends on."""
    return _dependencies(parameters), to_arrays(state)


def load_training_state(saved: SavedState | None, parameters: Parameters) -> dict:
    """Return a saved training state, as tensors; an empty one if the parameters that it depends on have changed.

    Warns
    -----
    UserWarning
        If an untuned stream begins anew, as rows are forgotten then.
    """
    dependencies, state = ("", {}) if saved is None else saved
    if dependencies == _dependencies(parameters):
        return to_tensors(state)
    if parameters.is_untuned:
        warnings.warn(
            'With learning_rate="auto", partial_fit does not go on from fit or from textbook mode, which keep no '
            "sufficient statistics of their rows: a new stream begins. To learn from all rows, call partial_fit from "
            "the first ones on.",
            stacklevel=4,
        )
    return {}


def _dependencies(parameters: Parameters) -> str:
    """Return, in words, the parameters that a training state depends on."""
    if parameters.is_untuned:
        return f"untuned, fit_intercept={parameters.fit_intercept}"
    names = "backend", "optimizer", "optimizer_params", "momentum", "average"
    return f"textbook, {[getattr(parameters, name) for name in names]}"


def to_arrays(state):
    """Return nested dictionaries with a copy of every tensor as an array."""
    if isinstance(state, dict):
        return {name: to_arrays(value) for name, value in state.items()}
    return np.array(state.detach().cpu().numpy()) if isinstance(state, torch.Tensor) else state


def to_tensors(state):
    """Return nested dictionaries with a copy of every array as a tensor."""
    if isinstance(state, dict):
        return {name: to_tensors(value) for name, value in state.items()}
    return torch.tensor(state) if isinstance(state, np.ndarray) else state
