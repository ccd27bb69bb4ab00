"""Dense rows, as they are or shifted as they are read."""

from functools import cached_property

import torch

from torchlinreg.engine.data.matrices.operators import Operator, Reader
from torchlinreg.engine.data.matrices.products import multiply_column, multiply_transposed, suits_numpy
from torchlinreg.engine.runtime.threads import in_parallel

GATHERED_ROWS = 2**12  # that a thread gathers at once


class DenseOperator(Operator):
    """A strided tensor.

    Parameters
    ----------
    tensor : torch.Tensor of shape (n_rows, n_features)
    """

    def __init__(self, tensor: torch.Tensor):
        self.tensor, self._transposed = tensor, tensor.t()
        self.array = tensor.numpy() if suits_numpy(tensor) else None

    @property
    def shape(self) -> torch.Size:
        """Rows and features."""
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the tensor."""
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensor is."""
        return self.tensor.device

    @property
    def n_stored(self) -> int:
        """Numbers stored."""
        return self.tensor.numel()

    @property
    def nbytes(self) -> int:
        """Memory of the tensor."""
        return self.tensor.nbytes

    def __matmul__(self, W: torch.Tensor) -> torch.Tensor:
        return self.tensor @ W

    def matmul(self, W: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return X W."""
        if out is not None and self.array is not None and W.shape[1] == 1:
            return multiply_column(self.array, W, out)
        return torch.mm(self.tensor, W, out=out)

    def affine(self, intercept: torch.Tensor, W: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return X W + intercept in `out`."""
        if self.array is not None and W.shape[1] == 1:
            return multiply_column(self.array, W, out).add_(intercept)
        return torch.addmm(intercept, self.tensor, W, out=out)

    def rmatmul(self, R: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0) -> torch.Tensor:
        """Return alpha Xᵀ R."""
        if self.array is not None and R.shape[1] == 1:
            product = multiply_transposed(self.array, R)
            return product.mul_(alpha) if out is None else torch.mul(product, alpha, out=out)
        if out is None:
            return self._transposed @ R if alpha == 1.0 else (self._transposed @ R).mul_(alpha)
        return torch.addmm(out, self._transposed, R, beta=0.0, alpha=alpha, out=out)

    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add alpha Xᵀ R to `total`."""
        if self.array is not None and R.shape[1] == 1:
            total.add_(multiply_transposed(self.array, R), alpha=alpha)
        else:
            total.addmm_(self._transposed, R, alpha=alpha)

    def apply(self, module: torch.nn.Linear) -> torch.Tensor:
        """Call the module."""
        return module(self.tensor)

    def rows(self, chosen: slice | torch.Tensor) -> "DenseOperator":
        """Return a view of a slice, or a copy of these rows."""
        if isinstance(chosen, slice):
            return DenseOperator(self.tensor[chosen])
        return DenseOperator(self.tensor.index_select(0, chosen.to(self.device)))

    def copy_rows(self, chosen: torch.Tensor, out: torch.Tensor) -> None:
        """Write these rows to a tensor."""
        out.copy_(self.rows(chosen).tensor)

    def split(self, size: int) -> list["DenseOperator"]:
        """Cut into views."""
        return [DenseOperator(part) for part in self.tensor.split(size)]

    def with_ones(self) -> "DenseOperator":
        """Append a column of ones."""
        return DenseOperator(torch.cat([self.tensor, self.tensor.new_ones(len(self), 1)], dim=1))

    def map(self, function) -> "DenseOperator":
        """Apply an elementwise function."""
        return DenseOperator(function(self.tensor))

    def max(self) -> torch.Tensor:
        """Return the largest number."""
        return self.tensor.max()

    def to(self, *where) -> "DenseOperator":
        """Return the operator elsewhere, or itself."""
        tensor = self.tensor.to(*where)
        return self if tensor is self.tensor else DenseOperator(tensor)

    def in_double(self, shift: torch.Tensor) -> Operator:
        """Return the operator, or one that widens and shifts rows as they are read."""
        return self if self.dtype == shift.dtype else Standardized(self, shift)

    def to_dense(self) -> torch.Tensor:
        """Return the tensor."""
        return self.tensor

    def reader(self, n_rows: int, like: torch.Tensor) -> Reader:
        """Return what views consecutive rows, and copies others into a buffer."""
        return _DenseReader(self.tensor, n_rows, like)


class Standardized(Operator):
    """X - 1 shiftᵀ in the precision of the shift, subtracted from dense rows as they are read.

    Centring in the algebra, as X W - 1 (shiftᵀ W), would lose the digits that a large offset takes.

    Parameters
    ----------
    operator : Operator
    shift : torch.Tensor of shape (n_features,)
    """

    is_shifted = True

    def __init__(self, operator: Operator, shift: torch.Tensor):
        self.operator, self.shift = operator, shift
        self.shape, self.dtype, self.device = operator.shape, shift.dtype, operator.device

    @property
    def n_stored(self) -> int:
        """Numbers of the shifted rows."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of what is shifted."""
        return self.operator.nbytes

    def _dense(self) -> DenseOperator:
        return DenseOperator(self.to_dense())

    def __matmul__(self, W: torch.Tensor) -> torch.Tensor:
        return self._dense() @ W

    def matmul(self, W: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return (X - 1 shiftᵀ) W."""
        return self._dense().matmul(W, out)

    def affine(self, intercept: torch.Tensor, W: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return (X - 1 shiftᵀ) W + intercept in `out`."""
        return self._dense().affine(intercept, W, out)

    def rmatmul(self, R: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0) -> torch.Tensor:
        """Return alpha (X - 1 shiftᵀ)ᵀ R."""
        return self._dense().rmatmul(R, out, alpha)

    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add alpha (X - 1 shiftᵀ)ᵀ R to `total`."""
        self._dense().add_rmatmul(total, R, alpha)

    def apply(self, module: torch.nn.Linear) -> torch.Tensor:
        """Call the module with the shifted rows."""
        return self._dense().apply(module)

    def rows(self, chosen: slice | torch.Tensor) -> "Standardized":
        """Return the rows of a slice, or those of these numbers."""
        return Standardized(self.operator.rows(chosen), self.shift)

    def copy_rows(self, chosen: torch.Tensor, out: torch.Tensor) -> None:
        """Write these rows, shifted, to a tensor."""
        torch.sub(self.operator.rows(chosen).to(out.device).to_dense(), self.shift, out=out)

    def split(self, size: int) -> list["Standardized"]:
        """Cut into operators of `size` rows."""
        return [Standardized(part, self.shift) for part in self.operator.split(size)]

    def with_ones(self) -> Operator:
        """Append a column of ones."""
        return self._dense().with_ones()

    def map(self, function) -> Operator:
        """Apply an elementwise function to the shifted numbers."""
        return self._dense().map(function)

    def max(self) -> torch.Tensor:
        """Return the largest number."""
        return self.to_dense().max()

    def to(self, *where) -> Operator:
        """Return the shifted rows elsewhere."""
        return self._dense().to(*where)

    def in_double(self, shift: torch.Tensor) -> "Standardized":
        """Return the operator with the shift in float64."""
        return Standardized(self.operator, shift)

    def to_dense(self) -> torch.Tensor:
        """Return the shifted rows."""
        return self.operator.to(self.shift.device).to_dense() - self.shift

    def reader(self, n_rows: int, like: torch.Tensor) -> Reader:
        """Return what shifts rows into a buffer."""
        if self.operator.is_sparse:
            return _FillingReader(self, n_rows)
        return _DenseReader(self.operator.to_dense(), n_rows, like, self.shift)


class _DenseReader(Reader):
    """Views consecutive rows where nothing stands against it; others are gathered, moved and shifted in buffers."""

    is_buffered = True

    def __init__(self, tensor: torch.Tensor, n_rows: int, like: torch.Tensor, shift: torch.Tensor | None = None):
        self._tensor, self._shift, self._device, self._n_rows = tensor, shift, like.device, n_rows
        self._on_host = tensor.device != like.device
        self.copies = self._on_host or shift is not None

    def __call__(self, on_host: slice | torch.Tensor, on_device: slice | torch.Tensor) -> DenseOperator:
        """Return the rows, shifted."""
        X = self._move(on_host) if self._on_host else self._gather(on_device)
        return DenseOperator(X if self._shift is None else torch.sub(X, self._shift, out=self._shifted[: len(X)]))

    def _gather(self, chosen: slice | torch.Tensor) -> torch.Tensor:
        if isinstance(chosen, slice):
            return self._tensor[chosen]
        out = self._buffer[: len(chosen)]
        parts = list(zip(chosen.split(GATHERED_ROWS), out.split(GATHERED_ROWS), strict=True))
        in_parallel(lambda part: torch.index_select(self._tensor, 0, part[0], out=part[1]), parts)
        return out

    def _move(self, chosen: slice | torch.Tensor) -> torch.Tensor:
        """Copy rows from the host, by way of page-locked memory, from which alone that is fast."""
        if isinstance(chosen, slice):
            pinned = self._pinned[: len(self._tensor[chosen])].copy_(self._tensor[chosen])
        else:
            pinned = torch.index_select(self._tensor, 0, chosen, out=self._pinned[: len(chosen)])
        return self._buffer[: len(pinned)].copy_(pinned)

    @cached_property
    def _buffer(self) -> torch.Tensor:
        return self._tensor.new_empty(self._n_rows, self._tensor.shape[1], device=self._device)

    @cached_property
    def _pinned(self) -> torch.Tensor:
        return torch.empty_like(self._buffer, device="cpu", pin_memory=True)

    @cached_property
    def _shifted(self) -> torch.Tensor:
        return self._shift.new_empty(self._n_rows, self._tensor.shape[1])


class _FillingReader(Reader):
    """Fills in the zeros of sparse rows, and shifts them."""

    copies = is_buffered = True

    def __init__(self, standardized: Standardized, n_rows: int):
        self._operator, self._shift = standardized.operator, standardized.shift
        self._shifted = self._shift.new_empty(n_rows, len(self._shift))

    def __call__(self, on_host: slice | torch.Tensor, on_device: slice | torch.Tensor) -> DenseOperator:
        """Return the rows, filled and shifted."""
        X = self._operator.rows(on_host).to(self._shift.device).to_dense()
        return DenseOperator(torch.sub(X, self._shift, out=self._shifted[: len(X)]))
