"""Ctrl-C, signals, and the end of programs: no hang, no noise, no orphan.

Each test runs a program in a session of its own. When the program has ended nothing of that session may be
left, and it has printed to standard error what it should: mostly nothing.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import asleep, session_members
from programs import start_group

DEADLINE = 60
PATIENCE = 20  # seconds for orphans to notice that they are

PRELUDE = """
import gc, os, signal, sys, threading, time, warnings
import fastmp
from fastmp import connection

def sleep_long(*args):
    while True:  # a sleep that begins right after Python looked for signals is not interrupted by them
        time.sleep(0.05)

def double(x):
    return 2 * x

def nothing(*args):
    pass

def nap(number):
    time.sleep(0.01)

def get(queue):
    queue.get()

def say(word):
    print(word, flush=True)
"""


class Program:
    def __init__(self, folder: Path, method: str, body: str) -> None:
        script = folder / "program.py"
        lines = "".join(
            f"    {line}\n" for line in [f"ctx = fastmp.get_context({method!r})", *body.splitlines()]
        )
        script.write_text(f"{PRELUDE}\nif __name__ == '__main__':\n{lines}")
        self.process = start_group(script, cwd=folder)

    def expect(self, word: str) -> None:
        """Wait until it says this."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == word + "\n", line + self.process.communicate(timeout=DEADLINE)[1]

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to all."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self) -> tuple[int, str]:
        """Its exit code and what it wrote to standard error; nobody is left of it."""
        _, errors = self.process.communicate(timeout=DEADLINE)
        end = time.monotonic() + PATIENCE
        while left := session_members(self.process.pid):
            assert time.monotonic() < end, left
            time.sleep(0.01)
        return self.process.returncode, errors

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        program.kill()


@pytest.fixture
def launch(tmp_path, start_method, programs):
    """A function that starts a program with the context `ctx`."""

    def start(body: str) -> Program:
        programs.append(Program(tmp_path, start_method, body))
        return programs[-1]

    return start


# ---- Ctrl-C ------------------------------------------------------------------------------------

BLOCKING = {
    "lock": "call = (lock := ctx.Lock()).acquire; call()",
    "rlock": "lock = ctx.RLock(); threading.Thread(target=lock.acquire).start(); call = lock.acquire",
    "semaphore": "call = ctx.Semaphore(0).acquire",
    "event": "call = ctx.Event().wait",
    "condition": "condition = ctx.Condition(); condition.acquire(); call = condition.wait",
    "barrier": "call = ctx.Barrier(2).wait",
    "value": "value = ctx.Value('i'); threading.Thread(target=value.get_lock().acquire).start()\n"
    "call = value.get_lock().acquire",
    "queue get": "call = ctx.Queue().get",
    "queue put": "queue = ctx.Queue(1); queue.put(1); call = lambda: queue.put(2)",
    "simple queue": "call = ctx.SimpleQueue().get",
    "joinable queue": "queue = ctx.JoinableQueue(); queue.put(1); call = queue.join",
    "recv": "ends = ctx.Pipe(); call = ends[0].recv",
    "send": "ends = ctx.Pipe()\ndef call():\n    while True: ends[0].send_bytes(bytes(100_000))",
    "poll": "ends = ctx.Pipe(); call = lambda: ends[0].poll(None)",
    "connection.wait": "ends = ctx.Pipe(); call = lambda: connection.wait(ends)",
    "accept": "call = connection.Listener().accept",
    "process join": "child = ctx.Process(target=sleep_long, daemon=True); child.start(); call = child.join",
    "sentinel": "child = ctx.Process(target=sleep_long, daemon=True); child.start()\n"
    "call = lambda: connection.wait([child.sentinel])",
    "apply": "pool = ctx.Pool(2); call = lambda: pool.apply(sleep_long)",
    "map": "pool = ctx.Pool(2); call = lambda: pool.map(sleep_long, range(100))",
    "imap": "pool = ctx.Pool(2); call = pool.imap(sleep_long, range(100)).next",
    "result": "pool = ctx.Pool(2); call = pool.apply_async(sleep_long).get",
    "pool join": "pool = ctx.Pool(2); pool.apply_async(sleep_long); pool.close(); call = pool.join",
    "manager": "manager = ctx.Manager(); queue = manager.Queue(); call = queue.get",
}


