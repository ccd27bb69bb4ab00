"""Torch tensors in, torch tensors out: the same numbers as for arrays, and refusals in the same words."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.data.source import as_operator
from torchlinreg.engine.runtime.devices import stays_on_host
from torchlinreg.estimators.parameters import settings

TEXTBOOK = {"learning_rate": 0.005, "max_iter": 3}


@pytest.fixture
def tensors(table, device):
    return tuple(torch.tensor(part, device=device) for part in table)


# The same answer


@pytest.mark.parametrize("n_targets", [None, 1, 2])
def test_tensors_give_what_arrays_give(model, table, device, dtype, n_targets):
    X, y, weight = (part.astype(dtype) for part in table)
    y = y[:, 0] if n_targets is None else y[:, :n_targets]
    expected = model.fit(X, y, sample_weight=weight).coef_
    predictions = model.predict(X)
    X, y, weight = (torch.tensor(part, device=device) for part in (X, y, weight))
    model.fit(X, y, sample_weight=weight)
    assert type(model.coef_) is np.ndarray
    assert model.coef_.dtype == dtype
    if device == "cpu":
        assert_array_equal(model.coef_, expected)
    assert_allclose(model.coef_, expected, rtol=1e-3 if dtype == "float32" else 1e-9)
    predicted = model.predict(X)
    assert (predicted.dtype, predicted.device, predicted.shape) == (X.dtype, X.device, y.shape)
    assert_allclose(predicted.cpu(), predictions, rtol=1e-3 if dtype == "float32" else 1e-9)


def test_any_mixture_of_tensors_and_arrays(model, table, tensors):
    expected = model.fit(*table).coef_
    frames = [pd.DataFrame(table[0]), pd.DataFrame(table[1]), pd.Series(table[2])]
    for others in (table, frames, [part.tolist() for part in table]):
        for swapped in range(3):
            mixed = [others[i] if i == swapped else tensors[i] for i in range(3)]
            assert_allclose(model.fit(*mixed).coef_, expected, rtol=1e-9)
            mixed = [tensors[i] if i == swapped else others[i] for i in range(3)]
            assert_allclose(model.fit(*mixed).coef_, expected, rtol=1e-9)


def test_fitted_on_one_kind_predicts_the_other(model, table, tensors):
    X, y, _ = table
    predicted = model.fit(X, y).predict(tensors[0])
    assert isinstance(predicted, torch.Tensor)
    assert_allclose(predicted.cpu(), model.predict(X), rtol=1e-12)
    from_tensors = model.fit(tensors[0], tensors[1]).predict(X)
    assert type(from_tensors) is np.ndarray
    assert_allclose(from_tensors, model.predict(tensors[0]).cpu(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("rest", ["tensors", "arrays"])
def test_other_types_become_float64(table, tensors, kind, name, rest):
    names = ("X", "y", "sample_weight")
    data = dict(zip(names, tensors if rest == "tensors" else table, strict=True))
    data[name] = tensors[names.index(name)].abs().to(getattr(torch, kind))
    model = TorchLinearRegressor(random_state=0).fit(**data)
    assert model.coef_.dtype == np.float64
    data[name] = data[name].double()
    assert_array_equal(TorchLinearRegressor(random_state=0).fit(**data).coef_, model.coef_)
    predicted = model.predict(tensors[0].to(getattr(torch, kind)))
    assert predicted.dtype == torch.float64
    assert predicted.device == tensors[0].device


LAYOUTS = {
    "transposed": lambda tensor: tensor.t().contiguous().t(),
    "every other row": lambda tensor: tensor.repeat_interleave(2, dim=0)[::2],
    "every other column": lambda tensor: tensor.repeat_interleave(2, dim=-1)[..., ::2],
    "requires grad": lambda tensor: tensor.clone().requires_grad_(),
    "part of a graph": lambda tensor: tensor.clone().requires_grad_() * 1,
    "parameter": torch.nn.Parameter,
    "lazily negated": lambda tensor: torch.complex(tensor, -tensor).conj().imag,
    "lazily conjugated": lambda tensor: torch.complex(tensor, tensor).conj().real,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_layout_does_not_matter(mode, tensors, layout, name):
    data = dict(zip(("X", "y", "sample_weight"), tensors, strict=True))
    model = TorchLinearRegressor(**mode)
    expected = model.fit(**data).coef_
    data[name] = LAYOUTS[layout](data[name])
    model.fit(**data)
    assert_allclose(model.coef_, expected, rtol=1e-10)
    predicted = model.predict(data["X"])
    assert not predicted.requires_grad
    assert_allclose(predicted.cpu(), model.predict(tensors[0]).cpu(), rtol=1e-10)
    assert model.score(**data) == pytest.approx(model.score(*tensors))


def test_tensor_whose_rows_are_one_row(model, tensors, device):
    X, y, _ = tensors
    model.fit(X[:1].expand(60, 4), y)
    if model.learning_rate == "auto":
        assert_allclose(model.coef_, 0, atol=1e-12)
        assert_allclose(model.intercept_, y.mean(0).cpu(), rtol=1e-12)


@pytest.mark.parametrize("one_target", [True, False])
def test_score(model, table, tensors, one_target):
    X, y, weight = tensors
    y = y[:, 0] if one_target else y
    model.fit(X, y)
    scores = [model.score(X, y), model.score(X, y, sample_weight=weight), model.score(X, y, weight.tolist())]
    arrays = table[0], table[1][:, 0] if one_target else table[1], table[2]
    assert all(isinstance(score, float) for score in scores)
    expected = model.score(*arrays)
    assert scores == pytest.approx([model.score(*arrays[:2]), expected, expected])


def test_start_from_tensors(tensors, backend):
    X, y, _ = tensors
    model = TorchLinearRegressor(backend=backend, random_state=0, **TEXTBOOK).fit(X, y)
    start = {"coef_init": model.coef_, "intercept_init": model.intercept_}
    expected = model.fit(X, y, **start).coef_
    start = {name: torch.tensor(value, device=X.device, requires_grad=True) for name, value in start.items()}
    assert_array_equal(model.fit(X, y, **start).coef_, expected)


def test_names_of_features_do_not_outlive_their_frame(model, table, tensors):
    X, y, _ = table
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert list(model.fit(frame, y).feature_names_in_) == list("abcd")
    model.fit(tensors[0], tensors[1])
    assert not hasattr(model, "feature_names_in_")
    assert model.n_features_in_ == 4
    assert list(model.fit(frame, y).feature_names_in_) == list("abcd")
    with pytest.warns(UserWarning, match="does not have valid feature names"):  # as of arrays
        predicted = model.predict(tensors[0]).cpu()
    assert_allclose(predicted, model.predict(frame), rtol=1e-12)


# Refusals


def with_value(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


REFUSED = {
    "NaN in X": ({"X": lambda X: with_value(X, torch.nan)}, "X contains NaN"),
    "infinity in X": ({"X": lambda X: with_value(X, torch.inf)}, "X contains .*infinity"),
    "both infinities in X": (
        {"X": lambda X: with_value(with_value(X.flip(0), torch.inf).flip(0), -torch.inf)},
        "X con",
    ),
    "NaN in y": ({"y": lambda y: with_value(y, torch.nan)}, "y contains NaN"),
    "infinity in y": ({"y": lambda y: with_value(y, -torch.inf)}, "y contains .*infinity"),
    "NaN in weights": ({"sample_weight": lambda w: with_value(w, torch.nan)}, "weight contains NaN"),
    "negative weight": ({"sample_weight": lambda w: with_value(w, -1)}, "[Nn]egative"),
    "weights all zero": ({"sample_weight": torch.zeros_like}, "zero"),
    "too few weights": ({"sample_weight": lambda w: w[:-1]}, r"sample_weight.shape == \(59,\)"),
    "weights in a column": ({"sample_weight": lambda w: w[:, None]}, "1D"),
    "X of one dimension": ({"X": lambda X: X[:, 0]}, r"Expected 2D array, got 1D array.*reshape\(-1, 1\)"),
    "X of three dimensions": ({"X": lambda X: X[None]}, "Expected 2D array, got 3D"),
    "X of no dimension": ({"X": lambda X: X[0, 0]}, "Expected 2D array, got 0D"),
    "no rows": ({"X": lambda X: X[:0], "y": lambda y: y[:0], "sample_weight": lambda w: None}, "0 sample"),
    "no columns": ({"X": lambda X: X[:, :0]}, "0 feature"),
    "too few targets": ({"y": lambda y: y[:-1]}, r"inconsistent numbers of samples: \[60, 59\]"),
    "y of three dimensions": ({"y": lambda y: y[None]}, "y should be a 1d or 2d"),
    "y of no dimension": ({"y": lambda y: y[0, 0]}, "y should be a 1d or 2d"),
    "y of no columns": ({"y": lambda y: y[:, :0]}, r"\by\b"),
    "no y": ({"y": lambda y: None}, "requires y"),
    "sparse X": ({"X": torch.Tensor.to_sparse}, r"sparse.*to_dense\(\)"),
    "sparse y": ({"y": torch.Tensor.to_sparse}, r"sparse.*to_dense\(\)"),
    "complex X": ({"X": lambda X: X.to(torch.complex64)}, "Complex data not supported"),
    "complex y": ({"y": lambda y: y.to(torch.complex64)}, "Complex data not supported"),
    "complex weights": ({"sample_weight": lambda w: w.to(torch.complex64)}, "Complex data not supported"),
    "X without numbers": ({"X": lambda X: X.to("meta")}, "meta"),
    "y without numbers": ({"y": lambda y: y.to("meta")}, "meta"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_training(table, tensors, case):
    changes, message = REFUSED[case]
    data = dict(zip(("X", "y", "sample_weight"), tensors, strict=True))
    data |= {name: change(data[name]) for name, change in changes.items()}
    model = TorchLinearRegressor()
    with pytest.raises(ValueError, match=message):
        model.fit(**data)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize(
    "case", ["NaN in X", "infinity in X", "X of one dimension", "X of three dimensions", "no rows"]
)
def test_refused_before_prediction(tensors, case):
    changes, message = REFUSED[case]
    X, y, _ = tensors
    model = TorchLinearRegressor().fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.predict(changes["X"](X))


@pytest.mark.parametrize("n_features", [3, 5])
def test_number_of_features_is_checked(tensors, device, n_features):
    X, y, _ = tensors
    model = TorchLinearRegressor().fit(X, y)
    with pytest.raises(ValueError, match=f"X has {n_features} features, but TorchLinearRegressor is expecting 4"):
        model.predict(torch.zeros(2, n_features, device=device))


def test_values_whose_sum_overflows_are_fine(tensors):
    X, y, _ = (part.float() for part in tensors)
    model = TorchLinearRegressor().fit(X * 1e36, y)
    assert X.mul(1e36).sum().isinf()
    assert_allclose(model.predict(X * 1e36).cpu(), TorchLinearRegressor().fit(X, y).predict(X).cpu(), atol=1e-3)


# Device and precision


@pytest.mark.parametrize("make", [str, torch.device], ids=["str", "torch.device"])
def test_named_device(model, table, tensors, device, make):
    """Training happens there; what comes back lies where the data lies."""
    X, y, _ = table
    expected = model.fit(X, y).coef_
    model.set_params(device=make(device))
    assert_allclose(model.fit(X, y).coef_, expected, rtol=1e-9)
    assert type(model.predict(X)) is np.ndarray
    assert_allclose(model.fit(*tensors[:2]).coef_, expected, rtol=1e-9)
    assert model.predict(tensors[0]).device == tensors[0].device


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_device_other_than_that_of_the_data(model, table, tensors, name):
    X, y, weight = table
    expected = model.fit(X, y, sample_weight=weight).coef_
    model.set_params(device=name, dtype="float64")
    assert_allclose(model.fit(*tensors).coef_, expected, rtol=1e-9)
    assert model.predict(tensors[0]).device == tensors[0].device


def test_target_and_weights_come_to_the_features(model, table, tensors):
    X, y, weight = tensors
    expected = model.fit(X, y, sample_weight=weight).coef_
    assert_allclose(model.fit(X, y.cpu(), sample_weight=weight.cpu()).coef_, expected, rtol=1e-9)
    assert_allclose(model.fit(X.cpu(), y, sample_weight=weight).coef_, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "dtype",
    ["float32", torch.float32, np.float32, np.dtype("float32"), "float64", torch.float64, np.float64, np.dtype(float)],
)
def test_dtype_however_it_is_said(model, table, tensors, dtype):
    expected = np.dtype("float32" if "32" in str(dtype) else "float64")
    for X, y, _ in (table, tensors):
        model.set_params(dtype=dtype).fit(X, y)
        assert model.coef_.dtype == model.intercept_.dtype == expected
    assert model.predict(tensors[0]).dtype == torch.float64


@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
@pytest.mark.parametrize("of", ["X", "y"])
def test_cast_comes_after_centring(table, tensors, backend, offset, of):
    """An offset that single precision cannot hold is taken off in double precision."""
    for X, y, _ in (table, tensors):
        expected = TorchLinearRegressor(backend=backend).fit(X, y).predict(X) + (offset if of == "y" else 0)
        X, y = (X + offset, y) if of == "X" else (X, y + offset)
        predicted = TorchLinearRegressor(backend=backend, dtype="float32").fit(X, y).predict(X)
        assert abs(predicted - expected).max() <= 1e-4 * y.std()


def test_gradients_are_not_asked_for(model, tensors):
    """A fit inside somebody's training loop adds nothing to its graph."""
    X, y, _ = tensors
    X = X.clone().requires_grad_()
    predicted = model.fit(X, y).predict(X)
    assert predicted.grad_fn is None
    assert X.grad is None


