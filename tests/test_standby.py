"""Processes started ahead: that they are used, are what a new process would be, and leave nothing behind."""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import textwrap
import types

import pytest
from waiting import DEADLINE, becomes

import fastmp
from fastmp import _core, _standby_forkserver, _standby_spawn, forkserver

pytestmark = pytest.mark.deadline(180)
not_forked = pytest.mark.start_methods("spawn", "forkserver")


@pytest.fixture
def standby(ctx):
    """A function that has so many processes ready, and tells their pids."""

    def ready(count):
        ctx.set_standby(count, wait=True)
        pids = pids_ahead(ctx)
        assert len(pids) == count
        return pids

    yield ready
    last = pids_ahead(ctx)
    ctx.set_standby(0)
    for pid in last:
        await_end(pid)


def pids_ahead(ctx):
    spawned = ctx.get_start_method() == "spawn"
    kept = _standby_spawn._spawned if spawned else _standby_forkserver._forked
    kept._collect()
    return [one.child.pid for one in kept._waiting]


def await_end(pid):
    """Until the process has ended, whether or not it is reaped."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = poll.poll(DEADLINE * 1000)
    os.close(pidfd)
    assert ended, pid


def report(ctx, function, *args):
    """The pid of a child, and what `function` returns in it."""
    queue = ctx.Queue()
    child = ctx.Process(target=put_result, args=(queue, function, args))
    child.start()
    result = queue.get(timeout=DEADLINE)
    child.join(DEADLINE)
    assert child.exitcode == 0
    return child.pid, result


def put_result(queue, function, args):
    queue.put(function(*args))


def surroundings():
    mask = os.umask(0)
    os.umask(mask)
    return {
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "argv": sys.argv,
        "path": sys.path,
        "umask": mask,
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "streams": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)],
        "authkey": bytes(fastmp.current_process().authkey),
        "method": fastmp.get_start_method(),
        "parent": os.getppid(),
    }


@not_forked
def test_starts_use_them(ctx, standby):
    pids = standby(3)
    assert fastmp.active_children() == []
    assert {report(ctx, len, "")[0], report(ctx, len, "")[0]} <= set(pids)


@not_forked
def test_asked_for_twice(ctx, standby):
    assert standby(2) == standby(2)


@not_forked
def test_replacements(ctx, standby):
    pids = standby(2)
    for _ in range(2):
        report(ctx, len, "")
    becomes(lambda: len(set(pids_ahead(ctx)) - set(pids)) >= 1, True)
    assert report(ctx, len, "")[1] == 0


@not_forked
@pytest.mark.parametrize("code", [0, 3])
def test_exit_codes(ctx, standby, code):
    pids = standby(1)
    child = ctx.Process(target=sys.exit, args=(code,))
    child.start()
    child.join(DEADLINE)
    assert (child.exitcode, child.pid) == (code, pids[0])


@not_forked
def test_more_processes_than_were_started_ahead(ctx, standby):
    standby(1)
    lock = ctx.Lock()
    children = [ctx.Process(target=with_lock, args=(lock,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(DEADLINE)
    assert [child.exitcode for child in children] == [0, 0, 0]


def with_lock(lock):
    with lock:
        pass


@not_forked
def test_descriptors_are_passed(ctx, standby):
    pids = standby(1)
    reader, writer = ctx.Pipe(duplex=False)
    child = ctx.Process(target=writer.send, args=(5,))
    child.start()
    assert reader.recv() == 5
    child.join(DEADLINE)
    assert child.pid in pids
    reader.close()
    writer.close()


@not_forked
def test_one_that_was_killed_is_not_used(ctx, standby):
    pids = standby(2)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
    pid, _ = report(ctx, len, "")
    assert pid not in pids


@not_forked
def test_none_are_left(ctx, standby):
    report(ctx, len, "")  # the server is started
    becomes(lambda: pids_ahead(ctx), [])
    owners = _core.arena_info()["owners"]
    pids = standby(3)
    report(ctx, len, "")
    ctx.set_standby(0)
    for pid in pids:
        await_end(pid)
    becomes(lambda: pids_ahead(ctx), [])
    becomes(lambda: _core.arena_info()["owners"], owners)


@not_forked
def test_fewer(ctx, standby):
    pids = standby(3)
    ctx.set_standby(1)
    becomes(lambda: len([pid for pid in pids if os.path.exists(f"/proc/{pid}/exe") and alive(pid)]), 1)
    assert report(ctx, len, "")[0] in pids


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@not_forked
def test_workers_of_a_pool(ctx, standby):
    pids = standby(4)
    with ctx.Pool(2) as pool:
        workers = set(pool.map(pid_of_worker, range(20), chunksize=1))
        assert workers <= set(pids)
        assert pool.map(len, ["a", "ab"]) == [1, 2]
        pool.close()
        pool.join()


def pid_of_worker(_):
    return os.getpid()


@not_forked
def test_what_cannot_be_pickled(ctx, standby):
    pids = standby(1)
    with pytest.raises(RuntimeError, match="not today"):
        ctx.Process(target=Unpicklable()).start()
    pid, _ = report(ctx, len, "")
    assert pid in pids or ctx.get_start_method() == "forkserver"


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not today")


@not_forked
def test_interrupts_are_not_for_those_who_wait(ctx, standby):
    pids = standby(1)
    os.kill(pids[0], signal.SIGINT)
    pid, result = report(ctx, len, "abc")
    assert (pid in pids, result) == (False, 3)


@pytest.mark.start_methods("forkserver")
def test_an_interrupt_after_the_order_is_the_child_s(ctx, standby, monkeypatch):
    pids = standby(1)
    begin = forkserver.Line.begin

    def interrupt_first(line):
        os.kill(pids[0], signal.SIGINT)
        begin(line)

    monkeypatch.setattr(forkserver.Line, "begin", interrupt_first)
    child = ctx.Process(target=len, args=("",))
    child.start()
    child.join(DEADLINE)
    assert (child.pid, child.exitcode) == (pids[0], -signal.SIGINT)


@pytest.mark.start_methods("forkserver")
def test_more_than_find_room_in_a_socket(ctx, standby):
    pids = standby(_standby_forkserver.MOST_OWED + 2)
    assert len(set(pids)) == len(pids)
    assert report(ctx, len, "abc") == (pids[0], 3)


@pytest.mark.start_methods("forkserver")
def test_another_server_has_others(ctx, standby):
    pids = standby(2)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    forkserver.await_end()
    pid, result = report(ctx, len, "abc")
    assert (pid in pids, result) == (False, 3)
    for old in pids:
        await_end(old)
    assert len(standby(2)) == 2


@pytest.mark.start_methods("forkserver")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_who_has_given_up_his_privileges_has_no_child_that_keeps_them(ctx, standby):
    pids = standby(1)
    os.seteuid(65534)
    try:
        with pytest.raises((OSError, EOFError, fastmp.AuthenticationError)):
            report(ctx, len, "")
    finally:
        os.seteuid(0)
    assert report(ctx, len, "abc")[0] not in pids


@not_forked
def test_surroundings_as_at_the_start(ctx, standby, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # with nothing to import
    report(ctx, len, "")
    pids = standby(2)
    with monkeypatch.context() as patch:
        patch.setenv("FASTMP_TEST", "new")
        patch.delenv("HOME", raising=False)
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["other", "arguments"])
        patch.syspath_prepend(tmp_path)
        patch.setitem(fastmp.current_process()._config, "authkey", fastmp.process.AuthenticationString(b"k"))
        mask = os.umask(0o27)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            ahead, seen = report(ctx, surroundings)
            ctx.set_standby(0)
            new, expected = report(ctx, surroundings)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.umask(mask)
    assert ahead in pids
    assert new not in pids
    assert seen == expected
    assert seen["directory"] == str(tmp_path)


@pytest.mark.start_methods("spawn")
def test_standard_streams_as_at_the_start(ctx, standby, tmp_path):
    pids = standby(1)
    saved = os.dup(1)
    with open(tmp_path / "other", "w") as file:
        standby(1)
        try:
            sys.stdout.flush()
            os.dup2(file.fileno(), 1)
            pid, seen = report(ctx, surroundings)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert seen["streams"][1] == str(tmp_path / "other")
    assert pid in pids


@pytest.mark.start_methods("spawn")
@pytest.mark.parametrize("change", ["variable", "limit", "ignored"])
def test_what_cannot_be_told(ctx, standby, change, monkeypatch):
    """One that a new interpreter would differ from is not used, and others are made."""
    pids = standby(1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    handler = signal.getsignal(signal.SIGUSR2)
    if change == "variable":
        monkeypatch.setenv("PYTHONUTF8", "1")
    elif change == "limit":
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0] - 1, limits[1]))
    else:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        pid, _ = report(ctx, len, "")
        assert pid not in pids
        assert not set(pids) & set(pids_ahead(ctx))
    finally:
        signal.signal(signal.SIGUSR2, handler)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("n, error", [(-1, ValueError), ("2", TypeError), (1.5, TypeError)])
@not_forked
def test_numbers(ctx, n, error):
    with pytest.raises(error):
        ctx.set_standby(n)


@pytest.mark.start_methods("fork")
def test_not_with_fork(ctx):
    with pytest.raises(ValueError, match="fork"):
        ctx.set_standby(2)


# ---- programs ---------------------------------------------------------------------------------------

PROGRAM = """
import fastmp, json, os, sys, time
loaded = os.environ.get("FASTMP_TEST")

