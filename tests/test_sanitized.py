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

SANITIZERS = "address,undefined"
LOADED, LINKED = "libasan.so", "libubsan.a"

# Extensions are compiled with -fwrapv, and an overflow that wraps is not undefined. A shared libubsan writes
# its reports to standard error, be it a child's or nobody's: only libasan learns which file they go to.
CFLAGS = "-fno-wrapv"
LDFLAGS = "-static-libubsan -Wl,--exclude-libs,ALL"

QUICK = ["test_codec", "test_semlock", "test_sharedctypes"]

SLOWNESS = "4"  # of a sanitized process, on a machine that does something else as well
FINDING = re.compile(r"ERROR: |runtime error: ")  # that it refuses an absurd size is only a warning

CANNOT = {
    "RLIMIT_AS": "the sanitizer reserves terabytes of address space",
    "executors[fork]": "a thread that ends takes locks of the sanitizer's heap: a fork may copy them taken",
}


def compiler() -> str:
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        pytest.skip("there is no C compiler")
    return found


def runtime(name: str) -> Path:
    asked = [compiler(), f"-print-file-name={name}"]
    said = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(said):
        pytest.skip(f"the C compiler has no {name}")
    return Path(said)


@pytest.fixture
def short() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def sanitized() -> Iterator[Path]:
    """A checkout whose core was built with the sanitizers."""
    pytest.importorskip("setuptools")
    runtime(LOADED)
    runtime(LINKED)
    with built(sys.executable, FASTMP_SANITIZE=SANITIZERS, CFLAGS=CFLAGS, LDFLAGS=LDFLAGS) as checkout:
        yield checkout


def check(checkout: Path, reports: Path, temporary: Path, *arguments: str) -> None:
    """Run pytest in the checkout: its tests pass, and the sanitizers have nothing to say."""
    common = f"log_path={reports}/report"
    done = run_tests(
        sys.executable,
        checkout,
        temporary,
        *arguments,
        LD_PRELOAD=str(runtime(LOADED)),
        ASAN_OPTIONS=f"detect_leaks=0:allocator_may_return_null=1:{common}",
        UBSAN_OPTIONS=f"halt_on_error=1:print_stacktrace=1:{common}",
        PYTHONMALLOC="malloc",  # so that an object is as large as it is, and its memory is dead when it is
        FASTMP_TEST_SLOWNESS=SLOWNESS,
    )
    said = [path.read_text(errors="replace") for path in reports.glob("report*")]
    found = [text for text in said if FINDING.search(text)]
    assert not found, "\n".join(found)
    assert done.returncode == 0, done.stdout + done.stderr


BUGS = """
#include <stdlib.h>

int beyond(int i)
{
    char *p = calloc(8, 1);
    int c = p[i];
    free(p);
    return c;
}

int above(int i)
{
    return i + 1;
}
"""

CHILD = """
import ctypes
import os

import fastmp

def work():
    os.close(2)
    getattr(ctypes.CDLL({library!r}), {name!r})({argument})

def test_whose_child_is_mute():
    child = fastmp.get_context("fork").Process(target=work)
    child.start()
    child.join()
"""


@pytest.mark.deadline(600)
@pytest.mark.parametrize(
    ("name", "argument", "found"),
    [("beyond", 8, "heap-buffer-overflow"), ("above", 0x7FFFFFFF, "signed integer overflow")],
)
def test_what_children_do_is_found(
    name: str, argument: int, found: str, sanitized: Path, tmp_path: Path, short: Path
) -> None:
    source, library = tmp_path / "bugs.c", tmp_path / "bugs.so"
    source.write_text(BUGS)
    flags = ["-shared", "-fPIC", "-fwrapv", *CFLAGS.split(), f"-fsanitize={SANITIZERS}", *LDFLAGS.split()]
    subprocess.run([compiler(), *flags, source, "-o", library], check=True)
    test = sanitized / "tests" / "test_of_a_bug.py"
    test.write_text(CHILD.format(library=str(library), name=name, argument=argument))
    with pytest.raises(AssertionError, match=found):
        check(sanitized, tmp_path, short, f"tests/{test.name}")


@pytest.mark.deadline(600)
def test_the_quick_part(sanitized: Path, tmp_path: Path, short: Path) -> None:
    files = [f"tests/{name}.py" for name in QUICK]
    check(sanitized, tmp_path, short, "-k", but("spawn", "forkserver", *CANNOT), *files)


@pytest.mark.stress
@pytest.mark.deadline(3600)
@pytest.mark.parametrize("name", FILES)
def test_file(name: str, sanitized: Path, tmp_path: Path, short: Path) -> None:
    check(sanitized, tmp_path, short, "-k", but(*CANNOT), f"tests/{name}.py")
