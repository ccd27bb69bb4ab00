"""A checkpoint on disk: arrays and plain numbers in one safetensors file, of which a whole one is always there."""

import errno
import hashlib
import json
import os
import re
import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, which deletes no file that is open
    fcntl = None

VERSION = "1"
# In the file's header; a quotation mark within a text is escaped there, so that no text can look like this
MARK = b'"torchlinreg_sha256":"'
NO_DIGEST = b"0" * 64
DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
WAYS_OUT = {
    errno.ENOSPC: "Free space on this disk, or give a path on another",
    errno.EDQUOT: "Free space on this disk, or give a path on another",
    errno.EFBIG: "Files may not get as large there: give a path on another disk, or raise the limit",
    errno.ENOENT: "Create its folder (again), or give another path",
    errno.ENOTDIR: "Create its folder (again), or give another path",
    errno.EACCES: "Make its folder writable, or give another path",
    errno.EPERM: "Make its folder writable, or give another path",
    errno.EISDIR: "Remove the folder of its name, or give another path",
    errno.EROFS: "Make its folder writable, or give another path",
}


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Writable, and nobody else's memory.
    numbers : dict of str to int, float, str, list or None
        Tuples come back as lists.
    """

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]


class CheckpointFile:
    """Saves and loads the state of a computation, so that a whole one is on disk at every moment.

    One file in the format of safetensors. Its header holds plain numbers, a fingerprint and the SHA-256 of all other
    bytes of the file, so that a damaged file is noticed whichever byte it is. The checkpoint before the last is
    kept, too, as ``path + ".previous"``. Nothing is unpickled.

    Parameters
    ----------
    path : str or path-like
        The file. Computations that run at the same time need different ones.
    fingerprint : dict of str to str
        Of data and settings: what a checkpoint must agree in to be loaded, by names that the user understands.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    """

    def __init__(self, path: str | os.PathLike, fingerprint: Mapping[str, str]):
        _safetensors()
        if not all(isinstance(text, str) for item in fingerprint.items() for text in item):
            raise TypeError(f"fingerprint={dict(fingerprint)!r} must map str to str.")
        # Absolute, as the folder of the process may change; and it is not links that are to be renamed
        self.path = Path(os.path.realpath(path))
        self.previous = self.path.with_name(self.path.name + ".previous")
        self.fingerprint = dict(fingerprint)

    def save(self, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> None:
        """Write a checkpoint, and keep the one before.

        Parameters
        ----------
        arrays : dict of str to array-like
            Of booleans, integers or floats, of any shape.
        numbers : dict of str to int, float, str, list or None
            Whatever JSON can hold.

        Raises
        ------
        OSError
            If it cannot be written, as where the disk is full. Earlier checkpoints are as they were.
        ValueError
            If the file there is no checkpoint, or one of other data or settings: it is not overwritten.
        TypeError
            If something can be stored in neither way.
        """
        with self._naming_the_way_out():
            _remove_abandoned(self.path)
            keeps_present = self._is_worth_keeping()
            data = _serialize(arrays, numbers, self.fingerprint)
            with _new_file(self.path) as file:
                _write(file, data)
                if keeps_present:
                    with suppress(FileNotFoundError):
                        os.replace(self.path, self.previous)
                if fcntl is None:
                    file.close()  # Windows renames no file that is open
                os.replace(file.name, self.path)
            _sync_folder(self.path.parent)

    def load(self) -> Saved | None:
        """Return the newest checkpoint that is whole, or None if there is none at all yet.

        Raises
        ------
        ValueError
            If it is of other data, other settings or another version of the format; the message names what differs.
            If there are files but none is a whole checkpoint.
        OSError
            If the folder does not exist, or cannot be read.

        Warns
        -----
        UserWarning
            If the newest file is damaged and the one before it is returned instead.
        """
        self._check_folder()
        found, passed_over = self._newest()
        if found is None:
            if passed_over:
                raise ValueError(self._none_is_whole(passed_over))
            return None
        self._refuse_another(found.header)
        for problem in passed_over:
            warnings.warn(f"{problem}. {found.path}, the checkpoint before it, is used instead.", stacklevel=2)
        return Saved(_deserialize(found.data), json.loads(found.header["numbers"]))

    def check(self) -> None:
        """Refuse, before work starts, a path at which `save` would not write.

        Raises
        ------
        OSError
            If its folder does not exist.
        ValueError
            If the file there is no checkpoint, or one of other data or settings.
        """
        self._check_folder()
        self._is_worth_keeping()

    def _check_folder(self) -> None:
        if not self.path.parent.is_dir():
            message = "The folder of the checkpoint does not exist: create it"
            raise FileNotFoundError(errno.ENOENT, message, str(self.path))

    def _is_worth_keeping(self) -> bool:
        """Whether the newest file is whole; if it is somebody else's it is refused."""
        found, passed_over = self._newest()
        if found is not None:
            self._refuse_another(found.header)
        elif any(problem.is_foreign for problem in passed_over):
            raise ValueError(self._none_is_whole(passed_over))
        return found is not None and found.path == self.path

    def _newest(self) -> "tuple[_Whole | None, list[_UnusableError]]":
        """Return the newest whole checkpoint, if there is one, and why newer files were passed over."""
        passed_over = []
        for path in (self.path, self.previous):
            # The newest may be missing: a process was killed while it renamed them
            with suppress(FileNotFoundError):
                try:
                    return _read(path), passed_over
                except _UnusableError as problem:
                    passed_over.append(problem)
        return None, passed_over

    def _refuse_another(self, header: dict[str, str]) -> None:
        """Refuse a checkpoint that is not of this computation, or of another version of the format."""
        there, here = {"format version": header["torchlinreg_checkpoint"]}, {"format version": VERSION}
        if there == here:
            there, here = json.loads(header["fingerprint"]), self.fingerprint
        differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if differing:
            what = "; ".join(
                f"{name}: {there.get(name, 'absent')} in the checkpoint, {here.get(name, 'absent')} now"
                for name in differing
            )
            raise ValueError(f"{self.path} was not written with this data and these settings. {what}. {self._way_out}")

    def _none_is_whole(self, problems: "list[_UnusableError]") -> str:
        return f"{'; '.join(map(str, problems))}. {self._way_out}"

    @property
    def _way_out(self) -> str:
        return (
            f"Give another path or, to begin anew, delete this file and {self.previous.name} beside it, if it is there."
        )

    @contextmanager
    def _naming_the_way_out(self) -> Iterator[None]:
        """Say in the errors of the system which file it is, and what to do."""
        try:
            yield
        except OSError as error:
            way_out = WAYS_OUT.get(error.errno, "Look after its folder, or give another path")
            message = f"The checkpoint cannot be written: {error.strerror}. {way_out}. Earlier checkpoints are kept"
            raise OSError(error.errno, message, str(self.path)) from error


