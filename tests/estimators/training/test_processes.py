"""`process_group`: processes that learn together, to the answer and mostly the bits of one."""

import chunked
import numpy as np
import pytest
from chunked import (
    Dataset,
    as_frame,
    kill_or_learn,
    learn_from_parquet,
    learn_own,
    learn_shared,
    learn_spoilt,
    make_columns,
    standard,
)
from numpy.testing import assert_allclose, assert_equal
from ranks import Ranks

from torchlinreg import TorchLinearRegressor
from torchlinreg.losses import Huber

pytestmark = pytest.mark.slow
TEXTBOOK = {"learning_rate": 0.01, "max_iter": 2, "tol": None, "random_state": 0}
PARAMETERS = {
    "least squares": {},
    "lasso": {"penalty": "l1", "alpha": 0.1},
    "ridge of two": {"penalty": "l2", "alpha": 0.1, "fit_intercept": False},
    "Huber": {"loss": Huber(1.35)},
    "Huber, scaled": {"loss": "huber"},
    "quantile": {"loss": "quantile"},
    "Huber, L1": {"loss": Huber(1.35), "penalty": "l1", "alpha": 0.05},
    "textbook": {**TEXTBOOK, "shuffle": False},
    "textbook, shuffled": {**TEXTBOOK, "momentum": 0.9, "penalty": "l2", "alpha": 0.01, "batch_size": 50},
    "textbook, Adam": {**TEXTBOOK, "optimizer": "adam", "backend": "linear", "batch_size": 100},
}


@pytest.fixture(scope="module")
def ranks():
    """Return four processes."""
    ranks = Ranks(4)
    yield ranks
    ranks.close()


def columns_for(parameters):
    columns = make_columns()
    return standard(columns) if "learning_rate" in parameters else columns


def assert_near(found, expected):
    for name in ("coef_", "intercept_"):
        assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9 * np.abs(expected["coef_"]).max())
    assert found["t_"] == expected["t_"]


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_any_number_of_processes_gives_one_answer_for_chunks_that_they_share(ranks, parameters):
    columns = columns_for(parameters)
    alone = chunked.answer(TorchLinearRegressor(**parameters).fit_chunks(Dataset(*columns)))
    for size in (1, 2, 3, 4):
        answers = ranks.run(learn_shared, parameters, columns, size=size)
        for found in answers:
            if "learning_rate" in parameters:
                assert_near(found, alone)
                assert_equal(found, answers[0])
            else:
                assert_equal(found, alone)  # the same bits


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("sizes", [[1000], [400, 600], [850, 0, 150]], ids=str)
def test_processes_that_have_rows_of_their_own_learn_from_all_of_them(ranks, parameters, sizes):
    columns = columns_for(parameters)
    expected = ranks.run(learn_own, parameters, columns, [1000], size=1)[0]
    answers = ranks.run(learn_own, parameters, columns, sizes, size=len(sizes))
    for found in answers:
        assert_near(found, expected)
        assert_equal(found, answers[0])
    whole = TorchLinearRegressor(**parameters).fit(*columns)
    assert_allclose(expected["coef_"], whole.coef_, rtol=1e-5, atol=1e-6 * np.abs(whole.coef_).max())


def test_any_number_of_processes_gives_the_same_bits_for_a_file(ranks, tmp_path):
    path = tmp_path / "table.parquet"
    as_frame(make_columns()).to_parquet(path, row_group_size=150)
    alone = learn_from_parquet(None, path)
    for size in (1, 2, 3, 4):
        for found in ranks.run(learn_from_parquet, path, size=size):
            assert_equal(found, alone)


def test_iterables_are_each_processs_own(ranks):
    columns = make_columns()
    expected = TorchLinearRegressor().fit(*columns)
    for found in ranks.run(learn_own, {}, columns, [300, 500, 200], True, size=3):
        assert_allclose(found["coef_"], expected.coef_, rtol=1e-9)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("NaN", r"rank 1 of 3: .*NaN.*column"),
        ("columns", r"same columns.*rank 1: 3 features"),
        ("parameters", r"rank 1 has penalty='l2', but rank 0 has penalty=None"),
        ("weights", r"rank 1 of 3: .*sample_weight"),
    ],
)
def test_what_one_process_refuses_all_refuse(ranks, what, message):
    for error in ranks.run(learn_spoilt, 1, what, size=3):
        assert isinstance(error, ValueError)
        assert_matches(message, str(error))
    assert_equal(len(ranks.run(learn_spoilt, None, what, size=3)), 3)  # nobody is left waiting


def assert_matches(pattern, text):
    with pytest.raises(ValueError, match=f"(?s){pattern}"):
        raise ValueError(text)


def test_a_run_goes_on_with_another_number_of_processes(ranks, tmp_path):
    columns, path = make_columns(), tmp_path / "fit.safetensors"
    alone = chunked.answer(TorchLinearRegressor().fit_chunks(Dataset(*columns)))
    with pytest.raises(OSError, match="disk"):
        TorchLinearRegressor().fit_chunks(Dataset(*columns, breaks_at=3), checkpoint=path)
    for found in ranks.run(learn_shared, {}, columns, path, size=3):
        assert_equal(found, alone)


@pytest.mark.parametrize("victim", [0, 2])
def test_a_process_that_is_killed_is_named_by_the_others(victim):
    ranks = Ranks(3)
    try:
        columns, others = make_columns(), [rank for rank in range(3) if rank != victim]
        assert len(ranks.run(learn_shared, {}, columns, size=3)) == 3
        for rank in range(3):
            ranks.send(rank, kill_or_learn, victim, columns, size=3)
        for rank in others:
            error = ranks.receive(rank)
            assert isinstance(error, RuntimeError)
            assert f"rank {victim} is gone" in str(error)
    finally:
        ranks.close()
