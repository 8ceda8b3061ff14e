"""concurrent.futures.ProcessPoolExecutor on fastmp: with a context of ours beside the standard library, and
on fastmp alone after install()."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import pytest

import fastmp

DEADLINE = 30
METHODS = fastmp.get_all_start_methods()


def square(x):
    return x * x


def fail(x):
    raise ZeroDivisionError(x)


def pid_of(_):
    return os.getpid()


def echo(data):
    return data


@pytest.fixture
def executor(ctx):
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        yield executor


def test_submit(executor):
    futures = [executor.submit(square, i) for i in range(300)]
    assert [future.result(DEADLINE) for future in futures] == [i * i for i in range(300)]


def test_workers_are_processes_of_ours(executor):
    assert executor.submit(pid_of, 0).result(DEADLINE) != os.getpid()
    assert all(isinstance(p, fastmp.process.BaseProcess) for p in executor._processes.values())


@pytest.mark.parametrize("chunksize", [1, 7])
def test_map(executor, chunksize):
    assert list(executor.map(square, range(50), chunksize=chunksize)) == [i * i for i in range(50)]


def test_large_arguments_and_results(executor):
    data = os.urandom(1 << 20) * 5
    assert executor.submit(echo, data).result(DEADLINE) == data


def test_exceptions_arrive(executor):
    futures = {executor.submit(fail, i): i for i in range(5)}
    for future in as_completed(futures, DEADLINE):
        with pytest.raises(ZeroDivisionError, match=str(futures[future])):
            future.result()
    assert executor.submit(square, 3).result(DEADLINE) == 9


def test_what_cannot_be_pickled_fails_alone(executor):
    future = executor.submit(square, lambda: None)
    with pytest.raises(Exception, match=r"pickle|local"):
        future.result(DEADLINE)
    assert executor.submit(square, 3).result(DEADLINE) == 9


def test_in_an_event_loop(executor):
    async def run():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, square, i) for i in range(10)))

    assert asyncio.run(run()) == [i * i for i in range(10)]


def test_a_result_that_is_a_handle(executor):
    queue = executor.submit(fastmp.Queue).result(DEADLINE)
    queue.put("here")
    assert queue.get() == "here"


# ---- its end ----------------------------------------------------------------------------------------------


def die(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_dead_worker_breaks_the_pool(ctx, how):
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert executor.submit(square, 2).result(DEADLINE) == 4
        future = executor.submit(*((os._exit, 1) if how is None else (die, how)))
        with pytest.raises(BrokenProcessPool):
            future.result(DEADLINE)
        with pytest.raises(BrokenProcessPool):
            executor.submit(square, 2)


def test_an_idle_worker_that_is_killed_breaks_the_pool(ctx):
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        os.kill(executor.submit(pid_of, 0).result(DEADLINE), signal.SIGKILL)
        future = None
        with pytest.raises(BrokenProcessPool):
            while True:  # until its death was noticed
                future = executor.submit(square, 1)
                future.result(DEADLINE)


def acquire_and_say(entered, gate):
    entered.release()
    return gate.acquire(timeout=DEADLINE)


def keep_for_workers(*things):
    keep_for_workers.things = things


def enter():
    return acquire_and_say(*keep_for_workers.things)


def test_shutdown_may_cancel_what_waits(ctx):
    entered, gate = ctx.Semaphore(0), ctx.Semaphore(0)
    executor = ProcessPoolExecutor(1, mp_context=ctx, initializer=keep_for_workers, initargs=(entered, gate))
    futures = [executor.submit(enter) for _ in range(20)]
    assert entered.acquire(timeout=DEADLINE)
    last_cancelled = threading.Event()
    futures[-1].add_done_callback(lambda _: last_cancelled.set())
    executor.shutdown(wait=False, cancel_futures=True)
    assert last_cancelled.wait(DEADLINE)
    for _ in futures:
        gate.release()
    done = [future for future in futures if not future.cancelled()]
    assert 1 <= len(done) <= 5  # those that were in the call queue
    assert all(future.result(DEADLINE) for future in done)


def test_shutdown_lets_finish_what_was_submitted(ctx):
    executor = ProcessPoolExecutor(2, mp_context=ctx)
    futures = [executor.submit(square, i) for i in range(50)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    assert [future.result(DEADLINE) for future in futures] == [i * i for i in range(50)]
    executor.shutdown(wait=True)


def initialize_badly():
    raise ArithmeticError("no way")


def test_an_initializer_that_raises_breaks_the_pool(ctx):
    with ProcessPoolExecutor(1, mp_context=ctx, initializer=initialize_badly) as executor:
        future = executor.submit(square, 1)
        with pytest.raises(BrokenProcessPool):
            future.result(DEADLINE)


def test_workers_are_replaced_after_some_tasks(ctx, start_method):
    if start_method == "fork":
        with pytest.raises(ValueError, match="max_tasks_per_child"):
            ProcessPoolExecutor(1, mp_context=ctx, max_tasks_per_child=2)
        return
    with ProcessPoolExecutor(1, mp_context=ctx, max_tasks_per_child=2) as executor:
        pids = [executor.submit(pid_of, 0).result(DEADLINE) for _ in range(6)]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3


def test_pools_come_and_go(ctx):
    for i in range(5):
        with ProcessPoolExecutor(1, mp_context=ctx) as executor:
            assert executor.submit(square, i).result(DEADLINE) == i * i


# ---- programs ---------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
{head}
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

def work(x, lock=None):
    if lock is not None:
        assert lock.acquire(timeout=20)
    return x + 1, type(multiprocessing.current_process()).__module__.partition(".")[0]

def run():
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        modules = set()
        for x, (y, module) in enumerate(executor.map(work, range(20))):
            assert y == x + 1
            modules.add(module)
        print(*modules)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        try:
            executor.submit(os._exit, 3).result(20)
        except BrokenProcessPool:
            print("broken")
    {more}

if __name__ == "__main__":
    run()
"""
MORE = """
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        lock = context.Lock()
        executor.submit(work, 1, lock).result(20)
        assert not lock.acquire(False)
"""


def output_of(tmp_path, source, *options):
    script = tmp_path / "program.py"
    script.write_text(source)
    run = subprocess.run(
        [sys.executable, *options, script], capture_output=True, text=True, timeout=2 * DEADLINE
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.parametrize("method", METHODS)
def test_beside_the_standard_library(tmp_path, method):
    source = PROGRAM.format(head="import fastmp as multiprocessing", method=method, more="")
    assert output_of(tmp_path, source) == ["fastmp", "broken"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("before", ["", "import concurrent.futures.process"])
def test_after_install(tmp_path, method, before):
    head = f"{before}\nimport fastmp; fastmp.install(); import multiprocessing"
    source = PROGRAM.format(head=head, method=method, more=MORE)
    assert output_of(tmp_path, source) == ["fastmp", "broken"]


@pytest.mark.parametrize("method", METHODS)
def test_under_python_m_fastmp(tmp_path, method):
    source = PROGRAM.format(head="import multiprocessing", method=method, more=MORE)
    assert output_of(tmp_path, source, "-m", "fastmp") == ["fastmp", "broken"]
