"""From data to numbers: what "auto" stands for."""

import torch

from torchlinreg.engine.batches import Rows
from torchlinreg.engine.conditioning import root_mean_square

TEXTBOOK_BATCH = 32
POWER_ITERATIONS = 50


def top_eigenvalue(table: torch.Tensor, weight: torch.Tensor | None) -> float:
    """Largest eigenvalue of the (uncentred) weighted second moment of the columns, by power iteration."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(table.shape[1], 1, generator=generator, dtype=table.dtype).to(table.device)
    eigenvalue = 0.0
    for _ in range(POWER_ITERATIONS):
        direction = direction / torch.linalg.vector_norm(direction)
        image = table @ direction
        image = table.T @ (image if weight is None else weight * image) / len(table)
        eigenvalue = (direction * image).sum().item()
        if eigenvalue <= 0:
            return 0.0
        direction = image
    return eigenvalue


def largest_stable_rate(rows: Rows, settings) -> float:
    """Learning rate above which SGD of this batch size diverges, to about a factor of two.

    Mini-batches of m rows are stable while the rate stays below 2 / ((m - 1) / m e + b / m), where e is the top
    eigenvalue of the second moment of the features and b their largest squared norm (Ma, Bassily & Belkin 2018, "The
    power of interpolation"). Momentum µ damps what all rows share, 1 + µ times, and adds up the noise of each batch,
    1 / (1 - µ) times.

    Parameters
    ----------
    rows : Rows
    settings : Settings
        Its loss, intercept, momentum and batch size.
    """
    X = rows.X if rows.X.device.type == "mps" else rows.X.double()
    X = torch.cat([X, X.new_ones(len(X), 1)], dim=1) if settings.fit_intercept else X
    weight = None if rows.weight is None else rows.weight.to(X)
    size = root_mean_square(X, weight).max()
    X = X / size
    batch = {"auto": TEXTBOOK_BATCH, "full": len(X)}.get(settings.batch_size, settings.batch_size)
    curvature = top_eigenvalue(X, weight) / (1.0 + settings.momentum)
    if batch < len(X):
        norms = X.square().sum(1, keepdim=True)
        largest = (norms if weight is None else norms * weight).max().item()
        curvature = ((batch - 1) * curvature + largest / (1.0 - settings.momentum)) / batch
    return 2.0 / (curvature * settings.loss.curvature * size.item() ** 2)
