"""
Bootstrap intervals
===================

How sure is a coefficient? The rows are drawn anew 1000 times, with replacement, and a model is trained on each
draw. They are columns of one matrix and train together. Intervals that leave out zero are in a stronger colour.
"""

from sklearn.datasets import load_diabetes

from torchlinreg import TorchLinearRegressor, bootstrap
from torchlinreg.displays import CoefficientDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
intervals = bootstrap(TorchLinearRegressor(), X, y, random_state=0)
print(intervals.round(2))

# %%
# Columns have different units. Times the standard deviation of its column, a coefficient says what a typical
# difference in it does. The columns s1 to s6 are blood values that go together: alone, none of the first is known
# well.

display = CoefficientDisplay.from_frame(intervals, feature_stds=X.std(), sort=True)
display.ax_.set_title("Progression of diabetes")
