"""`TorchLinearRegressorCV`: a penalty, and in textbook mode a step size, chosen by cross-validation."""

from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils._param_validation import Interval, StrOptions

from torchlinreg.engine.columns.grid import Grid
from torchlinreg.estimators.base import LinearModel
from torchlinreg.estimators.candidates.grids import (
    L1_RATIO,
    Candidates,
    read_alphas,
    read_axes,
    results_table,
    row_numbers,
)
from torchlinreg.estimators.candidates.scores import Scores
from torchlinreg.estimators.parameters.refusals import OVERFLOW, check_overflow, warn_of_idle
from torchlinreg.estimators.parameters.settings import make_settings, place_rows
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.training.callbacks import Folds
from torchlinreg.estimators.training.holdout import Table
from torchlinreg.estimators.training.reports import advise, warn_of_search
from torchlinreg.inputs.arrays import check_weight, check_X_y, to_numpy
from torchlinreg.inputs.coefficients import split_theta

_SHARED = {
    name: constraint
    for name, constraint in TorchLinearRegressor._parameter_constraints.items()
    if name not in ("alpha", "learning_rate", "early_stopping", "validation_fraction", "warm_start")
}


class TorchLinearRegressorCV(CallbackSupportMixin, LinearModel):
    """:class:`~torchlinreg.TorchLinearRegressor` with a penalty that is chosen by cross-validation.

    Every setting is a column of one weight matrix, and all columns are trained together on each fold; the result is
    that of :class:`~sklearn.model_selection.GridSearchCV` over the estimator, in little more time than a few fits take.
    Untuned, with a squared loss, the rows of a fold are summed up once for all settings.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=100
        Strengths of the penalty to choose from. A number of them is a path, evenly spaced by the logarithm, from the
        largest that is of any use downwards: with L1 from the smallest that makes all weights zero, as in
        :class:`~sklearn.linear_model.LassoCV`; with L2 alone from where next to no degree of freedom is left. A warning
        tells of a choice at either end.
    eps : float in (0, 1) or "auto", default="auto"
        Length of that path. "auto" goes down to where the penalty no longer counts, whatever the units of the columns:
        where it takes a thousandth of a degree of freedom (L2), or moves predictions by a thousandth of the target's
        spread (L1), and at least to a thousandth of the largest. A number is the smallest alpha over the largest, as in
        :class:`~sklearn.linear_model.LassoCV` or, with L2 alone, the root of that, and how far predictions at the
        largest are from the best constant, in spreads of the target.
    l1_ratio : float in [0, 1] or array-like of shape (n_l1_ratios,), default=0.15
        Share of the absolute values in the elastic net, or shares to choose from.
    cv : int, splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`: the number of folds of
        :class:`~sklearn.model_selection.KFold`, 5 if None; an object that splits; or pairs of the numbers of the rows
        to learn from and to score.
    scoring : str or callable, default=None
        What to choose by, as in :class:`~sklearn.model_selection.GridSearchCV`; None is R².
    loss : str, object of :mod:`torchlinreg.losses`, torch.nn.Module or callable, default="squared_error"
        As in :class:`~torchlinreg.TorchLinearRegressor`, as are all parameters below unless they say more.
    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        None in textbook mode only, to choose a learning rate or momentum without one.
    fit_intercept : bool, default=True
    backend : {"auto", "analytic", "autograd", "linear"}, default="auto"
    optimizer : str or torch.optim.Optimizer class, default="sgd"
    optimizer_params : dict, default=None
    momentum : float in [0, 1) or array-like of shape (n_momenta,), default=0.0
        In textbook mode also several, to choose from.
    learning_rates : "auto", float or array-like of shape (n_rates,), default="auto"
        "auto" is untuned mode. A number is textbook mode, and several are rates to choose from; settings at which
        training diverges are scored NaN.
    schedule : {"constant", "invscaling", "adaptive"}, object of :mod:`torchlinreg.schedules` or callable, default=None
    batch_size : int, "auto" or "full", default="auto"
    max_iter : int, default=1000
    tol : float, "auto" or None, default="auto"
    n_iter_no_change : int, default=5
    shuffle : bool, default=True
    random_state : int, RandomState instance or None, default=None
        Seed of the orders of the rows, the same for each setting and fold. Folds are the business of `cv`.
    conditioning : {"auto", "scale", "whiten", None}, default="auto"
    average : bool, int or "auto", default="auto"
    verbose : int, default=0
        If positive, print a line for each fold.
    device : None, "auto", str or torch.device, default=None
    dtype : None, "float32" or "float64", default=None

    Attributes
    ----------
    alpha_ : float
        The strength chosen, for all targets.
    l1_ratio_ : float
        The share chosen: 0 with ``penalty="l2"``, 1 with "l1".
    learning_rate_, momentum_ : float
        Those chosen; `learning_rate_` is "auto" in untuned mode.
    alphas_ : ndarray of shape (n_alphas,) or (n_l1_ratios, n_alphas)
        The strengths to choose from, the largest first; where `alphas` is a number, a path for each of several
        `l1_ratio`.
    mse_path_ : ndarray of shape (n_alphas, n_folds) or (n_l1_ratios, n_alphas, n_folds)
        Mean squared error on the rows held out, averaged over the targets. Several `learning_rates`, and after these
        several `momentum`, are further axes in front.
    cv_results_ : dict of str to array
        As :class:`~sklearn.model_selection.GridSearchCV` has it, times left out: made for ``pandas.DataFrame``.
    best_index_ : int
        The row of it that was chosen.
    best_score_ : float
        Its mean score.
    best_params_ : dict
        Its parameters, those of :class:`~torchlinreg.TorchLinearRegressor`.
    n_splits_ : int
        Folds.
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights of the setting chosen, learnt from all rows.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept; 0.0 if `fit_intercept=False`.
    coef_path_ : ndarray of shape (n_alphas, n_features) or (n_alphas, n_targets, n_features)
        Weights for each alpha, learnt from all rows, other parameters being those chosen.
    path_alphas_ : ndarray of shape (n_alphas,)
        These alphas.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if `X` had names.
    n_iter_ : int
        Epochs of the fit to all rows; in untuned mode passes over them, or over their summary.
    converged_ : bool
        Whether every model met the criterion of its training.
    optimality_gap_ : float or None
        Untuned mode: the largest of the fit to all rows, as :class:`~torchlinreg.TorchLinearRegressor` has it.

    plan_ : dict
        The setting chosen, and the numbers that "auto" stood for in the fit to all rows; prints as a table that gives a
        reason for each.

    See Also
    --------
    sklearn.linear_model.ElasticNetCV, sklearn.linear_model.RidgeCV : The same by specialists for the squared loss.
    torchlinreg.displays.RegularizationPathDisplay : A picture of `coef_path_`.

    Notes
    -----
    `RidgeCV` does not divide the squared error by the number of rows: its alpha is ours times that number, of the rows
    that a fold learns from.

    Sample weights count in the scores, too. In :class:`~sklearn.model_selection.GridSearchCV` they do if asked for by
    ``set_score_request``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from torchlinreg import TorchLinearRegressorCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = TorchLinearRegressorCV(penalty="l1").fit(X, y)
    >>> model.mse_path_.shape
    (100, 5)
    >>> model.coef_path_.shape
    (100, 10)
    """

    __module__ = "torchlinreg"

    _parameter_constraints: dict = {
        **_SHARED,
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "eps": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "momentum": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "learning_rates": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither"), "array-like"],
    }

    def __init__(
        self,
        *,
        alphas=100,
        eps="auto",
        l1_ratio=0.15,
        cv=None,
        scoring=None,
        loss="squared_error",
        penalty="l2",
        fit_intercept=True,
        backend="auto",
        optimizer="sgd",
        optimizer_params=None,
        momentum=0.0,
        learning_rates="auto",
        schedule=None,
        batch_size="auto",
        max_iter=1000,
        tol="auto",
        n_iter_no_change=5,
        shuffle=True,
        random_state=None,
        conditioning="auto",
        average="auto",
        verbose=0,
        device=None,
        dtype=None,
    ):
        self.alphas = alphas
        self.eps = eps
        self.l1_ratio = l1_ratio
        self.cv = cv
        self.scoring = scoring
        self.loss = loss
        self.penalty = penalty
        self.fit_intercept = fit_intercept
        self.backend = backend
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.momentum = momentum
        self.learning_rates = learning_rates
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.random_state = random_state
        self.conditioning = conditioning
        self.average = average
        self.verbose = verbose
        self.device = device
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    @with_callbacks
    def fit(self, X, y, sample_weight=None, *, groups=None) -> "TorchLinearRegressorCV":
        """Choose the setting that scores best on held-out rows, and learn from all rows with it.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
            Features.
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            Targets. All of them get the same setting.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, in training and in the scores.
        groups : array-like of shape (n_samples,), default=None
            What `cv` is to keep together, if it is of that kind.

        Returns
        -------
        self : TorchLinearRegressorCV

        Raises
        ------
        ValueError
            If the data or a parameter is unusable, or if training diverges at every setting.

        Warns
        -----
        ConvergenceWarning
            If some models did not meet the criterion of `tol` within `max_iter` epochs.
        FitFailedWarning
            If training diverged at some settings.
        """
        with torch.inference_mode(False), torch.no_grad():
            given = Table(X, y, sample_weight)
            X, y = check_X_y(self, X, y)
            weight = check_weight(sample_weight, X)
            axes = read_axes(self)
            model = self._model(axes)
            rows, dtype = place_rows(model, X, y, weight)
            settings = make_settings(model, rows, dtype)
            warn_of_idle(model, stacklevel=5)  # below scikit-learn's two wrappers
            folds = self._folds(X, y, groups)
            tasks = Folds(self, given, len(folds) + 1)
            table = Table(*indexable(given.X, given.y), weight)
            scores = Scores(model, self.scoring, table, partial(self._dress, y_ndim=y.ndim, dtype=dtype))
            try:
                alphas = read_alphas(self, rows, settings, axes)
                self.alphas_ = -np.sort(-alphas)
                candidates = Candidates(alphas, axes)
                columns = candidates.columns(self, settings, rows.y.device)
                grid = Grid(rows, columns, len(candidates), [train for train, _ in folds])
                near = self._validate(grid, folds, candidates, scores, tasks)
                theta, best = self._learn_from_all(grid, near, candidates, tasks)
            except torch.linalg.LinAlgError as overflow:
                raise ValueError(f"{OVERFLOW} ({overflow})") from overflow
            if not theta[..., best].isfinite().all():
                if isinstance(self.learning_rates, str):
                    raise ValueError(OVERFLOW)
                advice = advise(model, rows, settings)
                raise ValueError(f"Training diverged at every setting, or at the best one on all rows. {advice}")
            check_overflow(rows, theta[..., best], dtype)
            self._store(theta, best, y.ndim, dtype)
        warn_of_search(self, candidates.around(self.best_index_), stacklevel=5)  # below scikit-learn's two wrappers
        tasks.end()
        return self

    def _model(self, axes: dict[str, list[float]]) -> TorchLinearRegressor:
        """Return the estimator that settings are settings of, with one of them."""
        shared = {name: value for name, value in self.get_params(deep=False).items() if name in _SHARED}
        # If there is something to say about a rate or a momentum, then about the largest
        largest = {"learning_rate": self.learning_rates, **{name: max(values) for name, values in axes.items()}}
        return TorchLinearRegressor(**{**shared, **largest})

    def _chosen(self) -> TorchLinearRegressor:
        """Return an estimator with the setting chosen, not fitted."""
        return self._model(read_axes(self)).set_params(**self.best_params_)

    def _folds(self, X, y, groups) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the numbers of the rows to learn from, and to score, in each fold."""
        y, groups = (
            to_numpy(given, name) if isinstance(given, torch.Tensor) else given
            for name, given in {"y": y, "groups": groups}.items()
        )
        pairs = check_cv(self.cv).split(X, y, groups)
        folds = [tuple(torch.from_numpy(row_numbers(part, X.shape[0])) for part in pair) for pair in pairs]
        if not folds:
            raise ValueError(f"cv={self.cv!r} gave no folds; give a number of folds, or other pairs.")
        return folds

    def _validate(self, grid: Grid, folds, candidates: Candidates, scores: Scores, tasks: Folds) -> torch.Tensor:
        """Score every setting on every fold, choose the best, and return where they are on average."""
        found, near = [], 0.0
        self.n_splits_, self.converged_ = len(folds), True
        for number, (train, test) in enumerate(folds, start=1):
            with tasks.task("fold"):
                columns = grid.fit(train)
                found.append(scores(test, grid.rows.take(test), columns.theta))
            near = near + columns.theta / len(folds)
            self.converged_ &= columns.n_unfinished == 0
            if self.verbose:
                print(f"Fold {number}/{len(folds)}, best score {np.nanmax(found[-1][0], initial=-np.inf):.6g}")
        self.cv_results_ = results_table(candidates, np.array([score for score, _ in found]).T)
        self.mse_path_ = np.array([errors for _, errors in found]).T[candidates.path]
        self.best_index_ = int(self.cv_results_["rank_test_score"].argmin())
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        self.best_params_ = candidates.params[self.best_index_]
        return near

    def _learn_from_all(self, grid: Grid, near: torch.Tensor, candidates: Candidates, tasks: Folds) -> tuple:
        """Learn from all rows with every alpha, a column each; return theta, and which column is that of the best."""
        path = candidates.around(self.best_index_)
        models = torch.from_numpy(path)
        with tasks.task("refit"):
            columns = grid.fit(None, near[..., models], models)
        self.path_alphas_ = candidates.column("alpha")[path]
        self.converged_ &= columns.n_unfinished == 0
        self.n_iter_, self.optimality_gap_ = columns.n_epochs, columns.optimality_gap
        why = f"the best mean score of {self.n_splits_} folds, of {len(candidates)} settings"
        chosen = {name: (value, why) for name, value in self.best_params_.items()}
        self._plan = chosen | columns.plan | chosen
        return columns.theta, int((path == self.best_index_).argmax())

    def _store(self, theta: torch.Tensor, best: int, y_ndim: int, dtype: torch.dtype) -> None:
        theta = theta.cpu()  # all at once
        self._dress(self, theta[..., best], y_ndim=y_ndim, dtype=dtype)
        self.coef_path_ = np.stack(
            [split_theta(column, self.n_features_in_, y_ndim, dtype)[0] for column in theta.unbind(2)]
        )
        chosen = self.best_params_
        self.alpha_ = chosen["alpha"]
        self.l1_ratio_ = float(L1_RATIO.get(self.penalty, chosen.get("l1_ratio", self.l1_ratio)))
        self.learning_rate_ = chosen.get("learning_rate", self.learning_rates)
        self.momentum_ = chosen.get("momentum", self.momentum)

    def _dress(self, estimator, theta: torch.Tensor, *, y_ndim: int, dtype: torch.dtype):
        """Give an estimator these weights, of shape (n_theta, n_targets)."""
        learnt = {name: value for name, value in vars(self).items() if name in ("n_features_in_", "feature_names_in_")}
        vars(estimator).update(learnt)
        estimator._set_weights(theta, self.n_features_in_, y_ndim, dtype, needs_double=True)
        return estimator
