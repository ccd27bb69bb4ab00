"""Tables in chunks: the rows of the file, its types as `fit` takes them, and refusals that name the place."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet
from scipy import sparse
from torch.utils.data import DataLoader

from torchlinreg import TorchLinearRegressor
from torchlinreg.inputs.arrays import check_X_y
from torchlinreg.inputs.streams import csv
from torchlinreg.streams import array_chunks, csv_chunks, parquet_chunks

N_ROWS = 50


def make_frame(n_rows=N_ROWS):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n_rows, 3)), columns=["a", "b", "c"])
    frame["y"], frame["z"] = frame.a - 2 * frame.b + 3, frame.c - 1 + rng.normal(size=n_rows)
    return frame.assign(w=rng.integers(1, 4, n_rows))


@pytest.fixture
def frame():
    return make_frame()


def as_parquet(frame, folder, *args, **options):
    """Two files, whose row groups have up to nine rows."""
    paths = [folder / f"{number}.parquet" for number in range(2)]
    for path, part in zip(paths, (frame[:20], frame[20:]), strict=True):
        part.to_parquet(path, index=False, row_group_size=9)
    return parquet_chunks(paths, *args, **options)


def as_csv(frame, folder, *args, **options):
    """Two files, the columns of which are in another order."""
    paths = [folder / f"{number}.csv" for number in range(2)]
    frame[:20].to_csv(paths[0], index=False)
    frame[20:][sorted(frame, reverse=True)].to_csv(paths[1], index=False)
    return csv_chunks(paths, *args, **options)


def as_arrays(frame, folder, target, *, sample_weight=None, chunk_rows=None):
    weight = None if sample_weight is None else frame[sample_weight]
    apart = [target] if isinstance(target, str) else target
    return array_chunks(frame.drop(columns=[*apart, sample_weight]), frame[target], weight, chunk_rows=chunk_rows)


def as_memory_map(frame, folder, *args, **options):
    chunks = as_arrays(frame, folder, *args, **options)
    np.save(folder / "X.npy", chunks.X.to_numpy())
    return array_chunks(np.load(folder / "X.npy", mmap_mode="r"), chunks.y, chunks.sample_weight, **options_of(chunks))


def as_csr(frame, folder, *args, **options):
    chunks = as_arrays(frame, folder, *args, **options)
    return array_chunks(sparse.csr_array(chunks.X), chunks.y, chunks.sample_weight, **options_of(chunks))


def options_of(chunks):
    return {"chunk_rows": chunks.chunk_rows}


SOURCES = {"Parquet": as_parquet, "CSV": as_csv, "arrays": as_arrays, "memory map": as_memory_map, "CSR": as_csr}
each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def joined(chunks):
    """The rows of all chunks, as arrays."""
    parts = [[part.toarray() if sparse.issparse(part) else np.asarray(part) for part in chunk] for chunk in chunks]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


@each_source
@pytest.mark.parametrize("target", ["y", ["y", "z"], ["z"]])
@pytest.mark.parametrize("chunk_rows", [4, 9, 1000, None])
def test_chunks_have_the_rows_in_their_order(source, frame, tmp_path, target, chunk_rows):
    frame = frame if isinstance(target, list) else frame.drop(columns="z")
    chunks = source(frame, tmp_path, target, sample_weight="w", chunk_rows=chunk_rows)
    used = [*([target] if isinstance(target, str) else target), "w"]
    X, y, weight = joined(chunks)
    assert_array_equal(X, frame.drop(columns=used))
    assert_array_equal(y, frame[target])
    assert_array_equal(weight, frame.w)
    assert max(len(y) for _, y, _ in chunks) <= (chunk_rows or N_ROWS)
    assert (len(chunks) == 2 if source is as_csv else len(chunks) < 9) or chunk_rows in (4, 9)
    assert_array_equal(chunks[-1][1], chunks[len(chunks) - 1][1])
    with pytest.raises(IndexError):
        chunks[len(chunks)]
    with pytest.raises(TypeError):
        chunks[:2]


@each_source
def test_fit_chunks_learns_what_fit_does(source, frame, tmp_path):
    chunks = source(frame, tmp_path, ["y", "z"], sample_weight="w", chunk_rows=7)
    X, y = frame[["a", "b", "c"]], frame[["y", "z"]]
    expected = TorchLinearRegressor().fit(X, y, sample_weight=frame.w)
    model = TorchLinearRegressor().fit_chunks(chunks)
    assert_allclose(model.coef_, expected.coef_, atol=1e-12)
    assert_allclose(model.predict(X if hasattr(model, "feature_names_in_") else X.to_numpy()), expected.predict(X))
    assert hasattr(model, "feature_names_in_") == (source not in (as_memory_map, as_csr))
    if hasattr(model, "feature_names_in_"):
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("source", [as_parquet, as_csv])
@pytest.mark.parametrize(
    "parameters",
    [{"loss": "huber"}, {"learning_rate": 0.01, "max_iter": 3, "batch_size": 8, "random_state": 0}],
    ids=["passes", "shuffled epochs"],
)
def test_reading_again_and_in_random_order_gives_the_bits_of_chunks_in_memory(source, parameters, frame, tmp_path):
    chunks = source(frame, tmp_path, "y", sample_weight="w", chunk_rows=4)
    models = [TorchLinearRegressor(**parameters).fit_chunks(each) for each in (chunks, list(chunks))]
    assert_array_equal(models[0].coef_, models[1].coef_)
    assert models[0].intercept_ == models[1].intercept_


@each_source
def test_chunks_are_read_in_any_order_by_threads_and_other_processes(source, frame, tmp_path):
    chunks = source(frame, tmp_path, "y", sample_weight="w", chunk_rows=4)
    expected = [joined([chunk]) for chunk in chunks]
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(chunks)), 3)).tolist()
    copy = pickle.loads(pickle.dumps(chunks))
    with ThreadPoolExecutor(4) as threads:
        for found in (threads.map(chunks.read, order), map(copy.read, order)):
            for number, chunk in zip(order, found, strict=True):
                for part, other in zip(joined([chunk]), expected[number], strict=True):
                    assert_array_equal(part, other)


@pytest.mark.parametrize("source", [as_parquet, as_csv])
def test_workers_of_a_data_loader_read_chunks(source, frame, tmp_path):
    chunks = source(frame, tmp_path, "y", chunk_rows=4)
    chunks[1]  # so that there is something that a forked process must not share
    loader = DataLoader(chunks, batch_size=None, num_workers=2)
    for found, expected in zip(loader, chunks, strict=True):
        assert_array_equal(found[0], expected[0])
        assert isinstance(found[1], torch.Tensor)
        assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("source", [as_parquet, as_csv])
def test_a_buffer_takes_one_chunk_after_the_other(source, frame, tmp_path):
    chunks = source(frame, tmp_path, "y", chunk_rows=4)
    buffer = chunks.new_buffer()
    for number, expected in enumerate(chunks):
        X, y = chunks.read(number, buffer)
        assert np.shares_memory(X.to_numpy(), buffer)
        assert np.shares_memory(check_X_y(TorchLinearRegressor(), X, y)[0], buffer)
        assert_array_equal(X, expected[0])
        assert not np.shares_memory(expected[0].to_numpy(), buffer)


def test_reading_in_order_opens_each_file_once(frame, tmp_path, monkeypatch):
    chunks = as_parquet(frame, tmp_path, "y", chunk_rows=4)
    opened, original = [], parquet.ParquetFile
    monkeypatch.setattr(
        parquet, "ParquetFile", lambda path, **options: opened.append(path) or original(path, **options)
    )
    assert len(list(chunks)) > 9
    assert opened == chunks.paths


VALUES = np.arange(1, 9)
TYPES = {
    "float32": [pa.array(VALUES, pa.float32())] * 2,
    "float32 and float16": [pa.array(VALUES, pa.float32()), pa.array(VALUES.astype(np.float16))],
    "float16": [pa.array(VALUES.astype(np.float16))],
    "float32 and small integers": [pa.array(VALUES, pa.float32()), pa.array(VALUES, pa.int16())],
    "float32 and integers": [pa.array(VALUES, pa.float32()), pa.array(VALUES, pa.int32())],
    "float32 and booleans": [pa.array(VALUES, pa.float32()), pa.array(VALUES > 3)],
    "integers": [pa.array(VALUES, pa.int8()), pa.array(VALUES + 2**60, pa.uint64())],
    "decimals": [pa.array([Decimal(int(value)) / 8 for value in VALUES], pa.decimal128(9, 3))],
    "dictionaries": [pa.array(VALUES % 3).dictionary_encode(), pa.array(VALUES % 3, pa.float64()).dictionary_encode()],
    "texts that are numbers": [pa.array([f"{value}.5" for value in VALUES])],
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("n_targets", [1, 2])
def test_types_are_those_of_fit_on_a_frame(kind, n_targets, tmp_path):
    columns = {f"x{number}": column for number, column in enumerate(TYPES[kind])}
    targets = {f"y{number}": TYPES[kind][number % len(columns)] for number in range(n_targets)}
    parquet.write_table(pa.table(columns | targets), tmp_path / "t.parquet")
    target = ["y0", "y1"] if n_targets == 2 else "y0"
    frame = pd.read_parquet(tmp_path / "t.parquet")
    expected = check_X_y(TorchLinearRegressor(), frame[list(columns)], frame[target])
    chunks = parquet_chunks(tmp_path / "t.parquet", target, chunk_rows=3)
    assert chunks.dtype == expected[0].dtype
    for found, values in zip(joined(chunks), expected, strict=True):
        assert found.dtype == values.dtype
        assert_array_equal(found, values)


def test_columns_are_chosen_by_name(frame, tmp_path):
    frame = frame.set_index(pd.Index(np.arange(N_ROWS) ** 2, name="row"))
    frame.to_parquet(tmp_path / "t.parquet")
    assert parquet_chunks(tmp_path / "t.parquet", "y").feature_names == ["a", "b", "c", "z", "w"]  # no index
    chunks = parquet_chunks(str(tmp_path / "t.parquet"), "a", features=["z", "row"])
    assert_array_equal(joined(chunks)[0], frame.assign(row=frame.index)[["z", "row"]])


@pytest.mark.parametrize("source", [as_parquet, as_csv])
def test_tables_to_predict_for_have_no_target(source, frame, tmp_path):
    chunks = source(frame[["c", "a", "b"]], tmp_path, None, features=["a", "b", "c"], chunk_rows=9)
    assert {y for _, y in chunks} == {None}
    assert_array_equal(np.concatenate([X for X, _ in chunks]), frame[["a", "b", "c"]])


def write(frame, path):
    frame.to_parquet(path, row_group_size=20) if path.suffix == ".parquet" else frame.to_csv(path, index=False)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("value", "trouble"),
    [(None, "Missing values"), (np.nan, "Missing values"), (np.inf, "Infinite values"), ("clay", "No numbers")],
)
@pytest.mark.parametrize("column", ["b", "y", "w"])
def test_unusable_values_are_refused_with_chunk_file_and_column(frame, tmp_path, ending, value, trouble, column):
    path = tmp_path / f"t.{ending}"
    frame[column] = frame[column].astype(object if isinstance(value, str) else "Float64" if value is None else float)
    if isinstance(value, str):
        frame[column] = frame[column].astype(str)
    frame.loc[30, column] = value
    write(frame, path)
    chunks = (parquet_chunks if ending == "parquet" else csv_chunks)(path, "y", sample_weight="w", chunk_rows=20)
    place = "row group 1" if ending == "parquet" else "from line 21 after the heading on"
    with pytest.raises(ValueError, match=trouble) as refused:
        TorchLinearRegressor().fit_chunks(chunks)
    table = {"b": "X", "y": "y", "w": "sample_weight"}[column]
    assert str(refused.value).startswith(f"chunk 1 ({path}, {place}): ")
    assert table in str(refused.value)
    assert f"'{column}'" in str(refused.value) or (column != "b" and trouble == "Infinite values")


def refusal(call, *args, **options):
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as refused:
        call(*args, **options)
    return str(refused.value)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_files_and_columns_are_refused_by_name(frame, tmp_path, ending):
    path, other = tmp_path / f"t.{ending}", tmp_path / f"other.{ending}"
    read = parquet_chunks if ending == "parquet" else csv_chunks
    write(frame.assign(day=pd.Timestamp("2026-01-01")), path)
    assert "'other" in refusal(read, other.with_stem("others"), "y").replace(str(tmp_path) + "/", "")
    assert "paths is empty" in refusal(read, [], "y")
    assert "0 columns are named 'v'; there are a, b, c" in refusal(read, path, "v")
    assert "'y' is named twice" in refusal(read, path, "y", features=["a", "y"])
    assert "write ['a']" in refusal(read, path, "y", features="a")
    assert "No feature is left" in refusal(read, path, ["y"], features=[])
    assert "No target is left" in refusal(read, path, [])
    assert "Dates in column 'day' of X" in refusal(read, path, "y")
    assert "chunk_rows must be positive, got 0" in refusal(read, path, "y", features=["a"], chunk_rows=0)
    write(frame.drop(columns="c"), other)
    assert f"{other} has 0 columns 'c', but {path} has one" in refusal(read, [path, other], "y", features=["a", "c"])
    for text in (b"", b"a,y\n\n", b"a,y\n1,2\n1,2,3\n"):
        other.write_bytes(text)
        assert f"{other}" in refusal(read, other, "y")
    if ending == "parquet":
        write(frame.astype({"b": "float32"}), other)
        message = f"Column 'b' is float in {other}, but double in {path}"
        assert message in refusal(read, [path, other], "y", features=["a", "b"])


LINES = {
    "quotes": ('"a, ""1""",b,y\n1,"2",3\n"4",5,"6"\n7,8,9\n', {}),
    "texts with line ends": (
        'a,note,b,y\n1,"one\ntwo\n",2,3\n4,"""\n""",5,6\n7,"a ""\n"" b",8,9\n',
        {"features": ["a", "b"]},
    ),
    "line ends of Windows": ("a,b,y\r\n1,2,3\r\n4,5,6\r\n7,8,9\r\n", {}),
    "empty lines": ("\n\na,b,y\n1,2,3\n\n\n\n4,5,6\n7,8,9\n\n\n", {}),
    "no last line end": ("a,b,y\n1,2,3\n4,5,6\n7,8,9", {}),
    "byte order mark": ("\ufeffa,b,y\n1,2,3\n4,5,6\n7,8,9\n", {}),
    "decimal comma": ('a;b;y\n1,0;2;3\n4;5,0;6\n7;8;"9,0"\n', {"sep": ";", "decimal": ","}),
    "integers first": ("a,b,y\n1,2,3\n4.0,5,6e0\n7.,+8,900e-2\n", {}),
    "another encoding": ("a,größe,y\n1,2,3\n4,5,6\n7,8,9\n", {"encoding": "latin-1"}),
}


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("scanned", [1, 2, 5, 2**20])
@pytest.mark.parametrize("chunk_rows", [1, 2, 3, None])
def test_lines_of_csv_files(kind, scanned, chunk_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "SCANNED", scanned)
    text, options = LINES[kind]
    (tmp_path / "t.csv").write_bytes(text.encode(options.get("encoding", "utf-8")))
    chunks = csv_chunks(tmp_path / "t.csv", "y", chunk_rows=chunk_rows, **options)
    X, y = joined(chunks)
    assert_array_equal(X, [[1, 2], [4, 5], [7, 8]])
    assert_array_equal(y, [3, 6, 9])
    assert {part.dtype for chunk in chunks for part in map(np.asarray, chunk)} == {np.dtype(np.float64)}
    if kind != "empty lines":
        assert len(chunks) == -(-3 // (chunk_rows or 3))


@pytest.mark.parametrize("options", [{"encoding": "utf-16"}, {"encoding": "klingon"}, {"sep": "::"}, {"sep": "µ"}])
def test_formats_without_lines_of_bytes_are_refused(options, frame, tmp_path):
    write(frame, tmp_path / "t.csv")
    assert repr(next(iter(options.values()))) in refusal(csv_chunks, tmp_path / "t.csv", "y", **options)


def test_booleans_in_csv_files_are_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\ntrue,1\nFalse,2\nTRUE,3\n")
    assert_array_equal(joined(csv_chunks(tmp_path / "t.csv", "y"))[0], [[1], [0], [1]])


class Stored:
    """An array that h5py or zarr might have opened: it has a shape, and slices are read from blocks of rows."""

    def __init__(self, array, blocks):
        self.array, self.chunks, self.shape, self.dtype, self.read = array, blocks, array.shape, array.dtype, []

    def __getitem__(self, rows):
        self.read.append(rows)
        return self.array[rows]


@pytest.mark.parametrize(("blocks", "size"), [((700, 3), 2100), (None, 2730), (((9, 9),), 2730), ((5000, 3), 5000)])
def test_chunks_are_whole_blocks_of_a_store(blocks, size, monkeypatch):
    monkeypatch.setattr("torchlinreg.inputs.streams.base.CHUNK_BYTES", 2**16)
    X = Stored(np.random.default_rng(0).normal(size=(10_000, 3)), blocks)
    chunks = array_chunks(X, X.array.sum(1))
    assert_array_equal(joined(chunks)[0], X.array)
    assert X.read == [slice(start, min(start + size, 10_000)) for start in range(0, 10_000, size)]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, sparse.csr_array, sparse.csr_matrix])
