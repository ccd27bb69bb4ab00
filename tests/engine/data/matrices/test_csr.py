"""Compressed rows: their products and rows are those of the dense matrix, by SciPy and by torch."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.matrices.csr import CSROperator
from torchlinreg.engine.data.matrices.csr_products import ScipyProducts, TorchProducts

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
TABLES = ["sorted", "unsorted", "duplicates", "zeros stored", "even", "empty rows", "nothing stored", "no rows", "wide"]


def make(rng, name, dtype="float64", index="int64"):
    """Return compressed rows, and the same dense."""
    n_rows, n_features = {"no rows": (0, 7), "wide": (6, 5000)}.get(name, (40, 7))
    X = rng.normal(size=(n_rows, n_features)) * (rng.uniform(size=(n_rows, n_features)) < 30 / (30 + n_features))
    if name == "even":
        X = rng.normal(size=X.shape) * (np.arange(n_features) < 3)
    elif name == "empty rows":
        X[[0, 1, 17, 39]] = 0
    elif name == "nothing stored":
        X[:] = 0
    table = sparse.csr_array(X.astype(dtype))
    parts = table.indptr, table.indices, table.data
    if name == "unsorted":
        table = table[:, ::-1]
        parts = table.indptr, table.indices[::-1].copy(), table.data[::-1].copy()
        parts = table.indptr[-1] - table.indptr[::-1], *parts[1:]
    elif name == "duplicates":
        parts = 2 * table.indptr, table.indices.repeat(2), (table.data / 2).repeat(2)
    elif name == "zeros stored":
        table.data[::3] = 0
    dense = np.zeros((n_rows, n_features), dtype)
    np.add.at(dense, (np.arange(n_rows).repeat(np.diff(parts[0])), parts[1]), parts[2])
    crow, col, value = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return CSROperator(crow.to(getattr(torch, index)), col.to(getattr(torch, index)), value, n_features), dense


@pytest.fixture(params=[ScipyProducts, TorchProducts], ids=["scipy", "torch"])
def kernels(request, monkeypatch):
    monkeypatch.setattr("torchlinreg.engine.data.matrices.csr.ScipyProducts", request.param)
    return request.param


@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("n_columns", [1, 3])
@pytest.mark.usefixtures("kernels")
def test_products_are_those_of_the_dense_matrix(rng, name, dtype, index, n_columns):
    operator, dense = make(rng, name, dtype, index)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    W, R, total = (rng.normal(size=(size, n_columns)).astype(dtype) for size in (*dense.shape[::-1], dense.shape[1]))
    tensors = W_, R_, total_ = [torch.from_numpy(each.copy()) for each in (W, R, total)]
    intercept, out = torch.ones(1, n_columns, dtype=W_.dtype), torch.full((len(dense), n_columns), np.nan).to(W_)

    assert_allclose(operator.matmul(W_), dense @ W, **close)
    assert_allclose(operator.affine(intercept, W_, out), dense @ W + 1, **close)
    assert_allclose(operator.matmul(W_, out), dense @ W, **close)
    assert_allclose(out, dense @ W, **close)
    assert_allclose(operator.rmatmul(R_), dense.T @ R, **close)
    assert_allclose(operator.rmatmul(R_, total_.clone(), 0.5), dense.T @ R / 2, **close)
    operator.add_rmatmul(total_, R_, -2.0)
    assert_allclose(total_, total - 2 * dense.T @ R, **close)
    assert_array_equal(operator.to_dense(), dense)
    assert {each.dtype for each in (operator.matmul(W_), operator.rmatmul(R_), operator.to_dense())} == {W_.dtype}
    assert_array_equal(tensors[1], R)


@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.usefixtures("kernels")
def test_rows_are_those_of_the_dense_matrix(rng, name, dtype, index):
    operator, dense = make(rng, name, dtype, index)
    n_rows = len(dense)
    choices = [slice(0, n_rows), slice(2, 5), slice(1, None, 3), slice(4, 2)]
    if n_rows:
        order = rng.integers(n_rows, size=50)
        choices += [torch.from_numpy(order), torch.from_numpy(order.astype("int32"))]
    choices += [torch.empty(0, dtype=torch.int64)]
    for chosen in choices:
        rows = operator.rows(chosen)
        assert_array_equal(rows.to_dense(), dense[chosen if isinstance(chosen, slice) else chosen.numpy()])
        assert rows.crow.dtype == rows.col.dtype
    parts = operator.split(3)
    assert_array_equal(torch.cat([part.to_dense() for part in parts]), dense)
    assert_array_equal(operator.with_ones().to_dense(), np.column_stack([dense, np.ones(n_rows)]))
    assert_array_equal(operator.to(torch.float64).to_dense(), dense.astype(float))


@pytest.mark.usefixtures("kernels")
def test_autograd_walks_back_through_products(rng):
    operator, dense = make(rng, "sorted")
    W = torch.from_numpy(rng.normal(size=(7, 2))).requires_grad_()
    (operator @ W).square().sum().backward()
    assert_allclose(W.grad, 2 * dense.T @ dense @ W.detach().numpy(), rtol=1e-12)
    module = torch.nn.Linear(7, 2, dtype=torch.float64)
    operator.apply(module).sum().backward()
    assert_allclose(module.weight.grad, np.tile(dense.sum(0), (2, 1)), rtol=1e-12)
    assert_allclose(module.bias.grad, [40, 40])


@pytest.mark.usefixtures("kernels")
def test_columns_that_do_not_lie_side_by_side(rng):
    operator, dense = make(rng, "sorted")
    W, R = torch.from_numpy(rng.normal(size=(3, 7))).T, torch.from_numpy(rng.normal(size=(40, 9)))[:, ::3]
    total = torch.zeros(7, 6, dtype=torch.float64)
    assert_allclose(operator.matmul(W), dense @ W.numpy(), rtol=1e-12)
    operator.add_rmatmul(total[:, ::2], R, 1.0)
    assert_allclose(total[:, ::2], dense.T @ R.numpy(), rtol=1e-12, atol=1e-12)
    assert not total[:, 1::2].any()


@pytest.mark.parametrize("name", ["sorted", "wide"])
def test_numbers_that_overflow_do_not_warn(rng, name):
    operator, _ = make(rng, name)
    huge = torch.full((len(operator), 1), 1e308, dtype=torch.float64)
    total = torch.full((operator.shape[1], 1), 1e308, dtype=torch.float64)
    operator.add_rmatmul(total, huge, 1e308)
    assert not total.isfinite().all()


def test_a_part_shares_the_memory_of_the_whole(rng):
    operator, _ = make(rng, "sorted")
    part = operator.rows(slice(2, 4))
    before = part.matmul(torch.ones(7, 1, dtype=torch.float64))
    operator.value.mul_(2)
    assert_allclose(part.matmul(torch.ones(7, 1, dtype=torch.float64)), 2 * before)


@pytest.mark.parametrize("batch_size", [3, 300])
def test_the_same_bits_twice(rng, batch_size, dtype):
    X = sparse.random_array((2000, 500), density=0.02, random_state=rng, format="csr", dtype=dtype)
    y = (X @ rng.normal(size=(500, 2))).astype(dtype)
    model = TorchLinearRegressor(learning_rate=0.01, batch_size=batch_size, max_iter=2, random_state=3)
    assert_array_equal(*(model.fit(X, y).coef_.copy() for _ in range(2)))
