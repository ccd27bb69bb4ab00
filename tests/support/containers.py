"""Everything that a table of numbers may come in, and the numbers stay the same."""

import tempfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from scipy import sparse


def _names(array: np.ndarray) -> list[str]:
    return [f"c{number}" for number in range(array.shape[1])]


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _mapped(array: np.ndarray) -> np.memmap:
    if not array.size:
        return array
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)
    mapped[...] = array
    return mapped


def _wide_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor that is every other column of another."""
    return torch.from_numpy(np.repeat(array, 2, axis=-1))[..., ::2]


def _csr(array: np.ndarray, index: type, *, twice: bool = False) -> sparse.csr_array:
    """Return a matrix whose indices go down and, maybe, name each place twice."""
    matrix = sparse.csr_array(array)
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        for part in (matrix.indices, matrix.data):
            part[start:end] = part[start:end][::-1].copy()
    times = 1 + twice
    data, indices = (np.repeat(part, times) for part in (matrix.data / times, matrix.indices))
    parts = data.astype(array.dtype), indices.astype(index), (times * matrix.indptr).astype(index)
    return sparse.csr_array(parts, shape=array.shape)


ARRAYS = {
    "array": np.asarray,
    "float32": lambda array: array.astype(np.float32),
    "float16": lambda array: array.astype(np.float16),
    "extended precision": lambda array: array.astype(np.longdouble),
    "big-endian": lambda array: array.astype(">f8"),
    "objects": lambda array: array.astype(object),
    "list": np.ndarray.tolist,
    "Fortran order": np.asfortranarray,
    "negative strides": lambda array: array[::-1].copy()[::-1],
    "read-only": _read_only,
    "memory map": _mapped,
    "tensor": torch.tensor,
    "tensor of bfloat16": lambda array: torch.tensor(array, dtype=torch.bfloat16),
    "tensor of float16": lambda array: torch.tensor(array, dtype=torch.float16),
    "tensor of float32": lambda array: torch.tensor(array, dtype=torch.float32),
    "tensor of every other column": _wide_tensor,
    "tensor that requires a gradient": lambda array: torch.tensor(array, requires_grad=True),
}
"""For arrays of one or two dimensions."""
INTEGERS = {
    **{kind: lambda array, kind=kind: array.astype(kind) for kind in ("int8", "int64")},
    "tensor of int64": lambda array: torch.tensor(array).long(),
    "nullable": lambda array: pd.DataFrame(array, columns=_names(array)).astype("Int64"),
}
"""For tables of integers."""
TABLES = {
    "DataFrame": lambda array: pd.DataFrame(array, columns=_names(array)),
    "DataFrame of several types": lambda array: pd.DataFrame(
        {name: column.astype("float32" if at % 2 else "float64") for at, (name, column) in enumerate(_columns(array))},
        index=range(len(array)),
    ),
    "nullable DataFrame": lambda array: pd.DataFrame(array, columns=_names(array)).astype("Float64"),
    "DataFrame of Arrow's": lambda array: pd.DataFrame(array, columns=_names(array)).astype("double[pyarrow]"),
    "polars": lambda array: pl.DataFrame(array, schema=_names(array)),
    "pyarrow": lambda array: pa.table(dict(_columns(array))),
}
SPARSE = {
    "CSR": sparse.csr_array,
    "CSR matrix": sparse.csr_matrix,
    "CSR of float32": lambda array: sparse.csr_array(array.astype(np.float32)),
    "CSR with indices of int64, backwards": lambda array: _csr(array, np.int64),
    "CSR with places named twice": lambda array: _csr(array, np.int32, twice=True),
    "CSC": sparse.csc_array,
    "CSC matrix": sparse.csc_matrix,
    "COO": sparse.coo_array,
    "COO matrix": sparse.coo_matrix,
}


def _columns(array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return list(zip(_names(array), array.T, strict=True))


def is_single(container: str) -> bool:
    """Whether it holds float32 and nothing wider, which `dtype=None` then learns in."""
    return container.endswith("float32")
