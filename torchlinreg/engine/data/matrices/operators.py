"""Linear operators: products with the rows of a design matrix, whether dense, sparse, or shifted as they are read."""

from abc import ABC, abstractmethod

import numpy as np
import torch

from torchlinreg.engine.data.matrices.products import sandwich


class Operator(ABC):
    """A design matrix X of shape (n_rows, n_features), known by its products and its rows.

    Attributes
    ----------
    shape : tuple of int
    dtype : torch.dtype
    device : torch.device
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    is_sparse: bool = False
    """Whether only nonzero numbers are stored, so that no column can be shifted."""
    is_shifted: bool = False
    """Whether a shift is subtracted as rows are read."""
    array: np.ndarray | None = None
    """The matrix, where NumPy is to multiply it with single columns."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    @abstractmethod
    def n_stored(self) -> int:
        """Numbers stored."""

    @property
    def mean_nnz(self) -> int:
        """Numbers stored of a row, on average, rounded up."""
        return -(-self.n_stored // max(1, len(self)))

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory of all that is stored."""

    @abstractmethod
    def __matmul__(self, W: torch.Tensor) -> torch.Tensor:
        """Return X W, which autograd can differentiate in W."""

    @abstractmethod
    def matmul(self, W: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return X W, without a graph."""

    @abstractmethod
    def affine(self, intercept: torch.Tensor, W: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return X W + intercept in `out`, without a graph."""

    @abstractmethod
    def rmatmul(self, R: torch.Tensor, out: torch.Tensor | None = None, alpha: float = 1.0) -> torch.Tensor:
        """Return alpha Xᵀ R."""

    @abstractmethod
    def add_rmatmul(self, total: torch.Tensor, R: torch.Tensor, alpha: float) -> None:
        """Add alpha Xᵀ R to `total`, in place."""

    @abstractmethod
    def apply(self, module: torch.nn.Linear) -> torch.Tensor:
        """Return the output of a linear module."""

    def sandwich(self, weights: torch.Tensor) -> torch.Tensor:
        """Return Xᵀ diag(w) X for each column w of the weights, shape (n_weights, n_features, n_features)."""
        return sandwich(self.to_dense(), weights)

    @abstractmethod
    def rows(self, chosen: slice | torch.Tensor) -> "Operator":
        """Return the rows of a slice, or those of these numbers."""

    @abstractmethod
    def copy_rows(self, chosen: torch.Tensor, out: torch.Tensor) -> None:
        """Write the rows of these numbers, dense, to a tensor on any device."""

    @abstractmethod
    def split(self, size: int) -> list["Operator"]:
        """Cut into operators of `size` rows, the last one maybe shorter."""

    @abstractmethod
    def with_ones(self) -> "Operator":
        """Append a column of ones."""

    @abstractmethod
    def map(self, function) -> "Operator":
        """Apply an elementwise function that leaves zeros zero."""

    @abstractmethod
    def max(self) -> torch.Tensor:
        """Return the largest number, or zero."""

    @abstractmethod
    def to(self, *where) -> "Operator":
        """Return the operator on another device, in another precision, or as another tensor has both."""

    @abstractmethod
    def in_double(self, shift: torch.Tensor) -> "Operator":
        """Return the operator, less a shift or zeros in float64, with products in float64."""

    def columns(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return a dense copy of the columns of these numbers, none of them twice."""
        return self.to_dense().index_select(1, chosen)

    @abstractmethod
    def to_dense(self) -> torch.Tensor:
        """Return the matrix as a tensor; of a sparse one, for a few rows at a time."""

    @abstractmethod
    def reader(self, n_rows: int, like: torch.Tensor) -> "Reader":
        """Return what reads up to `n_rows` rows at once, to the device of the tensor `like`."""


class Reader(ABC):
    """Brings rows of an operator to where products are computed.

    Attributes
    ----------
    copies : bool
        Whether consecutive rows are copied, too, rather than viewed.
    is_buffered : bool
        Whether copies lie in a buffer that the next ones overwrite.
    """

    copies: bool
    is_buffered: bool

    @abstractmethod
    def __call__(self, on_host: slice | torch.Tensor, on_device: slice | torch.Tensor) -> Operator:
        """Return the rows of a slice, or of the same numbers given on the host and on the device."""
