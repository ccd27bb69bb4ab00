"""Ctrl-C leaves an estimator that is fitted with what had been learnt."""

import numpy as np
import pytest
from conftest import NEEDS_CALLBACKS
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.fit.textbook import MODELS
from torchlinreg.engine.objective import objective
from torchlinreg.engine.objective.losses import SquaredError
from torchlinreg.engine.objective.objective import SquaredResiduals

RATE = 0.05


@pytest.fixture
def table(rng):
    X = rng.normal(size=(60, 3)) * [1.0, 2.0, 0.5]
    return X, X @ rng.normal(size=(3, 2)) + [3.0, -1.0] + 0.1 * rng.normal(size=(60, 2))


@pytest.fixture
def press(monkeypatch):
    """Return a function that has Ctrl-C pressed at the given prediction of a backend, or pass over the residuals."""

    def at(backend, n_predictions):
        counted = {"left": n_predictions}

        class Interrupted(MODELS[backend]):
            def predict(self, batch):
                counted["left"] -= 1
                if counted["left"] < 0:
                    raise KeyboardInterrupt
                return super().predict(batch)

        class InterruptedSums(SquaredResiduals):
            def update(self, block):
                counted["left"] -= 1
                if counted["left"] < 0:
                    raise KeyboardInterrupt
                return super().update(block)

        monkeypatch.setitem(MODELS, backend, Interrupted)
        monkeypatch.setattr(objective, "SquaredResiduals", InterruptedSums)

    return at


def written_out(X, y, *, n_steps, batch_size):
    w, b = np.zeros((3, 2)), np.zeros(2)
    for step in range(n_steps):
        start = step * batch_size % len(X)
        batch = slice(start, start + batch_size)
        gradient = (X[batch] @ w + b - y[batch]) / batch_size
        w, b = w - RATE * X[batch].T @ gradient, b - RATE * gradient.sum(0)
    return w, b


@pytest.mark.parametrize("n_steps", [1, 4, 6, 15])
def test_weights_after_the_last_step(table, backend, press, n_steps):
    X, y = table
    press(backend, n_steps)
    model = TorchLinearRegressor(backend=backend, learning_rate=RATE, batch_size=10, shuffle=False)
    with pytest.warns(ConvergenceWarning, match=f"interrupted after epoch {n_steps // 6} of at most 1000.*last step"):
        model.fit(X, y)
    w, b = written_out(X, y, n_steps=n_steps, batch_size=10)
    assert_allclose(model.coef_, w.T, rtol=1e-12)
    assert_allclose(model.intercept_, b, rtol=1e-12)
    assert not model.converged_
    assert model.n_iter_ == len(model.loss_curve_) == n_steps // 6
    assert model.predict(X).shape == y.shape


@pytest.mark.parametrize("conditioning", ["scale", "whiten"])
def test_weights_are_in_the_units_of_the_data(table, backend, press, conditioning):
    X, y = table
    X = X * 1000 + 5
    options = {"backend": backend, "learning_rate": 0.5, "conditioning": conditioning, "batch_size": 10}
    two = TorchLinearRegressor(max_iter=2, random_state=0, **options).fit(X, y)
    press(backend, 12)
    with pytest.warns(ConvergenceWarning, match="interrupted after epoch 2"):
        model = TorchLinearRegressor(random_state=0, **options).fit(X, y)
    assert_array_equal(model.coef_, two.coef_)
    assert_array_equal(model.intercept_, two.intercept_)


def test_early_stopping_keeps_the_best(table, backend, press):
    X, y = table
    press(backend, 15)
    model = TorchLinearRegressor(
        backend=backend, learning_rate=RATE, batch_size=10, shuffle=False, early_stopping=True, tol=None
    )
    with pytest.warns(ConvergenceWarning, match="interrupted after epoch 2.*best on the rows held out"):
        model.fit(X, y, X_val=X, y_val=y)
    assert len(model.validation_scores_) == 2
    assert_allclose(model.score(X, y), max(model.validation_scores_))


def test_untuned_mode_keeps_the_best_pass(table, backend, press):
    X, y = table
    whole = TorchLinearRegressor(backend=backend).fit(X, y)
    press(backend, 1)  # in the second pass, that tol=0.0 asks for
    with pytest.warns(ConvergenceWarning, match="interrupted after epoch 1.*best until then"):
        model = TorchLinearRegressor(backend=backend, tol=0.0).fit(X, y)
    assert not model.converged_
    assert model.optimality_gap_ is None
    assert_allclose(model.coef_, whole.coef_, rtol=1e-6)
    assert model.plan_["backend"] == backend


def test_nothing_learnt_is_nothing_to_keep(table, backend, press):
    for learning_rate in (RATE, "auto"):
        press(backend, 0)
        model = TorchLinearRegressor(backend=backend, learning_rate=learning_rate)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*table)
        with pytest.raises(NotFittedError):
            model.predict(table[0])


def test_interrupts_outside_of_training_go_on(table, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SquaredError, "for_targets", pressed)
    with pytest.raises(KeyboardInterrupt):
        TorchLinearRegressor(learning_rate=RATE).fit(*table)


class Presses:
    """Callback that has Ctrl-C pressed at the end of an epoch, counted from zero."""

    def __init__(self, epoch=0):
        self.epoch = epoch

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == self.epoch:
            raise KeyboardInterrupt


@NEEDS_CALLBACKS
def test_from_a_callback(table):
    for learning_rate in (RATE, "auto"):
        model = TorchLinearRegressor(learning_rate=learning_rate, shuffle=False).set_callbacks(Presses())
        with pytest.warns(ConvergenceWarning, match="interrupted after epoch 1"):
            model.fit(*table)
        assert np.isfinite(model.coef_).all()


@NEEDS_CALLBACKS
def test_losses_at_two_scales_of_the_residuals_do_not_compare(rng):
    X, spread = rng.normal(size=(200, 2)), np.where(np.arange(200) < 90, 1.0, 1e-3)
    # Half of the targets hardly differ: the scale begins too small, and the loss rises with it
    y = spread * (X @ [3.0, -1.0] + rng.normal(size=200))
    whole = TorchLinearRegressor(loss="huber").fit(X, y)
    assert whole.loss_curve_[-1] > 10 * min(whole.loss_curve_)
    model = clone(whole).set_callbacks(Presses(whole.n_iter_ - 3))
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.fit(X, y)
    assert_allclose(model.coef_, whole.coef_, rtol=1e-3)
    assert_allclose(model.scale_, whole.scale_, rtol=1e-3)


def test_partial_fit_is_interrupted_likewise(table, backend, press):
    X, y = table
    press(backend, 4)
    model = TorchLinearRegressor(backend=backend, learning_rate=RATE, batch_size=10, shuffle=False)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        model.partial_fit(X, y)
    assert_allclose(model.coef_, written_out(X, y, n_steps=4, batch_size=10)[0].T, rtol=1e-12)


def test_a_diverging_fit_leaves_no_nan(table, backend, press):
    X, y = table
    press(backend, 5)
    with pytest.raises(ValueError, match="diverged in epoch 1"):
        TorchLinearRegressor(backend=backend, learning_rate=1e300, batch_size=10).fit(X, y)
