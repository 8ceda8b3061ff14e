"""Value, Array and their raw kin: beside ctypes, whose answers to odd values are the right ones, and among
processes."""

import copy
import ctypes
import gc
import os
import pickle
import signal
import sys
import threading
import weakref
from operator import getitem

import pytest

import fastmp
from fastmp import _core, heap, reduction, sharedctypes
from fastmp.sharedctypes import (
    RawArray,
    RawValue,
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    synchronized,
    typecode_to_type,
)

DEADLINE = 30  # seconds for a thread to end

CODES = "cbBuhHiIlLqQfd"
TYPES = [*CODES, ctypes.c_bool, ctypes.c_longdouble, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Point3(Point):
    _fields_ = (("z", ctypes.c_short),)


class Number(ctypes.Union):
    _fields_ = (("whole", ctypes.c_int), ("bytes", ctypes.c_ubyte * 4))


@pytest.fixture
def in_children(ctx, finish):
    """Let each (function, arguments...) be done by a child of its own; `beside()` is done meanwhile."""

    def run(*jobs, beside=None):
        children = [ctx.Process(target=function, args=args) for function, *args in jobs]
        for child in children:
            child.start()
        if beside is not None:
            beside(children)
        finish(*children)
        assert [child.exitcode for child in children] == [0] * len(children)

    return run


def outcome(function, *args):
    """What it returns, or the exception."""
    try:
        return repr(function(*args))
    except Exception as error:
        return type(error), str(error)


@pytest.fixture
def same_objects():
    """The objects in the arena are as many afterwards as before."""
    gc.collect()
    before = _core.arena_info()["objects"]
    yield
    gc.collect()
    assert _core.arena_info()["objects"] == before


pytestmark = pytest.mark.usefixtures("same_objects")


# ---- values, beside ctypes -----------------------------------------------------------------------------


class Index:
    def __index__(self):
        return 7


class Real:
    def __float__(self):
        return 2.5


class Failing:
    def __index__(self):
        raise KeyError("index")

    def __float__(self):
        raise KeyError("float")

    def __bool__(self):
        raise KeyError("bool")


class Whole(int):
    pass


class Broken(float):
    pass


PLAIN = [0, 1, -1, 127, 128, 255, 256, 2**15, 2**31, 2**32 + 5, 2**63, 2**64 + 3, -(2**63) - 1, 10**400, True]
REALS = [0.0, 1.5, -2.25, 1e300, float("inf"), float("nan")]
TEXTS = ["", "a", "ab", "\u20ac", "\U0001f600", b"", b"a", b"ab", bytearray(b"z"), bytearray(b"zz")]
ODD = [None, [], (), {}, object, Index(), Real(), Failing(), Whole(9), Broken(0.5), 1j]
INPUTS = [*PLAIN, *REALS, *TEXTS, *ODD]


def ctype_of(code):
    return typecode_to_type.get(code, code)


def get_value(make, *args):
    return make(*args).value


def get_items(make, *args):
    return make(*args)[:]


def set_and_get(value, new):
    value.value = new
    return value.value


@pytest.mark.parametrize("code", TYPES)
def test_a_value_takes_what_ctypes_takes(code):
    ctype = ctype_of(code)
    for new in INPUTS:
        assert outcome(get_value, fastmp.Value, code, new) == outcome(get_value, ctype, new), new
        assert outcome(set_and_get, fastmp.Value(code), new) == outcome(set_and_get, ctype(), new), new


def put(array, key, value):
    array[key] = value


def after_put(array, key, value):
    """The outcome and what the array holds then."""
    return outcome(put, array, key, value), repr(array[:])


@pytest.mark.parametrize("code", TYPES)
def test_an_array_takes_what_ctypes_takes(code):
    ctype = ctype_of(code) * 3
    for new in INPUTS:
        for key, value in ((1, new), (slice(None, None, -2), [0, new])):
            assert after_put(fastmp.Array(code, 3), key, value) == after_put(ctype(), key, value), new
        made = outcome(get_items, fastmp.Array, code, [new, new, 0])
        assert made == outcome(get_items, ctype, new, new, 0), new


KEYS = [
    *(0, 2, -1, -3, 3, -4, 2**70, -(2**70), True, Index(), Failing(), 1.0, "a", None, (), ...),
    *(slice(None), slice(1, 2), slice(-2, None), slice(None, None, -1), slice(5, 1), slice(None, None, 2)),
    *(slice(None, None, 0), slice("a", None), slice(Index(), None), slice(2**70, -(2**70), -1)),
]
VALUES = [5, None, [], [1], [1, 2], (3, 4, 5), "abc", b"abc", range(3), iter([1]), {1, 2, 3}, [1, 2, 3, 4]]


@pytest.mark.parametrize("code", ["i", "d", "c", "u", ctypes.c_void_p])
def test_indexes_and_slices_are_those_of_ctypes(code):
    start = "xyz" if code == "u" else b"xyz"
    if code in ("i", "d", ctypes.c_void_p):
        start = [7, 8, 9]
    ctype = ctype_of(code) * 3
    for key in KEYS:
        array, expected = fastmp.Array(code, start), ctype(*start)
        assert outcome(getitem, array, key) == outcome(getitem, expected, key), key
        for new in VALUES:
            assert after_put(array, key, new) == after_put(expected, key, new), (key, new)


def test_a_slice_takes_only_as_many_items_as_it_has():
    array = fastmp.Array("i", range(5))
    array[::2] = (10, 20, 30)
    assert array[:] == [10, 1, 20, 3, 30]
    array[3:1:-1] = [0, 0]
    assert array[:] == [10, 1, 0, 0, 30]
    with pytest.raises(ValueError, match="same size"):
        array[1:3] = [1]
    with pytest.raises(TypeError, match="deletion"):
        del array[0]


def test_an_array_is_a_sequence():
    array = fastmp.Array("h", [3, 1, 2])
    assert len(array) == 3
    assert list(array) == [3, 1, 2]
    assert list(reversed(array)) == [2, 1, 3]
    assert 1 in array
    assert sorted(array) == [1, 2, 3]
    assert array[-1] == 2


def test_initial_values_may_be_anything_with_a_length():
    assert fastmp.Array("i", range(4))[:] == [0, 1, 2, 3]
    assert fastmp.Array("i", {5})[:] == [5]
    assert fastmp.Array("i", {5: 6})[:] == [5]
    assert fastmp.Array("d", fastmp.Array("i", [1, 2]))[:] == [1.0, 2.0]
    assert fastmp.Array("c", b"ab\0c")[:] == b"ab\0c"
    assert fastmp.Array("i", True)[:] == [0]
    for wrong in (2.5, (x for x in [1]), None):
        with pytest.raises(TypeError, match=r"has no len\(\)"):
            fastmp.Array("i", wrong)


class Liar:
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter([1, 2, 3])


def test_a_length_that_is_not_true():
    assert fastmp.Array("i", Liar(5))[:] == [1, 2, 3, 0, 0]
    with pytest.raises(IndexError, match="invalid index"):
        fastmp.Array("i", Liar(2))


def test_sizes():
    for code in (*CODES, Point):
        assert len(fastmp.Array(code, 0)) == 0
        assert len(RawArray(code, 0)) == 0
    assert fastmp.Array("i", 0)[:] == []
    assert fastmp.Array("c", 0)[:] == fastmp.Array("c", 0).value == b""
    for make in (fastmp.Array, RawArray):
        with pytest.raises(ValueError):
            make("i", -1)
        with pytest.raises(MemoryError):
            make("i", 2**45)
        with pytest.raises(OverflowError):
            make("i", 2**62)
        with pytest.raises(OverflowError):
            make("i", 2**70)


@pytest.mark.parametrize("bad", ["x", "ii", "", 3, None, int, [], b"i", object()])
def test_a_bad_typecode_is_a_type_error(bad):
    for make in (fastmp.Value, RawValue, lambda code: fastmp.Array(code, 2), lambda code: RawArray(code, 2)):
        with pytest.raises(TypeError):
            make(bad)
    with pytest.raises(TypeError, match="bad typecode 'x'"):
        fastmp.Value("x")


def test_typecodes():
    assert set(typecode_to_type) == set(CODES)
    for code, ctype in typecode_to_type.items():
        assert type(fastmp.Value(code).get_obj()) is ctype
        assert type(fastmp.Value(ctype).get_obj()) is ctype
        assert type(RawValue(code)) is ctype
        assert type(RawArray(code, 2)) is ctype * 2
        assert type(fastmp.Array(code, 2).get_obj()) is ctype * 2


def test_too_many_arguments():
    with pytest.raises(TypeError, match="at most 1 argument"):
        fastmp.Value("i", 1, 2)
    with pytest.raises(TypeError):
        fastmp.Value("i", foo=1)
    with pytest.raises(TypeError):
        fastmp.Array("i", 3, fastmp.Lock())


def test_a_value_cannot_be_deleted():
    value, text = fastmp.Value("i"), fastmp.Array("c", 3)
    for obj, name in ((value, "value"), (text, "value"), (text, "raw")):
        with pytest.raises(AttributeError):
            delattr(obj, name)


# ---- strings -------------------------------------------------------------------------------------------


def test_strings():
    text = fastmp.Array("c", 6)
    assert type(text) is SynchronizedString
    text.value = b"hello"
    assert text.value == b"hello"
    assert text.raw == text[:] == b"hello\0"
    text.raw = b"ab"
    assert text.raw == b"abllo\0"
    assert text[0] == b"a"
    text[1] = b"\0"
    assert text.value == b"a"
    assert text[::-2] == b"\0l\0"
    text[2:4] = b"xy"
    assert text.raw == b"a\0xyo\0"
    for wrong, error in ((b"x" * 7, ValueError), ("text", TypeError)):
        with pytest.raises(error):
            text.value = wrong
        with pytest.raises(error):
            text.raw = wrong
    assert text.get_lock().acquire(False)  # nothing keeps it after an error
    text.get_lock().release()


def test_wide_strings_are_arrays():
    text = fastmp.Array("u", "abc")
    assert type(text) is SynchronizedArray
    assert text[:] == "abc"
    assert text[1] == "b"
    assert not hasattr(text, "value")


# ---- types ---------------------------------------------------------------------------------------------


def test_the_types_are_those_of_the_standard_library():
    assert type(fastmp.Value("i")) is Synchronized
    assert type(fastmp.Array("i", 2)) is SynchronizedArray
    assert issubclass(SynchronizedString, SynchronizedArray)
    for sub in (Synchronized, SynchronizedArray):
        assert issubclass(sub, SynchronizedBase)
    assert [t.__name__ for t in (Synchronized, SynchronizedArray)] == ["Synchronized", "SynchronizedArray"]
    assert Synchronized.__module__ == "fastmp.sharedctypes"


def test_reprs():
    assert repr(fastmp.Value("i", 5)) == "<Synchronized wrapper for c_int(5)>"
    assert repr(fastmp.Value("c", b"a")) == "<Synchronized wrapper for c_char(b'a')>"
    array = fastmp.Array("i", 3)
    assert repr(array) == f"<SynchronizedArray wrapper for {array.get_obj()!r}>"
    assert "c_int_Array_3 object" in repr(array)
    point = fastmp.Value(Point)
    assert repr(point) == f"<SynchronizedPoint wrapper for {point.get_obj()!r}>"


def test_structures():
    point = fastmp.Value(Point, 1, 2.5)
    assert type(point).__name__ == "SynchronizedPoint"
    assert type(point) is type(fastmp.Value(Point))
    assert isinstance(point, SynchronizedBase)
    assert (point.x, point.y) == (1, 2.5)
    point.x = 7
    assert point.get_obj().x == 7
    assert outcome(setattr, point, "x", "a") == outcome(setattr, Point(), "x", "a")
    with pytest.raises(TypeError):
        fastmp.Value(Point, 1, 2, 3)
    inherited = fastmp.Value(Point3, 1, 2.5, 3)
    assert (inherited.x, inherited.y, inherited.z) == (1, 2.5, 3)
    number = fastmp.Value(Number, 258)
    assert number.bytes[:2] == [2, 1] if sys.byteorder == "little" else number.whole == 258


def test_arrays_of_structures_and_of_arrays():
    points = fastmp.Array(Point, [(1, 2.5), (3, 4.5)])
    assert type(points) is SynchronizedArray
    assert len(points) == 2
    assert [(p.x, p.y) for p in points] == [(1, 2.5), (3, 4.5)]
    points[0].x = 9
    points[1] = Point(5, 6)
    assert [p.x for p in points[:]] == [9, 5]
    with pytest.raises(IndexError):
        points[2]
    rows = fastmp.Array(ctypes.c_int * 2, 3)
    rows[1][0] = 4
    assert [row[:] for row in rows] == [[0, 0], [4, 0], [0, 0]]
    assert fastmp.Value(ctypes.c_int * 3, 1, 2, 3)[:] == [1, 2, 3]
    assert type(fastmp.Value(ctypes.c_char * 3)) is SynchronizedString


class Doubling(ctypes.c_int * 2):
    """An array type with an idea of its own about items."""

    def __getitem__(self, i):
        return 2 * super().__getitem__(i)


def test_types_derived_from_simple_ones_keep_their_behaviour():
    assert fastmp.Value(Doubling, 1, 2)[1] == 4
    sub = type("Sub", (ctypes.c_int,), {})
    assert isinstance(fastmp.Array(sub, 1)[0], sub)
    assert fastmp.Value(sub, 4).value == 4
    assert fastmp.Value(ctypes.c_int.__ctype_be__, 4).value == 4


def test_types_without_values_of_their_own():
    with pytest.raises(AttributeError):
        fastmp.Value(ctypes.POINTER(ctypes.c_int))
    with pytest.raises(AttributeError):
        synchronized(5)


# ---- locks ---------------------------------------------------------------------------------------------


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


# ---- memory --------------------------------------------------------------------------------------------


def test_the_ctypes_object_is_on_the_same_memory():
    value, array = fastmp.Value("d", 1.5), fastmp.Array("i", [1, 2])
    assert value.get_obj() is value._obj is value.get_obj()
    value.get_obj().value = 2.5
    assert value.value == 2.5
    array.get_obj()[1] = 9
    array[0] = 8
    assert array[:] == array.get_obj()[:] == [8, 9]


def test_memory_outlives_the_value():
    array = fastmp.Array("i", [1, 2])
    obj, view, lock = array.get_obj(), memoryview(array), array.get_lock()
    del array
    gc.collect()
    assert obj[:] == view.tolist() == [1, 2]
    with lock:
        obj[0] = 5
    assert view[0] == 5
    del obj
    assert view.tolist() == [5, 2]


def test_buffers():
    for code in CODES:
        if code in "cu":
            continue
        view = memoryview(fastmp.Array(code, [1, 2, 3]))
        assert view.format == typecode_to_type[code]._type_
        assert view.shape == (3,)
        assert view.tolist() == [1, 2, 3]
        view[1] = 7
        assert view.obj[1] == 7
    assert bytes(fastmp.Array("c", b"abc")) == b"abc"
    scalar = memoryview(fastmp.Value("i", 5))
    assert scalar.ndim == 0
    assert scalar[()] == 5
    assert memoryview(fastmp.Array(Point, 2)).nbytes == ctypes.sizeof(Point * 2)
    assert memoryview(fastmp.Array("i", 0)).tolist() == []


def test_numpy_works_on_the_memory():
    numpy = pytest.importorskip("numpy")
    array = fastmp.Array("d", [1, 2, 3])
    ones = numpy.frombuffer(array.get_obj())
    ones += 1
    assert array[:] == [2, 3, 4]
    assert numpy.frombuffer(array, dtype=float)[2] == 4
    numbers = numpy.ctypeslib.as_array(fastmp.Array("i", [1, 2]).get_obj())
    assert numbers.sum() == 3
    array[:] = numpy.arange(3.0)
    assert array[:] == [0, 1, 2]
    assert fastmp.Array("i", numpy.arange(3))[:] == [0, 1, 2]
    assert fastmp.Value("i", numpy.int64(4)).value == 4


def test_one_object_holds_the_items_and_the_lock():
    before = _core.arena_info()["objects"]
    value, array = fastmp.Value("i", 1), fastmp.Array("d", [1, 2])
    assert _core.arena_info()["objects"] == before + 2
    handles = [value.get_lock(), value.get_obj(), array.get_lock(), array.get_obj(), memoryview(array)]
    assert _core.arena_info()["objects"] == before + 2
    del value, array, handles
    assert _core.arena_info()["objects"] == before  # no cycle that waits for the collector


def test_heap_names():
    wrapper = heap.BufferWrapper(8)
    view = wrapper.create_memoryview()
    view[0] = 5
    assert ctypes.c_int8.from_buffer(wrapper).value == 5
    assert heap.BufferWrapper(0).create_memoryview().nbytes == 0
    assert heap.Arena(16).buffer.nbytes == heap.Heap().malloc(16).size == 16
    for size, error in ((-1, ValueError), (2**65, OverflowError), (2.5, TypeError)):
        with pytest.raises(error):
            heap.BufferWrapper(size)


# ---- processes -----------------------------------------------------------------------------------------


def change_everything(value, array, text, point, raw):
    value.value += 1.5
    array[:] = [-x for x in array]
    text.value = b"child"
    point.x, point.y = 7, -2.5
    raw[1] = 8
    with array.get_lock():
        array.get_obj()[0] = 99


def test_a_child_changes_what_its_parent_sees(in_children):
    shared = (
        fastmp.Value("d", 1.0),
        fastmp.Array("i", range(4)),
        fastmp.Array("c", 8),
        fastmp.Value(Point, 1),
        RawArray("h", 3),
    )
    in_children((change_everything, *shared))
    value, array, text, point, raw = shared
    assert value.value == 2.5
    assert array[:] == [99, -1, -2, -3]
    assert text.value == b"child"
    assert (point.x, point.y) == (7, -2.5)
    assert raw[:] == [0, 8, 0]


def leave_value(value):
    value.value = 3
    value.get_lock()
    del value
    gc.collect()


def test_a_child_that_drops_it_takes_nothing_away(in_children):
    value = fastmp.Value("i", 1)
    in_children((leave_value, value))
    assert value.value == 3


def add_under_lock(value, n):
    for _ in range(n):
        with value.get_lock():
            value.value += 1


def move_units(array, n):
    for i in range(n):
        with array:
            array[i % 4] += 1
            array[(i + 1) % 4] -= 1


@pytest.mark.parametrize("lock", [True, "given"])
def test_no_increment_is_lost(lock, in_children):
    value = fastmp.Value("i", 0, lock=fastmp.RLock() if lock == "given" else True)
    array = fastmp.Array("q", 4, lock=value.get_lock())
    in_children(
        *[(add_under_lock, value, 3000)] * 3,
        (move_units, array, 3000),
        beside=lambda children: move_units(array, 1000),
    )
    assert value.value == 9000
    assert sum(array) == 0


def write_rows(array, row, n):
    for i in range(n):
        array[:] = [row * 1000 + i] * len(array)


def test_slices_are_written_and_read_whole(in_children):
    array = fastmp.Array("i", 64)

    def read(children):
        while any(child.is_alive() for child in children):
            assert len(set(array[:])) == 1

    in_children((write_rows, array, 1, 1500), (write_rows, array, 2, 1500), beside=read)


def hold_for_ever(shared, held):
    shared.get_lock().acquire()
    held.set()
    signal.pause()


@pytest.mark.parametrize("code", ["i", "array", Point])
def test_a_killed_holder_hinders_nobody(code, ctx, finish):
    shared = fastmp.Array("i", [5]) if code == "array" else fastmp.Value(code, 5)
    held = ctx.Event()
    child = ctx.Process(target=hold_for_ever, args=(shared, held))
    child.start()
    assert held.wait(DEADLINE)
    assert not shared.get_lock().acquire(False)
    child.kill()
    finish(child)
    assert child.exitcode == -signal.SIGKILL
    if isinstance(shared, SynchronizedArray):
        assert shared[0] == 5
    else:
        assert (shared.x if hasattr(shared, "x") else shared.value) == 5
    with shared.get_lock():
        assert repr(shared.get_lock()) == "<RLock(MainProcess, 1)>"


def test_os_fork():
    value = fastmp.Value("i", 1)
    with value:
        child = os.fork()
        if child == 0:
            value.get_obj().value = 2  # the lock is the parent's
            _core.leave()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert value.value == 2
