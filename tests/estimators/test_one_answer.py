"""One answer, whatever way the rows come: one table, a file, chunks, a stream, parts that are merged, processes."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from chunked import as_frame, learn_own, make_columns
from numpy.testing import assert_allclose
from ranks import Ranks

from torchlinreg import TorchLinearRegressor, merge
from torchlinreg.streams import array_chunks, csv_chunks, parquet_chunks

PARAMETERS = {
    "least squares": {},
    "ridge": {"penalty": "l2", "alpha": 0.1},
    "elastic net": {"penalty": "elasticnet", "alpha": 0.1, "l1_ratio": 0.5},
    "through the origin": {"fit_intercept": False},
}


@pytest.fixture(scope="module")
def ranks():
    """Return two processes."""
    ranks = Ranks(2)
    yield ranks
    ranks.close()


def cut(columns, seed=0):
    """Return parts of a table between random borders."""
    borders = np.sort(np.random.default_rng(seed).choice(np.arange(1, len(columns[0])), 6, replace=False))
    return [tuple(column[start:stop] for column in columns) for start, stop in pairwise([0, *borders, None])]


def in_memory(model, columns, folder):
    return model.fit(*columns)


def on_a_memmap(model, columns, folder):
    X, y, weight = columns
    np.save(folder / "X.npy", X)
    return model.fit(np.load(folder / "X.npy", mmap_mode="r"), y, weight)


def from_a_list(model, columns, folder):
    return model.fit_chunks(cut(columns))


def from_slices_of_a_memmap(model, columns, folder):
    np.save(folder / "X.npy", columns[0])
    return model.fit_chunks(array_chunks(np.load(folder / "X.npy", mmap_mode="r"), *columns[1:], chunk_rows=123))


def from_a_data_loader(model, columns, folder):
    return model.fit_chunks(torch.utils.data.DataLoader(cut(columns), batch_size=None))


def from_an_iterator(model, columns, folder):
    return model.fit_chunks(iter(cut(columns)))


def from_parquet(model, columns, folder):
    as_frame(columns).to_parquet(folder / "table.parquet", row_group_size=170)
    return model.fit_chunks(parquet_chunks(folder / "table.parquet", "target", sample_weight="weight"))


def from_csv(model, columns, folder):
    as_frame(columns).to_csv(folder / "table.csv", index=False)
    return model.fit_chunks(csv_chunks(folder / "table.csv", "target", sample_weight="weight", chunk_rows=150))


def by_partial_fit(model, columns, folder):
    for part in cut(columns):
        model.partial_fit(*part)
    return model


def by_merge(model, columns, folder):
    return merge(TorchLinearRegressor(**model.get_params()).partial_fit(*part) for part in cut(columns))


def by_chunks_of_merge(model, columns, folder):
    parts = [TorchLinearRegressor(**model.get_params()).fit_chunks(cut(part)) for part in cut(columns)]
    return merge([merge(parts[:3]), *parts[3:]])


WAYS = [
    in_memory,
    on_a_memmap,
    from_a_list,
    from_slices_of_a_memmap,
    from_a_data_loader,
    from_an_iterator,
    from_parquet,
    from_csv,
    by_partial_fit,
    by_merge,
    by_chunks_of_merge,
]


@pytest.fixture(params=PARAMETERS.values(), ids=PARAMETERS)
def parameters(request):
    return request.param


def assert_answer(coef, intercept, columns, parameters):
    """Compare predictions with those of a fit in memory, which other tests compare with more trusted ones."""
    expected = TorchLinearRegressor(**parameters).fit(*columns)
    X, y, _ = columns
    assert_allclose(X @ coef + intercept, X @ expected.coef_ + expected.intercept_, rtol=0, atol=1e-9 * y.std())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_gives_one_answer(way, parameters, tmp_path):
    columns = make_columns()
    model = way(TorchLinearRegressor(**parameters), columns, tmp_path)
    assert_answer(model.coef_, model.intercept_, columns, parameters)
    assert model.converged_
    assert model.optimality_gap_ < 1e-12


def test_two_processes_give_it_too(ranks, parameters):
    columns = make_columns()
    for found in ranks.run(learn_own, parameters, columns, [270, 730], size=2):
        assert_answer(found["coef_"], found["intercept_"], columns, parameters)
