"""What every fitted linear model can do, however it was fitted."""

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from torchlinreg.engine.fit.plan import Plan
from torchlinreg.engine.runtime.devices import carry, full_precision, has_double
from torchlinreg.estimators import export
from torchlinreg.inputs.arrays import check_X, to_numpy
from torchlinreg.inputs.coefficients import split_theta


class LinearModel(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A regressor with `coef_` and `intercept_`.

    Whoever inherits has a `fit` that ends in `_set_weights`, and a parameter `fit_intercept`.
    """

    @property
    def plan_(self) -> Plan:
        """The numbers that "auto" stood for, by name; prints as a table that gives a reason for each."""
        if not hasattr(self, "_plan"):
            raise AttributeError("plan_ is there after fit.")
        return Plan(self._plan)

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
        coef, intercept = self._dense_coef(), self.intercept_
        # Single precision would show, and coef_ is still what fit made it
        exact = self._exact is not None and np.array_equal(np.atleast_2d(coef), self._exact[0].astype(coef.dtype))
        if exact:
            intercept = self._exact[1].reshape(coef.shape[:-1])
            coef = self._exact[0].reshape(coef.shape)
        if not isinstance(X, torch.Tensor):
            wide = X.astype(np.float64) if exact else X
            return (wide @ coef.T + intercept).astype(X.dtype, copy=False)
        home = X.device if has_double(X.device) or not exact else torch.device("cpu")
        wide = X.to(home).double() if exact else X
        coef, intercept = (torch.as_tensor(part, dtype=wide.dtype, device="cpu").to(home) for part in (coef, intercept))
        with full_precision():
            return carry(wide @ coef.t() + intercept, X.device, X.dtype)

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
            to_numpy(part, name) if isinstance(part, torch.Tensor) else part for name, part in given.items()
        )
        return r2_score(y, predicted, sample_weight=sample_weight)

    def to_module(self) -> torch.nn.Linear:
        """Return the fitted model as a module of torch, on the CPU and ready to be trained further.

        Returns
        -------
        torch.nn.Linear
            From n_features to n_targets (1 for a one-dimensional `y`), in the precision of `coef_`, which it shares no
            memory with. Without a bias if there is no intercept.
        """
        check_is_fitted(self)
        return export.to_module(self.coef_, self.intercept_, fit_intercept=self.fit_intercept)

    def to_sklearn(self) -> LinearRegression:
        """Return the fitted model as scikit-learn's own, for those who are to use it without this package.

        Returns
        -------
        LinearRegression
            With copies of `coef_` (dense), `intercept_`, `n_features_in_` and `feature_names_in_`. What its own solver
            would have found on the way, `rank_` and `singular_`, is not there.
        """
        check_is_fitted(self)
        return export.to_sklearn(vars(self), fit_intercept=self.fit_intercept)

    def sparsify(self) -> "LinearModel":
        """Keep only those coefficients that are not zero.

        Worth it if most are, as an L1 penalty may make them. Predicting and fitting go on as before.

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
        """Undo :meth:`sparsify`.

        Returns
        -------
        self : object
            With `coef_` as an ndarray.
        """
        check_is_fitted(self)
        self.coef_ = self._dense_coef()
        return self

    def _dense_coef(self) -> np.ndarray:
        """Return the coefficients as an array, whether or not they are kept as one."""
        return self.coef_.toarray().reshape(self._coef_shape) if sparse.issparse(self.coef_) else self.coef_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return "coef_" in vars(self)

    def _set_weights(
        self, theta: torch.Tensor, n_features: int, y_ndim: int, dtype: torch.dtype, *, needs_double: bool
    ) -> None:
        self.coef_, self.intercept_, wide = split_theta(theta, n_features, y_ndim, dtype)
        self._exact = wide if dtype != torch.float64 and needs_double else None
