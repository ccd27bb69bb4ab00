"""The Hessian of an objective: a matrix for each column, or one for all, and a diagonal."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.reductions import Sums

FORKED_ELEMENTS = 2**18  # of a matrix of which threads may each have some
SYSTEM_ELEMENTS = 2**24  # numbers in the systems of equations that are solved at once


@dataclass(frozen=True, eq=False)
class Hessian:
    """Second derivatives of a quadratic in each column.

    Attributes
    ----------
    matrix : torch.Tensor of shape (n_columns or 1, n_directions, n_directions)
        One for all columns, if they share it.
    shift : torch.Tensor of shape (n_directions, n_columns)
        Added to its diagonal.
    """

    matrix: torch.Tensor
    shift: torch.Tensor

    def __matmul__(self, u: torch.Tensor) -> torch.Tensor:
        product = self.matrix[0] @ u if len(self.matrix) == 1 else (self.matrix @ u.T[..., None])[..., 0].T
        return product + self.shift * u

    @property
    def diagonal(self) -> torch.Tensor:
        """Second derivatives along each direction, shape (n_directions, n_columns)."""
        return self.matrix.diagonal(dim1=1, dim2=2).T + self.shift

    def select(self, columns: torch.Tensor) -> Self:
        """Return those of some of the columns, a number for each."""
        return Hessian(self.matrix if len(self.matrix) == 1 else self.matrix[columns], self.shift[:, columns])

    def plus_diagonal(self, more: torch.Tensor) -> Self:
        """Return the Hessian with more on the diagonal."""
        return Hessian(self.matrix, self.shift + more)

    def plus_matrix(self, more: torch.Tensor) -> Self:
        """Return the Hessian with another matrix added."""
        return Hessian(self.matrix + more, self.shift)

    def to_dense(self) -> torch.Tensor:
        """Return matrices with their diagonals, shape (n_columns, n_directions, n_directions)."""
        return self.matrix + torch.diag_embed(self.shift.T)

    def solve(self, right: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        """Solve ``self @ u = right`` for the active entries, with the others zero, all of the shape of u."""
        n_active = active.sum(0)
        u, size = torch.zeros_like(right), int(n_active.max())
        if size == 0:
            return u
        # The active entries come first
        order = active.to(torch.uint8).argsort(dim=0, descending=True, stable=True)[:size]
        inside = (torch.arange(size, device=u.device)[:, None] < n_active).to(u)
        columns = torch.arange(u.shape[1], device=u.device)
        for some in columns.split(max(1, SYSTEM_ELEMENTS // size**2)):
            of, mask = order[:, some], inside[:, some]
            of_column = 0 if len(self.matrix) == 1 else some[:, None, None]
            system = self.matrix[of_column, of.T[:, :, None], of.T[:, None, :]]
            system *= mask.T[:, :, None] * mask.T[:, None, :]
            system += torch.diag_embed((mask * self.shift[:, some].gather(0, of) + (1.0 - mask)).T)
            solution = torch.linalg.solve_ex(system, (right[:, some].gather(0, of) * mask).T[..., None])[0]
            u[:, some] = u[:, some].scatter(0, of, solution[..., 0].T * mask)
        return u


class SecondOrder(NamedTuple):
    """Hessian, majorizer and part of the gradient, from one pass over the rows.

    Attributes
    ----------
    hessian : Hessian
    majorizer : torch.Tensor of the shape of ``hessian.matrix``
        Of parabolas that touch the loss from above, where it is none itself.
    curved_gradient : torch.Tensor of shape (n_directions, n_columns)
        The part of the gradient that came from rows with a second derivative.
    """

    hessian: Hessian
    majorizer: torch.Tensor
    curved_gradient: torch.Tensor

    def update_(self, other: "SecondOrder", columns: torch.Tensor) -> "SecondOrder":
        """Overwrite some of the columns, in place, by those of another, and return this, or the other for all."""
        if len(columns) == self.curved_gradient.shape[1]:
            return other
        self.hessian.matrix[columns] = other.hessian.matrix[columns]
        self.majorizer[columns] = other.majorizer[columns]
        self.curved_gradient[:, columns] = other.curved_gradient[:, columns]
        return self


class HessianSum(Sums):
    """Reduction: Zᵀ diag(second derivatives of the loss) Z / n, for rows Z in the variables v.

    Parameters
    ----------
    model : Model
    loss : Loss
    transform : Transform
    columns : torch.Tensor
        The numbers of the columns that are looked at.
    is_shared : bool
        Whether one matrix does for all columns.
    """

    SUMMED = ("_matrix", "_majorizer", "_gradient", "_n_rows")

    def __init__(self, model, loss, transform, columns: torch.Tensor, *, is_shared: bool):
        self._model, self._loss, self._transform = model, loss, transform
        self._columns, self._is_shared = columns, is_shared
        self._matrix = self._majorizer = self._gradient = 0.0
        self._n_rows = 0

    @property
    def suits_threads(self) -> bool:
        """Whether there is room for several, and the loss is no function of the user's."""
        return not self._loss.by_autograd and self._transform.n_directions**2 * len(self._columns) <= FORKED_ELEMENTS

    def update(self, block: Batch) -> None:
        """Add the products of a block."""
        prediction = self._model.predict(block).detach()
        Z = self._transform.rows(block.X)
        hessian = self._loss.hessian(prediction, block.y).to(Z)
        gradient = self._loss.gradient(prediction, block.y).to(Z)
        majorizer = hessian if self._is_shared else self._loss.majorizer(prediction, block.y).to(Z)
        if block.weight is not None:
            hessian, gradient, majorizer = (part * block.weight for part in (hessian, gradient, majorizer))
        self._gradient = self._gradient + Z.T @ (gradient * (hessian > 0))
        if self._is_shared:
            self._matrix = self._matrix + DenseOperator(Z).sandwich(hessian[:, :1])
        else:
            columns = self._columns
            both = DenseOperator(Z).sandwich(torch.cat([hessian[:, columns], majorizer[:, columns]], dim=1))
            self._matrix = self._matrix + both[: len(columns)]
            self._majorizer = self._majorizer + both[len(columns) :]
        self._n_rows += len(block.y)

    def means(self, n_columns: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return matrices of second derivatives and of the majorizer, zero for other columns, and the gradient."""
        matrix, gradient = self._matrix / self._n_rows, self._gradient / self._n_rows
        if self._is_shared:
            return matrix, torch.zeros_like(matrix), gradient
        if len(self._columns) == n_columns:
            return matrix, self._majorizer / self._n_rows, gradient
        all_columns = matrix.new_zeros(2, n_columns, *matrix.shape[1:])
        all_columns[0, self._columns], all_columns[1, self._columns] = matrix, self._majorizer / self._n_rows
        return all_columns[0], all_columns[1], gradient


class ColumnProducts(Sums):
    """Reduction: the means of products of some columns, centred and scaled by a diagonal T, with all of a list.

    Parameters
    ----------
    transform : Transform
    chosen : torch.Tensor of shape (n_chosen,)
        The list: numbers of columns.
    n_old : int
        How many at its beginning are not to be multiplied by others; the rest is.
    """

    SUMMED = ("_total", "_n_rows")

    def __init__(self, transform, chosen: torch.Tensor, n_old: int):
        self._chosen, self._n_old, self._n_rows = chosen, n_old, 0
        self._scale = transform.weights[chosen]
        self._shift = None if transform.offset is None else transform.offset[chosen]
        self._total = self._scale.new_zeros(len(chosen) - n_old, len(chosen))

    @property
    def suits_threads(self) -> bool:
        """Whether there is room for several."""
        return self._total.numel() <= FORKED_ELEMENTS

    def update(self, block: Batch) -> None:
        """Add the products of a block."""
        columns = block.X.columns(self._chosen).to(self._scale)
        if self._shift is not None:
            columns -= self._shift
        columns *= self._scale
        new = columns[:, self._n_old :]
        if block.weight is not None:
            new = new * block.weight.to(new)
        self._total.addmm_(new.T, columns)
        self._n_rows += len(columns)

    @property
    def value(self) -> torch.Tensor:
        """The means, shape (n_chosen - n_old, n_chosen)."""
        return self._total / self._n_rows
