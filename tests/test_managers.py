"""Managers: what their types do, and names and tokens of proxies."""

import collections.abc
import copy
import operator
import pickle
import queue
import threading

import pytest
from targets import send_result

from fastmp.managers import DictProxy, ListProxy, NamespaceProxy, Token

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
        child = ctx.Process(target=send_result, args=(writer, meet, (event, barrier)))
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
