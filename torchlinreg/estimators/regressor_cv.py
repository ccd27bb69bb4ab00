"""`TorchLinearRegressorCV`: a penalty, and in textbook mode a learning rate, chosen by cross-validation."""

from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.metrics import get_scorer_names
from sklearn.utils import indexable
from sklearn.utils._param_validation import Interval, StrOptions

from torchlinreg.engine.columns.grid import Columns, Grid
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.estimators.base import LinearModel
from torchlinreg.estimators.candidates.folds import Fold, make_folds
from torchlinreg.estimators.candidates.grids import L1_RATIO, Candidates, make_cv_results, read_alphas, read_axes
from torchlinreg.estimators.candidates.scores import Scores
from torchlinreg.estimators.parameters.constraints import SHARED_CONSTRAINTS, fill_docstring
from torchlinreg.estimators.parameters.refusals import OVERFLOW, check_overflow, refusing_overflow, warn_of_idle
from torchlinreg.estimators.parameters.settings import make_settings, place_rows
from torchlinreg.estimators.parameters.values import Parameters, find_defaults
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.training.callbacks import CallbackSupportMixin, Folds, with_callbacks
from torchlinreg.estimators.training.holdout import UserData
from torchlinreg.estimators.training.reports import advise_rate, describe_end, warn_of_search, warn_of_unfinished
from torchlinreg.estimators.training.train import learning
from torchlinreg.inputs.arrays import check_weight, check_X_y
from torchlinreg.inputs.coefficients import split_theta


