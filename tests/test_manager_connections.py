"""How clients and servers of managers talk: over pipes in memory where they share it, else over sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from waiting import wait_until

import fastmp
from fastmp import _core, connection
from fastmp.managers import RemoteError, SyncManager

GONE = (EOFError, ConnectionError)


def first_call(items, item):
    """Make this process's first call; how many pipes that took."""
    before = _core.arena_info()["objects"]
    items.append(item)
    return _core.arena_info()["objects"] - before


def test_relatives_call_through_memory(manager, report):
    items = manager.list()
    assert first_call(items, "parent") == 1
    assert report(first_call, items, "child") == 1
    assert items[:] == ["parent", "child"]


def test_each_thread_has_its_own(manager):
    items, used = manager.list(), []

    def work(item):
        items.append(item)
        used.extend(items._link._mine.idle)

    for item in range(3):
        thread = threading.Thread(target=work, args=(item,))
        thread.start()
        thread.join(30)
    work(3)
    assert len(set(map(id, used))) == 4
    assert items[:] == [0, 1, 2, 3]


OTHER_PROGRAM = """
import sys
from fastmp.managers import SyncManager
manager = SyncManager(sys.argv[1] if len(sys.argv) < 3 else (sys.argv[1], int(sys.argv[2])), b"key")
manager.connect()
items = manager.list([1])
items.append("x" * 100_000)
items.append({"a": [2.5, None]})
print(len(items[1]), items[2], manager._number_of_objects())
"""


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_other_programs(ctx, tmp_path, family):
    address = str(tmp_path / "socket") if family == "AF_UNIX" else ("127.0.0.1", 0)
    with SyncManager(address, b"key", ctx=ctx) as manager:
        place = [manager.address] if family == "AF_UNIX" else [str(part) for part in manager.address]
        command = [sys.executable, "-c", OTHER_PROGRAM, *place]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    assert output == "100000 {'a': [2.5, None]} 1\n"


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
def test_relatives_over_sockets(ctx, report, serializer):
    """Over TCP no descriptor can be sent, and another serialisation needs bytes."""
    with SyncManager(("127.0.0.1", 0), b"key", serializer, ctx=ctx) as manager:
        items = manager.Queue()
        items.put(1)
        assert report(get_one, items) == 1


def get_one(items):
    return items.get()


def no_pipes():
    def fail(duplex=True):
        raise OSError(24, "Too many open files")

    connection.Pipe = fail


def test_server_without_descriptors(ctx):
    manager = SyncManager(ctx=ctx)
    manager.start(no_pipes)
    with manager:
        items = manager.list()
        assert first_call(items, 1) == 0
        assert items[:] == [1]


def test_results_of_all_sizes(manager):
    items = manager.list()
    for size in (0, 1, 1000, 100_000, 5_000_000):
        items.append(b"x" * size)
    assert [len(item) for item in items] == [0, 1, 1000, 100_000, 5_000_000]
    assert len(items[:]) == 5


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_connections_to_the_server_before(ctx, tmp_path, family):
    """gh-86320: a server that was started anew at the same address is found at once."""
    address = str(tmp_path / "socket")
    if family == "AF_INET":
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            address = sock.getsockname()
    with SyncManager(address, b"key", ctx=ctx) as first:
        old = first.list([1])
        assert old[:] == [1]
        with first:
            pass
        with SyncManager(address, b"key", ctx=ctx) as second:
            new = second.list([2])
            assert new[:] == [2]
            with pytest.raises(RemoteError, match="has no object"):
                old[0]


def test_dead_server_whose_children_live(ctx):
    """They do not keep its ends of the pipes."""
    manager = SyncManager(ctx=ctx)
    manager.start()
    items = manager.list([1])
    pool = manager.Pool(1)
    worker = pool.apply(os.getpid)
    assert items[:] == [1]
    manager._process.kill()
    manager._process.join()
    with pytest.raises(GONE):
        items.append(2)
    with pytest.raises(GONE):
        pool.apply(os.getpid)
    os.kill(worker, signal.SIGKILL)
    manager.shutdown()


