"""The callback that saves an estimator while it is being fitted, and the way back."""

import errno
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.runtime.checkpoint import CheckpointFile
from torchlinreg.estimators.base import LinearModel
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.regressor_cv import TorchLinearRegressorCV

CONTENT = {"content": "an estimator, by torchlinreg.callbacks.Checkpoint"}
ESTIMATORS = {cls.__name__: cls for cls in (TorchLinearRegressor, TorchLinearRegressorCV)}
# What is known of a fit that has not ended; an earlier fit may have left other attributes
KNOWN = {
    "coef_",
    "intercept_",
    "_weights_in_float64",
    "n_features_in_",
    "feature_names_in_",
    "loss_curve_",
    "n_iter_",
    "t_",
}
UNKNOWN = {"validation_scores_": None, "converged_": False, "optimality_gap_": None, "_training_state": None}


class Checkpoint:
    """Callback that saves the estimator while it is being fitted.

    Saves what it has learnt: an estimator that predicts with the weights after the last epoch, without its callbacks.
    :meth:`load` returns it. Two files are kept: the last and, with ".previous" added to its name, the one before. A
    whole one is there at every moment, and a damaged one is noticed.

    Parameters
    ----------
    path : str or path-like
        The file, in the format of safetensors (the extra ``torchlinreg[scaling]``), of which nothing is ever
        unpickled. Fits that run at the same time need different files.
    every : int, default=1
        Epochs between two savings; the finished fit is saved in any case.

    Raises
    ------
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.callbacks import Checkpoint
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> model = TorchLinearRegressor(learning_rate=0.1, max_iter=20).set_callbacks(Checkpoint(path, every=5))
    >>> saved = Checkpoint.load(model.fit([[0.0], [1.0]], [0.0, 2.0]) and path)
    >>> bool(saved.predict([[1.0]]) == model.predict([[1.0]]))
    True

    Training goes on from it with ``warm_start``:

    >>> saved.set_params(warm_start=True, max_iter=5).fit([[0.0], [1.0]], [0.0, 2.0]).t_
    25
    """

    __module__ = "torchlinreg.callbacks"

    def __init__(self, path, every: int = 1):
        if every < 1:
            raise ValueError(f"Checkpoint(every={every!r}): must be 1 epoch at least.")
        self.path, self.every = Path(path), every
        self._file = CheckpointFile(path, CONTENT)

    @staticmethod
    def load(path, estimator: LinearModel | None = None) -> LinearModel:
        """Return the estimator that was saved last, fitted.

        Parameters
        ----------
        path : str or path-like
        estimator : TorchLinearRegressor or TorchLinearRegressorCV, default=None
            A copy of it is returned, with its parameters and what was learnt. Needed if a parameter was an object that
            is in no file, such as a function; by default, parameters are those that were saved.

        Returns
        -------
        TorchLinearRegressor or TorchLinearRegressorCV
            It predicts with exactly the weights saved. If the fit had not ended, `converged_` is False, `plan_` is not
            there, and `t_` counts no steps of untuned mode. Attributes that are no arrays, numbers or texts are not
            saved.

        Raises
        ------
        FileNotFoundError
            If there is no checkpoint.
        ValueError
            If the file is something else, damaged, or of another version of the format, or if an estimator is needed.

        Warns
        -----
        UserWarning
            If the last checkpoint is damaged and the one before it is returned.
        """
        saved = CheckpointFile(path, CONTENT).load()
        if saved is None:
            raise FileNotFoundError(errno.ENOENT, "There is no checkpoint", str(path))
        if estimator is None:
            model = _make_estimator(saved.numbers, saved.arrays)
        elif isinstance(estimator, LinearModel):
            model = clone(estimator)
        else:
            raise TypeError(f"estimator={estimator!r} must be a TorchLinearRegressor or a TorchLinearRegressorCV.")
        learnt = {name: _decode(value, saved.arrays) for name, value in saved.numbers["attributes"].items()}
        model.__dict__.update(learnt if saved.numbers["finished"] else UNKNOWN | learnt)
        return model

    def setup(self, estimator, context) -> None:
        """Refuse a path that cannot be written to, or that another file has."""
        self._file.check()

    def teardown(self, estimator, context) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None) -> None:
        """Save the estimator, if it is due."""
        whole_fit = context.max_subtasks != 0
        if fitted_estimator is None or not (whole_fit or (context.task_id + 1) % self.every == 0):
            return
        arrays: dict[str, np.ndarray] = {}
        given = fitted_estimator.get_params(deep=False)
        learnt = {name: value for name, value in vars(fitted_estimator).items() if name not in given}
        learnt = {
            name: value for name, value in learnt.items() if name in KNOWN or (whole_fit and "callback" not in name)
        }
        numbers = {
            "estimator": type(fitted_estimator).__name__,
            "finished": whole_fit,
            "parameters": _encode_all(given, arrays, lambda value: {"repr": repr(value)}),
            "attributes": _encode_all(learnt, arrays, lambda _: None),
        }
        self._file.save(arrays, numbers)


