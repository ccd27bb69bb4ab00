"""Fit some two hundred settings and compare their coefficients with stored ones.

A net under changes that move code and must not change answers. It goes by the public names of the package only. Store
what the code says before such a change, and compare after each step of it::

    python tests/golden.py --write before.npz
    python tests/golden.py --compare before.npz
    python tests/golden.py --compare before.npz --only textbook/ --loose 10

Coefficients and intercepts are compared with those stored, by the largest of them: to 1e-12 where the setting counts in
float64, to 1e-6 where in float32. What depends on the machine's arithmetic is compared too, so both runs have to be on
one machine. A setting that is refused has to be refused again, by an exception of the same type.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import product

import numpy as np
import scipy.sparse
import torch

from torchlinreg import TorchLinearRegressor, TorchLinearRegressorCV, bootstrap
from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, SquaredEpsilonInsensitive
from torchlinreg.schedules import InvScaling

TOLERANCE = {"float64": 1e-12, "float32": 1e-6}

Arrays = dict[str, np.ndarray]
Settings = Iterator[tuple[str, Callable[[], Arrays]]]


def log_cosh(prediction, target):
    """Return a loss that is no object, nor known by name."""
    error = (prediction - target).abs()
    return (error + torch.nn.functional.softplus(-2.0 * error) - 0.6931471805599453).mean()


LOSSES = {
    "squared_error": "squared_error",
    "mse": "mse",
    "huber": "huber",
    "absolute_error": "absolute_error",
    "quantile": "quantile",
    "epsilon_insensitive": "epsilon_insensitive",
    "squared_epsilon_insensitive": "squared_epsilon_insensitive",
    "Huber(2)": Huber(delta=2.0),
    "Quantile(0.9)": Quantile(0.9),
    "SmoothL1Loss": torch.nn.SmoothL1Loss(),
    "log_cosh": log_cosh,
}
NAMED = list(LOSSES)[:7]
L2, L1 = ({"penalty": name, "alpha": 0.05} for name in ("l2", "l1"))
PENALTIES = [None, "l2", "l1", "elasticnet"]
BACKENDS = ["analytic", "autograd", "linear"]


def holes(rng, share, *shape):
    """Return a table that is zero but for a share of its elements."""
    return scipy.sparse.csr_array(rng.normal(size=shape) * (rng.uniform(size=shape) < share))


def rare(rng, n_rows):
    """Return columns of heavy tails, and indicators of a few rows, which no sample of the rows speaks for."""
    return np.column_stack([rng.standard_t(1.5, size=(n_rows, 9)), np.arange(n_rows)[:, None] < [1, 2, 6]])


TABLES = {
    "plain": lambda rng: rng.normal(size=(200, 6)) * [1, 2, 0.5, 1, 3, 1] + [0, 1, 0, -1, 0, 2],
    "small": lambda rng: rng.normal(size=(60, 5)),
    "many_rows": lambda rng: rng.normal(size=(400, 12)),
    "two_targets": lambda rng: rng.normal(size=(150, 5)),
    "dependent": lambda rng: rng.normal(size=(120, 3)) @ [[1, 0, 0, 1, 0], [0, 1, 0, 0, 2], [0, 0, 1, 0, -1]],
    "wide": lambda rng: rng.normal(size=(30, 50)),
    "offsets": lambda rng: rng.normal(size=(200, 5)) * [1e7, 10, 1, 1, 1] + [1.7e9, 2000, 0, 0, 0],
    "constant": lambda rng: rng.normal(size=(100, 4)) * [1, 1, 1, 0] + [0, 0, 0, 7],
    "sparse": lambda rng: holes(rng, 0.15, 300, 20),
    "wide_sparse": lambda rng: holes(rng, 0.005, 300, 6000),
    "large": lambda rng: rng.normal(size=(60_000, 12)) @ (np.eye(12) + np.triu(rng.uniform(0, 0.2, (12, 12)))) - 0.5,
    "heavy": lambda rng: rare(rng, 60_000),
}


@cache
def load(table: str, dtype: str) -> tuple:
    """Return features, a target with outliers that all of them have a say in, and weights, some of which are zero."""
    rng = np.random.default_rng(7)
    X = TABLES[table](rng)
    dense = X.toarray() if scipy.sparse.issparse(X) else X
    standard = (dense - dense.mean(0)) / np.where(dense.std(0) > 0, dense.std(0), 1)
    signal = standard @ rng.normal(size=(X.shape[1], 2)) / np.sqrt(X.shape[1])
    y = signal + 0.3 * rng.standard_t(3, size=signal.shape) + 1.5
    y = y if table == "two_targets" else y[:, 0]
    weight = rng.integers(0, 4, len(y)) + rng.uniform(size=len(y)) * (rng.uniform(size=len(y)) < 0.5)
    return X.astype(dtype), y.astype(dtype), weight


# Ways to fit: each returns what is to be compared


def learnt(model, *further: str) -> Arrays:
    """Return what a model has learnt, and the number of its epochs where that is not a matter of tolerance."""
    found = {name: np.asarray(getattr(model, name)) for name in ("coef_", "intercept_", *further)}
    if scipy.sparse.issparse(model.coef_):
        found["coef_"] = model.coef_.toarray()
    if getattr(model, "learning_rate", "auto") != "auto":
        found["n_iter_"] = np.asarray(model.n_iter_)
    return found


def fit(table, *, dtype="float64", weighted=False, start=False, **params) -> Arrays:
    """Fit once."""
    X, y, weight = load(table, dtype)
    extra = {"coef_init": np.linspace(-1, 1, X.shape[1]), "intercept_init": 0.5} if start else {}
    model = TorchLinearRegressor(**{"random_state": 0, **params})
    return learnt(model.fit(X, y, sample_weight=weight if weighted else None, **extra))


def fit_again(table, *, changes, **params) -> Arrays:
    """Fit, and fit again from there with other parameters."""
    X, y, _ = load(table, "float64")
    model = TorchLinearRegressor(random_state=0, warm_start=True, **params).fit(X, y)
    return learnt(model.set_params(**changes).fit(X, y))


def stream(table, *, dtype="float64", weighted=False, n_chunks=4, **params) -> Arrays:
    """Learn from the table in chunks."""
    X, y, weight = load(table, dtype)
    model = TorchLinearRegressor(random_state=0, **params)
    for rows in np.array_split(np.arange(len(y)), n_chunks):
        model.partial_fit(X[rows], y[rows], sample_weight=weight[rows] if weighted else None)
    return learnt(model)


def choose(table, *, dtype="float64", weighted=False, **params) -> Arrays:
    """Choose a penalty by cross-validation."""
    X, y, weight = load(table, dtype)
    model = TorchLinearRegressorCV(**{"random_state": 0, "cv": 3, "alphas": 8, **params})
    model.fit(X, y, sample_weight=weight if weighted else None)
    return learnt(model, "alpha_", "l1_ratio_", "alphas_", "mse_path_", "coef_path_")


def intervals(table, *, dtype="float64", weighted=False, n_resamples=30, **params) -> Arrays:
    """Estimate standard errors and intervals."""
    X, y, weight = load(table, dtype)
    model = TorchLinearRegressor(random_state=0, **params)
    found = bootstrap(model, X, y, n_resamples=n_resamples, random_state=0, sample_weight=weight if weighted else None)
    return {name: found[name].to_numpy() for name in found.columns}


# The settings


def settings() -> Settings:
    """Yield the name of each setting, and what fits it."""
    for group in (untuned, textbook, tables, sparse_tables, large_tables, streams, starts, choices, resamples):
        yield from ((f"{group.__name__}/{name}", fitted) for name, fitted in group())


def untuned() -> Settings:
    """Yield each loss with each penalty, and the parts that make them up."""
    for (name, loss), penalty in product(LOSSES.items(), PENALTIES):
        for dtype in ("float64", "float32") if name in NAMED and penalty in (None, "l1") else ("float64",):
            params = {"loss": loss, "penalty": penalty, "alpha": 0.05 if penalty else 1e-4, "dtype": dtype}
            yield f"{name}/{penalty}/{dtype}", partial(fit, "plain", **params)
    for backend, loss, penalty in product(BACKENDS, ("squared_error", "huber"), (None, "l1")):
        params = {"loss": loss, "penalty": penalty, "alpha": 0.03 if penalty else 1e-4, "backend": backend}
        yield f"{backend}/{loss}/{penalty}", partial(fit, "many_rows", **params)
    for conditioning, loss, penalty in product((None, "scale", "whiten"), ("squared_error", "huber"), (None, "l2")):
        params = {"loss": loss, "penalty": penalty, "alpha": 0.05 if penalty else 1e-4, "conditioning": conditioning}
        yield f"conditioning={conditioning}/{loss}/{penalty}", partial(fit, "plain", **params)


def textbook() -> Settings:
    """Yield mini-batch descent at a given rate, with all that can be added to it."""
    base = partial(fit, "small", learning_rate=0.01, max_iter=4, batch_size=16)
    for (name, loss), backend in product(LOSSES.items(), BACKENDS):
        yield f"{name}/{backend}", partial(base, loss=loss, backend=backend)
    for penalty, backend in product(PENALTIES[1:], BACKENDS):
        yield f"{penalty}/{backend}", partial(base, penalty=penalty, alpha=0.05, backend=backend)
    for (name, params), backend in product(TEXTBOOK_STEPS.items(), BACKENDS):
        yield f"{name}/{backend}", partial(base, backend=backend, **params)
    for name, params in TEXTBOOK.items():
        yield name, partial(base, **params)


TEXTBOOK_STEPS = {
    "momentum": {"momentum": 0.9},
    "adam": {"optimizer": "adam"},
    "invscaling": {"schedule": "invscaling"},
}
TEXTBOOK = {
    "nesterov": {"momentum": 0.9, "optimizer_params": {"nesterov": True}},
    "batch_size=full/schedule=constant": {"batch_size": "full", "schedule": "constant", "max_iter": 20},
    "schedule=InvScaling": {"schedule": InvScaling(0.5)},
    "schedule=adaptive": {"schedule": "adaptive", "max_iter": 300, "tol": 1e-2},
    "schedule=callable": {"schedule": lambda epoch: 0.7**epoch},
    "average=True": {"average": True},
    "average=40": {"average": 40, **L2},
    "conditioning=scale": {"conditioning": "scale"},
    "conditioning=whiten": {"conditioning": "whiten"},
    "conditioning=whiten/l1": {"conditioning": "whiten", "penalty": "l1"},
    "conditioning=whiten/huber/l2": {"conditioning": "whiten", "loss": "huber", **L2},
    "conditioning=scale/l1": {"conditioning": "scale", **L1},
    "early_stopping": {"early_stopping": True, "learning_rate": 0.03, "max_iter": 100, "n_iter_no_change": 2},
    "shuffle=False": {"shuffle": False},
    "tol": {"tol": 1e-3, "max_iter": 200, "n_iter_no_change": 3},
    "fit_intercept=False": {"fit_intercept": False},
    "weighted": {"weighted": True},
    "float32": {"dtype": "float32"},
    "float32/linear/adam": {"dtype": "float32", "backend": "linear", "optimizer": "adam"},
    "diverges": {"learning_rate": 1e6, "max_iter": 200},
}


def tables() -> Settings:
    """Yield tables of other shapes and units, with weights, and with several targets."""
    plainly = {"squared_error": {}, "l1": L1, "huber": {"loss": "huber"}}
    for table, (name, params) in product(("dependent", "wide", "offsets", "constant"), plainly.items()):
        yield f"{table}/{name}", partial(fit, table, **params)
    yield "dependent/float32", partial(fit, "dependent", dtype="float32")
    further = {"quantile/l2": {"loss": Quantile(0.7), **L2}}
    for name, params in (plainly | further).items():
        yield f"weighted/{name}", partial(fit, "plain", weighted=True, **params)
        yield f"fit_intercept=False/{name}", partial(fit, "plain", fit_intercept=False, **params)
        yield f"two_targets/{name}", partial(fit, "two_targets", **params)
    yield "two_targets/mse", partial(fit, "two_targets", loss="mse", weighted=True)
    alphas = {"penalty": "elasticnet", "alpha": [0.01, 0.1], "l1_ratio": [0.9, 0.2]}
    yield "two_targets/alphas", partial(fit, "two_targets", **alphas)
    for loss, backend in product(("mse", "huber"), BACKENDS):
        params = {"loss": loss, "backend": backend, "learning_rate": 0.02, "max_iter": 3}
        yield f"two_targets/textbook/{loss}/{backend}", partial(fit, "two_targets", **params)
    for loss in (EpsilonInsensitive(0.5), EpsilonInsensitive(0.0), SquaredEpsilonInsensitive(0.5)):
        yield f"{loss}/l2", partial(fit, "plain", loss=loss, **L2)


def sparse_tables() -> Settings:
    """Yield sparse tables."""
    steps = {"learning_rate": 0.02, "max_iter": 4, "batch_size": 16}
    for name, mode in {"untuned": {}, "textbook": steps}.items():
        for loss, penalty in product(("squared_error", "huber", "quantile", "log_cosh"), (None, "l1")):
            params = {"loss": LOSSES[loss], "penalty": penalty, "alpha": 0.02 if penalty else 1e-4, **mode}
            yield f"{name}/{loss}/{penalty}", partial(fit, "sparse", **params)
        yield f"{name}/weighted", partial(fit, "sparse", weighted=True, **mode)
        yield f"{name}/float32", partial(fit, "sparse", dtype="float32", **mode)
    yield "wide/squared_error", partial(fit, "wide_sparse")
    yield "wide/l2", partial(fit, "wide_sparse", **L2)
    yield "wide/textbook", partial(fit, "wide_sparse", **steps)


def large_tables() -> Settings:
    """Yield tables that are conditioned by a sample of their rows or by all of them, folded."""
    for dtype in ("float64", "float32"):
        yield f"sample/{dtype}", partial(fit, "large", dtype=dtype)
        yield f"fold/{dtype}", partial(fit, "heavy", dtype=dtype)
    further = {"l2": L2, "l1": L1, "weighted": {"weighted": True}, "autograd": {"backend": "autograd"}}
    for name, params in (further | {"average=False": {"average": False, "batch_size": 512}}).items():
        yield f"sample/{name}", partial(fit, "large", **params)
    yield "sample/Huber(2)", partial(fit, "large", loss=Huber(delta=2.0))
    yield "fold/l2", partial(fit, "heavy", **L2)


def streams() -> Settings:
    """Yield tables that come in chunks."""
    steps = {"learning_rate": 0.01, "batch_size": 16}
    for penalty in PENALTIES:
        params = {"penalty": penalty, "alpha": 0.05 if penalty else 1e-4}
        yield f"untuned/{penalty}", partial(stream, "plain", **params)
        yield f"textbook/{penalty}", partial(stream, "plain", **steps, **params)
    for name, params in {"untuned": {}, "textbook": steps}.items():
        yield f"{name}/weighted", partial(stream, "plain", weighted=True, **params)
        yield f"{name}/two_targets", partial(stream, "two_targets", loss="mse", **params)
        yield f"{name}/float32", partial(stream, "plain", dtype="float32", **params)
    yield "untuned/offsets", partial(stream, "offsets")
    yield "textbook/momentum", partial(stream, "plain", momentum=0.9, schedule="invscaling", **steps)
    yield "textbook/adam/linear", partial(stream, "plain", optimizer="adam", backend="linear", **steps)


def starts() -> Settings:
    """Yield fits that start from somewhere."""
    steps = {"learning_rate": 0.01, "batch_size": 16, "max_iter": 3}
    yield "coef_init/untuned", partial(fit, "plain", start=True)
    for backend in BACKENDS:
        yield f"coef_init/textbook/{backend}", partial(fit, "plain", start=True, backend=backend, **steps)
    yield "coef_init/textbook/conditioning=scale", partial(fit, "plain", start=True, conditioning="scale", **steps)
    yield "warm/textbook", partial(fit_again, "plain", changes={"loss": "huber"}, **steps)
    yield "warm/from untuned", partial(fit_again, "plain", changes=steps)
    yield "warm/untuned", partial(fit_again, "plain", changes={"penalty": "l1", "alpha": 0.1})


def choices() -> Settings:
    """Yield searches for a penalty."""
    for name, params in {
        "l2": {},
        "l1": {"penalty": "l1"},
        "elasticnet": {"penalty": "elasticnet", "l1_ratio": [0.2, 0.9]},
        "l2/huber": {"loss": "huber", "alphas": [0.1, 0.01]},
        "l1/quantile": {"loss": "quantile", "penalty": "l1", "alphas": [0.1, 0.01]},
        "weighted": {"weighted": True},
        "float32": {"dtype": "float32"},
        "textbook": {"learning_rates": [0.03, 0.003, 1e4], "alphas": [0.1, 0.01], "max_iter": 4},
        "textbook/momentum": {"learning_rates": 0.01, "momentum": [0.0, 0.9], "alphas": [0.1], "max_iter": 4},
    }.items():
        yield name, partial(choose, "small", **params)
    yield "two_targets", partial(choose, "two_targets")
    yield "sparse", partial(choose, "sparse", alphas=4)


def resamples() -> Settings:
    """Yield resamples of the rows."""
    steps = {"learning_rate": 0.01, "max_iter": 3}
    models = {"squared_error": {}, "l2": L2, "l1": L1, "huber": {"loss": "huber"}, "textbook": steps}
    for name, params in (models | {"weighted": {"weighted": True}, "float32": {"dtype": "float32"}}).items():
        yield name, partial(intervals, "small", **params)
    yield "two_targets", partial(intervals, "two_targets")


# Storing and comparing


def fit_all(only: str) -> Iterator[tuple[str, Arrays]]:
    """Yield what each setting gives, or how it is refused."""
    for name, fitted in settings():
        if only not in name:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield name, fitted()
            except Exception as refusal:
                yield name, {"refusal": np.asarray([type(refusal).__name__, str(refusal)[:80]])}


def difference(found: np.ndarray, stored: np.ndarray) -> float:
    """Return the largest difference, relative to the largest number."""
    if found.shape != stored.shape or (np.isnan(found) != np.isnan(stored)).any():
        return np.inf
    largest = np.nanmax(np.abs(stored), initial=0.0)
    return float(np.nanmax(np.abs(found - stored), initial=0.0)) / (largest or 1.0)


def complaints(name: str, found: Arrays, stored: Arrays, loose: float) -> Iterator[str]:
    """Yield what differs in a setting."""
    if found.keys() != stored.keys() or "refusal" in stored:
        before, now = (": ".join(parts.get("refusal", parts)) for parts in (stored, found))
        if "refusal" not in stored or before.partition(":")[0] != now.partition(":")[0]:
            yield f"[{before}] before, [{now}] now"
        return
    tolerance = TOLERANCE["float32" if "float32" in name else "float64"]
    for part, values in found.items():
        apart = difference(values, stored[part])
        if apart > (0.0 if part == "n_iter_" else loose * tolerance):
            yield f"{part} by {apart:.1e}"


def read(path: str) -> dict[str, Arrays]:
    """Return what is stored, by setting and part."""
    stored: dict[str, Arrays] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, part = key.rsplit("|", 1)
            stored.setdefault(name, {})[part] = arrays[key]
    return stored


def compare(path: str, only: str, loose: float) -> int:
    """Print what differs, and return an exit status."""
    stored, n_settings, n_differ = read(path), 0, 0
    for name, found in fit_all(only):
        differing = list(complaints(name, found, stored.get(name, {}), loose))
        n_settings, n_differ = n_settings + 1, n_differ + bool(differing)
        if differing:
            print(f"{name}: {'; '.join(differing)}", flush=True)
    print(f"{n_differ} of {n_settings} settings differ" if n_differ else f"all {n_settings} settings equal")
    return int(n_differ > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", metavar="FILE.npz", help="store what the settings give")
    action.add_argument("--compare", metavar="FILE.npz", help="compare what they give with what is stored")
    parser.add_argument("--only", metavar="SUBSTRING", default="", help="settings whose name contains it")
    parser.add_argument("--loose", metavar="FACTOR", type=float, default=1.0, help="multiplies the tolerances")
    given = parser.parse_args()
    if given.compare:
        return compare(given.compare, given.only, given.loose)
    found = dict(fit_all(given.only))
    np.savez_compressed(
        given.write, **{f"{name}|{part}": values for name, parts in found.items() for part, values in parts.items()}
    )
    print(f"{len(found)} settings stored")
    return 0


if __name__ == "__main__":
    sys.exit(main())
