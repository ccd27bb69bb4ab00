"""Tutorial 2. Synthetic data, in order: when the answer is known beforehand.

A thousand rows follow y = 2 x1 - 3.4 x2 + 4.2, but for a little noise of standard deviation 0.01. The weights
start near zero and the descent reads the rows as they lie, ten at a time, three times over.

How good can it get? Even the true weights leave the noise unexplained, half of 0.01 squared: 5e-5. Each step
takes away 3 % of the error, so an epoch of 100 steps leaves 0.97 ** 100, a twentieth, and a four-hundredth
of the loss. Two epochs come near the noise and the third has nothing left to gain.

    python docs/tutorials/2_synthetic_in_order.py
"""

import numpy as np
from sklearn.metrics import mean_squared_error

from torchlinreg import TorchLinearRegressor
from torchlinreg.datasets import make_linear


def models_after_each_epoch(random_state=0, **how):
    """Return the data, and the model as it stands after one, two and three epochs.

    With the same seed a longer fit begins exactly as a shorter one does, so three fits are three looks at
    the same descent.
    """
    rng = np.random.RandomState(random_state)
    X, y = make_linear(n_samples=1000, coef=(2, -3.4), intercept=4.2, noise=0.01, random_state=rng)
    start = rng.normal(scale=0.01, size=2)
    models = [
        TorchLinearRegressor(learning_rate=0.03, batch_size=10, max_iter=epochs, random_state=random_state, **how).fit(
            X, y, coef_init=start, intercept_init=0.0
        )
        for epochs in (1, 2, 3)
    ]
    return X, y, models


def from_scratch(random_state=0, backend="autograd"):
    """Return the loss over all rows, half the mean squared error, after each epoch in order."""
    X, y, models = models_after_each_epoch(random_state, loss="squared_error", backend=backend, shuffle=False)
    return [mean_squared_error(y, model.predict(X)) / 2 for model in models]


def concise(random_state=0, backend="linear"):
    """Return the mean squared error over all rows after each shuffled epoch of ``nn.Linear``.

    Torch's ``MSELoss`` is not halved: the noise floor is 1e-4 here, and the steps are twice as long.
    """
    X, y, models = models_after_each_epoch(random_state, loss="mse", backend=backend, shuffle=True)
    return [mean_squared_error(y, model.predict(X)) for model in models]


def main(random_state=0):
    """Run the tutorial and return the losses of its two halves."""
    in_order, shuffled = from_scratch(random_state), concise(random_state)
    for title, losses in (
        ("From scratch, in order: half the squared error", in_order),
        ("nn.Linear and optim.SGD, shuffled: the squared error", shuffled),
    ):
        print(title)
        for epoch, loss in enumerate(losses, start=1):
            print(f"epoch {epoch}, loss {loss:.6f}")
    return in_order, shuffled


if __name__ == "__main__":
    main()
