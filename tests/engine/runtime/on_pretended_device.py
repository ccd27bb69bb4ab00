"""What every GPU would be asked, asked of one that is pretended: for `test_pretended_device.py`, in its own process."""

import numpy as np
import pytest
import torch
from conftest import AT_AN_END
from numpy.testing import assert_allclose
from pandas.testing import assert_frame_equal
from pretended_device import NAME, counted, limits
from scipy import sparse
from sklearn.base import clone

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap, compare
from torchlinreg.engine.preconditioning import choose
from torchlinreg.engine.runtime import devices
from torchlinreg.losses import Huber, Quantile

pytestmark = AT_AN_END

TEXTBOOK = {"learning_rate": 0.02, "max_iter": 3}
FITS = {
    "untuned": {},
    "scaled": {"conditioning": "scale"},
    "ridge": {"penalty": "l2", "alpha": 0.1},
    "lasso": {"penalty": "l1", "alpha": 0.05},
    "elastic net": {"penalty": "elasticnet", "alpha": 0.05},
    "huber": {"loss": "huber"},
    "quantile": {"loss": Quantile(0.3)},
    "absolute error": {"loss": "absolute_error", "tol": 1e-4},
    "lasso of huber": {"loss": Huber(0.5), "penalty": "l1", "alpha": 0.05},
    "of torch": {"loss": torch.nn.HuberLoss()},
    "no intercept": {"fit_intercept": False},
    "textbook": TEXTBOOK,
    "batch of all": {"batch_size": "full", **TEXTBOOK},
    "momentum": {"momentum": 0.5, **TEXTBOOK},
    "adam": {"optimizer": "adam", **TEXTBOOK},
    "averaged": {"average": True, **TEXTBOOK},
    "whitened": {"conditioning": "whiten", **TEXTBOOK},
    "textbook lasso": {"penalty": "l1", "alpha": 0.05, **TEXTBOOK},
    "textbook huber": {"loss": "huber", **TEXTBOOK},
    "scheduled": {"schedule": "invscaling", **TEXTBOOK},
    "early stopping": {"early_stopping": True, **TEXTBOOK},
}


@pytest.fixture(autouse=True)
def known():
    """Look at what the device can do before anything is counted, as that happens once."""
    devices.has_double(torch.device(NAME, 0))


@pytest.fixture
def table(rng):
    X = rng.normal(size=(400, 5)) * [1, 3, 0.5, 1, 2] + [0, 1, 0, 0, 0]
    return X, X @ rng.normal(size=(5, 2)) + rng.normal(size=(400, 2)), rng.uniform(0.5, 2, 400)


def there(*parts):
    return [part if part is None else torch.as_tensor(part).to(NAME) for part in parts]


def agree(model, X, y, weight=None, *, rtol=1e-6):
    """Fit on the CPU and over there, and compare; return the model fitted there."""
    expected, fitted = clone(model).fit(X, y, weight), clone(model).fit(*there(X, y, weight))
    close(fitted, expected, rtol)
    predicted = fitted.predict(*there(X))
    assert predicted.device.type == NAME
    assert_allclose(predicted.cpu(), expected.predict(X), rtol=100 * rtol, atol=100 * rtol)
    assert fitted.score(*there(X, y, weight)) == pytest.approx(expected.score(X, y, weight), rel=rtol)
    return fitted


