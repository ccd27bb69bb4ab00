"""`compare`: linear regressions side by side on one data set."""

import warnings
from collections.abc import Iterable, Mapping
from math import prod
from numbers import Integral
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression, Ridge, SGDRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils import check_array, check_consistent_length, check_scalar

from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.inputs.arrays import to_numpy
from torchlinreg.inputs.frames import unusable

__all__ = ["compare", "default_estimators"]

_COLUMNS = ["R2 train", "R2 test", "max |coef - LinearRegression|", "fit seconds", "predict seconds"]


def compare(
    X: ArrayLike | pd.DataFrame,
    y: ArrayLike | pd.Series | pd.DataFrame,
    estimators: Mapping[str, BaseEstimator] | Iterable[BaseEstimator] | None = None,
    *,
    test_size: float | int = 0.25,
    random_state: int | None = 0,
    n_repeats: int = 3,
) -> pd.DataFrame:
    """Fit several regressors on the same rows and tabulate how well and how fast each does.

    Every estimator is cloned, and fitted `n_repeats` times on the same training rows. The seconds are the
    wall-clock median of those fits, and of one prediction of the held-out rows after each of them: with three
    repeats or more, what a library does on its first call only does not count. Scores and coefficients are
    those of the last fit.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features)
        Given to each estimator as it is: texts, dates and missing values in a DataFrame need pipelines that
        encode them, or estimators that accept them.
    y : array-like, Series or DataFrame of shape (n_samples,) or (n_samples, n_targets)
        Target values.
    estimators : mapping of name to estimator, or iterable of estimators, default=None
        Regressors to compare; those of an iterable are named after their class. None takes
        :func:`default_estimators`.
    test_size : float or int, default=0.25
        Share, or number, of the rows to hold out.
    random_state : int or None, default=0
        Seed of the split, and of the default estimators.
    n_repeats : int, default=3
        How often to fit each estimator.

    Returns
    -------
    table : DataFrame
        A row for each estimator, with the columns

        - ``"R2 train"``, ``"R2 test"``: :func:`~sklearn.metrics.r2_score` on the training and the held-out rows,
          the mean over the targets if there are several;
        - ``"max |coef - LinearRegression|"``: largest absolute difference between its coefficients and those
          of a LinearRegression fitted on the same training rows, in units of `y` per unit of `X`. The
          coefficients of a pipeline of scalers and a linear model are converted to those units first; NaN
          for a model that is not linear in `X`, or without `coef_`. Where `X` is not numeric, it is replaced
          by what the pipeline makes of it before any scaler;
        - ``"fit seconds"``, ``"predict seconds"``.

    Warns
    -----
    Whatever the estimators warn of, once for each of them and with its name in front.

    Raises
    ------
    TypeError, ValueError
        If an estimator cannot use columns of `X` (they are named), a target is not numeric or has missing
        values, too few rows are left on a side of the split, or `estimators` holds none.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression, Ridge
    >>> from torchlinreg import compare
    >>> X, y = load_diabetes(return_X_y=True)
    >>> table = compare(X, y, [LinearRegression(), Ridge(alpha=0.1)])
    >>> table["R2 test"].round(2).to_dict()
    {'LinearRegression': 0.36, 'Ridge': 0.37}
    """
    check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
    X, y = _check_data(X, y)
    bad = _bad_columns(X)
    if estimators is not None:
        estimators = _named(estimators)
    elif bad:
        raise ValueError(_advice("each of the default estimators takes numbers only", bad))
    else:
        estimators = default_estimators(1 if y.ndim == 1 else y.shape[1], random_state=random_state)
    split = train_test_split(X, y, test_size=test_size, random_state=random_state)
    if len(split[1]) < 2:
        raise ValueError(
            f"R2 needs at least two held-out rows, and test_size={test_size} of {len(X)} rows leaves one: "
            "raise test_size or bring more rows"
        )
    # Of X as it is, unless pipelines have to make numbers of it
    reference = None if bad else _reference(split[0], split[2])
    rows = {}
    for name, model in estimators.items():
        with warnings.catch_warnings(record=True) as caught:
            try:
                rows[name] = _measure(model, split, reference, n_repeats)
            except (TypeError, ValueError) as error:
                if not bad:
                    raise
                reason = str(error).partition("\n")[0]
                raise ValueError(_advice(f"{name} cannot use X as it is ({reason})", bad)) from error
        # Once for all repeats and targets, with the name of the estimator
        for category, text in dict.fromkeys((warning.category, str(warning.message)) for warning in caught):
            warnings.warn(f"{name}: {text}", category, stacklevel=2)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=_COLUMNS)
    return table.rename_axis("estimator")


