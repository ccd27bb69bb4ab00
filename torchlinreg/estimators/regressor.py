"""`TorchLinearRegressor`: parameters, validation and fitted attributes. The training itself is in the engine."""

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from torchlinreg.engine.data.batches import Rows
from torchlinreg.engine.fit.settings import Fit, Settings
from torchlinreg.engine.fit.stream import fit_stream
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.engine.runtime.devices import DTYPES, carry, widest
from torchlinreg.engine.solvers.minibatch.loop import DivergedError
from torchlinreg.engine.solvers.minibatch.schedules import SCHEDULES, Schedule
from torchlinreg.estimators.base import LinearModel
from torchlinreg.estimators.parameters.refusals import (
    OVERFLOW,
    check_overflow,
    check_stream,
    offers_streams,
    warn_of_idle,
)
from torchlinreg.estimators.parameters.settings import make_settings, place_rows
from torchlinreg.estimators.training.callbacks import Epochs
from torchlinreg.estimators.training.holdout import RSquared, Table, hold_out
from torchlinreg.estimators.training.reports import advise, print_epoch, warn_of
from torchlinreg.estimators.training.stream_state import keep_memory, recall_memory
from torchlinreg.inputs.arrays import check_weight, check_X_y
from torchlinreg.inputs.coefficients import coef_shape, make_theta, split_theta