def close(fitted, expected, rtol=1e-6):
    atol = rtol * np.abs(expected.coef_).max()
    assert_allclose(fitted.coef_, expected.coef_, rtol=rtol, atol=atol)
    assert_allclose(fitted.intercept_, expected.intercept_, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", FITS)
def test_fits_of_several_weighted_targets(table, name):
    X, y, weight = table
    model = TorchLinearRegressor(random_state=0, **{"tol": None, **FITS[name]})
    agree(model, X, y, weight)


@pytest.mark.parametrize("name", FITS)
def test_fits_of_a_table_that_counts_as_large(table, name, monkeypatch):
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X, y = table[0].astype("float32"), table[1][:, 0].astype("float32")
    model = TorchLinearRegressor(random_state=0, **{"tol": None, **FITS[name]})
    fitted = agree(model, X, y, rtol=1e-4)
    if "loss" not in FITS[name]:  # how a table is sent there does not depend on it
        close(model.set_params(device=NAME).fit(X, y), fitted, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_backends(table, backend, optimizer):
    X, y, weight = table
    model = TorchLinearRegressor(backend=backend, optimizer=optimizer, random_state=0, **TEXTBOOK)
    agree(model, X, y, weight)


@pytest.mark.parametrize("name", ["untuned", "lasso", "huber", "textbook"])
def test_sparse(table, name):
    X, y, weight = table
    table = sparse.csr_array(np.where(np.abs(X) > 1, X, 0.0))
    model = TorchLinearRegressor(random_state=0, **FITS[name])
    expected = clone(model).fit(table, y, sample_weight=weight)
    fitted = clone(model).set_params(device=NAME).fit(table, y, sample_weight=weight)
    assert_allclose(fitted.coef_, expected.coef_, rtol=1e-6, atol=1e-8)
    assert fitted.score(table, y) == pytest.approx(expected.score(table, y))


def test_wide_sparse(rng):
    X = sparse.random_array((300, 5000), density=0.01, random_state=rng, format="csr")
    y = X @ rng.normal(size=5000)
    expected = TorchLinearRegressor(penalty="l2", alpha=0.1).fit(X, y)
    fitted = TorchLinearRegressor(penalty="l2", alpha=0.1, device=NAME).fit(X, y)
    assert_allclose(fitted.coef_, expected.coef_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["untuned", "lasso", "textbook", "momentum", "averaged"])
def test_streams(table, name):
    X, y, _ = table
    model = TorchLinearRegressor(random_state=0, shuffle=False, **FITS[name])
    expected, fitted = clone(model), clone(model)
    for part in np.split(np.arange(400), 4):
        expected.partial_fit(X[part], y[part])
        fitted.partial_fit(*there(X[part], y[part]))
    assert_allclose(fitted.coef_, expected.coef_, rtol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"penalty": "l1"},
        {"penalty": "elasticnet", "l1_ratio": [0.2, 0.8], "alphas": 3, "cv": 2},
        {"loss": "huber", "alphas": [0.1, 1.0], "cv": 2},
        {"learning_rates": [0.01, 0.02], "alphas": [0.1, 1.0], "max_iter": 3},
    ],
    ids=str,
)
def test_choice_by_cross_validation(table, parameters):
    X, y, weight = table
    model = TorchLinearRegressorCV(random_state=0, **{"alphas": 5, "cv": 3, **parameters})
    agree(model, X, y, weight)


@pytest.mark.parametrize("scoring", ["neg_mean_absolute_error", "neg_max_error", "explained_variance", "r2"])
def test_scorers(table, scoring):
    X, y, weight = table
    model = TorchLinearRegressorCV(alphas=[0.1, 10.0], scoring=scoring, cv=3)
    fitted = agree(model, X, y[:, 0], weight)
    assert fitted.best_score_ == pytest.approx(clone(model).fit(X, y[:, 0], weight).best_score_)


def test_groups_and_parts_given_as_tensors(table):
    from sklearn.model_selection import GroupKFold  # noqa: PLC0415

    X, y, weight = table
    groups = np.arange(400) % 7
    parts = [(np.flatnonzero(groups != k), np.flatnonzero(groups == k)) for k in range(3)]
    masks = [(groups != k, groups == k) for k in range(3)]
    model = TorchLinearRegressorCV(alphas=[0.1, 10.0], cv=GroupKFold(3))
    expected = clone(model).fit(X, y, weight, groups=groups)
    fitted = clone(model).fit(*there(X, y, weight), groups=torch.from_numpy(groups).to(NAME))
    assert_allclose(fitted.mse_path_, expected.mse_path_)
    expected = model.set_params(cv=parts).fit(X, y, weight)
    for given in (parts, masks):
        model.set_params(cv=[tuple(there(*pair)) for pair in given]).fit(*there(X, y, weight))
        assert_allclose(model.mse_path_, expected.mse_path_)


@pytest.mark.parametrize("name", ["untuned", "ridge", "lasso", "huber", "textbook"])
def test_intervals(table, name):
    X, y, weight = table
    model = TorchLinearRegressor(random_state=0, **FITS[name])
    expected = bootstrap(model, X, y[:, 0], sample_weight=weight, n_resamples=8, random_state=0)
    found = bootstrap(model, *there(X, y[:, 0]), sample_weight=there(weight)[0], n_resamples=8, random_state=0)
    assert_frame_equal(found, expected, rtol=1e-5, atol=1e-7)