def _make_estimator(numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> LinearModel:
    """Return an estimator with the class and the parameters that were saved."""
    name, parameters = numbers["estimator"], numbers["parameters"]
    texts = [
        f"{key}={value['repr']}" for key, value in parameters.items() if isinstance(value, dict) and "repr" in value
    ]
    if name not in ESTIMATORS or texts:
        raise ValueError(
            f"The checkpoint is of a {name}({', '.join(texts)}), which cannot be made from a file alone: hand over "
            f"one, with Checkpoint.load(path, {name}(...))."
        )
    return ESTIMATORS[name](**{key: _decode(value, arrays) for key, value in parameters.items()})


def _encode_all(
    values: dict[str, Any], arrays: dict[str, np.ndarray], otherwise: Callable[[Any], Any]
) -> dict[str, Any]:
    """Return values as JSON has them; of those that it cannot have, what `otherwise` returns, unless that is None."""
    encoded = {}
    for name, value in values.items():
        own: dict[str, np.ndarray] = {}
        try:
            encoded[name] = _encode(value, name, own)
        except TypeError:
            if (instead := otherwise(value)) is not None:
                encoded[name] = instead
            continue
        arrays.update(own)
    return encoded


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON has it, a dictionary with one key for what JSON has not, and put arrays apart.

    Raises
    ------
    TypeError
        If it is, or holds, something else than arrays, numbers, texts and losses of this package.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_encode(part, f"{name}.{number}", arrays) for number, part in enumerate(value)]
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    if isinstance(value, np.generic | np.ndarray) and np.asarray(value).dtype != object:
        return _put_apart(value, name, arrays)
    if type(value) is tuple:
        kind, content = "tuple", list(value)
    elif type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _encode(part, f"{name}.{key}", arrays) for key, part in value.items()}}
    elif type(value) is np.ndarray and value.ndim == 1 and all(type(part) is str for part in value):
        kind, content = "texts", value.tolist()
    elif type(value) in LOSSES.values():
        loss = next(loss for loss, cls in LOSSES.items() if cls is type(value))
        kind, content = "loss", [loss, {field.name: getattr(value, field.name) for field in fields(value)}]
    else:
        raise TypeError(type(value))
    return {kind: _encode(content, name, arrays)}


def _put_apart(value: np.generic | np.ndarray, name: str, arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Put an array, or a scalar of NumPy, with the others, and return its name there."""
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8 or isinstance(value, np.ma.MaskedArray):
        raise TypeError(value.dtype)
    while name in arrays:
        name += "'"
    arrays[name] = np.asarray(value)
    return {"array" if isinstance(value, np.ndarray) else "scalar": name}


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return what was encoded."""
    if isinstance(value, list):
        return [_decode(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("array", "scalar"):
        return arrays[content] if kind == "array" else arrays[content][()]
    if kind == "dict":
        return {key: _decode(part, arrays) for key, part in content.items()}
    parts = _decode(content, arrays)
    if kind == "loss":
        return LOSSES[parts[0]](**parts[1])
    return tuple(parts) if kind == "tuple" else np.array(parts, dtype=object)
