"""Public tables as they come, held-out rows: the estimator beside its twin of scikit-learn.

Tables ship with scikit-learn, statsmodels and vega_datasets. Numbers are raw, their gaps filled with the mean;
categories are full sets of indicators, none dropped, so that columns depend on each other. The twins are behind a
`StandardScaler`, ours is not. Five shuffled folds; the score is that of all rows, each predicted by the model that has
not seen it. Of long tables 3000 rows are drawn, since `QuantileRegressor` takes minutes for more.

The targets: no R² lower than the twin's by more than 0.01, no error of its own kind more than 1 % larger.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import HuberRegressor, LassoCV, LinearRegression, QuantileRegressor, RidgeCV
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, r2_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.timing import markdown_table
from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.losses import Quantile

N_FOLDS, QUICK_FOLDS = 5, 2
MOST_ROWS, QUICK_ROWS = 3000, 120
LOWER_R2, LARGER_ERROR = 0.01, 0.01  # targets
RIDGE_ALPHAS = np.logspace(-4, 6, 41)


@dataclass(frozen=True)
class Source:
    """A table of a package that may not be there.

    Parameters
    ----------
    package : str
    load : callable
        Returns features and target.
    categories : tuple of str
        The columns that are no quantities.
    """

    package: str
    load: Callable[[], tuple[pd.DataFrame, pd.Series]]
    categories: tuple[str, ...] = ()


def diabetes() -> tuple[pd.DataFrame, pd.Series]:
    """Progression of diabetes in 442 patients."""
    return load_diabetes(return_X_y=True, as_frame=True, scaled=False)


def from_statsmodels(name: str, target: str) -> tuple[pd.DataFrame, pd.Series]:
    """Load a table of `statsmodels.datasets`."""
    frame = importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return frame.drop(columns=target), frame[target]


def star98() -> tuple[pd.DataFrame, pd.Series]:
    """Share of the pupils above the median, in 303 districts of California."""
    X, above = from_statsmodels("star98", "NABOVE")
    return X.drop(columns="NBELOW"), 100 * above / (above + X["NBELOW"])


def cars() -> tuple[pd.DataFrame, pd.Series]:
    """Miles to the gallon of 398 cars."""
    raw = importlib.import_module("vega_datasets").local_data.cars.raw()
    frame = pd.read_json(io.BytesIO(raw)).dropna(subset="Miles_per_Gallon")  # its own reader uses what pandas gives up
    return frame.drop(columns=["Name", "Miles_per_Gallon"]), frame["Miles_per_Gallon"]


def seattle_weather() -> tuple[pd.DataFrame, pd.Series]:
    """Highest temperature of 1461 days."""
    frame = importlib.import_module("vega_datasets").local_data.seattle_weather()
    frame["month"] = frame.pop("date").dt.month
    return frame.drop(columns="temp_max"), frame["temp_max"]


SOURCES = {
    "diabetes": Source("sklearn", diabetes, ("sex",)),
    "fair": Source(
        "statsmodels",
        partial(from_statsmodels, "fair", "affairs"),
        ("rate_marriage", "religious", "occupation", "occupation_husb"),
    ),
    "star98": Source("statsmodels", star98),
    "randhie": Source("statsmodels", partial(from_statsmodels, "randhie", "mdvis"), ("idp", "hlthg", "hlthf", "hlthp")),
    "cars": Source("vega_datasets", cars, ("Cylinders", "Year", "Origin")),
    "seattle_weather": Source("vega_datasets", seattle_weather, ("month", "weather")),
}


def fit_both(ours, twin, X: np.ndarray, y: np.ndarray):
    """Fit ours, and the twin behind a `StandardScaler`."""
    return ours.fit(X, y), make_pipeline(StandardScaler(), twin).fit(X, y)


R2 = ("R²", r2_score)
# what ours is called -> function that fits ours and the twin, what to score them by
PAIRS: dict[str, tuple[Callable, tuple]] = {
    "TorchLinearRegressor()": (partial(fit_both, TorchLinearRegressor(), LinearRegression()), (R2,)),
    "TorchLinearRegressorCV()": (partial(fit_both, TorchLinearRegressorCV(), RidgeCV(RIDGE_ALPHAS)), (R2,)),
    'TorchLinearRegressorCV(penalty="l1")': (
        partial(fit_both, TorchLinearRegressorCV(penalty="l1"), LassoCV(max_iter=100_000)),
        (R2,),
    ),
    'loss="huber"': (
        partial(fit_both, TorchLinearRegressor(loss="huber"), HuberRegressor(alpha=0.0, max_iter=100_000)),
        (R2, ("absolute error", mean_absolute_error)),
    ),
} | {
    f"loss=Quantile({q})": (
        partial(fit_both, TorchLinearRegressor(loss=Quantile(q)), QuantileRegressor(quantile=q, alpha=0.0)),
        ((f"pinball loss at {q}", partial(mean_pinball_loss, alpha=q)),),
    )
    for q in (0.5, 0.9)
}


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to take a few rows and folds: to see that it runs, not to learn from it.
    """
    rows, missing = [], []
    for name, source in SOURCES.items():
        if importlib.util.find_spec(source.package) is None:
            missing.append(f"{name} is left out: it comes with {source.package}, which is not installed.")
        else:
            rows += table_rows(name, source, quick=quick)
    header = ("table", "", "score", "ours", "twin", "ours - twin", "target", "met")
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(header, rows), *missing])


def table_rows(name: str, source: Source, *, quick: bool) -> list[tuple]:
    """Return a row for each pair and score."""
    X, y = source.load()
    chosen = np.random.default_rng(0).permutation(len(y))[: QUICK_ROWS if quick else MOST_ROWS]
    X, y = X.iloc[chosen], y.iloc[chosen].to_numpy(dtype=float)
    predicted = predict_folds(X, y, source.categories, QUICK_FOLDS if quick else N_FOLDS)
    rows = []
    for pair, (ours, twin) in predicted.items():
        for label, score in PAIRS[pair][1]:
            rows.append(
                (f"{name}, {len(y)}×{X.shape[1]}", pair, label, *verdict(label, score(y, ours), score(y, twin)))
            )
    return rows


def predict_folds(X: pd.DataFrame, y: np.ndarray, categories: tuple[str, ...], n_folds: int) -> dict:
    """Return what each pair predicts for rows held out, by name."""
    predicted = {pair: (np.empty(len(y)), np.empty(len(y))) for pair in PAIRS}
    for train, test in KFold(n_folds, shuffle=True, random_state=0).split(X):
        encode = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(categories)),
            remainder=SimpleImputer(),
        )
        learnt, unseen = encode.fit_transform(X.iloc[train]), encode.transform(X.iloc[test])
        for pair, (fit, _) in PAIRS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                models = fit(learnt, y[train])
            for model, held_out in zip(models, predicted[pair], strict=True):
                held_out[test] = model.predict(unseen)
    return predicted


def verdict(label: str, ours: float, twin: float) -> tuple[str, ...]:
    """Return both scores, their difference, what it may be and whether it is."""
    if label == R2[0]:
        difference, met = f"{ours - twin:+.4f}", ours >= twin - LOWER_R2
        target = f"≥ -{LOWER_R2:g}"
    else:
        difference, met = f"{100 * (ours / twin - 1):+.2f} %", ours <= twin * (1 + LARGER_ERROR)
        target = f"≤ +{100 * LARGER_ERROR:g} %"
    return f"{ours:.4f}", f"{twin:.4f}", difference, target, "yes" if met else "**no**"
