"""The pictures of story.md, a function each."""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor
from torchlinreg.datasets import load_crop_yields, make_linear
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
    best = TorchLinearRegressor(fit_intercept=False).fit(x, y)
    path = [0.0]
    for _ in range(6):
        path.append(path[-1] - RATE * np.mean((x[:, 0] * path[-1] - y) * x[:, 0]))
    _, (left, right) = plt.subplots(1, 2, figsize=(6.5, 3), layout="constrained", sharey=True)
    for ax, points_on_it in ((left, path[:1]), (right, path)):
        LossSurfaceDisplay.from_estimator(
            best, x, y, path=np.array(points_on_it)[:, None], limits=[(-0.8, 6.8)], n_tangents=0, ax=ax
        )
        ax.set(xlabel="weight w")
    loss, gradient = np.mean(y**2) / 2, -np.mean(x[:, 0] * y)
    left.plot(0, loss, "o", color=RED)
    left.axline((0, loss), slope=gradient, color=RED, linestyle="--")
    left.annotate(f"gradient {gradient:.0f}", (0.5, loss + gradient / 2), (1.6, 150), color=RED)
    left.set(ylabel="loss", title="The tangent at a guess")
    right.set(ylabel="", title=f"Six steps at the rate {RATE}")
    left.get_legend().remove()


def draw_line():
    """Draw the line after some numbers of steps."""
    x, y = points()
    _, axes = plt.subplots(1, 3, figsize=(6.5, 2.6), layout="constrained", sharey=True)
    for ax, steps in zip(axes, (1, 10, 10_000), strict=True):
        model = TorchLinearRegressor(learning_rate=RATE, batch_size="full", max_iter=steps, tol=None)
        model.fit(x[:, None], y)
        scatter(ax, x, y)
        ax.axline((0, model.intercept_), slope=model.coef_[0], color=RED, linewidth=2)
        title = f"{steps:,} step{'s' * (steps > 1)}:\ny = {model.coef_[0]:.2f} x + {model.intercept_:.2f}"
        ax.set_title(title, fontsize=9)
    for ax in axes[1:]:
        ax.set_ylabel("")


def draw_backends():
    """Draw the weights after each step, for the three backends."""
    x, y = points()
    _, axes = plt.subplots(1, 3, figsize=(6.5, 2.6), layout="constrained", sharey=True)
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
        ax.set_title(f'"{backend}"', fontsize=10)
        ax.set_xlabel("epoch")
        ax.grid(alpha=0.25)
    axes[0].legend(loc="center right")


def draw_floor():
    """Draw the loss of each epoch, and that of the noise."""
    X, y = make_linear(random_state=0)
    model = TorchLinearRegressor(learning_rate=0.03, batch_size=10, max_iter=6, random_state=0).fit(X, y)
    _, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    ax.semilogy(range(1, 7), model.loss_curve_, "o-", color=BLUE, label="mean loss of the epoch")
    ax.axhline(5e-5, color=RED, linestyle=":", label="what the noise leaves")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.grid(alpha=0.25)
    ax.legend()


def draw_crops():
    """Draw the loss of ten thousand steps on raw columns, and the optimum."""
    X, y = load_crop_yields(return_X_y=True)
    descent = TorchLinearRegressor(loss="mse", learning_rate=1e-5, batch_size="full", max_iter=10_000).fit(X, y)
    optimum = np.mean((TorchLinearRegressor(loss="mse").fit(X, y).predict(X) - y) ** 2)
    _, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    ax.loglog(range(1, 10_001), descent.loss_curve_, color=BLUE, label="gradient descent")
    ax.axhline(optimum, color=RED, linestyle=":", label="optimum, by untuned mode")
    ax.set(xlabel="steps", ylabel="loss")
    ax.grid(alpha=0.25)
    ax.legend()
