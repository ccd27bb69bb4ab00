import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from torchlinreg.cli.encoding import as_targets, encode, with_dates


@pytest.fixture
def table():
    sizes = [*map(float, range(19)), np.nan]
    days = pd.date_range("2020-03-01", periods=20)
    return pd.DataFrame({"size": sizes, "city": ["Bern", "Basel"] * 10, "day": days, "level": range(20)})


def test_what_is_learnt_is_of_the_training_rows(table):
    transformer = encode(table).transformer().fit(table.iloc[4:12])
    later = table.iloc[[0, 19]].assign(city=["Brig", None])
    made = pd.DataFrame(transformer.transform(later), columns=transformer.get_feature_names_out())
    made.columns = made.columns.str.partition("__").get_level_values(2)
    assert made["level"].tolist() == [0, 19]
    assert made["size"].tolist() == [0, 7.5]  # the mean of 4, ..., 11
    assert made["day"].tolist() == [-4, 15]
    assert made[["city_Basel", "city_Bern"]].to_numpy().tolist() == [[0, 0], [0, 0]]


def test_columns_without_a_value_among_the_training_rows(table):
    empty = table.assign(size=table["size"].where(table.index > 9), day=table["day"].where(table.index > 9))
    model = make_pipeline(encode(empty).transformer(), LinearRegression())
    assert np.isfinite(model.fit(empty[:9], range(9)).predict(empty)).all()


def test_very_many_categories_share_a_column():
    table = pd.DataFrame({"city": [f"city {number // 4}" for number in range(200)], "size": range(200)})
    encoding = encode(table)
    assert "the 19 most frequent of 50 values" in " ".join(encoding.lines())
    assert encoding.transformer().fit_transform(table).shape == (200, 21)


def test_numbers_need_no_transformer(table):
    assert encode(table[["level"]]).transformer() is None


def test_long_lists_are_cut():
    numbers = pd.DataFrame(np.arange(24.0).reshape(2, 12))
    numbers.columns = [f"x{number}" for number in range(12)]
    assert list(encode(numbers).lines(most=3)) == ["numbers as they are: x0, x1, x2, and 9 more"]


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (["01.02.2021", "03.04.2021"], "2021-02-01"),
        (["01/02/2021", "03/04/2021"], "2021-01-02"),
        (["01/02/2021", "13/04/2021"], "2021-02-01"),
        (["2021-02", "2021-03"], "2021-02-01"),
        (["2021-02-01T10:00:00+01:00", "2021-03-01T10:00:00+02:00"], "2021-02-01 09:00"),
        (["1 February 2021", "3 Sept. 2021"], "2021-02-01"),
        (["Feb 1 2021 3:30 PM", "March 12, 2021"], "2021-02-01 15:30"),
        (["1/2/21 15:30", "1/12/21"], "2021-01-02 15:30"),
    ],
)
def test_dates(texts, first):
    days = with_dates(pd.DataFrame({"day": [*texts, None]}, dtype=object))["day"]
    assert days[0] == pd.Timestamp(first)
    assert days.isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    "texts", [["1.5", "2.5"], ["May", "June"], ["2021-13-01"], ["A-1", "B-2"], ["1-2", "3-4"], ["12-34-5678"], [None]]
)
def test_no_dates(texts):
    table = pd.DataFrame({"it": texts}, dtype=object)
    pd.testing.assert_frame_equal(with_dates(table), table)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["12 km", "1,300 km"], [12, 1300]),
        (["5%", "-7.5%"], [5, -7.5]),
        (["$1,000.50", "$2"], [1000.5, 2]),
        (["1e3 m", "−2 m"], [1000, -2]),
        ([*map(str, range(1, 20)), "old"], [*range(1, 20), np.nan]),
    ],
)
def test_numbers_with_units(texts, numbers):
    read = as_targets(pd.DataFrame({"it": texts}))["it"]
    assert_allclose(read, numbers)


@pytest.mark.parametrize("texts", [["12 km", "5 mi"], ["Q1", "Q2"], ["4-door", "2-door"], ["1", "2", "other"] * 9])
def test_no_numbers(texts):
    assert as_targets(pd.DataFrame({"it": texts}))["it"].tolist() == texts


def test_targets_that_are_numbers_already():
    table = pd.DataFrame({"yes": [True, False, True], "much": [1.0, np.inf, 2.0]})
    read = as_targets(table)
    assert read["yes"].tolist() == [True, False, True]
    assert_allclose(read["much"], [1, np.nan, 2])
