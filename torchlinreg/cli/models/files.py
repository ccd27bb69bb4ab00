"""Files of fitted models in the format of skops, which runs nothing that is in a file."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn.base import BaseEstimator

import torchlinreg
from torchlinreg import losses, schedules
from torchlinreg.cli import encoding
from torchlinreg.cli.messages import UsageError, listed, one_line

__all__ = ["check_folder", "import_skops", "load_model", "save_model", "writing"]

# Of imputers, of sparsify, and of ColumnTransformer before scikit-learn 1.9, which skops asks about
PARTS = {"numpy.dtype", "scipy.sparse._csr.csr_array", "sklearn.compose._column_transformer._RemainderColsList"}
INSTALL = 'model files need skops: pip install "torchlinreg[export]"'


def save_model(model: BaseEstimator, file: Path) -> None:
    """Save a fitted estimator.

    Raises
    ------
    UsageError
        If skops is missing, or cannot save a parameter.
    """
    try:
        content = import_skops().dumps(model)
    except Exception as error:  # skops leaves it to each type how it fails
        raise UsageError(f"cannot save the model: {one_line(error)}; give its parameters as text") from error
    with writing(file) as unfinished:
        unfinished.write_bytes(content)


def load_model(file: Path) -> BaseEstimator:
    """Load a fitted estimator, of scikit-learn's and this package's types and no others.

    Raises
    ------
    UsageError
        If skops is missing, or if the file is anything else; nothing in it is run then.
    """
    skops = import_skops()
    if not file.is_file():
        raise UsageError(f"there is no file {str(file)!r}: make one with torchlinreg fit")
    if not zipfile.is_zipfile(file):
        raise UsageError(
            f"{file} is not a model of skops; pickles are not loaded, as they could run anything: make one with "
            "torchlinreg fit, or skops.io.dump"
        )
    try:
        asked = set(skops.get_untrusted_types(file=file))
        foreign = sorted(asked - own_types())
        if not foreign:
            model = skops.load(file, trusted=sorted(asked))
    except Exception as error:  # whatever a damaged file leads to
        raise UsageError(f"cannot load {file}: {one_line(error)}; make it anew with torchlinreg fit") from error
    if foreign:
        raise UsageError(
            f"{file} has types that are neither scikit-learn's nor this package's, and is not loaded: {listed(foreign)}"
        )
    if not (isinstance(model, BaseEstimator) and hasattr(model, "predict") and hasattr(model, "feature_names_in_")):
        raise UsageError(f"{file} has no estimator that was fitted to named columns: make one with torchlinreg fit")
    return model


def import_skops():
    """Import skops.io.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        import skops.io  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError(INSTALL) from error
    return skops.io


def own_types() -> set[str]:
    """Return the names of the types beside scikit-learn's that a model may have in it, as skops has them."""
    public = (getattr(module, name) for module in (torchlinreg, losses, schedules, encoding) for name in module.__all__)
    return PARTS | {f"{each.__module__}.{each.__qualname__}" for each in public if isinstance(each, type)}


def check_folder(file: Path) -> None:
    """Refuse a file whose folder is not there, before work is done for it."""
    if not file.parent.is_dir():
        raise UsageError(f"cannot save {file}: there is no folder {file.parent}; make it first")


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """Give a place to write to, which takes the name of the file once all is written, and is gone otherwise.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield unfinished
        os.replace(unfinished, file)
    except OSError as error:
        raise UsageError(f"cannot save {file}: {error.strerror or error}; choose another place") from error
    finally:
        unfinished.unlink(missing_ok=True)
