"""The callback `Checkpoint`, and the estimator that comes back from its file."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import AT_AN_END, NEEDS_CALLBACKS
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV
from torchlinreg.callbacks import Checkpoint
from torchlinreg.engine.runtime.checkpoint import CheckpointFile
from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, SquaredError

pytestmark = NEEDS_CALLBACKS

TEXTBOOK = {"learning_rate": 0.005, "max_iter": 4, "batch_size": 16, "random_state": 0}


class Stopping:
    """Ends training after an epoch, as a crash would; keeps what the estimator of each epoch is like."""

    def __init__(self, path=None, stop_at=None):
        self.path, self.stop_at, self.loaded, self.fitted = path, stop_at, [], []

    def setup(self, estimator, context):
        """Do nothing."""

    def teardown(self, estimator, context):
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.max_subtasks != 0 or fitted_estimator is None:
            return
        self.fitted.append(fitted_estimator)
        if self.path is not None and self.path.exists():
            self.loaded.append(Checkpoint.load(self.path))
        if self.stop_at == context.task_id + 1:
            raise RuntimeError("the end")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def saved_after(path, stop_at, model, *data, **options):
    """Return what is loaded after a fit that came to nothing, and the estimator that was saved."""
    stopping = Stopping(stop_at=stop_at)
    with pytest.raises(RuntimeError, match="the end"):
        clone(model).set_callbacks(Checkpoint(path), stopping).fit(*data, **options)
    return Checkpoint.load(path), stopping.fitted[-1]


def assert_same(loaded, model, names=None):
    """The same attributes, or those of some names, with the same types and bits."""
    expected = {name: value for name, value in vars(model).items() if "callback" not in name}
    if names is None:
        assert vars(loaded).keys() == expected.keys()
    for name in expected if names is None else names:
        value, there = vars(loaded)[name], expected[name]
        assert type(value) is type(there), name
        assert pickle.dumps(value) == pickle.dumps(there) or str(value) == str(there), name
        if isinstance(there, np.ndarray | np.generic):
            assert value.dtype == there.dtype
            assert_array_equal(value, there)


@pytest.mark.parametrize("two_targets", [True, False])
def test_a_finished_fit(table, path, mode, dtype, two_targets):
    X, y, weight = (part.astype(dtype) for part in table)
    y = y if two_targets else y[:, 0]
    model = TorchLinearRegressor(**mode).set_callbacks(Checkpoint(path)).fit(X, y, weight)
    loaded = Checkpoint.load(path)
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert_array_equal(loaded.predict(torch.tensor(X)).numpy(), model.predict(torch.tensor(X)).numpy())
    assert loaded.get_params() == model.get_params()
    assert_same(loaded, model)
    assert loaded.plan_ == model.plan_


def test_a_fit_that_came_to_nothing(table, path, backend, dtype):
    X, y, weight = (part.astype(dtype) for part in table)
    model = TorchLinearRegressor(**TEXTBOOK, backend=backend)
    loaded, shown = saved_after(path, 3, model, X, y, weight)
    expected = clone(model).set_params(max_iter=3).fit(X, y, weight)
    assert_array_equal(loaded.predict(X), expected.predict(X))
    assert_same(loaded, shown, ["coef_", "intercept_", "n_features_in_", "loss_curve_", "n_iter_", "t_"])
    assert_same(loaded, expected, ["coef_", "intercept_", "n_features_in_", "loss_curve_", "n_iter_", "t_"])
    assert loaded.max_iter == 4
    assert not loaded.converged_
    assert loaded.optimality_gap_ is None
    with pytest.raises(AttributeError):
        loaded.plan_  # noqa: B018


def test_weights_of_an_earlier_fit_are_not_those_of_this_one(table, path):
    X, y, _ = table
    model = TorchLinearRegressor(loss="huber").fit(X, y[:, 0])
    assert model.converged_
    assert model.scale_ > 0
    model.set_params(loss="squared_error", **TEXTBOOK).set_callbacks(Checkpoint(path), Stopping(stop_at=1))
    with pytest.raises(RuntimeError, match="the end"):
        model.fit(X, y)
    loaded = Checkpoint.load(path)
    assert loaded.n_iter_ == 1
    assert not loaded.converged_
    assert not hasattr(loaded, "scale_")
    assert not hasattr(loaded, "plan_")


def test_a_fit_in_untuned_mode_that_came_to_nothing(table, path, dtype):
    X, y, _ = (part.astype(dtype) for part in table)
    loaded, shown = saved_after(path, 1, TorchLinearRegressor(), X, y)
    assert_array_equal(loaded.predict(X), shown.predict(X))
    assert loaded.n_iter_ == 1
    assert loaded.set_params(warm_start=True).fit(X, y).converged_


@pytest.mark.parametrize("loss", ["huber", "quantile"])
def test_other_losses_in_untuned_mode(table, path, loss):
    X, y, _ = table
    model = TorchLinearRegressor(loss=loss).set_callbacks(Checkpoint(path)).fit(X, y)
    assert_same(Checkpoint.load(path), model)


def test_training_goes_on(table, path, backend):
    """Plain SGD in the order of the rows has no memory, so that it goes on as if nothing had happened."""
    X, y, _ = table
    options = {**TEXTBOOK, "backend": backend, "shuffle": False}
    loaded, _ = saved_after(path, 3, TorchLinearRegressor(**options), X, y)
    whole = TorchLinearRegressor(**options).fit(X, y)
    rest = clone(loaded).set_params(max_iter=1)
    by_hand = rest.fit(X, y, coef_init=loaded.coef_, intercept_init=loaded.intercept_)
    assert_array_equal(by_hand.coef_, whole.coef_)
    loaded.set_params(max_iter=1, warm_start=True).fit(X, y)
    assert_array_equal(loaded.coef_, whole.coef_)
    assert_array_equal(loaded.intercept_, whole.intercept_)
    assert loaded.t_ == whole.t_
    again, _ = saved_after(path, 3, TorchLinearRegressor(**options), X, y)
    again.partial_fit(X, y)
    assert_array_equal(again.coef_, whole.coef_)
    assert again.loss_curve_ == whole.loss_curve_
    assert again.t_ == whole.t_


def test_every_so_many_epochs(table, path):
    X, y, _ = table
    reading = Stopping(path)
    model = TorchLinearRegressor(**{**TEXTBOOK, "max_iter": 5})
    model.set_callbacks(Checkpoint(path, every=2), reading).fit(X, y)
    assert [loaded.n_iter_ for loaded in reading.loaded] == [2, 2, 4, 4]
    assert Checkpoint.load(path).n_iter_ == 5
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.previous"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged"):
        assert Checkpoint.load(path).n_iter_ == 4


def test_names_of_features(table, path):
    X, y, _ = table
    frame = pd.DataFrame(X, columns=["a", "Größe", "東京", ""])
    for names in (None, "sepal length"):
        model = TorchLinearRegressor(**TEXTBOOK).set_callbacks(Checkpoint(path))
        frame = frame.rename(columns={"a": names or "a"})
        model.fit(frame, y)
        loaded = Checkpoint.load(path)
        assert_same(loaded, model)
        assert_array_equal(loaded.predict(frame), model.predict(frame))
        with pytest.raises(ValueError, match="feature names"):
            loaded.predict(frame.rename(columns={"": "other"}))


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": Huber(1.5)},
        {"loss": Quantile(0.25)},
        {"loss": EpsilonInsensitive(np.float64(0.2))},
        {"loss": SquaredError(), "penalty": "l2", "alpha": [0.1, np.float32(0.2)]},
        {"penalty": "elasticnet", "alpha": np.array([0.1, 0.2]), "l1_ratio": (0.5, 0.25)},
        {"optimizer": "adam", "optimizer_params": {"betas": (0.8, 0.9), "eps": 1e-6}},
        {"random_state": np.int64(3), "early_stopping": True, "tol": None},
    ],
    ids=str,
)
def test_parameters_come_back(table, path, parameters):
    X, y, _ = table
    model = TorchLinearRegressor(**{**TEXTBOOK, **parameters}).set_callbacks(Checkpoint(path)).fit(X, y)
    loaded = Checkpoint.load(path)
    assert str(loaded.get_params()) == str(model.get_params())
    assert_same(loaded, model)
    assert_array_equal(loaded.fit(X, y).coef_, model.coef_)


def test_dtype_and_device_come_back_by_name(table, path):
    X, y, _ = table
    TorchLinearRegressor(**TEXTBOOK, dtype=torch.float32, device=torch.device("cpu")).set_callbacks(
        Checkpoint(path)
    ).fit(X, y)
    loaded = Checkpoint.load(path)
    assert (loaded.dtype, loaded.device) == ("float32", "cpu")
    assert loaded.fit(X, y).coef_.dtype == np.float32


def test_parameters_that_are_objects_are_handed_over(table, path):
    X, y, _ = table
    model = TorchLinearRegressor(**TEXTBOOK, loss=torch.nn.SmoothL1Loss(), optimizer=torch.optim.Adam, backend="linear")
    model.set_callbacks(Checkpoint(path)).fit(X, y)
    with pytest.raises(
        ValueError, match=r"loss=SmoothL1Loss\(\), optimizer=<class.*Checkpoint.load\(path, TorchLinear"
    ):
        Checkpoint.load(path)
    given = TorchLinearRegressor(loss=torch.nn.SmoothL1Loss(), tol=0.5)
    loaded = Checkpoint.load(path, given)
    assert loaded is not given
    assert not hasattr(given, "coef_")
    assert loaded.tol == 0.5
    assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(TypeError, match="must be a TorchLinearRegressor"):
        Checkpoint.load(path, LinearRegression())


class Mine(TorchLinearRegressor):
    """A subclass of a user's."""

    def __init__(self, *, max_iter=10, learning_rate=0.01):
        super().__init__(max_iter=max_iter, learning_rate=learning_rate)


