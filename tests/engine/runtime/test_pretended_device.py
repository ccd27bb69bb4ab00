"""Every way of training on a device that is only pretended, so that it is tried where there is no GPU.

Pretending changes the process for good, so that these tests run in one of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.utils.backend_registration

TESTS = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
        reason="torch before 2.10 lets no backend be written in Python",
    ),
]


ON_IT = "engine/runtime/on_pretended_device.py"
MARKED = ["inputs/test_tensors.py", "estimators/candidates/test_grid_citizen.py"]
PARTS = {
    "fits": [ON_IT, "-k", "test_fits"],
    "rest": [ON_IT, "-k", "not test_fits"],
    # Lazily negated and COO tensors are what it has not got
    "marked": [
        "inputs/test_tensors.py",
        "estimators/candidates/test_grid_citizen.py",
        "-m",
        "gpu",
        "-k",
        "not layout and not sparse",
    ],
}


@pytest.mark.parametrize("part", PARTS)
def test_on_a_pretended_device(part):
    path = os.pathsep.join([str(TESTS / "support"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "pretended_device", *PARTS[part]],
        cwd=TESTS,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
