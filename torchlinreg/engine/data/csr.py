"""Sparse rows in compressed form (CSR), and their products."""

import warnings
from functools import cache, cached_property
from itertools import pairwise

import torch

from torchlinreg.engine.data.operators import Operator, Reader

FEW_COLUMNS = 4  # of weights, that are multiplied one by one
RUNS = 3  # that an average row is gathered in, at least: what pads the last of them should be small beside the row


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
    run : int, default=1
        The length of every row is a multiple of it.
    """

    is_sparse = True

    def __init__(self, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, n_features: int, run: int = 1):
        self.crow, self.col, self.value, self.run = crow, col, value, run
        self.shape = torch.Size((len(crow) - 1, n_features))
        self.dtype, self.device = value.dtype, value.device

    @classmethod
    def of_csr(cls, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, n_features: int) -> "CSROperator":
        """Return the operator of these compressed rows, which are not copied."""
        _hear_warning()
        shortest, longest = torch.aminmax(crow.diff())
        return cls(crow, col, value, n_features, run=max(1, longest.item()) if shortest == longest else 1)

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
        dense = self.value.new_zeros(self.shape)
        row = torch.repeat_interleave(self.crow.diff(), output_size=self.n_stored).long()
        dense.view(-1).index_add_(0, row.mul_(self.shape[1]).add_(self.col), self.value)
        return dense

    def with_ones(self) -> "CSROperator":
        """Append a column of ones."""
        n_rows, n_features = self.shape
        row = torch.repeat_interleave(self.crow.diff(), output_size=self.n_stored)
        place = torch.arange(self.n_stored, device=self.device) + row
        col = self.col.new_full((self.n_stored + n_rows,), n_features).index_copy_(0, place, self.col)
        value = self.value.new_ones(self.n_stored + n_rows).index_copy_(0, place, self.value)
        crow = self.crow + torch.arange(n_rows + 1, device=self.device, dtype=self.crow.dtype)
        return CSROperator.of_csr(crow, col, value, n_features + 1)

    def rows(self, chosen: slice | torch.Tensor) -> "CSROperator":
        """Return the rows of a slice, or a copy of those of these numbers."""
        if not isinstance(chosen, slice):
            return self._gather(chosen.to(self.device))
        start, stop, step = chosen.indices(len(self))
        if step != 1:
            return self._gather(torch.arange(start, stop, step, device=self.device))
        if stop - start == len(self):
            return self
        low, high = self.crow[start].item(), self.crow[max(start, stop)].item()
        crow = self.crow[start : stop + 1] - low
        return CSROperator(crow, self.col[low:high], self.value[low:high], self.shape[1], self.run)

    def _gather(self, chosen: torch.Tensor) -> "CSROperator":
        """Copy these rows.

        They are copied in runs of several numbers, which is many times faster than number by number. Where a run reads
        on into the next row, zeros take the place of what it finds there.
        """
        run, end = self._gathered_run, self.n_stored
        if self.run > 1 and self._is_even:
            parts = (part.view(-1, run).index_select(0, chosen).view(-1) for part in (self.col, self.value))
            crow = torch.arange(0, run * len(chosen) + 1, run, dtype=self.crow.dtype, device=self.device)
            return CSROperator(crow, *parts, self.shape[1], run)
        first, last = self.crow[:-1].index_select(0, chosen), self.crow[1:].index_select(0, chosen)
        length = last - first
        runs = (length + (run - 1)).div_(run, rounding_mode="floor")
        crow = torch.nn.functional.pad(runs.cumsum(0, dtype=self.crow.dtype), (1, 0)).mul_(run)
        n_gathered = crow[-1].item()
        row = torch.repeat_interleave(runs, output_size=n_gathered // run)
        place = (first - crow[:-1]).index_select(0, row)
        place += torch.arange(0, n_gathered, run, dtype=place.dtype, device=self.device)
        beyond = (place + run - end).clamp_(min=0)
        # A run from anywhere is a row of these windows onto the numbers
        col, value = (
            part.unfold(0, min(run, end), 1).index_select(0, place - beyond) for part in (self.col, self.value)
        )
        for at in beyond.nonzero()[:, 0].tolist() if last.max() + run > end else ():
            col[at], value[at] = (part[at].roll(-beyond[at].item()) for part in (col, value))
        col, value = col.view(-1), value.view(-1)
        if run != self.run:
            value.index_fill_(0, _ends(crow[1:], crow.diff() - length), 0.0)
        return CSROperator(crow, col, value, self.shape[1], run)

    @cached_property
    def _is_even(self) -> bool:
        """Whether every row is one run."""
        return bool((self._runs == 1).all())

    @cached_property
    def _gathered_run(self) -> int:
        """Numbers to gather at once."""
        average = self.n_stored // max(1, RUNS * len(self))
        return self.run if self.run > 1 else 1 << max(0, average.bit_length() - 1)

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
        return [CSROperator(*part, self.shape[1], self.run) for part in parts]

    def __matmul__(self, W: torch.Tensor) -> torch.Tensor:
        return _Product.apply(self, W) if W.requires_grad else self.matmul(W)

    def matmul(self, W: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return X W."""
        if self.run == 1 or W.shape[1] > FEW_COLUMNS:
            product = torch.mm(self._csr, W)
        else:
            product = torch.stack([self._times(column) for column in W.unbind(1)], dim=1)
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
        """Add alpha Xᵀ R to `total`, at the columns that have numbers stored and nowhere else."""
        values = self.value.view(-1, self.run)
        R = R if len(values) == len(R) else R.index_select(0, self._row_of_runs)
        for column, of_column in zip(total.unbind(1), R.unbind(1), strict=True):
            # index_add_ would take narrow indices as they are, but half as long again
            column.scatter_add_(0, self.col.long(), (values * (alpha * of_column)[:, None]).view(-1))

    def apply(self, module: torch.nn.Linear) -> torch.Tensor:
        """Return X weightᵀ + bias."""
        product = self @ module.weight.t()
        return product if module.bias is None else product + module.bias

    def reader(self, n_rows: int, like: torch.Tensor) -> Reader:
        """Return what gathers rows, in the precision of `like`."""
        return _SparseReader(self, like)

    def _times(self, column: torch.Tensor) -> torch.Tensor:
        """Return the product with one column, by a single thread.

        The weights stay in the cache of the core that moves them: where others read them between the steps, moving them
        takes three times as long.
        """
        of_runs = column.index_select(0, self.col).mul_(self.value).view(-1, self.run).sum(1)
        if len(of_runs) == len(self):
            return of_runs
        return column.new_zeros(len(self)).index_add_(0, self._row_of_runs, of_runs)

    @cached_property
    def _csr(self) -> torch.Tensor:
        parts = self.crow, self.col, self.value
        return torch.sparse_csr_tensor(*parts, self.shape, device=self.device, check_invariants=False)

    @cached_property
    def _runs(self) -> torch.Tensor:
        """Runs in each row."""
        lengths = self.crow[1:] - self.crow[:-1]
        return lengths if self.run == 1 else lengths.div_(self.run, rounding_mode="floor")

    @cached_property
    def _row_of_runs(self) -> torch.Tensor:
        rows = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(rows, self._runs, output_size=len(self.value) // self.run)

    def with_values(self, value: torch.Tensor) -> "CSROperator":
        """Return other numbers in the same places."""
        crow, col = self.crow.to(value.device), self.col.to(value.device)
        return CSROperator(crow, col, value, self.shape[1], self.run)


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


def _ends(end: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return the last few places before each end."""
    total = lengths.cumsum(0)
    places = (end - total).repeat_interleave(lengths, output_size=total[-1].item())
    return places.add_(torch.arange(len(places), device=places.device))


@cache
def _hear_warning() -> None:
    """Let torch warn, which it does once a process and into the void, that its own CSR tensors are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], torch.empty(0, device="cpu"), (1, 1), device="cpu")
