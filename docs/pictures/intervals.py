"""Coefficients of the diabetes table with their bootstrap intervals, in standard deviations of the columns."""

from sklearn.datasets import load_diabetes

from torchlinreg import TorchLinearRegressor
from torchlinreg.displays import CoefficientDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
display = CoefficientDisplay.from_estimator(
    TorchLinearRegressor(), X, y, n_resamples=500, random_state=0, standardize=True, sort=True
)
