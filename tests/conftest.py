"""The rules that hold for every test, and the fixtures that all of them share.

A test that hangs ends the run (guard.py), and a test that leaves a process, a descriptor, a name
in /dev/shm, a temporary file or anything in the arena behind fails (leftovers.py).
"""

import importlib
import os
import resource
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guard import SLOWNESS
from leftovers import Snapshot, fork_server_serves
from targets import send_result, sleep_long

import fastmp
from fastmp.connection import Connection, Pipe, stream_pipe

START_METHODS = ["fork", "spawn", "forkserver"]
DEADLINE = 90  # seconds for a test that does not say @pytest.mark.deadline(seconds)
JOIN = 30.0 * SLOWNESS  # seconds for a child to end

guard_key = pytest.StashKey[subprocess.Popen[bytes]]()
failed_key = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # A shell has its background jobs ignore it, and every program that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    importlib.import_module("ctypes")  # which some builds of libffi open their own file for
    fastmp.resource_tracker.ensure_running()
    child = fastmp.get_context("fork").Process()
    child.start()
    child.join()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, warm: None) -> Iterator[None]:
    before = Snapshot()
    yield
    interrupted = request.node.funcargs is None  # the run, and so the test
    if not interrupted:
        request.node.funcargs.clear()  # what fixtures gave to the test is not a leftover
    failed = interrupted or request.node.stash.get(failed_key, False)
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
    """A context whose first child is like any other: a fork server that it needs is there."""
    if start_method == "forkserver":
        fastmp.forkserver.ensure_running()
        assert fork_server_serves()
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


@pytest.fixture
def report(ctx: fastmp.context.BaseContext, finish: Callable[..., None]) -> Callable[..., object]:
    """A function that runs target(*args) in a child; what it returns there, or the exception that it
    raises, is returned."""

    def run(target: Callable[..., object], *args: object, **options: object) -> object:
        reader, writer = ctx.Pipe(duplex=False)
        child = ctx.Process(target=send_result, args=(writer, target, args), **options)
        child.start()
        writer.close()
        with reader:
            result = reader.recv()
        finish(child)
        assert child.exitcode == 0, child
        return result

    return run


@pytest.fixture
def sleeper(ctx: fastmp.context.BaseContext) -> Iterator[fastmp.Process]:
    """A child that does nothing until it is killed."""
    child = ctx.Process(target=sleep_long)
    child.start()
    yield child
    if not child._closed and child.is_alive():
        child.kill()
        child.join(JOIN)


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Callable[[], object]]]:
    """Run a function in a thread; the returned function gives its result, or raises what it raised."""
    threads = []

    def run(function, *args, **kwargs):
        outcome = []

        def work():
            try:
                outcome.append((function(*args, **kwargs), None))
            except BaseException as e:
                outcome.append((None, e))

        def get():
            thread.join(JOIN)
            result, error = outcome[0]
            if error is not None:
                raise error
            return result

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        threads.append(thread)
        return get

    yield run
    for thread in threads:
        thread.join(JOIN)
        assert not thread.is_alive()


@pytest.fixture
def pool(ctx: fastmp.context.BaseContext) -> Iterator[fastmp.pool.Pool]:
    with ctx.Pool(2) as p:
        yield p
    p.join()


@pytest.fixture
def manager(ctx: fastmp.context.BaseContext) -> Iterator[fastmp.managers.SyncManager]:
    with ctx.Manager() as manager:
        yield manager


@pytest.fixture(params=["Queue", "JoinableQueue"])
def q(ctx: fastmp.context.BaseContext, request: pytest.FixtureRequest) -> fastmp.queues.Queue:
    return getattr(ctx, request.param)()


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue"])
def any_q(
    ctx: fastmp.context.BaseContext, request: pytest.FixtureRequest
) -> fastmp.queues.Queue | fastmp.queues.SimpleQueue:
    return getattr(ctx, request.param)()


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection]]:
    a, b = Pipe()
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def one_way() -> Iterator[tuple[Connection, Connection]]:
    r, w = Pipe(duplex=False)
    yield r, w
    r.close()
    w.close()


@pytest.fixture
def stream() -> Iterator[tuple[Connection, Connection]]:
    """A pair over sockets: what a Pipe is not, and a Listener's connections are."""
    a, b = stream_pipe()
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def piped() -> Iterator[tuple[Connection, Connection]]:
    """A pair over an ordinary pipe."""
    fds = os.pipe()
    r, w = Connection(fds[0], writable=False), Connection(fds[1], readable=False)
    yield r, w
    r.close()
    w.close()
