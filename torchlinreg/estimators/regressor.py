"""`TorchLinearRegressor`: parameters, validation and fitted attributes. The training itself is in the engine."""

from dataclasses import replace
from numbers import Real

from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from torchlinreg.estimators.base import LinearModel
from torchlinreg.estimators.parameters.constraints import SHARED_CONSTRAINTS, fill_docstring
from torchlinreg.estimators.parameters.refusals import check_overflow, check_stream, offers_streams, warn_of_idle
from torchlinreg.estimators.parameters.settings import make_settings, place_rows
from torchlinreg.estimators.parameters.values import Parameters, find_defaults
from torchlinreg.estimators.training.callbacks import CallbackSupportMixin, begin_epochs, tell_epochs, with_callbacks
from torchlinreg.estimators.training.chunked import learn_from_chunks, learn_from_rows
from torchlinreg.estimators.training.holdout import UserData, hold_out, score_on
from torchlinreg.estimators.training.reports import warn_of_fit
from torchlinreg.estimators.training.stream_state import load_training_state, save_training_state
from torchlinreg.estimators.training.train import initial_theta, learning, store, train
from torchlinreg.inputs.arrays import check_weight, check_X_y
from torchlinreg.inputs.coefficients import coef_shape


@fill_docstring
class TorchLinearRegressor(CallbackSupportMixin, LinearModel):
    """Linear regression by mini-batch SGD in PyTorch.

    By default, in untuned mode, nothing needs tuning: the estimator finds the optimum - the least-squares answer,
    unless another loss or a penalty is asked for - on features of any scale. With a number for `learning_rate`, in
    textbook mode, it is plain mini-batch SGD on the features as they are, at exactly that rate: the weights after
    every epoch are those of the hand-written loop.

    The objective is that of :class:`~sklearn.linear_model.ElasticNet` and `SGDRegressor`: the (weighted) mean over the
    rows of the loss, plus ``alpha * (l1_ratio * |w|₁ + (1 - l1_ratio) / 2 * |w|²)`` for each target's weights w. The
    intercept is never penalised. Targets do not influence each other.

    Parameters
    ----------
    %(loss)s
    penalty : {"l2", "l1", "elasticnet"} or None, default=None
        Penalty on the weights that is added to the mean loss.
    alpha : float or array-like of shape (n_targets,), default=0.0001
        Strength of the penalty. Without a penalty it has no effect; a warning says so if it is not the default.
    l1_ratio : float in [0, 1] or array-like of shape (n_targets,), default=0.15
        Share of the L1 part in the elastic net, of no effect with other penalties.
    %(positive)s
    %(fit_intercept)s
    %(backend)s
    %(optimizer)s
    %(optimizer_params)s
    momentum : float in [0, 1), default=0.0
        As in :class:`torch.optim.SGD`. Of no effect in untuned mode, which warns of it.
    learning_rate : float or "auto", default="auto"
        A number is textbook mode: the step size. "auto" is untuned mode.
    %(schedule)s
    %(batch_size)s
    %(max_iter)s
    %(tol)s
        With `early_stopping`, the validation score has to rise by `tol` instead, and "auto" is 1e-4.
    %(n_iter_no_change)s
    %(shuffle)s
    random_state : int, RandomState instance or None, default=None
        Seed of these orders. For an integer `s` the order of each epoch is the next `torch.randperm(n_samples)` of a
        `torch.Generator` seeded with `s`, on every backend and device. torch's global generator is left alone.
    %(conditioning)s
    %(average)s
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
    %(device)s
    %(dtype)s

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights; one-dimensional if `y` was.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept; 0.0 if `fit_intercept=False`.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
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
        Untuned mode with a Huber loss that is given no `delta`: the scale of the residuals that it is relative to, as
        :class:`~sklearn.linear_model.HuberRegressor` has it. Absent otherwise.
    plan_ : dict
        The numbers that "auto" stood for, by name; printed with a reason for each.
    fit_time_ : float
        Seconds that the last fit took. Copies are without it, and so is what was saved and loaded.

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
        **SHARED_CONSTRAINTS,
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        *,
        loss="squared_error",
        penalty=None,
        alpha=1e-4,
        l1_ratio=0.15,
        positive=False,
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
        self.positive = positive
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
        process_group=None,
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
        process_group : torch.distributed.ProcessGroup, default=None
            Processes that learn together, each from rows of its own: the answer is that for all rows, in the order of
            the ranks, and the same in all processes. None is this process alone. See :meth:`fit_chunks`.

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
        given, validation = UserData(X, y, sample_weight), UserData(X_val, y_val, sample_weight_val)
        if process_group is not None:
            start = {"coef_init": coef_init, "intercept_init": intercept_init}
            learn_from_rows(self, given, validation, process_group, stacklevel=7, **start)
            return self
        parameters = Parameters.of(self)
        with learning(self):
            data, held_out = hold_out(given, validation, parameters)
            X, y = check_X_y(self, data.X, data.y)
            weight = check_weight(data.sample_weight, X, to_mean_one=False)
            rows, dtype = place_rows(parameters, X, y, weight, to_mean_one=True)
            settings = make_settings(parameters, rows, dtype)
            epochs = begin_epochs(self, data, len(rows), y.ndim, dtype)
            warn_of_idle(parameters, find_defaults(type(self)), stacklevel=5)  # below scikit-learn's two wrappers
            if held_out is not None:
                settings = replace(settings, score=score_on(self, held_out, rows, y.ndim))
            if self.verbose or epochs is not None:
                settings = replace(settings, after_epoch=tell_epochs(self, epochs))
            theta = initial_theta(self, rows, y.ndim, coef_init, intercept_init, warm_start=self.warm_start)
            outcome = train(rows, theta, settings, parameters)
            check_overflow(rows, outcome.theta, dtype)
        store(self, outcome, rows.shape[1], y.ndim, dtype, goes_on=self.warm_start)
        warn_of_fit(outcome, rows, settings, parameters, stacklevel=5)
        if epochs is not None:
            epochs.end()
        return self

    @available_if(offers_streams)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None) -> "TorchLinearRegressor":
        """Learn from the next rows of a stream.

        In textbook mode a call is one epoch of mini-batches over these rows, and goes on from the last one: momentum
        and moments of the optimiser, the schedule and `t_` are kept. A stream in chunks of whole batches, with
        ``shuffle=False``, gives what one epoch of `fit` over all of it does. Rows are shuffled within the chunk only,
        and for a schedule by epochs each call is one.

        In untuned mode the result is the optimum for all rows since the first call, of which sufficient statistics are
        kept, ``(n_features + n_targets)²`` numbers. `fit` keeps none, so that a stream after it begins anew. The loss
        must be "squared_error" or "mse"; any penalty will do.

        The method does not exist where parameters need all rows at once: another loss in untuned mode,
        `early_stopping`, or `conditioning` in textbook mode.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, n_features)
            Features.
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row. Unlike in `fit`, weights are not normalised, as later ones are not known. In textbook
            mode a weight of two doubles the row's part of the step.

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
            If, in untuned mode, a stream begins on an estimator that has learnt from other rows: these are forgotten.
        """
        parameters = Parameters.of(self)
        with learning(self):
            fitted = self.__sklearn_is_fitted__()
            X, y = check_X_y(self, X, y, reset=not fitted)
            weight = check_weight(sample_weight, X, to_mean_one=False, allow_zeros=True)
            rows, dtype = place_rows(parameters, X, y, weight)
            settings = make_settings(parameters, rows, dtype)
            theta = initial_theta(self, rows, y.ndim, warm_start=fitted)
            warn_of_idle(parameters, find_defaults(type(self)), stacklevel=4)
            coef = self._dense_coef() if fitted else None
            check_stream(parameters, settings, coef, coef_shape(X.shape[1], rows.y.shape[1], y.ndim))
            state = load_training_state(self._training_state, parameters) if fitted else {}
            curve_before = self.loss_curve_ if fitted else []
            if not parameters.is_untuned:
                state |= {"n_steps": self.t_ if fitted else 0, "n_epochs": len(curve_before)}
                settings = replace(settings, max_iter=1, tol=None)
            outcome = train(rows, theta, settings, parameters, state)
            check_overflow(rows, outcome.theta, dtype)
        store(self, outcome, rows.shape[1], y.ndim, dtype, goes_on=True)
        self.loss_curve_ = [*curve_before, *outcome.loss_curve[-1:]]
        self.n_iter_ = len(self.loss_curve_)
        self._training_state = save_training_state(outcome.training_state, parameters)
        warn_of_fit(outcome, rows, settings, parameters, stacklevel=4)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_chunks(self, chunks, *, process_group=None, checkpoint=None) -> "TorchLinearRegressor":
        """Learn weights and intercept from a table that is read chunk by chunk.

        The answer is that of `fit` for all rows of the chunks together. Memory is that of a few chunks, however many
        there are: while one is computed with, a thread reads the next.

        Untuned mode goes through the chunks once with a squared loss and any penalty, and once for each step with other
        losses. Textbook mode takes the steps of `fit` on the concatenated table, with batches across the borders of
        chunks; with ``shuffle=True`` it shuffles the chunks, where they have numbers, and the rows of each.

        Parameters
        ----------
        chunks : sequence, or iterable
            Of tuples ``(X, y)`` or ``(X, y, sample_weight)``, each as `fit` takes them, with the same columns. A
            sequence, with ``__len__`` and ``__getitem__``, such as those of :mod:`torchlinreg.streams`, has chunks with
            numbers, that can be shared out, shuffled and resumed. An iterable, such as a
            :class:`torch.utils.data.DataLoader`, is gone through once a pass; an iterator, which ends after one, is
            enough for a squared loss in untuned mode.
        process_group : torch.distributed.ProcessGroup, default=None
            Processes that learn together, and that all call this method. A sequence is the same for all, and each reads
            its share of the chunks; an iterable is that process's own. All processes end with the same bits. With a
            squared loss in untuned mode these do not depend on how many processes share a sequence.
        checkpoint : str or path-like, default=None
            A file in which to save what is learnt on the way. If it is there already, learning goes on from it, with
            the same bits as if nothing had happened for a squared loss in untuned mode, and for textbook mode. The file
            of the savings before has ".previous" added to its name.

        Returns
        -------
        self : TorchLinearRegressor

        Raises
        ------
        ValueError, TypeError
            If a chunk or a parameter is unusable, naming the number of the chunk, or if the checkpoint is of other data
            or parameters. What was learnt before stays as it is.
        RuntimeError
            If another process is gone.

        Examples
        --------
        >>> import numpy as np
        >>> from torchlinreg import TorchLinearRegressor
        >>> rng = np.random.default_rng(0)
        >>> chunks = [(X, X @ [1.0, 2.0] + 3.0) for X in rng.normal(size=(4, 100, 2))]
        >>> model = TorchLinearRegressor().fit_chunks(chunks)
        >>> model.coef_.round(6), round(model.intercept_, 6)
        (array([1., 2.]), 3.0)
        """
        learn_from_chunks(self, chunks, process_group=process_group, checkpoint=checkpoint, stacklevel=5)
        return self
