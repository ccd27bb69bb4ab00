"""Linear regressions side by side on one data set."""

import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression, Ridge, SGDRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils import check_scalar, check_X_y

from torchlinreg.regressor import TorchLinearRegressor

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
    wall-clock median of those fits, and of one prediction of the held-out rows after each of them; so with
    three repeats or more what a library does only on its first call counts for nobody. Scores and
    coefficients are those of the last fit.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n_samples, n_features)
        Numbers, none of them missing.
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

        - "R2 train", "R2 test": :func:`~sklearn.metrics.r2_score` on the training and the held-out rows,
          the mean over the targets if there are several;
        - "max |coef - LinearRegression|": largest absolute difference between its coefficients and those
          of a LinearRegression fitted on the same training rows, in units of `y` per unit of `X`. The
          coefficients of a pipeline of scalers and a linear model are brought to those units first; NaN
          for a model whose predictions are not linear in `X`, or that does not show its coefficients;
        - "fit seconds", "predict seconds".

    Warns
    -----
    Whatever the estimators warn of, once for each of them and with its name in front.

    Raises
    ------
    TypeError, ValueError
        If a column is not numeric (it is named), a value is missing, too few rows are left on a side of
        the split, or `estimators` holds none.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression, Ridge
    >>> from torchlinreg.comparison import compare
    >>> X, y = load_diabetes(return_X_y=True)
    >>> table = compare(X, y, [LinearRegression(), Ridge(alpha=0.1)])
    >>> table["R2 test"].round(2).to_dict()
    {'LinearRegression': 0.36, 'Ridge': 0.37}
    """
    check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
    X, y = _check_data(X, y)
    if estimators is None:
        estimators = default_estimators(1 if y.ndim == 1 else y.shape[1], random_state=random_state)
    else:
        estimators = _named(estimators)
    split = train_test_split(X, y, test_size=test_size, random_state=random_state)
    if len(split[1]) < 2:
        raise ValueError(
            f"R2 needs at least two held-out rows, and test_size={test_size} of {len(X)} rows leaves one: "
            "raise test_size or bring more rows"
        )
    X_train, _, y_train, _ = split
    reference = np.atleast_2d(LinearRegression().fit(X_train, y_train).coef_)
    rows = {}
    for name, model in estimators.items():
        with warnings.catch_warnings(record=True) as caught:
            rows[name] = _measure(model, split, reference, n_repeats)
        # Once for all repeats and targets, and with the name: most warnings do not tell who gives them.
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
    """Name the four regressors that :func:`compare` compares unless told otherwise.

    Parameters
    ----------
    n_targets : int, default=1
        Columns of `y`. SGDRegressor fits one, so for more it is wrapped in a MultiOutputRegressor.
    random_state : int or None, default=0
        Seed of the two that descend by random mini-batches.
    torch_regressor : TorchLinearRegressor, default=None
        Taken as it is in place of `TorchLinearRegressor(random_state=random_state)`.

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
    """Check that all is numeric and complete; keep a DataFrame `X`, for its names, and make `y` an array."""
    for table in (X, y):
        _refuse_text(table)
    checked_X, y = check_X_y(X, y, multi_output=True, y_numeric=True, estimator="compare")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.ravel()
    if y.dtype.kind != "f":
        y = y.astype(np.float64)
    return (X if isinstance(X, pd.DataFrame) else checked_X), y


def _refuse_text(table: Any) -> None:
    """Raise a ValueError that names the columns of a pandas object which hold no numbers."""
    columns = table.to_frame() if isinstance(table, pd.Series) else table
    if not isinstance(columns, pd.DataFrame):
        return
    text = [str(name) for name, dtype in columns.dtypes.items() if not is_numeric_dtype(dtype)]
    if text:
        raise ValueError(
            f"not numeric: {', '.join(map(repr, text))}. compare() takes numbers only: drop these columns, "
            "or encode them first, for example with pandas.get_dummies or sklearn.preprocessing.OneHotEncoder"
        )


def _named(estimators: Mapping[str, BaseEstimator] | Iterable[BaseEstimator]) -> dict[str, BaseEstimator]:
    """Name each estimator, after its class and a count where no name is given."""
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
    """Give `StandardScaler + SGDRegressor` for a pipeline and the class's name for anything else."""
    if isinstance(model, Pipeline):
        return " + ".join(_class_name(step) for _, step in model.steps if step not in (None, "passthrough"))
    return type(model).__name__


def _timed(call: Any, *args: Any) -> tuple[Any, float]:
    start = perf_counter()
    result = call(*args)
    return result, perf_counter() - start


def _measure(estimator: BaseEstimator, split: list, reference: np.ndarray, n_repeats: int) -> list[float]:
    """Fill one row of the table."""
    X_train, X_test, y_train, y_test = split
    fit_seconds, predict_seconds = [], []
    for _ in range(n_repeats):
        model, seconds = _timed(clone(estimator).fit, X_train, y_train)
        fit_seconds.append(seconds)
        test_prediction, seconds = _timed(model.predict, X_test)
        predict_seconds.append(seconds)
    train_prediction = np.asarray(model.predict(X_train))
    coef = _coefficients(model)
    if coef is not None and _explains(coef, X_train, train_prediction):
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


def _coefficients(model: Any) -> np.ndarray | None:
    """Coefficients (n_targets, n_features) of a fitted model for its own input's units; None if not known."""
    model = getattr(model, "best_estimator_", model)
    if isinstance(model, MultiOutputRegressor):
        columns = [_coefficients(column) for column in model.estimators_]
        return None if any(coef is None for coef in columns) else np.vstack(columns)
    if isinstance(model, Pipeline):
        coef = _coefficients(model[-1])
        factors = [_scale_factor(step) for _, step in model.steps[:-1]]
        if coef is None or any(factor is None for factor in factors):
            return None
        for factor in factors:
            coef = coef * factor
        return coef
    coef = getattr(model, "coef_", None)
    return None if coef is None else np.atleast_2d(coef)


def _scale_factor(scaler: Any) -> np.ndarray | float | None:
    """Give what one unit of each feature becomes after a scaler; None for any other transformer."""
    if scaler in (None, "passthrough"):
        return 1.0
    if isinstance(scaler, MinMaxScaler):
        return scaler.scale_
    if isinstance(scaler, (StandardScaler, MaxAbsScaler, RobustScaler)):
        return 1.0 if scaler.scale_ is None else 1 / scaler.scale_
    return None


def _explains(coef: np.ndarray, X: Any, prediction: np.ndarray) -> bool:
    """Whether the predictions are linear in `X` with `coef`, not, say, exponential (PoissonRegressor).

    The tolerance, a hundredth of the predictions' spread, is wide enough for float32 and far too narrow for
    any other link.
    """
    X = np.asarray(X, dtype=np.float64)
    prediction = prediction.reshape(len(X), -1)
    if coef.shape != (prediction.shape[1], X.shape[1]):
        return False
    remainder = prediction - X @ coef.T
    rounding = 1e-6 * np.abs(prediction).max(axis=0)
    return bool(np.all(remainder.std(axis=0) <= 0.01 * prediction.std(axis=0) + rounding))
