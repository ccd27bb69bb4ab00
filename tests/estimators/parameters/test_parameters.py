"""The parameters of both estimators: documented and constrained once, refused and passed on alike."""

import re
import subprocess
import sys
from inspect import Parameter, signature

import numpy as np
import pytest
from conftest import AT_AN_END

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.estimators.parameters.constraints import SHARED_CONSTRAINTS, SHARED_DOCS, fill_docstring
from torchlinreg.estimators.parameters.values import Parameters

BOTH = pytest.mark.parametrize("cls", [TorchLinearRegressor, TorchLinearRegressorCV])


def documented(cls):
    """Return the parameters that a class documents, in order, with the type and the text of each."""
    section = re.search(r"Parameters\n *-+\n(.*?)\n *\n *Attributes\n", cls.__doc__, re.DOTALL)[1]
    entries = re.split(r"^ {0,4}(?=\w)", section, flags=re.MULTILINE)[1:]
    return {entry.partition(" : ")[0]: entry.partition(" : ")[2] for entry in entries}


@BOTH
def test_every_parameter_is_documented_and_constrained(cls):
    names = list(signature(cls).parameters)
    assert sorted(documented(cls)) == sorted(names) == sorted(cls._parameter_constraints)
    assert all(text.count("\n") >= 1 for text in documented(cls).values())
    assert "%(" not in cls.__doc__


@BOTH
def test_defaults_are_documented(cls):
    for name, parameter in signature(cls).parameters.items():
        assert parameter.kind == Parameter.KEYWORD_ONLY
        default = f'"{parameter.default}"' if isinstance(parameter.default, str) else parameter.default
        assert f"default={default}" in documented(cls)[name], name


def test_what_is_shared_reads_the_same():
    one, other = documented(TorchLinearRegressor), documented(TorchLinearRegressorCV)
    assert set(SHARED_DOCS) <= set(SHARED_CONSTRAINTS)
    for name in SHARED_DOCS:
        assert one[name].startswith(other[name].strip()), name


@pytest.mark.parametrize("margin", ["", "    "])
def test_docstrings_are_filled_whether_or_not_they_are_indented(margin):
    cls = type("Model", (), {"__doc__": f"Sum.\n\n{margin}%(max_iter)s\n{margin}%(shuffle)s\n{margin}100 %(of)s it"})
    lines = fill_docstring(cls).__doc__.splitlines()
    assert lines[2:4] == [f"{margin}max_iter : int, default=1000", f"{margin}    Epochs at most."]
    assert lines[-1] == f"{margin}100 %(of)s it"


def test_the_package_can_be_imported_without_docstrings():
    code = (
        "from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV\n"
        "from torchlinreg.displays import FitDisplay\n"
        "print(*(it.__doc__ for it in (TorchLinearRegressor, TorchLinearRegressorCV, FitDisplay, FitDisplay.plot)))"
    )
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None"] * 4


def test_parameters_are_frozen_and_know_the_mode():
    untuned = Parameters.of(TorchLinearRegressor())
    assert untuned.is_untuned
    assert not Parameters.of(TorchLinearRegressor(learning_rate=0.1)).is_untuned
    with pytest.raises(AttributeError):
        untuned.learning_rate = 0.1
    assert list(signature(TorchLinearRegressor).parameters) == [*Parameters.__dataclass_fields__]


# positive


@BOTH
def test_positive_is_a_boolean(cls):
    with pytest.raises(ValueError, match="'positive' parameter"):
        cls(positive="yes").fit([[1.0], [2.0]], [1.0, 2.0])


@pytest.fixture
def data(rng):
    X = rng.normal(size=(200, 5)) + 1.0
    return X, X @ [1.0, -2.0, 0.5, 0.0, -0.1] - 3.0 + 0.1 * rng.normal(size=200)


def test_positive_refuses_whitening(data):
    with pytest.raises(ValueError, match=r"positive=True.*use conditioning=\"scale\""):
        TorchLinearRegressor(positive=True, conditioning="whiten").fit(*data)


@pytest.mark.parametrize("backend", ["analytic", "autograd", "linear"])
def test_positive_steps(data, backend):
    model = TorchLinearRegressor(learning_rate=0.01, max_iter=20, positive=True, backend=backend).fit(*data)
    assert (model.coef_ >= 0).all()
    assert (model.coef_ == 0).any()
    assert (model.partial_fit(*data).coef_ >= 0).all()


@AT_AN_END
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_positive_holds_for_every_alpha(data, penalty):
    model = TorchLinearRegressorCV(penalty=penalty, positive=True, alphas=20, cv=3).fit(*data)
    assert (model.coef_path_ >= 0).all()
    assert not np.isnan(model.cv_results_["mean_test_score"]).any()
