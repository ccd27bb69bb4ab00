"""The benchmarks run, on tables too small to learn from, and their yardstick is right. Nothing here looks at a time."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import AT_AN_END
from hard_cases import CASES, least_squares
from sklearn.linear_model import Ridge

from benchmarks import (
    grid,
    imports,
    lasso,
    memory,
    merging,
    passes,
    sparse,
    tables,
    targets,
    untuned,
)
from benchmarks.__main__ import BENCHMARKS
from benchmarks.reference import KINDS, Error, Judge, LeastSquares, Size
from benchmarks.timing import FEWEST_ROUNDS, Timings, alternate

SMALL = Size(300, 12)


def cells(table):
    """Cells of a Markdown table, row by row, without the rule below the header."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert set(lines[1]) <= set("| -:")
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[:1] + lines[2:]]
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_tables_have_the_shape_and_precision_asked_for(kind, dtype):
    X, y = Size(400, 25, kind).make(dtype)
    assert X.shape == (400, 25)
    assert y.shape == (400,)
    assert X.dtype == y.dtype == dtype
    assert X.flags.c_contiguous
    assert all(np.array_equal(one, other) for one, other in zip(Size(400, 25, kind).make(dtype), (X, y), strict=True))


@pytest.mark.parametrize(("kind", "condition", "offset"), [("mild", 10, 1), ("correlated", 1e4, 10)])
def test_gaussian_columns_are_as_described(kind, condition, offset):
    X, _ = Size(20_000, 10, kind).make("float64")
    assert np.linalg.cond(X - X.mean(0)) == pytest.approx(condition, rel=0.1)
    # The spread is one on the whole, and differs a little from column to column
    assert X.var(0).mean() == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(X.mean(0), offset, atol=0.1)


def test_dummies_are_full_sets():
    X, _ = Size(500, 50, "dummies").make("float32")
    assert set(np.unique(X)) == {0, 1}
    for columns in (slice(0, 20), slice(20, 40), slice(40, 50)):
        np.testing.assert_array_equal(X[:, columns].sum(1), 1)


