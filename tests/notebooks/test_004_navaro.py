"""Notebook 004, "Multiprocessing" by Navaro: each object once, in its shortest program."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import terminal  # noqa: F401  # for children

from fastmp import Array, Lock, Manager, Pipe, Pool, Process, Queue, Value, cpu_count, current_process


def square_plus_one(x):
    return x * x + 1


def test_pool():
    with Pool(4) as p:
        assert p.map(square_plus_one, list(range(8))) == [1, 2, 5, 10, 17, 26, 37, 50]


@pytest.mark.start_methods("fork")  # this module is a file, not a notebook: others import what is in it
def test_workers_see_the_newest_definition():
    """Most cells of the notebook define `f` anew."""
    global f

    def f(x):
        return x + 1

    with Pool(2) as p:
        assert p.map(f, [1, 2]) == [2, 3]

    def f(x):
        return x * 10

    with Pool(2) as p:
        assert p.map(f, [1, 2]) == [10, 20]


def hello(name):
    print("hello", name)


def test_process(printed, finish):
    p = Process(target=hello, args=("bob",))
    p.start()
    finish(p)
    assert printed() == ["hello bob"]
    assert p.exitcode == 0


def put_list(q):
    q.put([42, None, "hello"])


def test_queue(finish):
    q = Queue()
    p = Process(target=put_list, args=(q,))
    p.start()
    assert q.get(timeout=30) == [42, None, "hello"]
    finish(p)


def send_list(conn):
    conn.send([42, None, "hello"])
    conn.close()


def test_pipe(finish):
    parent_conn, child_conn = Pipe()
    p = Process(target=send_list, args=(child_conn,))
    p.start()
    assert parent_conn.poll(30)
    assert parent_conn.recv() == [42, None, "hello"]
    finish(p)


def print_locked(lock, i):
    lock.acquire()
    try:
        print(i, end=" ", flush=True)
    finally:
        lock.release()


def test_ten_children_print_under_a_lock(child_output, finish_all):
    lock = Lock()
    for num in range(10):
        Process(target=print_locked, args=(lock, num)).start()
    finish_all()
    assert sorted(child_output.readouterr().out.split()) == [str(num) for num in range(10)]


def print_unlocked(i):
    print(i, end=" ")


def test_ten_children_print_without_a_lock(child_output, finish_all):
    for num in range(10):
        Process(target=print_unlocked, args=(num,)).start()
    finish_all()
    assert sorted(child_output.readouterr().out.replace(" ", "")) == [str(num) for num in range(10)]


def write_shared(n, a):
    n.value = 3.1415927
    for i in range(len(a)):
        a[i] = -a[i]


def test_value_and_array(finish):
    num = Value("d", 0.0)
    arr = Array("i", range(10))
    p = Process(target=write_shared, args=(num, arr))
    p.start()
    finish(p)
    assert num.value == 3.1415927
    assert arr[:] == [0, -1, -2, -3, -4, -5, -6, -7, -8, -9]


def change_proxies(d, numbers):
    d[1] = "1"
    d["2"] = 2
    d[0.25] = None
    numbers.reverse()


def test_manager(finish):
    with Manager() as manager:
        d = manager.dict()
        numbers = manager.list(range(10))
        p = Process(target=change_proxies, args=(d, numbers))
        p.start()
        finish(p)
        assert str(d) == "{1: '1', '2': 2, 0.25: None}"
        assert str(numbers) == "[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]"


def compute_pi(n):
    count = 0
    for _ in range(n):
        x = random.random()
        y = random.random()
        if x * x + y * y <= 1:
            count += 1
    return count


def test_workers_estimate_pi_each_with_random_numbers_of_its_own():
    assert cpu_count() >= 1
    np = 4
    n = 200_000
    part_count = [n // np for _ in range(np)]
    pool = Pool(processes=np)
    count = pool.map(compute_pi, part_count)
    pool.close()
    pool.join()
    assert 3.1 < 4 * sum(count) / n < 3.2
    assert len(set(count)) > 1


JOBLIB = """
import sys

import fastmp

fastmp.install()

from joblib import Parallel, delayed


def f(x):
    return x * x


if __name__ == "__main__":
    assert sys.modules["multiprocessing"] is fastmp
    print(Parallel(n_jobs=2)(delayed(f)(x) for x in range(10)))
    print(Parallel(n_jobs=2, backend="multiprocessing")(delayed(f)(x) for x in range(10)))
"""


@pytest.mark.imports_multiprocessing  # joblib does, not fastmp
def test_joblib(tmp_path):
    pytest.importorskip("joblib")
    program = Path(tmp_path, "program.py")
    program.write_text(JOBLIB)
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    squares = "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"
    assert (run.stdout.splitlines(), run.returncode) == ([squares, squares], 0), run.stderr


def double_by_name(number):
    """A doubling function that can be used by a process"""
    result = number * 2
    proc_name = current_process().name
    print(f"{number} doubled to {result} by: {proc_name}")


def test_names(printed, finish):
    numbers = [5, 10, 15, 20, 25]
    procs = []
    never_started = Process(target=double_by_name, args=(5,))
    first = int(never_started.name.removeprefix("Process-")) + 1
    for number in numbers:
        proc = Process(target=double_by_name, args=(number,))
        procs.append(proc)
        proc.start()
    proc = Process(target=double_by_name, name="Test", args=(2,))
    proc.start()
    procs.append(proc)
    finish(*procs)
    assert sorted(printed()) == sorted(
        [f"{n} doubled to {n * 2} by: Process-{first + i}" for i, n in enumerate(numbers)]
        + ["2 doubled to 4 by: Test"]
    )
