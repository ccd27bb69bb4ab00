"""The tutorials' work, 300 steps of textbook mini-batch SGD, against the ways it is done today.

Everybody trains on the same 1000 rows of 2 float32 features: batches of 10, learning rate 0.03, 3 epochs,
half squared loss, shuffled. Every time covers the whole of the work, from the arrays to the trained weights.
skorch runs twice: with the callbacks that it has unless told otherwise, and with `callbacks="disable"`; both
times silent and with `train_split=None`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from skorch import NeuralNetRegressor
from torch import nn

from benchmarks.timing import Timings, alternate, markdown_table
from torchlinreg import TorchLinearRegressor

N_ROWS, BATCH_SIZE, LEARNING_RATE, N_EPOCHS = 1000, 10, 0.03, 3
N_STEPS = N_EPOCHS * N_ROWS // BATCH_SIZE
TRUE_W, TRUE_B = np.array([2.0, -3.4], dtype=np.float32), 4.2

HAND_WRITTEN, LOADER = "hand-written autograd loop", "nn.Linear + DataLoader + optim.SGD"
SKORCH, SKORCH_BARE = "skorch, as it comes", "skorch, all callbacks disabled"
BACKENDS = {f'TorchLinearRegressor(backend="{name}")': name for name in ("analytic", "autograd", "linear")}
ANALYTIC, AUTOGRAD, LINEAR = BACKENDS

# (slow, fast, how many times longer `slow` should take)
TARGETS = (
    (HAND_WRITTEN, ANALYTIC, 12),
    (SKORCH_BARE, ANALYTIC, 30),
    (HAND_WRITTEN, AUTOGRAD, 1),
)

Weights = tuple[np.ndarray, float]


class HalfSquaredError(nn.Module):
    """Half the mean squared error, which torch has no class for."""

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean loss of the batch; prediction and target are ``(n, 1)``."""
        return 0.5 * nn.functional.mse_loss(prediction, target)


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Features of shape (1000, 2) and a target of shape (1000,), float32, noise of 0.01."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_ROWS, 2), dtype=np.float32)
    noise = 0.01 * rng.standard_normal(N_ROWS, dtype=np.float32)
    return X, X @ TRUE_W + np.float32(TRUE_B) + noise


def hand_written(X: torch.Tensor, y: torch.Tensor) -> Weights:
    """Run the loop as tutorials write it: a shuffled list of indices, autograd, an update under no_grad."""
    w = torch.normal(0, 0.01, size=(2, 1), requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    indices = list(range(N_ROWS))
    for _ in range(N_EPOCHS):
        random.shuffle(indices)
        for start in range(0, N_ROWS, BATCH_SIZE):
            batch = torch.tensor(indices[start : start + BATCH_SIZE])
            X_batch, y_batch = X[batch], y[batch]
            loss = (torch.matmul(X_batch, w) + b - y_batch) ** 2 / 2
            loss.sum().backward()
            with torch.no_grad():
                w -= LEARNING_RATE * w.grad / BATCH_SIZE
                b -= LEARNING_RATE * b.grad / BATCH_SIZE
            w.grad.zero_()
            b.grad.zero_()
    return w.detach().numpy().ravel(), b.item()


def data_loader(X: torch.Tensor, y: torch.Tensor) -> Weights:
    """Run the concise version: a DataLoader, nn.Linear and optim.SGD."""
    data = torch.utils.data.TensorDataset(X, y)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH_SIZE, shuffle=True)
    net, loss = nn.Linear(2, 1), HalfSquaredError()
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
    for _ in range(N_EPOCHS):
        for X_batch, y_batch in loader:
            value = loss(net(X_batch), y_batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return _weights(net)


def skorch(X: np.ndarray, y: np.ndarray, *, callbacks: str | None) -> Weights:
    """Fit skorch's regressor around nn.Linear, silent and with no validation split of its own."""
    net = NeuralNetRegressor(
        nn.Linear,
        module__in_features=2,
        module__out_features=1,
        criterion=HalfSquaredError,
        optimizer=torch.optim.SGD,
        lr=LEARNING_RATE,
        max_epochs=N_EPOCHS,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=callbacks,
        verbose=0,
    )
    return _weights(net.fit(X, y).module_)


def ours(X: np.ndarray, y: np.ndarray, *, backend: str) -> Weights:
    """Fit a TorchLinearRegressor, with all the validation that `fit` does."""
    model = TorchLinearRegressor(
        backend=backend,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_iter=N_EPOCHS,
    )
    model.fit(X, y)
    return model.coef_, float(model.intercept_)


def _weights(linear: nn.Linear) -> Weights:
    return linear.weight.detach().numpy().ravel(), linear.bias.item()


def contenders() -> dict[str, Callable[[], Weights]]:
    """Everybody who does the work, by the name shown in the tables."""
    X, y = make_data()
    y_column = y.reshape(-1, 1)
    X_tensor, y_tensor = torch.from_numpy(X), torch.from_numpy(y_column)
    estimators = {name: lambda b=backend: ours(X, y, backend=b) for name, backend in BACKENDS.items()}
    return estimators | {
        HAND_WRITTEN: lambda: hand_written(X_tensor, y_tensor),
        LOADER: lambda: data_loader(X_tensor, y_tensor),
        SKORCH_BARE: lambda: skorch(X, y_column, callbacks="disable"),
        SKORCH: lambda: skorch(X, y_column, callbacks=None),
    }


def largest_error(weights: Weights) -> float:
    """How far the weights or the intercept are from those that made the data."""
    w, b = weights
    return max(float(np.abs(w - TRUE_W).max()), abs(b - TRUE_B))


def report() -> str:
    """Run the benchmark and describe it in Markdown."""
    runs = contenders()
    errors = {name: largest_error(run()) for name, run in runs.items()}
    timings = alternate(runs)
    return "\n\n".join([__doc__.partition("\n")[2].strip(), _times(timings, errors), _ratios(timings)])


def _times(timings: Timings, errors: dict[str, float]) -> str:
    rows = [
        (
            name,
            f"{1e3 * timings.median(name):.1f}",
            f"{1e6 * timings.median(name) / N_STEPS:.0f}",
            f"{timings.ratio(name, ANALYTIC):.1f}",
            f"{error:.1e}",
        )
        for name, error in errors.items()
    ]
    return markdown_table(("contender", "ms", "µs a step", "times analytic", "largest error of w, b"), rows)


def _ratios(timings: Timings) -> str:
    rows = []
    for slow, fast, target in TARGETS:
        ratio = timings.ratio(slow, fast)
        rows.append((f"{slow} / {fast}", f"{ratio:.1f}", f"≥ {target}", "yes" if ratio >= target else "no"))
    return markdown_table(("ratio", "measured", "target", "met"), rows)