def state():
    return loaded, sys.argv, os.getpid()

def tell(queue):
    queue.put(state())

def ask(ctx):
    queue = ctx.SimpleQueue()
    child = ctx.Process(target=tell, args=(queue,))
    child.start()
    print(json.dumps(queue.get()), flush=True)
    child.join()

def ahead(ctx):
    spawned = ctx.get_start_method() == "spawn"
    kept = fastmp._standby_spawn._spawned if spawned else fastmp._standby_forkserver._forked
    return [one.child.pid for one in kept._waiting]

MAIN
if __name__ == "__main__":
    ctx = fastmp.get_context(sys.argv[1])
    ctx.set_standby(COUNT, wait=True)
    print(json.dumps(ahead(ctx)), flush=True)
"""


@pytest.fixture
def program(tmp_path):
    """A function that starts a program whose main module is a file."""
    running = []

    def start(method, code="", main="", count=2):
        path = tmp_path / "program.py"
        text = PROGRAM.replace("MAIN", main).replace("COUNT", str(count))
        path.write_text(text + textwrap.indent(textwrap.dedent(code), "    "))
        done = subprocess.Popen(
            [sys.executable, path, method], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        running.append(done)
        return done

    yield start
    for one in running:
        one.kill()
        one.wait()
        one.stdout.close()


def lines(program):
    return [json.loads(line) for line in program.stdout]


@not_forked
def test_the_main_module(start_method, program):
    pids, *told = lines(program(start_method, "ask(ctx)"))
    assert [pid for *_, pid in told if pid in pids]


REHEARSING = """
from fastmp import process
rehearse, rehearsed = process.rehearse, []

