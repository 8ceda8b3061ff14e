"""Managers and proxies: the types, the life of objects, failures, and what must not be left behind."""

import collections.abc
import copy
import operator
import os
import pickle
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import fastmp
from fastmp import managers
from fastmp._managers import client
from fastmp.managers import (
    BaseManager,
    BaseProxy,
    DictProxy,
    ListProxy,
    NamespaceProxy,
    RemoteError,
    SyncManager,
    Token,
)


@pytest.fixture
def manager(ctx):
    with SyncManager(ctx=ctx) as manager:
        yield manager


def run(ctx, finish, target, *args):
    """Run a function in a child; what it returned, or the exception that it raised, is returned."""
    reader, writer = ctx.Pipe(duplex=False)
    child = ctx.Process(target=report, args=(writer, target, args))
    child.start()
    writer.close()
    with reader:
        result = reader.recv()
    finish(child)
    return result


def report(writer, target, args):
    try:
        result = target(*args)
    except Exception as e:
        result = e
    writer.send(result)


# ---- the types -----------------------------------------------------------------------------------


def test_list(manager):
    a = manager.list(range(5))
    assert isinstance(a, ListProxy)
    assert isinstance(a, collections.abc.MutableSequence)
    assert (a[0], a[-1], a[1:3], len(a), list(a)) == (0, 4, [1, 2], 5, [0, 1, 2, 3, 4])
    a.append(5)
    a.extend([6])
    a += [7]
    a[0] = "first"
    del a[1]
    assert a[:] == ["first", 2, 3, 4, 5, 6, 7]
    assert a.pop() == 7
    assert a.pop(0) == "first"
    a.insert(1, 9)
    a.remove(4)
    a.reverse()
    assert a.copy() == [6, 5, 3, 9, 2]
    a.sort(reverse=True)
    assert a._getvalue() == [9, 6, 5, 3, 2]
    assert (a.index(5), a.count(3), 6 in a, 60 in a) == (2, 1, True, False)
    assert a + [1] == [9, 6, 5, 3, 2, 1]  # noqa: RUF005
    assert list(reversed(a)) == [2, 3, 5, 6, 9]
    a.clear()
    a.append(1)
    same = a
    a *= 2
    assert a is same
    assert (a[:], a * 2, 2 * a) == ([1, 1], [1] * 4, [1] * 4)
    with pytest.raises(IndexError):
        a[5]


def test_dict(manager):
    d = manager.dict({"a": 1}, b=2)
    assert isinstance(d, DictProxy)
    assert isinstance(d, collections.abc.MutableMapping)
    assert (d["a"], len(d), "b" in d, "c" in d, d.get("c", 5)) == (1, 2, True, False, 5)
    d["c"] = 3
    del d["a"]
    assert (d.keys(), d.values(), d.items()) == (["b", "c"], [2, 3], [("b", 2), ("c", 3)])
    assert list(d) == ["b", "c"]
    assert list(reversed(d)) == ["c", "b"]
    assert d.pop("b") == 2
    assert d.setdefault("d", 4) == 4
    d.update(e=5)
    assert d.popitem() == ("e", 5)
    same = d
    d |= {"f": 6}
    assert d is same
    assert d | {"c": 0} == {"c": 0, "d": 4, "f": 6}
    assert {"c": 0} | d == {"c": 3, "d": 4, "f": 6}
    assert d.fromkeys("xy", 1) == {"x": 1, "y": 1}
    assert d.copy() == d._getvalue() == {"c": 3, "d": 4, "f": 6}
    iterator = iter(d)
    d.clear()
    with pytest.raises(RuntimeError):
        next(iterator)
    assert d.copy() == {}


