"""A path of penalty strengths, from the data: where it begins, and where it ends."""

import numpy as np

from torchlinreg.engine.columns.paths import NullModel

NEGLIGIBLE = 1e-3  # degrees of freedom, or spreads of the target, that do not count
SMALLEST_ALPHA = 1e-15  # that a path begins with, for a target that no feature explains


def alpha_path(
    at_zero: NullModel,
    covariance: tuple[float, float] | None,
    l1_ratio: float,
    n_alphas: int,
    eps: float | str,
    *,
    positive: bool,
) -> np.ndarray:
    """Return penalties from the largest that is of any use downwards, evenly spaced by their logarithms.

    With an L1 part the largest is the smallest that makes all weights zero, as in
    :class:`~sklearn.linear_model.LassoCV`, and `eps` the ratio of smallest to largest. Without, no weight becomes zero:
    the largest lets predictions leave the best constant by about `eps` of the target's spread, and the ratio is
    ``eps ** 2``.

    With "auto" the path ends where the penalty no longer counts, whatever the units of the columns. Let C be their
    covariance, and c the curvature of the loss. L2 leaves the trace of ``C (C + alpha / c)⁻¹`` degrees of freedom:
    about ``c trace(C) / alpha`` for large alphas, and all but ``alpha trace(C⁻¹) / c`` for small ones. L1 moves
    predictions from where they were without it by ``alpha / c sqrt(signs' C⁻¹ signs)``.

    Parameters
    ----------
    at_zero : NullModel
        The loss where all weights are zero.
    covariance : tuple of float or None
        Traces of C and of its pseudo-inverse, for "auto".
    l1_ratio : float
    n_alphas : int
    eps : float or "auto"
    positive : bool
        Whether weights are never negative, so that only negative gradients keep them from zero.
    """
    gradient = -at_zero.gradient if positive else at_zero.gradient.abs()
    l1_largest = gradient.max().clamp(min=0).item() / l1_ratio if l1_ratio else None
    if covariance is None:
        largest, ratio = (l1_largest, eps) if l1_ratio else (at_zero.stride.max().item() / eps, eps**2)
        largest = max(largest, SMALLEST_ALPHA)
        smallest = ratio * largest
    else:
        largest, smallest = _automatic_ends(at_zero, covariance, l1_ratio, l1_largest)
    smallest = max(smallest, np.finfo(float).tiny)
    if n_alphas == 1:
        return np.array([largest])
    with np.errstate(invalid="ignore"):  # an end that overflowed is for the caller to refuse
        return np.geomspace(largest, smallest, n_alphas)


def _automatic_ends(
    at_zero: NullModel, covariance: tuple[float, float], l1_ratio: float, l1_largest: float | None
) -> tuple[float, float]:
    """Return the largest and the smallest alpha that count."""
    trace, trace_of_inverse = covariance
    curvature = at_zero.steepness / at_zero.spread
    largest = curvature.max().item() * trace / NEGLIGIBLE if l1_largest is None else l1_largest
    largest = max(largest, SMALLEST_ALPHA)
    ends = [NEGLIGIBLE * largest]
    if trace_of_inverse and l1_ratio < 1:
        ends.append(NEGLIGIBLE * (curvature.min().item() / trace_of_inverse) / (1.0 - l1_ratio))
    if trace_of_inverse and l1_ratio:
        ends.append(NEGLIGIBLE * (at_zero.steepness.min().item() / trace_of_inverse**0.5) / l1_ratio)
    return largest, min(end for end in ends if end > 0)
