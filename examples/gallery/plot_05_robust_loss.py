"""
A robust loss against outliers
==============================

Some thermometers in the valley were read in Fahrenheit. Least squares believes them. The Huber loss counts large
residuals by their size and not by its square, and finds by itself what is large: nothing is set here.
"""

import matplotlib.pyplot as plt
import numpy as np

from torchlinreg import TorchLinearRegressor

rng = np.random.default_rng(0)
height = rng.uniform(0, 3000, size=(200, 1))  # metres
degrees = 15 - 0.0065 * height[:, 0] + rng.normal(0, 1, 200)  # Celsius
wrong = (rng.random(200) < 0.3) & (height[:, 0] < 1500)
degrees[wrong] = degrees[wrong] * 1.8 + 32

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.scatter(height, degrees, s=10, color="0.5")
ends = np.array([[0.0], [3000.0]])
for loss, color in {"squared_error": "tab:red", "huber": "tab:blue"}.items():
    model = TorchLinearRegressor(loss=loss).fit(height, degrees)
    label = f'loss="{loss}": {model.coef_[0] * 1000:.1f} °C per km'
    ax.plot(ends, model.predict(ends), color=color, linewidth=2, label=label)
ax.set(xlabel="height (m)", ylabel="temperature (°C)", title="The truth is -6.5 °C per km")
ax.legend()
