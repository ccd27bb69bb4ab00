"""The losses and their derivatives, as functions of the residual."""

import matplotlib.pyplot as plt
import torch

from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, SquaredError

SHOWN = {
    'SquaredError(), "squared_error"': (SquaredError(), "#0072B2"),
    "Huber(1.35)": (Huber(1.35), "#009E73"),
    "Quantile(0.9)": (Quantile(0.9), "#D55E00"),
    "EpsilonInsensitive(0.5)": (EpsilonInsensitive(0.5), "#CC79A7"),
}
residual = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None]
zero = torch.zeros_like(residual)

figure, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.8), layout="constrained")
for name, (loss, color) in SHOWN.items():
    left.plot(residual, loss.value(residual, zero), color=color, label=name)
    right.plot(residual, loss.gradient(residual, zero), color=color)
left.set(xlabel="prediction - target", ylabel="loss", ylim=(-0.1, 3))
right.set(xlabel="prediction - target", ylabel="derivative", ylim=(-2, 2))
left.legend(fontsize=8, loc="upper center")
for ax in (left, right):
    ax.grid(alpha=0.25)
