"""Who may include or import whom."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
PACKAGE = ROOT / "fastmp"
FOREIGN = {"multiprocessing", "_multiprocessing"}


def included(path):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


OUTCOMES = "core/result.h"  # an enum that all layers return; it includes nothing


def c_files(folder):
    return sorted(path for path in (SOURCES / folder).rglob("*") if path.suffix in {".c", ".h"})


@pytest.mark.parametrize("layer, above", [("platform", {"core", "binding"}), ("core", {"binding"})])
def test_layers_of_c(layer, above):
    assert c_files(layer)
    for path in c_files(layer):
        for name in included(path):
            assert name != "Python.h", path
            assert name == OUTCOMES or not above & set(Path(name).parts), f"{path} includes {name}"


def test_outcomes_include_nothing():
    assert not included(SOURCES / OUTCOMES)


def test_nobody_includes_the_folder_of_an_os():
    for path in [*c_files("core"), *c_files("binding")]:
        assert not [name for name in included(path) if name.startswith("platform/linux")], path


def python_files():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """The names of the modules that a file imports: those of others as they are, ours from the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_standard_library_s_package_is_not_imported(path):
    assert not {name.partition(".")[0] for name in imports(path)} & FOREIGN


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(path):
    """Functions import nothing."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            inner = [n.lineno for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
            assert not inner, f"{path}:{inner}"


LEAVES = ("_at_once", "_spawning", "_finalize", "_logging", "_threads", "_definitions", "_echo", "_rerun")


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_import_nothing_of_ours(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def modules():
    for path in python_files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


ALONE = """
import importlib, sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {foreign!r}:
            raise ImportError(f"fastmp is not to import {{name}}")

sys.meta_path.insert(0, Refuse)
module = importlib.import_module({name!r})
for name in getattr(module, "__all__", ()):
    getattr(module, name)
"""


@pytest.mark.parametrize("name", list(modules()))
def test_each_module_can_be_imported_alone(name):
    code = ALONE.format(foreign=FOREIGN, name=name)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
