"""Many fits at once, one after the other, in other processes, and broken off anywhere."""

import multiprocessing
import os
import random
import resource
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from surroundings import process_state, switched

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.losses import Huber, Quantile

JOBS = {
    **{loss: {"loss": loss} for loss in LOSSES},
    "L1": {"penalty": "l1", "alpha": 0.1},
    "L1 and a quantile": {"loss": "quantile", "penalty": "l1", "alpha": 0.1},
    "autograd": {"backend": "autograd"},
    "torch's loss": {"loss": torch.nn.SmoothL1Loss()},
    "textbook": {"learning_rate": 0.01, "max_iter": 5},
    "adam": {"learning_rate": 0.01, "max_iter": 5, "optimizer": "adam"},
}


@pytest.fixture
def table(rng):
    X = rng.normal(size=(80, 4))
    return X, X @ [1.0, -2.0, 0.5, 3.0] + rng.normal(size=80)


def learn(name, X, y):
    return TorchLinearRegressor(random_state=0, **JOBS[name]).fit(X, y)


def test_sixteen_threads_with_a_job_each(table):
    alone = {name: learn(name, *table).coef_ for name in JOBS}
    before = process_state()
    names = [*JOBS] * 8
    with ThreadPoolExecutor(16) as pool:
        for name, model in zip(names, pool.map(lambda name: learn(name, *table), names), strict=True):
            assert_array_equal(model.coef_, alone[name])
    assert process_state() == before


def test_threads_that_choose_and_resample(table):
    def work(number):
        model = TorchLinearRegressorCV(alphas=[0.1, 1.0, 10.0], cv=3, random_state=0)
        model = model if number % 2 else bootstrap(TorchLinearRegressor(), *table, n_resamples=50, random_state=0)
        return model.fit(*table).coef_ if number % 2 else model.to_numpy()

    with warnings.catch_warnings(action="ignore", category=UserWarning):
        alone = [work(number) for number in range(2)]
        before = process_state(numpy_random=False)
        with ThreadPoolExecutor(16) as pool:
            for number, found in enumerate(pool.map(work, range(32))):
                assert_array_equal(found, alone[number % 2])
        assert process_state(numpy_random=False) == before


@pytest.mark.slow
def test_grid_search_in_processes_after_a_fit(table):
    learn("huber", *table)
    search = {"alpha": [0.01, 0.1, 1.0], "penalty": ["l2", "l1"], "loss": ["squared_error", Huber(1.0), Quantile(0.3)]}
    one, two = (GridSearchCV(TorchLinearRegressor(), search, n_jobs=n_jobs).fit(*table) for n_jobs in (1, 2))
    assert_allclose(two.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-9)
    assert_allclose(two.best_estimator_.coef_, one.best_estimator_.coef_, rtol=1e-9)


FORKED = ("squared_error", "huber", "L1", "textbook")


def _in_a_child(connection, X, y):
    connection.send([learn(name, X, y).predict(X[:3]) for name in FORKED])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("n_rows", [80, 30_000])
def test_a_child_forked_after_a_fit_learns_too(rng, n_rows):
    X = rng.normal(size=(n_rows, 20))
    y = X.sum(1) + rng.normal(size=n_rows)
    with switched(torch.get_num_threads, torch.set_num_threads, 2):
        expected = [learn(name, X, y).predict(X[:3]) for name in FORKED]
        found = _from_a_child(X, y)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=1e-6)


def _from_a_child(X, y):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_in_a_child, args=(there, X, y))
    child.start()
    try:
        assert here.poll(60), "the child hangs"
        return here.recv()
    finally:
        child.kill()
        child.join()


FILES = ("torchlinreg", "threadpoolctl", "grad_mode")


def press(model, X, y, at=None):
    """Fit, and have Ctrl-C pressed at that call of a function in one of `FILES`; return how many calls there were."""
    n_calls = 0

    def watch(frame, event, argument):
        nonlocal n_calls
        if event == "call" and any(name in frame.f_code.co_filename for name in FILES):
            n_calls += 1
            if n_calls == at:
                raise KeyboardInterrupt

    sys.setprofile(watch)
    try:
        model.fit(X, y)
    finally:
        sys.setprofile(None)
    return n_calls


# The lines that train by squared errors or quantiles train by these as well
SAME_LINES = ("mse", "absolute_error", "epsilon_insensitive")


@pytest.mark.parametrize("name", [name for name in JOBS if name not in SAME_LINES])
def test_interrupts_at_any_moment(table, name):
    goes_on = {"max_iter": 200, "tol": None} if "learning_rate" in JOBS[name] else {"tol": 0.0}
    model = TorchLinearRegressor(**{"random_state": 0, **JOBS[name], **goes_on})
    with switched(torch.get_num_threads, torch.set_num_threads, 3):
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            press(model, *table)  # what is done once a process is not counted
            n_calls, expected = press(model, *table), model.coef_
        before = process_state()
        for at in random.Random(name).sample(range(1, n_calls + 1), 10):
            other = sklearn.clone(model)
            with warnings.catch_warnings(action="always", record=True) as said, suppress(KeyboardInterrupt):
                press(other, *table, at)
                assert "Training was interrupted" in str(said[0].message)
                assert np.isfinite(other.predict(table[0])).all()
            assert process_state() == before
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            assert_array_equal(model.fit(*table).coef_, expected)


@pytest.mark.parametrize("name", ["squared_error", "adam"])
def test_interrupts_while_a_fit_begins(table, name):
    model = TorchLinearRegressor(random_state=0, **JOBS[name])
    with switched(torch.get_num_threads, torch.set_num_threads, 3):
        press(model, *table)  # what is imported once a process is not broken off
        before = process_state()
        for at in range(1, 150):
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning), suppress(KeyboardInterrupt):
                press(model, *table, at)
            assert process_state() == before, at


def resources():
    """Return the most memory held so far in MiB, open files, and threads."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return peak, len(os.listdir("/dev/fd")), threading.active_count()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # five passes are too few for some losses
@pytest.mark.skipif(sys.platform == "win32", reason="there is no list of open files")
def test_many_fits_leave_nothing_behind(table):
    names = [*JOBS]
    after = {}
    for number in range(1250):
        job = {"max_iter": 5, **JOBS[names[number % len(names)]]}  # later passes would leave what these do
        TorchLinearRegressor(random_state=0, **job).fit(*table).predict(table[0])
        if number in (499, 1249):
            after[number] = resources()
    (memory, *others), (memory_later, *others_later) = after.values()
    assert memory_later - memory < 5
    assert others_later == others
