"""Untuned mode: look at the rows, choose everything, descend by mini-batches, then go down to the optimum."""

from functools import partial

import torch

from torchlinreg.engine.data.batches import MiniBatches
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.fit.history import History, refuse_infinite
from torchlinreg.engine.fit.plan import DESCENT_SHARE, conditioned_entries, descent_entries, step_size, untuned_batch
from torchlinreg.engine.fit.problem import Problem, first_conditioning, precondition, sketches
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.objective.losses import total_loss
from torchlinreg.engine.objective.robust_scale import ScaleSearch
from torchlinreg.engine.optimality.duality_gap import from_start, optimality_gap
from torchlinreg.engine.optimality.rounding import moved_predictions, needs_double, rounding_excess
from torchlinreg.engine.preconditioning.choose import can_be_dense
from torchlinreg.engine.preconditioning.factorizations import EPS
from torchlinreg.engine.runtime.switches import training_mode
from torchlinreg.engine.solvers.full_batch.conjugate_gradient import ConjugateGradient
from torchlinreg.engine.solvers.full_batch.continuation import Continuation
from torchlinreg.engine.solvers.full_batch.working_set import WorkingSet
from torchlinreg.engine.solvers.minibatch.loop import train_epoch
from torchlinreg.engine.solvers.minibatch.optimizers import SGD, PolyakAveraging, Preconditioned, ProximalGradient, Rate
from torchlinreg.engine.solvers.solver import Iterates, Solution, require, run

AIM = 0.5  # share of the tolerance that a solver is content with, as what bounds the minimum is off by something, too
FLOOR = 1e-24  # squared relative error below which nothing is left to gain in float64
ROUNDINGS = 64  # of targets with a standard deviation of one, that a gradient may be wrong by
# Gap to a lower bound that is good enough: the bound itself is hardly tighter,
ENOUGH_OF_BOUNDS = {torch.float32: 1e-8, torch.float64: 1e-10}
ENOUGH_FOR_WIDE = 1e-8  # least of all where there are too many directions for Newton steps to it, or some were dropped


def fit_untuned(source: MemorySource, settings: Settings, start: torch.Tensor | None = None) -> Result:
    """Find the optimum from raw rows, whatever their scales.

    Parameters
    ----------
    source : MemorySource
        In any precision.
    settings : Settings
    start : torch.Tensor of shape (n_features + fit_intercept, n_columns), optional
        Near the optimum, if anybody knows where that is.
    """
    history, method, theta = History(settings), first_conditioning(source, settings), None
    by_working_set = settings.loss.is_quadratic and not settings.is_quadratic
    factorized = 0 if by_working_set or not can_be_dense(source) else source.factorization_work
    with training_mode(0, factorized, inference=settings.backend == "analytic"):
        with history.interruptible(lambda: history.best is not None):
            if by_working_set:
                problem = precondition(source, settings, "columns", "scale")
                solution = solve_sparse(problem, problem.encode(start), history)
                if not solution.stalled:
                    return finish(source, problem, solution, history)
                start = problem.decode(solution.theta)
            for sketch in sketches(source, settings, method):
                problem = precondition(source, settings, sketch, method)
                method = problem.method
                if not problem.is_reliable:
                    continue
                theta = problem.encode(start) if theta is None else theta
                if start is None and sketch != "countsketch":
                    theta = sgd_epoch(problem, theta, history)
                if settings.is_quadratic:
                    solution = solve_quadratic(problem, theta, history)
                else:
                    problem, solution = solve_convex(problem, theta, history, is_warm=start is not None)
                if not (sketch == "subsample" and solution.stalled):
                    break
            return finish(source, problem, solution, history)
        return history.interrupted_result()


def finish(source: MemorySource, problem: Problem, solution: Solution, history: History) -> Result:
    """Return the solution in the units of the data, with what is to be said of it."""
    how = "conjugate gradients, from the true residual each time" if problem.settings.is_quadratic else "Newton steps"
    theta, entries = problem.decode(solution.theta), {"full_passes": (solution.n_passes, how)}
    if history.n_left > 0:
        theta, solution, refinement = problem.refine(source, theta, solution)
        entries |= refinement
    history.plan |= conditioned_entries(problem) | entries
    finished = solution.gap <= solution.resolution.clamp(min=problem.tol)
    gap = solution.gap + _rounding(source, problem, theta, solution.baseline_loss)
    if gap.isnan().any() and not problem.loss.by_autograd:
        raise torch.linalg.LinAlgError("the objective is out of the range of float64")
    return Result(
        theta,
        history.n_steps,
        history.curve,
        converged=bool(finished.all()),
        n_unfinished=int((~finished).sum()),
        optimality_gap=gap.max().item(),
        needs_double=needs_double(source, theta, problem.conditioned.y_scale),
        plan=history.plan,
        scale=problem.scale_in_units,
    )


