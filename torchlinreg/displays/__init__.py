"""Pictures, in scikit-learn's Display convention: the constructor stores numbers, `plot` draws them."""

from torchlinreg.displays.coefficients import CoefficientDisplay
from torchlinreg.displays.fit import FitDisplay, LossCurveDisplay
from torchlinreg.displays.path import RegularizationPathDisplay

__all__ = ["CoefficientDisplay", "FitDisplay", "LossCurveDisplay", "RegularizationPathDisplay"]


def __dir__() -> list[str]:
    """List what is public, and not the modules that it comes from."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
