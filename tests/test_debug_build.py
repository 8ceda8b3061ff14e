"""The suite on a debug build of the interpreter, which asserts what it elsewhere takes for granted and counts
all references: a copy of the checkout, built for it, runs its tests there.

The interpreter has the version of the one that runs the tests, whose packages it uses.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import FILES, built, run_tests, short_folder

pytestmark = [pytest.mark.stress, pytest.mark.deadline(3600)]

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
NAMES = (f"python{VERSION}-dbg", f"python{VERSION}d")  # as distributions call it, and who builds his own
SLOWNESS = "4"  # than other builds
QUIET = (
    "ignore::ResourceWarning,ignore::ImportWarning,ignore::PendingDeprecationWarning"  # as other builds are
)


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """A debug build, in an environment of its own."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"there is no debug build of Python {VERSION}: apt install python{VERSION}-dbg")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        subprocess.run([found, "-m", "venv", "--without-pip", folder], check=True)
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        for library in Path(sys.prefix).glob("lib/*mpi*"):  # looked for beside the interpreter
            (Path(folder) / "lib" / library.name).symlink_to(library)
        yield Path(folder) / "bin" / "python"


@pytest.fixture(scope="module")
def checkout(python: Path) -> Iterator[Path]:
    with built(python) as folder:
        yield folder


@pytest.mark.parametrize("name", FILES)
def test_file(name: str, python: Path, checkout: Path) -> None:
    """Among them test_leaks, which has all references to look at here."""
    with short_folder() as temporary:
        done = run_tests(
            python,
            checkout,
            temporary,
            f"tests/{name}.py",
            PYTHONWARNINGS=QUIET,
            FASTMP_TEST_SLOWNESS=SLOWNESS,
        )
    assert done.returncode == 0, done.stdout + done.stderr
