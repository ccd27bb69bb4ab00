"""A source in standard units and well-conditioned variables, and the way back."""

from dataclasses import dataclass, replace

import torch

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.preconditioning.choose import sketch_rows
from torchlinreg.engine.preconditioning.factorizations import RowSpace
from torchlinreg.engine.preconditioning.transforms import Transform


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A source in standard units, a change of variables in which its Hessian is near the identity, and the way back.

    Attributes
    ----------
    source : MemorySource
        Features (X - shift) / scale, targets (y - y_shift) / y_scale.
    shift, scale : torch.Tensor of shape (n_features,), float64
    y_shift, y_scale : torch.Tensor of shape (n_targets,), float64
    transform : Transform
        Theta, the weights with the intercept as a last row, is ``transform(v)``. In float64.
    row_space : RowSpace or None
        Of the features, if columns depend on each other.
    condition : float
        Estimated condition number of the centred and scaled columns, as far as they are independent.
    sketch : {"exact", "gram", "subsample", "countsketch"}
        What the transform was found from. With "exact", one step of one is the answer, with "gram" nearly so.
    row_norm_bound : float
        Estimate of the mean squared norm of a whitened row, each weighted by itself; the number of directions if tails
        are light.
    right_side : torch.Tensor of shape (n_features, n_targets) or None
        Of the normal equations, where it is known: means of features times targets.
    """

    source: MemorySource
    shift: torch.Tensor
    scale: torch.Tensor
    y_shift: torch.Tensor
    y_scale: torch.Tensor
    transform: Transform
    row_space: RowSpace | None
    condition: float
    sketch: str
    row_norm_bound: float
    right_side: torch.Tensor | None = None

    @property
    def n_features(self) -> int:
        """Features of the source."""
        return len(self.shift)

    @property
    def largest_curvature(self) -> float:
        """Largest eigenvalue that a sketch of this size leaves, where one is meant (Marchenko & Pastur)."""
        if self.sketch in ("exact", "gram"):
            return 1.0
        return (1.0 + (self.n_features / sketch_rows(*self.source.shape)) ** 0.5) ** 2

    def in_double(self) -> "Conditioned":
        """Return the same with products in float64, whatever precision the features are kept in."""
        return replace(self, source=self.source.in_double(self.shift))

    def minimum_norm(self, theta: torch.Tensor) -> torch.Tensor:
        """Of all theta that predict the same, return the one whose weights have the smallest norm in the data's units.

        Parameters
        ----------
        theta : torch.Tensor of shape (n_features, n_columns) or (n_features + 1, n_columns)
            Without a last row of intercepts, predictions stay the same up to a constant.
        """
        if self.row_space is None:
            return theta
        weights, intercept = theta[: self.n_features], theta[self.n_features :]
        smallest = self.row_space.minimum_norm(weights, self.scale)
        if self.transform.offset is not None and len(intercept):
            intercept = intercept + self.transform.offset[None] @ (weights - smallest)
        return torch.cat([smallest, intercept])

    def standardize(self, theta: torch.Tensor, *, fit_intercept: bool) -> torch.Tensor:
        """Return theta, given in the units of the data, in standard units."""
        n_features = self.n_features
        weights = theta[:n_features].double() * (self.scale[:, None] / self.y_scale)
        if not fit_intercept:
            return weights
        intercept = theta[n_features].double() + self.shift @ theta[:n_features].double() - self.y_shift
        return torch.cat([weights, (intercept / self.y_scale)[None]])

    def unstandardize(self, theta: torch.Tensor, *, fit_intercept: bool) -> torch.Tensor:
        """Return theta, given in standard units, in the units of the data."""
        n_features = self.n_features
        weights = theta[:n_features] * (self.y_scale / self.scale[:, None])
        if not fit_intercept:
            return weights
        intercept = self.y_shift + self.y_scale * theta[n_features] - self.shift @ weights
        return torch.cat([weights, intercept[None]])
