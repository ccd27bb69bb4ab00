import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from torchlinreg.cli.encoding import encode
from torchlinreg.cli.picture import MOST_TARGETS, draw


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"small": rng.normal(0, 0.1, 80), "large": rng.normal(0, 100, 80)})
    y = pd.DataFrame({"a $": 50 * X["small"] - X["large"], "b": 30 * X["small"]})
    return train_test_split(X, y, random_state=0)


def test_a_row_of_three_panels_for_each_target(split):
    figure = draw(LinearRegression(), *split)
    assert len(figure.axes) == 6
    predicted, residuals, effects = figure.axes[:3]
    shown = predicted.collections[0].get_offsets()
    np.testing.assert_allclose(shown[:, 0], shown[:, 1])  # without noise the prediction is the actual value
    np.testing.assert_allclose(shown[:, 1], split[3]["a $"])
    np.testing.assert_allclose(residuals.collections[0].get_offsets()[:, 1], 0, atol=1e-10)
    assert predicted.get_title() == "a \\$\npredicted and actual, held-out rows"
    spread = split[0].std(ddof=0)
    np.testing.assert_allclose([bar.get_width() for bar in effects.patches], [50 * spread["small"], -spread["large"]])
    assert [label.get_text() for label in effects.get_yticklabels()] == ["small", "large"]


def test_encoded_columns_have_plain_names():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=200), "city": [f"c{number // 8}" for number in range(200)]})
    table.loc[::5, "size"] = np.nan
    y = pd.DataFrame({"y": 9 * table["size"].isna() + 5 * (table["city"] > "c20")})
    model = make_pipeline(encode(table).transformer(), LinearRegression())
    effects = draw(model, table, table, y, y).axes[2]
    assert effects.get_title() == "y\nthe 12 largest of 22 coefficients"
    names = [label.get_text() for label in effects.get_yticklabels()]
    assert len(names) == 12
    assert names[-1] == "size missing"
    assert "city (the rest)" in names


def test_many_targets_and_long_names():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 2)), columns=["x" * 99, "y" * 99])
    y = pd.DataFrame(rng.normal(size=(40, 9)), columns=[f"target {number}" for number in range(9)])
    figure = draw(LinearRegression(), X, X, y, y)
    assert len(figure.axes) == 3 * MOST_TARGETS
    assert all(len(label.get_text()) < 30 for label in figure.axes[2].get_yticklabels())
