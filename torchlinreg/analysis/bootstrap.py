"""`bootstrap`: standard errors and confidence intervals of coefficients."""

import warnings
from collections.abc import Iterable
from numbers import Integral, Real
from typing import NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from torchlinreg.engine.columns.resampling import resample
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.solvers.minibatch.loop import DivergedError
from torchlinreg.estimators.parameters.refusals import OVERFLOW, refusing_overflow
from torchlinreg.estimators.parameters.settings import make_settings, place_rows
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.regressor_cv import TorchLinearRegressorCV
from torchlinreg.estimators.training.reports import MORE_EPOCHS, advise_rate
from torchlinreg.inputs.arrays import check_weight, check_X_y
from torchlinreg.inputs.coefficients import make_theta
from torchlinreg.inputs.frames import names_after


@validate_params(
    {
        "n_resamples": [Interval(Integral, 2, None, closed="left")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=False,  # the estimator has parameters of its own
)
def bootstrap(
    estimator, X, y, n_resamples=1000, confidence_level=0.95, random_state=None, *, sample_weight=None
) -> pd.DataFrame:
    """Estimate standard errors and confidence intervals of coefficients from resamples of the rows.

    A resample has as many rows as the table, drawn from it with replacement. Its model is what `estimator` would learn
    from it; resamples are columns of weights, which are trained together. The standard error is the standard deviation
    of a coefficient over the resamples, the interval lies between their percentiles [1]_.

    Parameters
    ----------
    estimator : TorchLinearRegressor, TorchLinearRegressorCV or Pipeline
        Any parameters will do but `early_stopping`; need not be fitted, and stays as it is. The setting that a
        `TorchLinearRegressorCV` chooses for all rows holds for the resamples, too. The steps of a pipeline before its
        last one are fitted to all rows, and then held fixed.
    X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
        Features.
    y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
        Targets. A row is drawn with all its targets.
    n_resamples : int, default=1000
        How often the rows are drawn anew, at least 2.
    confidence_level : float in (0, 1), default=0.95
        Share of such intervals that hold the true coefficient, if the table is large enough for percentiles to be
        right.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws; an int gives the same result again. The orders of mini-batches depend on the estimator's own
        `random_state`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row, as in `fit`. Rows are drawn with equal chances, and keep their weights; steps of a pipeline
        before the last do not get them.

    Returns
    -------
    DataFrame
        A row for each feature, by its name or x0, x1, ..., and the last for the "intercept" if there is one. If `y` has
        two dimensions the index is of target, by its name or y0, y1, ..., and feature. Columns:

        - estimate: of the fit to all rows;
        - standard_error;
        - low, high: ends of the interval.

    Raises
    ------
    TypeError
        If `estimator` is of another kind.
    ValueError
        If the data or a parameter is unusable, or if training diverges.

    Warns
    -----
    ConvergenceWarning
        If some models did not meet the criterion of `tol` within `max_iter` epochs.

    See Also
    --------
    scipy.stats.bootstrap : With ``method="percentile"`` the same for any statistic.
    torchlinreg.displays.CoefficientDisplay : A picture of the result.

    Notes
    -----
    In textbook mode a resample keeps the order of the rows, and weighs them: a row that was drawn twice counts twice in
    its mini-batch, and one that was not drawn leaves its place there empty.

    A resample may miss all rows that determine some coefficient, such as those of a rare category. That coefficient
    is then chosen such that predictions for these rows stay as close to those of the estimate as possible. Columns that
    depend on each other in all rows get the coefficients of minimum norm, as in `fit`.

    Memory does not grow with n_samples times n_resamples.

    References
    ----------
    .. [1] Efron & Tibshirani (1993), "An Introduction to the Bootstrap".

    Examples
    --------
    >>> from torchlinreg import TorchLinearRegressor, bootstrap
    >>> from torchlinreg.datasets import load_crop_yields
    >>> X, y = load_crop_yields(return_X_y=True, as_frame=True)
    >>> bootstrap(TorchLinearRegressor(), X, y["apples"], random_state=0).columns.to_list()
    ['estimate', 'standard_error', 'low', 'high']
    """
    fitted = fit_rows(estimator, X, y, sample_weight)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    with torch.inference_mode(False), torch.no_grad():
        found = _resample(fitted, n_resamples, seed)
    return _summarise(fitted.theta, found, confidence_level, fitted.index)


class FittedRows(NamedTuple):
    """A model, the rows that it was fitted to, and what it has learnt from them.

    Attributes
    ----------
    model : TorchLinearRegressor
    rows : MemorySource
    settings : Settings
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets), float64
    index : Index
        Names of its numbers, target by target.
    """

    model: TorchLinearRegressor
    rows: MemorySource
    settings: Settings
    theta: torch.Tensor
    index: pd.Index


def fit_rows(estimator, X, y, sample_weight) -> FittedRows:
    """Fit a copy of an estimator, or of the last step of a pipeline, to all rows.

    Raises
    ------
    TypeError, ValueError
    """
    model, X, names = _prepare(estimator, X, y, sample_weight)
    # Under inference mode, what is made here could not take part in a graph
    with torch.inference_mode(False), torch.no_grad():
        model.fit(X, y, sample_weight)
        names, targets = _feature_names(model, names), _target_names(y)
        X, y = check_X_y(model, X, y)
        parameters = Parameters.of(model)
        rows, dtype = place_rows(parameters, X, y, check_weight(sample_weight, X))
        settings = make_settings(parameters, rows, dtype)
        sizes = rows.shape[1], rows.y.shape[1], y.ndim
        intercept = model.intercept_ if model.fit_intercept else None
        theta = make_theta(model.coef_, intercept, *sizes, fit_intercept=model.fit_intercept)
    names = [*names, "intercept"] if model.fit_intercept else names
    return FittedRows(model, rows, settings, theta, _index(names, targets, y.ndim, rows.y.shape[1]))


def _prepare(estimator, X, y, sample_weight) -> tuple[TorchLinearRegressor, object, Iterable | None]:
    """Return the model to fit to each resample, its features, and their names if steps of a pipeline made them.

    Raises
    ------
    TypeError, ValueError
    """
    names, last = None, estimator
    if isinstance(estimator, Pipeline):
        last = estimator.steps[-1][1]
    if not isinstance(last, TorchLinearRegressor | TorchLinearRegressorCV):
        raise TypeError(
            f"estimator={estimator!r} is of a kind that bootstrap cannot use: give a TorchLinearRegressor, a "
            "TorchLinearRegressorCV or a Pipeline that ends in one of them. For others there is sklearn.utils.resample."
        )
    if isinstance(estimator, Pipeline) and len(estimator.steps) > 1:
        before = clone(estimator[:-1])
        X = before.fit_transform(X, y)
        names = names_after(before)
    model = clone(last)
    if isinstance(model, TorchLinearRegressorCV):
        model = model.fit(X, y, sample_weight)._chosen()
    elif model.early_stopping:
        raise ValueError(
            "early_stopping=True would hold rows out that a resample learns from as well; give bootstrap an estimator "
            "with early_stopping=False, and with the n_iter_ of a fit as max_iter."
        )
    return model, X, names


def _feature_names(model: TorchLinearRegressor, names: Iterable | None) -> list[str]:
    """Return the names of the features: those seen in `fit`, those given, or x0, x1, ..."""
    known = vars(model).get("feature_names_in_", names)
    return [f"x{number}" for number in range(model.n_features_in_)] if known is None else [str(name) for name in known]


def _target_names(y) -> list[str] | None:
    """Return the names of the columns of y if it is a data frame."""
    return [str(name) for name in nw.from_native(y).columns] if nw.dependencies.is_into_dataframe(y) else None


def _resample(fitted: FittedRows, n_resamples: int, seed: int) -> np.ndarray:
    """Return theta of each resample, shape (n_resamples, n_theta, n_targets)."""
    model, rows, settings, theta, _ = fitted
    try:
        with refusing_overflow():
            found = resample(rows, settings, theta, n_resamples, seed)
    except DivergedError as diverged:
        raise ValueError(
            f"Training diverged on a resample, in epoch {diverged.epoch}: learning_rate={model.learning_rate} is too "
            f"large for some of them. {advise_rate(rows, settings)}"
        ) from None
    if not found.theta.isfinite().all():
        raise ValueError(OVERFLOW)
    if found.n_unfinished:
        warnings.warn(
            f"{found.n_unfinished} of {n_resamples * rows.y.shape[1]} models of resamples did not meet tol={model.tol} "
            f"with max_iter={model.max_iter}. {MORE_EPOCHS}",
            ConvergenceWarning,
            stacklevel=4,  # below scikit-learn's wrapper
        )
    return found.theta.permute(2, 0, 1).numpy()


def _index(names: list[str], targets: list[str] | None, y_ndim: int, n_targets: int) -> pd.Index:
    """Return the index of the features or, if y has two dimensions, of targets and features."""
    if y_ndim == 1:
        return pd.Index(names, name="feature")
    targets = [f"y{number}" for number in range(n_targets)] if targets is None else targets
    pairs = [(target, name) for target in targets for name in names]
    return pd.MultiIndex.from_tuples(pairs, names=["target", "feature"])


def _summarise(theta: torch.Tensor, found: np.ndarray, confidence_level: float, index: pd.Index) -> pd.DataFrame:
    """Return the table of estimates, standard errors and intervals."""
    tail = (1.0 - confidence_level) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail], axis=0)
    columns = {
        "estimate": theta.numpy(),
        "standard_error": found.std(axis=0, ddof=1),
        "low": low,
        "high": high,
    }
    return pd.DataFrame({name: values.T.ravel() for name, values in columns.items()}, index=index)
