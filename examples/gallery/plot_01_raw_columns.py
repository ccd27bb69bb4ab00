"""
Raw columns, with their units
=============================

Years, pascals, metres per second: the columns of a real table differ in size by orders of magnitude, and few of
them have a mean of zero. Here nothing is scaled beforehand, and the coefficients are in the units of the table.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from torchlinreg import TorchLinearRegressor

rng = np.random.default_rng(0)
weather = pd.DataFrame(
    {
        "year": rng.integers(1950, 2025, 2000),
        "pressure (Pa)": rng.normal(101_325, 800, 2000),
        "cloud cover": rng.beta(2, 2, 2000),
        "wind (m/s)": rng.gamma(2, 2, 2000),
    }
)
truth = pd.Series([0.03, 0.002, -6.0, -0.4], weather.columns)  # degrees per unit of each column
temperature = weather @ truth - 240 + rng.normal(size=2000)

model = TorchLinearRegressor().fit(weather, temperature)
print(pd.DataFrame({"truth": truth, "found": model.coef_}))

# %%
# What a unit of a column does depends on the unit. What a typical difference in it does, can be compared.

effect = pd.Series(model.coef_, weather.columns) * weather.std()
effect.plot.barh(color="tab:blue", figsize=(6, 2.5), xlabel="degrees per standard deviation of the column")
plt.tight_layout()
