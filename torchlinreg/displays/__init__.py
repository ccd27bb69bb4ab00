"""Plots as scikit-learn's Display classes: the constructor stores numbers, `plot` draws them.

Imports: analysis, inputs.
"""

from torchlinreg.displays.coefficients import CoefficientDisplay
from torchlinreg.displays.fit import FitDisplay
from torchlinreg.displays.loss_curve import LossCurveDisplay
from torchlinreg.displays.loss_surface import LossSurfaceDisplay
from torchlinreg.displays.path import RegularizationPathDisplay

__all__ = ["CoefficientDisplay", "FitDisplay", "LossCurveDisplay", "LossSurfaceDisplay", "RegularizationPathDisplay"]


def __dir__() -> list[str]:
    """List the public names, without the modules that define them."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
