"""`summary`: coefficients with standard errors, tests and confidence intervals, by formula or by resamples."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from torchlinreg.analysis.bootstrap import FittedRows, bootstrap, fit_rows
from torchlinreg.engine.data.statistics import SufficientStatistics

WAY_OUT = 'use standard_errors="bootstrap"'


@validate_params(
    {
        "standard_errors": [StrOptions({"classical", "bootstrap"})],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=False,  # the estimator has parameters of its own
)
def summary(
    estimator,
    X,
    y,
    sample_weight=None,
    *,
    standard_errors="classical",
    confidence_level=0.95,
    n_resamples=1000,
    random_state=None,
) -> pd.DataFrame:
    """Return the table of coefficients that statistics packages print: standard errors, tests, intervals.

    Classical standard errors are those of least squares, for errors that are independent, of equal variance over the
    weight, and normal or many. They are found from a triangular factor of the centred rows, so that columns that nearly
    depend on each other cost no more digits than they must.

    Parameters
    ----------
    estimator : TorchLinearRegressor, TorchLinearRegressorCV or Pipeline
        Need not be fitted, and stays as it is: a copy of it is fitted to the rows. The steps of a pipeline before its
        last one are fitted, too, and then taken as given.
    X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
        Features.
    y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
        Targets, each with a table of its own.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row, as in `fit`. Classical standard errors take it for the inverse of a variance, up to a
        factor, as `WLS` of statsmodels does: doubling all weights changes nothing. Rows of weight zero do not count.
    standard_errors : {"classical", "bootstrap"}, default="classical"
        "classical" is for a squared loss in untuned mode without a penalty. "bootstrap" is for any loss, penalty and
        mode: standard errors and intervals are those of :func:`torchlinreg.bootstrap`.
    confidence_level : float in (0, 1), default=0.95
        Share of such intervals that hold the true coefficient.
    n_resamples : int, default=1000
        Of the bootstrap: how often the rows are drawn anew, at least 2.
    random_state : int, RandomState instance or None, default=None
        Of the bootstrap: seed of the draws.

    Returns
    -------
    DataFrame
        A row for each feature, by its name or x0, x1, ..., and the last for the "intercept" if there is one. If `y` has
        two dimensions the index is of target, by its name or y0, y1, ..., and feature. The columns are those of
        ``OLS(y, X).fit().summary2().tables[1]`` in statsmodels:

        - "Coef." and "Std.Err.";
        - "t", coefficient over standard error; "z" with the bootstrap;
        - "P>|t|", how likely a larger one is if the true coefficient is zero, by Student's t distribution with
          n_samples less the number of coefficients as degrees of freedom; "P>|z|" by the normal one with the bootstrap;
        - "[0.025" and "0.975]", ends of the confidence interval, named by their probabilities.

    Raises
    ------
    TypeError
        If `estimator` is of another kind.
    ValueError
        If the data or a parameter is unusable. For classical standard errors, if there is a penalty, a constraint, a
        loss that is not squared or a number for `learning_rate`; if columns depend on each other, which leaves their
        coefficients undetermined; or if there are not more rows than coefficients.

    See Also
    --------
    torchlinreg.bootstrap : Standard errors and intervals from resamples of the rows.
    torchlinreg.displays.CoefficientDisplay : A picture of either table.

    Notes
    -----
    With weights w, residuals r and k coefficients of a target, the intercept included, the covariance of the
    coefficients is ``s² (XᵀWX)⁻¹`` with ``s² = Σ w r² / (n_samples - k)``. Neither XᵀWX nor its inverse is formed: with
    ``R = qr(W^½ X)`` for the centred columns, the variance of a coefficient is s² times the squared norm of a row of
    R⁻¹.

    Examples
    --------
    >>> from torchlinreg import TorchLinearRegressor
    >>> from torchlinreg.datasets import load_crop_yields
    >>> from torchlinreg.inference import summary
    >>> X, y = load_crop_yields(return_X_y=True, as_frame=True)
    >>> table = summary(TorchLinearRegressor(), X[["rainfall"]], y["apples"])
    >>> table.columns.to_list()
    ['Coef.', 'Std.Err.', 't', 'P>|t|', '[0.025', '0.975]']
    """
    if standard_errors == "bootstrap":
        options = {"confidence_level": confidence_level, "random_state": random_state, "sample_weight": sample_weight}
        found = bootstrap(estimator, X, y, n_resamples, **options)
        columns = (found[name].to_numpy() for name in ("estimate", "standard_error", "low", "high"))
        return _tabulate(*columns, np.inf, confidence_level, found.index)
    fitted = fit_rows(estimator, X, y, sample_weight)
    _check_classical(fitted)
    with torch.inference_mode(False), torch.no_grad():
        errors, n_free = _classical(fitted)
    coefs = fitted.theta.numpy().T.ravel()
    half = errors * stats.t.ppf((1 + confidence_level) / 2, n_free)
    return _tabulate(coefs, errors, coefs - half, coefs + half, n_free, confidence_level, fitted.index)


def _check_classical(fitted: FittedRows) -> None:
    """Refuse what the formula of least squares does not hold for.

    Raises
    ------
    ValueError
    """
    model, rows, settings = fitted[:3]
    if not settings.loss.is_quadratic:
        reason = f"loss={model.loss!r} is not squared"
    elif settings.penalty is not None:
        what = "positive=True" if model.positive else f"penalty={model.penalty!r}"
        reason = f"{what} keeps coefficients from those of least squares"
    elif not settings.is_untuned:
        reason = f"learning_rate={model.learning_rate} may stop short of least squares"
    else:
        reason = None
    if reason is not None:
        raise ValueError(f"Classical standard errors are those of least squares, and {reason}: {WAY_OUT}.")
    n_dependent = rows.shape[1] - model.plan_["rank"]
    if n_dependent:
        raise ValueError(
            f"{n_dependent} of {rows.shape[1]} columns depend on the others or are constant, so that their "
            f'coefficients have no standard errors: drop them, such as by OneHotEncoder(drop="first"), or {WAY_OUT}.'
        )


def _classical(fitted: FittedRows) -> tuple[np.ndarray, int]:
    """Return the standard errors of all coefficients, target by target, and the degrees of freedom.

    Raises
    ------
    ValueError
        If there are none.
    """
    rows, n_theta = fitted.rows, len(fitted.theta)
    n_features = rows.shape[1]
    n_rows = len(rows) if rows.weight is None else int(rows.weight.count_nonzero())
    if n_rows <= n_theta:
        raise ValueError(
            f"{n_rows} rows leave nothing to tell the errors of {n_theta} coefficients from: bring more rows, or fewer "
            "features."
        )
    statistics = SufficientStatistics.of(rows)
    mean, weight = statistics.mean[:n_features], statistics.weight
    factor = statistics.factor
    if n_theta == n_features:
        factor = torch.cat([factor, weight**0.5 * statistics.mean[None]])
    factor = torch.linalg.qr(factor, mode="r")[1].cpu()
    residual_ss = factor[n_features:, n_features:].square().sum(0)
    identity = torch.eye(n_features, dtype=factor.dtype)
    inverse = torch.linalg.solve_triangular(factor[:n_features, :n_features], identity, upper=True)
    variance = inverse.square().sum(1)
    if n_theta > n_features:
        of_intercept = (mean.cpu() @ inverse).square().sum() + 1.0 / weight
        variance = torch.cat([variance, of_intercept[None]])
    n_free = n_rows - n_theta
    return torch.outer(residual_ss / n_free, variance).sqrt().numpy().ravel(), n_free


def _tabulate(
    coefs: np.ndarray,
    errors: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    n_free: float,
    confidence_level: float,
    index: pd.Index,
) -> pd.DataFrame:
    """Return the table, with tests by Student's t distribution or, with infinite degrees of freedom, by the normal."""
    letter, tail = "t" if np.isfinite(n_free) else "z", (1 - confidence_level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit, or a coefficient that is always zero
        ratio = coefs / errors
    columns = {
        "Coef.": coefs,
        "Std.Err.": errors,
        letter: ratio,
        f"P>|{letter}|": 2 * stats.t.sf(np.abs(ratio), n_free),
        f"[{tail:.6g}": low,
        f"{1 - tail:.6g}]": high,
    }
    return pd.DataFrame(columns, index=index)
