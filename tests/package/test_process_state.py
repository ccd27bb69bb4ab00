"""The process is left as found, and what the process is set to does not matter."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from surroundings import (
    MODES,
    NEW_SWITCHES,
    PRODUCTS,
    SURROUNDINGS,
    SWITCHED,
    precision,
    precisions,
    process_state,
    switched,
)

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.runtime import switches


def steps_of_adam_are_on_the_default_device():
    """Whether torch is one of those before 2.13 that cannot take a step of Adam where the default device is meta."""
    w = torch.zeros(1, requires_grad=True)
    w.grad = torch.zeros(1)
    try:
        with torch.device("meta"):
            torch.optim.Adam([w]).step()
    except RuntimeError:
        return True
    return False


@pytest.fixture(params=MODES)
def mode(request):
    """Return parameters of each way of working, with an optimiser of torch as well."""
    surroundings = request.node.callspec.params.get("surroundings")
    if (request.param, surroundings) == ("adam", "default device meta") and steps_of_adam_are_on_the_default_device():
        pytest.skip("this torch has Adam count its steps on the default device")
    return {"random_state": 0, **MODES[request.param]}


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


FIRST_FITS = [
    ("linear", "sgd", "fit(X, y)"),
    ("analytic", "adam", "fit(X, y)"),
    ("analytic", "sgd", "fit(X, y).to_module()"),
    ("analytic", "sgd", "fit(scipy.sparse.csr_array(X), y)"),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_first_fit_of_a_process_leaves_it_as_found():
    """Later ones would not show it: what is loaded once stays. Each has a process, forked after the import."""
    program = f"""
import os
import warnings
import numpy as np
import scipy.sparse
from torchlinreg import TorchLinearRegressor
X, y = np.eye(3), np.arange(3.0)
before = list(warnings.filters)
for backend, optimizer, what in {FIRST_FITS!r}:
    child = os.fork()
    if child == 0:
        model = TorchLinearRegressor(backend=backend, optimizer=optimizer, learning_rate=0.1, max_iter=1)
        eval(f"model.{{what}}")
        new = [each for each in warnings.filters if each not in before]
        if warnings.filters != before:
            print(backend, optimizer, what, new, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, (backend, optimizer, what)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr


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
        monkeypatch.setattr(switches, "ONE_THREAD_OPERATIONS", -1)
        TorchLinearRegressor(loss=large, random_state=0, **parameters).fit(X, y)
    assert (small.seen, large.seen) == ({1}, {3})


def test_one_thread_is_for_few_operations_only(table, monkeypatch):
    X, y, _ = table  # 60 rows of 4 features, and 2 targets
    for operations, expected in ((60 * 4 * 4 * 2, 1), (60 * 4 * 4 * 2 - 1, 3)):
        monkeypatch.setattr(switches, "ONE_THREAD_OPERATIONS", operations)
        loss = Threads()
        with switched(torch.get_num_threads, torch.set_num_threads, 3):
            TorchLinearRegressor(loss=loss, learning_rate=0.005, max_iter=3, conditioning="scale").fit(X, y)
        assert loss.seen == {expected}


@pytest.mark.parametrize("parameters", [{}, {"learning_rate": 0.005, "max_iter": 3}], ids=["untuned", "textbook"])
def test_sparse_tables_are_learnt_from_on_one_thread(table, monkeypatch, parameters):
    """However large they are, as nothing of them is factorised."""
    X, y, _ = table
    monkeypatch.setattr(switches, "ONE_THREAD_ELEMENTS", 0)
    monkeypatch.setattr(switches, "ONE_THREAD_OPERATIONS", 0)
    monkeypatch.setattr("torchlinreg.engine.preconditioning.choose.WHITEN_FEATURES", 3)
    loss = Threads()
    with switched(torch.get_num_threads, torch.set_num_threads, 3):
        TorchLinearRegressor(loss=loss, random_state=0, **parameters).fit(sparse.csr_array(X), y)
    assert loss.seen == {1}


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


@pytest.mark.skipif(not NEW_SWITCHES, reason="torch before 2.9 has one switch, which backends cannot differ from")
def test_products_go_on_following_the_switch_of_all_backends(model, table):
    X, y, _ = table
    with precision(every="tf32"):
        model.fit(X, y)
        torch.backends.fp32_precision = "ieee"
        assert [switch.fp32_precision for switch in PRODUCTS] == ["ieee", "ieee"]
