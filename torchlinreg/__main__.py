"""Make `python -m torchlinreg` the command `torchlinreg`."""

import sys

from torchlinreg.cli import main

sys.exit(main())
