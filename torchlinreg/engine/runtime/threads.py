"""Threads: one parallel region at a time, of Python threads that compute on a single thread each.

The pools inside the libraries cut every product into pieces, and wait for all of them. Where others use the machine
too, each wait lasts until a thread that was sent away is back, and a fit is made of thousands. Here libraries compute
on the calling thread alone, and whatever goes through many rows is cut once, into parts that workers take in turn.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import Lock, local
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

N = TypeVar("N")
T = TypeVar("T")
_OF_THREAD = local()  # n_workers: how many threads the calling one may have at work for it


class _Workers:
    """A pool of threads that lasts as long as the process; a child process makes its own."""

    def __init__(self):
        self._lock, self._pool = Lock(), None

    def submit(self, function: Callable[[], None], n_times: int) -> list[Future]:
        """Call a function on several threads."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(os.cpu_count(), "torchlinreg", initializer=_compute_alone)
            return [self._pool.submit(function) for _ in range(n_times)]

    def forget(self) -> None:
        """Drop the pool, whose threads did not survive a fork."""
        self._lock, self._pool = Lock(), None


_WORKERS = _Workers()
if os.name == "posix":
    os.register_at_fork(after_in_child=_WORKERS.forget)


def in_parallel(function: Callable, parts: Sequence) -> list:
    """Return the function of each part, in the order of the parts, whichever thread computed it.

    Parameters
    ----------
    function : callable
        Does not change what other calls of it use.
    parts : sequence
    """
    n_workers = min(_n_workers(), len(parts))
    if n_workers <= 1:
        return [function(part) for part in parts]
    results, left = [None] * len(parts), deque(enumerate(parts))
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def work() -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            while left:
                try:
                    number, part = left.popleft()
                except IndexError:  # another one was quicker
                    return
                results[number] = function(part)

    futures = _WORKERS.submit(work, n_workers)
    try:
        for future in futures:
            future.result()
    finally:
        left.clear()
        wait(futures)
    return results


def read_ahead(read: Callable[[N], T], numbers: Iterable[N]) -> Iterator[T]:
    """Yield what reading each number returns, while a thread of its own reads the next one.

    Whoever asks for the next one is done with the one before, which may be overwritten from then on.

    Parameters
    ----------
    read : callable (number) -> object
    numbers : iterable
    """
    with ThreadPoolExecutor(1, "torchlinreg reading", initializer=_compute_alone) as thread:
        waiting = None
        for number in numbers:
            ahead = thread.submit(read, number)
            if waiting is not None:
                yield waiting.result()
            waiting = ahead
        if waiting is not None:
            yield waiting.result()


def _n_workers() -> int:
    return getattr(_OF_THREAD, "n_workers", 0) or torch.get_num_threads()


def _compute_alone() -> None:
    """Let a worker's products start no threads of their own."""
    torch.get_num_threads()  # on its first call in a thread torch sets the number, which must not happen later
    for library in _libraries("openmp"):
        library.set_num_threads(1)
    _OF_THREAD.n_workers = 1


@cache
def _libraries(user_api: str) -> list:
    """Find the libraries that compute on threads: OpenMP, on which torch does, or the BLAS of NumPy and SciPy."""
    return ThreadpoolController().select(user_api=user_api).lib_controllers


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on the calling thread alone, but for what is given to `in_parallel`.

    The number of OpenMP's threads belongs to the calling thread, so that fits in several threads need not know of each
    other; `blas_on_one_thread` says what of the other pools.
    """
    n_workers = _n_workers()  # on its first call in a thread torch sets the number, which must not happen later
    found = [(library, library.num_threads) for library in _libraries("openmp")]
    with blas_on_one_thread():
        try:
            _OF_THREAD.n_workers = n_workers
            for library, _ in found:
                library.set_num_threads(1)
            yield
        finally:
            try:
                _set_threads(found)
            except KeyboardInterrupt:  # just here: once more, before it goes on its way
                _set_threads(found)
                raise
            finally:
                _OF_THREAD.n_workers = 0


def _set_threads(numbers: list[tuple]) -> None:
    for library, n_threads in numbers:
        library.set_num_threads(n_threads)


class _OneThreadOfBlas:
    """Keep NumPy's and SciPy's pools out while anybody is inside: a setting of the whole process, restored at last."""

    def __init__(self):
        self._lock, self._inside, self._found = Lock(), 0, []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._found = [(library, library.num_threads) for library in _libraries("blas")]
                _set_threads([(library, 1) for library, _ in self._found])
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    _set_threads(self._found)


blas_on_one_thread = _OneThreadOfBlas()
