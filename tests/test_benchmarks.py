"""The benchmarks run, every row on every peer that is installed. What they measure is not asserted."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
NOUNS = (
    "with Lock",
    "with RLock",
    "Semaphore",
    "Event",
    "Condition",
    "Barrier",
    "Value",
    "Array",
    "Pipe",
    "Queue",
    "SimpleQueue",
    "JoinableQueue",
    "fork",
    "forkserver",
    "spawn",
    "Pool.apply",
    "Pool.map",
    "Pool.imap",
    "Pool.starmap",
    "Manager",
    "import",
)
OTHERS = "billiard,multiprocess,concurrent.futures,loky,joblib,mpire,pebble,faster-fifo,posix_ipc,mpi4py"
PLOTS = importlib.util.find_spec("matplotlib") is not None


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, FOLDER / program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.deadline(300)
def test_the_table_has_a_figure_for_each_row_with_and_without_fastmp():
    output = run("compare.py", "--rounds", 1, "--scale", 0.002, "--peers", "stdlib,fastmp,limit")
    rows = re.findall(r"^\| (\w.*?) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", output, re.MULTILINE)
    assert len(rows) > 50
    assert [noun for noun in NOUNS if not any(noun in name for name in rows)] == []


@pytest.mark.deadline(300)
def test_the_other_peers_do_all_that_they_are_said_to():
    """Those that are installed; a failure of one would be its message and an error."""
    run("compare.py", "--rounds", 1, "--scale", 0.002, "--peers", OTHERS, "--except", "Queue, 200k")


@pytest.mark.deadline(300)
def test_all_studies_of_scale():
    output = run("scale.py", "--scale", 0.002)
    assert output.count("| stdlib |") == output.count("| fastmp |") == output.count("| --- |") == 10


@pytest.mark.skipif(not PLOTS, reason="needs matplotlib")
@pytest.mark.parametrize(("program", "name"), [("page.py", "benchmarks"), ("scale_page.py", "scale")])
def test_the_page_is_what_was_measured(program, name, tmp_path):
    docs = FOLDER.parent / "docs"
    (tmp_path / f"{name}.json").write_text((docs / f"{name}.json").read_text())
    run(program, tmp_path)
    assert (tmp_path / f"{name}.md").read_text() == (docs / f"{name}.md").read_text()
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_limit_for_each_row_that_names_one(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    limits, rows = importlib.import_module("limits"), importlib.import_module("rows")
    assert {row.limit for row in rows.load_rows().values()} - {""} == set(limits.load_limits())
