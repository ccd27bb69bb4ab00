"""What ships, and whether the documentation's own code runs."""

import importlib.metadata
import importlib.resources
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

import torchlinreg

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOWEST_EXTRAS = ["plot", "parquet", "progress", "scaling", "export", "dask", "bench", "test"]
COMMUNITY = ["CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", ".pre-commit-config.yaml"]
TEMPLATES = [".github/ISSUE_TEMPLATE/bug_report.yml", ".github/ISSUE_TEMPLATE/feature_request.yml"]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_names(requirements):
    return {canonical(re.match(r"[\w.-]+", line).group()) for line in requirements}


def project_files():
    """Text files that belong to the project; walked, so that it works without git too."""
    text = {"", ".cff", ".csv", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in text - {""})
    for folder in (".ci", ".github", "torchlinreg", "tests", "docs", "benchmarks", "examples"):
        paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and not is_built(path))
        yield from (path for path in paths if path.suffix in text)


def is_built(path):
    """Whether building the documentation made this file."""
    return any(ROOT / "docs" / folder in path.parents for folder in ("_build", "auto"))


def documented_code(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


PAGES_WITH_CODE = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
PAGES_WITH_CODE = [name for name in PAGES_WITH_CODE if documented_code(name)]


def test_there_is_one_version():
    assert PROJECT["dynamic"] == ["version"]
    assert torchlinreg.__version__ == importlib.metadata.version("torchlinreg")
    assert f"\nversion: {torchlinreg.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    released = re.search(r"^## \[(\d[^\]]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert released[1] == torchlinreg.__version__
    assert f'date-released: "{released[2]}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*COMMUNITY, *TEMPLATES])
def test_contributors_find_their_way(name):
    assert (ROOT / name).read_text(encoding="utf-8").strip()


def test_type_hints_are_announced():
    assert importlib.resources.files("torchlinreg").joinpath("py.typed").is_file()


def test_every_requirement_is_pinned_once():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    names = [canonical(name) for name, _ in pins]
    assert len(names) == len(set(names))
    asked = requirement_names(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        asked |= requirement_names(extra)
    assert asked - {"torchlinreg"} <= set(names)


def test_the_lowest_versions_are_those_that_are_tried():
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for extra in LOWEST_EXTRAS for line in extras[extra])]
    floors = dict(line.split(">=") for line in asked if not line.startswith("torchlinreg["))
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {canonical(name.partition("[")[0]): Version(floor) for name, floor in floors.items()} == {
        name: Version(version) for name, version in tried.items() if name != "pyparsing"
    }


@pytest.mark.parametrize("name", torchlinreg.__all__)
def test_public_names_exist_and_are_documented(name):
    public = getattr(torchlinreg, name)
    if name != "__version__":
        assert public.__doc__
        assert public.__doc__.strip()


def test_the_gallery_is_short_programs():
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "examples" / "gallery").glob("*.py")}
    assert len(lengths) >= 8
    assert max(lengths.values()) < 40, lengths


def test_every_public_name_is_in_the_reference():
    named = set(re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    public = {name for name in torchlinreg.__all__ if name != "__version__"}
    modules = {name for name in public if isinstance(getattr(torchlinreg, name), ModuleType)}
    within = {name for module in modules for name in getattr(torchlinreg, module).__all__}
    assert named == public - modules | within


def test_no_file_names_a_path_of_some_machine():
    path_of_a_machine = re.compile(r"(?<![\w.])/(?:root|home|Users|work|tmp)/\w|[A-Z]:\\{1,2}Users")
    texts = {path: path.read_text(encoding="utf-8") for path in project_files()}
    assert ROOT / ".ci" / "run" in texts
    assert [str(path) for path, text in texts.items() if path_of_a_machine.search(text)] == []


def test_continuous_integration_finds_the_commands_of_the_readme():
    run = subprocess.run(["bash", ".ci/run", "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    compare, tests = run.stdout.splitlines()
    assert compare.endswith("torchlinreg compare")
    assert tests.endswith("pytest")
    for command in (compare, tests):
        assert command in (ROOT / "README.md").read_text(encoding="utf-8")
        assert "-m venv .venv && " in command
        assert "-c constraints.txt" in command


def test_a_users_whole_path_takes_less_than_20_lines():
    _, here, elsewhere, _ = documented_code("docs/start.md")  # after the block that makes a CSV
    assert sum(map(bool, (here + elsewhere).splitlines())) < 20


@pytest.mark.parametrize("name", PAGES_WITH_CODE)
def test_documented_code_runs(name, tmp_path, monkeypatch, pyplot):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in documented_code(name):
        exec(compile(block, name, "exec"), namespace)
