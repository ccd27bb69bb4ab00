"""A user's whole path on an installed package: fit, choose, search, save, load, predict, compare."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchlinreg
from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap

assert "site-packages" in Path(torchlinreg.__file__).parts, "not the installed package"
X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
model = TorchLinearRegressor().fit(X, y)
np.testing.assert_allclose(model.coef_, LinearRegression().fit(X, y).coef_, rtol=1e-6)
pipeline = make_pipeline(StandardScaler(), TorchLinearRegressor(penalty="l2"))
search = GridSearchCV(pipeline, {"torchlinearregressor__alpha": [0.01, 0.1]}, cv=3).fit(X, y)
loaded = pickle.loads(pickle.dumps(search))
np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
assert TorchLinearRegressorCV(cv=3).fit(X, y).score(X, y) > 0.5
assert len(bootstrap(model, X, y, 20, random_state=0)) == X.shape[1] + 1
subprocess.run([sys.executable, "-m", "torchlinreg", "compare"], check=True, stdout=subprocess.DEVNULL)
print(f"torchlinreg {torchlinreg.__version__} works")
