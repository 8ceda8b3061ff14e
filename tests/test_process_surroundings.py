"""Processes: what a child finds, and what the members of a family know about each other."""

import os
import random
import select
import signal
import threading
import warnings

import pytest
from programs import run_python
from waiting import DEADLINE, join

import fastmp
from fastmp import process


def test_stdin_is_empty(start_method):
    done = run_python(
        "import fastmp, sys\n"
        "def f(): print(repr(sys.stdin.read()), sys.stdin.fileno() > 0, sys.stdin.encoding)\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n"
        "print(sys.stdin.read())\n",
        input="for the parent",
        start_method=start_method,
    )
    assert done.stdout == "'' True utf-8\nfor the parent\n"


@pytest.mark.start_methods("fork")  # others have one of their own
def test_no_stdin_at_all(start_method):
    done = run_python(
        "import fastmp, sys\n"
        "sys.stdin = None\n"
        "p = fastmp.Process(target=lambda: print(sys.stdin)); p.start(); p.join()\n",
        start_method=start_method,
    )
    assert done.stdout == "None\n"


def test_closed_stdin(start_method):
    done = run_python(
        "import fastmp, sys\n"
        "sys.stdin.close()\n"
        "p = fastmp.Process(target=lambda: print(sys.stdin.read() == '')); p.start(); p.join()\n",
        start_method=start_method,
    )
    assert done.stdout == "True\n"


def random_number():
    return random.getrandbits(64)


def test_random_is_seeded_anew(report):
    assert report(random_number) != report(random_number)


def blocked_signals():
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_signals_that_are_blocked_stay_so(report):
    ours = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
    try:
        assert report(blocked_signals) == ours | {signal.SIGINT, signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, ours)
    assert report(blocked_signals) == ours


def family():
    here, parent = fastmp.current_process(), fastmp.parent_process()
    return here.name, here.pid, parent.name, parent.pid, parent.is_alive(), fastmp.active_children()


def test_a_child_knows_itself_and_its_parent(report):
    assert fastmp.parent_process() is None
    assert fastmp.current_process().name == "MainProcess"
    assert fastmp.current_process().is_alive()
    name, pid, parent, parent_pid, alive, children = report(family, name="me")
    assert (name, parent, parent_pid, alive, children) == ("me", "MainProcess", os.getpid(), True, [])
    assert pid != os.getpid()


@pytest.mark.start_methods("fork")  # the child has a copy of an object that can't be pickled
def test_only_the_parent_may_wait(sleeper, report, ctx):
    def strangers():
        messages = []
        for use in (sleeper.join, sleeper.is_alive, ctx_process_of_parent.start):
            try:
                use()
            except AssertionError as e:
                messages.append(str(e))
        return messages

    ctx_process_of_parent = ctx.Process()
    assert report(strangers) == [
        "can only join a child process",
        "can only test a child process",
        "can only start a process object created by current process",
    ]


def test_grandchildren_are_named_after_their_parents(report, ctx):
    def child():
        names = []
        for _ in range(2):
            grandchild = ctx.Process(target=os._exit, args=(0,))
            names.append(grandchild.name)
            grandchild.start()
            join(grandchild)
        return fastmp.current_process()._identity, names

    (number,), names = report(child)
    kind = ctx.Process.__name__
    assert names == [f"{kind}-{number}:1", f"{kind}-{number}:2"]


def test_daemons_may_not_have_children(report, ctx):
    def child():
        try:
            ctx.Process().start()
        except AssertionError as e:
            return str(e)

    assert report(child, daemon=True) == "daemonic processes are not allowed to have children"


def test_children_of_a_daemonless_child_inherit_daemon(report):
    assert report(lambda: fastmp.current_process().daemon, daemon=True) is True


def test_child_of_a_thread(report):
    results = []

    def start():
        results.append(report(lambda: threading.current_thread() is threading.main_thread()))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(DEADLINE)
    assert results == [True]


def test_native_id_of_the_main_thread(report):
    native_id, pid = report(lambda: (threading.main_thread().native_id, os.getpid()))
    assert native_id == pid


def watch_parent(writer, release):
    parent = fastmp.parent_process()
    parent.join(0)
    alive = parent.is_alive()
    writer.send((alive, os.getpid()))
    parent.join(DEADLINE)
    poll = select.poll()
    poll.register(parent.sentinel, select.POLLIN)
    writer.send((parent.is_alive(), bool(poll.poll(0))))


def middle(ctx, writer, release):
    ctx.Process(target=watch_parent, args=(writer, release)).start()
    release.wait(DEADLINE)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_parent_does_not_break_its_child(ctx):
    reader, writer = ctx.Pipe(duplex=False)
    release = ctx.Event()
    child = ctx.Process(target=middle, args=(ctx, writer, release))
    child.start()
    writer.close()
    assert reader.poll(DEADLINE)
    alive, grandchild = reader.recv()
    assert alive is True
    release.set()
    join(child, -signal.SIGKILL)
    assert reader.poll(DEADLINE)
    assert reader.recv() == (False, True)
    with pytest.raises(EOFError):  # the grandchild ends by itself
        reader.recv()
    assert grandchild


def test_parent_that_ended_before_it_is_asked_for(ctx):
    def grandchild(writer, gone):
        assert gone.wait(DEADLINE)
        parent = fastmp.parent_process()
        parent.join()
        writer.send((parent.is_alive(), isinstance(parent.sentinel, int)))

    def child(writer, gone):
        ctx.Process(target=grandchild, args=(writer, gone)).start()
        os._exit(0)

    reader, writer = ctx.Pipe(duplex=False)
    gone = ctx.Event()
    started = ctx.Process(target=child, args=(writer, gone))
    started.start()
    join(started)
    gone.set()
    assert reader.poll(DEADLINE)
    assert reader.recv() == (False, True)


def test_a_fork_of_a_child_knows_the_parent_of_the_child(report):
    def child():
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, b"alive" if fastmp.parent_process().is_alive() else b"dead")
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(reader, 10)

    assert report(child) == b"alive"


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(warning.category, str(warning.message)) for warning in caught]


def fork_and_wait():
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.start_methods("fork")  # other children have no use for what the threads hold
def test_a_fork_beside_other_threads_is_warned_of_as_os_fork_does(ctx):
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        theirs, child = warnings_of(fork_and_wait), ctx.Process()
        assert warnings_of(child.start) == theirs
        join(child)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            child = ctx.Process()
            if theirs:  # os.fork() would have forked already
                with pytest.raises(theirs[0][0]):
                    child.start()
                assert child.pid is None
            else:
                child.start()
                join(child)
    finally:
        go.set()
        thread.join()


def test_dangling_processes_can_be_found(ctx):
    child = ctx.Process()
    assert child in process._dangling
