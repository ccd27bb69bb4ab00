"""Parameters and tables, sound and unsound ones mixed, from which tests draw what to ask of an estimator."""

from fractions import Fraction

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from torchlinreg.engine.objective.linear_model import MODELS
from torchlinreg.engine.objective.losses import LOSSES
from torchlinreg.engine.objective.penalties import PENALTIES
from torchlinreg.engine.solvers.minibatch.schedules import SCHEDULES
from torchlinreg.losses import EpsilonInsensitive, Huber, Quantile, TorchLoss
from torchlinreg.schedules import InvScaling


def _power(prediction, target):
    return (prediction - target).abs() ** 1.5


# Sound values of each parameter
SOUND: dict[str, list] = {
    "loss": [
        *sorted(LOSSES) * 2,
        Huber(0.1),
        Huber(1e300),
        Huber(1e-300),
        Quantile(0.99),
        EpsilonInsensitive(0.0),
        EpsilonInsensitive(1e300),
        torch.nn.MSELoss(),
        torch.nn.SmoothL1Loss(reduction="none"),
        torch.nn.functional.huber_loss,
        TorchLoss(torch.nn.functional.mse_loss),
        _power,
    ],
    "penalty": [None, *sorted(PENALTIES) * 2],
    "alpha": [0.0, 1e-300, 1e-3, 0.1, 1e3, 1e200, 1e308, np.float32(0.5), Fraction(1, 3), 7, [0.1], [0.0, 1.0]],
    "l1_ratio": [0.0, 1.0, 0.3, 1e-300, [0.3], [0.3, 1.0], torch.tensor(0.5)],
    "positive": [False, False, True],
    "fit_intercept": [True, False, np.False_],
    "backend": ["auto", *sorted(MODELS)],
    "optimizer": ["sgd", "sgd", "adam", "RMSprop", "adafactor", torch.optim.Adagrad],
    "optimizer_params": [None, None, {}, {"weight_decay": 0.1}, {"foreach": True}, {"maximize": True}],
    "momentum": [0.0, 0, 0.5, 0.999, Fraction(1, 3), np.float32(0.9)],
    "learning_rate": ["auto"] * 6 + [1e-300, 1e-3, 0.1, 10.0, 1e38, 1e308, 1, True, Fraction(1, 3), np.float32(0.5)],
    "schedule": [None, None, None, *SCHEDULES, InvScaling(0.5), lambda epoch: 0.9**epoch],
    "early_stopping": [False] * 5 + [True],
    "validation_fraction": [0.1, 0.5, 1e-3],
    "batch_size": ["auto", "full", 1, 2, np.int64(3), 10**30],
    "max_iter": [1, 3, 20, np.int32(2), True],
    "tol": ["auto", None, 0, 1e-300, 1e-3, 1e300, Fraction(1, 3)],
    "n_iter_no_change": [1, 5, 10**30],
    "shuffle": [True, False],
    "random_state": [None, 0, 2**32 - 1, np.random],
    "conditioning": ["auto", None, "scale", "whiten"],
    "average": ["auto", True, False, 3, 10**30],
    "warm_start": [True, False],
    "verbose": [0, 0, True],
    "device": [None, "auto", "cpu", "cpu:0", torch.device("cpu")],
    "dtype": [None, "float32", "float64", np.float32, float, torch.float64, np.dtype("float32")],
}
# Values that nearly are sound, or sound only beside some others
ODD: dict[str, list] = {
    "loss": [
        Huber,
        torch.nn.L1Loss(reduction="sum"),
        torch.nn.CrossEntropyLoss(),
        lambda prediction, target: 0.0,
        lambda prediction, target: prediction[0],
        lambda prediction, target: prediction.detach(),
        lambda prediction: prediction,
    ],
    "alpha": [[], [0.1] * 3, [[0.1]], [1j], ["0.1"], torch.tensor([0.5, torch.nan]), [10**400], [None]],
    "l1_ratio": [1.1, [-0.1], np.array(["0.5"])],
    "optimizer": ["lbfgs", "muon", "sparseadam", "asgd", "rprop", torch.optim.Optimizer, torch.optim.LBFGS],
    "optimizer_params": [
        {"nesterov": True},
        {"weight_decay": -1},
        {"capturable": True},
        {"fused": True, "foreach": True},
        {"fused": True},
        {"differentiable": True},
        {"betas": (0.9,)},
        {"betas": "ab"},
        {"momentum": "a"},
        {"momentum": 1j},
        {"weight_decay": None},
        {"weight_decay": torch.ones(2)},
        {"lr": 0.1},
        {1: 2},
        {"momentum": None, 3: None},
    ],
    "schedule": ["cosine", lambda epoch: -1.0, lambda epoch: None, lambda: 1.0, lambda epoch: float("nan")],
    "validation_fraction": [0.0, 1.0],
    "batch_size": [0, True, 2.0],
    "max_iter": [0, -1, 2.0, "auto", None],
    "random_state": [2**32, -1, np.random.default_rng(0)],
    "device": ["", "cpu:1", "cuda:77", "cuda", "meta", "xla", "mps", "privateuseone", torch.device("meta")],
    "dtype": [torch.bfloat16, np.dtype("int8"), int, "float16", "<f4", np.float16],
}
# Values of any kind, for any parameter but `max_iter`
FAR = [None, "", "auto", "yes", b"yes", [], [0.1], {}, 1j, object, print, "cpu", "sgd", "Adam", "scale", "full", "l2"]
FAR += [float("nan"), float("inf"), -float("inf"), -1, 0, 1, 2, 0.5, 1e-300, 1e300, 10**400, True, Fraction(1, 3)]

