"""Many models of parts of one table at once: each setting is a column, and each part of the table a matrix of them.

The parts that cross-validation trains on share most of their rows. Where the loss is a square these are summarised
once, in blocks of rows that always go together, by triangular factors; a part is then a few rows, and one
orthogonal factorisation of these serves every penalty. Other losses go through the rows of each part themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from torchlinreg.engine.data.batches import NO_WEIGHT, Rows
from torchlinreg.engine.fit.settings import Fit, Settings
from torchlinreg.engine.fit.stream import SufficientStatistics, for_few
from torchlinreg.engine.fit.textbook import fit_textbook
from torchlinreg.engine.fit.untuned import fit_untuned
from torchlinreg.engine.preconditioning.conditioning import WHITEN_FEATURES
from torchlinreg.engine.runtime.devices import carry, widest
from torchlinreg.engine.solvers.minibatch.loop import DivergedError

CURVATURE_ELEMENTS = 2**24  # numbers in the matrices of curvature of columns that are fitted at once
ALWAYS_SUMMARISED = 128  # columns, of features and targets, that a summary is cheap for
PIECE_ELEMENTS = 2**20  # numbers computed with at once


@dataclass
class Columns:
    """What the models of a part have learnt.

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

    def enter(self, fit: Fit, *place) -> None:
        """Take the outcome of a fit, for these targets and models, into account.

        Raises
        ------
        KeyboardInterrupt
            If it was interrupted.
        """
        if fit.interrupted:
            raise KeyboardInterrupt
        self.theta[:, *place] = carry(fit.theta, self.theta.device, self.theta.dtype)
        self.n_unfinished += fit.n_unfinished
        self.plan = fit.plan
        self.n_epochs = max(self.n_epochs, len(fit.loss_curve))
        if fit.optimality_gap is not None:
            self.optimality_gap = max(self.optimality_gap or 0.0, fit.optimality_gap)


class Grid:
    """A table, parts of which many models are to learn from.

    Parameters
    ----------
    rows : Rows
    settings : Settings
        With numbers for each model: a penalty of `n_models` columns, and maybe rates and momenta.
    n_models : int
    parts : sequence of torch.Tensor
        The numbers of the rows of each part.
    """

    def __init__(self, rows: Rows, settings: Settings, n_models: int, parts: Sequence[torch.Tensor]):
        self.rows, self.settings = rows, settings
        self.models = torch.arange(n_models, device=rows.y.device)
        self._blocks = self._summarise(parts) if self._pays(len(parts)) else None

    def fit(
        self,
        part: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
        models: torch.Tensor | None = None,
    ) -> Columns:
        """Fit models to a part of the table, or to all of it.

        Parameters
        ----------
        part : torch.Tensor, optional
            One of the parts.
        start : torch.Tensor of shape (n_features + fit_intercept, n_targets, n_models), optional
            Near the optimum, if anybody knows where that is; of no use where the table is summarised.
        models : torch.Tensor, optional
            The numbers of some of the models.

        Raises
        ------
        ValueError
            If no row of the part has any weight.
        """
        models = self.models if models is None else models.to(self.models)
        settings = self.settings.select(models)
        if self._blocks is None:
            rows = self.rows if part is None else self.rows.take(part)
            return fit_models(rows, settings, len(models), start)
        summary, n_features = self._join(part), self.rows.X.shape[1]
        few, _ = summary.rows(n_features, centred=settings.fit_intercept)
        found = fit_models(few, for_few(settings), len(models))
        if settings.fit_intercept:
            found.theta = summary.with_intercept(found.theta)
        if found.optimality_gap is not None:
            found.optimality_gap += summary.rise(found.theta, settings.dtype).nan_to_num().max().item()
        return found

    def _pays(self, n_parts: int) -> bool:
        """Whether summaries answer for these models, and cost less than passes over the rows."""
        settings, (n_rows, n_features) = self.settings, self.rows.X.shape
        if not (isinstance(settings.learning_rate, str) and settings.loss.is_quadratic):
            return False
        size = n_features + self.rows.y.shape[1]
        density = self.rows.X.numel() / (n_rows * n_features)
        return size <= min(WHITEN_FEATURES, max(ALWAYS_SUMMARISED, 2 * n_parts * len(self.models) * density))

    def _summarise(self, parts: Sequence[torch.Tensor]) -> list[tuple[int, SufficientStatistics]] | None:
        """Summarise blocks of rows that are always together, and name one row of each; None if there are no few."""
        # Rows in the same parts have the same key, a sum of random numbers for these
        key = torch.zeros(len(self.rows), dtype=torch.int64, device="cpu")
        generator = torch.Generator("cpu").manual_seed(0)
        for part in parts:
            times = part.bincount(minlength=len(key))
            if times.max() > 1:
                return None
            key += times * torch.randint(2**62, (1,), generator=generator, device="cpu")
        order = key.argsort(stable=True)
        sizes = key[order].unique_consecutive(return_counts=True)[1].tolist()
        if len(sizes) > 2 * len(parts) + 2:
            return None
        blocks = []
        for block in order.split(sizes):
            summary = SufficientStatistics.empty(self.rows.X.shape[1] + self.rows.y.shape[1], self.rows.y.device)
            summary.add(self.rows.with_tables(lambda table, block=block: table.index_select(0, block.to(table.device))))
            blocks.append((block[0].item(), summary))
        if not all(torch.linalg.vector_norm(summary.factor, dim=0).isfinite().all() for _, summary in blocks):
            return None  # numbers whose squares overflow
        return blocks

    def _join(self, part: torch.Tensor | None) -> SufficientStatistics:
        """Return the summary of a part of the rows, or of all."""
        inside = torch.ones(len(self.rows), dtype=torch.bool, device="cpu")
        if part is not None:
            inside.zero_()[part] = True
        chosen = inside[[first for first, _ in self._blocks]].tolist()
        summary = SufficientStatistics.merge(
            [block for (_, block), here in zip(self._blocks, chosen, strict=True) if here]
        )
        if summary.weight == 0:
            raise ValueError(NO_WEIGHT)
        return summary


