"""Every reduction: what it finds in parts, merged, is what it finds in the whole; blocks may be of any size."""

import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from surroundings import switched

import torchlinreg.engine.data.source as source_module
from torchlinreg.engine.columns.grid import SquaredErrors
from torchlinreg.engine.columns.paths import Covariance
from torchlinreg.engine.columns.resampling import ResampledProducts
from torchlinreg.engine.data.matrices.csr import CSROperator
from torchlinreg.engine.data.moments import ColumnMeans, GramSum, SparseVariances
from torchlinreg.engine.data.reductions import Mean
from torchlinreg.engine.data.source import MemorySource, as_operator
from torchlinreg.engine.data.statistics import SufficientStatistics
from torchlinreg.engine.objective.hessian import HessianSum
from torchlinreg.engine.objective.linear_model import AnalyticModel
from torchlinreg.engine.objective.losses import Huber, SquaredError
from torchlinreg.engine.objective.objective import LossAndGradient, Objective, SquaredResiduals
from torchlinreg.engine.optimality.duality_gap import DualityGap
from torchlinreg.engine.optimality.rounding import LossDifference
from torchlinreg.engine.preconditioning.sketch import CountSketch, GramProduct
from torchlinreg.engine.preconditioning.transforms import Transform

N_ROWS, FIRST = 60, 25
generator = torch.Generator().manual_seed(0)
X, y = (torch.randn(N_ROWS, n, generator=generator, dtype=torch.float64) for n in (3, 1))
X = X * (X.abs() > 0.3)
weight = torch.rand(N_ROWS, 1, generator=generator, dtype=torch.float64)
theta = torch.randn(4, 1, generator=generator, dtype=torch.float64)
transform = Transform(torch.eye(3, dtype=torch.float64), X.mean(0))
columns, loss = torch.arange(1), Huber(1.0)


def make_model(theta=theta):
    return AnalyticModel(theta, fit_intercept=True)


def objective_of(source):
    return Objective(source, loss, None, transform, theta, make_model)


def size(gradient):
    return torch.linalg.vector_norm(gradient, dim=0)


def flat(parts):
    return torch.cat([part.flatten() for part in parts])


def products(statistics):
    return flat([statistics.factor.T @ statistics.factor, statistics.mean, torch.tensor([statistics.weight])])


# name -> what makes the reduction, and what reads it
REDUCTIONS = {
    "Mean": (lambda: Mean(lambda block: block.y), lambda found: found.value),
    "ColumnMeans": (ColumnMeans, lambda found: found.value),
    "Covariance": (lambda: Covariance(X.mean(0)), lambda found: found.value),
    "SquaredErrors": (lambda: SquaredErrors(theta[:, :, None]), lambda found: found.total),
    "LossDifference": (lambda: LossDifference(loss, theta, theta + 1), lambda found: found.value),
    "LossAndGradient": (
        lambda: LossAndGradient(make_model, loss, theta, SquaredError()),
        lambda found: flat(found.means()),
    ),
    "SquaredResiduals": (
        lambda: SquaredResiduals(SquaredError(), theta, source()),
        lambda found: flat(found.means()),
    ),
    "HessianSum": (
        lambda: HessianSum(make_model(), loss, transform, columns, is_shared=False),
        lambda found: flat(found.means(1)),
    ),
    "HessianSum of a quadratic": (
        lambda: HessianSum(make_model(), SquaredError(), transform, columns, is_shared=True),
        lambda found: flat(found.means(1)),
    ),
    "DualityGap": (
        lambda: DualityGap(objective_of(source()), loss, theta, theta + 0.1),
        lambda found: flat(found.result(size)),
    ),
    "GramSum": (
        lambda: GramSum(X.mean(0), torch.float64),
        lambda found: flat(found.moments(centre=True)),
    ),
    "GramProduct": (lambda: GramProduct(transform, theta[:3]), lambda found: found.value),
    "SufficientStatistics": (lambda: SufficientStatistics.empty(4), products),
}


def source():
    return MemorySource(as_operator(X), y, weight)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_merged_parts_are_the_whole(name):
    make, read = REDUCTIONS[name]
    whole = read(source().reduce(make()))
    first, second = (source().rows(part).reduce(make()) for part in (slice(FIRST), slice(FIRST, None)))
    assert_allclose(read(first.merge(second)), whole, rtol=1e-12, atol=1e-13)
    assert_allclose(read(source().reduce(make(), 7)), whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_threads_find_the_same_to_the_bit_however_many_there_are(name, monkeypatch):
    make, read = REDUCTIONS[name]
    whole = read(source().reduce(make()))
    monkeypatch.setattr(source_module, "PARALLEL_ELEMENTS", 0)
    monkeypatch.setattr(source_module, "PASS_BYTES", 5 * X.element_size() * X.shape[1])
    found = []
    for n_threads in (1, 2, 3, 3):
        with switched(torch.get_num_threads, torch.set_num_threads, n_threads):
            found.append(read(source().reduce(make())))
    assert all(torch.equal(each, found[0]) for each in found)
    assert_allclose(found[0], whole, rtol=1e-12, atol=1e-13)


def test_merged_resamples_are_the_whole():
    counts = torch.randint(4, (5, N_ROWS), generator=torch.Generator().manual_seed(1)).to(torch.int16)

    def reduce(source, counts):
        return source.reduce(ResampledProducts(transform, theta, counts, torch.float64), 7)

    whole = flat(reduce(source(), counts).means())
    first, second = (reduce(source().rows(part), counts[:, part]) for part in (slice(FIRST), slice(FIRST, None)))
    assert_allclose(flat(first.merge(second).means()), whole, rtol=1e-12)


def test_merged_sketches_are_the_sketch_of_all_rows():
    def sketch(source, generator):
        return source.reduce(CountSketch(10, X[0], generator), 10)

    whole = sketch(source(), torch.Generator().manual_seed(2)).result(centre=True)
    signs = torch.Generator().manual_seed(2)
    first, second = (sketch(source().rows(part), signs) for part in (slice(20), slice(20, None)))
    for one, other in zip(first.merge(second).result(centre=True), whole, strict=True):
        assert_allclose(one, other, atol=1e-14)


def test_merged_sparse_variances_are_the_whole():
    csr = sparse.csr_array(X.numpy())
    parts = (torch.from_numpy(part) for part in (csr.indptr, csr.indices, csr.data))
    rows = MemorySource(CSROperator(*parts, 3), y, weight / weight.mean())
    mean = rows.reduce(ColumnMeans()).value[:, 0]
    first, second = (rows.rows(part).reduce(SparseVariances(mean)) for part in (slice(FIRST), slice(FIRST, None)))
    expected = (rows.weight * (X - mean).square()).mean(0)
    assert_allclose(first.merge(second).value, expected, rtol=1e-12)
    assert_allclose(rows.reduce(SparseVariances(mean)).value, expected, rtol=1e-12)
