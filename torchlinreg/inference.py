"""Standard errors, tests and confidence intervals of coefficients."""

from torchlinreg.analysis.bootstrap import bootstrap
from torchlinreg.analysis.inference import summary

__all__ = ["bootstrap", "summary"]
