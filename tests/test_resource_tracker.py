"""The resource tracker: who starts it, what it is told, what it removes in the end."""

import inspect
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

import fastmp
from fastmp import resource_tracker
from fastmp.resource_tracker import ReentrantCallError, ResourceTracker

DEADLINE = 60


@pytest.fixture
def tracker():
    """A tracker of the test's own, beside the one that the program may have."""
    tracker = ResourceTracker()
    yield tracker
    tracker._stop()


@pytest.fixture
def path():
    """A file that is a segment of shared memory."""
    path = Path(f"/dev/shm/fastmp-test-tracker-{os.getpid()}-{os.urandom(4).hex()}")
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def name_of(path):
    return f"/{path.name}"


def run_program(code, *args):
    """Run a program of its own, tracker included: it has ended when its standard error is closed."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


# ---- what it removes ---------------------------------------------------------------------------------------


def test_what_is_registered_in_the_end_was_leaked(tracker, path, capfd):
    tracker.register(name_of(path), "shared_memory")
    tracker._stop()
    assert tracker._exitcode == 1
    assert not path.exists()
    assert "There appear to be 1 leaked shared_memory objects" in capfd.readouterr().err


def test_what_was_unregistered_stays(tracker, path, capfd):
    tracker.register(name_of(path), "shared_memory")
    tracker.unregister(name_of(path), "shared_memory")
    tracker._stop()
    assert tracker._exitcode == 0
    assert path.exists()
    assert capfd.readouterr().err == ""


def test_what_was_left_goes_without_a_word(tracker, path, capfd):
    tracker.leave(name_of(path), "shared_memory")  # never registered: not ours to remove
    tracker.register(name_of(path), "shared_memory")
    tracker.leave(name_of(path), "shared_memory")
    tracker.register("/fastmp-test-gone", "shared_memory")
    tracker.leave("/fastmp-test-gone", "shared_memory")
    tracker._stop()
    assert tracker._exitcode == 0
    assert not path.exists()
    assert capfd.readouterr().err == ""


def test_only_who_registered_can_leave(tracker, path):
    tracker.ensure_running()
    tracker.leave(name_of(path), "shared_memory")
    tracker._stop()
    assert path.exists()


def test_what_cannot_be_removed_is_told(tracker, capfd):
    tracker.register("/fastmp-test-nothing", "shared_memory")
    tracker._stop()
    assert tracker._exitcode == 1
    assert "resource_tracker: '/fastmp-test-nothing': [Errno 2]" in capfd.readouterr().err


@pytest.mark.parametrize("simple", [True, False])
@pytest.mark.parametrize(
    "name", ["/fastmp-test-é", "/fastmp-test\nline", "/fastmp-test-?>~ÿ", "/fastmp:test"]
)
def test_any_name(tracker, name, simple, capfd):
    tracker._use_simple_format = simple
    path = Path("/dev/shm", name[1:])
    path.touch()
    tracker.register(name, "shared_memory")
    tracker._stop()
    assert tracker._exitcode == 1
    assert not path.exists()
    assert "leaked" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["x" * 600, "é" * 200])
def test_names_that_are_too_long(tracker, name):
    with pytest.raises(ValueError, match="too long"):
        tracker.register(name, "shared_memory")


def test_an_unknown_type_is_reported_by_the_tracker(tracker, capfd):
    tracker.register("name", "no such type")
    tracker.register("name", "dummy")
    tracker.unregister("name", "dummy")
    tracker._stop()
    assert tracker._exitcode == 3
    assert "unknown resource type no such type" in capfd.readouterr().err


def test_semaphores(tracker, capfd):
    name = f"/fastmp-test-{os.getpid()}"
    fastmp._multiprocessing.SemLock(1, 1, 1, name, False)
    tracker.register(name, "semaphore")
    tracker._stop()
    assert not Path(f"/dev/shm/sem.{name[1:]}").exists()
    assert "There appear to be 1 leaked semaphore objects" in capfd.readouterr().err


# ---- how long it lives -------------------------------------------------------------------------------------


def test_it_starts_with_the_first_who_needs_it(tracker):
    assert (tracker._fd, tracker._pid, tracker._check_alive()) == (None, None, False)
    tracker.unregister("name", "dummy")
    assert tracker._fd is None
    fd = tracker.getfd()
    pid = tracker._pid
    tracker.ensure_running()
    assert (tracker._fd, tracker._pid, tracker._check_alive()) == (fd, pid, True)
    assert not os.get_inheritable(fd)
    tracker._stop()
    assert (tracker._fd, tracker._pid, tracker._exitcode) == (None, None, 0)
    tracker._stop()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_group_do_not_end_it(tracker, sig):
    tracker.register("name", "dummy")
    os.kill(tracker._pid, sig)
    assert tracker._check_alive()
    tracker.unregister("name", "dummy")
    tracker._stop()
    assert tracker._exitcode == 0


def test_a_new_one_is_started_if_it_was_killed(tracker):
    tracker.ensure_running()
    pid = tracker._pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.warns(UserWarning, match="resource_tracker: process died unexpectedly"):
        tracker.register("name", "dummy")
    assert tracker._pid not in (None, pid)
    tracker.unregister("name", "dummy")
    tracker._stop()
    assert tracker._exitcode == 0


def test_the_warning_may_be_an_error(tracker):
    tracker.ensure_running()
    os.kill(tracker._pid, signal.SIGKILL)
    os.waitid(os.P_PID, tracker._pid, os.WEXITED | os.WNOWAIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="process died unexpectedly"):
            tracker.register("name", "dummy")
    tracker.ensure_running()
    assert tracker._check_alive()


@pytest.mark.parametrize("said", [{}, {"wait_timeout": 0.05}])
def test_stopping_does_not_wait_for_others_for_ever(tracker, monkeypatch, said):
    """Another process that has the descriptor keeps the tracker (gh-146313)."""
    monkeypatch.setattr(resource_tracker, "_STOP_SECONDS", DEADLINE if said else 0.05)
    tracker.ensure_running()
    pid = tracker._pid
    other = os.dup(tracker._fd)
    assert not tracker._waitpid_timed_out
    tracker._stop(**said)
    assert (tracker._pid, tracker._exitcode, tracker._waitpid_timed_out) == (None, None, True)
    os.close(other)
    os.waitpid(pid, 0)


def test_the_end_of_a_program_does_not_wait_for_a_forked_child(tmp_path):
    """Nor does the tracker's (gh-88887, gh-146313)."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        "import os, sys\n"
        "from fastmp import resource_tracker\n"
        "resource_tracker.ensure_running()\n"
        "if os.fork() == 0:\n"
        "    for fd in 0, 1, 2: os.close(fd)\n"
        "    open(sys.argv[1]).close()\n"
        "    os._exit(0)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code, fifo])
    assert program.wait(DEADLINE) == 0
    fifo.open("w").close()


