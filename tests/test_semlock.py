"""SemLock: semaphores of the system as `_multiprocessing` has them, and the class to derive from."""

import contextlib
import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

import fastmp
from fastmp import _multiprocessing, synchronize
from fastmp._multiprocessing import sem_unlink
from fastmp._spawning import set_spawning_popen
from fastmp.synchronize import RECURSIVE_MUTEX, SEMAPHORE

SYSTEM = "/dev/shm/sem."


class Spawning:
    """As much of a context as a SemLock looks at: its children don't inherit what is in memory."""

    @staticmethod
    def get_start_method():
        return "spawn"


@contextlib.contextmanager
def spawning():
    set_spawning_popen(object())
    try:
        yield
    finally:
        set_spawning_popen(None)


@pytest.fixture
def name():
    name = f"/test-semlock-{os.getpid()}-{os.urandom(4).hex()}"
    yield name
    with contextlib.suppress(FileNotFoundError):
        sem_unlink(name)


def elsewhere(function):
    """What function() returns, or the exception it raises, in another thread."""
    outcome = []

    def call():
        try:
            outcome.append(function())
        except Exception as e:
            outcome.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return outcome[0]


# ---- beside the standard library's -----------------------------------------------------------------

SCRIPT = r"""
import os, threading
{imports}

names = iter(range(10**9))

def name():
    return f"/test-semlock-script-{{os.getpid()}}-{{next(names)}}"

def show(function, *args, **kwargs):
    try:
        result = function(*args, **kwargs)
    except Exception as e:
        result = type(e).__name__, getattr(e, "errno", None) or str(e).replace("_multiprocessing.", "")
    print(result if not isinstance(result, SemLock) else "a SemLock")

def there(function, *args):
    thread = threading.Thread(target=show, args=(function, *args))
    thread.start()
    thread.join()

def state(lock):
    print(lock._count(), lock._is_mine(), lock._get_value(), lock._is_zero())

class Mine(SemLock):
    pass

print(flags, SemLock.SEM_VALUE_MAX)
for args in [
    (), (0, 1, 1, name()), (2, 1, 1, name(), True), (-1, 1, 1, name(), True), (1, -1, 1, name(), True),
    (1, 2, 1, name(), True), (1, 0, -1, name(), True), (1, 1, 1, "a\0b", True), (1, 1, 1, "/a/b", True),
    (1, 1, 1, "", True), (1, 1, 1, "/" + "x" * 300, True), (1.5, 1, 1, name(), True),
    (1, 1, 1, name(), True, 1),
    (1, 1, 1, "/\udc80", True), (1, 1, 1, f"no-slash-{{os.getpid()}}", True),
]:
    show(SemLock, *args)
show(SemLock, kind=1, value=1, maxvalue=1, name=name(), unlink=True)

named = name()
a = SemLock(1, 1, 1, named, False)
print(a.kind, a.maxvalue, a.name == named, type(a.handle))
show(SemLock, 1, 1, 1, named, False)
show(setattr, a, "kind", 2)
b = SemLock._rebuild(0, 1, 1, named)
print(type(Mine._rebuild(0, 1, 1, named)).__name__, b.name == named)
show(SemLock._rebuild, 0, 1, 1, named + "-no")
show(a.acquire, False)
state(a), state(b)
show(b.acquire, True, 0.01), show(b.acquire, timeout=-1), show(b.acquire, block=False)
for block in True, False:
    try: b.acquire(block, "x")
    except TypeError: pass  # in words of its own
    else: raise AssertionError
show(b.acquire, 1, 2, 3)
b.release()
state(a), state(b)
show(b.release), show(b.release, 1)
show(sem_unlink, named), show(sem_unlink, named), show(sem_unlink, "a\0b"), show(sem_unlink, "/a/b")

nameless = SemLock(1, 1, 1, name(), True)
same = SemLock._rebuild(nameless.handle, 1, 1, None)
print(nameless.name, same.name, same.handle == nameless.handle)
same.acquire()
state(nameless)

recursive = SemLock(0, 1, 1, name(), True)
show(recursive.release)
recursive.acquire(), recursive.acquire()
state(recursive)
there(recursive.release), there(recursive.acquire, False), there(recursive._is_mine), there(recursive._count)
recursive.release()
state(recursive)
recursive._after_fork()
state(recursive)
show(recursive.release)

semaphore = SemLock(1, 1, 2, name(), True)
semaphore.release()
show(semaphore.release)
state(semaphore)
with semaphore as entered:
    print(entered)
    state(semaphore)
there(semaphore.acquire)
state(semaphore)
full = SemLock(1, SemLock.SEM_VALUE_MAX, SemLock.SEM_VALUE_MAX, name(), True)
show(full.release)
"""


