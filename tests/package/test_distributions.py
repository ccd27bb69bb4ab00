"""The wheel and the source distribution: all that belongs in them, and nothing else."""

import re
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import hatchling.builders.sdist
import hatchling.builders.wheel
import pytest

import torchlinreg

ROOT = Path(__file__).parents[2]
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "torchlinreg").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


def build(builder, folder):
    (path,) = builder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with zipfile.ZipFile(build(hatchling.builders.wheel.WheelBuilder, tmp_path_factory.mktemp("wheel"))) as file:
        yield file


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    with tarfile.open(build(hatchling.builders.sdist.SdistBuilder, tmp_path_factory.mktemp("sdist"))) as file:
        yield file


def test_the_wheel_has_the_package_and_what_describes_it(wheel):
    described = f"torchlinreg-{torchlinreg.__version__}.dist-info"
    parts = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert {*wheel.namelist()} == PACKAGE | {f"{described}/{part}" for part in parts}
    metadata = message_from_bytes(wheel.read(f"{described}/METADATA"))
    assert metadata["Version"] == torchlinreg.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata.get_payload().startswith("# torchlinreg")


def test_the_source_distribution_can_be_built_and_tested_from(sdist):
    top = f"torchlinreg-{torchlinreg.__version__}/"
    names = {name.removeprefix(top) for name in sdist.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    needed = {".ci/run", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "constraints.txt", "pyproject.toml"}
    assert names >= PACKAGE | tests | needed
    caches = re.compile(r"(^|/)(__pycache__|\.[a-z]+_cache|\.venv|\.git|dist|_build|\.hypothesis|\.coverage)(/|$)")
    assert [name for name in names if caches.search(name) or name.endswith(".pyc")] == []
