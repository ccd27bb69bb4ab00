"""`TorchLinearRegressorCV` among estimators: copies, pipelines, callbacks, frames, tensors; and what it refuses."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import AT_AN_END, NEEDS_CALLBACKS
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.callbacks import Checkpoint
from torchlinreg.engine.columns import grid as engine

SMALL = {"alphas": 4, "cv": 3}
TEXTBOOK = {"learning_rates": [0.01, 0.05], "max_iter": 4, "alphas": [0.1], "cv": 3, "random_state": 0}


def test_a_copy_is_unfitted_and_fits_the_same(table):
    X, y, weight = table
    model = TorchLinearRegressorCV(**SMALL, penalty="elasticnet", l1_ratio=[0.1, 0.9])
    copy = clone(model.fit(X, y, weight))
    assert not copy.__sklearn_is_fitted__()
    assert copy.get_params() == model.get_params()
    assert_array_equal(copy.fit(X, y, weight).coef_, model.coef_)
    assert copy.set_params(penalty="l1", l1_ratio=0.5).fit(X, y, weight).l1_ratio_ == 1.0


@AT_AN_END
@pytest.mark.parametrize("parameters", [SMALL, TEXTBOOK, {**SMALL, "loss": "huber"}], ids=str)
def test_the_plan_names_the_setting_chosen(table, parameters):
    X, y, _ = table
    model = TorchLinearRegressorCV(**parameters).fit(X / X.std(0), y)
    assert model.plan_["alpha"] == model.alpha_
    assert model.plan_.keys() == model.plan_.reasons.keys() >= {"alpha", "backend", "conditioning", "dtype"}
    assert all(name in repr(model.plan_) for name in model.plan_)


@AT_AN_END
@pytest.mark.parametrize("parameters", [SMALL, TEXTBOOK, {**SMALL, "loss": "huber"}], ids=str)
def test_a_pickle_predicts_the_same_and_holds_no_tensors(table, parameters):
    X, y, _ = table
    model = TorchLinearRegressorCV(**parameters).fit(X / X.std(0), y)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert not any(isinstance(value, torch.Tensor) for value in vars(again).values())


@AT_AN_END
def test_fitting_again_forgets(table):
    X, y, _ = table
    model = TorchLinearRegressorCV(**SMALL, penalty="elasticnet", l1_ratio=[0.1, 0.9]).fit(X, y)
    fresh = TorchLinearRegressorCV(**SMALL).fit(X[:, :2], y[:, 0])
    model.set_params(penalty="l2", l1_ratio=0.15).fit(X[:, :2], y[:, 0])
    assert vars(model).keys() == vars(fresh).keys()
    assert_array_equal(model.mse_path_, fresh.mse_path_)
    assert_array_equal(model.coef_, fresh.coef_)


@AT_AN_END
def test_attributes_have_the_shapes_that_are_written(table):
    X, y, _ = table
    for target, shape in ((y, (2, 4)), (y[:, 0], (4,))):
        model = TorchLinearRegressorCV(**SMALL).fit(X, target)
        assert model.coef_.shape == shape
        assert model.coef_path_.shape == (4, *shape)
        assert np.shape(model.intercept_) == shape[:-1]
        assert model.alphas_.shape == model.path_alphas_.shape == (4,)
        assert model.mse_path_.shape == (4, model.n_splits_)
        (chosen,) = np.flatnonzero(model.path_alphas_ == model.alpha_)
        assert_array_equal(model.coef_path_[chosen], model.coef_)
        assert model.converged_
        assert model.optimality_gap_ < 1e-10
        assert model.learning_rate_ == "auto"
    frame = pd.DataFrame(model.cv_results_)
    assert frame.sort_values("rank_test_score").index[0] == model.best_index_
    assert_allclose(frame["mean_test_score"].max(), model.best_score_)


@AT_AN_END
def test_in_a_pipeline_and_in_a_search(table):
    X, y, _ = table
    pipeline = make_pipeline(StandardScaler(), TorchLinearRegressorCV(**SMALL))
    assert cross_val_score(pipeline, X, y, cv=2, error_score="raise").min() > 0.5
    grid = {"torchlinearregressorcv__penalty": ["l1", "l2"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.predict(X).shape == y.shape
    assert "TorchLinearRegressorCV" in search.best_estimator_._repr_html_inner()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames_and_their_names(table, frame):
    X, y, weight = table
    names = list("abcd")
    data = frame(dict(zip(names, X.T, strict=True)))
    scoring = "neg_median_absolute_error"  # which is shown rows as they were given
    model = TorchLinearRegressorCV(**SMALL, scoring=scoring).fit(data, y[:, 0], weight)
    assert list(model.feature_names_in_) == names
    plain = TorchLinearRegressorCV(**SMALL, scoring=scoring).fit(X, y[:, 0], weight)
    assert_allclose(model.best_score_, plain.best_score_)
    assert_allclose(model.predict(data), plain.predict(X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(data.rename(columns={"a": "z"}) if frame is pd.DataFrame else data.rename({"a": "z"}))


@AT_AN_END
@pytest.mark.parametrize("scoring", [None, "neg_median_absolute_error"])
def test_tensors(table, device, scoring):
    X, y, _ = table
    tensors = (torch.tensor(part, dtype=torch.float32, device=device) for part in (X, y))
    X_there, y_there = tensors
    model = TorchLinearRegressorCV(**SMALL, scoring=scoring).fit(X_there, y_there)
    plain = TorchLinearRegressorCV(**SMALL, scoring=scoring).fit(X.astype(np.float32), y.astype(np.float32))
    assert_allclose(model.best_score_, plain.best_score_, rtol=1e-5)
    assert model.predict(X_there).device == X_there.device
    assert isinstance(model.coef_, np.ndarray)


@AT_AN_END
def test_the_model_chosen_can_be_taken_elsewhere(table):
    X, y, _ = table
    model = TorchLinearRegressorCV(**SMALL, penalty="l1").fit(X, y)
    assert isinstance(model.to_sklearn(), LinearRegression)
    assert_allclose(model.to_sklearn().predict(X), model.predict(X))
    assert_allclose(model.to_module()(torch.tensor(X)).detach(), model.predict(X))
    assert_array_equal(clone(model).fit(X, y).sparsify().predict(X), model.predict(X))
    alone = TorchLinearRegressor(penalty="l1", alpha=model.alpha_).fit(X, y)
    assert_allclose(model.coef_, alone.coef_, rtol=1e-6)


class Recorder:
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def setup(self, estimator, context):
        self.told.append(("setup", context.max_subtasks))

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.told.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.told.append(("end", context.task_name, context.task_id))
        if fitted_estimator is not None:
            assert fitted_estimator.score(X, y) > 0


@AT_AN_END
@NEEDS_CALLBACKS
@pytest.mark.parametrize("parameters", [SMALL, TEXTBOOK], ids=["untuned", "textbook"])
def test_callbacks_see_the_folds_and_the_fit_to_all_rows_as_tasks(table, parameters):
    X, y, _ = table
    recorder = Recorder()
    TorchLinearRegressorCV(**parameters).set_callbacks(recorder).fit(StandardScaler().fit_transform(X), y)
    names = ["fold", "fold", "fold", "refit"]
    folds = [(what, name, number) for number, name in enumerate(names) for what in ("begin", "end")]
    assert recorder.told[1:] == [("begin", "fit", 0), *folds, ("end", "fit", 0), "teardown"]


@AT_AN_END
@NEEDS_CALLBACKS
def test_a_progress_bar_and_a_checkpoint(table, tmp_path, capsys):
    from sklearn.callback import ProgressBar  # noqa: PLC0415

    X, y, _ = table
    checkpoint = Checkpoint(tmp_path / "model.safetensors")
    model = TorchLinearRegressorCV(**SMALL).set_callbacks(ProgressBar(), checkpoint).fit(X, y)
    assert "100%" in capsys.readouterr().out
    saved = Checkpoint.load(checkpoint.path)
    assert_array_equal(saved.predict(X), model.predict(X))
    assert saved.get_params() == model.get_params()
    assert vars(saved).keys() == vars(model).keys() - {"_skl_callbacks"}


@AT_AN_END
def test_verbose_prints_a_line_for_each_fold(table, capsys):
    X, y, _ = table
    TorchLinearRegressorCV(**SMALL, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Fold 1/3", "Fold 2/3", "Fold 3/3"]


@pytest.mark.parametrize("parameters", [SMALL, {**SMALL, "loss": "huber"}, TEXTBOOK], ids=str)
@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupt_within_a_fold_ends_the_fit(table, monkeypatch, parameters, at):
    """There is no best setting yet that could be kept."""
    X, y, _ = table
    calls, enter = [], engine.Columns.record

    def interrupted(self, fit, *place):
        calls.append(place)
        fit.interrupted = len(calls) == at
        enter(self, fit, *place)

    monkeypatch.setattr(engine.Columns, "record", interrupted)
    model = TorchLinearRegressorCV(**parameters)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X / X.std(0), y)
    assert not model.__sklearn_is_fitted__()


def test_seeds_make_fits_repeatable_and_leave_the_generator_alone(table):
    X, y, _ = table
    before = torch.get_rng_state()
    first, second = (TorchLinearRegressorCV(**TEXTBOOK).fit(X / X.std(0), y) for _ in range(2))
    assert_array_equal(first.coef_, second.coef_)
    assert_array_equal(first.mse_path_, second.mse_path_)
    assert_array_equal(torch.get_rng_state(), before)


def test_few_epochs_are_reported(table):
    X, y, _ = table
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2. Increase max_iter"):
        model = TorchLinearRegressorCV(**SMALL, loss="huber", max_iter=2).fit(X, y)
    assert not model.converged_


def test_scores_that_are_no_numbers_are_reported(table):
    X, y, _ = table
    with pytest.warns(UserWarning, match=r"scoring=.*gave NaN for 4 of 4 settings"):
        TorchLinearRegressorCV(**SMALL, scoring=lambda model, X, y: np.nan).fit(X, y)


ROWS = np.arange(40)
REFUSED = {
    "l1_ratio twice": ({"l1_ratio": [0.5, 0.5], "penalty": "elasticnet"}, "l1_ratio.*twice"),
    "negative alpha": ({"alphas": [-1.0, 1.0]}, r"alphas=\[-1.0, 1.0\] must be finite and not negative"),
    "infinite alpha": ({"alphas": [np.inf]}, r"alphas=\[inf\] must be finite"),
    "NaN in alphas": ({"alphas": [np.nan, 1.0]}, r"alphas=\[nan, 1.0\] contains NaN; give numbers"),
    "no alphas": ({"alphas": []}, r"alphas=\[\] has shape \(0,\); give a list of numbers"),
    "table of alphas": ({"alphas": [[1.0, 2.0]]}, r"alphas=.*shape \(1, 2\); give a list of numbers"),
    "zero alphas": ({"alphas": 0}, "'alphas' parameter .* must be an int in the range"),
    "half alphas": ({"alphas": 2.5}, "'alphas' parameter"),
    "words as alphas": ({"alphas": ["a"]}, "alphas=.* not made of real numbers"),
    "eps": ({"eps": 1.0}, "'eps' parameter"),
    "shares without l1": ({"l1_ratio": [0.1, 0.2]}, "l1_ratio=.*several values.*penalty='l2'; use penalty="),
    "share above one": ({"l1_ratio": [0.1, 2], "penalty": "elasticnet"}, r"l1_ratio=.* in the range \[0.0, 1.0\]"),
    "no shares": ({"l1_ratio": [], "penalty": "elasticnet"}, "l1_ratio=.* give a list"),
    "momenta untuned": ({"momentum": [0.1, 0.2]}, 'momentum=.*learning_rates="auto"; give a number for learning_rates'),
    "momentum of one": ({"momentum": [0.1, 1.0], "learning_rates": 0.1}, r"momentum=.* in the range \[0.0, 1.0\)"),
    "rate of zero": ({"learning_rates": [0.0, 0.1]}, r"learning_rates=.* in the range \(0.0, inf\)"),
    "negative rate": ({"learning_rates": np.array([0.1, -0.1])}, r"learning_rates=.* in the range \(0.0, inf\)"),
    "infinite rate": ({"learning_rates": [np.inf]}, r"learning_rates=.* in the range \(0.0, inf\)"),
    "nothing to choose": ({"penalty": None}, "penalty=None leaves nothing to choose; use"),
    "nor in textbook mode": ({"penalty": None, "learning_rates": 0.1}, "penalty=None leaves nothing to choose; use"),
    "no folds": ({"cv": []}, r"cv=.* gave no folds"),
    "nothing to score": ({"cv": [(ROWS, [])]}, "cv gave a part .* with 0 rows; give the numbers"),
    "nothing to learn from": ({"cv": [([], ROWS)]}, "cv gave a part .* with 0 rows"),
    "nothing in a mask": ({"cv": [(ROWS >= 0, ROWS < 0)]}, "cv gave a part .* with 0 rows"),
    "short mask": ({"cv": [(ROWS[:9] > 0, ROWS)]}, "cv gave .* True or False for each of them"),
    "half rows": ({"cv": [(ROWS, [0.5, 1.5])]}, "cv gave a part .* float64, .*; give the numbers"),
    "rows beyond": ({"cv": [(ROWS, [3, 40])]}, "cv names row 40 of 40; give numbers of rows that there are"),
    "rows before": ({"cv": [([3, -41, 5], ROWS)]}, "cv names row -41 of 40"),
    "too many folds": ({"cv": 41}, "n_splits=41"),
    "one fold": ({"cv": 1}, "'cv' parameter"),
    "lonely rows": (
        {"cv": LeaveOneOut()},
        "R² of a single row is not defined: choose larger folds with cv, or another",
    ),
    "no groups": ({"cv": GroupKFold(2)}, "groups"),
    "unknown scoring": ({"scoring": "best"}, "'scoring' parameter"),
    "scores of rows": (
        {"scoring": lambda model, X, y: y},
        r"scoring returned ndarray of shape \(\d+,\), not one number",
    ),
    "rates too large": (
        {"learning_rates": [100.0, 1000.0], "alphas": [0.1], "max_iter": 300},
        "diverged at every setting.* largest stable rate is about .* Lower it",
    ),
    "whitened kinks": ({"penalty": "l1", "conditioning": "whiten"}, 'conditioning="whiten".*use conditioning="scale"'),
    "optimiser untuned": ({"optimizer": "adam"}, "optimizer='adam'.*number for learning_rate"),
    "momentum": ({"momentum": 1.5}, "'momentum' parameter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_impossible_is_refused_by_name_with_a_way_out(rng, case):
    parameters, message = REFUSED[case]
    X = rng.normal(size=(40, 3))
    with pytest.raises(ValueError, match=message):
        TorchLinearRegressorCV(**{**SMALL, **parameters}).fit(X, X.sum(1))


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_folds_without_weight_are_refused(rng, loss):
    X, rows = rng.normal(size=(40, 3)), np.arange(40)
    with pytest.raises(ValueError, match=r"sample_weight is zero for all rows of a part"):
        TorchLinearRegressorCV(**SMALL, loss=loss).fit(X, X.sum(1), (rows > 20) * 1.0)


@pytest.mark.parametrize("constant", ["X", "y"])
@pytest.mark.parametrize("parameters", [{}, {"penalty": "l1"}, {"loss": "absolute_error"}], ids=str)
def test_tables_that_speak_of_nothing(rng, parameters, constant):
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    X, y = (np.ones_like(X), y) if constant == "X" else (X, np.ones_like(y))
    model = TorchLinearRegressorCV(**SMALL, **parameters).fit(X, y)
    assert_allclose(model.coef_, 0, atol=1e-10)
    assert np.isfinite(model.alphas_).all()
    assert np.isfinite(model.best_score_)


@pytest.mark.parametrize("parts", [(1.0, 1e160), (1e160, 1.0), (1.0, 1e-160)], ids=str)
def test_squares_that_overflow_give_no_wrong_weights(rng, parts):
    """Rather the same in other units."""
    X, (x_unit, y_unit) = rng.normal(size=(40, 3)), parts
    y = X.sum(1) + rng.normal(size=40)
    given = {"penalty": "l1", "cv": 3, "scoring": lambda model, X, y: 0.0}
    plain = TorchLinearRegressorCV(alphas=[0.1], **given).fit(X, y)
    model = TorchLinearRegressorCV(alphas=[0.1 * x_unit * y_unit], **given).fit(X * x_unit, y * y_unit)
    assert_allclose(model.coef_ / y_unit * x_unit, plain.coef_)
