"""How tasks get to the workers of a pool: functions that travel once, tasks that wait for each other, and
what is given back."""

import contextlib
import functools
import os
import signal
import sys

import pytest
from leftovers import collect_garbage
from waiting import DEADLINE, wait_until

from fastmp import _core
from fastmp.pool import WorkerDied

parent_only = pytest.mark.start_methods("fork")


shared = {}


def share(**values):
    shared.update(values)


def share_pair(first, second):
    share(first=first, second=second)


def square(x):
    return x * x


def cube(x):
    return x * x * x


# ---- none waits for one that is slow ---------------------------------------------------------------


def wait_in_first(x):
    """The first task waits for the last, which opens the gate; all others go past it."""
    if x == 0:
        assert shared["first"].wait(DEADLINE)
    elif x == 200:
        shared["first"].set()
    return x


def calls_with_chunks_of_one(pool, function, inputs):
    yield pool.map(function, inputs, 1)
    yield list(pool.imap(function, inputs))
    yield sorted(pool.imap_unordered(function, inputs))
    yield [r.get(DEADLINE) for r in [pool.apply_async(function, (x,)) for x in inputs]]


def test_no_task_waits_behind_a_slow_one(ctx):
    gate = ctx.Event()
    with ctx.Pool(2, share_pair, (gate, None)) as p:
        for values in calls_with_chunks_of_one(p, wait_in_first, range(201)):
            assert values == list(range(201))
            assert gate.is_set()
            gate.clear()
    p.join()


def fast_then_slow(x):
    if x == 1:
        assert shared["first"].wait(DEADLINE)
    return x


def test_no_result_waits_behind_a_slow_task(ctx):
    gate = ctx.Event()
    with ctx.Pool(1, share_pair, (gate, None)) as p:
        it = p.imap(fast_then_slow, range(3))
        assert next(it) == 0  # while the only worker is in the middle of the next task
        gate.set()
        assert list(it) == [1, 2]
    p.join()


def count_and_die(x):
    shared["first"].put(x)
    if x == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_only_what_was_begun_dies_and_nothing_runs_twice(ctx):
    ran = ctx.Queue()
    values, errors = [], []
    with ctx.Pool(2, share_pair, (ran, None)) as p:
        it = p.imap(count_and_die, range(300))
        while True:
            try:
                values.append(next(it))
            except StopIteration:
                break
            except WorkerDied as e:
                errors.append(str(e))
    p.join()
    assert values == [x for x in range(300) if x != 7]
    assert len(errors) == 1
    assert "task 7 of the imap of count_and_die" in errors[0]
    assert sorted(ran.get(timeout=DEADLINE) for _ in range(300)) == list(range(300))
    assert ran.empty()


# ---- functions -------------------------------------------------------------------------------------


MANY = [
    *(abs, len, str, repr, int, float, bool, complex, list, tuple, set, frozenset, dict, sum, min, max),
    *(sorted, hash, iter, ascii, square, cube, bytes, bytearray, str.upper),
]


def test_many_functions_at_the_same_time(pool):
    calls = [(f, x) for x in ("12", (3, 4), b"ab") for f in MANY if f not in (iter,)]
    results = [(f, x, pool.apply_async(f, (x,))) for f, x in calls * 20]
    for f, x, result in results:
        try:
            expected = f(x)
        except Exception as e:
            with pytest.raises(type(e)):
                result.get(DEADLINE)
        else:
            got = result.get(DEADLINE)
            if f is not hash:  # of strings: each interpreter has its own
                assert got == expected


def hold_up(x):
    assert shared["first"].wait(DEADLINE)
    return x


def test_functions_change_while_tasks_of_all_are_out(ctx):
    """More of them than the board has places for."""
    gate = ctx.Event()
    with ctx.Pool(1, share_pair, (gate, None)) as p:
        held = p.apply_async(hold_up, (1,))
        functions = [f for f in MANY if f not in (iter, hash, dict, sum)]
        results = [(f, p.apply_async(f, ("34",))) for f in functions * 3]
        gate.set()
        assert held.get(DEADLINE) == 1
        for f, result in results:
            try:
                expected = f("34")
            except Exception as e:
                with pytest.raises(type(e)):
                    result.get(DEADLINE)
            else:
                assert result.get(DEADLINE) == expected
    p.join()


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self, x):
        self.count += 1
        return self.count

    def count_up(self, x):
        return self(x)


