"""The same seed gives the same bits, in any thread or process."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from surroundings import MODES, process_state

from torchlinreg import TorchLinearRegressor


@pytest.fixture(params=MODES)
def mode(request):
    """Return parameters of each way of working, with an optimiser of torch as well."""
    return {"random_state": 0, **MODES[request.param]}


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
