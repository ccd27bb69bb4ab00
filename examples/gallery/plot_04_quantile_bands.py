"""
Quantile bands
==============

A mean says little where the noise grows. Three models with the pinball loss say what nine in ten stay below, and
one in ten. With 80 % of the points between two of them, they are a band for predictions that assumes no
distribution.
"""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor
from torchlinreg.losses import Quantile

rng = np.random.default_rng(0)
minutes = rng.uniform(5, 90, size=(600, 1))  # planned, of a journey
delay = 0.1 * minutes[:, 0] * rng.exponential(size=600)

models = {q: TorchLinearRegressor(loss=Quantile(q)).fit(minutes, delay) for q in (0.1, 0.5, 0.9)}
low, middle, high = (model.predict(minutes) for model in models.values())
print(f"{np.mean((delay > low) & (delay < high)):.0%} of the journeys are within the band")

# %%
order = minutes[:, 0].argsort()
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.scatter(minutes, delay, s=8, color="0.6", label="journeys")
ax.fill_between(minutes[order, 0], low[order], high[order], color="tab:blue", alpha=0.25, label="10 % to 90 %")
ax.plot(minutes[order, 0], middle[order], color="tab:blue", label="median")
ax.set(xlabel="planned (min)", ylabel="delay (min)", ylim=(-1, 40))
ax.legend()
