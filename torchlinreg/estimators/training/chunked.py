"""Training on chunks: from the user's to the fitted attributes, in one process or in several, with checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from torchlinreg.engine.data.chunks.source import ChunkSource
from torchlinreg.engine.fit.plan import textbook_batch
from torchlinreg.engine.fit.result import Result
from torchlinreg.engine.fit.settings import Settings
from torchlinreg.engine.fit.stream import fit_chunks, survey
from torchlinreg.engine.preconditioning.choose import WHITEN_FEATURES
from torchlinreg.engine.runtime.process_group import ProcessGroup
from torchlinreg.estimators.parameters.refusals import check_overflow, warn_of_idle
from torchlinreg.estimators.parameters.settings import make_settings
from torchlinreg.estimators.parameters.values import Parameters, find_defaults
from torchlinreg.estimators.training.chunks import UserChunks
from torchlinreg.estimators.training.holdout import UserData
from torchlinreg.estimators.training.journal import Journal
from torchlinreg.estimators.training.reports import print_epoch, warn_of_fit
from torchlinreg.estimators.training.stream_state import save_training_state
from torchlinreg.estimators.training.train import initial_theta, learning, naming_divergence, store

UNESSENTIAL = {"verbose", "warm_start", "device", "validation_fraction"}  # change nothing that is learnt


def learn_from_chunks(
    estimator, chunks, *, process_group=None, checkpoint=None, is_own: bool = False, stacklevel: int, **start
) -> None:
    """Fit a `TorchLinearRegressor` to chunks of rows, and set its fitted attributes; they stay as they are otherwise.

    Parameters
    ----------
    estimator : TorchLinearRegressor
    chunks : sequence, or iterable
    process_group : torch.distributed.ProcessGroup, optional
    checkpoint : str or path-like, optional
    is_own : bool, default=False
        Whether each process has rows of its own, whatever `chunks` is.
    stacklevel : int
        Of the user's call, for warnings.
    **start
        `coef_init` and `intercept_init` of `fit`.
    """
    parameters, group = Parameters.of(estimator), ProcessGroup(process_group)
    with learning(estimator), group.together():
        _check_parameters(parameters, has_callbacks=bool(vars(estimator).get("_skl_callbacks")))
        found = UserChunks(chunks, estimator, group, is_own=is_own, digests=checkpoint is not None)
        layout = found.layout
        warn_of_idle(parameters, find_defaults(type(estimator)), stacklevel=stacklevel)
        settings = make_settings(parameters, layout.nothing, layout.dtype)
        _check_chunks(parameters, settings, found, group, checkpoint)
        if estimator.verbose and group.rank == 0:
            settings = replace(settings, after_epoch=partial(_print, estimator))
        theta = initial_theta(estimator, layout.nothing, layout.y_ndim, warm_start=estimator.warm_start, **start)
        said, seed = _agree(parameters, settings, group)
        journal = None
        if checkpoint is not None:
            journal = Journal(checkpoint, said | _describe(found), group, seed)
            seed = journal.seed
        if seed is not None:
            settings = replace(settings, generator=torch.Generator("cpu").manual_seed(seed))
        with _saving(journal):
            source = survey(found, group, layout.nothing, settings, journal)
            with naming_divergence(source.few, settings, parameters):
                outcome = _fit(source, theta, settings, journal)
        check_overflow(source.few, outcome.theta, layout.dtype)
    for name in ("n_features_in_", "feature_names_in_"):
        vars(estimator).pop(name, None)
    vars(estimator).update(layout.features)
    store(estimator, outcome, layout.n_features, layout.y_ndim, layout.dtype, goes_on=estimator.warm_start)
    if outcome.training_state is not None:
        estimator._training_state = save_training_state(outcome.training_state, parameters)
    warn_of_fit(outcome, source.few, settings, parameters, stacklevel=stacklevel)


def learn_from_rows(
    estimator, given: UserData, validation: UserData, process_group, *, stacklevel: int, **start
) -> None:
    """Fit a `TorchLinearRegressor` to the rows that each process has, as `fit` is given them.

    Raises
    ------
    ValueError
        If there are rows for validation, or a parameter that asks for all rows at once.
    """
    if any(value is not None for value in validation):
        raise ValueError("X_val and y_val are not used with process_group; score the model afterwards.")
    learn_from_chunks(
        estimator, [tuple(given)], process_group=process_group, is_own=True, stacklevel=stacklevel, **start
    )


@contextmanager
def _saving(journal: Journal | None) -> Iterator[None]:
    """Save what was learnt inside, even if there was an error."""
    try:
        yield
    finally:
        if journal is not None:
            journal.save()


def _fit(source: ChunkSource, theta: torch.Tensor, settings: Settings, journal: Journal | None) -> Result:
    """Fit; in textbook mode, keep what is learnt after each epoch if there is a journal."""
    if settings.is_untuned:
        return fit_chunks(source, theta, settings)
    return fit_chunks(source, theta, settings, {}) if journal is None else _fit_epochs(source, theta, settings, journal)


def _fit_epochs(source: ChunkSource, theta: torch.Tensor, settings: Settings, journal: Journal) -> Result:
    """Run textbook mode epoch by epoch, each from the state that the one before has left in the journal."""
    state, curve, saved = {}, [], journal.epochs
    if saved:
        theta, state, curve = saved["theta"].to(theta), saved["state"], saved["curve"]
    steps = -(-len(source) // textbook_batch(settings.batch_size, len(source)))
    counts = {"n_steps": steps * len(curve), "n_epochs": len(curve)}
    outcome = fit_chunks(source, theta, replace(settings, max_iter=0), state | counts)
    for epoch in range(len(curve), settings.max_iter):
        counts = {"n_steps": steps * epoch, "n_epochs": epoch}
        told = replace(settings, max_iter=1, tol=None, after_epoch=partial(_later, settings.after_epoch, epoch))
        outcome = fit_chunks(source, theta, told, state | counts)
        theta, state, curve = outcome.theta, outcome.training_state, [*curve, *outcome.loss_curve]
        if outcome.interrupted:
            break
        journal.note_epochs({"theta": theta, "state": state, "curve": curve})
        if outcome.cut_short:
            break
    outcome.n_steps, outcome.loss_curve = steps * len(curve), curve
    return outcome


def _later(after_epoch, n_before: int, epoch: int, loss: float, theta) -> bool:
    return after_epoch(n_before + epoch, loss, theta)


def _print(estimator, epoch: int, loss: float, theta) -> bool:
    print_epoch(epoch, loss, every=estimator.verbose, max_iter=estimator.max_iter)
    return False


def _check_parameters(parameters: Parameters, *, has_callbacks: bool) -> None:
    """Refuse what asks for all rows at once.

    Raises
    ------
    ValueError
    """
    if has_callbacks:
        raise ValueError("Callbacks look at the whole table; use fit, or verbose=1 and checkpoint with fit_chunks.")
    if parameters.early_stopping:
        raise ValueError(
            "early_stopping=True holds rows of a whole table out; use fit, or early_stopping=False and a chunk of your "
            "own to score."
        )
    if not parameters.is_untuned and parameters.is_conditioned:
        raise ValueError(
            f"conditioning={parameters.conditioning!r} looks at a whole table first; use fit, or conditioning=None on "
            "features that were scaled before."
        )


def _check_chunks(
    parameters: Parameters, settings: Settings, found: UserChunks, group: ProcessGroup, checkpoint
) -> None:
    """Refuse chunks that the parameters cannot use.

    Raises
    ------
    ValueError
    """
    untuned, quadratic, layout = settings.is_untuned, settings.loss.is_quadratic, found.layout
    if untuned and layout.n_features > WHITEN_FEATURES:
        raise ValueError(
            f'learning_rate="auto" keeps sufficient statistics of all chunks, whose size is the square of that of '
            f"{layout.n_features} features, more than {WHITEN_FEATURES}; give a number for learning_rate, or use fit."
        )
    if untuned and not quadratic and layout.nothing.is_sparse:
        raise ValueError(
            f"loss={parameters.loss!r} takes dense chunks; give dense ones, or a number for learning_rate."
        )
    if found.is_spent_by_one_pass and not (untuned and quadratic):
        why = f"loss={parameters.loss!r}" if untuned else "a number for learning_rate"
        raise ValueError(
            f"chunks is an iterator, which can be gone through once, and {why} takes several passes. Give a sequence "
            "of chunks, an object whose __iter__ begins anew each time, such as a torch.utils.data.DataLoader, or the "
            'squared loss with learning_rate="auto", for which one pass is enough.'
        )
    if group.size > 1 and not found.is_dealt and not (untuned or found.is_own):
        raise ValueError(
            "With process_group, textbook mode deals the rows of each step out by their numbers: give a sequence, with "
            "__len__ and __getitem__, that is the same for all processes."
        )
    if checkpoint is None:
        return
    if group.size > 1 and not found.is_dealt:
        raise ValueError("checkpoint with process_group needs a sequence of chunks that is the same for all processes.")
    plateaus = settings.schedule is not None and settings.schedule.reduces_on_plateau
    if not untuned and (plateaus or settings.tol not in ("auto", None)):
        raise ValueError(
            f"checkpoint does not keep how long the loss has not improved, which tol={parameters.tol!r} and "
            f'schedule={parameters.schedule!r} go by; use tol="auto" and another schedule.'
        )


def _agree(parameters: Parameters, settings: Settings, group: ProcessGroup) -> tuple[dict[str, str], int | None]:
    """Return what the answer depends on, which all processes must have alike, and the seed of the first process.

    Raises
    ------
    ValueError
        If a process has other parameters.
    """
    said = parameters.describe(but=UNESSENTIAL)
    seed = None if settings.generator is None else settings.generator.initial_seed()
    agreed = group.gather(lambda: (said, seed))
    for rank, (other, _) in enumerate(agreed):
        for name, value in agreed[0][0].items():
            if other[name] != value:
                raise ValueError(f"rank {rank} has {name}={other[name]}, but rank 0 has {name}={value}.")
    return said, agreed[0][1]


def _describe(found: UserChunks) -> dict[str, str]:
    """Return what a checkpoint says of the chunks that it belongs to."""
    return {
        "chunks": "not known" if found.n_chunks is None else str(found.n_chunks),
        "columns": found.layout.description,
        "names of the features": str([*found.layout.features.get("feature_names_in_", [])]),
        "first chunk (SHA-256)": found.layout.digest,
    }
