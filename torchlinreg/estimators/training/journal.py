"""The checkpoint of `fit_chunks`: what a run has learnt so far, for the next one if it is killed."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from torchlinreg.engine.data.chunks.source import NodeStates
from torchlinreg.engine.runtime.checkpoint import CheckpointFile
from torchlinreg.engine.runtime.process_group import ProcessGroup
from torchlinreg.estimators.training.stream_state import to_arrays, to_tensors

OVERHEAD = 20  # times as long as saving takes, at least, between two savings
SEPARATOR = "/"  # between the names of nested dictionaries


class Journal:
    """Saves what is learnt, at most for a small share of the time; the first process saves, and all load.

    Parameters
    ----------
    path : str or path-like
    fingerprint : dict of str to str
        Of data and settings.
    group : ProcessGroup
    seed : int or None
        Of the orders of the rows.

    Attributes
    ----------
    seed : int or None
        That which an earlier process had, if there is a checkpoint of it.
    epochs : dict
        What an earlier process learnt in textbook mode; empty if there was none.

    Raises
    ------
    ValueError
        If there is a checkpoint of something else.
    """

    def __init__(self, path: str | os.PathLike, fingerprint: dict[str, str], group: ProcessGroup, seed: int | None):
        self._file, self._group = CheckpointFile(path, fingerprint), group
        saved = group.gather(self._read)[0]
        self.seed = saved.get("seed", seed)
        self.epochs = saved.get("epochs", {})
        self._passes, self._nodes = [*saved.get("passes", {}).values()], [*saved.get("nodes", {}).values()]
        self._n_read, self._next_save = 0, 0.0
        self._unsaved: Callable[[], dict] | None = None

    def found(self) -> dict | None:
        """Return the state of what the next pass has found, if an earlier process came to its end."""
        self._n_read += 1
        return self._passes[self._n_read - 1] if self._n_read <= len(self._passes) else None

    def unfinished(self) -> NodeStates:
        """Return the nodes of the pass that an earlier process was in."""
        nodes, self._nodes = self._nodes, []
        return [(node["first"], node["length"], node["state"]) for node in nodes]

    def note(self, nodes: Callable[[], NodeStates]) -> None:
        """Take down how to tell the nodes of this pass so far."""
        self._note(lambda: {"nodes": _numbered(map(_named, nodes()))})

    def finish(self, state: dict) -> None:
        """Take down what this pass has found."""
        self._passes.append(to_tensors(to_arrays(state)))  # a copy, as sums may be changed in place
        self._note(dict)

    def note_epochs(self, learnt: dict) -> None:
        """Take down what was learnt in the epochs so far."""
        self._note(lambda: {"epochs": learnt})

    def save(self) -> None:
        """Save what was taken down last, if it is not saved yet."""
        if self._unsaved is None or self._group.rank:
            return
        began = time.monotonic()
        state = {"seed": self.seed, "passes": _numbered(self._passes), **self._unsaved()}
        arrays, numbers = {}, {}
        for name, value in _flat(to_arrays(state)):
            (arrays if isinstance(value, np.ndarray) else numbers)[name] = value
        self._unsaved = None
        self._file.save(arrays, numbers)
        self._next_save = time.monotonic() + OVERHEAD * (time.monotonic() - began)

    def _note(self, state: Callable[[], dict]) -> None:
        self._unsaved = state
        if time.monotonic() >= self._next_save:
            self.save()

    def _read(self) -> dict[str, Any]:
        if self._group.rank:
            return {}
        saved = self._file.load()
        return {} if saved is None else to_tensors(_nested({**saved.arrays, **saved.numbers}))


def _numbered(states: Iterable[dict]) -> dict[str, dict]:
    return {f"{number:06}": state for number, state in enumerate(states)}


def _named(node: tuple[int, int, dict]) -> dict[str, Any]:
    return dict(zip(("first", "length", "state"), node, strict=True))


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
