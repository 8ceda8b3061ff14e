"""A signal handler that raises, or calls the manager, at any step of a call of a proxy.

Each test goes through all places of a call at which a handler can come (strikes.py)."""

import contextlib
import itertools

import pytest
from strikes import Striker, Struck, strike

from fastmp.managers import SyncManager

CALLS = {
    "an item": lambda manager, items: items["a"],
    "an object": lambda manager, items: manager.list([1]),
    "a proxy in a pickle": lambda manager, items: items.update(self=items),
}

pytestmark = pytest.mark.start_methods("fork")


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_raises(manager, call):
    """What the next call gets is its own answer."""
    items, striker = manager.dict(a=1), Striker()
    for k in itertools.count(1):
        with contextlib.suppress(Struck):
            striker.run(k, lambda: CALLS[call](manager, items), strike)
        if not striker.struck:
            break
        items["k"] = k
        assert items["k"] == k, striker.place
        assert items["a"] == 1, striker.place
    assert k > 3, "that was no call of ours"
    items.clear()


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_calls_the_manager(manager, call):
    items, striker = manager.dict(a=1), Striker()
    for k in itertools.count(1):
        got = []
        striker.run(k, lambda: CALLS[call](manager, items), lambda got=got: got.append(items["a"]))
        if not striker.struck:
            break
        assert got == [1], striker.place
        items["k"] = k
        assert items["k"] == k, striker.place
    assert k > 3, "that was no call of ours"
    items.clear()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_start_is_interrupted(ctx, monkeypatch):
    """The server is gone, and the manager can be started anew. What is raised in a hook of a fork is lost, as
    the interpreter has it."""
    striker, start = Striker(), SyncManager._await_server
    for k in itertools.count(1, 3):
        manager = SyncManager(ctx=ctx)
        with monkeypatch.context() as patch:
            patch.setattr(
                SyncManager, "_await_server", lambda *args, k=k: striker.run(k, lambda: start(*args), strike)
            )
            with contextlib.suppress(Struck):
                manager.start()
        if manager._process is None:
            manager.start()
        assert manager.list([k])[0] == k, striker.place
        manager.shutdown()
        if not striker.struck:
            break
    assert k > 3, "that was no call of ours"
