"""What a notebook shows of a fitted estimator: scikit-learn's diagram, with the outcome and the plan in it."""

import copy
import pickle
from html.parser import HTMLParser

import pytest
import sklearn
from conftest import AT_AN_END
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.engine.fit.plan import Plan

# Older versions of scikit-learn show parameters only
SHOWS_ATTRIBUTES = hasattr(BaseEstimator, "_get_fitted_attr_html")


class Tables(HTMLParser):
    """Collects the rows of tables, and checks that what is opened is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        if tag not in {"br", "input", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open and self.rows:
            self.rows[-1][-1] += data


def in_pipeline(model):
    return make_pipeline(make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough"), model)


@AT_AN_END
@pytest.mark.parametrize("wrap", [lambda model: model, in_pipeline], ids=["alone", "in a pipeline"])
@pytest.mark.parametrize(
    "model",
    [
        TorchLinearRegressor(),
        TorchLinearRegressor(learning_rate=1e-3, max_iter=3, tol=None),
        TorchLinearRegressorCV(alphas=3),
    ],
    ids=["untuned", "textbook", "search"],
)
def test_diagrams_have_the_outcome_and_the_plan(table, model, wrap):
    X, y, _ = table
    estimator = wrap(clone(model))
    assert "Outcome and plan" not in estimator._repr_html_()
    html = estimator.fit(X, y)._repr_html_()
    assert html.count("Outcome and plan") == SHOWS_ATTRIBUTES
    fitted = estimator[-1] if wrap is in_pipeline else estimator
    assert Tables(html).rows or not SHOWS_ATTRIBUTES
    rows = html.partition("Outcome and plan</summary>")[2].partition("</details>")[0]
    rows = {row[0]: row[1:] for row in Tables(rows).rows}
    if SHOWS_ATTRIBUTES:
        assert rows["converged_"] == ["True", "whether training ended by its own criterion"]
        assert rows["fit_time_"] == [f"{fitted.fit_time_:.3g}", "seconds"]
        assert ("optimality_gap_" in rows) == (fitted.optimality_gap_ is not None)
    expected = {row[0]: row[1:] for row in Tables(fitted.plan_._repr_html_()).rows}
    assert expected.keys() == fitted.plan_.keys()
    for name, row in expected.items():
        assert row[1] == fitted.plan_.reasons[name]
        assert not SHOWS_ATTRIBUTES or rows[name] == row
    with sklearn.config_context(display="text"):
        assert not hasattr(estimator, "_repr_html_")


def test_plans_are_escaped():
    html = Plan({"<b>": ("<script>", "a < b & c"), "rate": (0.12345, "")})._repr_html_()
    assert "<b>" not in html
    assert "<script>" not in html
    assert Tables(html).rows == [["<b>", "<script>", "a < b & c"], ["rate", "0.123", ""]]


@AT_AN_END
def test_times_are_kept_beside_the_state(table):
    X, y, _ = table
    for model, learn in (
        (TorchLinearRegressor(), lambda model: model.fit(X, y)),
        (TorchLinearRegressor(), lambda model: model.partial_fit(X, y)),
        (TorchLinearRegressor(), lambda model: model.fit_chunks([(X, y)])),
        (TorchLinearRegressorCV(alphas=2), lambda model: model.fit(X, y)),
    ):
        assert not hasattr(model, "fit_time_")
        assert 0 < learn(model).fit_time_ < 600
        assert not any("time" in name for name in vars(model))
        for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model)), clone(model)):
            assert not hasattr(other, "fit_time_")
