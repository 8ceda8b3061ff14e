"""Managers: proxies in children, grandchildren and threads."""

import os
import pickle
import subprocess
import sys
import threading

import pytest
from manager_targets import fill
from waiting import wait_until

from fastmp.managers import SyncManager


def test_children(manager, report):
    d, items = manager.dict(), manager.list()
    assert [report(fill, d, items, name) for name in "abc"] == [1, 2, 3]
    assert items[:] == ["a", "b", "c"]
    assert len(set(d.values()) - {os.getpid()}) == 3


def fill_from_grandchild(ctx, d, items):
    fill(d, items, "child")
    grandchild = ctx.Process(target=fill, args=(d, items, "grandchild"))
    grandchild.start()
    grandchild.join(30)
    fill(d, items, "child again")
    return grandchild.exitcode


def test_grandchildren(manager, ctx, report):
    d, items = manager.dict(), manager.list()
    assert report(fill_from_grandchild, ctx, d, items) == 0
    assert items[:] == ["child", "grandchild", "child again"]
    assert len(d) == 3


def count_up(value, lock, times):
    for _ in range(times):
        with lock:
            value.value += 1


def test_threads_and_children_at_once(manager, ctx, finish):
    value, lock = manager.Value("i", 0), manager.Lock()
    children = [ctx.Process(target=count_up, args=(value, lock, 20)) for _ in range(3)]
    threads = [threading.Thread(target=count_up, args=(value, lock, 20)) for _ in range(3)]
    for worker in children + threads:
        worker.start()
    for thread in threads:
        thread.join(30)
    finish(*children)
    assert value.value == 120


def make_list(manager):
    made = manager.list([1])
    made.append(2)
    return made[:]


def test_manager_in_a_child(manager, report):
    assert report(make_list, manager) == [1, 2]
    assert manager._number_of_objects() == 0


def test_manager_as_an_argument(ctx, report):
    """In a child it is connected, and leaves the server to its owner; only a child can have it."""
    with SyncManager(None, b"own key", "xmlrpclib", ctx=ctx) as manager:
        manager.note = "kept"
        assert report(describe, manager) == (manager.address, "kept", True)
        assert manager.Queue().empty()
        with pytest.raises(RuntimeError, match="through inheritance"):
            pickle.dumps(manager)


def describe(manager):
    return manager.address, manager.note, manager.Queue().empty()


def start_and_use(manager):
    with manager:
        return make_list(manager)


def test_manager_that_a_child_starts(ctx, report):
    assert report(start_and_use, SyncManager(ctx=ctx)) == [1, 2]


def hold(proxies, held, drop):
    held.set()
    drop.wait(30)


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_many_proxies_as_arguments(ctx, finish, serializer):
    held, drop = ctx.Event(), ctx.Event()
    with SyncManager(serializer=serializer, ctx=ctx) as manager:
        proxies = [manager.Queue() for _ in range(5)]
        child = ctx.Process(target=hold, args=([*proxies, *proxies], held, drop))
        child.start()
        proxies.clear()
        assert held.wait(30)
        assert manager._number_of_objects() == 5
        drop.set()
        finish(child)
        wait_until(lambda: manager._number_of_objects() == 0)


def test_pool_in_a_manager(manager):
    with manager.Pool(2) as pool:
        assert pool.apply(abs, (-5,)) == 5
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
        assert pool.apply_async(abs, (-7,)).get(30) == 7
        assert sorted(pool.imap_unordered(abs, [-1, -2])) == [1, 2]


STANDARD_SERVER = """
import multiprocessing.managers
server = multiprocessing.managers.SyncManager(("127.0.0.1", 0), b"key").get_server()
print(server.address[1], flush=True)
server.serve_forever()
"""


@pytest.mark.imports_multiprocessing
def test_server_that_knows_no_leases(ctx, report):
    command = [sys.executable, "-c", STANDARD_SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            manager = SyncManager(("127.0.0.1", int(server.stdout.readline())), b"key", ctx=ctx)
            manager.connect()
            items = manager.list([1])
            assert report(fill, manager.dict(), items, "a") == 2
            assert items[:] == [1, "a"]
            del items
            wait_until(lambda: manager._number_of_objects() == 0)
        finally:
            server.kill()


def test_child_that_was_forked_by_others(manager):
    items = manager.list()
    pid = os.fork()
    if pid == 0:
        try:
            items.append("child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert items[:] == ["child"]
    assert manager._number_of_objects() == 1
