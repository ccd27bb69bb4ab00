"""Untuned mode on a stream: least squares of all rows seen, from their sufficient statistics."""

from torchlinreg.engine.data.source import MemorySource
from torchlinreg.engine.data.statistics import SufficientStatistics
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.untuned import fit_untuned


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
    if statistics.weight == 0:
        raise ValueError("sample_weight must not be all zero: no row would be left to learn from.")
    few, residual_ss = statistics.as_source(n_features, centred=settings.fit_intercept)
    result = fit_untuned(few, settings.for_statistics())
    left_out = 0.5 * settings.loss.lipschitz * residual_ss.sum().item() / statistics.weight
    result.loss_curve = [loss + left_out for loss in result.loss_curve]
    result.training_state = vars(statistics)
    result.needs_double = True
    if settings.fit_intercept:
        result.theta = statistics.with_intercept(result.theta)
    if result.optimality_gap is not None:
        result.optimality_gap += statistics.rounding_excess(result.theta, settings.dtype).max().item()
    return result