@pytest.mark.parametrize("blocked_in", BLOCKING)
@pytest.mark.start_methods("fork", "forkserver")  # a spawned child is to signals what one of a fork server is
def test_ctrl_c_ends_a_program_that_is_blocked(launch, blocked_in):
    program = launch(
        f"{BLOCKING[blocked_in]}\n"
        "try:\n    say('ready')\n    call()\nexcept KeyboardInterrupt:\n    sys.exit(7)"
    )
    program.expect("ready")
    wait_until_asleep(program.process.pid)
    program.interrupt()
    code, errors = program.finish()
    assert code == 7, errors
    check_noise(errors)


@pytest.mark.parametrize("blocked_in", BLOCKING)
@pytest.mark.start_methods("fork")
def test_ctrl_c_that_nobody_catches(launch, blocked_in):
    """The interpreter's own end, with all that it cleans up."""
    program = launch(f"{BLOCKING[blocked_in]}\nsay('ready')\ncall()")
    program.expect("ready")
    wait_until_asleep(program.process.pid)
    program.interrupt()
    code, errors = program.finish()
    assert code == -signal.SIGINT, errors
    assert "KeyboardInterrupt" in errors
    check_noise(errors)


def check_noise(errors: str) -> None:
    """A process that was interrupted in a function of the user's says where, as it does everywhere."""
    assert not re.search("Error|Exception|Warning", errors), errors


def wait_until_asleep(pid: int) -> None:
    """Until the process, which has said that it is about to block, has done so."""
    end = time.monotonic() + DEADLINE
    while not asleep(pid):
        assert time.monotonic() < end, "it does not sleep"
        os.sched_yield()


# ---- the end of a program ------------------------------------------------------------------------------

ENDS = {
    "a pool": "pool = ctx.Pool(2); assert pool.map(double, [1, 2]) == [2, 4]",
    "a pool at work": "pool = ctx.Pool(2); results = [pool.apply_async(sleep_long) for _ in range(10)]",
    "a pool with callbacks": "pool = ctx.Pool(2); pool.apply_async(double, (1,), callback=say)\n"
    "pool.map_async(sleep_long, range(10), callback=say)",
    "a pool that is fed": "pool = ctx.Pool(2); it = pool.imap(double, iter(int, 1)); next(it)",
    "a closed pool": "pool = ctx.Pool(2); pool.apply_async(double, (1,)); pool.close()",
    "a pool of threads": "pool = fastmp.pool.ThreadPool(2); pool.apply_async(double, (1,))",
    "a full queue": "queue = ctx.Queue(); [queue.put(bytes(100_000)) for _ in range(50)]",
    "a daemon that waits": "queue = ctx.Queue(); ctx.Process(target=get, args=(queue,), daemon=True).start()",
    "a daemon that sleeps": "ctx.Process(target=sleep_long, daemon=True).start()",
    "a child that ends": "queue = ctx.Queue(); queue.put(1); ctx.Process(target=get, args=(queue,)).start()",
    "a manager": "manager = ctx.Manager(); items = manager.list([1, 2]); items.append(3)",
    "a manager with a pool": "manager = ctx.Manager(); pool = manager.Pool(2); pool.apply_async(sleep_long)",
    "a thread that waits": "queue = ctx.Queue(); threading.Thread(target=queue.get, daemon=True).start()",
    "a thread in a lock": "lock = ctx.Lock(); lock.acquire()\n"
    "threading.Thread(target=lock.acquire, daemon=True).start()",
    "a thread in a pipe": "ends = ctx.Pipe(); threading.Thread(target=ends[0].recv, daemon=True).start()",
    "a listener": "listener = connection.Listener()\n"
    "threading.Thread(target=listener.accept, daemon=True).start()",
    "everything in a cycle": "pool = ctx.Pool(2); manager = ctx.Manager(); queue = ctx.Queue()\n"
    "cycle = [pool, manager, queue]; cycle.append(cycle); del pool, manager, queue",
}


@pytest.mark.parametrize("alive", ENDS)
def test_a_program_ends_with_something_alive(launch, alive):
    code, errors = launch(f"{ENDS[alive]}\nsay('end')").finish()
    assert code == 0, errors
    assert errors == ""


