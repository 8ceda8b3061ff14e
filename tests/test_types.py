"""The types: the package is clean under mypy --strict, and the stub of the C core is what the core is."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed: pip install '.[test]'")
ROOT = Path(__file__).parents[1]


def run(*args, cwd):
    return subprocess.run([sys.executable, "-P", "-m", *args], cwd=cwd, capture_output=True, text=True)


@pytest.mark.deadline(300)
def test_the_package_is_typed(tmp_path):
    config = ROOT / "pyproject.toml"
    # By name: given the folder, mypy would take what lies beside an installed package for ours as well.
    done = run("mypy", f"--config-file={config}", f"--cache-dir={tmp_path}", "-p", "fastmp", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.deadline(300)
def test_the_stub_is_what_the_core_is(tmp_path):
    allowed = tmp_path / "allowed"  # before 3.12 Python code did not see the buffer protocol
    allowed.write_text("fastmp._core.Block.__buffer__\nfastmp._core.SynchronizedBase.__buffer__\n")
    done = run(
        "mypy.stubtest", f"--allowlist={allowed}", "--ignore-unused-allowlist", "fastmp._core", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout
