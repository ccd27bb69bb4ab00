"""Fewer combinations than all, in which any two values of two parameters still meet."""

from collections.abc import Iterable
from itertools import combinations, product


def pairwise(*axes: Iterable) -> list[tuple]:
    """Return combinations of a value of each axis, so that any two values of different axes are together in one.

    For tests of what may depend on two parameters at once, and not on all of them. Values are taken one after another
    from the list of all combinations, those first with the most pairs that have not been met.
    """
    axes = [list(axis) for axis in axes]
    left = [_pairs(numbers) for numbers in product(*(range(len(axis)) for axis in axes))]
    waiting, chosen = set().union(*left), []
    while waiting:
        best = max(left, key=lambda pairs: len(pairs & waiting))
        waiting -= best
        chosen.append(dict(sorted(set().union(*best))))
    return [tuple(axis[numbers[at]] for at, axis in enumerate(axes)) for numbers in chosen]


def _pairs(numbers: tuple[int, ...]) -> set:
    return set(combinations(enumerate(numbers), 2))
