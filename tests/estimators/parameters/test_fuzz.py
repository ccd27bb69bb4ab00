"""Whatever is asked of the estimator, it answers with a refusal that says why, or with finite numbers.

Parameters and data are drawn at random, sound and unsound ones mixed. The only exceptions that may come of it are
`ValueError` and `TypeError`, the only warning is that of missing convergence.
"""

import warnings

import pytest
from drawn_parameters import FAR, ODD, SOUND, assert_finite, quickly, tables
from hypothesis import event, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from torchlinreg import TorchLinearRegressor


def test_every_parameter_is_drawn():
    assert set(SOUND) == set(TorchLinearRegressor().get_params())


@st.composite
def parameters(draw):
    """Draw values for some parameters, most of them sound."""
    names = draw(st.lists(st.sampled_from(sorted(SOUND)), unique=True, max_size=10))
    drawn = {"max_iter": 5, **{name: draw(st.sampled_from(SOUND[name])) for name in names}}
    if drawn.get("learning_rate", "auto") == "auto" and draw(st.integers(0, 7)):
        drawn = {name: value for name, value in drawn.items() if not name.startswith("optimizer")}
    unsound = draw(st.integers(0, 15))
    if unsound == 0:
        drawn[draw(st.sampled_from(sorted(set(SOUND) - {"max_iter"})))] = draw(st.sampled_from(FAR))
    elif unsound < 4:
        name = draw(st.sampled_from(sorted(ODD)))
        drawn[name] = draw(st.sampled_from(ODD[name]))
    return drawn


def check(parameters, data):
    """Fit, and see that what comes of it is sound."""
    model = TorchLinearRegressor(**parameters)
    with warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Parameters drawn at random often leave each other without effect, which is what the estimator has to say
        warnings.filterwarnings("ignore", ".* has no effect with ", UserWarning)
        try:
            model.fit(**data)
            if model.warm_start:
                model.fit(**data)
        except (ValueError, TypeError) as refusal:
            event(f"refused: {type(refusal).__name__}")
            return
        event("fitted")
        assert_finite(model, data["X"])


@quickly
@given(parameters(), tables())
def test_refused_or_finite(parameters, data):
    check(parameters, data)


@pytest.mark.slow
@settings(quickly, max_examples=1900)
@given(parameters(), tables())
def test_refused_or_finite_at_length(parameters, data):
    check(parameters, data)
