"""scikit-learn's own checks, for each backend, with nothing expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.models import MODELS


@parametrize_with_checks([TorchLinearRegressor(backend=name) for name in ("auto", *MODELS)])
def test_check_estimator(estimator, check):
    check(estimator)