@pytest.mark.imports_multiprocessing
def test_what_the_standard_library_s_does():
    def run(imports):
        command = [sys.executable, "-c", SCRIPT.format(imports=imports)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    theirs = run("from _multiprocessing import SemLock, flags, sem_unlink")
    ours = run("from fastmp._multiprocessing import SemLock, flags, sem_unlink")
    assert theirs.returncode == 0, theirs.stderr
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.splitlines() == theirs.stdout.splitlines()


# ---- _multiprocessing.SemLock ------------------------------------------------------------------------


def test_a_name_is_visible_until_it_is_unlinked(name):
    lock = _multiprocessing.SemLock(SEMAPHORE, 1, 1, name, False)
    assert os.path.exists(SYSTEM + name[1:])
    with pytest.raises(FileExistsError):
        _multiprocessing.SemLock(SEMAPHORE, 1, 1, name, False)
    sem_unlink(name)
    assert lock.name == name
    assert not os.path.exists(SYSTEM + name[1:])
    assert _multiprocessing.SemLock(SEMAPHORE, 1, 1, name, True).name is None
    assert not os.path.exists(SYSTEM + name[1:])
    with pytest.raises(FileNotFoundError) as caught:
        sem_unlink(name)
    assert caught.value.errno == errno.ENOENT


def take_and_tell(name, turn, told):
    lock = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, 1, name)
    told.put(lock.acquire(False))
    turn.wait()
    lock.release()
    told.put(lock._count())


def test_another_process_opens_it_by_name(name, start):
    lock = _multiprocessing.SemLock(SEMAPHORE, 1, 1, name, False)
    turn, told = fastmp.Event(), fastmp.SimpleQueue()
    start(take_and_tell, name, turn, told)
    assert told.get() is True
    assert lock._is_zero() and not lock.acquire(False)
    assert lock._count() == 0
    turn.set()
    assert lock.acquire(timeout=30)
    assert told.get() == 0


def test_a_waiter_is_woken(name):
    lock = _multiprocessing.SemLock(SEMAPHORE, 0, 1, name, True)
    timer = threading.Timer(0.01, lock.release)
    timer.start()
    assert lock.acquire() is True
    timer.join()


def test_a_timeout_passes(name):
    lock = _multiprocessing.SemLock(SEMAPHORE, 0, 1, name, True)
    begin = time.monotonic()
    assert lock.acquire(timeout=0.12) is False  # more than the first slice
    assert time.monotonic() - begin >= 0.12