class _UnusableError(Exception):
    """Says why a file is no whole checkpoint, and whether it may be somebody else's."""

    def __init__(self, path: Path, why: str, *, is_foreign: bool):
        super().__init__(f"{path} {why}")
        self.is_foreign = is_foreign


@dataclass(frozen=True)
class _Whole:
    """A file whose SHA-256 is right."""

    path: Path
    data: bytes
    header: dict[str, str]


def _read(path: Path) -> _Whole:
    """Return a file if each of its bytes is as it was written.

    Raises
    ------
    _UnusableError
        If not.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise _UnusableError(path, "is a folder", is_foreign=True) from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise _UnusableError(path, f"is damaged: {error.strerror}", is_foreign=False) from error
    if not data:
        raise _UnusableError(path, "is empty", is_foreign=False)
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    if header.count(MARK) != 1:
        is_foreign = MARK not in data
        why = "is not a checkpoint of torchlinreg, or its beginning is damaged" if is_foreign else "is damaged"
        raise _UnusableError(path, why, is_foreign=is_foreign)
    before, found, after = _around_digest(data)
    if _digest(before, after) != found:
        raise _UnusableError(path, "is damaged: its SHA-256 is not the one noted in it", is_foreign=False)
    return _Whole(path, data, json.loads(header)["__metadata__"])


def _around_digest(data: bytes) -> tuple[memoryview, memoryview, memoryview]:
    """Return what stands before the digest, the digest as it stands there, and what stands after it."""
    view, start = memoryview(data), data.index(MARK) + len(MARK)
    return view[:start], view[start : start + len(NO_DIGEST)], view[start + len(NO_DIGEST) :]


def _digest(before: memoryview, after: memoryview) -> bytes:
    """Return the SHA-256 of a whole file, with zeros for the digest itself, in hexadecimal digits."""
    digest = hashlib.sha256(before)
    digest.update(NO_DIGEST)
    digest.update(after)
    return digest.hexdigest().encode()


def _serialize(arrays: Mapping[str, Any], numbers: Mapping[str, Any], fingerprint: dict[str, str]) -> bytes:
    """Return the bytes of the file, with zeros for the digest."""
    header = {
        "torchlinreg_checkpoint": VERSION,
        "torchlinreg_sha256": NO_DIGEST.decode(),
        "fingerprint": json.dumps(fingerprint),
        "numbers": json.dumps(dict(numbers), default=_plain),
    }
    if "__metadata__" in arrays:
        raise ValueError("An array of a checkpoint cannot be called '__metadata__'.")
    return _safetensors().save({name: _storable(name, array) for name, array in arrays.items()}, header)


def _deserialize(data: bytes) -> dict[str, np.ndarray]:
    arrays = _safetensors().load(data)
    return {name: array.copy() for name, array in arrays.items()}


def _storable(name: str, array: Any) -> np.ndarray:
    """Return a contiguous array in the byte order of this machine."""
    array = np.asarray(array, order="C")
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"A checkpoint holds arrays of booleans, integers and floats; {name!r} has dtype {array.dtype}."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _plain(number: Any) -> Any:
    """Return a scalar of NumPy as one of Python's."""
    if isinstance(number, np.generic) and number.dtype.name in DTYPES:
        return number.item()
    raise TypeError(f"A checkpoint holds numbers, texts and lists of them; {number!r} is a {type(number).__name__}.")