def test_titles_of_sizes():
    titles = [size.title for size in (Size(442, 10), Size(200_000, 1000), Size(1_000_000, 100, "dummies"))]
    assert titles == ["442×10", "2e5×1000", "1e6×100, dummies"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_rows", [20, 3000])
def test_the_yardstick_agrees_with_the_one_of_the_tests(kind, n_rows, dtype, monkeypatch):
    monkeypatch.setattr("benchmarks.reference.BLOCK_ELEMENTS", 4000)
    X, y = Size(n_rows, 40, kind).make(dtype)
    coef, intercept = least_squares(X, y)
    expected = X.astype(float) @ coef[0] + intercept
    assert Judge(X, y)(lambda rows: expected).largest < 1e-11


@pytest.mark.parametrize("name", ["constant_columns", "one_row", "timestamps_years_and_fractions", "lognormal"])
def test_the_yardstick_on_hard_tables(name, rng):
    X, y, *_ = CASES[name](rng)
    coef, intercept = least_squares(X, y)
    np.testing.assert_allclose(LeastSquares.fit(X, y).predict(X), X @ coef[0] + intercept, atol=1e-9 * np.ptp(y))


def test_errors_are_in_spreads_of_the_target_and_infinite_for_nonsense(monkeypatch):
    monkeypatch.setattr("benchmarks.reference.EVALUATED_ROWS", 100)
    X, y = SMALL.make("float64")
    judge = Judge(X, y)
    assert len(judge.X) == 100
    answer = LeastSquares.fit(X, y)
    error = judge(lambda rows: answer.predict(rows) + 0.5 * y.std())
    assert (error.rms, error.largest) == pytest.approx((0.5, 0.5))
    assert judge(lambda rows: np.full(len(rows), np.nan)) == Error(math.inf, math.inf)


def test_a_contender_out_of_patience_runs_once():
    runs = []
    contenders = {name: lambda name=name: runs.append(name) for name in ("patient", "slow")}
    timings = alternate(contenders, rounds=5, patience={"slow": -1.0})
    assert runs == ["patient", "slow"] + ["patient"] * 5
    assert (timings.n_runs("patient"), timings.n_runs("slow")) == (5, 1)


def test_a_slow_contender_may_run_a_few_times():
    runs = []
    contenders = {name: lambda name=name: runs.append(name) for name in ("patient", "slow")}
    timings = alternate(contenders, rounds=5, patience={"slow": -1.0}, runs_if_slow=3)
    assert runs == ["patient", "slow"] * 3 + ["patient"] * 3
    assert (timings.n_runs("patient"), timings.n_runs("slow")) == (5, 3)


def test_ratios_of_rounds_and_of_medians():
    timings = Timings({"one": [1, 2, 9], "two": [1, 4, 27], "slow": [6]})
    assert timings.ratio("two", "one") == 2
    assert timings.ratio("slow", "one") == 3


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_who_is_compared_fits_a_table(kind, dtype, monkeypatch):
    monkeypatch.setattr(untuned, "ROUNDS_IF_SMALL", FEWEST_ROUNDS)
    result = untuned.measure(Size(300, 12, kind), dtype, quick=True)
    header, *rows = cells(untuned.result_table(result))
    assert len(header) == 7
    assert [row[0].split(", ")[0] for row in rows] == [name.split(", ")[0] for name in result.errors]
    assert result.errors[targets.OURS].largest < (1e-4 if dtype == "float32" else 1e-8)
    assert result.errors[targets.RIDGE].largest < 0.1
    assert result.errors[targets.SGD].rms < 0.1
    assert all(math.isfinite(error.rms) for error in result.errors.values())


@pytest.mark.parametrize("fit", [untuned.fit_skorch, untuned.fit_loop])
def test_the_loops_learn(fit, dtype):
    X, y = SMALL.make(dtype)
    assert Judge(X, y)(fit(X, y, n_epochs=untuned.few_epochs(len(X)))).rms < 0.3


def result_of(title, seconds, rms, coef_error=math.nan):
    names = [targets.OURS, targets.LINEAR, targets.RIDGE, targets.LSQR, *targets.STOCHASTIC, targets.INTEL]
    times = {name: [took] * 5 for name, took in zip(names, seconds, strict=False)}
    errors = {name: Error(error, 2 * error) for name, error in zip(names, rms, strict=False)}
    return targets.Result(title, Timings(times), errors, {targets.SGD: ["adaptive"]}, coef_error)


def test_where_a_peer_wins_the_table_says_so():
    result = result_of("table", [1, 0.5, 2, 0.5, 3, 3, 3], [1e-6, 1e-7, 1e-7, 1e-3, 1, 1, 1])
    verdicts = [row[-1] for row in cells(untuned.result_table(result))[1:]]
    assert verdicts == ["", "**faster and more accurate**", "**more accurate**", "**faster**", "", "", ""]


def split_targets(results):
    """The tables of targets: ratios of times, and errors."""
    of_times, rule, of_errors = targets.targets_tables(results).partition("\n\nThe error of predictions")
    return cells(of_times)[1:], cells(rule + of_errors)[1:]


def test_targets_are_met_by_time_and_error_together():
    good = result_of("good", [1, 9, 2, 2, 2, 2, 2], [1e-11, 1e-5, 1e-4, 1, 1, 1, 1], 1e-11)
    results = {(size, dtype): good for size in targets.SIZES for dtype in targets.DTYPES}
    assert {row[-1] for table in split_targets(results) for row in table} == {"yes"}
    assert "sklearnex is left out: scikit-learn-intelex is not installed." in targets.targets_tables(results)

    results[targets.CORRELATED, "float32"] = result_of("bad", [1, 9, 2, 2, 2, 2, 0.5], [1e-6, 1e-7, 1e-6, 1, 1, 1, 1])
    results[targets.SMALL, "float64"] = result_of("slow", [9, 1, 2, 2, 99, 99, 99], [1e-6, 1e-5, 1e-4, 1, 1e-7, 1, 1])
    rows, _ = split_targets(results)
    missed = [(row[0], row[1]) for row in rows if row[-1] != "yes"]
    assert missed == [
        (f"{targets.LINEAR} / ours", "bad"),
        (f"{targets.RIDGE} / ours", "bad"),
        (f"ours / {targets.LINEAR}", "slow"),
        (f"{targets.SGD} / ours", "good"),
        (f"{targets.LOOP} / ours", "bad"),
    ]


def test_large_tables_take_no_longer_than_direct_solvers():
    times, rms = [3, 2.9, 3.1, 1, 9, 9, 9, 2], [1e-11, *[1] * 6, 1e-10]
    results = {(size, dtype): result_of(dtype, times, rms) for size in targets.SIZES for dtype in targets.DTYPES}
    rows = [row for row in split_targets(results)[0] if row[0].startswith("ours")]
    verdicts = {peer: [row[3:] for row in rows if row[0].endswith(peer)] for peer in ("Regression", 'cholesky")')}
    sizes = len(targets.LARGE) * len(targets.DTYPES)
    assert verdicts['cholesky")'] == [["≤ 1", "", "", "yes"]] * sizes
    of_intel = [row[3:] for row in rows if "sklearnex" in row[0]]
    assert of_intel == [["≤ 2", "1.0e-11", "5.0e-12", "**no**"], ["≤ 2", "", "", "yes"]] * 2 + [
        ["≤ 1", "1.0e-11", "5.0e-12", "**no**"],
        ["≤ 1", "", "", "**no**"],
    ] * (len(targets.LARGE) - 2)
    of_linear = [row[3:] for row in rows if row[0].endswith(f"/ {targets.LINEAR}")]
    assert [row[0] for row in of_linear] == ["≤ 2.5"] * 2 + ["≤ 1.5"] * 2 + ["≤ 1"] * sizes
    assert {row[-1] for row in of_linear[4:]} == {"**no**"}


@pytest.mark.parametrize(
    ("dtype", "rms", "of_coef", "met"),
    [
        ("float32", 9e-7, 9e-6, "yes"),
        ("float32", 2e-6, 9e-6, "**no**"),
        ("float32", 9e-7, 2e-5, "**no**"),
        ("float32", 9e-7, math.nan, "yes"),
        ("float64", 9e-11, 9e-11, "yes"),
        ("float64", 2e-10, math.nan, "**no**"),
    ],
)
def test_targets_for_errors(dtype, rms, of_coef, met):
    good = result_of("good", [1, 9, 2, 2, 2, 2, 2], [rms, 1, 1, 1, 1, 1, 1], of_coef)
    results = {(size, dtype): good for size in targets.SIZES for dtype in targets.DTYPES}
    rows = split_targets(results)[1]
    assert [row[-1] for row in rows[targets.DTYPES.index(dtype) :: 2]] == [met] * len(targets.SIZES)


def test_errors_of_coefficients(monkeypatch):
    X, y = SMALL.make("float64")
    judge, right = Judge(X, y), LeastSquares.fit(X, y).coef
    assert judge.coef_error(right) == 0
    assert judge.coef_error(1.5 * right) == pytest.approx(0.5)
    assert math.isnan(Judge(np.column_stack([X, X[:, 0]]), y).coef_error(np.zeros(13)))


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert untuned.intel_fits(1e-6) == {}


def test_ridge_gets_a_penalty_with_which_it_need_not_fall_back():
    X, y = Size(5000, 100, "dummies").make("float32")
    alpha = untuned.smallest_alpha(X)
    assert alpha > 1e-6
    assert Ridge(alpha=alpha, solver="cholesky").fit(X, y).solver_ == "cholesky"
    assert untuned.smallest_alpha(X.astype("float64")) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.3, "12 s"), (1.23, "1.2 s"), (0.0123, "12 ms"), (0.000321, "0.32 ms")]
)
def test_times_are_short_to_read(seconds, text):
    assert untuned.format_seconds(seconds) == text


