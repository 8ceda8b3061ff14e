"""The notebooks themselves, unchanged, in a Jupyter kernel with fastmp in the place of multiprocessing.

They and their runner lie beside the repository, in ../shared/notebooks; FASTMP_NOTEBOOKS names
another folder. What they need comes with the extra "test".
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FASTMP_NOTEBOOKS") or Path(__file__).parents[2] / "shared" / "notebooks")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SCRIPTS = Path(sys.executable).parent  # pip, and mpiexec from the wheel of mpich
LIMIT = 400  # seconds for a notebook; the slowest takes about 60

# What a machine may lack; everything else that a cell needs has to be there.
RULED_OUT = {"needs-colab"} | ({"needs-4-cores"} if (os.cpu_count() or 1) < 4 else set())

pytestmark = [
    pytest.mark.skipif(
        not NOTEBOOKS, reason=f"there are no notebooks in {FOLDER}; FASTMP_NOTEBOOKS may name them"
    ),
    pytest.mark.deadline(LIMIT + 60),
]


def run(notebook: Path, start_method: str, folder: Path) -> tuple[str, int]:
    """The output of the runner and its exit code. It kills its kernel's processes when interrupted."""
    command = [
        sys.executable,
        FOLDER / "run.py",
        "--module",
        "fastmp",
        "--start-method",
        start_method,
        notebook,
    ]
    environment = os.environ | {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    del environment["PYTEST_CURRENT_TEST"]  # a kernel that sees it does not show what children print
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as runner:
        try:
            output, _ = runner.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            runner.send_signal(signal.SIGINT)
            try:
                output, _ = runner.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                runner.kill()
                raise
            pytest.fail(f"not over after {LIMIT} s:\n{output}")
    return output, runner.returncode


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook, start_method, tmp_path):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[test]'")
    output, code = run(notebook, start_method, tmp_path)
    cells = re.findall(r"^(passed|failed|skipped) +\S+ \[(\d+)\].*(?:\n    (.*))?", output, re.MULTILINE)
    assert code == 0, output
    assert {number for result, number, _ in cells if result == "failed"} == set(), output
    skipped = {number: set(needs.split(", ")) for result, number, needs in cells if result == "skipped"}
    ruled_out = RULED_OUT if start_method == "fork" else RULED_OUT | {"needs-fork"}
    too_many = {number: needs for number, needs in skipped.items() if not needs & ruled_out}
    assert not too_many, output
    source = json.loads(notebook.read_text(encoding="utf-8"))
    code_cells = [str(i) for i, cell in enumerate(source["cells"]) if cell["cell_type"] == "code"]
    assert [number for _, number, _ in cells] == code_cells, output
