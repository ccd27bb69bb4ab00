"""Merging the sufficient statistics of 10 000 parts: in a row, as a tree, and in one pass over all rows.

1e6×20 float64 in parts of 100 rows, condition number 1e4, offsets of ten deviations. The error is the largest of the
coefficients' in deviations of their features, relative to the largest such coefficient, against a solution that is
refined in long double. `merge` and `fit_chunks` take the tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import reduce

import numpy as np
import torch

from benchmarks.timing import markdown_table

N_PARTS, QUICK_PARTS, PART_ROWS, N_FEATURES = 10_000, 100, 100, 20
REFINEMENTS = 5


def report(*, quick: bool = False) -> str:
    """Run the benchmark and describe it in Markdown.

    Parameters
    ----------
    quick : bool, default=False
        Whether to take few parts: to see that it runs, not to learn from it.
    """
    from torchlinreg.engine.data.reductions import MergeTree, Node  # noqa: PLC0415 - only here

    X, y = make(QUICK_PARTS if quick else N_PARTS)
    exact, deviations = solve_refined(X, y), X.std(0)
    parts = [
        statistics(X[start : start + PART_ROWS], y[start : start + PART_ROWS]) for start in range(0, len(X), PART_ROWS)
    ]

    def as_tree():
        tree = MergeTree()
        for number, part in enumerate(parts):
            tree.add(Node(number, 1, part))
        return tree.merged(parts[0])

    ways: dict[str, Callable] = {
        "one pass": lambda: statistics(X, y),
        "in a row": lambda: reduce(lambda one, other: one.merge(other), parts),
        "as a tree": as_tree,
    }
    rows = []
    for title, way in ways.items():
        began = time.perf_counter()
        found = way()
        seconds = time.perf_counter() - began
        error = np.abs((solve(found) - exact) * deviations).max() / np.abs(exact * deviations).max()
        rows.append((title, f"{error:.0e}", "" if title == "one pass" else f"{1e6 * seconds / len(parts):.0f} µs"))
    return "\n\n".join([__doc__.partition("\n")[2].strip(), markdown_table(("", "error", "a merge"), rows)])


def make(n_parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and a target."""
    rng = np.random.default_rng(0)
    left, _, right = np.linalg.svd(rng.normal(size=(N_FEATURES, N_FEATURES)))
    mixture = (left * np.logspace(0, -4, N_FEATURES)) @ right
    X = rng.normal(size=(n_parts * PART_ROWS, N_FEATURES)) @ mixture
    X += 10 * np.sqrt(np.square(mixture).sum(0))
    return X, X @ rng.normal(size=N_FEATURES) + rng.normal(size=len(X))


def statistics(X: np.ndarray, y: np.ndarray):
    """Return the sufficient statistics of some rows."""
    from torchlinreg.engine.data.source import MemorySource, as_operator  # noqa: PLC0415
    from torchlinreg.engine.data.statistics import SufficientStatistics  # noqa: PLC0415

    return SufficientStatistics.of(MemorySource(as_operator(torch.from_numpy(X)), torch.from_numpy(y[:, None])))


def solve(found) -> np.ndarray:
    """Return the coefficients that statistics tell."""
    factor = found.factor.numpy()
    size = np.linalg.norm(factor[:, :N_FEATURES], axis=0)
    return np.linalg.lstsq(factor[:, :N_FEATURES] / size, factor[:, N_FEATURES], rcond=None)[0] / size


def solve_refined(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients by refinement with residuals in long double."""
    rows, target = X.astype(np.longdouble), y.astype(np.longdouble)
    rows, target = rows - rows.mean(0), target - target.mean()
    triangle = np.linalg.qr(rows.astype(np.float64), mode="r")
    coef = np.zeros(N_FEATURES, np.longdouble)
    for _ in range(REFINEMENTS):
        gradient = (rows.T @ (target - rows @ coef)).astype(np.float64)
        coef = coef + np.linalg.solve(triangle, np.linalg.solve(triangle.T, gradient))
    return coef
