"""A device that is not there: torch's spare backend, renamed, on the memory of the host and with the manners of CUDA.

For ``pytest -p pretended_device``, as it changes the process and has to come before whatever asks torch for its
accelerator. A tensor there is a plain `torch.Tensor`; every operation on one comes to `_operate`, which refuses what
CUDA would refuse, counts what CUDA would have been asked for, and computes on the host. What CUDA computes, and how
fast, it cannot tell; and it has neither COO tensors nor such as are lazily negated or conjugated.
"""

import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretended"
ON_HOST, ELSEWHERE = 1, 12  # names of devices in DLPack, where torch takes the second for its spare backend
DEVICE_OF_DLPACK = 8  # bytes from the start of a DLTensor
ON_META = {"view", "as_strided", "_reshape_alias", "unfold", "set_"}  # of sizes and strides alone
FREE = {"empty", "empty_strided", "is_same_size", "resize_"} | ON_META
WAITING = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}  # the host cannot go on without the answer
BY_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_"}  # these move indices from the host themselves
HOST = torch._C.DispatchKey.CPU
NO_DOUBLE = f"Cannot convert a {NAME} tensor to float64, which it does not have."
limits = {"float64": True}
"""What the device can do: without "float64" it is like Apple's."""


class _Module(_DummyBackendModule):
    """What `torch.pretended` is."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self, device=None) -> torch.Tensor:
        return torch.empty(0, dtype=torch.uint8, device="cpu")

    def set_rng_state(self, state, device=None) -> None:
        pass


class Counts:
    """What the device was asked for: how often, and by which line of the package.

    Attributes
    ----------
    launches, waits : Counter of str
        Operations, and times that the host waited for the device, by operation.
    lines : Counter of tuple
        Both by line.
    moved : Counter of str
        Bytes "there" and "back".
    """

    def __init__(self):
        self.launches, self.waits, self.lines, self.moved = Counter(), Counter(), Counter(), Counter()

    def note(self, kind: str, name: str) -> None:
        """Count one."""
        getattr(self, kind)[name] += 1
        frame = sys._getframe(2)
        while frame is not None and not frame.f_globals.get("__name__", "").startswith("torchlinreg"):
            frame = frame.f_back
        where = "" if frame is None else f"{frame.f_globals['__name__']}:{frame.f_lineno}"
        self.lines[kind, where, name] += 1

    def worst(self, kind: str) -> list:
        """Return the lines that ask most."""
        return [(where, name, n) for (of, where, name), n in self.lines.most_common() if of == kind][:8]


_counts = Counts()


@contextmanager
def counted() -> Iterator[Counts]:
    """Count what is asked of the device within."""
    global _counts  # noqa: PLW0603
    before, _counts = _counts, Counts()
    try:
        yield _counts
    finally:
        _counts = before


def _relabelled(tensor: torch.Tensor, device: int) -> torch.Tensor:
    """Return the same memory as a tensor of another device: its address goes by DLPack, which is told a lie."""
    capsule = torch._C._to_dlpack(tensor.detach() if tensor.requires_grad else tensor)
    ctypes.c_int32.from_address(_address(capsule, b"dltensor") + DEVICE_OF_DLPACK).value = device
    return torch._C._from_dlpack(capsule)


_address = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _there(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype == torch.float64 and not limits["float64"]:
        raise TypeError(NO_DOUBLE)
    return _relabelled(tensor.resolve_neg().resolve_conj(), ELSEWHERE)


def _back(tensor: torch.Tensor) -> torch.Tensor:
    return _relabelled(tensor, ON_HOST)


def _is_there(value) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == NAME


def _refuse(what: str, name: str):
    raise RuntimeError(f"Expected all tensors to be on the same device, but {name} was given {what}.")


def _operate(operation: Callable, *args, **kwargs):
    """Do what one kernel of the device would do."""
    schema, name = operation._schema, operation._schema.name.removeprefix("aten::")
    if name in ON_META:
        return operation._op_dk(HOST, *args, **kwargs)
    if name in ("_copy_from", "_copy_from_and_resize"):
        return _copy(*args, **kwargs)
    if name == "resize_":
        return _become(args[0], torch.empty(args[1], dtype=args[0].dtype, device=NAME))
    elementwise = torch.Tag.pointwise in operation.tags

    def lower(value):
        if _is_there(value):
            return _back(value)
        if isinstance(value, torch.Tensor) and value.dim() and name in BY_INDEX:
            _note_move("there", value)
        elif isinstance(value, torch.Tensor) and not (value.dim() == 0 and (elementwise or name in BY_INDEX)):
            _refuse(f"one on {value.device}", name)
        if isinstance(value, torch.Generator):
            _refuse("a generator of another", name)
        return torch.device("cpu") if isinstance(value, torch.device) else value

    written = [
        (kwargs.get(name_of) if by_name or at >= len(args) else args[at], name_of, by_name)
        for at, name_of, by_name in _written(operation)
    ]
    targets = [target for target, *_ in written if target is not None]
    # Of outputs the host makes its own, as those given may be too small
    outputs = {name_of: target for target, name_of, by_name in written if by_name and target is not None}
    below = {key: lower(value) for key, value in kwargs.items() if key not in outputs and key != "pin_memory"}
    made = {key: torch.empty(0, dtype=target.dtype, device="cpu") for key, target in outputs.items()}
    result = operation(*_each(lower, args), **below, **made)
    for key, value in made.items():
        _fill(outputs[key], value)
    _account(operation, name, args, result)
    if not schema.returns:
        return None
    if targets:
        return targets[0] if len(schema.returns) == 1 else tuple(targets)
    return _each(lambda value: _there(value) if isinstance(value, torch.Tensor) else value, result)


@cache
def _written(operation: Callable) -> list[tuple[int, str, bool]]:
    """Return the arguments that an operation writes to: their places and names, and whether they go by name only."""
    return [
        (at, one.name, one.kwarg_only)
        for at, one in enumerate(operation._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]


def _each(change: Callable, value):
    """Return the value with everything in its lists and tuples changed: thrice as fast as torch's trees."""
    if isinstance(value, list | tuple):
        return type(value)([_each(change, part) for part in value])
    return change(value)


