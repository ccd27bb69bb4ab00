"""The command line: ``torchlinreg`` or ``python -m torchlinreg``.

Imports: displays, analysis, estimators, inputs.
"""

from torchlinreg.cli.program import main

__all__ = ["main"]