def test_slices_of_arrays_share_their_memory(kind):
    table, y = kind(np.eye(10, 3)), np.ones(10)
    part, target = array_chunks(table, y, chunk_rows=4)[-1]
    assert type(part) is type(table)
    numbers = [each.data if sparse.issparse(each) else np.asarray(each) for each in (table, part)]
    assert sparse.issparse(table) or np.shares_memory(*numbers)
    part, target = array_chunks(table, y, chunk_rows=2)[1]
    assert_array_equal(part.toarray() if sparse.issparse(part) else part, np.eye(10, 3)[2:4])
    numbers = [each.data if sparse.issparse(each) else np.asarray(each) for each in (table, part)]
    assert np.shares_memory(*numbers)
    assert np.shares_memory(target, y)


def test_arrays_are_refused():
    assert "use X.tocsr()" in refusal(array_chunks, sparse.csc_array(np.eye(3)), [1, 2, 3])
    assert "X must have two dimensions, got shape (3,)" in refusal(array_chunks, [1, 2, 3], [1, 2, 3])
    assert "X has 3 rows, but y has shape (2,)" in refusal(array_chunks, np.eye(3), [1, 2])
    assert "X has 3 rows, but sample_weight has shape ()" in refusal(array_chunks, np.eye(3), [1, 2, 3], 1.0)


