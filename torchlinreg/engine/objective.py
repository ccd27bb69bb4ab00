"""The objective in other variables: value, gradient and second derivatives, each where it is asked for."""

import torch

from torchlinreg.engine.batches import MiniBatches
from torchlinreg.engine.devices import at_once
from torchlinreg.engine.kinks import Curvature
from torchlinreg.engine.moments import weighted_products
from torchlinreg.engine.refinement import PASS_ELEMENTS, FullPass
from torchlinreg.engine.transforms import Transform

CURVATURE_OPERATIONS = 2**31  # multiplications that a look at the curvature may take before it makes do with a sample
MARGIN = 1.1  # of a steepness that is estimated


class Objective:
    """The objective as a function of v, where ``theta = start + T v``; with a kink T is diagonal and the start zero.

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
        self.kink = None
        if penalty is not None and not penalty.is_smooth:
            kink = penalty.kink * transform.weights[:, None]
            self.kink = torch.nn.functional.pad(kink, (0, 0, 0, transform.n_directions - len(kink)))
        curvature = torch.as_tensor(self.loss.curvature, device=start.device).to(start).nan_to_num(nan=1.0)
        self.steepest_of_loss = (MARGIN * curvature).expand(start.shape[1])
        """Bound of the second derivative of the loss in any direction, shape (n_columns,),"""
        self.steepest = self.steepest_of_loss
        """and the same with the penalty."""
        if penalty is not None and transform.weights.ndim == 1:
            self.steepest = self.steepest + (penalty.bend * transform.weights[:, None].square()).amax(0)
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

    def __call__(self, v: torch.Tensor, is_open: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the value, shape (n_columns,), and the gradient in v, without that of the kinks, of open columns."""
        value, gradient = self._full_pass.of_open(self.theta(v), is_open)
        return value, self._transform.pull_back(gradient)

    @property
    def reported(self) -> torch.Tensor:
        """The value to be reported of the v measured last, shape (n_columns,): that of the loss to be smoothed."""
        return self._full_pass.objective

    def look(self, v: torch.Tensor, is_open: torch.Tensor) -> None:
        """Find the second derivatives of the open columns."""
        if self.curvature is not None and self.loss.is_quadratic:
            return
        (columns,) = is_open.nonzero(as_tuple=True)  # once, as it keeps an accelerator waiting
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
                bend = self.loss.bend(prediction, batch.y).to(Z)
                slope = self.loss.slope(prediction, batch.y).to(Z)
                majorant = bend if shared else self.loss.majorant(prediction, batch.y).to(Z)
                if batch.weight is not None:
                    bend, slope, majorant = (part * batch.weight for part in (bend, slope, majorant))
                inside += Z.T @ (slope * (bend > 0))
                if shared:
                    total += weighted_products(Z, bend[:, :1])
                else:
                    both = weighted_products(Z, torch.cat([bend[:, columns], majorant[:, columns]], dim=1))
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
        bend = penalty.bend.expand(len(weights), n_columns)
        if weights.ndim == 1:
            diagonal[: len(weights)] = bend * weights[:, None].square()
            return Curvature(matrix, diagonal)
        wide = torch.nn.functional.pad(weights, (0, matrix.shape[1] - weights.shape[1]))
        return Curvature(matrix + torch.einsum("jq,jk,jr->kqr", wide, bend, wide), diagonal)
