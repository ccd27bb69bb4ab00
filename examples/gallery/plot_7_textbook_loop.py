"""
The textbook loop, epoch by epoch
=================================

Plain mini-batch SGD at a rate of one's own, watched after every epoch: ``warm_start=True`` goes on where the last
call ended. The loss of two weights is a bowl; on columns of different size it is a long valley, and the way down
goes to its floor first and then along it.
"""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor
from torchlinreg.datasets import make_linear

X, y = make_linear(n_samples=500, coef=(2, -3.4), intercept=0, noise=1.0, random_state=0)
X *= [1.0, 0.3]  # the second column is in larger units

sgd = TorchLinearRegressor(
    learning_rate=0.02, batch_size=50, max_iter=1, warm_start=True, random_state=0, fit_intercept=False
)
path = np.array([[0.0, 0.0], *(sgd.fit(X, y).coef_ for _ in range(150))])
best = TorchLinearRegressor(fit_intercept=False).fit(X, y).coef_

w1, w2 = np.meshgrid(np.linspace(-0.5, 4, 80), np.linspace(-13, 1, 80))
loss = np.mean((np.multiply.outer(w1, X[:, 0]) + np.multiply.outer(w2, X[:, 1]) - y) ** 2, axis=-1) / 2
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.contour(w1, w2, loss, levels=np.geomspace(0.5, 20, 14), cmap="Greys_r", linewidths=0.8)
ax.plot(*path.T, ".-", color="tab:red", linewidth=1, label="after each of 150 epochs")
ax.plot(*best, "*", color="tab:blue", markersize=14, label="the optimum, by untuned mode")
ax.set(xlabel="weight of the first column", ylabel="weight of the second")
ax.legend()
