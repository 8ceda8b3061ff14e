"""Value, Array and their raw kin beside ctypes, whose answers to odd values are the right ones."""

import ctypes
import sys
from operator import getitem

import pytest
from sharedctypes_targets import CODES, Number, Point, Point3, outcome, put

import fastmp
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

TYPES = [*CODES, ctypes.c_bool, ctypes.c_longdouble, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]


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
