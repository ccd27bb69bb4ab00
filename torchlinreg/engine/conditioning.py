"""From raw columns to round ones: what makes a step of one right in every direction at once.

Let C be the centred, weighted covariance of the columns. Steps along ``T Tᵀ gradient``, where ``Tᵀ C T`` is close to
the identity, see a loss that is equally curved everywhere. T comes from an orthogonal factorisation of a *sketch* of
the table: all of it if it is small, or else its rows folded onto each other with random signs (Clarkson & Woodruff
2013, "Low rank approximation and regression in input sparsity time"). Unlike a sample of rows, a fold cannot miss the
row that matters.
"""

from dataclasses import dataclass

import torch

from torchlinreg.engine.batches import Rows

EXACT_ELEMENTS = 2**22  # a table no larger may be copied to float64 and be its own sketch,
EXACT_OPERATIONS = 2**28  # if factorising it takes no longer than this many multiplications
WHITEN_FEATURES = 4096  # beyond, a factorisation costs more than the passes that it saves
FOLDS_PER_FEATURE = 8  # rows of the sketch, per feature
SAMPLE_ROWS = 2048
EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Conditioning:
    """A table as the engine wants it, a change of variables in which its loss is round, and the way back.

    Attributes
    ----------
    rows : Rows
        Features (X - shift) / scale, targets (y - y_shift) / y_scale.
    shift, scale : torch.Tensor of shape (n_features,), float64
    y_shift, y_scale : torch.Tensor of shape (n_columns,), float64
    transform : torch.Tensor of shape (n_theta, n_directions), float64
        Theta, the weights with the intercept as a last row, is ``transform @ v``.
    rank : int
        Independent columns that the sketch has.
    condition : float
        Estimated condition number of the centred and scaled columns, as far as they are independent.
    exact : bool
        Whether the sketch was the whole table, so that one step of one is the answer.
    """

    rows: Rows
    shift: torch.Tensor
    scale: torch.Tensor
    y_shift: torch.Tensor
    y_scale: torch.Tensor
    transform: torch.Tensor
    rank: int
    condition: float
    exact: bool

    def minimum_norm(self, theta: torch.Tensor) -> torch.Tensor:
        """Of all weights that predict the same, return those of the smallest norm in the units of the data."""
        n_features = len(self.shift)
        rescale = self.scale[:, None]
        basis = torch.linalg.qr(rescale * self.transform[:n_features, : self.rank])[0]
        theta = theta.clone()
        theta[:n_features] = rescale * (basis @ (basis.T @ (theta[:n_features] / rescale)))
        return theta

    def unwind(self, theta: torch.Tensor, *, fit_intercept: bool) -> torch.Tensor:
        """Return theta in the units of the data, as given."""
        n_features = len(self.shift)
        weights = theta[:n_features] * (self.y_scale / self.scale[:, None])
        if not fit_intercept:
            return weights
        intercept = self.y_shift + self.y_scale * theta[n_features] - self.shift @ weights
        return torch.cat([weights, intercept[None]])


def is_exact(n_rows: int, n_features: int) -> bool:
    """Whether the table can be its own sketch."""
    short = min(n_rows, n_features)
    affordable = n_rows * n_features <= EXACT_ELEMENTS and n_rows * n_features * short <= EXACT_OPERATIONS
    return affordable or n_rows <= 2 * FOLDS_PER_FEATURE * n_features


def condition(rows: Rows, *, fit_intercept: bool) -> Conditioning:
    """Centre, scale and whiten a table that is its own sketch, in float64.

    Parameters
    ----------
    rows : Rows
    fit_intercept : bool
        Nothing is centred without an intercept.
    """
    X, y = rows.X.double(), rows.y.double()
    shift, y_shift = (
        weighted_mean(table, rows.weight) if fit_intercept else table.new_zeros(table.shape[1]) for table in (X, y)
    )
    X, y = X - shift, y - y_shift
    scale, y_scale = root_mean_square(X, rows.weight), root_mean_square(y, rows.weight)
    X, y = X.div_(scale), y.div_(y_scale)
    weight = None if rows.weight is None else rows.weight.double()
    sketch = X if weight is None else X * weight.sqrt()
    transform, cond = whiten(sketch / len(rows) ** 0.5)
    rank = transform.shape[1]
    if fit_intercept:
        transform = torch.block_diag(transform, transform.new_ones(1, 1))
    return Conditioning(
        Rows(X, y, weight), shift, scale, y_shift, y_scale, transform, rank=rank, condition=cond, exact=True
    )


def whiten(sketch: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Find T of full column rank such that ``sketch @ T`` has orthonormal columns.

    Singular values below float64's rounding of the largest are taken for zero, and their directions are left out.

    Parameters
    ----------
    sketch : torch.Tensor of shape (n_rows, n_features), float64

    Returns
    -------
    transform : torch.Tensor of shape (n_features, rank)
    condition : float
        Ratio of the largest to the smallest singular value that was kept; an upper bound where that is all it takes.
    """
    n_rows, n_features = sketch.shape
    if n_rows >= n_features:
        sketch = torch.linalg.qr(sketch, mode="r")[1]
        inverse = torch.linalg.solve_triangular(sketch, torch.eye(n_features).to(sketch), upper=True)
        bound = (torch.linalg.matrix_norm(sketch) * torch.linalg.matrix_norm(inverse)).item()
        if bound * EPS * max(n_rows, 64) < 1e-3:  # far from a doubtful rank; false for NaN
            return inverse, bound
    _, singular, Vt = torch.linalg.svd(sketch, full_matrices=False)
    kept = singular > singular[0] * EPS * max(n_rows, n_features)
    singular, Vt = singular[kept], Vt[kept]
    spread = (singular[0] / singular[-1]).item() if len(singular) else 1.0
    return Vt.T / singular, spread


def weighted_mean(table: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Mean of each column: exact for a constant one, and accurate under a large offset."""
    first = table[0]
    rest = table - first
    return first + (rest if weight is None else rest.mul_(weight)).mean(0)


def root_mean_square(table: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Root of the weighted mean square of each column, without overflow; one for columns of zeros."""
    largest = table.abs().amax(0)
    largest = torch.where(largest > 0, largest, 1.0)
    squares = (table / largest).square_()
    size = largest * (squares if weight is None else squares.mul_(weight)).mean(0).sqrt_()
    return torch.where(size > 0, size, 1.0)