def test_set(manager):
    s = manager.set({1, 2})
    assert isinstance(s, collections.abc.MutableSet)
    assert not isinstance(s, collections.abc.MutableMapping)
    s.add(3)
    s.discard(1)
    assert (len(s), 3 in s, 1 in s, sorted(s)) == (2, True, False, [2, 3])
    assert (s | {5}, s & {2}, s - {2}, s ^ {2, 4}) == ({2, 3, 5}, {2}, {3}, {3, 4})
    assert ({5} | s, {2} & s, {2, 9} - s, {2, 4} ^ s) == ({2, 3, 5}, {2}, {9}, {3, 4})
    assert (s <= {2, 3}, s < {2, 3}, s >= {2}, s > {2}, s.issubset({2})) == (True, False, True, True, False)
    same = s
    for change, other in (
        (operator.ior, {7, 8}),
        (operator.iand, {3, 7, 8}),
        (operator.isub, {8}),
        (operator.ixor, {3, 4}),
    ):
        s = change(s, other)
    assert s is same
    assert s.copy() == {4, 7}
    with pytest.raises(KeyError):
        s.remove(100)


def test_namespace(manager):
    space = manager.Namespace(a=1)
    space.b = [2]
    space._private = "here"
    assert (space.a, space.b) == (1, [2])
    assert str(space) == "Namespace(a=1, b=[2])"
    assert "_private" not in str(space)
    del space.a
    with pytest.raises(AttributeError, match="no attribute 'a'"):
        space.a  # noqa: B018


def test_value_and_array(manager):
    value = manager.Value("i", 3)
    value.value += 1
    value.set(value.get() + 1)
    assert str(value) == "Value('i', 5)"
    array = manager.Array("d", [1.5, 2.5])
    array[0] = 7
    assert (len(array), array[0], list(array[:])) == (2, 7.0, [7.0, 2.5])
    assert str(array) == "array('d', [7.0, 2.5])"


def test_queues(manager):
    for make in (manager.Queue, manager.JoinableQueue):
        q = make(2)
        q.put("a")
        q.put("b", True, 1)
        assert (q.qsize(), q.full(), q.empty()) == (2, True, False)
        with pytest.raises(queue.Full):
            q.put_nowait("c")
        assert [q.get(), q.get(timeout=1)] == ["a", "b"]
        with pytest.raises(queue.Empty):
            q.get(timeout=0.01)
        q.task_done()
        q.task_done()
        q.join()
        with pytest.raises(ValueError):
            q.task_done()


def test_locks(manager):
    for lock in (manager.Lock(), manager.RLock(), manager.Semaphore(), manager.BoundedSemaphore()):
        with lock:
            pass
        assert lock.acquire(True, 1)
        lock.release()
    lock = manager.Lock()
    assert lock.acquire()
    assert not lock.acquire(False)
    assert not lock.acquire(timeout=0.01)
    assert lock.locked()
    reentrant = manager.RLock()
    with reentrant, reentrant:
        pass
    with pytest.raises(RuntimeError):
        reentrant.release()
    with pytest.raises(ValueError):
        manager.BoundedSemaphore().release()


def wake(condition, numbers):
    with condition:
        numbers.append(1)
        condition.notify_all()


def test_condition(manager, ctx, finish):
    condition, numbers = manager.Condition(), manager.list()
    with condition:
        assert not condition.wait(0.01)
        assert not condition.wait_for(lambda: len(numbers), timeout=0.01)
        child = ctx.Process(target=wake, args=(condition, numbers))
        child.start()
        assert condition.wait_for(lambda: len(numbers), timeout=30)
        condition.notify()
    finish(child)


def meet(event, barrier):
    event.set()
    return barrier.wait(30)


def test_event_and_barrier(manager, ctx, finish):
    event, barrier = manager.Event(), manager.Barrier(2)
    assert (event.is_set(), event.wait(0.01)) == (False, False)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)
    reader, writer = ctx.Pipe(duplex=False)
    with reader, writer:
        child = ctx.Process(target=report, args=(writer, meet, (event, barrier)))
        child.start()
        assert event.wait(30)
        assert {barrier.wait(30), reader.recv()} == {0, 1}
    finish(child)
    event.clear()
    assert not event.is_set()
    barrier.abort()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken


def test_text(manager):
    a = manager.list([1, "two"])
    assert str(a) == "[1, 'two']"
    assert repr(a).startswith("<ListProxy object, typeid 'list' at 0x")
    assert repr(a._token).startswith("Token(typeid='list', address=")


