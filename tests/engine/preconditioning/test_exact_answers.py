"""Answers where columns differ in size by many powers of ten, and depend on each other, against exact arithmetic."""

from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sympy import Matrix, Rational

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective.losses import SquaredError
from torchlinreg.engine.objective.objective import Evaluation
from torchlinreg.engine.preconditioning.transforms import Transform
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import ConjugateGradient
from torchlinreg.engine.solvers.solver import run

CURVATURE = torch.tensor([[1.0], [4.0]], dtype=torch.float64)


def exact(X, y, *, fit_intercept):
    """Return the least-squares weights of smallest norm, and the intercept, by rational numbers."""
    X, y = (
        Matrix(*part.shape, [Rational(Fraction(float(number))) for number in part.flat]) for part in (X, y[:, None])
    )
    ones = Matrix.ones(X.rows, 1)
    x_mean, y_mean = (ones.T * part / X.rows * int(fit_intercept) for part in (X, y))
    C, d = X - ones * x_mean, y - ones * y_mean
    # With independent rows R of the same span, the smallest solution is R' (R R')⁻¹ (B' B)⁻¹ B' d, where C = B R
    rows, pivots = C.rref()
    R, B = rows[: len(pivots), :], C[:, list(pivots)]
    coef = R.T * (R * R.T).LUsolve((B.T * B).LUsolve(B.T * d))
    return np.array(coef, dtype=float).ravel(), float((y_mean - x_mean * coef)[0])


TABLES = {
    "copies": lambda Z: np.column_stack([Z * [1e-8, 1.0, 1e8], Z[:, :1] * 1e-8]),
    "multiples": lambda Z: np.column_stack([Z * [2.0**-6, 1.0, 2.0**6], Z * [2.0**-5, 2.0**2, 2.0**5]]),
    "sums": lambda Z: np.column_stack([Z * [1024.0, 1.0, 2.0**-20], Z[:, 0] - Z[:, 1], Z.sum(1) * 4096.0]),
    "categories": lambda Z: np.column_stack([np.eye(3)[np.arange(len(Z)) % 3], Z * [1e-3, 1.0, 1e3]]),
    "fewer rows": lambda Z: np.column_stack([Z, Z**2, Z**3, Z[:, ::-1] ** 5])[:7] * 2.0 ** np.arange(-12, 12, 2),
}


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_least_squares_of_smallest_norm(rng, name, fit_intercept):
    X = TABLES[name](rng.integers(-9, 10, (12, 3)).astype(float))
    y = rng.integers(-50, 51, len(X)).astype(float)
    coef, intercept = exact(X, y, fit_intercept=fit_intercept)
    model = TorchLinearRegressor(fit_intercept=fit_intercept).fit(X, y)
    assert_allclose(model.predict(X), X @ coef + intercept, atol=1e-9 * np.abs(y).max())
    # Of columns that predict a moderate target the small ones have large weights, each known to its own precision
    error = np.abs(model.coef_ - coef) * np.abs(X).max(0)
    assert error.max() < 1e-7 * np.abs(y).max()
    assert_allclose(np.linalg.norm(model.coef_), np.linalg.norm(coef), rtol=1e-7)


@dataclass(frozen=True)
class Worsening:
    """A quadratic objective whose gradients are right at first, and wrong later."""

    n_right: int
    start: torch.Tensor
    transform = Transform(torch.ones(2, dtype=torch.float64), None)
    loss = SquaredError()
    resolution, n_columns = 1e-16, 1
    source = SimpleNamespace(n_models=1)
    seen: list = field(default_factory=list)

    def theta(self, v):
        return self.start + v

    def evaluate(self, theta):
        self.seen.append(theta)
        gradient = CURVATURE * theta
        if len(self.seen) > self.n_right:
            gradient = gradient + 100.0 * len(self.seen)
        value = 0.5 * (gradient * theta).sum(0)
        return Evaluation(value, gradient, value)


@pytest.mark.parametrize("n_right", [1, 2, 3])
def test_conjugate_gradients_return_the_best_of_what_they_saw(n_right):
    theta = torch.tensor([[3.0], [1.0]], dtype=torch.float64)
    solver = ConjugateGradient(
        tol=1e-30,
        floor=1e-30,
        max_iter=50,
        is_subsampled=False,
        canonical=lambda theta: theta,
        gap=lambda gradient, curvature: gradient.square().sum(0),
    )
    solution = run(solver.iterates(Worsening(n_right, theta), torch.zeros_like(theta)))
    assert (CURVATURE * solution.theta).square().sum() <= (CURVATURE * theta).square().sum()
    assert torch.isfinite(solution.theta).all()


@pytest.mark.parametrize("container", [np.asarray, torch.from_numpy])
def test_single_precision_without_an_intercept(rng, container):
    """Large parts of predictions that cancel show that float32 does not do, whatever they come from."""
    base = rng.normal(size=(200, 1))
    X = (1e4 + base + 1e-2 * rng.normal(size=(200, 3))).astype(np.float32)
    weights = np.array([300.0, -500.0, 200.0])
    y = (X.astype(float) @ weights + rng.normal(size=200)).astype(np.float32)
    expected = TorchLinearRegressor(fit_intercept=False).fit(X.astype(float), y.astype(float))
    model = TorchLinearRegressor(fit_intercept=False).fit(container(X), container(y))
    predicted = np.asarray(model.predict(container(X)))
    assert predicted.dtype == np.float32
    assert_allclose(predicted, expected.predict(X.astype(float)), atol=1e-3 * y.std())
