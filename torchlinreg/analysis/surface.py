"""The objective along one or two coefficients, and the weights that training passes through on its way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from torchlinreg.engine.objective.losses import Loss, resolve_loss, total_loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.estimators.parameters.settings import make_settings, place_rows, resolve_penalty
from torchlinreg.estimators.parameters.values import Parameters
from torchlinreg.estimators.regressor import TorchLinearRegressor
from torchlinreg.estimators.regressor_cv import TorchLinearRegressorCV
from torchlinreg.estimators.training.train import initial_theta, train
from torchlinreg.inputs.arrays import check_weight, check_X_y, to_numpy
from torchlinreg.inputs.coefficients import per_target
from torchlinreg.inputs.frames import names_after

POINTS, PREDICTIONS = 2**6, 2**13  # at once: caches hold them, and torch does not share them among threads


@dataclass(frozen=True, eq=False)
class Surface:
    """The objective as a function of k coefficients of a target; all others are held where they were fitted.

    Attributes
    ----------
    names : list of str
        Of the coefficients, "intercept" for that.
    is_weight : torch.Tensor of shape (k,)
        Which are no intercept, so that a penalty counts them.
    estimate : ndarray of shape (k,)
        Where they were fitted.
    widths : ndarray of shape (k,)
        How far each has to move for predictions to move by about the standard deviation of the target.
    n_rows : int
    columns : torch.Tensor of shape (n_samples, k)
        What the coefficients multiply. For a squared loss a few rows stand for all.
    rest : torch.Tensor of shape (n_samples, 1)
        The part of the predictions that stays.
    y, weight : torch.Tensor of shape (n_samples, 1), weight of mean one or None
    loss : Loss
    penalty : Penalty or None
    rest_penalty : float
        That of the coefficients that stay.
    """

    names: list[str]
    is_weight: torch.Tensor
    estimate: np.ndarray
    widths: np.ndarray
    n_rows: int
    columns: torch.Tensor
    rest: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None
    loss: Loss
    penalty: Penalty | None
    rest_penalty: float

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Return the objective at points of shape (n_points, k)."""

        def losses(prediction, y, weight, _):
            return total_loss(self.loss, prediction, y, weight)

        coefs = torch.as_tensor(points, dtype=torch.float64, device="cpu").T
        value = self._mean(losses, coefs) + self.rest_penalty
        return (value if self.penalty is None else value + self.penalty.value(coefs[self.is_weight])).numpy()

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """Return its gradient, or a subgradient, shape (n_points, k)."""

        def gradients(prediction, y, weight, columns):
            slope = self.loss.gradient(prediction, y)
            return columns.T @ (slope if weight is None else slope * weight)

        coefs = torch.as_tensor(points, dtype=torch.float64, device="cpu").T
        gradient, weights = self._mean(gradients, coefs), coefs[self.is_weight]
        if self.penalty is not None:
            gradient[self.is_weight] += self.penalty.gradient(weights) + self.penalty.derivative(weights)
        return gradient.T.numpy()

    def _mean(self, function: Callable, coefs: torch.Tensor) -> torch.Tensor:
        """Return the mean over the rows of what a function sums up for some of them."""
        found = []
        with torch.inference_mode(False), torch.no_grad():
            for some in coefs.split(POINTS, dim=1):
                total, size = 0.0, max(1, PREDICTIONS // some.shape[1])
                for first in range(0, len(self.y), size):
                    block = slice(first, first + size)
                    weight = None if self.weight is None else self.weight[block]
                    prediction = torch.addmm(self.rest[block], self.columns[block], some)
                    total = total + function(prediction, self.y[block], weight, self.columns[block])
                found.append(total / self.n_rows)
        return torch.cat(found, dim=-1)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted estimator and rows, as they enter the objective.

    Attributes
    ----------
    model : TorchLinearRegressor
    names : list of str
        Of its coefficients, with "intercept" as the last if there is one.
    X, y : as `check_X_y` returns them
    sample_weight : as given by the user
    """

    model: TorchLinearRegressor
    names: list[str]
    X: Any
    y: Any
    sample_weight: Any

    @classmethod
    def of(cls, estimator, X, y, sample_weight=None) -> "Fitted":
        """Return what a fitted estimator, perhaps the last step of a pipeline, has to do with rows.

        Raises
        ------
        NotFittedError, TypeError, ValueError
        """
        check_is_fitted(estimator)
        names, model = None, estimator
        if isinstance(estimator, Pipeline):
            model = estimator[-1]
            if len(estimator) > 1:
                names, X = names_after(estimator[:-1]), estimator[:-1].transform(X)
        if not isinstance(model, TorchLinearRegressor | TorchLinearRegressorCV):
            raise TypeError(
                f"{type(model).__name__} minimises an objective that is not known here: give a TorchLinearRegressor, a "
                "TorchLinearRegressorCV or a Pipeline that ends in one of them."
            )
        if isinstance(model, TorchLinearRegressorCV):
            model = model._chosen().fit(X, y, sample_weight)
        X, y = check_X_y(model, X, y, reset=False)
        names = vars(model).get("feature_names_in_", names)
        names = [f"x{number}" for number in range(X.shape[1])] if names is None else [str(name) for name in names]
        return cls(model, [*names, "intercept"] if model.fit_intercept else names, X, y, sample_weight)

    def find(self, feature: int | str) -> int:
        """Return the number of a coefficient, given it or its name.

        Raises
        ------
        ValueError
        """
        if isinstance(feature, Integral) and 0 <= feature < len(self.names):
            return int(feature)
        if feature in self.names:
            return self.names.index(feature)
        raise ValueError(f"features: there is no {feature!r}; give one or two of {self.names}, or their numbers.")

    def surface(self, features: Sequence[int], target: int) -> Surface:
        """Return the objective along coefficients of a target, by their numbers.

        Raises
        ------
        ValueError
            If there is no such target, or if the loss cannot be taken for one target alone.
        """
        model, features = self.model, list(features)
        y = _as_double(self.y).reshape(len(self.y), -1)
        n_targets = y.shape[1]
        if target not in range(n_targets):
            raise ValueError(f"target={target!r}: y has {n_targets} columns; give a number from 0 to {n_targets - 1}.")
        parameters = Parameters.of(model)
        loss: Any = resolve_loss(parameters.loss, n_targets)
        if loss.mixes_targets:
            raise ValueError(f"loss={parameters.loss!r} may mix the {n_targets} targets: fit one of them alone.")
        if hasattr(model, "scale_"):
            loss = loss.at_scale(torch.tensor([np.atleast_1d(model.scale_)[target]], dtype=torch.float64))
        coef = np.atleast_2d(model._dense_coef())[target].astype(np.float64)
        theta = np.append(coef, np.atleast_1d(model.intercept_)[target] if model.fit_intercept else [])
        X = _as_double(self.X)
        ones = np.ones((len(y), 1))
        columns = np.hstack([_column(X, j) if j < len(coef) else ones for j in features])
        held = theta.copy()
        held[features] = 0.0
        rest = (X @ held[: len(coef)] + held[len(coef) :].sum())[:, np.newaxis]
        penalty = self._penalty(parameters, target, n_targets)
        weight = check_weight(self.sample_weight, y)
        size = np.sqrt(np.square(columns).mean(0))
        return Surface(
            [self.names[j] for j in features],
            torch.tensor(features) < len(coef),
            theta[features],
            (y[:, target].std() or 1.0) / np.where(size > 0, size, 1.0),
            len(y),
            *_compress(columns, rest, y[:, [target]], weight, is_quadratic=loss.is_quadratic),
            loss,
            penalty,
            0.0 if penalty is None else penalty.value(torch.from_numpy(held[: len(coef), np.newaxis])).item(),
        )

    def descend(self) -> np.ndarray:
        """Train once more; return the weights of each epoch or pass, shape (n_epochs, n_theta, n_targets).

        In textbook mode the first are those that training starts from.

        Raises
        ------
        ValueError
            If rows were held out in `fit`.
        """
        parameters = Parameters.of(self.model)
        if parameters.early_stopping:
            raise ValueError("early_stopping=True held rows out that are not known here: give the path as an array.")
        with torch.inference_mode(False), torch.no_grad():
            weight = check_weight(self.sample_weight, self.X, to_mean_one=False)
            rows, dtype = place_rows(parameters, self.X, self.y, weight, to_mean_one=True)
            settings = make_settings(parameters, rows, dtype)
            start = initial_theta(self.model, rows, self.y.ndim, warm_start=False)
            path = [] if parameters.is_untuned else [start.cpu().double()]

            def record(epoch: int, loss: float, theta) -> bool:
                path.append(theta().detach().cpu().double().clone())
                return False

            train(rows, start, replace(settings, after_epoch=record), parameters)
        return torch.stack(path).numpy()

    def _penalty(self, parameters: Parameters, target: int, n_targets: int) -> Penalty | None:
        alpha = per_target("alpha", parameters.alpha, n_targets, np.inf)[[target]]
        l1_ratio = per_target("l1_ratio", parameters.l1_ratio, n_targets, 1.0)[[target]]
        cpu = torch.device("cpu")
        return resolve_penalty(parameters.penalty, alpha, l1_ratio, cpu, positive=parameters.positive)


def _as_double(table: Any) -> Any:
    return (to_numpy(table, "table") if isinstance(table, torch.Tensor) else table).astype(np.float64)


def _column(X: Any, feature: int) -> np.ndarray:
    column = X[:, [feature]]
    return column.toarray() if sparse.issparse(column) else column


def _compress(
    columns: np.ndarray, rest: np.ndarray, y: np.ndarray, weight: np.ndarray | None, *, is_quadratic: bool
) -> Iterator[torch.Tensor | None]:
    """Yield columns, rest, targets and weights as tensors; for a squared loss a few rows with the same sums."""
    if is_quadratic:
        residual = np.hstack([columns, rest - y])
        residual = residual if weight is None else residual * np.sqrt(weight)[:, np.newaxis]
        factor = np.linalg.qr(residual, mode="r")
        columns, rest, y, weight = factor[:, :-1], factor[:, -1:], np.zeros((len(factor), 1)), None
    for part in (columns, rest, y):
        yield torch.from_numpy(np.ascontiguousarray(part))
    yield None if weight is None else torch.from_numpy(weight[:, np.newaxis])
