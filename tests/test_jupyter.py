"""%load_ext fastmp, in a real kernel."""

import asyncio
import os
import subprocess
import sys

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: pip install '.[test]'")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[test]'")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[test]'")

pytestmark = pytest.mark.deadline(180)


def run_cells(folder, *cells):
    """What each cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    asyncio.run(client.async_execute())
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]


@pytest.fixture(autouse=True)
def folders_of_its_own(tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, os.fspath(tmp_path / name))


def test_the_extension(tmp_path):
    printed = run_cells(
        tmp_path,
        "%load_ext fastmp",
        "import multiprocessing\nfrom multiprocessing.pool import Pool\n"
        "print(multiprocessing.__name__, Pool.__module__)",
        "def double(n):\n    return 2 * n\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(double, range(4)))",
        "%load_ext fastmp",
        "%reload_ext fastmp",
        "import multiprocessing\nprint(multiprocessing.__name__)",
        "%unload_ext fastmp",
        "import multiprocessing\nprint(multiprocessing.__name__)",
        "%load_ext fastmp\nimport multiprocessing\nprint(multiprocessing.__name__)",
    )
    assert printed[1] == "fastmp fastmp.pool\n"
    assert printed[2] == "[0, 2, 4, 6]\n"
    assert printed[5] == "fastmp\n"
    assert printed[7] == "multiprocessing\n"
    assert printed[8] == "fastmp\n"


def test_a_function_of_the_notebook(start_method, tmp_path):
    printed = run_cells(
        tmp_path,
        "%load_ext fastmp",
        "import multiprocessing\n"
        f"multiprocessing.set_start_method({start_method!r})\n"
        "queue = multiprocessing.Queue()",
        "def child(queue, point):\n"
        "    import multiprocessing\n"
        "    queue.put((multiprocessing.__name__, multiprocessing.get_start_method(), point + 1))",
        "process = multiprocessing.Process(target=child, args=(queue, 1))\n"
        "process.start()\n"
        "print(queue.get(timeout=30))\n"
        "process.join(60)\n"
        "print(process.exitcode)",
    )
    assert printed[3] == f"{('fastmp', start_method, 2)}\n0\n"


def test_what_cells_define(start_method, tmp_path):
    printed = run_cells(
        tmp_path,
        "import math\nimport fastmp\n"
        f"ctx = fastmp.get_context({start_method!r})\n"
        "tasks, results = ctx.JoinableQueue(), ctx.Queue()\n"
        "%load_ext fastmp",
        "class Task:\n"
        "    def __init__(self, n):\n        self.n = n\n"
        "    def __call__(self):\n        return Result(scale(self.n))",
        "class Result:\n    def __init__(self, value):\n        self.value = value",
        "factor = 2\ndef scale(n):\n    return math.sqrt(n) * factor",
        "class Consumer(ctx.Process):\n"
        "    def run(self):\n"
        "        for task in iter(tasks.get, None):\n"
        "            results.put(task())\n"
        "            tasks.task_done()",
        "consumer = Consumer()\nconsumer.start()\n"
        "tasks.put(Task(4))\ntasks.join()\ntasks.put(None)\n"
        "result = results.get(timeout=30)\nconsumer.join(30)\n"
        "print(type(result) is Result, result.value, consumer.exitcode)",
        "pool = ctx.Pool(2)\nprint(pool.map(scale, [1, 4]))",
        "def scale(n):\n    return lowest(n)\ndef lowest(n):\n    return -n\nprint(pool.map(scale, [1, 4]))",
        "class Later(Task):\n    pass\nprint([type(t) is Later for t in pool.map(Later, [1, 4])])",
        "print(pool.map(lambda n: Later(n)().value + factor, [1, 4]))",
        "pool.close()\npool.join()",
    )
    assert "".join(printed).splitlines() == [
        "True 4.0 0",
        "[2.0, 4.0]",
        "[-1, -4]",
        "[True, True]",
        "[1, -2]",
    ]


@pytest.fixture
def busy_machine():
    """More to run than there are CPUs, so that a thread that is woken does not run at once."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    yield
    for spinner in spinners:
        spinner.kill()
        spinner.wait()


@pytest.mark.start_methods("forkserver", "spawn")  # forked children print through the kernel's own stream
def test_what_a_joined_child_printed_comes_first(start_method, tmp_path, monkeypatch, busy_machine):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # a kernel that sees it does not show what children print
    (printed,) = run_cells(
        tmp_path,
        "import fastmp\n"
        f"ctx = fastmp.get_context({start_method!r})\n"
        "for i in range(12):\n"
        "    process = ctx.Process(target=print, args=('child', i))\n"
        "    process.start()\n"
        "    process.join()\n"
        "    print('joined', i)",
    )
    assert printed == "".join(f"child {i}\njoined {i}\n" for i in range(12))
