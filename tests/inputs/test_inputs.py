"""Data are only read, in whatever layout and type they come."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from surroundings import MODES

from torchlinreg import TorchLinearRegressor


@pytest.fixture(params=MODES)
def mode(request):
    """Return parameters of each way of working, with an optimiser of torch as well."""
    return {"random_state": 0, **MODES[request.param]}


def test_inputs_are_not_modified(model, table):
    originals = [*table, np.ones((2, 4)), np.ones(2)]
    X, y, weight, coef, intercept = arrays = [array.copy() for array in originals]
    model.fit(X, y, sample_weight=weight, coef_init=coef, intercept_init=intercept).predict(X)
    for array, original in zip(arrays, originals, strict=True):
        assert_array_equal(array, original)
        assert array.flags.writeable


def test_tensors_are_not_modified(model, table):
    tensors = [torch.tensor(part, requires_grad=True) for part in table]
    versions = [tensor._version for tensor in tensors]
    model.fit(tensors[0], tensors[1], sample_weight=tensors[2])
    predicted = model.predict(tensors[0])
    assert not predicted.requires_grad
    assert [tensor._version for tensor in tensors] == versions
    for tensor, original in zip(tensors, table, strict=True):
        assert_array_equal(tensor.detach().numpy(), original)
        assert tensor.requires_grad
        assert tensor.grad is None


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "every other row": lambda array: np.repeat(array, 2, axis=0)[::2],
    "every other column": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "negative strides": lambda array: array[::-1].copy()[::-1],
    "negative strides of columns": lambda array: array[..., ::-1].copy()[..., ::-1],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "unaligned": lambda array: np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "list": np.ndarray.tolist,
    "extended precision": lambda array: array.astype(np.longdouble),
    "objects": lambda array: array.astype(object),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_layout_does_not_matter(mode, table, layout, name):
    data = dict(zip(("X", "y", "sample_weight"), table, strict=True))
    expected = TorchLinearRegressor(**mode).fit(**data).coef_
    data[name] = LAYOUTS[layout](data[name])
    model = TorchLinearRegressor(**mode).fit(**data)
    assert_allclose(model.coef_, expected, rtol=1e-10)
    assert_allclose(model.predict(data["X"]), model.predict(table[0]), rtol=1e-10)


@pytest.mark.parametrize("mmap_mode", ["r", "r+", "c"])
def test_memory_mapped_files(mode, table, tmp_path, mmap_mode):
    maps = []
    for number, array in enumerate(table):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        maps.append(np.load(path, mmap_mode=mmap_mode))
    X, y, weight = maps
    model = TorchLinearRegressor(**mode)
    expected = model.fit(table[0], table[1], sample_weight=table[2]).coef_
    assert_array_equal(model.fit(X, y, sample_weight=weight).coef_, expected)
    assert_array_equal(np.load(tmp_path / "0.npy"), table[0])


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2"])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_small_types_become_float64(mode, table, kind, name):
    data = dict(zip(("X", "y", "sample_weight"), table, strict=True))
    data[name] = np.abs(data[name]).astype(kind)
    coef = TorchLinearRegressor(**mode).fit(**data).coef_
    assert coef.dtype == np.float64
    data[name] = data[name].astype(float)
    assert_array_equal(TorchLinearRegressor(**mode).fit(**data).coef_, coef)