def _safetensors():
    try:
        import safetensors.numpy  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('Checkpoints need safetensors: pip install "torchlinreg[scaling]"') from error
    return safetensors.numpy


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Create a file beside another one; it is removed in the end unless it has been renamed."""
    file = _create_locked(path)
    try:
        with file:
            yield file
    finally:
        Path(file.name).unlink(missing_ok=True)


def _create_locked(path: Path) -> BinaryIO:
    """Create a file that is locked, so that nobody takes it for what a killed process has left behind."""
    while True:
        file = open(path.with_name(f"{path.name}.{secrets.token_hex(4)}.unfinished"), "xb")  # noqa: SIM115
        if fcntl is not None:
            with suppress(OSError):  # where a file system has no locks, nothing is ever taken for abandoned
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink > 0:
            return file
        file.close()  # it was removed before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove what processes left behind that were killed while they saved."""
    pattern = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}\.unfinished")
    for name in os.listdir(path.parent):
        if pattern.fullmatch(name):
            unfinished = path.with_name(name)
            with suppress(OSError):  # a living process has it, or it is gone already
                if fcntl is None:
                    unfinished.unlink()
                    continue
                with open(unfinished, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    unfinished.unlink()


def _write(file: BinaryIO, data: bytes) -> None:
    """Write a file with its digest, down to the disk."""
    before, _, after = _around_digest(data)
    for part in (before, _digest(before, after), after):
        file.write(part)
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Bring the names of files down to the disk, where the platform can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
