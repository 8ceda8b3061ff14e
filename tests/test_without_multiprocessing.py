"""fastmp stands alone: it works where multiprocessing and _multiprocessing cannot be imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from guard import SLOWNESS

TESTS = Path(__file__).parent


def run_blocked(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300 * SLOWNESS,
    )


def test_the_block_blocks(tmp_path):
    for name in "multiprocessing", "multiprocessing.pool", "_multiprocessing":
        program = (
            "import without_multiprocessing\n"
            f"try: import {name}\n"
            "except ModuleNotFoundError as e: print(e)\n"  # a traceback may have words of its own for it
        )
        run = run_blocked("-c", program, cwd=tmp_path)
        assert re.fullmatch(r"_?multiprocessing is blocked\n", run.stdout), run.stderr


def test_importing_everything(tmp_path):
    program = (
        "import without_multiprocessing, fastmp, importlib, pkgutil\n"
        "for module in pkgutil.walk_packages(fastmp.__path__, 'fastmp.'):\n"
        "    importlib.import_module(module.name)\n"
        "for name in fastmp.__all__:\n"
        "    getattr(fastmp, name)\n"
    )
    run = run_blocked("-c", program, cwd=tmp_path)
    assert run.returncode == 0, run.stderr


@pytest.mark.deadline(310)
def test_the_programs_of_the_notebooks(tmp_path):
    run = run_blocked(
        *("-m", "pytest", "-p", "without_multiprocessing", "-p", "no:cacheprovider", "-q"),
        *(
            "-m",
            "not imports_multiprocessing",
            f"--rootdir={TESTS.parent}",
            f"--basetemp={tmp_path / 'inner'}",
        ),
        TESTS / "notebooks",
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^(\d+) passed", run.stdout, re.MULTILINE)
    assert passed and int(passed[1]) >= 40, run.stdout
