"""The command line: ``torchlinreg`` or ``python -m torchlinreg``.

Imports: everything else.
"""

from torchlinreg.cli.program import main

__all__ = ["main"]