@fill_docstring
class TorchLinearRegressorCV(CallbackSupportMixin, LinearModel):
    """:class:`~torchlinreg.TorchLinearRegressor` with a penalty that is chosen by cross-validation.

    Every setting is a column of one weight matrix, and all columns are trained together on each fold; the result is
    that of :class:`~sklearn.model_selection.GridSearchCV` over the estimator, in little more time than a few fits take.
    In untuned mode with a squared loss, all settings share the sufficient statistics of a fold.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=100
        Strengths of the penalty to choose from. A number of them is a path, evenly spaced by the logarithm, from the
        largest that is of any use downwards: with L1 from the smallest that makes all weights zero, as in
        :class:`~sklearn.linear_model.LassoCV`; with L2 alone from where hardly a degree of freedom is left. A warning
        says so if the choice is at either end.
    eps : float in (0, 1) or "auto", default="auto"
        Length of that path. "auto" goes down to where the penalty no longer counts, whatever the units of the columns:
        where it takes a thousandth of a degree of freedom (L2), or moves predictions by a thousandth of the target's
        spread (L1), and at least to a thousandth of the largest. A number is the smallest alpha over the largest, as in
        :class:`~sklearn.linear_model.LassoCV` or, with L2 alone, the root of that, and how far predictions at the
        largest are from the best constant, in spreads of the target.
    l1_ratio : float in [0, 1] or array-like of shape (n_l1_ratios,), default=0.15
        Share of the L1 part in the elastic net, or shares to choose from.
    cv : int, splitter or iterable, default=None
        As in :class:`~sklearn.model_selection.GridSearchCV`: the number of folds of
        :class:`~sklearn.model_selection.KFold`, 5 if None; an object that splits; or pairs of the numbers of the rows
        to learn from and to score.
    scoring : str or callable, default=None
        What to choose by, as in :class:`~sklearn.model_selection.GridSearchCV`; None is R².
    %(loss)s
    penalty : {"l2", "l1", "elasticnet"} or None, default="l2"
        None in textbook mode only, to choose a learning rate or momentum without one.
    %(positive)s
    %(fit_intercept)s
    %(backend)s
    %(optimizer)s
    %(optimizer_params)s
    momentum : float in [0, 1) or array-like of shape (n_momenta,), default=0.0
        In textbook mode also several, to choose from.
    learning_rates : "auto", float or array-like of shape (n_rates,), default="auto"
        "auto" is untuned mode. A number is textbook mode, and several are rates to choose from; settings at which
        training diverges are scored NaN.
    %(schedule)s
    %(batch_size)s
    %(max_iter)s
    %(tol)s
    %(n_iter_no_change)s
    %(shuffle)s
    random_state : int, RandomState instance or None, default=None
        Seed of the orders of the rows, the same for each setting and fold. Folds depend on `cv` only.
    %(conditioning)s
    %(average)s
    verbose : int, default=0
        If positive, print a line for each fold.
    %(device)s
    %(dtype)s

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
        As in :class:`~sklearn.model_selection.GridSearchCV`, without the times; for ``pandas.DataFrame``.
    best_index_ : int
        Row of `cv_results_` that was chosen.
    best_score_ : float
        Mean test score of the setting chosen.
    best_params_ : dict
        Its parameters, named as those of :class:`~torchlinreg.TorchLinearRegressor`.
    n_splits_ : int
        Folds.
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights of the setting chosen, learnt from all rows.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercept; 0.0 if `fit_intercept=False`.
    coef_path_ : ndarray of shape (n_alphas, n_features) or (n_alphas, n_targets, n_features)
        Weights for each alpha, learnt from all rows, other parameters being those chosen.
    path_alphas_ : ndarray of shape (n_alphas,)
        The alphas of `coef_path_`, the largest first.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if `X` had names.
    n_iter_ : int
        Epochs of the fit to all rows; in untuned mode passes over them, or over their sufficient statistics.
    converged_ : bool
        Whether every model met the criterion of its training.
    optimality_gap_ : float or None
        Untuned mode: the largest of the fit to all rows, as :class:`~torchlinreg.TorchLinearRegressor` has it.
    plan_ : dict
        The setting chosen, and the numbers that "auto" stood for in the fit to all rows; printed with a reason for
        each.
    fit_time_ : float
        Seconds that the last fit took. Copies are without it, and so is what was saved and loaded.

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
        **SHARED_CONSTRAINTS,
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "eps": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "momentum": [*SHARED_CONSTRAINTS["momentum"], "array-like"],
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
        positive=False,
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
        self.positive = positive
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
            Groups of rows, for a splitter `cv` that keeps them together.

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
        with learning(self):
            given = UserData(X, y, sample_weight)
            X, y = check_X_y(self, X, y)
            weight = check_weight(sample_weight, X)
            axes = self._read_axes()
            model = self._make_model(axes)
            parameters = Parameters.of(model)
            rows, dtype = place_rows(parameters, X, y, weight)
            settings = make_settings(parameters, rows, dtype)
            warn_of_idle(parameters, find_defaults(type(model)), stacklevel=5)  # below scikit-learn's two wrappers
            folds = make_folds(self.cv, X, y, groups)
            tasks = Folds(self, given, len(folds) + 1)
            data = UserData(*indexable(given.X, given.y), weight)
            scores = Scores(model, self.scoring, data, partial(self._with_weights, y_ndim=y.ndim, dtype=dtype))
            with refusing_overflow():
                candidates = self._candidates(axes, rows, settings)
                grid = self._grid(candidates, rows, settings, folds)
                warm_start = self._validate(grid, folds, candidates, scores, tasks)
                columns, best = self._refit(grid, warm_start, candidates, tasks)
            theta = columns.theta[..., best]
            if not theta.isfinite().all():
                if parameters.is_untuned:
                    raise ValueError(OVERFLOW)
                advice = advise_rate(rows, settings)
                raise ValueError(f"Training diverged at every setting, or at the best one on all rows. {advice}")
            check_overflow(rows, theta, dtype)
            self._store(columns.theta, best, y.ndim, dtype)
        mean_scores = self.cv_results_["mean_test_score"]
        path_scores = mean_scores[candidates.path_of(self.best_index_)]
        end = describe_end(best, self.path_alphas_, path_scores, self.alphas, self.eps)
        warn_of_search(mean_scores, self.scoring, self.mse_path_, end, parameters, stacklevel=5)
        if not self.converged_:
            warn_of_unfinished(parameters, stacklevel=5)
        tasks.end()
        return self

    def fit_chunks(self, chunks, **options):
        """Raise `NotImplementedError`: the rows of a fold have to be in memory, to be scored; see the message."""
        raise NotImplementedError(
            "TorchLinearRegressorCV scores the rows of each fold, which have to be in memory: call fit with as many as "
            "fit there, then TorchLinearRegressor(penalty=..., alpha=model.alpha_).fit_chunks(chunks) with all."
        )

    def _read_axes(self) -> dict[str, list[float]]:
        """Return the parameters, apart from `alphas`, that have several values, and these."""
        return read_axes(
            learning_rates=self.learning_rates, momentum=self.momentum, l1_ratio=self.l1_ratio, penalty=self.penalty
        )

    def _make_model(self, axes: dict[str, list[float]]) -> TorchLinearRegressor:
        """Return an estimator with the parameters given here and, where there are several values, the largest."""
        shared = {name: getattr(self, name) for name in SHARED_CONSTRAINTS}
        # Warnings and errors about a learning rate or a momentum hold for the largest first
        largest = {"learning_rate": self.learning_rates, **{name: max(values) for name, values in axes.items()}}
        return TorchLinearRegressor(**{**shared, **largest})

    def _chosen(self) -> TorchLinearRegressor:
        """Return an estimator with the setting chosen, not fitted."""
        return self._make_model(self._read_axes()).set_params(**self.best_params_)

    def _candidates(self, axes: dict[str, list[float]], rows: MemorySource, settings: Settings) -> Candidates:
        """Return the settings to choose from, and set `alphas_`."""
        alphas = np.zeros(1)
        if self.penalty is not None:
            l1_ratio = axes.get("l1_ratio", L1_RATIO.get(self.penalty, self.l1_ratio))
            alphas = read_alphas(self.alphas, self.eps, l1_ratio, rows, settings, positive=self.positive)
        self.alphas_ = -np.sort(-alphas)
        return Candidates(alphas, axes)

    def _grid(self, candidates: Candidates, rows: MemorySource, settings: Settings, folds: list[Fold]) -> Grid:
        """Return what trains all candidates on a fold at once."""
        settings = candidates.settings_of_all(
            settings, rows.y.device, penalty=self.penalty, l1_ratio=self.l1_ratio, positive=self.positive
        )
        return Grid(rows, settings, len(candidates), [train for train, _ in folds])

    def _validate(
        self, grid: Grid, folds: list[Fold], candidates: Candidates, scores: Scores, tasks: Folds
    ) -> torch.Tensor:
        """Score every setting on every fold, choose the best, and return the mean theta of each over the folds."""
        found, mean = [], 0.0
        self.n_splits_, self.converged_ = len(folds), True
        for number, (train, test) in enumerate(folds, start=1):
            with tasks.task("fold"):
                columns = grid.fit(train)
                found.append(scores(test, grid.source.fold(test), columns.theta))
            mean = mean + columns.theta / len(folds)
            self.converged_ &= columns.n_unfinished == 0
            if self.verbose:
                print(f"Fold {number}/{len(folds)}, best score {np.nanmax(found[-1][0], initial=-np.inf):.6g}")
        self.cv_results_ = make_cv_results(candidates, np.array([score for score, _ in found]).T)
        self.mse_path_ = np.array([errors for _, errors in found]).T[candidates.path]
        self.best_index_ = int(self.cv_results_["rank_test_score"].argmin())
        self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])
        self.best_params_ = candidates.params[self.best_index_]
        return mean

    def _refit(self, grid: Grid, warm_start: torch.Tensor, candidates: Candidates, tasks: Folds) -> tuple[Columns, int]:
        """Learn from all rows with every alpha; return a column for each, and which is that of the best."""
        path = candidates.path_of(self.best_index_)
        models = torch.from_numpy(path)
        with tasks.task("refit"):
            columns = grid.fit(None, warm_start[..., models], models)
        self.path_alphas_ = candidates.column("alpha")[path]
        self.converged_ &= columns.n_unfinished == 0
        self.n_iter_, self.optimality_gap_ = columns.n_epochs, columns.optimality_gap
        why = f"the best mean score of {self.n_splits_} folds, of {len(candidates)} settings"
        chosen = {name: (value, why) for name, value in self.best_params_.items()}
        self._plan = chosen | columns.plan | chosen
        return columns, int((path == self.best_index_).argmax())

    def _store(self, theta: torch.Tensor, best: int, y_ndim: int, dtype: torch.dtype) -> None:
        """Set the fitted attributes of the setting chosen, theta being of shape (n_theta, n_targets, n_alphas)."""
        theta = theta.cpu()  # all at once
        self._with_weights(self, theta[..., best], y_ndim=y_ndim, dtype=dtype)
        self.coef_path_ = np.stack(
            [split_theta(column, self.n_features_in_, y_ndim, dtype)[0] for column in theta.unbind(2)]
        )
        chosen = self.best_params_
        self.alpha_ = chosen["alpha"]
        self.l1_ratio_ = float(L1_RATIO.get(self.penalty, chosen.get("l1_ratio", self.l1_ratio)))
        self.learning_rate_ = chosen.get("learning_rate", self.learning_rates)
        self.momentum_ = chosen.get("momentum", self.momentum)

    def _with_weights(self, estimator, theta: torch.Tensor, *, y_ndim: int, dtype: torch.dtype):
        """Make an estimator fitted, with theta of shape (n_theta, n_targets) and the features of this one."""
        features = {
            name: value for name, value in vars(self).items() if name in ("n_features_in_", "feature_names_in_")
        }
        vars(estimator).update(features)
        estimator._set_weights(theta, self.n_features_in_, y_ndim, dtype, needs_double=True)
        return estimator