def test_copies(manager):
    a = manager.list([[1], 2])
    assert copy.deepcopy(a) == [[1], 2]
    assert type(copy.deepcopy(a)) is list
    assert a._getvalue() is not a._getvalue()


# ---- children ------------------------------------------------------------------------------------


def fill(d, items, name):
    d[name] = os.getpid()
    items.append(name)
    return len(items)


def test_children(manager, ctx, finish):
    d, items = manager.dict(), manager.list()
    assert [run(ctx, finish, fill, d, items, name) for name in "abc"] == [1, 2, 3]
    assert items[:] == ["a", "b", "c"]
    assert len(set(d.values()) - {os.getpid()}) == 3


def fill_from_grandchild(ctx, d, items):
    fill(d, items, "child")
    grandchild = ctx.Process(target=fill, args=(d, items, "grandchild"))
    grandchild.start()
    grandchild.join(30)
    fill(d, items, "child again")
    return grandchild.exitcode


def test_grandchildren(manager, ctx, finish):
    d, items = manager.dict(), manager.list()
    assert run(ctx, finish, fill_from_grandchild, ctx, d, items) == 0
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


def test_manager_in_a_child(manager, ctx, finish):
    assert run(ctx, finish, make_list, manager) == [1, 2]
    assert manager._number_of_objects() == 0


def test_manager_as_an_argument(ctx, finish):
    """In a child it is connected, and leaves the server to its owner; only a child can have it."""
    with SyncManager(None, b"own key", "xmlrpclib", ctx=ctx) as manager:
        manager.note = "kept"
        assert run(ctx, finish, describe, manager) == (manager.address, "kept", True)
        assert manager.Queue().empty()
        with pytest.raises(RuntimeError, match="through inheritance"):
            pickle.dumps(manager)


def describe(manager):
    return manager.address, manager.note, manager.Queue().empty()


def start_and_use(manager):
    with manager:
        return make_list(manager)


