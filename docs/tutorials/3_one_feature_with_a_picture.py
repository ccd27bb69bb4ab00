"""Tutorial 3. One feature, with a picture: a cloud of points and the red line through it.

A hundred points are scattered with standard deviation 3 around the line y = 3 x + 10. ``nn.Linear`` walks to
it in 10 000 full-batch steps. It cannot find the line itself, only the line of these hundred points; how far
the two lie apart is the business of the standard errors, which are printed too.

    python docs/tutorials/3_one_feature_with_a_picture.py one_feature.png
"""

import sys

import numpy as np

from torchlinreg import TorchLinearRegressor
from torchlinreg.displays import FitDisplay

NOISE = 3.0


def points(random_state=0, n_samples=100):
    """Return `n_samples` points around y = 3 x + 10, with x between 0 and 10."""
    rng = np.random.RandomState(random_state)
    x = rng.uniform(0, 10, size=n_samples)
    return x[:, np.newaxis], 3 * x + 10 + NOISE * rng.normal(size=n_samples)


def train(X, y, backend="linear"):
    """Take 10 000 steps of 1e-3 along the gradient over all rows.

    The slope settles within a hundred steps. The intercept needs the others: along it the valley is flat.
    """
    model = TorchLinearRegressor(
        loss="mse", backend=backend, learning_rate=1e-3, batch_size="full", max_iter=10_000, tol=None
    )
    return model.fit(X, y)


def standard_errors(X):
    """Return how far slope and intercept of a sample stray from the truth, in standard deviations.

    They are the roots of the diagonal of ``NOISE**2 * inverse(A.T @ A)``; A is x beside a column of ones.
    """
    A = np.column_stack([X, np.ones(len(X))])
    return NOISE * np.sqrt(np.diag(np.linalg.inv(A.T @ A)))


def main(output=None, random_state=0):
    """Run the tutorial, save the picture as `output` if given, and return the model and the display."""
    X, y = points(random_state)
    model = train(X, y)
    slope_error, intercept_error = standard_errors(X)
    print(f"w = {model.coef_[0]:.3f}, the truth is 3 and the standard error {slope_error:.3f}")
    print(f"b = {model.intercept_:.3f}, the truth is 10 and the standard error {intercept_error:.3f}")

    display = FitDisplay.from_estimator(model, X, y)
    if output is not None:
        display.figure_.savefig(output)
        print(f"the picture is in {output}")
    return model, display


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "one_feature.png")
