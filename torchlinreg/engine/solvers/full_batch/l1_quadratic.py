"""The minimum of a quadratic with a separable penalty that is not smooth at zero, in each column."""

import torch

from torchlinreg.engine.preconditioning.factorizations import largest_eigenvalues
from torchlinreg.engine.solvers.full_batch.fista import Momentum

ACTIVE_SET_ROUNDS = 6
APPROACHES = (0, 100, 300, 400, 800)  # proximal steps taken before the guesses begin, and begin again
MANY_DIRECTIONS = 256  # from which on a first guess without any step would name far too many
FEW_COLUMNS = 8  # of so few directions, that are sooner searched one by one than brought nearer by small steps
SIGN_ROUNDS = 10  # times the number of directions
POWER_ITERATIONS = 30
MARGIN = 1.1  # of an eigenvalue that is estimated
TOLERANCE = 1e-11  # of the numbers that optimality conditions weigh against each other


def solve_l1_quadratic(hessian, linear: torch.Tensor, nonsmooth, u: torch.Tensor) -> torch.Tensor:
    """Minimise ``uᵀ H u / 2 + linearᵀ u + h(u)`` in each column, starting from u.

    Guess which entries are zero and the derivative of h at the rest, and solve for these; the solution is the next
    guess (Hintermüller, Ito & Kunisch 2002, "The primal-dual active set strategy as a semismooth Newton method"). That
    takes a few rounds for all columns at once, but may cycle. Closer to the minimum, where proximal steps have led, it
    does so less often; columns for which it still does are left to a search that cannot.

    Parameters
    ----------
    hessian : Hessian
        H.
    linear, u : torch.Tensor of shape (n_directions, n_columns)
    nonsmooth : Penalty
        h.
    """
    found, left, start = u.clone(), torch.arange(u.shape[1], device=u.device), u
    for n_steps in APPROACHES[1:] if len(u) > MANY_DIRECTIONS else APPROACHES:
        if n_steps and len(left) <= FEW_COLUMNS and len(u) <= MANY_DIRECTIONS:
            break  # to be searched one by one
        if n_steps:
            start = _approach(hessian.select(left), linear[:, left], nonsmooth.select(left), start, n_steps)
        guess, guessed = start, left
        for _ in range(ACTIVE_SET_ROUNDS):
            part = hessian.select(guessed), linear[:, guessed], nonsmooth.select(guessed)
            guess, is_right = _guess(*part, guess)
            found[:, guessed[is_right]] = guess[:, is_right]
            guess, guessed = guess[:, ~is_right], guessed[~is_right]
            if not len(guessed):
                return found
        start, left = start[:, torch.isin(left, guessed)], guessed
    for column in left.tolist():
        one = left.new_tensor([column])
        part = hessian.select(one), linear[:, one], nonsmooth.select(one)
        # From the solution for the column before, if that is closer: on a path of penalties it differs by little
        starts = torch.cat([u[:, one], found[:, max(0, column - 1), None]], dim=1)
        found[:, one] = feature_sign_search(*part, starts[:, [_values(*part, starts).argmin()]])
    return found


def _values(hessian, linear, nonsmooth, points: torch.Tensor) -> torch.Tensor:
    """Return what is minimised, for one column at several points, shape (n_points,)."""
    return (points * (0.5 * (hessian @ points) + linear) + nonsmooth.terms(points)).sum(0)


def _guess(hessian, linear, nonsmooth, u) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the solution for the active set that u suggests, and the columns in which it is right."""
    curvature = hessian.diagonal
    point = nonsmooth.prox(u - (hessian @ u + linear) / curvature, 1.0 / curvature)
    active, derivative = nonsmooth.is_differentiable(point), nonsmooth.derivative(point)
    u = hessian.solve(-(linear + derivative), active)
    as_guessed = (u == 0) | (nonsmooth.is_differentiable(u) & (nonsmooth.derivative(u) == derivative))
    at_zero = nonsmooth.subdifferential_distance(torch.zeros_like(u), hessian @ u + linear).abs()
    is_right = torch.where(active, as_guessed, at_zero <= TOLERANCE * (linear.abs() + nonsmooth.l1))
    return u, is_right.all(0)


def _approach(hessian, linear, nonsmooth, u, n_steps: int) -> torch.Tensor:
    """Take that many steps of FISTA."""
    largest = largest_eigenvalues(lambda direction: hessian @ direction, u, POWER_ITERATIONS)
    step_size = 1.0 / (MARGIN * largest)
    momentum = Momentum(u, nonsmooth.prox, step_size)
    for _ in range(n_steps):
        momentum.step(hessian @ momentum.ahead + linear, step_size)
    return momentum.u


def feature_sign_search(hessian, linear, nonsmooth, u) -> torch.Tensor:
    """Minimise as `solve_l1_quadratic` does, for one column, letting one entry at a time leave zero.

    The objective falls with each round, so that no active set comes twice (Lee, Battle, Raina & Ng 2006, "Efficient
    sparse coding algorithms").
    """
    tolerance = TOLERANCE * (linear.abs() + nonsmooth.l1)
    active, derivative = nonsmooth.is_differentiable(u), nonsmooth.derivative(u)
    has_kink = ~nonsmooth.is_differentiable(torch.zeros_like(u))
    for _ in range(SIGN_ROUNDS * len(u)):
        minimum = hessian.solve(-(linear + derivative), active)
        way = minimum - u
        crossing = torch.where((u * minimum < 0) & has_kink, u / -way, 1.0)
        steps = torch.cat([crossing[crossing < 1.0], crossing.new_ones(1)]).unique()
        points = u + way * steps
        # Entries that cross zero on the way are zero there, whatever rounding says
        points = torch.where((crossing == steps) & has_kink & (steps < 1.0), 0.0, points)
        best = _values(hessian, linear, nonsmooth, points).argmin()
        u = points[:, [best]] if steps[best] < 1.0 else minimum
        active, derivative = nonsmooth.is_differentiable(u), nonsmooth.derivative(u)
        if steps[best] < 1.0:
            continue
        gradient = hessian @ u + linear
        excess = nonsmooth.subdifferential_distance(u, gradient).abs() - tolerance
        excess = torch.where((u == 0) & has_kink, excess, 0.0)
        worst = excess.argmax()
        if excess[worst] <= 0:
            break
        active[worst], derivative[worst] = True, nonsmooth.derivative(-gradient)[worst]
    return u
