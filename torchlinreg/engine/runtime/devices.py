"""Where the numbers live: device, precision, and torch's global switches left as they were found."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from threading import Lock

import torch
from threadpoolctl import ThreadpoolController

BUSY = 16  # times as much work at once is worth it where each operation has to be sent for
ROOM = 0.7  # of the free memory of a device, that a table may take
ONE_THREAD_ELEMENTS = 2**19  # of a table; up to here, and
ONE_THREAD_OPERATIONS = 2**26  # multiplications in factorising it for each column, one thread does all the work
DTYPES = {"float32": torch.float32, "float64": torch.float64}
FULL = ("none", "ieee")  # precisions of products that are no shortcuts
_ACCELERATOR = torch.accelerator.current_accelerator()
_AUTOCAST = ["cpu"] if _ACCELERATOR is None else ["cpu", _ACCELERATOR.type]
# Of the backends that have shortcuts; torch before 2.9 has one switch for all of them
_SWITCHES = (
    [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul] if hasattr(torch.backends, "fp32_precision") else []
)
# Threads do not survive a fork, and OpenMP would wait for those of the parent forever
if os.name == "posix":
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def resolve_device(device: str | torch.device | None, home: torch.device) -> torch.device:
    """Return the device to train on.

    Parameters
    ----------
    device : None, "auto", str or torch.device
        None stays at `home`; "auto" takes the accelerator that torch finds, or the CPU.
    home : torch.device
        Where the data is.

    Raises
    ------
    ValueError
        If the device is unknown to this torch or not present on this machine.
    """
    if device is None:
        return home
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as reason:
        what = str(reason).splitlines()[0].split(". ")[0][:200]
        raise ValueError(
            f"device={device!r} cannot be used here ({what}). "
            'Use device="cpu", device="auto" for the best one that is present, or None to follow the data.'
        ) from reason
    if resolved.type == "meta":
        raise ValueError('device="meta" holds no numbers to train on; use "cpu", "auto" or an accelerator.')
    return resolved


def resolve_dtype(dtype, data_dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the floating-point type to train in: `dtype` where given, else that of the data.

    Float32 data stay float32; everything else becomes float64 or, on devices without, float32.
    """
    if dtype is not None:
        name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
        name = getattr(dtype, "__name__", name)
        if name not in DTYPES:
            raise ValueError(f'dtype={dtype!r} is not supported; use "float32", "float64" or None.')
        if name == "float64" and not has_double(device):
            raise ValueError(f'{device} has no float64; use dtype="float32" or device="cpu".')
        return DTYPES[name]
    return torch.float32 if data_dtype == torch.float32 else widest(device)


def has_double(device: torch.device) -> bool:
    """Whether a device computes in float64, which Apple's and some of Intel's do not."""
    return device.type in ("cpu", "cuda") or _computes_in_double(device)


def widest(device: torch.device) -> torch.dtype:
    """Return the widest precision that a device has."""
    return torch.float64 if has_double(device) else torch.float32


def carry(table, device: torch.device, dtype: torch.dtype):
    """Return a table, or tensor, on another device and in another precision, which one of the devices may lack."""
    return table.to(device).to(dtype) if has_double(device) else table.to(dtype).to(device)


def at_once(n: int, device: torch.device) -> int:
    """Return how many numbers to compute with at once: n, which a CPU's caches hold, or what keeps others busy."""
    return n if device.type == "cpu" else BUSY * n


@cache
def _computes_in_double(device: torch.device) -> bool:
    try:
        return (torch.ones(1, dtype=torch.float64, device=device) * 2).item() == 2
    except (RuntimeError, TypeError):  # some refuse to make such a tensor, others to compute with it
        return False


def stays_on_host(X: torch.Tensor, device: torch.device, copied_to: torch.dtype | None) -> bool:
    """Whether the device has no room for the table beside what training needs; its batches then travel one by one.

    Parameters
    ----------
    X : torch.Tensor or SparseTable
    device : torch.device
    copied_to : torch.dtype or None
        The precision of the copy that training makes of the table, if it makes one.
    """
    if X.device.type != "cpu" or device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for tensors to come is not free to others, but to us
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    n_bytes = X.nbytes + (0 if copied_to is None else X.numel() * copied_to.itemsize)
    return n_bytes > ROOM * free


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


@cache
def _openmp() -> ThreadpoolController:
    """Find the libraries that compute on OpenMP's threads, torch's products and factorisations among them."""
    return ThreadpoolController().select(user_api="openmp")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on the calling thread alone.

    OpenMP's threads spin while they wait for each other. Where others use the machine too, a product of a few thousand
    numbers then takes milliseconds, a hundred times what it takes alone. The number of threads belongs to the calling
    thread, so that fits in several threads need not know of each other.
    """
    torch.get_num_threads()  # on its first call in a thread torch sets the number, which must not happen later
    found = [(library, library.num_threads) for library in _openmp().lib_controllers]
    try:
        for library, _ in found:
            library.set_num_threads(1)
        yield
    finally:
        try:
            _set_threads(found)
        except KeyboardInterrupt:  # just here: once more, before it goes on its way
            _set_threads(found)
            raise


def _set_threads(numbers: list[tuple]) -> None:
    for library, n_threads in numbers:
        library.set_num_threads(n_threads)