def test_comparison(table):
    X, y = table[0], table[1][:, 0]
    tables = (compare(*given, n_repeats=1) for given in (there(X, y), (X, y)))
    assert_frame_equal(*(table.drop(columns=["fit seconds", "predict seconds"]) for table in tables))


# Devices without float64


@pytest.fixture
def no_double(monkeypatch):
    monkeypatch.setitem(limits, "float64", False)
    devices._computes_in_double.cache_clear()
    yield
    devices._computes_in_double.cache_clear()


ONLY_SINGLE = {name: parameters for name, parameters in FITS.items() if "learning_rate" in parameters}
ONLY_SINGLE.pop("whitened")


@pytest.mark.usefixtures("no_double")
@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", ONLY_SINGLE)
def test_steps_where_there_is_no_double(table, name, given):
    X, y, weight = table
    X, y = X.astype(given), y.astype(given)
    model = TorchLinearRegressor(random_state=0, dtype="float32", **{"tol": None, **ONLY_SINGLE[name]})
    expected = clone(model).fit(X, y, weight)
    model.set_params(device=NAME, dtype=None).fit(X, y, weight)
    assert model.coef_.dtype == np.float32
    assert_allclose(model.coef_, expected.coef_, rtol=1e-4, atol=1e-4)
    X_there = torch.from_numpy(X.astype("float32")).to(NAME)
    held_out = {"X_val": X, "y_val": y} if model.early_stopping else {}
    model.fit(X_there, y, weight, **held_out)
    assert_allclose(model.predict(X_there).cpu(), model.predict(X.astype("float32")), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("no_double")
def test_resamples_and_streams_where_there_is_no_double(table):
    X, y, weight = table
    models = [
        TorchLinearRegressor(device=device, random_state=0, dtype="float32", **TEXTBOOK) for device in (None, NAME)
    ]
    frames = [bootstrap(model, X, y, n_resamples=8, random_state=0) for model in models]
    assert_frame_equal(*frames, rtol=1e-3, atol=1e-4)
    for model in models:
        model.partial_fit(X, y, weight).partial_fit(X, y, weight)
    assert_allclose(models[0].coef_, models[1].coef_, rtol=1e-3)
    model.set_params(dtype=None).fit(sparse.csr_array(X), y)
    assert model.coef_.dtype == np.float32


@pytest.mark.usefixtures("no_double")
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_choice_where_there_is_no_double(table, penalty):
    X, y, weight = table
    rates = {"learning_rates": [0.01, 0.02], "momentum": [0.0, 0.5], "max_iter": 3}
    model = TorchLinearRegressorCV(alphas=3, penalty=penalty, dtype="float32", random_state=0, **rates)
    expected = clone(model).fit(X, y, weight)
    model.set_params(device=NAME, dtype=None).fit(X, y, weight)
    assert_allclose(model.mse_path_, expected.mse_path_, rtol=1e-3)


@pytest.mark.usefixtures("no_double")
def test_untuned_mode_where_there_is_no_double(table):
    X, y, _ = table
    expected = TorchLinearRegressor().fit(X, y)
    model = TorchLinearRegressor(device="auto").fit(X, y)
    assert_allclose(model.coef_, expected.coef_)
    X_there = torch.from_numpy(X.astype("float32")).to(NAME)
    assert_allclose(model.predict(X_there).cpu(), model.predict(X.astype("float32")), rtol=1e-5, atol=1e-6)
    single = TorchLinearRegressor(device="auto").fit(X_there + 1e4, y)  # whose predictions single precision would lose
    assert_allclose(single.predict(X_there + 1e4).cpu(), single.predict((X_there + 1e4).cpu()), rtol=1e-6)
    for parameters in ({}, {"conditioning": "scale", **TEXTBOOK}):
        with pytest.raises(ValueError, match="has no float64"):
            TorchLinearRegressor(device=NAME, **parameters).fit(X, y)
        with pytest.raises(ValueError, match="has no float64"):
            TorchLinearRegressor(**parameters).fit(X_there, y)
    with pytest.raises(ValueError, match="has no float64"):
        TorchLinearRegressor(device=NAME, dtype="float64", **TEXTBOOK).fit(X, y)


# What the device is asked for


def count(fit):
    with counted() as counts:
        fit()
    return counts


@pytest.mark.parametrize("parameters", [{}, {"penalty": "l1"}, {"optimizer": "adam"}, {"momentum": 0.5}], ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_no_step_waits_for_the_device(table, backend, parameters, weighted):
    """However many steps there are in an epoch, the host waits as often."""
    X, y, weight = there(*table)
    model = TorchLinearRegressor(
        backend=backend, learning_rate=1e-3, max_iter=2, average=True, random_state=0, alpha=0.01, **parameters
    )
    model.set_params(penalty=parameters.get("penalty", "l2"))
    few, many = (
        count(lambda size=size: model.set_params(batch_size=size).fit(X, y, weight if weighted else None))
        for size in (200, 10)
    )
    assert many.launches.total() > 5 * few.launches.total()
    assert many.waits.total() == few.waits.total(), many.worst("waits")


def test_an_epoch_waits_twice(table):
    """For the order of the rows to arrive, and for a look at the loss and the weights together."""
    X, y, _ = there(*table)
    model = TorchLinearRegressor(learning_rate=1e-3, random_state=0)
    few, many = (count(lambda n=n: model.set_params(max_iter=n).fit(X, y)) for n in (2, 12))
    assert many.waits.total() - few.waits.total() == 2 * 10, many.worst("waits")


def made(n_rows, n_features):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)).astype("float32")
    y = X @ rng.normal(size=n_features).astype("float32") + rng.normal(size=n_rows).astype("float32")
    return there(X, y)