def test_a_class_of_the_users(table, path):
    X, y, _ = table
    model = Mine(max_iter=3).set_callbacks(Checkpoint(path)).fit(X, y)
    with pytest.raises(ValueError, match=r"is of a Mine\(\).*Checkpoint.load\(path, Mine\(...\)\)"):
        Checkpoint.load(path)
    assert_array_equal(Checkpoint.load(path, Mine()).predict(X), model.predict(X))


@AT_AN_END
def test_a_cross_validated_estimator(table, path):
    X, y, _ = table
    options = {"alphas": [1.0, 0.1, 0.01], "penalty": "elasticnet", "l1_ratio": [0.5, 0.9]}
    model = TorchLinearRegressorCV(**options, cv=3).set_callbacks(Checkpoint(path)).fit(X, y)
    loaded = Checkpoint.load(path)
    assert_array_equal(loaded.predict(X), model.predict(X))
    for name in vars(model).keys() - {"_skl_callbacks"}:
        assert str(vars(loaded)[name]) == str(vars(model)[name])
    model = TorchLinearRegressorCV(**options, cv=KFold(3)).set_callbacks(Checkpoint(path)).fit(X, y)
    with pytest.raises(ValueError, match=r"cv=KFold"):
        Checkpoint.load(path)
    assert_array_equal(Checkpoint.load(path, TorchLinearRegressorCV(cv=KFold(3))).predict(X), model.predict(X))


