"""The programs in `examples/scaling` run, and find what one fit in memory finds; those for Ray and Spark by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "scaling"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_models"), [("torchrun_fit", 2), ("dask_fit", 1)])
def test_programs_for_several_processes(name, n_models):
    command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("predictions differ from one fit by") == n_models


def test_programs_are_short():
    programs = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert {*programs} == {"dask_fit", "ray_fit", "spark_fit", "torchrun_fit"}
    assert max(text.count("\n") for text in programs.values()) <= 60
