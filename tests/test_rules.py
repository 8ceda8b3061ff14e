"""The rules of conftest.py work: a hang ends the run with stacks, and leftovers are found."""

import os
import re
import subprocess
import sys
from pathlib import Path

from guard import SLOWNESS

TESTS = Path(__file__).parent


def run_tests(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "test_inner.py").write_text(source)
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-q"),
            *(f"--basetemp={folder / 'inner'}", f"--rootdir={folder}", folder / "test_inner.py"),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_hang_ends_the_run_and_shows_where_each_process_was(tmp_path):
    run = run_tests(
        "import fastmp, pytest\n"
        "def wait_in_child(event):\n"
        "    event.wait()\n"
        "@pytest.mark.deadline(1)\n"
        "def test_hang():\n"
        "    child = fastmp.get_context('fork').Process(target=wait_in_child, args=(fastmp.Event(),))\n"
        "    child.start()\n"
        "    print('child', child.pid)\n"
        "    child.join()\n"
        "def test_never_reached():\n"
        "    pass\n",
        tmp_path,
    )
    assert run.returncode < 0
    assert f"test_hang is not over after {SLOWNESS:g} s" in run.stderr
    assert "in wait_in_child" in run.stderr
    assert "in test_hang" in run.stderr
    assert "passed" not in run.stdout


def test_leftovers_fail_the_test(tmp_path):
    run = run_tests(
        "import os, subprocess, tempfile\n"
        "import leftovers\n"
        "leftovers.PATIENCE = 1\n"
        "def test_child():\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "    while not open(f'/proc/{child.pid}/cmdline').read():\n"
        "        pass  # it has its name a moment after Popen() has returned\n"
        "def test_descriptor():\n"
        "    os.open('/dev/null', os.O_RDONLY)\n"
        "def test_file():\n"
        "    tempfile.mkstemp(prefix='left-')\n"
        "def test_nothing():\n"
        "    with tempfile.TemporaryFile():\n"
        "        pass\n",
        tmp_path,
    )
    assert re.search(r"child \d+ \(state \w: sleep 60\)", run.stdout)
    assert re.search(r"descriptor \d+ -> /dev/null", run.stdout)
    assert re.search(r"left-\w+", run.stdout)
    assert "4 passed, 3 errors" in run.stdout, run.stdout