@pytest.mark.parametrize("alive", [alive for alive in ENDS if "daemon" not in alive])
@pytest.mark.parametrize("how", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
@pytest.mark.start_methods("fork")
def test_a_program_ends_at_once(launch, alive, how):
    """Whoever works for it sees that it has gone."""
    body = ENDS[alive].replace("sleep_long", "nothing")
    code, errors = launch(f"{body}\n{how}").finish()
    assert code != 0
    assert errors == ""


@pytest.mark.start_methods("fork", "forkserver")
@pytest.mark.parametrize("alive", ["a pool", "a manager", "a pool that is fed", "a manager with a pool"])
def test_a_program_becomes_another_one(launch, alive):
    body = ENDS[alive].replace("sleep_long", "nothing")
    program = launch(f"{body}\nos.execv(sys.executable, [sys.executable, '-c', 'input()'])")
    assert program.process.stdout is not None
    end = time.monotonic() + PATIENCE
    while len(left := session_members(program.process.pid)) > 1:
        assert time.monotonic() < end, left
        time.sleep(0.01)


# ---- signals and forks beside a pool ----------------------------------------------------------------


def test_a_handler_of_sigterm_that_exits(launch):
    program = launch(
        "signal.signal(signal.SIGTERM, lambda *args: sys.exit(5))\n"
        "pool = ctx.Pool(2)\npool.map_async(sleep_long, range(10))\nsay('ready')\nsleep_long()"
    )
    program.expect("ready")
    program.process.terminate()
    assert program.finish() == (5, "")


def test_a_program_that_is_terminated(launch):
    program = launch("pool = ctx.Pool(2)\nmanager = ctx.Manager()\nsay('ready')\ntime.sleep(1000)")
    program.expect("ready")
    program.process.terminate()
    assert program.finish() == (-signal.SIGTERM, "")


@pytest.mark.parametrize(
    "waits_in", ["pool.map(nap, range(40))", "pool.apply(nap, (0,))", "time.sleep(0.05)"]
)
def test_a_handler_uses_the_pool(launch, waits_in):
    """While the program waits for the same pool, or for anything else."""
    program = launch(
        "def handler(*args):\n"
        "    assert pool.apply(abs, (-3,)) == 3\n"
        "    assert pool.map(abs, range(10)) == list(range(10))\n"
        "    say('handled')\n"
        "    sys.exit(6)\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        f"pool = ctx.Pool(2)\npool.map(abs, range(10))\nsay('ready')\nwhile True:\n    {waits_in}"
    )
    program.expect("ready")
    program.process.send_signal(signal.SIGALRM)
    program.expect("handled")
    assert program.finish() == (6, "")


@pytest.mark.parametrize("verb", ["close", "terminate"])
def test_a_handler_ends_the_pool(launch, verb):
    program = launch(
        "def handler(*args):\n"
        f"    pool.{verb}()\n"
        "    pool.join()\n"
        "    sys.exit(6)\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        "pool = ctx.Pool(2)\nsay('ready')\n"
        "while True:\n    pool.map(abs, range(10000), chunksize=1)"
    )
    program.expect("ready")
    program.process.send_signal(signal.SIGALRM)
    assert program.finish() == (6, "")


@pytest.mark.parametrize("kind", ["ctx.Pool(2)", "fastmp.dummy.Pool(2)"])
@pytest.mark.parametrize("call", ["map(abs, [1, 2])", "apply(abs, [1])", "imap(abs, [1, 2]).next()"])
def test_a_handler_ends_the_pool_between_the_steps_of_a_call(launch, kind, call):
    """The job is known and none of its tasks is sent: who waits for it would wait for ever."""
    program = launch(
        f"import fastmp.dummy\npool = {kind}\nregister = pool._desk.register\n"
        "def handler(*args):\n    pool.close()\n    pool.join()\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        "def register_and_signal(job):\n    register(job)\n    signal.raise_signal(signal.SIGALRM)\n"
        "pool._desk.register = register_and_signal\n"
        f"try:\n    pool.{call}\nexcept ValueError as e:\n    sys.exit(6 if 'was joined' in str(e) else 7)"
    )
    assert program.finish() == (6, "")


def test_a_pool_that_is_dropped(launch):
    """Its workers go with it; the warning is the standard library's."""
    program = launch(
        "pool = ctx.Pool(2)\nassert pool.map(double, [1]) == [2]\nworkers = pool._pool\n"
        "del pool\ngc.collect()\nfor worker in workers:\n    worker.join(30)\n"
        "assert [worker.is_alive() for worker in workers] == [False, False]"
    )
    assert program.finish() == (0, "")


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()"])
def test_a_fork_of_the_users_ends(launch, end):
    """What its parent has is not its own to end."""
    program = launch(
        "pool, manager, queue = ctx.Pool(2), ctx.Manager(), ctx.Queue()\n"
        "items = manager.list([1])\nqueue.put(1)\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # a pool has a thread\n"
        f"pid = os.fork()\nif pid == 0:\n    {end}\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert pool.map(double, [1, 2]) == [2, 4]\nassert list(items) == [1]\nassert queue.get() == 1\n"
        "pool.terminate()\npool.join()"
    )
    assert program.finish() == (0, "")
