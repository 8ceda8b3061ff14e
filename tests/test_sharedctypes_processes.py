"""Value and Array among processes."""

import gc
import os
import signal

import pytest
from sharedctypes_targets import Point
from waiting import DEADLINE

import fastmp
from fastmp import _core
from fastmp.sharedctypes import (
    RawArray,
    SynchronizedArray,
)


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
