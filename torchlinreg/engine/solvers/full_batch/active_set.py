"""The minimum of a small quadratic with a separable penalty that has a kink at zero, by an active set, in NumPy."""

from itertools import count
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, dpstrf

TOLERANCE = 1e-12  # of the numbers that optimality conditions weigh against each other
SINGULAR = 1e-13  # share of a diagonal entry that the other active directions must leave of it, and
DAMPING = 1e-9  # share added to the diagonal where they do not
ATTEMPTS = 3  # at letting several entries leave zero together, before it is one at a time
FEW = 8  # entries that may leave zero together at least
WIDE = 2  # times as many active directions as the rank of the Hessian, from which on that is made use of
SEARCHES = 20  # rounds for each direction, at most


class Quadratic(NamedTuple):
    """uᵀ H u / 2 + linearᵀ u + sum(h(u)), where h is `above` u on the right of zero and -`below` u on the left.

    Attributes
    ----------
    hessian : ndarray of shape (n, n)
        H without `shift`.
    shift : ndarray of shape (n,)
        Added to its diagonal.
    above, below : ndarray of shape (n,)
        Not negative; infinity where that side is forbidden.
    root : ndarray of shape (n, rank) or None
        A factor L with L Lᵀ = H, where that is of low rank.
    """

    hessian: np.ndarray
    shift: np.ndarray
    above: np.ndarray
    below: np.ndarray
    root: np.ndarray | None = None


