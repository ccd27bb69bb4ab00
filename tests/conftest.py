"""Fixtures that every test file may use: the backends, the precisions and the devices at hand."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before SciPy is imported, or scikit-learn skips a check

import numpy as np
import pytest
import torch

from torchlinreg.engine.models import MODELS

ACCELERATOR = torch.accelerator.current_accelerator(check_available=True)
DEVICES = ["cpu"] if ACCELERATOR is None else ["cpu", ACCELERATOR.type]


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
