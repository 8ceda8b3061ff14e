"""Managers: the life of objects, which go with the last proxy, wherever that is."""

import os
import pickle
import signal

import pytest
from manager_targets import fill
from waiting import wait_until

from fastmp import managers
from fastmp._managers import client
from fastmp.managers import ListProxy, RemoteError, SyncManager, Token


def test_objects_go_with_their_proxies(manager):
    a, b = manager.list(), manager.dict()
    assert manager._number_of_objects() == 2
    assert a._id in manager._debug_info()
    assert "refcount=1" in manager._debug_info()
    del a
    assert manager._number_of_objects() == 1
    b.clear()
    del b
    assert (manager._number_of_objects(), manager._debug_info()) == (0, "")


def test_errors_hold_no_proxies(manager):
    items = manager.list()
    with pytest.raises(IndexError):
        items.pop()
    with pytest.raises(TypeError):
        items + 5
    del items
    assert manager._number_of_objects() == 0


def test_idents_are_not_reused(manager):
    idents = set()
    for _ in range(5):
        idents.add(manager.list()._id)
    assert len(idents) == 5


def wait_and_append(items, conn):
    conn.recv()
    items.append(1)
    conn.send(items[:])


def test_child_keeps_what_its_parent_drops(manager, ctx, finish):
    ours, theirs = ctx.Pipe()
    items = manager.list()
    with ours, theirs:
        child = ctx.Process(target=wait_and_append, args=(items, theirs))
        child.start()
        del items
        assert manager._number_of_objects() == 1
        ours.send("go on")
        assert ours.recv() == [1]
        finish(child)
    wait_until(lambda: manager._number_of_objects() == 0)


def test_child_may_drop_first(manager, report):
    items = manager.list()
    report(fill, manager.dict(), items, "a")
    wait_until(lambda: manager._number_of_objects() == 1)
    assert items[:] == ["a"]


def die(items):
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_child_keeps_nothing(manager, ctx, finish):
    child = ctx.Process(target=die, args=(manager.list(),))
    child.start()
    finish(child)
    assert child.exitcode == -signal.SIGKILL
    wait_until(lambda: manager._number_of_objects() == 0)


def drop_and_tell(conn, box):
    box.clear()  # the last proxy of this process
    conn.send("dropped")
    conn.recv()


def test_living_child_gives_back_what_it_drops(manager, ctx, finish):
    ours, theirs = ctx.Pipe()
    box = [manager.list()]
    with ours, theirs:
        child = ctx.Process(target=drop_and_tell, args=(theirs, box))
        child.start()
        box.clear()
        assert ours.recv() == "dropped"
        wait_until(lambda: manager._number_of_objects() == 0)
        ours.send("go")
        finish(child)


def test_nested_proxies(manager):
    outer = manager.dict()
    outer["inner"] = manager.list([1])  # gh-103136: there is no other proxy of it
    outer["inner"].append(2)
    inner = outer["inner"]
    assert isinstance(inner, ListProxy)
    assert inner[:] == [1, 2]
    assert "ListProxy object, typeid 'list'" in str(outer)
    assert manager._number_of_objects() == 2
    del inner
    assert manager._number_of_objects() == 2
    del outer["inner"]
    assert manager._number_of_objects() == 1
    outer["list"] = manager.list([manager.list(["deep"])])
    assert outer["list"][0][0] == "deep"
    assert manager._number_of_objects() == 3
    outer.clear()
    assert manager._number_of_objects() == 1


def test_objects_that_refer_to_each_other(manager):
    a, b = manager.list(), manager.dict()
    a.append(a)
    a.append(b)
    b["a"] = a
    assert a[0][1]["a"][0][1].keys() == ["a"]
    del a
    assert len(b["a"]) == 2
    del b
    assert manager._number_of_objects() == 0


def test_nested_queue_of_another_type(manager):
    items = manager.list([manager.Queue(), manager.Lock(), manager.Namespace(a=5)])
    items[0].put("x")
    assert items[0].get() == "x"
    with items[1]:
        pass
    assert items[2].a == 5


def test_proxies_of_another_manager(manager, ctx):
    with SyncManager(ctx=ctx, authkey=b"another") as other:
        inner = other.list([1])
        inner_key = client.keys[other.address]
        assert inner_key == b"another"
        items = manager.list()
        with pytest.raises(RemoteError, match="AuthenticationError"):
            items.append(inner)  # that manager was never told the key
        assert (len(items), inner[:]) == (0, [1])


def test_pickles_name_the_public_module(manager):
    for thing in (
        Token("a", "b", "c"),
        ListProxy,
        manager.list(),
        manager.Queue(),
        RemoteError("x"),
        managers.Server,
    ):
        assert b"fastmp.managers" in pickle.dumps(thing)
        assert b"_managers" not in pickle.dumps(thing)


def test_pickle_keeps_the_object(manager, ctx, finish):
    """gh-119937: the proxy is gone before the pickle is loaded."""
    data = pickle.dumps(manager.list([1]))
    assert manager._number_of_objects() == 1
    proxy = pickle.loads(data)
    assert proxy[:] == [1]
    again = pickle.loads(data)
    assert "refcount=2" in manager._debug_info()
    del proxy
    assert again[:] == [1]
    del again
    assert manager._number_of_objects() == 0
    with pytest.raises(RemoteError, match="has no object"):
        pickle.loads(data)


def receive_and_append(conn):
    items = conn.recv()
    items.append("child")
    return items[:]


def test_proxy_through_a_pipe(manager, ctx, report):
    ours, theirs = ctx.Pipe()
    with ours, theirs:
        ours.send(manager.list())
        assert report(receive_and_append, theirs) == ["child"]
    wait_until(lambda: manager._number_of_objects() == 0)


def test_proxy_through_a_managed_queue(manager):
    q = manager.Queue()
    q.put(manager.list([1]))
    q.put(manager.list([2]))
    assert [q.get()[0], q.get()[0]] == [1, 2]
    assert manager._number_of_objects() == 1
