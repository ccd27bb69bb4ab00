"""What a user finds in the package by looking around."""

import importlib
import json
import pickle
import rlcompleter
import subprocess
import sys
from functools import cache

import pytest

import torchlinreg

SUBMODULES = {"callbacks", "datasets", "displays", "export", "inference", "losses", "schedules", "streams"}
PUBLIC = {"TorchLinearRegressor", "TorchLinearRegressorCV", "bootstrap", "compare", "merge"} | SUBMODULES
INTERNAL = ["analysis", "cli", "engine", "estimators", "inputs"]
DISPLAYS = {"CoefficientDisplay", "FitDisplay", "LossCurveDisplay", "LossSurfaceDisplay", "RegularizationPathDisplay"}

# What extras bring, and what users may have, is imported where it is used
OPTIONAL = {
    "dask",
    "distributed",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "polars",
    "pyarrow",
    "rich",
    "safetensors",
    "skl2onnx",
    "skops",
    "statsmodels",
}

LOOKS = {
    # First, as what others ask for stays loaded
    "what is not asked for": """
        import contextlib, sys, torch, sklearn, narwhals, pandas  # pandas imports pyarrow
        with contextlib.suppress(ImportError):
            import sklearn.callback  # imports rich
        before = {*sys.modules}
        import torchlinreg, torchlinreg.displays, torchlinreg.losses
        assert 'torchlinreg.cli' not in sys.modules
        import torchlinreg.callbacks, torchlinreg.datasets, torchlinreg.export, torchlinreg.inference
        import torchlinreg.schedules, torchlinreg.streams
        print(*{name.partition('.')[0] for name in {*sys.modules} - before})
    """,
    "displays wait": """
        import sys, torchlinreg
        print('torchlinreg.displays' in sys.modules)
        torchlinreg.displays.FitDisplay
    """,
    "star": """
        from torchlinreg import *
        print(*dir())
    """,
    **{
        name: f"""
        import torchlinreg
        module = torchlinreg.{name}
        print(module.__name__, module is torchlinreg.{name})
    """
        for name in sorted(SUBMODULES)
    },
    **{
        f"dir({name})": f"""
        import torchlinreg.cli, {name} as it
        print(*dir(it))
    """
        for name in ("torchlinreg", "torchlinreg.displays")
    },
}
EACH_ANEW = """
import contextlib, io, json, sys, textwrap
said = {}
for name, code in json.loads(sys.stdin.read()).items():
    for loaded in [each for each in sys.modules if each.partition(".")[0] == "torchlinreg"]:
        del sys.modules[loaded]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(textwrap.dedent(code), {})
    said[name] = out.getvalue()
print(json.dumps(said))
"""


@cache
def looks():
    """Return what each of `LOOKS` prints where nothing of the package has been imported yet, all in one process."""
    command = [sys.executable, "-W", "error", "-c", EACH_ANEW]
    done = subprocess.run(command, input=json.dumps(LOOKS), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without_dunders(names):
    return {name for name in names if not (name.startswith("__") and name.endswith("__"))}


@pytest.mark.parametrize(("name", "public"), [("torchlinreg", PUBLIC), ("torchlinreg.displays", DISPLAYS)])
def test_dir_lists_what_is_public(name, public):
    listed = looks()[f"dir({name})"].split()
    assert without_dunders(listed) == public
    assert {"__all__", "__doc__", "__name__", "__path__"} <= set(listed)
    assert listed == sorted(listed)
    assert set(importlib.import_module(name).__all__) - {"__version__"} == public


def test_version_is_listed():
    assert "__version__" in dir(torchlinreg)


def test_completion_offers_what_is_public():
    completer = rlcompleter.Completer({"torchlinreg": torchlinreg})
    offered = []
    while (text := completer.complete("torchlinreg.", len(offered))) is not None:
        offered.append(text)
    assert {text.removeprefix("torchlinreg.").rstrip("()") for text in offered} == PUBLIC


def test_star_import():
    names = looks()["star"].split()
    assert without_dunders(names) == PUBLIC
    assert "__version__" in names


@pytest.mark.parametrize("name", sorted(SUBMODULES))
def test_submodules_are_there_without_being_imported(name):
    assert looks()[name].split() == [f"torchlinreg.{name}", "True"]


def test_what_is_not_asked_for_is_not_imported():
    assert OPTIONAL.isdisjoint(looks()["what is not asked for"].split())


def test_displays_wait_until_they_are_asked_for():
    assert looks()["displays wait"].strip() == "False"


@pytest.mark.parametrize("name", INTERNAL)
def test_the_other_modules_can_be_imported(name):
    assert importlib.import_module(f"torchlinreg.{name}").__name__ == f"torchlinreg.{name}"


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'torchlinreg' has no attribute 'loses'"):
        torchlinreg.loses  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'loses' from 'torchlinreg'"):
        exec("from torchlinreg import loses")


def test_objects_are_found_again_by_pickle():
    for value in (torchlinreg.TorchLinearRegressor(loss=torchlinreg.losses.Huber(2.0)), torchlinreg.bootstrap):
        assert type(pickle.loads(pickle.dumps(value))) is type(value)
