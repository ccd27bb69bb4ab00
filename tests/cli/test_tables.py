"""Tables as they are found: each kind of awkward file is read, encoded and learnt from with `--encode` alone."""

import gzip

import numpy as np
import pandas as pd
import pytest

from torchlinreg.cli import main
from torchlinreg.inputs.files import read_table, unusable

N_ROWS = 60
CITIES = ["Zürich", "Genève", "Bern"]


@pytest.fixture
def numbers():
    """Rooms, area and age, and a price that depends on rooms and area."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"rooms": rng.integers(1, 9, N_ROWS), "area": rng.uniform(20, 200, N_ROWS).round(1)})
    table["age"] = rng.integers(0, 90, N_ROWS)
    table["price"] = (50 * table["rooms"] + 3 * table["area"] + rng.normal(0, 5, N_ROWS)).round(2)
    return table


def semicolons_and_decimal_commas(table, file):
    table.assign(city=CITIES * 20).to_csv(file, sep=";", decimal=",", index=False)
    return ["as they are: rooms, area, age", "one-hot: city (3 values)"]


def latin_1(table, file):
    table.assign(städte=CITIES * 20).to_csv(file, index=False, encoding="latin-1")
    return ["one-hot: städte (3 values)"]


def tabs_and_padding(table, file):
    lines = ["\t".join(f" {name} " for name in [*table, "city"])]
    for row, city in zip(table.itertuples(index=False), CITIES * 20, strict=True):
        lines.append("\t".join(f"  {value} " for value in [*row, city]))
    file.write_text("\n".join(lines), encoding="utf-8")
    return ["as they are: rooms, area, age", "one-hot: city (3 values)"]


def dates_of_many_kinds(table, file):
    days = pd.date_range("2019-01-20", periods=N_ROWS, freq="17D")
    formats = ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%b-%y", "%B %d, %Y", "%Y/%m/%d %H:%M", "%x"]
    dates = {f"date{number}": days.strftime(format) for number, format in enumerate(formats)}
    mixed = [day.strftime(formats[number % 2]) for number, day in enumerate(days)]
    table.assign(**dates, mixed=mixed, zone=days.tz_localize("UTC").map(str)).to_csv(file, index=False)
    return ["days since the first date: date0, date1, date2, date3, date4, date5, date6, date7, mixed, zone"]


def gaps_of_many_spellings(table, file):
    words = ["NA", "", "?", "null", "n/a", "-", "NaN", "None", " NA ", "missing"]
    table["age"] = [words[row // 2] if row % 2 and row < 20 else value for row, value in enumerate(table["age"])]
    table["rooms"] = ["?" if row == 7 else value for row, value in enumerate(table["rooms"])]
    table["price"] = ["null" if row in (3, 4) else value for row, value in enumerate(table["price"])]
    table.to_csv(file, index=False)
    return ["missing values filled with the mean: rooms (1 missing)", "in a column more: age (9 missing)", "2 more"]


def booleans(table, file):
    garden, lift = [True, False] * 30, ["yes", "no", "yes", "no", "no", ""] * 10
    table.assign(garden=garden, lift=lift, gap=["True", "False", ""] * 20).to_csv(file, index=False)
    return ["one-hot: garden (2 values), lift (3 values), gap (3 values)"]


def useless_columns(table, file):
    names = [f"House of family {number:03}" for number in range(N_ROWS)]
    table.assign(name=names, house_id=range(7, N_ROWS + 7), land="CH", note="", zero=0).to_csv(file)
    return [
        "as they are: rooms, area, age left out: ",
        "Unnamed: 0 (numbers the rows), name (nearly all values differ),",
        "house_id (numbers the rows), land (always the same), note (empty), zero",
    ]


def numbers_in_texts(table, file):
    table["area"] = [f"{value} m²" for value in table["area"]]
    table["age"] = [f"{1000 + 50 * value:,}" for value in table["age"]]
    way = [f"{value / 10} km" for value in range(N_ROWS)]
    year = [*range(1950, 1950 + N_ROWS - 2), "unknown", "old"]
    table["price"] = [f"${value:,.2f}" for value in table["price"]]
    table.assign(way=way, year=year).to_csv(file, index=False)
    return ["as they are: rooms, area (in m²), age, way (in km)", "year ('unknown' and the like are missing"]


def names_that_come_twice(table, file):
    text = table.assign(more=1.0 * table["age"] ** 2, city=CITIES * 20).to_csv(index=False)
    file.write_text(text.replace("age", "rooms", 1).replace("more", " rooms ", 1), encoding="utf-8")
    return ["as they are: rooms, area, rooms.1, rooms.2"]


def byte_order_mark_and_quoted_newlines(table, file):
    notes = ["first,\nsecond; third", 'says "so"', "a;b;c\n\n"] * 20
    table.insert(0, "note", notes)
    table.to_csv(file, index=False, encoding="utf-8-sig")
    return ["one-hot: note (3 values)"]


def compressed(table, file):
    file.write_bytes(gzip.compress(table.assign(city=CITIES * 20).to_csv(index=False, sep="|").encode()))
    return ["one-hot: city (3 values)"]


def parquet(table, file):
    table["rooms"] = table["rooms"].astype("Int64").mask(table.index < 4)
    table["city"] = pd.Categorical(CITIES * 20)
    table["sold"] = pd.date_range("2020-01-01", periods=N_ROWS).date
    table["took"] = pd.to_timedelta(range(N_ROWS), unit="h")
    table["garden"] = pd.array([True, None, False] * 20, dtype="boolean")
    table.to_parquet(file)
    return [
        "took (in days)",
        "rooms (4 missing)",
        "days since the first date: sold",
        "city (3 values), garden (3 values)",
    ]


FILES = {
    semicolons_and_decimal_commas: "table.csv",
    latin_1: "table.csv",
    tabs_and_padding: "table.tsv",
    dates_of_many_kinds: "table.csv",
    gaps_of_many_spellings: "table.csv",
    booleans: "table.csv",
    useless_columns: "table.csv",
    numbers_in_texts: "table.csv",
    names_that_come_twice: "table.csv",
    byte_order_mark_and_quoted_newlines: "table.csv",
    compressed: "table.csv.gz",
    parquet: "table.parquet",
}


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
def test_awkward_files_need_one_option(write, numbers, tmp_path, capsys):
    file = tmp_path / FILES[write]
    expected = write(numbers, file)
    options = ["--encoding", "latin-1"] if write is latin_1 else []
    assert main(["compare", str(file), "--target", "price", "--encode", *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    told = " ".join(printed.out.split())
    assert [says for says in expected if says not in told] == []
    scores = [line.split() for line in printed.out.splitlines() if line.startswith(("LinearReg", "TorchLin"))]
    for _, train, test, difference, *_ in scores:
        assert float(train) > 0.95
        assert float(test) > 0.9
        assert float(difference) < 1e-6


@pytest.mark.parametrize("decimal", [None, ","])
@pytest.mark.parametrize("sep", [";", "\t", "|", ","])
def test_decimal_commas_and_groups(tmp_path, sep, decimal):
    cells = [["a", "b"], ["1,5", "1.234,5"], ["-2,25", "12"], ["3", ""]]
    text = "\n".join(sep.join(f'"{cell}"' for cell in row) for row in cells)
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    table, found = read_table(str(tmp_path / "table.csv"), decimal=decimal)
    assert found == ","
    assert table["a"].tolist() == [1.5, -2.25, 3]
    assert table["b"].tolist()[:2] == [1234.5, 12]
    assert np.isnan(table["b"][2])


def test_groups_of_thousands(tmp_path):
    (tmp_path / "table.csv").write_text('a,b,c\n"1,234",5 000,1\'000\n"1,234,567.5",2,3\n', encoding="utf-8")
    table, decimal = read_table(str(tmp_path / "table.csv"))
    assert decimal == "."
    assert table.to_numpy().tolist() == [[1234, 5000, 1000], [1234567.5, 2, 3]]


@pytest.mark.parametrize(("sep", "given"), [(":", ":"), ("   ", r"\s+"), ("::", "::"), ("\t", r"\t"), ("\t", "tab")])
def test_sep(tmp_path, sep, given):
    (tmp_path / "table.csv").write_text("\n".join(sep.join(row) for row in ["ab", "12", "34"]), encoding="utf-8")
    table, _ = read_table(str(tmp_path / "table.csv"), sep=given)
    assert table.to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_spaces_separate_where_nothing_else_does(tmp_path):
    (tmp_path / "table.txt").write_text('  a    "b c"\n 1.5   2\n10     "x y"\n', encoding="utf-8")
    table, _ = read_table(str(tmp_path / "table.txt"))
    assert table.to_dict("list") == {"a": [1.5, 10], "b c": ["2", "x y"]}
    (tmp_path / "table.txt").write_text("a b,c\nd e,f g\n", encoding="utf-8")
    assert list(read_table(str(tmp_path / "table.txt"))[0]) == ["a b", "c"]


def test_one_column_asks_for_sep(tmp_path):
    (tmp_path / "table.csv").write_text("a:b\n1:2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"came out as one column, 'a:b': .* with --sep"):
        read_table(str(tmp_path / "table.csv"))


@pytest.mark.parametrize(("encoding", "says"), [("latin-1", "--encoding latin-1"), ("utf-16", "--encoding utf-16")])
def test_another_encoding_is_suggested(tmp_path, encoding, says):
    (tmp_path / "table.csv").write_text("a,städte\n1,Zürich\n", encoding=encoding)
    with pytest.raises(ValueError, match=f"it is not UTF-8.*{says}"):
        read_table(str(tmp_path / "table.csv"))
    table, _ = read_table(str(tmp_path / "table.csv"), encoding=encoding)
    assert table.to_dict("list") == {"a": [1], "städte": ["Zürich"]}


def test_a_separator_at_the_end_of_each_line_is_no_column(tmp_path):
    (tmp_path / "table.csv").write_text("a;b;\n1;2;\n3;4;\n", encoding="utf-8")
    assert list(read_table(str(tmp_path / "table.csv"))[0]) == ["a", "b"]


def test_an_index_with_a_name_is_a_column(tmp_path, numbers):
    numbers.set_index("age").to_parquet(tmp_path / "table.parquet")
    assert set(read_table(str(tmp_path / "table.parquet"))[0]) == set(numbers)


def test_unusable_columns_are_counted():
    table = pd.DataFrame({"a": ["x", "y", "x"], "b": pd.to_datetime(["2020", None, "2020"]), "c": [1, np.nan, np.inf]})
    assert unusable(table) == {"text": {"a": 2}, "dates": {"b": 1}, "missing or infinite values": {"c": 2}}
    assert unusable(table.assign(a=1, b=True, c=pd.array([1, 2, 3], dtype="Int64"))) == {}
