"""Processes that train together: all of them know what each has found, in the order of their ranks, or all fail."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event, Thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
HEARTBEAT_SECONDS = 0.25  # between two signs of life
SILENCE_SECONDS = 2.0  # without any, after which a process counts as gone
REFUSALS = {"ValueError": ValueError, "TypeError": TypeError}


class ProcessGroup:
    """A group of `torch.distributed`, or this process alone.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional

    Attributes
    ----------
    rank, size : int

    Raises
    ------
    TypeError
        If the group is none, or if this process is not in it.
    """

    def __init__(self, group: Any = None):
        self._group, self._failed, self.rank, self.size = group, False, 0, 1
        if group is None:
            return
        if not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
            raise TypeError(
                f"process_group={group!r} is no process group; call torch.distributed.init_process_group first, and "
                "give torch.distributed.group.WORLD or a group of new_group()."
            )
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def gather(self, find: Callable[[], T]) -> list[T]:
        """Return what every process has found, in the order of the ranks: one collective operation.

        Parameters
        ----------
        find : callable () -> object
            What this process has to say; tensors only on the CPU. If it raises, the others do too.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            If any process has failed, or is gone; the message names it.
        """
        if self.size == 1:
            return [find()]
        found, refusal, error = None, None, None
        try:
            found = find()
        except Exception as raised:
            refusal, error = (type(raised).__name__, str(raised)), raised
        answers: list = [None] * self.size
        try:
            with torch.inference_mode(False):  # a thread of older torch writes to these tensors
                dist.all_gather_object(answers, (found, refusal), group=self._group)
        except Exception as lost:
            self._failed = True
            raise RuntimeError(f"{self._who_is_gone()}, and rank {self.rank} cannot go on: {lost}") from lost
        for rank, (_, refused) in enumerate(answers):
            if refused is not None:
                self._failed = True
                kind, message = refused
                raise REFUSALS.get(kind, RuntimeError)(f"rank {rank} of {self.size}: {message}") from error
        return [found for found, _ in answers]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have all processes fail if one does inside, and none leave before all are done."""
        if self.size == 1:
            yield
            return
        with self._signs_of_life():
            try:
                yield
            except Exception as error:
                if not self._failed:  # the others wait for this one at their next gathering
                    self.gather(partial(_raise, error))
                raise
            self.gather(lambda: None)

    @contextmanager
    def _signs_of_life(self) -> Iterator[None]:
        """Count in the group's store, so that the others know that this process is alive."""
        store, ended = self._store(), Event()
        if store is None:
            yield
            return

        def count() -> None:
            with suppress(Exception):  # a store that is gone is reported by whoever needs it
                while not ended.wait(HEARTBEAT_SECONDS):
                    store.add(f"torchlinreg/{self.rank}", 1)

        thread = Thread(target=count, name="torchlinreg signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _who_is_gone(self) -> str:
        """Return which ranks have given no sign of life for a while."""
        store = self._store()
        others = [rank for rank in range(self.size) if rank != self.rank]
        try:
            before = [store.add(f"torchlinreg/{rank}", 0) for rank in others]
            time.sleep(SILENCE_SECONDS)
            after = [store.add(f"torchlinreg/{rank}", 0) for rank in others]
        except Exception:
            return f"one of the ranks {', '.join(map(str, others))} is gone, that which keeps the store (mostly 0)"
        gone = [str(rank) for rank, first, last in zip(others, before, after, strict=True) if first == last]
        if not gone:
            return f"the connection to one of the ranks {', '.join(map(str, others))} is lost"
        return f"rank {gone[0]} is gone" if len(gone) == 1 else f"ranks {', '.join(gone)} are gone"

    def _store(self) -> Any:
        """Return the store by which the group has met, or None where torch does not say."""
        groups = getattr(dist.distributed_c10d, "_world", None)
        with suppress(AttributeError, KeyError, TypeError):
            return groups.pg_map[self._group][1]
        return None


def _raise(error: Exception) -> None:
    raise error
