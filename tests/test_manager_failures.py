"""Managers: errors that travel or do not, and managers, children and calls that die."""

import os
import pickle
import signal
import threading

import pytest

from fastmp import managers
from fastmp.managers import BaseManager, RemoteError, SyncManager


def test_errors_carry_the_remote_traceback(manager):
    with pytest.raises(KeyError, match="nothing") as caught:
        manager.dict()["nothing"]
    assert isinstance(caught.value.__cause__, RemoteError)
    assert "in perform" in str(caught.value.__cause__)
    assert not getattr(caught.value, "__notes__", None)


def test_errors_of_making(manager):
    with pytest.raises(RemoteError, match="TypeError"):
        manager.list(5)
    assert manager._number_of_objects() == 0


def missing_file():
    raise FileNotFoundError("no such thing")


class Finicky:
    """Its pickle cannot be loaded, for a reason that looks like a lost connection."""

    def __reduce__(self):
        return missing_file, ()


def test_errors_that_look_like_a_lost_connection(manager, ctx):
    class Failing(BaseManager):
        pass

    Failing.register("make", missing_file)
    with Failing(ctx=ctx) as failing, pytest.raises(RemoteError, match="no such thing"):
        failing.make()
    items = manager.list()
    with pytest.raises(RemoteError, match="no such thing"):
        items.append(Finicky())
    with pytest.raises(RemoteError, match="no such thing"):
        manager.list([Finicky()])
    assert items[:] == []


class Asking:
    """Asks the manager in the midst of a request: while it is pickled."""

    def __init__(self, proxy):
        self.proxy = proxy

    def __reduce__(self):
        return len, (self.proxy[:],)


def test_requests_within_requests(manager):
    items = manager.list([1, 2, 3])
    items.append(Asking(items))
    assert items[:] == [1, 2, 3, 3]
    nested = manager.list([manager.list([i]) for i in range(5)])
    assert [inner[0] for inner in nested[:]] == [0, 1, 2, 3, 4]
    assert manager._number_of_objects() == 7


def test_arguments_that_do_not_travel(manager):
    items = manager.list([1])
    with pytest.raises((AttributeError, pickle.PicklingError)):
        items.append(lambda: None)
    with pytest.raises(RemoteError, match="cannot be loaded"):
        items.append(Unloadable())
    assert items[:] == [1]


class Unloadable:
    def __reduce__(self):
        return refuse, (os.getpid(),)


def refuse(pid):
    raise ValueError("cannot be loaded")


def test_messages_of_other_kinds():
    assert isinstance(managers.convert_to_error("#ERROR", KeyError(1)), KeyError)
    assert "text" in str(managers.convert_to_error("#TRACEBACK", "text"))
    assert isinstance(managers.convert_to_error("#NONE", 1), ValueError)
    with pytest.raises(TypeError):
        managers.convert_to_error("#TRACEBACK", 5)


GONE = (EOFError, ConnectionError)


def test_dead_manager(ctx):
    manager = SyncManager(ctx=ctx)
    manager.start()
    items = manager.list([1])
    manager._process.kill()
    manager._process.join()
    for _ in range(2):
        with pytest.raises(GONE):
            items.append(2)
    with pytest.raises(ConnectionRefusedError) as caught:
        manager.list()
    assert "No manager serves at" in caught.value.__notes__[0]
    assert str(items).endswith("; '__str__()' failed>")
    pickle.dumps(items)
    manager.shutdown()


def test_death_during_a_call(manager):
    def kill():
        manager._process.kill()

    event = manager.Event()
    timer = threading.Timer(0.1, kill)
    timer.start()
    with pytest.raises(GONE):
        event.wait(60)
    timer.join()


def test_child_of_a_dead_manager(ctx, report):
    manager = SyncManager(ctx=ctx)
    manager.start()
    items = manager.list()
    manager.shutdown()
    assert isinstance(report(len, items), GONE)


def test_interrupted_call_does_not_mix_up_answers(manager):
    """The answer to a call that was given up is not taken for the next one's."""
    items, event = manager.list(["right"]), manager.Event()

    def interrupt(signum, frame):
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError):
            event.wait(30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert items[0] == "right"