@contextmanager
def little_memory(device, n_bytes, monkeypatch):
    """Leave torch that many bytes on the device, if it is one whose memory can be limited."""
    if torch.device(device).type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(device) + n_bytes
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info(device)[1], device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (n_bytes, allowed))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@pytest.mark.parametrize(
    ("copied_to", "free", "reserved", "allocated", "stays"),
    [
        (None, 1500, 0, 0, False),
        (None, 1000, 0, 0, True),
        (None, 1000, 900, 400, False),  # torch holds 500 that it does not use
        (None, 1000, 900, 900, True),
        (torch.float64, 2000, 0, 0, True),
        (torch.float64, 3000, 0, 0, True),
        (torch.float64, 4500, 0, 0, False),
    ],
)
def test_room_on_a_device(monkeypatch, copied_to, free, reserved, allocated, stays):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**6))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    X = as_operator(torch.zeros(25, 10))  # 1000 bytes, and 2000 more in double precision
    assert stays_on_host(X, torch.device("cuda"), copied_to) is stays
    assert not stays_on_host(X, torch.device("cpu"), copied_to)


@pytest.mark.parametrize(
    ("parameters", "given", "copied_to"),
    [
        ({}, "float32", torch.float64),
        ({"learning_rate": 1e-3}, "float32", None),
        ({"learning_rate": 1e-3}, "float64", None),
        ({"learning_rate": 1e-3, "dtype": "float64"}, "float32", torch.float64),
        ({"learning_rate": 1e-3, "dtype": "float32"}, "float64", None),  # rounded before it travels
    ],
)
def test_copies_that_training_makes_count(monkeypatch, table, parameters, given, copied_to):
    asked = []
    monkeypatch.setattr(settings, "stays_on_host", lambda X, device, copied_to: asked.append(copied_to))
    X, y, _ = table
    TorchLinearRegressor(max_iter=2, tol=None, **parameters).fit(X.astype(given), y)
    assert asked == [copied_to]


def test_batches_travel_where_the_table_does_not_fit(rng, backend, device, monkeypatch):
    n_rows = 1_000_000 if torch.device(device).type == "cuda" else 4_000  # enough for `little_memory` to be little
    X = rng.normal(size=(n_rows, 50)).astype("float32")
    y = X @ rng.normal(size=50) + 1
    expected = TorchLinearRegressor(random_state=0).fit(X, y)
    with little_memory(device, X.nbytes // 2, monkeypatch):
        model = TorchLinearRegressor(backend=backend, device=device, random_state=0).fit(X, y)
    assert_allclose(model.predict(X[:100]), expected.predict(X[:100]), atol=1e-4 * y.std())