def sgd_epoch(problem: Problem, theta: torch.Tensor, history: History) -> torch.Tensor:
    """Return where mini-batch SGD with tail averaging ends; the start, if it did not get closer."""
    settings, source, conditioned = problem.settings, problem.source, problem.conditioned
    n_rows, penalty = len(source), problem.penalty
    batch_size = untuned_batch(settings.batch_size, n_rows)
    given = not isinstance(settings.batch_size, str)
    if conditioned.sketch == "gram" and not given:
        history.plan["batch_size"] = (n_rows, "steps of all rows, as their products are known")
        return theta
    if conditioned.sketch == "exact" and not (given and batch_size < n_rows):
        history.plan["batch_size"] = (n_rows, "steps of all rows, as they are few, or wide and sparse")
        return theta
    if problem.loss.by_autograd or not problem.loss.is_smooth or not (penalty is None or penalty.is_smooth):
        history.plan["batch_size"] = (n_rows, "steps of all rows: others do not suit this loss or penalty")
        return theta
    generator = torch.Generator("cpu").manual_seed(settings.seed + 1)
    n_draws = n_rows if given else max(batch_size, n_rows // DESCENT_SHARE)
    batches = source.blocks(batch_size, generator, n_draws)
    rate = step_size(conditioned, batch_size)
    dtype = source.y.dtype
    model = problem.make_model(theta.to(dtype))
    step = Rate(rate / settings.loss.lipschitz)
    optimizer = Preconditioned(SGD(model, step), model, conditioned.transform.to(dtype))
    if penalty is not None:
        optimizer = ProximalGradient(optimizer, model, penalty.to(dtype), conditioned.n_features, step)
    if settings.average:
        optimizer = PolyakAveraging(optimizer, model, burn_in=batches.steps_per_epoch // 2)
    losses = train_epoch(model, problem.loss, optimizer, batches)
    history.n_steps += batches.steps_per_epoch
    found = optimizer.mean if settings.average else model.theta()
    good = _is_closer(problem, found, source.blocks(batch_size, generator, batch_size))
    history.plan |= descent_entries(batches, rate, average=bool(settings.average), good=good)
    theta = found.double() if good else theta
    _record(problem, history, theta, losses)
    return theta


def _is_closer(problem: Problem, theta: torch.Tensor, batches: MiniBatches) -> bool:
    """Whether theta predicts fresh rows better than zeros do."""
    (block,) = batches
    predicted = problem.make_model(theta).predict(block.batches[0])
    _, y, weight = block.rows
    reached, before = (total_loss(problem.loss, p, y, weight) for p in (predicted, torch.zeros_like(predicted)))
    return bool((reached <= before).all())


def solve_quadratic(problem: Problem, theta: torch.Tensor, history: History) -> Solution:
    """Return the solution of a quadratic objective, by conjugate gradients."""
    conditioned, lipschitz = problem.conditioned, problem.loss.lipschitz
    objective, tol = problem.objective(theta), problem.tol
    exact = conditioned.sketch == "exact" and problem.method == "whiten"
    solver = ConjugateGradient(
        tol=tol,
        floor=FLOOR if exact else tol,
        max_iter=history.n_left,
        is_subsampled=conditioned.sketch == "subsample",
        canonical=problem.canonical,
        gap=partial(_gap_of_gradient, problem),
    )
    require(solver, objective.capabilities)
    solution = _follow(problem, history, solver.iterates(objective))
    baseline_loss = 0.5 * lipschitz
    if problem.method == "whiten" or not (can_be_dense(problem.source) and objective.has_hessian):
        resolution = (8 * objective.resolution * conditioned.condition) ** 2
        if problem.penalty is not None and conditioned.row_space is not None:
            resolution = max(resolution, ENOUGH_FOR_WIDE)
        resolution = torch.full_like(solution.gap, resolution)
        return solution._replace(resolution=resolution, baseline_loss=baseline_loss)
    return _certified(problem, solution, torch.full_like(solution.gap, baseline_loss))


def _gap_of_gradient(problem: Problem, gradient: torch.Tensor, smallest_curvature) -> torch.Tensor:
    """Return the gap of a quadratic by its gradient, in units of half the curvature of the loss."""
    transform, penalty, lipschitz = problem.transform, problem.penalty, problem.loss.lipschitz
    gap = transform.rmatvec(gradient / lipschitz).square().sum(0) / smallest_curvature
    if penalty is not None and problem.conditioned.row_space is not None:
        # What the penalty asks for in directions that were taken for none
        rounding = ROUNDINGS * EPS * lipschitz * problem.conditioned.row_space.scale[:, None]
        beyond = (transform.beyond(gradient).abs() - rounding).clamp(min=0)
        gap += (beyond.square() / penalty.l2).nan_to_num(posinf=0.0).sum(0) / lipschitz
    return gap


def solve_sparse(problem: Problem, theta: torch.Tensor, history: History) -> Solution:
    """Return the solution of a quadratic loss with a penalty that is not smooth, by working sets."""
    objective, v = from_start(problem.objective(theta), theta)
    baseline_loss = torch.full_like(v[0], 0.5 * problem.loss.lipschitz)
    solver = WorkingSet(problem.tol * baseline_loss, history.n_left)
    require(solver, objective.capabilities)
    solution = _follow(problem, history, solver.iterates(objective, v))
    if solution.stalled and history.n_left > 0:
        return solution
    return _certified(problem, solution._replace(stalled=False), baseline_loss)


def solve_convex(problem: Problem, theta: torch.Tensor, history: History, *, is_warm: bool) -> tuple:
    """Return the problem, at the scale of its residuals, and its solution, by proximal Newton steps or FISTA."""
    search = None
    if problem.scale is not None:
        search = ScaleSearch(problem.scale, problem.settings.loss.epsilon)
        if is_warm:
            search.begin_at(problem.objective(theta), theta)
            problem = problem.at_scale(search.scale)
            history.change_loss()
    baseline_loss = problem.baseline_loss()
    solution = Solution(theta, torch.zeros_like(baseline_loss), width=torch.zeros_like(baseline_loss))
    while history.n_left > 0:
        objective, v = from_start(problem.objective(solution.theta), solution.theta)
        tol = problem.tol if problem.loss.is_smooth else AIM * problem.tol
        solver = Continuation(baseline_loss, tol, history.n_left, is_warm=solution.n_passes > 0)
        found = _follow(problem, history, solver.iterates(objective, v))
        solution = found._replace(n_passes=solution.n_passes + found.n_passes)
        if search is None or search.update(problem.objective(solution.theta), solution.theta, problem.tol):
            break
        problem = problem.at_scale(search.scale)
        history.change_loss()
    if search is not None:
        baseline_loss = problem.baseline_loss()
    solution = _certified(problem, solution._replace(gap=torch.zeros_like(baseline_loss)), baseline_loss)
    return problem, solution if search is None else solution._replace(gap=solution.gap + search.unsettled)


def _follow(problem: Problem, history: History, iterates: Iterates) -> Solution:
    """Let a solver go to its end, record each pass, and return the solution."""

    def record(iterate) -> None:
        if history.n_left > 0:
            _record(problem, history, iterate.theta, iterate.value)

    solution = run(iterates, record)
    history.n_steps += solution.n_passes
    return solution


def _record(problem: Problem, history: History, theta: torch.Tensor, losses: torch.Tensor) -> None:
    loss = (losses * problem.conditioned.y_scale.square()).sum().item()
    refuse_infinite(problem.settings.loss, loss)
    history.record(loss, partial(problem.decode, theta), problem.scale_in_units)


def _certified(problem: Problem, solution: Solution, baseline_loss: torch.Tensor) -> Solution:
    """Return the solution as the user will have it, with a gap that does not rest on its history."""
    problem, width = problem.in_double(), solution.width
    answer = problem.canonical(solution.theta)
    is_smoothed = width is not None and bool(width.any())
    gap, resolution = optimality_gap(
        problem.objective(answer),
        (lambda multiple: problem.loss.moreau_envelope(multiple * width)) if is_smoothed else None,
        answer,
        solution.theta,
        enough=max(problem.tol, ENOUGH_OF_BOUNDS[problem.settings.dtype]) * baseline_loss,
    )
    has_hessian = problem.objective(answer).has_hessian
    enough = ENOUGH_OF_BOUNDS[problem.settings.dtype] if has_hessian else ENOUGH_FOR_WIDE
    resolution = torch.maximum(resolution, enough * baseline_loss)
    return solution._replace(
        theta=answer,
        gap=gap / baseline_loss,
        resolution=resolution / baseline_loss,
        baseline_loss=baseline_loss,
    )


def _rounding(source: MemorySource, problem: Problem, theta: torch.Tensor, baseline_loss) -> torch.Tensor:
    """Return what rounding theta, in the units of the data, to the precision of `coef_` adds to the gap."""
    settings = problem.settings
    if settings.dtype == torch.float64:
        return torch.zeros_like(theta[0])
    rounded = theta.to(settings.dtype).double()
    if not settings.is_quadratic:
        both = (problem.encode(each) for each in (theta, rounded))
        return rounding_excess(problem.objective(problem.encode(theta)), *both) / baseline_loss
    # At the minimum a quadratic rises by nothing but its curvature
    excess = 0.5 * problem.loss.lipschitz * moved_predictions(source, rounded - theta)
    if settings.penalty is not None:
        excess = excess + settings.penalty.value((rounded - theta)[: source.shape[1]])
    return excess / problem.conditioned.y_scale.square() / baseline_loss
