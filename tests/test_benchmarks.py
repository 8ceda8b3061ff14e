"""The benchmarks run, every row on every peer. What they measure is not asserted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

COMPARE = Path(__file__).parents[1] / "benchmarks" / "compare.py"


@pytest.mark.deadline(120)
def test_the_table_has_a_figure_for_each_row_and_peer():
    command = [sys.executable, COMPARE, "--rounds", "1", "--scale", "0.01"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"^\| (\w.*?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", run.stdout, re.MULTILINE)
    nouns = " ".join(name for name, *_ in rows)
    assert len(rows) >= 12
    for noun in "Pipe", "Queue", "SimpleQueue", "Pool.apply", "Pool.map", "Value", "Lock", "forkserver", "spawn", "import":
        assert noun in nouns
