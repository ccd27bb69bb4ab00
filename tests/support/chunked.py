"""A table in chunks, and what processes of a group learn from it."""

import os
import signal
import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from torchlinreg import TorchLinearRegressor
from torchlinreg.streams import parquet_chunks

CUTS = (0, 310, 310, 641, 700, 900, 1000)  # one chunk has no rows


def make_columns(n_rows=CUTS[-1], seed=20240):
    """Return raw features of several sizes, a target with heavy tails, and weights."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5)) * 10.0 ** np.arange(-2, 3) + 50
    y = X / X.std(0) @ rng.normal(size=5) + rng.standard_t(3, size=n_rows)
    return X, y, rng.uniform(0.5, 2, n_rows)


def standard(columns):
    """Return columns with features of mean zero and standard deviation one."""
    X, *others = columns
    return ((X - X.mean(0)) / X.std(0), *others)


def as_frame(columns):
    """Return features, targets and weights as a frame."""
    X, y, weight = columns
    return pd.DataFrame(X, columns=[f"column {number}" for number in range(5)]).assign(target=y, weight=weight)


class Dataset:
    """Chunks with numbers, cut from columns when they are asked for.

    Parameters
    ----------
    *columns : ndarray
    cuts : sequence of int
    breaks_at : int, optional
        The reading, counted from zero, at which the disk is gone.
    kills_at : int, optional
        That at which the process is killed.
    """

    def __init__(self, *columns, cuts=CUTS, breaks_at=None, kills_at=None):
        self.columns, self.cuts, self.read, self.breaks_at, self.kills_at = columns, cuts, [], breaks_at, kills_at

    def __len__(self):
        return len(self.cuts) - 1

    def __getitem__(self, number):
        if len(self.read) == self.breaks_at:
            raise OSError("the disk is gone")
        if len(self.read) == self.kills_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.read.append(number)
        return tuple(column[self.cuts[number] : self.cuts[number + 1]] for column in self.columns)


def answer(model):
    """Return what a model has learnt."""
    return {"coef_": model.coef_, "intercept_": model.intercept_, "gap": model.optimality_gap_, "t_": model.t_}


def learn_shared(group, parameters, columns=None, checkpoint=None, **options):
    """Learn from chunks that all processes can read."""
    chunks = Dataset(*(make_columns() if columns is None else columns), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = TorchLinearRegressor(**parameters)
        model.fit_chunks(chunks, process_group=group, checkpoint=checkpoint)
    return answer(model)


def learn_from_parquet(group, path):
    """Learn from a file that all processes can read."""
    chunks = parquet_chunks(path, "target", sample_weight="weight", chunk_rows=64)
    return answer(TorchLinearRegressor().fit_chunks(chunks, process_group=group))


def learn_own(group, parameters, columns, sizes, by_chunks=False):
    """Learn from rows of which each process has its own, so many of them."""
    first = sum(sizes[: group.rank()])
    own = tuple(column[first : first + sizes[group.rank()]] for column in columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = TorchLinearRegressor(**parameters)
        if by_chunks:
            half = len(own[0]) // 2
            parts = [tuple(column[rows] for column in own) for rows in (slice(0, half), slice(half, None))]
            model.fit_chunks(dict(enumerate(parts)).values(), process_group=group)
        else:
            model.fit(*own, process_group=group)
    return answer(model)


def learn_spoilt(group, spoilt_rank, what):
    """Learn together where one process has rows or parameters that do not go with the others'."""
    X, y, _ = make_columns(100, group.rank())
    parameters = {}
    if group.rank() == spoilt_rank:
        if what == "NaN":
            X[17, 3] = np.nan
        elif what == "columns":
            X = X[:, :3]
        elif what == "parameters":
            parameters = {"penalty": "l2", "alpha": 0.1}
        elif what == "weights":
            return answer(TorchLinearRegressor().fit(X, y, -np.ones(100), process_group=group))
    return answer(TorchLinearRegressor(**parameters).fit(X, y, process_group=group))


def kill_or_learn(group, victim, columns):
    """Learn from shared chunks; one process is killed on the way."""
    return learn_shared(group, {}, columns, kills_at=1 if group.rank() == victim else None)
