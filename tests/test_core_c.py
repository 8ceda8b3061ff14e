"""The C tests of src/core: every program of tests/c, as it is, under the sanitizers and under valgrind."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "c"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("test_*.c"))
SANITIZERS = {"plain": "", "address": "address,undefined", "thread": "thread"}
FINDING = re.compile(r"Sanitizer: |runtime error: |^==\d+==", re.MULTILINE)  # the last is valgrind's

pytestmark = [
    pytest.mark.deadline(900),  # the first of each variant builds it
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
    pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="there is no C compiler"),
]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def links(sanitizers: str, folder: Path) -> bool:
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    compiler = os.environ.get("CC", "cc")
    return run(compiler, f"-fsanitize={sanitizers}", source, "-o", folder / "empty").returncode == 0


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Build a program of a variant; the core that it links is built once for each variant."""
    folders: dict[str, Path] = {}

    def build_program(name: str, variant: str) -> Path:
        sanitizers = SANITIZERS[variant]
        if variant not in folders:
            folders[variant] = tmp_path_factory.mktemp(variant)
        folder = folders[variant]
        if sanitizers and not links(sanitizers, folder):
            pytest.skip(f"the C compiler can't link programs with -fsanitize={sanitizers}")
        made = run("make", "-C", FOLDER, f"OUT={folder}", f"SAN={sanitizers}", folder / name)
        assert made.returncode == 0, made.stdout + made.stderr
        return folder / name

    return build_program


def test_every_file_of_the_core_has_its_program() -> None:
    core = (FOLDER.parent.parent / "src" / "core").glob("*.c")
    assert {f"test_{path.stem}" for path in core} - {"test_kinds"} <= set(PROGRAMS)


@pytest.mark.parametrize("variant", SANITIZERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, variant: str, build: Callable[[str, str], Path]) -> None:
    done = run(build(name, variant))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not FINDING.search(done.stderr), done.stderr  # of a child that was killed, too


@pytest.mark.stress
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_under_valgrind(name: str, build: Callable[[str, str], Path]) -> None:
    folder = build(name, "plain").parent
    done = run("make", "-C", FOLDER, f"OUT={folder}", f"valgrind-{name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not FINDING.search(done.stderr), done.stderr
