"""What is left to gain after each pass over a table, for several condition numbers, untuned and by gradient descent."""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor

N_ROWS, N_FEATURES, N_PASSES = 30_000, 400, 15
COLORS = {1e1: "#009E73", 1e3: "#0072B2", 1e6: "#D55E00"}


def excess(losses):
    """Return how far losses are above the noise that is left, relative to where they began."""
    return (np.array(losses) - best) / (start - best)


rng = np.random.default_rng(0)
rotation = np.linalg.qr(rng.normal(size=(N_FEATURES, N_FEATURES)))[0]
figure, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
for condition, color in COLORS.items():
    sizes = np.geomspace(1, 1 / condition, N_FEATURES)  # of the columns in some directions
    X = rng.normal(size=(N_ROWS, N_FEATURES)) * sizes @ rotation.T
    signal = X @ (rotation @ (rng.normal(size=N_FEATURES) / sizes)) / np.sqrt(N_FEATURES)
    y = signal + rng.normal(size=N_ROWS)
    untuned = TorchLinearRegressor(random_state=0).fit(X, y)
    descent = TorchLinearRegressor(learning_rate=0.9, batch_size="full", max_iter=N_PASSES, tol=None).fit(X, y)
    best, start = untuned.loss_curve_[-1], np.var(y) / 2
    ax.semilogy(
        excess(untuned.loss_curve_[:N_PASSES]), "o-", color=color, label=f"untuned, {condition:,.0f}", markersize=4
    )
    ax.semilogy(excess(descent.loss_curve_), "--", color=color, label=f"gradient descent, {condition:,.0f}")
ax.set(
    xlabel="passes over the table",
    ylabel="left to gain",
    ylim=(1e-14, 10),
    title="Condition numbers from 10 to a million",
)
ax.grid(alpha=0.25)
ax.legend(fontsize=8, loc="lower left")
