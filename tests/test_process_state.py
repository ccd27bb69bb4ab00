"""The process is left as found, what the process is set to does not matter, and the data are only read."""

import os
import pickle
import random
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine import conditioning, fitting

MODES = {
    "untuned": {},
    "textbook": {"learning_rate": 0.005, "max_iter": 3},
    "adam": {"learning_rate": 0.005, "max_iter": 3, "optimizer": "adam"},
}


@pytest.fixture(params=MODES)
def mode(request):
    """Return parameters of each way of working, with an optimiser of torch as well."""
    return {"random_state": 0, **MODES[request.param]}


@pytest.fixture
def large_table(rng, monkeypatch):
    """A table that is sketched, though it is not that large."""
    monkeypatch.setattr(conditioning, "EXACT_ELEMENTS", 0)
    X = rng.normal(size=(4_000, 5)).astype("float32")
    return X, X @ rng.normal(size=5) + rng.normal(size=4_000)


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


PRODUCTS = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
NEW_SWITCHES = hasattr(torch.backends, "fp32_precision")


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
    switches = dict(zip(("every", "cuda", "cpu"), (torch.backends, *PRODUCTS), strict=True))
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


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_surroundings_are_left_alone_and_do_not_matter(model, table, dtype, surroundings):
    X, y, weight = (part.astype(dtype) for part in table)
    expected = model.fit(X, y, sample_weight=weight).coef_
    predicted = model.predict(X)
    with SURROUNDINGS[surroundings]():
        before = process_state()
        model.fit(X, y, sample_weight=weight)
        again = model.predict(X)
        model.score(X, y)
        assert process_state() == before
    assert_array_equal(model.coef_, expected)
    assert_array_equal(again, predicted)


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_predictions_for_tensors_in_any_surroundings(mode, table, surroundings):
    X, y, weight = (torch.tensor(part, dtype=torch.float32) for part in table)
    model = TorchLinearRegressor(**mode).fit(X, y, weight)
    expected = model.predict(X), model.score(X, y, weight)
    with SURROUNDINGS[surroundings]():
        before = process_state()
        found = model.predict(X), model.score(X, y, weight)
        assert process_state() == before
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], expected[0])
    assert found[1] == expected[1]


@pytest.mark.parametrize("surroundings", ["as found", "autocast", "default device meta", "inference_mode"])
def test_sparse_table_in_any_surroundings(model, table, surroundings):
    X, y, _ = table
    X = sparse.csr_array(np.where(np.abs(X) > 1, X, 0.0))
    expected = model.fit(X, y).coef_
    with SURROUNDINGS[surroundings]():
        model.fit(X, y)
    assert_array_equal(model.coef_, expected)


@pytest.mark.parametrize(
    ("backend", "optimizer", "what"),
    [
        ("linear", "sgd", "fit(X, y)"),
        ("analytic", "adam", "fit(X, y)"),
        ("analytic", "sgd", "fit(X, y).to_module()"),
        ("analytic", "sgd", "fit(scipy.sparse.csr_array(X), y)"),
    ],
)
def test_first_fit_of_a_process_leaves_it_as_found(backend, optimizer, what):
    """Later ones would not show it: what is loaded once stays."""
    program = f"""
import warnings
import numpy as np
import scipy.sparse
from torchlinreg import TorchLinearRegressor
X, y = np.eye(3), np.arange(3.0)
before = list(warnings.filters)
TorchLinearRegressor(backend={backend!r}, optimizer={optimizer!r}, learning_rate=0.1, max_iter=1).{what}
assert warnings.filters == before, [new for new in warnings.filters if new not in before]
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_large_table_in_any_surroundings(backend, large_table, surroundings):
    X, y = large_table
    model = TorchLinearRegressor(backend=backend, random_state=0)
    expected = model.fit(X, y).coef_
    with SURROUNDINGS[surroundings]():
        before = process_state()
        model.fit(X, y)
        assert process_state() == before
    assert_array_equal(model.coef_, expected)


@pytest.mark.parametrize("seed", [0, None])
def test_torch_is_not_asked_for_random_numbers(backend, table, seed):
    """Without a seed NumPy's generator is drawn from, as scikit-learn has it; torch's and Python's are not."""
    X, y, _ = table
    before = process_state(numpy_random=seed is not None)
    for parameters in MODES.values():
        TorchLinearRegressor(backend=backend, random_state=seed, **parameters).fit(X, y)
    assert process_state(numpy_random=seed is not None) == before


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_number_of_threads_is_kept(model, table, n_threads):
    X, y, _ = table
    expected = model.fit(X, y).coef_
    with switched(torch.get_num_threads, torch.set_num_threads, n_threads):
        model.fit(X, y)
        assert torch.get_num_threads() == n_threads
    assert_allclose(model.coef_, expected, rtol=1e-12)


