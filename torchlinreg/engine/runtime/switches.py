"""Torch's global switches during a training, left as they were found: precision, threads, autograd."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock

import torch

from torchlinreg.engine.runtime.devices import current_accelerator
from torchlinreg.engine.runtime.threads import one_thread

ONE_THREAD_ELEMENTS = 2**22  # features that are computed with at once; up to here, and
ONE_THREAD_OPERATIONS = 2**29  # multiplications in a factorisation, libraries get no threads of their own
FULL = ("none", "ieee")  # precisions of products that are no shortcuts
_ACCELERATOR = current_accelerator()
_AUTOCAST = ["cpu"] if _ACCELERATOR is None else ["cpu", _ACCELERATOR.type]
# Of the backends that have shortcuts; torch before 2.9 has one switch for all of them
_SWITCHES = (
    [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul] if hasattr(torch.backends, "fp32_precision") else []
)
# Threads do not survive a fork, and OpenMP would wait for those of the parent forever
if os.name == "posix":
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@contextmanager
def training_mode(n_elements: int, n_operations: int, *, inference: bool) -> Iterator[None]:
    """Switch off what training does not need: autograd, reduced precision and, mostly, the threads of libraries.

    Parameters
    ----------
    n_elements : int
        Features that are computed with at once, where that is not a part of the rows for each worker.
    n_operations : int
        Multiplications in the largest factorisation.
    inference : bool
        Whether no graph is ever built, so that inference mode makes small steps cheaper still.
    """
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        if n_elements <= ONE_THREAD_ELEMENTS and n_operations <= ONE_THREAD_OPERATIONS:
            stack.enter_context(one_thread())
        stack.enter_context(_inference(inference))
        stack.enter_context(torch.no_grad())
        yield


@contextmanager
def _inference(mode: bool) -> Iterator[None]:
    """Enter torch's inference mode and leave it for certain: a guard that is left behind would do so at any time."""
    guard = torch.inference_mode(mode)
    guard.__enter__()
    try:
        yield
    finally:
        try:
            guard.__exit__(None, None, None)
        except KeyboardInterrupt:  # just here: once more, before it goes on its way
            guard.__exit__(None, None, None)
            raise


class _FullPrecision:
    """Switch off autocast, and TF32 and bfloat16 shortcuts in products, while anybody is inside, then restore them."""

    def __init__(self):
        self._lock, self._inside, self._restore = Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._switch_off()
            self._inside += 1
        try:
            with ExitStack() as of_thread:
                for kind in _AUTOCAST:
                    if torch.is_autocast_enabled(kind):
                        of_thread.enter_context(torch.autocast(kind, enabled=False))
                yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._restore.close()

    def _switch_off(self) -> None:
        found = [(switch, switch.fp32_precision) for switch in _SWITCHES]
        old = _old_switch()
        if old == "highest" if not found else all(value in FULL for _, value in found):
            return
        for switch, value in found:
            self._restore.callback(_restore_switch, switch, value)
        if old is None:
            for switch, _ in found:
                switch.fp32_precision = "ieee"
        else:  # it sets the new ones, too; where they contradict each other, torch refuses to say what holds
            self._restore.callback(torch.set_float32_matmul_precision, old)
            torch.set_float32_matmul_precision("highest")


def _old_switch() -> str | None:
    """Return the precision of products as torch's older switch has it; None where the newer ones contradict it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _restore_switch(switch, found: str) -> None:
    switch.fp32_precision = "none"  # what then holds is what is set for all backends
    if switch.fp32_precision != found:
        switch.fp32_precision = found


full_precision = _FullPrecision()  # a setting of the whole process: fits in several threads share the one switch
