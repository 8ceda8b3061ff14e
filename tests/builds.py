"""A copy of the checkout, built in another way, in which its own tests run."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
NOTHING_TO_FIND = {
    "test_sanitized": "another build",
    "test_debug_build": "another build",
    "test_core_c": "sanitizes programs of its own",
    "test_crash_points": "builds a core of its own",
    "test_models": "tests the models",
    "test_install": "builds a core of its own",
    "test_benchmarks": "measures",
    "test_notebooks_run": "runs what test_jupyter runs, for minutes",
}
FILES = sorted({path.stem for path in CHECKOUT.glob("tests/test_*.py")} - NOTHING_TO_FIND.keys())


@contextlib.contextmanager
def built(python: str | Path, **environment: str) -> Iterator[Path]:
    """A checkout whose core was built by this interpreter, with assertions."""
    with tempfile.TemporaryDirectory(
        dir="/tmp"
    ) as parent:  # not pytest's: tests look for its name in tracebacks
        folder = Path(parent) / "checkout"
        products = shutil.ignore_patterns(
            ".git", ".*_cache", "build", "out", "*.so", "*.egg-info", "__pycache__"
        )
        shutil.copytree(CHECKOUT, folder, ignore=products)
        made = subprocess.run(
            [python, "setup.py", "build_ext", "--inplace"],
            cwd=folder,
            env=os.environ | {"FASTMP_DEV": "1"} | environment,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        yield folder


def run_tests(
    python: str | Path, checkout: Path, temporary: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest in such a checkout, which is what it tests."""
    return subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "TMPDIR": str(temporary)} | environment,
        capture_output=True,
        text=True,
    )


def but(*words: str) -> str:
    return " and ".join(f"not {word}" for word in words)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path has room for the name of a socket behind it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)