def test_in_a_pipeline_and_a_search(table, path):
    X, y, _ = table
    model = TorchLinearRegressor(**TEXTBOOK).set_callbacks(Checkpoint(path))
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    assert_array_equal(Checkpoint.load(path).predict(pipeline[0].transform(X)), pipeline.predict(X))
    search = GridSearchCV(pipeline, {"torchlinearregressor__batch_size": [10, 20]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(X, y).best_score_)


def test_a_path_is_refused_before_training(table, tmp_path, path):
    X, y, _ = table
    path.write_bytes(pickle.dumps(LinearRegression().fit(X, y)))
    for bad, error, message in (
        (path, ValueError, "is not a checkpoint of torchlinreg"),
        (tmp_path / "gone" / "model", FileNotFoundError, "does not exist: create it"),
        (tmp_path, ValueError, "is a folder"),
    ):
        stopping = Stopping(stop_at=1)
        model = TorchLinearRegressor(**TEXTBOOK).set_callbacks(Checkpoint(bad), stopping)
        with pytest.raises(error, match=message):
            model.fit(X, y)
        assert stopping.fitted == []
    other = CheckpointFile(tmp_path / "other", {"rows": "60"})
    other.save({}, {})
    with pytest.raises(ValueError, match=r"content: absent in the checkpoint, an estimator.*; rows: 60 in|rows: 60 in"):
        TorchLinearRegressor().set_callbacks(Checkpoint(other.path)).fit(X, y)
    with pytest.raises(ValueError, match=r"rows: 60 in the checkpoint, absent now"):
        Checkpoint.load(other.path)
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        Checkpoint.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="every=0"):
        Checkpoint(path, every=0)


def test_safetensors_is_named_where_it_is_missing(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install .torchlinreg\[scaling\]"):
        Checkpoint(path)


def test_it_can_be_sent_to_other_processes(table, path):
    X, y, _ = table
    model = TorchLinearRegressor(**TEXTBOOK).set_callbacks(pickle.loads(pickle.dumps(Checkpoint(path, every=2))))
    model.fit(X, y)
    assert_array_equal(Checkpoint.load(path).predict(X), model.predict(X))
