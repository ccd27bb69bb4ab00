"""Linear regression by mini-batch SGD in PyTorch, at home in scikit-learn."""

from torchlinreg.comparison import compare
from torchlinreg.grid import TorchLinearRegressorCV
from torchlinreg.inference import bootstrap
from torchlinreg.regressor import TorchLinearRegressor

__all__ = ["TorchLinearRegressor", "TorchLinearRegressorCV", "__version__", "bootstrap", "compare"]
__version__ = "0.1.0"
