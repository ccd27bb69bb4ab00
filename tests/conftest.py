"""Fixtures that every test file may use: the backends, the precisions and the devices at hand."""

import os
import sys

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before SciPy is imported, or scikit-learn skips a check
# Before torch is imported: threads that spin while they wait take the core from the one that they wait for, where
# others use the machine too; small tables were up to eight times slower then
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Processes that run tests at the same time share the cores
_processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _processes > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _processes)))

import numpy as np
import pytest
import sklearn
from sklearn.utils.fixes import parse_version

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.preconditioning import choose
from torchlinreg.engine.runtime.devices import current_accelerator

ACCELERATOR = current_accelerator(check_available=True)
DEVICES = ["cpu"] if ACCELERATOR is None else ["cpu", ACCELERATOR.type]
# What pretends changes the process for good: it is imported where a process was started for it alone
collect_ignore = ["support"]
if "pretended_device" not in sys.modules:
    collect_ignore.append("engine/runtime/on_pretended_device.py")
MODES = {"untuned": {}, "textbook": {"learning_rate": 0.005, "max_iter": 3}}


# For searches among a few alphas, made for something else than the choice: the best of few is often the first or last,
# which the estimator rightly warns of. test_paths.py hears when it does.
AT_AN_END = pytest.mark.filterwarnings("ignore:alpha_=.* is the (smallest|largest) of:UserWarning")


def needs_scikit_learn(version: str, reason: str):
    """Return a mark for what an older scikit-learn has not got; what is skipped is reported with the reason."""
    return pytest.mark.skipif(parse_version(sklearn.__version__) < parse_version(version), reason=reason)


NEEDS_CALLBACKS = needs_scikit_learn("1.9", "scikit-learn before 1.9 has no callbacks")


@pytest.fixture(params=sorted(MODELS))
def backend(request) -> str:
    """Return each backend in turn."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request) -> str:
    """Return each precision in turn."""
    return request.param


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.gpu] * (name != "cpu")) for name in DEVICES])
def device(request) -> str:
    """Return each device of this machine in turn."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(20240)


@pytest.fixture(params=MODES)
def mode(request) -> dict:
    """Return parameters of each way of working."""
    return {"random_state": 0, **MODES[request.param]}


@pytest.fixture
def model(mode, backend) -> TorchLinearRegressor:
    """Return an unfitted estimator of each mode and backend."""
    return TorchLinearRegressor(backend=backend, **mode)


def penalised(penalty: str | None, alpha) -> dict:
    """Return parameters of the estimator: an alpha without a penalty would be warned of."""
    return {"penalty": penalty} if penalty is None else {"penalty": penalty, "alpha": alpha}


@pytest.fixture
def table(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features of several sizes, two targets, and sample weights."""
    X = rng.normal(size=(60, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, 1]
    return X, X @ rng.normal(size=(4, 2)) + rng.normal(size=(60, 2)), rng.uniform(0, 2, 60)


@pytest.fixture
def large_table(rng, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Return a table that is sketched, though it is not that large."""
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X = rng.normal(size=(4_000, 5)).astype("float32")
    return X, X @ rng.normal(size=5) + rng.normal(size=4_000)


@pytest.fixture
def pyplot():
    """Return pyplot without a screen, and leave no figure open."""
    import matplotlib as mpl  # noqa: PLC0415
    import matplotlib.pyplot as plt  # noqa: PLC0415

    before = mpl.get_backend()
    mpl.use("agg")
    yield plt
    plt.close("all")
    mpl.use(before)
