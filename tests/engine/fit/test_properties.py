"""What must hold for any table: changes to the data that must change the predictions in a known way, or not at all.

Predictions on the rows learnt from are compared: least squares gives them one value, even where it gives the
coefficients many.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.objective.linear_model import MODELS

TOLERANCE = 1e-8  # of the target's spread
RATE, EPOCHS = 0.01, 4

quick = settings(deadline=None, derandomize=True, max_examples=25)
backends = st.sampled_from(sorted(MODELS))
seeds = st.integers(0, 2**32 - 1)
factors = st.sampled_from([-1.0, 2.0**-30, 0.25, 8.0, 2.0**30])  # powers of two round nothing
offsets = st.sampled_from([-1e3, 0.0, 0.1, 30.0])  # in units of a column's spread


@st.composite
def tables(draw, max_features=6):
    """Return X of columns of any scale, and y of one to three columns; fewer rows than columns included."""
    rng = np.random.default_rng(draw(seeds))
    n_rows, n_features = draw(st.integers(2, 40)), draw(st.integers(1, max_features))
    X = rng.normal(size=(n_rows, n_features))
    X = (X + draw(offsets)) * 10.0 ** rng.uniform(-3, 3, n_features)
    return X, rng.normal(size=(n_rows, draw(st.integers(1, 3)))) + draw(offsets)


def least_squares(backend, X, y, weight=None, **parameters):
    """Return predictions on X."""
    model = TorchLinearRegressor(backend=backend, random_state=0, **parameters)
    return model.fit(X, y, sample_weight=weight).predict(X)


def textbook(backend, X, y, weight=None):
    """Return weights after a few full-batch steps on columns of one size."""
    model = TorchLinearRegressor(
        backend=backend, learning_rate=RATE, batch_size="full", max_iter=EPOCHS, random_state=0
    )
    model.fit(X / np.abs(X).max(0), y, sample_weight=weight)
    return np.column_stack([model.coef_, model.intercept_])


def assert_same(actual, expected, y):
    assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.ptp(y, axis=0).max())


def assert_same_weights(actual, expected, y):
    assert_allclose(actual, expected, rtol=1e-10, atol=1e-13 * np.abs(y).max())


# Untuned mode


@quick
@given(backends, tables())
def test_residuals_are_orthogonal_to_every_column(backend, table):
    X, y = table
    residual = least_squares(backend, X, y) - y
    columns = np.column_stack([X - X.mean(0), np.ones(len(X))])
    columns /= np.linalg.norm(columns, axis=0) + (columns == 0).all(0)
    assert_same(columns.T @ residual, 0, y)


@quick
@given(backends, tables(), seeds)
def test_order_of_rows_does_not_matter(backend, table, seed):
    X, y = table
    order = np.random.default_rng(seed).permutation(len(X))
    assert_same(least_squares(backend, X[order], y[order]), least_squares(backend, X, y)[order], y)


@quick
@given(backends, tables(), seeds)
def test_order_of_columns_does_not_matter(backend, table, seed):
    X, y = table
    order = np.random.default_rng(seed).permutation(X.shape[1])
    assert_same(least_squares(backend, X[:, order], y), least_squares(backend, X, y), y)


@quick
@given(backends, tables(), factors, offsets)
def test_unit_and_origin_of_a_column_do_not_matter(backend, table, factor, offset):
    X, y = table
    changed = X.copy()
    changed[:, 0] = factor * (X[:, 0] + offset * X[:, 0].std())
    assert_same(least_squares(backend, changed, y), least_squares(backend, X, y), y)


@quick
@given(backends, tables(), factors)
def test_unit_of_a_column_does_not_matter_without_intercept(backend, table, factor):
    X, y = table
    changed = X.copy()
    changed[:, 0] *= factor
    predicted = [least_squares(backend, each, y, fit_intercept=False) for each in (changed, X)]
    assert_same(*predicted, y)


@quick
@given(backends, tables(), factors, offsets)
def test_predictions_follow_unit_and_origin_of_the_target(backend, table, factor, offset):
    X, y = table
    changed = factor * (y + offset)
    assert_same(least_squares(backend, X, changed), factor * (least_squares(backend, X, y) + offset), changed)


@quick
@given(backends, tables(), factors)
def test_copy_of_a_column_changes_nothing(backend, table, factor):
    X, y = table
    assert_same(least_squares(backend, np.column_stack([X, factor * X[:, 0]]), y), least_squares(backend, X, y), y)


@quick
@given(backends, tables())
def test_constant_column_changes_nothing(backend, table):
    X, y = table
    wider = np.column_stack([np.full(len(X), 7.3), X])
    model = TorchLinearRegressor(backend=backend, random_state=0).fit(wider, y)
    assert_same(model.predict(wider), least_squares(backend, X, y), y)
    assert_same(model.coef_[:, 0], 0, y)


@quick
@given(backends, tables())
def test_column_of_ones_stands_for_the_intercept(backend, table):
    X, y = table
    with_ones = np.column_stack([X, np.ones(len(X))])
    assert_same(least_squares(backend, with_ones, y, fit_intercept=False), least_squares(backend, X, y), y)


@quick
@given(backends, tables(), seeds)
def test_weights_are_repetitions(backend, table, seed):
    X, y = table
    times = np.random.default_rng(seed).integers(0, 4, len(X))
    times[0] = 1
    repeated = least_squares(backend, X.repeat(times, axis=0), y.repeat(times, axis=0))
    assert_same(least_squares(backend, X, y, times).repeat(times, axis=0), repeated, y)


@quick
@given(backends, tables(), seeds, st.sampled_from([1e-200, 1e-3, 1e5, 1e200]))
def test_size_of_all_weights_does_not_matter(backend, table, seed, factor):
    X, y = table
    weight = np.random.default_rng(seed).uniform(0.1, 1, len(X))
    assert_same(least_squares(backend, X, y, factor * weight), least_squares(backend, X, y, weight), y)


@quick
@given(backends, tables(), st.sampled_from([0.0, 1.0, -1e6]))
def test_row_of_weight_zero_changes_nothing(backend, table, size):
    X, y = table
    longer = np.vstack([X, size * X[:1]]), np.vstack([y, size * y[:1] + 1]), np.append(np.ones(len(X)), 0)
    assert_same(least_squares(backend, *longer)[:-1], least_squares(backend, X, y), y)


@quick
@given(backends, tables())
def test_targets_do_not_mix(backend, table):
    X, y = table
    apart = np.column_stack([least_squares(backend, X, column) for column in y.T])
    assert_same(least_squares(backend, X, y), apart, y)


@quick
@given(backends, tables(), seeds)
def test_predictions_add_up(backend, table, seed):
    X, y = table
    other = np.random.default_rng(seed).normal(size=y.shape)
    together = least_squares(backend, X, y + other)
    assert_same(together, least_squares(backend, X, y) + least_squares(backend, X, other), y)


@quick
@given(backends, tables())
def test_learning_from_own_predictions_keeps_them(backend, table):
    X, y = table
    predicted = least_squares(backend, X, y)
    assert_same(least_squares(backend, X, predicted), predicted, y)


@quick
@given(backends, tables(), seeds)
def test_seed_does_not_matter(backend, table, seed):
    X, y = table
    model = TorchLinearRegressor(backend=backend, random_state=seed).fit(X, y)
    assert_same(model.predict(X), least_squares(backend, X, y), y)


@quick
@given(backends, tables(max_features=60))
def test_backends_agree(backend, table):
    X, y = table
    assert_same(least_squares(backend, X, y), least_squares("analytic", X, y), y)


# Textbook mode, full batches


@quick
@given(backends, tables(), seeds)
def test_order_of_rows_does_not_matter_to_full_batches(backend, table, seed):
    X, y = table
    order = np.random.default_rng(seed).permutation(len(X))
    assert_same_weights(textbook(backend, X[order], y[order]), textbook(backend, X, y), y)


@quick
@given(backends, tables(), seeds)
def test_weights_are_repetitions_to_full_batches(backend, table, seed):
    X, y = table
    times = np.random.default_rng(seed).integers(0, 4, len(X))
    times[np.abs(X).argmax(0)] = 1  # the columns are divided by the largest
    assert_same_weights(
        textbook(backend, X, y, times), textbook(backend, X.repeat(times, axis=0), y.repeat(times, axis=0)), y
    )


@quick
@given(backends, tables())
def test_targets_do_not_mix_in_full_batches(backend, table):
    X, y = table
    apart = np.vstack([textbook(backend, X, column[:, None]) for column in y.T])
    assert_same_weights(textbook(backend, X, y), apart, y)


@quick
@given(backends, tables(), st.sampled_from([{}, {"learning_rate": RATE, "batch_size": 3, "max_iter": EPOCHS}]))
def test_target_of_one_column_is_the_target_without_columns(backend, table, parameters):
    X, y = table
    X, y = X / np.abs(X).max(0), y[:, :1]
    flat, column = (
        TorchLinearRegressor(backend=backend, random_state=0, **parameters).fit(X, target) for target in (y[:, 0], y)
    )
    assert flat.coef_.shape == (X.shape[1],)
    assert column.coef_.shape == (1, X.shape[1])
    assert_array_equal(column.coef_[0], flat.coef_)
    assert_array_equal(column.intercept_, [flat.intercept_])
    assert_array_equal(column.predict(X)[:, 0], flat.predict(X))
