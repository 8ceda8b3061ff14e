"""Value and Array: their locks, and what wraps a ctypes object with one."""

import copy
import ctypes
import gc
import pickle
import signal
import threading
import weakref

import pytest
from sharedctypes_targets import Point, put
from waiting import DEADLINE

import fastmp
from fastmp import reduction, sharedctypes
from fastmp.sharedctypes import (
    RawArray,
    RawValue,
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    synchronized,
)


def test_a_lock_of_its_own_is_an_rlock():
    every = fastmp.Value("i"), fastmp.Array("i", 3), fastmp.Value(Point), fastmp.Value("d", lock=None)
    for shared in every:
        lock = shared.get_lock()
        assert type(lock) is fastmp.synchronize.RLock
        assert shared.get_lock() is shared._lock is lock
        with lock, shared:
            assert repr(lock) == "<RLock(MainProcess, 2)>"
        assert shared.acquire(False)
        assert shared.acquire(True, 1.0)
        shared.release()
        shared.release()
        with pytest.raises(AssertionError, match="not owned"):
            shared.release()
        with pytest.raises(AssertionError, match="not owned"):
            shared.__exit__(None, None, None)


def test_a_given_lock_is_used():
    for lock in (fastmp.Lock(), fastmp.RLock()):
        for shared in (fastmp.Value("i", 3, lock=lock), fastmp.Array("i", [3], lock=lock)):
            assert shared.get_lock() is lock
            with shared:
                assert lock.locked()
            assert not lock.locked()
    assert fastmp.Value("i", 3, lock=lock).value == 3


def test_without_a_lock_there_is_the_ctypes_object():
    assert repr(fastmp.Value("i", 3, lock=False)) == "c_int(3)"
    assert fastmp.Array("i", [3], lock=False)[:] == [3]
    assert type(fastmp.Array(Point, 2, lock=False)) is Point * 2


@pytest.mark.parametrize("bad", [0, "x", [], object()])
def test_what_is_no_lock_is_an_attribute_error(bad):
    for make in (lambda: fastmp.Value("i", lock=bad), lambda: fastmp.Array("i", 3, lock=bad)):
        with pytest.raises(AttributeError, match="has no method 'acquire'"):
            make()
    with pytest.raises(AttributeError, match="acquire"):
        synchronized(ctypes.c_int(), object())


class Recorder:
    """A lock that tells what is done to it."""

    def __init__(self):
        self.calls = []

    def acquire(self):
        self.calls.append("acquire")
        return True

    def release(self):
        self.calls.append("release")


def test_any_lock_will_do_and_is_used_for_every_access():
    lock = Recorder()
    value, array = fastmp.Value("i", 3, lock=lock), fastmp.Array("i", [3, 4], lock=lock)
    text, point = fastmp.Array("c", b"abc", lock=lock), fastmp.Value(Point, 1, lock=lock)
    assert lock.calls == []  # being made needs no lock

    def failing(function, *args):
        with pytest.raises((TypeError, IndexError)):
            function(*args)

    accesses = [
        lambda: value.value,
        lambda: setattr(value, "value", 4),
        lambda: failing(setattr, value, "value", "a"),
        lambda: array[0],
        lambda: array[:],
        lambda: put(array, 0, 1),
        lambda: put(array, slice(None), [1, 2]),
        lambda: failing(put, array, 0, "a"),
        lambda: failing(put, array, slice(None), [1, "a"]),
        lambda: failing(lambda: array[7]),
        lambda: text.value,
        lambda: setattr(text, "raw", b"a"),
        lambda: point.x,
        lambda: setattr(point, "x", 4),
    ]
    for n, access in enumerate(accesses):
        access()
        assert lock.calls == ["acquire", "release"], n
        lock.calls.clear()
    with value:
        assert lock.calls == ["acquire"]


def test_a_lock_of_threads():
    lock = threading.Lock()
    value = fastmp.Value("i", lock=lock)
    with value:
        assert lock.locked()
    value.value += 1
    assert not lock.locked()
    assert value.value == 1


class Refusing(Recorder):
    def release(self):
        raise KeyError("release")


def test_errors_of_a_lock_come_through():
    value, array = fastmp.Value("i", lock=Refusing()), fastmp.Array("i", 2, lock=Refusing())
    for access in (
        lambda: value.value,
        lambda: setattr(value, "value", 1),
        lambda: setattr(value, "value", "a"),
        lambda: array[0],
        lambda: array[:],
        lambda: put(array, 0, 1),
    ):
        with pytest.raises(KeyError, match="release"):
            access()


class Alarm(Exception):
    pass


