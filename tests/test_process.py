"""Processes: their life from start to exit code, and what each of them knows about the others."""

import atexit
import io
import logging
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

import fastmp
from fastmp import process, util

DEADLINE = 30  # seconds in which anything here must have happened


def finish(child, code=0):
    """Wait for the end of a child and look at its exit code."""
    child.join(DEADLINE)
    assert child.exitcode == code, child
    return child


@pytest.fixture
def report(ctx):
    """A function that returns what a function returns in a child."""

    def run(function, *args, **options):
        reader, writer = ctx.Pipe(duplex=False)
        child = ctx.Process(target=send_result, args=(writer, function, args), **options)
        child.start()
        writer.close()
        assert reader.poll(DEADLINE)
        result = reader.recv()
        reader.close()
        finish(child)
        return result

    return run


def send_result(writer, function, args):
    writer.send(function(*args))


def run_python(code, *, start_method=None, check=True, **options):
    """Run a program in a fresh interpreter."""
    if start_method is not None:
        code = f"import fastmp; fastmp.set_start_method({start_method!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * DEADLINE, **options
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def sleep_long():
    time.sleep(10 * DEADLINE)


def wait_for(event):
    assert event.wait(DEADLINE)


@pytest.fixture
def sleeper(ctx):
    child = ctx.Process(target=sleep_long)
    child.start()
    yield child
    if not child._closed and child.is_alive():
        child.kill()
        child.join(DEADLINE)


# ---- the object -------------------------------------------------------------------------------------


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
    finish(child)
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
    finish(sleeper, -signal.SIGTERM)
    assert not sleeper.is_alive()
    assert sleeper not in fastmp.active_children()
    sleeper.terminate()  # nobody is there any more, whoever has its number now
    sleeper.join()


@pytest.mark.parametrize("verb, sig", [("kill", signal.SIGKILL), ("terminate", signal.SIGTERM)])
def test_signals(sleeper, verb, sig):
    getattr(sleeper, verb)()
    finish(sleeper, -sig)


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
    finish(child, 5)


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
    finish(sleeper, -signal.SIGKILL)


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
    finish(child)


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
    finish(child)


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


# ---- how it ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, exitcode", [(None, 0), (0, 0), (1, 1), (255, 255), (-1, 255), (256, 0), (True, 1)]
)
def test_exit_with_a_number(code, exitcode, ctx):
    child = ctx.Process(target=sys.exit, args=(code,))
    child.start()
    finish(child, exitcode)


def test_exit_with_a_huge_number(ctx):
    child = ctx.Process(target=sys.exit, args=(1 << 70,))
    child.start()
    finish(child, 0)


def test_exit_with_a_text(ctx, child_output):
    child = ctx.Process(target=sys.exit, args=("no such thing",))
    child.start()
    finish(child, 1)
    assert child_output.readouterr().err == "no such thing\n"


def test_os_exit(ctx):
    child = ctx.Process(target=os._exit, args=(9,))
    child.start()
    finish(child, 9)


def fail():
    raise RuntimeError("on purpose")


def test_exception_prints_a_traceback(ctx, child_output):
    child = ctx.Process(target=fail, name="Unlucky")
    child.start()
    finish(child, 1)
    err = child_output.readouterr().err
    assert err.startswith("Process Unlucky:\nTraceback (most recent call last):\n")
    assert "in fail" in err
    assert err.endswith("RuntimeError: on purpose\n")


def test_output_is_flushed(start_method):
    done = run_python(
        "import fastmp, sys\n"
        "def f(): sys.stdout.write('from the child; ')\n"
        "sys.stdout.write('from the parent; ')\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n",
        start_method=start_method,
    )
    assert done.stdout == "from the parent; from the child; "


def test_a_broken_stdout_does_not_let_the_child_escape(start_method):
    done = run_python(
        "import fastmp, os, sys\n"
        "def f():\n"
        "    reader, writer = os.pipe(); os.close(reader)\n"
        "    sys.stdout = open(writer, 'w'); sys.stdout.write('lost')\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n"
        "print('once', p.exitcode)\n",
        start_method=start_method,
    )
    assert done.stdout == "once 1\n"


def test_finalizers_run_in_the_order_of_their_priority(ctx, child_output):
    def child():
        for priority in (1, 10, -10, 1):
            util.Finalize(None, print, args=(priority,), exitpriority=priority)
        atexit.register(print, "atexit", flush=True)
        kept.append(util.Finalize(kept, print, args=("never",)))

    class Kept(list):
        pass

    kept = Kept()
    parent = util.Finalize(kept, print, args=("the parent's",), exitpriority=3)
    finish_started(ctx.Process(target=child))
    assert child_output.readouterr().out.split() == ["10", "1", "1", "-10", "atexit"]
    assert parent.still_active()
    parent.cancel()


def finish_started(child):
    child.start()
    return finish(child)


