"""The minimum of a convex objective, by an interior-point method that shares nothing with the engine.

Every loss with every penalty is a quadratic program, for `clarabel` to solve; half the squared error with a smooth
penalty is least squares, for LAPACK. Columns and target are brought to one size before, the constraints that are found
active are solved for once more in the end, and a feasible point of the dual says how far the minimum can still be.
"""

import math
from dataclasses import dataclass, replace

import clarabel
import numpy as np
from convex import EPS, Loss, Problem, compensated
from scipy import linalg, sparse

TOLERANCE = 1e-12
"""What the interior-point method stops at, if it gets there: relative to a target of size one."""
RANK = 1e-13
"""Of the largest singular value, what counts as none."""
ACTIVE = (1e-4, 1e-6, 1e-8, 1e-10)
"""Distances at which a residual or a weight is tried as sitting exactly on a l1."""


def solve(problem: Problem) -> tuple[np.ndarray, float]:
    """Return coefficients and intercept at the minimum."""
    standard = Standard.of(problem)
    return standard.unstandardize(standard.solve())


def lower_bound(problem: Problem, coef: np.ndarray, intercept: float) -> float:
    """Return what no coefficients get below, which is close to the minimum if these are."""
    standard = Standard.of(problem)
    return standard.unit * standard.dual_value(standard.standardize(coef, intercept))


