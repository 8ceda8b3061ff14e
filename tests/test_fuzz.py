"""The fuzz targets of tests/fuzz: on their corpus, under sanitizers; as a stress test, on whatever comes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fuzz"
TARGETS = ["frame", "arena", "ticket", "codec"]
SECONDS = 300  # for each target

pytestmark = [
    pytest.mark.deadline(900),  # the first builds the core
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]

ENVIRONMENT = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}  # Python keeps some things for ever
COMPILERS = {
    "replay": (os.environ.get("CC", "cc"), "-fsanitize=address,undefined", "int main(void) { return 0; }"),
    "fuzz": (
        os.environ.get("CLANG", "clang"),
        "-fsanitize=fuzzer,address,undefined",
        "int LLVMFuzzerTestOneInput(const void *data, unsigned long bytes) { return !data && bytes; }",
    ),
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


def make(target: str, folder: Path, how: str) -> Path:
    """Build a target: skipped where there is no compiler with sanitizers, or no Python to link with."""
    compiler, flags, code = COMPILERS[how]
    trial = folder / "trial.c"
    trial.write_text(f"{code}\n")
    if shutil.which(compiler) is None or run(compiler, flags, trial, "-o", folder / "trial").returncode != 0:
        pytest.skip(f"{compiler} can't link with {flags}")
    variables = f"HOW={how}", f"OUT={folder}", f"TARGETS={target}", f"PYTHON={sys.executable}"
    done = run("make", "-C", FOLDER, *variables)
    if target == "codec" and "-lpython" in done.stderr:
        pytest.skip("there is no library of Python to link with")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / how / target


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str, folder: Path) -> None:
    corpus = sorted((FOLDER / "corpus" / target).iterdir())
    done = run(make(target, folder, "replay"), *corpus)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(corpus)} inputs\n"


@pytest.mark.stress
@pytest.mark.parametrize("target", TARGETS)
def test_what_comes(target: str, folder: Path, tmp_path: Path) -> None:
    program = make(target, folder, "fuzz")
    limits = f"-max_total_time={SECONDS}", "-timeout=20", "-rss_limit_mb=4096"
    done = run(program, *limits, f"-artifact_prefix={tmp_path}/", tmp_path, FOLDER / "corpus" / target)
    assert done.returncode == 0, done.stderr[-5000:]
