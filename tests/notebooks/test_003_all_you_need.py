"""Notebook 003, "Multiprocessing is all you need": names, what is shared and what is not, the maps of a pool.

Where the notebook sleeps for seconds to show when results come, a task waits here for its gate, an
event that the test opens.
"""

import gc
import os
import time

import pytest
import terminal  # noqa: F401  # for children

from fastmp import Array, Barrier, Event, Manager, Pool, Process, current_process

NUMBERS = [5, 10, 15, 20, 25]


def double_by_pid(number):
    result = number * 2
    proc = os.getpid()
    print(f"{number} doubled to {result} by process id: {proc}")
    return result


def test_each_number_is_doubled_by_a_process_of_its_own(printed, finish):
    procs = []
    for number in NUMBERS:
        proc = Process(target=double_by_pid, args=(number,))
        procs.append(proc)
        proc.start()
    finish(*procs)
    assert sorted(printed()) == sorted(
        f"{number} doubled to {number * 2} by process id: {proc.pid}"
        for number, proc in zip(NUMBERS, procs, strict=True)
    )
    assert len({proc.pid for proc in procs} | {os.getpid()}) == 6


def double_by_name(number):
    result = number * 2
    proc_name = current_process().name
    print(f"{number} doubled to {result} by: {proc_name}")


def test_names_count_processes_made_not_processes_started(printed, finish):
    procs = []
    never_started = Process(target=double_by_name, args=(5,))
    number_of_it = int(never_started.name.removeprefix("Process-"))
    for number in NUMBERS:
        proc = Process(target=double_by_name, args=(number,))
        procs.append(proc)
        proc.start()
    proc = Process(target=double_by_name, name="Test", args=(2,))
    proc.start()
    procs.append(proc)
    finish(*procs)
    assert sorted(printed()) == sorted(
        [f"{n} doubled to {n * 2} by: Process-{number_of_it + i}" for i, n in enumerate(NUMBERS, 1)]
        + ["2 doubled to 4 by: Test"]
    )


def double_into(number, results):
    result = number * 2
    proc = os.getpid()
    results[proc] = result
    print(f"{number} doubled to {result} by process id: {proc}")


def run_double_into(results, finish):
    procs = []
    for number in NUMBERS:
        proc = Process(target=double_into, args=(number, results))
        procs.append(proc)
        proc.start()
    finish(*procs)
    return {proc.pid: number * 2 for proc, number in zip(procs, NUMBERS, strict=True)}


def test_a_plain_dictionary_is_not_shared(printed, finish):
    results = dict()
    expected = run_double_into(results, finish)
    assert results == {}
    assert len(printed()) == len(expected) == 5


def test_a_managed_dictionary_is_shared(printed, finish):
    manager = Manager()
    results = manager.dict()
    expected = run_double_into(results, finish)
    assert results.copy() == expected
    assert eval(str(results)) == expected
    assert len(printed()) == 5


def double_item(index, arr):
    arr[index] = arr[index] * 2


def test_an_array_is_shared(finish):
    procs = []
    arr = Array("d", NUMBERS)
    assert arr[:] == [5.0, 10.0, 15.0, 20.0, 25.0]
    for index, _ in enumerate(NUMBERS):
        proc = Process(target=double_item, args=(index, arr))
        procs.append(proc)
        proc.start()
    finish(*procs)
    assert arr[:] == [10.0, 20.0, 30.0, 40.0, 50.0]


# The pools of the notebook are never closed: the next one takes their place and name.
never_closed = pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")


def double(number):
    return number * 2


@never_closed
def test_a_pool_that_is_never_closed_ends_with_its_last_reference():
    pool = Pool(processes=3)
    assert list(pool.map(double, [5, 10, 20])) == [10, 20, 40]
    workers = list(pool._pool)
    del pool
    deadline = time.monotonic() + 30
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert len(workers) == 3
    assert not any(worker.is_alive() for worker in workers)


shared = {}


def remember(**things):
    """Initializer of the pools below: keeps what their tasks wait for."""
    shared.update(things)


def remember_gates(gates, done):
    remember(gates=gates, done=done)


def remember_barrier(barrier):
    remember(barrier=barrier)


def double_together(number):
    shared["barrier"].wait(30)
    return number * 2


@never_closed
def test_three_workers_work_at_the_same_time():
    pool = Pool(processes=3, initializer=remember_barrier, initargs=(Barrier(3),))
    assert list(pool.map(double_together, [5, 10, 20])) == [10, 20, 40]


def double_behind_gate(number):
    assert shared["gates"][number - 1].wait(30)
    shared["done"][number - 1].set()
    return number * 2


class GatedPool:
    """A pool of three, and a gate for each of its tasks 1, 2 and 3."""

    def __init__(self):
        self.gates = [Event() for _ in range(3)]
        self.done = [Event() for _ in range(3)]
        self.pool = Pool(processes=3, initializer=remember_gates, initargs=(self.gates, self.done))

    def let_through(self, number):
        self.gates[number - 1].set()
        assert self.done[number - 1].wait(30)


@never_closed
def test_map_gives_all_results_at_once():
    gated = GatedPool()
    result = gated.pool.map_async(double_behind_gate, [1, 2, 3])
    gated.let_through(1)
    gated.let_through(2)
    assert not result.ready()
    gated.let_through(3)
    assert result.get(30) == [2, 4, 6]


@never_closed
def test_imap_gives_each_result_as_soon_as_it_is_there():
    gated = GatedPool()
    results = gated.pool.imap(double_behind_gate, [1, 2, 3])
    received = []
    for number in [1, 2, 3]:
        gated.let_through(number)
        received.append(results.next(30))
    assert received == [2, 4, 6]
    with pytest.raises(StopIteration):
        next(results)


@never_closed
def test_imap_keeps_the_order_when_the_last_task_is_done_first():
    gated = GatedPool()
    results = gated.pool.imap(double_behind_gate, [1, 2, 3])
    for number in [3, 2, 1]:
        gated.let_through(number)
    assert list(results) == [2, 4, 6]


@never_closed
def test_imap_unordered_gives_results_in_the_order_of_their_completion():
    gated = GatedPool()
    results = gated.pool.imap_unordered(double_behind_gate, [1, 2, 3])
    received = []
    for number in [3, 2, 1]:
        gated.let_through(number)
        received.append(results.next(30))
    assert received == [6, 4, 2]
    with pytest.raises(StopIteration):
        next(results)