def test_finalizer_that_raises_is_reported(ctx, child_output):
    def child():
        util.Finalize(None, fail, exitpriority=2)
        util.Finalize(None, print, args=("still runs",), exitpriority=1)

    finish_started(ctx.Process(target=child))
    out, err = child_output.readouterr()
    assert out == "still runs\n"
    assert "RuntimeError: on purpose" in err


def test_handlers_of_the_parent_do_not_run_in_the_child(start_method):
    done = run_python(
        "import atexit, fastmp\natexit.register(print, 'once')\np = fastmp.Process(); p.start(); p.join()\n",
        start_method=start_method,
    )
    assert done.stdout == "once\n"


@pytest.mark.start_methods("fork")  # others inherit nothing to be freshened
def test_register_after_fork(report):
    class Connection:
        state = "inherited"

    here = Connection()
    util.register_after_fork(here, lambda obj: setattr(obj, "state", "fresh"))
    assert report(lambda: here.state) == "fresh"
    assert here.state == "inherited"


def test_threads_of_the_child_are_waited_for(ctx, child_output):
    def child():
        go = threading.Event()
        threading.Thread(target=lambda: (go.wait(DEADLINE), print("the thread"))).start()
        go.set()

    finish_started(ctx.Process(target=child))
    assert child_output.readouterr().out == "the thread\n"


def test_is_exiting(report):
    assert util.is_exiting() is False
    assert report(util.is_exiting) is False


EXIT = r"""
import fastmp, sys, time
def slow(writer):
    with reader: pass
    print("child runs", flush=True)
    writer.close()
    time.sleep({seconds})
    print("child ends", flush=True)
reader, writer = fastmp.Pipe(False)
p = fastmp.Process(target=slow, args=(writer,), daemon={daemon})
p.start()
writer.close()
try: reader.recv()
except EOFError: print("parent ends", flush=True)
"""


def test_children_are_joined_at_exit(start_method):
    done = run_python(EXIT.format(seconds=0.3, daemon=False), start_method=start_method)
    assert done.stdout.split("\n") == ["child runs", "parent ends", "child ends", ""]


def test_daemons_are_terminated_at_exit(start_method):
    done = run_python(EXIT.format(seconds=10 * DEADLINE, daemon=True), start_method=start_method)
    assert done.stdout.split("\n") == ["child runs", "parent ends", ""]


# ---- what it finds ----------------------------------------------------------------------------------


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
            finish_started(grandchild)
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
    finish(child, -signal.SIGKILL)
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
    finish_started(started)
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


def test_dangling_processes_can_be_found(ctx):
    child = ctx.Process()
    assert child in process._dangling


# ---- the name in log records ------------------------------------------------------------------------

LOG = r"""
import sys
{setup}
import fastmp
assert "multiprocessing" not in sys.modules or {std}
def child():
    import logging
    logging.basicConfig(format="%(processName)s %(message)s", stream=sys.stdout, force=True)
    logging.warning("one")
    fastmp.current_process().name = "renamed"
    logging.warning("two")
    p = fastmp.Process(target=grandchild, name="grandchild"); p.start(); p.join()
def grandchild():
    import logging
    logging.warning("three")
p = fastmp.Process(target=child, name="child"); p.start(); p.join()
import logging
logging.basicConfig(format="%(processName)s %(message)s", stream=sys.stdout, force=True)
logging.warning("four")
fastmp.current_process().name = "boss"
logging.warning("five")
"""


@pytest.mark.parametrize(
    "setup",
    ["", "import logging", "import multiprocessing", "import fastmp; fastmp.install()"],
    ids=["logging-late", "logging-early", "beside-the-standard-library", "installed"],
)
def test_log_records_carry_the_name_of_the_process(setup):
    done = run_python(LOG.format(setup=setup, std="multiprocessing" in setup or "install" in setup))
    assert done.stdout.splitlines() == [
        "child one",
        "renamed two",
        "grandchild three",
        "MainProcess four",
        "boss five",
    ]
    assert not done.stderr


@pytest.mark.start_methods("fork")  # a factory is not inherited otherwise
def test_log_record_factories_are_chained(report):
    previous = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = previous(*args, **kwargs)
        record.mine = 42
        return record

    def child():
        record = logging.getLogger("x").makeRecord("x", 30, "f", 1, "m", (), None)
        return record.processName, record.mine

    logging.setLogRecordFactory(factory)
    try:
        assert report(child, name="logger") == ("logger", 42)
    finally:
        logging.setLogRecordFactory(previous)


def test_late_logging_is_imported_as_ever():
    done = run_python(
        "import fastmp, sys\n"
        "def f():\n"
        "    before = list(sys.meta_path)\n"
        "    import logging\n"
        "    print(type(logging.__loader__).__name__, logging.__spec__.loader is logging.__loader__)\n"
        "    print(len(before) - len(sys.meta_path))\n"
        "    import logging.handlers\n"
        "p = fastmp.Process(target=f); p.start(); p.join()\n"
        "sys.exit(p.exitcode)\n"
    )
    assert done.stdout == "SourceFileLoader True\n1\n"


