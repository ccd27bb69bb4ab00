"""The base class of both estimators: predict, score and export with `coef_` and `intercept_`."""

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from torchlinreg.engine.fit.plan import Plan
from torchlinreg.engine.runtime.devices import carry, has_double
from torchlinreg.engine.runtime.switches import full_precision
from torchlinreg.estimators import export
from torchlinreg.estimators.training.train import fit_times
from torchlinreg.inputs.arrays import check_X, to_numpy
from torchlinreg.inputs.coefficients import split_theta

OUTCOME = {  # of a fit, told below scikit-learn's diagram
    "converged_": "whether training ended by its own criterion",
    "optimality_gap_": "excess of the objective over its minimum, relative to that of the best constant",
    "n_iter_": "epochs or, in untuned mode, passes over the rows",
    "t_": "steps",
    "fit_time_": "seconds",
}


class LinearModel(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A regressor with `coef_` and `intercept_`.

    Subclasses have a parameter `fit_intercept`, and a `fit` that calls `_set_weights`.
    """

    @property
    def plan_(self) -> Plan:
        """The numbers that "auto" stood for, by name; printed with a reason for each."""
        if not hasattr(self, "_plan"):
            raise AttributeError("plan_ exists after fit only.")
        return Plan(self._plan)

    @property
    def fit_time_(self) -> float:
        """Seconds that the last fit took."""
        if self not in fit_times:
            raise AttributeError("fit_time_ exists after fit only, and not in copies or after loading.")
        return fit_times[self]

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)

        Returns
        -------
        ndarray or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
            A tensor on the same device if `X` is one.
        """
        check_is_fitted(self)
        X = check_X(self, X)
        exact = self._exact_weights()
        coef, intercept = exact or (self._dense_coef(), self.intercept_)
        if not isinstance(X, torch.Tensor):
            features = X if exact is None else X.astype(np.float64)
            return (features @ coef.T + intercept).astype(X.dtype, copy=False)
        device = X.device if has_double(X.device) or exact is None else torch.device("cpu")
        features = X.to(device) if exact is None else X.to(device).double()
        coef, intercept = (
            torch.as_tensor(part, dtype=features.dtype, device="cpu").to(device) for part in (coef, intercept)
        )
        with full_precision():
            return carry(features @ coef.t() + intercept, X.device, X.dtype)

    def score(self, X, y, sample_weight=None) -> float:
        """Return the coefficient of determination R², as :meth:`sklearn.base.RegressorMixin.score` does.

        Parameters
        ----------
        X : array-like, DataFrame, sparse matrix or torch.Tensor of shape (n_samples, n_features)
        y : array-like, DataFrame or torch.Tensor of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), default=None
        """
        given = {"y": y, "predictions": self.predict(X), "sample_weight": sample_weight}
        y, predicted, sample_weight = (
            to_numpy(values, name) if isinstance(values, torch.Tensor) else values for name, values in given.items()
        )
        return r2_score(y, predicted, sample_weight=sample_weight)

    def to_module(self) -> torch.nn.Linear:
        """Return the fitted model as a `torch.nn.Linear` on the CPU, ready to be trained further.

        Returns
        -------
        torch.nn.Linear
            From n_features to n_targets (1 for a one-dimensional `y`), in the precision of `coef_`, of which it is a
            copy. Without a bias if there is no intercept.
        """
        check_is_fitted(self)
        return export.to_module(self.coef_, self.intercept_, fit_intercept=self.fit_intercept)

    def to_sklearn(self) -> LinearRegression:
        """Return the fitted model as a `LinearRegression`, for use without this package.

        Returns
        -------
        LinearRegression
            With copies of `coef_` (dense), `intercept_`, `n_features_in_` and `feature_names_in_`, but without `rank_`
            and `singular_`, which its own solver would have set.
        """
        check_is_fitted(self)
        return export.to_sklearn(vars(self), fit_intercept=self.fit_intercept)

    def sparsify(self) -> "LinearModel":
        """Store `coef_` as a sparse array.

        Saves memory if most coefficients are zero, as with an L1 penalty. Predicting and fitting go on as before.

        Returns
        -------
        self : object
            With `coef_` as a CSR array of shape (n_targets, n_features), a single target being one row.
        """
        check_is_fitted(self)
        if not sparse.issparse(self.coef_):
            self._coef_shape = self.coef_.shape
            self.coef_ = sparse.csr_array(np.atleast_2d(self.coef_))
        return self

    def densify(self) -> "LinearModel":
        """Store `coef_` as an ndarray again, after :meth:`sparsify`.

        Returns
        -------
        self : object
            With `coef_` as an ndarray.
        """
        check_is_fitted(self)
        self.coef_ = self._dense_coef()
        return self

    def _dense_coef(self) -> np.ndarray:
        """Return `coef_` as an ndarray, whether or not it is sparse."""
        return self.coef_.toarray().reshape(self._coef_shape) if sparse.issparse(self.coef_) else self.coef_

    def _exact_weights(self) -> tuple | None:
        """Return weights and intercept in float64, if rounded ones would show in the predictions."""
        exact, coef = self._weights_in_float64, self._dense_coef()
        # They are of no use if coef_ has been changed since fit
        if exact is None or not np.array_equal(np.atleast_2d(coef), exact[0].astype(coef.dtype)):
            return None
        return exact[0].reshape(coef.shape), exact[1].reshape(coef.shape[:-1])

    def _get_fitted_attr_html(self, doc_link=""):
        """Return the fitted attributes for scikit-learn's diagrams, with the plan and its outcome below."""
        attributes = super()._get_fitted_attr_html(doc_link)
        outcome = {name: (getattr(self, name, None), meaning) for name, meaning in OUTCOME.items()}
        outcome = {name: entry for name, entry in outcome.items() if entry[0] is not None}
        table = Plan({**outcome, **vars(self).get("_plan", {})})._repr_html_()
        details = f"<details><summary>Outcome and plan</summary>{table}</details>"
        shown = f"{attributes._html_repr()}<div class='estimator-table'>{details}</div>"
        attributes._html_repr = lambda: shown
        return attributes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return "coef_" in vars(self)

    def _set_weights(
        self, theta: torch.Tensor, n_features: int, y_ndim: int, dtype: torch.dtype, *, needs_double: bool
    ) -> None:
        """Set `coef_` and `intercept_`, and keep both in float64 as well if predictions need that."""
        self.coef_, self.intercept_, in_float64 = split_theta(theta, n_features, y_ndim, dtype)
        self._weights_in_float64 = in_float64 if dtype != torch.float64 and needs_double else None
