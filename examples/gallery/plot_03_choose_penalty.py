"""
Choose a penalty
================

Ten measurements of patients and all their products are 65 columns for 442 rows: too many to trust each. The lasso
sets most coefficients to zero, and cross-validation says how many. A hundred penalties on five folds are trained
together.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from torchlinreg import TorchLinearRegressorCV
from torchlinreg.displays import RegularizationPathDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True)
products = make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler()).set_output(transform="pandas")
columns = products.fit_transform(X)

search = TorchLinearRegressorCV(penalty="l1").fit(columns, y)
print(f"alpha={search.alpha_:.3g} leaves {(search.coef_ != 0).sum()} of {columns.shape[1]} columns")

# %%
# The coefficients along the path. The dashed line is the choice.

RegularizationPathDisplay.from_estimator(search)

# %%
# The error on the rows held out, fold by fold: to the left too many columns are believed, to the right too few.

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.semilogx(search.alphas_, search.mse_path_, color="tab:blue", alpha=0.3)
ax.semilogx(search.alphas_, search.mse_path_.mean(axis=1), color="tab:blue", linewidth=2, label="mean of the folds")
ax.axvline(search.alpha_, color="0.3", linestyle="--")
ax.set(xlabel="alpha", ylabel="mean squared error")
ax.legend()
