"""The objective in other variables: value, gradient and second derivatives, each where it is asked for."""

import torch

from torchlinreg.engine.data.batches import MiniBatches
from torchlinreg.engine.data.moments import sandwich
from torchlinreg.engine.preconditioning.transforms import Transform
from torchlinreg.engine.runtime.devices import at_once
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import PASS_ELEMENTS, FullPass
from torchlinreg.engine.solvers.full_batch.l1_quadratic import Curvature

CURVATURE_OPERATIONS = 2**31  # multiplications that a look at the curvature may take before it makes do with a sample
MARGIN = 1.1  # of a steepness that is estimated


class Objective:
    """The objective as a function of v, where ``theta = start + T v``; with a l1 T is diagonal and the start zero.

    Parameters
    ----------
    full_pass : FullPass
    transform : Transform
    start : torch.Tensor of shape (n_theta, n_columns)
    seed : int
        Of the rows that the curvature is estimated from, if there are too many.
    thin : bool
        Whether some rows can stand for all.
    """

    def __init__(self, full_pass: FullPass, transform: Transform, start: torch.Tensor, seed: int, *, thin: bool):
        self._full_pass, self._transform, self._start = full_pass, transform, start
        self.loss, self.resolution, penalty = full_pass.loss, full_pass.resolution, full_pass.penalty
        self.l1 = None
        if penalty is not None and not penalty.is_smooth:
            l1 = penalty.l1 * transform.weights[:, None]
            self.l1 = torch.nn.functional.pad(l1, (0, 0, 0, transform.n_directions - len(l1)))
        curvature = torch.as_tensor(self.loss.lipschitz, device=start.device).to(start).nan_to_num(nan=1.0)
        self.steepest_of_loss = (MARGIN * curvature).expand(start.shape[1])
        """Bound of the second derivative of the loss in any direction, shape (n_columns,),"""
        self.steepest = self.steepest_of_loss
        """and the same with the penalty."""
        if penalty is not None and transform.weights.ndim == 1:
            self.steepest = self.steepest + (penalty.l2 * transform.weights[:, None].square()).amax(0)
        self.curvature: Curvature | None = None
        """Second derivatives at the last look,"""
        self.above: torch.Tensor | None = None
        """the matrices of parabolas that touch the loss from above, where it is none itself,"""
        self.inside = torch.zeros_like(start)
        """and the part of the gradient that came from rows where there was some curvature."""
        rows = full_pass.rows
        n_rows, n_features = rows.X.shape
        affordable = max(8 * n_features, CURVATURE_OPERATIONS // max(1, n_features) ** 2)
        sampled = thin and n_rows > affordable
        generator = torch.Generator("cpu").manual_seed(seed) if sampled else None
        self._batches = MiniBatches(
            rows,
            full_pass.chunk,
            generator,
            n_draws=affordable if sampled else None,
            block_elements=at_once(PASS_ELEMENTS, rows.y.device),
            **full_pass.load,
        )

    def theta(self, v: torch.Tensor) -> torch.Tensor:
        """Return weights and intercepts."""
        return self._start + self._transform(v)

    def __call__(self, v: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value, shape (n_columns,), and the gradient in v, without that of the kinks, of open columns."""
        value, gradient = self._full_pass.of_open(self.theta(v), active)
        return value, self._transform.rmatvec(gradient)

    @property
    def reported(self) -> torch.Tensor:
        """The value to be reported of the v measured last, shape (n_columns,): of the loss that is smoothed."""
        return self._full_pass.objective

    def look(self, v: torch.Tensor, active: torch.Tensor) -> None:
        """Find the second derivatives of the open columns."""
        if self.curvature is not None and self.loss.is_quadratic:
            return
        (columns,) = active.nonzero(as_tuple=True)  # once, as it keeps an accelerator waiting
        model = self._full_pass.model(self.theta(v))
        n_directions, n_columns = v.shape
        weight, inside = self._full_pass.rows.weight, torch.zeros_like(v)
        shared = self.loss.is_quadratic and (weight is None or weight.shape[1] == 1)
        total = v.new_zeros(1 if shared else n_columns, n_directions, n_directions)
        above = torch.zeros_like(total)
        for block in self._batches:
            for batch in block.batches:
                prediction = model.predict(batch).detach()
                Z = self._transform.rows(batch.X)
                bend = self.loss.hessian(prediction, batch.y).to(Z)
                slope = self.loss.gradient(prediction, batch.y).to(Z)
                majorizer = bend if shared else self.loss.majorizer(prediction, batch.y).to(Z)
                if batch.weight is not None:
                    bend, slope, majorizer = (part * batch.weight for part in (bend, slope, majorizer))
                inside += Z.T @ (slope * (bend > 0))
                if shared:
                    total += sandwich(Z, bend[:, :1])
                else:
                    both = sandwich(Z, torch.cat([bend[:, columns], majorizer[:, columns]], dim=1))
                    total[columns] += both[: len(both) // 2]
                    above[columns] += both[len(both) // 2 :]
        n_rows = self._batches.n_rows
        total, above, inside = self._with_penalty(total / n_rows), above / n_rows, inside / n_rows
        if self.curvature is None:
            self.curvature, self.above, self.inside = total, above, inside
        else:
            self.curvature.matrix[columns], self.above[columns] = total.matrix[columns], above[columns]
            self.inside[:, columns] = inside[:, columns]

    def _with_penalty(self, matrix: torch.Tensor) -> Curvature:
        penalty, weights, n_columns = self._full_pass.penalty, self._transform.weights, self._start.shape[1]
        diagonal = matrix.new_zeros(matrix.shape[1], n_columns)
        if penalty is None:
            return Curvature(matrix, diagonal)
        bend = penalty.l2.expand(len(weights), n_columns)
        if weights.ndim == 1:
            diagonal[: len(weights)] = bend * weights[:, None].square()
            return Curvature(matrix, diagonal)
        wide = torch.nn.functional.pad(weights, (0, matrix.shape[1] - weights.shape[1]))
        return Curvature(matrix + torch.einsum("jq,jk,jr->kqr", wide, bend, wide), diagonal)
