"""The suite under the address and undefined sanitizers: a copy of the checkout, built so, runs its tests.

Reports go to files, so that none is lost with the output of some child of a test.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import FILES, built, but, run_tests, short_folder

SANITIZERS = {"address": "libasan.so", "undefined": "libubsan.so"}

QUICK = ["test_codec", "test_semlock", "test_sharedctypes"]

SLOWNESS = "4"  # of a sanitized process, on a machine that does something else as well
FINDING = re.compile(r"ERROR: |runtime error: ")  # that it refuses an absurd size is only a warning

CANNOT = {
    "RLIMIT_AS": "the sanitizer reserves terabytes of address space",
}


def runtime(name: str) -> Path:
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        pytest.skip("there is no C compiler")
    asked = [compiler, f"-print-file-name={name}"]
    said = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(said):
        pytest.skip(f"the C compiler has no {name} to load into the interpreter")
    return Path(said)


@pytest.fixture
def short() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def sanitized() -> Iterator[Path]:
    """A checkout whose core was built with the sanitizers."""
    pytest.importorskip("setuptools")
    for name in SANITIZERS.values():
        runtime(name)
    with built(sys.executable, FASTMP_SANITIZE=",".join(SANITIZERS)) as checkout:
        yield checkout


def check(checkout: Path, reports: Path, temporary: Path, *arguments: str) -> None:
    """Run pytest in the checkout: its tests pass, and the sanitizers have nothing to say."""
    common = f"log_path={reports}/report"
    done = run_tests(
        sys.executable,
        checkout,
        temporary,
        *arguments,
        LD_PRELOAD=" ".join(str(runtime(name)) for name in SANITIZERS.values()),
        ASAN_OPTIONS=f"detect_leaks=0:allocator_may_return_null=1:{common}",
        UBSAN_OPTIONS=f"halt_on_error=1:print_stacktrace=1:{common}",
        PYTHONMALLOC="malloc",  # so that an object is as large as it is, and its memory is dead when it is
        FASTMP_TEST_SLOWNESS=SLOWNESS,
    )
    said = [path.read_text(errors="replace") for path in reports.glob("report*")]
    found = [text for text in said if FINDING.search(text)]
    assert not found, "\n".join(found)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.deadline(600)
def test_the_quick_part(sanitized: Path, tmp_path: Path, short: Path) -> None:
    files = [f"tests/{name}.py" for name in QUICK]
    check(sanitized, tmp_path, short, "-k", but("spawn", "forkserver", *CANNOT), *files)


@pytest.mark.stress
@pytest.mark.deadline(3600)
@pytest.mark.parametrize("name", FILES)
def test_file(name: str, sanitized: Path, tmp_path: Path, short: Path) -> None:
    check(sanitized, tmp_path, short, "-k", but(*CANNOT), f"tests/{name}.py")
