"""Value and Array: the memory that they stand for, and buffers over it."""

import array as arrays
import ctypes
import gc
import threading

import pytest
from sharedctypes_targets import CODES, Point

import fastmp
from fastmp import _core, heap
from fastmp.sharedctypes import (
    typecode_to_type,
)


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


@pytest.mark.parametrize("code", "bBhHiIlLqQfd")
def test_slices_take_buffers(code):
    array = fastmp.Array(code, 10)
    array[:] = arrays.array(code, range(10))
    assert array[:] == list(range(10))
    array[2:5] = memoryview(arrays.array(code, [7, 8, 9]))
    array[8:5:-1] = memoryview(arrays.array(code, [1, 0, 2, 0, 3, 0]))[::2]
    assert array[:] == [0, 1, 7, 8, 9, 5, 3, 2, 1, 9]
    other = fastmp.Array(code, array[:][::-1])
    array[:] = other
    assert array[:] == other[:]
    array[1:] = memoryview(array)[:-1]  # its own cells
    assert array[:] == [other[0], *other[:9]]


def test_other_buffers_are_left_to_ctypes():
    doubles, plain = fastmp.Array("d", 3), (ctypes.c_double * 3)()
    for value in (
        arrays.array("i", [1, 2, 3]),
        arrays.array("d", [1, 2]),
        b"abc",
        memoryview(b"\x01" * 24).cast("d", (3, 1)),
        memoryview(bytearray(24)).cast("B"),
    ):
        for target in (plain, doubles):
            try:
                target[:] = value
                outcome = target[:]
            except Exception as error:
                outcome = (type(error), str(error))
            if target is plain:
                expected = outcome
        assert outcome == expected
    with pytest.raises(TypeError):
        fastmp.Array("i", 3)[:] = arrays.array("d", [1.5, 2, 3])


def test_characters_take_bytes():
    array = fastmp.Array("c", 5)
    array[:] = b"hello"
    array[1:3] = bytearray(b"up")
    assert array.value == b"huplo"
    with pytest.raises(ValueError):
        array[:] = b"four"


def test_slices_and_arrays_of_numpy():
    numpy = pytest.importorskip("numpy")
    array = fastmp.Array("d", 100_000)
    array[:] = numpy.arange(100_000.0)
    with array.get_lock():
        view = numpy.asarray(array)
        view *= 2
    assert array[99_999] == 199_998
    array[::2] = numpy.arange(50_000.0)[::-1]
    assert array[:4] == [49_999, 2, 49_998, 6]
    array[:3] = numpy.array([1, 2, 3])  # other types are converted, one by one
    assert array[:3] == [1, 2, 3]


def test_a_slice_from_a_buffer_waits_for_the_lock():
    array = fastmp.Array("i", 3)
    stored = threading.Thread(target=array.__setitem__, args=(slice(None), arrays.array("i", [1, 2, 3])))
    with array.get_lock():
        stored.start()
        assert array[:] == [0, 0, 0]
    stored.join(20)
    assert array[:] == [1, 2, 3]


def test_a_value_is_no_number():
    for code in "id":
        value = fastmp.Value(code, 3)
        for convert in (int, float, complex):
            with pytest.raises(TypeError):
                convert(value)
        assert memoryview(value)[()] == 3
        assert bytes(value) == bytes(value.get_obj())


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