@pytest.fixture
def alarm():
    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_plain_lock_is_not_recursive_and_a_signal_ends_the_wait(alarm):
    array = fastmp.Array("i", 3, lock=fastmp.Lock())
    with array.get_lock(), pytest.raises(Alarm):
        array[0]
    assert array[0] == 0


def test_a_held_lock_does_not_hinder_the_making():
    lock = fastmp.Lock()
    with lock:
        assert len(fastmp.Array("i", [1, 2], lock=lock)) == 2
        fastmp.Value("d", 2.5, lock=lock)


def test_threads_wait_for_each_other():
    value = fastmp.Value("i")

    def add():
        for _ in range(2000):
            with value.get_lock():
                value.value += 1

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert value.value == 6000


# ---- synchronized, copy and constructors ---------------------------------------------------------------


def test_synchronized():
    raw = RawArray("i", [1, 2, 3])
    lock = fastmp.RLock()
    array = synchronized(raw, lock)
    assert array.get_obj() is array._obj is raw
    assert array.get_lock() is lock
    array[0] = 7
    raw[1] = 8
    assert array[:] == raw[:] == [7, 8, 3]
    assert type(synchronized(RawArray("c", 3))) is SynchronizedString
    assert synchronized(RawValue(Point, 4)).x == 4
    with pytest.raises(AssertionError, match="already synchronized"):
        synchronized(array)


def test_synchronized_takes_private_objects_too():
    value = synchronized(ctypes.c_int(4))
    value.value += 1
    assert value.value == value.get_obj().value == 5
    array = SynchronizedArray((ctypes.c_int * 2)(1, 2))
    ctypes.resize(array.get_obj(), 4096)  # moves it
    array[1] = 5
    assert array[:] == [1, 5]


def test_constructors(ctx):
    assert Synchronized(RawValue("i", 4)).value == 4
    assert Synchronized(obj=RawValue("i", 4), lock=fastmp.Lock(), ctx=ctx).value == 4
    with pytest.raises(TypeError):
        Synchronized()
    value = Synchronized(RawValue("i", 4))
    with pytest.raises(RuntimeError, match="already"):
        value.__init__(RawValue("i"))
    for cls in (Synchronized, SynchronizedArray, SynchronizedString, SynchronizedBase):
        empty = cls.__new__(cls)
        for use in (cls.get_obj, cls.get_lock, cls.__enter__, memoryview, repr):
            with pytest.raises(RuntimeError, match="__init__"):
                use(empty)
    with pytest.raises(RuntimeError):
        _ = Synchronized.__new__(Synchronized).value
    for use in (len, list, lambda array: array[0]):
        with pytest.raises(RuntimeError):
            use(SynchronizedArray.__new__(SynchronizedArray))
    half = Synchronized.__new__(Synchronized)
    with pytest.raises(AttributeError):
        half.__init__(RawValue("i"), 5)
    with pytest.raises(RuntimeError):
        memoryview(half)
    with pytest.raises(TypeError, match="has no typecode"):
        Synchronized._allocate(Point, None, ())


class Counter(Synchronized):
    def __init__(self, start, name):
        super().__init__(RawValue("i", start))
        self.name = name

    def add(self, n):
        with self.get_lock():
            self.value += n
            return self.value


def test_subclasses():
    counter = Counter(3, "apples")
    assert counter.add(4) == counter.value == 7
    assert counter.name == "apples"
    assert repr(counter) == "<Counter wrapper for c_int(7)>"
    me = weakref.ref(counter)
    counter.me = counter  # a cycle
    del counter
    gc.collect()
    assert me() is None


def test_copy():
    for original in (RawValue("i", 5), ctypes.c_int(5), RawArray("d", [1.5, 2]), RawValue(Point, 1, 2.5)):
        twin = sharedctypes.copy(original)
        assert type(twin) is type(original)
        assert bytes(twin) == bytes(original)
        ctypes.memset(ctypes.addressof(twin), 0, ctypes.sizeof(twin))
        assert any(bytes(original))
    with pytest.raises(TypeError):
        sharedctypes.copy(fastmp.Value("i"))


def test_only_inheritance_shares_them():
    for shared in (fastmp.Value("i"), fastmp.Array("i", 3), fastmp.Array("c", 3), fastmp.Value(Point)):
        with pytest.raises(RuntimeError, match="through inheritance"):
            pickle.dumps(shared)
        with pytest.raises(RuntimeError, match="through inheritance"):
            copy.copy(shared)
    for raw in (RawValue("i"), RawArray("i", 3), RawValue(Point)):
        with pytest.raises(RuntimeError, match="through inheritance"):
            reduction.ForkingPickler.dumps(raw)
    private = pickle.loads(reduction.ForkingPickler.dumps(ctypes.c_int(4)))
    assert private.value == 4  # not shared, so it travels by value as it does without us
