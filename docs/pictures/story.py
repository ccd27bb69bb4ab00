"""The pictures of story.md, a function each."""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor
from torchlinreg.displays import LossSurfaceDisplay

BLUE, GREEN, RED = "#0072B2", "#009E73", "#D55E00"
RATE = 0.008


def points():
    """Return 100 points around y = 3 x + 10, with x between 0 and 10, as tutorial 3 draws them."""
    rng = np.random.RandomState(0)
    x = rng.uniform(0, 10, size=100)
    return x, 3 * x + 10 + 3 * rng.normal(size=100)


def scatter(ax, x, y):
    """Draw the points."""
    ax.scatter(x, y, s=16, color=BLUE, alpha=0.6, edgecolor="none")
    ax.set(xlabel="x", ylabel="y")
    ax.grid(alpha=0.25)


def draw_data():
    """Draw the points alone."""
    _, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    scatter(ax, *points())


def draw_loss():
    """Draw the loss as a function of the weight alone, the tangent at a guess, and the way down from there."""
    x, y = points()
    x, y = x[:, None], y - np.polyfit(x, y, 1)[1]  # the intercept is held where it is best
    descent = TorchLinearRegressor(
        learning_rate=RATE, batch_size="full", max_iter=6, tol=None, fit_intercept=False
    ).fit(x, y)
    _, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    titles = ("A guess, and the tangent there", f"Six steps of {RATE} times the gradient")
    for ax, path, n_tangents, title in zip(axes, ([[0.0]], "fit"), (1, 0), titles, strict=True):
        LossSurfaceDisplay.from_estimator(descent, x, y, path=path, n_tangents=n_tangents, limits=[(-0.8, 6.8)], ax=ax)
        ax.set(xlabel="weight w", title=title)
    axes[0].set_ylabel("loss")
    axes[1].set_ylabel("")


def draw_line():
    """Draw the line after some numbers of steps."""
    x, y = points()
    _, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", sharey=True)
    for ax, steps in zip(axes, (1, 10, 10_000), strict=True):
        model = TorchLinearRegressor(learning_rate=RATE, batch_size="full", max_iter=steps, tol=None)
        model.fit(x[:, None], y)
        scatter(ax, x, y)
        ax.axline((0, model.intercept_), slope=model.coef_[0], color=RED, linewidth=2)
        title = f"{steps:,} step{'s' * (steps > 1)}: y = {model.coef_[0]:.2f} x + {model.intercept_:.2f}"
        ax.set_title(title, fontsize=10)
    for ax in axes[1:]:
        ax.set_ylabel("")


def draw_backends():
    """Draw the weights after each step, for the three backends."""
    x, y = points()
    _, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", sharey=True)
    for ax, backend in zip(axes, ("autograd", "linear", "analytic"), strict=True):
        model = TorchLinearRegressor(
            backend=backend, learning_rate=RATE, batch_size=10, max_iter=1, tol=None, random_state=0, warm_start=True
        )
        weights = [[0.0, 0.0]]
        for _ in range(60):
            model.fit(x[:, None], y)
            weights.append([model.coef_[0], model.intercept_])
        ax.plot(weights, label=["w", "b"])
        for line, color in zip(ax.lines, (RED, GREEN), strict=True):
            line.set_color(color)
        ax.axhline(3, color=RED, linestyle=":", linewidth=1)
        ax.axhline(10, color=GREEN, linestyle=":", linewidth=1)
        ax.set(title=f'backend="{backend}"', xlabel="epoch")
        ax.grid(alpha=0.25)
    axes[0].legend(loc="center right")
