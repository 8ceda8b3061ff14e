"""Notebook 000, "Knihovna multiprocessing": processes, queues, pipes, a barrier, shared data, a pool."""

import os
import re
import threading
import time

import pytest
import terminal  # noqa: F401  # for children

import fastmp as multiprocessing
from fastmp import Array, Barrier, Event, Pipe, Pool, Process, Queue, Value

NUMBERS = [1, 2, 3, 4, 5]


def print_square(x):
    print(x * x)


def test_each_process_prints_a_square(printed, finish):
    processes = []
    for number in NUMBERS:
        process = multiprocessing.Process(target=print_square, args=(number,))
        processes.append(process)
        process.start()
    finish(*processes)
    assert sorted(map(int, printed())) == [1, 4, 9, 16, 25]
    assert [process.exitcode for process in processes] == [0] * 5


def vypocet(both=None):
    if both is not None:
        both.wait(30)
    a = 0
    for i in range(100_000):
        a += i
    return a


def test_computation():
    assert vypocet() == 4999950000


def test_two_threads_compute():
    threads = [threading.Thread(target=vypocet) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_two_processes_compute_at_the_same_time(finish):
    both = Barrier(2)  # nobody gets through unless both are running
    processes = [Process(target=vypocet, args=(both,)) for _ in range(2)]
    for process in processes:
        process.start()
    finish(*processes)
    assert [process.exitcode for process in processes] == [0, 0]
    assert not both.broken


def put_square(x, output_queue):
    output_queue.put(x * x)


def test_queue_has_all_results_once_its_writers_are_joined(finish):
    output_queue = Queue()
    processes = []
    for number in NUMBERS:
        process = Process(target=put_square, args=(number, output_queue))
        processes.append(process)
        process.start()
    finish(*processes)
    results = []
    while not output_queue.empty():
        results.append(output_queue.get())
    assert sorted(results) == [1, 4, 9, 16, 25]


def send_powers(x, conn):
    conn.send(x * x)
    conn.send(x * x * x)
    conn.close()


def test_pipe_keeps_what_was_sent_after_the_sender_has_gone(finish):
    processes = []
    parent_conns = []
    for number in NUMBERS:
        parent_conn, child_conn = Pipe()
        parent_conns.append(parent_conn)
        process = Process(target=send_powers, args=(number, child_conn))
        processes.append(process)
        process.start()
    finish(*processes)
    received = []
    for parent_conn in parent_conns:
        received.append(parent_conn.recv())
        received.append(parent_conn.recv())
        parent_conn.close()
    assert received == [1, 1, 4, 8, 9, 27, 16, 64, 25, 125]


def say_hello(conn, may_send):
    may_send.wait(30)
    conn.send("Hello from child process!")
    conn.close()


def test_poll_waits_for_a_message(printed, finish):
    may_send = Event()
    parent_conn, child_conn = Pipe()
    p = Process(target=say_hello, args=(child_conn, may_send))
    p.start()
    rounds = 0
    while not parent_conn.poll(0.02 if rounds < 3 else 30):
        print("No message received yet, waiting...")
        rounds += 1
        if rounds == 3:
            may_send.set()
    message = parent_conn.recv()
    print(f"Received message: {message}")
    finish(p)
    assert printed() == ["No message received yet, waiting..."] * 3 + [
        "Received message: Hello from child process!"
    ]


def test_poll_is_true_when_the_other_side_has_closed(finish):
    parent_conn, child_conn = Pipe()
    with parent_conn:
        p = Process(target=child_conn.close)
        p.start()
        child_conn.close()
        finish(p)
        assert parent_conn.poll(30) is True
        with pytest.raises(EOFError):
            parent_conn.recv()


def pass_barrier(barrier, number):
    print(f"Worker {number} - before barrier")
    barrier.wait(30)
    print(f"Worker {number} - after barrier")


def test_no_worker_passes_the_barrier_before_all_have_reached_it(printed, finish):
    num_workers = 5
    barrier = Barrier(num_workers)
    processes = [Process(target=pass_barrier, args=(barrier, i)) for i in range(num_workers)]
    for process in processes:
        process.start()
    finish(*processes)
    lines = printed()
    assert sorted(lines[:5]) == [f"Worker {i} - before barrier" for i in range(5)]
    assert sorted(lines[5:]) == [f"Worker {i} - after barrier" for i in range(5)]


def negate(n, a):
    for i in range(len(a)):
        a[i] = -a[i]
    n.value = 1


def wait_and_show(n, a):
    while n.value == 0:
        print("Waiting...")
        time.sleep(0.001)
    print(a[:])


def test_one_process_sees_what_another_has_written(printed, finish):
    num = Value("d", 0.0)
    arr = Array("i", range(10))
    p2 = Process(target=wait_and_show, args=(num, arr))
    p2.start()
    p1 = Process(target=negate, args=(num, arr))
    p1.start()
    finish(p1, p2)
    assert [line for line in printed() if line != "Waiting..."] == ["[0, -1, -2, -3, -4, -5, -6, -7, -8, -9]"]
    assert num.value == 1.0
    assert arr[:] == [-i for i in range(10)]


def report_and_square(x):
    process_id = os.getpid()
    print(f"Process ID: {process_id} zpracovává číslo {x}\n", end="")
    return x * x


def test_pool_maps_in_order_each_number_once(printed):
    numbers = list(range(10))
    with Pool(processes=4) as pool:
        results = pool.map(report_and_square, numbers)
    print(results)
    *reports, last = printed()
    assert last == "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"
    found = [re.fullmatch(r"Process ID: (\d+) zpracovává číslo (\d+)", line).groups() for line in reports]
    assert sorted(int(number) for _, number in found) == numbers
    pids = {int(pid) for pid, _ in found}
    assert 1 <= len(pids) <= 4
    assert os.getpid() not in pids