def default_estimators(
    n_targets: int = 1,
    *,
    random_state: int | None = 0,
    torch_regressor: TorchLinearRegressor | None = None,
) -> dict[str, BaseEstimator]:
    """Return the four regressors that :func:`compare` compares by default, by name.

    Parameters
    ----------
    n_targets : int, default=1
        Columns of `y`. For more than one, SGDRegressor is wrapped in a MultiOutputRegressor.
    random_state : int or None, default=0
        Seed of the two that descend by random mini-batches.
    torch_regressor : TorchLinearRegressor, default=None
        Used instead of `TorchLinearRegressor(random_state=random_state)`.

    Returns
    -------
    estimators : dict of str to estimator
        LinearRegression, Ridge, SGDRegressor behind a StandardScaler, and TorchLinearRegressor.
    """
    sgd = SGDRegressor(random_state=random_state)
    if n_targets > 1:
        sgd = MultiOutputRegressor(sgd)
    return {
        "LinearRegression": LinearRegression(),
        "Ridge": Ridge(),
        "SGDRegressor (scaled)": make_pipeline(StandardScaler(), sgd),
        "TorchLinearRegressor": torch_regressor or TorchLinearRegressor(random_state=random_state),
    }


def _check_data(X: Any, y: Any) -> tuple[np.ndarray | pd.DataFrame, np.ndarray]:
    """Return `X` as it is if it is a DataFrame, else as an array, and `y` as floats."""
    X, y = (to_numpy(part, name) if isinstance(part, torch.Tensor) else part for name, part in (("X", X), ("y", y)))
    targets = y.to_frame() if isinstance(y, pd.Series) else y
    if isinstance(targets, pd.DataFrame) and (bad := _bad_columns(targets)):
        raise ValueError(f"y is not numeric: {bad}. Regressions predict numbers: drop or mend these rows")
    if not isinstance(X, pd.DataFrame):
        X = check_array(X, dtype=None, ensure_all_finite=False, input_name="X")
    y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
    check_consistent_length(X, y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.ravel()
    return X, (y if y.dtype.kind == "f" else y.astype(np.float64))


def _bad_columns(X: np.ndarray | pd.DataFrame) -> str:
    """Return the names of the columns that linear models cannot use as they are; an empty string if there are none."""
    found = unusable(pd.DataFrame(X))
    not_numeric = [*found.get("text", ()), *found.get("dates", ())]
    groups = {"not numeric": not_numeric, **{kind: found[kind] for kind in found if kind not in {"text", "dates"}}}
    return "; ".join(f"{kind}: {', '.join(map(repr, names))}" for kind, names in groups.items() if names)


def _advice(refusal: str, bad: str) -> str:
    return (
        f"{refusal}; {bad}. Drop these columns, or put before the estimator, in a Pipeline, "
        "sklearn.preprocessing.OneHotEncoder for texts and sklearn.impute.SimpleImputer for NaN"
    )


def _reference(X: Any, y: np.ndarray) -> np.ndarray:
    return np.atleast_2d(LinearRegression().fit(X, y).coef_)


def _named(estimators: Mapping[str, BaseEstimator] | Iterable[BaseEstimator]) -> dict[str, BaseEstimator]:
    """Return the estimators by name: those given or, for a list, their classes, numbered if repeated."""
    if isinstance(estimators, BaseEstimator) or not isinstance(estimators, Iterable):
        raise TypeError(f"estimators must be a mapping of names or a list, not one {type(estimators).__name__}")
    if isinstance(estimators, Mapping):
        named = dict(estimators)
    else:
        named = {}
        for model in estimators:
            name, count = _class_name(model), 1
            while (unique := name if count == 1 else f"{name} ({count})") in named:
                count += 1
            named[unique] = model
    if not named:
        raise ValueError("estimators is empty: pass at least one, or None for the default ones")
    return named


def _class_name(model: Any) -> str:
    """Return the name of a class, or for a pipeline those of its steps, as `StandardScaler + SGDRegressor`."""
    if isinstance(model, Pipeline):
        return " + ".join(_class_name(step) for _, step in model.steps if step not in (None, "passthrough"))
    return type(model).__name__


def _timed(call: Any, *args: Any) -> tuple[Any, float]:
    start = perf_counter()
    result = call(*args)
    return result, perf_counter() - start


def _measure(estimator: BaseEstimator, split: list, reference: np.ndarray | None, n_repeats: int) -> list[float]:
    """Return one row of the table; without a reference, one is fitted to what the pipeline makes of `X`."""
    X_train, X_test, y_train, y_test = split
    fit_seconds, predict_seconds = [], []
    for _ in range(n_repeats):
        model, seconds = _timed(clone(estimator).fit, X_train, y_train)
        fit_seconds.append(seconds)
        test_prediction, seconds = _timed(model.predict, X_test)
        predict_seconds.append(seconds)
    train_prediction = np.asarray(model.predict(X_train))
    rows = X_train
    if reference is None:
        model, rows = _after_preparation(model, X_train)
    coef = _coefficients(model)
    if coef is not None and _explains(coef, rows, train_prediction):
        if reference is None:
            if rows is X_train:
                raise ValueError("it would convert texts or dates to numbers")
            reference = _reference(rows, y_train)
        difference = float(np.abs(coef - reference).max())
    else:
        difference = np.nan
    return [
        r2_score(y_train, train_prediction),
        r2_score(y_test, test_prediction),
        difference,
        median(fit_seconds),
        median(predict_seconds),
    ]


def _after_preparation(model: Any, X: Any) -> tuple[Any, Any]:
    """Return the steps of a pipeline after the last one that is no scaler, and their input."""
    model = getattr(model, "best_estimator_", model)
    if not isinstance(model, Pipeline):
        return model, X
    others = [number for number, (_, step) in enumerate(model.steps[:-1], 1) if _scale_factor(step) is None]
    count = max(others, default=0)
    return (model[count:], model[:count].transform(X)) if count else (model, X)


def _coefficients(model: Any) -> np.ndarray | None:
    """Return the coefficients (n_targets, n_features) of a model in the units of its input; None if not known."""
    model = getattr(model, "best_estimator_", model)
    if isinstance(model, MultiOutputRegressor):
        columns = [_coefficients(column) for column in model.estimators_]
        return None if any(coef is None for coef in columns) else np.vstack(columns)
    if isinstance(model, Pipeline):
        coef = _coefficients(model[-1])
        factors = [_scale_factor(step) for _, step in model.steps[:-1]]
        if coef is None or any(factor is None for factor in factors):
            return None
        return prod(factors, start=coef)
    coef = getattr(model, "coef_", None)
    return None if coef is None else np.atleast_2d(coef)


def _scale_factor(scaler: Any) -> np.ndarray | float | None:
    """Return what a scaler multiplies each feature by; None for any other transformer."""
    if scaler in (None, "passthrough"):
        return 1.0
    if isinstance(scaler, MinMaxScaler):
        return scaler.scale_
    if isinstance(scaler, (StandardScaler, MaxAbsScaler, RobustScaler)):
        return 1.0 if scaler.scale_ is None else 1 / scaler.scale_
    return None


def _explains(coef: np.ndarray, X: Any, prediction: np.ndarray) -> bool:
    """Whether the predictions are linear in `X` with `coef`, not, say, exponential (PoissonRegressor).

    The tolerance, a hundredth of the predictions' standard deviation, is wide enough for float32 and too narrow for any
    other link function.
    """
    try:
        X = X if issparse(X) else np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):  # texts that only the model can use
        return False
    prediction = prediction.reshape(X.shape[0], -1)
    if coef.shape != (prediction.shape[1], X.shape[1]):
        return False
    remainder = prediction - X @ coef.T
    rounding = 1e-6 * np.abs(prediction).max(axis=0)
    return bool(np.all(remainder.std(axis=0) <= 0.01 * prediction.std(axis=0) + rounding))