def test_passes_table(dtype):
    header, *rows = cells(passes.passes_table(passes.time_passes(SMALL, dtype), 2.2))
    assert header == ["", "ms", "times one read", "target", "met"]
    assert [row[0] for row in rows] == [passes.READ, passes.EPOCH, passes.PASS]
    assert [row[3] for row in rows] == ["", "≤ 5", "≤ 2.2"]


def test_growth_table():
    sizes = [Size(100, 5), Size(200, 5)]
    header, first, second = cells(passes.growth_table(sizes, passes.time_fits(sizes)))
    assert len(header) == 5
    assert first[0] == "100×5"
    assert first[3:] == ["", ""]
    assert second[3] == "2.0"


@pytest.mark.parametrize("name", memory.CONTENDERS)
def test_memory_of_a_fit_is_measured_in_a_process_of_its_own(name, monkeypatch):
    if name != targets.OURS:  # one process shows that they can be started, which takes seconds
        monkeypatch.setattr(memory, "measure_elsewhere", memory.measure)
    if sys.platform == "linux":
        row = memory.row(name, "float32", Size(3000, 10, "correlated"))
        assert len(row) == 7
        assert float(row[2]) == 0
        assert float(row[4]) >= 0
    else:
        assert "Not measured" in memory.report(quick=True)


