"""Everything at once, with processes killed at random instants (soak.py): a moment of it, or ten minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastmp

SOAK = Path(__file__).with_name("soak.py")


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(8, marks=pytest.mark.deadline(200)),
        pytest.param(600, marks=[pytest.mark.stress, pytest.mark.deadline(900)]),
    ],
)
def test_everything_at_once(seconds):
    path = os.pathsep.join(
        filter(None, [str(Path(fastmp.__file__).parents[1]), os.environ.get("PYTHONPATH")])
    )
    done = subprocess.run(
        [sys.executable, "-P", SOAK, str(seconds)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