@dataclass(frozen=True)
class Standard:
    """The problem in variables t: rows ``B t - y`` of moderate size, weights ``basis @ t``, the intercept last."""

    B: np.ndarray
    y: np.ndarray
    share: np.ndarray
    loss: Loss
    unit: float
    basis: np.ndarray
    """Weights of the columns as they are, and the intercept of shifted columns, in the variables."""
    l1: np.ndarray
    l2: np.ndarray
    shift: np.ndarray
    y_shift: float
    fit_intercept: bool

    @classmethod
    def of(cls, problem: Problem) -> "Standard":
        """Bring columns and target of the rows that count to size one, and centre them where there is an intercept."""
        used, intercept = problem.share > 0, problem.fit_intercept
        X, y, share = problem.X[used], problem.y[used], problem.share[used]
        shift, y_shift = np.zeros(X.shape[1]), 0.0
        if intercept:
            # Numbers that are close to each other have an exact difference
            shift, y_shift = X[0] + (X - X[0]).mean(0), problem.best_constant()
        Z, target = X - shift, y - y_shift
        scale, size = np.sqrt((Z**2).mean(0)), np.abs(target).mean() or 1.0
        loss, unit = problem.loss.in_units(size)
        target = target / size
        kept = scale > 8 * EPS * np.abs(shift)  # of a constant column only rounding is left
        Z, unit_weight = Z[:, kept] / scale[kept], size / scale[kept]
        l1, l2 = problem.l1 * unit_weight / unit, problem.l2 * unit_weight**2 / unit
        # By Cauchy and Schwarz, no gradient at the minimum is larger; a weight that costs more is zero
        cost = share @ loss.value(-target)
        steepest = math.inf if loss.jumps else math.sqrt(2 * loss.lipschitz * cost)
        steepest = min(max(loss.slope_above, loss.slope_below), steepest)
        paid = l1 <= steepest * np.sqrt(share @ Z**2) * (1 + 1e-9)
        # Weights in which the hessian is about one
        divisor = np.sqrt(1 + l2[paid])
        basis = np.zeros((X.shape[1] + intercept, paid.sum() + intercept))
        basis[np.flatnonzero(kept)[paid], np.arange(paid.sum())] = unit_weight[paid] / divisor
        basis[X.shape[1] :, paid.sum() :] = size
        standard = cls(
            B=np.column_stack([Z[:, paid] / divisor, np.ones((len(y), int(intercept)))]),
            y=target,
            share=share,
            loss=loss,
            unit=unit,
            basis=basis,
            l1=np.pad(l1[paid] / divisor, (0, int(intercept))),
            l2=np.pad(l2[paid] / divisor**2, (0, int(intercept))),
            shift=shift,
            y_shift=y_shift,
            fit_intercept=intercept,
        )
        return standard if problem.l1 or problem.l2 else standard.orthogonal()

    def orthogonal(self) -> "Standard":
        """Return the problem in the directions that are independent of each other, where nothing is penalised."""
        left, singular, right = np.linalg.svd(self.B, full_matrices=False)
        kept = singular > singular[0] * max(self.B.shape) * 8 * EPS if len(singular) else singular > 0
        size = math.sqrt(len(self.B))
        basis = self.basis @ (right[kept].T / singular[kept] * size)
        none = np.zeros(kept.sum())
        return replace(self, B=left[:, kept] * size, basis=basis, l1=none, l2=none)

    def solve(self) -> np.ndarray:
        """Return the variables at the minimum."""
        if self.B.shape[1] == 0:
            return np.zeros(0)
        if self.loss.is_quadratic and not self.l1.any():
            return self._least_squares()
        found = self._interior_point()
        return min([found, *(self._polish(found, active) for active in ACTIVE)], key=self.value)

    def value(self, t: np.ndarray) -> float:
        """Return the objective over its unit."""
        cost = self.share @ self.loss.value(self.B @ t - self.y)
        return cost + self.l1 @ np.abs(t) + 0.5 * self.l2 @ t**2

    def unstandardize(self, t: np.ndarray) -> tuple[np.ndarray, float]:
        """Return coefficients and intercept in the units of the data."""
        theta = self.basis @ t
        coef = theta[: len(self.shift)]
        if not self.fit_intercept:
            return coef, 0.0
        return coef, -compensated(self.shift[None], coef, -theta[-1:], np.array([-self.y_shift]))[0]

    def standardize(self, coef: np.ndarray, intercept: float) -> np.ndarray:
        """Return the variables that come closest to coefficients and intercept in the units of the data."""
        centred = compensated(self.shift[None], coef, np.array([float(intercept)]), np.array([-self.y_shift]))
        theta = np.append(coef, centred) if self.fit_intercept else coef
        size = np.linalg.norm(self.basis, axis=1)
        size[size == 0] = 1.0
        return linalg.lstsq(self.basis / size[:, None], theta / size)[0]

    def _least_squares(self) -> np.ndarray:
        root = np.sqrt(self.loss.lipschitz * self.share)
        rows = np.vstack([root[:, None] * self.B, np.diag(np.sqrt(self.l2))])
        right = np.append(root * self.y, np.zeros(len(self.l2)))
        t = linalg.lstsq(rows, right)[0]
        return t + linalg.lstsq(rows, right - rows @ t)[0]

    def _interior_point(self) -> np.ndarray:
        """Solve the quadratic program.

        A residual is the sum of a part up to epsilon, one on the parabola and one on either straight line; the
        absolute value of a weight with an L1 penalty is a variable that bounds it from both sides.
        """
        loss, n, (of_l1,) = self.loss, len(self.y), np.nonzero(self.l1)
        eye, none = sparse.eye_array(n), np.zeros(n)
        # columns of the residuals' equation, hessian, gradient, lower and upper bound of each group of variables
        groups = [(sparse.csc_array(self.B), self.l2, np.zeros(self.B.shape[1]), -math.inf, math.inf)]
        if loss.epsilon:
            groups.append((-eye, none, none, -loss.epsilon, loss.epsilon))
        if not loss.jumps:
            groups.append((-eye, loss.lipschitz * self.share, none, -math.inf, math.inf))
        if math.isfinite(loss.slope_above):
            groups.append((-eye, none, loss.slope_above * self.share, 0.0, math.inf))
            groups.append((eye, none, loss.slope_below * self.share, 0.0, math.inf))
        m = len(of_l1)
        groups.append((sparse.csc_array((n, m)), np.zeros(m), self.l1[of_l1], -math.inf, math.inf))
        equations, hessians, slopes, *bounds = zip(*groups, strict=True)
        equations, slopes = sparse.hstack(equations), np.concatenate(slopes)
        low, high = (np.repeat(bound, [len(each) for each in hessians]) for bound in bounds)
        eye = sparse.eye_array(len(slopes), format="csr")
        weights, sizes = eye[of_l1], eye[len(slopes) - m :]
        above, below = np.isfinite(high), np.isfinite(low)
        A = sparse.vstack([equations, eye[above], -eye[below], weights - sizes, -weights - sizes], format="csc")
        b = np.concatenate([self.y, high[above], -low[below], np.zeros(2 * m)])
        cones = [clarabel.ZeroConeT(n), clarabel.NonnegativeConeT(len(b) - n)]
        P = sparse.diags_array(np.concatenate(hessians), format="csc")
        found = clarabel.DefaultSolver(P, slopes, A, b, cones, _settings()).solve()
        return np.array(found.x)[: self.B.shape[1]]

    def _polish(self, t: np.ndarray, active: float) -> np.ndarray:
        """Return the minimum on the zeros of L1 that t is close to, and on the parabolas that it is on."""
        for _ in range(3):
            step = self._step(t, active)
            if not self.value(t + step) < self.value(t):
                break
            t = t + step
        return t

    def _step(self, t: np.ndarray, active: float) -> np.ndarray:
        residual = self.B @ t - self.y
        kept = (self.l1 == 0) | (np.abs(t) > active)
        on, place = self._on_jump(residual, active)
        step = np.where(kept, 0.0, -t)
        residual = residual + self.B @ step
        B, slope = self.B[:, kept], self.share * self.loss.gradient(residual)
        hessian = self.share * self.loss.hessian(residual)
        slope[on] = hessian[on] = 0
        gradient = B.T @ slope + (self.l1 * np.sign(t) + self.l2 * t)[kept]
        curvature = (B.T * hessian) @ B + np.diag(self.l2[kept])
        along, free = np.zeros(B.shape[1]), np.eye(B.shape[1])
        if on.any() and kept.any():
            along = linalg.lstsq(B[on], (place - residual)[on], RANK)[0]
            free = linalg.null_space(B[on])
        if free.shape[1]:
            reduced = free.T @ curvature @ free
            along = along - free @ linalg.lstsq(reduced, free.T @ (gradient + curvature @ along), RANK)[0]
        step[kept] = along
        return step

    def _on_jump(self, residual: np.ndarray, active: float) -> tuple[np.ndarray, np.ndarray]:
        """Return which rows sit on a jump of the gradient, and where that is."""
        place = np.sign(residual) * self.loss.epsilon
        return self.loss.jumps & (np.abs(residual - place) <= active), place

    def dual_value(self, t: np.ndarray) -> float:
        """Return the largest lower bound that gradients of loss and penalty in balance with each other give (Fenchel).

        What rounding leaves of imbalance where nothing pays for it counts as if weights could be ten times as large.
        """
        return max(self._dual_value(t, active) for active in ACTIVE)

    def _dual_value(self, t: np.ndarray, active: float) -> float:
        residual = self.B @ t - self.y
        slope, root = self.loss.gradient(residual), np.sqrt(self.share)
        free = self._on_jump(residual, active)[0] if self.loss.jumps else self.loss.hessian(residual) > 0
        pull, zero = self.l1 * np.sign(t) + self.l2 * t, (self.l1 > 0) & (np.abs(t) <= active)
        # Rows on a jump, and weights on the l1, give what is missing; then everybody what rounding left
        for rows, columns in ((free, ~zero), (np.ones_like(free), np.ones_like(zero))):
            pull = np.where(zero, np.clip(-self.B.T @ (self.share * slope), -self.l1, self.l1), pull)
            missing = -(pull + self.B.T @ (self.share * slope))[columns]
            if rows.any() and columns.any():
                B = (root[:, None] * self.B)[rows][:, columns]
                slope[rows] += linalg.lstsq(B.T, missing, RANK)[0] / root[rows]
        slope = slope / max((slope / self.loss.slope_above).max(), (-slope / self.loss.slope_below).max(), 1.0)
        beyond = np.maximum(np.abs(self.B.T @ (self.share * slope)) - self.l1, 0)
        paid = 10 * beyond * np.maximum(np.abs(t), 1)
        np.divide(beyond**2, 2 * self.l2, out=paid, where=self.l2 > 0)
        return self.share @ (-slope * self.y - self.loss.conjugate(slope)) - paid.sum()


def _settings() -> clarabel.DefaultSettings:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.direct_solve_method = "qdldl"  # of one thread, the same everywhere
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
    return settings
