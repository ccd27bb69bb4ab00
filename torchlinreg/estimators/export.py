"""A fitted model as a `torch.nn.Linear` or a `LinearRegression`."""

from copy import deepcopy

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.linear_model import LinearRegression

from torchlinreg.engine.objective.linear_model import linear_module

FITTED = {"coef_", "intercept_", "n_features_in_", "feature_names_in_"}


def to_module(coef, intercept, *, fit_intercept: bool) -> torch.nn.Linear:
    """Return weights and intercept as a module on the CPU that can be trained further.

    Parameters
    ----------
    coef : ndarray or sparse array of shape (n_features,) or (n_targets, n_features)
    intercept : float or ndarray of shape (n_targets,)
    fit_intercept : bool
        Whether the module has a bias even if the intercept is zero.
    """
    coef = np.atleast_2d(_dense(coef))
    intercept = np.array(np.broadcast_to(intercept, len(coef)), dtype=coef.dtype)
    # Parameters made under inference mode could not be trained
    with torch.inference_mode(False), torch.no_grad():
        weight = torch.from_numpy(coef)
        bias = bool(fit_intercept or intercept.any())
        module = linear_module(weight.shape[1], weight.shape[0], bias=bias, device="cpu", dtype=weight.dtype)
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(torch.from_numpy(intercept))
    return module


def to_sklearn(fitted: dict, *, fit_intercept: bool) -> LinearRegression:
    """Return a `LinearRegression` with copies of those of these fitted attributes that it has, too.

    Parameters
    ----------
    fitted : dict
        Attributes by name.
    fit_intercept : bool
    """
    model = LinearRegression(fit_intercept=fit_intercept)
    vars(model).update({name: deepcopy(value) for name, value in fitted.items() if name in FITTED})
    model.coef_ = _dense(model.coef_)
    return model


def _dense(coef) -> np.ndarray:
    return coef.toarray() if issparse(coef) else coef
