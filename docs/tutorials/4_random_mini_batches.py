"""Tutorial 4. From scratch with random mini-batches: the loop most people write first.

The data are those of tutorial 2: y = 2 x1 - 3.4 x2 + 4.2 and a little noise. Now every epoch deals the rows
out anew, ten at a time, and at the end we ask what matters: how far are the weights from the true ones?

    python docs/tutorials/4_random_mini_batches.py
"""

import numpy as np
from sklearn.metrics import mean_squared_error

from torchlinreg import TorchLinearRegressor
from torchlinreg.datasets import make_linear

TRUE_COEF = np.array([2, -3.4])
TRUE_INTERCEPT = 4.2


def train(random_state=0, backend="autograd"):
    """Return the loss over all rows after each of three epochs, and the last model."""
    rng = np.random.RandomState(random_state)
    X, y = make_linear(n_samples=1000, coef=TRUE_COEF, intercept=TRUE_INTERCEPT, noise=0.01, random_state=rng)
    start = rng.normal(scale=0.01, size=2)
    losses = []
    for epochs in (1, 2, 3):  # one seed deals the same batches each time: a longer look at the same descent
        model = TorchLinearRegressor(
            loss="squared_error",
            backend=backend,
            learning_rate=0.03,
            batch_size=10,
            max_iter=epochs,
            random_state=random_state,
        ).fit(X, y, coef_init=start, intercept_init=0.0)
        losses.append(mean_squared_error(y, model.predict(X)) / 2)
    return losses, model


def main(random_state=0):
    """Run the tutorial; return the losses, the errors of the two weights, and the error of the intercept."""
    losses, model = train(random_state)
    for epoch, loss in enumerate(losses, start=1):
        print(f"epoch {epoch}, loss {loss:.6f}")
    coef_error = TRUE_COEF - model.coef_
    intercept_error = TRUE_INTERCEPT - model.intercept_
    print("error in estimating w: {:.5f}, {:.5f}".format(*coef_error))
    print(f"error in estimating b: {intercept_error:.5f}")

    for backend in ("analytic", "linear"):
        apart = np.abs(train(random_state, backend)[1].coef_ - model.coef_).max()
        print(f"backend={backend!r}: weights at most {apart:.0e} apart from these")
    return losses, coef_error, intercept_error


if __name__ == "__main__":
    main()
