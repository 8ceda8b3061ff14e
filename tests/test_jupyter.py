"""%load_ext fastmp, in a real kernel."""

import asyncio
import os

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
