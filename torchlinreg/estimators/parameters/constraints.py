"""The parameters that both estimators share: what values they take, and what the docstrings say of them, once."""

import re
from numbers import Integral, Real
from textwrap import indent

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.engine.runtime.devices import DTYPES
from torchlinreg.engine.solvers.minibatch.schedules import SCHEDULES, Schedule

SHARED_CONSTRAINTS: dict[str, list] = {
    "loss": [StrOptions(set(LOSSES)), HasMethods(["value", "gradient", "hessian"]), callable],
    "penalty": [StrOptions(set(PENALTIES)), None],
    "l1_ratio": [Interval(Real, 0, 1, closed="both"), "array-like"],
    "positive": ["boolean"],
    "fit_intercept": ["boolean"],
    "backend": [StrOptions({"auto", *MODELS})],
    "optimizer": [str, type],
    "optimizer_params": [dict, None],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "schedule": [StrOptions(set(SCHEDULES)), Schedule, callable, None],
    "batch_size": [StrOptions({"auto", "full"}), Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left"), None],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "conditioning": [StrOptions({"auto", "scale", "whiten"}), None],
    "average": [StrOptions({"auto"}), "boolean", Interval(Integral, 1, None, closed="left")],
    "verbose": ["verbose"],
    "device": [str, torch.device, None],
    "dtype": [StrOptions(set(DTYPES)), type, torch.dtype, np.dtype, None],
}

# One numpydoc entry for each parameter of which both docstrings say the same, named by the first word
_ENTRIES = """
loss : str, object of :mod:`torchlinreg.losses`, torch.nn.Module or callable, default="squared_error"
    By name "squared_error" (half of it, as in :class:`~sklearn.linear_model.SGDRegressor`), "mse" (torch's
    ``MSELoss``: averaged over rows and targets), "huber", "absolute_error", "quantile", "epsilon_insensitive" or
    "squared_epsilon_insensitive"; as an object where it has a parameter, such as ``Huber(delta=2.0)`` or
    ``Quantile(0.9)``. "huber" counts residuals linearly beyond 1.35 of their scales, as
    :class:`~sklearn.linear_model.HuberRegressor` does. Or, with a backend that uses autograd, a loss of
    :mod:`torch.nn` or any function ``(prediction, target) -> loss``, of single elements or of their mean.
positive : bool, default=False
    Whether to keep all weights at zero or above, as in :class:`~sklearn.linear_model.LinearRegression`. The intercept
    may be negative.
fit_intercept : bool, default=True
    Whether to fit an intercept.
backend : {"auto", "analytic", "autograd", "linear"}, default="auto"
    How the gradient is computed: in closed form; by autograd on two tensors ``w`` and ``b``; or by
    :class:`torch.nn.Linear` with an optimiser of :mod:`torch.optim`. "auto" is the fastest that knows the loss,
    "analytic" for the losses of this package.
optimizer : str or torch.optim.Optimizer class, default="sgd"
    "sgd", any other name in :mod:`torch.optim` such as "adam", or a class. Untuned mode takes "sgd" only.
optimizer_params : dict, default=None
    Further arguments of the optimiser, such as ``{"nesterov": True}``.
schedule : {"constant", "invscaling", "adaptive"}, object of :mod:`torchlinreg.schedules` or callable, default=None
    How the learning rate changes in textbook mode. None and "constant" leave it alone; "invscaling" divides it by
    ``t ** 0.25`` in step t, ``InvScaling(power_t)`` by another power; "adaptive" divides it by 5 each time that
    `tol` would stop training, which goes on until the rate is below 1e-6. A function of the epoch, counted from
    zero, returns what to multiply the rate by, as in :class:`torch.optim.lr_scheduler.LambdaLR`.
batch_size : int, "auto" or "full", default="auto"
    Rows a step. "auto" is 32 in textbook mode. In untuned mode it is chosen from the data.
max_iter : int, default=1000
    Epochs at most.
tol : float, "auto" or None, default="auto"
    In textbook mode, training stops when for `n_iter_no_change` epochs the loss has not fallen by `tol` below the
    best so far. None runs exactly `max_iter` epochs; so does "auto", except that it is 1e-3 with
    ``schedule="adaptive"``. In untuned mode, training has converged when `optimality_gap_` is at most `tol`; "auto" is
    1e-20 for float64 and 1e-10 for float32 data, but 1e-10 at least for L1 penalties and losses that are not
    quadratic, whose lower bound is no sharper, and 1e-6 for losses whose gradient jumps.
n_iter_no_change : int, default=5
    Patience, in epochs, before `tol` stops training in textbook mode.
shuffle : bool, default=True
    Whether each epoch takes the rows in a new order.
conditioning : {"auto", "scale", "whiten", None}, default="auto"
    The variables in which steps are taken: None, the weights as they are; "scale", those of features brought to one
    scale; "whiten", those of features made uncorrelated as well. The answer is in the units of the data all the same.
    "auto" is None in textbook mode; in untuned mode "whiten", or "scale" for very many features, with L1 penalties
    and with `positive`.
average : bool, int or "auto", default="auto"
    Whether mini-batch descent ends at the mean of its iterates. True means all of them, a number those after that
    many rows, as in :class:`~sklearn.linear_model.SGDRegressor`. "auto" is False in textbook mode; in untuned mode
    it is the second half of the steps, as is any value but False.
device : None, "auto", str or torch.device, default=None
    None follows the data: a CUDA tensor stays on its GPU, everything else is trained on the CPU. "auto" takes the
    accelerator that torch finds. Or a name such as "cuda:1".
dtype : None, "float32" or "float64", default=None
    None follows the data: float32 stays float32, everything else becomes float64.
"""
SHARED_DOCS: dict[str, str] = {entry.partition(" ")[0]: entry for entry in re.split(r"\n(?=\w)", _ENTRIES.strip())}


def fill_docstring(cls: type) -> type:
    """Put, in the docstring of a class, the entry of each shared parameter in the place of its ``%(name)s``."""
    if cls.__doc__ is not None:  # as it is under python -OO
        # Python 3.13 strips the indentation from docstrings, earlier versions do not
        cls.__doc__ = re.sub(
            r"^( *)%\((\w+)\)s$", lambda line: indent(SHARED_DOCS[line[2]], line[1]), cls.__doc__, flags=re.MULTILINE
        )
    return cls
