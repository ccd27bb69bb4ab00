"""Sums and matrix products in twice the precision of float64, by error-free transformations.

A number is an unevaluated sum of two in float64, of which the second is below the rounding of the first. Sums and
products of such numbers come from what rounding takes off, which float64 holds exactly (Ogita, Rump & Oishi 2005,
"Accurate sum and dot product"). Matrices are cut into slices of so few digits that an ordinary product of two slices
rounds nothing (Ozaki, Ogita, Oishi & Rump 2012, "Error-free transformations of matrix multiplication by using fast
routines of matrix multiplication and its applications"): the work is that of a few ordinary products.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch

from torchlinreg.engine.data.moments import nearest_power_of_two

DIGITS = 53  # binary, of a number in float64
WANTED_DIGITS = 108  # of products, below the largest number in a column
BLOCK_ELEMENTS = 2**18  # of slices, multiplied at once
SPLITTER = 2.0**27 + 1.0  # halves the digits of a number (Dekker 1971)


@dataclass(frozen=True, eq=False)
class DoubleDouble:
    """Numbers in twice the precision of float64.

    Attributes
    ----------
    high : torch.Tensor
        The nearest numbers in float64.
    low : torch.Tensor
        What is left.
    """

    high: torch.Tensor
    low: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Self:
        """Return numbers in float64 as they are."""
        return cls(tensor, torch.zeros_like(tensor))

    def __add__(self, other: Self) -> Self:
        high, error = two_sum(self.high, other.high)
        return DoubleDouble(*two_sum(high, error + (self.low + other.low)))

    def __neg__(self) -> Self:
        return DoubleDouble(-self.high, -self.low)

    def __sub__(self, other: Self) -> Self:
        return self + -other

    def times(self, factor: torch.Tensor) -> Self:
        """Return the products with factors in float64, which are not to overflow if multiplied by 2²⁷."""
        high, error = two_product(self.high, factor)
        return DoubleDouble(*two_sum(high, error + self.low * factor))

    def scaled(self, power_of_two: torch.Tensor) -> Self:
        """Return the products with powers of two."""
        return DoubleDouble(self.high * power_of_two, self.low * power_of_two)

    def where(self, chosen: torch.Tensor, other: Self) -> Self:
        """Return these numbers, and others where they are chosen."""
        return DoubleDouble(*(torch.where(chosen, b, a) for a, b in ((self.high, other.high), (self.low, other.low))))


def two_sum(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a + b as rounded, and the error of that (Knuth 1969)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def two_product(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a b as rounded, and the error of that (Dekker 1971)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    wide = SPLITTER * a
    high = wide - (wide - a)
    return high, a - high


def unit_of(columns: torch.Tensor) -> torch.Tensor:
    """Return a power of two near the largest number of each column, dividing by which rounds nothing."""
    largest = columns.abs().amax(0)
    return nearest_power_of_two(torch.where(largest > 0, largest, 1.0)).clamp(max=2.0**1023)


class SlicedMatrix:
    """A matrix to be multiplied by numbers in twice the precision of float64.

    Parameters
    ----------
    matrix : torch.Tensor of shape (n_rows, n_columns), float64
        Divided by `unit_of` it. Digits that are 108 binary places below one are lost.
    """

    def __init__(self, matrix: torch.Tensor):
        carries = math.ceil(math.log2(max(*matrix.shape, 2))) + 5  # of a sum over an axis, over slices, and of signs
        self._bits = (DIGITS - carries) // 2
        self._n_slices = math.ceil(WANTED_DIGITS / self._bits)
        self._n_columns = matrix.shape[1]
        slices, rest = [], matrix.clone()
        while not slices or (len(slices) < self._n_slices and rest.any()):
            slices.append(self._round(rest, len(slices)))
            rest -= slices[-1]
        self._n_parts, self._block_rows = len(slices), max(1, BLOCK_ELEMENTS // (self._n_columns * len(slices)))
        blocks = zip(*(part.split(self._block_rows) for part in slices), strict=True)
        self._blocks = [torch.cat(block, dim=1) for block in blocks]

    def matmul(self, W: DoubleDouble) -> DoubleDouble:
        """Return the product with W, of shape (n_columns, k)."""
        unit, parts = self._cut(W)
        n, k = parts.shape[:2]
        factors = parts.new_zeros(n, k, self._n_parts, self._n_columns)
        for place in range(self._n_parts):
            factors[place:, :, place] = parts[: n - place]
        factors = factors.view(n * k, -1)
        products = torch.cat([factors @ block.t() for block in self._blocks], dim=1)
        return self._total(products.view(n, k, -1)).scaled(unit)

    def rmatmul(self, R: DoubleDouble) -> DoubleDouble:
        """Return the product of the transpose with R, of shape (n_rows, k)."""
        unit, parts = self._cut(R)
        n, k = parts.shape[:2]
        some = parts.flatten(0, 1).split(self._block_rows, dim=1)
        products = sum(part @ block for part, block in zip(some, self._blocks, strict=True))
        products = products.view(n, k, self._n_parts, self._n_columns)
        terms = products[:, :, 0].clone()
        for place in range(1, self._n_parts):
            terms[place:] += products[: n - place, :, place]
        return self._total(terms).scaled(unit)

    def _cut(self, columns: DoubleDouble) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the unit of each column and the slices of its transpose, shape (n_slices, k, n)."""
        unit, parts = unit_of(columns.high), []
        rest = torch.stack([columns.high.t(), columns.low.t()]) / unit[:, None]
        for place in range(self._n_slices):
            parts.append(self._round(rest, place))
            rest -= parts[-1]
        return unit, torch.stack(parts).sum(1)  # of the same places, so that nothing is rounded

    def _round(self, numbers: torch.Tensor, place: int) -> torch.Tensor:
        """Return numbers with the digits of a slice, and those before them, only."""
        rounder = 1.5 * 2.0 ** (DIGITS - 1 - self._bits * (place + 1))  # so large that a sum has no digits after these
        return (numbers + rounder).sub_(rounder)

    def _total(self, terms: torch.Tensor) -> DoubleDouble:
        """Return the sum over the first axis, transposed, for terms of a slice each (Ogita, Rump & Oishi's Sum2)."""
        n_large = math.ceil(DIGITS / self._bits)  # the others are below the rounding of the first
        high, low = terms[0].t(), terms[n_large:].sum(0).t()
        for term in terms[1:n_large]:
            high, error = two_sum(high, term.t())
            low = low + error
        return DoubleDouble(*two_sum(high, low))
