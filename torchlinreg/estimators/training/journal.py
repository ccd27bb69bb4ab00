"""The checkpoint of `fit_chunks`: what a run has learnt so far, for the next one if it is killed."""

import os
import time
from typing import Any

import numpy as np

from torchlinreg.engine.runtime.checkpoint import CheckpointFile
from torchlinreg.engine.runtime.process_group import ProcessGroup
from torchlinreg.estimators.training.stream_state import to_arrays, to_tensors

OVERHEAD = 20  # times as long as saving takes, at least, between two savings
SEPARATOR = "/"  # between the names of nested dictionaries


class Journal:
    """Saves nested dictionaries of tensors and numbers in a checkpoint; the first process does, and all load.

    Parameters
    ----------
    path : str or path-like
    fingerprint : dict of str to str
        Of data and settings.
    group : ProcessGroup

    Raises
    ------
    ValueError
        If there is a checkpoint of something else.
    """

    def __init__(self, path: str | os.PathLike, fingerprint: dict[str, str], group: ProcessGroup):
        self._file, self._group = CheckpointFile(path, fingerprint), group
        self._next = 0.0

    def recall(self) -> dict[str, Any]:
        """Return what was saved last; an empty dictionary if nothing was."""
        return self._group.gather(self._read)[0]

    def keep(self, state: dict[str, Any]) -> None:
        """Save a state."""
        if self._group.rank:
            return
        arrays, numbers = {}, {}
        for name, value in _flat(to_arrays(state)):
            (arrays if isinstance(value, np.ndarray) else numbers)[name] = value
        began = time.monotonic()
        self._file.save(arrays, numbers)
        self._next = time.monotonic() + OVERHEAD * (time.monotonic() - began)

    def load(self) -> tuple[int, list[tuple[int, int, dict]]]:
        """Return how many chunks are done, and the state of each node of the tree of these."""
        saved = self.recall()
        nodes = [(node["first"], node["length"], node["state"]) for node in saved.get("nodes", {}).values()]
        return saved.get("n_done", 0), nodes

    def is_due(self) -> bool:
        """Whether it is so long since something was saved that saving costs little."""
        return time.monotonic() >= self._next

    def save(self, n_done: int, nodes: list[tuple[int, int, dict]]) -> None:
        """Keep the nodes of the first so many chunks."""
        names = "first", "length", "state"
        named = {f"{number:04}": dict(zip(names, node, strict=True)) for number, node in enumerate(nodes)}
        self.keep({"n_done": n_done, "nodes": named})

    def _read(self) -> dict[str, Any]:
        if self._group.rank:
            return {}
        saved = self._file.load()
        return {} if saved is None else to_tensors(_nested({**saved.arrays, **saved.numbers}))


def _flat(state: dict, prefix: str = ""):
    """Yield the values of nested dictionaries with their names, one after the other."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{SEPARATOR}")
        else:
            yield f"{prefix}{name}", value


def _nested(flat: dict[str, Any]) -> dict:
    """Return nested dictionaries, in the order of the names; names that are numbers become so."""
    state: dict = {}
    for path in sorted(flat):
        *above, name = path.split(SEPARATOR)
        inner = state
        for part in above:
            inner = inner.setdefault(_key(part), {})
        inner[_key(name)] = flat[path]
    return state


def _key(name: str) -> str | int:
    return int(name) if name.isdecimal() and len(name) < 4 else name
