"""Linear changes of variables, ``theta = T v``, and their transposes."""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch

from torchlinreg.engine.data.matrices.operators import Operator
from torchlinreg.engine.preconditioning.factorizations import orthonormal_basis


@dataclass(frozen=True)
class Transform:
    """A linear change of variables, ``theta = T v``, and its transpose.

    Attributes
    ----------
    weights : torch.Tensor of shape (n_features, n_directions) or (n_features,)
        The part of T that makes weights, which may be diagonal.
    offset : torch.Tensor of shape (n_features,) or None
        Mean of the features. With an intercept, v has a last row for the mean prediction.
    gain : torch.Tensor of shape (n_directions without that of the intercept, n_columns) or None
        Length of each direction in each column, where columns differ in that.
    """

    weights: torch.Tensor
    offset: torch.Tensor | None
    gain: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        """Columns of T, without that of the intercept."""
        return self.weights.shape[-1]

    @property
    def n_directions(self) -> int:
        """Columns of T, and rows of v."""
        return self.rank + (self.offset is not None)

    @property
    def row_norms(self) -> torch.Tensor:
        """Norms of the rows of T: how far a step of length one may move each weight, shape (n_features,)."""
        return self.weights.abs() if self.weights.ndim == 1 else torch.linalg.vector_norm(self.weights, dim=1)

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """Return T v, for v of shape (n_directions, n_columns)."""
        steps = v[: self.rank] if self.gain is None else self.gain * v[: self.rank]
        weights = self.weights[:, None] * steps if self.weights.ndim == 1 else self.weights @ steps
        if self.offset is None:
            return weights
        return torch.cat([weights, v[self.rank :] - self.offset[None] @ weights])

    def inverse(self, theta: torch.Tensor) -> torch.Tensor:
        """Return v with ``T v = theta``, where T is diagonal but for the offset, and has no gain."""
        v = theta[: self.rank] / self.weights[:, None]
        if self.offset is None:
            return v
        return torch.cat([v, theta[self.rank :] + self.offset[None] @ theta[: self.rank]])

    def rmatvec(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return Tᵀ gradient, the gradient in v, for a gradient of shape (n_theta, n_columns)."""
        if self.offset is None:
            return self._back(gradient)
        of_weights, of_intercept = gradient[:-1], gradient[-1:]
        centred = of_weights - self.offset[:, None] @ of_intercept
        return torch.cat([self._back(centred), of_intercept])

    def beyond(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the part of a gradient, as `rmatvec` takes it, that is orthogonal to the range of T."""
        weights = gradient[: len(self.weights)]
        if self.offset is not None:
            weights = weights - self.offset[:, None] @ gradient[len(self.weights) :]
        return weights - self._range @ (self._range.T @ weights)

    @cached_property
    def _range(self) -> torch.Tensor:
        return orthonormal_basis(self.weights)

    def rows(self, X: Operator) -> torch.Tensor:
        """Return X T, the rows in the variables v with that of the intercept: shape (n_rows, n_directions)."""
        X = X.to(self.weights).to_dense()
        X = X if self.offset is None else X - self.offset
        X = X * self.weights if self.weights.ndim == 1 else X @ self.weights
        return X if self.offset is None else torch.cat([X, X.new_ones(len(X), 1)], dim=1)

    def to(self, dtype: torch.dtype) -> "Transform":
        """Return T in another precision."""
        parts = (getattr(self, part.name) for part in fields(self))
        return Transform(*(None if part is None else part.to(dtype) for part in parts))

    def for_ridge(self, l2: torch.Tensor) -> "Transform":
        """Return the T in which the Hessian is the identity once an L2 penalty, ``l2 w² / 2``, is added.

        Parameters
        ----------
        l2 : torch.Tensor of shape (n_features, n_columns)
            Proportional between columns; one eigendecomposition serves them all.
        """
        if self.weights.ndim == 1:
            return replace(self, gain=(1.0 + l2 * self.weights[:, None].square()).rsqrt())
        strength = l2.sum(0)
        shape = l2[:, strength.argmax()]
        # Not by the eigenvalues of the square, in which large ones drown small ones where columns differ in scale
        root = shape.sqrt()[:, None] * self.weights
        root = root[torch.linalg.vector_norm(root, dim=1).argsort(descending=True)]
        _, size, Vt = torch.linalg.svd(root, full_matrices=False)
        gain = (1.0 + size.square()[:, None] * (strength / strength.max())).rsqrt()
        return Transform(self.weights @ Vt.T, self.offset, gain)

    def _back(self, gradient: torch.Tensor) -> torch.Tensor:
        back = self.weights[:, None] * gradient if self.weights.ndim == 1 else self.weights.T @ gradient
        return back if self.gain is None else self.gain * back
