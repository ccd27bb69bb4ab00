"""Sums and products in twice the precision, against rational numbers."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from torchlinreg.engine.data.matrices import compensated
from torchlinreg.engine.data.matrices.compensated import DoubleDouble, SlicedMatrix, two_product, two_sum, unit_of

PRECISION = 2.0**-104


def fractions(numbers):
    if isinstance(numbers, DoubleDouble):
        return fractions(numbers.high) + fractions(numbers.low)
    return np.vectorize(Fraction, otypes=[object])(numbers.numpy())


def draw(rng, *shape):
    """Numbers of very different size."""
    return torch.from_numpy(rng.normal(size=shape) * 2.0 ** rng.integers(-20, 20, shape))


def draw_pair(rng, *shape):
    high = draw(rng, *shape)
    return DoubleDouble(*two_sum(high, high * 2.0**-54 * torch.from_numpy(rng.uniform(-1, 1, shape))))


def test_error_free_transformations(rng):
    a, b = draw(rng, 500), draw(rng, 500)
    assert (sum(map(fractions, two_sum(a, b))) == fractions(a) + fractions(b)).all()
    assert (sum(map(fractions, two_product(a, b))) == fractions(a) * fractions(b)).all()


def test_arithmetic(rng):
    a, b, factor = draw_pair(rng, 300), draw_pair(rng, 300), draw(rng, 300)
    size = abs(fractions(a)) + abs(fractions(b))
    assert (abs(fractions(a + b) - (fractions(a) + fractions(b))) <= PRECISION * size).all()
    assert (abs(fractions(a - b) - (fractions(a) - fractions(b))) <= PRECISION * size).all()
    exact = fractions(a) * fractions(factor)
    assert (abs(fractions(a.times(factor)) - exact) <= PRECISION * abs(exact)).all()


@pytest.mark.parametrize("block_elements", [1, 2**18])
@pytest.mark.parametrize(("n_rows", "n_columns", "k"), [(1, 1, 1), (40, 7, 2), (3, 20, 1), (700, 2, 3)])
def test_products(rng, monkeypatch, n_rows, n_columns, k, block_elements):
    monkeypatch.setattr(compensated, "BLOCK_ELEMENTS", block_elements)
    X, W, R = draw(rng, n_rows, n_columns), draw_pair(rng, n_columns, k), draw_pair(rng, n_rows, k)
    X = X / unit_of(X)
    matrix = SlicedMatrix(X)
    for found, left, right in ((matrix.matmul(W), X, W), (matrix.rmatmul(R), X.T, R)):
        error = abs(fractions(found) - fractions(left) @ fractions(right))
        # A column's largest number sets the place of the last digit
        size = len(right.high) * float(left.abs().max()) * right.high.abs().amax(0).numpy()
        assert (error <= PRECISION * size).all()


def test_products_of_integers_are_exact(rng):
    X, W = (torch.from_numpy(rng.integers(-1000, 1000, shape).astype(float)) for shape in ((50, 4), (4, 2)))
    unit = unit_of(X)
    found = SlicedMatrix(X / unit).matmul(DoubleDouble.of(W * unit[:, None]))
    assert torch.equal(found.high, X @ W)
    assert not found.low.any()


def test_products_with_zeros():
    nothing = torch.zeros(5, 2, dtype=torch.float64)
    assert torch.equal(unit_of(nothing), torch.ones(2, dtype=torch.float64))
    assert not SlicedMatrix(nothing).rmatmul(DoubleDouble.of(nothing)).high.any()


@pytest.mark.parametrize("size", [5e-324, 2.0**-1022, 1.0, 3.0, 1.7976931348623157e308])
def test_units_round_nothing(size):
    column = torch.tensor([[size], [size / 2]], dtype=torch.float64)
    scaled = column / unit_of(column)
    assert 0.5 <= scaled[0].item() <= 2.0
    assert torch.equal(scaled * unit_of(column), column)
