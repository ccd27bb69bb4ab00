"""Pictures, in scikit-learn's Display convention: the constructor stores numbers, `plot` draws them."""

from torchlinreg.displays.coefficients import CoefficientDisplay
from torchlinreg.displays.fit import FitDisplay, LossCurveDisplay
from torchlinreg.displays.path import RegularizationPathDisplay

__all__ = ["CoefficientDisplay", "FitDisplay", "LossCurveDisplay", "RegularizationPathDisplay"]
