"""The rules that hold for every test, and the fixtures that all of them share.

A test that hangs ends the run (guard.py), and a test that leaves a process, a descriptor, a name
in /dev/shm or a temporary file behind fails (leftovers.py).
"""

import os
import resource
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from leftovers import Snapshot

import fastmp

START_METHODS = ["fork", "spawn", "forkserver"]
DEADLINE = 90  # seconds for a test that does not say @pytest.mark.deadline(seconds)
JOIN = 30.0  # seconds for a child to end

guard_key = pytest.StashKey[subprocess.Popen[bytes]]()
failed_key = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    config.stash[guard_key] = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("guard.py")], stdin=subprocess.PIPE, bufsize=0
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    guard = config.stash.get(guard_key, None)
    if guard is not None and guard.stdin is not None:
        guard.stdin.close()
        guard.wait()


def pytest_report_header() -> str:
    return f"fastmp: {Path(fastmp.__file__).parent}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("deadline")
    guard = item.config.stash[guard_key]
    assert guard.stdin is not None
    guard.stdin.write(f"{marker.args[0] if marker else DEADLINE} {item.nodeid}\n".encode())
    try:
        return (yield)
    finally:
        guard.stdin.write(b"0\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    item.stash[failed_key] = item.stash.get(failed_key, False) or report.failed
    return report


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary folder for this run alone, so that whatever appears in it is ours.

    The tests also run in it. In the checkout `python -c "import fastmp"` would take the folder there,
    which may have no compiled core, where the fastmp under test is an installed one.
    """
    package = str(Path(fastmp.__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("tmp"))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        patch.chdir(folder)
        if package not in site.getsitepackages():
            patch.setenv("PYTHONPATH", package, prepend=os.pathsep)
        yield


@pytest.fixture(scope="session", autouse=True)
def warm(own_temporary_folder: None) -> None:
    """What is made at first use and kept, the arena and the resource tracker, belongs to no test."""
    fastmp.resource_tracker.ensure_running()
    child = fastmp.get_context("fork").Process()
    child.start()
    child.join()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, warm: None) -> Iterator[None]:
    before = Snapshot()
    yield
    failed = request.node.stash.get(failed_key, False)
    request.node.funcargs.clear()  # what fixtures gave to the test is not a leftover
    left = [] if failed else before.leftovers_in_the_end()  # a traceback keeps much alive
    before.kill_new_children()
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that has to do with a start method runs under each, or under those that it names."""
    if "start_method" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("start_methods")
        metafunc.parametrize("start_method", marker.args if marker else START_METHODS)


@pytest.fixture
def ctx(start_method: str) -> fastmp.context.BaseContext:
    return fastmp.get_context(start_method)


@pytest.fixture
def child_output(capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """What this test and its children print. A fork server prints where it did when it started."""
    stop_fork_server()
    yield capfd
    stop_fork_server()


def stop_fork_server() -> None:
    fastmp.forkserver._forkserver._stop()


@pytest.fixture
def finish() -> Iterator[Callable[..., None]]:
    """A function that joins children within `JOIN` seconds altogether; those that do not end
    fail the test and are killed when it is over."""
    late = []

    def join(*children: fastmp.Process) -> None:
        deadline = time.monotonic() + JOIN
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
            if child.exitcode is None:
                late.append(child)
        assert not late, f"these children do not end: {late}"

    yield join
    for child in late:
        child.kill()
        child.join()


@pytest.fixture
def start(
    ctx: fastmp.context.BaseContext, finish: Callable[..., None]
) -> Iterator[Callable[..., fastmp.Process]]:
    """A function that starts a child for target(*args). All of them have to end by themselves."""
    children = []

    def run(target: Callable[..., object], *args: object) -> fastmp.Process:
        child = ctx.Process(target=target, args=args)
        child.start()
        children.append(child)
        return child

    yield run
    finish(*children)
    children.clear()
