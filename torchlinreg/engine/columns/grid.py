"""Many models of folds of the same rows at once: each setting is a column, and each fold a matrix of them.

The folds that cross-validation trains on share most of their rows. Where the objective is a squared loss these are
reduced once, in groups of rows that are always together, to sufficient statistics; a fold is then a few rows, and one
orthogonal factorisation of these serves every penalty. Other losses go through the rows of each fold themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from torchlinreg.engine.data.batches import Batch
from torchlinreg.engine.data.reductions import Sums
from torchlinreg.engine.data.source import NO_WEIGHT, MemorySource
from torchlinreg.engine.data.statistics import SufficientStatistics
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.preconditioning.choose import WHITEN_FEATURES
from torchlinreg.engine.runtime.devices import carry, widest
from torchlinreg.engine.runtime.switches import training_mode
from torchlinreg.engine.solvers.minibatch.loop import DivergedError

HESSIAN_ELEMENTS = 2**24  # numbers in the Hessians of columns that are fitted at once
ALWAYS_REDUCED = 128  # columns, of features and targets, that statistics are cheap for
BLOCK_ELEMENTS = 2**20  # numbers computed with at once


@dataclass
class Columns:
    """What the models of a fold have learnt.

    Attributes
    ----------
    theta : torch.Tensor of shape (n_features + fit_intercept, n_targets, n_models)
        In the units of the data; NaN for models that diverged.
    n_unfinished : int
        How many, of any target, did not meet the criterion of their training.
    n_epochs : int
        Of those that took longest.
    optimality_gap : float or None
        Of the worst.
    plan : dict
        Of the latest fit.
    """

    theta: torch.Tensor
    n_unfinished: int = 0
    n_epochs: int = 0
    optimality_gap: float | None = None
    plan: dict = field(default_factory=dict)

    def record(self, result: Result, *place) -> None:
        """Record the result of a training, for these targets and models.

        Raises
        ------
        KeyboardInterrupt
            If it was interrupted.
        """
        if result.interrupted:
            raise KeyboardInterrupt
        self.theta[:, *place] = carry(result.theta, self.theta.device, self.theta.dtype)
        self.n_unfinished += result.n_unfinished
        self.plan = result.plan
        self.n_epochs = max(self.n_epochs, len(result.loss_curve))
        if result.optimality_gap is not None:
            self.optimality_gap = max(self.optimality_gap or 0.0, result.optimality_gap)


class Grid:
    """Rows of which many models are to learn, each from a fold.

    Parameters
    ----------
    source : MemorySource
    settings : Settings
        With numbers for each model: a penalty of `n_models` columns, and maybe rates and momenta.
    n_models : int
    folds : sequence of torch.Tensor
        The numbers of the rows of each fold that are trained on.
    """

    def __init__(self, source: MemorySource, settings: Settings, n_models: int, folds: Sequence[torch.Tensor]):
        self.source, self.settings = source, settings
        self.models = torch.arange(n_models, device=source.y.device)
        with self._few_threads():
            self._groups = self._reduce(folds) if self._pays(len(folds)) else None

    def fit(
        self,
        fold: torch.Tensor | None = None,
        warm_start: torch.Tensor | None = None,
        models: torch.Tensor | None = None,
    ) -> Columns:
        """Fit models to a fold, or to all rows.

        Parameters
        ----------
        fold : torch.Tensor, optional
            One of the folds.
        warm_start : torch.Tensor of shape (n_features + fit_intercept, n_targets, n_models), optional
            Near the optimum, if anybody knows where that is; of no use where there are sufficient statistics.
        models : torch.Tensor, optional
            The numbers of some of the models.

        Raises
        ------
        ValueError
            If no row of the fold has any weight.
        """
        models = self.models if models is None else models.to(self.models)
        settings = self.settings.select(models)
        if self._groups is None:
            source = self.source if fold is None else self.source.fold(fold)
            return fit_models(source, settings, len(models), warm_start)
        with self._few_threads():
            return self._fit(fold, settings, len(models))

    def _fit(self, fold: torch.Tensor | None, settings: Settings, n_models: int) -> Columns:
        """Fit models to the sufficient statistics of a fold."""
        statistics, n_features = self._merge(fold), self.source.shape[1]
        few, _ = statistics.as_source(n_features, centred=settings.fit_intercept)
        found = fit_models(few, settings.for_statistics(), n_models)
        if settings.fit_intercept:
            found.theta = statistics.with_intercept(found.theta)
        if found.optimality_gap is not None:
            rounding = statistics.rounding_excess(found.theta, settings.dtype)
            found.optimality_gap += rounding.nan_to_num().max().item()
        return found

    def _few_threads(self):
        """Return a context in which little work is left to one thread."""
        return training_mode(0, self.source.factorization_work, inference=False)

    def _pays(self, n_folds: int) -> bool:
        """Whether sufficient statistics answer for these models, and cost less than passes over the rows."""
        settings, (n_rows, n_features) = self.settings, self.source.shape
        if not (settings.is_untuned and settings.loss.is_quadratic):
            return False
        size = n_features + self.source.y.shape[1]
        density = self.source.X.n_stored / (n_rows * n_features)
        return size <= min(WHITEN_FEATURES, max(ALWAYS_REDUCED, 2 * n_folds * len(self.models) * density))

    def _reduce(self, folds: Sequence[torch.Tensor]) -> list[tuple[int, SufficientStatistics]] | None:
        """Reduce groups of rows that are always together, and name one row of each; None if there are no few."""
        # Rows in the same folds have the same key, a sum of random numbers for these
        key = torch.zeros(len(self.source), dtype=torch.int64, device="cpu")
        generator = torch.Generator("cpu").manual_seed(0)
        for fold in folds:
            times = fold.bincount(minlength=len(key))
            if times.max() > 1:
                return None
            key += times * torch.randint(2**62, (1,), generator=generator, device="cpu")
        order = key.argsort(stable=True)
        sizes = key[order].unique_consecutive(return_counts=True)[1].tolist()
        if len(sizes) > 2 * len(folds) + 2:
            return None
        groups = [(group[0].item(), SufficientStatistics.of(self.source.rows(group))) for group in order.split(sizes)]
        if not all(torch.linalg.vector_norm(statistics.factor, dim=0).isfinite().all() for _, statistics in groups):
            return None  # numbers whose squares overflow
        return groups

    def _merge(self, fold: torch.Tensor | None) -> SufficientStatistics:
        """Return the statistics of a fold, or of all rows."""
        inside = torch.ones(len(self.source), dtype=torch.bool, device="cpu")
        if fold is not None:
            inside.zero_()[fold] = True
        chosen = inside[[first for first, _ in self._groups]].tolist()
        merged = [statistics for (_, statistics), here in zip(self._groups, chosen, strict=True) if here]
        statistics = SufficientStatistics.merge_all(merged)
        if statistics.weight == 0:
            raise ValueError(NO_WEIGHT)
        return statistics


def fit_models(
    source: MemorySource, settings: Settings, n_models: int, warm_start: torch.Tensor | None = None
) -> Columns:
    """Fit many models to the same rows.

    Parameters
    ----------
    source : MemorySource
        For one model of each target.
    settings : Settings
        With numbers for each model.
    n_models : int
    warm_start : torch.Tensor of shape (n_features + fit_intercept, n_targets, n_models), optional
        Near the optimum, if anybody knows where that is.
    """
    y = source.y
    models, n_targets = torch.arange(n_models, device=y.device), y.shape[1]
    shape = source.shape[1] + settings.fit_intercept, n_targets, n_models
    found = Columns(torch.full(shape, torch.nan, device=y.device, dtype=widest(y.device)))
    targets = [replace(source, y=y[:, target : target + 1]) for target in range(n_targets)]
    if settings.is_untuned and settings.loss.mixes_targets:
        for model in models:
            start = None if warm_start is None else warm_start[..., model]
            found.record(fit_untuned(source, settings.select(model[None]), start), slice(None), model)
    elif settings.is_untuned:
        for group in _together(settings, models, source.shape[1]):
            for target, part in enumerate(targets):
                start = None if warm_start is None else warm_start[:, target, group]
                part = replace(part, n_models=len(group))
                found.record(fit_untuned(part, settings.select(group), start), target, group)
    elif must_train_separately(settings):
        for model in models:
            _train(source, settings, model[None], found, slice(None))
    else:
        for target, part in enumerate(targets):
            _train(part, settings, models, found, target)
    return found


def _together(settings: Settings, models: torch.Tensor, n_features: int) -> Iterator[torch.Tensor]:
    """Yield the models that can be fitted untuned at once."""
    penalty = settings.penalty
    if penalty is None:
        yield models
        return
    # Those without a penalty are to be the smallest of all answers, which others are by themselves
    is_free = penalty.is_free.expand(len(models))
    share_hessian = settings.loss.is_quadratic
    size = len(models) if share_hessian else max(1, HESSIAN_ELEMENTS // (n_features + 1) ** 2)
    for chosen in (models[~is_free], models[is_free]):
        if len(chosen):
            yield from chosen.split(size)


def must_train_separately(settings: Settings) -> bool:
    """Whether models look at all targets, stop when they like, or take steps in which torch may mix them."""
    on_plateaus = settings.schedule is not None and settings.schedule.reduces_on_plateau
    stops = on_plateaus or settings.tol not in ("auto", None)
    return settings.loss.mixes_targets or stops or settings.optimizer != "sgd" or bool(settings.optimizer_params)


def _train(source: MemorySource, settings: Settings, models: torch.Tensor, found: Columns, target: int | slice) -> None:
    """Train these models in textbook mode; those that diverge leave, and the others begin again."""
    while len(models):
        source = replace(source, n_models=len(models))
        start = source.y.new_zeros(len(found.theta), source.n_columns)
        try:
            result = fit_textbook(source, start, settings.select(models))
        except DivergedError as diverged:
            models = models[~diverged.columns] if len(models) > 1 else models[:0]
            continue
        found.record(result, target, models if isinstance(target, int) else models[0])
        return


def squared_errors(source: MemorySource, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted means over the rows of the squared errors, and of the targets' squares about their mean.

    Parameters
    ----------
    source : MemorySource
    theta : torch.Tensor of shape (n_theta, n_targets, n_models)

    Returns
    -------
    errors : torch.Tensor of shape (n_targets, n_models)
    squares : torch.Tensor of shape (n_targets,)
    """
    y = source.y.to(theta)
    weight = y.new_ones(len(y), 1) if source.weight is None else source.weight.to(theta)
    weight = weight / weight.sum()
    squares = (weight * (y - (weight * y).sum(0)).square()).sum(0)
    block_rows = max(1, BLOCK_ELEMENTS // max(1, source.X.mean_nnz, theta[0].numel()))
    return replace(source, y=y, weight=weight).reduce(SquaredErrors(theta), block_rows).total, squares


class SquaredErrors(Sums):
    """Reduction: the weighted sums of squared errors of many models of each target.

    Parameters
    ----------
    theta : torch.Tensor of shape (n_theta, n_targets, n_models)

    Attributes
    ----------
    total : torch.Tensor of shape (n_targets, n_models)
    """

    SUMMED = ("total",)

    def __init__(self, theta: torch.Tensor):
        self._theta, self.total = theta, torch.zeros_like(theta[0])

    def update(self, block: Batch) -> None:
        """Add the squared errors of a block."""
        theta, n = self._theta, block.X.shape[1]
        predicted = block.X.to(theta).matmul(theta[:n].flatten(1)).view(-1, *self.total.shape)
        error = predicted.add_(theta[n:].sum(0)).sub_(block.y[:, :, None])
        self.total += (block.weight.t() @ error.square_().flatten(1)).view_as(self.total)