class TorchLinearRegressor(CallbackSupportMixin, LinearModel):
    """Linear regression by mini-batch SGD in PyTorch.

    By default nothing needs tuning: the estimator looks at the data and gives the optimum - the least-squares answer,
    unless another loss or a penalty is asked for - on features of any scale. With a number for `learning_rate` it is
    a textbook instead: plain mini-batch SGD on the features as they are, at exactly that rate, the weights after
    every epoch being those of the hand-written loop.

    The objective is that of :class:`~sklearn.linear_model.ElasticNet` and `SGDRegressor`: the (weighted) mean over the
    rows of the loss, plus ``alpha * (l1_ratio * |w|₁ + (1 - l1_ratio) / 2 * |w|²)`` for each target's weights w. The
    intercept is never penalised. Targets are columns that do not mix.

    Parameters
    ----------
    loss : str, object of :mod:`torchlinreg.losses`, torch.nn.Module or callable, default="squared_error"
        By name "squared_error" (half of it, as in :class:`~sklearn.linear_model.SGDRegressor`), "mse" (torch's
        ``MSELoss``: averaged over rows and targets), "huber", "absolute_error", "quantile", "epsilon_insensitive" or
        "squared_epsilon_insensitive"; as an object where it has a parameter, such as ``Huber(delta=2.0)`` or
        ``Quantile(0.9)``. "huber" counts residuals linearly beyond 1.35 of their scales, as
        :class:`~sklearn.linear_model.HuberRegressor` does. Or, with a backend that uses autograd, a loss of
        :mod:`torch.nn` or any function ``(prediction, target) -> loss``, of single elements or of their mean.
    penalty : {"l2", "l1", "elasticnet"} or None, default=None
        What large weights cost.
    alpha : float or array-like of shape (n_targets,), default=0.0001
        Strength of the penalty. A value of one's own has no effect without a penalty, and a warning says so.
    l1_ratio : float in [0, 1] or array-like of shape (n_targets,), default=0.15
        Share of the absolute values in the elastic net, of no effect with other penalties.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    backend : {"auto", "analytic", "autograd", "linear"}, default="auto"
        Where the gradient comes from: its closed form; autograd on two tensors ``w`` and ``b``; or
        :class:`torch.nn.Linear` with an optimiser of :mod:`torch.optim`. "auto" is the fastest, "analytic".
    optimizer : str or torch.optim.Optimizer class, default="sgd"
        "sgd", any other name in :mod:`torch.optim` such as "adam", or a class. Untuned mode takes "sgd" only.
    optimizer_params : dict, default=None
        Further arguments of the optimiser, such as ``{"nesterov": True}``.
    momentum : float in [0, 1), default=0.0
        As in :class:`torch.optim.SGD`. Of no effect in untuned mode, which warns of it.
    learning_rate : float or "auto", default="auto"
        A number is textbook mode: the step size. "auto" is untuned mode.
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
        In textbook mode, training stops when for `n_iter_no_change` epochs the loss has not fallen by `tol` below
        the best so far or, with `early_stopping`, the validation score has not risen by as much above it. None runs
        exactly `max_iter` epochs; so does "auto", except that it is 1e-4 with `early_stopping`, and otherwise 1e-3
        with ``schedule="adaptive"``. In untuned mode, training has converged when `optimality_gap_` is at most `tol`;
        "auto" is 1e-20 for float64 and 1e-10 for float32 data, but 1e-10 at least for L1 penalties and losses that are
        no parabola, whose lower bound is no sharper, and 1e-6 where their slope jumps.
    n_iter_no_change : int, default=5
        Patience, in epochs, before `tol` stops training in textbook mode.
    shuffle : bool, default=True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState instance or None, default=None
        Seed of the orders. For an integer `s` the order of each epoch is the next `torch.randperm(n_samples)` of a
        `torch.Generator` seeded with `s`, on every backend and device. torch's global generator is left alone.
    conditioning : {"auto", "scale", "whiten", None}, default="auto"
        The variables in which steps are taken: the weights of the features as they are; of features at one scale; or
        of directions that the loss is equally curved in. The answer is in the units of the data all the same. "auto"
        is None in textbook mode; in untuned mode "whiten", or "scale" for very many features and with L1 penalties.
    average : bool, int or "auto", default="auto"
        Whether mini-batch descent ends at the mean of its iterates. True means all of them, a number those after that
        many rows, as in :class:`~sklearn.linear_model.SGDRegressor`. "auto" is False in textbook mode; in untuned mode
        it is the second half of the steps, as is any value but False.
    early_stopping : bool, default=False
        Textbook mode: whether to score rows that are held out after every epoch, to stop when `tol` says so, and to
        return to the weights that scored best. Nothing is ever held out otherwise.
    validation_fraction : float in (0, 1), default=0.1
        Share of the rows to hold out with `early_stopping`, unless `fit` is given `X_val` and `y_val`.
    warm_start : bool, default=False
        Whether `fit` starts from the solution of the last fit, if its shape agrees. Only the weights are carried over:
        momentum, moments and the schedule start anew. `partial_fit` keeps these too.
    verbose : int, default=0
        If positive, print the loss of every `verbose`-th epoch.
    device : None, "auto", str or torch.device, default=None
        None follows the data: a CUDA tensor stays on its GPU, everything else is trained on the CPU. "auto" takes the
        accelerator that torch finds. Or a name such as "cuda:1".
    dtype : None, "float32" or "float64", default=None
        None follows the data: float32 stays float32, everything else becomes float64.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights; one-dimensional if `y` was.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept; 0.0 if `fit_intercept=False`.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if `X` had names.
    n_iter_ : int
        Epochs run; calls of `partial_fit` count as one.
    t_ : int
        Steps taken, by all fits together with `warm_start` or `partial_fit`. An epoch that was interrupted does not
        count.
    loss_curve_ : list of float
        Mean training loss of each epoch, every row predicted just before the step that it took part in. In untuned
        mode each entry is a pass over the table, and its objective: the penalty is included.
    validation_scores_ : list of float or None
        R² on the rows held out, after each epoch; None without `early_stopping`.
    converged_ : bool
        Whether training ended by its own criterion rather than at `max_iter`, by a callback or by an interrupt.
    optimality_gap_ : float or None
        Untuned mode: estimated excess of the objective over its minimum, relative to the objective of the best
        constant, for the worst target, measured at `coef_` and `intercept_` as they are. With a squared loss and
        without L1 it follows from the gradient there; for other losses of this package it is the distance from a lower
        bound by duality, and for those that torch differentiates an estimate. None in textbook mode.
    scale_ : float or ndarray of shape (n_targets,)
        Untuned mode with a Huber loss that is given no `delta`: the scale of the residuals that it goes by, as
        :class:`~sklearn.linear_model.HuberRegressor` has it. Not there otherwise.
    plan_ : dict
        The numbers that "auto" stood for, by name; prints as a table that gives a reason for each.

    See Also
    --------
    sklearn.linear_model.LinearRegression : The same answer by a direct solver.
    sklearn.linear_model.SGDRegressor : SGD of one row a step.

    Examples
    --------
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.datasets import load_crop_yields
    >>> X, y = load_crop_yields(return_X_y=True)
    >>> model = TorchLinearRegressor().fit(X, y)
    >>> model.predict([[73, 67, 43]]).round(1)
    array([[56.9, 69.9]])
    """

    __module__ = "torchlinreg"

    _parameter_constraints: dict = {
        "loss": [StrOptions(set(LOSSES)), HasMethods(["value", "gradient", "hessian"]), callable],
        "penalty": [StrOptions(set(PENALTIES)), None],
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "fit_intercept": ["boolean"],
        "backend": [StrOptions({"auto", *MODELS})],
        "optimizer": [str, type],
        "optimizer_params": [dict, None],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions(set(SCHEDULES)), Schedule, callable, None],
        "batch_size": [StrOptions({"auto", "full"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "conditioning": [StrOptions({"auto", "scale", "whiten"}), None],
        "average": [StrOptions({"auto"}), "boolean", Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "device": [str, torch.device, None],
        "dtype": [StrOptions(set(DTYPES)), type, torch.dtype, np.dtype, None],
    }

    def __init__(
        self,
        *,
        loss="squared_error",
        penalty=None,
        alpha=1e-4,
        l1_ratio=0.15,
        fit_intercept=True,
        backend="auto",
        optimizer="sgd",
        optimizer_params=None,
        momentum=0.0,
        learning_rate="auto",
        schedule=None,
        batch_size="auto",
        max_iter=1000,
        tol="auto",
        n_iter_no_change=5,
        shuffle=True,
        random_state=None,
        conditioning="auto",
        average="auto",
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        verbose=0,
        device=None,
        dtype=None,
    ):
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.backend = backend
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.momentum = momentum
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.random_state = random_state
        self.conditioning = conditioning
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    @with_callbacks
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        *,
        coef_init=None,
        intercept_init=None,
        X_val=None,
        y_val=None,
        sample_weight_val=None,
    ) -> "TorchLinearRegressor":
        """Learn weights and intercept from a table.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
            Features.
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row: a weight of two is a row written twice.
        coef_init : array-like of shape (n_features,) or (n_targets, n_features), default=None
            Weights to start from, zeros if None. Untuned mode finds the same optimum from anywhere.
        intercept_init : float or array-like of shape (n_targets,), default=None
            Intercept to start from, zero if None.
        X_val : array-like, DataFrame or torch.Tensor of shape (n_val, n_features), default=None
            Rows for `early_stopping` to score, instead of a random part of `X`.
        y_val : array-like, DataFrame or torch.Tensor of shape (n_val,) or (n_val, n_targets), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.

        Returns
        -------
        self : TorchLinearRegressor

        Raises
        ------
        ValueError
            If the data or a parameter is unusable, or if training diverges in textbook mode; the message then names
            the largest stable learning rate.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` came before the criterion of `tol`, or if training was interrupted (Ctrl-C): the estimator
            is then fitted with what had been learnt.
        """
        # Whatever the caller has switched on, what is made here can take part in a graph
        with torch.inference_mode(False), torch.no_grad():
            table, held_out = hold_out(self, Table(X, y, sample_weight), Table(X_val, y_val, sample_weight_val))
            X, y = check_X_y(self, table.X, table.y)
            rows, dtype = place_rows(self, X, y, check_weight(table.sample_weight, X))
            settings, epochs = make_settings(self, rows, dtype), self._epochs(table, y.ndim, dtype)
            warn_of_idle(self, stacklevel=5)  # below scikit-learn's two wrappers
            if held_out is not None:
                settings = replace(settings, score=RSquared(self, held_out, rows, y.ndim))
            if self.verbose or epochs is not None:
                settings = replace(settings, after_epoch=self._after_epoch(epochs))
            theta = self._initial_theta(rows, y.ndim, coef_init, intercept_init, goes_on=self.warm_start)
            outcome = self._train(rows, theta, settings)
            check_overflow(rows, outcome.theta, dtype)
        steps_before = self.t_ if self.warm_start and self.__sklearn_is_fitted__() else 0
        self._store(outcome, rows, y.ndim, dtype)
        self.t_ += steps_before
        warn_of(self, outcome, rows, settings, stacklevel=5)
        if epochs is not None:
            epochs.end()
        return self

    @available_if(offers_streams)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None) -> "TorchLinearRegressor":
        """Learn from the next rows of a stream.

        In textbook mode that is one epoch of mini-batches over these rows, from where the last call ended: momentum
        and moments of the optimiser, the schedule and `t_` go on, so that a stream in chunks of whole batches gives
        what one epoch of `fit` over all of it does, with ``shuffle=False``. Rows are shuffled within the chunk only,
        and for a schedule by epochs each call is one.

        In untuned mode it is the optimum for all rows since the first call, of which a summary is kept, of
        ``(n_features + n_targets)²`` numbers; `fit` keeps none, so that a stream after it begins anew. The loss must be
        "squared_error" or "mse" there; any penalty will do.

        There is no such method where parameters ask for what goes by whole tables: another loss in untuned mode,
        `early_stopping`, or `conditioning` in textbook mode.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, n_features)
            Features.
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, as it is: unlike in `fit`, nobody knows what a mean of one would be. In textbook mode a
            weight of two doubles the row's part of the step.

        Returns
        -------
        self : TorchLinearRegressor

        Raises
        ------
        ValueError
            If the data or a parameter is unusable for a stream, or if training diverges; the weights are then as
            before.

        Warns
        -----
        UserWarning
            If, in untuned mode, a stream begins on an estimator that has learnt from other rows, which it forgets.
        """
        with torch.inference_mode(False), torch.no_grad():
            goes_on = self.__sklearn_is_fitted__()
            X, y = check_X_y(self, X, y, reset=not goes_on)
            rows, dtype = place_rows(self, X, y, check_weight(sample_weight, X, to_mean_one=False))
            settings, theta = make_settings(self, rows, dtype), self._initial_theta(rows, y.ndim, goes_on=goes_on)
            warn_of_idle(self, stacklevel=4)
            learnt = self._dense_coef() if goes_on else None
            check_stream(self, settings, learnt, coef_shape(X.shape[1], rows.y.shape[1], y.ndim))
            memory = recall_memory(self) if goes_on else {}
            steps_before, curve_before = (self.t_, self.loss_curve_) if goes_on else (0, [])
            if self.learning_rate != "auto":
                memory |= {"n_steps": steps_before, "n_epochs": len(curve_before)}
                settings = replace(settings, max_iter=1, tol=None)
            outcome = self._train(rows, theta, settings, memory)
            check_overflow(rows, outcome.theta, dtype)
        self._store(outcome, rows, y.ndim, dtype)
        self.t_ += steps_before
        self.loss_curve_ = [*curve_before, *outcome.loss_curve[-1:]]
        self.n_iter_ = len(self.loss_curve_)
        keep_memory(self, outcome.memory)
        warn_of(self, outcome, rows, settings, stacklevel=4)
        return self

    def _train(self, rows: Rows, theta: torch.Tensor, settings: Settings, memory: dict | None = None) -> Fit:
        """Train on a table or, with a memory, on the next one of a stream."""
        if self.learning_rate == "auto":
            try:
                return fit_untuned(rows, settings) if memory is None else fit_stream(rows, settings, memory)
            except torch.linalg.LinAlgError as overflow:
                raise ValueError(f"{OVERFLOW} ({overflow})") from overflow
        try:
            return fit_textbook(rows, theta.to(settings.dtype), settings, memory)
        except DivergedError as diverged:
            raise ValueError(
                f"Training diverged in epoch {diverged.epoch}: learning_rate={self.learning_rate} is too large "
                f"for this data. {advise(self, rows, settings)}"
            ) from None

    def _epochs(self, table: Table, y_ndim: int, dtype: torch.dtype) -> Epochs | None:
        """Return the tasks that callbacks are told of, if there are callbacks."""
        if not vars(self).get("_skl_callbacks"):
            return None

        def attributes(theta: torch.Tensor) -> dict:
            coef, intercept, wide = split_theta(theta, self.n_features_in_, y_ndim, dtype)
            return {"coef_": coef, "intercept_": intercept, "_exact": wide if self.learning_rate == "auto" else None}

        return Epochs(self, table, None if self.learning_rate == "auto" else self.max_iter, attributes)

    def _after_epoch(self, epochs: Epochs | None):
        """Return what is to be done after each epoch."""

        def after_epoch(epoch: int, loss: float, theta) -> bool:
            if self.verbose:
                print_epoch(self, epoch, loss)
            return epochs is not None and epochs.after_epoch(epoch, theta)

        return after_epoch

    def _initial_theta(
        self, rows: Rows, y_ndim: int, coef_init=None, intercept_init=None, *, goes_on: bool
    ) -> torch.Tensor:
        """Return where training starts, in the engine's shape."""
        sizes = rows.X.shape[1], rows.y.shape[1], y_ndim
        before = self._dense_coef() if goes_on and self.__sklearn_is_fitted__() else np.empty(0)
        if before.shape == coef_shape(*sizes):
            coef_init = before if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None and self.fit_intercept else intercept_init
        theta = make_theta(coef_init, intercept_init, *sizes, fit_intercept=self.fit_intercept)
        return carry(theta, rows.y.device, widest(rows.y.device))

    def _store(self, outcome: Fit, rows: Rows, y_ndim: int, dtype: torch.dtype) -> None:
        self._set_weights(outcome.theta, rows.X.shape[1], y_ndim, dtype, needs_double=outcome.needs_double)
        self.loss_curve_ = outcome.loss_curve
        self.validation_scores_ = outcome.scores
        self.n_iter_ = len(outcome.loss_curve)
        self.t_ = outcome.n_steps
        self.converged_ = outcome.converged
        self.optimality_gap_ = outcome.optimality_gap
        vars(self).pop("scale_", None)
        if outcome.scale is not None:
            scale = outcome.scale.cpu().numpy()
            self.scale_ = scale if y_ndim == 2 else float(scale[0])
        self._plan = outcome.plan
        self._memory = None
