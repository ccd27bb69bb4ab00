"""Sufficient statistics: the triangular factor by products of pairs, and by reflections."""

import numpy as np
import pytest
import torch

from torchlinreg.engine.data import statistics
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.data.statistics import SufficientStatistics


def table(condition, dtype, *, order="C", weighted=False, n_targets=2):
    rng = np.random.default_rng(0)
    mixture = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    X = (rng.normal(size=(40_000, 30)) @ (mixture * np.geomspace(1, 1 / condition, 30)) @ mixture.T + 3).astype(dtype)
    y = X.astype(float) @ rng.normal(size=(30, n_targets)) + rng.normal(size=(40_000, n_targets))
    weight = rng.integers(0, 3, size=(40_000, 1)).astype(float) if weighted else None
    return np.asarray(X, order=order), y, weight


def source_of(X, y, weight):
    return MemorySource(
        DenseOperator(torch.from_numpy(X)), torch.from_numpy(y), None if weight is None else torch.from_numpy(weight)
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("condition", "dtype"), [(1, np.float32), (1, np.float64), (1e3, np.float64), (1e6, np.float64)]
)
def test_products_give_the_factor(condition, dtype, order, weighted, monkeypatch):
    X, y, weight = table(condition, dtype, order=order, weighted=weighted)
    found = statistics._by_products(source_of(X, y, weight))
    monkeypatch.setattr(statistics, "BY_PRODUCTS", np.inf)
    expected = SufficientStatistics.of(source_of(X, y, weight))
    assert (found.n_rows, found.weight) == (expected.n_rows, expected.weight)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-13, atol=1e-13)
    own, trusted = ((part.factor.T @ part.factor).numpy() for part in (found, expected))
    np.testing.assert_allclose(own, trusted, rtol=0, atol=1e-12 * np.abs(trusted).max())
    coef = [np.linalg.lstsq(part.factor[:30, :30], part.factor[:30, 30:], rcond=None)[0] for part in (found, expected)]
    np.testing.assert_allclose(coef[0], coef[1], rtol=0, atol=1e-14 * condition**1.5 + 1e-12)


def test_products_are_not_trusted_with_dependent_columns():
    X, y, _ = table(1, np.float64)
    X[:, 3] = X[:, 1] - X[:, 2]
    assert statistics._by_products(source_of(X, y, None)) is None
    X[:, 3] = 1.0
    assert statistics._by_products(source_of(X, y, None)) is None


def test_residuals_of_an_exact_fit_are_small():
    X, _, _ = table(1, np.float64)
    y = X @ np.arange(30.0)[:, None]
    found = statistics._by_products(source_of(X, y, None))
    assert found.factor[30:, 30:].square().sum() < 1e-13 * ((y - y.mean()) ** 2).sum()
