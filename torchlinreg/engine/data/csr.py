"""Rows of which only the numbers that are not zero are kept, and their products."""

import warnings
from collections.abc import Callable
from functools import cache, cached_property
from itertools import pairwise

import torch

FEW_COLUMNS = 4  # of weights, that are multiplied one by one
RUNS = 3  # that an average row is gathered in, at least: what pads the last of them should be small beside the row


class SparseTable:
    """A sparse table, in compressed rows, with as much of the interface of a tensor as the engine asks a table for.

    Functions of torch accept it in place of a table: `torch.mm`, `torch.addmm`, `torch.nn.functional.linear`.

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

    def __init__(self, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, n_features: int, run: int = 1):
        self.crow, self.col, self.value, self.run = crow, col, value, run
        self.shape = torch.Size((len(crow) - 1, n_features))
        self.dtype, self.device = value.dtype, value.device

    @classmethod
    def of_csr(cls, crow: torch.Tensor, col: torch.Tensor, value: torch.Tensor, n_features: int) -> "SparseTable":
        """Return the table of these compressed rows, which stay where they are."""
        _hear_warning()
        shortest, longest = torch.aminmax(crow.diff())
        return cls(crow, col, value, n_features, run=max(1, longest.item()) if shortest == longest else 1)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Memory of it all."""
        return self.crow.nbytes + self.col.nbytes + self.value.nbytes

    def numel(self) -> int:
        """Numbers stored."""
        return len(self.value)

    def to(self, *where) -> "SparseTable":
        """Return the table on another device, in another precision, or as another tensor has both."""
        value = self.value.to(*where)
        return self if value is self.value else self.with_values(value)

    def double(self) -> "SparseTable":
        """Return the table in float64."""
        return self.to(torch.float64)

    def abs(self) -> "SparseTable":
        """Return the absolute values."""
        return self.with_values(self.value.abs())

    def square(self) -> "SparseTable":
        """Return the squares."""
        return self.with_values(self.value.square())

    def __truediv__(self, divisor: float | torch.Tensor) -> "SparseTable":
        return self.with_values(self.value / divisor)

    def max(self) -> torch.Tensor:
        """Return the largest number, or zero."""
        return torch.cat([self.value, self.value.new_zeros(1)]).max()

    def to_dense(self) -> torch.Tensor:
        """Return a tensor with all the zeros; for a few rows at a time."""
        dense = self.value.new_zeros(self.shape)
        row = torch.repeat_interleave(self.crow.diff(), output_size=self.numel()).long()
        dense.view(-1).index_add_(0, row.mul_(self.shape[1]).add_(self.col), self.value)
        return dense

    def with_ones(self) -> "SparseTable":
        """Append a column of ones."""
        n_rows, n_features = self.shape
        row = torch.repeat_interleave(self.crow.diff(), output_size=self.numel())
        place = torch.arange(self.numel(), device=self.device) + row
        col = self.col.new_full((self.numel() + n_rows,), n_features).index_copy_(0, place, self.col)
        value = self.value.new_ones(self.numel() + n_rows).index_copy_(0, place, self.value)
        crow = self.crow + torch.arange(n_rows + 1, device=self.device, dtype=self.crow.dtype)
        return SparseTable.of_csr(crow, col, value, n_features + 1)

    def __getitem__(self, chosen: slice) -> "SparseTable":
        start, stop, step = chosen.indices(len(self))
        if step != 1:
            return self.index_select(0, torch.arange(start, stop, step, device=self.device))
        if stop - start == len(self):
            return self
        low, high = self.crow[start].item(), self.crow[max(start, stop)].item()
        crow = self.crow[start : stop + 1] - low
        return SparseTable(crow, self.col[low:high], self.value[low:high], self.shape[1], self.run)

    def rows(self, chosen: slice | torch.Tensor) -> "SparseTable":
        """Return the rows of a slice, or those of these numbers."""
        return self[chosen] if isinstance(chosen, slice) else self.index_select(0, chosen.to(self.device))

    def index_select(self, dim: int, chosen: torch.Tensor) -> "SparseTable":
        """Gather rows; `dim` is 0.

        They are copied in runs of several numbers, which is many times faster than number by number. Where a run reads
        on into the next row, zeros take the place of what it finds there.
        """
        run, end_of_table = self._gathered_run, self.numel()
        if self.run > 1 and self._is_even:
            parts = (part.view(-1, run).index_select(dim, chosen).view(-1) for part in (self.col, self.value))
            crow = torch.arange(0, run * len(chosen) + 1, run, dtype=self.crow.dtype, device=self.device)
            return SparseTable(crow, *parts, self.shape[1], run)
        begin, end = self.crow[:-1].index_select(dim, chosen), self.crow[1:].index_select(dim, chosen)
        length = end - begin
        runs = (length + (run - 1)).div_(run, rounding_mode="floor")
        crow = torch.nn.functional.pad(runs.cumsum(0, dtype=self.crow.dtype), (1, 0)).mul_(run)
        n_gathered = crow[-1].item()
        row = torch.repeat_interleave(runs, output_size=n_gathered // run)
        place = (begin - crow[:-1]).index_select(0, row)
        place += torch.arange(0, n_gathered, run, dtype=place.dtype, device=self.device)
        beyond = (place + run - end_of_table).clamp_(min=0)
        # A run from anywhere is a row of these windows onto the numbers
        col, value = (
            table.unfold(0, min(run, end_of_table), 1).index_select(0, place - beyond)
            for table in (self.col, self.value)
        )
        for at in beyond.nonzero()[:, 0].tolist() if end.max() + run > end_of_table else ():
            col[at], value[at] = (part[at].roll(-beyond[at].item()) for part in (col, value))
        col, value = col.view(-1), value.view(-1)
        if run != self.run:
            value.index_fill_(0, _ends(crow[1:], crow.diff() - length), 0.0)
        return SparseTable(crow, col, value, self.shape[1], run)

    @cached_property
    def _is_even(self) -> bool:
        """Whether every row is one run."""
        return bool((self._runs == 1).all())

    @cached_property
    def _gathered_run(self) -> int:
        """Numbers to gather at once."""
        average = self.numel() // max(1, RUNS * len(self))
        return self.run if self.run > 1 else 1 << max(0, average.bit_length() - 1)

    def split(self, size: int) -> list["SparseTable"]:
        """Cut into tables of that many rows, the last one maybe shorter."""
        if size >= len(self):
            return [self]
        bounds = [*self.crow[:-1:size].tolist(), self.numel()]
        lengths = [after - before for before, after in pairwise(bounds)]
        whole = self.crow.unfold(0, size + 1, size)
        crows = list((whole - whole[:, :1]).unbind())
        if len(crows) < len(lengths):
            rest = self.crow[size * len(crows) :]
            crows.append(rest - rest[:1])
        parts = zip(crows, self.col.split(lengths), self.value.split(lengths), strict=True)
        return [SparseTable(*part, self.shape[1], self.run) for part in parts]

    def t(self) -> "Transposed":
        """Return the transpose, which offers products only."""
        return Transposed(self)

    @property
    def T(self) -> "Transposed":
        """The transpose."""
        return Transposed(self)

    def __matmul__(self, weights: torch.Tensor) -> torch.Tensor:
        return _Product.apply(self, weights) if weights.requires_grad else self.product(weights)

    def product(self, weights: torch.Tensor) -> torch.Tensor:
        """Return ``self @ weights``, without a graph."""
        if self.run == 1 or weights.shape[1] > FEW_COLUMNS:
            return torch.mm(self._csr, weights)
        return torch.stack([self._times(column) for column in weights.unbind(1)], dim=1)

    def _times(self, column: torch.Tensor) -> torch.Tensor:
        """Return the product with one column, by a single thread.

        The weights stay in the cache of the core that moves them: where others read them between the steps, moving them
        takes three times as long.
        """
        of_runs = column.index_select(0, self.col).mul_(self.value).view(-1, self.run).sum(1)
        if len(of_runs) == len(self):
            return of_runs
        return column.new_zeros(len(self)).index_add_(0, self._row_of_runs, of_runs)

    @classmethod
    def __torch_function__(cls, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Take the place of torch's function, which was called with a sparse table for one of its arguments."""
        return _INSTEAD[function](*args, **(kwargs or {})) if function in _INSTEAD else NotImplemented

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

    def with_values(self, value: torch.Tensor) -> "SparseTable":
        """Return other numbers in the same places."""
        crow, col = self.crow.to(value.device), self.col.to(value.device)
        return SparseTable(crow, col, value, self.shape[1], self.run)


class Transposed:
    """The transpose of a sparse table, for products from the left."""

    def __init__(self, table: SparseTable):
        self.table = table

    def __matmul__(self, error: torch.Tensor) -> torch.Tensor:
        return self.add_product(error.new_zeros(self.table.shape[1], error.shape[1]), error, 1.0)

    def add_product(self, total: torch.Tensor, error: torch.Tensor, alpha: float) -> torch.Tensor:
        """Add ``alpha * (transpose @ error)`` to `total`, where it is not zero and nowhere else."""
        table = self.table
        values = table.value.view(-1, table.run)
        error = error if len(values) == len(error) else error.index_select(0, table._row_of_runs)
        for column, of_column in zip(total.unbind(1), error.unbind(1), strict=True):
            # index_add_ would take narrow indices as they are, but half as long again
            column.scatter_add_(0, table.col.long(), (values * (alpha * of_column)[:, None]).view(-1))
        return total

    __torch_function__ = SparseTable.__torch_function__


class _Product(torch.autograd.Function):
    """``table @ weights``, for autograd."""

    @staticmethod
    def forward(ctx, table: SparseTable, weights: torch.Tensor) -> torch.Tensor:
        ctx.table = table
        return table.product(weights)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.table.T @ gradient


def _ends(end: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return the last few places before each end."""
    total = lengths.cumsum(0)
    places = (end - total).repeat_interleave(lengths, output_size=total[-1].item())
    return places.add_(torch.arange(len(places), device=places.device))


def _mm(table: SparseTable, weights: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    return out.copy_(table.product(weights))


def _addmm(bias: torch.Tensor, table, weights: torch.Tensor, *, beta=1.0, alpha=1.0, out: torch.Tensor) -> torch.Tensor:
    if isinstance(table, Transposed):
        start = out.zero_() if beta == 0 else torch.mul(bias, beta, out=out)
        return table.add_product(start, weights, alpha)
    return torch.add(beta * bias, table.product(weights), alpha=alpha, out=out)


def _addmm_(total: torch.Tensor, table: Transposed, error: torch.Tensor, *, alpha=1.0) -> torch.Tensor:
    return table.add_product(total, error, alpha)


def _linear(table: SparseTable, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    product = table @ weight.t()
    return product if bias is None else product + bias


# What torch's functions do with a sparse table
# (https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-python-api)
_INSTEAD: dict[Callable, Callable] = {
    torch.mm: _mm,
    torch.addmm: _addmm,
    torch.Tensor.addmm_: _addmm_,
    torch.nn.functional.linear: _linear,
}


@cache
def _hear_warning() -> None:
    """Let torch warn, which it does once a process and into the void, that its own CSR tensors are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], torch.empty(0, device="cpu"), (1, 1), device="cpu")
