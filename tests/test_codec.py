"""Objects in messages of queues and boards: the native form of small values, pickles, buffers beside them."""

import math
import pickle

import numpy as np
import pytest

import fastmp


class Text(str):
    """Not exactly a str, so it is pickled."""


class Number(int):
    """Not exactly an int."""


NATIVE = [
    *(None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 0.5, -0.0, math.inf),
    *("", "abc", "č€𝄞\0", b"", b"\x80\x81", "x" * 100_000, b"y" * 2_000_000),
    *((), (1,), (1, "a", None, 2.5, b"b"), ((1, 2), (3,), ()), tuple(range(255))),
    *([], [1, "a", None, 2.5, b"b", (1, 2)], list(range(100_000)), ["x" * 16_000]),
    [(number, -number / 2, None, (True, ())) for number in range(10_000)],
]
PICKLED = [
    *(2**63, -(2**63) - 1, 10**100, "\ud800", tuple(range(256)), (((),),), (1, [2]), (2**64, 1)),
    *([[1], 2], [(1, [2])], ["x" * 17_000], [("a", 1)] * 2000, [*range(9999), "a"], {"a": 1}, {1, 2}),
    *(Text("abc"), Number(3), (Text("abc"),), bytearray(b"z" * 100_000)),
    *([b"w" * 200_000, b"v" * 200_000], 1j, pickle.loads),
]


@pytest.fixture
def queue():
    return fastmp.Queue()


@pytest.mark.parametrize("value", NATIVE + PICKLED, ids=lambda value: repr(value)[:20])
def test_a_value_arrives_as_it_was(queue, value):
    queue.put(value)
    arrived = queue.get()
    assert arrived == value
    assert type(arrived) is type(value)
    assert repr(arrived) == repr(value)  # -0.0, and types within


def test_nan(queue):
    queue.put((math.nan,))
    assert math.isnan(queue.get()[0])


@pytest.mark.parametrize("value", [7, "a", (1, 2), [3], b"q" * 100_000])
def test_bytes_of_an_object_are_a_pickle(queue, value):
    queue.put(value)
    assert pickle.loads(queue._reader.recv_bytes()) == value


def test_bytes_of_an_array_are_a_pickle(queue):
    queue.put(np.arange(100_000))
    assert (pickle.loads(queue._reader.recv_bytes()) == np.arange(100_000)).all()


@pytest.mark.parametrize("array", [np.arange(3), np.arange(300_000.0).reshape(3, -1), np.arange(90_000)[::2]])
def test_an_array_is_the_receivers_own(queue, array):
    queue.put(array)
    expected = array.copy()
    array[:] = 0  # what was put is what it was then
    arrived = queue.get()
    assert (arrived == expected).all()
    arrived[:] = 1
    assert arrived.flags.writeable


def test_an_array_that_may_not_be_written_stays_so(queue):
    array = np.arange(100_000)
    array.flags.writeable = False
    queue.put(array)
    assert not queue.get().flags.writeable


def test_what_was_one_object_stays_one(queue):
    array = np.zeros(100_000)
    queue.put([array, {"same": array}])
    first, second = queue.get()
    assert first is second["same"]


def test_a_list_may_be_in_itself(queue):
    items = [1]
    items.append(items)
    queue.put(items)
    arrived = queue.get()
    assert arrived[1] is arrived


def test_a_text_that_is_in_a_list_many_times_is_sent_once(queue):
    text = "some text" * 100
    queue.put([(number, text) for number in range(5000)])
    arrived = queue.get()
    assert arrived[0][1] == text
    assert arrived[0][1] is arrived[-1][1]


def double(array):
    return array * 2


def test_arrays_are_tasks_and_results_of_a_pool():
    with fastmp.get_context("fork").Pool(2) as pool:
        arrays = [np.full(100_000, number) for number in range(4)]
        for number, result in enumerate(pool.imap(double, arrays)):
            assert (result == 2 * number).all()


NO_PICKLES = [
    b"",
    b"\x80",
    b"i123",
    b"s\xff\xff\xff\xffabc",
    b"(\x05n",
    b"((((n",
    b"[\x01",
    b"[\xff\xff\xff\xffn",
    b"[\x02\x00\x00\x00n(",
    b"(\x01[\x00\x00\x00\x00",
    b"[\x01\x00\x00\x00[\x00\x00\x00\x00",
    b"nn",
    b"\x81",
    b"\x81" + b"\xff" * 100,
]


@pytest.mark.parametrize("contents", NO_PICKLES)
def test_bytes_that_are_no_pickle_are_an_exception(queue, contents):
    queue._writer.send_bytes(contents)
    queue.put(1)
    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        queue.get()
    assert queue.get() == 1
