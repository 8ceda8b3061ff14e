"""Programs with a pool: how they end, killed, interrupted or by themselves."""

import os
import select
import signal

import pytest
from programs import run_python, start_group
from waiting import DEADLINE, wait_until

parent_only = pytest.mark.start_methods("fork")


PROGRAM = """
import os, signal, sys, time, threading
import fastmp
from fastmp.pool import *
ctx = fastmp.get_context({method!r})

def square(x):
    return x * x

def sleep_long():
    while True:  # a sleep that begins right after Python looked for signals is not interrupted by them
        time.sleep(0.05)
"""


@pytest.fixture
def program(start_method):
    return PROGRAM.format(method=start_method)


def test_the_parent_is_killed(program):
    code = (
        program
        + """
p = ctx.Pool(3)
p.map(abs, range(10))
print(*(w.pid for w in p._pool), flush=True)
os.kill(os.getpid(), 9)
"""
    )
    done = run_python(code, check=False)
    poll = select.poll()
    for pid in map(int, done.stdout.split()):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll.register(fd, select.POLLIN)
        assert poll.poll(DEADLINE * 1000), "an orphan"
        poll.unregister(fd)
        os.close(fd)


@pytest.mark.parametrize(
    "rest",
    [
        "p = ctx.Pool(2)",
        "p = ctx.Pool(2); print(p.map(square, range(3)))",
        "p = ctx.Pool(2); p.apply_async(time.sleep, (1000,))",
        "p = ctx.Pool(2); p.apply_async(time.sleep, (1000,), callback=print); p.close()",
        "p = ctx.Pool(2); it = p.imap(square, iter(range(10**9))); next(it)",
        "p = ctx.Pool(2); it = p.imap(square, iter(range(10**9)), buffersize=3); next(it); sys.exit(0)",
        "ctx.Pool(2).apply_async(square, (2,))",
        "p = ctx.Pool(2); p.cycle = p",
    ],
)
def test_the_interpreter_ends_with_a_live_pool(rest, program):
    done = run_python(program + rest)
    assert done.stderr == ""


def test_what_tasks_print_is_not_lost(program):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = run_python(program + "with ctx.Pool(2) as p: p.map(print, range(20), 1)", env=environment)
    assert sorted(map(int, done.stdout.split())) == list(range(20))


# ---- interrupts ------------------------------------------------------------------------------------


def is_group(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def group_run(code, interrupt_after):
    """Run a program in a session of its own; interrupt the whole group when it has printed a line."""
    child = start_group("-c", code)
    for _ in range(interrupt_after):
        assert child.stdout.readline()
        os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=2 * DEADLINE)
    wait_until(lambda: not is_group(child.pid))  # a fork server ends after the program
    return child.returncode, out, err


@pytest.mark.parametrize(
    "wait",
    [
        "p.map(task, range(4), 1)",
        "p.apply(task, (1,))",
        "p.map_async(task, range(4), 1).get()",
        "list(p.imap(task, iter(range(4))))",
        "p.close(); p.apply_async; p.join()",
        "p.apply_async(task, (1,), callback=print).get()",
    ],
)
@pytest.mark.parametrize("form", ["with", "plain"])
@parent_only
def test_ctrl_c_ends_a_program_quietly(wait, form, program):
    interrupt(program, wait, form)


@pytest.mark.start_methods("spawn", "forkserver")
def test_ctrl_c_ends_a_program_with_other_workers_quietly(program):
    interrupt(program, "p.map(task, range(4), 1)", "with")


def interrupt(program, wait, form):
    code = program + "def task(x):\n    os.write(1, b'running\\n'); sleep_long()\n"
    if form == "with":
        code += f"with ctx.Pool(2) as p:\n    p.apply_async(task, (0,)); {wait}\n"
    else:
        code += f"p = ctx.Pool(2)\np.apply_async(task, (0,)); {wait}\n"
    returncode, _, err = group_run(code, 1)
    assert returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "PoolWorker" not in err


def test_a_pool_goes_on_after_an_interrupt(program):
    code = (
        program
        + """
def task(x):
    os.write(1, b"running\\n")
    sleep_long()

p = ctx.Pool(2)
pids = {w.pid for w in p._pool}
for call in [lambda: p.map(task, range(2), 1), lambda: p.apply(task, (1,)), lambda: list(p.imap(task, [1]))]:
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert p.map(square, range(10), 1) == [x * x for x in range(10)]
assert {w.pid for w in p._pool} == pids
p.close()
p.join()
print("end")
"""
    )
    child = start_group("-c", code)
    for running in (2, 1, 1):
        for _ in range(running):
            assert child.stdout.readline() == "running\n"
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
    assert child.stdout.readline() == "end\n"  # communicate() would not know of what was read ahead
    assert child.communicate(timeout=DEADLINE) == ("", "")