def fit_models(rows: Rows, settings: Settings, n_models: int, start: torch.Tensor | None = None) -> Columns:
    """Fit many models to the same rows.

    Parameters
    ----------
    rows : Rows
        For one model of each target.
    settings : Settings
        With numbers for each model.
    n_models : int
    start : torch.Tensor of shape (n_features + fit_intercept, n_targets, n_models), optional
        Near the optimum, if anybody knows where that is.
    """
    models, n_targets = torch.arange(n_models, device=rows.y.device), rows.y.shape[1]
    shape = rows.X.shape[1] + settings.fit_intercept, n_targets, n_models
    found = Columns(torch.full(shape, torch.nan, device=rows.y.device, dtype=widest(rows.y.device)))
    targets = [replace(rows, y=rows.y[:, target : target + 1]) for target in range(n_targets)]
    untuned = isinstance(settings.learning_rate, str)
    if untuned and settings.loss.mixes_targets:
        for model in models:
            near = None if start is None else start[..., model]
            found.enter(fit_untuned(rows, settings.select(model[None]), near), slice(None), model)
    elif untuned:
        for group in _together(settings, models, rows.X.shape[1]):
            for target, table in enumerate(targets):
                near = None if start is None else start[:, target, group]
                table = replace(table, models=len(group))
                found.enter(fit_untuned(table, settings.select(group), near), target, group)
    elif go_alone(settings):
        for model in models:
            _train(rows, settings, model[None], found, slice(None))
    else:
        for target, table in enumerate(targets):
            _train(table, settings, models, found, target)
    return found


def _together(settings: Settings, models: torch.Tensor, n_features: int) -> Iterator[torch.Tensor]:
    """Yield the models that can be fitted untuned at once."""
    penalty = settings.penalty
    if penalty is None:
        yield models
        return
    # Those without a penalty are to be the smallest of all answers, which others are by themselves
    free = ((penalty.l1 == 0) & (penalty.l2 == 0)).expand(len(models))
    share_curvature = settings.loss.is_quadratic
    size = len(models) if share_curvature else max(1, CURVATURE_ELEMENTS // (n_features + 1) ** 2)
    for chosen in (models[~free], models[free]):
        if len(chosen):
            yield from chosen.split(size)


def go_alone(settings: Settings) -> bool:
    """Whether models look at all targets, stop when they like, or take steps in which torch may mix them."""
    reduces_on_plateau = settings.schedule is not None and settings.schedule.reduces_on_plateau
    stops = reduces_on_plateau or settings.tol not in ("auto", None)
    return settings.loss.mixes_targets or stops or settings.optimizer != "sgd" or bool(settings.optimizer_params)


def _train(rows: Rows, settings: Settings, models: torch.Tensor, found: Columns, target: int | slice) -> None:
    """Train these models by the textbook; those that diverge leave, and the others begin again."""
    while len(models):
        rows = replace(rows, models=len(models))
        start = rows.y.new_zeros(len(found.theta), rows.n_columns)
        try:
            fit = fit_textbook(rows, start, settings.select(models))
        except DivergedError as diverged:
            models = models[~diverged.columns] if len(models) > 1 else models[:0]
            continue
        found.enter(fit, target, models if isinstance(target, int) else models[0])
        return


def squared_errors(rows: Rows, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted means over the rows of the squared errors, and of the targets' squares about their mean.

    Parameters
    ----------
    rows : Rows
    theta : torch.Tensor of shape (n_theta, n_targets, n_models)

    Returns
    -------
    errors : torch.Tensor of shape (n_targets, n_models)
    squares : torch.Tensor of shape (n_targets,)
    """
    n_features = rows.X.shape[1]
    weight = rows.y.new_ones(len(rows), 1) if rows.weight is None else rows.weight
    weight, y = weight.to(theta), rows.y.to(theta)
    weight = weight / weight.sum()
    squares = (weight * (y - (weight * y).sum(0)).square()).sum(0)
    errors = torch.zeros_like(theta[0])
    size = max(1, PIECE_ELEMENTS // max(1, rows.width, errors.numel()))
    weights, intercept = theta[:n_features].flatten(1), theta[n_features:].sum(0)
    for X, target, w in zip(rows.X.split(size), y.split(size), weight.split(size), strict=True):
        predicted = (X.to(theta) @ weights).view(-1, *errors.shape)
        error = predicted.add_(intercept).sub_(target[:, :, None])
        errors += (w.t() @ error.square_().flatten(1)).view_as(errors)
    return errors, squares