class ActiveSet:
    """Searches for the minimum, from that of a similar quadratic, say.

    Entries that are not zero, and some of those that should not be, move to where the derivative vanishes as long as
    none of them changes its sign. If one does, they move to the lowest point on the way there. The value falls with
    each round, so that no set of signs comes twice (Lee, Battle, Raina & Ng 2006, "Efficient sparse coding
    algorithms").

    Parameters
    ----------
    quadratic : Quadratic
    u : ndarray of shape (n,)
        Where to begin.
    gradient : ndarray of shape (n,)
        Of the smooth part there. Both are overwritten. Only differences are added to it, so that a gradient that was
        measured more accurately than H allows is not spoiled.
    """

    def __init__(self, quadratic: Quadratic, u: np.ndarray, gradient: np.ndarray):
        self.u, self.gradient = u, gradient
        active = u.nonzero()[0]
        linear = gradient - _product(quadratic, active, u[active]) - quadratic.shift * u
        self._slack = TOLERANCE * np.abs(linear)
        self._factored: tuple[np.ndarray, np.ndarray, np.ndarray, bool] | None = None

    def minimize(self, quadratic: Quadratic) -> bool:
        """Go to the minimum, and return whether it was found."""
        slack = self._slack + TOLERANCE * np.minimum(quadratic.above, quadratic.below)
        is_settled, room = False, max(FEW, np.count_nonzero(self.u))
        for _ in range(SEARCHES * len(self.u) + SEARCHES):
            gradient, old = self.gradient, self.u.nonzero()[0]
            excess = np.maximum(-gradient - quadratic.above, gradient - quadratic.below)
            excess[old] = 0.0
            new = (excess > slack).nonzero()[0]
            if is_settled and not len(new):
                return True
            if len(new) > room:
                new = new[np.argpartition(-excess[new], room)[:room]]
            joined, settles = self._move(quadratic, old, new, excess)
            if is_settled and not joined:
                return True  # what is left is rounding
            # Where entries get into each other's way, those that follow leave zero one by one, for the next few rounds
            is_settled, room = settles, max(1, 2 * room) if settles else int(is_settled)
        return False

    def _move(self, quadratic: Quadratic, old, new, excess) -> tuple[bool, bool]:
        """Move the entries; return whether new ones left zero, and whether no old one met it on the way."""
        for attempt in count():
            active = np.concatenate([old, new])
            if not len(active):
                return False, True
            slope = self._slope(quadratic, active, len(old))
            step, is_exact = self._solve(quadratic, active, -slope)
            wrong = step[len(old) :] * slope[len(old) :] >= 0  # were to leave zero one way and go the other
            if not wrong.any():
                break
            if wrong.all() or attempt >= ATTEMPTS:
                new = new[[np.argmax(excess[new])]] if len(new) > 1 else new[:0]
            else:
                new = new[~wrong]
        before = self.u[active]
        after = before + step
        crosses = bool((before * after < 0).any())
        if crosses:
            after = _lowest(quadratic, active, before, step, slope)
        self.u[active] = after
        step = after - before
        self.gradient += _product(quadratic, active, step)
        self.gradient[active] += quadratic.shift[active] * step
        return len(new) > 0, is_exact and not crosses

    def _slope(self, quadratic: Quadratic, active: np.ndarray, n_old: int) -> np.ndarray:
        """Return the derivative on the side of zero where each entry is or, from the other side, is about to go."""
        gradient, is_above = self.gradient[active], self.u[active] > 0
        is_above[n_old:] = gradient[n_old:] < 0
        return gradient + np.where(is_above, quadratic.above[active], -quadratic.below[active])

    def _solve(self, quadratic: Quadratic, active: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, bool]:
        """Solve for a step of the active entries; where they depend on each other, for one that is damped."""
        shift = quadratic.shift[active]
        if quadratic.root is not None and len(active) > WIDE * quadratic.root.shape[1] and shift.all():
            return self._solve_by_root(quadratic, active, shift, right), True
        factored = self._factored
        if factored is None or not (_equal(factored[0], active) and _equal(factored[1], shift)):
            matrix = _block(quadratic, active)
            diagonal = matrix.diagonal() + shift
            np.fill_diagonal(matrix, diagonal)
            factor, failed = _cholesky(matrix)
            is_exact = not failed and bool((factor.diagonal() ** 2 > SINGULAR * diagonal).all())
            if not is_exact:
                np.fill_diagonal(matrix, diagonal * (1.0 + DAMPING) + np.finfo(float).tiny)
                factor, _ = _cholesky(matrix)
            self._factored = factored = active, shift, factor, is_exact
        step = dpotrs(factored[2], right, lower=True)[0]
        is_exact = factored[3] or bool(np.abs(right).max() <= TOLERANCE * np.abs(self.gradient[active]).max())
        return step, is_exact

    @staticmethod
    def _solve_by_root(quadratic: Quadratic, active: np.ndarray, shift: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Solve a system of low rank and a diagonal by one of that rank (Woodbury), and once more for what is left."""
        root = quadratic.root.take(active, 0)
        scaled = root / shift[:, None]
        inner = np.dot(root.T, scaled)
        inner[np.diag_indices_from(inner)] += 1.0
        factor, _ = dpotrf(inner.T, lower=True, clean=False)

        def solve(right: np.ndarray) -> np.ndarray:
            return right / shift - scaled @ dpotrs(factor, right @ scaled, lower=True)[0]

        step = solve(right)
        return step + solve(right - root @ (step @ root) - shift * step)


def low_rank_root(hessian: np.ndarray, most: int) -> np.ndarray | None:
    """Return L of at most so many columns with L Lᵀ = H, by a pivoted Cholesky factorisation; None if there is none."""
    factor, pivots, rank, _ = dpstrf(hessian.T, tol=-1.0, lower=True)
    if rank > most:
        return None
    root = np.empty((len(hessian), rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return len(first) == len(second) and bool((first == second).all())


def _lowest(quadratic: Quadratic, active, before, step, slope) -> np.ndarray:
    """Return the lowest point on the way along a step, on which some entries cross zero."""
    curvature = step @ _block(quadratic, active) @ step + (quadratic.shift[active] * step) @ step
    moving = before * (before + step) < 0
    times = np.where(moving, -before / np.where(step == 0, 1.0, step), np.inf)
    order = np.argsort(times, kind="stable")[: np.count_nonzero(moving)]
    # The derivative along the way, which each crossing adds to, before and behind each of them
    jumps = (quadratic.above + quadratic.below)[active[order]] * np.abs(step[order])
    total = np.cumsum(jumps)
    first = slope @ step
    behind = first + total + curvature * times[order]
    turned = np.flatnonzero(behind >= 0)
    if not len(turned):
        return before + min(1.0, -(first + total[-1]) / curvature) * step
    at = turned[0]
    passed = first + (total[at - 1] if at else 0.0)
    is_at_crossing = passed + curvature * times[order[at]] < 0
    time = times[order[at]] if is_at_crossing else -passed / curvature
    after = before + time * step
    after[times == time] = 0.0
    return after


def _product(quadratic: Quadratic, active: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the Hessian, without its shift, times a step of the active entries."""
    return step @ quadratic.hessian.take(active, 0)


def _block(quadratic: Quadratic, active: np.ndarray) -> np.ndarray:
    """Return a copy of the Hessian of the active entries, without its shift."""
    return quadratic.hessian.take(active, 0).take(active, 1)


def _cholesky(matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the lower Cholesky factor of a matrix, and whether there is none."""
    factor, info = dpotrf(matrix.T, lower=True, clean=False)  # of a symmetric matrix, in the order of LAPACK
    return factor, info != 0
