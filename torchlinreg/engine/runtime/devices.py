"""Where the numbers are: device and precision."""

from functools import cache

import torch

BUSY = 16  # times as much work at once is worth it where each operation has to be sent for
ROOM = 0.7  # of the free memory of a device, that features may take
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def current_accelerator(*, check_available: bool = False) -> torch.device | None:
    """Return the accelerator that torch was built for, or None; `torch.accelerator` has it from torch 2.7 on.

    Parameters
    ----------
    check_available : bool, default=False
        Whether it has to be present on this machine.
    """
    if torch.__version__ >= "2.7":
        return torch.accelerator.current_accelerator(check_available=check_available)
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
    built = (torch.backends.cuda.is_built(), torch.backends.mps.is_built(), torch.xpu._is_compiled())
    kinds = [kind for kind, is_built in zip(backends, built, strict=True) if is_built]
    return next((torch.device(kind) for kind in kinds if not check_available or backends[kind].is_available()), None)


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
        return current_accelerator(check_available=True) or torch.device("cpu")
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


def carry(tensor, device: torch.device, dtype: torch.dtype):
    """Return a tensor, or operator, on another device and in another precision, which one of the devices may lack."""
    return tensor.to(device).to(dtype) if has_double(device) else tensor.to(dtype).to(device)


def at_once(n: int, device: torch.device) -> int:
    """Return how many numbers to compute with at once: n, which a CPU's caches hold, or what keeps others busy."""
    return n if device.type == "cpu" else BUSY * n


@cache
def _computes_in_double(device: torch.device) -> bool:
    try:
        return (torch.ones(1, dtype=torch.float64, device=device) * 2).item() == 2
    except (RuntimeError, TypeError):  # some refuse to make such a tensor, others to compute with it
        return False


def stays_on_host(X, device: torch.device, copied_to: torch.dtype | None) -> bool:
    """Whether the device has no room for the features beside what training needs; blocks are then moved one by one.

    Parameters
    ----------
    X : Operator
    device : torch.device
    copied_to : torch.dtype or None
        The precision of the copy that training makes of the features, if it makes one.
    """
    if X.device.type != "cpu" or device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps for tensors to come is not free to others, but to us
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    n_bytes = X.nbytes + (0 if copied_to is None else X.n_stored * copied_to.itemsize)
    return n_bytes > ROOM * free