def test_a_memory_map_is_pickled_by_the_name_of_its_file(tmp_path):
    X = np.memmap(tmp_path / "X", np.float32, "w+", offset=8, shape=(100_000, 2))
    X[:] = np.random.default_rng(0).normal(size=X.shape)
    X.flush()
    pickled = pickle.dumps(array_chunks(X, X, chunk_rows=1000))
    assert len(pickled) < 2000
    assert_array_equal(joined(pickle.loads(pickled))[0], X)
    part = array_chunks(X[10:20], X[10:20, 0])
    assert_array_equal(joined(pickle.loads(pickle.dumps(part)))[0], X[10:20])


FIT_ON_MAPS = """
import resource, sys, numpy as np, torch
from torchlinreg import TorchLinearRegressor

maps = [np.load(path, mmap_mode="r") for path in sys.argv[1:]]
models = [TorchLinearRegressor(), TorchLinearRegressor(learning_rate=0.01, batch_size=1000, max_iter=1, tol=None)]
for model in models:  # starts threads, and loads libraries
    model.fit(maps[0][:200_000], maps[0][:200_000, 0])
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + maps[0].nbytes // 2,) * 2)
try:
    maps[0].copy()
except MemoryError:
    for X in maps:
        for model in models:
            print(model.fit(X, X[:, 0]).coef_.dtype)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what a process may write to")
def test_fit_does_not_copy_a_memory_map(tmp_path):
    paths = [tmp_path / "float32.npy", tmp_path / "float64.npy"]
    for path in paths:
        dtype = np.dtype(path.stem)
        np.save(path, np.random.default_rng(0).random((400_000, 400 // dtype.itemsize), dtype))
    command = [sys.executable, "-c", FIT_ON_MAPS, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["float32", "float32", "float64", "float64"]