class Threads:
    """A loss that notes how many threads torch may use while it is computed, and can fail."""

    def __init__(self, error=None):
        self.seen, self.error = set(), error

    def __call__(self, predicted, y):
        self.seen.add(torch.get_num_threads())
        if self.error is not None:
            raise self.error
        return (predicted - y).square().mean()


@pytest.mark.parametrize("parameters", [{}, {"learning_rate": 0.005, "max_iter": 3}], ids=["untuned", "textbook"])
def test_small_tables_are_learnt_from_on_one_thread(table, monkeypatch, parameters):
    X, y, _ = table
    small, large = Threads(), Threads()
    with switched(torch.get_num_threads, torch.set_num_threads, 3):
        TorchLinearRegressor(loss=small, random_state=0, **parameters).fit(X, y)
        monkeypatch.setattr(fitting, "ONE_THREAD_ELEMENTS", 0)
        TorchLinearRegressor(loss=large, random_state=0, **parameters).fit(X, y)
    assert (small.seen, large.seen) == ({1}, {3})


def test_one_thread_is_for_few_operations_only(table, monkeypatch):
    X, y, _ = table  # 60 rows of 4 features, and 2 targets
    for operations, expected in ((60 * 4 * 4 * 2, 1), (60 * 4 * 4 * 2 - 1, 3)):
        monkeypatch.setattr(fitting, "ONE_THREAD_OPERATIONS", operations)
        loss = Threads()
        with switched(torch.get_num_threads, torch.set_num_threads, 3):
            TorchLinearRegressor(loss=loss, learning_rate=0.005, max_iter=3).fit(X, y)
        assert loss.seen == {expected}


def test_number_of_threads_is_kept_after_an_error(table):
    X, y, _ = table
    loss = Threads(KeyError("no more"))
    with switched(torch.get_num_threads, torch.set_num_threads, 3):
        with pytest.raises(KeyError, match="no more"):
            TorchLinearRegressor(loss=loss, learning_rate=0.005).fit(X, y)
        assert torch.get_num_threads() == 3
    assert loss.seen == {1}


def test_number_of_threads_is_kept_while_several_fit(table):
    """Each thread has a number of its own: a thread that fits first of all its life, one with another number, ..."""
    X, y, _ = table
    losses = [Threads() for _ in range(8)]
    together = threading.Barrier(len(losses))

    def fit(number):
        if number % 2:
            torch.get_num_threads()  # or torch sets it anew
            torch.set_num_threads(number)
        together.wait(10)
        TorchLinearRegressor(loss=losses[number], random_state=0).fit(X, y)
        found = torch.get_num_threads()
        together.wait(10)
        return found

    with switched(torch.get_num_threads, torch.set_num_threads, 3), ThreadPoolExecutor(len(losses)) as pool:
        found = list(pool.map(fit, range(len(losses))))
        assert torch.get_num_threads() == 3
    assert found[1::2] == [1, 3, 5, 7]
    assert all(loss.seen == {1} for loss in losses)


def test_a_thread_that_has_never_computed_finds_the_number_set(table):
    X, y, _ = table
    loss = Threads()

    def fit():
        TorchLinearRegressor(loss=loss, random_state=0).fit(X, y)
        return torch.get_num_threads()

    with switched(torch.get_num_threads, torch.set_num_threads, 5), ThreadPoolExecutor(1) as pool:
        assert pool.submit(fit).result() == 5
    assert loss.seen == {1}


