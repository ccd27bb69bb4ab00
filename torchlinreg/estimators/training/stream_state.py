"""What `partial_fit` goes on from beside the weights, kept on the estimator as NumPy arrays and plain numbers."""

import warnings

import numpy as np
import torch


def keep_memory(estimator, memory: dict) -> None:
    """Keep on the estimator what training left behind."""
    estimator._memory = _kind(estimator), _to_arrays(memory)


def recall_memory(estimator) -> dict:
    """Return what the estimator keeps, if that is of use for what its parameters now ask for.

    Warns
    -----
    UserWarning
        If it is not, and rows are forgotten with it.
    """
    kind, memory = ("", {}) if estimator._memory is None else estimator._memory
    if kind == _kind(estimator):
        return _to_tensors(memory)
    if estimator.learning_rate == "auto":
        warnings.warn(
            'With learning_rate="auto", partial_fit does not go on from fit or from steps, which keep no summary of '
            "their rows: a new stream begins. To learn from all rows, call partial_fit from the first ones on.",
            stacklevel=4,
        )
    return {}


def _kind(estimator) -> str:
    """Return, in words, what has to stay the same for a memory to be of use."""
    if estimator.learning_rate == "auto":
        return f"summary, fit_intercept={estimator.fit_intercept}"
    steps = estimator.backend, estimator.optimizer, estimator.optimizer_params, estimator.momentum, estimator.average
    return f"steps, {steps}"


def _to_arrays(memory):
    """Return nested dictionaries with every tensor turned into an array of its own."""
    if isinstance(memory, dict):
        return {name: _to_arrays(part) for name, part in memory.items()}
    return np.array(memory.detach().cpu().numpy()) if isinstance(memory, torch.Tensor) else memory


def _to_tensors(memory):
    """Return nested dictionaries with every array turned into a tensor of its own."""
    if isinstance(memory, dict):
        return {name: _to_tensors(part) for name, part in memory.items()}
    return torch.tensor(memory) if isinstance(memory, np.ndarray) else memory
