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
from collections.abc import Callable, Iterator
from pathlib import Path

import leftovers
import pytest

FOLDER = Path(os.environ.get("FASTMP_NOTEBOOKS") or Path(__file__).parents[2] / "shared" / "notebooks")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SCRIPTS = Path(sys.executable).parent  # pip, and mpiexec from the wheel of mpich
LIMIT = 400  # seconds for a notebook; the slowest takes about 60
AT_ONCE = 4  # notebooks: their cells mostly sleep

NO_KERNEL = "Kernel died before replying"  # Jupyter chose its ports before it ran: somebody else was quicker
FAILURE = re.compile(r"^failed .*\n((?: {4}.*\n)*)", re.MULTILINE)

# What a machine may lack; everything else that a cell needs has to be there.
RULED_OUT = {"needs-colab"} | ({"needs-4-cores"} if (os.cpu_count() or 1) < 4 else set())

pytestmark = [
    pytest.mark.skipif(
        not NOTEBOOKS, reason=f"there are no notebooks in {FOLDER}; FASTMP_NOTEBOOKS may name them"
    ),
    pytest.mark.deadline(LIMIT + 60),
]


def is_misread(problem: str) -> bool:
    """Was all printed that should be, though the runner's patterns do not take it?

    The runner takes the patterns of a cell out of its text, one by one. So it finds no line that another
    stands in. And where "5 doubled" comes right behind "id: 4001" it takes "15 doubled", and the 1 is left.
    In `print(p, p.is_alive())` a process may be alive when it is asked and have ended when it is shown.
    """
    unexpected = re.search(r"^ {4}unexpected: (.*)", problem, re.MULTILINE)
    if unexpected is None:
        return False
    left = " ".join(unexpected[1].split()).replace("=-SIGTERM> True", "=-SIGTERM> False")
    for pattern in re.findall(r"^ {4}not printed: (.*)", problem, re.MULTILINE):
        left, times = re.subn(pattern, "", left, count=1)
        if times == 0:
            return False
    return left.strip() in ("", "1", "2")


def says_nothing(output: str) -> bool:
    """Is what the runner prints of a failure nothing about the notebook?"""
    problems = FAILURE.findall(output)
    return NO_KERNEL in output or (problems != [] and all(map(is_misread, problems)))


class Runner:
    """A notebook that is run under a start method, in a folder of its own. Most of its time it sleeps."""

    def __init__(self, notebook: Path, start_method: str, folder: Path) -> None:
        self._command = [
            *(sys.executable, FOLDER / "run.py"),
            *("--module", "fastmp", "--start-method", start_method, notebook),
        ]
        self._environment = os.environ | {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "TMPDIR": str(folder),
        }
        del self._environment["PYTEST_CURRENT_TEST"]  # a kernel that sees it hides what children print
        self._folder = folder
        self._output = folder / "output"
        self._start()

    def _start(self) -> None:
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        leftovers.kept.add(self._process.pid)

    def wait(self) -> tuple[str, int]:
        """What it printed, and its exit code; if that says nothing of the notebook, those of another run."""
        output, code = self._wait()
        if says_nothing(output):
            leftovers.kept.discard(self._process.pid)
            self._start()
            output, code = self._wait()
        return output, code

    def _wait(self) -> tuple[str, int]:
        try:
            code = self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.stop()
            pytest.fail(f"not over after {LIMIT} s:\n{self._output.read_text()}")
        return self._output.read_text(), code

    def stop(self) -> None:
        """It kills its kernel's processes when it is interrupted."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        leftovers.kept.discard(self._process.pid)


class Runners:
    """All that the tests will ask for, in their order; some are under way ahead of them."""

    def __init__(self, wanted: list[tuple[Path, str]], make_folder: Callable[[str], Path]) -> None:
        self._wanted = wanted
        self._make_folder = make_folder
        self._runners: dict[tuple[Path, str], Runner] = {}

    def get(self, notebook: Path, start_method: str) -> Runner:
        at = self._wanted.index((notebook, start_method))
        for key in self._wanted[at : at + AT_ONCE]:
            if key not in self._runners:
                self._runners[key] = Runner(*key, self._make_folder(key[0].stem))
        return self._runners[notebook, start_method]

    def stop(self) -> None:
        for runner in self._runners.values():
            runner.stop()


@pytest.fixture(scope="module")
def runners(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runners]:
    wanted = [
        (item.callspec.params["notebook"], item.callspec.params["start_method"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_notebook
    ]
    runners = Runners(wanted, tmp_path_factory.mktemp)
    yield runners
    runners.stop()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook, start_method, runners):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[test]'")
    output, code = runners.get(notebook, start_method).wait()
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


@pytest.mark.parametrize(
    ("problem", "misread"),
    [
        (["not printed: Process <[^>]+> True", "unexpected: Process  <Process-1 started> True"], True),
        (["unexpected: 1"], True),
        (["not printed: <P[^>]+=-SIGTERM> False", "unexpected: <P-1 code=-SIGTERM> True"], True),
        (["not printed: Process <[^>]+> True"], False),
        (["not printed: Process <[^>]+> True", "unexpected: Process  <Process-1 started> False"], False),
        (["not printed: id: 1", "unexpected: id:  1 id: 1"], False),
        (["unexpected: 17"], False),
        (["timed out; the rest runs in a new kernel"], False),
    ],
)
def test_what_the_runner_misreads(problem, misread):
    lines = "".join(f"    {line}\n" for line in problem)
    output = (
        f"passed  book [1]   0.1 s  import os\nfailed  book [3]  10.3 s  def\n{lines}1 passed, 1 failed\n"
    )
    assert says_nothing(output) == misread
