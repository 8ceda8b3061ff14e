"""Processes: the object, from start to close."""

import os
import select
import signal
import sys
import threading

import pytest
from programs import run_python
from targets import sleep_long, wait_for
from waiting import DEADLINE, join

import fastmp
from fastmp import process


def test_arguments_are_checked(ctx):
    with pytest.raises(AssertionError, match="group argument must be None"):
        ctx.Process(group=1)
    with pytest.raises(TypeError):
        ctx.Process(args=3)
    with pytest.raises(TypeError):
        ctx.Process(kwargs=3)
    assert ctx.Process(kwargs=None)._kwargs == {}


def test_daemon_is_inherited_and_may_be_given(ctx):
    assert ctx.Process().daemon is False
    assert ctx.Process(daemon=True).daemon is True
    child = ctx.Process()
    child.daemon = True
    assert child.daemon is True


def test_name_must_be_a_string(ctx):
    child = ctx.Process(name="worker")
    assert child.name == "worker"
    with pytest.raises(AssertionError, match="name must be a string"):
        child.name = 3
    child.name = "other"
    assert child.name == "other"


def test_names_come_from_the_class_and_count_on(ctx):
    class MyProcess(fastmp.Process):
        pass

    numbers = []
    for kind in (fastmp.Process, ctx.Process, MyProcess):
        prefix, number = kind().name.split("-")
        assert prefix == kind.__name__
        numbers.append(int(number))
    assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_authkey(ctx):
    child = ctx.Process()
    assert child.authkey == fastmp.current_process().authkey
    assert len(child.authkey) == 32
    child.authkey = b"key"
    assert child.authkey == b"key"
    assert type(child.authkey) is process.AuthenticationString


def test_authkey_is_not_pickled_by_accident():
    with pytest.raises(TypeError, match="disallowed for security reasons"):
        fastmp.reduction.ForkingPickler.dumps(fastmp.current_process().authkey)


REPR = r"""
import os, re, sys, time
{imports}
ctx = mp.get_context("fork")
def shown(p):
    os.write(1, (re.sub(r"\d+", "N", repr(p)) + "\n").encode())
class Mine(ctx.Process):
    pass
may_end, let_end = os.pipe()
def child():
    shown(mp.current_process()); shown(mp.parent_process()); shown(a)
    os.read(may_end, 1)
a = ctx.Process(target=child)
shown(a); a.start(); shown(a); os.write(let_end, b"."); a.join(); shown(a); a.close(); shown(a)
b = Mine(target=time.sleep, args=(300,), name="it's", daemon=True)
shown(b); b.start(); shown(b); b.terminate(); b.join(); shown(b)
c = mp.Process(target=sys.exit, args=(7,))
c.start(); c.join(); shown(c)
shown(mp.current_process())
"""


def test_repr_is_that_of_the_standard_library():
    ours = run_python(REPR.format(imports="import fastmp as mp")).stdout
    theirs = run_python(REPR.format(imports="import multiprocessing as mp")).stdout

    # While the child runs it prints; sort what does not come from one process.
    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())
    assert "<ForkProcess name='ForkProcess-N' parent=N initial>" in ours


def test_before_the_start(ctx):
    child = ctx.Process()
    assert child.is_alive() is False
    assert child.exitcode is None
    assert child.pid is None
    with pytest.raises(ValueError, match="process not started"):
        child.sentinel  # noqa: B018
    with pytest.raises(AssertionError, match="can only join a started process"):
        child.join()
    with pytest.raises(AttributeError):
        child.terminate()


def test_start_twice(ctx):
    child = ctx.Process()
    child.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        child.start()
    join(child)
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        child.start()


def test_life(sleeper):
    assert sleeper.is_alive()
    assert sleeper.pid == sleeper.ident != os.getpid()
    assert sleeper.exitcode is None
    assert sleeper in fastmp.active_children()
    with pytest.raises(AssertionError, match="process has already started"):
        sleeper.daemon = True
    sleeper.terminate()
    join(sleeper, -signal.SIGTERM)
    assert not sleeper.is_alive()
    assert sleeper not in fastmp.active_children()
    sleeper.terminate()  # nobody is there any more, whoever has its number now
    sleeper.join()


@pytest.mark.parametrize("verb, sig", [("kill", signal.SIGKILL), ("terminate", signal.SIGTERM)])
def test_signals(sleeper, verb, sig):
    getattr(sleeper, verb)()
    join(sleeper, -sig)


def test_interrupt(ctx):
    started = ctx.Event()

    def interrupted():
        try:
            started.set()
            sleep_long()
        except KeyboardInterrupt:
            sys.exit(5)

    child = ctx.Process(target=interrupted)
    child.start()
    wait_for(started)
    child.interrupt()
    join(child, 5)


