"""`merge`: one model from several that each learnt a part of the rows by `partial_fit`."""

from collections.abc import Iterable

import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from torchlinreg.engine.data.matrices.dense import DenseOperator
from torchlinreg.engine.data.reductions import MergeTree, Node
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.data.statistics import SufficientStatistics
from torchlinreg.engine.fit.stream import fit_statistics
from torchlinreg.estimators.parameters.refusals import check_overflow, refusing_overflow
from torchlinreg.estimators.parameters.settings import make_settings
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.training.reports import warn_of_fit
from torchlinreg.estimators.training.stream_state import load_training_state, save_training_state
from torchlinreg.estimators.training.train import store

FREE = {"verbose", "warm_start", "device", "random_state"}  # may differ, as the merged rows do not depend on them


def merge(models: Iterable[TorchLinearRegressor]) -> TorchLinearRegressor:
    """Return the model of all rows that several models have learnt from, each from a part by `partial_fit`.

    The answer is that of one `fit` to all parts, as each model keeps sufficient statistics of its rows, which merge
    exactly [1]_: NumPy arrays of ``(n_features + n_targets)²`` numbers, that any engine can send. So a table that is
    spread over a cluster is learnt by mapping `partial_fit` over its partitions and merging the results, at once or as
    a tree.

    Parameters
    ----------
    models : iterable of TorchLinearRegressor
        With ``learning_rate="auto"``, a squared loss and any penalty, the same parameters and columns, each fitted by
        `partial_fit`, `fit_chunks` or `merge`. They stay as they are.

    Returns
    -------
    TorchLinearRegressor
        A new estimator with the parameters of the first, which may go on by `partial_fit` or be merged again. The same
        models in the same order give the same bits.

    Raises
    ------
    TypeError
        If a model is no `TorchLinearRegressor`.
    ValueError
        If there is no model; if one has no sufficient statistics, or other parameters or columns than the first.
    sklearn.exceptions.NotFittedError
        If a model is not fitted.

    References
    ----------
    .. [1] Demmel, Grigori, Hoemmen & Langou (2012), "Communication-optimal parallel and sequential QR and LU
       factorizations".

    Examples
    --------
    >>> import numpy as np
    >>> from torchlinreg import TorchLinearRegressor, merge
    >>> rng = np.random.default_rng(0)
    >>> parts = [(X, X @ [1.0, 2.0] + 3.0) for X in rng.normal(size=(4, 100, 2))]
    >>> model = merge(TorchLinearRegressor().partial_fit(X, y) for X, y in parts)
    >>> model.coef_.round(6), round(float(model.intercept_), 6)
    (array([1., 2.]), 3.0)
    """
    first, tree = None, MergeTree()
    for number, model in enumerate(models):
        statistics = _statistics(model, number)
        if first is None:
            first = model
        _compare(first, model, number)
        tree.add(Node(number, 1, statistics))
    if first is None:
        raise ValueError("There are no models to merge.")
    merged = clone(first)
    with torch.inference_mode(False), torch.no_grad():
        _learn(merged, tree.merged(None), first)
    return merged


def _statistics(model: TorchLinearRegressor, number: int) -> SufficientStatistics:
    """Return what a model knows of its rows."""
    if not isinstance(model, TorchLinearRegressor):
        raise TypeError(f"models[{number}] is {type(model).__name__}, but merge takes estimators TorchLinearRegressor.")
    check_is_fitted(model, msg=f"models[{number}] is not fitted yet; call partial_fit, or leave it out.")
    parameters = Parameters.of(model)
    keeps_state = parameters.is_untuned and model._training_state is not None
    state = load_training_state(model._training_state, parameters) if keeps_state else {}
    if not state:
        raise ValueError(
            f"models[{number}] keeps no sufficient statistics of its rows. Fit each by partial_fit or fit_chunks, with "
            'learning_rate="auto" and a squared loss.'
        )
    return SufficientStatistics(**state)


def _compare(first: TorchLinearRegressor, model: TorchLinearRegressor, number: int) -> None:
    """Refuse a model that differs from the first in what the answer depends on."""
    own, others = (Parameters.of(each).describe(but=FREE) for each in (first, model))
    said = {name: (own[name], others[name]) for name in own}
    said |= {
        "columns": tuple(str([*getattr(each, "feature_names_in_", [])]) for each in (first, model)),
        "shape of coef_": (first._dense_coef().shape, model._dense_coef().shape),
        "precision": (first.coef_.dtype, model.coef_.dtype),
    }
    for name, (expected, found) in said.items():
        if found != expected:
            raise ValueError(f"models[{number}] has other {name} than models[0]: {found}, not {expected}.")


def _learn(merged: TorchLinearRegressor, statistics: SufficientStatistics, first: TorchLinearRegressor) -> None:
    """Fit an estimator to the rows that statistics stand for."""
    parameters, dtype = Parameters.of(merged), getattr(torch, str(first.coef_.dtype))
    n_features, y_ndim = first.n_features_in_, first._dense_coef().ndim
    nothing = torch.empty(0, len(statistics.mean), dtype=torch.float64)
    rows = MemorySource(DenseOperator(nothing[:, :n_features]), nothing[:, n_features:])
    settings = make_settings(parameters, rows, dtype)
    with refusing_overflow():
        outcome = fit_statistics(statistics, n_features, settings)
    check_overflow(rows, outcome.theta, dtype)
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(first, name):
            setattr(merged, name, getattr(first, name))
    store(merged, outcome, n_features, y_ndim, dtype)
    merged._training_state = save_training_state(outcome.training_state, parameters)
    warn_of_fit(outcome, rows, settings, parameters, stacklevel=4)