def test_a_call_within_a_call_is_done_after_it(tracker, monkeypatch, path):
    """A finalizer may run at any allocation, in the middle of a call, too (gh-109593)."""
    write_line = ResourceTracker._write_line
    inner = ["/fastmp-test-inner"]

    def interrupted(self, line):
        if inner:
            self.register(inner.pop(), "dummy")
        write_line(self, line)

    monkeypatch.setattr(ResourceTracker, "_write_line", interrupted)
    tracker.register("/fastmp-test-outer", "dummy")
    tracker._stop()
    assert tracker._exitcode == 1


def test_stopping_within_a_call_is_an_error(tracker, monkeypatch):
    caught = []

    def stop(self, line):
        with pytest.raises(ReentrantCallError) as info:
            self._stop()
        caught.append(info)

    with monkeypatch.context() as patch:
        patch.setattr(ResourceTracker, "_write_line", stop)
        tracker.ensure_running()
    assert caught


def test_threads(tracker):
    def run(number):
        for i in range(100):
            tracker.register(f"/fastmp-{number}-{i}", "dummy")
            tracker.unregister(f"/fastmp-{number}-{i}", "dummy")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker._stop()
    assert tracker._exitcode == 0


# ---- the family --------------------------------------------------------------------------------------------


def tell_tracker(told, name):
    tracker = resource_tracker._resource_tracker
    resource_tracker.register(name, "dummy")
    told.put(
        (tracker._pid, tracker._check_alive(), os.fstat(tracker._fd).st_ino, os.get_inheritable(tracker._fd))
    )
    resource_tracker.unregister(name, "dummy")


