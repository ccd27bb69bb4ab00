"""The pictures of story.md, a function each."""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
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
    b = np.polyfit(x, y, 1)[1]

    def loss(w):
        return np.mean((np.multiply.outer(w, x) + b - y) ** 2, axis=-1) / 2

    def gradient(w):
        return np.mean((w * x + b - y) * x)

    path = [0.0]
    for _ in range(6):
        path.append(path[-1] - RATE * gradient(path[-1]))
    path, w = np.array(path), np.linspace(-0.8, 6.8, 200)
    near = np.array([-0.4, 1.4])
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharey=True)
    for ax in (left, right):
        ax.plot(w, loss(w), color=BLUE)
        ax.set(xlabel="weight w", ylim=(-8, 190))
        ax.grid(alpha=0.25)
    left.plot(near, loss(0.0) + gradient(0.0) * near, color=RED, linewidth=2)
    left.plot(0, loss(0.0), "o", color=RED)
    left.annotate(
        f"gradient {gradient(0.0):.0f}",
        (0, loss(0.0)),
        (1.4, loss(0.0)),
        color=RED,
        arrowprops={"arrowstyle": "-", "color": RED},
    )
    left.set(ylabel="loss", title="A guess, and how steep it is there")
    right.plot(path, loss(path), "o-", color=RED, markersize=5)
    right.set(title=f"Six steps of {RATE} times the gradient")


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