class BreaksOff(torch.optim.SGD):
    """An optimiser that fails in its first step."""

    def step(self, closure=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("surroundings", ["as found", "inference_mode", *SWITCHED])
@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"learning_rate": 1e200}, ValueError),
        ({"learning_rate": 0.1, "optimizer": BreaksOff}, KeyboardInterrupt),
        ({"learning_rate": 0.1, "optimizer": "adam", "optimizer_params": {"beta": 1}}, ValueError),
        ({"device": "abacus"}, ValueError),
        ({"batch_size": -1}, ValueError),
    ],
    ids=str,
)
def test_process_is_left_as_found_after_an_error(table, backend, surroundings, parameters, error):
    X, y, _ = table
    with SURROUNDINGS[surroundings]():
        before = process_state()
        with pytest.raises(error):
            TorchLinearRegressor(backend=backend, random_state=0, **parameters).fit(X, y)
        assert process_state() == before


class Rendezvous(torch.optim.SGD):
    """An optimiser that waits in its first step, and notes the precision of products in each."""

    started, finish, seen = None, None, None

    def step(self, closure=None):
        self.seen.append(precisions())
        self.started.set()
        assert self.finish.wait(10)


@pytest.mark.parametrize("switches", SWITCHED.values(), ids=SWITCHED)
def test_precision_holds_until_the_last_of_several_fits(table, switches):
    """The switches belong to the whole process: whoever ends first must not flip them back under the others."""
    X, y, _ = table

    def optimizer():
        return type("Noting", (Rendezvous,), {"started": threading.Event(), "finish": threading.Event(), "seen": []})

    def start(pool, optimizer):
        model = TorchLinearRegressor(learning_rate=0.01, max_iter=2, batch_size="full", optimizer=optimizer)
        fit = pool.submit(model.fit, X, y)
        assert optimizer.started.wait(10)
        return fit

    first, second = optimizer(), optimizer()
    with precision(**switches), ThreadPoolExecutor(2) as pool:
        before = precisions()
        fits = [start(pool, first), start(pool, second)]
        for noting, fit in zip((first, second), fits, strict=True):
            noting.finish.set()
            fit.result()
        assert precisions() == before
    products = slice(-2, None) if NEW_SWITCHES else slice(0, 1)
    for seen in (*first.seen, *second.seen):
        assert set(seen[products]) <= {"ieee", "none", "highest"}
    assert first.seen == second.seen
    assert len(first.seen) == 2


@pytest.mark.skipif(not NEW_SWITCHES, reason="this torch has one switch for all backends")
def test_products_go_on_following_the_switch_of_all_backends(model, table):
    X, y, _ = table
    with precision(every="tf32"):
        model.fit(X, y)
        torch.backends.fp32_precision = "ieee"
        assert [switch.fp32_precision for switch in PRODUCTS] == ["ieee", "ieee"]


# Inputs: only read, in whatever layout they come


def test_inputs_are_not_modified(model, table):
    originals = [*table, np.ones((2, 4)), np.ones(2)]
    X, y, weight, coef, intercept = arrays = [array.copy() for array in originals]
    model.fit(X, y, sample_weight=weight, coef_init=coef, intercept_init=intercept).predict(X)
    for array, original in zip(arrays, originals, strict=True):
        assert_array_equal(array, original)
        assert array.flags.writeable