def tell_from_grandchild(told, name, method):
    grandchild = fastmp.get_context(method).Process(target=tell_tracker, args=(told, name))
    grandchild.start()
    grandchild.join()


@pytest.mark.parametrize("generations", [1, 2])
def test_children_use_their_parent_s(start_method, start, generations):
    told = fastmp.SimpleQueue()
    if generations == 1:
        start(tell_tracker, told, "name")
    else:
        start(tell_from_grandchild, told, "name", start_method)
    assert told.get() == (None, True, os.fstat(resource_tracker._resource_tracker._fd).st_ino, False)


FAMILY = """
import fastmp
{shared}

def tell(told):
    tracker = fastmp.resource_tracker._resource_tracker
    before = tracker._fd is not None
    fastmp.resource_tracker.ensure_running()
    told.put((before, fastmp.resource_tracker.launched_here()))

if __name__ == "__main__":
    ctx = fastmp.get_context({method!r})
    told = ctx.SimpleQueue()
    child = ctx.Process(target=tell, args=(told,))
    child.start()
    print(*told.get())
    child.join()
"""


@pytest.mark.parametrize(
    "shared, answer", [("", "False True"), ("from fastmp import shared_memory", "True False")]
)
def test_a_parent_that_may_share_segments_starts_it_for_its_children(tmp_path, start_method, shared, answer):
    """Where the parent hasn't loaded what would be tracked a child starts its own, if it needs one."""
    path = tmp_path / "family.py"
    path.write_text(FAMILY.format(shared=shared, method=start_method))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == (answer + "\n", "")


def test_a_copy_that_the_program_made_does_not_keep_the_tracker():
    """Not even while it lives; it starts one of its own if it needs one (gh-146313)."""
    code = (
        "import os\n"
        "from fastmp.resource_tracker import _resource_tracker as tracker\n"
        "tracker.ensure_running()\n"
        "told, tell = os.pipe()\n"
        "go, let_go = os.pipe()\n"
        "if (pid := os.fork()) == 0:\n"
        "    os.close(let_go)\n"
        "    os.write(tell, repr((tracker._fd, tracker._pid)).encode())\n"
        "    os.read(go, 1)\n"
        "    tracker.ensure_running()\n"
        "    os._exit(tracker._pid is None)\n"
        "os.close(go)\n"
        "print(os.read(told, 100).decode())\n"
        "tracker._stop()\n"
        "os.close(let_go)\n"
        "print(tracker._exitcode, tracker._waitpid_timed_out, os.waitpid(pid, 0)[1])\n"
    )
    done = run_program(code)
    assert (done.stdout, done.stderr) == ("(None, None)\n0 False 0\n", "")


def test_fastmp_s_own_objects_need_none():
    code = (
        "import fastmp, sys\n"
        "ctx = fastmp.get_context('fork')\n"
        "things = [ctx.Lock(), ctx.Semaphore(), ctx.Queue(), ctx.Value('i'), ctx.Pipe(), ctx.Event()]\n"
        "with ctx.Pool(1) as pool: pool.map(abs, [1])\n"
        "with ctx.Manager() as manager: manager.list()\n"
        "print('fastmp.resource_tracker' in sys.modules)\n"
    )
    done = run_program(code)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_functions_are_the_tracker_s():
    tracker = resource_tracker._resource_tracker
    for name in ("ensure_running", "register", "unregister", "getfd"):
        assert getattr(resource_tracker, name) == getattr(tracker, name)
    assert list(inspect.signature(resource_tracker.main).parameters) == ["fd"]
    assert set(resource_tracker._CLEANUP_FUNCS) == {"noop", "shared_memory"}