FIT_PARAMETERS = ["sample_weight", "coef_init", "intercept_init"]
# No look at the clock: what is drawn must end by itself
quickly = settings(deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


VALUES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "far from zero": lambda rng, n: 1e9 + rng.normal(size=n),
    "few": lambda rng, n: rng.integers(-1, 2, n).astype(float),
    "constant": lambda rng, n: np.full(n, rng.choice([0.0, 7.3, -1e6, 1e100])),
    "huge": lambda rng, n: rng.choice([1e30, -1e38, 1e150, -1e200, 1e300, 1.7e308, -1.7e308], n),
    "tiny": lambda rng, n: rng.choice([0.0, 1e-30, -1e-38, 1e-45, 1e-200, -1e-308, 5e-324], n),
    "of any size": lambda rng, n: rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, n),
    "any": lambda rng, n: rng.integers(0, 2**64, n, dtype=np.uint64).view(float),
}
TYPES = ["float64", "float32", "float16", "int64", "uint8", "bool", "object", "list", "tensor", "tensor of float32"]


@st.composite
def arrays(draw, shape):
    """Draw an array of that shape, of any size of numbers and any type."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal"] * 8 + sorted(VALUES)))
    array = VALUES[kind](rng, int(np.prod(shape))).reshape(shape)
    if array.size and draw(st.integers(0, 20)) == 0:
        array.flat[-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    kind = draw(st.sampled_from(["float64"] * 6 + TYPES))
    if kind == "list":
        return array.tolist()
    with np.errstate(all="ignore"):
        if kind.startswith("tensor"):
            return torch.from_numpy(array.astype("float32" if kind.endswith("32") else "float64"))
        array = array.astype(kind)
    if kind == "object" and array.size and draw(st.booleans()):
        array.flat[0] = draw(st.sampled_from([None, "a", "1", 10**400, 1j, {}]))
    return array


@st.composite
def tables(draw):
    """Draw arguments of `fit`, most of them of shapes that fit together."""
    sound = draw(st.integers(0, 7)) > 0
    n_rows, n_features = draw(st.integers(sound, 6)), draw(st.integers(sound, 4))
    of_y = draw(st.sampled_from([(), (1,), (2,)]))
    shapes = {
        "X": (n_rows, n_features),
        "y": (n_rows, *of_y),
        "sample_weight": (n_rows,),
        "coef_init": (*of_y, n_features),
        "intercept_init": of_y,
    }
    if not sound:
        shapes[draw(st.sampled_from(sorted(shapes)))] = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    drawn = {name: draw(arrays(shapes[name])) for name in ("X", "y")}
    for name in FIT_PARAMETERS:
        if draw(st.integers(0, 5)) == 0:
            drawn[name] = draw(arrays(shapes[name])) if draw(st.integers(0, 7)) else draw(st.sampled_from(FAR))
    weight = drawn.get("sample_weight")
    if isinstance(weight, np.ndarray) and weight.dtype.kind == "f":
        drawn["sample_weight"] = abs(weight)
    return drawn


def assert_finite(model, X):
    for values in (model.coef_, model.intercept_, model.predict(X)):
        assert torch.as_tensor(values).isfinite().all()
