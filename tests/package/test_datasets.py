import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from torchlinreg.datasets import load_crop_yields, make_linear

X_CROPS = [[73, 67, 43], [91, 88, 64], [87, 134, 58], [102, 43, 37], [69, 96, 70]]
Y_CROPS = [[56, 70], [81, 101], [119, 133], [22, 37], [103, 119]]


def test_crop_yields_are_the_published_table():
    crops = load_crop_yields()
    assert_array_equal(crops.data, X_CROPS)
    assert_array_equal(crops.target, Y_CROPS)
    assert crops.data.dtype == crops.target.dtype == np.float64
    assert crops.data.flags.c_contiguous
    assert crops.target.flags.c_contiguous
    assert crops.feature_names == ["temperature", "rainfall", "humidity"]
    assert crops.target_names == ["apples", "oranges"]
    assert crops.frame is None
    assert crops.DESCR


def test_crop_yields_three_times():
    X, y = load_crop_yields(return_X_y=True, n_repeats=3)
    assert_array_equal(X, X_CROPS * 3)
    assert_array_equal(y, Y_CROPS * 3)


def test_crop_yields_as_frame():
    crops = load_crop_yields(as_frame=True)
    assert list(crops.data) == crops.feature_names
    assert list(crops.target) == crops.target_names
    assert_array_equal(crops.frame, np.hstack([X_CROPS, Y_CROPS]))
    X, y = load_crop_yields(return_X_y=True, as_frame=True)
    pd.testing.assert_frame_equal(X, crops.data)
    pd.testing.assert_frame_equal(y, crops.target)


def test_crop_yields_are_fresh_each_time():
    load_crop_yields().data[:] = 0
    load_crop_yields().feature_names.clear()
    assert load_crop_yields().data[0, 0] == 73
    assert len(load_crop_yields().feature_names) == 3


@pytest.mark.parametrize(("n_repeats", "error"), [(0, ValueError), (1.5, TypeError)])
def test_crop_yields_refuses(n_repeats, error):
    with pytest.raises(error, match="n_repeats"):
        load_crop_yields(n_repeats=n_repeats)


def test_make_linear_follows_the_line():
    X, y = make_linear(random_state=0)
    assert X.shape == (1000, 2)
    assert y.shape == (1000,)
    assert X.dtype == y.dtype == np.float64
    noise = y - X @ [2, -3.4] - 4.2
    assert_allclose(noise.std(), 0.01, rtol=0.1)
    assert_allclose(X.mean(axis=0), 0, atol=0.15)
    assert_allclose(X.std(axis=0), 1, rtol=0.1)


def test_make_linear_without_noise_is_exact():
    X, y = make_linear(7, [1, 2, 3], -1, 0, random_state=0)
    assert_allclose(y, X @ [1, 2, 3] - 1, rtol=1e-14)


def test_make_linear_several_targets():
    X, y = make_linear(50, [[1, 2], [3, 4], [5, 6]], [1, 2, 3], 0, random_state=0)
    assert_allclose(y, X @ np.array([[1, 3, 5], [2, 4, 6]]) + [1, 2, 3], rtol=1e-13)


def test_make_linear_one_seed_one_data_set():
    X, y = make_linear(random_state=3)
    X32, y32 = make_linear(random_state=3, dtype=np.float32)
    assert X32.dtype == y32.dtype == np.float32
    assert_array_equal(X32, X.astype(np.float32))
    assert_array_equal(y32, y.astype(np.float32))
    other, _ = make_linear(random_state=4)
    assert not np.array_equal(other, X)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"n_samples": 0}, "n_samples"),
        ({"noise": -1.0}, "noise"),
        ({"coef": 2.0}, "coef must be"),
        ({"coef": [[[1.0]]]}, "coef must be"),
        ({"intercept": [1.0, 2.0]}, "intercept must be"),
        ({"dtype": np.int64}, "dtype must be"),
    ],
)
def test_make_linear_refuses(wrong, match):
    with pytest.raises(ValueError, match=match):
        make_linear(**wrong)
