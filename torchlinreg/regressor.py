"""`TorchLinearRegressor`: parameters, validation and fitted attributes. The training itself is in the engine."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from torchlinreg.arrays import check_weight, check_X, check_X_y, to_numpy, to_tensor
from torchlinreg.engine.batches import Rows
from torchlinreg.engine.descent import DivergedError
from torchlinreg.engine.devices import DTYPES, full_precision, resolve_device, resolve_dtype, stays_on_host
from torchlinreg.engine.fitting import Fit, Settings
from torchlinreg.engine.losses import LOSSES
from torchlinreg.engine.models import MODELS
from torchlinreg.engine.plan import Plan, largest_stable_rate
from torchlinreg.engine.textbook import fit_textbook
from torchlinreg.engine.untuned import fit_untuned


class TorchLinearRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear regression by mini-batch SGD in PyTorch.

    By default nothing needs tuning: the estimator looks at the data and gives the least-squares answer, on features
    of any scale. With a number for `learning_rate` it is a textbook instead: plain mini-batch SGD on the features as
    they are, at exactly that rate, the weights after every epoch being those of the hand-written loop.

    The objective is the (weighted) mean over the rows of the loss. Targets are columns that do not mix.

    Parameters
    ----------
    loss : {"squared_error", "mse"}, default="squared_error"
        Half the squared error, as in :class:`~sklearn.linear_model.SGDRegressor`, or torch's ``MSELoss``: the squared
        error averaged over rows and targets.
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
        As in :class:`torch.optim.SGD`. Of no effect in untuned mode.
    learning_rate : float or "auto", default="auto"
        A number is textbook mode: the step size. "auto" is untuned mode.
    batch_size : int, "auto" or "full", default="auto"
        Rows a step. "auto" is 32 in textbook mode. In untuned mode it is chosen from the data.
    max_iter : int, default=1000
        Epochs at most.
    tol : float, "auto" or None, default="auto"
        In textbook mode, training stops when for `n_iter_no_change` epochs the loss has not fallen by `tol` below
        the best so far; "auto" and None run exactly `max_iter` epochs. In untuned mode, training has converged when
        `optimality_gap_` is at most `tol`; "auto" is 1e-20 for float64 and 1e-10 for float32 data.
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
        is None in textbook mode; in untuned mode "whiten", or "scale" for very many features.
    average : bool, int or "auto", default="auto"
        Whether mini-batch descent ends at the mean of its iterates. True means all of them, a number those after that
        many rows, as in :class:`~sklearn.linear_model.SGDRegressor`. "auto" is False in textbook mode; in untuned mode
        it is the second half of the steps, as is any value but False.
    warm_start : bool, default=False
        Whether `fit` starts from the solution of the last fit, if its shape agrees.
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
        Epochs run.
    t_ : int
        Steps taken.
    loss_curve_ : list of float
        Mean training loss of each epoch, every row predicted just before the step that it took part in.
    converged_ : bool
        Whether training ended by its own criterion rather than at `max_iter`.
    optimality_gap_ : float or None
        Untuned mode: estimated excess of the objective over its minimum, relative to the objective of the best
        constant, for the worst target. None in textbook mode.
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
    array([[57.3, 70.4]])
    """

    _parameter_constraints: dict = {
        "loss": [StrOptions(set(LOSSES))],
        "fit_intercept": ["boolean"],
        "backend": [StrOptions({"auto", *MODELS})],
        "optimizer": [str, type],
        "optimizer_params": [dict, None],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto", "full"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "conditioning": [StrOptions({"auto", "scale", "whiten"}), None],
        "average": [StrOptions({"auto"}), "boolean", Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "device": [str, torch.device, None],
        "dtype": [StrOptions(set(DTYPES)), type, torch.dtype, np.dtype, None],
    }

    def __init__(
        self,
        *,
        loss="squared_error",
        fit_intercept=True,
        backend="auto",
        optimizer="sgd",
        optimizer_params=None,
        momentum=0.0,
        learning_rate="auto",
        batch_size="auto",
        max_iter=1000,
        tol="auto",
        n_iter_no_change=5,
        shuffle=True,
        random_state=None,
        conditioning="auto",
        average="auto",
        warm_start=False,
        verbose=0,
        device=None,
        dtype=None,
    ):
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.backend = backend
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.momentum = momentum
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.random_state = random_state
        self.conditioning = conditioning
        self.average = average
        self.warm_start = warm_start
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, coef_init=None, intercept_init=None) -> "TorchLinearRegressor":
        """Learn weights and intercept from a table.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, n_features)
            Features.
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row: a weight of two is a row written twice.
        coef_init : array-like of shape (n_features,) or (n_targets, n_features), default=None
            Weights to start from, zeros if None. Untuned mode finds the same optimum from anywhere.
        intercept_init : float or array-like of shape (n_targets,), default=None
            Intercept to start from, zero if None.

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
            If `max_iter` came before the criterion of `tol`.
        """
        # Whatever the caller has switched on, what is made here can take part in a graph
        with torch.inference_mode(False), torch.no_grad():
            X, y = check_X_y(self, X, y)
            rows, dtype = self._rows(X, y, check_weight(sample_weight, X))
            settings = self._settings(rows, dtype)
            theta = self._initial_theta(rows, y.ndim, coef_init, intercept_init)
            outcome = self._train(rows, theta, settings)
        self._store(outcome, rows, y.ndim, str(dtype).removeprefix("torch."))
        self._warn(outcome, rows, settings)
        return self

    def _train(self, rows: Rows, theta: torch.Tensor, settings: Settings) -> Fit:
        if self.learning_rate == "auto":
            return fit_untuned(rows, settings)
        try:
            return fit_textbook(rows, theta.to(settings.dtype), settings)
        except DivergedError as diverged:
            raise ValueError(
                f"Training diverged in epoch {diverged.epoch}: learning_rate={self.learning_rate} is too large "
                f"for this data. {self._advise(rows, settings)}"
            ) from None

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        ndarray or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            A tensor on the same device if `X` is one.
        """
        check_is_fitted(self)
        X = check_X(self, X)
        coef, intercept = self.coef_, self.intercept_
        wide = X
        if self._exact is not None and np.array_equal(np.atleast_2d(coef), self._exact[0].astype(coef.dtype)):
            # Single precision would show, and coef_ is still what fit made it
            coef = self._exact[0].reshape(self.coef_.shape)
            intercept = self._exact[1].reshape(self.coef_.shape[:-1])
            wide = X.double() if isinstance(X, torch.Tensor) else X.astype(np.float64)
        if not isinstance(X, torch.Tensor):
            return (wide @ coef.T + intercept).astype(X.dtype, copy=False)
        coef, intercept = (torch.as_tensor(part).to(wide) for part in (coef, intercept))
        with full_precision():
            return (wide @ coef.t() + intercept).to(X.dtype)

    def score(self, X, y, sample_weight=None) -> float:
        """Return the coefficient of determination R², as :meth:`sklearn.base.RegressorMixin.score` does.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, n_features)
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), default=None
        """
        X, y, sample_weight = (
            to_numpy(given, name) if isinstance(given, torch.Tensor) else given
            for name, given in {"X": X, "y": y, "sample_weight": sample_weight}.items()
        )
        return super().score(X, y, sample_weight)

    @property
    def plan_(self) -> Plan:
        """The numbers that "auto" stood for, by name; prints as a table that gives a reason for each."""
        if not hasattr(self, "_plan"):
            raise AttributeError("plan_ is there after fit.")
        return Plan(self._plan)

    def _rows(self, X, y, weight) -> tuple[Rows, torch.dtype]:
        """Put the validated data on the device to train on, and say in which precision."""
        X, y = to_tensor(X), to_tensor(y)
        device = resolve_device(self.device, X.device)
        if device.type == "mps" and self.learning_rate == "auto":
            if self.device != "auto":
                raise ValueError(
                    "MPS devices have no float64, in which untuned mode keeps its accounts. Give a number for "
                    'learning_rate, or use device="cpu".'
                )
            device = torch.device("cpu")
        dtype = resolve_dtype(self.dtype, X.dtype, device)
        y = y.reshape(len(y), -1)
        if self.learning_rate != "auto":  # untuned mode centres first
            X, y = X.to(dtype), y.to(dtype)
        if weight is not None:
            weight = torch.from_numpy(weight)[:, None].to(device, dtype)
        return Rows(X if stays_on_host(X, device) else X.to(device), y.to(device), weight), dtype

    def _settings(self, rows: Rows, dtype: torch.dtype) -> Settings:
        if self.learning_rate == "auto" and (self.optimizer != "sgd" or self.optimizer_params):
            raise ValueError(
                f"optimizer={self.optimizer!r} with optimizer_params={self.optimizer_params!r} needs a number for "
                'learning_rate; learning_rate="auto" chooses steps for optimizer="sgd" only.'
            )
        generator = None
        if self.shuffle:
            seed = self.random_state
            if not isinstance(seed, Integral):
                seed = check_random_state(seed).randint(2**31 - 1)
            generator = torch.Generator("cpu").manual_seed(int(seed))
        return Settings(
            loss=LOSSES[self.loss](rows.y.shape[1]),
            fit_intercept=self.fit_intercept,
            backend="analytic" if self.backend == "auto" else self.backend,
            optimizer=self.optimizer,
            optimizer_params=self.optimizer_params,
            momentum=self.momentum,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            max_iter=self.max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            dtype=dtype,
            conditioning=self.conditioning,
            average=self.average,
            generator=generator,
            report=self._print_epoch if self.verbose else lambda epoch, loss: None,
        )

    def _initial_theta(self, rows: Rows, y_ndim: int, coef_init, intercept_init) -> torch.Tensor:
        """Return where training starts, in the engine's shape."""
        n_features, n_targets = rows.X.shape[1], rows.y.shape[1]
        coef_shape = (n_features,) if y_ndim == 1 else (n_targets, n_features)
        if self.warm_start and getattr(self, "coef_", np.empty(0)).shape == coef_shape:
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        coef = _initial("coef_init", coef_init, coef_shape)
        intercept = _initial("intercept_init", intercept_init, coef_shape[:-1])
        theta = np.empty((n_features + self.fit_intercept, n_targets))
        theta[:n_features] = coef.reshape(n_targets, n_features).T
        theta[n_features:] = intercept.reshape(1, n_targets)
        return torch.from_numpy(theta).to(rows.X)

    def _store(self, outcome: Fit, rows: Rows, y_ndim: int, dtype: str) -> None:
        theta = outcome.theta.to(device="cpu", dtype=torch.float64).numpy()
        n_features = rows.X.shape[1]
        self._exact = None
        if dtype != "float64" and outcome.needs_double:
            self._exact = (np.array(theta[:n_features].T, order="C"), theta[n_features:].sum(0))
        coef = np.array(theta[:n_features].T, dtype=dtype, order="C")  # a copy: no memory of torch's stays behind
        intercept = theta[n_features].astype(dtype) if self.fit_intercept else 0.0
        self.coef_ = coef[0] if y_ndim == 1 else coef
        self.intercept_ = intercept[0] if self.fit_intercept and y_ndim == 1 else intercept
        self.loss_curve_ = outcome.loss_curve
        self.n_iter_ = len(outcome.loss_curve)
        self.t_ = outcome.n_steps + (getattr(self, "t_", 0) if self.warm_start else 0)
        self.converged_ = outcome.converged
        self.optimality_gap_ = outcome.optimality_gap
        self._plan = outcome.plan

    def _warn(self, outcome: Fit, rows: Rows, settings: Settings) -> None:
        """Say what the caller should know of how training ended."""
        if outcome.worsened:
            warnings.warn(
                f"Training made the loss worse, up to {self.loss_curve_[-1]:.3g}: "
                f"learning_rate={self.learning_rate} is too large for this data. {self._advise(rows, settings)}",
                ConvergenceWarning,
                stacklevel=3,
            )
        elif not outcome.converged:
            reached = f" The optimality gap is {self.optimality_gap_:.1e}." if self.optimality_gap_ is not None else ""
            warnings.warn(
                f"Stopped after {self.n_iter_} epochs, with max_iter={self.max_iter}, without meeting "
                f"tol={self.tol}.{reached} Increase max_iter, or accept a larger tol.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _print_epoch(self, epoch: int, loss: float) -> None:
        if epoch % self.verbose == 0:
            width = len(str(self.max_iter))
            print(f"Epoch {epoch:>{width}}/{self.max_iter}, loss {loss:.6g}")

    def _advise(self, rows: Rows, settings: Settings) -> str:
        """Say what to try instead of a learning rate that was too large."""
        stable = ""
        if self.optimizer == "sgd" and not self.optimizer_params:
            stable = f"The largest stable rate is about {largest_stable_rate(rows, settings):.2g}. "
        return stable + 'Lower it, scale the features, or leave the choice to learning_rate="auto".'


def _initial(name: str, given, shape: tuple[int, ...]) -> np.ndarray:
    """Check where training is to start."""
    if given is None:
        return np.zeros(shape)
    given = to_numpy(given, name) if isinstance(given, torch.Tensor) else given
    try:
        start = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as reason:
        raise ValueError(f"{name}={given!r} is not made of numbers; this data needs shape {shape}.") from reason
    if start.shape != shape and not start.size == np.prod(shape, dtype=int) == 1:
        raise ValueError(f"{name} has shape {start.shape}, but this data needs {shape}.")
    if not np.isfinite(start).all():
        raise ValueError(f"{name} contains NaN or infinity; give finite numbers or None for zeros.")
    return start
