"""scikit-learn's own checks, for every backend, loss and penalty, modes and grids, with nothing expected to fail."""

import pytest
from conftest import AT_AN_END
from sklearn.utils.estimator_checks import parametrize_with_checks

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES

# The checks want raw columns in the hundreds to be learnt from as well as scaled ones: one rate suits all of them
# where columns are brought to one scale, and a small one with much momentum where they are not.
SCALED = {"learning_rate": 0.1, "max_iter": 50, "batch_size": "full", "conditioning": "scale"}
PLAIN = {"learning_rate": 1e-4, "max_iter": 700, "batch_size": "full", "momentum": 0.9}

UNTUNED = [
    *({"backend": backend} for backend in ("auto", *MODELS)),
    *({"loss": loss} for loss in LOSSES if loss != "squared_error"),
    *({"penalty": penalty, "backend": backend} for penalty in PENALTIES for backend in MODELS),
]
TEXTBOOK = [
    PLAIN,
    *({**SCALED, "backend": backend} for backend in MODELS),
    *({**SCALED, "loss": loss} for loss in LOSSES if loss != "squared_error"),
    *({**SCALED, "penalty": penalty} for penalty in PENALTIES),
]
GRIDS = [
    {"alphas": 5, "cv": 3},
    {"alphas": 5, "cv": 3, "penalty": "l1"},
    {"alphas": [0.1, 1e-3], "cv": 3, "learning_rates": [0.1, 0.05]}
    | {name: value for name, value in SCALED.items() if name != "learning_rate"},
]


# Some of the checks set an alpha of 0.01 whatever the penalty, and a few alphas are not many to choose from: both are
# what the estimators warn of
@pytest.mark.filterwarnings("ignore:alpha=0.01 has no effect with penalty=None:UserWarning")
@AT_AN_END
@parametrize_with_checks(
    [TorchLinearRegressor(**parameters) for parameters in (*UNTUNED, *TEXTBOOK)]
    + [TorchLinearRegressorCV(**parameters) for parameters in GRIDS]
)
def test_check_estimator(estimator, check):
    check(estimator)
