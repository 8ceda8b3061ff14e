"""Queues that lend: what is received lies where it was put."""

import gc
import os
import pickle
import signal

import pytest
from targets import Unwilling
from waiting import DEADLINE, join

from fastmp import _core

LARGE = 3 << 20


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue"])
def lending(ctx, request):
    """Makes queues that lend."""
    return lambda zero_copy=True: getattr(ctx, request.param)(zero_copy=zero_copy)


class Buffer:
    """An object around a buffer, as arrays are, that is not copied when it is unpickled."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Buffer, (pickle.PickleBuffer(self.data),)


def pattern(seed, size=LARGE):
    return bytes((seed + i) % 251 for i in range(251)) * (size // 251)


def test_a_buffer_stays_where_it_is(lending):
    q = lending()
    gc.collect()
    before = _core.arena_info()
    q.put([Buffer(pattern(1)), "and", Buffer(pattern(2, 20000))])
    one, word, two = q.get()
    assert (bytes(one.data), word, bytes(two.data)) == (pattern(1), "and", pattern(2, 20000))
    assert one.data.readonly
    assert two.data.readonly
    assert _core.arena_info()["bytes"] - before["bytes"] > LARGE
    part = one.data[5:7]
    del one, two
    assert bytes(part) == pattern(1)[5:7]
    assert _core.arena_info()["bytes"] - before["bytes"] > LARGE
    del part
    assert _core.arena_info() == before


def test_writable_buffers(lending):
    q = lending("writable")
    q.put([Buffer(bytearray(pattern(1))), Buffer(pattern(3))])
    got, bytes_are_not = q.get()
    got.data[3:6] = b"abc"
    assert bytes_are_not.data.readonly
    q.put(Buffer(pattern(2)))
    assert bytes(q.get().data) == pattern(2)
    assert bytes(got.data) == pattern(1)[:3] + b"abc" + pattern(1)[6:]


def test_arrays_lie_in_shared_memory(lending):
    numpy = pytest.importorskip("numpy")
    q = lending()
    array = numpy.arange(100_000.0).reshape(100, 1000)
    for many in (False, True):
        if many:
            q.put_many([array, array])
            got, other = q.get_many(2)
            assert (other == array).all()
        else:
            q.put(array)
            got = q.get()
        assert (got == array).all()
        assert not got.flags.writeable
        assert got.ctypes.data % 64 == 0
    q.put(array.T[:7])
    assert (q.get() == array.T[:7]).all()


def test_what_is_small_or_no_buffer_is_as_without(lending):
    q = lending()
    for item in (1, b"x" * LARGE, bytearray(LARGE), "text" * 9000, [None]):
        q.put(item)
        got = q.get()
        assert got == item
        assert type(got) is type(item)


@pytest.mark.parametrize("zero_copy", [None, "read", 2, []])
def test_zero_copy_is_one_of_three(ctx, zero_copy):
    with pytest.raises(ValueError, match="zero_copy"):
        ctx.Queue(zero_copy=zero_copy)


def test_children_lend_as_well(lending, start):
    q, back = lending(), lending(False)

    def take():
        got = q.get()
        back.put((got.data.readonly, bytes(got.data) == pattern(3)))

    child = start(take)
    q.put(Buffer(pattern(3)))
    assert back.get(timeout=DEADLINE) == (True, True)
    join(child)


@pytest.mark.start_methods("fork", reason="a fork is what is tested")
@pytest.mark.parametrize("end", ["normal", "kill"])
def test_a_forked_child_keeps_what_it_has_a_view_of(lending, start, ctx, end):
    q, there, look, result = lending(), ctx.Event(), ctx.Event(), ctx.Queue()
    gc.collect()
    before = _core.arena_info()["blocks"]
    q.put(Buffer(pattern(4)))
    got = [q.get()]

    def use():
        there.set()
        look.wait(DEADLINE)
        result.put(bytes(got[0].data) == pattern(4))
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        got.clear()

    child = start(use)
    assert there.wait(DEADLINE)
    got.clear()
    others = []
    for seed in (5, 6):  # take none of its memory
        q.put(Buffer(pattern(seed)))
        others.append(q.get())
    look.set()
    assert result.get(timeout=DEADLINE)
    join(child, 0 if end == "normal" else -signal.SIGKILL)
    assert [bytes(other.data) for other in others] == [pattern(5), pattern(6)]
    others.clear()
    assert _core.arena_info()["blocks"] == before


def test_what_a_killed_process_borrowed_is_freed(lending, start, ctx):
    q, there = lending(), ctx.Event()
    gc.collect()
    before = _core.arena_info()["blocks"]

    def borrow():
        got = [q.get() for _ in range(3)]
        there.set()
        signal.pause()
        del got

    child = start(borrow)
    for seed in range(3):
        q.put(Buffer(pattern(seed)))
    assert there.wait(DEADLINE)
    child.kill()
    join(child, -signal.SIGKILL)
    assert _core.arena_info()["blocks"] == before


def test_a_lent_message_that_cannot_be_read_is_freed(lending):
    q = lending()
    gc.collect()
    before = _core.arena_info()
    q.put([Buffer(pattern(1)), Unwilling()])
    with pytest.raises(KeyError):
        q.get()
    gc.collect()
    assert _core.arena_info() == before


def test_locks_beside_lent_buffers(lending, ctx):
    q, lock = lending(), ctx.Lock()
    q.put((Buffer(pattern(1)), lock))
    got, other = q.get()
    lock.acquire()
    assert other.locked()
    assert bytes(got.data) == pattern(1)
