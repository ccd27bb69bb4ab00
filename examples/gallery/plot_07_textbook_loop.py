"""
The textbook loop, epoch by epoch
=================================

Plain mini-batch SGD at a rate of one's own. The loss of two weights is a bowl. On columns of different size it is a
long valley, and the way down goes to its floor first and then, slowly, along it.
"""

import matplotlib.pyplot as plt

from torchlinreg import TorchLinearRegressor
from torchlinreg.datasets import make_linear
from torchlinreg.displays import LossCurveDisplay, LossSurfaceDisplay

X, y = make_linear(n_samples=500, coef=(2, -3.4), noise=1.0, random_state=0)
X *= [1.0, 0.3]  # the second column is in larger units

sgd = TorchLinearRegressor(learning_rate=0.02, batch_size=50, max_iter=250, random_state=0, verbose=50)
sgd.fit(X, y)

# %%
# Left, the mean loss of each epoch. Right, where each epoch ended, with arrows against the gradient: a step goes there.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
LossCurveDisplay.from_estimator(sgd, ax=left)
LossSurfaceDisplay.from_estimator(sgd, X, y, features=[0, 1], path="fit", ax=right)
