"""Least squares without a rounding error, by rational numbers."""

from fractions import Fraction

import numpy as np


def exact_regression(X, y, weight=None, *, fit_intercept=True, alpha=0.0):
    """Return weights, and the intercept if there is one, as fractions: a list for each target.

    The numbers given are taken as they are. With `alpha`, half the weighted mean square and alpha / 2 times the squared
    norm of the weights is minimised.
    """
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, float)
    rows = [[*map(Fraction, row), *[Fraction(1)] * fit_intercept] for row in np.asarray(X, float).tolist()]
    targets = [[*map(Fraction, row)] for row in np.asarray(y, float).reshape(len(X), -1).tolist()]
    weighted = [[w * number for number in row] for w, row in zip(map(Fraction, weight.tolist()), rows, strict=True)]
    both = [row + target for row, target in zip(rows, targets, strict=True)]
    system = [[_dot(left, right) for right in zip(*both, strict=True)] for left in zip(*weighted, strict=True)]
    penalty = Fraction(alpha) * sum(map(Fraction, weight.tolist()))
    for j in range(len(system) - fit_intercept):
        system[j][j] += penalty
    n = len(system)
    for j in range(n):
        at = next(i for i in range(j, n) if system[i][j])
        system[j], system[at] = system[at], system[j]
        system[j] = [number / system[j][j] for number in system[j]]
        for i, row in enumerate(system):
            if i != j and row[j]:
                system[i] = [a - row[j] * b for a, b in zip(row, system[j], strict=True)]
    return [[row[n + target] for row in system] for target in range(len(targets[0]))]


def digits(model, truth):
    """Return how many decimal digits of all coefficients and intercepts are right: -log10 of the relative error."""
    found = np.atleast_2d(model.coef_)
    if model.fit_intercept:
        found = np.column_stack([found, np.atleast_1d(model.intercept_)])
    fewest = 16.0
    for numbers, exact in zip(found.tolist(), truth, strict=True):
        for number, right in zip(numbers, exact, strict=True):
            error = float(abs(Fraction(number) - right) / (abs(right) or 1))
            fewest = min(fewest, -np.log10(error) if error else 16.0)
    return fewest


def _dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))
