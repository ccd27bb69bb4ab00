"""`torchlinreg fit` and `torchlinreg predict`: the answers of the estimator, and files that run nothing."""

import os
import pickle
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from torchlinreg import TorchLinearRegressor
from torchlinreg.cli import main
from torchlinreg.cli.models import tables
from torchlinreg.losses import Quantile

FEATURES = ["rooms", "age"]


@pytest.fixture
def houses(tmp_path, monkeypatch):
    """A table, which is in the folder as files, too."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": rng.integers(1, 9, 90), "age": rng.uniform(0, 80, 90)})
    table["price"] = 50.0 * table["rooms"] - 2 * table["age"] + rng.normal(size=90)
    table["rent"] = table["price"] / 100 + rng.normal(size=90)
    table["weight"] = rng.integers(1, 5, 90)
    monkeypatch.chdir(tmp_path)
    table.to_csv("houses.csv", index=False)
    table.to_csv("houses.csv.gz", index=False)
    table.to_parquet("houses.parquet", row_group_size=40)
    table.to_csv("german.csv", index=False, sep=";", decimal=",")
    table[FEATURES[::-1]].to_csv("new.csv", index=False)
    table[["rooms", "rent"]].to_csv("narrow.csv", index=False)
    return table


def run(*argv):
    assert main(argv) == 0


@pytest.fixture
def refused(capsys):
    """Run the command, see that it fails with one line, and give that."""

    def run(*argv):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith("torchlinreg: error: ")
        assert error.count("\n") == 1
        return error

    return run


def load(path="model.skops"):
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


@pytest.mark.parametrize("data", ["houses.csv", "houses.parquet", "german.csv"])
@pytest.mark.parametrize("chunks", [[], ["--chunk-rows", "25"]], ids=["whole", "in chunks"])
@pytest.mark.parametrize("output", ["predicted.parquet", "predicted.csv"])
def test_fit_and_predict_are_those_of_the_estimator(houses, data, chunks, output, capsys):
    run(
        "fit",
        data,
        "--target",
        "price",
        "--drop",
        "rent",
        "--sample-weight",
        "weight",
        "--output",
        "model.skops",
        *chunks,
    )
    expected = TorchLinearRegressor().fit(houses[FEATURES], houses["price"], sample_weight=houses["weight"])
    model = load()
    assert_allclose([*model.coef_, model.intercept_], [*expected.coef_, expected.intercept_], rtol=1e-10)
    assert model.feature_names_in_.tolist() == FEATURES
    printed = capsys.readouterr().out
    assert f"{data}: converged after" in printed
    assert f"{model.coef_[1]:.6g}" in printed
    for table in (data, "new.csv"):
        run("predict", "model.skops", table, "--output", output, *chunks)
        predicted = pd.read_parquet(output) if output.endswith("parquet") else pd.read_csv(output)
        assert list(predicted) == ["price"]
        assert_allclose(predicted["price"], expected.predict(houses[FEATURES]), rtol=1e-10)
    assert sorted(name for name in os.listdir() if "." in name[:1]) == []  # nothing unfinished


def test_large_files_are_read_in_chunks_and_small_ones_are_not(houses, monkeypatch):
    opened, original = [], tables.open_chunks
    for module in ("fitting", "prediction"):
        monkeypatch.setattr(
            f"torchlinreg.cli.models.{module}.open_chunks", lambda *a, **k: opened.append(k) or original(*a, **k)
        )
    for large, times in ((2**20, 0), (1, 2)):
        monkeypatch.setattr(tables, "LARGE_BYTES", large)
        run("fit", "houses.csv", "--target", "price", "--target", "rent", "--output", "model.skops")
        run("predict", "model.skops", "houses.csv", "--output", "out.csv")
        assert len(opened) == times
        assert list(pd.read_csv("out.csv")) == ["price", "rent"]
    run("fit", "houses.csv.gz", "--target", "price", "--output", "model.skops")


def test_parameters_and_checkpoint(houses):
    options = [
        "--loss",
        "huber",
        "--penalty",
        "l2",
        "--alpha",
        "0.5",
        "--set",
        "fit_intercept=False",
        "--set",
        "dtype=float32",
    ]
    run("fit", "houses.csv", "--target", "price", "--output", "model.skops", *options, "--checkpoint", "saved")
    chosen = {
        "loss": "huber",
        "penalty": "l2",
        "alpha": 0.5,
        "fit_intercept": False,
        "dtype": "float32",
        "random_state": 0,
    }
    assert load().get_params() == TorchLinearRegressor(**chosen).get_params()
    assert os.path.isfile("saved")
    run("fit", "diabetes", "--output", "model.skops", "--learning-rate", "1e-6", "--max-iter", "3", "--set", "tol=None")
    assert load().n_iter_ == 3


def test_encoded_columns_come_back_in_predict(houses, capsys, refused):
    rng = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=90)
    mixed = houses.drop(columns=["rent", "weight"]).assign(
        city=rng.choice(["Bern", "Basel", "Brig"], 90),
        sold=days.strftime("%d.%m.%Y"),
        size=[f"{size:.1f} m" for size in rng.uniform(20, 200, 90)],
        old=houses["age"] > 40,
    )
    mixed.loc[3:9, "age"] = np.nan
    mixed.loc[5, "price"] = np.nan
    mixed["price"] += mixed["city"].map({"Bern": 0, "Basel": 90, "Brig": -30}) + 0.5 * np.arange(90)
    mixed.to_csv("mixed.csv", index=False)
    mixed.iloc[::-1, ::-1].drop(columns="price").to_csv("backwards.csv", index=False)
    run("fit", "mixed.csv", "--target", "price", "--encode", "--output", "model.skops")
    assert "days since the first date__sold" in capsys.readouterr().out
    run("predict", "model.skops", "backwards.csv", "--output", "out.csv")
    predicted = pd.read_csv("out.csv")["price"][::-1].to_numpy()
    known = mixed["age"].notna()
    assert np.abs(predicted - mixed["price"])[known].max() < 10
    strange = mixed.head(2).assign(city="Bellinzona", sold="31.12.2031")  # as never seen before
    strange.to_csv("strange.csv", index=False)
    run("predict", "model.skops", "strange.csv", "--output", "out.csv", "--chunk-rows", "1")
    assert np.isfinite(pd.read_csv("out.csv")).all(axis=None)
    strange.assign(size="big").to_csv("strange.csv", index=False)
    assert "Missing values in column 'numbers as they are__size'" in refused(
        "predict", "model.skops", "strange.csv", "--output", "out.csv"
    )


def test_models_of_scikit_learn_and_of_this_package_are_loaded(houses):
    X, y = houses[FEATURES], houses["price"]
    for model in (LinearRegression(), TorchLinearRegressor(loss=Quantile(0.9), penalty="l1").fit(X, y).sparsify()):
        skops.io.dump(model.fit(X, y), "model.skops")
        run("predict", "model.skops", "houses.parquet", "--output", "out.csv")
        assert_allclose(pd.read_csv("out.csv")["prediction"], model.predict(X))


def os_system(table):
    raise AssertionError("ran what was in a file")


class Runs:
    def __reduce__(self):
        return os_system, (0,)


def test_nothing_else_is_loaded(houses, refused):
    X, y = houses[FEATURES], houses["price"]
    with open("pickle.skops", "wb") as file:
        pickle.dump(Runs(), file)
    skops.io.dump(make_pipeline(FunctionTransformer(os_system), LinearRegression()), "foreign.skops")
    skops.io.dump(LinearRegression().fit(X.to_numpy(), y), "nameless.skops")
    skops.io.dump({"a": 1}, "dictionary.skops")
    with zipfile.ZipFile("zip.skops", "w") as archive:
        archive.writestr("a", "b")
    whole = skops.io.dumps(LinearRegression().fit(X, y))
    with open("cut.skops", "wb") as file:
        file.write(whole[: len(whole) // 2])
    for name, reason in {
        "pickle": "pickles are not loaded",
        "foreign": "has types that are neither scikit-learn's nor this package's, and is not loaded: .*os_system",
        "nameless": "no estimator that was fitted to named columns",
        "dictionary": "no estimator that was fitted to named columns",
        "zip": "cannot load zip.skops",
        "cut": "is not a model of skops",
        "absent": "there is no file 'absent.skops'",
    }.items():
        assert re.search(reason, refused("predict", f"{name}.skops", "houses.csv", "--output", "out.csv"))
    assert not os.path.exists("out.csv")


def test_skops_is_asked_for_before_training(houses, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    for command in (["fit", "houses.csv", "--target", "price"], ["predict", "model.skops", "houses.csv"]):
        assert 'pip install "torchlinreg[export]"' in refused(*command, "--output", "out.csv")


@pytest.mark.parametrize("chunks", [[], ["--chunk-rows", "25"]], ids=["whole", "in chunks"])
def test_refusals(houses, refused, chunks):
    fit = ["fit", "houses.csv", "--target", "price", "--output", "model.skops", *chunks]
    run(*fit)
    predict = ["predict", "model.skops", "houses.csv", *chunks]
    assert "did you mean 'price'" in refused("fit", "houses.csv", "--target", "prise", "--output", "m", *chunks)
    assert "no column 'w' for --sample-weight" in refused(*fit, "--sample-weight", "w")
    assert "there is no folder absent" in refused(*fit[:4], "--output", "absent/model.skops")
    assert "there is no folder absent" in refused(*predict, "--output", "absent/out.csv")
    assert "end its name in .parquet or .csv" in refused(*predict, "--output", "out.xls")
    assert "The 'loss' parameter" in refused(*fit, "--loss", "hubert")
    assert "Invalid parameter 'dtpe'" in refused(*fit, "--set", "dtpe=3")
    lacking = refused("predict", "model.skops", "narrow.csv", "--output", "out.csv", *chunks)
    assert "narrow.csv lacks columns of the model: age, weight; it has rooms, rent" in lacking
    assert "there is no file" in refused("predict", "model.skops", "absent.csv", "--output", "out.csv", *chunks)
    houses.assign(age=houses["age"].where(houses.index != 60)).to_csv("gaps.csv", index=False)
    assert "age" in refused("predict", "model.skops", "gaps.csv", "--output", "out.csv", *chunks)
    assert not os.path.exists("out.csv")
    if chunks:
        assert "--encode needs the whole table" in refused(*fit, "--encode")
        assert "houses.csv.gz is compressed" in refused("fit", "houses.csv.gz", *fit[2:])


def test_processes_of_torchrun_share_the_chunks(houses):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "torchlinreg",
    ]
    fit = ["fit", "houses.parquet", "--target", "price", "--chunk-rows", "7", "--output"]
    done = subprocess.run([*launch, *fit, "two.skops"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved two.skops") == 1
    run(*fit, "one.skops")
    one, two = load("one.skops"), load("two.skops")
    assert_array_equal(two.coef_, one.coef_)
    assert two.intercept_ == one.intercept_
