"""Two columns, one in ever larger units: how wrong four ways to fit a linear model are, as they come.

python docs/pictures/right_without_tuning.py    # writes the picture of the README beside this file
"""

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LinearRegression, SGDRegressor

from torchlinreg import TorchLinearRegressor

UNITS = np.logspace(0, 8, 9)
FLOOR, CEILING = 1e-16, 1e2


def adam(X, y):
    """Train `torch.nn.Linear` by Adam, the rate 0.01, and return its predictions."""
    torch.manual_seed(0)
    X, y = torch.from_numpy(X), torch.from_numpy(y)[:, None]
    model = torch.nn.Linear(X.shape[1], 1, dtype=X.dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(500):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(X), y).backward()
        optimizer.step()
    return model(X).detach().numpy()[:, 0]


def errors(predict):
    """Return the RMS error against least squares for each unit, in spreads of the target."""
    found = []
    for unit in UNITS:
        rng = np.random.default_rng(0)
        X = rng.normal(3.0, size=(1000, 2))
        y = X @ [1.0, 1.0] + 0.1 * rng.normal(size=1000)
        centred = X - X.mean(0)
        best = y.mean() + centred @ np.linalg.lstsq(centred, y, rcond=None)[0]
        error = np.sqrt(np.mean((predict(X * [1.0, unit], y) - best) ** 2)) / y.std()
        found.append(np.clip(error, FLOOR, CEILING))
    return found


CONTENDERS = {
    "SGDRegressor": (lambda X, y: SGDRegressor(random_state=0).fit(X, y).predict(X), "#D55E00", "s"),
    "nn.Linear and Adam": (adam, "#E69F00", "^"),
    "LinearRegression": (lambda X, y: LinearRegression().fit(X, y).predict(X), "#0072B2", "D"),
    "TorchLinearRegressor": (lambda X, y: TorchLinearRegressor().fit(X, y).predict(X), "#009E73", "o"),
}
figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, (predict, color, marker) in CONTENDERS.items():
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # SGDRegressor warns that it has not converged
        ax.loglog(UNITS, errors(predict), color=color, marker=marker, label=name)
ax.set(
    xlabel="size of one column relative to the other",
    ylabel="error of predictions\n(standard deviations of the target)",
    ylim=(FLOOR / 3, CEILING * 3),
)
ax.set_title("The same two columns in other units, nothing scaled, nothing tuned", fontsize=11)
ax.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1, CEILING], ["1e-16", "1e-12", "1e-8", "1e-4", "1", "≥ 100"])
ax.minorticks_off()
ax.grid(alpha=0.25)
ax.legend(loc="center left", fontsize=9)

if __name__ == "__main__":
    plt.rcParams |= {"svg.hashsalt": "torchlinreg", "svg.fonttype": "none", "font.family": "sans-serif"}
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})
