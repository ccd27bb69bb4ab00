"""What a process may be set to, and all that a library could disturb of it."""

import os
import pickle
import random
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import sklearn
import torch

MODES = {
    "untuned": {},
    "textbook": {"learning_rate": 0.005, "max_iter": 3},
    "adam": {"learning_rate": 0.005, "max_iter": 3, "optimizer": "adam"},
}


def process_state(*, numpy_random=True):
    """Everything global that a library could disturb."""
    return {
        "torch's generator": torch.random.get_rng_state().numpy().tobytes(),
        "NumPy's generator": pickle.dumps(np.random.get_state()) if numpy_random else None,  # noqa: NPY002
        "Python's generator": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "anomaly mode": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "precision of products": precisions(),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "warnings": list(warnings.filters),
        "NumPy's errors": np.geterr(),
        "scikit-learn": sklearn.get_config(),
        "environment": dict(os.environ),
    }


@contextmanager
def switched(get, switch, value):
    """Flip one of torch's switches for a while."""
    found = get()
    switch(value)
    try:
        yield
    finally:
        switch(found)


NEW_SWITCHES = hasattr(torch.backends, "fp32_precision")  # from torch 2.9 on
PRODUCTS = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul] if NEW_SWITCHES else []


def precisions():
    """What float32 products are rounded to, by each switch; the old one refuses to say where others contradict it."""
    try:
        found = [torch.get_float32_matmul_precision()]
    except RuntimeError:
        found = ["contradicted"]
    if NEW_SWITCHES:
        others = torch.backends, torch.backends.mkldnn, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
        found += [switch.fp32_precision for switch in (*others, *PRODUCTS)]
    return found


@contextmanager
def precision(value=None, **of_switches):
    """Set the old switch, and after it the new ones: of all backends, of CUDA's products and of those of the CPU."""
    if value is not None:
        torch.set_float32_matmul_precision(value)
    switches = dict(zip(("every", "cuda", "cpu"), (torch.backends, *PRODUCTS), strict=NEW_SWITCHES))
    for name, new in of_switches.items():
        switches[name].fp32_precision = new
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        for switch in switches.values() if NEW_SWITCHES else ():
            switch.fp32_precision = "none"


SWITCHED = {
    "precision high": {"value": "high"},
    "precision medium": {"value": "medium"},
}
if NEW_SWITCHES:
    SWITCHED |= {
        "TF32 of CUDA": {"cuda": "tf32"},
        "TF32 of the CPU": {"cpu": "tf32"},
        "bfloat16 of the CPU": {"cpu": "bf16"},
        "TF32 of every backend": {"every": "tf32"},
        "bfloat16 of every backend": {"every": "bf16"},
        "TF32 of every backend, CUDA apart": {"every": "tf32", "cuda": "ieee"},
        "high, CUDA apart": {"value": "high", "cuda": "ieee"},
        "high, both apart": {"value": "high", "cuda": "ieee", "cpu": "ieee"},
        "highest, CUDA apart": {"value": "highest", "cuda": "tf32"},
        "medium, the CPU apart": {"value": "medium", "cpu": "tf32"},
    }


SURROUNDINGS = {
    "as found": nullcontext,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype float64": lambda: switched(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "default dtype bfloat16": lambda: switched(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "default device meta": lambda: torch.device("meta"),  # where whatever strays there is missed
    **{name: partial(precision, **switches) for name, switches in SWITCHED.items()},
    "deterministic": lambda: switched(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "anomaly mode": lambda: switched(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, True),
    "warnings ignored": lambda: warnings.catch_warnings(action="ignore"),
    "NumPy raises": lambda: np.errstate(all="raise"),
    "pandas output": lambda: sklearn.config_context(transform_output="pandas", assume_finite=True),
}
