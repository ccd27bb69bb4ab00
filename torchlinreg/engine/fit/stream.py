"""Fits of tables that are read chunk by chunk, or whose sufficient statistics are all that is left of them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from torchlinreg.engine.data.chunks.source import Chunks, ChunkSource, Journal, fold
from torchlinreg.engine.data.chunks.survey import Survey, room_for
from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.data.statistics import SufficientStatistics
from torchlinreg.engine.fit.history import History
from torchlinreg.engine.fit.problem import precondition
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import finish, fit_untuned, solve_convex
from torchlinreg.engine.preconditioning.choose import choose_conditioning
from torchlinreg.engine.runtime.process_group import ProcessGroup
from torchlinreg.engine.runtime.switches import training_mode

ALL_ZERO = "sample_weight must not be all zero: no row would be left to learn from."


def fit_stream(source: MemorySource, settings: Settings, training_state: dict) -> Result:
    """Find the optimum for all rows of a stream, of which these are the latest.

    Parameters
    ----------
    source : MemorySource
        Weights need not have mean one.
    settings : Settings
        With a quadratic loss.
    training_state : dict
        What the last part left behind: the fields of `SufficientStatistics`, if there was one.

    Raises
    ------
    ValueError
        If no row so far had any weight.
    """
    n_features, n_targets = source.shape[1], source.y.shape[1]
    empty = SufficientStatistics.empty(n_features + n_targets)
    statistics = SufficientStatistics(**training_state) if training_state else empty
    statistics = statistics.to(source.y.device).add(source)  # there are more rows than numbers in it
    return fit_statistics(statistics, n_features, settings)


def fit_statistics(statistics: SufficientStatistics, n_features: int, settings: Settings) -> Result:
    """Find the optimum for the rows that sufficient statistics stand for.

    Parameters
    ----------
    statistics : SufficientStatistics
        Kept in the result, as its training state.
    n_features : int
    settings : Settings
        With a quadratic loss.

    Raises
    ------
    ValueError
        If no row has any weight.
    """
    if statistics.weight == 0:
        raise ValueError(ALL_ZERO)
    few, residual_ss = statistics.as_source(n_features, centred=settings.fit_intercept)
    result = fit_untuned(few, settings.for_statistics())
    left_out = 0.5 * settings.loss.lipschitz * residual_ss.sum().item() / statistics.weight
    result.loss_curve = [loss + left_out for loss in result.loss_curve]
    result.training_state = vars(statistics)
    result.needs_double = True
    summed_up = (statistics.n_rows, f"whose sums are in the {len(few)} rows that the following is about")
    result.plan = {"rows": summed_up} | result.plan
    if settings.fit_intercept:
        result.theta = statistics.with_intercept(result.theta)
    if result.optimality_gap is not None:
        result.optimality_gap += statistics.rounding_excess(result.theta, settings.dtype).max().item()
    return result


def survey(
    chunks: Chunks, group: ProcessGroup, nothing: MemorySource, settings: Settings, journal: Journal | None = None
) -> ChunkSource:
    """Go through all chunks once, and return them as a source, with their statistics in untuned mode.

    Parameters
    ----------
    chunks : Chunks
    group : ProcessGroup
    nothing : MemorySource
        No rows, of the kind that the chunks have.
    settings : Settings
    journal : Journal, optional
        Keeps what this pass and later ones find.

    Raises
    ------
    ValueError
        If no row has any weight.
    """
    with training_mode(0, 0, inference=False):
        room = room_for(nothing.shape[1], to_fit=settings.is_untuned and not settings.loss.is_quadratic)
        find = partial(Survey.of, room=room, divisor=chunks.divisor, has_statistics=settings.is_untuned)
        found = fold(chunks, group, find, find(nothing), journal)
    if not found.weight > 0:
        raise ValueError(ALL_ZERO if found.n_rows else "There are no rows: all chunks are empty.")
    return ChunkSource(chunks, group, found, journal=journal)


def fit_chunks(source: ChunkSource, theta: torch.Tensor, settings: Settings, state: dict | None = None) -> Result:
    """Fit rows that are read chunk by chunk, of which a survey has been made.

    Parameters
    ----------
    source : ChunkSource
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets)
        Where textbook mode starts.
    settings : Settings
    state : dict, optional
        What an earlier epoch of textbook mode left behind; the result then has one, too.
    """
    if not settings.is_untuned:
        return fit_textbook(source, theta, settings, state)
    if settings.loss.is_quadratic:
        return fit_statistics(source.survey.statistics, source.shape[1], settings)
    return _fit_convex(source, settings)


def _fit_convex(source: ChunkSource, settings: Settings) -> Result:
    """Find the optimum of any loss: from that of a few rows, by steps that each take a pass over all."""
    history = History(settings)
    with training_mode(0, source.few.factorization_work, inference=settings.backend == "analytic"):
        with history.interruptible(lambda: history.best is not None):
            start = fit_untuned(source.few, replace(settings, after_epoch=_go_on)).theta
            smooth = settings.penalty is None or settings.penalty.is_smooth
            asked = settings.conditioning if smooth or settings.conditioning != "auto" else "scale"
            method = choose_conditioning(asked, source.few, minimum_norm=False)
            problem = precondition(source, settings, "statistics", method)
            problem, solution = solve_convex(problem, problem.encode(start), history, is_warm=True)
            return finish(source.few, problem, solution, history)
        return history.interrupted_result()


def _go_on(epoch: int, loss: float, theta: Callable[[], torch.Tensor]) -> bool:
    return False
