"""`import multiprocessing` after install(), and after uninstall()."""

import subprocess
import sys

import pytest


def run_python(*lines):
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_every_module_is_the_same_object():
    run_python(
        "import fastmp, sys",
        "import fastmp.queues",
        "fastmp.install()",
        "import multiprocessing",
        "assert multiprocessing is fastmp",
        "import multiprocessing.queues, multiprocessing.synchronize",
        "from multiprocessing import util, Process, reduction",
        "from multiprocessing.connection import wait",
        "import multiprocessing.util as same",
        "assert multiprocessing.queues is fastmp.queues is sys.modules['multiprocessing.queues']",
        "assert util is same is fastmp.util is sys.modules['fastmp.util']",
        "assert Process is fastmp.Process",
        "assert wait is fastmp.connection.wait",
        "for name, module in list(sys.modules.items()):",
        "    if name.startswith('multiprocessing'):",
        "        assert module.__name__ == 'fastmp' + name[len('multiprocessing'):], name",
        "        assert module.__spec__.name == module.__name__",
        "real_names = {getattr(module, '__name__', '') for module in sys.modules.values()}",
        "assert not {name for name in real_names if name.startswith('multiprocessing')}",
    )


@pytest.mark.parametrize("before", [True, False])
def test_uninstall_brings_back_what_was_there(before):
    run_python(
        "import sys",
        "import multiprocessing, multiprocessing.queues" if before else "",
        "old = {n: m for n, m in sys.modules.items() if n.partition('.')[0] == 'multiprocessing'}",
        "import fastmp",
        "fastmp.install(); fastmp.install()",
        "import multiprocessing, multiprocessing.pool",
        "assert multiprocessing is fastmp",
        "fastmp.uninstall()",
        "assert old == {n: m for n, m in sys.modules.items() if n.partition('.')[0] == 'multiprocessing'}",
        "fastmp.uninstall()",
        "import multiprocessing.synchronize",
        "assert multiprocessing is not fastmp and multiprocessing.__name__ == 'multiprocessing'",
        "assert multiprocessing.synchronize.__name__ == 'multiprocessing.synchronize'",
        "assert fastmp.synchronize.__name__ == 'fastmp.synchronize'",
        "fastmp.install()",
        "import multiprocessing",
        "assert multiprocessing is fastmp",
    )


def test_modules_that_fastmp_lacks():
    run_python(
        "import fastmp, importlib.util",
        "fastmp.install()",
        "try: import multiprocessing.popen_nowhere",
        "except ModuleNotFoundError as e: assert e.name == 'multiprocessing.popen_nowhere'",
        "else: assert False",
        "assert importlib.util.find_spec('multiprocessing.popen_nowhere') is None",
        "assert importlib.util.find_spec('multiprocessing.pool') is not None",
        "assert importlib.util.find_spec('multiprocessing').name == 'fastmp'",
    )


def test_children_of_the_standard_library_are_left_alone():
    run_python(
        "import multiprocessing, time, fastmp",
        "standard = multiprocessing",
        "ctx = standard.get_context('fork')",
        "q = ctx.Queue()",
        "def child(): q.put((q.get(), __import__('multiprocessing').current_process().name))",
        "p = ctx.Process(target=child, name='old'); p.start()",
        "fastmp.install()",
        "q.put(42)",
        "while (got := q.get()) == 42: q.put(42); time.sleep(0.01)",
        "assert got == (42, 'old')",
        "p.join(30)",
        "assert p.exitcode == 0",
        "import multiprocessing",
        "assert multiprocessing is fastmp and standard is not fastmp",
    )


def test_children_have_it_too():
    out = run_python(
        "import fastmp; fastmp.install()",
        "import multiprocessing",
        "def child():",
        "    import multiprocessing.util",
        "    print(multiprocessing is fastmp, multiprocessing.current_process().name)",
        "p = multiprocessing.Process(target=child); p.start(); p.join()",
    )
    assert out == "True Process-1\n"


def test_the_standard_library_is_not_imported():
    run_python(
        "import fastmp, sys; fastmp.install()",
        "import multiprocessing.queues, multiprocessing.util, multiprocessing.resource_tracker",
        "assert '_multiprocessing' not in sys.modules",
    )


def test_whether_it_is_installed():
    run_python(
        "import fastmp, fastmp._install as i, sys",
        "assert not i.is_installed()",
        "fastmp.install(); fastmp.install()",
        "assert i.is_installed() and sys.meta_path.count(i._Aliases) == 1",
        "fastmp.uninstall()",
        "assert not i.is_installed() and i._Aliases not in sys.meta_path",
    )


def test_the_core_of_the_standard_library_s_package_is_aliased():
    run_python(
        "import _multiprocessing as old, fastmp; fastmp.install()",
        "import _multiprocessing",
        "assert _multiprocessing is not old and _multiprocessing.__name__ == 'fastmp._multiprocessing'",
        "fastmp.uninstall()",
        "import _multiprocessing",
        "assert _multiprocessing is old",
    )


def test_everything_by_star():
    run_python(
        "import fastmp, pkgutil, importlib; fastmp.install()",
        "import multiprocessing",
        "modules = [m.name for m in pkgutil.walk_packages(multiprocessing.__path__, 'multiprocessing.')]",
        "assert 'multiprocessing.dummy.connection' in modules",
        "for name in modules:",
        "    if name.count('.') == 1 or '._' not in name:  # not what lies in private folders",
        "        module, names = importlib.import_module(name), {}",
        "        if not name.endswith(('._core', '._launch', '._managers', '._pool')):",
        "            exec(f'from {name} import *', names)",
        "            assert set(module.__all__) <= set(names), name",
        "names = {}",
        "exec('from multiprocessing import *', names)",
        "assert set(multiprocessing.__all__) <= set(names)",
    )


EXECUTORS = """
import concurrent.futures, os, sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

def kind():
    import multiprocessing
    return type(multiprocessing.current_process()).__module__

if __name__ == "__main__":
    old = ProcessPoolExecutor(1)
    assert old.submit(kind).result(60) == "multiprocessing.context"
    import fastmp
    for _ in range(2):
        fastmp.install()
        fastmp.set_start_method(sys.argv[1], force=True)
        assert old.submit(abs, -2).result(60) == 2
        assert concurrent.futures.ProcessPoolExecutor is ProcessPoolExecutor
        with ProcessPoolExecutor(2) as new:
            assert list(new.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
            assert new.submit(kind).result(60) == "fastmp.context"
            broken = new.submit(os._exit, 3)
            assert isinstance(broken.exception(60), BrokenProcessPool)
        fastmp.uninstall()
        with ProcessPoolExecutor(1) as new:
            assert new.submit(kind).result(60) == "multiprocessing.context"
    assert old.submit(abs, -3).result(60) == 3
    print("done")
"""


def test_executors_that_were_imported_before(start_method, tmp_path):
    (tmp_path / "executors.py").write_text(EXECUTORS)
    command = [sys.executable, tmp_path / "executors.py", start_method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_an_executor_that_is_left_to_the_exit():
    run_python(
        "import fastmp; fastmp.install()",
        "from concurrent.futures import ProcessPoolExecutor",
        "executor = ProcessPoolExecutor(1)",
        "assert executor.submit(abs, -1).result(60) == 1",
    )
