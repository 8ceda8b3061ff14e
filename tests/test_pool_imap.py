"""Pools: imap and imap_unordered, whose input may be endless and whose results come one by one."""

import threading

import pytest
from pool_targets import fail_at_three, square, wait_at_one
from waiting import DEADLINE, wait_until

import fastmp
from fastmp._pool import desk

# What the parent does with calls and results is the same, whichever way the workers came to life.
pytestmark = pytest.mark.start_methods("fork")


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
@pytest.mark.parametrize("as_input", [list, iter])
def test_imap(pool, chunksize, buffersize, as_input):
    numbers = list(range(50))
    assert list(pool.imap(square, as_input(numbers), chunksize, buffersize)) == [x * x for x in numbers]
    it = pool.imap_unordered(square, as_input(numbers), chunksize, buffersize=buffersize)
    assert sorted(it) == [x * x for x in numbers]
    assert list(pool.imap(square, [], chunksize, buffersize)) == []


def test_imap_of_thousands(pool):
    assert list(pool.imap(square, range(5000))) == [x * x for x in range(5000)]
    assert list(pool.imap(square, iter(range(5000)))) == [x * x for x in range(5000)]
    assert sorted(pool.imap_unordered(square, range(5000), 10)) == [x * x for x in range(5000)]


def test_imap_next(pool):
    it = pool.imap(square, range(2))
    assert iter(it) is it
    assert it.next() == 0
    assert it.next(timeout=DEADLINE) == 1
    for _ in range(2):
        with pytest.raises(StopIteration):
            it.next()
    it = pool.imap(square, range(4), chunksize=2)
    assert [it.next(DEADLINE) for _ in range(4)] == [0, 1, 4, 9]


def test_imap_yields_before_its_input_ends(pool):
    go_on = threading.Event()

    def numbers():
        yield 1
        assert go_on.wait(DEADLINE)
        yield 2

    it = pool.imap(square, numbers())
    assert next(it) == 1
    assert pool.apply(square, (3,)) == 9  # others are not held up
    with pytest.raises(fastmp.TimeoutError):
        it.next(0.01)
    go_on.set()
    assert next(it) == 4


def test_imap_input_is_taken_in_a_thread(pool):
    threads = []

    def numbers():
        threads.append(threading.current_thread())
        yield 1

    assert list(pool.imap(square, numbers())) == [1]
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_imap_of_input_that_raises(pool, method, chunksize):
    def numbers():
        yield 1
        yield 2
        raise KeyError("input")

    it = getattr(pool, method)(square, numbers(), chunksize)
    results, errors = [], []
    for _ in range(3):
        try:
            results.append(it.next(DEADLINE))
        except KeyError as e:
            errors.append(e)
    assert sorted(results) == [1, 4]
    assert len(errors) == 1
    with pytest.raises(StopIteration):
        next(it)


@pytest.mark.parametrize("raised", [SystemExit, GeneratorExit, KeyboardInterrupt])
def test_imap_of_input_that_raises_anything(pool, raised):
    def numbers():
        yield 1
        raise raised

    it = pool.imap(square, numbers())
    assert next(it) == 1
    with pytest.raises(raised):
        next(it)


def test_imap_of_what_is_no_input(pool):
    with pytest.raises(TypeError):
        next(pool.imap(square, 5))


def test_imap_goes_on_after_an_error(pool):
    it = pool.imap(fail_at_three, range(5))
    seen = []
    for _ in range(5):
        try:
            seen.append(next(it))
        except ValueError as e:
            seen.append(str(e))
    assert seen == [0, 1, 2, "three", 4]


def test_buffersize_bounds_what_is_out(pool):
    taken = []

    def numbers():
        for x in range(30):
            taken.append(x)
            yield x

    it = pool.imap(square, numbers(), buffersize=4)
    for i, _ in enumerate(it):
        assert len(taken) <= i + 1 + 4
    assert len(taken) == 30


def test_who_waits_for_a_result_lets_the_input_go_on(ctx, pool):
    """Though most of the buffer is out still."""
    gate = ctx.Event()

    def numbers():
        for x in range(12):
            if x == 8:  # it is asked for when the first result was passed on
                gate.set()
            yield x, gate

    it = pool.imap(wait_at_one, numbers(), buffersize=8)
    assert next(it) == 0
    assert list(it) == list(range(1, 12))


def test_buffersize_of_a_function_that_goes_by_value(pool):
    offset = 3
    it = pool.imap(lambda x: x + offset, iter(range(50)), buffersize=4)
    assert list(it) == list(range(3, 53))


def test_buffersize_of_endless_input(pool):
    def numbers():
        x = 0
        while True:
            yield x
            x += 1

    it = pool.imap(square, numbers(), buffersize=3)
    assert [next(it) for _ in range(5)] == [0, 1, 4, 9, 16]


def test_buffersize_and_join_after_some_results(ctx):
    p = ctx.Pool(2)
    it = p.imap(square, iter(range(1000)), buffersize=2)
    assert next(it) == 0
    p.close()
    p.join()
    seen = []
    with pytest.raises(ValueError, match="Pool not running"):
        seen.extend(it)
    wait_until(lambda: not p._cache)


def test_buffersize_and_close_loses_nothing(ctx):
    p = ctx.Pool(2)
    it = p.imap(square, iter(range(100)), buffersize=2)
    p.close()
    assert list(it) == [x * x for x in range(100)]
    p.join()


def test_more_tasks_than_may_be_in_memory(pool, monkeypatch):
    monkeypatch.setattr(desk, "_LOAD_MOST", 1000)
    assert pool.map(square, range(500), 1) == [x * x for x in range(500)]
    assert pool.map_async(square, range(500), 1).get(DEADLINE) == [x * x for x in range(500)]
    assert list(pool.imap(square, range(500))) == [x * x for x in range(500)]
    assert list(pool.imap(square, iter(range(500)))) == [x * x for x in range(500)]
