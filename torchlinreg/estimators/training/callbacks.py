"""Calls scikit-learn's callbacks, `sklearn.callback`, for the tasks of a fit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import sklearn
import torch

from torchlinreg.engine.fit.plan import textbook_batch
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.estimators.training.holdout import UserData
from torchlinreg.estimators.training.reports import print_epoch
from torchlinreg.inputs.coefficients import split_theta

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Refuses callbacks, which this version of scikit-learn does not have."""

        def set_callbacks(self, *callbacks):
            """Raise an ImportError: callbacks need scikit-learn 1.9 or newer."""
            raise ImportError(
                f"Callbacks need scikit-learn 1.9 or newer, and this is {sklearn.__version__}: "
                'update it, with `pip install "scikit-learn>=1.9"`.'
            )

    def with_callbacks(method):
        """Return the method, a call deeper, as warnings count the calls between them and the user."""

        @wraps(method)
        def without_callbacks(estimator, *args, **kwargs):
            return method(estimator, *args, **kwargs)

        return without_callbacks


class Epochs:
    """Tells the callbacks of an estimator of its tasks: the fit, and in it one for each epoch.

    Parameters
    ----------
    estimator : TorchLinearRegressor
    data : UserData
        What is learnt from.
    n_rows : int
    n_epochs : int or None
        At most; None if unknown, as in untuned mode.
    attributes : callable (theta) -> dict
        The attributes that an estimator with these weights needs to predict.
    """

    def __init__(
        self,
        estimator,
        data: UserData,
        n_rows: int,
        n_epochs: int | None,
        attributes: Callable[[torch.Tensor], dict],
    ):
        self._estimator, self._n_epochs, self._attributes = estimator, n_epochs, attributes
        self._losses: list[float] = []
        self._steps_before = getattr(estimator, "t_", 0) if estimator.warm_start else 0
        # Of untuned mode, whose passes are no steps, what was before is all that is known
        self._steps = 0 if n_epochs is None else -(-n_rows // textbook_batch(estimator.batch_size, n_rows))
        self._data = _context(data)
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self._fit.call_on_fit_task_begin(estimator=estimator, **self._data)
        self._epoch = self._begin()

    def after_epoch(self, epoch: int, loss: float, theta: Callable[[], torch.Tensor]) -> bool:
        """End one task and begin the next; return whether a callback wants to stop."""
        self._losses.append(loss)

        def attributes() -> dict:
            curve, n_steps = [*self._losses], self._steps_before + epoch * self._steps
            return {**self._attributes(theta()), "loss_curve_": curve, "n_iter_": epoch, "t_": n_steps}

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


def begin_epochs(estimator, data: UserData, n_rows: int, y_ndim: int, dtype: torch.dtype) -> Epochs | None:
    """Return the tasks that callbacks are told of, if there are callbacks.

    Parameters
    ----------
    estimator : TorchLinearRegressor
    data : UserData
    n_rows : int
        Learnt from.
    y_ndim : int
    dtype : torch.dtype
    """
    if not vars(estimator).get("_skl_callbacks"):
        return None
    untuned = Parameters.of(estimator).is_untuned

    def attributes(theta: torch.Tensor) -> dict:
        coef, intercept, in_float64 = split_theta(theta, estimator.n_features_in_, y_ndim, dtype)
        return {"coef_": coef, "intercept_": intercept, "_weights_in_float64": in_float64 if untuned else None}

    return Epochs(estimator, data, n_rows, None if untuned else estimator.max_iter, attributes)


def tell_epochs(estimator, epochs: Epochs | None) -> Callable[[int, float, Callable], bool]:
    """Return a function that prints and tells callbacks of an epoch, and returns whether to stop."""

    def after_epoch(epoch: int, loss: float, theta) -> bool:
        if estimator.verbose:
            print_epoch(epoch, loss, every=estimator.verbose, max_iter=estimator.max_iter)
        return epochs is not None and epochs.after_epoch(epoch, loss, theta)

    return after_epoch


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
