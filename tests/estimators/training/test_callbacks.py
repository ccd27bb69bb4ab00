"""scikit-learn's callbacks on the estimator alone, in a pipeline and in a search."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")

TEXTBOOK = {"learning_rate": 0.05, "max_iter": 4, "batch_size": 10, "shuffle": False}


@pytest.fixture
def table(rng):
    X = rng.normal(size=(60, 3))
    return X, X @ [1.0, -2.0, 0.5] + 3.0 + 0.1 * rng.normal(size=60)


class Recorder:
    """Writes down what it is told; asks to stop at an epoch."""

    def __init__(self, stop_at=None):
        self.stop_at, self.told, self.scores = stop_at, [], []

    def setup(self, estimator, context):
        self.told.append("setup")

    def teardown(self, estimator, context):
        self.told.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.told.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.told.append(("end", context.task_name, context.task_id))
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_at


def test_an_epoch_is_a_task(table, backend):
    recorder = Recorder()
    TorchLinearRegressor(backend=backend, **TEXTBOOK).set_callbacks(recorder).fit(*table)
    epochs = [(what, "epoch", i) for i in range(4) for what in ("begin", "end")]
    assert recorder.told == ["setup", ("begin", "fit", 0), *epochs, ("end", "fit", 0), "teardown"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"average": True}, {"conditioning": "whiten"}], ids=str)
def test_the_estimator_of_an_epoch_is_that_of_a_shorter_fit(table, backend, dtype, options):
    X, y = (part.astype(dtype) for part in table)
    recorder = Recorder()
    model = TorchLinearRegressor(backend=backend, **TEXTBOOK, **options).set_callbacks(recorder).fit(X, y)
    shorter = [clone(model).set_callbacks().set_params(max_iter=epoch).fit(X, y).score(X, y) for epoch in range(1, 5)]
    assert_allclose(recorder.scores, [*shorter, shorter[-1]], rtol=1e-5 if dtype == "float32" else 1e-12)


def test_untuned_mode_tells_of_passes(table, backend):
    recorder = Recorder()
    model = TorchLinearRegressor(backend=backend).set_callbacks(recorder).fit(*table)
    ends = [told for told in recorder.told if told[0] == "end" and told[1] == "epoch"]
    assert len(ends) in (model.n_iter_, model.n_iter_ + 1)  # maybe with one begun in vain
    assert recorder.scores == sorted(recorder.scores)
    assert_allclose(recorder.scores[-1], model.score(*table), rtol=1e-12)


@pytest.mark.parametrize("loss", ["huber", "quantile"])
def test_untuned_mode_tells_of_passes_of_other_losses(table, loss):
    recorder = Recorder()
    model = TorchLinearRegressor(loss=loss).set_callbacks(recorder).fit(*table)
    assert len(recorder.scores) == model.n_iter_ + 1
    assert_allclose(recorder.scores[-1], model.score(*table))


def test_a_callback_stops_textbook_mode(table, backend):
    X, y = table
    model = TorchLinearRegressor(backend=backend, **TEXTBOOK).set_callbacks(Recorder(stop_at=2)).fit(X, y)
    two = TorchLinearRegressor(backend=backend, **{**TEXTBOOK, "max_iter": 2}).fit(X, y)
    assert_array_equal(model.coef_, two.coef_)
    assert model.n_iter_ == 2
    assert not model.converged_


def test_a_callback_stops_untuned_mode(table, backend):
    recorder = Recorder(stop_at=2)
    model = TorchLinearRegressor(backend=backend, tol=0.0).set_callbacks(recorder).fit(*table)
    assert model.n_iter_ == 2
    assert not model.converged_
    assert model.optimality_gap_ is None
    assert recorder.told[-1] == "teardown"
    assert_allclose(recorder.scores[-1], recorder.scores[-2])


def test_scoring_monitor_alone(table, backend):
    X, y = table
    monitor = callback.ScoringMonitor(scoring="r2")
    weight = np.linspace(1, 2, 60)
    model = TorchLinearRegressor(backend=backend, **TEXTBOOK).set_callbacks(monitor).fit(X, y, sample_weight=weight)
    log = monitor.get_logs().data_as_pandas
    scores = log[log["task_name"] == "epoch"].sort_values("task_id")["r2"]
    assert len(scores) == 4
    assert_allclose(scores.iloc[-1], model.score(X, y, weight))
    assert scores.is_monotonic_increasing


def test_scoring_monitor_on_frames(table):
    X, y = table
    monitor = callback.ScoringMonitor(scoring=["r2", "neg_mean_squared_error"])
    TorchLinearRegressor(**TEXTBOOK).set_callbacks(monitor).fit(pd.DataFrame(X, columns=list("abc")), y)
    log = monitor.get_logs().data_as_pandas
    assert log[["r2", "neg_mean_squared_error"]].notna().all(axis=None)


@pytest.mark.parametrize("learning_rate", [0.05, "auto"])
def test_scoring_monitor_in_a_pipeline_and_a_search(table, learning_rate):
    X, y = table
    monitor = callback.ScoringMonitor(scoring="r2")
    model = TorchLinearRegressor(**{**TEXTBOOK, "learning_rate": learning_rate}).set_callbacks(monitor)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    log = monitor.get_logs().data_as_pandas
    assert_allclose(log["r2"].max(), pipeline.score(X, y))
    search = GridSearchCV(pipeline, {"torchlinearregressor__batch_size": [10, 20]}, cv=2, error_score="raise").fit(X, y)
    log = monitor.get_logs().data_as_pandas
    fits = log[log["task_name"] == "epoch"].groupby("parent_task_id_path")
    assert len(fits) == 2 * 2 + 1
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bar_everywhere(table, capsys, n_jobs):
    X, y = table
    for learning_rate in (0.05, "auto"):
        model = TorchLinearRegressor(**{**TEXTBOOK, "learning_rate": learning_rate})
        clone(model).set_callbacks(callback.ProgressBar()).fit(X, y)
        assert "TorchLinearRegressor - fit" in capsys.readouterr().out
        pipeline = make_pipeline(StandardScaler(), model)
        clone(pipeline).set_callbacks(callback.ProgressBar()).fit(X, y)
        assert "TorchLinearRegressor - fit" in capsys.readouterr().out
        search = GridSearchCV(pipeline, {"torchlinearregressor__batch_size": [10, 20]}, cv=2, n_jobs=n_jobs)
        search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X, y)
        assert "TorchLinearRegressor - fit" in capsys.readouterr().out


def test_early_stopping_leaves_a_task_begun_in_vain(table):
    X, y = table
    recorder = Recorder()
    model = TorchLinearRegressor(**{**TEXTBOOK, "max_iter": 500}, early_stopping=True, random_state=0)
    model.set_callbacks(recorder).fit(X, y)
    assert model.n_iter_ < 500
    assert recorder.told[-3:] == [("end", "epoch", model.n_iter_), ("end", "fit", 0), "teardown"]
    assert len(recorder.scores) == model.n_iter_ + 1


def test_callbacks_change_nothing_and_leave_nothing(table, backend):
    X, y = table
    for learning_rate in (0.05, "auto"):
        model = TorchLinearRegressor(**{**TEXTBOOK, "backend": backend, "learning_rate": learning_rate})
        plain = clone(model).fit(X, y)
        model.set_callbacks(Recorder()).fit(X, y)
        assert_array_equal(model.coef_, plain.coef_)
        assert set(vars(model)) == set(vars(plain)) | {"_skl_callbacks"}


def test_failing_callback_is_torn_down(table):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("no more")

    for learning_rate in (0.05, "auto"):
        failing = Failing()
        with pytest.raises(RuntimeError, match="no more"):
            TorchLinearRegressor(learning_rate=learning_rate).set_callbacks(failing).fit(*table)
        assert failing.told[-1] == "teardown"


def test_chunks_do_not_go_with_callbacks(table):
    with pytest.raises(ValueError, match="Callbacks look at the whole table"):
        TorchLinearRegressor().set_callbacks(callback.ProgressBar()).fit_chunks([table])