def test_manager_that_a_child_starts(ctx, finish):
    assert run(ctx, finish, start_and_use, SyncManager(ctx=ctx)) == [1, 2]


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
        until(lambda: manager._number_of_objects() == 0)


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
def test_server_that_knows_no_leases(ctx, finish):
    command = [sys.executable, "-c", STANDARD_SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            manager = SyncManager(("127.0.0.1", int(server.stdout.readline())), b"key", ctx=ctx)
            manager.connect()
            items = manager.list([1])
            assert run(ctx, finish, fill, manager.dict(), items, "a") == 2
            assert items[:] == [1, "a"]
            del items
            until(lambda: manager._number_of_objects() == 0)
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


# ---- the life of objects ---------------------------------------------------------------------------


def until(condition):
    """Wait until something is so that nobody tells about."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


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
    until(lambda: manager._number_of_objects() == 0)


def test_child_may_drop_first(manager, ctx, finish):
    items = manager.list()
    run(ctx, finish, fill, manager.dict(), items, "a")
    until(lambda: manager._number_of_objects() == 1)
    assert items[:] == ["a"]


def die(items):
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_child_keeps_nothing(manager, ctx, finish):
    child = ctx.Process(target=die, args=(manager.list(),))
    child.start()
    finish(child)
    assert child.exitcode == -signal.SIGKILL
    until(lambda: manager._number_of_objects() == 0)


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
        until(lambda: manager._number_of_objects() == 0)
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


def test_proxy_through_a_pipe(manager, ctx, finish):
    ours, theirs = ctx.Pipe()
    with ours, theirs:
        ours.send(manager.list())
        assert run(ctx, finish, receive_and_append, theirs) == ["child"]
    until(lambda: manager._number_of_objects() == 0)


def test_proxy_through_a_managed_queue(manager):
    q = manager.Queue()
    q.put(manager.list([1]))
    q.put(manager.list([2]))
    assert [q.get()[0], q.get()[0]] == [1, 2]
    assert manager._number_of_objects() == 1


# ---- own types -------------------------------------------------------------------------------------


class Counter:
    def __init__(self, start=0):
        self.value = start

    def next(self):
        self.value += 1
        return self.value

    def fork(self):
        return Counter(self.value)

    def values(self):
        yield from range(self.value)

    def fail(self):
        raise Broken("text", code=5)

    def leave(self):
        sys.exit(3)

    def lock(self):
        return threading.Lock()

    def _hidden(self):
        return "hidden"

    def __len__(self):
        return self.value


def counter_of(numbers):
    return Counter(sum(numbers))


class Broken(Exception):
    """Cannot be loaded: it does not keep all of its arguments."""

    def __init__(self, text, *, code):
        super().__init__(text)


class CounterProxy(BaseProxy):
    _exposed_ = ("next", "__len__")

    def next(self):
        return self._callmethod("next")

    def __len__(self):
        return self._callmethod("__len__")


THE_COUNTER = Counter(100)


def the_counter():
    return THE_COUNTER


class OwnManager(BaseManager):
    pass


OwnManager.register("Counter", Counter, method_to_typeid={"fork": "Forked", "values": "Iterator"})
OwnManager.register("Forked", create_method=False)
OwnManager.register("Limited", Counter, exposed=("_hidden", "next"))
OwnManager.register("Proxied", Counter, CounterProxy)
OwnManager.register("the_counter", the_counter)
OwnManager.register("Sum", counter_of)
OwnManager.register("Summed", Counter, method_to_typeid={"values": "Sum"})
OwnManager.register("Iterator", proxytype=managers.IteratorProxy, create_method=False)


@pytest.fixture
def own(ctx):
    with OwnManager(ctx=ctx) as manager:
        yield manager


def test_own_types(own):
    counter = own.Counter(5)
    assert counter.next() == 6
    assert type(counter).__name__ == "AutoProxy[Counter]"
    assert not hasattr(counter, "_hidden")
    with pytest.raises(RemoteError, match="is not in exposed"):
        counter._callmethod("_hidden")
    limited = own.Limited()
    assert (limited._hidden(), limited.next()) == ("hidden", 1)
    assert not hasattr(limited, "fork")
    proxied = own.Proxied(3)
    assert type(proxied) is CounterProxy
    assert (proxied.next(), len(proxied)) == (4, 4)


def test_proxies_may_forward_comparisons(ctx, finish):
    class Compared(BaseManager):
        pass

    Compared.register("number", complex, exposed=("__eq__", "__hash__", "conjugate"))
    with Compared(ctx=ctx) as manager:
        one, two = manager.number(1), manager.number(2)
        assert one == 1
        assert one != two
        assert {one: "one"}[1] == "one"
        assert run(ctx, finish, two.conjugate) == 2
        del one, two
        until(lambda: manager._number_of_objects() == 0)


def test_methods_that_return_proxies(own):
    counter = own.Counter(2)
    other = counter.fork()
    other.next()
    assert (counter.next(), other.next()) == (3, 4)
    assert list(counter.values()) == [0, 1, 2]
    assert own._number_of_objects() == 2
    del other
    assert own._number_of_objects() == 1


def test_result_goes_through_the_callable_of_its_type(own):
    assert own.Summed(4).values().next() == 0 + 1 + 2 + 3 + 1


def test_one_object_with_two_proxies(own):
    first, second = own.the_counter(), own.the_counter()
    assert [first.next(), second.next(), first.next()] == [101, 102, 103]
    assert own._number_of_objects() == 1
    del first
    assert second.next() == 104
    del second
    assert own._number_of_objects() == 0


def test_registry_belongs_to_the_class():
    class Derived(OwnManager):
        pass

    Derived.register("more", list)
    assert "more" in Derived._registry
    assert "more" not in OwnManager._registry
    assert "Counter" in Derived._registry
    assert not hasattr(OwnManager, "more")
    assert Derived.more.__name__ == "more"


def fork_counter(counter):
    other = counter.fork()
    return [other.next(), list(counter.values())]


def test_proxies_from_methods_in_a_child(own, ctx, finish):
    """gh-99595: a child has the proxy but not the manager."""
    assert run(ctx, finish, fork_counter, own.Counter(2)) == [3, [0, 1]]
    loaded = pickle.loads(pickle.dumps(own.Counter(2)))
    assert loaded._manager is None
    assert fork_counter(loaded) == [3, [0, 1]]


def test_manager_class_that_cannot_be_found(ctx):
    class Local(BaseManager):
        pass

    Local.register("Counter", Counter, method_to_typeid={"fork": "Forked"})
    Local.register("Forked", create_method=False)
    with Local(ctx=ctx) as manager:
        loaded = pickle.loads(pickle.dumps(manager.Counter(1)))
        assert loaded.fork().next() == 2


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
def test_own_key(ctx, finish, address):
    """gh-139801 and gh-78740: proxies that were pickled or nested, under a key of the manager's own."""
    with SyncManager(address, b"own key", ctx=ctx) as manager:
        items = pickle.loads(pickle.dumps(manager.list([1])))
        assert items[:] == [1]
        outer = manager.dict(inner=items)
        assert outer["inner"][0] == 1
        assert "ListProxy" in str(outer)
        rebuild, args = items.__reduce__()[:2]
        assert run(ctx, finish, rebuild_and_get, rebuild, args) == [1]


def rebuild_and_get(rebuild, args):
    return rebuild(*args)[:]


# ---- failures --------------------------------------------------------------------------------------


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


def test_errors_that_do_not_travel(own):
    counter = own.Counter()
    with pytest.raises(RemoteError, match=r"Unserializable message[\s\S]*raise Broken"):
        counter.fail()
    with pytest.raises(RemoteError, match="Unserializable message"):
        counter.lock()
    with pytest.raises(RemoteError, match="SystemExit: 3"):
        counter.leave()
    assert counter.next() == 1


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
    with pytest.raises(GONE):
        manager.list()
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


def test_child_of_a_dead_manager(ctx, finish):
    manager = SyncManager(ctx=ctx)
    manager.start()
    items = manager.list()
    manager.shutdown()
    assert isinstance(run(ctx, finish, len, items), GONE)


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


def test_server_that_was_restarted(ctx):
    """gh-86320: connections to the one before are of no use."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
    with SyncManager(address, b"key", ctx=ctx) as manager:
        old = manager.list([1])
        assert old[:] == [1]
        with manager:
            pass
        with SyncManager(address, b"key", ctx=ctx) as second:
            new = second.list([2])
            assert new[:] == [2]
            with pytest.raises(RemoteError, match="has no object"):
                old[0]


# ---- starting and ending ---------------------------------------------------------------------------


def test_states(ctx):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.list()
    manager.start()
    child = manager._process
    assert child.name.startswith("SyncManager-")
    for start_again in (manager.start, manager.get_server):
        with pytest.raises(fastmp.ProcessError, match="Already started server"):
            start_again()
    with manager as same:
        assert same is manager
    assert child.exitcode == 0
    with pytest.raises(fastmp.ProcessError, match="Manager has shut down"):
        manager.start()
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.list()
    manager.shutdown()
    manager.join(30)
    assert manager._process is None


def test_the_function_manager():
    with fastmp.Manager() as manager:
        assert isinstance(manager, SyncManager)
        assert manager.list([1])[:] == [1]


def test_bad_arguments(ctx):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        manager.start(5)
    with pytest.raises(KeyError):
        SyncManager(serializer="none", ctx=ctx)
    with pytest.raises(TypeError, match="not bytes"):
        managers.Server({}, None, "text", "pickle")


SETTINGS = []


def set_up(*args):
    SETTINGS.append(args)


class Settings:
    def get(self):
        return SETTINGS


class SettingsManager(BaseManager):
    pass


SettingsManager.register("Settings", Settings)


def test_initializer(ctx):
    manager = SettingsManager(ctx=ctx)
    manager.start(set_up, (1, 2))
    with manager:
        assert manager.Settings().get() == [(1, 2)]
    assert SETTINGS == []


def fail():
    raise ValueError("in the initializer")


def test_initializer_that_raises(ctx, child_output):
    manager = SyncManager(ctx=ctx)
    with pytest.raises(EOFError, match="ended before it was ready, with exit code 1"):
        manager.start(fail)
    assert "in the initializer" in child_output.readouterr().err


def test_manager_that_nobody_keeps(ctx):
    manager = SyncManager(ctx=ctx)
    manager.start()
    items = manager.list([1])
    child = manager._process
    del manager
    assert items[:] == [1]  # proxies keep it
    del items
    child.join(30)
    assert child.exitcode is not None


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class StubbornServer(managers.Server):
    def shutdown(self, c):
        time.sleep(60)


class StubbornManager(BaseManager):
    _Server = StubbornServer


def test_manager_that_does_not_end(ctx, monkeypatch):
    monkeypatch.setattr(client, "ERRAND_SECONDS", 0.1)
    manager = StubbornManager(ctx=ctx, shutdown_timeout=0.1)
    manager.start(ignore_sigterm)
    child = manager._process
    manager.shutdown()
    assert child.exitcode == -signal.SIGKILL


def test_stopped_manager_can_be_shut_down(ctx, monkeypatch):
    monkeypatch.setattr(client, "ERRAND_SECONDS", 0.1)
    manager = SyncManager(ctx=ctx, shutdown_timeout=0.1)
    manager.start()
    child = manager._process
    os.kill(child.pid, signal.SIGSTOP)
    manager.shutdown()
    assert child.exitcode is not None


def test_stopped_manager_does_not_hold_up_a_fork(manager, ctx, finish, monkeypatch):
    monkeypatch.setattr(client, "ERRAND_SECONDS", 0.1)
    items = manager.list()
    os.kill(manager._process.pid, signal.SIGSTOP)
    child = ctx.Process(target=items.append, args=(1,))
    child.start()
    os.kill(manager._process.pid, signal.SIGCONT)
    finish(child)
    assert child.exitcode == 0
    assert items[:] == [1]


def test_interrupts_are_not_for_the_manager(manager):
    items = manager.list([1])
    os.kill(manager._process.pid, signal.SIGINT)
    assert items[:] == [1]


PARENT = """
import os, signal, sys, fastmp
manager = fastmp.Manager()
items = manager.list([1])
print(manager._process.pid, flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[1] == "forget":
    os._exit(0)
"""


@pytest.mark.parametrize("end", ["kill", "forget", "exit"])
def test_manager_ends_with_its_parent(end):
    parent = subprocess.run([sys.executable, "-c", PARENT, end], stdout=subprocess.PIPE, timeout=60)
    assert parent.returncode == (-signal.SIGKILL if end == "kill" else 0)
    try:
        handle = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], 30)
    os.close(handle)
    assert ended


# ---- servers elsewhere -------------------------------------------------------------------------------


@pytest.fixture
def serving(ctx):
    """Run a manager's server in a thread of this process, as a program of its own would."""
    servers = []

    def serve(manager):
        server = manager.get_server()
        thread = threading.Thread(target=serve_quietly, args=(server,))
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
def test_connect(serving, ctx, finish, address, serializer):
    server = serving(SyncManager(address, b"remote key", serializer, ctx=ctx))
    assert isinstance(server.address, tuple) == isinstance(address, tuple)
    result = run(ctx, finish, use_remote, server.address, serializer, [1, "two", [3.0]])
    assert result == ([1, "two", [3.0]], 1)
    until(lambda: server.number_of_objects(None) == 0)


def connect_with(address, key):
    SyncManager(address, key).connect()


def test_wrong_key(serving, ctx, finish):
    server = serving(SyncManager(None, b"remote key", ctx=ctx))
    assert isinstance(run(ctx, finish, connect_with, server.address, b"wrong"), fastmp.AuthenticationError)
    assert run(ctx, finish, connect_with, server.address, b"remote key") is None


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


# ---- tokens ------------------------------------------------------------------------------------------


def test_token():
    token = pickle.loads(pickle.dumps(Token("list", ("host", 5), "abc")))
    assert (token.typeid, token.address, token.id) == ("list", ("host", 5), "abc")


def test_names_of_proxies_are_local(manager):
    class Wide(NamespaceProxy):
        _exposed_ = (*NamespaceProxy._exposed_, "method")

    assert "method" not in vars(Wide)
    space = manager.Namespace()
    space._local = 1
    assert space._local == 1
    assert str(space) == "Namespace()"
