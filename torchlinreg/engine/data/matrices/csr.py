"""Sparse rows in compressed form (CSR), and their products."""

from functools import cached_property
from itertools import pairwise

import torch

from torchlinreg.engine.data.matrices.csr_products import Products, ScipyProducts, TorchProducts
from torchlinreg.engine.data.matrices.operators import Operator, Reader


class CSROperator(Operator):
    """A sparse matrix in compressed rows.

    Parameters
    ----------
    crow : torch.Tensor of shape (n_rows + 1,), integer
        Where each row begins in `col` and `value`, and where the last one ends.
    col : torch.Tensor of shape (n_stored,), of the type of `crow`
        Feature of each number; no feature twice in a row, unless with a zero.
    value : torch.Tensor of shape (n_stored,)
    n_features : int
    """

    is_sparse = True

    def __init__(self, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, n_features: int):
        self.crow, self.col, self.value = crow, col, value
        self.shape = len(crow) - 1, n_features
        self.dtype, self.device = value.dtype, value.device

    @property
    def nbytes(self) -> int:
        """Memory of it all."""
        return self.crow.nbytes + self.col.nbytes + self.value.nbytes

    @property
    def n_stored(self) -> int:
        """Numbers stored."""
        return len(self.value)

    def to(self, *where) -> "CSROperator":
        """Return the operator elsewhere, or itself."""
        value = self.value.to(*where)
        return self if value is self.value else self.with_values(value)

    def map(self, function) -> "CSROperator":
        """Apply an elementwise function to the numbers stored."""
        return self.with_values(function(self.value))

    def max(self) -> torch.Tensor:
        """Return the largest number stored, or zero."""
        return torch.cat([self.value, self.value.new_zeros(1)]).max()

    def in_double(self, shift: torch.Tensor) -> "CSROperator":
        """Return the operator itself, which is read in the precision of the targets."""
        return self

    def to_dense(self) -> torch.Tensor:
        """Return a tensor with the zeros filled in."""
        return self._products.to_dense()

    def columns(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return a dense copy of the columns of these numbers, none of them twice."""
        place = torch.full((self.shape[1],), -1, device=self.device)
        place[chosen] = torch.arange(len(chosen), device=self.device)
        to = place.index_select(0, self.col)
        kept = to >= 0
        row = torch.repeat_interleave(self.crow.diff(), output_size=self.n_stored).long()[kept]
        dense = self.value.new_zeros(len(self), len(chosen))
        dense.view(-1).index_add_(0, row.mul_(len(chosen)).add_(to[kept]), self.value[kept])
        return dense

    def with_ones(self) -> "CSROperator":
        """Append a column of ones."""
        n_rows, n_features = self.shape
        row = torch.repeat_interleave(self.crow.diff(), output_size=self.n_stored)
        place = torch.arange(self.n_stored, device=self.device) + row
        col = self.col.new_full((self.n_stored + n_rows,), n_features).index_copy_(0, place, self.col)
        value = self.value.new_ones(self.n_stored + n_rows).index_copy_(0, place, self.value)
        crow = self.crow + torch.arange(n_rows + 1, device=self.device, dtype=self.crow.dtype)
        return CSROperator(crow, col, value, n_features + 1)

    def rows(self, chosen: slice | torch.Tensor) -> "CSROperator":
        """Return the rows of a slice, or a copy of those of these numbers."""
        if not isinstance(chosen, slice):
            return CSROperator(*self._products.rows(chosen.to(self.device)), self.shape[1])
        start, stop, step = chosen.indices(len(self))
        if step != 1:
            return self.rows(torch.arange(start, stop, step, device=self.device))
        if stop - start == len(self):
            return self
        stop = max(start, stop)
        low, high = self.crow[start].item(), self.crow[stop].item()
        crow = self.crow[start : stop + 1] - low
        return CSROperator(crow, self.col[low:high], self.value[low:high], self.shape[1])

    def copy_rows(self, chosen: torch.Tensor, out: torch.Tensor) -> None:
        """Write these rows, dense, to a tensor."""
        out.copy_(self.rows(chosen).to(out.device).to_dense())

    def split(self, size: int) -> list["CSROperator"]:
        """Cut into operators of `size` rows, the last one maybe shorter."""
        if size >= len(self):
            return [self]
        bounds = [*self.crow[:-1:size].tolist(), self.n_stored]
        lengths = [after - before for before, after in pairwise(bounds)]
        whole = self.crow.unfold(0, size + 1, size)
        crows = list((whole - whole[:, :1]).unbind())
        if len(crows) < len(lengths):
            rest = self.crow[size * len(crows) :]
            crows.append(rest - rest[:1])
        parts = zip(crows, self.col.split(lengths), self.value.split(lengths), strict=True)
        return [CSROperator(*part, self.shape[1]) for part in parts]

    def __matmul__(self, W: torch.Tensor) -> torch.Tensor:
        return _Product.apply(self, W) if W.requires_grad else self.matmul(W)

    def matmul(self, W: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return X W."""
        product = self._products.matmul(W)
        return product if out is None else out.copy_(product)

    def affine(self, intercept: torch.Tensor, W: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return X W + intercept in `out`."""
        return torch.add(intercept, self.matmul(W), out=out)

    def rmatmul(self, R: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0) -> torch.Tensor:
        """Return alpha Xᵀ R."""
        total = R.new_zeros(self.shape[1], R.shape[1]) if out is None else out.zero_()
        self.add_rmatmul(total, R, alpha)
        return total

    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add alpha Xᵀ R to `total`."""
        self._products.add_rmatmul(total, R, alpha)

    def apply(self, module: torch.nn.Linear) -> torch.Tensor:
        """Return X weightᵀ + bias."""
        product = self @ module.weight.t()
        return product if module.bias is None else product + module.bias

    def reader(self, n_rows: int, like: torch.Tensor) -> Reader:
        """Return what gathers rows, in the precision of `like`."""
        return _SparseReader(self, like)

    @cached_property
    def _products(self) -> Products:
        products = ScipyProducts if self.device.type == "cpu" else TorchProducts
        return products(self.crow, self.col, self.value, self.shape)

    def with_values(self, value: torch.Tensor) -> "CSROperator":
        """Return other numbers in the same places."""
        crow, col = self.crow.to(value.device), self.col.to(value.device)
        return CSROperator(crow, col, value, self.shape[1])


class _SparseReader(Reader):
    """Gathers sparse rows; there is no telling beforehand how much a buffer would have to hold."""

    is_buffered = False

    def __init__(self, operator: CSROperator, like: torch.Tensor):
        self._operator, self._like = operator, like
        self._on_host = operator.device != like.device
        self.copies = self._on_host or operator.dtype != like.dtype

    def __call__(self, on_host: slice | torch.Tensor, on_device: slice | torch.Tensor) -> CSROperator:
        """Return the rows."""
        chosen = on_host if self._on_host else on_device
        return self._operator.rows(chosen).to(self._like.device, self._like.dtype)


class _Product(torch.autograd.Function):
    """X W, for autograd."""

    @staticmethod
    def forward(ctx, operator: CSROperator, W: torch.Tensor) -> torch.Tensor:
        ctx.operator = operator
        return operator.matmul(W)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.operator.rmatmul(gradient)