INTERRUPT_AT_ONCE = f"""
import time

def sleep_long():
    for _ in range({1000 * DEADLINE:.0f}):
        time.sleep(0.01)

for _ in range(50):
    child = fastmp.Process(target=sleep_long, daemon=True)
    child.start()
    child.interrupt()
    child.join({DEADLINE})
    assert child.exitcode == 1, child
print("the end")
"""


def test_an_interrupt_is_not_lost_however_early_it_comes():
    """The child ends, and does not go on with its parent's program.

    The program uses no other libraries: Python drops what is raised in their finalizers. It forks, as a new
    interpreter has a time in which SIGINT just ends it. It sleeps in many turns: one that begins right after
    Python looked for signals is not interrupted.
    """
    assert run_python(INTERRUPT_AT_ONCE, start_method="fork").stdout == "the end\n"


def test_join_with_a_timeout(sleeper):
    for timeout in (0, 0.01, -1):
        sleeper.join(timeout)
        assert sleeper.is_alive()


def test_sentinel(sleeper):
    poll = select.poll()
    poll.register(sleeper.sentinel, select.POLLIN)
    assert not poll.poll(0)
    sleeper.kill()
    assert poll.poll(DEADLINE * 1000)
    join(sleeper, -signal.SIGKILL)


def test_close(sleeper):
    with pytest.raises(ValueError, match="Cannot close a process while it is still running"):
        sleeper.close()
    sleeper.kill()
    sleeper.join(DEADLINE)
    sleeper.close()
    sleeper.close()
    for use in ("start", "join", "is_alive", "terminate", "kill", "interrupt"):
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(sleeper, use)()
    for attribute in ("exitcode", "ident", "pid", "sentinel"):
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(sleeper, attribute)
    assert sleeper.name


def test_target_and_arguments_are_let_go(ctx):
    child = ctx.Process(target=len, args=("",), kwargs={})
    child.start()
    assert not {"_target", "_args", "_kwargs"} & vars(child).keys()
    join(child)


def test_active_children_reaps(ctx):
    child = ctx.Process()
    child.start()
    poll = select.poll()
    poll.register(child.sentinel, select.POLLIN)
    assert poll.poll(DEADLINE * 1000)
    assert child not in fastmp.active_children()
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    assert child.exitcode == 0


def test_threads_may_join_the_same_process(sleeper):
    codes = []

    def join():
        sleeper.join(DEADLINE)
        codes.append(sleeper.exitcode)

    threads = [threading.Thread(target=join) for _ in range(4)]
    for thread in threads:
        thread.start()
    sleeper.kill()
    for thread in threads:
        thread.join(DEADLINE)
    assert codes == [-signal.SIGKILL] * 4


def test_subclass_with_run(ctx):
    class Echo(ctx.Process):
        def __init__(self, writer):
            super().__init__()
            self.writer = writer

        def run(self):
            self.writer.send((self.name, os.getpid()))

    reader, writer = ctx.Pipe(duplex=False)
    child = Echo(writer)
    child.start()
    assert reader.poll(DEADLINE)
    assert reader.recv() == (child.name, child.pid)
    join(child)


@pytest.mark.parametrize("target", ["ran.append", "None.append"])
def test_a_rehearsal_leaves_a_process_what_it_was(target):
    printed = run_python(f"""
import fastmp, os
from fastmp import process
ran, me = [], fastmp.current_process()
class Example(fastmp.Process):
    def run(self):
        assert (fastmp.current_process(), fastmp.parent_process().pid) == (self, os.getpid())
        {target}(1)
try: process.rehearse(Example())
except AttributeError: ran.append("failed")
assert fastmp.current_process() is me and fastmp.parent_process() is None
child = fastmp.Process(target=exit, args=(5,))
child.start(); child.join()
print(ran, fastmp.active_children(), child.exitcode)
""").stdout
    assert printed == f"[{1 if target == 'ran.append' else repr('failed')}] [] 5\n"


def test_popen_keeps_what_libraries_use(sleeper, start_method):
    popen = sleeper._popen
    assert popen.method == start_method
    assert popen.pid == sleeper.pid
    assert popen.sentinel == sleeper.sentinel
    assert popen.returncode is None
    assert popen.poll() is None
    assert popen.wait(0) is None
    assert callable(popen.duplicate_for_child)
    popen._send_signal(signal.SIGKILL)
    assert popen.poll(0) == -signal.SIGKILL == popen.returncode
    assert callable(popen.finalizer)