def test_tensors_are_not_modified(model, table):
    tensors = [torch.tensor(part, requires_grad=True) for part in table]
    versions = [tensor._version for tensor in tensors]
    model.fit(tensors[0], tensors[1], sample_weight=tensors[2])
    predicted = model.predict(tensors[0])
    assert not predicted.requires_grad
    assert [tensor._version for tensor in tensors] == versions
    for tensor, original in zip(tensors, table, strict=True):
        assert_array_equal(tensor.detach().numpy(), original)
        assert tensor.requires_grad
        assert tensor.grad is None


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "every other column": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "negative strides": lambda array: array[::-1].copy()[::-1],
    "negative strides of columns": lambda array: array[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "unaligned": lambda array: np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "list": np.ndarray.tolist,
    "extended precision": lambda array: array.astype(np.longdouble),
    "objects": lambda array: array.astype(object),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_layout_does_not_matter(mode, table, layout, name):
    data = dict(zip(("X", "y", "sample_weight"), table, strict=True))
    expected = TorchLinearRegressor(**mode).fit(**data).coef_
    data[name] = LAYOUTS[layout](data[name])
    model = TorchLinearRegressor(**mode).fit(**data)
    assert_allclose(model.coef_, expected, rtol=1e-10)
    assert_allclose(model.predict(data["X"]), model.predict(table[0]), rtol=1e-10)


@pytest.mark.parametrize("mmap_mode", ["r", "r+", "c"])
def test_memory_mapped_files(mode, table, tmp_path, mmap_mode):
    maps = []
    for number, array in enumerate(table):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        maps.append(np.load(path, mmap_mode=mmap_mode))
    X, y, weight = maps
    model = TorchLinearRegressor(**mode)
    expected = model.fit(table[0], table[1], sample_weight=table[2]).coef_
    assert_array_equal(model.fit(X, y, sample_weight=weight).coef_, expected)
    assert_array_equal(np.load(tmp_path / "0.npy"), table[0])


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2"])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_small_types_become_float64(mode, table, kind, name):
    data = dict(zip(("X", "y", "sample_weight"), table, strict=True))
    data[name] = np.abs(data[name]).astype(kind)
    coef = TorchLinearRegressor(**mode).fit(**data).coef_
    assert coef.dtype == np.float64
    data[name] = data[name].astype(float)
    assert_array_equal(TorchLinearRegressor(**mode).fit(**data).coef_, coef)


# The same seed, the same bits


def test_same_seed_same_bits(model, table):
    X, y, weight = table
    first = vars(model.fit(X, y, sample_weight=weight)).copy()
    random.seed(1)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    second = vars(model.fit(X, y, sample_weight=weight))
    assert pickle.dumps(first) == pickle.dumps(second)


def test_eight_threads_give_what_one_gives(model, table):
    X, y, weight = table

    def fit(_):
        return sklearn.clone(model).fit(X, y, sample_weight=weight).coef_

    expected = fit(0)
    with ThreadPoolExecutor(8) as pool:
        for coef in pool.map(fit, range(32)):
            assert_array_equal(coef, expected)


@pytest.mark.parametrize("parameters", MODES.values(), ids=MODES)
def test_eight_threads_on_a_large_table(backend, large_table, parameters):
    X, y = large_table

    def fit(_):
        model = TorchLinearRegressor(backend=backend, random_state=0, batch_size="full", **parameters)
        return model.fit(X, y).coef_

    expected = fit(0)
    before = process_state()
    with ThreadPoolExecutor(8) as pool:
        for coef in pool.map(fit, range(8)):
            assert_array_equal(coef, expected)
    assert process_state() == before


def test_worker_processes(table):
    X, y, weight = table
    models = [TorchLinearRegressor(random_state=0, **parameters) for parameters in MODES.values()]
    fitted = Parallel(n_jobs=2)(delayed(model.fit)(X, y, sample_weight=weight) for model in models)
    for model, other in zip(models, fitted, strict=True):
        assert_allclose(other.coef_, model.fit(X, y, sample_weight=weight).coef_, rtol=1e-12)


# Fitted state

PLAIN = (int, float, bool, str, type(None), np.generic)


def assert_plain(value):
    """NumPy and plain Python all the way down, and no view of the memory of anything else."""
    if isinstance(value, dict):
        assert_plain(list(value))
        assert_plain(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            assert_plain(part)
    elif isinstance(value, np.ndarray):
        assert value.base is None or isinstance(value.base, np.ndarray)
        assert value.dtype != object or all(type(part) is str for part in value)
        if value.base is not None:
            assert_plain(value.base)
    else:
        assert isinstance(value, PLAIN), type(value)


@pytest.mark.parametrize("one_target", [True, False])
def test_fitted_state_is_numpy_and_plain_python(model, table, dtype, one_target):
    for convert in (np.asarray, torch.tensor):
        X, y, weight = (convert(part.astype(dtype)) for part in table)
        y = y[:, 0] if one_target else y
        model.fit(X, y, sample_weight=weight)
        model.predict(X)
        assert_plain(vars(model))


def test_pickle_is_small(backend, large_table):
    X, y = large_table
    for parameters in MODES.values():
        model = TorchLinearRegressor(backend=backend, random_state=0, **parameters).fit(X, y)
        assert len(pickle.dumps(model)) < 5_000


def test_refit_leaves_earlier_coefficients_alone(model, table):
    X, y, _ = table
    coef, intercept = model.fit(X, y).coef_, model.intercept_
    expected = coef.copy(), intercept.copy()
    model.set_params(warm_start=True).fit(X[::-1], 2 * y)
    assert_array_equal(coef, expected[0])
    assert_array_equal(intercept, expected[1])
