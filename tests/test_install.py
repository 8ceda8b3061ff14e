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