@pytest.mark.parametrize("kind", sparse.KINDS)
def test_sparse_tables(kind, dtype):
    X, y = sparse.make(kind, dtype, 500, 400)
    assert X.shape == (500, 400)
    assert X.dtype == y.dtype == dtype
    assert X.has_canonical_format
    assert (len(set(np.diff(X.indptr))) == 1) == (kind == "even")
    assert np.diff(X.indptr).mean() == pytest.approx(sparse.PER_ROW, rel=0.1)


def test_sparse_benchmark_runs(monkeypatch):
    elsewhere = sparse.measure_elsewhere

    def elsewhere_once(kind, dtype, *shape):
        return (elsewhere if (kind, dtype) == ("ragged", "float32") else sparse.measure)(kind, dtype, *shape)

    monkeypatch.setattr(sparse, "measure_elsewhere", elsewhere_once)
    text = sparse.report(quick=True)
    header, *rows = cells(text.partition("### Memory")[0])
    assert len(header) == 6
    assert [row[1] for row in rows] == [*sparse.CONTENDERS] * 6
    if sys.platform == "linux":
        assert len(cells(text.partition("### Memory")[2])) == 7


def test_everybody_who_is_compared_searches_the_same_grid():
    header, *rows = cells(grid.l2_table(SMALL, 4, patience=0.0))
    assert len(header) == 7
    assert [row[0] for row in rows] == [*grid.l2_contenders(np.ones(4))]
    assert [row[4] for row in rows] == ["", "≥ 20", "≥ 10", "≥ 1", "≥ 1"]
    assert float(rows[0][6]) < 1e-8
    assert float(rows[1][6]) < 1e-5
    assert float(rows[2][6]) < 1e-2
    header, *rows = cells(grid.elastic_table(SMALL, 8, patience=0.0))
    assert [row[0] for row in rows] == [*grid.elastic_contenders(np.ones(8))]
    assert [row[4] for row in rows] == ["", "≥ 0.33", "≥ 10"]
    assert float(rows[0][6]) < 1e-6
    assert float(rows[1][6]) < 1e-2


def test_part_of_a_grid_counts_by_its_share():
    alphas = np.geomspace(1, 1e-3, 16)
    assert grid.elastic_contenders(alphas)[grid.ELASTIC_SEARCH].share == 2 / 16 / 5
    contenders = {grid.OURS: grid.Contender(lambda X, y: None), "some": grid.Contender(lambda X, y: y, 10, 1e-9)}
    rows = cells(grid.search_table(contenders, np.ones(1), -np.ones(1), np.ones(1), patience=60.0))[1:]
    assert rows[0][4:] == ["", "", ""]
    assert rows[1][4:] == ["≥ 10", "yes", "0.0e+00"]


def test_lasso_benchmark_runs():
    for table in lasso.report(quick=True).split("### ")[1:]:
        differences = [float(row[-1]) for row in cells(table)[1:]]
        assert max(differences) < 1e-3  # of the loosest tolerance among the contenders
        assert len(differences) >= 4


def test_grid_benchmark_runs(monkeypatch):
    monkeypatch.setattr(grid, "measure_elsewhere", lambda name, n_models, size: n_models)
    tables = grid.report(quick=True).split("### ")[1:]
    assert [table.partition("\n")[0] for table in tables] == [
        "L2, 500×10, correlated",
        "Elastic net, 500×10, correlated",
        "Bootstrap, 500×10",
        "Memory of many models",
    ]
    if sys.platform == "linux":
        assert [len(cells(table)) for table in tables] == [6, 4, 3, 7]


