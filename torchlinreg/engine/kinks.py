"""The minimum of a parabola with kinks, and proximal steps with momentum."""

from collections.abc import Callable

import torch

from torchlinreg.engine.penalties import shrink

ACTIVE_SET_ROUNDS = 12
SIGN_ROUNDS = 10  # times the number of directions
TOLERANCE = 1e-11  # of the kinks


def minimum_with_kinks(curvature, offset, kink, u) -> torch.Tensor:
    """Minimise ``u' curvature u / 2 + offset' u + kink' |u|`` in each column, starting from u.

    Guess which entries are zero and the signs of the rest, and solve for these; the solution is the next guess
    (Hintermüller, Ito & Kunisch 2002, "The primal-dual active set strategy as a semismooth Newton method"). That takes
    a few rounds for all columns at once, but may go in circles: such columns are left to a search that cannot.

    Parameters
    ----------
    curvature : torch.Tensor of shape (n_columns or 1, n_directions, n_directions)
    offset, kink, u : torch.Tensor of shape (n_directions, n_columns)
    """
    curvature = curvature.expand(u.shape[1], -1, -1)
    height, slack = curvature.diagonal(dim1=1, dim2=2).T, TOLERANCE * kink.amax(0)
    found, done, guess = u.clone(), torch.zeros(u.shape[1], dtype=torch.bool, device=u.device), u
    for _ in range(ACTIVE_SET_ROUNDS):
        point = guess - (product(curvature, guess) + offset) / height
        sign = torch.where(kink > 0, point.sign() * (point.abs() > kink / height), 0.0)
        active = (sign != 0) | (kink == 0)
        guess = solve_for(active, curvature, -(offset + kink * sign))
        slope = product(curvature, guess) + offset
        right = (guess * sign >= 0) & (active | (slope.abs() <= kink + slack))
        newly = right.all(0) & ~done
        found = torch.where(newly, guess, found)
        done |= newly
        if done.all():
            return found
    for column in (~done).nonzero()[:, 0].tolist():
        found[:, column] = _by_signs(curvature[column], offset[:, column], kink[:, column], u[:, column])
    return found


def _by_signs(curvature, offset, kink, u) -> torch.Tensor:
    """Minimise as `minimum_with_kinks` does, for one column, letting one entry at a time leave zero.

    The objective falls with each round, so that no guess of signs comes twice (Lee, Battle, Raina & Ng 2006,
    "Efficient sparse coding algorithms", feature-sign search).
    """
    slack = TOLERANCE * kink.max()
    sign = torch.where(kink > 0, u.sign(), 0.0)
    for _ in range(SIGN_ROUNDS * len(u)):
        active = (sign != 0) | (kink == 0)
        aim = solve_for(active[:, None], curvature[None], -(offset + kink * sign)[:, None])[:, 0]
        way = aim - u
        crossing = torch.where((u * aim < 0) & (kink > 0), u / -way, 1.0)
        steps = torch.cat([crossing[crossing < 1.0], crossing.new_ones(1)]).unique()
        points = u[:, None] + way[:, None] * steps
        cost = (points * (0.5 * (curvature @ points) + offset[:, None])).sum(0) + kink @ points.abs()
        best = cost.argmin()
        u = torch.where(crossing == steps[best], 0.0, points[:, best]) if steps[best] < 1.0 else aim
        sign = torch.where(kink > 0, u.sign(), 0.0)
        if steps[best] < 1.0:
            continue
        slope = curvature @ u + offset
        excess = torch.where((u == 0) & (kink > 0), slope.abs() - kink, 0.0)
        worst = excess.argmax()
        if excess[worst] <= slack:
            break
        sign[worst] = -slope[worst].sign()
    return u


def product(curvature: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return each matrix, or the only one, times its column."""
    return (curvature @ u.T[..., None])[..., 0].T


def solve_for(active: torch.Tensor, curvature: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solve the equations of the active entries, with the others zero."""
    mask = active.T.to(curvature)
    system = curvature * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1.0 - mask)
    return torch.linalg.solve_ex(system, (right.T * mask)[..., None])[0][..., 0].T


def accelerated(
    slope: Callable,
    kink: torch.Tensor | None,
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
    kink : torch.Tensor, optional
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
        after = after if kink is None else shrink(after, rate * kink)
        step = after - ahead
        uphill = (step * (after - u)).sum(0) < 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1.0 + (1.0 + 4.0 * momentum.square()).sqrt()) / 2.0
        ahead = after + (momentum - 1.0) / following * (after - u)
        u, momentum = after, following
        if enough(step):
            break
    return u