EPOCH = {"learning_rate": 1e-3, "max_iter": 1}  # of 313 steps
# Upper bounds of operations, and of times that the host waits, with some room
BUDGETS = {
    "untuned": ((10_000, 10), {}, 360, 35),
    "untuned, large": ((200_000, 20), {}, 700, 60),
    "lasso": ((10_000, 10), {"penalty": "l1", "alpha": 0.05}, 1_600, 85),
    "lasso, large": ((200_000, 20), {"penalty": "l1", "alpha": 0.05}, 2_300, 125),
    "huber, large": ((200_000, 20), {"loss": Huber(1.35)}, 6_200, 270),
    "an epoch": ((10_000, 10), EPOCH, 3.2 * 313, 13),
    "an epoch of autograd": ((10_000, 10), {"backend": "autograd", **EPOCH}, 19 * 313, 13),
    "an epoch of adam": ((10_000, 10), {"optimizer": "adam", **EPOCH}, 11 * 313, 13),
    "an epoch of lasso": ((10_000, 10), {"penalty": "l1", "alpha": 0.01, **EPOCH}, 18 * 313, 15),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets(name):
    size, parameters, n_launches, n_waits = BUDGETS[name]
    table = made(*size)
    counts = count(lambda: TorchLinearRegressor(random_state=0, **parameters).fit(*table))
    assert counts.launches.total() <= n_launches, counts.worst("launches")
    assert counts.waits.total() <= n_waits, counts.worst("waits")


def test_only_summaries_and_predictions_come_back():
    X, y = made(20_000, 20)
    stream = count(lambda: TorchLinearRegressor().partial_fit(X, y))
    assert stream.moved["back"] < 5_000
    model = TorchLinearRegressor().fit(X, y)
    assert count(lambda: model.score(X, y)).moved["back"] < 1.1 * (2 * y.nbytes)
    assert count(lambda: model.predict(X)).moved["back"] == 0
    choice = count(lambda: TorchLinearRegressorCV(alphas=5, cv=3).fit(X, y))
    assert choice.moved["back"] < y.nbytes + 20_000  # the targets go to whoever makes the folds


def test_predictions_under_autocast(table):
    X, y, _ = (part.astype("float32") for part in table)
    X_there, y_there = there(X, y)
    model = TorchLinearRegressor().fit(X, y)
    expected = model.predict(X_there), model.score(X_there, y_there)
    with torch.autocast(NAME, torch.bfloat16):
        assert torch.equal(model.predict(X_there).cpu(), expected[0].cpu())
        assert model.score(X_there, y_there) == expected[1]
        model.fit(X_there, y_there)
    assert_allclose(model.predict(X_there).cpu(), expected[0].cpu(), rtol=1e-5, atol=1e-5)


STRICT = {
    "on the same device": lambda X: X @ torch.ones(3, 3),
    "generator": lambda X: torch.rand(3, device=NAME, generator=torch.Generator()),
    "to numpy": lambda X: X.numpy(),
}


@pytest.mark.parametrize("message", STRICT)
def test_the_pretended_device_is_strict(message):
    X = torch.ones(3, 3).to(NAME)
    with pytest.raises((RuntimeError, TypeError), match=message):
        STRICT[message](X)