def _account(operation: Callable, name: str, args: tuple, result) -> None:
    if name not in FREE and name != "_local_scalar_dense":
        _counts.note("launches", name)
    if name == "index":  # by a mask is counted where it is turned into numbers
        return
    if name == "_index_put_impl_":
        waits = args[2].numel() != 1 and any(one is not None and one.dtype == torch.bool for one in args[1])
    else:
        waits = bool(WAITING & set(operation.tags)) or isinstance(result, bool | int | float)
    if waits:
        _counts.note("waits", name)


def _fill(target: torch.Tensor, value: torch.Tensor) -> None:
    if target.shape == value.shape:
        _back(target).copy_(value)
    else:
        _become(target, _there(value))


def _become(target: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Give a tensor the memory and the shape of another, and keep what it held if it is no larger."""
    before, after = _back(target).flatten(), _back(other).flatten()
    n_kept = min(len(before), len(after))
    if target.numel() and n_kept:
        after[:n_kept] = before[:n_kept]
    return target.set_(other.untyped_storage(), 0, other.shape, other.stride())


def _note_move(way: str, tensor: torch.Tensor) -> None:
    _counts.moved[way] += tensor.nbytes
    _counts.note("waits", f"copy {way}")


def _copy(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    if torch.float64 in (source.dtype, target.dtype) and not limits["float64"]:  # it converts, and not the host
        raise TypeError(NO_DOUBLE)
    here = [_back(one) if _is_there(one) else one for one in (source, target)]
    here[1].copy_(here[0])
    if _is_there(source) and _is_there(target):
        _counts.note("launches", "copy_")
    else:
        _note_move("back" if _is_there(source) else "there", source)
    return target


def _sparse_product(table: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    if not (_is_there(table) and _is_there(weights)):
        _refuse("tensors of two", "mm")
    key, aten = torch._C.DispatchKey.SparseCsrCPU, torch.ops.aten
    parts = (part.default._op_dk(key, table) for part in (aten.crow_indices, aten.col_indices, aten.values))
    _counts.note("launches", "mm of compressed rows")
    table = torch.sparse_csr_tensor(*map(_back, parts), table.shape, check_invariants=False)
    return _there(table @ _back(weights))


def _in_half(operation: Callable) -> Callable:
    """Return a product as it is under autocast."""

    def product(*args):
        low = torch.get_autocast_dtype(NAME)
        lower = (one.to(low) if isinstance(one, torch.Tensor) and one.is_floating_point() else one for one in args)
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return operation(*lower)

    return product


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
_every, _aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
_every.fallback(_operate, "PrivateUse1")
_every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_aten.impl("mm", _sparse_product, "SparseCsrPrivateUse1")
for _product in ("mm", "addmm", "matmul", "linear"):
    _aten.impl(_product, _in_half(getattr(torch.ops.aten, _product).default), "AutocastPrivateUse1")
