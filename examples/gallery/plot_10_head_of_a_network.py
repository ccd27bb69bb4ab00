"""
Least squares as the start of a network
=======================================

``to_module`` returns the fitted model as a ``torch.nn.Linear``. Here it is the straight part of a small network
that learns the bend, too. It starts from the line, where a network of random weights has to find the line first.
"""

import matplotlib.pyplot as plt
import torch

from torchlinreg import TorchLinearRegressor

torch.manual_seed(0)
x = torch.rand(500, 1) * 6 - 3
y = 4 * x + torch.sin(2 * x) + 20 + 0.1 * torch.randn(500, 1)


def train(straight):
    """Train a straight part and a bend together, and return the loss of each step."""
    bend = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimizer, losses = torch.optim.Adam([*straight.parameters(), *bend.parameters()], lr=0.01), []
    for _ in range(600):
        loss = torch.nn.functional.mse_loss(straight(x) + bend(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.semilogy(train(torch.nn.Linear(1, 1)), color="tab:red", label="from random weights")
ax.semilogy(train(TorchLinearRegressor().fit(x, y).to_module()), color="tab:blue", label="from to_module()")
ax.set(xlabel="step", ylabel="mean squared error")
ax.legend()
