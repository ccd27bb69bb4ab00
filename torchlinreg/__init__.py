"""Linear regression by mini-batch SGD in PyTorch, at home in scikit-learn."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from torchlinreg.analysis.bootstrap import bootstrap
from torchlinreg.analysis.compare import compare
from torchlinreg.analysis.merge import merge
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.regressor_cv import TorchLinearRegressorCV

if TYPE_CHECKING:
    from torchlinreg import callbacks, datasets, displays, export, inference, losses, schedules, streams

__version__ = "0.2.0"

_SUBMODULES = ["callbacks", "datasets", "displays", "export", "inference", "losses", "schedules", "streams"]
__all__ = [
    "TorchLinearRegressor",
    "TorchLinearRegressorCV",
    "__version__",
    "bootstrap",
    "callbacks",
    "compare",
    "datasets",
    "displays",
    "export",
    "inference",
    "losses",
    "merge",
    "schedules",
    "streams",
]


def __dir__() -> list[str]:
    """List what is public, and not the other modules that were imported on the way."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> ModuleType:
    """Import a public submodule when it is first asked for."""
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
