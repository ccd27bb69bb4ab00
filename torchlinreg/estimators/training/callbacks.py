"""Calls scikit-learn's callbacks, `sklearn.callback`, for the tasks of a fit; and a callback that saves it."""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from sklearn.base import clone

from torchlinreg.estimators.training.holdout import UserData


class Epochs:
    """Tells the callbacks of an estimator of its tasks: the fit, and in it one for each epoch.

    Parameters
    ----------
    estimator : TorchLinearRegressor
    data : UserData
        What is learnt from.
    n_epochs : int or None
        At most; None if unknown.
    attributes : callable (theta) -> dict
        The attributes that an estimator with these weights needs to predict.
    """

    def __init__(self, estimator, data: UserData, n_epochs: int | None, attributes: Callable[[torch.Tensor], dict]):
        self._estimator, self._n_epochs, self._attributes = estimator, n_epochs, attributes
        self._data = _context(data)
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(estimator=estimator, **self._data)
        self._epoch = self._begin()

    def after_epoch(self, epoch: int, theta: Callable[[], torch.Tensor]) -> bool:
        """End one task and begin the next; return whether a callback wants to stop."""

        def attributes() -> dict:
            return self._attributes(theta())

        task, self._epoch = self._epoch, None
        stop = task.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes=attributes)
        if not stop and epoch != self._n_epochs:
            self._epoch = self._begin()
        return stop

    def end(self) -> None:
        """End the fit, and the epoch that was begun but not run if training ended by itself."""
        if self._epoch is not None:
            self._epoch.call_on_fit_task_end(estimator=self._estimator)
        self._fit.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes={})

    def _begin(self):
        epoch = self._fit.subcontext(task_name="epoch")
        return epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)


def _context(data: UserData) -> dict:
    weight = data.sample_weight
    return {"X": data.X, "y": data.y, "metadata": None if weight is None else {"sample_weight": weight}}


class Folds:
    """Tells the callbacks of a cross-validated estimator, if it has any, of its folds and of the refit.

    Parameters
    ----------
    estimator : TorchLinearRegressorCV
    data : UserData
        All rows.
    n_tasks : int
        Folds, and the fit to all rows.
    """

    def __init__(self, estimator, data: UserData, n_tasks: int):
        self._estimator, self._data, self._fit = estimator, _context(data), None
        if vars(estimator).get("_skl_callbacks"):
            self._fit = estimator._init_callback_context(max_subtasks=n_tasks)
            self._fit.call_on_fit_task_begin(estimator=estimator, **self._data)

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Begin a task, a fold or the "refit", and end it after the block."""
        if self._fit is None:
            yield
            return
        task = self._fit.subcontext(task_name=name)
        task.call_on_fit_task_begin(estimator=self._estimator, **self._data)
        yield
        task.call_on_fit_task_end(estimator=self._estimator, **self._data)

    def end(self) -> None:
        """End the fit."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes={})


class Checkpoint:
    """Callback that saves the estimator while it is being fitted.

    Saves an estimator that predicts with the weights after the last epoch, without its callbacks. The file is always
    complete: it is replaced when the next one has been written.

    Parameters
    ----------
    path : str or path-like
        The file, written by :mod:`pickle`. Fits that run at the same time need different files.
    every : int, default=1
        Epochs between two savings; the finished fit is saved in any case.

    Examples
    --------
    >>> import pickle, tempfile
    >>> from pathlib import Path
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.callbacks import Checkpoint
    >>> path = Path(tempfile.mkdtemp()) / "model.pickle"
    >>> model = TorchLinearRegressor(learning_rate=0.1, max_iter=20).set_callbacks(Checkpoint(path, every=5))
    >>> saved = pickle.loads(model.fit([[0.0], [1.0]], [0.0, 2.0]) and path.read_bytes())
    >>> bool(saved.predict([[1.0]]) == model.predict([[1.0]]))
    True
    """

    __module__ = "torchlinreg.callbacks"

    def __init__(self, path, every: int = 1):
        if every < 1:
            raise ValueError(f"Checkpoint(every={every!r}): must be 1 epoch at least.")
        self.path, self.every = Path(path), every

    def setup(self, estimator, context) -> None:
        """Do nothing."""

    def teardown(self, estimator, context) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None) -> None:
        """Save the estimator, if it is due."""
        whole_fit = context.max_subtasks != 0
        if fitted_estimator is None or not (whole_fit or (context.task_id + 1) % self.every == 0):
            return
        saved = clone(fitted_estimator).set_callbacks()
        learnt = {name: value for name, value in vars(fitted_estimator).items() if name not in saved.get_params()}
        vars(saved).update({name: value for name, value in learnt.items() if "callback" not in name})
        with NamedTemporaryFile(dir=self.path.parent, delete=False) as file:
            pickle.dump(saved, file)
        os.replace(file.name, self.path)