def test_bootstrap_table():
    header, *rows = cells(grid.bootstrap_table(SMALL, 10))
    assert header == ["", "time", "times one fit", "target", "met"]
    assert rows[1][3] == "< 30"


@AT_AN_END
@pytest.mark.parametrize("name", grid.CASES)
def test_memory_of_many_models_is_measured_in_a_process_of_its_own(name, monkeypatch):
    if name != next(iter(grid.CASES)):  # as above
        here = lambda name, n_models, size: grid.measure(name, n_models, size.n_rows, size.n_features)  # noqa: E731
        monkeypatch.setattr(grid, "measure_elsewhere", here)
    if sys.platform == "linux":
        case = replace(grid.CASES[name], size=SMALL, n_models=(4,))
        (row,) = grid.memory_rows(name, case)
        assert row[1:3] == ("4", "0")
        assert float(row[3]) >= 0
    else:
        assert "Not measured" in grid.memory_table({name: grid.CASES[name]})


def test_memory_of_many_models_is_told_by_model(monkeypatch):
    monkeypatch.setattr(grid, "measure_elsewhere", lambda name, n_models, size: 1_000_000 + 5000 * n_models)
    case = grid.Case(Size(100_000, 20), "float32", (100, 1000), grid.resample)
    assert [row[1:] for row in grid.memory_rows("bootstrap", case)] == [
        ("100", "8", "2", "", "40"),
        ("1000", "8", "6", "5.0", "400"),
    ]


@pytest.mark.parametrize("name", tables.SOURCES)
def test_public_tables_are_raw_and_have_their_categories(name):
    source = tables.SOURCES[name]
    X, y = source.load()
    assert len(X) == len(y) > 300
    assert y.notna().all()
    assert {name for name, dtype in X.dtypes.items() if dtype.kind not in "if"} <= set(source.categories) <= {*X}


def test_tables_benchmark_says_what_is_missing(monkeypatch):
    kept = {name: tables.SOURCES[name] for name in ("diabetes", "cars")}
    absent = {"elsewhere": replace(kept["diabetes"], package="a_package_that_nobody_has")}
    monkeypatch.setattr(tables, "SOURCES", kept | absent)
    text = tables.report(quick=True)
    header, *rows = cells(text)
    assert header[3:6] == ["ours", "twin", "ours - twin"]
    assert [row[0] for row in rows] == ["diabetes, 120×10"] * 7 + ["cars, 120×7"] * 7
    assert [row[1] for row in rows[:3]] == list(tables.PAIRS)[:3]
    assert text.endswith("elsewhere is left out: it comes with a_package_that_nobody_has, which is not installed.")


def test_least_squares_scores_as_its_twin_does(rng):
    X, y = tables.SOURCES["cars"].load()
    predicted = tables.predict_folds(X, y.to_numpy(), ("Cylinders", "Year", "Origin"), 2)
    ours, twin = predicted["TorchLinearRegressor()"]
    np.testing.assert_allclose(ours, twin, rtol=1e-6)


@pytest.mark.parametrize(("ours", "met"), [(0.5, "yes"), (0.4901, "yes"), (0.4899, "**no**")])
def test_verdicts_on_public_tables(ours, met):
    assert tables.verdict("R²", ours, 0.5)[-1] == met
    assert tables.verdict("pinball loss", 1 / ours, 2.0)[-1] == ("yes" if ours >= 0.5 / 1.01 else "**no**")


def test_every_benchmark_is_on_the_command_line():
    in_memory = ["textbook", "untuned", "passes", "sparse", "grid", "lasso", "tables", "load", "memory"]
    assert list(BENCHMARKS) == [*in_memory, "beyond_memory", "processes", "merging", "crashes", "imports"]


def test_import_time_is_measured_in_a_process_of_its_own():
    header, _, added = cells(imports.report(quick=True))
    assert header == ["import", "time", "target", "met"]
    assert 0 < float(added[1].removesuffix(" s")) < 10


def test_benchmark_of_merging():
    text = merging.report(quick=True)
    for way in ("one pass", "in a row", "as a tree"):
        error = text.partition(f"| {way} | ")[2].partition(" |")[0]
        assert float(error) < 1e-10