@pytest.mark.parametrize("what", ["object", "method", "partial"])
def test_what_has_a_state_is_new_for_each_task(pool, what):
    """As in the standard library: what a task changes in it, no other task sees."""
    counter = Counter()
    function = {"object": counter, "method": counter.count_up, "partial": functools.partial(counter)}[what]
    assert pool.map(function, range(10), 1) == [1] * 10
    assert list(pool.imap(function, range(10))) == [1] * 10
    assert [pool.apply(function, (0,)) for _ in range(3)] == [1] * 3
    assert pool.map(function, range(6), 3) == [1, 2, 3] * 2


def test_what_has_a_state_is_seen_as_it_is_when_it_is_sent(pool):
    counter, items = Counter(), [1]
    assert pool.apply(counter, (0,)) == 1
    assert pool.apply(items.index, (1,)) == 0
    counter.count = 5
    items.insert(0, 2)
    assert pool.apply(counter, (0,)) == 6
    assert pool.apply(items.index, (1,)) == 1


def test_starmap_of_odd_arguments(pool):
    assert pool.starmap(divmod, [[7, 2], (9, 4), {8: 0, 3: 0}], 1) == [(3, 1), (2, 1), (2, 2)]
    assert pool.starmap(divmod, [[7, 2], (9, 4)], 2) == [(3, 1), (2, 1)]
    with pytest.raises(TypeError):
        pool.starmap(divmod, [5], 1)


def test_maps_of_every_kind_of_input(pool):
    expected = [x * x for x in range(50)]
    for inputs in (range(50), list(range(50)), tuple(range(50)), dict.fromkeys(range(50)), iter(range(50))):
        assert pool.map(square, inputs) == expected
    for size in (1, 2, 7, 49, 50, 51, 10**6):
        assert pool.map(square, range(50), size) == expected
        assert list(pool.imap(square, tuple(range(50)), size)) == expected
        assert pool.map_async(square, list(range(50)), size).get(DEADLINE) == expected
    assert pool.map(square, range(40, 0, -3), 4) == [x * x for x in range(40, 0, -3)]


def raise_stop(x):
    raise StopIteration(x)


def test_a_task_that_raises_stop_iteration(pool):
    with pytest.raises(StopIteration):
        pool.apply(raise_stop, (1,))
    with pytest.raises(StopIteration):
        pool.map(raise_stop, [1, 2], 1)


# ---- what is given back ----------------------------------------------------------------------------


def use(pool):
    pool.apply(square, (3,))
    [r.get() for r in [pool.apply_async(square, (x,)) for x in range(3)]]
    pool.map(square, range(6), 1)
    pool.map(square, range(6), 2)
    list(pool.imap(square, range(6)))
    list(pool.imap(square, range(6), 2))
    list(pool.imap_unordered(square, iter(range(3))))
    for function in (cube, abs, Counter()):
        pool.map(function, range(2), 1)
    for bad in ("a", b"a"):
        with contextlib.suppress(TypeError):
            pool.apply(square, (bad,))
        with contextlib.suppress(TypeError):
            list(pool.imap(square, [1, bad]))


def blocks_of_python():
    collect_garbage()
    return sys.getallocatedblocks()


def settled(pool):
    wait_until(lambda: not pool._cache)


@parent_only
@pytest.mark.deadline(120)
def test_calls_leave_nothing(ctx):
    with ctx.Pool(2) as p:
        for _ in range(150):  # until lists of free objects are as long as they get
            use(p)
        settled(p)
        python, arena = blocks_of_python(), _core.arena_info()["blocks"]
        for _ in range(300):
            use(p)
        settled(p)
        assert blocks_of_python() - python < 250  # one for each use is a leak
        assert _core.arena_info()["blocks"] <= arena
    p.join()


@parent_only
@pytest.mark.deadline(120)
def test_dropped_results_leave_nothing(ctx):
    with ctx.Pool(2) as p:

        def drop():
            for x in range(50):
                p.apply_async(square, (x,))
                p.imap(square, range(3))
                p.map_async(square, range(3), 1)
            settled(p)

        for _ in range(5):
            drop()
        python = blocks_of_python()
        for _ in range(20):
            drop()
        assert blocks_of_python() - python < 800  # of 3000 calls
    p.join()
