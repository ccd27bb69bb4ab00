"""The minimum of a parabola with kinks, and proximal steps with momentum."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchlinreg.engine.objective.penalties import soft_threshold

ACTIVE_SET_ROUNDS = 6
APPROACHES = (0, 100, 300, 400, 800)  # proximal steps taken before the guesses begin, and begin again
MANY_DIRECTIONS = 256  # from which on a first guess without any step would name far too many
FEW_COLUMNS = 8  # of so few directions, that are sooner searched one by one than brought nearer by small steps
SIGN_ROUNDS = 10  # times the number of directions
POWER_ITERATIONS = 30
MARGIN = 1.1  # of a steepness that is estimated
TOLERANCE = 1e-11  # of the slopes that are weighed against each other
SYSTEM_ELEMENTS = 2**24  # numbers in the systems of equations that are solved at once


@dataclass(frozen=True)
class Curvature:
    """The second derivatives of a parabola in each column: a matrix, which all may share, and a diagonal.

    Attributes
    ----------
    matrix : torch.Tensor of shape (n_columns or 1, n_directions, n_directions)
    diagonal : torch.Tensor of shape (n_directions, n_columns)
        Added to it.
    """

    matrix: torch.Tensor
    diagonal: torch.Tensor

    def __matmul__(self, u: torch.Tensor) -> torch.Tensor:
        of_matrix = self.matrix[0] @ u if len(self.matrix) == 1 else (self.matrix @ u.T[..., None])[..., 0].T
        return of_matrix + self.diagonal * u

    @property
    def height(self) -> torch.Tensor:
        """Second derivatives along each direction, shape (n_directions, n_columns)."""
        return self.matrix.diagonal(dim1=1, dim2=2).T + self.diagonal

    def select(self, columns: torch.Tensor) -> "Curvature":
        """Return those of some of the columns, a number for each."""
        return Curvature(self.matrix if len(self.matrix) == 1 else self.matrix[columns], self.diagonal[:, columns])

    def with_diagonal(self, more: torch.Tensor) -> "Curvature":
        """Return the curvature with more on the diagonal."""
        return Curvature(self.matrix, self.diagonal + more)

    def whole(self) -> torch.Tensor:
        """Return matrices with their diagonals, shape (n_columns, n_directions, n_directions)."""
        return self.matrix + torch.diag_embed(self.diagonal.T)

    def solve(self, right: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        """Solve ``self @ u = right`` for the active entries, with the others zero, all of the shape of u."""
        n_active = active.sum(0)
        u, size = torch.zeros_like(right), int(n_active.max())
        if size == 0:
            return u
        # The active entries come first
        order = active.to(torch.uint8).argsort(dim=0, descending=True, stable=True)[:size]
        inside = (torch.arange(size, device=u.device)[:, None] < n_active).to(u)
        columns = torch.arange(u.shape[1], device=u.device)
        for some in columns.split(max(1, SYSTEM_ELEMENTS // size**2)):
            of, mask = order[:, some], inside[:, some]
            of_column = 0 if len(self.matrix) == 1 else some[:, None, None]
            system = self.matrix[of_column, of.T[:, :, None], of.T[:, None, :]]
            system *= mask.T[:, :, None] * mask.T[:, None, :]
            system += torch.diag_embed((mask * self.diagonal[:, some].gather(0, of) + (1.0 - mask)).T)
            solution = torch.linalg.solve_ex(system, (right[:, some].gather(0, of) * mask).T[..., None])[0]
            u[:, some] = u[:, some].scatter(0, of, solution[..., 0].T * mask)
        return u


def minimum_with_kinks(curvature: Curvature, offset: torch.Tensor, l1: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Minimise ``u' curvature u / 2 + offset' u + l1' |u|`` in each column, starting from u.

    Guess which entries are zero and the signs of the rest, and solve for these; the solution is the next guess
    (Hintermüller, Ito & Kunisch 2002, "The primal-dual active set strategy as a semismooth Newton method"). That takes
    a few rounds for all columns at once, but may go in circles. From nearer by, where proximal steps have led, it does
    less often; columns for which it still does are left to a search that cannot.

    Parameters
    ----------
    curvature : Curvature
    offset, l1, u : torch.Tensor of shape (n_directions, n_columns)
    """
    found, left, near = u.clone(), torch.arange(u.shape[1], device=u.device), u
    for n_steps in APPROACHES[len(u) > MANY_DIRECTIONS :]:
        if n_steps and len(left) <= FEW_COLUMNS and len(u) <= MANY_DIRECTIONS:
            break  # to be searched one by one
        if n_steps:
            near = _approach(curvature.select(left), offset[:, left], l1[:, left], near, n_steps)
        guess, guessed = near, left
        for _ in range(ACTIVE_SET_ROUNDS):
            guess, right = _guess(curvature.select(guessed), offset[:, guessed], l1[:, guessed], guess)
            found[:, guessed[right]] = guess[:, right]
            guess, guessed = guess[:, ~right], guessed[~right]
            if not len(guessed):
                return found
        near, left = near[:, torch.isin(left, guessed)], guessed
    for column in left.tolist():
        one = left.new_tensor([column])
        part = curvature.select(one), offset[:, one], l1[:, one]
        # From the solution for the column before, if that is closer: on a path of penalties it differs by little
        starts = torch.cat([u[:, one], found[:, max(0, column - 1), None]], dim=1)
        found[:, one] = _by_signs(*part, starts[:, [_cost(*part, starts).argmin()]])
    return found


