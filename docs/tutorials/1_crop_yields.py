"""Tutorial 1. Crop yields: three measurements, two harvests, one hundred small steps.

Five regions report their temperature, rainfall and humidity, and how many tons of apples and oranges they
picked. Each harvest is taken to be a weighted sum of the three measurements plus a constant. We begin with
weights drawn at random, look how wrong they are, and step downhill.

    python docs/tutorials/1_crop_yields.py
"""

import numpy as np

from torchlinreg import TorchLinearRegressor
from torchlinreg.datasets import load_crop_yields

LUCKY = 51  # How near a hundred steps come depends on the weights drawn. Try other seeds.


def five_regions(random_state=LUCKY, backend="autograd"):
    """Take 100 full-batch steps from standard-normal weights.

    With ``backend="autograd"`` each step is the hand-written one: predict, measure the mean squared error,
    call ``backward()``, subtract ``1e-5`` times the gradient, set the gradient back to zero.
    """
    X, y = load_crop_yields(return_X_y=True)
    rng = np.random.RandomState(random_state)
    model = TorchLinearRegressor(loss="mse", backend=backend, learning_rate=1e-5, batch_size="full", max_iter=100)
    # A row of weights for each harvest. Tables of float32 are trained in float32, torch's own default.
    return model.fit(
        X.astype(np.float32),
        y.astype(np.float32),
        coef_init=rng.normal(size=(2, 3)),
        intercept_init=rng.normal(size=2),
    )


def fifteen_rows(random_state=LUCKY, backend="linear", verbose=10):
    """Take three steps an epoch, of five shuffled rows each, with ``nn.Linear`` and ``optim.SGD``.

    The rows are the five regions three times over. ``verbose=10`` shows the loss of every tenth epoch.
    """
    X, y = load_crop_yields(return_X_y=True, n_repeats=3)
    rng = np.random.RandomState(random_state)
    bound = 1 / np.sqrt(3)  # nn.Linear starts between plus and minus one over the root of its inputs
    model = TorchLinearRegressor(
        loss="mse",
        backend=backend,
        learning_rate=1e-5,
        batch_size=5,
        max_iter=100,
        random_state=random_state,
        verbose=verbose,
    )
    return model.fit(
        X.astype(np.float32),
        y.astype(np.float32),
        coef_init=rng.uniform(-bound, bound, size=(2, 3)),
        intercept_init=rng.uniform(-bound, bound, size=2),
    )


def show_harvests(model):
    """Print what each region picked beside what the model says."""
    X, y = load_crop_yields(return_X_y=True)
    print("        picked            predicted")
    print("  apples  oranges     apples  oranges")
    for picked, predicted in zip(y, model.predict(X.astype(np.float32)), strict=True):
        print("{:8.0f} {:8.0f}   {:8.1f} {:8.1f}".format(*picked, *predicted))


def main(random_state=LUCKY):
    """Run the tutorial and return both fitted models."""
    print("Five regions, full batch, hand-written autograd")
    model = five_regions(random_state)
    print(f"loss of the random weights {model.loss_curve_[0]:.1f}, in epoch 100 {model.loss_curve_[-1]:.1f}")
    show_harvests(model)
    for backend in ("analytic", "linear"):
        apart = np.abs(five_regions(random_state, backend).coef_ - model.coef_).max()
        print(f"backend={backend!r}: weights at most {apart:.0e} apart from these")

    print("\nFifteen rows, shuffled batches of five, nn.Linear and optim.SGD")
    shuffled = fifteen_rows(random_state)
    show_harvests(shuffled)
    return model, shuffled


if __name__ == "__main__":
    main()
