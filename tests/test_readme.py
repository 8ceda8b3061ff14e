"""What README.md and examples/ promise: every Python block runs, and prints what its comments say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(program: Path) -> str:
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize("method", ["fork", "forkserver"])  # the default before Python 3.14, and since
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_block_prints_what_it_says(block, method, tmp_path):
    """A comment `# prints TEXT` is a line of the output, in the order of the comments."""
    program = tmp_path / "program.py"
    choice = f"import fastmp; fastmp.set_start_method({method!r}, force=True)\n"
    program.write_text(choice + block, encoding="utf-8")
    assert run(program).splitlines() == re.findall(r"# prints (.*)$", block, re.MULTILINE)


def test_commands_name_files_that_exist():
    files = re.findall(r"python ((?:examples|benchmarks)/\S+\.py)", README)
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_ci_runs_the_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    install, test = re.search(r"^(pip install .*) && (pytest.*)$", README, re.MULTILINE).groups()
    assert f"\n    {install}\n" in script
    assert f"\n    {test} " in script


def test_tour():
    output = run(ROOT / "examples" / "tour.py")
    for line in (
        "results, 6 of them: [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16), (5, 25)]",
        "arena -> ARENA",
        "the other side has closed",
        "5 processes met and left [0, 1, 4, 9, 16]",
        "map: [0.1, 0.0, 0.2]",
        "and the pool goes on: 0.0",
        "in the manager: ['writer']",
        "no process left: []",
    ):
        assert line in output
    assert re.search(r"Consumer-\d+  5 \* 5$", output, re.MULTILINE)
    assert re.search(r"a dead worker fails its task alone: \w+: .*\d", output)