def _cost(curvature: Curvature, offset, l1, points: torch.Tensor) -> torch.Tensor:
    """Return what is minimised, for one column at several points, shape (n_points,)."""
    return (points * (0.5 * (curvature @ points) + offset) + l1 * points.abs()).sum(0)


def _guess(curvature: Curvature, offset, l1, u) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the solution for the signs that u suggests, and the columns in which they are right."""
    height = curvature.height
    point = u - (curvature @ u + offset) / height
    sign = torch.where(l1 > 0, point.sign() * (point.abs() > l1 / height), 0.0)
    active = (sign != 0) | (l1 == 0)
    u = curvature.solve(-(offset + l1 * sign), active)
    slope = curvature @ u + offset
    right = (u * sign >= 0) & (active | (slope.abs() <= l1 + TOLERANCE * (l1 + offset.abs())))
    return u, right.all(0)


def _approach(curvature: Curvature, offset, l1, u, n_steps: int) -> torch.Tensor:
    """Take that many accelerated proximal steps."""
    generator = torch.Generator("cpu").manual_seed(0)
    direction = torch.randn(u.shape, generator=generator, dtype=u.dtype, device="cpu").to(u.device)
    for _ in range(POWER_ITERATIONS):
        direction = curvature @ (direction / torch.linalg.vector_norm(direction, dim=0))
    rate = 1.0 / (MARGIN * torch.linalg.vector_norm(direction, dim=0))
    return accelerated(lambda u: curvature @ u + offset, l1, rate, u, n_steps, lambda step: False)


def _by_signs(curvature: Curvature, offset, l1, u) -> torch.Tensor:
    """Minimise as `minimum_with_kinks` does, for one column, letting one entry at a time leave zero.

    The objective falls with each round, so that no guess of signs comes twice (Lee, Battle, Raina & Ng 2006,
    "Efficient sparse coding algorithms", feature-sign search).
    """
    slack = TOLERANCE * (l1 + offset.abs())
    sign = torch.where(l1 > 0, u.sign(), 0.0)
    for _ in range(SIGN_ROUNDS * len(u)):
        aim = curvature.solve(-(offset + l1 * sign), (sign != 0) | (l1 == 0))
        way = aim - u
        crossing = torch.where((u * aim < 0) & (l1 > 0), u / -way, 1.0)
        steps = torch.cat([crossing[crossing < 1.0], crossing.new_ones(1)]).unique()
        points = u + way * steps
        best = _cost(curvature, offset, l1, points).argmin()
        u = torch.where(crossing == steps[best], 0.0, points[:, [best]]) if steps[best] < 1.0 else aim
        sign = torch.where(l1 > 0, u.sign(), 0.0)
        if steps[best] < 1.0:
            continue
        slope = curvature @ u + offset
        excess = torch.where((u == 0) & (l1 > 0), slope.abs() - l1 - slack, 0.0)
        worst = excess.argmax()
        if excess[worst] <= 0:
            break
        sign[worst] = -slope[worst].sign()
    return u


def accelerated(
    slope: Callable,
    l1: torch.Tensor | None,
    rate: torch.Tensor,
    u: torch.Tensor,
    max_iter: int,
    enough: Callable[[torch.Tensor], bool],
) -> torch.Tensor:
    """Take proximal steps with momentum, which starts anew when it leads uphill.

    Parameters
    ----------
    slope : callable (u) -> torch.Tensor
        Of the smooth part of what is minimised.
    l1 : torch.Tensor, optional
        Slope of the rest on either side of zero.
    rate : torch.Tensor of shape (n_columns,)
        Length of the steps.
    u : torch.Tensor of shape (n_directions, n_columns)
        The start.
    max_iter : int
    enough : callable (step) -> bool
        Asked after each step.

    References
    ----------
    Beck & Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm for linear inverse problems";
    O'Donoghue & Candès (2015), "Adaptive restart for accelerated gradient schemes".
    """
    ahead, momentum = u, torch.ones_like(rate)
    for _ in range(max_iter):
        after = ahead - rate * slope(ahead)
        after = after if l1 is None else soft_threshold(after, rate * l1)
        step = after - ahead
        uphill = (step * (after - u)).sum(0) < 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1.0 + (1.0 + 4.0 * momentum.square()).sqrt()) / 2.0
        ahead = after + (momentum - 1.0) / following * (after - u)
        u, momentum = after, following
        if enough(step):
            break
    return u
