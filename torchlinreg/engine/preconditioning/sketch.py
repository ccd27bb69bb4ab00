"""Sketches: a few rows whose second moment is close to that of all of them.

A small source is its own sketch. Of a large one a subsample is tried first, which costs nothing. Where that does not
represent all rows - heavy tails, rare indicators - a CountSketch adds all rows to a few with random signs (Clarkson &
Woodruff 2013, "Low rank approximation and regression in input sparsity time"), which cannot miss the row that matters.
"""

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.reductions import Sums
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.preconditioning.choose import sketch_rows
from torchlinreg.engine.preconditioning.transforms import Transform

RANGE_IN_DEVIATIONS = 6.0  # of a sample, roughly
FAR_FROM_ZERO = 8.0  # offset, in deviations, beyond which features are shifted before they are multiplied


def subsample(source: MemorySource, chosen: torch.Tensor, shift: torch.Tensor, *, centre: bool) -> tuple:
    """Return the mean offset of these rows from a shift, and the rows in float64, centred and times root weights."""
    X = source.shifted(shift).sample(chosen)
    weight = None
    if source.weight is not None:
        weight = source.weight.index_select(0, chosen.to(source.weight.device)).double()
    offset = torch.zeros_like(shift)
    if centre:
        offset = X.mean(0) if weight is None else (weight.T @ X)[0] / weight.sum()
        X -= offset
    return offset, X if weight is None else X.mul_(weight.sqrt())


def countsketch(source: MemorySource, shift: torch.Tensor, *, centre: bool, generator: torch.Generator) -> tuple:
    """Return the mean offset of all rows from a shift, and their CountSketch, centred."""
    size = sketch_rows(*source.shape)
    return source.shifted(shift).reduce(CountSketch(size, shift, generator), size).result(centre=centre)


class CountSketch(Sums):
    """Reduction: all rows added to `size` ones with random signs, times the roots of their weights.

    Parameters
    ----------
    size : int
        Rows of the sketch; blocks have as many, or fewer.
    like : torch.Tensor of shape (n_features,)
    generator : torch.Generator
        Draws the signs.
    """

    SUMMED = ("_sketch", "_signs", "_total", "_n_rows")
    suits_threads = False  # the signs are drawn in the order of the rows

    def __init__(self, size: int, like: torch.Tensor, generator: torch.Generator):
        self._sketch, self._signs = like.new_zeros(size, len(like)), like.new_zeros(size, 1)
        self._generator, self._total, self._n_rows = generator, torch.zeros_like(like), 0

    def update(self, block: Batch) -> None:
        """Add the rows of a block, the first to the first."""
        X = block.X.to_dense()
        sign = torch.randint(2, (len(X), 1), generator=self._generator, device="cpu").to(X).mul_(2).sub_(1)
        if block.weight is None:
            self._total += X.sum(0)
        else:
            weight = block.weight.to(X)
            self._total += (weight.T @ X)[0]
            sign *= weight.sqrt()
        self._sketch[: len(X)].addcmul_(X, sign)
        self._signs[: len(X)] += sign
        self._n_rows += len(X)

    def result(self, *, centre: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean, or zeros, and the sketch of the rows about it, of the same second moment on average."""
        offset = self._total / self._n_rows if centre else torch.zeros_like(self._total)
        sketch = self._sketch.addmm_(self._signs, offset[None], alpha=-1.0)
        return offset, sketch.mul_((len(sketch) / self._n_rows) ** 0.5)


class GramProduct(Sums):
    """Reduction: Xcᵀ diag(w) Xc theta / n, with the intercept's column of ones appended to X if T has an offset.

    Parameters
    ----------
    transform : Transform
    direction : torch.Tensor of shape (n_features, 1)
        Weights in the variables v.
    """

    SUMMED = ("_gradient", "_n_rows")

    def __init__(self, transform: Transform, direction: torch.Tensor):
        self._transform, self._n_rows, self._gradient = transform, 0, 0.0
        v = direction if transform.offset is None else torch.cat([direction, direction.new_zeros(1, 1)])
        self._theta, self._n_weights = transform(v), len(direction)

    def update(self, block: Batch) -> None:
        """Add the product of a block."""
        theta, n = self._theta, self._n_weights
        image = block.X.matmul(theta[:n]) + theta[n:].sum(0)
        image = image if block.weight is None else block.weight * image
        product = block.X.rmatmul(image)
        self._gradient += product if self._transform.offset is None else torch.cat([product, image.sum(0)[None]])
        self._n_rows += len(block.y)

    @property
    def value(self) -> torch.Tensor:
        """The product in the variables v, shape (n_features, 1)."""
        return self._transform.rmatvec(self._gradient)[: self._n_weights] / self._n_rows


def choose_shift(sample: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the mean of each column, as a number of that precision, or zeros if all are near zero."""
    mean = sample.mean(0, dtype=torch.float64)
    lowest, highest = torch.aminmax(sample, dim=0)
    mean = torch.where(lowest == highest, lowest, mean).to(dtype).double()
    far = mean.abs() > FAR_FROM_ZERO * (highest.double() - lowest.double()) / RANGE_IN_DEVIATIONS
    return mean if (far & (mean != 0)).any() else torch.zeros_like(mean)
