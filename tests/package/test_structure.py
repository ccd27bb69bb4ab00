"""The tree: what each folder imports, how large files and functions may get, and its picture in CONTRIBUTING.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "torchlinreg").rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES})
# Folders from the outermost in; each imports itself and those after it
ORDER = {
    "torchlinreg": ["cli", "displays", "analysis", "estimators", "inputs", "engine"],
    "torchlinreg/estimators": ["candidates", "training", "parameters"],
    "torchlinreg/engine": [
        "columns",
        "fit",
        "optimality",
        "solvers",
        "objective",
        "preconditioning",
        "data",
        "runtime",
    ],
    "torchlinreg/engine/solvers": ["minibatch", "full_batch"],
}
# What says how a part of the objective is used, beside the parts themselves
INTERFACES = {"Loss", "Model", "Penalty", "total_loss"}
OUTSIDE_THE_ENGINE = {"sklearn", "pandas", "narwhals", "matplotlib", "pyarrow"}


def relative(path):
    return path.relative_to(ROOT).as_posix()


def imported_names(source, package):
    """Absolute names of all that a module of a package imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = [*above, node.module] if node.module else above
            yield from (".".join([*base, alias.name]) for alias in node.names)


def imports(path):
    return [*imported_names(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parent.parts)]


def neighbours(folder):
    """The folders beside this one that its files import, from the outermost in."""
    beside = ORDER[relative(folder.parent)]
    prefix = relative(folder.parent).replace("/", ".") + "."
    names = [name.removeprefix(prefix) for path in folder.rglob("*.py") for name in imports(path) if prefix in name]
    found = {name.partition(".")[0] for name in names} - {folder.name}
    return [name for name in beside if name in found]


def docstring(folder):
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


def picture(folder, indent=""):
    """Lines that show what a folder holds and imports, for all folders in it."""
    for name in ORDER.get(relative(folder), []):
        inner = folder / name
        arrow = f"  → {', '.join(neighbours(inner))}" if neighbours(inner) else ""
        yield f"{indent}{name}/{arrow}"
        yield f"{indent}    {docstring(inner).partition(chr(10))[0]}"
        yield from picture(inner, indent + "    ")


def by_name(paths):
    return {"argvalues": paths, "ids": [relative(path) for path in paths]}


@pytest.mark.parametrize("folder", **by_name([folder for folder in FOLDERS if relative(folder.parent) in ORDER]))
def test_imports_run_one_way_and_are_stated(folder):
    beside = ORDER[relative(folder.parent)]
    found = neighbours(folder)
    assert all(beside.index(name) > beside.index(folder.name) for name in found)
    assert docstring(folder).endswith(f"\n\nImports: {', '.join(found)}." if found else docstring(folder))


@pytest.mark.parametrize("path", **by_name([path for path in FILES if "engine" in path.parts]))
def test_the_engine_knows_torch_and_no_scikit_learn(path):
    for name in imports(path):
        assert name.partition(".")[0] not in OUTSIDE_THE_ENGINE
        assert not name.startswith("torchlinreg.") or name.startswith("torchlinreg.engine.")


@pytest.mark.parametrize("path", **by_name([path for path in FILES if "solvers" in path.parts]))
def test_solvers_know_no_concrete_part(path):
    for name in imports(path):
        is_part = name.startswith("torchlinreg.engine.objective.")
        assert not is_part or name.rpartition(".")[2] in INTERFACES, f"{path} imports {name}"


@pytest.mark.parametrize("folder", **by_name(FOLDERS))
def test_folders_have_few_entries_and_say_what_they_promise(folder):
    assert docstring(folder)
    entries = [path for path in folder.iterdir() if not path.name.startswith("__") and path.suffix in {".py", ""}]
    # At the top there are also the public modules by topic, which import from anywhere
    assert len(entries) <= (13 if folder.name == "torchlinreg" else 8)
    assert folder.name != "torchlinreg" or {path.name for path in entries if path.is_dir()} == {*ORDER["torchlinreg"]}


def lines_of_code(function):
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def reassigned(cls):
    """Attributes that methods of a class assign outside its constructor."""
    for method in cls.body:
        if isinstance(method, ast.FunctionDef) and method.name != "__init__":
            for node in ast.walk(method):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    yield ast.unparse(node)


@pytest.mark.parametrize("path", **by_name(FILES))
def test_files_functions_and_classes_are_small(path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400
    limits = {"fit_untuned": 40, "fit_textbook": 40}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert lines_of_code(node) <= limits.get(node.name, 50), node.name
        elif isinstance(node, ast.ClassDef) and "engine" in path.parts:
            mutable = {name for name in reassigned(node) if name.startswith("self.") and name.count(".") == 1}
            assert len(mutable) <= 5, f"{node.name}: {mutable}"


def test_the_picture_of_the_tree_is_true():
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "\n".join(["torchlinreg/", *picture(ROOT / "torchlinreg", "    ")]) in contributing


def test_imports_are_read_as_python_reads_them():
    source = "import os.path\nfrom ..fit import A\nfrom . import losses\ndef f(): from .models import B"
    package = ("torchlinreg", "engine", "data")
    expected = {"os.path", "torchlinreg.engine.fit.A", "torchlinreg.engine.data.losses"}
    assert {*imported_names(source, package)} == expected | {"torchlinreg.engine.data.models.B"}
