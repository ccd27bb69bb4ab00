"""The pictures of displays.md, a function each, on the data of that page."""

import numpy as np
import pandas as pd

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.displays import (
    CoefficientDisplay,
    FitDisplay,
    LossCurveDisplay,
    LossSurfaceDisplay,
    RegularizationPathDisplay,
)
from torchlinreg.losses import Quantile

rng = np.random.default_rng(0)
X = pd.DataFrame({"mass (kg)": rng.uniform(40, 90, 200), "age (years)": rng.uniform(20, 60, 200)})
y = pd.Series(0.4 * X["mass (kg)"] - 0.1 * X["age (years)"] + rng.normal(0, 3, 200), name="strength (N)")
mass = X[["mass (kg)"]]
textbook = TorchLinearRegressor(learning_rate=1e-4, max_iter=30, tol=None, random_state=0)


def draw_fit():
    """Draw the median with a band."""
    median, lower, upper = (TorchLinearRegressor(loss=Quantile(q)).fit(mass, y) for q in (0.5, 0.05, 0.95))
    FitDisplay.from_estimator(median, mass, y, band=(lower, upper))


def draw_loss_curve():
    """Draw the loss of each epoch, and the scores."""
    LossCurveDisplay.from_estimator(textbook.set_params(early_stopping=True).fit(X, y))


def draw_parabola():
    """Draw the objective along one coefficient."""
    descent = TorchLinearRegressor(learning_rate=1e-4, batch_size="full", max_iter=15, tol=None, fit_intercept=False)
    LossSurfaceDisplay.from_estimator(descent.fit(mass, y), mass, y, path="fit")


def draw_surface():
    """Draw the objective along two coefficients."""
    fitted = textbook.set_params(early_stopping=False).fit(X, y)
    LossSurfaceDisplay.from_estimator(fitted, X, y, features=[0, 1], path="fit")


def draw_coefficients():
    """Draw coefficients with their intervals."""
    CoefficientDisplay.from_estimator(TorchLinearRegressor(), X, y, random_state=0, standardize=True)


def draw_path():
    """Draw coefficients along a path of penalties."""
    RegularizationPathDisplay.from_estimator(TorchLinearRegressorCV(penalty="l1").fit(X, y))