def append_and_die(items):
    items.append(1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_clients_leave_no_thread(manager, ctx, finish):
    items = manager.list()
    items.append(0)
    before = threads_of(manager)
    for _ in range(3):
        child = ctx.Process(target=append_and_die, args=(items,))
        child.start()
        finish(child)
    assert len(items) == 4
    wait_until(lambda: threads_of(manager) <= before)


def threads_of(manager):
    return len(os.listdir(f"/proc/{manager._process.pid}/task"))


def wait_for(conn):
    conn.recv()


@pytest.mark.start_methods("fork", reason="other children have nothing of their parent's")
def test_forked_child_keeps_nothing_of_its_parent(manager, ctx, finish):
    """Else the server would not see that the parent has left."""
    items = manager.list([1])
    items.append(2)
    before = threads_of(manager)
    ours, theirs = ctx.Pipe()
    with ours, theirs:
        child = ctx.Process(target=wait_for, args=(theirs,))
        child.start()
        before = threads_of(manager)
        items._link._mine.idle.pop().close()
        items._link._mine.idle = None
        wait_until(lambda: threads_of(manager) < before)
        assert items[:] == [1, 2]
        ours.send("end")
        finish(child)


# ---- servers elsewhere -------------------------------------------------------------------------------


@pytest.fixture
def serving(ctx):
    """Run a manager's server in a thread of this process, as a program of its own would."""
    servers = []

    def serve(manager):
        server = manager.get_server()
        thread = threading.Thread(target=serve_quietly, args=(server,), name="server")
        thread.start()
        servers.append((server, thread))
        return server

    yield serve
    for server, thread in servers:
        server.stop_event.set()
        thread.join(30)
        assert not thread.is_alive()


def serve_quietly(server):
    with pytest.raises(SystemExit):
        server.serve_forever()


def use_remote(address, serializer, items):
    manager = SyncManager(address, b"remote key", serializer)
    manager.connect()
    q = manager.Queue()
    for item in items:
        q.put(item)
    return [q.get() for _ in items], manager._number_of_objects()


@pytest.mark.parametrize("serializer", ["pickle", "xmlrpclib"])
@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
def test_connect(serving, ctx, report, address, serializer):
    server = serving(SyncManager(address, b"remote key", serializer, ctx=ctx))
    assert isinstance(server.address, tuple) == isinstance(address, tuple)
    result = report(use_remote, server.address, serializer, [1, "two", [3.0]])
    assert result == ([1, "two", [3.0]], 1)
    wait_until(lambda: server.number_of_objects(None) == 0)


def connect_with(address, key):
    SyncManager(address, key).connect()


def test_wrong_key(serving, ctx, report):
    server = serving(SyncManager(None, b"remote key", ctx=ctx))
    assert isinstance(report(connect_with, server.address, b"wrong"), fastmp.AuthenticationError)
    assert report(connect_with, server.address, b"remote key") is None


def test_silent_clients_hold_nobody_up(manager):
    strangers = []
    for _ in range(3):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(manager.address)
        strangers.append(stranger)
    assert manager.list([1])[:] == [1]
    for stranger in strangers:
        stranger.close()


def test_functions_that_are_not_public(manager):
    for name in ("serve_forever", "__init__", "_send", "nothing"):
        with pytest.raises(RemoteError, match="is not a function of the server"):
            manager._ask(name)


def test_server_in_this_process(serving, ctx):
    """There proxies do without a connection."""
    manager = SyncManager(None, b"remote key", ctx=ctx)
    server = serving(manager)
    client = SyncManager(server.address, b"remote key", ctx=ctx)
    client.connect()
    items = client.list([1])
    items.append(2)
    value = items._getvalue()
    value.append(3)
    assert items[:] == [1, 2]
    assert list(client.dict(a=1)) == ["a"]
    del items
    assert server.number_of_objects(None) == 0


@pytest.mark.start_methods("fork")  # the server is a thread here
@pytest.mark.parametrize("of, step", [(connection, "wait"), (connection.Listener, "accept_one")])
def test_a_server_that_has_no_memory_for_a_moment(serving, ctx, monkeypatch, of, step):
    real, left = getattr(of, step), [MemoryError()] * 3

    def fail(*args):
        if left and threading.current_thread().name == "server":
            raise left.pop()
        return real(*args)

    monkeypatch.setattr(of, step, fail)
    server = serving(SyncManager(None, b"remote key", ctx=ctx))
    connect_with(server.address, b"remote key")  # behind this the server waits again
    connect_with(server.address, b"remote key")
    assert not left


def test_a_server_ends_if_it_cannot_watch_its_parent(serving, ctx):
    class Unwatched:
        def join(self):
            raise MemoryError

    server = serving(SyncManager(None, b"remote key", ctx=ctx))
    with pytest.raises(MemoryError):
        server._end_with(Unwatched())
    assert server.stop_event.wait(30)
