"""The lasso's path on the diabetes table, scaled as scikit-learn ships it."""

from sklearn.datasets import load_diabetes

from torchlinreg import TorchLinearRegressorCV
from torchlinreg.displays import RegularizationPathDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True)
display = RegularizationPathDisplay.from_estimator(TorchLinearRegressorCV(penalty="l1").fit(X, y))
display.figure_.set_size_inches(7, 4)
