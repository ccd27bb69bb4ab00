"""Checkpoints on disk: what is loaded is what was saved, whatever happens to the files or to the process."""

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors import safe_open

from torchlinreg.engine.runtime import checkpoint
from torchlinreg.engine.runtime.checkpoint import CheckpointFile

FINGERPRINT = {"alpha": "0.1", "rows": "60, SHA-256 1f"}
ARRAYS = {"weights": np.arange(3.0), "passes": np.array(7)}
DTYPES = [
    "bool",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

# Imports neither torch nor the package, so that it starts at once; saves until it is killed, or dies at a system call
SAVES = """
import importlib.util, os, sys, itertools
import numpy as np
module, path, dies_at, start = sys.argv[1:]
spec = importlib.util.spec_from_file_location("checkpoint", module)
checkpoint = sys.modules["checkpoint"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkpoint)
file = checkpoint.CheckpointFile(path, {"alpha": "0.1"})
calls = itertools.count(1)
def dying(call):
    def made(*arguments):
        if next(calls) == int(dies_at):
            os._exit(9)
        return call(*arguments)
    return made
if int(dies_at):
    file.save({"numbers": np.full(20_000, 0)}, {"number": 0})
    file.save({"numbers": np.full(20_000, 1)}, {"number": 1})
    for name in ("listdir", "replace", "fsync", "fstat", "open", "close"):
        setattr(os, name, dying(getattr(os, name)))
print("begins", flush=True)
for number in itertools.count(int(start)):
    file.save({"numbers": np.full(20_000, number)}, {"number": number})
    print(number, flush=True)
    if int(dies_at):
        break
"""
# Holds a file as a process does that is slow to write it
SLOW = """
import fcntl, sys
file = open(sys.argv[1], "xb")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path):
    return CheckpointFile(tmp_path / "state.safetensors", FINGERPRINT)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start_saving(file, *, dies_at=0, start=0):
    command = [sys.executable, "-c", SAVES, checkpoint.__file__, str(file.path), str(dies_at), str(start)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def number_of(saved):
    """Return the number of a checkpoint written by a subprocess, if it is of one piece."""
    assert saved is not None
    assert_array_equal(saved.arrays["numbers"], np.full(20_000, saved.numbers["number"]))
    return saved.numbers["number"]


def test_nothing_is_there_at_first(file):
    assert file.load() is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (4, 3)], ids=str)
def test_arrays_come_back_as_they_were(file, rng, dtype, shape):
    array = np.asarray(rng.integers(0, 100, shape)).astype(dtype)
    file.save({"array": array, "turned": array.T, 'ßtriche:"\\\n': array}, {})
    loaded = file.load().arrays
    assert loaded.keys() == {"array", "turned", 'ßtriche:"\\\n'}
    for name, expected in {"array": array, "turned": array.T}.items():
        assert loaded[name].dtype == dtype
        assert loaded[name].shape == expected.shape
        assert_array_equal(loaded[name], expected)
        loaded[name][...] = 1  # writable
    assert_array_equal(file.load().arrays["array"], array)


def test_bits_of_floats_and_other_byte_orders_are_kept(file):
    array = np.array([np.nan, -0.0, np.inf, 5e-324, 0.1])
    file.save({"here": array, "elsewhere": array.astype(array.dtype.newbyteorder("S")), "every other": array[::2]}, {})
    arrays = file.load().arrays
    assert arrays["here"].tobytes() == arrays["elsewhere"].tobytes() == array.tobytes()
    assert arrays["every other"].tobytes() == array[::2].tobytes()


def test_numbers_come_back_as_they_were(file):
    numbers = {
        "chunks done": 3,
        "large": 2**80,
        "loss": 0.1 + 0.2,
        "infinite": float("inf"),
        "nothing": None,
        "curve": [1.0, 5e-324, [True, None, "ä"]],
        'quo"ted\\': 'Zürich 東京 🎲 \ud800 "torchlinreg_sha256":"' + "0" * 64,
        "": "",
    }
    file.save({}, numbers)
    saved = file.load()
    assert saved.numbers == numbers
    assert saved.arrays == {}
    file.save({}, {"scalar": np.float32(0.1), "count": np.int64(5), "is it": np.bool_(True)})
    assert file.load().numbers == {"scalar": float(np.float32(0.1)), "count": 5, "is it": True}


def test_what_cannot_be_stored_is_refused_before_anything_is_written(file):
    file.save(ARRAYS, {"number": 0})
    for array in (np.array(["a"]), np.array([None]), np.array([1j]), np.array(["2020-01-01"], "datetime64[D]")):
        with pytest.raises(TypeError, match="'odd' has dtype"):
            file.save({"odd": array}, {})
    for number in ({1, 2}, np.zeros(3), b"bytes"):
        with pytest.raises(TypeError, match=r"is a (set|ndarray|bytes)"):
            file.save({}, {"odd": number})
    with pytest.raises(ValueError, match="cannot be called '__metadata__'"):
        file.save({"__metadata__": np.zeros(1)}, {})
    with pytest.raises(TypeError, match="must map str to str"):
        CheckpointFile(file.path, {"alpha": 0.1})
    assert file.load().numbers == {"number": 0}
    assert names(file.path.parent) == ["state.safetensors"]


def test_safetensors_is_named_where_it_is_missing(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install .torchlinreg\[scaling\]"):
        CheckpointFile(file.path, FINGERPRINT)


def test_the_last_two_are_kept(file):
    for number in range(4):
        file.save(ARRAYS, {"number": number})
        assert file.load().numbers == {"number": number}
    assert names(file.path.parent) == ["state.safetensors", "state.safetensors.previous"]
    file.path.unlink()
    assert file.load().numbers == {"number": 2}  # as if killed between the two renames
    file.save(ARRAYS, {"number": 4})
    file.path.unlink()
    assert file.load().numbers == {"number": 2}


def test_others_can_read_it(file):
    file.save(ARRAYS, {"number": 5})
    with safe_open(file.path, framework="numpy") as opened:
        assert_array_equal(opened.get_tensor("weights"), ARRAYS["weights"])
        assert json.loads(opened.metadata()["numbers"]) == {"number": 5}
        assert json.loads(opened.metadata()["fingerprint"]) == FINGERPRINT


def assert_unusable(file, *contents):
    """Neither of these is accepted as the newest file, alone or with one before it."""
    for content in contents:
        file.path.write_bytes(content)
        with pytest.raises(ValueError, match=r"state.safetensors is .*delete this file and state.safetensors.previous"):
            file.load()


def test_no_byte_may_differ(file, rng):
    file.save({**ARRAYS, "flags": np.array([True, False])}, {"number": 5, "name": "ä"})
    whole = file.path.read_bytes()
    for position, other in enumerate(rng.integers(1, 256, len(whole))):
        for bits in (0x20, int(other)):  # capital letters for small ones, and anything
            assert_unusable(file, whole[:position] + bytes([whole[position] ^ bits]) + whole[position + 1 :])
    file.path.write_bytes(whole)
    assert file.load().numbers["number"] == 5


def test_no_byte_may_be_missing_or_added(file):
    file.save(ARRAYS, {"number": 5})
    whole = file.path.read_bytes()
    assert_unusable(file, *(whole[:length] for length in range(len(whole))))
    assert_unusable(file, *(whole + bytes([added]) for added in range(256)), whole + bytes(512), whole + whole)
    assert_unusable(file, whole[1:], whole[8:], *(whole[:at] + b" " + whole[at:] for at in range(0, len(whole), 7)))


@pytest.mark.slow
def test_no_byte_of_a_large_file_may_differ(file, rng):
    file.save({"weights": rng.normal(size=(100, 200)), "other": rng.integers(0, 9, 5_000)}, {"number": 5})
    whole = file.path.read_bytes()
    with open(file.path, "r+b", buffering=0) as opened:
        for position, bits in zip(rng.integers(0, len(whole), 10_000), rng.integers(1, 256, 10_000), strict=True):
            for byte in (whole[position] ^ int(bits), whole[position]):
                opened.seek(position)
                opened.write(bytes([byte]))
                if byte != whole[position]:
                    with pytest.raises(ValueError, match=r"is damaged|its beginning is damaged"):
                        file.load()
    assert file.load().numbers["number"] == 5


def test_a_damaged_file_is_passed_over_for_the_one_before(file):
    for number in range(3):
        file.save(ARRAYS, {"number": number})
    whole = file.path.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", bytes(len(whole)), whole.replace(b"60", b"61")):
        file.path.write_bytes(damaged)
        with pytest.warns(
            UserWarning, match=r"state.safetensors is .*state.safetensors.previous, the checkpoint before"
        ):
            assert file.load().numbers == {"number": 1}
    # It does not take the place of the one before
    file.save(ARRAYS, {"number": 3})
    assert file.load().numbers == {"number": 3}
    file.path.write_bytes(whole[:-1])
    with pytest.warns(UserWarning, match="is damaged"):
        assert file.load().numbers == {"number": 1}


def test_where_both_are_damaged_nothing_is_begun_anew_in_silence(file):
    for number in range(2):
        file.save(ARRAYS, {"number": number})
    for path in (file.path, file.previous):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"state.safetensors is damaged.*previous is damaged.*delete this file and"):
        file.load()
    # A computation that goes on saves what it has
    file.save(ARRAYS, {"number": 2})
    assert file.load().numbers == {"number": 2}


def test_a_disk_that_cannot_be_read_is_a_damaged_file(file, monkeypatch):
    for number in range(2):
        file.save(ARRAYS, {"number": number})
    read = Path.read_bytes

    def failing(path):
        if path == file.path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.warns(UserWarning, match="is damaged: Input/output error"):
        assert file.load().numbers == {"number": 0}


def test_of_other_data_or_settings(file):
    file.save(ARRAYS, {"number": 5})
    other = CheckpointFile(file.path, {"alpha": "0.2", "rows": FINGERPRINT["rows"], "loss": "huber"})
    named = "alpha: 0.1 in the checkpoint, 0.2 now; loss: absent in the checkpoint, huber now"
    for refused in (other.load, lambda: other.save(ARRAYS, {})):
        with pytest.raises(ValueError, match=named) as error:
            refused()
        assert "rows" not in str(error.value)
        assert "Give another path or" in str(error.value)
    fewer = CheckpointFile(file.path, {"alpha": "0.1"})
    with pytest.raises(ValueError, match="rows: 60, SHA-256 1f in the checkpoint, absent now"):
        fewer.load()
    assert file.load().numbers == {"number": 5}


def test_of_another_version(file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", "2")
        file.save(ARRAYS, {"number": 5})
    with pytest.raises(ValueError, match="format version: 2 in the checkpoint, 1 now"):
        file.load()


def test_another_file_is_neither_loaded_nor_overwritten(file):
    import safetensors.numpy  # noqa: PLC0415

    contents = [pickle.dumps(ARRAYS), b"PAR1 and so on PAR1", b"x", safetensors.numpy.save(ARRAYS, {"by": "others"})]
    for content in contents:
        file.path.write_bytes(content)
        for refused in (file.load, lambda: file.save(ARRAYS, {})):
            with pytest.raises(ValueError, match="is not a checkpoint of torchlinreg"):
                refused()
        assert file.path.read_bytes() == content
        assert names(file.path.parent) == ["state.safetensors"]
    file.path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        file.load()
    file.path.unlink()
    file.path.mkdir()
    for refused in (file.load, lambda: file.save(ARRAYS, {})):
        with pytest.raises(ValueError, match="is a folder"):
            refused()


def test_a_path_is_that_of_the_beginning(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "state")
    monkeypatch.chdir(tmp_path)
    file = CheckpointFile("link", FINGERPRINT)
    monkeypatch.chdir("/")
    for number in range(2):
        file.save(ARRAYS, {"number": number})
    assert names(tmp_path / "elsewhere") == ["state", "state.previous"]
    assert (tmp_path / "link").is_symlink()
    assert CheckpointFile(tmp_path / "link", FINGERPRINT).load().numbers == {"number": 1}


def test_modes_of_files_are_those_of_the_process(file):
    before = os.umask(0o027)
    try:
        file.save(ARRAYS, {})
    finally:
        os.umask(before)
    assert file.path.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_is_not_there(tmp_path):
    file = CheckpointFile(tmp_path / "gone" / "state", FINGERPRINT)
    with pytest.raises(FileNotFoundError, match=r"folder of the checkpoint does not exist: create it.*gone/state"):
        file.load()
    with pytest.raises(FileNotFoundError, match=r"Create its folder \(again\), or give another path.*gone/state"):
        file.save(ARRAYS, {})
    (tmp_path / "gone").mkdir()
    file.save(ARRAYS, {})
    (tmp_path / "gone" / "state").unlink()
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").write_text("a file")
    with pytest.raises(NotADirectoryError, match="Create its folder"):
        file.save(ARRAYS, {})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EINVAL])
@pytest.mark.parametrize("call", ["fsync", "replace", "listdir"])
def test_errors_of_the_system(file, monkeypatch, call, code):
    """As root, folders that must not be written are written: the system is pretended to refuse."""
    for number in range(2):
        file.save(ARRAYS, {"number": number})

    def failing(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OSError, match=r"cannot be written: .*path.*Earlier checkpoints are kept") as error:
            file.save(ARRAYS, {"number": 2})
    assert error.value.errno == code
    assert str(file.path) in str(error.value)
    assert names(file.path.parent) == ["state.safetensors", "state.safetensors.previous"]
    assert file.load().numbers == {"number": 1}
    file.path.unlink()
    assert file.load().numbers == {"number": 0}


def test_a_file_that_may_not_get_that_large(file):
    """The kernel refuses to write on, as it does where a disk is full."""
    for number in range(2):
        file.save(ARRAYS, {"number": number})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large. Files may not get as large there"):
            file.save({"weights": np.zeros(10_000)}, {"number": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(file.path.parent) == ["state.safetensors", "state.safetensors.previous"]
    assert file.load().numbers == {"number": 1}


@pytest.mark.slow
def test_a_process_killed_at_any_system_call(file):
    """Of the calls that create, write, rename and bring down to the disk, whichever is the last."""
    ended, dies_at = False, 0
    while not ended:
        dies_at += 1
        for path in file.path.parent.iterdir():
            path.unlink()
        with start_saving(file, dies_at=dies_at, start=2) as process:
            said = process.stdout.read().split()
        ended = process.returncode == 0
        assert process.returncode in (0, 9)
        number = number_of(CheckpointFile(file.path, {"alpha": "0.1"}).load())
        assert number == 2 if "2" in said else number in (1, 2)
    assert dies_at > 5


@pytest.mark.slow
def test_a_process_killed_at_any_moment(file, rng):
    ours, last = CheckpointFile(file.path, {"alpha": "0.1"}), -1
    for _ in range(30):
        with start_saving(file, start=last + 1) as process:
            assert process.stdout.readline() == "begins\n"
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            said = [int(line) for line in process.stdout]
        finished = said[-1] if said else last
        if finished >= 0 or file.path.exists():
            number = number_of(ours.load())
            assert number in (finished, finished + 1)
            last = number
    assert last > 0
    ours.save(ARRAYS, {"number": -1})
    assert names(file.path.parent) == ["state.safetensors", "state.safetensors.previous"]


def test_what_killed_processes_left_is_removed_and_nothing_else(file):
    folder = file.path.parent
    left = folder / "state.safetensors.0123abcd.unfinished"
    others = [folder / name for name in ("state.safetensors.unfinished", "other.0123abcd.unfinished", "state")]
    for path in (left, *others):
        path.write_bytes(b"half")
    # A living process that is slow to write
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder / "state.safetensors.89abcdef.unfinished")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline()
        file.save(ARRAYS, {})
        kept = {path.name for path in others}
        assert {*names(folder)} == kept | {"state.safetensors", "state.safetensors.89abcdef.unfinished"}
        process.kill()
    file.save(ARRAYS, {})
    assert {*names(folder)} == kept | {"state.safetensors", "state.safetensors.previous"}


def test_several_processes_at_once_leave_a_whole_file(file):
    """They should have different paths; one that has not heard of it loses nothing."""
    processes = [start_saving(file, start=1000 * n) for n in range(2)]
    for process in processes:
        assert process.stdout.readline() == "begins\n"
    time.sleep(0.3)
    ours = CheckpointFile(file.path, {"alpha": "0.1"})
    for _ in range(20):
        number_of(ours.load())
    for process in processes:
        assert process.poll() is None
        process.kill()
        process.communicate()
    number_of(ours.load())


def test_what_is_being_written_is_not_taken_for_abandoned(file, monkeypatch):
    sync, seen = os.fsync, []

    def clean_up_and_sync(descriptor):
        checkpoint._remove_abandoned(file.path)
        seen.extend(names(file.path.parent))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", clean_up_and_sync)
    file.save(ARRAYS, {"number": 0})
    assert seen[0].endswith(".unfinished")
    assert file.load().numbers == {"number": 0}


def test_another_file_is_begun_if_one_was_removed_before_it_was_locked(file, monkeypatch):
    lock, removed = checkpoint.fcntl.flock, []

    def lock_too_late(opened, how):
        if not removed:
            removed.append(opened.name)
            os.unlink(opened.name)
        lock(opened, how)

    monkeypatch.setattr(checkpoint.fcntl, "flock", lock_too_late)
    file.save(ARRAYS, {"number": 0})
    assert len(removed) == 1
    assert file.load().numbers == {"number": 0}


@pytest.mark.parametrize("lacking", ["module", "locks"])
def test_where_files_cannot_be_locked(file, monkeypatch, lacking):
    """As on Windows, and on some file systems of clusters."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    left = file.path.with_name("state.safetensors.0123abcd.unfinished")
    left.write_bytes(b"half")
    if lacking == "module":
        monkeypatch.setattr(checkpoint, "fcntl", None)
    else:
        monkeypatch.setattr(checkpoint.fcntl, "flock", refuse)
    for number in range(3):
        file.save(ARRAYS, {"number": number})
    assert file.load().numbers == {"number": 2}
    assert left.exists() == (lacking == "locks")


def test_a_path_is_checked_before_work_starts(file, tmp_path):
    file.check()
    file.save(ARRAYS, {})
    file.check()
    with pytest.raises(ValueError, match=r"alpha: 0.1 in the checkpoint, 0.2 now"):
        CheckpointFile(file.path, FINGERPRINT | {"alpha": "0.2"}).check()
    with pytest.raises(FileNotFoundError, match="does not exist: create it"):
        CheckpointFile(tmp_path / "gone" / "state", FINGERPRINT).check()
    file.path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        file.check()
