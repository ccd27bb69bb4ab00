"""
Export to ONNX
==============

A service that knows nothing of Python reads ONNX. ``to_onnx`` calculates in double precision. In single precision,
which is what converters do unless told otherwise, a time stamp in seconds is known to two minutes only.
"""

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from skl2onnx import to_onnx as convert

from torchlinreg import TorchLinearRegressor
from torchlinreg.export import to_onnx

rng = np.random.default_rng(0)
seconds = 1.7e9 + np.arange(0, 3600, 4.0)[:, None]  # since 1970, an hour of them
degrees = 0.01 * (seconds[:, 0] - 1.7e9) + rng.normal(size=900)
model = TorchLinearRegressor().fit(seconds, degrees)


def predict(exported, X):
    """Run an ONNX model, as a service would."""
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    return session.run(None, {"X": X})[0][:, 0]


double = predict(to_onnx(model, seconds), seconds)
single = predict(convert(model.to_sklearn(), seconds.astype(np.float32)), seconds.astype(np.float32))
print(f"to_onnx and predict differ by {np.abs(double - model.predict(seconds)).max():.0e} at most")

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(seconds - 1.7e9, single, color="tab:red", label="single precision")
ax.plot(seconds - 1.7e9, double, color="tab:blue", label="to_onnx")
ax.set(xlabel="seconds", ylabel="predicted degrees")
ax.legend()
