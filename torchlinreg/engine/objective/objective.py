"""The objective: mean loss of the predictions, and penalty of the weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple, Self

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.matrices.products import add_residual_sums
from torchlinreg.engine.data.moments import ColumnMeans
from torchlinreg.engine.data.reductions import Mean, Sums
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.objective.hessian import ColumnProducts, Hessian, HessianSum, SecondOrder
from torchlinreg.engine.objective.linear_model import Model
from torchlinreg.engine.objective.losses import Loss, total_loss
from torchlinreg.engine.objective.penalties import Penalty
from torchlinreg.engine.preconditioning.transforms import Transform

LARGEST_HESSIAN = 4097  # directions, and the intercept, that are worth a matrix of second derivatives
HESSIAN_OPERATIONS = 2**31  # multiplications that a Hessian may take before it makes do with a subsample
MARGIN = 1.1  # of a Lipschitz constant that is estimated


class Evaluation(NamedTuple):
    """Value and gradient at a point.

    Attributes
    ----------
    value : torch.Tensor of shape (n_columns,)
    gradient : torch.Tensor
        Of all but the part of the penalty that is not smooth.
    reported : torch.Tensor of shape (n_columns,)
        The value with the loss that a smooth one stands for.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    reported: torch.Tensor


@dataclass(frozen=True, eq=False)
class Objective:
    """f(v) = mean loss(X theta, y) + penalty(theta) with theta = start + T v; each column for itself.

    Attributes
    ----------
    source : MemorySource
    loss : Loss
    penalty : Penalty or None
        With a part that is not smooth, T is diagonal and the start zero.
    transform : Transform
        T.
    start : torch.Tensor of shape (n_features + fit_intercept, n_columns), float64
    make_model : callable (theta) -> Model
    reported_loss : Loss, optional
        The loss that `loss` is a smooth stand-in for.
    seed : int, optional
        Of the rows that Hessians are estimated from, where there are more than are affordable. None takes all.
    """

    source: MemorySource
    loss: Loss
    penalty: Penalty | None
    transform: Transform
    start: torch.Tensor
    make_model: Callable[[torch.Tensor], Model]
    reported_loss: Loss | None = None
    seed: int | None = None

    def theta(self, v: torch.Tensor) -> torch.Tensor:
        """Return weights and intercepts."""
        return self.start + self.transform(v)

    def value_and_gradient(self, v: torch.Tensor) -> Evaluation:
        """Evaluate at v, with the gradient in v."""
        found = self.evaluate(self.theta(v))
        return found._replace(gradient=self.transform.rmatvec(found.gradient))

    def evaluate(self, theta: torch.Tensor) -> Evaluation:
        """Evaluate at weights and intercepts, with the gradient in these."""
        if self.loss.is_quadratic and self.reported_loss is None and self.model(theta).is_closed_form:
            sums = SquaredResiduals(self.loss, theta, self.source)
        else:
            sums = LossAndGradient(partial(self.model, theta), self.loss, theta, self.reported_loss)
        value, gradient, reported = self.source.reduce(sums).means()
        if self.penalty is not None:
            weights = theta[: self.source.shape[1]]
            penalty = self.penalty.value(weights)
            value, reported = value + penalty, reported + penalty
            gradient[: len(weights)] += self.penalty.gradient(weights)
        return Evaluation(value, gradient, reported)

    def second_order(self, v: torch.Tensor, columns: torch.Tensor) -> SecondOrder:
        """Return the Hessian in v, and what else a pass over the rows tells of it, for some of the columns."""
        is_shared = self.loss.is_quadratic and self.source.shares_weight
        model = self.model(self.theta(v))
        sums = HessianSum(model, self.loss, self.transform, columns, is_shared=is_shared)
        n_rows, n_features = self.source.shape
        affordable = max(8 * n_features, HESSIAN_OPERATIONS // max(1, n_features) ** 2)
        if self.seed is not None and n_rows > affordable:
            sums = self.source.reduce_subsample(sums, affordable, self._generator)
        else:
            sums = self.source.reduce(sums)
        matrix, majorizer, curved_gradient = sums.means(v.shape[1])
        return SecondOrder(self._with_penalty(matrix), majorizer, curved_gradient)

    def gram(self, chosen: torch.Tensor, n_old: int) -> torch.Tensor:
        """Return the rows and columns of a quadratic loss's Hessian for some of the features, less the first rows.

        Parameters
        ----------
        chosen : torch.Tensor of shape (n_chosen,)
        n_old : int
            Rows left out.

        Returns
        -------
        torch.Tensor of shape (n_chosen - n_old, n_chosen)
        """
        return self.loss.lipschitz * self.source.reduce(ColumnProducts(self.transform, chosen, n_old)).value

    def centred(self) -> Self:
        """Return the objective of a single column with the intercept at the mean of the features by its own weights."""
        if self.transform.offset is None:
            return self
        mean = self.source.reduce(ColumnMeans()).value[:, 0]
        return replace(self, transform=replace(self.transform, offset=mean.to(self.start)))

    def prox(self, v: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Return the proximal operator of the part of the penalty that is not smooth."""
        return v if self.nonsmooth is None else self.nonsmooth.prox(v, step)

    def mean(self, theta: torch.Tensor, function: Callable) -> torch.Tensor:
        """Return the weighted mean of a function (prediction, target), shape (n_columns,)."""
        model = self.model(theta)
        return self.source.reduce(
            Mean(lambda block: function(model.predict(block).detach().to(theta), block.y.to(theta)))
        ).value

    def select(self, columns: torch.Tensor) -> Self:
        """Return the objective of some of the columns, a number for each, of models of one target."""
        gain = self.transform.gain
        return replace(
            self,
            source=self.source.select(columns),
            loss=self.loss.select(columns),
            penalty=None if self.penalty is None else self.penalty.select(columns),
            transform=replace(self.transform, gain=None if gain is None else gain[:, columns]),
            start=self.start[:, columns],
            reported_loss=None if self.reported_loss is None else self.reported_loss.select(columns),
        )

    def model(self, theta: torch.Tensor) -> Model:
        """Return the model of theta, in the precision of the targets."""
        return self.make_model(theta.to(self.source.dtype))

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do for a solver: "hessian" where directions are not too many, "prox", "quadratic", "gram"."""
        found = {"prox"}
        if self.has_hessian:
            found.add("hessian")
        if self.loss.is_quadratic and self.transform.weights.ndim == 1:
            found.add("gram")
        if self.loss.is_quadratic and (self.penalty is None or self.penalty.is_smooth):
            found.add("quadratic")
        return frozenset(found)

    @property
    def has_hessian(self) -> bool:
        """Whether there are so few directions that a matrix of second derivatives is worth it."""
        return self.transform.n_directions <= LARGEST_HESSIAN

    @property
    def n_columns(self) -> int:
        """Columns of v."""
        return self.start.shape[1]

    @property
    def resolution(self) -> float:
        """Relative rounding error of the products."""
        return torch.finfo(self.source.dtype).eps

    @cached_property
    def _generator(self) -> torch.Generator:
        """Draws the rows of Hessians; begins anew in each copy of the objective."""
        return torch.Generator("cpu").manual_seed(self.seed)

    @cached_property
    def nonsmooth(self) -> Penalty | None:
        """The part of the penalty that is not smooth, as a function of v."""
        if self.penalty is None or self.penalty.is_smooth:
            return None
        scale = self.transform.weights[:, None]
        return self.penalty.nonsmooth(scale, self.transform.n_directions - len(scale))

    @cached_property
    def loss_lipschitz(self) -> torch.Tensor:
        """Bound of the second derivative of the mean loss in any direction of v, shape (n_columns,)."""
        lipschitz = torch.as_tensor(self.loss.lipschitz, device=self.start.device)
        return (MARGIN * lipschitz.to(self.start).nan_to_num(nan=1.0)).expand(self.n_columns)

    @cached_property
    def lipschitz(self) -> torch.Tensor:
        """The same with the smooth part of the penalty, if T is diagonal."""
        if self.penalty is None or self.transform.weights.ndim > 1:
            return self.loss_lipschitz
        return self.loss_lipschitz + (self.penalty.l2 * self.transform.weights[:, None].square()).amax(0)

    def _with_penalty(self, matrix: torch.Tensor) -> Hessian:
        weights = self.transform.weights
        shift = matrix.new_zeros(matrix.shape[1], self.n_columns)
        if self.penalty is None:
            return Hessian(matrix, shift)
        l2 = self.penalty.l2.expand(len(weights), self.n_columns)
        if weights.ndim == 1:
            shift[: len(weights)] = l2 * weights[:, None].square()
            return Hessian(matrix, shift)
        wide = torch.nn.functional.pad(weights, (0, matrix.shape[1] - weights.shape[1]))
        return Hessian(matrix + torch.einsum("jq,jk,jr->kqr", wide, l2, wide), shift)


class LossAndGradient(Sums):
    """Reduction: the loss of each column, and its gradient in theta, summed in the precision of theta.

    Parameters
    ----------
    make_model : callable () -> Model
        Returns a model of theta.
    loss : Loss
    theta : torch.Tensor of shape (n_theta, n_columns)
    reported_loss : Loss, optional
        Another loss to sum beside.
    """

    SUMMED = ("_value", "_gradient", "_reported", "_n_rows")

    def __init__(self, make_model: Callable, loss: Loss, theta: torch.Tensor, reported_loss: Loss | None = None):
        self._model, self._loss, self._reported_loss = make_model(), loss, reported_loss
        self._arguments = make_model, loss, theta, reported_loss
        self._value, self._gradient, self._n_rows = theta.new_zeros(theta.shape[1]), torch.zeros_like(theta), 0
        self._reported = torch.zeros_like(self._value)

    def update(self, block: Batch) -> None:
        """Predict a block, and add its losses and gradient."""
        model, n_rows = self._model, len(block.y)
        model.backward(block, model.error(self._loss, model.predict(block), block))
        self._gradient.add_(model.gradient(), alpha=n_rows)
        model.zero_grad()
        self._value += total_loss(self._loss, block.predicted, block.y, block.weight)
        if self._reported_loss is not None:
            self._reported += total_loss(self._reported_loss, block.predicted, block.y, block.weight)
        self._n_rows += n_rows

    def fork(self) -> Self:
        """Return sums over no rows yet, with a model of their own."""
        return LossAndGradient(*self._arguments)

    @property
    def suits_threads(self) -> bool:
        """Whether the loss is no function of the user's, which is not called by several threads at once."""
        return not self._loss.by_autograd

    def means(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the mean loss, its gradient, and the mean of the other loss, or of the same."""
        value = self._value / self._n_rows
        reported = value if self._reported_loss is None else self._reported / self._n_rows
        return value, self._gradient / self._n_rows, reported


class SquaredResiduals(Sums):
    """Reduction: the same as `LossAndGradient` finds for a quadratic loss, from one sweep over the residuals.

    Parameters
    ----------
    loss : Loss
    theta : torch.Tensor of shape (n_theta, n_columns)
    source : MemorySource
        Has the precision of the products.
    """

    SUMMED = ("_sums", "_n_rows")

    def __init__(self, loss: Loss, theta: torch.Tensor, source: MemorySource):
        self._loss, self._theta, n_features = loss, theta.to(source.dtype), source.shape[1]
        self._weights, self._intercept = self._theta[:n_features], self._theta[n_features:]
        self._sums, self._n_rows = theta.new_zeros(n_features + 2, theta.shape[1]), 0

    def update(self, block: Batch) -> None:
        """Add the squares and products of a block."""
        X, y, weight, predicted = block[:4]
        add_residual_sums(self._sums, X, self._weights, self._intercept, y, weight, predicted)
        self._n_rows += len(X)

    def means(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the mean loss, its gradient, and the mean loss again."""
        means = self._sums * (self._loss.lipschitz / self._n_rows)
        value = 0.5 * means[-1]
        return value, means[: len(self._theta)].clone(), value