def tell(queue):
    queue.put((os.getpid(), *rehearsed))
"""


@pytest.mark.start_methods("forkserver")
@pytest.mark.parametrize("outcome", ["", "raise ValueError"])
def test_they_have_rehearsed(start_method, program, outcome):
    """And if that failed they are what they are all the same."""
    main = f"""{REHEARSING}
def note(example):
    rehearse(example)
    rehearsed.append((os.getpid(), process.current_process().name, process.parent_process()))
    {outcome}

process.rehearse = note
"""
    (pid,), (told, *rehearsed) = lines(program(start_method, "ask(ctx)", main=main, count=1))
    assert told == pid
    assert rehearsed == [[pid, "MainProcess", None]]


@pytest.mark.start_methods("forkserver")
def test_one_that_cannot_be_forked(start_method, program):
    main = """
fork_server = sys.modules.get("fastmp._fork_server")
if fork_server:
    def fail(owner, blocked, fork=fork_server._fork):
        fork_server._fork = fork
        raise BlockingIOError(11, "not now")

    fork_server._fork = fail
"""
    code = """
        try:
            ctx.set_standby(3, wait=True)
        except BlockingIOError as e:
            print(e.errno, flush=True)
        ctx.set_standby(3, wait=True)
        print(json.dumps(ahead(ctx)), flush=True)
        ask(ctx)
        """
    pids, *told = lines(program(start_method, code, main=main, count=0))
    assert (pids, told[0], len(told[1]), told[2][2] in told[1]) == ([], 11, 3, True)


@pytest.mark.start_methods("spawn")
@pytest.mark.parametrize(
    "change", ["os.environ['FASTMP_TEST'] = 'x'", "sys.argv.append('x')", "os.utime(__file__, (5, 5))"]
)
def test_a_main_module_that_saw_something_else(start_method, program, change):
    """It has been imported already: whatever it may have looked at must be as it was."""
    pids, (loaded, argv, pid) = lines(program(start_method, f"{change}; ask(ctx)"))
    assert pid not in pids
    assert (loaded == "x" or argv[-1] == "x") == ("utime" not in change)


@not_forked
@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "raise SystemExit", "os.kill(os.getpid(), 9)"])
def test_they_end_with_their_parent(start_method, program, end):
    running = program(start_method, end)
    pids = json.loads(running.stdout.readline())
    for pid in pids:
        await_end(pid)
    assert running.wait(DEADLINE) == (-9 if "kill" in end else 0)


@not_forked
def test_they_end_with_their_parent_though_a_fork_of_it_lives(start_method, program):
    code = """
        fork = os.fork()
        if fork == 0:
            time.sleep(300)
        print(fork, flush=True)
        os._exit(0)
        """
    running = program(start_method, code)
    pids = json.loads(running.stdout.readline())
    fork = json.loads(running.stdout.readline())
    for pid in pids:
        await_end(pid)
    os.kill(fork, signal.SIGKILL)
    await_end(fork)


@pytest.mark.start_methods("spawn")
def test_none_are_there_when_the_program_has_ended(start_method, program):
    running = program(start_method)
    pids = json.loads(running.stdout.readline())
    assert running.wait(DEADLINE) == 0
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
