"""Queues: many items at once."""

import contextlib
import gc
import pickle
import queue
import subprocess
import sys

import pytest
from targets import Unwilling
from waiting import DEADLINE, interrupted, join

from fastmp import _core
from fastmp.connection import wait


def test_many_there_and_back(any_q):
    items = [None, 1, "two", (3, 4.0), [5], {6: b"7"}, bytes(1 << 20), bytearray(700)]
    assert any_q.put_many(items[:6]) == 6
    assert any_q.get_many(4) == items[:4]
    any_q.put(items[6])
    assert any_q.get() == items[4]
    assert any_q.get_many(max_items=100, timeout=DEADLINE) == items[5:7]
    assert any_q.put_many(iter(items[7:]), block=True, timeout=None) == 1
    assert any_q.get_many(1) == items[7:]
    assert any_q.put_many([]) == 0
    assert any_q.empty()


def test_more_than_fit_into_one_critical_section(q):
    assert q.put_many(range(5000)) == 5000
    assert q.qsize() == 5000
    assert q.get_many(3000) == list(range(3000))
    assert q.get_many(3000) == list(range(3000, 5000))
    assert q.empty()


def test_get_many_of_an_empty_queue(any_q):
    with pytest.raises(queue.Empty):
        any_q.get_many(3, False)
    with pytest.raises(queue.Empty):
        any_q.get_many(3, timeout=0.01)
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            any_q.get_many(wrong)
    with pytest.raises(TypeError):
        any_q.get_many("one")
    with pytest.raises(TypeError):
        any_q.put_many(1)


@pytest.mark.parametrize(
    ("call", "error"), [("get_many(1, False)", "Empty()"), ("put_many([1, 2], False)", "Full(1)")]
)
def test_the_first_exception_of_a_program(call, error):
    """The module that they come from is imported for it."""
    program = f"import fastmp\ntry:\n    fastmp.Queue(1).{call}\nexcept Exception as e:\n    print(repr(e))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (error + "\n", "")


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_full_says_how_many_were_put(ctx, kind):
    q = getattr(ctx, kind)(3)
    for timeout in (0, 0.01):
        q.put(0)
        with pytest.raises(queue.Full) as caught:
            q.put_many([1, 2, 3, 4], timeout=timeout)
        assert caught.value.args == (2,)
        assert q.get_many(9) == [0, 1, 2]
    with pytest.raises(queue.Full) as caught:
        q.put_many(iter(range(1000)), False)
    assert caught.value.args == (3,)
    assert q.get_many(2) == [0, 1]
    assert q.put_many([3, 4], False) == 2
    assert q.get_many(9) == [2, 3, 4]


def test_put_many_waits_for_room(ctx, start):
    q = ctx.Queue(10)
    child = start(lambda: q.put_many(range(2000)))
    taken = []
    while len(taken) < 2000:
        taken += q.get_many(7, timeout=DEADLINE)
    assert taken == list(range(2000))
    join(child)


def test_batches_of_many_producers_and_consumers(ctx, start):
    q, results = ctx.Queue(), ctx.Queue()

    def produce(who):
        for i in range(0, 2000, 50):
            q.put_many((who, n) for n in range(i, i + 50))

    def consume():
        seen = []
        while not seen or seen[-1] is not None:
            got = q.get_many(1 + len(seen) % 60)
            if None in got:  # the others' marks
                q.put_many(got[got.index(None) + 1 :])
                del got[got.index(None) + 1 :]
            seen += got
        results.put(seen[:-1])

    producers = [start(produce, who) for who in range(3)]
    consumers = [start(consume) for _ in range(3)]
    for child in producers:
        join(child)
    q.put_many([None] * 3)
    lists = [results.get(timeout=DEADLINE) for _ in consumers]
    for items in lists:
        for who in range(3):
            mine = [i for w, i in items if w == who]
            assert mine == sorted(mine)
    assert sorted(item for items in lists for item in items) == [
        (w, i) for w in range(3) for i in range(2000)
    ]
    for child in consumers:
        join(child)


def test_what_came_before_an_error_is_put(q):
    def broken():
        yield from range(300)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        q.put_many(broken())
    assert q.get_many(1000) == list(range(300))
    with pytest.raises((pickle.PicklingError, AttributeError)):
        q.put_many([1, 2, lambda: 3, 4])
    assert q.get_many(1000) == [1, 2]


def test_the_others_of_a_batch_are_found_on_the_error(q):
    q.put_many([1, Unwilling(), 2, Unwilling(), 3])
    with pytest.raises(KeyError) as caught:
        q.get_many(4)
    one, two, other = caught.value.got
    assert (one, two) == (1, 2)
    assert isinstance(other, KeyError)
    assert q.get_many(4) == [3]


def test_tasks_of_a_batch(ctx):
    q = ctx.JoinableQueue()
    q.put_many(range(4))
    for _ in q.get_many(4):
        q.task_done()
    q.join()


def test_batches_and_closed_queues(q):
    q.close()
    with pytest.raises(ValueError):
        q.put_many([1])
    with pytest.raises(ValueError):
        q.get_many(1)


def test_a_batch_calms_the_descriptor(any_q):
    reader = any_q._reader
    assert not wait([reader], 0)
    any_q.put_many(range(3))
    assert wait([reader], DEADLINE) == [reader]
    any_q.get_many(2)
    assert wait([reader], 0) == [reader]
    any_q.get_many(2)
    assert not wait([reader], 0)


def test_batches_of_locks_travel(any_q, ctx, start):
    locks = [ctx.Lock() for _ in range(5)]
    any_q.put_many(locks)
    for lock, mine in zip(any_q.get_many(5), locks, strict=True):
        mine.acquire()
        assert lock.locked()


def test_ctrl_c_of_batches(ctx):
    q = ctx.Queue(2)
    interrupted(lambda: q.get_many(2), lambda: q.put_many(range(9)))
    assert q.get_many(9) == [0, 1]


def test_batches_leave_nothing(ctx):
    gc.collect()  # what other tests left in cycles
    q = ctx.Queue()
    before = _core.arena_info()
    for _ in range(3):
        q.put_many([bytes(n * 100) for n in range(200)])
        q.get_many(150)
        q.get_many(150)
    with contextlib.suppress(queue.Full):
        ctx.Queue(5).put_many((bytes(1000) for _ in range(20)), False)
    gc.collect()
    assert _core.arena_info() == before
