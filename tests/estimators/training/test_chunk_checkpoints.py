"""`checkpoint` of `fit_chunks`: a run that breaks off goes on from what is saved, to the bits of one that does not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from chunked import Dataset, answer, make_columns, standard
from numpy.testing import assert_equal

from torchlinreg import TorchLinearRegressor
from torchlinreg.estimators.training import journal
from torchlinreg.losses import Huber

pytestmark = pytest.mark.slow
TEXTBOOK = {"learning_rate": 0.01, "max_iter": 3, "tol": None, "random_state": 0}
PARAMETERS = {
    "least squares": {},
    "lasso": {"penalty": "l1", "alpha": 0.1},
    "Huber": {"loss": Huber(1.35)},
    "quantile": {"loss": "quantile", "random_state": 0},
    "textbook": {**TEXTBOOK, "momentum": 0.9},
    "textbook, Adam": {**TEXTBOOK, "optimizer": "adam", "backend": "linear", "schedule": "invscaling"},
    "textbook, averaged": {**TEXTBOOK, "average": 2, "penalty": "l1", "alpha": 0.01},
}


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Save after every chunk."""
    monkeypatch.setattr(journal, "OVERHEAD", 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.safetensors"


def learn(parameters, chunks, path):
    return answer(TorchLinearRegressor(**parameters).fit_chunks(chunks, checkpoint=path))


def columns_for(parameters):
    return standard(make_columns()) if "learning_rate" in parameters else make_columns()


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_a_run_that_breaks_off_anywhere_goes_on(parameters, path):
    columns, uninterrupted = columns_for(parameters), Dataset(*columns_for(parameters))
    expected = answer(TorchLinearRegressor(**parameters).fit_chunks(uninterrupted))
    n_readings, n_chunks = len(uninterrupted.read), len(uninterrupted)
    for breaks_at in sorted({*range(1, n_readings, max(1, n_readings // 2)), n_readings - 1}):
        path.unlink(missing_ok=True)
        Path(f"{path}.previous").unlink(missing_ok=True)
        with pytest.raises(OSError, match="the disk is gone"):
            learn(parameters, Dataset(*columns, breaks_at=breaks_at), path)
        chunks = Dataset(*columns)
        assert_equal(learn(parameters, chunks, path), expected)
        # In textbook mode an epoch begins anew; in others, the chunk that was read ahead
        again = n_chunks + 2 if "learning_rate" in parameters else 3
        assert len(chunks.read) <= n_readings - breaks_at + again


def test_a_run_that_breaks_off_again_and_again(path):
    parameters, columns = {"loss": Huber(1.35)}, make_columns()
    expected = answer(TorchLinearRegressor(**parameters).fit_chunks(Dataset(*columns)))
    while True:
        try:
            found = learn(parameters, Dataset(*columns, breaks_at=20), path)
        except OSError:
            continue
        break
    assert_equal(found, expected)


def test_a_run_that_is_done_reads_one_chunk(path):
    columns = make_columns()
    expected = learn({}, Dataset(*columns), path)
    chunks = Dataset(*columns)
    assert_equal(learn({}, chunks, path), expected)
    assert chunks.read == [0]  # to see whether they are the same


def test_the_seed_is_kept(path):
    parameters, columns = TEXTBOOK | {"random_state": None}, standard(make_columns())
    expected = learn(parameters, Dataset(*columns), path)
    assert_equal(learn(parameters, Dataset(*columns), path), expected)


OTHERS = {
    "alpha": (lambda X, y, w: (X, y, w), {"penalty": "l2", "alpha": 0.2}, "alpha"),
    "values": (lambda X, y, w: (X + 1, y, w), {}, "first chunk"),
    "columns": (lambda X, y, w: (X[:, :4], y, w), {}, "columns"),
    "precision": (lambda X, y, w: (X.astype("f"), y, w), {}, "columns"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_something_else_is_refused_by_name(path, other):
    change, parameters, name = OTHERS[other]
    ridge = {"penalty": "l2", "alpha": 0.1}
    columns = make_columns()
    learn(ridge, Dataset(*columns), path)
    with pytest.raises(ValueError, match=name):
        learn(ridge | parameters, Dataset(*change(*columns)), path)
    with pytest.raises(ValueError, match="chunks"):
        learn(ridge, Dataset(*columns, cuts=[0, 310, 310, 1000]), path)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(path):
    columns = make_columns()
    expected = learn({}, Dataset(*columns), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    chunks = Dataset(*columns)
    with pytest.warns(UserWarning, match="damaged"):
        assert_equal(learn({}, chunks, path), expected)
    assert len(chunks.read) <= 3


def test_saving_takes_a_small_share_of_the_time(path, monkeypatch):
    monkeypatch.setattr(journal, "OVERHEAD", 1e9)
    saved, save = [], journal.CheckpointFile.save
    monkeypatch.setattr(journal.CheckpointFile, "save", lambda *given: saved.append(save(*given)))
    learn({}, Dataset(*make_columns()), path)
    assert len(saved) == 2  # the first time, and at the end


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({**TEXTBOOK, "tol": 1e-3}, "tol=0.001"),
        ({**TEXTBOOK, "schedule": "adaptive"}, "schedule='adaptive'"),
    ],
    ids=str,
)
def test_what_a_checkpoint_does_not_keep_is_refused(path, parameters, message):
    with pytest.raises(ValueError, match=message):
        learn(parameters, Dataset(*make_columns()), path)


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from chunked import Dataset, make_columns
from torchlinreg import TorchLinearRegressor
path, kills_at = sys.argv[1], int(sys.argv[2])
chunks = Dataset(*make_columns(), kills_at=None if kills_at < 0 else kills_at)
model = TorchLinearRegressor().fit_chunks(chunks, checkpoint=path)
Path(path + ".answer").write_text(" ".join(value.hex() for value in [*model.coef_, model.intercept_]))
"""


def test_a_process_that_is_killed_goes_on_in_the_next(path):
    support = str(Path(__file__).parents[2] / "support")

    def run(kills_at):
        command = [sys.executable, "-c", PROGRAM, str(path), str(kills_at)]
        environment = {"PYTHONPATH": f"{support}:{Path(__file__).parents[3]}"}
        return subprocess.run(command, env=environment, check=False, timeout=300).returncode

    assert run(5) == -9
    assert path.exists()
    assert run(-1) == 0
    model = TorchLinearRegressor().fit_chunks(Dataset(*make_columns()))
    found = np.array([float.fromhex(value) for value in Path(f"{path}.answer").read_text().split()])
    np.testing.assert_allclose(found, [*model.coef_, model.intercept_], rtol=1e-12)  # threads may differ
