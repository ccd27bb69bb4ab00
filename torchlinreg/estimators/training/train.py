"""One training by the engine: which of its drivers runs, and its errors in the user's words."""

import torch

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.stream import fit_stream
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.solvers.minibatch.loop import DivergedError
from torchlinreg.estimators.parameters.refusals import refusing_overflow
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.estimators.training.reports import advise_rate


def train(
    rows: MemorySource, theta: torch.Tensor, settings: Settings, parameters: Parameters, state: dict | None = None
) -> Result:
    """Train on all rows or, with a training state, on the next rows of a stream.

    Parameters
    ----------
    rows : MemorySource
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets)
        Where textbook mode starts.
    settings : Settings
    parameters : Parameters
    state : dict, optional
        Of the stream; empty if it begins here.

    Raises
    ------
    ValueError
        If numbers overflow, or if training diverges.
    """
    if parameters.is_untuned:
        with refusing_overflow():
            return fit_untuned(rows, settings) if state is None else fit_stream(rows, settings, state)
    try:
        return fit_textbook(rows, theta, settings, state)
    except DivergedError as diverged:
        raise ValueError(
            f"Training diverged in epoch {diverged.epoch}: learning_rate={parameters.learning_rate} is too large "
            f"for this data. {advise_rate(rows, settings)}"
        ) from None