def test_a_signal_handler_that_raises_ends_the_wait(name):
    lock = _multiprocessing.SemLock(SEMAPHORE, 0, 1, name, True)
    before = signal.signal(signal.SIGALRM, lambda *args: 1 / 0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(ZeroDivisionError):
            lock.acquire()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert lock._count() == 0


def test_a_handler_that_returns_does_not(name):
    lock = _multiprocessing.SemLock(SEMAPHORE, 0, 1, name, True)
    before = signal.signal(signal.SIGALRM, lambda *args: lock.release())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert lock.acquire() is True
    finally:
        signal.signal(signal.SIGALRM, before)


def test_many_threads_one_at_a_time(name):
    lock = _multiprocessing.SemLock(RECURSIVE_MUTEX, 1, 1, name, True)
    inside, most = 0, 0

    def run():
        nonlocal inside, most
        for _ in range(200):
            with lock, lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert lock._get_value() == 1


def test_it_can_be_derived_from_and_not_pickled(name):
    class Mine(_multiprocessing.SemLock):
        pass

    lock = Mine(SEMAPHORE, 1, 1, name, False)
    lock.mine = True
    assert type(Mine._rebuild(0, SEMAPHORE, 1, name)) is Mine
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(_multiprocessing.SemLock._rebuild(0, SEMAPHORE, 1, name))


# ---- synchronize.SemLock ------------------------------------------------------------------------------


class Ticket(synchronize.SemLock):
    def __init__(self, *, ctx):
        super().__init__(SEMAPHORE, 1, 1, ctx=ctx)


def test_for_forked_children_its_name_goes_at_once():
    lock = synchronize.SemLock(RECURSIVE_MUTEX, 1, 1, ctx=fastmp.get_context("fork"))
    assert lock._semlock.name is None
    assert lock.acquire() and lock.acquire()
    assert lock.locked()
    assert elsewhere(lambda: lock.acquire(False)) is False
    lock.release()
    lock.release()
    assert not lock.locked()
    with pytest.raises(AssertionError):
        lock.release()
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(lock)
    with spawning(), pytest.raises(RuntimeError, match="fork context"):
        pickle.dumps(lock)


def release_and_count(lock, told):
    told.put((lock._semlock._count(), lock._semlock._is_mine()))
    lock.release()


def test_a_child_shares_it_and_holds_nothing(start_method, start):
    lock = synchronize.SemLock(SEMAPHORE, 1, 1, ctx=fastmp.get_context(start_method))
    told = fastmp.SimpleQueue()
    lock.acquire()
    start(release_and_count, lock, told)
    assert told.get() == (0, False)
    assert lock.acquire(timeout=30)


def test_a_spawned_child_opens_it_by_its_name():
    lock = Ticket(ctx=Spawning())
    with spawning():
        data = pickle.dumps(lock)
    copy = pickle.loads(data)
    assert copy._semlock.name == lock._semlock.name
    with lock:
        assert copy.locked() and not copy.acquire(False)
    with copy:
        assert lock.locked()


def test_its_name_goes_with_the_object_that_made_it():
    lock = Ticket(ctx=Spawning())
    path = SYSTEM + lock._semlock.name[1:]
    with spawning():
        copy = pickle.loads(pickle.dumps(lock))
    del copy
    assert os.path.exists(path)
    del lock
    assert not os.path.exists(path)


def test_a_taken_name_is_not_taken_twice(monkeypatch):
    names = iter(["/test-semlock-first", "/test-semlock-first", "/test-semlock-second"])
    monkeypatch.setattr(synchronize.SemLock, "_make_name", staticmethod(lambda: next(names)))
    first, second = Ticket(ctx=Spawning()), Ticket(ctx=Spawning())
    assert (first._semlock.name, second._semlock.name) == ("/test-semlock-first", "/test-semlock-second")
    monkeypatch.setattr(synchronize.SemLock, "_make_name", staticmethod(lambda: "/test-semlock-first"))
    with pytest.raises(FileExistsError, match="cannot find name for semaphore"):
        Ticket(ctx=Spawning())


def test_names_are_the_standard_library_s():
    assert synchronize.SemLock._make_name().startswith("/mp-")
    assert synchronize.SemLock._make_name() != synchronize.SemLock._make_name()
    assert next(synchronize.SemLock._rand).isalnum()


KILLED = """
import os, signal, sys
import fastmp
from fastmp import synchronize

class Spawning:
    get_start_method = staticmethod(lambda: "spawn")

lock = synchronize.SemLock(1, 1, 1, ctx=Spawning())
print(lock._semlock.name, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("end, warnings", [("killed", 1), ("regular", 0)])
def test_the_tracker_removes_and_names_it_if_its_process_was_killed(end, warnings):
    run = subprocess.run([sys.executable, "-c", KILLED, end], capture_output=True, text=True, timeout=60)
    assert not os.path.exists(SYSTEM + run.stdout.strip()[1:])
    assert run.stderr.count("leaked semaphore") == warnings, run.stderr


# ---- our own locks --------------------------------------------------------------------------------------


def test_our_locks_are_semlocks():
    for lock in (fastmp.Lock(), fastmp.RLock(), fastmp.Semaphore(), fastmp.BoundedSemaphore(2)):
        assert isinstance(lock, synchronize.SemLock)
    for other in (fastmp.Event(), fastmp.Condition()):
        assert not isinstance(other, synchronize.SemLock)


def test_one_can_look_into_a_lock():
    lock = fastmp.Lock()
    inside = lock._semlock
    assert (inside.kind, inside.maxvalue, inside.name) == (SEMAPHORE, 1, None)
    assert (inside._get_value(), inside._is_zero(), inside._is_mine(), inside._count()) == (
        1,
        False,
        False,
        0,
    )
    assert inside.acquire(False)
    assert lock.locked()
    assert (inside._get_value(), inside._is_zero(), inside._is_mine(), inside._count()) == (0, True, True, 1)
    assert elsewhere(inside._is_mine) is False
    inside.release()
    assert not lock.locked()


def test_one_can_look_into_a_recursive_lock():
    lock = fastmp.RLock()
    inside = lock._semlock
    assert (inside.kind, inside.maxvalue, inside.name) == (RECURSIVE_MUTEX, 1, None)
    with lock, lock:
        assert (inside._count(), inside._is_mine(), inside._get_value()) == (2, True, 0)
        assert elsewhere(inside._is_mine) is False
        assert elsewhere(inside._count) == 2
    assert (inside._count(), inside._is_mine(), inside._get_value()) == (0, False, 1)


@pytest.mark.parametrize("make, most", [("Semaphore", synchronize.SEM_VALUE_MAX), ("BoundedSemaphore", 2)])
def test_one_can_look_into_a_semaphore(make, most):
    semaphore = getattr(fastmp, make)(2)
    inside = semaphore._semlock
    assert (inside.kind, inside.maxvalue, inside.name) == (SEMAPHORE, most, None)
    semaphore.acquire()
    assert (inside._get_value(), inside._is_zero()) == (1, False)
    semaphore.acquire()
    assert (inside._get_value(), inside._is_zero()) == (0, True)
    assert not hasattr(inside, "_is_mine")  # nobody knows who took a permit
