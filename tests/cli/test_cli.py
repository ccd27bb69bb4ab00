import builtins
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import torchlinreg
from torchlinreg.cli import main

SGD_NEEDS_MORE_ROWS = pytest.mark.filterwarnings(
    r"ignore:SGDRegressor \(scaled\). Maximum number of iteration", "ignore:Maximum number of iteration"
)
ROWS = ["LinearRegression", "Ridge", "SGDRegressor (scaled)", "TorchLinearRegressor"]


@pytest.fixture
def houses(tmp_path, monkeypatch):
    """A folder to work in, with a table in it."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": rng.integers(1, 9, 60), "age": rng.uniform(0, 80, 60)})
    table["price"] = 50.0 * table["rooms"] - 2 * table["age"] + rng.normal(size=60)
    table["rent"] = table["price"] / 100 + rng.normal(size=60) / 100
    table["city"] = ["Bern", "Basel", "Brig"] * 20
    monkeypatch.chdir(tmp_path)
    table.to_csv("mixed.csv", index=False)
    table.drop(columns="city").to_csv("houses.csv", index=False)
    table.drop(columns="city").to_csv("houses.csv.gz", index=False)
    table.drop(columns="city").to_parquet("houses.parquet")
    table.drop(columns="city").assign(age=table["age"].where(table.index > 3)).to_csv("gaps.csv", index=False)
    table.drop(columns="city").assign(age=np.inf).to_csv("endless.csv", index=False)
    table.head(0).to_csv("heading.csv", index=False)
    table.drop(columns="city").head(2).to_csv("short.csv", index=False)
    table[["rooms", "price"]].assign(price="NA").to_csv("void.csv", index=False)
    table[["rooms", "price"]].assign(rooms=1).to_csv("same.csv", index=False)
    (tmp_path / "colons.csv").write_text("rooms:age\n1:2\n", encoding="utf-8")
    (tmp_path / "nothing.csv").touch()
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "noise.parquet").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.fixture
def ok(capsys):
    """Run the command, see that it succeeds without complaint, and give what it printed."""

    def run(*argv):
        assert main(argv) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


@pytest.fixture
def refused(capsys):
    """Run the command, see that it fails with one line, or as many as said, and give them."""

    def run(*argv, lines=1):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith("torchlinreg: error: ")
        assert error.count("\n") == lines
        return error

    return run


def without(monkeypatch, package):
    real = builtins.__import__

    def guarded(name, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)


def scores(printed):
    return [line.split()[-5:-2] for line in printed.splitlines() if line.startswith(tuple(ROWS))]


@pytest.mark.parametrize("argv", [["compare"], ["compare", "diabetes"]])
def test_diabetes_by_default(ok, argv):
    printed = ok(*argv)
    assert "diabetes: 442 rows, 25% of them held out" in printed
    assert "10 features: age, sex, bmi" in printed
    assert "1 target: target" in printed
    assert all(any(line.startswith(row) for line in printed.splitlines()) for row in ROWS)
    assert max(map(len, printed.splitlines())) <= 80


@SGD_NEEDS_MORE_ROWS
def test_crops(ok):
    printed = ok("compare", "crops")
    assert "crops: 5 rows" in printed
    assert "2 targets: apples, oranges" in printed


def test_linnerud(ok):
    assert "3 targets: Weight, Waist, Pulse" in ok("compare", "linnerud")


def test_some_targets_of_a_built_in_set(ok):
    printed = ok("compare", "linnerud", "--target", "Pulse", "--target", "Weight")
    assert "3 features: Chins, Situps, Jumps" in printed
    assert "2 targets: Pulse, Weight" in printed


@pytest.mark.parametrize("file", ["houses.csv", "houses.csv.gz", "houses.parquet"])
def test_files(houses, ok, file):
    printed = ok("compare", file, "--target", "price", "--drop", "rent")
    assert f"{file}: 60 rows" in printed
    assert "2 features: rooms, age" in printed
    assert "1 target: price" in printed


def test_several_targets(houses, ok):
    assert "2 targets: price, rent" in ok("compare", "houses.csv", "--target", "price", "--target", "rent")


def test_text_columns_can_be_dropped(houses, ok):
    assert "3 features: rooms, age, rent" in ok("compare", "mixed.csv", "--target", "price", "--drop", "city")


def test_many_columns_are_not_all_listed(tmp_path, ok):
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(80, 15))).to_parquet(tmp_path / "wide.parquet")
    printed = ok("compare", str(tmp_path / "wide.parquet"), "--target", "14")
    assert "14 features: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 4 more" in printed


def test_options_reach_the_estimator(houses, ok):
    options = ["--test-size", "0.5", "--random-state", "3", "--device", "cpu", "--backend", "linear"]
    printed = ok("compare", "houses.csv", "--target", "price", *options)
    assert "60 rows, 50% of them held out" in printed


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot(houses, ok, ending):
    printed = ok("compare", "houses.csv", "--target", "price", "--plot", f"picture.{ending}")
    assert printed.endswith(f"\nsaved picture.{ending}\n")
    assert (houses / f"picture.{ending}").stat().st_size > 1000


@SGD_NEEDS_MORE_ROWS
def test_plot_has_a_panel_for_each_target(houses, ok):
    ok("compare", "crops", "--plot", "crops.svg")
    assert (houses / "crops.svg").stat().st_size > 1000


def test_plot_of_encoded_columns(houses, ok):
    printed = ok("compare", "mixed.csv", "--target", "price", "--encode", "--plot", "picture.svg")
    assert "one-hot: city (3 values)" in printed
    assert "saved picture.svg" in printed


def test_plot_shows_the_first_targets_of_many(houses, ok):
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(60, 9)), columns=list("abcdefghi")).to_csv("many.csv", index=False)
    targets = [argument for name in "abcdefgh" for argument in ("--target", name)]
    printed = ok("compare", "many.csv", *targets, "--plot", "picture.png")
    assert "saved picture.png, which shows the first 6 targets" in printed


def test_encode_changes_nothing_where_all_are_numbers(houses, ok):
    plain = ok("compare", "houses.csv", "--target", "price")
    encoded = ok("compare", "houses.csv", "--target", "price", "--encode")
    assert "numbers as they are: rooms, age, rent" in encoded
    assert scores(plain) == scores(encoded)


def test_rows_without_target_are_left_out(houses, ok):
    table = pd.read_csv("houses.csv")
    table.assign(price=table["price"].where(table.index > 4)).to_csv("some.csv", index=False)
    printed = ok("compare", "some.csv", "--target", "price", "--encode")
    assert "some.csv: 55 rows, 25% of them held out\n5 more without target, left out\n" in printed


@SGD_NEEDS_MORE_ROWS
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("diabtes", "there is no file 'diabtes': give the path of a CSV or Parquet file, or one of diabetes"),
        ("no.csv --target price", "there is no file 'no.csv'"),
        ("no.parquet --target price", "there is no file 'no.parquet'"),
        ("folder --target price", "cannot read folder as CSV"),
        ("noise.csv --target price", "cannot read noise.csv as CSV"),
        ("noise.parquet --target price", "cannot read noise.parquet as Parquet"),
        ("nothing.csv --target price", "nothing.csv is empty"),
        ("heading.csv --target price", "heading.csv holds no rows"),
        ("colons.csv --target price", "colons.csv came out as one column, 'rooms:age': say what separates its columns"),
        ("void.csv --target price --encode", "void.csv keeps no row to learn from"),
        ("same.csv --target price --encode", "same.csv keeps no feature column to learn from"),
        ("short.csv --target price", "raise test_size or bring more rows"),
        ("houses.csv", "with --target COL; it has rooms, age, price, rent"),
        ("houses.csv --target prize", "no column 'prize' for --target: choose from rooms, age, price, rent"),
        ("houses.csv --target price --drop garden", "no column 'garden' for --drop: choose from rooms"),
        ("houses.csv --target price --drop price", "keeps no target column"),
        ("houses.csv --target price --drop rooms --drop age --drop rent", "keeps no feature column"),
        (
            "linnerud --target weight",
            "linnerud has no column 'weight' for --target: choose from Weight, Waist",
        ),
        ("diabetes --target bmi", "diabetes has no column 'bmi' for --target: choose from target"),
        ("crops --plot picture", "end its name in .png"),
        ("crops --plot picture.csv", "end its name in .png"),
        ("crops --plot no/picture.png", "there is no folder no; make it first"),
        ("crops --plot taken.png", "cannot save taken.png"),
        ("crops --device warp", "warp"),
    ],
)
def test_what_the_user_can_mend_is_told_in_one_line(houses, refused, command, says):
    (houses / "taken.png").mkdir()
    assert says in refused("compare", *command.split())


def test_all_columns_that_cannot_be_used_are_told_at_once(houses, refused):
    table = pd.read_csv("mixed.csv")
    table["owner"] = ["Ann", "Bo"] * 30
    table["sold"] = [f"{day % 28 + 1}.3.2021" for day in range(60)]
    table["age"] = table["age"].where(table.index > 3)
    table["rent"] = np.inf
    table.to_csv("bad.csv", index=False)
    error = refused("compare", "bad.csv", "--target", "price", lines=5)
    assert "bad.csv has columns that cannot be used as they are\n" in error
    assert "  text: 'city' (3 different), 'owner' (2 different)\n" in error
    assert "  dates: 'sold' (28 different)\n" in error
    assert "  missing or infinite values: 'age' (4), 'rent' (60)\n" in error
    assert "--encode, or leave columns out with --drop COL" in error


@pytest.mark.parametrize("encode", [[], ["--encode"]])
def test_a_target_of_text_is_refused(houses, refused, encode):
    error = refused("compare", "mixed.csv", "--target", "city", *encode)
    assert "target 'city' of mixed.csv is text or dates, such as 'Bern', and regressions predict numbers" in error
    assert "for example rooms, age, price, rent" in error


@pytest.mark.parametrize(
    ("option", "name", "says"),
    [
        ("--target", "prize", "did you mean 'price'?"),
        ("--target", "PRICE", "did you mean 'price'?"),
        ("--drop", "room", "did you mean 'rooms'?"),
    ],
)
def test_near_misses_of_names(houses, refused, option, name, says):
    assert says in refused("compare", "houses.csv", "--target", "price", option, name)


def test_names_are_found_without_the_spaces_around_them(houses, ok):
    assert "2 features: rooms, age" in ok("compare", "houses.csv", "--target", " price ", "--drop", "rent ")


def test_without_matplotlib(houses, refused, monkeypatch):
    without(monkeypatch, "matplotlib")
    assert 'pip install "torchlinreg[plot]"' in refused("compare", "crops", "--plot", "picture.png")


def test_without_pyarrow(houses, refused, monkeypatch):
    monkeypatch.setattr(pd, "read_parquet", lambda _: (_ for _ in ()).throw(ImportError("no engine")))
    assert 'pip install "torchlinreg[parquet]"' in refused("compare", "houses.parquet", "--target", "price")


def test_warnings_are_one_line_each(houses, capsys, monkeypatch):
    def warn(_):
        warnings.warn("careful,\n  this is slow", UserWarning, stacklevel=1)
        return pd.DataFrame({"a": range(9), "b": range(9)})

    monkeypatch.setattr(pd, "read_parquet", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["compare", "any.parquet", "--target", "b"]) == 0
    assert "torchlinreg: warning: careful, this is slow\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dance"],
        ["compare", "--test-size", "1"],
        ["compare", "--test-size", "x"],
        ["compare", "--backend", "x"],
    ],
)
def test_arguments_that_cannot_be_read(capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "torchlinreg" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "says"), [("--version", torchlinreg.__version__), ("--help", "compare")])
def test_version_and_help(capsys, option, says):
    with pytest.raises(SystemExit) as stopped:
        main([option])
    assert stopped.value.code == 0
    assert says in capsys.readouterr().out


def test_python_m_needs_no_screen(tmp_path):
    picture = tmp_path / "diabetes.png"
    command = [sys.executable, "-m", "torchlinreg", "compare", "--plot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "TorchLinearRegressor" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_table_may_come_through_a_pipe(houses, ok):
    end, start = os.pipe()
    with open(start, "wb") as pipe:
        pipe.write((houses / "houses.csv").read_bytes())
    try:
        assert "3 features: rooms, age, rent" in ok("compare", f"/dev/fd/{end}", "--target", "price")
    finally:
        os.close(end)