# ---- util -------------------------------------------------------------------------------------------


def test_logger_of_the_package(monkeypatch):
    done = run_python(
        "import fastmp, logging\n"
        "from fastmp import util\n"
        "assert util._logger is None and not util._log_to_stderr\n"
        "logger = fastmp.log_to_stderr(util.SUBDEBUG)\n"
        "assert logger is fastmp.get_logger() is util._logger and util._log_to_stderr\n"
        "assert logger.name == 'multiprocessing' and not logger.propagate\n"
        "for f in (util.sub_debug, util.debug, util.info, util.sub_warning, util.warn): f('%s', f.__name__)\n"
        "logger.setLevel(util.INFO)\n"
        "p = fastmp.Process(name='P'); p.start(); p.join()\n"
        "logger.setLevel(util.SUBWARNING)\n"
    )
    assert done.stderr.splitlines() == [
        "[SUBDEBUG/MainProcess] sub_debug",
        "[DEBUG/MainProcess] debug",
        "[INFO/MainProcess] info",
        "[SUBWARNING/MainProcess] sub_warning",
        "[WARNING/MainProcess] warn",
        "[INFO/P] child process calling self.run()",
        "[INFO/P] process shutting down",
        "[INFO/P] process exiting with exitcode 0",
    ]


def test_finalize_runs_once_when_its_object_dies():
    class Thing:
        pass

    thing, calls = Thing(), []
    finalizer = util.Finalize(thing, calls.append, args=(1,))
    assert finalizer.still_active()
    assert re.fullmatch(r"<Finalize object, callback=append, args=\(1,\)>", repr(finalizer))
    del thing
    assert calls == [1]
    assert not finalizer.still_active()
    assert repr(finalizer) == "<Finalize object, dead>"
    assert finalizer() is None
    assert calls == [1]


def test_finalize_checks_its_arguments():
    with pytest.raises(ValueError, match="Without object, exitpriority cannot be None"):
        util.Finalize(None, print)
    with pytest.raises(TypeError, match="must be None or int"):
        util.Finalize(None, print, exitpriority="high")


def test_finalize_returns_what_the_callback_returns():
    finalizer = util.Finalize(None, sorted, args=([2, 1],), kwargs={"reverse": True}, exitpriority=0)
    assert finalizer() == [2, 1]


def test_a_finalizer_belongs_to_the_process_that_made_it(report):
    calls = []
    finalizer = util.Finalize(None, calls.append, args=(1,), exitpriority=0)
    assert report(lambda: (finalizer(), calls)) == (None, [])
    finalizer()
    assert calls == [1]


@pytest.mark.start_methods("fork")  # they are not pickled
def test_fork_aware_lock_and_local(report):
    lock, local = util.ForkAwareThreadLock(), util.ForkAwareLocal()
    local.x = 1
    with lock:
        free, values = report(lambda: (lock.acquire(False), vars(local)))
    assert free is True
    assert values == {}
    assert local.x == 1


def test_temp_dir_is_removed_at_exit():
    done = run_python("from fastmp import util; print(util.get_temp_dir(), util.get_temp_dir())")
    folder, again = done.stdout.split()
    assert folder == again
    assert not os.path.exists(folder)


def test_temp_dir_is_shared_with_children_and_outlives_them(report):
    folder = util.get_temp_dir()
    assert report(util.get_temp_dir) == folder
    assert os.path.isdir(folder)


def test_abstract_addresses():
    assert util.abstract_sockets_supported
    answers = [util.is_abstract_socket_namespace(address) for address in ("\0x", b"\0x", "x", b"x", "", None)]
    assert answers == [True, True, False, False, False, False]
    with pytest.raises(TypeError, match="unrecognized"):
        util.is_abstract_socket_namespace(3)


def test_close_all_fds_except():
    done = run_python(
        "import os\n"
        "from fastmp import util\n"
        "kept, closed = os.dup(1), os.dup(1)\n"
        "util.close_all_fds_except([2, 0, kept, 1])\n"
        "print([os.path.exists(f'/proc/self/fd/{fd}') for fd in (0, 1, 2, kept, closed)])\n"
    )
    assert done.stdout == "[True, True, True, True, False]\n"


def test_spawnv_passfds():
    reader, writer = os.pipe()
    other = os.dup(writer)
    os.set_inheritable(other, True)
    code = f"import os; os.write({writer}, b'hello'); print(os.path.exists('/proc/self/fd/{other}'))"
    pid = util.spawnv_passfds(sys.executable, [sys.executable, "-c", f"{code}"], [writer, 1, 2])
    util.close_fds(writer, other)
    with open(reader, "rb") as file:
        assert file.read() == b"hello"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_flush_std_streams_of_any_kind(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    util._flush_std_streams()
