"""`loss_curve_` tells of the loss that was asked for, also where training goes by smooth ones that stand for it."""

from itertools import product

import numpy as np
import pytest
from convex import LOSSES, Problem
from scipy import sparse

from torchlinreg import TorchLinearRegressor
from torchlinreg.engine.preconditioning import choose
from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, SquaredEpsilonInsensitive

CASES = {
    "squared_error": ("squared_error", LOSSES["squared_error"](0.0, 1)),
    "huber": ("huber", None),
    "huber of a delta": (Huber(delta=2.0), LOSSES["huber"](2.0, 1)),
    "huber of a small delta": (Huber(delta=0.01), LOSSES["huber"](0.01, 1)),
    "absolute_error": ("absolute_error", LOSSES["absolute_error"](0.0, 1)),
    "quantile": (Quantile(0.9), LOSSES["quantile"](0.9, 1)),
    "epsilon_insensitive": (EpsilonInsensitive(0.5), LOSSES["epsilon_insensitive"](0.5, 1)),
    "squared_epsilon_insensitive": (SquaredEpsilonInsensitive(0.5), LOSSES["squared_epsilon_insensitive"](0.5, 1)),
}
TABLES = {
    "normal": lambda rng: rng.normal(size=(300, 4)) * [1.0, 100.0, 0.01, 1.0] + [0.0, 1000.0, 0.0, 0.0],
    "categories": lambda rng: np.eye(4)[rng.integers(0, 4, 300)],
    "heavy tails": lambda rng: rng.standard_t(2, size=(300, 4)),
}
TARGETS = {
    "normal": lambda rng: rng.normal(size=300),
    "heavy tails": lambda rng: rng.standard_t(1.5, size=300),
    "whole numbers": lambda rng: rng.integers(-2, 3, 300),
}


def objective(case, X, y, model, alpha=0.0):
    """Return the objective at the weights, of the scale that was found if there is one."""
    loss = CASES[case][1] or LOSSES["huber"](1.35 * model.scale_, 1)
    return Problem(X, y, loss, l2=alpha).objective(model.coef_, model.intercept_)


def check_shape(curve, *, finds_scale):
    """Check that nobody would take the curve for that of a training that diverges."""
    assert np.isfinite(curve).all()
    assert curve[-1] <= curve[0] * (1.0 + 1e-12)
    assert max(curve) <= curve[0] * 1.05
    if not finds_scale:  # with which the objective rises and falls
        assert curve[-1] <= min(curve) * (1.0 + 1e-3)


WAYS = {"dense": (np.asarray, 0.0), "sparse": (sparse.csr_array, 0.0), "ridge": (np.asarray, 0.1)}
# Each of the ways with each two of the others, and those three in all combinations
EACH = [
    (case, table, kind, list(WAYS)[sum(numbers) % len(WAYS)])
    for numbers, (case, table, kind) in zip(
        product(*(range(len(each)) for each in (CASES, TABLES, TARGETS))), product(CASES, TABLES, TARGETS), strict=True
    )
]


@pytest.mark.parametrize(("case", "table", "kind", "way"), EACH)
def test_it_ends_at_the_objective(rng, case, table, kind, way):
    X = TABLES[table](rng)
    y = X @ [1.0, 0.1, 10.0, -1.0] + TARGETS[kind](rng)
    container, alpha = WAYS[way]
    penalty = {"penalty": "l2", "alpha": alpha} if alpha else {}
    model = TorchLinearRegressor(loss=CASES[case][0], **penalty).fit(container(X), y)
    assert model.loss_curve_[-1] == pytest.approx(objective(case, X, y, model, alpha), rel=1e-6)
    assert len(model.loss_curve_) == model.n_iter_
    check_shape(model.loss_curve_, finds_scale=case == "huber")


@pytest.mark.parametrize("case", CASES)
def test_large_tables(monkeypatch, rng, case):
    monkeypatch.setattr(choose, "EXACT_ELEMENTS", 0)
    X = TABLES["normal"](rng)
    y = X @ [1.0, 0.1, 10.0, -1.0] + TARGETS["heavy tails"](rng)
    model = TorchLinearRegressor(loss=CASES[case][0], random_state=0).fit(X, y)
    assert model.loss_curve_[-1] == pytest.approx(objective(case, X, y, model), rel=1e-6)
    assert model.loss_curve_[-1] <= model.loss_curve_[0]


@pytest.mark.parametrize("case", CASES)
def test_several_targets_and_weights(rng, case):
    X, weight = TABLES["normal"](rng), rng.integers(0, 3, 300)
    y = X[:, :2] + np.column_stack([TARGETS[kind](rng) for kind in ("normal", "heavy tails")])
    model = TorchLinearRegressor(loss=CASES[case][0]).fit(X, y, weight)
    total = 0.0
    for target in range(2):
        loss = CASES[case][1] or LOSSES["huber"](1.35 * model.scale_[target], 1)
        problem = Problem(X.repeat(weight, axis=0), y[:, target].repeat(weight), loss)
        total += problem.objective(model.coef_[target], model.intercept_[target])
    assert model.loss_curve_[-1] == pytest.approx(total, rel=1e-6)
    check_shape(model.loss_curve_, finds_scale=case == "huber")
